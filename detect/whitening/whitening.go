// Package whitening makes the classes of a reference round: it estimates, robustly, how vectors scatter about the centre of
// their class and gives the linear map after which that scatter is alike in all directions. What poison adds then
// stands out by its own size and not by that of the directions in which clean data happen to vary (SPECTRE: Hayase, Kong,
// Somani, Oh, "Defending against backdoor attacks using robust covariance estimation", ICML 2021).
//
// The covariance is that of all classes together, each about its own centre: a class of a hundred rows has none of its own in
// hundreds of dimensions. It is the mean over the 95 % of the rows that lie nearest by the covariance of all (one
// concentration step of Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant estimator",
// Technometrics 1999), shrunk towards a multiple of the identity by Ledoit and Wolf ("A well-conditioned estimator for
// large-dimensional covariance matrices", Journal of Multivariate Analysis 2004). At most 4,096 rows are looked at: an
// entry of the covariance has a relative standard error of about 2 %.
//
// What it does not do: a row's group is given by its label; nothing is learned about classes that the reference lacks, whose
// rows are whitened like the others.
package whitening

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/linalg"
)

const (
	most    = 4096 // rows that a covariance is made from
	fewest  = 16   // rows without which there is none
	trimmed = 0.05 // of them that lie farthest do not count
	ridge   = 1e-4 // least shrinkage: a covariance of copies would have no inverse
)

// Chunk is how many rows are worth a piece of work.
const Chunk = 1024

// Group is the rows of one class that have a vector, in the order of a hash of what it is made from: the same order wherever they
// stand in the sample, equal rows side by side.
type Group struct {
	Class string
	Rows  []int
	Hash  []uint64 // of each of Rows, rising
}

// groups returns the groups of a sample that v fits, by class number, those without rows left out.
func groups(v embedding.Vectors, s *detect.Sample, workers int) []Group {
	if !v.Fits(s) || s.Label == nil {
		return nil
	}
	hash, has := make([]uint64, s.N), make([]bool, s.N)
	detect.Rows(s.N, Chunk, workers, func(first, end int) { v.Hashes(hash[first:end], has[first:end], s, first) })
	byLabel := make([]Group, len(s.Classes))
	for row, label := range s.Label {
		if has[row] && label >= 0 {
			byLabel[label].Rows = append(byLabel[label].Rows, row)
		}
	}
	groups := byLabel[:0]
	for label, g := range byLabel {
		if len(g.Rows) > 0 {
			g.Class = s.Classes[label]
			g.sort(hash)
			groups = append(groups, g)
		}
	}
	return groups
}

func (g *Group) sort(hash []uint64) {
	slices.SortFunc(g.Rows, func(a, b int) int {
		if c := cmp.Compare(hash[a], hash[b]); c != 0 {
			return c
		}
		return a - b
	})
	g.Hash = make([]uint64, len(g.Rows))
	for i, row := range g.Rows {
		g.Hash[i] = hash[row]
	}
}

// Fingerprint is the same for the same rows in any order, and adds up over groups.
func (g Group) Fingerprint() uint64 {
	sum := uint64(len(g.Rows))
	for _, h := range g.Hash {
		sum += h * (h | 1)
	}
	return sum
}

// Halves parts the rows in two by a bit of their hash: equal rows stay together.
func (g Group) Halves() (a, b []int) {
	for i, row := range g.Rows {
		if h := g.Hash[i]; (h^h>>32^h>>17)&1 == 0 {
			a = append(a, row)
		} else {
			b = append(b, row)
		}
	}
	return a, b
}

// Vectors returns the vectors of the given rows, each of which has one, as a matrix.
func Vectors(v embedding.Vectors, s *detect.Sample, rows []int) linalg.Matrix {
	return Gather(nil, v, s, rows)
}

