package kafka

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/record"
)

// recordOverhead is what a message costs in memory beside its bytes: the message, the client's own record of it, and
// the share of their slices. Without it, a partition of tiny records would be far over its bound.
const recordOverhead = 256

// A chunk holds no more than half of a partition's share, and no more than this (but one record at least): while the
// handler has a chunk, its memory cannot be had back.
const (
	chunkRecords = 8192
	chunkBytes   = 1 << 20
)

// chunk is a run of records of one partition.
type chunk struct {
	msgs  []record.Message
	first int64 // the offset from which to read on to get the chunk again
	next  int64 // the last polled offset plus one, control records included
	bytes int64 // of memory
}

// newChunk takes a chunk of about so many bytes off the front of records, and returns the rest. It copies the records' descriptions, not
// their bytes. Control records are left out of the messages, and move next all the same.
func newChunk(first int64, records []*kgo.Record, bytes int64) (chunk, []*kgo.Record) {
	c := chunk{first: first}
	n, headers := 0, 0
	for n < len(records) && (n == 0 || n < chunkRecords && c.bytes < bytes) {
		r := records[n]
		c.bytes += int64(len(r.Key)+len(r.Value)) + recordOverhead
		for _, h := range r.Headers {
			c.bytes += int64(len(h.Key) + len(h.Value))
		}
		headers += len(r.Headers)
		n++
	}
	c.next = records[n-1].Offset + 1
	c.msgs = make([]record.Message, 0, n)
	slab := make([]record.Header, 0, headers)
	for _, r := range records[:n] {
		if r.Attrs.IsControl() {
			continue
		}
		mine := len(slab)
		for _, h := range r.Headers {
			slab = append(slab, record.Header(h))
		}
		c.msgs = append(c.msgs, record.Message{
			Offset:    r.Offset,
			Timestamp: r.Timestamp.UnixMilli(),
			Key:       r.Key,
			Value:     r.Value,
			Headers:   slab[mine:len(slab):len(slab)],
		})
	}
	return c, records[n:]
}

// The reasons for which a partition is not fetched. It is fetched again when none is left.
type holdReason uint8

const (
	heldFull    holdReason = 1 << iota // the handler is slower than the broker
	heldError                          // the broker refuses; tried again later
	heldStopped                        // cannot be read on without loss
)

// partition is one assigned source: a bounded queue, and the goroutine that empties it into the handler.
//
// The poll loop pushes, the goroutine pops, and the group's callbacks stop it. Everything that touches the client's
// fetching of this partition (pause, resume, seek) is done with mu held and stopping false: stop takes mu first, and
// the group gives the partition away only after stop has returned. So nothing here can disturb whoever has the
// partition next, this member included.
type partition struct {
	c   *Consumer
	src record.Source

	ctx     context.Context // of the handler's calls; ends when the partition is taken away
	cancel  context.CancelFunc
	ready   chan struct{} // holds one token when the queue may have grown
	drained chan struct{} // closed when the goroutine has ended
	stopped chan struct{} // closed when Revoked has returned

	mu       sync.Mutex
	queue    []chunk
	buffered int64         // bytes of queue and of the chunk that the handler has
	inHand   chan struct{} // closed when the handler is done with its chunk; nil when it has none
	next     int64         // the offset after the last pushed one; what the log must go on with
	high     int64         // the high watermark, as last heard
	held     holdReason
	rewound  bool // the next push may be of what was fetched before a rewind
	stopping bool
}

