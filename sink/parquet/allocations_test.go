package parquet

import (
	"io"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
)

// A row costs no allocation: beside what a file and a row group need, there is what a batch does.
func TestRowsAllocateNothing(t *testing.T) {
	keys := ring(t)
	const small, large, batch = 8192, 24576, 4096
	measured := func(rows int) float64 {
		seg := reviewSegment(rows, batch)
		defer seg.Release()
		dec := decide(seg, func(int) bool { return false })
		return testing.AllocsPerRun(3, func() {
			if _, err := Write(ctx, io.Discard, "accepted/x", seg, dec, finding.Accepted, Options{Keys: keys}); err != nil {
				t.Error(err)
			}
		})
	}
	more := measured(large) - measured(small)
	if perBatch := more / ((large - small) / batch); perBatch > 150 {
		t.Errorf("%v allocations for every %d rows", perBatch, batch)
	}
}
