package whitening

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
)

// TestSurprise compares with what can be told without a formula.
func TestSurprise(t *testing.T) {
	for _, c := range []struct {
		c, r int
		n, m float64
		want float64
	}{
		{0, 5, 100, 100, 0},
		{5, 5, 100, 100, 0},
		{4, 9, 100, 100, 0},
		{10, 0, 100, 100, 10 * math.Ln2},
		{3, 0, 100, 0, 0}, // nothing to compare with
		{0, 0, 0, 0, 0},
	} {
		if got := Surprise(c.c, c.r, c.n, c.m); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestWhitenedRowsAreRound: whatever the scatter of clean rows was, and although one in forty of them is far off.
func TestWhitenedRowsAreRound(t *testing.T) {
	const n, d = 3000, 12
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func() []float32 {
		row, common := make([]float32, d), rng.NormFloat64()
		for c := range row {
			row[c] = float32(100 + math.Exp(float64(c)/8)*(rng.NormFloat64()+common))
		}
		return row
	}
	classes := make([]linalg.Matrix, 2)
	for i := range classes {
		classes[i] = linalg.Matrix{Cols: d}
		for j := range n / 2 {
			row := draw()
			if j%40 == 0 {
				row[0] += 50
			}
			row[1] += float32(1000 * i) // classes lie apart
			classes[i].Data = append(classes[i].Data, row...)
			classes[i].Rows++
		}
	}
	m, ok, err := Fit(linalg.CPU{}, classes)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	clean := linalg.Matrix{Cols: d}
	for range n {
		clean.Data = append(clean.Data, draw()...)
		clean.Rows++
	}
	y := linalg.Matrix{Rows: n, Cols: d, Data: make([]float32, n*d)}
	if err := (linalg.CPU{}).Product(y, clean, m.W); err != nil {
		t.Fatal(err)
	}
	Centre(y)
	across := y.Transpose()
	covariance := linalg.Matrix{Rows: d, Cols: d, Data: make([]float32, d*d)}
	if err := (linalg.CPU{}).Product(covariance, across, across); err != nil {
		t.Fatal(err)
	}
	for i := range d {
		for j := range d {
			want, got := 0.0, float64(covariance.Row(i)[j])/n
			if i == j {
				want = 1.1 // without the outermost twentieth rows scatter less
			}
			if math.Abs(got-want) > 0.25 {
				t.Errorf("covariance of dimensions %d and %d is %.2f, want about %.2f", i, j, got, want)
			}
		}
	}
}
