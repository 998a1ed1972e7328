// Package evaluate tells how well poison would be detected, from records whose truth is known.
//
// It is the engine of taster eval. The truth is cut out of each record's bytes before anything else sees them; then
// the record is decoded, checked and judged by the same code that judges live traffic, all records as one segment.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// ErrNoTruth says that a well-formed record has no 0 or 1 where the truth should be: the pointer or the input is
// the wrong one.
var ErrNoTruth = errors.New("no 0 or 1 at the truth's pointer")

// Options say what is evaluated.
type Options struct {
	Contract  *contract.Contract
	Truth     string                   // RFC 6901 pointer to 0 or 1
	Records   iter.Seq2[[]byte, error] // one JSON object each; the bytes are good until the next is asked for
	Reference iter.Seq2[[]byte, error] // trusted, clean records; nil: records are judged against each other

	// Decode makes the decoder of records. nil: the contract's schema alone, nothing is sanitised.
	Decode func(*contract.Contract) (Decoder, error)

	Detectors []detect.Detector // nil: all
	Seed      uint64
	Workers   int // 0: as many as there are processors
}

// Decoder turns records into batches: decoding, checking and, where it is wanted, sanitising.
type Decoder interface {
	// Append adds a record, good or not. The bytes may be changed after the call.
	Append(value []byte) error
	// Finish returns the rows of all good records, in order. The offset of a row is the zero-based number of its
	// record.
	Finish() ([]*record.Batch, error)
}

// Result is what taster eval prints. Figures that the data does not define, such as the recall where nothing is
// poisoned, are null.
type Result struct {
	Rows             int               `json:"rows"` // that were judged
	Poisoned         int               `json:"poisoned"`
	Rejected         int               `json:"rejected"` // broke the contract; in no other figure
	RejectedPoisoned int               `json:"rejected_poisoned"`
	Ranking                            // of the overall risk
	RecallAtFPR5Pct  *float64          `json:"recall_at_fpr_5pct"`
	Decision         Decision          `json:"decision"`
	Budget           float64           `json:"budget"`
	Calibrated       string            `json:"calibrated"` // against what: "reference" or "batch"
	ReferenceRows    int               `json:"reference_rows"`
	Detectors        []DetectorFigures `json:"detectors"`
}

// Ranking says how well a score puts poison before clean records. Ties count as ties, never in anyone's favour.
type Ranking struct {
	AUROC            *float64 `json:"auroc"`
	AveragePrecision *float64 `json:"average_precision"`
	RecallAtFPR1Pct  *float64 `json:"recall_at_fpr_1pct"`
}

// Decision says how good the verdicts are.
type Decision struct {
	Recall               *float64 `json:"recall"`                 // share of poison that was quarantined
	Precision            *float64 `json:"precision"`              // share of the quarantined that is poison
	CleanQuarantinedRate *float64 `json:"clean_quarantined_rate"` // share of clean records that were quarantined
}

// Judged is what was decided on records whose truth is known.
type Judged struct {
	Poison   []bool           // of every row
	Decision *record.Decision // as long
	Details  []policy.Detail  // what each detector said

	rejected, rejectedPoisoned int
	budget                     float64
	referenceRows              int
}

// Run evaluates. Errors tell records by their zero-based number and never quote them.
func Run(ctx context.Context, opt Options) (*Result, error) {
	judged, err := Judge(ctx, opt)
	if err != nil {
		return nil, err
	}
	return judged.Result(), nil
}

// Judge is Run with everything that was decided.
func Judge(ctx context.Context, opt Options) (*Judged, error) {
	path, ok := record.Tokens(opt.Truth)
	if !ok || len(path) == 0 {
		return nil, fmt.Errorf("%w: %q is not a pointer to a field: want /name", ErrNoTruth, opt.Truth)
	}
	ref, err := referenceOf(ctx, opt, path)
	if err != nil {
		return nil, err
	}
	scorer, err := policy.New(opt.Contract, ref, policy.Options{Detectors: opt.Detectors, Seed: opt.Seed, Workers: opt.Workers})
	if err != nil {
		return nil, err
	}
	batches, truth, err := read(ctx, opt, opt.Records, path, true)
	if err != nil {
		return nil, err
	}
	segment := &record.Segment{Batches: batches, Next: int64(len(truth.kept))}
	defer segment.Release()
	if segment.Rows() != len(truth.kept) {
		return nil, fmt.Errorf("decoder returned %d rows of %d records", segment.Rows(), len(truth.kept))
	}
	decision, details, err := scorer.Judge(ctx, segment, record.Memory{})
	if err != nil {
		return nil, err
	}
	judged := &Judged{
		Poison: truth.kept, Decision: decision, Details: details,
		rejected: truth.rejected, rejectedPoisoned: truth.poisoned, budget: opt.Contract.Detect.Budget,
	}
	if ref != nil {
		judged.referenceRows = ref.Rows
	}
	return judged, nil
}

