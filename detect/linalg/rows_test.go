package linalg

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/tasterhq/taster/detect/border"
)

// TestRowsSum: a sum of few rows is what the product with all of them gives, to the bit.
func TestRowsSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(37, 38))
	var sums Rows
	for _, level := range Levels() {
		for _, shape := range [][2]int{{1, 1}, {5, 7}, {40, 8}, {200, 63}, {391, 64}, {1000, 100}, {900, 384}} {
			x := Matrix{Rows: shape[0], Cols: shape[1], Data: make([]float32, shape[0]*shape[1])}
			for i := range x.Data {
				x.Data[i] = float32(rng.NormFloat64() * math.Exp(3*rng.NormFloat64()))
			}
			across, err := KeepAcross(CPU{Level: level}, x)
			if err != nil {
				t.Fatal(err)
			}
			for _, share := range []float64{0, 0.05, 1} {
				weights, index, some := make([]float32, x.Rows), []int32{}, []float32{}
				for i := range weights {
					if rng.Float64() < share {
						weights[i] = float32(rng.NormFloat64())
						index, some = append(index, int32(i)), append(some, weights[i])
					}
				}
				want, got := make([]float32, x.Cols), make([]float32, x.Cols+1)
				if err := across.Product(Matrix{1, x.Cols, want}, Matrix{1, x.Rows, weights}); err != nil {
					t.Fatal(err)
				}
				got[x.Cols] = 7
				sums.sum(level.kernel(), got[:x.Cols], index, some, x)
				for c, v := range want {
					if math.Float32bits(v) != math.Float32bits(got[c]) {
						t.Fatalf("%s, %d of %d × %d: column %d is %v, want %v", level, len(index), x.Rows, x.Cols, c, got[c], v)
					}
				}
				if got[x.Cols] != 7 {
					t.Fatalf("%s, %d columns: one more is written", level, x.Cols)
				}
			}
		}
	}
}

// TestMoments: every level adds up alike, to the bit.
func TestMoments(t *testing.T) {
	rng := rand.New(rand.NewPCG(39, 40))
	for _, shape := range [][2]int{{1, 1}, {3, 4}, {4, 3}, {5, 64}, {9, 127}, {8, 2048}} {
		x := Matrix{Rows: shape[0], Cols: shape[1], Data: make([]float32, shape[0]*shape[1])}
		for i := range x.Data {
			x.Data[i] = float32(rng.NormFloat64() * math.Exp(3*rng.NormFloat64()))
		}
		for _, level := range Levels() {
			sum, square := make([]float64, x.Rows), make([]float64, x.Rows)
			momentsOf(level.kernel(), sum, square, x)
			for r := range x.Rows {
				var s, q [4]float64
				for c, v := range x.Row(r) {
					if i := c % 4; c < x.Cols/4*4 {
						s[i] += float64(v)
						q[i] += float64(v) * float64(v)
					} else {
						s[0] += float64(v)
						q[0] += float64(v) * float64(v)
					}
				}
				if sum[r] != s[0]+s[1]+(s[2]+s[3]) || square[r] != q[0]+q[1]+(q[2]+q[3]) {
					t.Fatalf("%s, row %d of %d × %d: %v and %v", level, r, x.Rows, x.Cols, sum[r], square[r])
				}
			}
		}
	}
}

// TestRowKernelsStayInside: who reads or writes behind a slice dies.
func TestRowKernelsStayInside(t *testing.T) {
	for _, level := range Levels() {
		k := level.kernel()
		for _, width := range []int{8, 64, 72, 136} {
			for _, n := range []int{0, 1, 5} {
				room := border.Of[float32](t, max(1, n))
				index := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(room))), n)
				for i := range index {
					index[i] = int32(n - 1 - i)
				}
				k.sumRows(border.Of[float32](t, width), index, border.Of[float32](t, max(1, n))[:n], border.Of[float32](t, max(1, n)*width), width)
			}
			var out [4][2][4]float64
			k.rowMoments(border.Of[float32](t, 4*width), width, width/4, &out)
			k.rowMoments(border.Of[float32](t, 3*(width+3)+width), width+3, width/4, &out)
		}
	}
}
