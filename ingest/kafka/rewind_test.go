package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/record"
)

// loser loses one commit after the other: it throws away what it is given until it has been rewound, and then wants
// exactly what it was rewound to.
type loser struct {
	mu        sync.Mutex
	next      map[record.Source]int64
	rewinding map[record.Source]bool
	faults    []string
}

func (l *loser) Assigned(_ context.Context, src record.Source, _ Hint) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next[src], nil
}

func (l *loser) Messages(_ context.Context, src record.Source, msgs []record.Message, _ int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rewinding[src] {
		return nil
	}
	for _, m := range msgs {
		if m.Offset != l.next[src] {
			l.faults = append(l.faults, fmt.Sprintf("partition %d: got offset %d, want %d", src.Partition, m.Offset, l.next[src]))
		}
		l.next[src] = m.Offset + 1
	}
	return nil
}

func (l *loser) Revoked(context.Context, record.Source, bool) error { return nil }

func TestRewindIsExact(t *testing.T) {
	t.Parallel()
	const partitions, records = 3, 4000
	cluster, brokers := fake(t, kfake.SeedTopics(partitions, "reviews"))
	for p := range int32(partitions) {
		produce(t, brokers, "reviews", p, numbered(records)...)
	}
	cfg := testConfig(brokers, "reviews")
	cfg.BufferBytes, cfg.FetchBytes = 1<<20, 100_000 // many polls, many pauses
	l := &loser{next: make(map[record.Source]int64), rewinding: make(map[record.Source]bool)}
	c, err := Open(t.Context(), cfg, Events{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, l) }()

	var wg sync.WaitGroup
	for p := range int32(partitions) {
		src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews"), Partition: p}
		wg.Go(func() {
			wait := func(what string, f func() bool) bool {
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
					if f() {
						return true
					}
				}
				t.Errorf("partition %d waited in vain for %s", p, what)
				return false
			}
			rng := rand.New(rand.NewPCG(1, uint64(p)))
			at := func() int64 {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.next[src]
			}
			for range 300 {
				time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Millisecond))))
				l.mu.Lock()
				l.rewinding[src] = true
				target := max(0, l.next[src]-rng.Int64N(500))
				l.next[src] = target
				l.mu.Unlock()
				c.Rewind(src, target)
				l.mu.Lock()
				l.rewinding[src] = false
				l.mu.Unlock()
			}
			wait("the end of the log", func() bool { return at() == records })
		})
	}
	wg.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, f := range l.faults {
		t.Error(f)
	}
}

// What the goroutine has taken off the queue may not have reached the handler yet: Rewind must wait for it too.
func TestRewindWaitsForTheChunkInHand(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := &Consumer{client: client, events: Events{}.withDefaults(), room: make(chan struct{}, 1)}
	c.share.Store(1 << 20)
	p := &partition{c: c, src: record.Source{Topic: "reviews"}, ready: make(chan struct{}, 1)}
	p.push([]*kgo.Record{{Offset: 0, Value: []byte("v")}}, 1)
	taken, ok := p.pop()
	if !ok {
		t.Fatal("nothing to take")
	}
	rewound := make(chan struct{})
	go func() { defer close(rewound); p.rewind(0) }()
	select {
	case <-rewound:
		t.Fatal("Rewind returned while a chunk from before it was in hand")
	case <-time.After(50 * time.Millisecond):
	}
	p.release(taken.bytes)
	<-rewound
	if got := c.buffered.Load(); got != 0 {
		t.Errorf("%d bytes are held", got)
	}
}
