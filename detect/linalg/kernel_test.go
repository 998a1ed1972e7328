package linalg

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTilesOfAnyHeightAgree: a value does not depend on how many rows its tile has, and what lies beside is left alone.
func TestTilesOfAnyHeightAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(rng.NormFloat64())
		}
		return out
	}
	for _, level := range Levels() {
		k := level.kernel()
		high := len(k.tiles) - 1
		for _, depth := range []int{0, 1, 2, 63, 384} {
			stride := depth + 5
			a, b, from := draw(high*stride+1), draw(depth*k.cols+k.cols), draw(high*(k.cols+3))
			whole := make([]float32, high*(k.cols+7))
			k.tiles[high](depth, a, stride, b, from, k.cols+3, whole, k.cols+7)
			for rows := 1; rows < high; rows++ {
				got := make([]float32, len(whole))
				k.tiles[rows](depth, a, stride, b, from, k.cols+3, got, k.cols+7)
				for i, v := range got {
					if want := whole[i]; i < rows*(k.cols+7) && v != want || i >= rows*(k.cols+7) && v != 0 {
						t.Fatalf("%s, depth %d: value %d of a tile of %d rows is %v, want %v", level, depth, i, rows, v, want)
					}
				}
			}
			for r := range high { // the tile against its definition
				for c := range k.cols {
					want, size := float64(from[r*(k.cols+3)+c]), 1.0
					for i := range depth {
						p := float64(a[r*stride+i]) * float64(b[i*k.cols+c])
						want += p
						size += math.Abs(p)
					}
					if got := float64(whole[r*(k.cols+7)+c]); math.Abs(got-want) > float64(depth+1)*0x1p-23*size {
						t.Fatalf("%s, depth %d: value %d, %d is %v, want %v", level, depth, r, c, got, want)
					}
				}
			}
		}
	}
}

func TestTranspose(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {0, 3}, {1, 1}, {7, 9}, {8, 8}, {65, 130}, {200, 33}} {
		m := Matrix{c[0], c[1], make([]float32, c[0]*c[1])}
		for i := range m.Data {
			m.Data[i] = float32(i)
		}
		got := m.Transpose()
		if got.Rows != m.Cols || got.Cols != m.Rows {
			t.Fatalf("%d × %d becomes %d × %d", m.Rows, m.Cols, got.Rows, got.Cols)
		}
		for r := range m.Rows {
			for j, v := range m.Row(r) {
				if got.Row(j)[r] != v {
					t.Fatalf("%d × %d: value %d, %d", m.Rows, m.Cols, r, j)
				}
			}
		}
	}
}

// TestSmallest compares with a sort, NaN among the values or not.
func TestSmallest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		values := make([]float64, 1+rng.IntN(100))
		least := rng.IntN(20)
		for i := range values {
			values[i] = float64(rng.IntN(1+rng.IntN(50)) - least)
		}
		sorted := slices.Sorted(slices.Values(values))
		k := 1 + rng.IntN(len(values))
		ties := 0
		for _, v := range sorted[:k] {
			if v == sorted[k-1] {
				ties++
			}
		}
		if bar, got := smallest(slices.Clone(values), k); bar != sorted[k-1] || got != ties {
			t.Fatalf("the smallest %d of %v: bar %v with %d ties, want %v with %d", k, values, bar, got, sorted[k-1], ties)
		}
		values[rng.IntN(len(values))] = math.NaN()
		smallest(values, k) // ends
	}
}

// TestMedian compares with a sort.
func TestMedian(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	odd := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, math.MaxFloat32, -math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1))}
	for trial := range 500 {
		values := make([]float32, 1+rng.IntN(300))
		for i := range values {
			if values[i] = float32(rng.NormFloat64()); trial%3 == 0 || rng.IntN(20) == 0 {
				values[i] = odd[rng.IntN(len(odd))]
			}
		}
		sorted := slices.Sorted(slices.Values(values))
		if got := Median(values); got != sorted[len(sorted)/2] {
			t.Fatalf("median %v of %v", got, sorted)
		}
	}
	nan := float32(math.NaN())
	if got := Median([]float32{nan, 3, 1, 2}); got != 2 {
		t.Errorf("median %v with a NaN", got)
	}
}

