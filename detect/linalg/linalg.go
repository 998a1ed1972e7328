// Package linalg is the matrix work that detectors stand on, behind one small interface, so that a CPU and an
// accelerator answer the same questions.
//
// An [Engine] makes reference points resident once ([Engine.Load]); batches of queries then ask the resulting
// [Index] for their k nearest. Distances and selection are fused: a block of the query × point matrix stays in the
// processor's cache and never reaches main memory. [Keep] does for products what Load does for neighbours: a matrix that many are multiplied with goes
// to a device once, and is packed once for the CPU.
//
// The CPU's assembly is written by gen, a module of its own (go generate), in tiles of 12 × 32 for AVX-512, 6 × 16 for AVX2 and 4 × 8
// for SSE; Go is what other architectures run. The points are packed once, in panels of a tile's width, and the sums of a
// tile begin at −½‖p‖², so that a distance needs no second pass (Goto, van de Geijn, "Anatomy of high-performance matrix
// multiplication", ACM Transactions on Mathematical Software 2008, on panels and chunks).
//
// Vocabulary: points are what is resident, queries what is asked, both rows of a [Matrix]. A row with a NaN, an
// infinity or a squared length above 1e37 has no neighbours and is nobody's neighbour; nothing
// that is in a matrix can make a call fail.
//
// Guarantees: results do not depend on the number of workers nor on which queries share a call. Equal distances
// go to the smallest index. On the CPU a distance is that of the rows as they are given, added up in float64 and rounded to float32,
// the same bits whatever instructions the processor has. Which points are the nearest is chosen by float32 products
// among somewhat more candidates (16 for 10) and then by those distances: a neighbour may be missed only where more others than
// that are spare lie as near within 2·d·2⁻²⁴·‖q‖‖p‖ of squared distance, lengths taken from the points' mean; for cosine within d·2⁻²⁴. Other engines may
// differ by rounding, and exchange neighbours whose distances differ by less.
//
// [Sets] answer for points that stand in several sets, by cosine. Processors with AVX512-VNNI choose there by rows of length 1 in whole numbers of 16 bits, whose products are exact and twice as fast. By how
// much those differ from the rows' own is bounded, and where that leaves a doubt which rows are the candidates, products in float32 are made after all; where those leave one,
// all that lie as near are measured: no neighbour is missed.
//
// [Narrow] answers for points of few columns and many neighbours, by every distance in float64.
//
// What it does not do: approximate search, and products wider than float32.
package linalg

import (
	"errors"
	"fmt"
	"math"
)

// Matrix is dense and row-major: row i is Data[i*Cols : (i+1)*Cols].
type Matrix struct {
	Rows, Cols int
	Data       []float32
}

// Row returns row i, not a copy.
func (m Matrix) Row(i int) []float32 { return m.Data[i*m.Cols : (i+1)*m.Cols] }

// Metric says how far apart two rows are.
type Metric uint8

const (
	// L2 is the Euclidean distance ‖q − p‖.
	L2 Metric = iota
	// Cosine is 1 − q·p/(‖q‖‖p‖), in [0, 2]; 1 when either is zero.
	Cosine
)

func (m Metric) String() string {
	if m == L2 {
		return "distance"
	}
	return "cosine"
}

// ErrShape is wrapped by every error that tells of matrices that do not fit each other: the caller's mistake.
var ErrShape = errors.New("matrix shapes do not fit")

// ErrLost is wrapped by errors of a device that is gone (reset, unplugged, out of memory). What was resident on it is
// lost; the same question may be put to another engine. [Resilient] does so.
var ErrLost = errors.New("device lost")

// Engine does the work in one place: the CPU, or an accelerator.
type Engine interface {
	// Load makes points resident, in whatever layout the engine likes. The matrix is not needed afterwards.
	Load(points Matrix, metric Metric) (Index, error)
	// Product sets dst (a.Rows × b.Rows) to a·bᵀ. dst must not overlap a or b.
	Product(dst, a, b Matrix) error
}

