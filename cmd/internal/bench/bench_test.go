package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// stage is one kind of records in memory, with all that is needed to run each stage alone.
type stage struct {
	kind     kind
	contract *contract.Contract
	values   [][]byte
	bytes    int64
	folder   string
}

// segmentRecords is the size of a segment that a stage works on.
const segmentRecords = 100_000

func (k kind) stage(b *testing.B, n int) stage {
	b.Helper()
	w := k.configure(b)
	loaded, faults := config.Load(w.config)
	if len(faults) > 0 {
		b.Fatal(faults[0])
	}
	c, err := loaded.Contract(k.topic)
	if err != nil {
		b.Fatal(err)
	}
	s := stage{kind: k, contract: c, folder: filepath.Dir(w.config)}
	for v := range k.make(3, n) {
		s.values = append(s.values, v)
		s.bytes += int64(len(v))
	}
	return s
}

// segment builds the records into one segment that begins at an offset. The caller releases it.
func (s stage) segment(values [][]byte, first int64) *record.Segment {
	segment := &record.Segment{Source: record.Source{Topic: s.contract.Topic, ID: "bench"}, First: first, Next: first + int64(len(values)), Opened: 1}
	builder := batch.NewBuilder(s.contract)
	for i, v := range values {
		builder.Add(record.Message{Offset: first + int64(i), Timestamp: 1, Value: v})
		if builder.Rows() == 4096 || builder.Bytes() >= 4<<20 || builder.Full() || i == len(values)-1 {
			segment.Batches = append(segment.Batches, builder.Take())
		}
	}
	return segment
}

// reference learns from the same history as whole runs do.
func (s stage) reference(b *testing.B) *reference.Reference {
	b.Helper()
	reservoir := reference.NewReservoir(s.contract, 1)
	var history [][]byte
	for v := range s.kind.make(2, historyRows()) {
		history = append(history, v)
	}
	segment := s.segment(history, 0)
	defer segment.Release()
	for _, batch := range segment.Batches {
		if err := reservoir.Add(batch); err != nil {
			b.Fatal(err)
		}
	}
	ref, err := reservoir.Reference("2026-01-01T00:00:00Z", nil)
	if err != nil {
		b.Fatal(err)
	}
	return ref
}

// BenchmarkStages measures every stage alone, in this process, one segment at a time. Validating and building run on
// one core here, as they do for one partition; scoring uses all.
func BenchmarkStages(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.topic, func(b *testing.B) {
			s := k.stage(b, min(wanted(b, k.records/3, k.share), segmentRecords))
			b.Run("validate", s.validate)
			b.Run("build", s.build)
			segment := s.segment(s.values, 0)
			defer segment.Release()
			ref := s.reference(b)
			decision := s.score(b, segment, ref)
			b.Run("land", func(b *testing.B) { s.land(b, segment, decision) })
		})
	}
}

// validate is bytes into checked columns.
func (s stage) validate(b *testing.B) {
	decoder := s.contract.Schema.NewDecoder(memory.DefaultAllocator)
	defer decoder.Release()
	s.measure(b, "validate", func() error {
		for _, v := range s.values {
			if refusal := decoder.Append(v); refusal != nil {
				return fmt.Errorf("refused: %s", refusal.Code)
			}
			if decoder.Rows() == 4096 || decoder.Full() {
				decoder.Take().Release()
			}
		}
		decoder.Take().Release()
		return nil
	})
}

// build is validating, and then limits, provider, sanitising and classification.
func (s stage) build(b *testing.B) {
	s.measure(b, "build", func() error {
		segment := s.segment(s.values, 0)
		segment.Release()
		if segment.Refused() != 0 {
			return fmt.Errorf("%d records were refused", segment.Refused())
		}
		return nil
	})
}

