package consistency

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
)

const (
	mostLearned   = 4096 // rows that a discriminant is learned from
	mostClasses   = 64   // a discriminant of more classes costs more than it tells
	fewestLearned = 12   // rows of a class from which it takes part
	folds         = 3
	shrinkage     = 0.5 // half-way between the classes' common covariance and a sphere (Friedman, "Regularized discriminant analysis", 1989)
)

// discriminant tells classes apart by a linear function each, of which the largest wins.
type discriminant struct {
	class  map[string]int
	dim    int
	whole  functions
	held   [folds]functions // of all rows but those of a fold
	foldOf []int8           // by row of sample; -1: learned from by none
	sample *detect.Sample
}

// functions are weight·x + bias for every class.
type functions struct {
	weight [][]float32
	bias   []float64
}

// moments are sums over rows: how many, of their vectors by class, and of their products.
type moments struct {
	n       []float64
	sum     [][]float64
	product []float64 // dim × dim
}

// newDiscriminant returns nil where there are no embeddings, or fewer than two classes to tell apart, or more than can be.
func newDiscriminant(engine linalg.Engine, s *detect.Sample, env detect.Env) (*discriminant, error) {
	if s.Embedding == nil || s.Dim == 0 {
		return nil, nil
	}
	members := make([][]int, len(s.Classes))
	kept := 0
	for _, row := range rand.New(rand.NewPCG(env.Seed, 0xf15e)).Perm(s.N) {
		if label := s.Label[row]; label >= 0 && kept < mostLearned && has(s, row) && finite(s.Embedding[row*s.Dim:(row+1)*s.Dim]) {
			members[label] = append(members[label], row)
			kept++
		}
	}
	d := &discriminant{class: map[string]int{}, dim: s.Dim, sample: s, foldOf: make([]int8, s.N)}
	for row := range d.foldOf {
		d.foldOf[row] = -1
	}
	var rows [folds][]int
	var classes [folds][]int
	for label, own := range members {
		if len(own) < fewestLearned {
			continue
		}
		class := len(d.class)
		d.class[s.Classes[label]] = class
		for i, row := range own {
			f := i % folds
			d.foldOf[row] = int8(f)
			rows[f], classes[f] = append(rows[f], row), append(classes[f], class)
		}
	}
	if len(d.class) < 2 || len(d.class) > mostClasses {
		return nil, nil
	}
	var parts [folds]moments
	all := newMoments(len(d.class), s.Dim)
	for f := range parts {
		var err error
		if parts[f], err = gather(engine, s, rows[f], classes[f], len(d.class)); err != nil {
			return nil, err
		}
		all.add(parts[f], 1)
	}
	var ok bool
	if d.whole, ok = all.solve(); !ok {
		return nil, nil
	}
	for f := range parts {
		all.add(parts[f], -1)
		if d.held[f], ok = all.solve(); !ok {
			return nil, nil
		}
		all.add(parts[f], 1)
	}
	return d, nil
}

// finite tells whether a vector has a length that can be computed with.
func finite(v []float32) bool {
	var norm float64
	for _, x := range v {
		norm += float64(x) * float64(x)
	}
	return norm <= 1e30
}

func newMoments(classes, dim int) moments {
	m := moments{n: make([]float64, classes), product: make([]float64, dim*dim)}
	for range classes {
		m.sum = append(m.sum, make([]float64, dim))
	}
	return m
}

