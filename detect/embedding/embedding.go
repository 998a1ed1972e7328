// Package embedding scores rows by how far their vector lies from everything that the reference holds.
//
// What it catches: content of another kind than the reference's, and vectors that lie far from their own class. What it
// needs: an embedding, or text, for which it then makes a vector of its own. What it does not see: poison that was made
// to lie among clean vectors.
//
// Method. The score is the mean cosine distance to the 8 nearest of a subsample of the reference (Ramaswamy, Rastogi, Shim,
// "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000), divided by what is typical; where the row has a label that
// the reference knows, the same is asked of reference rows with that label, and the larger of both counts. Every dimension is
// divided by the square root of its standard deviation first, half the way to a whitened diagonal. 8 neighbours would be
// fooled by a clump of poison in the reference; therefore rows that lie far from their nearest tenth and yet have company are
// thrown away first, at most 3 % of the subsample: a small clump does not hide from so many neighbours.
//
// Text: words and character trigrams are hashed, weighted by how rare the reference has them (idf), and projected to 64
// dimensions by a count sketch (Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature hashing for large scale multitask
// learning", ICML 2009). Writing of another kind, another language or gibberish lies far from all; meaning does not count.
//
// Cost: fixed per row, whatever the reference: 640 distances (256 for text), and 256 for the class. Evidence: the distances,
// that of the nearest row too, and what is typical. Tried and left
// out: dividing a row's distance by that of its neighbours, as LOF does (ROC AUC on two public sets 0.67 and 0.62 instead of 0.77 and
// 0.69, and still a little less where the ratio only counts by its cube root).
package embedding

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	neighbours = 8
	subsample  = 640  // reference rows that are kept of given embeddings
	textSample = 256  // of texts, whose vectors say less
	perClass   = 256  // of one class
	minClass   = 32   // a class with fewer reference rows is not looked at by itself
	minRows    = 16   // a reference below this says nothing
	far        = 6    // MADs beyond the median distance to a tenth of the subsample, from where on a row is far off
	crowd      = 1.2  // times the median distance to three rows, up to where a row has company
	trimmable  = 0.03 // of a subsample that may be thrown away for being both
	same       = 1e-5 // cosine distance below which a neighbour is taken for the row itself
	floor      = 1e-4 // the least distance that is called typical
	chunk      = 1024
)

// Detector finds vectors far from the reference. The zero value computes on the CPU.
type Detector struct {
	Engine linalg.Engine // nil: the CPU; a device that gets lost is replaced by it
}

// Name implements [detect.Detector].
func (Detector) Name() string { return "embedding" }

// source makes vectors of rows.
type source interface {
	// fits says whether a sample has what the vectors are made from.
	fits(s *detect.Sample) bool
	// vector writes row's vector, or reports false where it has none.
	vector(dst []float32, s *detect.Sample, row int) bool
	dim() int
}

// Fit implements [detect.Detector].
func (d Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	m := &model{}
	vectors, ok := NewVectors(reference)
	if !ok {
		return nil, nil
	}
	kept := subsample
	if m.source = vectors.source; m.source.dim() == sketchDim && reference.Embedding == nil {
		kept = textSample
	}

	rng := rand.New(rand.NewPCG(env.Seed, 0x656d626564))
	rows := rng.Perm(reference.N)
	engine := linalg.Resilient(d.Engine)
	var err error
	if m.all, err = m.newNeighbourhood(engine, reference, rows, kept); err != nil || m.all == nil {
		return nil, err
	}
	if reference.Label == nil {
		return m, nil
	}
	m.class = map[string]*neighbourhood{}
	members := make([][]int, len(reference.Classes))
	for _, row := range rows {
		if label := reference.Label[row]; label >= 0 {
			members[label] = append(members[label], row)
		}
	}
	for label, rows := range members {
		if len(rows) < minClass {
			continue
		}
		n, err := m.newNeighbourhood(engine, reference, rows, perClass)
		if err != nil {
			return nil, err
		}
		if n != nil {
			m.class[reference.Classes[label]] = n
		}
	}
	return m, nil
}

type model struct {
	source source
	all    *neighbourhood
	class  map[string]*neighbourhood
}

// neighbourhood is a subsample of the reference, or of one class of it.
type neighbourhood struct {
	index   linalg.Index
	rows    int
	typical float64 // median of the rows' own mean distances
	nearest float64 // median of their distances to the nearest other row
}

