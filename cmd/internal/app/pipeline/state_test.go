package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
)

// notebook is a scorer that remembers which segments it has seen: a state is nothing but their list.
type notebook struct{ judge }

func note(own []byte, first, next int64) []byte {
	return fmt.Appendf(slices.Clip(own), "[%d,%d)", first, next)
}

func (n *notebook) Score(ctx context.Context, seg *record.Segment, known record.Memory) (*record.Decision, error) {
	d, err := n.judge.Score(ctx, seg, known)
	if err == nil {
		d.State = note(known.Own, seg.First, seg.Next)
		for _, other := range known.Others {
			d.Recalls = append(d.Recalls, record.Recall{Source: partition(9), Offset: int64(len(other)), Code: finding.PoisonTrigger})
		}
	}
	return d, err
}

// archive is a zone that keeps what was committed beside the rows.
type archive struct {
	*zone
	others []State
	away   func() error // before a state is told

	mu     sync.Mutex
	states map[record.Source]map[int64]*record.Decision // by the next of the segment
	loads  int
}

func (a *archive) keep(src record.Source, next int64, d *record.Decision) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.states[src] == nil {
		a.states[src] = map[int64]*record.Decision{}
	}
	a.states[src][next] = d
}

func (a *archive) at(src record.Source, next int64) State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.states[src][next]; d != nil {
		return NewState(d.State)
	}
	return State{}
}

func (a *archive) Commit(ctx context.Context, seg *record.Segment, dec *record.Decision, c *contract.Contract, prev landing.Head) (landing.Head, error) {
	head, err := a.zone.Commit(ctx, seg, dec, c, prev)
	if err == nil {
		a.keep(seg.Source, seg.Next, dec)
	}
	return head, err
}

// overtake commits as another writer does that has loaded the state which lies there.
func (a *archive) overtake(src record.Source, n int64) {
	a.zone.mu.Lock()
	first := a.zone.heads[src].Next()
	a.zone.mu.Unlock()
	own := a.at(src, first)
	d := &record.Decision{State: note(own.Data, first, first+n), Judged: digests(own, a.others)}
	a.keep(src, first+n, d)
	a.zone.rival(src, n)
}

func (a *archive) Own(_ context.Context, head landing.Head) (State, error) {
	if a.away != nil {
		if err := a.away(); err != nil {
			return State{}, err
		}
	}
	a.mu.Lock()
	a.loads++
	a.mu.Unlock()
	return a.at(head.Source, head.Next()), nil
}

func (a *archive) Others(context.Context, record.Source) []State { return a.others }

// consistent wants every state that was committed to be that of exactly the segments that were committed until then,
// judged by the one before it and by the others.
func (a *archive) consistent(src record.Source) {
	a.t.Helper()
	var own State
	for _, span := range a.span(src) {
		a.mu.Lock()
		d := a.states[src][span[1]]
		a.mu.Unlock()
		if d == nil {
			a.t.Fatalf("the segment %v has no state", span)
		}
		want := NewState(note(own.Data, span[0], span[1]))
		if string(d.State) != string(want.Data) {
			a.t.Fatalf("the state of %v is %s, want %s", span, d.State, want.Data)
		}
		if got := digests(own, a.others); !slices.Equal(d.Judged, got) {
			a.t.Fatalf("%v was judged by %v, want %v", span, d.Judged, got)
		}
		own = want
	}
}

func newArchive(t *testing.T, limits Limits) (*rig, *archive) {
	t.Helper()
	r := &rig{zone: newZone(t), feed: newFeed(), told: &publisher{}, sink: &sink{}}
	a := &archive{zone: r.zone, states: map[record.Source]map[int64]*record.Decision{}}
	n := &notebook{}
	r.judge = &n.judge
	r.Pipeline = New(map[string]Topic{topic: {Contract: testContract(t), Scorer: n, Memory: a}}, a, r.zone, r.told, r.feed, limits, r.sink.observe)
	return r, a
}

// What a segment taught is handed on before it has landed, and loaded only once.
func TestStateIsHandedOn(t *testing.T) {
	still(t)
	r, a := newArchive(t, roomy)
	a.others = []State{NewState([]byte("one")), NewState([]byte("another"))}
	faults := 3
	a.away = func() error {
		if faults--; faults >= 0 {
			return errors.New("the store is away")
		}
		return nil
	}
	attempts := 0
	r.zone.script = func(*record.Segment, int) error {
		if attempts++; attempts%3 == 1 {
			return errors.New("the disk is full")
		}
		return nil
	}
	r.open(t, source)
	r.give(t, source, 0, 420, 5)
	r.drain(t, source)
	r.zone.complete(source, 420)
	a.consistent(source)
	if a.loads != 1 {
		t.Errorf("the state was loaded %d times, want once", a.loads)
	}
	recalls := 0
	for _, e := range r.told.events {
		if e.Change == finding.Recall {
			recalls++
			if e.Partition != 9 || e.Verdict != finding.Accepted || len(e.Reasons) != 1 {
				t.Errorf("told of a recall as %+v", e)
			}
		}
	}
	if segments := len(a.span(source)); recalls != 2*segments {
		t.Errorf("%d recalls were told, want two for each of %d segments", recalls, segments)
	}

	// Whoever opens the stream again goes on from what was committed.
	r.open(t, source)
	r.give(t, source, 420, 500, 5)
	r.drain(t, source)
	a.consistent(source)
	if a.loads != 2 {
		t.Errorf("the state was loaded %d times, want once more", a.loads)
	}
}

// A writer that lost goes on from the winner's state: its own, and all that was judged by it, is thrown away.
func TestStateAfterRewind(t *testing.T) {
	still(t)
	limits := roomy
	limits.Age = 20 * time.Millisecond
	r, a := newArchive(t, limits)
	a.others = []State{NewState([]byte("one"))}
	random := rand.New(rand.NewPCG(1, 2))
	rivals := 0
	r.zone.script = func(seg *record.Segment, attempt int) error {
		if rivals < 12 && attempt == 1 && random.IntN(3) == 0 {
			rivals++
			a.overtake(seg.Source, 1+random.Int64N(120))
		}
		return nil
	}
	r.open(t, source)
	const n = 3_000
	r.landAll(t, source, n)
	a.consistent(source)
	if lost := count[Lost](r.sink); lost == 0 || a.loads < lost {
		t.Errorf("%d rivals, %d lost, the state was loaded %d times", rivals, lost, a.loads)
	}
}