// gather sums over rows.
func gather(engine linalg.Engine, s *detect.Sample, rows, classes []int, n int) (moments, error) {
	m := newMoments(n, s.Dim)
	// Vectors as columns; whole groups of four, so that products do not depend on where memory lies.
	across := linalg.Matrix{Rows: s.Dim, Cols: (len(rows) + 3) / 4 * 4}
	across.Data = make([]float32, across.Rows*across.Cols)
	for i, row := range rows {
		m.n[classes[i]]++
		for j, v := range s.Embedding[row*s.Dim : (row+1)*s.Dim] {
			m.sum[classes[i]][j] += float64(v)
			across.Data[j*across.Cols+i] = v
		}
	}
	product := linalg.Matrix{Rows: s.Dim, Cols: s.Dim, Data: make([]float32, s.Dim*s.Dim)}
	if err := engine.Product(product, across, across); err != nil {
		return m, err
	}
	for i, v := range product.Data {
		m.product[i] = float64(v)
	}
	return m, nil
}

func (m *moments) add(other moments, times float64) {
	for c, n := range other.n {
		m.n[c] += times * n
		for j, v := range other.sum[c] {
			m.sum[c][j] += times * v
		}
	}
	for i, v := range other.product {
		m.product[i] += times * v
	}
}

// solve returns the linear discriminants of classes that count the same, whatever their rows.
func (m *moments) solve() (functions, bool) {
	classes, dim := len(m.n), len(m.sum[0])
	var rows float64
	means := mat.NewDense(dim, classes, nil)
	for c, n := range m.n {
		rows += n
		for j, v := range m.sum[c] {
			means.Set(j, c, v/n)
		}
	}
	within := mat.NewSymDense(dim, nil)
	var trace float64
	for i := range dim {
		for j := i; j < dim; j++ {
			v := m.product[i*dim+j]
			for c, n := range m.n {
				v -= m.sum[c][i] * m.sum[c][j] / n
			}
			v /= rows
			if i == j {
				trace += v / float64(dim)
			}
			within.SetSym(i, j, (1-shrinkage)*v)
		}
	}
	if !(trace > 0) {
		return functions{}, false
	}
	for i := range dim {
		within.SetSym(i, i, within.At(i, i)+shrinkage*trace)
	}
	var cholesky mat.Cholesky
	var solved mat.Dense
	if !cholesky.Factorize(within) || cholesky.SolveTo(&solved, means) != nil {
		return functions{}, false
	}
	f := functions{bias: make([]float64, classes)}
	for c := range classes {
		weight := make([]float32, dim)
		for j := range weight {
			weight[j] = float32(solved.At(j, c))
			f.bias[c] -= solved.At(j, c) * means.At(j, c) / 2
		}
		f.weight = append(f.weight, weight)
	}
	return f, true
}

// of returns the place of a class, -1 for one that takes no part.
func (d *discriminant) of(class string) int {
	if c, ok := d.class[class]; ok {
		return c
	}
	return -1
}

// score returns how far the best other class's function is above the own one's; NaN where that cannot be told. class is
// the place of the row's class, -1 for none.
func (d *discriminant) score(s *detect.Sample, row, class int) float64 {
	if class < 0 || !has(s, row) {
		return math.NaN()
	}
	own, _, other := d.values(s, row, class)
	return clamp(other - own)
}

func clamp(v float64) float64 { return max(-1e6, min(v, 1e6)) }

// values returns the own class's function, and the other that is the largest.
func (d *discriminant) values(s *detect.Sample, row, class int) (own float64, best int, other float64) {
	f := &d.whole
	if s == d.sample && d.foldOf[row] >= 0 {
		f = &d.held[d.foldOf[row]]
	}
	v := s.Embedding[row*s.Dim : (row+1)*s.Dim]
	best, other = -1, math.Inf(-1)
	for c, weight := range f.weight {
		g := float64(dot(v, weight)) + f.bias[c]
		if c == class {
			own = g
		} else if g > other || math.IsNaN(g) {
			best, other = c, g
		}
	}
	return own, best, other
}

func (d *discriminant) explain(s *detect.Sample, row, class int) string {
	own, best, other := d.values(s, row, class)
	for name, c := range d.class {
		if c == best && other > own {
			return fmt.Sprintf("on the side of %q by a linear discriminant", name)
		}
	}
	return "on the side of its class by a linear discriminant"
}
