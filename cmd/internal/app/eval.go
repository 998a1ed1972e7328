package app

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/tasterhq/taster/cmd/internal/attack"
	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

// Evaluate tells how well poison in inputs would be detected. truth points at a field of 0 or 1 that is taken out of
// each record first. reference, if not empty, is a file of trusted, clean records.
func Evaluate(ctx context.Context, c *contract.Contract, truth, reference string, inputs []string, on *Accelerator, progress func(n int64)) (*evaluate.Result, error) {
	c = ofFiles(c)
	inputs, err := files.Expand(ctx, inputs, Buckets{})
	if err != nil {
		return nil, err
	}
	options := evaluate.Options{Contract: c, Truth: truth, Records: records(ctx, c, inputs, progress), Decode: newDecoder, Detectors: on.Detectors()}
	if reference != "" {
		options.Reference = records(ctx, c, []string{reference}, progress)
	}
	return evaluate.Run(ctx, options)
}

// Attacks says what EvaluateAttacks plants.
type Attacks struct {
	Attacks []attack.Attack
	Rates   []float64 // per cent of all records
	Seed    uint64
}

// EvaluateAttacks plants attacks in the clean records of inputs and tells how much of them would be found. progress is
// told how many of all the streams to be judged are judged.
func EvaluateAttacks(ctx context.Context, c *contract.Contract, what Attacks, reference string, inputs []string, on *Accelerator, progress func(done, total int)) (*evaluate.AttackResult, error) {
	c = ofFiles(c)
	inputs, err := files.Expand(ctx, inputs, Buckets{})
	if err != nil {
		return nil, err
	}
	silent := func(int64) {}
	options := evaluate.AttackOptions{
		Contract: c, Records: records(ctx, c, inputs, silent), Decode: newDecoder,
		Attacks: what.Attacks, Rates: what.Rates, Seed: what.Seed, Progress: progress, Detectors: on.Detectors(),
	}
	if reference != "" {
		options.Reference = records(ctx, c, []string{reference}, silent)
	}
	return evaluate.RunAttacks(ctx, options)
}

// records yields the records of files as JSON, one after the other.
func records(ctx context.Context, c *contract.Contract, inputs []string, progress func(int64)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, input := range inputs {
			if !yieldFile(ctx, c, input, progress, yield) {
				return
			}
		}
	}
}

func yieldFile(ctx context.Context, c *contract.Contract, input string, progress func(int64), yield func([]byte, error) bool) bool {
	f, err := files.Open(ctx, input, c, files.Access{Remote: Buckets{}})
	if err != nil {
		return yield(nil, err)
	}
	defer f.Close()
	for {
		item, err := f.Next()
		if errors.Is(err, files.ErrEnd) {
			return true
		}
		if err == nil {
			err = ctx.Err()
		}
		if !yield(item.Message.Value, err) || err != nil {
			return false
		}
		progress(1)
	}
}

func newDecoder(c *contract.Contract) (evaluate.Decoder, error) {
	return &decoder{builder: batch.NewBuilder(c)}, nil
}

// decoder decodes records as the pipeline does, sanitising included.
type decoder struct {
	builder *batch.Builder
	offset  int64
	batches []*record.Batch
}

// Append implements evaluate.Decoder.
func (d *decoder) Append(value []byte) error {
	d.builder.Add(record.Message{Offset: d.offset, Value: bytes.Clone(value)})
	d.offset++
	if d.builder.Rows() >= 4096 || d.builder.Bytes() >= 4<<20 {
		d.take()
	}
	return nil
}

func (d *decoder) take() {
	if b := d.builder.Take(); b != nil {
		d.batches = append(d.batches, b)
	}
}

// Finish implements evaluate.Decoder.
func (d *decoder) Finish() ([]*record.Batch, error) {
	d.take()
	return d.batches, nil
}
