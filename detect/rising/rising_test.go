package rising

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// Places are what halving finds, whatever the numbers are like.
func TestPlaces(t *testing.T) {
	for name, draw := range map[string]func(rng *rand.Rand) float64{
		"uniform":    func(rng *rand.Rand) float64 { return rng.Float64() },
		"normal":     func(rng *rand.Rand) float64 { return rng.NormFloat64() },
		"heavy":      func(rng *rand.Rand) float64 { return math.Exp(20 * rng.NormFloat64()) },
		"few values": func(rng *rand.Rand) float64 { return float64(rng.IntN(3)) },
		"mostly 0":   func(rng *rand.Rand) float64 { return max(0, rng.NormFloat64()-2) },
		"constant":   func(*rand.Rand) float64 { return 7 },
		"tiny":       func(rng *rand.Rand) float64 { return float64(rng.IntN(100)) * math.SmallestNonzeroFloat64 },
		"huge":       func(rng *rand.Rand) float64 { return (2*rng.Float64() - 1) * math.MaxFloat64 },
		"infinite":   func(rng *rand.Rand) float64 { return []float64{math.Inf(-1), 0, 1, math.Inf(1)}[rng.IntN(4)] },
		"far out":    func(rng *rand.Rand) float64 { return 1e300 + float64(rng.IntN(50))*1e284 },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			for _, m := range []int{0, 1, 2, 63, 64, 65, 1000, 20_000} {
				sorted := make([]float64, m)
				for i := range sorted {
					sorted[i] = draw(rng)
				}
				slices.Sort(sorted)
				p := Of(sorted)
				asked := []float64{math.Inf(-1), -math.MaxFloat64, math.Copysign(0, -1), 0, math.MaxFloat64, math.Inf(1), p.lo, p.hi}
				for _, s := range sorted {
					asked = append(asked, s, math.Nextafter(s, math.Inf(-1)), math.Nextafter(s, math.Inf(1)))
				}
				for range 1000 {
					asked = append(asked, draw(rng))
				}
				for _, s := range asked {
					if got, want := p.Search(sorted, s), sort.SearchFloat64s(sorted, s); got != want {
						t.Fatalf("of %d numbers %d lie below %v, want %d", m, got, s, want)
					}
				}
			}
		})
	}
}
