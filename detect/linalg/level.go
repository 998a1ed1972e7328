package linalg

import "fmt"

// Level is the vector instructions that the CPU engine uses. Every level gives the same distances, and the same neighbours but
// for those whose order rounding decides, as the package says.
type Level uint8

const (
	// Best is the highest level that the processor has.
	Best Level = iota
	// Portable is Go without assembly: what to read, and what other architectures run.
	Portable
	// SSE is what every amd64 has.
	SSE
	// AVX2 needs FMA too.
	AVX2
	// AVX512 needs its foundation and DQ; with BW and VNNI it has words too.
	AVX512
)

func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

var levelNames = [...]string{"best", "portable", "SSE", "AVX2", "AVX-512"}

// Levels returns those that this processor has, the best one last.
func Levels() []Level {
	out := []Level{Portable}
	for l := SSE; l <= AVX512; l++ {
		if kernels[l] != nil {
			out = append(out, l)
		}
	}
	return out
}

// kernel returns the level's functions, or those of the best level there is where the processor has not this one.
func (l Level) kernel() *kernel {
	if l != Best && int(l) < len(kernels) && kernels[l] != nil {
		return kernels[l]
	}
	best := AVX512
	for kernels[best] == nil {
		best--
	}
	return kernels[best]
}

// kernel is what a level does its work with.
type kernel struct {
	cols  int    // of a tile, and rows of a panel: a multiple of 8
	tiles []tile // tiles[r] has r rows; their number less one is the most
	// transpose writes blocks of eight columns of eight rows, stride apart, as rows, dstStride apart.
	transpose     func(blocks int, src []float32, stride int, dst []float32, dstStride int)
	squares, dots exact
	countAbove    func(values []float32, bar float32) int
	markFrom      func(values []float32, bar float32, marks []uint64)
	// unit sets dst[i] to src[i] times scale, multiplied in float64; len(dst) is a multiple of 8.
	unit func(dst, src []float32, scale float64)
	// norm and wideNorm return the sum of squares, in eight sums; len(row) is a multiple of 8.
	norm     func(row []float32) float32
	wideNorm func(row []float32) float64
	// rowMoments sets out, for each of four rows, stride apart, to four sums of values, by their number modulo four, and of their squares, of so many blocks of four.
	rowMoments func(rows []float32, stride, blocks int, out *[4][2][4]float64)
	// sumRows sets dst, a multiple of 8 values, to as many columns of Σ weights[i] times row index[i] of rows, so wide, added up in the order of i and rounded as tiles do.
	sumRows func(dst []float32, index []int32, weights, rows []float32, width int)
	// widen writes row to the start of dst; len(row) is a multiple of 8.
	widen func(dst []float64, row []float32)
	// prefetch says that a row will be read soon.
	prefetch func(row []float32)
	// times sets dst to a times b, value by value; len(dst) is a multiple of 8.
	times func(dst, a, b []float32)
	// words sets dst to src times scale, rounded to 16 bits, two in the room of a float32; len(src) is a multiple of 16. wordTiles have such pairs for a and b,
	// whose products they add up in whole numbers of 32 bits and then to from. Both are nil where that is no faster.
	words     func(dst, src []float32, scale float32)
	wordTiles []tile
	// indexFrom writes the numbers of values that are at least bar to the front of index, which has room for all, and whatever to the rest of up to sixteen more; len(values) is a
	// multiple of 16. Nil where words is nil.
	indexFrom func(values []float32, bar float32, index []int32) int
	// cosines makes distances of products, by the squares of both lengths, in float64; len(dots) is a multiple of 8.
	cosines func(dots, norms []float64, norm float64)
	narrow  *narrowKernel // nil: an index is as fast
	sums    *sumKernel    // nil: neighbours are as fast
}

// tile computes a piece of a product, a panel wide: dst[r*dstStride+c] = from[r*fromStride+c] + Σ a[r*stride+i]·b[i*cols+c] over
// i < depth, added up in the order of i. Each value is the same in a tile of any number of rows. from may be dst.
type tile func(depth int, a []float32, stride int, b, from []float32, fromStride int, dst []float32, dstStride int)

// exact sets out[i] to Σ (points[index[i]*width+c] − query[c])², or Σ points[index[i]*width+c]·query[c], in float64, in which query has values of float32; width is a multiple
// of 16 above 0. Columns are added up in sixteen sums, by their number modulo 16, and those by halves: all levels give
// the same bits.
type exact func(index []int32, width int, query []float64, points []float32, out []float64)
