package linalg

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"github.com/tasterhq/taster/detect"
)

// A block of queries meets a block of points at a time. Their products, 399 KB, and a chunk of the queries, 147 KB, stay in a
// second-level cache of a megabyte; a chunk of a panel of points, 48 KB, in the first level.
const (
	queryBlock = 96   // a multiple of every tile's rows
	pointBlock = 1024 // a multiple of every panel's rows and of lanes
	depthChunk = 384
	pieces     = 4 // for each worker at least, so that none waits long for the last
	aligned    = 64 / 4
)

// CPU is the engine that is always there.
type CPU struct {
	// Level is the vector instructions to use; the zero value takes the best that the processor has.
	Level Level
}

// Load implements [Engine].
func (e CPU) Load(points Matrix, metric Metric) (Index, error) {
	if err := points.check("the point matrix"); err != nil {
		return nil, err
	}
	ix := newIndex(points, metric, e.Level.kernel())
	padded := (points.Rows + lanes - 1) / lanes * lanes
	ix.bias = make([]float32, padded)
	ix.panels = alignedFloats(padded * points.Cols)
	side := ix.kernel.cols
	ready, wide := make([]float32, side*points.Cols), make([]float64, ix.width)
	for first := 0; first < padded; first += side {
		clear(ready)
		for r := range side {
			p := first + r
			ix.bias[p] = float32(math.Inf(-1))
			if p >= points.Rows || !ix.prepare(ready[r*points.Cols:(r+1)*points.Cols], points.Row(p)) {
				continue
			}
			ix.keep(p, points.Row(p), wide)
			ix.bias[p] = 0
			if metric == L2 {
				norm, _ := squaredNorm(ready[r*points.Cols : (r+1)*points.Cols])
				ix.bias[p] = -norm / 2
			}
		}
		ix.kernel.pack(ix.panels[first*points.Cols:], ready, points.Cols, side, points.Cols)
	}
	return ix, nil
}

// inWords has the points in words too, where the level has them.
func (ix *cpuIndex) inWords() {
	if ix.kernel.words == nil {
		return
	}
	side, half := ix.kernel.cols, ix.width/2
	ix.words = alignedFloats(len(ix.bias) * half)
	rounded, scratch := make([]float32, side*half), make([]float32, ix.width)
	for first := 0; first < len(ix.bias); first += side {
		clear(rounded)
		for r := range side {
			if p := first + r; p < ix.rows {
				ix.round(rounded[r*half:(r+1)*half], scratch, ix.raw[p*ix.width:p*ix.width+ix.cols])
			}
		}
		ix.kernel.pack(ix.words[first*half:], rounded, half, side, half)
	}
}

// newIndex returns an index with room for points as they are given, and with nothing to multiply.
func newIndex(points Matrix, metric Metric, kernel *kernel) *cpuIndex {
	ix := &cpuIndex{kernel: kernel, cols: points.Cols, rows: points.Rows, metric: metric}
	ix.origin = make([]float32, points.Cols)
	if metric == L2 {
		ix.origin = centre(points)
	}
	ix.width = max(1, (points.Cols+15)/16) * 16
	ix.raw = make([]float32, points.Rows*ix.width)
	ix.norms = make([]float64, points.Rows)
	return ix
}

// keep takes row p as it is given; wide is scratch of one row's width.
func (ix *cpuIndex) keep(p int, given []float32, wide []float64) {
	row := ix.raw[p*ix.width : (p+1)*ix.width]
	copy(row, given)
	if ix.metric == Cosine {
		widen(wide, row)
		ix.kernel.dots([]int32{int32(p)}, ix.width, wide, ix.raw, ix.norms[p:])
	}
}

// given returns a copy of the points as they were given.
func (ix *cpuIndex) given() Matrix {
	m := Matrix{Rows: ix.rows, Cols: ix.cols, Data: make([]float32, 0, ix.rows*ix.cols)}
	for p := range ix.rows {
		m.Data = append(m.Data, ix.raw[p*ix.width:p*ix.width+ix.cols]...)
	}
	return m
}

// alignedFloats returns zeros that begin where a line of the cache does: a vector of 64 bytes across two costs twice.
func alignedFloats(n int) []float32 {
	s := make([]float32, n+aligned)
	skip := -int(uintptr(unsafe.Pointer(&s[0]))/4) & (aligned - 1)
	return s[skip : skip+n : skip+n]
}