// newNeighbourhood keeps the first of rows that have a vector, at most size; nil when they are too few.
func (m *model) newNeighbourhood(engine linalg.Engine, s *detect.Sample, rows []int, size int) (*neighbourhood, error) {
	points := linalg.Matrix{Cols: m.source.dim()}
	vector := make([]float32, points.Cols)
	for _, row := range rows {
		if points.Rows < size && m.source.vector(vector, s, row) {
			points.Data = append(points.Data, vector...)
			points.Rows++
		}
	}
	if points.Rows < minRows {
		return nil, nil
	}
	trimmed, err := trim(engine, points)
	if err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	distance := make([]float64, trimmed.Rows)
	n := &neighbourhood{rows: trimmed.Rows}
	if n.index, err = engine.Load(trimmed, linalg.Cosine); err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	if err := distances(n.index, distance, trimmed, neighbours); err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	n.typical = max(median(distance), floor)
	if err := distances(n.index, distance, trimmed, 1); err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	n.nearest = median(distance)
	return n, nil
}

// trim returns points without the clumps: those that are far from their nearest tenth, yet have company. Exact copies stay:
// empty texts and the like are natural, and floods of copies are found elsewhere.
func trim(engine linalg.Engine, points linalg.Matrix) (linalg.Matrix, error) {
	index, err := engine.Load(points, linalg.Cosine)
	if err != nil {
		return linalg.Matrix{}, err
	}
	tenth, company := make([]float64, points.Rows), make([]float64, points.Rows)
	if err := distances(index, tenth, points, points.Rows/10); err != nil {
		return linalg.Matrix{}, err
	}
	if err := distances(index, company, points, 3); err != nil {
		return linalg.Matrix{}, err
	}
	spread, middle := make([]float64, points.Rows), median(tenth)
	for i, d := range tenth {
		spread[i] = math.Abs(d - middle)
	}
	bar, close := middle+far*median(spread), crowd*median(company)
	var clump []int
	for i := range tenth {
		if tenth[i] > bar && company[i] < close && company[i] > same {
			clump = append(clump, i)
		}
	}
	slices.SortStableFunc(clump, func(a, b int) int { return cmp.Compare(tenth[b], tenth[a]) })
	clump = clump[:min(len(clump), int(trimmable*float64(points.Rows)))]
	kept := linalg.Matrix{Cols: points.Cols}
	for i := range points.Rows {
		if !slices.Contains(clump, i) {
			kept.Data = append(kept.Data, points.Row(i)...)
			kept.Rows++
		}
	}
	return kept, nil
}

// median returns the upper median of values, which it leaves as they are.
func median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// distances sets dst to each query's mean distance to its k nearest points, itself not counted.
func distances(index linalg.Index, dst []float64, queries linalg.Matrix, k int) error {
	found, err := index.Nearest(queries, k+1, 1)
	if err != nil {
		return err
	}
	for q := range dst {
		_, distance := found.Of(q)
		if len(distance) < 2 {
			dst[q] = math.NaN()
			continue
		}
		sum, nearest, farthest := 0.0, distance[0], distance[0]
		for _, d := range distance {
			sum += float64(d)
			nearest, farthest = min(nearest, d), max(farthest, d)
		}
		if nearest <= same {
			sum -= float64(nearest)
		} else {
			sum -= float64(farthest)
		}
		dst[q] = max(0, sum) / float64(len(distance)-1)
	}
	return nil
}

