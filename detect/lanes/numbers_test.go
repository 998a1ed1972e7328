package lanes

import (
	"math"
	"math/rand/v2"
	"testing"
)

// numbers are of all kinds.
func numbers() []float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	out := []float64{
		0, math.Copysign(0, -1), 1, -1, 0.5, 2, math.Sqrt2 / 2, math.Nextafter(math.Sqrt2/2, 0), math.Nextafter(math.Sqrt2/2, 1), math.Inf(1), math.Inf(-1), math.NaN(),
		math.Float64frombits(0xFFF8000000000002), math.Float64frombits(0x7FF0000000000001), math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 0x1p-1022, 0x1p-1023, math.MaxFloat64, -math.MaxFloat64,
		leastPower, math.Nextafter(leastPower, -800), mostPower, math.Nextafter(mostPower, 800), 709.78, 709.79, -745, -746, 1e10, -1e10, 1e300,
	}
	for range 20_000 {
		out = append(out, rng.NormFloat64(), rng.Float64(), 1+1e-9*rng.NormFloat64(), 300*rng.NormFloat64(), math.Exp(100*rng.NormFloat64()), math.Float64frombits(rng.Uint64()))
	}
	return out
}

func TestExpsAndLogs(t *testing.T) {
	x := numbers()
	for _, f := range []struct {
		name string
		many func(out, x []float64)
		one  func(float64) float64
	}{{"exp", Exps, math.Exp}, {"log", Logs, math.Log}} {
		for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 16, 17, len(x)} {
			out := make([]float64, n+1)
			out[n] = 42
			f.many(out, x[:n])
			for i, v := range x[:n] {
				if want := f.one(v); math.Float64bits(out[i]) != math.Float64bits(want) {
					t.Fatalf("%s of %v (%x) is %v among %d, want %v", f.name, v, math.Float64bits(v), out[i], n, want)
				}
			}
			if out[n] != 42 {
				t.Fatalf("%s of %d numbers writes more", f.name, n)
			}
		}
	}
	in, want := numbers(), make([]float64, len(x))
	Logs(want, in)
	Logs(in, in)
	for i := range in {
		if math.Float64bits(in[i]) != math.Float64bits(want[i]) {
			t.Fatal("logarithms in place are others")
		}
	}
}

func TestBins(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := numbers()
	for n := range 60 {
		values, edges, out := make([]float64, n), make([][8]float64, n), make([]uint8, n+1)
		out[n] = 42
		for i := range values {
			values[i] = x[rng.IntN(len(x))]
			for j := range edges[i] {
				if edges[i][j] = x[rng.IntN(len(x))]; rng.IntN(4) == 0 {
					edges[i][j] = values[i]
				}
			}
		}
		Bins(out, values, edges)
		for i, v := range values {
			want := uint8(0)
			if !math.IsNaN(v) {
				want = 1
			}
			for _, e := range edges[i] {
				if v > e {
					want++
				}
			}
			if out[i] != want {
				t.Fatalf("%v of edges %v is in bin %d, want %d", v, edges[i], out[i], want)
			}
		}
		if out[n] != 42 {
			t.Fatalf("bins of %d values are more", n)
		}
	}
}