// known is the truth of records: of those that were kept, in order, and of those that broke the contract.
type known struct {
	kept               []bool
	rejected, poisoned int
}

func read(ctx context.Context, opt Options, records iter.Seq2[[]byte, error], path []string, wanted bool) ([]*record.Batch, known, error) {
	newDecoder := opt.Decode
	if newDecoder == nil {
		newDecoder = plain
	}
	var truth known
	decoder, err := newDecoder(opt.Contract)
	if err != nil {
		return nil, truth, err
	}
	type fact struct{ found, poison bool }
	var facts []fact // by number of record
	for value, err := range records {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, truth, err
		}
		rest, poison, found := cut(value, path)
		facts = append(facts, fact{found, poison})
		if err := decoder.Append(rest); err != nil {
			return nil, truth, err
		}
	}
	batches, err := decoder.Finish()
	if err != nil {
		return nil, truth, err
	}
	for _, b := range batches {
		for _, origin := range b.Origins {
			if wanted && !facts[origin.Offset].found {
				return nil, truth, fmt.Errorf("record %d: %w (%s)", origin.Offset, ErrNoTruth, opt.Truth)
			}
			truth.kept = append(truth.kept, facts[origin.Offset].poison)
			facts[origin.Offset].found = false // accounted for
		}
	}
	truth.rejected = len(facts) - len(truth.kept)
	known := len(truth.kept)
	for _, f := range facts {
		if f.found {
			known++
		}
		if f.found && f.poison {
			truth.poisoned++
		}
	}
	if wanted && known == 0 && len(facts) > 0 { // the truth, left in, may itself be what breaks the contract
		return nil, truth, fmt.Errorf("%w (%s) in any of %d records", ErrNoTruth, opt.Truth, len(facts))
	}
	return batches, truth, nil
}

func release(batches []*record.Batch) {
	(&record.Segment{Batches: batches}).Release()
}

// plainDecoder checks records by the contract's schema and does nothing else.
type plainDecoder struct {
	contract *contract.Contract
	rows     *validate.Decoder
	origins  []record.Origin // of the rows
	batches  []*record.Batch
	next     int64
}

func plain(c *contract.Contract) (Decoder, error) {
	return &plainDecoder{contract: c, rows: c.Schema.NewDecoder(memory.DefaultAllocator)}, nil
}

// Append implements Decoder.
func (d *plainDecoder) Append(value []byte) error {
	if d.rows.Full() {
		d.take()
	}
	if d.rows.Append(value) == nil {
		d.origins = append(d.origins, record.Origin{Offset: d.next})
	}
	d.next++
	return nil
}

func (d *plainDecoder) take() {
	n := len(d.origins)
	b := &record.Batch{
		Records: d.rows.Take(), Origins: d.origins,
		Providers: make([]string, n), Classifications: make([]record.Classification, n),
	}
	d.origins = nil
	for i := range n {
		b.Providers[i] = d.contract.Roles.Provider.Is
		b.Classifications[i] = d.contract.Classification
	}
	d.batches = append(d.batches, b)
}

// Finish implements Decoder.
func (d *plainDecoder) Finish() ([]*record.Batch, error) {
	d.take()
	d.rows.Release()
	return d.batches, nil
}

// Beyond is how many rows would be quarantined for their risk at another budget.
func (j *Judged) Beyond(budget float64) int {
	n := 0
	for _, risk := range j.Decision.Risks {
		if risk >= 1-budget {
			n++
		}
	}
	return n
}

// Result sums up.
func (j *Judged) Result() *Result {
	d := j.Decision
	r := &Result{
		Rows: len(j.Poison), Rejected: j.rejected, RejectedPoisoned: j.rejectedPoisoned,
		Budget: j.budget, Calibrated: d.Calibrated, ReferenceRows: j.referenceRows,
	}
	quarantined, caught := 0, 0
	for i, poison := range j.Poison {
		if poison {
			r.Poisoned++
		}
		if d.Verdicts[i] == finding.Quarantined {
			quarantined++
			if poison {
				caught++
			}
		}
	}
	r.Decision = Decision{
		Recall:               share(caught, r.Poisoned),
		Precision:            share(caught, quarantined),
		CleanQuarantinedRate: share(quarantined-caught, r.Rows-r.Poisoned),
	}
	curve := newCurve(d.Risks, j.Poison)
	r.Ranking, r.RecallAtFPR5Pct = curve.ranking(), curve.recallAt(0.05)
	for _, detail := range j.Details {
		suspicion := make([]float64, len(detail.LogP))
		for i, lp := range detail.LogP {
			suspicion[i] = math.Abs(lp)
		}
		r.Detectors = append(r.Detectors, DetectorFigures{detail.Detector, newCurve(suspicion, j.Poison).ranking()})
	}
	return r
}

func share(part, whole int) *float64 {
	if whole == 0 {
		return nil
	}
	v := float64(part) / float64(whole)
	return &v
}
