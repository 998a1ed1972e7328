package landing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

var (
	source   = record.Source{Topic: "_odd topic", ID: "_AAAAAAAQACAAAAAAAAAAQ", Partition: 4}
	accepted = &contract.Contract{Topic: source.Topic, Digest: sha256.Sum256([]byte("contract")), Classification: record.Internal}
	columns  = arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "note", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
)

// opened is when every segment of these tests was opened: a millisecond before the day ends.
var opened = time.UnixMilli(1767225599999)

// segment makes the offsets [first, next): every seventh is refused, every eleventh is a gap, the others are rows.
func segment(first, next int64) *record.Segment {
	seg := &record.Segment{Source: source, First: first, Next: next, Opened: opened.UnixMilli()}
	for at := first; at < next; {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		batch := &record.Batch{}
		for ; at < next && len(batch.Origins) < 20; at++ {
			switch {
			case at%11 == 10:
			case at%7 == 6:
				batch.Refused = append(batch.Refused, record.Refused{Message: record.Message{Offset: at, Timestamp: at, Value: fmt.Appendf(nil, "raw %d", at)}, Code: finding.JSONSyntax, At: 1})
			default:
				b.Field(0).(*array.Int64Builder).Append(at)
				b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("note %d", at))
				batch.Origins = append(batch.Origins, record.Origin{Offset: at, Timestamp: at})
				batch.Providers = append(batch.Providers, "acme")
				batch.Classifications = append(batch.Classifications, record.Internal)
				batch.Bytes += 10
			}
		}
		batch.Records = b.NewRecordBatch()
		b.Release()
		seg.Batches = append(seg.Batches, batch)
	}
	return seg
}

// decide quarantines every fifth row.
func decide(seg *record.Segment) *record.Decision {
	d := &record.Decision{Reasons: map[int][]finding.Code{}, Findings: map[int][]finding.Finding{}, Risk: 0.5, Threshold: 0.9,
		Calibrated: "batch", Detectors: []string{"outlier/1", "flood/1"}}
	for i := range seg.Rows() {
		v := finding.Accepted
		if i%5 == 3 {
			v = finding.Quarantined
			d.Reasons[i] = []finding.Code{finding.PoisonOutlier}
			d.Findings[i] = []finding.Finding{{Detector: "outlier", Score: 9, PValue: 0.001, Threshold: 0.01, Evidence: "far"}}
		}
		d.Verdicts, d.Risks = append(d.Verdicts, v), append(d.Risks, 0.1)
	}
	return d
}

var testKeys = sync.OnceValue(func() *envelope.Keyring {
	dir, err := os.MkdirTemp("", "taster-landing-keys-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keys.json")
	if err := envelope.CreateKeyFile(path, "default"); err != nil {
		panic(err)
	}
	keys, err := envelope.Settings{Zones: map[string]string{"default": "keyfile://" + path + "#default"}}.Open(context.Background())
	if err != nil {
		panic(err)
	}
	return keys
})

