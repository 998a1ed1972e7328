// Package pipeline carries messages from any source to the landing zone: it builds batches, ends segments, has them
// scored and landed, and then tells the provider and the source.
//
// A Source's messages go through one stream, strictly in order, in three steps that run at the same time: the
// open segment is built, on as many cores as there are; a second step scores the segment before it; a third lands the
// one before that. At most one finished segment waits between two steps, and all streams share one bound on memory, so a
// slow step holds back the one before it, down to the source.
//
// MUST: a message is released only after the manifest that covers it was committed, or when the stream was abandoned
// and will be read again. MUST NOT: a message be skipped because a later step failed.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
	"github.com/tasterhq/taster/sink/landing"
)

// Scorer decides on the valid rows of a segment, by what is in it and by what is known before. It has the segment for itself until it
// returns, and may move what is in the columns but not change it. It is called by many streams at once.
type Scorer interface {
	Score(ctx context.Context, segment *record.Segment, known record.Memory) (*record.Decision, error)
}

// Lander makes a decided segment durable; landing.Zone is one. Commit returns landing.ErrLost when another writer's
// manifest stands where the segment's would, and may be repeated after other errors.
type Lander interface {
	Commit(ctx context.Context, segment *record.Segment, decision *record.Decision, c *contract.Contract, prev landing.Head) (landing.Head, error)
	Head(ctx context.Context, src record.Source, hint *landing.Hint) (landing.Head, error)
}

// Auditor enters a commit in the audit log; audit.Commits is one. A repeated entry is harmless.
type Auditor interface {
	Append(ctx context.Context, m *manifest.Manifest) error
}

// Publisher tells the provider what became of records. It may be told the same event twice.
type Publisher interface {
	Publish(ctx context.Context, events []finding.Event) error
}

// Feed is how the pipeline speaks back to where messages come from.
type Feed interface {
	// Landed says that everything before head.Next() is committed. An error is reported and otherwise ignored: it is
	// only a hint.
	Landed(ctx context.Context, src record.Source, head landing.Head) error
	// Rewind asks for the stream to be fed again from offset next. After Rewind returned, no message that was
	// fetched before it may be given to the pipeline.
	Rewind(src record.Source, next int64)
}

// Memory finds what segments are judged by beside themselves; states.Cache is one. It is asked by many streams at once.
type Memory interface {
	// Own returns the state that the last manifest of a source lists. An error may pass: the call is repeated until it
	// does, for rows that were judged without what was known cannot be judged again. What can never be read again is
	// for the Memory to tell, and comes back empty.
	Own(ctx context.Context, head landing.Head) (State, error)
	// Others returns the newest states of the topic's other sources that are known, in an order of their own. It waits
	// for none that cannot be had.
	Others(ctx context.Context, src record.Source) []State
}

// State is what the segments of a source have taught until one of its commits. It must not be changed.
type State struct {
	Data   []byte // nil: nothing
	Digest string // hex SHA-256 of Data; "" for nothing
}

// Topic is what the pipeline needs to know of one topic.
type Topic struct {
	Contract *contract.Contract
	Scorer   Scorer
	Memory   Memory // nil: each segment is judged by itself
}

// Limits say when a segment ends, whichever comes first, and how much memory messages may take.
type Limits struct {
	Records int
	Bytes   int64
	Age     time.Duration // at most; a segment may end at half of it, so that not all streams' end at once
	Memory  int64         // bytes of messages between source and landing zone, over all streams
}

const (
	// coresPerScorer is how many cores a segment has to itself while it is scored. A scorer uses several, and while it
	// works it has tables that are large whatever the segment: were all partitions scored at once, memory would grow
	// with their number.
	coresPerScorer = 8
)

// Pipeline holds the streams of one process.
type Pipeline struct {
	topics  map[string]Topic
	lander  Lander
	audit   Auditor
	publish Publisher // nil: nobody is told
	feed    Feed
	observe func(Event)
	limits  Limits
	memory  *memory
	scoring chan struct{} // holds a token for each segment that is being scored

	building chan struct{} // holds a token for each part that is being built
	idle     idle

	mu      sync.Mutex
	streams map[record.Source]*stream
	opened  int // streams, of which many may be closed again
	failed  chan error

	began time.Time
}

// New makes a pipeline. publish may be nil. observe is called from many goroutines and must not block.
func New(topics map[string]Topic, lander Lander, audit Auditor, publish Publisher, feed Feed, limits Limits, observe func(Event)) *Pipeline {
	p := &Pipeline{
		topics: topics, lander: lander, audit: audit, publish: publish, feed: feed, observe: observe, limits: limits,
		streams: map[record.Source]*stream{}, failed: make(chan error, 1), began: time.Now(),
	}
	p.memory = newMemory(limits.Memory, p.endLargest)
	p.building = make(chan struct{}, runtime.GOMAXPROCS(0))
	p.scoring = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/coresPerScorer))
	return p
}

