//go:build !race

// Under the race detector sync.Pool forgets at random, and with it the machines of package regexp are made anew.

package validate

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestAllocations holds the record path to no allocation at all once buffers have their size.
func TestAllocations(t *testing.T) {
	for _, w := range workloads() {
		s := compileText(t, w.schema, Options{Vectors: w.vectors})
		d := s.NewDecoder(memory.DefaultAllocator)
		fill := func() {
			for _, r := range w.records {
				if refusal := d.Append(r); refusal != nil {
					t.Fatal(refusal)
				}
			}
		}
		fill()
		d.Take().Release()
		fill() // from here on the batch has room: the one before was larger
		for range 2 {
			d.Take().Release()
			fill()
			fill()
			fill()
		}
		d.Take().Release()
		fill()
		half := len(w.records) / 2
		got := testing.AllocsPerRun(1, func() {
			for _, r := range w.records[:half] {
				if refusal := d.Append(r); refusal != nil {
					t.Fatal(refusal)
				}
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations in %d records, want none", w.name, got, half)
		}
		d.Release()
	}
}
