package pipeline

import (
	"sync"
	"time"

	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
)

// A batch has so many rows, or bytes of messages, at most; what goes over the edge is still in it.
const (
	batchRows  = 4096
	batchBytes = 4 << 20
)

// part is consecutive messages of a segment, which are built together: one batch, or more where columns cannot take
// all. Where one part ends and the next begins is told by the messages alone, so batches are the same however many
// cores build them.
type part struct {
	messages []record.Message
	leases   []*reuse.Lease       // of the messages' bytes
	codes    map[int]finding.Code // why the source could not read some of them as records
	bytes    int64                // of keys and values
	raw      int64                // of headers as well, as they count against the memory bound
	batches  []*record.Batch
}

// add takes in a message of n bytes. It returns whether the part is full.
func (p *part) add(m *record.Message, n int64, code finding.Code, lease *reuse.Lease) bool {
	if last := len(p.leases) - 1; lease != nil && (last < 0 || p.leases[last] != lease) {
		p.leases = append(p.leases, lease.Hold())
	}
	if code != "" {
		if p.codes == nil {
			p.codes = map[int]finding.Code{}
		}
		p.codes[len(p.messages)] = code
	}
	p.messages = append(p.messages, *m)
	p.bytes += int64(len(m.Key) + len(m.Value))
	p.raw += n
	return len(p.messages) >= batchRows || p.bytes >= batchBytes
}

// build has the pending part built. It runs under mu.
func (s *stream) build() {
	part, open := s.pending, s.open
	s.pending = nil
	open.parts = append(open.parts, part)
	open.building++
	s.running++
	s.builds.Add(1)
	go func() {
		defer s.builds.Done()
		s.p.building <- struct{}{}
		took := s.p.build(s.topic.Contract, part)
		<-s.p.building
		s.built(open, part, took)
	}()
}

// built puts a part where its segment finds it. From then on its columns take up memory and its messages no longer do:
// of numbers and vectors little is left.
func (s *stream) built(whole *piece, part *part, took time.Duration) {
	freed := part.raw
	for _, b := range part.batches {
		freed -= footprint(b)
	}
	freed = max(0, freed)
	s.mu.Lock()
	defer s.mu.Unlock()
	whole.built += took
	whole.held -= freed
	if s.open == whole {
		s.openBytes.Add(-freed)
	}
	s.p.memory.release(freed)
	s.running--
	if whole.building--; whole.building == 0 && whole.dropped {
		s.discard(whole)
	}
	s.changed.Broadcast()
}

// build makes batches of a part's messages, and drops these.
func (p *Pipeline) build(c *contract.Contract, part *part) time.Duration {
	start := time.Now()
	builder := p.idle.builder(c)
	take := func() {
		if b := builder.Take(); b != nil {
			part.batches = append(part.batches, b)
		}
	}
	for i := range part.messages {
		if code, broken := part.codes[i]; broken {
			builder.Refuse(part.messages[i], code)
		} else {
			builder.Add(part.messages[i])
		}
		if builder.Full() {
			take()
		}
	}
	take()
	p.idle.keep(c, builder, part.messages)
	for _, lease := range part.leases {
		lease.Release() // refused messages have bytes of their own
	}
	part.messages, part.codes, part.leases = nil, nil, nil
	return time.Since(start)
}

// idle keeps what parts were built with for the next ones: as many builders of a contract as were ever busy at a
// time, and the room for messages.
type idle struct {
	mu       sync.Mutex
	builders map[*contract.Contract][]*batch.Builder
	rooms    [][]record.Message
}

func (i *idle) builder(c *contract.Contract) *batch.Builder {
	i.mu.Lock()
	defer i.mu.Unlock()
	if known := i.builders[c]; len(known) > 0 {
		i.builders[c] = known[:len(known)-1]
		return known[len(known)-1]
	}
	return batch.NewBuilderIn(c, &reuse.Shared) // which a piece's memory goes back to when it is discarded
}

func (i *idle) keep(c *contract.Contract, builder *batch.Builder, room []record.Message) {
	const most = 64 // rooms: a hundred partitions may have parts under way, and then none again for long
	clear(room)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.builders == nil {
		i.builders = map[*contract.Contract][]*batch.Builder{}
	}
	i.builders[c] = append(i.builders[c], builder)
	if len(i.rooms) < most {
		i.rooms = append(i.rooms, room[:0])
	}
}

// newPart returns an empty part.
func (p *Pipeline) newPart() *part {
	p.idle.mu.Lock()
	defer p.idle.mu.Unlock()
	part := &part{}
	if n := len(p.idle.rooms); n > 0 {
		part.messages = p.idle.rooms[n-1]
		p.idle.rooms = p.idle.rooms[:n-1]
	}
	return part
}
