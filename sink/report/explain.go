package report

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"github.com/tasterhq/taster/schema/contract"
)

const (
	neighbours = 2   // that are told of each kind
	mapClean   = 300 // clean records in a map
	mapFlagged = 300 // flagged records in a map
	block      = 256 // flagged records that are compared at once
)

// embeddingMap is a plane through the vectors of a topic on which records that are alike lie side by side.
type embeddingMap struct {
	topic   string
	kind    string // of vectors: "embedding", "text" or "features"
	share   float64
	clean   [][2]float64
	flagged []mapped
	of      int // flagged records that could stand in the map
}

type mapped struct {
	at [2]float64
	*Flagged
}

// explain finds the neighbours of the riskiest flagged records of each attack, and lays out a map of each topic.
func (b *Builder) explain() {
	topics, seen := map[string][]*Flagged{}, map[*Flagged]bool{}
	for _, kept := range b.riskiest {
		for _, f := range kept.list() {
			if !seen[f] {
				seen[f] = true
				topics[f.Topic] = append(topics[f.Topic], f)
				b.report.Explained++
			}
		}
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
		slices.SortFunc(topics[name], riskier)
	}
	slices.SortFunc(names, func(x, y string) int {
		return cmp.Or(cmp.Compare(len(topics[y]), len(topics[x])), cmp.Compare(x, y))
	})
	for _, name := range names {
		b.explainTopic(name, topics[name])
	}
}

func (b *Builder) explainTopic(topic string, flagged []*Flagged) {
	var clean []*cleanRow
	if kept := b.clean.rows[topic]; kept != nil {
		clean = kept.list()
	}
	items := make([]*item, 0, len(flagged)+len(clean))
	for _, f := range flagged {
		items = append(items, &f.item)
	}
	for _, c := range clean {
		items = append(items, &c.item)
	}
	space := spaceOf(b.options.Roles[topic], items, len(flagged), b.options.Vectors)
	if space.dim == 0 {
		return
	}
	space.each(len(flagged), func(row int, nearest func(from, to int) []near) {
		f := flagged[row]
		for _, n := range nearest(len(flagged), len(items)) {
			c := clean[n.row-len(flagged)]
			quote, _ := excerpt(c.text, nil)
			f.NearestClean = append(f.NearestClean, Neighbour{c.partition, c.offset, c.id, c.provider, c.label, n.similarity, quote})
		}
		for _, n := range nearest(0, len(flagged)) {
			o := flagged[n.row]
			f.NearestFlagged = append(f.NearestFlagged, Neighbour{o.Partition, o.Offset, o.ID, o.Provider, o.Label, n.similarity, o.Excerpt})
		}
	})
	b.report.maps = append(b.report.maps, space.project(topic, flagged))
}

// space holds the unit vectors of a topic's records, n × dim, row after row, the flagged before the clean. A record
// that has none is a row of zeros.
type space struct {
	kind   string
	dim    int
	values []float32
}

func (s *space) row(i int) []float32 { return s.values[i*s.dim : (i+1)*s.dim] }

func (s *space) has(i int) bool {
	for _, v := range s.row(i) {
		if v != 0 {
			return true
		}
	}
	return false
}

// spaceOf takes the vectors that the records have, or else makes some of their texts, or else of their features.
func spaceOf(roles contract.Roles, items []*item, flagged int, vectors Vectors) *space {
	switch {
	case roles.Embedding != "":
		return spaceOfVectors(items)
	case len(roles.Text) > 0 && vectors != nil:
		texts := make([][]byte, len(items))
		for i, it := range items {
			texts[i] = it.text
		}
		values, dim := vectors(texts)
		return (&space{"text", dim, slices.Clone(values)}).normalize()
	case len(roles.Features) > 0:
		return spaceOfFeatures(items, flagged)
	}
	return &space{}
}

func spaceOfVectors(items []*item) *space {
	lengths := map[int]int{}
	s := &space{kind: "embedding"}
	for _, it := range items {
		if n := len(it.vector); n > 0 {
			lengths[n]++
			if c := lengths[n]; s.dim == 0 || c > lengths[s.dim] || c == lengths[s.dim] && n < s.dim {
				s.dim = n
			}
		}
	}
	s.values = make([]float32, len(items)*s.dim)
	for i, it := range items {
		if len(it.vector) == s.dim {
			copy(s.row(i), it.vector)
		}
	}
	return s.normalize()
}

// spaceOfFeatures puts every feature on one scale: distance from the clean records' median by their median deviation
// from it, and far values nearer, so that one wild feature does not hide the others.
func spaceOfFeatures(items []*item, flagged int) *space {
	s := &space{kind: "features"}
	for _, it := range items {
		s.dim = max(s.dim, len(it.features))
	}
	s.values = make([]float32, len(items)*s.dim)
	for j := range s.dim {
		var column []float64
		for _, it := range items[flagged:] {
			if len(it.features) == s.dim && !math.IsNaN(it.features[j]) {
				column = append(column, it.features[j])
			}
		}
		if len(column) == 0 {
			continue
		}
		middle := median(column)
		for i := range column {
			column[i] = math.Abs(column[i] - middle)
		}
		scale := median(column)
		if scale == 0 {
			scale = stat.Mean(column, nil)
		}
		if scale == 0 {
			scale = 1
		}
		for i, it := range items {
			if len(it.features) == s.dim && !math.IsNaN(it.features[j]) {
				s.row(i)[j] = float32(math.Asinh((it.features[j] - middle) / scale))
			}
		}
	}
	return s.normalize()
}

