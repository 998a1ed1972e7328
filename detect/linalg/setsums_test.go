package linalg

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/tasterhq/taster/detect/border"
)

// TestSums: sums are those of the distances that Nearest tells, to the bit.
func TestSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	trials := 60
	if testing.Short() {
		trials = 18
	}
	for trial := range trials {
		cols := []int{1, 3, 16, 64, 100, 384}[trial%6]
		n := 20 + rng.IntN(500)
		points, queries := Matrix{n, cols, make([]float32, n*cols)}, Matrix{1 + rng.IntN(300), cols, nil}
		fill := func(row []float32) {
			shift := 3 * rng.Float32()
			for i := range row {
				row[i] = float32(rng.NormFloat64()) + shift*float32(i%3)
			}
			switch rng.IntN(40) {
			case 0:
				clear(row)
			case 1:
				row[0] = float32(math.NaN())
			case 2:
				row[0] = float32(math.Inf(1))
			case 3:
				copy(row, points.Row(rng.IntN(n))) // a copy, in all trials but the first whose points are not yet there
			case 4: // nearly one
				copy(row, points.Row(rng.IntN(n)))
				row[0] *= 1.0001
			case 5:
				for i := range row {
					row[i] *= 1e-18
				}
			}
		}
		for r := range n {
			fill(points.Row(r))
		}
		queries.Data = make([]float32, queries.Rows*cols)
		for q := range queries.Rows {
			fill(queries.Row(q))
		}
		if trial%5 == 4 { // all alike
			for r := range n {
				copy(points.Row(r), points.Row(r%3))
			}
		}
		k := 1 + rng.IntN(9)
		sets := make([]Set, 1+rng.IntN(4))
		for i := range sets {
			sets[i] = Set{K: k}
			if trial%7 == 6 {
				sets[i].K = 40
			}
			for _, p := range rng.Perm(n)[:1+rng.IntN(n)] {
				sets[i].Points = append(sets[i].Points, int32(p))
			}
		}
		own := make([]int32, queries.Rows)
		for q := range own {
			own[q] = int32(q * len(sets) / len(own))
		}
		engines := []Engine{CPU{}, CPU{Level: Portable}, other{}}
		for at, engine := range engines {
			s, err := LoadSets(engine, points, sets, nil)
			if err != nil {
				t.Fatal(err)
			}
			found, foundOthers, err := s.Nearest(queries, own)
			if err != nil {
				t.Fatal(err)
			}
			all, others := make([]Sum, queries.Rows), make([]Sum, queries.Rows)
			others[0].Count = 1 // which is written over
			for range 2 {       // guesses are others the second time
				if err := s.Sums(all, others, queries, own); err != nil {
					t.Fatal(err)
				}
				for q := range all {
					want, wantOther := sumOf(found, q), Sum{}
					if own[q] > 0 {
						wantOther = sumOf(foundOthers, q)
					}
					if all[q] != want || others[q] != wantOther {
						t.Fatalf("trial %d, engine %d, query %d: %+v and %+v, want %+v and %+v", trial, at, q, all[q], others[q], want, wantOther)
					}
				}
			}
		}
	}
}

