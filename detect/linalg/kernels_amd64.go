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
	cols, n              int
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

func (t *tileProduct) queries(rows []float32, n int) {
	t.n = (n + tileRows - 1) / tileRows * tileRows
	interleave(t.panels[:t.n*t.cols], rows[:t.n*t.cols], t.cols, tileRows)
}

func (t *tileProduct) block(dst []float32, stride, first int) {
	for p := 0; p < pointBlock; p += tileCols {
		for q := 0; q < t.n; q += tileRows {
			tile(t.cols, &t.panels[q*t.cols], &t.points[(first+p)*t.cols], &t.bias[first+p], &dst[q*stride+p], stride)
		}
	}
}

// tiledProduct sets dst to a·bᵀ, a tile at a time. Points of a block, at most half a megabyte of them, stay in the cache while
// all of a passes by.
func tiledProduct(dst, a, b Matrix) {
	cols := a.Cols
	wide := min((b.Rows+tileCols-1)/tileCols, max(1, (1<<17)/(tileCols*max(cols, 1)))) * tileCols
	points, queries := make([]float32, wide*cols+1), make([]float32, tileRows*cols+1)
	var bias [tileCols]float32
	var edge [tileRows * tileCols]float32
	for first := 0; first < b.Rows; first += wide {
		end := min(first+wide, b.Rows)
		for p := first; p < end; p += tileCols {
			pack(points[(p-first)*cols:], b, p, tileCols)
		}
		for q := 0; q < a.Rows; q += tileRows {
			pack(queries, a, q, tileRows)
			for p := first; p < end; p += tileCols {
				if q+tileRows <= a.Rows && p+tileCols <= b.Rows {
					tile(cols, &queries[0], &points[(p-first)*cols], &bias[0], &dst.Data[q*dst.Cols+p], dst.Cols)
					continue
				}
				tile(cols, &queries[0], &points[(p-first)*cols], &bias[0], &edge[0], tileCols)
				for r := range min(tileRows, a.Rows-q) {
					copy(dst.Row(q + r)[p:min(p+tileCols, b.Rows)], edge[r*tileCols:])
				}
			}
		}
	}
}

// pack writes side rows of m from first on as one panel, those behind the last as zeros.
func pack(panel []float32, m Matrix, first, side int) {
	for r := range side {
		if first+r >= m.Rows {
			for c := range m.Cols {
				panel[c*side+r] = 0
			}
			continue
		}
		for c, x := range m.Row(first + r) {
			panel[c*side+r] = x
		}
	}
}