// median sorts its argument.
func median(values []float64) float64 {
	slices.Sort(values)
	return stat.Quantile(0.5, stat.Empirical, values, nil)
}

// normalize makes every row a unit vector. What is not finite becomes a row of zeros.
func (s *space) normalize() *space {
	for i := 0; s.dim > 0 && i < len(s.values)/s.dim; i++ {
		row := s.row(i)
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		if sum == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
			clear(row)
			continue
		}
		length := float32(1 / math.Sqrt(sum))
		for j := range row {
			row[j] *= length
		}
	}
	return s
}

type near struct {
	row        int
	similarity float64
}

// each calls f for the first n rows that have a vector. nearest gives the most alike of the rows [from, to), others
// than the row itself.
func (s *space) each(n int, f func(row int, nearest func(from, to int) []near)) {
	rows := len(s.values) / s.dim
	has := make([]bool, rows)
	for i := range rows {
		has[i] = s.has(i)
	}
	all := blas32.General{Rows: rows, Cols: s.dim, Stride: s.dim, Data: s.values}
	products := make([]float32, min(n, block)*rows)
	for first := 0; first < n; first += block {
		m := min(block, n-first)
		part := blas32.General{Rows: m, Cols: s.dim, Stride: s.dim, Data: s.values[first*s.dim:]}
		blas32.Gemm(blas.NoTrans, blas.Trans, 1, part, all, 0, blas32.General{Rows: m, Cols: rows, Stride: rows, Data: products})
		for i := range m {
			row, line := first+i, products[i*rows:(i+1)*rows]
			if !has[row] {
				continue
			}
			f(row, func(from, to int) []near {
				var found []near
				for at := from; at < to; at++ {
					if at == row || !has[at] || len(found) == neighbours && float64(line[at]) <= found[neighbours-1].similarity {
						continue
					}
					found = append(found, near{at, float64(line[at])})
					slices.SortStableFunc(found, func(x, y near) int { return cmp.Compare(y.similarity, x.similarity) })
					found = found[:min(len(found), neighbours)]
				}
				for i := range found { // rounding goes beyond 1, and further digits tell machines apart
					found[i].similarity = math.Round(max(-1, min(1, found[i].similarity))*1e4) / 1e4
				}
				return found
			})
		}
	}
}

// project lays out a map: the first two principal components of flagged and clean records together, as many of each.
func (s *space) project(topic string, flagged []*Flagged) embeddingMap {
	m := embeddingMap{topic: topic, kind: s.kind}
	var rows []int
	for i := range flagged {
		if s.has(i) {
			m.of++
			rows = append(rows, i)
		}
	}
	rows = mixed(rows, flagged, mapFlagged)
	shown := len(rows)
	for i := len(flagged); i < len(s.values)/s.dim && len(rows) < shown+mapClean; i++ {
		if s.has(i) {
			rows = append(rows, i)
		}
	}
	if len(rows) < 3 || s.dim < 2 {
		return m
	}
	data := mat.NewDense(len(rows), s.dim, nil)
	for i, row := range rows {
		for j, v := range s.row(row) {
			data.Set(i, j, float64(v))
		}
	}
	var pc stat.PC
	if !pc.PrincipalComponents(data, nil) {
		return m
	}
	var directions mat.Dense
	pc.VectorsTo(&directions)
	total, two := 0.0, 0.0
	for i, v := range pc.VarsTo(nil) {
		if total += v; i < 2 {
			two += v
		}
	}
	if total == 0 {
		return m
	}
	m.share = two / total
	var plane mat.Dense
	plane.Mul(data, directions.Slice(0, s.dim, 0, 2))
	for axis := range 2 { // a direction and its opposite are as good: take the one that does not depend on the solver
		far := 0.0
		for i := range rows {
			if v := plane.At(i, axis); math.Abs(v) > math.Abs(far)+1e-9 {
				far = v
			}
		}
		if far < 0 {
			for i := range rows {
				plane.Set(i, axis, -plane.At(i, axis))
			}
		}
	}
	for i, row := range rows {
		at := [2]float64{plane.At(i, 0), plane.At(i, 1)}
		if i < shown {
			m.flagged = append(m.flagged, mapped{at, flagged[row]})
		} else {
			m.clean = append(m.clean, at)
		}
	}
	return m
}

// mixed takes at most n of rows, in turn from every attack, so that a rare one stands beside a common one.
func mixed(rows []int, flagged []*Flagged, n int) []int {
	if len(rows) <= n {
		return rows
	}
	turn, seen := make(map[int]int, len(rows)), map[string]int{}
	for _, row := range rows {
		turn[row] = seen[flagged[row].Attack]
		seen[flagged[row].Attack]++
	}
	slices.SortStableFunc(rows, func(x, y int) int { return cmp.Compare(turn[x], turn[y]) })
	return rows[:n]
}