// Gather is Vectors in scratch, where that has the room; what it returns is overwritten by the next call with the same.
func Gather(scratch []float32, v embedding.Vectors, s *detect.Sample, rows []int) linalg.Matrix {
	n := len(rows) * v.Dim()
	if cap(scratch) < n {
		scratch = make([]float32, n)
	}
	m := linalg.Matrix{Rows: len(rows), Cols: v.Dim(), Data: scratch[:n]}
	for i, row := range rows {
		v.Soon(s, rows, i)
		v.Known(m.Row(i), s, row)
	}
	return m
}

// Map is what makes vectors round: y = W·x.
type Map struct {
	W      linalg.Matrix // dim × dim, lower triangular, the inverse of the covariance's Cholesky factor
	Shrunk float64       // how far the covariance is a multiple of the identity, 0 to 1

	lower, across linalg.Operand // W and its transpose, kept where products are made
}

// Round returns rows after the map, in scratch where that has the room.
func (m Map) Round(scratch []float32, rows linalg.Matrix) (linalg.Matrix, error) {
	return times(scratch, rows, m.lower)
}

// Back returns directions as they are before the map: u·(W·v) = (Wᵀ·u)·v, so vectors need not be made round to be judged by them.
func (m Map) Back(u linalg.Matrix) (linalg.Matrix, error) { return times(nil, u, m.across) }

func times(scratch []float32, rows linalg.Matrix, square linalg.Operand) (linalg.Matrix, error) {
	if cap(scratch) < len(rows.Data) {
		scratch = make([]float32, len(rows.Data))
	}
	out := linalg.Matrix{Rows: rows.Rows, Cols: rows.Cols, Data: scratch[:len(rows.Data)]}
	return out, square.Product(out, rows)
}

// Scratch keeps what was allocated for many values and is given back.
type Scratch struct{ pool sync.Pool }

// Take returns room for n values, which may be anything.
func (s *Scratch) Take(n int) *[]float32 {
	room, _ := s.pool.Get().(*[]float32)
	if room == nil || cap(*room) < n {
		one := make([]float32, n)
		return &one
	}
	*room = (*room)[:n]
	return room
}

// Give gives room back, to which nothing may refer any more.
func (s *Scratch) Give(room *[]float32) { s.pool.Put(room) }

// Fit estimates the map from the vectors of some classes, a matrix each, of which it takes the first rows in proportion; ok is
// false where they are too few.
func Fit(engine linalg.Engine, classes []linalg.Matrix) (m Map, ok bool, err error) {
	total := 0
	for _, c := range classes {
		total += c.Rows
	}
	if total < fewest {
		return Map{}, false, nil
	}
	x := linalg.Matrix{Cols: classes[0].Cols}
	var class []int // of each row of x
	for i, c := range classes {
		rows := c.Rows
		if total > most {
			rows = max(min(rows, 2), rows*most/total)
		}
		x.Data = append(x.Data, c.Data[:rows*c.Cols]...)
		x.Rows += rows
		for range rows {
			class = append(class, i)
		}
	}
	counts := make([]bool, x.Rows)
	for i := range counts {
		counts[i] = true
	}
	centred := linalg.Matrix{Rows: x.Rows, Cols: x.Cols, Data: make([]float32, len(x.Data))}
	if m, err = concentrate(engine, x, centred, class, len(classes), counts); err != nil {
		return Map{}, false, err
	}
	y := linalg.Matrix{Rows: x.Rows, Cols: x.Cols, Data: make([]float32, len(x.Data))}
	if err := engine.Product(y, centred, m.W); err != nil {
		return Map{}, false, err
	}
	far := make([]float64, x.Rows)
	for i := range far {
		for _, value := range y.Row(i) {
			far[i] += float64(value) * float64(value)
		}
	}
	sorted := slices.Clone(far)
	slices.Sort(sorted)
	bar := sorted[int(float64(len(sorted)-1)*(1-trimmed))]
	for i := range counts {
		// No small class loses its centre.
		counts[i] = far[i] <= bar || float64(classes[class[i]].Rows) < 2/trimmed
	}
	if m, err = concentrate(engine, x, centred, class, len(classes), counts); err != nil {
		return m, false, err
	}
	if m.lower, err = linalg.KeepLower(engine, m.W); err == nil {
		m.across, err = linalg.KeepAcross(engine, m.W)
	}
	return m, err == nil, err
}