// ticks returns when the segments of the next stream end that nothing else ends. However many streams there are, their ticks are about as far
// apart as they can be: multiples of the golden section, modulo an age. It runs under mu.
func (p *Pipeline) ticks() time.Time {
	const section = 0.6180339887498949
	_, phase := math.Modf(float64(p.opened) * section)
	p.opened++
	return p.began.Add(-time.Duration(phase * float64(p.limits.Age)))
}

// ErrNoContract says that messages came from a topic that no contract allows.
var ErrNoContract = errors.New("no contract allows this topic")

// Open begins a stream at head: its first message is the one at offset head.Next().
func (p *Pipeline) Open(src record.Source, head landing.Head) error {
	topic, ok := p.topics[src.Topic]
	if !ok {
		return fmt.Errorf("topic %q: %w", src.Topic, ErrNoContract)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams[src] != nil {
		return fmt.Errorf("topic %q partition %d is open already", src.Topic, src.Partition)
	}
	s := newStream(p, src, topic, head, p.ticks())
	p.streams[src] = s
	go s.score()
	go s.land()
	return nil
}

// Messages takes consecutive messages of a stream; next is the offset after the last one that the source has
// seen, control records included. It blocks while the pipeline is full. The messages' bytes must stay as they are
// until they have landed.
func (p *Pipeline) Messages(ctx context.Context, src record.Source, messages []record.Message, next int64) error {
	return p.Leased(ctx, src, messages, next, nil)
}

// Leased is Messages of messages whose bytes are leased: the pipeline holds the lease until they are columns. What is not
// taken in is not looked at after this returns.
func (p *Pipeline) Leased(ctx context.Context, src record.Source, messages []record.Message, next int64, lease *reuse.Lease) error {
	return p.add(ctx, src, messages, next, "", lease)
}

func (p *Pipeline) add(ctx context.Context, src record.Source, messages []record.Message, next int64, code finding.Code, lease *reuse.Lease) error {
	p.mu.Lock()
	s := p.streams[src]
	p.mu.Unlock()
	if s == nil {
		return fmt.Errorf("topic %q partition %d is not open", src.Topic, src.Partition)
	}
	return s.add(ctx, messages, next, code, lease)
}

// Refuse takes one message that its source could not even read as a record (a broken row of a CSV file). It
// counts like any other message, and its bytes may be leased like theirs.
func (p *Pipeline) Refuse(ctx context.Context, src record.Source, message record.Message, code finding.Code, lease *reuse.Lease) error {
	return p.add(ctx, src, []record.Message{message}, message.Offset+1, code, lease)
}

// Drain ends the open segment of a stream, waits until all of it has landed, and closes the stream. When ctx ends
// before, what has not landed is abandoned: it will be read again.
func (p *Pipeline) Drain(ctx context.Context, src record.Source) error {
	return p.close(src, func(s *stream) error {
		defer s.abandon()
		return s.drain(ctx)
	})
}

// Abandon closes a stream at once. What has not landed will be read again by whoever owns the partition next.
func (p *Pipeline) Abandon(src record.Source) error {
	return p.close(src, func(s *stream) error { s.abandon(); return nil })
}

func (p *Pipeline) close(src record.Source, end func(*stream) error) error {
	p.mu.Lock()
	s := p.streams[src]
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	err := end(s)
	p.mu.Lock()
	delete(p.streams, src)
	p.mu.Unlock()
	return err
}

// Sources lists the open streams.
func (p *Pipeline) Sources() []record.Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	sources := make([]record.Source, 0, len(p.streams))
	for src := range p.streams {
		sources = append(sources, src)
	}
	return sources
}

// Failed delivers the first error that no retry can mend. The pipeline must then be given up.
func (p *Pipeline) Failed() <-chan error { return p.failed }

func (p *Pipeline) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// endLargest ends the largest open segment when memory is used up, unless enough is under way to be freed soon.
func (p *Pipeline) endLargest() {
	p.mu.Lock()
	var largest *stream
	var most, open int64
	for _, s := range p.streams {
		size := s.openBytes.Load()
		open += size
		if size > most {
			largest, most = s, size
		}
	}
	p.mu.Unlock()
	p.memory.mu.Lock()
	underWay := p.memory.used - open
	p.memory.mu.Unlock()
	if largest != nil && underWay < p.limits.Memory/2 {
		largest.endEarly()
	}
}