// pack writes the first depth columns of rows of src, stride apart, as panels of the kernel's width: value c of row r of panel p comes to
// stand at (p*depth+c)*width + r. What is missing in the last panel is zero.
func (k *kernel) pack(dst, src []float32, stride, rows, depth int) {
	side := k.cols
	for ; rows > 0 && depth > 0; rows -= side {
		for r := 0; r < side; r += 8 {
			if r+8 <= rows {
				k.transpose(depth/8, src[r*stride:], stride, dst[r:], side)
				for i := r; i < r+8; i++ {
					for c := depth &^ 7; c < depth; c++ {
						dst[c*side+i] = src[i*stride+c]
					}
				}
				continue
			}
			for i := r; i < r+8; i++ {
				for c := range depth {
					v := float32(0)
					if i < rows {
						v = src[i*stride+c]
					}
					dst[c*side+i] = v
				}
			}
		}
		if rows > side {
			src = src[side*stride:]
			dst = dst[side*depth:]
		}
	}
}

// cpuIndex holds the points twice, and for [Sets] once more in words. Packed, centred (L2) or at unit length (cosine), they are what queries are multiplied with: a
// query is nearer to the point with the larger q·p + bias, where bias is −‖p‖²/2 for L2, 0 for cosine, and −∞ for what is nobody's
// neighbour. Somewhat more points than were asked for are chosen so, and as given they then tell which of them are the
// nearest, and how far they are.
type cpuIndex struct {
	kernel     *kernel
	rows, cols int
	metric     Metric
	origin     []float32 // the points' mean for L2; distances do not change, cancellation becomes harmless
	panels     []float32 // padded to lanes
	bias       []float32
	words      []float32 // panels of the same in whole numbers of 16 bits, or nil
	width      int       // of a row of raw: cols in whole sixteens
	raw        []float32 // rows × width
	norms      []float64 // of points, squared, for cosine
	idle       sync.Pool // of *search, for the next call that asks for as many neighbours
}

// prepare writes a row to dst in the form in which it is multiplied; false if it takes no part.
func (ix *cpuIndex) prepare(dst, row []float32) bool {
	if _, ok := squaredNorm(row); !ok {
		return false
	}
	if ix.metric == Cosine {
		scale := scaleOf(wideSquares(row))
		whole := len(row) &^ 7
		ix.kernel.unit(dst[:whole], row, scale)
		unitPortable(dst[whole:len(row)], row[whole:], scale)
		return true
	}
	origin := ix.origin[:len(row)]
	for i, x := range row {
		dst[i] = x - origin[i]
	}
	return true
}

// scaleOf returns what gives a row of so long a square length 1; 0 of none.
func scaleOf(square float64) float64 {
	if square > 0 { // a float32 sum of squares of tiny numbers is too coarse to divide by
		return 1 / math.Sqrt(square)
	}
	return 0
}

// unitWord is what a row of length 1 is multiplied with to be rounded to words: none of its values is larger than 1, and by Cauchy and Schwarz no sum
// of products, nor of some of them, than 2³⁰ and a little.
const unitWord = math.MaxInt16

// wordError is by how much the product of two rows of length 1, so many values each, may differ from that of their words: each value is off by half a
// word and a little, a row by the root of their number times as much.
func wordError(cols int) float64 {
	off := 0.51 * math.Sqrt(float64(cols)) / unitWord
	return off*(2+off) + float64(cols+64)*0x1p-24 // which rows are given as, and sums become
}

// round writes a row to dst in words; false if it takes no part.
func (ix *cpuIndex) round(dst, scratch, row []float32) bool {
	if _, ok := squaredNorm(row); !ok {
		return false
	}
	scale := scaleOf(wideSquares(row))
	if len(row) != ix.width {
		copy(scratch, row)
		row = scratch[:ix.width]
	}
	if scale > 1e30 { // which times unitWord is no float32
		for i, x := range row {
			scratch[i] = float32(float64(x) * scale)
		}
		row, scale = scratch[:ix.width], 1
	}
	ix.kernel.words(dst, row, float32(scale*unitWord))
	return true
}