// concentrate returns the map for the rows that count, about their classes' centres, and sets centred to all rows less those.
func concentrate(engine linalg.Engine, x, centred linalg.Matrix, class []int, classes int, counts []bool) (Map, error) {
	centre, size := make([][]float64, classes), make([]float64, classes)
	for i, c := range class {
		if !counts[i] {
			continue
		}
		if centre[c] == nil {
			centre[c] = make([]float64, x.Cols)
		}
		size[c]++
		sums := centre[c]
		for j, value := range x.Row(i) {
			sums[j] += float64(value)
		}
	}
	middle := make([][]float32, classes)
	for c, sums := range centre {
		for _, sum := range sums {
			middle[c] = append(middle[c], float32(sum/size[c]))
		}
	}
	kept, free := linalg.Matrix{Cols: x.Cols, Data: make([]float32, 0, len(x.Data))}, 0.0
	for i, c := range class {
		from, to := x.Row(i), centred.Row(i)
		for j, m := range middle[c] {
			to[j] = from[j] - m
		}
		if counts[i] {
			kept.Data = append(kept.Data, centred.Row(i)...)
			kept.Rows++
		}
	}
	free = float64(kept.Rows)
	for c := range classes { // a class of one row has no scatter
		if size[c] > 0 {
			free--
		}
	}
	return mapOf(engine, kept, max(free, 1))
}

// mapOf returns the map for centred rows with so many degrees of freedom.
func mapOf(engine linalg.Engine, x linalg.Matrix, free float64) (Map, error) {
	d := x.Cols
	t := x.Transpose()
	product := linalg.Matrix{Rows: d, Cols: d, Data: make([]float32, d*d)}
	if err := engine.Product(product, t, t); err != nil {
		return Map{}, err
	}
	var trace, square, fourth float64
	for i, v := range product.Data {
		v := float64(v) / free
		square += v * v
		if i%(d+1) == 0 {
			trace += v
		}
	}
	for i := range x.Rows {
		norm := 0.0
		for _, v := range x.Row(i) {
			norm += float64(v) * float64(v)
		}
		fourth += norm * norm
	}
	mean := trace / float64(d)
	if !(mean > 1e-30) || math.IsInf(square, 0) { // all rows are equal: any direction is as good as another
		mean = max(mean, 1e-30)
		if math.IsInf(mean, 0) {
			mean = 1
		}
		w := linalg.Matrix{Rows: d, Cols: d, Data: make([]float32, d*d)}
		for i := range d {
			w.Data[i*d+i] = float32(1 / math.Sqrt(max(mean, 1e-12)))
		}
		return Map{W: w, Shrunk: 1}, nil
	}
	shrunk := 1.0
	if scatter := square - trace*mean; scatter > 0 {
		shrunk = max(ridge, min(1, (fourth/free-square)/free/scatter))
	}
	covariance := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			v := (1 - shrunk) * float64(product.Data[i*d+j]) / free
			if i == j {
				v += shrunk * mean
			}
			covariance.SetSym(i, j, v)
		}
	}
	var factor mat.Cholesky
	w := linalg.Matrix{Rows: d, Cols: d, Data: make([]float32, d*d)}
	if !factor.Factorize(covariance) { // only rounding can do that
		for i := range d {
			w.Data[i*d+i] = float32(1 / math.Sqrt(covariance.At(i, i)))
		}
		return Map{W: w, Shrunk: 1}, nil
	}
	var lower, inverse mat.TriDense
	factor.LTo(&lower)
	if err := inverse.InverseTri(&lower); err != nil {
		if poor := mat.Condition(0); !errors.As(err, &poor) {
			return Map{}, err
		}
	}
	for i := range d {
		for j := 0; j <= i; j++ {
			w.Data[i*d+j] = float32(inverse.At(i, j))
		}
	}
	return Map{W: w, Shrunk: shrunk}, nil
}
