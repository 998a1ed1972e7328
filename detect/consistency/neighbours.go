package consistency

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
)

const (
	ofAll       = 640  // rows of the reference that stand for all classes
	ofClass     = 256  // rows that stand for one
	fewestClass = 5    // rows of the reference without which a class is not known
	few         = 64   // rows of a class up to which it has no index
	part        = 10   // the nearest one in so many counts
	fewestNear  = 3    // or so many
	nothing     = 1e-6 // added to distances: identical vectors have a ratio too
)

// class is the subsample of one class.
type class struct {
	set      int32         // its number, of a class of more than few rows; 0 of smaller ones: a set has room for whole blocks,
	unit     linalg.Matrix // and a thousand small classes would fill memory with empty ones: their vectors at length 1
	rows     []int         // of the sample that was fitted
	k, other int           // rows that count, of its own and of other classes
	centre   float64       // median score of its rows
}

// neighbourhoods are subsamples of a reference: of all rows, and of each class.
type neighbourhoods struct {
	sample *detect.Sample // in which a row must not meet itself
	dim    int
	sets   *linalg.Sets    // the first of all, one for each class
	point  []int           // rows of sample that stand in them, by their numbers there
	of     []*class        // and their classes
	counts []linalg.Counts // of each set
	class  map[string]*class

	fitted      []int     // rows that were scored in fitting
	fittedScore []float64 // and their scores
}

// newNeighbourhoods returns nil where there are no embeddings, or less than two classes to compare.
func newNeighbourhoods(engine linalg.Engine, s *detect.Sample, env detect.Env) (*neighbourhoods, error) {
	if s.Embedding == nil || s.Dim == 0 {
		return nil, nil
	}
	members := make([][]int, len(s.Classes))
	for _, row := range rand.New(rand.NewPCG(env.Seed, 0xa9ee)).Perm(s.N) {
		if label := s.Label[row]; label >= 0 && has(s, row) {
			members[label] = append(members[label], row)
		}
	}
	n := &neighbourhoods{sample: s, dim: s.Dim, class: map[string]*class{}}
	total, most := 0, 0
	for _, rows := range members {
		if len(rows) >= fewestClass {
			total += len(rows)
		}
	}
	var all []int32 // points
	var sets []linalg.Set
	for label, rows := range members {
		if len(rows) < fewestClass {
			continue
		}
		// A class's share of all, but a small one is not left out.
		share := min(len(rows), max(fewestNear, ofAll*len(rows)/total))
		c := &class{rows: rows[:min(len(rows), ofClass)]}
		c.k, c.other = max(fewestNear, len(c.rows)/part), share
		n.class[s.Classes[label]] = c
		kept := share
		if len(c.rows) <= few {
			c.unit = vectors(s, c.rows)
			for i := range c.unit.Rows {
				toUnit(c.unit.Row(i))
			}
		} else {
			c.set = int32(len(sets) + 1)
			own := linalg.Set{K: c.k + 1}
			for i := range c.rows {
				own.Points = append(own.Points, int32(len(n.point)+i))
			}
			sets = append(sets, own)
			kept = max(share, len(c.rows))
		}
		for i, row := range rows[:kept] {
			if i < share {
				all = append(all, int32(len(n.point)))
			}
			n.point = append(n.point, row)
			n.of = append(n.of, c)
		}
	}
	for _, c := range n.class {
		c.other = max(fewestNear, min(c.other, len(all)-c.other)/part)
		most = max(most, c.other)
	}
	if len(n.class) < 2 {
		return nil, nil
	}
	// Of a row that agrees with its label most of the nearest are of its own class, and how far the others are is of no
	// interest: it is enough to know that they are farther. Nor is how far those of its own class are, of which its class is asked.
	sets = append([]linalg.Set{{Points: all, K: 2*most + 1}}, sets...)
	kind := make([]int32, len(n.point))
	for p, c := range n.of {
		kind[p] = c.set
	}
	n.counts = make([]linalg.Counts, len(sets))
	for _, c := range n.class {
		n.counts[c.set] = linalg.Counts{Own: c.k, Others: c.other}
	}
	var err error
	if n.sets, err = linalg.LoadSets(engine, vectors(s, n.point), sets, kind); err != nil {
		return nil, err
	}
	n.centre(s)
	return n, nil
}

