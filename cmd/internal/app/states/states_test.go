package states

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

const topic = "events"

var contract = strings.Repeat("ab", 32)

func partition(n int32) record.Source {
	return record.Source{Topic: topic, ID: "AAAAAAAAAAAAAAAAAAAAAQ", Partition: n}
}

func file(n int) record.Source { return record.Source{Topic: topic, ID: fmt.Sprintf("%064x", n)} }

// zone is a landing zone of states only.
type zone struct {
	mu        sync.Mutex
	objects   []landing.StateObject
	manifests map[string]*landing.Committed
	states    map[string][]byte
	fail      map[string]error // by the name of a state, or "list"
	gate      chan struct{}    // a listing waits for it

	lists, heads, reads int
}

func newZone() *zone {
	return &zone{manifests: map[string]*landing.Committed{}, states: map[string][]byte{}, fail: map[string]error{}}
}

// write puts a state there, and commit its manifest.
func (z *zone) write(src record.Source, first int64, random, text string) *landing.Committed {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := manifest.SealedName{Folder: manifest.StateFolder, Source: src, First: first, Random: strings.Repeat(random, 16)}
	z.objects = append(z.objects, landing.StateObject{Info: storage.Info{Name: name.String(), Size: int64(len(text))}, SealedName: name})
	slices.SortFunc(z.objects, func(a, b landing.StateObject) int { return strings.Compare(a.Info.Name, b.Info.Name) })
	z.states[name.String()] = []byte(text)
	return &landing.Committed{Manifest: &manifest.Manifest{
		Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, First: first, Next: first + 10, Contract: contract, Committed: manifest.Time(first),
		State: &manifest.Sealed{Name: name.String(), Content: pipeline.NewState([]byte(text)).Digest},
	}}
}

func (z *zone) commit(src record.Source, first int64, text string) *landing.Committed {
	m := z.write(src, first, "a", text)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.manifests[m.Name()] = m
	return m
}

func (z *zone) States(_ context.Context, topic string) iter.Seq2[landing.StateObject, error] {
	return func(yield func(landing.StateObject, error) bool) {
		z.mu.Lock()
		z.lists++
		gate, objects, err := z.gate, slices.Clone(z.objects), z.fail["list"]
		z.mu.Unlock()
		if gate != nil {
			<-gate
		}
		if err != nil {
			yield(landing.StateObject{}, err)
			return
		}
		for _, o := range objects {
			if o.Source.Topic == topic && !yield(o, nil) {
				return
			}
		}
	}
}

func (z *zone) Manifest(_ context.Context, src record.Source, first int64) (*landing.Committed, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.heads++
	m := z.manifests[manifest.Name(src, first)]
	if m == nil {
		return nil, storage.ErrNotExist
	}
	return m, nil
}

func (z *zone) State(_ context.Context, s *manifest.Sealed) ([]byte, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.reads++
	if err := z.fail[s.Name]; err != nil {
		return nil, err
	}
	return z.states[s.Name], nil
}

// clock is what the cache takes for the time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is a cache that a test waits for.
type rig struct {
	*Cache
	t     *testing.T
	zone  *zone
	clock *clock

	mu         sync.Mutex
	unreadable []string
	away       int
	left       int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, zone: newZone(), clock: &clock{now: time.Now()}}
	r.Cache = New(r.zone, topic, Options{
		Contract: contract, Now: r.clock.Now,
		Unreadable: func(name string, own bool, _ error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.unreadable = append(r.unreadable, fmt.Sprint(own, " ", name))
		},
		Away: func(error) { r.mu.Lock(); r.away++; r.mu.Unlock() },
		Left: func(_, left int) { r.mu.Lock(); r.left = left; r.mu.Unlock() },
	})
	t.Cleanup(r.Close)
	return r
}

// others returns what is known after whatever was due was read.
func (r *rig) others(src record.Source) (out []string) {
	r.Others(r.t.Context(), src)
	r.reads.Wait()
	for _, s := range r.Others(r.t.Context(), src) {
		if s.Digest != pipeline.NewState(s.Data).Digest {
			r.t.Errorf("the digest of %s is %s", s.Data, s.Digest)
		}
		out = append(out, string(s.Data))
	}
	return out
}

func (r *rig) want(src record.Source, want ...string) {
	r.t.Helper()
	if got := r.others(src); !slices.Equal(got, want) {
		r.t.Errorf("others of %v are %q, want %q", src, got, want)
	}
}

