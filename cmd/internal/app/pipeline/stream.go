package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/landing"
)

// errClosed is returned to whoever feeds a stream that was abandoned.
var errClosed = errors.New("the stream was closed")

// piece is a segment on its way from one step to the next. Until all its parts are built, its stream's mu guards it.
type piece struct {
	segment  *record.Segment
	decision *record.Decision
	parts    []*part // in order of offset; none once they are the segment's batches
	building int     // of parts, how many are not built yet
	dropped  bool    // thrown away by whoever builds the last part
	bytes    int64   // of its messages
	held     int64   // to give back to the memory bound
	messages int
	oldest   int64
	built    time.Duration
	judged   time.Duration // once it was its turn
}

// gather makes the parts, all of which are built, the segment's batches.
func (p *piece) gather() {
	for _, part := range p.parts {
		p.segment.Batches = append(p.segment.Batches, part.batches...)
	}
	p.parts = nil
}

// stream is the way of one source's messages through the three steps. The fields below mu are guarded by it, and
// changed is signalled whenever one of them changes.
//
// The source's goroutine only cuts messages into parts and parts into segments; goroutines of the parts' own decode
// them, as many at a time as there are cores, and the scoring goroutine puts the batches together in order.
//
// A segment ends in three ways: the source's goroutine fills it, its age runs out, or memory is short. The latter two
// only set due, and the scoring goroutine takes the open segment itself: neither a timer nor another stream's
// goroutine ever waits for this one.
type stream struct {
	p      *Pipeline
	src    record.Source
	topic  Topic
	ctx    context.Context
	cancel context.CancelFunc
	steps  sync.WaitGroup
	builds sync.WaitGroup

	openBytes atomic.Int64 // size of the open segment, for endLargest

	mu      sync.Mutex
	changed sync.Cond
	pending *part // the open segment's messages that are not handed to a builder yet
	running int   // parts that are being built
	open    *piece
	age     *time.Timer
	ticks   time.Time // one of those at which segments end that nothing else has ended
	tail    int64     // where the next segment begins: the Next of the one before it
	next    int64     // offset after the last message taken in, control records included
	due     bool      // the open segment shall end now
	filled  *piece    // waits to be scored
	scored  *piece    // waits to be landed
	busy    int       // steps that have a piece in hand
	head    landing.Head
	own     *State // what was taught until the newest segment that was scored; nil: until head, and to be loaded
	epoch   int    // counts rewinds: a step whose piece is from an earlier one throws it away
	rewound bool   // between a rewind and the source's having heard of it
	dropped bool   // messages were given meanwhile
	closed  bool
	failed  error // why the stream closed itself
}

func newStream(p *Pipeline, src record.Source, topic Topic, head landing.Head, ticks time.Time) *stream {
	s := &stream{p: p, src: src, topic: topic, head: head, tail: head.Next(), next: head.Next(), ticks: ticks}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.changed.L = &s.mu
	s.steps.Add(2)
	return s
}

// wait waits for a change, or for ctx to end. It runs under mu.
func (s *stream) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	if ctx.Err() == nil {
		s.changed.Wait()
	}
}

func size(m *record.Message) int64 {
	n := int64(len(m.Key) + len(m.Value))
	for i := range m.Headers {
		n += int64(len(m.Headers[i].Key) + len(m.Headers[i].Value))
	}
	return n
}

// add takes in consecutive messages, in runs that are small against the memory bound. code is empty, or the reason
// why the source could not read them as records.
func (s *stream) add(ctx context.Context, messages []record.Message, next int64, code finding.Code, lease *reuse.Lease) error {
	const run = 256 << 10
	s.mu.Lock()
	epoch := s.epoch
	if s.rewound {
		s.dropped = true
	}
	s.mu.Unlock()
	for len(messages) > 0 {
		var bytes int64
		n := 0
		for n < len(messages) && (n == 0 || bytes < run) {
			bytes += size(&messages[n])
			n++
		}
		if err := s.p.memory.acquire(ctx, bytes); err != nil {
			return err
		}
		unused, err := s.take(ctx, messages[:n], bytes, epoch, code, lease)
		s.p.memory.release(unused)
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.over()
	}
	if !s.stale(epoch) && next > s.next {
		s.begin() // control records at the end of a partition are committed too, when their segment's age is up
		s.next = next
	}
	return nil
}

