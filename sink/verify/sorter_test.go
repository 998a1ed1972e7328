package verify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestSorter sorts more than fits in memory, with doubles, and twice.
func TestSorter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 1000, 90_000} {
		var s sorter
		var want []item
		for range n {
			i := item{fmt.Sprintf("topic/id/%d", random.IntN(20)), fmt.Sprintf("%020d", random.IntN(5000)), isObject + byte(random.IntN(3)), strings.Repeat("x", random.IntN(100))}
			if random.IntN(50) == 0 {
				i.at, i.body = "", ""
			}
			want = append(want, i)
			if err := s.add(i); err != nil {
				t.Fatal(err)
			}
		}
		if n == 90_000 && len(s.runs) < 3 {
			t.Errorf("only %d runs: the test shows little", len(s.runs))
		}
		slices.SortFunc(want, compareItems)
		want = slices.Compact(want)
		for range 2 {
			at := 0
			for i, err := range s.sorted() {
				if err != nil {
					t.Fatal(err)
				}
				if at >= len(want) || i != want[at] {
					t.Fatalf("item %d of %d is %+v", at, n, i)
				}
				at++
			}
			if at != len(want) {
				t.Errorf("%d items, want %d", at, len(want))
			}
		}
		places := 0
		for _, err := range steps(s.sorted()) {
			if err != nil {
				t.Fatal(err)
			}
			if places++; places > 3 {
				break
			}
		}
		s.close()
	}
}

// A temporary file that is cut short is an error, and not an end.
func TestSorterBroken(t *testing.T) {
	var s sorter
	defer s.close()
	for i := range 100 {
		if err := s.add(item{"chain", fmt.Sprintf("%020d", i), isObject, ""}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.spill(); err != nil {
		t.Fatal(err)
	}
	if err := s.file.Truncate(s.size - 5); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.sorted() {
		if err != nil {
			return
		}
	}
	t.Error("not seen")
}