// score returns each query's mean distance in units of the typical one; NaN where it cannot be told.
func (n *neighbourhood) score(dst []float64, queries linalg.Matrix) {
	if distances(n.index, dst, queries, neighbours) != nil {
		for i := range dst {
			dst[i] = math.NaN()
		}
		return
	}
	for i := range dst {
		dst[i] /= n.typical
	}
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	all, own := make([]float64, s.N), make([]float64, s.N)
	for i := range all {
		all[i], own[i] = math.NaN(), math.NaN()
	}
	var classes []*neighbourhood // by the sample's own class numbers
	if s.Label != nil {
		for _, name := range s.Classes {
			classes = append(classes, m.class[name])
		}
	}
	if m.source.fits(s) {
		detect.Chunks(s.N, chunk, env.Workers, func() func(first, end int) {
			scratch := make([]float32, min(chunk, s.N)*m.source.dim())
			return func(first, end int) { m.score(s, classes, first, end, all, own, scratch) }
		})
	}
	value := make([]float64, s.N)
	for i := range value {
		if value[i] = all[i]; own[i] > all[i] {
			value[i] = own[i]
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonEmbedding, Explain: func(row int) string {
		if math.IsNaN(value[row]) {
			return "no vector to compare"
		}
		kept, where := m.all, ""
		if own[row] > all[row] {
			name := s.Classes[s.Label[row]]
			kept, where = m.class[name], fmt.Sprintf(" of its class %q", name)
		}
		why := fmt.Sprintf("mean cosine distance to the %d nearest of %d reference rows%s is %.3g, typically %.3g (%.3g times)",
			neighbours, kept.rows, where, value[row]*kept.typical, kept.typical, value[row])
		nearest, query := make([]float64, 1), linalg.Matrix{Rows: 1, Cols: m.source.dim(), Data: make([]float32, m.source.dim())}
		if m.source.vector(query.Data, s, row) && distances(kept.index, nearest, query, 1) == nil && nearest[0] == nearest[0] {
			why += fmt.Sprintf("; the nearest lies at %.3g, usually %.3g", nearest[0], kept.nearest)
		}
		return why
	}}
}

// score judges rows first to end, at most chunk of them, against all and against their own class.
func (m *model) score(s *detect.Sample, classes []*neighbourhood, first, end int, all, own []float64, scratch []float32) {
	rows := make([]int, end-first)
	for i := range rows {
		rows[i] = first + i
	}
	if classes != nil { // a class's rows side by side, so that they are one matrix
		slices.SortStableFunc(rows, func(a, b int) int { return cmp.Compare(s.Label[a], s.Label[b]) })
	}
	queries := linalg.Matrix{Cols: m.source.dim(), Data: scratch}
	n := 0
	for _, row := range rows {
		if m.source.vector(queries.Row(n), s, row) {
			rows[n] = row
			n++
		}
	}
	rows = rows[:n]
	found := make([]float64, n)
	m.all.score(found, slice(queries, 0, n))
	for i, row := range rows {
		all[row] = found[i]
	}
	for lo, hi := 0, 0; classes != nil && lo < n; lo = hi {
		label := s.Label[rows[lo]]
		for hi = lo; hi < n && s.Label[rows[hi]] == label; hi++ {
		}
		if label < 0 || classes[label] == nil {
			continue
		}
		classes[label].score(found[lo:hi], slice(queries, lo, hi))
		for i := lo; i < hi; i++ {
			own[rows[i]] = found[i]
		}
	}
}

// slice returns rows first to end of m, not a copy.
func slice(m linalg.Matrix, first, end int) linalg.Matrix {
	return linalg.Matrix{Rows: end - first, Cols: m.Cols, Data: m.Data[first*m.Cols : end*m.Cols]}
}

// given takes the vectors of the embedding role.
type given struct{ scale []float32 }

func newGiven(s *detect.Sample) given {
	g := given{scale: make([]float32, s.Dim)}
	sum, square, n := make([]float64, s.Dim), make([]float64, s.Dim), 0.0
	for row := range s.N {
		if v := vectorOf(s, row); v != nil {
			n++
			for i, x := range v {
				sum[i] += float64(x)
				square[i] += float64(x) * float64(x)
			}
		}
	}
	mean := 0.0
	for i := range sum {
		square[i] = math.Sqrt(max(0, square[i]/max(1, n)-sum[i]/max(1, n)*sum[i]/max(1, n)))
		mean += square[i] / float64(s.Dim)
	}
	for i, deviation := range square {
		// A dimension that hardly varies must not decide alone.
		g.scale[i] = 1
		if mean > 0 {
			g.scale[i] = float32(1 / math.Sqrt(max(deviation/mean, 1e-3)))
		}
	}
	return g
}

// vectorOf returns a row's embedding, or nil where it has none that can be computed with.
func vectorOf(s *detect.Sample, row int) []float32 {
	if s.HasEmbedding != nil && !s.HasEmbedding[row] {
		return nil
	}
	v := s.Embedding[row*s.Dim : (row+1)*s.Dim]
	if !(linalg.SquaredNorm(v) <= 1e30) {
		return nil
	}
	return v
}

func (g given) dim() int { return len(g.scale) }

func (g given) fits(s *detect.Sample) bool { return s.Embedding != nil && s.Dim == len(g.scale) }

func (g given) vector(dst []float32, s *detect.Sample, row int) bool {
	v := vectorOf(s, row)
	if v == nil {
		return false
	}
	linalg.Times(dst, v, g.scale)
	return true
}