// centre sets the classes' medians by their own rows, each without itself.
func (n *neighbourhoods) centre(s *detect.Sample) {
	of := make([]*class, len(s.Classes))
	for label, name := range s.Classes {
		if of[label] = n.class[name]; of[label] != nil {
			n.fitted = append(n.fitted, of[label].rows...)
		}
	}
	score := nans(s.N)
	var scratch scratch
	for first := 0; first < len(n.fitted); first += chunk {
		n.scoreRows(score, s, of, slices.Clone(n.fitted[first:min(first+chunk, len(n.fitted))]), &scratch)
	}
	for _, c := range of {
		if c == nil {
			continue
		}
		var own []float64
		for _, row := range c.rows {
			if !math.IsNaN(score[row]) {
				own = append(own, score[row])
			}
		}
		c.centre = median(own)
	}
	n.fittedScore = make([]float64, len(n.fitted))
	for at, row := range n.fitted {
		n.fittedScore[at] = score[row] - of[s.Label[row]].centre
	}
}

func has(s *detect.Sample, row int) bool { return s.HasEmbedding == nil || s.HasEmbedding[row] }

func vectors(s *detect.Sample, rows []int) linalg.Matrix {
	m := linalg.Matrix{Rows: len(rows), Cols: s.Dim, Data: make([]float32, 0, len(rows)*s.Dim)}
	for _, row := range rows {
		m.Data = append(m.Data, s.Embedding[row*s.Dim:(row+1)*s.Dim]...)
	}
	return m
}

// scratch is what one goroutine needs, again and again.
type scratch struct {
	rows    []int
	sets    []int32 // of each of rows
	queries []float32

	nearest, distances, unit []float32 // of one of them

	byWords      []int // rows of which words are asked
	mine, theirs []float64
}

// longSample is the most rows of a sample whose distances are all exact. Rounded ones cost half, and segments that cost much by their
// number of vectors are longer.
const longSample = detect.Enough / 2

// score sets dst for the rows from first to end that can be judged.
func (n *neighbourhoods) score(dst []float64, s *detect.Sample, classes []*class, first, end int, with *scratch) {
	with.rows = with.rows[:0]
	for row := first; row < end; row++ {
		if label := s.Label[row]; label >= 0 && classes[label] != nil && has(s, row) {
			with.rows = append(with.rows, row)
		}
	}
	if s.N > longSample && s != n.sample && n.sets.ByWords() {
		n.scoreByWords(dst, s, classes, with)
	}
	n.scoreRows(dst, s, classes, with.rows, with)
}

// scoreByWords sets dst for those rows by what products of whole numbers tell of their distances, and leaves the others to be scored one by one: rows of small classes,
// those that lie very near to their neighbours, and what has no length.
func (n *neighbourhoods) scoreByWords(dst []float64, s *detect.Sample, classes []*class, with *scratch) {
	byClass(s, with.rows)
	with.byWords, with.sets = with.byWords[:0], with.sets[:0]
	left := with.rows[:0]
	for _, row := range with.rows {
		if set := classes[s.Label[row]].set; set > 0 {
			with.byWords, with.sets = append(with.byWords, row), append(with.sets, set)
		} else {
			left = append(left, row)
		}
	}
	some := len(with.byWords)
	with.mine, with.theirs = slices.Grow(with.mine[:0], some)[:some], slices.Grow(with.theirs[:0], some)[:some]
	all := linalg.Matrix{Rows: s.N, Cols: s.Dim, Data: s.Embedding}
	n.sets.Means(all, with.byWords, with.sets, n.counts, with.mine, with.theirs)
	for q, row := range with.byWords {
		if mine, theirs := with.mine[q], with.theirs[q]; mine == mine {
			dst[row] = math.Log(mine+nothing) - math.Log(theirs+nothing) - classes[s.Label[row]].centre
		} else {
			left = append(left, row)
		}
	}
	with.rows = left
}

// byClass sorts rows so that those of a class stand side by side, which linalg.Sets multiplies at once.
func byClass(s *detect.Sample, rows []int) {
	slices.SortStableFunc(rows, func(a, b int) int { return cmp.Compare(s.Label[a], s.Label[b]) })
}