// stale tells whether what was fetched in epoch must be dropped: the source feeds it again. It runs under mu.
func (s *stream) stale(epoch int) bool { return s.epoch != epoch || s.rewound }

// take adds a run of messages to the open segment, ending it whenever it is full. It returns how many of the bytes
// were not taken in.
func (s *stream) take(ctx context.Context, messages []record.Message, bytes int64, epoch int, code finding.Code, lease *reuse.Lease) (unused int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range messages {
		if s.closed {
			return unused + bytes, s.over()
		}
		if s.stale(epoch) {
			return unused + bytes, nil
		}
		m := &messages[i]
		n := size(m)
		bytes -= n
		if m.Offset < s.next {
			unused += n // fetched twice: it is in a segment already
			continue
		}
		open := s.begin()
		if open.messages == 0 {
			open.oldest = m.Timestamp
		}
		open.messages++
		open.bytes += n
		open.held += n
		s.openBytes.Add(n)
		s.next = m.Offset + 1
		if s.pending == nil {
			s.pending = s.p.newPart()
		}
		if s.pending.add(m, n, code, lease) {
			s.build()
		}
		if open.messages >= s.p.limits.Records || open.bytes >= s.p.limits.Bytes {
			for s.filled != nil && !s.closed && !s.stale(epoch) {
				if ctx.Err() != nil {
					return unused + bytes, context.Cause(ctx)
				}
				s.wait(ctx)
			}
			// While this goroutine waited, the open segment may have been taken for its age, or thrown away.
			if s.open == open && s.filled == nil {
				s.filled = s.end()
			}
		}
		for s.running > cap(s.p.building) && !s.closed && !s.stale(epoch) {
			if ctx.Err() != nil {
				return unused + bytes, context.Cause(ctx)
			}
			s.wait(ctx)
		}
	}
	return unused, nil
}

// begin returns the open segment, opening one where there is none. It runs under mu.
func (s *stream) begin() *piece {
	if s.open != nil {
		return s.open
	}
	opened := &piece{segment: &record.Segment{Source: s.src, First: s.tail, Opened: time.Now().Add(killpoint.Skew()).UnixMilli()}}
	s.open = opened
	s.age = time.AfterFunc(mayGrow(s.p.limits.Age, time.Since(s.ticks)), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open == opened {
			s.due = true
			s.changed.Broadcast()
		}
	})
	return opened
}

// mayGrow returns how long a segment that is opened so long after its stream's first tick may stay open: until a tick, of which
// there is one in every age. Each stream has ticks of its own, so that segments of one age do not all wait for each other to be
// judged. Less than half an age is not worth a segment: two of equal length end at the tick behind it.
func mayGrow(age, since time.Duration) time.Duration {
	tick := age - since%age
	if tick < age/2 {
		return (age + tick) / 2
	}
	return tick
}

// end closes the open segment and returns it; nil where there is none. It runs under mu.
func (s *stream) end() *piece {
	ended := s.open
	if ended == nil {
		return nil
	}
	if s.pending != nil {
		s.build()
	}
	s.age.Stop()
	ended.segment.Next = s.next
	s.tail = s.next
	s.open, s.due = nil, false
	s.openBytes.Store(0)
	s.changed.Broadcast()
	return ended
}

func (s *stream) endEarly() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.due = true
		s.changed.Broadcast()
	}
}

// discard gives back what a piece held, once all its parts are built. It runs under mu, or without where they are.
func (s *stream) discard(piece *piece) {
	switch {
	case piece == nil:
	case piece.building > 0:
		piece.dropped = true
	default:
		piece.gather()
		piece.segment.Release()
		s.p.memory.release(piece.held)
	}
}

