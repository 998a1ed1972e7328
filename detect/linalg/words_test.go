package linalg

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// wordKernels returns the levels that have words.
func wordKernels() (out []*kernel) {
	for _, level := range Levels() {
		if k := level.kernel(); k.words != nil {
			out = append(out, k)
		}
	}
	return out
}

// TestSquaresAndWidths: every level adds up alike, to the bit.
func TestSquaresAndWidths(t *testing.T) {
	rng := rand.New(rand.NewPCG(29, 30))
	for _, level := range Levels() {
		k := level.kernel()
		for _, n := range []int{0, 8, 16, 64, 384} {
			row, want, got := make([]float32, n), make([]float64, n), make([]float64, n+1)
			for i := range row {
				row[i] = float32(rng.NormFloat64() * math.Exp(3*rng.NormFloat64()))
			}
			if got, want := k.norm(row), normPortable(row); got != want {
				t.Errorf("%s, %d values: squares are %v, want %v", level, n, got, want)
			}
			if got, want := k.wideNorm(row), wideNormPortable(row); got != want {
				t.Errorf("%s, %d values: squares in float64 are %v, want %v", level, n, got, want)
			}
			got[n] = 7
			k.widen(got, row)
			widenPortable(want, row)
			if !slices.Equal(got[:n], want) || got[n] != 7 {
				t.Errorf("%s, %d values: %v, want %v", level, n, got, want)
			}
			product, expected := make([]float32, n+1), make([]float32, n+1)
			product[n], expected[n] = 7, 7
			other := slices.Clone(row)
			slices.Reverse(other)
			k.times(product[:n], row, other)
			timesPortable(expected[:n], row, other)
			if !slices.Equal(product, expected) {
				t.Errorf("%s, %d values: products %v, want %v", level, n, product, expected)
			}
		}
	}
}

func sameFloats(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestWords compares what rounds, and tiles of any height, with what is to be read.
func TestWords(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	for _, k := range wordKernels() {
		for _, n := range []int{0, 16, 32, 384} {
			src, got, want := make([]float32, n), make([]float32, n/2+1), make([]float32, n/2+1)
			for i := range src {
				src[i] = float32(rng.NormFloat64() / 2)
				if i%5 == 0 {
					src[i] = (float32(rng.IntN(100)) + 0.5) / unitWord
				}
			}
			got[n/2], want[n/2] = 7, 7
			k.words(got, src, unitWord)
			wordsPortable(want, src, unitWord)
			if !sameFloats(got, want) {
				t.Fatalf("%d values: %v, want %v", n, got, want)
			}
		}
		for _, n := range []int{0, 16, 640} {
			values, got, want := make([]float32, n), make([]int32, n+16), make([]int32, n)
			for i := range values {
				values[i] = []float32{1, 2, float32(math.NaN()), float32(math.Inf(-1)), 3}[rng.IntN(5)]
			}
			for _, bar := range []float32{float32(math.Inf(-1)), 2, 4} {
				count := indexFromPortable(values, bar, want)
				if k.indexFrom(values, bar, got) != count || !slices.Equal(got[:count], want[:count]) {
					t.Fatalf("%d values from %v on: %v, want %v", n, bar, got[:count], want[:count])
				}
			}
		}
		high := len(k.wordTiles) - 1
		word := func() float32 {
			return math.Float32frombits(uint32(uint16(int16(rng.IntN(4001)-2000))) | uint32(uint16(int16(rng.IntN(4001)-2000)))<<16)
		}
		for _, depth := range []int{0, 1, 2, 63, 192} {
			stride := depth + 5
			a, b, from := make([]float32, high*stride+1), make([]float32, depth*k.cols+k.cols), make([]float32, high*(k.cols+3))
			for i := range a {
				a[i] = word()
			}
			for i := range b {
				b[i] = word()
			}
			for i := range from {
				from[i] = float32(rng.NormFloat64() * 1000)
			}
			for rows := 1; rows <= high; rows++ {
				got, want := make([]float32, high*(k.cols+7)), make([]float32, high*(k.cols+7))
				k.wordTiles[rows](depth, a, stride, b, from, k.cols+3, got, k.cols+7)
				for r := range rows {
					wordTilePortable(depth, a[r*stride:], 0, b, from[r*(k.cols+3):], 0, want[r*(k.cols+7):], 0)
				}
				if !sameFloats(got, want) {
					t.Fatalf("depth %d, %d rows: values differ", depth, rows)
				}
			}
		}
	}
}

// TestWordsDecideNothing: neighbours and distances are those of products of floats, to the bit, for points that lie alike, near each other or are copies, and for rows
// of any length.
func TestWordsDecideNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(33, 34))
	for trial := range 35 {
		cols, rows := []int{1, 7, 16, 64, 100, 384, 1000}[trial%7], 1+rng.IntN(800)
		spread := []float64{1, 0.1, 1e-3, 1e-6, 0}[trial%5]
		draw := func(n int) Matrix {
			m := Matrix{n, cols, make([]float32, n*cols)}
			for i := range m.Data {
				m.Data[i] = float32(math.Sin(float64(i%cols)) + spread*rng.NormFloat64())
			}
			for r := range m.Rows {
				switch rng.IntN(20) {
				case 0: // too long
					m.Row(r)[0] = 1e30
				case 1:
					m.Row(r)[cols/2] = float32(math.NaN())
				case 2:
					clear(m.Row(r))
				case 3: // hardly longer than nothing
					for c := range m.Row(r) {
						m.Row(r)[c] *= 1e-42
					}
				case 4:
					copy(m.Row(r), m.Row(rng.IntN(r+1)))
				}
			}
			return m
		}
		points, queries, k := draw(rows), draw(110), 1+rng.IntN(70)
		set := Set{K: k}
		for p := range points.Rows {
			set.Points = append(set.Points, int32(p))
		}
		sets, err := LoadSets(CPU{}, points, []Set{set}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := sets.Nearest(queries, make([]int32, queries.Rows))
		if err != nil {
			t.Fatal(err)
		}
		sets.ix.words = nil
		want, _, err := sets.Nearest(queries, make([]int32, queries.Rows))
		if err != nil {
			t.Fatal(err)
		}
		for q := range queries.Rows {
			i, d := got.Of(q)
			j, e := want.Of(q)
			if !slices.Equal(i, j) || !sameFloats(d, e) {
				t.Fatalf("trial %d, %d × %d, %d nearest of query %d: %v at %v, want %v at %v", trial, rows, cols, k, q, i, d, j, e)
			}
		}
	}
}

