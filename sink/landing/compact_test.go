package landing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

// objects is a store in memory that is right and fast.
type objects struct {
	mu     sync.Mutex
	byName map[string][]byte
}

func newObjects() *objects { return &objects{byName: map[string][]byte{}} }

func (m *objects) Put(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.byName[name]; there {
		return fmt.Errorf("%s: %w", name, storage.ErrExists)
	}
	m.byName[name] = bytes.Clone(data)
	return nil
}

type objectWriter struct {
	bytes.Buffer
	m    *objects
	name string
}

func (m *objects) Create(_ context.Context, name string) (storage.Writer, error) {
	return &objectWriter{m: m, name: name}, nil
}
func (w *objectWriter) Commit(ctx context.Context) error { return w.m.Put(ctx, w.name, w.Bytes()) }
func (w *objectWriter) Abort()                           {}

type objectReader struct{ *bytes.Reader }

func (objectReader) Close() error { return nil }

func (m *objects) Open(_ context.Context, name string) (storage.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, there := m.byName[name]
	if !there {
		return nil, fmt.Errorf("%s: %w", name, storage.ErrNotExist)
	}
	return objectReader{bytes.NewReader(data)}, nil
}

func (m *objects) List(_ context.Context, prefix string) iter.Seq2[storage.Info, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var infos []storage.Info
	for _, name := range slices.Sorted(maps.Keys(m.byName)) {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, storage.Info{Name: name, Size: int64(len(m.byName[name]))})
		}
	}
	return func(yield func(storage.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *objects) Replace(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byName[name] = bytes.Clone(data)
	return nil
}

func (m *objects) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byName, name)
	return nil
}

// mortal is a store whose process dies at its nth operation: nothing reaches the store from then on.
func mortal(store storage.Store, n int, after bool) (storage.Store, context.Context, func() bool) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	dead := false
	alive := func(op) error {
		mu.Lock()
		defer mu.Unlock()
		if dead {
			return errInjected
		}
		return nil
	}
	count := func(o op) error {
		mu.Lock()
		defer mu.Unlock()
		if n--; n == 0 || dead {
			dead = true
			cancel()
			return errInjected
		}
		return nil
	}
	f := &faulty{Store: store, before: count}
	if after {
		f.before, f.after = alive, count
	}
	return f, ctx, func() bool { mu.Lock(); defer mu.Unlock(); cancel(); return dead }
}

// rowsOf reads the rows of segments and returns the verdict of each offset.
func rowsOf(t testing.TB, z *Zone, segments []Segment) map[int64]finding.Verdict {
	t.Helper()
	out := map[int64]finding.Verdict{}
	for _, s := range segments {
		for _, f := range s.Current {
			rows, last := int64(0), int64(-1)
			for batch, err := range z.Rows(t.Context(), f, []string{"id", parquet.Offset, parquet.Raw}) {
				if err != nil {
					t.Fatal(err)
				}
				rows += batch.NumRows()
				for i, offset := range batch.Column(int(batch.NumCols()) - 1).(*array.Int64).Int64Values() {
					if _, twice := out[offset]; twice {
						t.Fatalf("offset %d is seen twice", offset)
					}
					out[offset] = f.Verdict
					if offset <= last {
						t.Fatalf("%s: offset %d follows %d", f.Name, offset, last)
					}
					last = offset
					var fits bool
					if f.Verdict == finding.Rejected {
						fits = string(batch.Column(0).(*array.Binary).Value(i)) == fmt.Sprintf("raw %d", offset)
					} else {
						fits = batch.Column(0).(*array.Int64).Value(i) == offset
					}
					if !fits {
						t.Fatalf("offset %d holds another row", offset)
					}
				}
			}
			if rows != f.Rows {
				t.Fatalf("%s has %d rows, not %d", f.Name, rows, f.Rows)
			}
		}
	}
	return out
}

