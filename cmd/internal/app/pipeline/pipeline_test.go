package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
)

const topic = "events"

var source = record.Source{Topic: topic, ID: "AAAAAAAAAAAAAAAAAAAAAQ", Partition: 0}

func partition(n int32) record.Source {
	src := source
	src.Partition = n
	return src
}

func testContract(t *testing.T) *contract.Contract {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"events.yaml": "topic: events\nowner: me\nclassification: internal\nschema: events.json\nlimits: {bytes: 64MiB}\n",
		"events.json": `{"type":"object","properties":{"n":{"type":"integer"},"pad":{"type":"string"}},"required":["n"]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := contract.Load(filepath.Join(dir, "events.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

// message makes the record at an offset; every seventh is refused.
func message(offset int64, size int) record.Message {
	text := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, offset, strings.Repeat("x", size))
	if offset%7 == 6 {
		text = text[:len(text)-1]
	}
	return record.Message{Offset: offset, Timestamp: 1_767_225_600_000 + offset, Value: []byte(text)}
}

// zone is a landing zone in memory with the rules of the real one: a commit needs the true head, and what was
// committed stays.
type zone struct {
	t      *testing.T
	script func(seg *record.Segment, attempt int) error // before a commit; an error is returned in its place
	reload func() error                                 // before a head is told

	mu       sync.Mutex
	attempts map[string]int
	heads    map[record.Source]landing.Head
	landed   map[record.Source][]int64 // offsets of records, in the order in which they landed
	spans    map[record.Source][][2]int64
	entries  []string // audit entries
}

func newZone(t *testing.T) *zone {
	return &zone{
		t: t, attempts: map[string]int{}, heads: map[record.Source]landing.Head{}, landed: map[record.Source][]int64{},
		spans: map[record.Source][][2]int64{},
	}
}

func (z *zone) Commit(ctx context.Context, seg *record.Segment, dec *record.Decision, _ *contract.Contract, prev landing.Head) (landing.Head, error) {
	z.mu.Lock()
	key := fmt.Sprint(seg.Source, seg.First)
	z.attempts[key]++
	attempt := z.attempts[key]
	z.mu.Unlock()
	if z.script != nil {
		if err := z.script(seg, attempt); err != nil {
			return landing.Head{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return landing.Head{}, errors.Join(landing.ErrUnknown, err)
	}
	var offsets []int64
	for _, b := range seg.Batches {
		if b.Records != nil && int(b.Records.NumRows()) != len(b.Origins) {
			z.t.Errorf("%d rows and %d origins", b.Records.NumRows(), len(b.Origins))
		}
		for _, o := range b.Origins {
			offsets = append(offsets, o.Offset)
		}
		for i := range b.Refused {
			offsets = append(offsets, b.Refused[i].Offset)
		}
	}
	if len(dec.Verdicts) != seg.Rows() {
		z.t.Errorf("%d verdicts for %d rows", len(dec.Verdicts), seg.Rows())
	}
	slices.Sort(offsets)
	return z.put(seg.Source, seg.First, seg.Next, offsets, prev)
}

func (z *zone) put(src record.Source, first, next int64, offsets []int64, prev landing.Head) (landing.Head, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if prev.Next() != first {
		z.t.Errorf("%v: a segment that begins at %d is to follow a head that ends at %d", src, first, prev.Next())
	}
	if next <= first {
		z.t.Errorf("%v: an empty segment [%d, %d)", src, first, next)
	}
	if z.heads[src].Next() != first {
		return landing.Head{}, landing.ErrLost
	}
	for _, offset := range offsets {
		if offset < first || offset >= next {
			z.t.Errorf("%v: offset %d lies outside of its segment [%d, %d)", src, offset, first, next)
		}
	}
	head := landing.Head{Source: src, Last: &landing.Committed{Manifest: &manifest.Manifest{
		Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, First: first, Next: next,
	}}}
	z.heads[src] = head
	z.landed[src] = append(z.landed[src], offsets...)
	z.spans[src] = append(z.spans[src], [2]int64{first, next})
	return head, nil
}

// rival commits as another writer does, behind whatever is there.
func (z *zone) rival(src record.Source, n int64) {
	z.mu.Lock()
	head := z.heads[src]
	z.mu.Unlock()
	var offsets []int64
	for at := head.Next(); at < head.Next()+n; at++ {
		offsets = append(offsets, at)
	}
	_, _ = z.put(src, head.Next(), head.Next()+n, offsets, head)
}

func (z *zone) Head(_ context.Context, src record.Source, _ *landing.Hint) (landing.Head, error) {
	if z.reload != nil {
		if err := z.reload(); err != nil {
			return landing.Head{}, err
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	head := z.heads[src]
	head.Source = src
	return head, nil
}

func (z *zone) Append(_ context.Context, m *manifest.Manifest) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.entries = append(z.entries, fmt.Sprintf("%d [%d, %d)", m.Partition, m.First, m.Next))
	return nil
}

// complete checks that the records [0, n) of a source landed, each once and in order, in segments without a hole.
func (z *zone) complete(src record.Source, n int64) {
	z.t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	if got := int64(len(z.landed[src])); got != n {
		z.t.Errorf("%v: %d records landed, want %d", src, got, n)
	}
	for i, offset := range z.landed[src] {
		if offset != int64(i) {
			z.t.Fatalf("%v: offset %d landed in place of %d", src, offset, i)
		}
	}
	next := int64(0)
	for _, span := range z.spans[src] {
		if span[0] != next {
			z.t.Errorf("%v: a segment begins at %d, the one before it ended at %d", src, span[0], next)
		}
		next = span[1]
	}
}

// judge accepts every row. With a gate it waits for it, or for the stream's end.
type judge struct {
	gate    chan struct{}
	waiting atomic.Int32
	err     error
}

func (j *judge) Score(ctx context.Context, seg *record.Segment, _ record.Memory) (*record.Decision, error) {
	if j.gate != nil {
		j.waiting.Add(1)
		defer j.waiting.Add(-1)
		select {
		case <-j.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if j.err != nil {
		return nil, j.err
	}
	d := &record.Decision{Verdicts: make([]finding.Verdict, seg.Rows()), Risks: make([]float64, seg.Rows())}
	if len(d.Verdicts) > 0 {
		d.Verdicts[0] = finding.Quarantined
		d.Reasons = map[int][]finding.Code{0: {finding.PoisonOutlier}}
	}
	return d, nil
}

// feed is a source with the promises of Feed and not one more: messages of after a Rewind may come before it returns.
type feed struct {
	sloppy atomic.Int32 // how many more Rewinds let messages of after come before they return

	mu      sync.Mutex
	changed sync.Cond
	at      map[record.Source]int64
	inHand  map[record.Source]int // chunks that were read and not yet taken in
	given   map[record.Source]int // calls of Messages
	rewinds int
	hints   []int64
	fail    error
}

func newFeed() *feed {
	f := &feed{at: map[record.Source]int64{}, inHand: map[record.Source]int{}, given: map[record.Source]int{}}
	f.changed.L = &f.mu
	return f
}

func (f *feed) Landed(_ context.Context, _ record.Source, head landing.Head) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hints = append(f.hints, head.Next())
	return f.fail
}

func (f *feed) Rewind(src record.Source, next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewinds++
	f.at[src] = next
	f.changed.Broadcast()
	given := f.given[src]
	if f.inHand[src] > 0 {
		given++ // what is in hand is of before
	}
	for f.inHand[src] > 0 && f.given[src] < given {
		f.changed.Wait()
	}
	if f.sloppy.Add(-1) >= 0 {
		for range 3 {
			for want := f.given[src] + 1; f.given[src] < want; {
				f.changed.Wait()
			}
		}
	}
}

// read gives the records [0, end) of a source to a pipeline, chunk by chunk, until done says that it is enough.
func (f *feed) read(ctx context.Context, p *Pipeline, src record.Source, end int64, chunk, size int, done func() bool) error {
	for ctx.Err() == nil && !done() {
		f.mu.Lock()
		from := f.at[src]
		to := min(from+int64(chunk), end)
		f.at[src] = to
		f.inHand[src]++
		f.mu.Unlock()
		var messages []record.Message
		for at := from; at < to; at++ {
			messages = append(messages, message(at, size))
		}
		var err error
		if len(messages) > 0 {
			err = p.Messages(ctx, src, messages, to)
		} else {
			time.Sleep(100 * time.Microsecond)
		}
		f.mu.Lock()
		f.inHand[src]--
		f.given[src]++
		f.changed.Broadcast()
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// sink collects what the pipeline tells.
type sink struct {
	mu     sync.Mutex
	events []Event
}

func (s *sink) observe(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func count[E any](s *sink) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

type publisher struct {
	mu     sync.Mutex
	fail   int // that many times
	events []finding.Event
}

func (p *publisher) Publish(_ context.Context, events []finding.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail > 0 {
		p.fail--
		return errors.New("no broker")
	}
	p.events = append(p.events, events...)
	return nil
}

type rig struct {
	*Pipeline
	zone  *zone
	feed  *feed
	judge *judge
	told  *publisher
	sink  *sink
}

var roomy = Limits{Records: 50, Bytes: 1 << 20, Age: time.Minute, Memory: 8 << 20}

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	r := &rig{zone: newZone(t), feed: newFeed(), judge: &judge{}, told: &publisher{}, sink: &sink{}}
	r.Pipeline = New(map[string]Topic{topic: {Contract: testContract(t), Scorer: r.judge}}, r.zone, r.zone, r.told, r.feed, limits, r.sink.observe)
	return r
}

func (r *rig) open(t *testing.T, src record.Source) {
	t.Helper()
	head, err := r.zone.Head(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Open(src, head); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) give(t *testing.T, src record.Source, from, to int64, size int) {
	t.Helper()
	var messages []record.Message
	for at := from; at < to; at++ {
		messages = append(messages, message(at, size))
	}
	if err := r.Messages(t.Context(), src, messages, to); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) drain(t *testing.T, src record.Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Drain(ctx, src); err != nil {
		t.Fatalf("drain: %v", err)
	}
}

// landAll feeds n records of a source in pieces and waits until all have landed, once each.
func (r *rig) landAll(t *testing.T, src record.Source, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err := r.feed.read(ctx, r.Pipeline, src, n, 17, 10, func() bool {
		r.zone.mu.Lock()
		defer r.zone.mu.Unlock()
		return r.zone.heads[src].Next() >= n
	})
	if err != nil {
		t.Fatal(err)
	}
	r.drain(t, src)
	r.empty(t)
	r.zone.completeUpTo(src, n)
}

// empty checks that all memory was given back.
func (r *rig) empty(t *testing.T) {
	t.Helper()
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	if r.memory.used != 0 || len(r.memory.waiting) != 0 {
		t.Errorf("%d bytes were not given back, %d wait", r.memory.used, len(r.memory.waiting))
	}
}

// eventually waits for something that other goroutines do.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// still checks that as many goroutines end as were begun.
func still(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines are left of %d\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

func (z *zone) span(src record.Source) [][2]int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.spans[src])
}

func TestSegmentsFollowEachOther(t *testing.T) {
	still(t)
	r := newRig(t, roomy)
	var readers sync.WaitGroup
	const n = 2_000
	for i := range int32(4) {
		src := partition(i)
		r.open(t, src)
		readers.Add(1)
		go func() {
			defer readers.Done()
			for at := int64(0); at < n; {
				to := min(at+1+rand.Int64N(130), n) // chunks that straddle segments
				var messages []record.Message
				for ; at < to; at++ {
					messages = append(messages, message(at, 10))
				}
				if err := r.Messages(t.Context(), src, messages, to); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	readers.Wait()
	for i := range int32(4) {
		r.drain(t, partition(i))
		r.zone.complete(partition(i), n)
		if spans := r.zone.span(partition(i)); len(spans) != n/50 {
			t.Errorf("%d segments, want %d of 50 records each", len(spans), n/50)
		}
	}
	if len(r.Sources()) != 0 {
		t.Errorf("still open: %v", r.Sources())
	}
	if len(r.zone.entries) != 4*n/50 || len(r.feed.hints) != 4*n/50 || count[Landed](r.sink) != 4*n/50 {
		t.Errorf("%d audit entries, %d hints, %d events for %d commits", len(r.zone.entries), len(r.feed.hints), count[Landed](r.sink), 4*n/50)
	}
	// One row of each segment was quarantined, and every seventh record refused.
	want := 4 * (n/50 + n/7)
	if len(r.told.events) != want {
		t.Errorf("the provider was told of %d records, want %d", len(r.told.events), want)
	}
}

// Messages that come twice, and offsets that hold no message, change nothing.
func TestMessagesTwiceAndGaps(t *testing.T) {
	r := newRig(t, roomy)
	r.open(t, source)
	r.give(t, source, 0, 30, 5)
	r.give(t, source, 20, 60, 5)
	r.give(t, source, 0, 10, 5)
	messages := []record.Message{message(70, 5), message(75, 5)}
	if err := r.Messages(t.Context(), source, messages, 80); err != nil {
		t.Fatal(err)
	}
	r.drain(t, source)
	got := r.zone.landed[source]
	want := append(make([]int64, 0, 62), 70, 75)
	for at := range int64(60) {
		want = append(want, at)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("landed %v", got)
	}
	if spans := r.zone.span(source); !slices.Equal(spans, [][2]int64{{0, 50}, {50, 80}}) {
		t.Errorf("segments %v", spans)
	}
}

func TestSegmentEndsByBytesAndByAge(t *testing.T) {
	limits := roomy
	limits.Bytes = 10_000
	r := newRig(t, limits)
	r.open(t, source)
	r.give(t, source, 0, 30, 1000)
	eventually(t, "three segments by size", func() bool { return len(r.zone.span(source)) == 3 })
	r.drain(t, source)
	if spans := r.zone.span(source); !slices.Equal(spans, [][2]int64{{0, 10}, {10, 20}, {20, 30}}) {
		t.Errorf("segments by size: %v", spans)
	}

	limits = roomy
	limits.Age = 20 * time.Millisecond
	r = newRig(t, limits)
	r.open(t, source)
	r.give(t, source, 0, 5, 10)
	eventually(t, "a segment by age", func() bool { return len(r.zone.span(source)) > 0 })
	r.give(t, source, 5, 7, 10)
	eventually(t, "the next segment by age", func() bool { return len(r.zone.span(source)) == 2 })
	r.drain(t, source)
	r.zone.complete(source, 7)
}

// Offsets that only held control records are committed, so that a lag monitor comes to rest.
func TestControlRecordsAloneAreCommitted(t *testing.T) {
	limits := roomy
	limits.Age = 10 * time.Millisecond
	r := newRig(t, limits)
	r.open(t, source)
	if err := r.Messages(t.Context(), source, nil, 3); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a segment without a record", func() bool { return len(r.zone.span(source)) == 1 })
	if err := r.Messages(t.Context(), source, nil, 3); err != nil { // nothing new
		t.Fatal(err)
	}
	r.drain(t, source)
	if spans := r.zone.span(source); !slices.Equal(spans, [][2]int64{{0, 3}}) {
		t.Errorf("segments %v", spans)
	}
	if len(r.feed.hints) != 1 || r.feed.hints[0] != 3 {
		t.Errorf("hints %v", r.feed.hints)
	}
}

// A slow step holds back the source: two finished segments at most lie between it and a step that does not move.
func TestBackPressure(t *testing.T) {
	still(t)
	r := newRig(t, roomy)
	r.judge.gate = make(chan struct{})
	r.open(t, source)
	var taken atomic.Int64
	done := make(chan error, 1)
	go func() {
		for at := int64(0); at < 1000; at += 10 {
			var messages []record.Message
			for i := range int64(10) {
				messages = append(messages, message(at+i, 10))
			}
			if err := r.Messages(t.Context(), source, messages, at+10); err != nil {
				done <- err
				return
			}
			taken.Store(at + 10)
		}
		done <- nil
	}()
	eventually(t, "the scorer has a segment", func() bool { return r.judge.waiting.Load() == 1 })
	time.Sleep(50 * time.Millisecond)
	if n := taken.Load(); n < 90 || n > 150 {
		t.Errorf("%d records were taken in while a segment of 50 was being scored", n)
	}
	close(r.judge.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.drain(t, source)
	r.empty(t)
	r.zone.complete(source, 1000)
}

// The bound on memory holds over all streams, whatever the sizes, and nothing waits for age when it is used up.
func TestMemoryIsBounded(t *testing.T) {
	still(t)
	const limit = 1 << 20
	r := newRig(t, Limits{Records: 1 << 20, Bytes: 1 << 30, Age: time.Hour, Memory: limit})
	r.zone.script = func(*record.Segment, int) error {
		time.Sleep(time.Duration(rand.Int64N(int64(2 * time.Millisecond))))
		return nil
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Add(1)
	most := int64(0)
	go func() {
		defer watch.Done()
		for {
			r.memory.mu.Lock()
			most = max(most, r.memory.used)
			r.memory.mu.Unlock()
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	}()
	var readers sync.WaitGroup
	for i := range int32(6) {
		src := partition(i)
		r.open(t, src)
		readers.Add(1)
		go func() {
			defer readers.Done()
			for at := int64(0); at < 60; at++ {
				if err := r.Messages(t.Context(), src, []record.Message{message(at, int(rand.Int64N(100_000)))}, at+1); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	finished := make(chan struct{})
	go func() { readers.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(60 * time.Second):
		t.Fatal("the streams wait for each other")
	}
	for i := range int32(6) {
		r.drain(t, partition(i))
		r.zone.complete(partition(i), 60)
	}
	r.empty(t)
	close(stop)
	watch.Wait()
	if most > limit {
		t.Errorf("%d bytes were held, the limit is %d", most, limit)
	}
	if most < limit/4 {
		t.Errorf("only %d bytes were ever held: the test shows nothing", most)
	}
}

// A message larger than the whole limit gets in when it is alone, also while small ones keep coming.
func TestOversizedMessageIsNotStarved(t *testing.T) {
	still(t)
	const limit = 1 << 18
	r := newRig(t, Limits{Records: 1 << 20, Bytes: 1 << 30, Age: time.Hour, Memory: limit})
	small, large := partition(1), partition(2)
	r.open(t, small)
	r.open(t, large)
	ctx, stop := context.WithCancel(t.Context())
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at := int64(0); ctx.Err() == nil; at++ {
			if err := r.Messages(t.Context(), small, []record.Message{message(at, 10_000)}, at+1); err != nil {
				t.Error(err)
				return
			}
			n.Store(at + 1)
		}
	}()
	eventually(t, "small messages", func() bool { return n.Load() > 20 })
	timeout, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Messages(timeout, large, []record.Message{message(0, 2*limit)}, 1); err != nil {
		t.Errorf("the large message was not let in: %v", err)
	}
	stop()
	<-done
	r.drain(t, large)
	r.drain(t, small)
	r.empty(t)
	r.zone.complete(large, 1)
	r.zone.complete(small, n.Load())
}

// Who waits for memory and gives up leaves no trace, and those behind it go on.
func TestMemoryWaiterGivesUp(t *testing.T) {
	m := newMemory(100, func() {})
	if err := m.acquire(t.Context(), 90); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- m.acquire(ctx, 80) }()
	waiting := func(n int) func() bool {
		return func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.waiting) == n }
	}
	eventually(t, "the first waits", waiting(1))
	go func() { second <- m.acquire(t.Context(), 10) }()
	eventually(t, "the second waits behind it", waiting(2))
	cause := errors.New("enough")
	cancel(cause)
	if err := <-first; !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if m.used != 100 || len(m.waiting) != 0 {
		t.Errorf("%d used, %d waiting", m.used, len(m.waiting))
	}
}

// A release while the relief is being thought of must not be missed: nobody would come to wake the waiter.
func TestMemoryReleaseDuringRelief(t *testing.T) {
	var m *memory
	calls := 0
	m = newMemory(100, func() {
		if calls++; calls == 1 {
			m.release(10) // too little, and yet the next look at the streams may end one
		} else {
			m.release(90)
		}
	})
	if err := m.acquire(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.acquire(ctx, 50); err != nil {
		t.Fatalf("the release was missed: %v", err)
	}
	if calls != 2 {
		t.Errorf("relieved %d times", calls)
	}
}

// Whatever is under way when a stream is abandoned, its goroutines end, its memory comes back, and who feeds it is
// told; a new stream goes on where the landing ended.
func TestAbandonMidFlight(t *testing.T) {
	still(t)
	for name, hold := range map[string]func(*rig){
		"scoring": func(r *rig) { r.judge.gate = make(chan struct{}) },
		"landing": func(r *rig) {
			r.zone.script = func(seg *record.Segment, attempt int) error { return errors.New("the disk is full") }
		},
		"publishing": func(r *rig) { r.told.fail = 1 << 30 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, roomy)
			hold(r)
			r.open(t, source)
			fed := make(chan error, 1)
			go func() {
				fed <- r.feed.read(t.Context(), r.Pipeline, source, 1<<40, 7, 100, func() bool { return false })
			}()
			eventually(t, "the pipeline is full", func() bool { return r.judge.waiting.Load() == 1 || count[Retrying](r.sink) > 0 })
			time.Sleep(5 * time.Millisecond)
			if err := r.Abandon(source); err != nil {
				t.Fatal(err)
			}
			if err := <-fed; err == nil {
				t.Error("messages were taken after the stream was closed")
			}
			r.empty(t)
			select {
			case err := <-r.Failed():
				t.Errorf("abandoning is no failure: %v", err)
			default:
			}
			// The next owner reads again what had not landed.
			if r.judge.gate != nil {
				close(r.judge.gate)
			}
			r.zone.script, r.told.fail = nil, 0
			r.open(t, source)
			head, _ := r.zone.Head(t.Context(), source, nil)
			r.give(t, source, head.Next(), 400, 10)
			r.drain(t, source)
			r.zone.complete(source, 400)
		})
	}
}

func TestDrainGivesUpWhenItsContextEnds(t *testing.T) {
	still(t)
	r := newRig(t, roomy)
	r.judge.gate = make(chan struct{})
	r.open(t, source)
	r.give(t, source, 0, 20, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx, source); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	r.empty(t)
	if len(r.Sources()) != 0 {
		t.Error("the stream is still open")
	}
	r.zone.complete(source, 0)
}

// A store that fails delays; it drops nothing and doubles nothing.
func TestFailingCommitIsRepeated(t *testing.T) {
	still(t)
	r := newRig(t, roomy)
	r.told.fail = 2
	r.zone.script = func(seg *record.Segment, attempt int) error {
		if seg.First%100 == 50 && attempt < 3 {
			return errors.New("no space left")
		}
		return nil
	}
	r.open(t, source)
	r.give(t, source, 0, 200, 10)
	r.drain(t, source)
	r.empty(t)
	r.zone.complete(source, 200)
	if n := count[Retrying](r.sink); n != 6 {
		t.Errorf("%d repetitions were told, want 2 for each of two segments, and 2 of the publisher", n)
	}
	if len(r.told.events) != 4+200/7 {
		t.Errorf("the provider was told of %d records", len(r.told.events))
	}
}

// That the source cannot be told how far it landed is reported, and does no harm.
func TestFailingHintIsNoFailure(t *testing.T) {
	r := newRig(t, roomy)
	r.feed.fail = errors.New("no coordinator")
	r.open(t, source)
	r.give(t, source, 0, 100, 10)
	r.drain(t, source)
	r.zone.complete(source, 100)
	if n := count[HintFailed](r.sink); n != 2 {
		t.Errorf("%d failures were told", n)
	}
}

// What no retry can mend ends the stream: the error is delivered, nothing behind it lands, and no drain says that all
// is well.
func TestCorruptZoneEndsTheStream(t *testing.T) {
	still(t)
	for name, break_ := range map[string]func(*rig) error{
		"commit": func(r *rig) error {
			r.zone.script = func(seg *record.Segment, _ int) error {
				if seg.First >= 50 {
					return fmt.Errorf("manifest: %w", landing.ErrCorrupt)
				}
				return nil
			}
			return landing.ErrCorrupt
		},
		"score": func(r *rig) error {
			r.judge.err = errors.New("a detector panicked")
			return r.judge.err
		},
		"reload": func(r *rig) error {
			r.zone.script = func(seg *record.Segment, _ int) error {
				r.zone.reload = func() error { return landing.ErrCorrupt }
				return landing.ErrLost
			}
			return landing.ErrCorrupt
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, roomy)
			want := break_(r)
			r.open(t, source)
			var messages []record.Message
			for at := range int64(60) {
				messages = append(messages, message(at, 10))
			}
			if err := r.Messages(t.Context(), source, messages, 60); err != nil && !errors.Is(err, want) {
				t.Fatal(err)
			}
			if err := r.Drain(t.Context(), source); !errors.Is(err, want) {
				t.Errorf("drain says %v, want %v", err, want)
			}
			select {
			case err := <-r.Failed():
				if !errors.Is(err, want) {
					t.Errorf("failed with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("nobody was told")
			}
			r.empty(t)
			if landed := r.zone.landed[source]; len(landed) > 50 {
				t.Errorf("%d records landed behind the fault", len(landed)-50)
			}
		})
	}
}

// Another writer commits the same offsets, again and again. Every record lands exactly once, whoever landed it, also
// when the source goes on before Rewind has returned.
func TestRewind(t *testing.T) {
	still(t)
	for _, sloppy := range []int32{0, 3} {
		t.Run(fmt.Sprintf("sloppy %d", sloppy), func(t *testing.T) {
			limits := roomy
			limits.Age = 20 * time.Millisecond
			r := newRig(t, limits)
			r.feed.sloppy.Store(sloppy)
			random := rand.New(rand.NewPCG(1, uint64(sloppy)))
			rivals, reloads := 0, 0
			r.zone.script = func(seg *record.Segment, attempt int) error {
				time.Sleep(time.Duration(random.Int64N(int64(time.Millisecond))))
				if rivals < 12 && attempt == 1 && random.IntN(3) == 0 {
					rivals++
					r.zone.rival(seg.Source, 1+random.Int64N(120)) // less or more than what is in hand
				}
				return nil
			}
			r.zone.reload = func() error {
				if reloads++; reloads%4 == 2 {
					return errors.New("the disk does not answer")
				}
				return nil
			}
			r.open(t, source)
			const n = 3_000
			r.landAll(t, source, n)
			if lost := count[Lost](r.sink); lost == 0 || lost > rivals || r.feed.rewinds < lost {
				t.Errorf("%d rivals, %d lost, %d rewinds", rivals, lost, r.feed.rewinds)
			}
			if sloppy > 0 && r.feed.rewinds == count[Lost](r.sink) {
				t.Error("no message came during a Rewind: the test shows nothing")
			}
		})
	}
}

// completeUpTo is complete for a zone in which a rival may have gone further than the source.
func (z *zone) completeUpTo(src record.Source, n int64) {
	z.t.Helper()
	next := z.heads[src].Next()
	if next < n {
		z.t.Fatalf("landed up to %d of %d", next, n)
	}
	z.complete(src, next)
}

func TestUnknownStreams(t *testing.T) {
	r := newRig(t, roomy)
	other := record.Source{Topic: "other", ID: "x"}
	if err := r.Open(other, landing.Head{Source: other}); !errors.Is(err, ErrNoContract) {
		t.Errorf("a topic without a contract: %v", err)
	}
	if err := r.Messages(t.Context(), source, []record.Message{message(0, 1)}, 1); err == nil {
		t.Error("messages of a stream that is not open were taken")
	}
	if err := r.Refuse(t.Context(), source, message(0, 1), finding.RowMalformed, nil); err == nil {
		t.Error("a message of a stream that is not open was taken")
	}
	r.open(t, source)
	if err := r.Open(source, landing.Head{Source: source}); err == nil {
		t.Error("a stream was opened twice")
	}
	if err := r.Refuse(t.Context(), source, message(0, 1), finding.RowMalformed, nil); err != nil {
		t.Error(err)
	}
	r.give(t, source, 1, 3, 1)
	r.drain(t, source)
	r.zone.complete(source, 3)
	if err := r.Drain(t.Context(), source); err != nil { // nothing is left to drain
		t.Error(err)
	}
	reasons := map[finding.Code]int{}
	for _, e := range r.told.events {
		for _, code := range e.Reasons {
			reasons[code]++
		}
	}
	if want := map[finding.Code]int{finding.RowMalformed: 1, finding.PoisonOutlier: 1}; !maps.Equal(reasons, want) {
		t.Errorf("the provider was told %v, want %v", reasons, want)
	}
}

// Segments that end by age are at least half as old, and from the second one on they end at their stream's ticks.
func TestSegmentsEndAtTheirStreamsTicks(t *testing.T) {
	const age = 1000
	for since := range time.Duration(3 * age) {
		first := mayGrow(age, since)
		if first < age/2 || first > age {
			t.Fatalf("opened %d after a tick, a segment may be %d old", since, first)
		}
		second := mayGrow(age, since+first)
		if second < age/2 || second > age || (since+first+second)%age > 1 {
			t.Fatalf("opened %d after a tick, segments of %d and %d do not end at one", since, first, second)
		}
	}
}

// Streams share one step that judges, so their segments of one age must not end together, however many there are.
func TestStreamsTickApart(t *testing.T) {
	p := New(nil, nil, nil, nil, nil, Limits{Age: time.Second}, nil)
	var phases []time.Duration
	for n := 1; n <= 100; n++ {
		phases = append(phases, p.began.Sub(p.ticks()))
		sorted := slices.Sorted(slices.Values(phases))
		least := sorted[0] + time.Second - sorted[n-1]
		for i := range n - 1 {
			least = min(least, sorted[i+1]-sorted[i])
		}
		if least < time.Second/time.Duration(3*n) {
			t.Errorf("two of %d streams tick within %v", n, least)
		}
	}
}
