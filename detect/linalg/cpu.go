package linalg

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// A block of queries meets a span of points in one piece of work, whose products (at most 225 KB) stay in the cache. gonum
// multiplies up to three of its 64 × 64 blocks on the calling goroutine, which is what queryBlock × pointBlock is; they are
// multiples of the sides of the assembly tile (6 × 16).
const (
	queryBlock = 60
	pointBlock = 192
	spanBlocks = 5 // blocks of points whose products are looked at together
)

// CPU is the engine that is always there. Products are gonum's Sgemm (and therefore whatever stands behind blas32), or, on
// processors with AVX2 and FMA, a tile of assembly that does the same two to five times as fast. The tile keeps to the calling
// goroutine: who has several cuts the left matrix.
type CPU struct {
	// Portable keeps to gonum where the assembly could run.
	Portable bool
}

// Load implements [Engine].
func (e CPU) Load(points Matrix, metric Metric) (Index, error) {
	if err := points.check("the point matrix"); err != nil {
		return nil, err
	}
	ix := &cpuIndex{cols: points.Cols, rows: points.Rows, metric: metric, origin: make([]float32, points.Cols)}
	tiled := hasTile && !e.Portable
	ix.width = points.Cols
	if !tiled {
		// gonum's dot products begin with as many scalar steps as it takes to reach an address that 16 divides: where rows
		// begin at different phases, equal points get different products and ties go astray.
		ix.width = (points.Cols + 3) / 4 * 4
	}
	if metric == L2 {
		ix.origin = centre(points)
	}
	padded := (points.Rows + pointBlock - 1) / pointBlock * pointBlock
	ix.bias = make([]float32, padded)
	rows := make([]float32, padded*ix.width)
	for p := range ix.bias {
		ix.bias[p] = float32(math.Inf(-1))
		if p < points.Rows {
			if norm, ok := ix.prepare(rows[p*ix.width:], points.Row(p)); ok {
				ix.bias[p] = 0
				if metric == L2 {
					ix.bias[p] = -norm / 2
				}
			}
		}
	}
	if tiled {
		ix.newProduct = packPoints(rows, ix.width, ix.bias)
	} else {
		ix.newProduct = gonumPoints(rows, ix.width, ix.bias)
	}
	return ix, nil
}

// Product implements [Engine].
func (e CPU) Product(dst, a, b Matrix) error {
	if err := checkProduct(dst, a, b); err != nil {
		return err
	}
	switch {
	case len(dst.Data) == 0:
	case a.Cols == 0:
		clear(dst.Data)
	case hasTile && !e.Portable:
		tiledProduct(dst, a, b)
	default:
		gonumProductOf(dst, a, b)
	}
	return nil
}

func gonumProductOf(dst, a, b Matrix) {
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, a.general(), b.general(), 0, dst.general())
}

func (m Matrix) general() blas32.General {
	return blas32.General{Rows: m.Rows, Cols: m.Cols, Stride: m.Cols, Data: m.Data}
}

// cpuIndex holds the points centred (L2) or at unit length (cosine). A query is nearer to the point with the larger
// q·p + bias, where bias is −‖p‖²/2 for L2, 0 for cosine, and −∞ for what is nobody's neighbour.
type cpuIndex struct {
	rows, cols int
	width      int // of a row as it is multiplied: cols, or a little more
	metric     Metric
	origin     []float32 // the points' mean for L2; distances do not change, cancellation becomes harmless
	bias       []float32 // padded to whole blocks
	newProduct func() product
	idle       sync.Pool // of *search, for the next call that asks for as many neighbours
}

// product multiplies a block of queries with blocks of points. It belongs to one goroutine.
type product interface {
	// queries takes queryBlock rows, of which the first n count.
	queries(rows []float32, n int)
	// block sets dst (queryBlock × pointBlock, rows stride apart) to q·p + bias of the points from first on, for the
	// queries that count. An explanation asks for one.
	block(dst []float32, stride, first int)
}

// prepare writes a row to the start of dst in the form in which it is multiplied, and returns its squared length before
// scaling. A row that takes no part becomes zero.
func (ix *cpuIndex) prepare(dst, row []float32) (norm float32, ok bool) {
	dst = dst[:ix.cols]
	if norm, ok = squaredNorm(row); !ok {
		clear(dst)
		return norm, false
	}
	for i, x := range row {
		dst[i] = x - ix.origin[i]
	}
	norm, _ = squaredNorm(dst) // at most four times the bound, and finite
	if ix.metric == Cosine && norm > 0 {
		var wide float64 // a float32 sum of squares of tiny numbers is too coarse to divide by
		for _, x := range dst {
			wide += float64(x) * float64(x)
		}
		scale := 1 / math.Sqrt(wide)
		for i, x := range dst {
			dst[i] = float32(float64(x) * scale)
		}
	}
	return norm, true
}

