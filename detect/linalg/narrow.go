package linalg

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

const (
	mostColumns = 16       // of points that are narrow
	mostNarrow  = 1 << 12  // of them: every query meets them all
	sampled     = 64       // points by which the distance of the k-th nearest is guessed
	eight       = 8        // values that are looked at at once
	exactly     = 1 << 22  // the largest over the smallest of so few float32 that their sum in float64 is exact in any order
	fewSums     = 1<<7 - 1 // how many that are
)

// Narrow is a set of points of few columns, for questions about many neighbours of each query. Every distance is computed in float64, which costs
// less than to choose by products: a point has a vector's lane, not a column. It is safe for concurrent use.
type Narrow struct {
	with       *narrowKernel
	rows, cols int
	width      int       // columns, with those of zeros that fill it up to a power of two
	points     []float64 // eight points side by side, column after column; what is nobody's neighbour is infinitely far away
	reachable  int
	idle       sync.Pool // of *narrowScratch
}

// narrowKernel is what a level answers with; each slice has a multiple of eight values.
type narrowKernel struct {
	// columns sets out to squared distances, in float64, added up as [exact] does.
	columns [mostColumns + 1]func(query, points, out []float64)
	// kth returns a bar, and how many more than k values are at most the bar: 0 to slack, or else as many as equal the bar and are too many.
	// Values are not negative; those that are NaN count as the largest.
	kth func(values []float64, k, slack int) (bar float64, surplus int)
	// upTo writes values of at most bar to the front of out, and whatever to the rest of up to eight more.
	upTo func(values []float64, bar float64, out []float64) int
	// roots says of the square roots, rounded to float32, of values that are at most bar: their sum, and the least of them all, the least above
	// zero and the largest.
	roots func(values []float64, bar float64) (sum, least, some, most float64)
}

// Sum is what a query's k nearest points have in distances.
type Sum struct {
	Count             int // of neighbours: k, or fewer where there are not so many
	Total             float64
	Nearest, Farthest float32
}

type narrowScratch struct{ query, squares, near []float64 }

// NewNarrow keeps points for questions about L2 distances; false where they are not narrow, or this processor answers such questions no
// faster than an [Index] does.
func NewNarrow(points Matrix, level Level) (*Narrow, bool) {
	return newNarrow(points, level.kernel().narrow)
}

func newNarrow(points Matrix, with *narrowKernel) (*Narrow, bool) {
	if with == nil || points.check("the point matrix") != nil || points.Cols < 1 || points.Cols > mostColumns || points.Rows > mostNarrow {
		return nil, false
	}
	n := &Narrow{with: with, rows: points.Rows, cols: points.Cols, width: 2}
	for n.width < n.cols {
		n.width *= 2
	}
	padded := (points.Rows + sampled - 1) / sampled * sampled
	n.points = make([]float64, padded*n.width)
	for p := range padded {
		block := n.points[p/eight*eight*n.width:]
		if p < points.Rows {
			if _, ok := squaredNorm(points.Row(p)); ok {
				n.reachable++
				for c, x := range points.Row(p) {
					block[c*eight+p%eight] = float64(x)
				}
				continue
			}
		}
		block[p%eight] = math.Inf(1)
	}
	return n, true
}

// Sums answers for every query, with the same bits as the distances of an index's k nearest, added up in the order of points, have. There is no
// sum for a query that is nobody's neighbour.
func (n *Narrow) Sums(out []Sum, queries Matrix, k int) error {
	if err := checkQueries(queries, n.cols, k); err != nil {
		return err
	}
	if len(out) != queries.Rows {
		return fmt.Errorf("%w: %d queries and room for %d sums", ErrShape, queries.Rows, len(out))
	}
	k = min(k, n.reachable)
	s, ok := n.idle.Get().(*narrowScratch)
	if !ok {
		padded := len(n.points) / n.width
		s = &narrowScratch{make([]float64, n.width), make([]float64, padded), make([]float64, padded+eight)}
	}
	defer n.idle.Put(s)
	for q := range out {
		if out[q] = (Sum{}); k == 0 {
			continue
		}
		if row := queries.Row(q); finiteRow(row) {
			widen(s.query, row)
			out[q] = n.sum(s, k)
		}
	}
	return nil
}