func posix(t testing.TB, dir string) *storage.Posix {
	t.Helper()
	p, err := storage.OpenPosix(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func zone(t testing.TB, store storage.Store) *Zone {
	t.Helper()
	z, err := Open(t.Context(), Options{Store: store, Keys: testKeys(), Process: "20260101T000000Z-0123456789abcdef", Backoff: [2]time.Duration{time.Millisecond, 4 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func head(t testing.TB, z *Zone, hint *Hint) Head {
	t.Helper()
	h, err := z.Head(t.Context(), source, hint)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func commit(t testing.TB, z *Zone, h Head, next int64) Head {
	t.Helper()
	seg := segment(h.Next(), next)
	defer seg.Release()
	h, err := z.Commit(t.Context(), seg, decide(seg), accepted, h)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// landed reads everything back, checks that manifests form a chain and that files are what they say, and returns
// the verdict of every offset.
func landed(t testing.TB, dir string) map[int64]finding.Verdict {
	t.Helper()
	store := posix(t, dir)
	z := zone(t, store)
	out := map[int64]finding.Verdict{}
	next, previous := int64(0), ""
	for m, err := range z.Manifests(t.Context(), source.Topic) {
		if err != nil {
			t.Fatal(err)
		}
		if m.First != next || m.Previous != previous {
			t.Fatalf("manifest %s does not follow on %d", m.Name(), next)
		}
		next, previous = m.Next, m.Digest
		for _, f := range m.Files {
			data, err := storage.ReadAll(t.Context(), store, f.Name, 1<<30)
			if err != nil {
				t.Fatalf("a listed file: %v", err)
			}
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(data)) != f.Bytes {
				t.Errorf("%s is not what its manifest says", f.Name)
			}
			r, err := parquet.Open(t.Context(), bytes.NewReader(data), int64(len(data)), f.Name, testKeys())
			if err != nil {
				t.Fatal(err)
			}
			if digest, rows, err := r.Content(t.Context()); err != nil || digest != f.Content || rows != f.Rows {
				t.Errorf("%s: content %s, %d rows, %v", f.Name, digest, rows, err)
			}
			for batch, err := range z.Rows(t.Context(), f, []string{"id", parquet.Offset, parquet.Raw}) {
				if err != nil {
					t.Fatal(err)
				}
				offsets := batch.Column(int(batch.NumCols()) - 1).(*array.Int64)
				for i, offset := range offsets.Int64Values() {
					if _, twice := out[offset]; twice {
						t.Fatalf("offset %d landed twice", offset)
					}
					out[offset] = f.Verdict
					if f.Verdict == finding.Rejected {
						if got := string(batch.Column(0).(*array.Binary).Value(i)); got != fmt.Sprintf("raw %d", offset) {
							t.Fatalf("offset %d holds %q", offset, got)
						}
					} else if got := batch.Column(0).(*array.Int64).Value(i); got != offset {
						t.Fatalf("offset %d holds the row of %d", offset, got)
					}
				}
			}
		}
	}
	return out
}

// complete checks that of [0, next) every offset that had a record landed.
func complete(t testing.TB, dir string, next int64) {
	t.Helper()
	got := landed(t, dir)
	for at := range next {
		v, ok := got[at]
		switch {
		case at%11 == 10:
			if ok {
				t.Fatalf("offset %d had no record and landed", at)
			}
		case !ok:
			t.Fatalf("offset %d is lost", at)
		case (at%7 == 6) != (v == finding.Rejected):
			t.Fatalf("offset %d is %s", at, v)
		}
	}
}

func files(t testing.TB, store storage.Store) []string {
	t.Helper()
	var out []string
	for _, v := range finding.Verdicts {
		for info, err := range store.List(t.Context(), v.String()+"/") {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, info.Name)
		}
	}
	return out
}

func TestCommitAndHead(t *testing.T) {
	dir := t.TempDir()
	store := posix(t, dir)
	z := zone(t, store)
	if has, err := z.Has(t.Context(), source); has || err != nil {
		t.Errorf("an empty zone has the source: %v", err)
	}
	h := head(t, z, nil)
	if h.Next() != 0 || h.First() != -1 {
		t.Errorf("empty head %d %d", h.First(), h.Next())
	}
	var heads []Head
	for _, next := range []int64{100, 101, 250} {
		h = commit(t, z, h, next)
		heads = append(heads, h)
	}
	// A segment of control records only moves the offset.
	control := &record.Segment{Source: source, First: 250, Next: 260, Opened: 1767225600000}
	h, err := z.Commit(t.Context(), control, &record.Decision{}, accepted, h)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Last.Files) != 0 || h.Last.Gaps != 10 {
		t.Errorf("control records: %d files, %d gaps", len(h.Last.Files), h.Last.Gaps)
	}
	h = commit(t, z, h, 300)
	got := landed(t, dir)
	if len(got) == 0 || got[255] != 0 {
		t.Errorf("offset 255 landed")
	}
	m := heads[0].Last
	if m.Counts.Sum()+m.Gaps != 100 || m.Gaps != 9 || m.Counts.Rejected != int64(len(segmentOffsets(0, 100, finding.Rejected))) || m.Reasons[finding.PoisonOutlier] != m.Counts.Quarantined {
		t.Errorf("counts %+v gaps %d reasons %v", m.Counts, m.Gaps, m.Reasons)
	}
	if !slices.Equal(m.Detectors, []string{"flood/1", "outlier/1"}) {
		t.Errorf("detectors %v", m.Detectors)
	}
	for name, hint := range map[string]*Hint{
		"none": nil, "last": {source.ID, h.First(), h.Next()}, "old": {source.ID, 0, 100}, "other topic id": {"x", 0, 100},
		"wrong next": {source.ID, 0, 99}, "no such manifest": {source.ID, 17, 100}, "negative": {source.ID, -1, 0},
	} {
		if got := head(t, z, hint); got.Next() != 300 || got.Last.Digest != h.Last.Digest {
			t.Errorf("%s: head at %d", name, got.Next())
		}
	}
	var seen []int64
	for c, err := range z.Since(t.Context(), source, 100) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, c.First)
	}
	if !slices.Equal(seen, []int64{100, 101, 250, 260}) {
		t.Errorf("since 100: %v", seen)
	}
	if has, err := z.Has(t.Context(), source); !has || err != nil {
		t.Errorf("has: %v %v", has, err)
	}
	if other, err := z.Head(t.Context(), record.Source{Topic: source.Topic, ID: "other", Partition: 4}, nil); err != nil || other.Next() != 0 {
		t.Errorf("a topic made again begins at %d, %v", other.Next(), err)
	}
}

func segmentOffsets(first, next int64, v finding.Verdict) []int64 {
	seg := segment(first, next)
	defer seg.Release()
	dec := decide(seg)
	var out []int64
	row := 0
	for _, b := range seg.Batches {
		for i := range b.Origins {
			if dec.Verdicts[row] == v {
				out = append(out, b.Origins[i].Offset)
			}
			row++
		}
		if v == finding.Rejected {
			for i := range b.Refused {
				out = append(out, b.Refused[i].Offset)
			}
		}
	}
	return out
}

func TestFlagged(t *testing.T) {
	z := zone(t, posix(t, t.TempDir()))
	h := commit(t, z, head(t, z, nil), 100)
	var quarantined, rejected []int64
	for f, err := range z.Flagged(t.Context(), h.Last.Manifest) {
		if err != nil {
			t.Fatal(err)
		}
		switch f.Verdict {
		case finding.Quarantined:
			quarantined = append(quarantined, f.Offset)
			if !slices.Equal(f.Reasons, []finding.Code{finding.PoisonOutlier}) {
				t.Errorf("reasons %v", f.Reasons)
			}
		case finding.Rejected:
			rejected = append(rejected, f.Offset)
			if !slices.Equal(f.Reasons, []finding.Code{finding.JSONSyntax}) {
				t.Errorf("reasons %v", f.Reasons)
			}
		default:
			t.Errorf("verdict %s", f.Verdict)
		}
	}
	if !slices.Equal(quarantined, segmentOffsets(0, 100, finding.Quarantined)) || !slices.Equal(rejected, segmentOffsets(0, 100, finding.Rejected)) {
		t.Errorf("quarantined %v rejected %v", quarantined, rejected)
	}
}

func TestCommitRefusesNonsense(t *testing.T) {
	store := posix(t, t.TempDir())
	z := zone(t, store)
	h := commit(t, z, head(t, z, nil), 50)
	before := files(t, store)
	for name, change := range map[string]func(*record.Segment, *record.Decision, *Head){
		"gap before":      func(s *record.Segment, _ *record.Decision, _ *Head) { s.First = 51 },
		"no offsets":      func(s *record.Segment, _ *record.Decision, _ *Head) { s.Next = 50 },
		"other partition": func(s *record.Segment, _ *record.Decision, _ *Head) { s.Partition++ },
		"offset beyond":   func(s *record.Segment, _ *record.Decision, _ *Head) { s.Next = 60 },
		"offset twice": func(s *record.Segment, _ *record.Decision, _ *Head) {
			s.Batches[0].Origins[1] = s.Batches[0].Origins[0]
		},
		"rejected row":     func(_ *record.Segment, d *record.Decision, _ *Head) { d.Verdicts[0] = finding.Rejected },
		"short decision":   func(_ *record.Segment, d *record.Decision, _ *Head) { d.Verdicts = d.Verdicts[1:] },
		"risk not in 0..1": func(_ *record.Segment, d *record.Decision, _ *Head) { d.Risk = 2 },
		"row and refused":  func(s *record.Segment, _ *record.Decision, _ *Head) { s.Batches[0].Refused[0].Offset = 49 },
	} {
		seg := segment(50, 90)
		dec, at := decide(seg), h
		change(seg, dec, &at)
		if _, err := z.Commit(t.Context(), seg, dec, accepted, at); err == nil {
			t.Errorf("%s: committed", name)
		}
		seg.Release()
	}
	if after := files(t, store); !slices.Equal(before, after) {
		t.Errorf("files are left: %v", after)
	}
	if got := head(t, z, nil); got.Next() != 50 {
		t.Errorf("head moved to %d", got.Next())
	}
}

// Sixty-four writers that all believe they own the partition.
func TestRace(t *testing.T) {
	dir := t.TempDir()
	store := posix(t, dir)
	next := int64(0)
	for round := range 2 {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				z := zone(t, posix(t, dir))
				seg := segment(next, next+40)
				defer seg.Release()
				h, err := z.Head(t.Context(), source, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if h.Next() != next { // somebody has won already
					return
				}
				_, err = z.Commit(t.Context(), seg, decide(seg), accepted, h)
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrLost):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d winners", round, won.Load())
		}
		next += 40
		if got := files(t, store); len(got) != 3*(round+1) {
			t.Fatalf("round %d: %d files, want three for each segment", round, len(got))
		}
	}
	complete(t, dir, next)
}

// op is one call of a store.
type op struct{ kind, name string }

// faulty asks before and after every operation whether it fails, one at a time: files are written side by side.
type faulty struct {
	storage.Store
	before, after func(op) error
	asking        sync.Mutex
}

func (f *faulty) around(kind, name string, do func() error) error {
	if err := f.ask(f.before, op{kind, name}); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.ask(f.after, op{kind, name})
}

func (f *faulty) ask(whether func(op) error, o op) error {
	if whether == nil {
		return nil
	}
	f.asking.Lock()
	defer f.asking.Unlock()
	return whether(o)
}

func (f *faulty) Put(ctx context.Context, name string, data []byte) error {
	return f.around("put", name, func() error { return f.Store.Put(ctx, name, data) })
}

func (f *faulty) Delete(ctx context.Context, name string) error {
	return f.around("delete", name, func() error { return f.Store.Delete(ctx, name) })
}

func (f *faulty) Open(ctx context.Context, name string) (r storage.Reader, err error) {
	err = f.around("open", name, func() error { r, err = f.Store.Open(ctx, name); return err })
	return r, err
}

func (f *faulty) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	if err := f.around("list", prefix, func() error { return nil }); err != nil {
		return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, err) }
	}
	return f.Store.List(ctx, prefix)
}

