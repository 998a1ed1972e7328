package linalg

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// TestGramOfWhole: every level has the same bits, which are those of the numbers that were rounded, and lengths that differ by much do no harm.
func TestGramOfWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	for _, c := range [][2]int{{0, 3}, {1, 1}, {5, 16}, {70, 37}, {300, 384}, {33, 1000}} {
		x := Matrix{c[0], c[1], make([]float32, c[0]*c[1])}
		for i := range x.Data {
			x.Data[i] = float32(rng.NormFloat64())
		}
		for r := range x.Rows {
			switch r % 10 {
			case 3:
				for i := range x.Row(r) {
					x.Row(r)[i] *= 1e6
				}
			case 5:
				clear(x.Row(r))
			case 7:
				x.Row(r)[0] = float32(math.NaN())
			}
		}
		var want Matrix
		for _, level := range Levels() {
			got := Matrix{x.Rows, x.Rows, make([]float32, x.Rows*x.Rows)}
			if err := GramOfWhole(CPU{Level: level}, x, into(got)); err != nil {
				t.Fatal(err)
			}
			if want.Data == nil {
				want = got
			}
			if !sameFloats(got.Data, want.Data) {
				t.Fatalf("%s: %d × %d: products differ from those of %s", level, x.Rows, x.Cols, Levels()[0])
			}
		}
		for i := range x.Rows {
			a := math.Sqrt(wideSquares(x.Row(i)))
			for j := range x.Rows {
				b := math.Sqrt(wideSquares(x.Row(j)))
				got, exact := float64(want.Row(i)[j]), 0.0
				if got != math.Trunc(got) || math.Abs(got) > 1<<24 {
					t.Fatalf("the product of rows %d and %d is %v", i, j, got)
				}
				for k, v := range x.Row(i) {
					exact += float64(v) * float64(x.Row(j)[k]) / a / b
				}
				long, other := math.Sqrt(float64(want.Row(i)[i])), math.Sqrt(float64(want.Row(j)[j]))
				if long > 100 && other > 100 && i%10 != 7 && j%10 != 7 && math.Abs(got/long/other-exact) > 0.02 {
					t.Fatalf("%d × %d: the cosine of rows %d and %d is %v, want %v", x.Rows, x.Cols, i, j, got/long/other, exact)
				}
			}
		}
	}
	if err := GramOfWhole(CPU{}, Matrix{3, 1, make([]float32, 2)}, nil); !errors.Is(err, ErrShape) {
		t.Error(err)
	}
}
