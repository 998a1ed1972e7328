package detect_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// keysOf returns n different keys that are no more random than texts that somebody counts.
func keysOf(n int) []uint64 {
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = uint64(i)
	}
	return keys
}

func portion(keys []uint64, most int, seed uint64) []uint64 {
	rows := make([]int, len(keys))
	for i := range rows {
		rows[i] = i
	}
	var out []uint64
	for _, row := range detect.Portion(rows, most, seed, func(row int) uint64 { return keys[row] }) {
		out = append(out, keys[row])
	}
	return out
}

func TestPortionOfFewIsAll(t *testing.T) {
	keys := keysOf(100)
	if got := portion(keys, 100, 1); !slices.Equal(got, keys) {
		t.Errorf("%d of 100 rows", len(got))
	}
}

// As many as asked for, spread evenly, the same in any order, and in the order of the rows.
func TestPortion(t *testing.T) {
	const n, most = 50_000, 10_000
	keys := keysOf(n)
	got := portion(keys, most, 1)
	if len(got) != most || !slices.IsSorted(got) {
		t.Fatalf("%d rows, want %d, sorted as they were: %v", len(got), most, slices.IsSorted(got))
	}
	for from := uint64(0); from < n; from += n / 10 {
		in := 0
		for _, key := range got {
			if key >= from && key < from+n/10 {
				in++
			}
		}
		if in < 880 || in > 1120 { // 1,000 with a standard deviation of 28
			t.Errorf("%d of the keys from %d on, want about 1,000", in, from)
		}
	}
	shuffled := slices.Clone(keys)
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again := portion(shuffled, most, 1)
	slices.Sort(again)
	if !slices.Equal(got, again) {
		t.Error("another order of rows gave another choice")
	}
}

// Whoever has most of the rows in hand cannot keep one of them out: whether it is chosen changes with any other row.
func TestPortionCannotBeForeseen(t *testing.T) {
	const n, tries = 2_000, 400
	keys := keysOf(n)
	chosen := 0
	for try := range uint64(tries) {
		keys[n-1] = 1<<40 + try // a row that is not the writer's
		if slices.Contains(portion(keys, n/4, 1), 7) {
			chosen++
		}
	}
	if chosen < 60 || chosen > 140 { // 100 with a standard deviation of 9
		t.Errorf("one row was chosen %d times of %d, want about %d", chosen, tries, tries/4)
	}
}

func TestPortionTakesEqualRowsTogether(t *testing.T) {
	keys := make([]uint64, 3000)
	if got := portion(keys, 100, 1); len(got) != len(keys) {
		t.Errorf("%d of %d equal rows", len(got), len(keys))
	}
}