// scoreRows sets dst for rows, all of which have a class that is known and a vector. It sorts rows.
func (n *neighbourhoods) scoreRows(dst []float64, s *detect.Sample, classes []*class, rows []int, with *scratch) {
	byClass(s, rows)
	with.queries, with.sets = with.queries[:0], with.sets[:0]
	for _, row := range rows {
		with.queries = append(with.queries, s.Embedding[row*s.Dim:(row+1)*s.Dim]...)
		with.sets = append(with.sets, classes[s.Label[row]].set)
	}
	queries := linalg.Matrix{Rows: len(rows), Cols: s.Dim, Data: with.queries}
	others, own, err := n.sets.Nearest(queries, with.sets)
	if err != nil {
		return // no opinion
	}
	nearest, distances, unit := with.nearest, with.distances, with.unit
	for q, row := range rows {
		c := classes[s.Label[row]]
		self := -1
		if s == n.sample {
			self = row
		}
		nearest = nearest[:0]
		if c.set > 0 {
			index, distance := own.Of(q)
			for at, p := range index {
				if n.point[p] != self {
					nearest = append(nearest, distance[at])
				}
			}
		} else {
			unit = append(unit[:0], queries.Row(q)...)
			distances = c.distances(distances[:0], unit)
			for at, d := range distances {
				if c.rows[at] != self && d == d {
					nearest = append(nearest, d)
				}
			}
		}
		mine := meanOf(nearest, c.k)
		nearest = nearest[:0]
		index, distance := others.Of(q)
		farthest := float32(0)
		for at, p := range index {
			d := distance[at]
			if d > farthest { // which NaN, where nobody asks, is not
				farthest = d
			}
			if n.of[p] != c {
				nearest = append(nearest, d)
			}
		}
		if len(index) == 0 {
			continue
		}
		for len(nearest) < c.other {
			nearest = append(nearest, farthest)
		}
		dst[row] = math.Log(mine+nothing) - math.Log(meanOf(nearest, c.other)+nothing) - c.centre
	}
	with.nearest, with.distances, with.unit = nearest, distances, unit
}

// distances appends a query's distance to every row of a small class; NaN where there is none. It makes the query one of length 1.
func (c *class) distances(dst, query []float32) []float32 {
	sound := toUnit(query)
	for p := range c.rows {
		d := 1 - dot(query, c.unit.Row(p))
		if !sound {
			d = float32(math.NaN())
		}
		dst = append(dst, d)
	}
	return dst
}

// toUnit scales v to length 1; it reports false where v has no finite length.
func toUnit(v []float32) bool {
	var norm float64
	for _, x := range v {
		norm += float64(x) * float64(x)
	}
	if !(norm <= 1e37) {
		return false
	}
	if norm > 0 {
		scale := 1 / math.Sqrt(norm)
		for i, x := range v {
			v[i] = float32(float64(x) * scale)
		}
	}
	return true
}

func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// meanOf returns the mean of the k smallest values, which it may sort; NaN of none. What is below zero counts as zero.
func meanOf(values []float32, k int) float64 {
	const most = 8 // of the largest, which are taken away one by one
	if few := min(k, len(values)); few > 0 && few >= len(values)-most {
		sum, least, largest := 0.0, values[0], values[0]
		for _, v := range values {
			sum += float64(v)
			least, largest = min(least, v), max(largest, v)
		}
		// Values of 24 bits that lie less than 20 apart, and at most 128 of them: a sum in float64 is exact, so the order does not matter.
		if least >= largest*0x1p-20 && least > 0 && len(values) <= 128 {
			for left := values; len(left) > few; left = left[:len(left)-1] {
				at := 0
				for i, v := range left {
					if v > left[at] {
						at = i
					}
				}
				sum -= float64(left[at])
				left[at] = left[len(left)-1]
			}
			return sum / float64(few)
		}
	}
	slices.Sort(values)
	values = values[:min(k, len(values))]
	sum := 0.0
	for _, v := range values {
		sum += math.Max(0, float64(v))
	}
	return sum / float64(len(values))
}

func (n *neighbourhoods) explain(s *detect.Sample, row int) string {
	found, _, err := n.sets.Nearest(vectors(s, []int{row}), []int32{0})
	if err != nil {
		return "far from its class"
	}
	votes := map[*class]int{}
	own, best, all := n.class[s.Classes[s.Label[row]]], (*class)(nil), 0
	index, _ := found.Of(0)
	for _, p := range index {
		if s == n.sample && n.point[p] == row {
			continue
		}
		c := n.of[p]
		all++
		votes[c]++
		if c != own && (best == nil || votes[c] > votes[best]) {
			best = c
		}
	}
	if best == nil {
		return fmt.Sprintf("far from its class, though all %d nearest reference rows have this label", all)
	}
	return fmt.Sprintf("which %d of the %d nearest reference rows have, and %d have %q", votes[own], all, votes[best], n.sample.Classes[n.sample.Label[best.rows[0]]])
}
