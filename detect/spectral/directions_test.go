package spectral

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
)

// Rows that draw nothing are left out, and no others.
func TestPull(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var p puller
	for _, n := range []int{1, 16, 100, 2048} {
		for _, c := range []struct{ middle, spread float64 }{{0, 1}, {-1e-3, 30}, {1e4, 1e-3}, {5, 0}, {0, 1e-20}} {
			row := make([]float32, n)
			for i := range row {
				row[i] = float32(c.middle + c.spread*rng.NormFloat64()*math.Exp(rng.NormFloat64()))
			}
			median, scale := spread(row)
			row[n-1] = float32(median + from*scale) // on the bar, and beside it
			if n > 3 {
				row[n-2], row[n-3] = math.Nextafter32(row[n-1], math.MaxFloat32), math.Nextafter32(row[n-1], -math.MaxFloat32)
			}
			median, scale = spread(row)
			want := make([]float32, n)
			for i, v := range row {
				want[i] = weight(v, median, scale)
			}
			p.pull(row)
			got := make([]float32, n)
			for k, i := range p.far {
				got[i] = p.weight[k]
			}
			for i, v := range got {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Fatalf("%d rows about %v: row %d draws by %v, want %v", n, c.middle, i, v, want[i])
				}
			}
		}
	}
}

// Rows to begin with are the same ones, by and large, whether all products say how far they scatter or some do.
func TestCompanionsBySome(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := linalg.Matrix{Rows: 1500, Cols: 48, Data: make([]float32, 1500*48)}
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64())
	}
	for row := range 30 { // of 30 one kind
		for c := range 12 {
			x.Row(row)[c] += 2
		}
	}
	gram := func(each func(int, linalg.Matrix)) error {
		g := linalg.Matrix{Rows: x.Rows, Cols: x.Rows, Data: make([]float32, x.Rows*x.Rows)}
		err := linalg.CPU{}.Product(g, x, x)
		each(0, g)
		return err
	}
	all, err := companions(x, false, gram)
	if err != nil {
		t.Fatal(err)
	}
	some, err := companions(x, true, gram)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []linalg.Matrix{all, some} {
		most := 0.0
		for c := range 12 {
			most += float64(u.Row(0)[c]) / math.Sqrt(12)
		}
		if u.Rows != starts || most < 0.6 {
			t.Errorf("%d rows to begin with, the first %v along what some have in common", u.Rows, most)
		}
	}
}
