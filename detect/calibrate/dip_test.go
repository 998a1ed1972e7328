package calibrate

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

func TestDipBoundHoldsOnUniform(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{100, 500, 3000} {
		var stat []float64
		for range 2000 {
			s := make([]float64, n)
			for i := range s {
				s[i] = rng.Float64()
			}
			sort.Float64s(s)
			_, d := deepest(s)
			stat = append(stat, d*math.Sqrt(float64(n)))
		}
		sort.Float64s(stat)
		t.Logf("n=%d: median %.3f, 99%% %.3f, 99.9%% %.3f", n, stat[1000], stat[1980], stat[1998])
		if stat[1990] > dipBound {
			t.Errorf("n=%d: 0.5 %% of uniform samples reach %.3f, beyond the bound %.2f", n, stat[1990], dipBound)
		}
	}
}