func segmentsNow(t testing.TB, z *Zone) []Segment {
	t.Helper()
	var out []Segment
	for s, err := range z.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// snapshot is what a reader found when it began.
type snapshot struct {
	at       time.Time
	segments []Segment
	rows     map[int64]finding.Verdict
}

const grace = 24 * time.Hour

// TestHousekeeping does all that changes a landing zone, in any order, with crashes and rivals, and compares what a
// reader sees with what must be there.
func TestHousekeeping(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 4
	}
	var merged, lost, retained, orphans, superseded, crashed int
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &world{t: t, external: seed%2 == 1, store: newObjects(), rand: rand.New(rand.NewPCG(seed, 7)), now: opened.Add(time.Minute),
				committed: map[int64]time.Time{}, may: map[int64]bool{}, must: map[int64]bool{}, seen: map[int64]finding.Verdict{}}
			for range 48 {
				if w.step() {
					w.check()
				}
			}
			w.end()
			merged, lost, retained = merged+w.merged, lost+w.lost, retained+w.retained
			orphans, superseded, crashed = orphans+w.orphans, superseded+w.superseded, crashed+w.crashed
		})
	}
	t.Logf("%d files merged, %d lost attempts, %d files retained, %d orphans and %d old files deleted, %d crashes", merged, lost, retained, orphans, superseded, crashed)
	if merged == 0 || lost == 0 || retained == 0 || orphans == 0 || superseded == 0 || crashed == 0 {
		t.Error("something never happened, so nothing is proved of it")
	}
}

type world struct {
	t     *testing.T
	store *objects
	rand  *rand.Rand
	now   time.Time

	external  bool
	committed map[int64]time.Time       // by offset
	may, must map[int64]bool            // offsets that a retention might, and must have removed
	seen      map[int64]finding.Verdict // by the last check
	held      []snapshot

	merged, lost, retained, orphans, superseded, crashed int
}

func (w *world) zone(store storage.Store) *Zone {
	z := zone(w.t, store)
	z.opt.Now = func() time.Time { return w.now }
	z.opt.External = w.external
	return z
}

