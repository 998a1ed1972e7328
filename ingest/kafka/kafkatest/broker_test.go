//go:build services

package kafkatest

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestKafkaHarness(t *testing.T) {
	b := Start(t)
	first := b.CreateTopic(t, "bulk", 3)
	b.AddPartitions(t, "bulk", 3)
	const n = 300_000
	value := make([]byte, 300)
	began := time.Now()
	b.Produce(t, "bulk", n, func(i int) *kgo.Record {
		return &kgo.Record{Key: fmt.Append(nil, i), Value: value}
	})
	t.Logf("produced %d records in %s", n, time.Since(began).Round(time.Millisecond))
	b.Transact(t, "bulk", 5, false, "never")

	began = time.Now()
	seen := make(map[string]int)
	partitions := make(map[int32]int)
	for _, r := range b.Read(t, "bulk") {
		seen[string(r.Key)]++
		partitions[r.Partition]++
	}
	t.Logf("read them back in %s", time.Since(began).Round(time.Millisecond))
	if len(seen) != n || len(partitions) != 6 {
		t.Errorf("%d different records in %d partitions, want %d in 6", len(seen), len(partitions), n)
	}

	b.DeleteTopic(t, "bulk")
	if again := b.CreateTopic(t, "bulk", 1); again == first {
		t.Error("a topic that was made again kept its id")
	}
	if got := b.Read(t, "bulk"); len(got) != 0 {
		t.Errorf("an empty topic holds %d records", len(got))
	}
}