// centre returns the mean of the rows that take part.
func centre(m Matrix) []float32 {
	sum, n := make([]float64, m.Cols), 0.0
	for r := range m.Rows {
		if _, ok := squaredNorm(m.Row(r)); ok {
			n++
			for c, x := range m.Row(r) {
				sum[c] += float64(x)
			}
		}
	}
	mean := make([]float32, m.Cols)
	for c := range mean {
		if n > 0 {
			mean[c] = float32(sum[c] / n)
		}
	}
	return mean
}

// Nearest implements [Index].
func (ix *cpuIndex) Nearest(queries Matrix, k, workers int) (Neighbours, error) {
	if err := checkQueries(queries, ix.cols, k); err != nil {
		return Neighbours{}, err
	}
	found := newNeighbours(queries.Rows, k)
	blocks := (queries.Rows + queryBlock - 1) / queryBlock
	workers = max(1, min(workers, blocks, runtime.GOMAXPROCS(0)))
	var next atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			s, ok := ix.idle.Get().(*search)
			if !ok || s.k != k {
				s = ix.newSearch(k)
			}
			defer ix.idle.Put(s)
			for {
				b := int(next.Add(1)) - 1
				if b >= blocks {
					return
				}
				s.run(queries, found, b*queryBlock, min((b+1)*queryBlock, queries.Rows))
			}
		})
	}
	wait.Wait()
	return found, nil
}

// search is one goroutine's scratch.
type search struct {
	ix       *cpuIndex
	k        int
	product  product
	rows     []float32 // queryBlock prepared queries
	norms    []float32
	span     int       // points whose products are looked at together
	products []float32 // queryBlock × span
	nearest  []reservoir
}

func (ix *cpuIndex) newSearch(k int) *search {
	span := min(len(ix.bias), spanBlocks*pointBlock)
	return &search{
		ix:       ix,
		k:        k,
		product:  ix.newProduct(),
		rows:     make([]float32, queryBlock*ix.width),
		norms:    make([]float32, queryBlock),
		span:     span,
		products: make([]float32, queryBlock*span),
		nearest:  newReservoirs(queryBlock, k, ix.rows, span),
	}
}

// run answers queries first to end, at most queryBlock of them.
func (s *search) run(queries Matrix, found Neighbours, first, end int) {
	width := s.ix.width
	for i := range end - first {
		norm, ok := s.ix.prepare(s.rows[i*width:], queries.Row(first+i))
		if !ok {
			norm = float32(math.NaN())
		}
		s.norms[i] = norm
		s.nearest[i].reset()
	}
	clear(s.rows[(end-first)*width:])
	s.product.queries(s.rows, end-first)
	for p := 0; p < len(s.ix.bias); p += s.span {
		wide := min(s.span, len(s.ix.bias)-p)
		for b := 0; b < wide; b += pointBlock {
			s.product.block(s.products[b:], s.span, p+b)
		}
		for i := range end - first {
			s.nearest[i].offer(s.products[i*s.span:i*s.span+wide], p)
		}
	}
	for i := range end - first {
		lo, hi := (first+i)*found.K, (first+i+1)*found.K
		s.answer(i, found.Index[lo:hi], found.Distance[lo:hi])
	}
}

// answer turns what query i's reservoir kept into neighbours.
func (s *search) answer(i int, index []int32, distance []float32) {
	kept := s.nearest[i].n
	if s.norms[i] != s.norms[i] {
		kept = 0
	}
	copy(index, s.nearest[i].index[:kept])
	for n, value := range s.nearest[i].value[:kept] {
		if s.ix.metric == Cosine {
			distance[n] = max(0, 1-value)
		} else {
			distance[n] = float32(math.Sqrt(float64(max(0, s.norms[i]-2*value))))
		}
	}
	for n := kept; n < len(index); n++ {
		index[n], distance[n] = -1, float32(math.NaN())
	}
}

// gonumPoints multiplies with blas32.
func gonumPoints(points []float32, cols int, bias []float32) func() product {
	return func() product { return &gonumProduct{points: points, bias: bias, cols: cols} }
}

type gonumProduct struct {
	points, bias, rows []float32
	cols, n            int
}

func (g *gonumProduct) queries(rows []float32, n int) { g.rows, g.n = rows, n }

func (g *gonumProduct) block(dst []float32, stride, first int) {
	for q := range g.n {
		copy(dst[q*stride:q*stride+pointBlock], g.bias[first:first+pointBlock])
	}
	if g.cols == 0 {
		return
	}
	a := Matrix{g.n, g.cols, g.rows[:g.n*g.cols]}
	b := Matrix{pointBlock, g.cols, g.points[first*g.cols : (first+pointBlock)*g.cols]}
	c := blas32.General{Rows: g.n, Cols: pointBlock, Stride: stride, Data: dst}
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, a.general(), b.general(), 1, c)
}
