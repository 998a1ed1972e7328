package linalg

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAtLeast(t *testing.T) {
	rng := rand.New(rand.NewPCG(43, 44))
	var find Finder
	for n := range 2200 {
		if n > 140 && n%97 > 0 {
			continue
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.IntN(9) - 4) // many equal the bar
			if rng.IntN(50) == 0 {
				values[i] = float32([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}[rng.IntN(3)])
			}
		}
		for _, bar := range []float32{-5, 0, 3, float32(math.Inf(-1)), float32(math.Inf(1)), float32(math.NaN())} {
			want := []int32{7}
			for i, v := range values {
				if v >= bar {
					want = append(want, int32(i))
				}
			}
			if got := find.AtLeast([]int32{7}, values, bar); !slices.Equal(got, want) {
				t.Fatalf("%d values, bar %v: %v, want %v", n, bar, got, want)
			}
		}
	}
}