func finiteRow(row []float32) bool {
	_, ok := squaredNorm(row)
	return ok
}

// sum answers for s.query.
func (n *Narrow) sum(s *narrowScratch, k int) Sum {
	n.with.columns[n.width](s.query, n.points, s.squares)
	// Some of the points say where about the k-th nearest lies: a little beyond it is all that counts.
	guess := math.MaxFloat64
	if first := min(sampled, 3*sampled*k/(2*n.rows)+3); n.rows >= 2*sampled && first < sampled {
		guess, _ = n.with.kth(s.squares[:sampled], first, sampled/16)
	}
	count := n.with.upTo(s.squares, guess, s.near)
	if count < k {
		guess = math.MaxFloat64
		count = n.with.upTo(s.squares, guess, s.near)
	}
	near := s.near[:(count+eight-1)/eight*eight]
	for i := count; i < len(near); i++ {
		near[i] = math.Nextafter(guess, math.Inf(1))
	}
	bar, surplus := n.with.kth(near, k, 0)
	total, least, some, most := n.with.roots(near, bar)
	if k > fewSums || most > exactly*some {
		return inOrder(near[:count], bar, k, surplus)
	}
	return Sum{k, total - float64(surplus)*most, float32(least), float32(most)}
}

// inOrder adds up one after the other. Of those that equal the bar the last ones are too many.
func inOrder(values []float64, bar float64, k, surplus int) Sum {
	equal := 0
	for _, v := range values {
		if v == bar {
			equal++
		}
	}
	if surplus > 0 {
		equal -= surplus
	}
	s := Sum{Count: k, Nearest: math.MaxFloat32}
	for _, v := range values {
		if v > bar {
			continue
		}
		if v == bar {
			if equal == 0 {
				continue
			}
			equal--
		}
		d := float32(math.Sqrt(v))
		s.Total += float64(d)
		s.Nearest, s.Farthest = min(s.Nearest, d), max(s.Farthest, d)
	}
	return s
}

// narrowPortable is what to read, and what the others are compared with.
var narrowPortable = narrowKernel{kth: kthPortable, upTo: upToPortable, roots: rootsPortable,
	columns: [mostColumns + 1]func(query, points, out []float64){2: columnsPortable, 4: columnsPortable, 8: columnsPortable, 16: columnsPortable}}

func columnsPortable(query, points, out []float64) {
	for i := range out {
		var sums [16]float64
		for c, q := range query {
			d := points[(i/eight*len(query)+c)*eight+i%eight] - q
			sums[c] = float64(d * d)
		}
		out[i] = halves(&sums)
	}
}

func kthPortable(values []float64, k, _ int) (bar float64, surplus int) {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, func(a, b float64) int {
		switch x, y := math.Float64bits(a), math.Float64bits(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	bar = sorted[k-1]
	for _, v := range sorted[k:] {
		if v == bar {
			surplus++
		}
	}
	return bar, surplus
}

func upToPortable(values []float64, bar float64, out []float64) (n int) {
	for _, v := range values {
		if v <= bar {
			out[n] = v
			n++
		}
	}
	return n
}

func rootsPortable(values []float64, bar float64) (sum, least, some, most float64) {
	least, some = math.Inf(1), math.Inf(1)
	for _, v := range values {
		if v <= bar {
			d := float64(float32(math.Sqrt(v)))
			sum, least, most = sum+d, min(least, d), max(most, d)
			if d > 0 {
				some = min(some, d)
			}
		}
	}
	return sum, least, some, most
}