// step does something and tells whether it may have changed what a reader sees of what was there.
func (w *world) step() bool {
	t, z := w.t, w.zone(w.store)
	switch what := w.rand.IntN(16); what {
	case 0, 1, 2, 3, 4:
		for range 1 + w.rand.IntN(3) {
			w.commit(z)
			w.now = w.now.Add(time.Duration(w.rand.IntN(60)) * time.Minute)
		}
		return false
	case 5:
		w.now = w.now.Add(time.Duration(w.rand.IntN(30)) * time.Hour)
		return false
	case 6, 7, 8:
		w.compact(t.Context(), w.store)
	case 9:
		var wg sync.WaitGroup
		for range 2 {
			opt := w.compaction()
			wg.Go(func() {
				if _, err := w.zone(w.store).Compact(t.Context(), source, opt); err != nil {
					t.Error(err)
				}
			})
		}
		w.commit(z) // beside them
		wg.Wait()
	case 10, 11:
		store, ctx, dead := mortal(w.store, 1+w.rand.IntN(400), w.rand.IntN(2) == 0)
		w.compact(ctx, store)
		if dead() {
			w.crashed++
		}
	case 12:
		rules := map[finding.Verdict]Rule{
			finding.Quarantined: {Age: time.Duration(24+w.rand.IntN(48)) * time.Hour, Text: "retention quarantined"},
			finding.Rejected:    {Age: time.Duration(1+w.rand.IntN(48)) * time.Hour, Text: "retention rejected"},
		}
		before := w.rows()
		would, err := z.Retain(t.Context(), source, rules, true)
		if err != nil {
			t.Fatal(err)
		}
		did, err := z.Retain(t.Context(), source, rules, false)
		if err != nil || did != would {
			t.Fatalf("%+v, and %+v was said before: %v", did, would, err)
		}
		w.retained += did.Files
		for at, v := range before {
			if rule := rules[v]; rule.Age > 0 {
				age := w.now.Sub(w.committed[at])
				w.may[at] = w.may[at] || age > rule.Age
				w.must[at] = w.must[at] || age > rule.Age+24*time.Hour
			}
		}
	case 13:
		for info, err := range z.Superseded(t.Context(), source, w.now.Add(-grace)) {
			if err == nil {
				err = z.Delete(t.Context(), info.Name)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.superseded++
			if w.rand.IntN(8) == 0 { // as if killed
				break
			}
		}
	case 14:
		n, _, err := z.DeleteOrphans(t.Context(), z.Orphans(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		w.orphans += n
	case 15:
		segments := segmentsNow(t, z)
		w.held = append(w.held, snapshot{w.now, segments, rowsOf(t, z, segments)})
		return false
	}
	return true
}

// end lets the time of all rows be over. No file may be left then, and no key material, whatever died meanwhile.
func (w *world) end() {
	t, z := w.t, w.zone(w.store)
	w.commit(z)
	w.now = w.now.Add(time.Hour)
	rules := map[finding.Verdict]Rule{}
	for _, v := range finding.Verdicts {
		rules[v] = Rule{Age: time.Minute, Text: "all"}
	}
	if _, err := z.Retain(t.Context(), source, rules, false); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(grace)
	for info, err := range z.Superseded(t.Context(), source, w.now.Add(-grace/2)) {
		if err == nil {
			err = z.Delete(t.Context(), info.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := z.DeleteOrphans(t.Context(), z.Orphans(t.Context())); err != nil {
		t.Fatal(err)
	}
	if left := files(t, w.store); len(left) > 0 {
		t.Errorf("%d objects are left: %s", len(left), left[0])
	}
	for range z.Superseded(t.Context(), source, w.now) {
		t.Error("something is left of what counts no longer")
	}
}

func (w *world) commit(z *Zone) {
	h := head(w.t, z, nil)
	next := h.Next() + 1 + w.rand.Int64N(40)
	for at := h.Next(); at < next; at++ {
		w.committed[at] = w.now
	}
	seg := segment(h.Next(), next)
	defer seg.Release()
	seg.Opened = w.now.Add(-time.Duration(w.rand.IntN(300)) * time.Second).UnixMilli()
	if _, err := z.Commit(w.t.Context(), seg, decide(seg), accepted, h); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) compaction() Compaction {
	return Compaction{Target: 1 << (12 + w.rand.IntN(6)), Before: w.now.Add(-time.Duration(w.rand.IntN(120)) * time.Minute), All: w.rand.IntN(3) == 0, Rule: "test"}
}

func (w *world) compact(ctx context.Context, store storage.Store) {
	z := w.zone(store)
	opt := w.compaction()
	if store == storage.Store(w.store) && w.rand.IntN(3) == 0 { // a rival wins while the first change is about to be written
		won := false
		z = w.zone(&faulty{Store: store, before: func(o op) error {
			if !won && strings.HasPrefix(o.name, manifest.ChangesFolder) && o.kind == "put" {
				won = true
				if _, err := w.zone(w.store).Compact(ctx, source, opt); err != nil {
					w.t.Error(err)
				}
			}
			return nil
		}})
	}
	done, err := z.Compact(ctx, source, opt)
	if err != nil && (ctx == w.t.Context() || !errors.Is(err, errInjected) && !errors.Is(err, context.Canceled)) {
		w.t.Fatal(err)
	}
	w.merged, w.lost = w.merged+done.Merged, w.lost+done.Lost
}

func (w *world) rows() map[int64]finding.Verdict {
	z := w.zone(w.store)
	return rowsOf(w.t, z, segmentsNow(w.t, z))
}

// check reads all and compares it with what must be there.
func (w *world) check() {
	t, z := w.t, w.zone(w.store)
	t.Helper()
	segments := segmentsNow(t, z)
	now := rowsOf(t, z, segments)
	for at, v := range now {
		before, was := w.seen[at]
		switch {
		case was && before != v:
			t.Fatalf("offset %d was %s and is %s", at, before, v)
		case w.must[at]:
			t.Fatalf("offset %d is kept longer than its rule and a day", at)
		case w.may[at] && !was:
			t.Fatalf("offset %d has come back", at)
		}
	}
	for at := range w.committed {
		if _, there := now[at]; !there && at%11 != 10 && !w.may[at] {
			t.Fatalf("offset %d is lost", at)
		}
	}
	w.seen = now

	var gone, counts manifest.Counts
	for _, s := range segments {
		counts = manifest.Counts{Accepted: counts.Accepted + s.Counts.Accepted, Quarantined: counts.Quarantined + s.Counts.Quarantined, Rejected: counts.Rejected + s.Counts.Rejected}
		gone = manifest.Counts{Accepted: gone.Accepted + s.Gone.Accepted, Quarantined: gone.Quarantined + s.Gone.Quarantined, Rejected: gone.Rejected + s.Gone.Rejected}
	}
	have := map[finding.Verdict]int64{}
	for _, v := range now {
		have[v]++
	}
	for _, v := range finding.Verdicts {
		if counts.Of(v) != have[v]+gone.Of(v) {
			t.Fatalf("%s: %d rows were committed, %d are there and %d are said to be gone", v, counts.Of(v), have[v], gone.Of(v))
		}
	}
	for f, err := range z.Current(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		youngest := w.committed[f.Next-1]
		if !time.UnixMilli(int64(f.Committed)).Equal(youngest) {
			t.Fatalf("%s: its youngest segment was committed at %s, not %s", f.Name, youngest, f.Committed)
		}
		have[f.Verdict] -= f.Rows
	}
	for v, n := range have {
		if n != 0 {
			t.Fatalf("the files that count have %d rows of %s less than are read", n, v)
		}
	}

	w.held = slices.DeleteFunc(w.held, func(s snapshot) bool { return w.now.Sub(s.at) >= grace })
	for _, s := range w.held {
		if got := rowsOf(t, z, s.segments); !maps.Equal(got, s.rows) {
			t.Fatalf("a reader that began %s ago sees %d rows and not %d", w.now.Sub(s.at), len(got), len(s.rows))
		}
	}
}

// A file that was changed is told of, and is neither merged nor deleted; others are merged nevertheless.
func TestCompactDamaged(t *testing.T) {
	for name, damage := range map[string]struct {
		do   func(store *objects, m *manifest.Manifest)
		want error
	}{
		"changed byte": {func(store *objects, m *manifest.Manifest) { store.byName[m.Files[0].Name][100] ^= 1 }, parquet.ErrBroken},
		"missing file": {func(store *objects, m *manifest.Manifest) { delete(store.byName, m.Files[0].Name) }, storage.ErrNotExist},
		"other rows": {func(store *objects, m *manifest.Manifest) {
			store.byName[m.Name()] = bytes.Replace(store.byName[m.Name()], []byte(m.Files[0].Content), []byte(strings.Repeat("0", 64)), 1)
		}, ErrRows},
	} {
		t.Run(name, func(t *testing.T) {
			store := newObjects()
			z := zone(t, store)
			h := head(t, z, nil)
			for _, next := range []int64{30, 60, 90} {
				h = commit(t, z, h, next)
			}
			damage.do(store, h.Last.Manifest)
			before := len(store.byName)
			done, err := z.Compact(t.Context(), source, Compaction{Target: 1 << 20, Before: time.Now().Add(time.Hour), Rule: "test"})
			if !errors.Is(err, damage.want) {
				t.Errorf("got %v, want %v", err, damage.want)
			}
			if done.Merged != 6 || done.Into != 2 || len(store.byName) != before+3 {
				t.Errorf("%+v, %d objects more", done, len(store.byName)-before)
			}
			for f, err := range z.Current(t.Context()) {
				if err != nil || f.Verdict == finding.Accepted && f.Next-f.First > 30 {
					t.Errorf("%s counts: %v", f.Name, err)
				}
			}
		})
	}
}

// Files that have other columns are not merged with those before them.
func TestCompactColumns(t *testing.T) {
	z := zone(t, newObjects())
	h := head(t, z, nil)
	for _, more := range []bool{false, false, true, true, true, false} {
		seg := segment(h.Next(), h.Next()+30)
		if more {
			for _, b := range seg.Batches {
				old := b.Records
				fields := append(slices.Clone(columns.Fields()), arrow.Field{Name: "more", Type: arrow.PrimitiveTypes.Int64, Nullable: true})
				b.Records = array.NewRecordBatch(arrow.NewSchema(fields, nil), append(slices.Clone(old.Columns()), old.Column(0)), old.NumRows())
				old.Release()
			}
		}
		var err error
		if h, err = z.Commit(t.Context(), seg, decide(seg), accepted, h); err != nil {
			t.Fatal(err)
		}
		seg.Release()
	}
	before := rowsOf(t, z, segmentsNow(t, z))
	done, err := z.Compact(t.Context(), source, Compaction{Target: 1 << 20, Before: time.Now().Add(time.Hour), Rule: "test"})
	if err != nil || done.Merged != 2*5+6 || done.Into != 2*2+1 { // accepted and quarantined: two, three and one that stays; rejected: all
		t.Errorf("%+v, %v", done, err)
	}
	if after := rowsOf(t, z, segmentsNow(t, z)); !maps.Equal(before, after) {
		t.Errorf("%d rows before, %d after", len(before), len(after))
	}
}

// BenchmarkCompact merges 500 small segments, three files each, into three files.
func BenchmarkCompact(b *testing.B) {
	full := newObjects()
	z := zone(b, full)
	h := head(b, z, nil)
	for range 500 {
		h = commit(b, z, h, h.Next()+200)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		z := zone(b, &objects{byName: maps.Clone(full.byName)})
		done, err := z.Compact(b.Context(), source, Compaction{Target: 128 << 20, Before: time.Now().Add(time.Hour), Rule: "benchmark"})
		if err != nil || done.Merged != 1500 || done.Into != 3 {
			b.Fatalf("%+v, %v", done, err)
		}
		b.SetBytes(done.Before)
	}
}