// wideSquares returns the sum of squares, added up in eight sums.
func wideSquares(row []float32) float64 {
	if len(row)%8 == 0 {
		return Best.kernel().wideNorm(row)
	}
	return wideNormPortable(row)
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
	workers = max(1, min(workers, runtime.GOMAXPROCS(0)))
	blocks := (queries.Rows + queryBlock - 1) / queryBlock
	// Few queries meet the points in several spans, whose best are then put together.
	span := len(ix.bias)
	if blocks > 0 && workers > 1 && blocks < pieces*workers {
		spans := (pieces*workers + blocks - 1) / blocks
		span = max(1, (len(ix.bias)/spans+pointBlock-1)/pointBlock) * pointBlock
	}
	spans := max(1, (len(ix.bias)+span-1)/max(1, span))
	var parts []part
	if spans > 1 {
		parts = make([]part, queries.Rows*spans)
	}
	most := min(queryBlock, queries.Rows)
	ix.each(blocks*spans, workers, func(s *search, i int) {
		s.ready(k, most)
		first, from := i/spans*queryBlock, i%spans*span
		end, to := min(first+queryBlock, queries.Rows), min(from+span, len(ix.bias))
		s.run(queries, first, end, from, to)
		for q := first; q < end; q++ {
			r := &s.nearest[q-first]
			if spans > 1 {
				parts[q*spans+i%spans] = r.part()
				continue
			}
			s.answer(queries.Row(q), r.index[:r.n], found, q)
		}
	})
	if spans > 1 {
		const few = 8
		ix.each((queries.Rows+few-1)/few, workers, func(s *search, i int) {
			s.ready(k, 0)
			for q := i * few; q < min((i+1)*few, queries.Rows); q++ {
				s.answer(queries.Row(q), s.merge(parts[q*spans:(q+1)*spans]), found, q)
			}
		})
	}
	return found, nil
}

// each calls f for 0 to n, from so many goroutines, each with scratch of its own.
func (ix *cpuIndex) each(n, workers int, f func(s *search, i int)) {
	var mu sync.Mutex
	var used []*search
	detect.Chunks(n, 1, workers, func() func(first, end int) {
		s, ok := ix.idle.Get().(*search)
		if !ok {
			s = ix.newSearch()
		}
		mu.Lock()
		used = append(used, s)
		mu.Unlock()
		return func(first, _ int) { f(s, first) }
	})
	for _, s := range used {
		ix.idle.Put(s)
	}
}

// search is one goroutine's scratch.
type search struct {
	ix       *cpuIndex
	k        int
	stride   int       // of rows: an odd number of cache lines, lest they fall on each other's place
	rows     []float32 // prepared queries
	products []float32 // a row of productStride for each
	nearest  []reservoir
	row      []float32 // one, with zeros up to whole sixteens
	query    []float64 // one query as it was given
	norm     float64   // and its square, for cosine
	distance []float64 // of candidates
	norms    []float64 // and their lengths, squared
	order    []float64 // the same, to be sorted
	farthest float64   // distance of those that were kept, of cosine
	index    []int32   // of candidates that were put together
}

const productStride = pointBlock + aligned

func (ix *cpuIndex) newSearch() *search {
	stride := ix.width + aligned
	if stride%(2*aligned) == 0 {
		stride += aligned
	}
	return &search{ix: ix, stride: stride, row: make([]float32, ix.width), query: make([]float64, ix.width)}
}

// ready makes room for so many queries, at most queryBlock, of k neighbours.
func (s *search) ready(k, queries int) {
	if len(s.products) < queries*productStride {
		s.rows, s.products = alignedFloats(queries*s.stride), alignedFloats(queries*productStride)
	}
	if s.k != k || len(s.nearest) < queries {
		s.k, s.nearest = k, newReservoirs(queries, candidates(k), s.ix.rows, pointBlock)
	}
}

// candidates is how many points are looked at in float64 for k neighbours: products in float32 may exchange those whose distances
// differ by the last digits.
func candidates(k int) int { return k + 5 + k/8 }

// run fills a reservoir for each of queries first to end, at most queryBlock of them, from points from to to.
func (s *search) run(queries Matrix, first, end, from, to int) {
	ix, n := s.ix, end-first
	for i := range n {
		s.nearest[i].reset()
		if !s.prepare(i, queries.Row(first+i), false) {
			s.nearest[i].close()
		}
	}
	for p := from; p < to; p += pointBlock {
		wide := min(pointBlock, to-p)
		s.multiply(0, n, p, p+wide, 0, false)
		for i := range n {
			s.nearest[i].offer(ix.kernel, s.products[i*productStride:i*productStride+wide], p)
		}
	}
}

// prepare makes query row i of those that are multiplied; it is all zeros, and false returned, if it takes no part.
func (s *search) prepare(i int, query []float32, words bool) (ok bool) {
	row := s.rows[i*s.stride : i*s.stride+s.ix.width]
	if words {
		ok = s.ix.round(row, s.row, query)
	} else {
		ok = s.ix.prepare(row[:s.ix.cols], query)
	}
	if !ok {
		clear(row)
	}
	return ok
}