func (f *faulty) Create(ctx context.Context, name string) (w storage.Writer, err error) {
	err = f.around("create", name, func() error { w, err = f.Store.Create(ctx, name); return err })
	return &faultyWriter{w, f, name}, err
}

type faultyWriter struct {
	storage.Writer
	f    *faulty
	name string
}

func (w *faultyWriter) Write(b []byte) (n int, err error) {
	err = w.f.around("write", w.name, func() error { n, err = w.Writer.Write(b); return err })
	return n, err
}

func (w *faultyWriter) Commit(ctx context.Context) error {
	return w.f.around("commit", w.name, func() error { return w.Writer.Commit(ctx) })
}

var errInjected = errors.New("injected")

// The answer to the manifest's write is lost, once or often, and then the store says that the name is taken.
func TestLostAnswer(t *testing.T) {
	for _, answer := range []error{errInjected, storage.ErrExists} {
		dir := t.TempDir()
		lost := 0
		z := zone(t, &faulty{Store: posix(t, dir), after: func(o op) error {
			if o.kind == "put" && lost < 1 {
				lost++
				return answer
			}
			return nil
		}})
		h := commit(t, z, head(t, z, nil), 60)
		commit(t, z, h, 90)
		complete(t, dir, 90)
		if lost != 1 {
			t.Error("no answer was lost")
		}
	}
}

