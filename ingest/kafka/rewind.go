package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/record"
)

// Rewind goes on with a source at another offset than the one that is next: another writer's commit showed that what
// was read in between must be read again, or need not be read at all. When Rewind has returned, no message that was
// fetched before it is handed over any more. For that it waits until a call of Messages that is under way has
// returned: it must not be called from within one, nor while holding what one waits for.
//
// A source that is not assigned any more is left alone.
func (c *Consumer) Rewind(src record.Source, next int64) {
	c.mu.Lock()
	p := c.partitions[partitionKey{src.Topic, src.Partition}]
	c.mu.Unlock()
	if p != nil && p.src == src {
		p.rewind(next)
	}
}

// rewind drops what is queued and seeks. A poll that is under way may still bring what was fetched before: push drops
// that and seeks again, since it cannot tell it from what was fetched after.
//
//	poll loop                          rewind
//	has [300, 400) in hand
//	                                   drops the queue, seeks to 150
//	push [300, 400): dropped, seeks to 150
//	push [150, …)
func (p *partition) rewind(next int64) {
	var dropped int64
	var inHand chan struct{}
	resumed := false
	p.whileOurs(func() {
		for _, c := range p.queue {
			dropped += c.bytes
		}
		p.queue = nil
		p.buffered -= dropped
		p.next, p.rewound = next, true
		inHand = p.inHand
		p.seekTo(next)
		resumed = p.buffered <= p.c.share.Load()/2 && p.unhold(heldFull)
	})
	p.c.freed(dropped)
	if resumed {
		p.c.events.Resumed(p.src, 0)
	}
	// The goroutine may have taken a chunk and not have come to call the handler with it.
	if inHand != nil {
		<-inHand
	}
}

// seekTo sets the client's offset. Call with mu held and stopping false.
func (p *partition) seekTo(offset int64) {
	p.c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.src.Topic: {p.src.Partition: {Epoch: -1, Offset: offset}}})
}