// score is the second step.
func (s *stream) score() {
	defer s.steps.Done()
	for {
		s.mu.Lock()
		for !s.closed && s.filled == nil && !(s.due && s.open != nil) {
			s.changed.Wait()
		}
		if s.closed {
			s.mu.Unlock()
			return
		}
		piece := s.filled
		s.filled = nil
		if piece == nil {
			piece = s.end()
		}
		epoch := s.epoch
		s.busy++
		s.changed.Broadcast()
		for piece.building > 0 {
			s.changed.Wait()
		}
		piece.gather()
		s.mu.Unlock()

		killpoint.Reach("segment_ended")
		err := s.judge(piece, epoch)
		killpoint.Reach("segment_scored")

		s.mu.Lock()
		if err != nil {
			s.giveUp(err)
		}
		for s.scored != nil && !s.closed && s.epoch == epoch {
			s.changed.Wait()
		}
		s.busy--
		if s.closed || s.epoch != epoch {
			s.discard(piece)
		} else {
			s.scored = piece
			s.p.observe(Scored{Source: s.src, Records: piece.messages, Bytes: piece.bytes, Built: piece.built, Took: piece.judged})
		}
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// judge has a piece scored when it is its turn, by what the segments before it have taught and what is known of other
// sources. A piece of an earlier epoch is left as it is: it is thrown away.
func (s *stream) judge(piece *piece, epoch int) (err error) {
	var own State
	var others []State
	if s.topic.Memory != nil {
		var stale bool
		if own, stale, err = s.taught(epoch); err != nil || stale {
			return err
		}
		others = s.topic.Memory.Others(s.ctx, s.src)
	}
	select {
	case s.p.scoring <- struct{}{}:
		defer func() { <-s.p.scoring }()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	start := time.Now()
	known := record.Memory{Own: own.Data}
	for _, other := range others {
		known.Others = append(known.Others, other.Data)
	}
	piece.decision, err = s.topic.Scorer.Score(s.ctx, piece.segment, known)
	piece.judged = time.Since(start)
	if err != nil || s.topic.Memory == nil {
		return err
	}
	piece.decision.Judged = digests(own, others)
	s.learnt(epoch, piece.decision.State)
	return nil
}

// taught returns what the segments before the next one to be scored have taught. It is handed on from one to the next,
// whether the one before has landed yet or not: what a segment taught is landed with it or thrown away with it, and with
// all that were judged by it. Only the first segment of an epoch goes on from what was committed.
func (s *stream) taught(epoch int) (own State, stale bool, err error) {
	s.mu.Lock()
	known, head := s.own, s.head
	stale = s.epoch != epoch
	s.mu.Unlock()
	if stale || known != nil {
		if known != nil {
			own = *known
		}
		return own, stale, nil
	}
	err = s.retry("state", func(ctx context.Context) (err error) {
		own, err = s.topic.Memory.Own(ctx, head)
		return err
	})
	killpoint.Reach("state_loaded")
	return own, false, err
}

// learnt keeps what was taught until now for the next segment.
func (s *stream) learnt(epoch int, data []byte) {
	state := NewState(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		s.own = &state
	}
}

// NewState returns the state with these bytes.
func NewState(data []byte) State {
	if data == nil {
		return State{}
	}
	sum := sha256.Sum256(data)
	return State{Data: data, Digest: hex.EncodeToString(sum[:])}
}

// digests returns those of all states, sorted, each once.
func digests(own State, others []State) []string {
	var out []string
	if own.Digest != "" {
		out = append(out, own.Digest)
	}
	for _, other := range others {
		out = append(out, other.Digest)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// land is the third step.
func (s *stream) land() {
	defer s.steps.Done()
	for {
		s.mu.Lock()
		for !s.closed && s.scored == nil {
			s.changed.Wait()
		}
		if s.closed {
			s.mu.Unlock()
			return
		}
		piece, head, epoch := s.scored, s.head, s.epoch
		s.scored = nil
		s.busy++
		s.changed.Broadcast()
		s.mu.Unlock()

		killpoint.Reach("commit_begun")
		next, err := s.commit(piece, head)
		if err == nil {
			killpoint.Reach("commit_done")
			s.tell(piece, next)
		} else if errors.Is(err, landing.ErrLost) {
			err = s.rewind(piece.segment.First)
		}
		s.discard(piece)

		s.mu.Lock()
		if err != nil {
			s.giveUp(err)
		} else if s.epoch == epoch {
			s.head = next
		}
		s.busy--
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// commit lands a piece, again and again until it is known who won. A broken store delays, it never drops.
func (s *stream) commit(piece *piece, head landing.Head) (landing.Head, error) {
	start := time.Now()
	var next landing.Head
	err := s.retry("commit", func(ctx context.Context) (err error) {
		next, err = s.p.lander.Commit(ctx, piece.segment, piece.decision, s.topic.Contract, head)
		return err
	})
	if err != nil {
		return next, err
	}
	landed := Landed{
		Source: s.src, First: piece.segment.First, Next: piece.segment.Next, Bytes: piece.bytes, Risk: piece.decision.Risk,
		Took: time.Since(start), Oldest: piece.oldest, Reasons: map[finding.Code]int{},
		State: len(piece.decision.State), Recalls: map[finding.Code]int{}, Forgotten: piece.decision.Forgotten,
	}
	for i := range piece.decision.Recalls {
		landed.Recalls[piece.decision.Recalls[i].Code]++
	}
	for _, v := range piece.decision.Verdicts {
		landed.Verdicts[v]++
	}
	for _, codes := range piece.decision.Reasons {
		for _, code := range codes {
			landed.Reasons[code]++
		}
	}
	for _, b := range piece.segment.Batches {
		landed.Verdicts[finding.Rejected] += len(b.Refused)
		for i := range b.Refused {
			landed.Reasons[b.Refused[i].Code]++
		}
	}
	s.p.observe(landed)
	return next, nil
}

// tell enters the commit in the audit log, and then lets the provider and the source know. All of it can be repeated by
// whoever reads the partition next, so a stream that is closed meanwhile just stops.
func (s *stream) tell(piece *piece, head landing.Head) {
	if s.retry("audit", func(ctx context.Context) error { return s.p.audit.Append(ctx, head.Last.Manifest) }) != nil {
		return
	}
	killpoint.Reach("audit_done")
	if s.p.publish != nil {
		if events := eventsOf(piece.segment, piece.decision); len(events) > 0 {
			killpoint.Reach("events_begun")
			if err := s.retry("publish", func(ctx context.Context) error { return s.p.publish.Publish(ctx, events) }); err != nil {
				return
			}
			killpoint.Reach("events_done")
		}
	}
	if err := s.p.feed.Landed(s.ctx, s.src, head); err != nil && s.ctx.Err() == nil {
		s.p.observe(HintFailed{Source: s.src, Err: err})
	}
}

// retry runs step until it succeeds, is lost or the stream is closed.
func (s *stream) retry(name string, step func(context.Context) error) error {
	wait := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := step(s.ctx)
		if err == nil || errors.Is(err, landing.ErrLost) || s.ctx.Err() != nil || errors.Is(err, landing.ErrCorrupt) {
			return err
		}
		s.p.observe(Retrying{Source: s.src, Step: name, Attempt: attempt, Err: err})
		select {
		case <-s.ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// rewind throws away everything in hand: another writer has committed the offsets that begin at first. The stream
// goes on behind what that writer landed, and the source feeds it from there.
//
//	this writer                         the other writer
//	commit [100, 200) under way
//	                                    commits [100, 150)
//	learns that it lost
//	[200, 300) is scored: stale
//	goes on at 150: [150, …)            meets that name and loses in turn
func (s *stream) rewind(first int64) error {
	s.mu.Lock()
	s.epoch++
	s.own = nil // what was thrown away has taught nothing
	s.rewound = true
	if s.open != nil {
		s.discard(s.end())
	}
	s.discard(s.filled)
	s.discard(s.scored)
	s.filled, s.scored = nil, nil
	head := s.head
	s.changed.Broadcast()
	s.mu.Unlock()

	killpoint.Reach("rewind_begun")
	hint := landing.Hint{TopicID: s.src.ID, First: head.First(), Next: head.Next()}
	err := s.retry("reload", func(ctx context.Context) (err error) {
		head, err = s.p.lander.Head(ctx, s.src, &hint)
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.head, s.tail, s.next, s.dropped = head, head.Next(), head.Next(), false
	s.mu.Unlock()
	killpoint.Reach("rewind_reloaded")
	s.p.observe(Lost{Source: s.src, First: first, Next: head.Next()})
	// Messages that come while the source is being told are of before or of after, and nobody can tell. They are
	// dropped, and if there were any the source is told again, lest the first of after be missing.
	for again := true; again; {
		s.p.feed.Rewind(s.src, head.Next())
		s.mu.Lock()
		again = s.dropped && !s.closed
		s.rewound, s.dropped = again, false
		s.changed.Broadcast()
		s.mu.Unlock()
	}
	killpoint.Reach("rewind_done")
	return nil
}

// giveUp closes the stream for an error that no retry mends: nothing behind the lost piece may land. It runs under
// mu.
func (s *stream) giveUp(err error) {
	if s.ctx.Err() == nil {
		s.failed = err
		s.p.fail(err)
	}
	s.closed = true
	s.changed.Broadcast()
}

// over says why a closed stream takes nothing more. It runs under mu.
func (s *stream) over() error {
	if s.failed != nil {
		return s.failed
	}
	return errClosed
}

// drain ends the open segment and waits until everything has landed.
func (s *stream) drain(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed { // what it had in hand was thrown away
			return s.over()
		}
		if s.open == nil && s.filled == nil && s.scored == nil && s.busy == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.due = s.open != nil
		s.changed.Broadcast()
		s.wait(ctx)
	}
}

// abandon stops the steps and throws away what has not landed.
func (s *stream) abandon() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	if s.open != nil {
		s.discard(s.end())
	}
	s.discard(s.filled)
	s.discard(s.scored)
	s.filled, s.scored = nil, nil
	s.changed.Broadcast()
	s.mu.Unlock()
	s.steps.Wait()
	s.builds.Wait()
}

// eventsOf lists what the provider is told: every record that was not accepted, and every one that is recalled.
func eventsOf(segment *record.Segment, decision *record.Decision) []finding.Event {
	var events []finding.Event
	event := func(offset int64, verdict finding.Verdict, reasons ...finding.Code) {
		events = append(events, finding.Event{
			Topic: segment.Topic, TopicID: segment.ID, Partition: segment.Partition, Offset: offset, Verdict: verdict, Reasons: reasons,
		})
	}
	row := 0
	for _, b := range segment.Batches {
		for _, origin := range b.Origins {
			if decision.Verdicts[row] != finding.Accepted {
				event(origin.Offset, decision.Verdicts[row], decision.Reasons[row]...)
			}
			row++
		}
		for i := range b.Refused {
			event(b.Refused[i].Offset, finding.Rejected, b.Refused[i].Code)
		}
	}
	return append(events, RecallEvents(decision.Recalls)...)
}

// RecallEvents returns what providers are told of recalled records. They stay accepted until somebody decides otherwise.
func RecallEvents(recalls []record.Recall) []finding.Event {
	var events []finding.Event
	for i := range recalls {
		r := &recalls[i]
		events = append(events, finding.Event{
			Topic: r.Topic, TopicID: r.ID, Partition: r.Partition, Offset: r.Offset, Verdict: finding.Accepted, Reasons: []finding.Code{r.Code}, Change: finding.Recall,
		})
	}
	return events
}