// Index is a resident set of points, safe for concurrent use. An index that holds memory outside Go's heap frees it
// when the garbage collector finds it unreachable.
type Index interface {
	// Nearest finds the k nearest points of every query, with at most workers goroutines.
	Nearest(queries Matrix, k, workers int) (Neighbours, error)
}

// Neighbours holds, for each query, its K nearest points as a set, in no particular order: entries q*K to (q+1)*K belong
// to query q. Where there are fewer than K neighbours the remaining entries, at the end, have index -1 and distance NaN.
type Neighbours struct {
	K        int
	Index    []int32
	Distance []float32
}

// Of returns the neighbours of query q, without the entries that stand for none.
func (n Neighbours) Of(q int) (index []int32, distance []float32) {
	lo, hi := q*n.K, (q+1)*n.K
	for hi > lo && n.Index[hi-1] < 0 {
		hi--
	}
	return n.Index[lo:hi], n.Distance[lo:hi]
}

// none says that query q has no more than so many neighbours.
func (n Neighbours) none(q, from int) {
	for i := q*n.K + from; i < (q+1)*n.K; i++ {
		n.Index[i], n.Distance[i] = -1, float32(math.NaN())
	}
}

func newNeighbours(queries, k int) Neighbours {
	return Neighbours{K: k, Index: make([]int32, queries*k), Distance: make([]float32, queries*k)}
}

func (m Matrix) check(what string) error {
	if m.Rows < 0 || m.Cols < 0 || len(m.Data) != m.Rows*m.Cols {
		return fmt.Errorf("%w: %s is %d × %d and has %d values", ErrShape, what, m.Rows, m.Cols, len(m.Data))
	}
	return nil
}

func checkQueries(queries Matrix, cols, k int) error {
	if err := queries.check("the query matrix"); err != nil {
		return err
	}
	if queries.Cols != cols && queries.Rows > 0 {
		return fmt.Errorf("%w: queries have %d columns, points %d", ErrShape, queries.Cols, cols)
	}
	if k < 1 {
		return fmt.Errorf("%w: %d neighbours asked for, want at least 1", ErrShape, k)
	}
	return nil
}

func checkProduct(dst, a, b Matrix) error {
	if err := b.check("the right matrix"); err != nil {
		return err
	}
	return checkLeft(dst, a, b.Rows, b.Cols)
}

// checkLeft is checkProduct for a right matrix of so many rows and columns.
func checkLeft(dst, a Matrix, rows, cols int) error {
	if err := dst.check("the destination"); err != nil {
		return err
	}
	if err := a.check("the left matrix"); err != nil {
		return err
	}
	if a.Cols != cols || dst.Rows != a.Rows || dst.Cols != rows {
		return fmt.Errorf("%w: %d × %d times the transpose of %d × %d into %d × %d",
			ErrShape, a.Rows, a.Cols, rows, cols, dst.Rows, dst.Cols)
	}
	return nil
}

// maxNorm keeps products, and sums of two of them, finite.
const maxNorm = 1e37

// squaredNorm returns ‖row‖² and whether the row takes part at all.
func squaredNorm(row []float32) (norm float32, ok bool) {
	norm = SquaredNorm(row)
	return norm, norm <= maxNorm
}

// SquaredNorm returns ‖row‖², added up in eight sums; NaN or infinite where the row, or its square, is.
func SquaredNorm(row []float32) float32 {
	if len(row)%8 == 0 {
		return Best.kernel().norm(row)
	}
	return normPortable(row)
}

// Times sets dst to a times b, value by value. All have one length.
func Times(dst, a, b []float32) {
	whole := len(dst) &^ 7
	Best.kernel().times(dst[:whole], a[:whole], b[:whole])
	timesPortable(dst[whole:], a[whole:], b[whole:])
}

// Prefetch says that a row will be read soon: who takes rows from all over memory waits less.
func Prefetch(row []float32) { Best.kernel().prefetch(row) }
