package kafka

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/record"
)

// endless serves topics that never end, of records of 400 bytes, compressed about as well as JSON text is.
func endless(tb testing.TB, partitions int32) []string {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "reviews"),
		kfake.SyntheticFetch(kfake.SyntheticBatch{RecordBytes: 400, RandomFrac: 0.2, Compression: kgo.ZstdCompression()}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

// counter counts, and blocks for good on the partitions from stuck on.
type counter struct {
	records atomic.Int64
	bytes   atomic.Int64
	stuck   int32
	enough  int64
	done    chan struct{}
}

func (*counter) Assigned(context.Context, record.Source, Hint) (int64, error) { return 0, nil }
func (*counter) Revoked(context.Context, record.Source, bool) error           { return nil }
func (c *counter) Messages(ctx context.Context, src record.Source, msgs []record.Message, _ int64) error {
	if src.Partition >= c.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	for i := range msgs {
		c.bytes.Add(int64(len(msgs[i].Value)))
	}
	n := int64(len(msgs))
	if total := c.records.Add(n); total >= c.enough && total-n < c.enough {
		close(c.done)
	}
	return nil
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const partitions = 24
	cfg := testConfig(endless(t, partitions), "reviews")
	cfg.BufferBytes = 16 << 20
	cfg.SessionTimeout = 10 * time.Second
	h := &counter{stuck: 4, enough: 300_000, done: make(chan struct{})}
	c, err := Open(t.Context(), cfg, Events{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, h) }()
	// Twenty partitions are stuck, and the other four must not mind.
	var most int64
	deadline := time.After(30 * time.Second)
	for busy := true; busy; {
		select {
		case <-h.done:
			busy = false
		case <-deadline:
			t.Errorf("only %d records came by the stuck partitions", h.records.Load())
			busy = false
		case <-time.After(time.Millisecond):
			most = max(most, c.buffered.Load())
		}
	}
	// The fetches that are under way when partitions are paused come on top, three at most; each stuck handler has a chunk in
	// its hands.
	if limit := cfg.BufferBytes + 3*int64(cfg.withDefaults().FetchBytes) + 20*chunkBytes; most > limit {
		t.Errorf("up to %d bytes were held, want at most %d", most, limit)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// BenchmarkConsume measures how fast records reach a handler that does nothing: the ceiling of the pipeline. The fake
// broker runs in the same process and takes its share of the time.
func BenchmarkConsume(b *testing.B) {
	cfg := testConfig(endless(b, 4), "reviews")
	cfg.SessionTimeout = 10 * time.Second
	h := &counter{stuck: 4, enough: int64(b.N), done: make(chan struct{})}
	c, err := Open(b.Context(), cfg, Events{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ReportAllocs()
	go func() { ended <- c.Run(ctx, h) }()
	<-h.done
	b.StopTimer()
	b.ReportMetric(float64(h.records.Load())/b.Elapsed().Seconds(), "records/s")
	b.SetBytes(h.bytes.Load() / int64(b.N))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.Sys)/(1<<20), "MB-from-OS")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
