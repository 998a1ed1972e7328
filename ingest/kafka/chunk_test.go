package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// From what the client fetched to what the handler is given there are two allocations for a chunk, headers included, and
// none for a record.
func TestChunksAllocateNothingForARecord(t *testing.T) {
	records := make([]*kgo.Record, 4000)
	for i := range records {
		records[i] = &kgo.Record{Offset: int64(i), Timestamp: time.UnixMilli(int64(i)), Value: []byte("value"), Headers: []kgo.RecordHeader{{Key: "k", Value: []byte("v")}}}
	}
	if n := testing.AllocsPerRun(10, func() {
		if c, rest := newChunk(0, records, 1<<30); len(c.msgs) != len(records) || len(rest) > 0 {
			t.Errorf("%d messages, %d left", len(c.msgs), len(rest))
		}
	}); n > 4 {
		t.Errorf("%v allocations for %d records", n, len(records))
	}
}