// multiply sets products of rows first to end, prepared or in words, with points from to to, from column at on.
func (s *search) multiply(first, end, from, to, at int, words bool) {
	ix := s.ix
	tiles, panels, cols := ix.kernel.tiles, ix.panels, ix.cols
	if words {
		tiles, panels, cols = ix.kernel.wordTiles, ix.words, ix.width/2
	}
	side := ix.kernel.cols
	high := len(tiles) - 1
	for c := 0; c == 0 || c < cols; c += depthChunk {
		depth := min(depthChunk, cols-c)
		for p := from; p < to; p += side {
			panel := panels[p*cols+c*side:]
			for q := first; q < end; q += high {
				dst := s.products[q*productStride+at+p-from:]
				start, step := dst, productStride
				if c == 0 {
					start, step = ix.bias[p:], 0
				}
				tiles[min(high, end-q)](depth, s.rows[q*s.stride+c:], s.stride, panel, start, step, dst, productStride)
			}
		}
	}
}

// part is what a span of points has for a query: candidates, rising in index.
type part struct {
	index []int32
	value []float32
}

// merge returns the best candidates of all parts, rising in index.
func (s *search) merge(parts []part) []int32 {
	s.index, s.distance = s.index[:0], s.distance[:0]
	for _, p := range parts {
		s.index = append(s.index, p.index...)
		for _, v := range p.value {
			s.distance = append(s.distance, -float64(v))
		}
	}
	return s.index[:s.keep(s.index, candidates(s.k))]
}

// keep moves the k entries of index with the smallest of s.distance to the front, in their order, distances with them; of equal ones
// it takes the first. It returns how many there are.
func (s *search) keep(index []int32, k int) int {
	if len(index) <= k {
		return len(index)
	}
	s.order = append(s.order[:0], s.distance...)
	bar, ties := smallest(s.order, k)
	n := 0
	for i, d := range s.distance[:len(index)] {
		index[n], s.distance[n] = index[i], d
		one := 0
		if d <= bar {
			one = 1
		}
		n += one
	}
	if n <= k {
		return n
	}
	all := n // more equal the last than there is room for
	n = 0
	for i, d := range s.distance[:all] {
		if d == bar {
			if ties == 0 {
				continue
			}
			ties--
		}
		index[n], s.distance[n] = index[i], d
		n++
	}
	return n
}

// answer writes the neighbours of query q among candidates, which it may reorder.
func (s *search) answer(query []float32, index []int32, found Neighbours, q int) {
	if len(index) > 0 {
		s.take(query)
	}
	s.nearestOf(index, found, q)
}

// take has the next distances be from a query.
func (s *search) take(query []float32) {
	widen(s.query, query)
	if s.ix.metric == Cosine {
		s.norm = wideSquares(query)
	}
}

// measure sets the distances of candidates, squared ones of L2, in float64.
func (s *search) measure(index []int32) {
	ix := s.ix
	s.distance = slices.Grow(s.distance[:0], len(index))[:len(index)]
	if len(index) == 0 {
		return
	}
	if ix.metric == L2 {
		ix.kernel.squares(index, ix.width, s.query, ix.raw, s.distance)
		return
	}
	ix.kernel.dots(index, ix.width, s.query, ix.raw, s.distance)
	padded := (len(index) + 7) &^ 7
	s.distance, s.norms = slices.Grow(s.distance, 7)[:padded], slices.Grow(s.norms[:0], padded)[:padded]
	for i, p := range index {
		s.norms[i] = ix.norms[p]
	}
	for i := len(index); i < padded; i++ {
		s.norms[i] = 0
	}
	ix.kernel.cosines(s.distance, s.norms, s.norm)
	s.distance = s.distance[:len(index)]
}

// nearestOf writes the nearest of candidates, which it may reorder, as the neighbours of query q.
func (s *search) nearestOf(index []int32, found Neighbours, q int) {
	s.measure(index)
	kept := s.keep(index, found.K)
	s.farthest = 0
	for _, d := range s.distance[:kept] {
		s.farthest = max(s.farthest, d)
	}
	copy(found.Index[q*found.K:], index[:kept])
	distance := found.Distance[q*found.K : (q+1)*found.K]
	for i, d := range s.distance[:kept] {
		if s.ix.metric == L2 {
			d = math.Sqrt(d)
		}
		distance[i] = float32(d)
	}
	found.none(q, kept)
}

// widen writes row to the start of dst.
func widen(dst []float64, row []float32) {
	whole := len(row) &^ 7
	Best.kernel().widen(dst, row[:whole])
	widenPortable(dst[whole:], row[whole:])
}