// The write fails several times before it reaches the store, and reading back fails too.
func TestStoreAway(t *testing.T) {
	dir := t.TempDir()
	away, told := 0, 0
	z := zone(t, &faulty{Store: posix(t, dir), before: func(o op) error {
		if strings.HasPrefix(o.name, manifest.CommitsFolder) && away > 0 {
			away--
			return errInjected
		}
		return nil
	}})
	z.opt.Retrying = func(name string, attempt int, err error) {
		if told++; attempt != told || !errors.Is(err, errInjected) || !strings.HasPrefix(name, manifest.CommitsFolder) {
			t.Errorf("told of %s, attempt %d: %v", name, attempt, err)
		}
	}
	h := head(t, z, nil)
	away = 7
	commit(t, z, h, 60)
	complete(t, dir, 60)
	if told != 4 { // three times put and open, once put
		t.Errorf("told %d times", told)
	}
}

// The first write is answered with an error and takes effect only after the manifest was looked for in vain.
func TestDelayedWrite(t *testing.T) {
	dir := t.TempDir()
	real := posix(t, dir)
	var late []byte
	store := &delaying{Store: real}
	store.put = func(ctx context.Context, name string, data []byte) error {
		if late == nil {
			late = data
			return errInjected
		}
		if err := real.Put(ctx, name, late); err != nil && !errors.Is(err, storage.ErrExists) {
			t.Error(err)
		}
		return real.Put(ctx, name, data)
	}
	z := zone(t, store)
	commit(t, z, head(t, z, nil), 60)
	complete(t, dir, 60)
}