func TestSumsThatDoNotFit(t *testing.T) {
	s, err := LoadSets(CPU{}, Matrix{2, 3, make([]float32, 6)}, []Set{{Points: []int32{0, 1}, K: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one, two := make([]Sum, 1), make([]Sum, 2)
	for _, err := range []error{
		s.Sums(one, one, Matrix{1, 2, make([]float32, 2)}, []int32{0}), s.Sums(one, one, Matrix{1, 3, make([]float32, 3)}, nil),
		s.Sums(two, one, Matrix{1, 3, make([]float32, 3)}, []int32{0}), s.Sums(one, two, Matrix{1, 3, make([]float32, 3)}, []int32{0}),
	} {
		if !errors.Is(err, ErrShape) {
			t.Error(err)
		}
	}
}

// TestSumKernels compares them with what is to be read, where they may read and write no more than they are told.
func TestSumKernels(t *testing.T) {
	k := Best.kernel().sums
	if k == nil {
		t.Log("this processor adds up neighbours")
		return
	}
	rng := rand.New(rand.NewPCG(1, 3))
	ints := func(n int) []int32 {
		room := border.Of[float32](t, n)
		return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(room))), n)
	}
	for _, n := range []int{64, 128, 640, pointBlock} {
		values, members, places, index := border.Of[float32](t, n), border.Of[uint16](t, n/16), border.Of[uint16](t, n+32), (*[picked]int32)(ints(picked))
		var want [picked]int32
		for range 20 {
			for i := range values {
				values[i] = float32(rng.NormFloat64())
			}
			for i := range members {
				members[i] = uint16(rng.Uint32())
			}
			split := rng.IntN(n/lanes+1) * lanes
			for _, bar := range []float32{-math.MaxFloat32, -1, 0, values[n-1], 1, 2, 2.5, math.MaxFloat32} {
				got := k.pick(values, members, bar, split, 1000, places, index)
				if wanted := pickPortable(values, members, bar, split, 1000, nil, &want); got != wanted {
					t.Fatalf("%d of %d values are at least %v, want %d", got, n, bar, wanted)
				}
				for i := range min(got, picked) {
					if index[i] != want[i] {
						t.Fatalf("of %d values number %d is %d, want %d", n, i, index[i], want[i])
					}
				}
				if got < picked && index[picked-1] != 0 {
					t.Fatalf("behind %d numbers stands %d", got, index[picked-1])
				}
			}
			sum, squares := k.moments(values, members)
			wantSum, wantSquares := momentsPortable(values, members)
			if math.Abs(float64(sum-wantSum)) > 1e-3 || math.Abs(float64(squares-wantSquares)) > 1e-3 {
				t.Fatalf("moments of %d values are %v and %v, want %v and %v", n, sum, squares, wantSum, wantSquares)
			}
		}
	}
	for _, width := range []int{16, 64, 384} {
		const rows = 30
		points, norms, query := border.Of[float32](t, rows*width), border.Of[float64](t, rows), border.Of[float64](t, width)
		for range 50 {
			for i := range points {
				points[i] = float32(rng.NormFloat64())
			}
			for i := range query {
				query[i] = float64(float32(rng.NormFloat64()))
			}
			norm := wideNormPortable(widenedBack(query))
			for _, p := range []int{3, 4, 5} { // copies are as far
				copy(points[p*width:(p+1)*width], points[2*width:])
			}
			clear(points[7*width : 8*width])
			if rng.IntN(2) == 0 {
				for i := range width {
					points[i] = float32(query[i])
				}
			}
			for p := range norms {
				norms[p] = wideNormPortable(points[p*width : (p+1)*width])
			}
			for most, of := range map[int]nearestSum{fewNear: k.few, mostNear: k.many} {
				index := ints(most)
				for i, p := range rng.Perm(rows)[:most] {
					index[i] = int32(p)
				}
				n := 1 + rng.IntN(most)
				near := 1 + rng.IntN(n)
				total, least, farthest, kept := of(index[:n], width, query, points, norms, norm, near)
				wantTotal, wantLeast, wantFarthest, wantKept := nearestSumPortable(index[:n], width, query, points, norms, norm, near)
				if math.Abs(total-wantTotal) > 1e-12*wantTotal || least != wantLeast || farthest != wantFarthest || kept != wantKept {
					t.Fatalf("%d of %d candidates, width %d: %v %v %v %d, want %v %v %v %d", near, n, width, total, least, farthest, kept, wantTotal, wantLeast, wantFarthest, wantKept)
				}
			}
		}
	}
}

func widenedBack(wide []float64) []float32 {
	row := make([]float32, len(wide))
	for i, v := range wide {
		row[i] = float32(v)
	}
	return row
}