func (c *Consumer) newPartition(ctx context.Context, src record.Source, start int64) *partition {
	p := &partition{
		c: c, src: src, next: start, high: start,
		ready:   make(chan struct{}, 1),
		drained: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	go p.work()
	return p
}

// work hands chunk after chunk to the handler until the partition is taken away.
func (p *partition) work() {
	defer close(p.drained)
	for {
		next, ok := p.pop()
		if !ok {
			select {
			case <-p.ready:
				continue
			case <-p.ctx.Done():
				return
			}
		}
		err := p.c.handler.Messages(p.ctx, p.src, next.msgs, next.next)
		p.release(next.bytes)
		if err != nil {
			if p.ctx.Err() == nil {
				p.c.fail(fmt.Errorf("topic %s partition %d: %w", p.src.Topic, p.src.Partition, err))
			}
			return
		}
	}
}

func (p *partition) pop() (chunk, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 || p.stopping {
		return chunk{}, false
	}
	c := p.queue[0]
	p.queue[0] = chunk{}
	p.queue = p.queue[1:]
	p.inHand = make(chan struct{})
	return c, true
}

// push queues what was polled, and pauses the partition when it holds its share. A log that goes on before the offset
// that was wanted was truncated and written anew: that stops the partition.
func (p *partition) push(records []*kgo.Record, high int64) {
	p.mu.Lock()
	if p.stopping || p.held&heldStopped != 0 {
		p.mu.Unlock()
		return
	}
	if p.rewound {
		p.rewound = false
		p.seekTo(p.next)
		p.mu.Unlock()
		return
	}
	if first := records[0].Offset; first < p.next {
		wanted := p.next
		p.mu.Unlock()
		p.stopReading(fmt.Errorf("the log gave offset %d after offset %d had been read: it was truncated and written anew", first, wanted-1))
		return
	}
	share := p.c.share.Load()
	for len(records) > 0 {
		var c chunk
		c, records = newChunk(p.next, records, min(share/2, chunkBytes))
		p.queue = append(p.queue, c)
		p.next = c.next
		p.buffered += c.bytes
		p.c.buffered.Add(c.bytes)
	}
	p.high = max(high, p.next)
	full := p.buffered > share && p.hold(heldFull)
	buffered := p.buffered
	p.mu.Unlock()
	select {
	case p.ready <- struct{}{}:
	default:
	}
	if full {
		p.c.events.Paused(p.src, buffered)
	}
}

// release gives back the memory of a chunk that the handler is done with.
func (p *partition) release(bytes int64) {
	p.mu.Lock()
	close(p.inHand)
	p.inHand = nil
	p.buffered -= bytes
	resumed := !p.stopping && p.buffered <= p.c.share.Load()/2 && p.unhold(heldFull)
	buffered := p.buffered
	p.mu.Unlock()
	p.c.freed(bytes)
	if resumed {
		p.c.events.Resumed(p.src, buffered)
	}
}

// hold stops fetching for a reason, and reports whether that reason is new. Call with mu held and stopping false.
func (p *partition) hold(why holdReason) bool {
	if p.held&why != 0 {
		return false
	}
	if p.held == 0 {
		p.c.client.PauseFetchPartitions(p.asMap())
	}
	p.held |= why
	return true
}

// unhold takes a reason back, and reports whether it was one. Call with mu held and stopping false.
func (p *partition) unhold(why holdReason) bool {
	if p.held&why == 0 {
		return false
	}
	p.held &^= why
	if p.held == 0 {
		p.c.client.ResumeFetchPartitions(p.asMap())
	}
	return true
}

func (p *partition) asMap() map[string][]int32 {
	return map[string][]int32{p.src.Topic: {p.src.Partition}}
}

// whileOurs runs f with mu held if the partition was not taken away.
func (p *partition) whileOurs(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		f()
	}
}

// stopReading ends the reading of a partition that cannot go on without loss. What was read before is worked off.
func (p *partition) stopReading(err error) {
	first := false
	p.whileOurs(func() { first = p.hold(heldStopped) })
	if first {
		p.c.events.Stopped(p.src, err)
	}
}

// seek goes on at a later offset, where the log begins.
func (p *partition) seek(start int64) {
	p.whileOurs(func() {
		defer p.c.events.Gap(p.src, p.next, start)
		p.next, p.high = start, max(p.high, start)
		p.seekTo(start)
		p.unhold(heldError)
	})
}

// queued is the memory that shed would give back.
func (p *partition) queued() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held&heldFull == 0 {
		return 0
	}
	var n int64
	for _, c := range p.queue {
		n += c.bytes
	}
	return n
}

// shed drops what a paused partition has queued. It is read again when the partition is resumed.
func (p *partition) shed() {
	var freed int64
	p.whileOurs(func() {
		if len(p.queue) == 0 || p.held&heldFull == 0 {
			return
		}
		p.next = p.queue[0].first
		for _, c := range p.queue {
			freed += c.bytes
		}
		p.queue = nil
		p.buffered -= freed
		p.c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{
			p.src.Topic: {p.src.Partition: {Epoch: -1, Offset: p.next}},
		})
		if p.buffered == 0 {
			p.unhold(heldFull)
		}
	})
	p.c.freed(freed)
}

// stop takes the partition away from the handler: no call of Messages is under way when Revoked is called, and none
// follows. Only the first call does the work; all of them return when it is done.
func (p *partition) stop(ctx context.Context, lost bool) {
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		<-p.stopped
		return
	}
	if p.held != 0 {
		p.c.client.ResumeFetchPartitions(p.asMap()) // a pause outlives the assignment
		p.held = 0
	}
	p.stopping = true
	var dropped int64
	for _, c := range p.queue {
		dropped += c.bytes
	}
	p.queue = nil
	p.buffered -= dropped
	p.mu.Unlock()
	defer close(p.stopped)
	p.c.freed(dropped)
	p.cancel()

	select {
	case <-p.drained:
	case <-ctx.Done():
		// The handler holds on to a partition that others wait for. It cannot be made to stop; ending the whole
		// Consumer is what is left. The landing zone's own commit protocol keeps this from doing harm.
		p.c.fail(fmt.Errorf("topic %s partition %d: the handler did not let go of it in time", p.src.Topic, p.src.Partition))
		return
	}
	if err := p.c.handler.Revoked(ctx, p.src, lost); err != nil {
		p.c.fail(fmt.Errorf("topic %s partition %d: %w", p.src.Topic, p.src.Partition, err))
	}
	p.c.events.Revoked(p.src, lost)
}