func TestOthers(t *testing.T) {
	r := newRig(t)
	for p := range int32(3) {
		r.zone.commit(partition(p), 0, fmt.Sprintf("p%d at 0", p))
	}
	r.zone.commit(file(7), 0, "file")
	r.zone.commit(record.Source{Topic: "another", ID: "x"}, 0, "another topic")
	r.zone.commit(file(8), 0, "another contract").Contract = strings.Repeat("cd", 32)
	r.zone.write(partition(3), 0, "b", "never committed")
	r.want(partition(1), "file", "p0 at 0", "p2 at 0")
	r.want(partition(2), "file", "p0 at 0", "p1 at 0")
	r.want(file(7), "p0 at 0", "p1 at 0", "p2 at 0")
	if r.zone.lists != 1 || r.zone.reads != 4 {
		t.Errorf("%d listings and %d reads for four states", r.zone.lists, r.zone.reads)
	}

	// Until the time is up nothing is read again; then only what is new.
	first := r.Others(t.Context(), partition(1))
	r.zone.commit(partition(2), 10, "p2 at 10")
	r.zone.write(partition(2), 20, "b", "under way")
	r.zone.write(partition(0), 0, "c", "lost")
	r.clock.add(Every - time.Nanosecond)
	r.want(partition(1), "file", "p0 at 0", "p2 at 0")
	r.clock.add(time.Nanosecond)
	r.want(partition(1), "file", "p0 at 0", "p2 at 10")
	if r.zone.lists != 2 || r.zone.reads != 5 {
		t.Errorf("%d listings and %d reads, want one more of each", r.zone.lists, r.zone.reads)
	}
	if second := r.Others(t.Context(), partition(1)); &first[1].Data[0] != &second[1].Data[0] {
		t.Error("what has not changed was read again")
	}
	if len(r.unreadable) != 0 || r.away != 0 || r.left != 0 {
		t.Errorf("told of %v, %d, %d", r.unreadable, r.away, r.left)
	}
}

// Only the newest of very many files are taken.
func TestNewestFiles(t *testing.T) {
	r := newRig(t)
	for n := range mostFiles + 10 {
		r.zone.commit(file(n), int64(n), fmt.Sprint("file ", n))
	}
	r.zone.commit(partition(0), 0, "partition")
	got := r.others(partition(1))
	if len(got) != mostFiles+1 || got[0] != "file 10" || !slices.Contains(got, "partition") {
		t.Errorf("%d others, the first is %q", len(got), got[0])
	}
	if r.left != 10 {
		t.Errorf("%d are left, want 10", r.left)
	}
}

// What the states of others take up is bounded.
func TestBytesAreBounded(t *testing.T) {
	r := newRig(t)
	for p := range int32(3) {
		r.zone.commit(partition(p), int64(p)*10, string(bytes.Repeat([]byte{'a' + byte(p)}, mostBytes/2)))
	}
	if got := r.others(partition(9)); len(got) != 2 || got[0][0] != 'b' || got[1][0] != 'c' || r.left != 1 {
		t.Errorf("%d of three are taken, %d are left", len(got), r.left)
	}
}

// Errors delay nothing and change nothing, and are told once.
func TestErrorsKeepWhatIsKnown(t *testing.T) {
	r := newRig(t)
	r.zone.commit(partition(0), 0, "old 0")
	r.zone.commit(partition(1), 0, "old 1")
	r.want(partition(9), "old 0", "old 1")
	r.zone.commit(partition(0), 10, "new 0")
	broken := r.zone.commit(partition(1), 10, "new 1")
	for range 3 {
		r.zone.fail["list"] = storage.ErrUnavailable
		r.clock.add(Every)
		r.want(partition(9), "old 0", "old 1")
	}
	if r.away != 1 {
		t.Errorf("told %d times that others cannot be read, want once", r.away)
	}
	r.zone.fail["list"] = nil
	r.zone.fail[broken.State.Name] = fmt.Errorf("%w: the key is gone", landing.ErrUnreadable)
	for range 3 {
		r.clock.add(Every)
		r.want(partition(9), "new 0", "old 1")
	}
	if want := []string{"false " + broken.State.Name}; !slices.Equal(r.unreadable, want) {
		t.Errorf("told of %v, want %v", r.unreadable, want)
	}
	deleted := r.zone.commit(partition(0), 20, "newer 0")
	r.zone.fail[deleted.State.Name] = fmt.Errorf("%w: %w", landing.ErrUnreadable, storage.ErrNotExist)
	r.clock.add(Every)
	r.want(partition(9), "new 0", "old 1")
	r.zone.commit(partition(0), 30, "newest 0")
	r.clock.add(Every)
	r.want(partition(9), "newest 0", "old 1")
	if len(r.unreadable) != 1 {
		t.Errorf("told of %v: one that was deleted is nothing to be told", r.unreadable)
	}
	r.zone.fail["list"] = storage.ErrUnavailable
	r.clock.add(Every)
	r.want(partition(9), "newest 0", "old 1")
	if r.away != 2 {
		t.Errorf("told %d times that others cannot be read, want once more", r.away)
	}
}

