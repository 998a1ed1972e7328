package linalg

import "golang.org/x/sys/cpu"

var hasTile = cpu.X86.HasAVX2 && cpu.X86.HasFMA

const (
	tileRows = 6  // queries
	tileCols = 16 // points
)

// tile computes a 6 × 16 piece of the product: dst[r*stride+c] = bias[c] + Σ a[i*6+r]·b[i*16+c] over i < depth. Twelve
// accumulators of eight floats fill the AVX2 registers; every step of i loads 16 points once and multiplies them with six
// queries.
//
//go:noescape
func tile(depth int, a, b, bias, dst *float32, stride int)

//go:noescape
func countAboveAVX2(values *float32, n int, bar float32) int

//go:noescape
func markFromAVX2(values *float32, n int, bar float32, marks *uint64)

func countAbove(values []float32, bar float32) int {
	if !hasTile || len(values) == 0 {
		return countAbovePortable(values, bar)
	}
	return countAboveAVX2(&values[0], len(values), bar)
}

func markFrom(values []float32, bar float32, marks []uint64) {
	if !hasTile || len(values) == 0 {
		markFromPortable(values, bar, marks)
		return
	}
	markFromAVX2(&values[0], len(values), bar, &marks[:len(values)/lanes][0])
}

// tileProduct holds both sides in panels: the tile's rows interleaved, so that it reads memory in one stream.
type tileProduct struct {
	points, bias, panels []float32
	cols                 int
}

// packPoints lays points out for the tile, once.
func packPoints(points []float32, cols int, bias []float32) func() product {
	packed := make([]float32, len(points)+1) // one more: the address of an empty panel must be valid
	interleave(packed, points, cols, tileCols)
	return func() product {
		return &tileProduct{points: packed, bias: bias, cols: cols, panels: make([]float32, queryBlock*cols+1)}
	}
}

// interleave writes panels of side rows each: value c of row r of panel p stands at (p*cols+c)*side + r.
func interleave(dst, rows []float32, cols, side int) {
	for p := 0; p+side*cols <= len(rows) && cols > 0; p += side * cols {
		panel := dst[p : p+side*cols]
		for r := range side {
			for c, x := range rows[p+r*cols : p+(r+1)*cols] {
				panel[c*side+r] = x
			}
		}
	}
}

func (t *tileProduct) queries(rows []float32) { interleave(t.panels, rows, t.cols, tileRows) }

func (t *tileProduct) block(dst []float32, stride, first int) {
	for p := 0; p < pointBlock; p += tileCols {
		for q := 0; q < queryBlock; q += tileRows {
			tile(t.cols, &t.panels[q*t.cols], &t.points[(first+p)*t.cols], &t.bias[first+p], &dst[q*stride+p], stride)
		}
	}
}