// score is every detector alone, without calibration, and then all of them with calibration and decision, which it
// returns.
func (s stage) score(b *testing.B, segment *record.Segment, ref *reference.Reference) *record.Decision {
	env := detect.Env{Seed: 1, Workers: runtime.GOMAXPROCS(0)}
	b.Run("sample", func(b *testing.B) {
		s.measure(b, "score: sample", func() error {
			_, _, err := detect.NewSample(s.contract, segment.Batches, ref.Sample)
			return err
		})
	})
	sample, _, err := detect.NewSample(s.contract, segment.Batches, ref.Sample)
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range policy.All() {
		model, err := d.Fit(ref.Sample, env)
		if err != nil {
			b.Fatal(err)
		}
		if model == nil {
			continue // these records have not what it needs
		}
		b.Run("score/"+d.Name(), func(b *testing.B) {
			s.measure(b, "score: "+d.Name(), func() error {
				model.Score(sample, env)
				return nil
			})
		})
	}
	scorer, err := policy.New(s.contract, ref, policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	decision, err := scorer.Score(b.Context(), segment, record.Memory{})
	if err != nil {
		b.Fatal(err)
	}
	var next [][]byte
	for v := range s.kind.make(4, len(s.values)) {
		next = append(next, v)
	}
	second := s.segment(next, segment.Next)
	defer second.Release()
	for _, one := range []struct {
		name    string
		segment *record.Segment
		before  []byte
	}{{"all", second, decision.State}, {"first", segment, nil}} { // beside the first the reference is examined
		b.Run("score/"+one.name, func(b *testing.B) {
			s.measure(b, "score: "+one.name, func() error {
				_, err := scorer.Score(b.Context(), one.segment, record.Memory{Own: one.before})
				return err
			})
		})
	}
	return decision
}

// land is Parquet with zstd, encryption and hashes, fsync, and the manifest.
func (s stage) land(b *testing.B, segment *record.Segment, decision *record.Decision) {
	ctx := b.Context()
	zone, err := openZone(ctx, s.folder)
	if err != nil {
		b.Fatal(err)
	}
	s.measure(b, "land", func() error {
		segment.Partition++
		head, err := zone.Head(ctx, segment.Source, nil)
		if err != nil {
			return err
		}
		_, err = zone.Commit(ctx, segment, decision, s.contract, head)
		return err
	})
}

func openZone(ctx context.Context, folder string) (*landing.Zone, error) {
	loaded, faults := config.Load(filepath.Join(folder, "taster.yaml"))
	if len(faults) > 0 {
		return nil, faults[0]
	}
	keys, err := envelope.Settings{Zones: loaded.Keys}.Open(ctx)
	if err != nil {
		return nil, err
	}
	store, err := storage.Open(ctx, "file://"+filepath.ToSlash(filepath.Join(folder, "stage")))
	if err != nil {
		return nil, err
	}
	return landing.Open(ctx, landing.Options{Store: store, Keys: keys, Process: "bench"})
}

// measure runs work for every iteration, which takes all records once.
func (s stage) measure(b *testing.B, name string, work func() error) {
	b.Helper()
	m := &meter{}
	m.start()
	for b.Loop() {
		if err := work(); err != nil {
			b.Fatal(err)
		}
	}
	m.stop()
	l := line{Kind: s.kind.topic, Name: name, Records: len(s.values) * b.N, Bytes: s.bytes * int64(b.N), outcome: m.cost}
	l.report(b, "")
	table.add(l)
}

// BenchmarkWhole runs taster with everything on, detection with a reference, encryption, manifests and audit, over a
// file and from Kafka, and the straight program beside it, in turns and each in a process of its own.
func BenchmarkWhole(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.topic, func(b *testing.B) {
			w := k.prepare(b, wanted(b, k.records, k.share))
			w.brokers = k.broker(b)
			if err := publish(b.Context(), w.brokers, k.topic, k.make(3, w.records)); err != nil {
				b.Fatal(err)
			}
			names := []string{jobStraight, jobBackfill, jobRun, jobConsume}
			sums := make([]line, len(names))
			for b.Loop() {
				for i, do := range names {
					sums[i].Kind, sums[i].Name = k.topic, whole[do]
					sums[i].plus(w.records, w.bytes, spawn(b, w.job(b, do)))
				}
			}
			for i, do := range names {
				if do == jobBackfill || do == jobRun {
					sums[i].versus(sums[0])
				}
				sums[i].report(b, do+"-")
				table.add(sums[i])
			}
		})
	}
}

// whole names whole runs for people.
var whole = map[string]string{
	jobStraight: "straight program", jobBackfill: "taster backfill", jobRun: "taster run", jobConsume: "Kafka only",
}

// seconds guards against a division by nothing.
func seconds(d time.Duration) float64 { return max(d, 1).Seconds() }