// Only the first segment waits, and all that come meanwhile; afterwards a slow store delays nobody.
func TestOnlyTheFirstWaits(t *testing.T) {
	r := newRig(t)
	r.zone.commit(partition(0), 0, "old")
	gate := make(chan struct{})
	r.zone.gate = gate
	got := make(chan int, 2)
	for range 2 {
		go func() { got <- len(r.Others(t.Context(), partition(1))) }()
	}
	close(gate)
	if a, b := <-got, <-got; a != 1 || b != 1 {
		t.Errorf("the first segments were judged by %d and %d others, want one", a, b)
	}
	r.reads.Wait()
	gate = make(chan struct{})
	r.zone.mu.Lock()
	r.zone.gate = gate
	r.zone.mu.Unlock()
	r.zone.commit(partition(0), 10, "new")
	r.clock.add(Every)
	for range 3 {
		if known := r.Others(t.Context(), partition(1)); len(known) != 1 || string(known[0].Data) != "old" {
			t.Errorf("known is %q", known)
		}
	}
	close(gate)
	r.want(partition(1), "new")
	if r.zone.lists != 2 {
		t.Errorf("%d listings, want two: one is under way at a time", r.zone.lists)
	}

	// Who cannot wait does not.
	r = newRig(t)
	r.zone.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if known := r.Others(ctx, partition(1)); len(known) != 0 {
		t.Errorf("known is %q", known)
	}
	close(r.zone.gate)
}

func TestOwn(t *testing.T) {
	r := newRig(t)
	m := r.zone.commit(partition(0), 0, "mine")
	head := landing.Head{Source: partition(0), Last: m}
	if state, err := r.Own(t.Context(), head); err != nil || string(state.Data) != "mine" || state.Digest != m.State.Content {
		t.Errorf("own is %q: %v", state.Data, err)
	}
	if state, err := r.Own(t.Context(), landing.Head{}); err != nil || state.Data != nil || state.Digest != "" {
		t.Errorf("own of nothing is %q: %v", state.Data, err)
	}
	r.zone.fail[m.State.Name] = storage.ErrUnavailable
	if _, err := r.Own(t.Context(), head); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("the store is away: %v", err)
	}
	r.zone.fail[m.State.Name] = landing.ErrUnreadable
	if state, err := r.Own(t.Context(), head); err != nil || state.Data != nil || len(r.unreadable) != 1 || !strings.HasPrefix(r.unreadable[0], "true ") {
		t.Errorf("an unreadable state is %q: %v; told of %v", state.Data, err, r.unreadable)
	}
	// A store that is not there has no manifest either.
	gone := fmt.Errorf("%w: %w", landing.ErrUnreadable, storage.ErrNotExist)
	r.zone.fail[m.State.Name] = gone
	delete(r.zone.manifests, m.Name())
	if _, err := r.Own(t.Context(), head); !errors.Is(err, storage.ErrNotExist) || errors.Is(err, landing.ErrUnreadable) {
		t.Errorf("the store is not mounted: %v", err)
	}
	r.zone.manifests[m.Name()] = m
	if state, err := r.Own(t.Context(), head); err != nil || state.Data != nil || len(r.unreadable) != 2 {
		t.Errorf("a state that is gone is %q: %v; told of %v", state.Data, err, r.unreadable)
	}
	m.State = nil
	if state, err := r.Own(t.Context(), head); err != nil || state.Data != nil {
		t.Errorf("own of a segment that taught nothing is %q: %v", state.Data, err)
	}
}