func TestCountAbove(t *testing.T) {
	values := make([]float32, 200)
	for i := range values {
		values[i] = float32(i)
	}
	for n := range values {
		if got := CountAbove(values[:n], 9.5); got != max(0, n-10) {
			t.Fatalf("%d of 0 to %d above 9.5", got, n-1)
		}
	}
}

func TestScanAgreesWithPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(17, 18))
	odd := []float32{0, 1, -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, -math.MaxFloat32}
	for _, n := range []int{0, 64, 128, 960, 1024} {
		values := make([]float32, n)
		for i := range values {
			if values[i] = float32(rng.NormFloat64()); rng.IntN(4) == 0 {
				values[i] = odd[rng.IntN(len(odd))]
			}
		}
		for _, bar := range append(odd, 0.5) {
			for _, level := range Levels() {
				k := level.kernel()
				if got, want := k.countAbove(values, bar), countAbovePortable(values, bar); got != want {
					t.Errorf("%s: %d of %d above %v, want %d", level, got, n, bar, want)
				}
				got, want := make([]uint64, n/lanes), make([]uint64, n/lanes)
				k.markFrom(values, bar, got)
				markFromPortable(values, bar, want)
				if !slices.Equal(got, want) {
					t.Errorf("%s: marks from %v differ", level, bar)
				}
			}
		}
	}
}

// TestReservoir offers values of every spread in spans and compares with a sort.
func TestReservoir(t *testing.T) {
	rng := rand.New(rand.NewPCG(19, 20))
	for trial := range 800 {
		values := make([]float32, 64*(1+rng.IntN(12)))
		for i := range values {
			switch trial % 4 {
			case 0:
				values[i] = float32(rng.NormFloat64())
			case 1:
				values[i] = float32(rng.IntN(5)) - 2
			case 2:
				values[i] = float32(math.Exp(20 * rng.NormFloat64()))
			case 3:
				values[i] = -float32(math.Exp(35 * rng.NormFloat64()))
			}
			if values[i] = max(-maxNorm, min(values[i], maxNorm)); rng.IntN(50) == 0 {
				values[i] = float32(math.Inf(-1))
			}
		}
		k, span := 1+rng.IntN(100), 64*(1+rng.IntN(4))
		r := newReservoirs(1, k, len(values), span)[0]
		r.reset()
		var order []int32
		for first := 0; first < len(values); first += span {
			r.offer(Best.kernel(), values[first:min(first+span, len(values))], first)
		}
		for i, v := range values {
			if !math.IsInf(float64(v), -1) {
				order = append(order, int32(i))
			}
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(values[b], values[a]) })
		want := slices.Clone(order[:min(k, len(order))])
		slices.Sort(want)
		if got := r.index[:r.n]; !slices.Equal(got, want) {
			t.Fatalf("trial %d, %d values in spans of %d, k = %d: kept %v, want %v", trial, len(values), span, k, got, want)
		}
	}
}

// TestUnit: every level multiplies alike, to the bit, and writes nothing else.
func TestUnit(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	for _, level := range Levels() {
		for _, n := range []int{0, 8, 16, 384} {
			src, want, got := make([]float32, n), make([]float32, n), make([]float32, n+1)
			for i := range src {
				src[i] = float32(rng.NormFloat64() * math.Exp(40*rng.NormFloat64()))
			}
			got[n] = 7
			unitPortable(want, src, 1e-20/3)
			level.kernel().unit(got[:n:n], src, 1e-20/3)
			if !slices.Equal(got[:n], want) || got[n] != 7 {
				t.Errorf("%s, %d values: %v, want %v", level, n, got, want)
			}
		}
	}
}