type delaying struct {
	storage.Store
	put func(ctx context.Context, name string, data []byte) error
}

func (d *delaying) Put(ctx context.Context, name string, data []byte) error {
	return d.put(ctx, name, data)
}

// While the outcome is open another writer commits: the loser deletes its files and nothing else.
func TestLost(t *testing.T) {
	for name, answer := range map[string]error{"taken": nil, "answer lost too": errInjected} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			real := posix(t, dir)
			store := &delaying{Store: real}
			winner := zone(t, real)
			store.put = func(ctx context.Context, name string, data []byte) error {
				commit(t, winner, head(t, winner, nil), 30)
				if answer != nil {
					return answer
				}
				return real.Put(ctx, name, data)
			}
			z := zone(t, store)
			seg := segment(0, 60)
			defer seg.Release()
			if _, err := z.Commit(t.Context(), seg, decide(seg), accepted, head(t, z, nil)); !errors.Is(err, ErrLost) {
				t.Fatalf("got %v, want ErrLost", err)
			}
			if got := files(t, real); len(got) != 3 {
				t.Errorf("%d files, want the winner's three", len(got))
			}
			complete(t, dir, 30)
			store.put = real.Put
			commit(t, z, head(t, z, nil), 60)
			complete(t, dir, 60)
		})
	}
}