// TestWordError: products of words are off by no more than is said.
func TestWordError(t *testing.T) {
	rng := rand.New(rand.NewPCG(35, 36))
	for trial := range 400 {
		cols := 1 + rng.IntN(500)
		a, b := make([]float32, (cols+15)/16*16), make([]float32, (cols+15)/16*16)
		for i := range cols {
			a[i] = float32(rng.NormFloat64() * math.Exp(float64(trial%4)*rng.NormFloat64()))
			if b[i] = a[i]; trial%3 > 0 {
				b[i] = float32(rng.NormFloat64())
			}
		}
		exact, product := 0.0, 0.0
		x, y := math.Sqrt(wideSquares(a)), math.Sqrt(wideSquares(b))
		word := func(v float32, length float64) float64 {
			return math.RoundToEven(float64(v * float32(unitWord/length)))
		}
		for i := range cols {
			exact += float64(a[i]) * float64(b[i]) / x / y
			product += word(a[i], x) * word(b[i], y) / (unitWord * unitWord)
		}
		if off := math.Abs(exact - product); off > wordError(cols) {
			t.Fatalf("%d values: off by %v, at most %v", cols, off, wordError(cols))
		}
	}
}

// TestCosines: every level gives the same bits.
func TestCosines(t *testing.T) {
	rng := rand.New(rand.NewPCG(39, 40))
	for _, level := range Levels() {
		for _, n := range []int{0, 8, 24} {
			dots, norms := make([]float64, n), make([]float64, n)
			for i := range dots {
				dots[i], norms[i] = rng.NormFloat64(), []float64{0, 1, 1e-80, 1e70, rng.ExpFloat64()}[rng.IntN(5)]
			}
			for _, norm := range []float64{0, 0.3, 1e37} {
				got, want := slices.Clone(dots), slices.Clone(dots)
				level.kernel().cosines(got, norms, norm)
				cosinesPortable(want, norms, norm)
				if !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", level, got, want)
				}
			}
		}
	}
}