// The context ends while it is not known whether the manifest is there: nothing may be deleted, since it may be.
func TestUnknownOutcomeDeletesNothing(t *testing.T) {
	for name, arrives := range map[string]bool{"never arrived": false, "arrived": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			real := posix(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			store := &delaying{Store: real}
			store.put = func(ctx context.Context, name string, data []byte) error {
				if arrives {
					if err := real.Put(context.WithoutCancel(ctx), name, data); err != nil {
						t.Error(err)
					}
				}
				cancel()
				return errInjected
			}
			z := zone(t, store)
			seg := segment(0, 60)
			defer seg.Release()
			if _, err := z.Commit(ctx, seg, decide(seg), accepted, head(t, z, nil)); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want ErrUnknown", err)
			}
			if got := files(t, real); len(got) != 3 {
				t.Fatalf("%d files are left of three", len(got))
			}
			fresh := zone(t, real)
			h := head(t, fresh, nil)
			if !arrives {
				if h.Next() != 0 {
					t.Fatalf("head at %d", h.Next())
				}
				if n, _, err := fresh.DeleteOrphans(t.Context(), fresh.Orphans(t.Context())); n != 0 || err != nil {
					t.Errorf("%d files deleted whose writer may be alive, %v", n, err)
				}
				h = commit(t, fresh, h, 60)
				for n, err := range fresh.OrphansOf(t.Context(), source, 1, opened) {
					t.Errorf("an orphan from before the asked offset: %v %v", n, err)
				}
				for n, err := range fresh.OrphansOf(t.Context(), source, 0, opened.Add(24*time.Hour)) {
					t.Errorf("an orphan from before the asked day: %v %v", n, err)
				}
				sibling := source
				sibling.Partition = 40
				for n, err := range fresh.OrphansOf(t.Context(), sibling, 0, opened) {
					t.Errorf("an orphan of another partition: %v %v", n, err)
				}
				of := 0
				for _, err := range fresh.OrphansOf(t.Context(), source, 0, opened) {
					if err != nil {
						t.Fatal(err)
					}
					of++
				}
				if of != 3 {
					t.Errorf("%d orphans of the partition, want 3", of)
				}
				n, size, err := fresh.DeleteOrphans(t.Context(), fresh.Orphans(t.Context()))
				if n != 3 || size <= 0 || err != nil {
					t.Errorf("%d orphans of %d bytes deleted, want 3: %v", n, size, err)
				}
			}
			complete(t, dir, 60)
			if n, _, err := fresh.DeleteOrphans(t.Context(), fresh.Orphans(t.Context())); n != 0 || err != nil || h.Next() != 60 {
				t.Errorf("%d files of a manifest deleted, %v", n, err)
			}
		})
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	real := posix(t, dir)
	for full := 1; ; full += 1 + full/8 {
		writes := 0
		z := zone(t, &faulty{Store: real, before: func(o op) error {
			if o.kind == "write" || o.kind == "commit" {
				if writes++; writes == full {
					return syscall.ENOSPC
				}
			}
			return nil
		}})
		seg := segment(0, 60)
		h, err := z.Commit(t.Context(), seg, decide(seg), accepted, head(t, z, nil))
		seg.Release()
		if err == nil {
			if full < 20 {
				t.Errorf("only %d writes", full)
			}
			if h.Next() != 60 {
				t.Errorf("head at %d", h.Next())
			}
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("write %d: %v", full, err)
		}
		if got := files(t, real); len(got) != 0 {
			t.Fatalf("write %d: files left: %v", full, got)
		}
		if got := head(t, zone(t, real), nil); got.Next() != 0 {
			t.Fatalf("write %d: a manifest was written", full)
		}
	}
	complete(t, dir, 60)
}

// A process is killed before or after each operation of two commits; another takes over from what lies there. Nothing
// is lost and nothing lands twice, whatever the moment.
func TestKilledAnywhere(t *testing.T) {
	const end = 60
	for _, effect := range []string{"before", "after"} {
		for kill := 1; ; kill++ {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			count, dead := 0, false
			hook := func(o op) error {
				if dead {
					return errInjected
				}
				if o.kind == "write" { // of many, all with the effect of a kill before the commit of the file
					return nil
				}
				if count++; count == kill {
					dead = true
					cancel()
					return errInjected
				}
				return nil
			}
			silent := func(op) error {
				if dead {
					return errInjected
				}
				return nil
			}
			store := &faulty{Store: &uncanceled{posix(t, dir)}, before: hook}
			if effect == "after" {
				store.before, store.after = silent, hook
			}
			run := func(z *Zone, ctx context.Context) error {
				h, err := z.Head(ctx, source, nil)
				for err == nil && h.Next() < end {
					seg := segment(h.Next(), h.Next()+30)
					h, err = z.Commit(ctx, seg, decide(seg), accepted, h)
					seg.Release()
				}
				return err
			}
			err := run(zone(t, store), ctx)
			cancel()
			if err == nil {
				if kill < 15 {
					t.Errorf("only %d operations", kill)
				}
				complete(t, dir, end)
				break
			}
			if err := run(zone(t, posix(t, dir)), t.Context()); err != nil {
				t.Fatalf("killed %s operation %d: taking over: %v", effect, kill, err)
			}
			complete(t, dir, end)
		}
	}
}

// uncanceled keeps operations whole though the context has ended, as a kill leaves to the kernel what was asked of it.
type uncanceled struct{ storage.Store }

func (u *uncanceled) Put(ctx context.Context, name string, data []byte) error {
	return u.Store.Put(context.WithoutCancel(ctx), name, data)
}

// Holes, forks and changed manifests stop the partition with a clear error.
func TestCorruptChain(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"first is missing": func(t *testing.T, dir string) { remove(t, dir, 0) },
		"hole":             func(t *testing.T, dir string) { remove(t, dir, 60) },
		"changed byte": func(t *testing.T, dir string) {
			path := filepath.Join(dir, manifest.Name(source, 90))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Replace(data, []byte(`"risk":0.5`), []byte(`"risk": 0.5`), 1), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"changed before": func(t *testing.T, dir string) {
			path := filepath.Join(dir, manifest.Name(source, 60))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Replace(data, []byte(`"risk":0.5`), []byte(`"risk":0.6`), 1), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"fork": func(t *testing.T, dir string) {
			other := t.TempDir()
			z := zone(t, posix(t, other))
			h := head(t, z, nil)
			for _, next := range []int64{75, 110} {
				h = commit(t, z, h, next)
			}
			data, err := os.ReadFile(filepath.Join(other, h.Last.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, h.Last.Name()), data, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"foreign object": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, manifest.Folder(source)+"x.json"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			z := zone(t, posix(t, dir))
			h := head(t, z, nil)
			for _, next := range []int64{30, 60, 90, 120} {
				h = commit(t, z, h, next)
			}
			damage(t, dir)
			if h, err := z.Head(t.Context(), source, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("head at %d, %v, want ErrCorrupt", h.Next(), err)
			}
		})
	}
}

func remove(t *testing.T, dir string, first int64) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, manifest.Name(source, first))); err != nil {
		t.Fatal(err)
	}
}

func TestSealed(t *testing.T) {
	z := zone(t, posix(t, t.TempDir()))
	if err := z.PutSealed(t.Context(), envelope.State, "_reference/t/1/profile", []byte("profile")); err != nil {
		t.Fatal(err)
	}
	if got, err := z.Sealed(t.Context(), "_reference/t/1/profile", 1<<20); err != nil || string(got) != "profile" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := z.PutSealed(t.Context(), envelope.State, "_reference/t/1/profile", nil); !errors.Is(err, storage.ErrExists) {
		t.Errorf("second: %v", err)
	}
	if _, err := z.Sealed(t.Context(), "_reference/t/2/profile", 1<<20); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// Manifests can be read by who holds no key; rows and commits cannot.
func TestWithoutKeys(t *testing.T) {
	dir := t.TempDir()
	z := zone(t, posix(t, dir))
	commit(t, z, head(t, z, nil), 30)
	bare, err := Open(t.Context(), Options{Store: posix(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for m, err := range bare.Manifests(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, err := range bare.Rows(t.Context(), m.Files[0], nil) {
			if !errors.Is(err, envelope.ErrNoKey) {
				t.Errorf("rows: %v", err)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d manifests", n)
	}
	seg := segment(30, 60)
	defer seg.Release()
	if _, err := bare.Commit(t.Context(), seg, decide(seg), accepted, head(t, bare, nil)); !errors.Is(err, envelope.ErrNoKey) {
		t.Errorf("commit: %v", err)
	}
}

// BenchmarkCommit is what a commit costs beside the rows: three files, the manifest, and what makes them durable.
func BenchmarkCommit(b *testing.B) { commits(b, posix(b, b.TempDir())) }

func commits(b *testing.B, store storage.Store) {
	z := zone(b, store)
	h := head(b, z, nil)
	b.ReportAllocs()
	for b.Loop() {
		seg := segment(h.Next(), h.Next()+40)
		var err error
		if h, err = z.Commit(b.Context(), seg, decide(seg), accepted, h); err != nil {
			b.Fatal(err)
		}
		seg.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/commit")
}
