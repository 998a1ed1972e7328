package linalg

import "math"

// Counts says how many of the nearest neighbours a mean is taken of.
type Counts struct {
	Own    int // of a query's own set
	Others int // of the first set's points that are of another kind than it
}

// tooNear is how many times the error of a product a mean distance must be at least to be told by products alone: it is off by a sixteenth of itself at most, and as errors of
// single values even out, some fiftieth of that.
const tooNear = 16

// ByWords tells that [Sets.Means] has something to say: kinds are known, and the processor multiplies whole numbers.
func (s *Sets) ByWords() bool { return s.ix != nil && s.ix.words != nil && s.kind != nil }

// Means sets, for the given rows of queries and the sets in own, all above 0, mine to the mean distance of the nearest points of its own set, and theirs to that of the nearest
// among the first set's K nearest that are of another kind than that set's number; where these are too few, the farthest of the K stands in for what is lacking. How many count says counts, by set.
//
// Distances are those of words: products of rows in 16 bits, which differ from the rows' own by a few hundred-thousandths, and are the same whatever else is asked and whoever asks. Both are
// NaN where that is not good enough, or a row takes no part: [Sets.Nearest] tells. Rows with the same set should stand side by side. Only where [Sets.ByWords] says so.
func (s *Sets) Means(queries Matrix, rows []int, own []int32, counts []Counts, mine, theirs []float64) {
	with, ok := s.idle.Get().(*setSearch)
	if !ok {
		with = s.newSearch()
	}
	defer s.idle.Put(with)
	for first := 0; first < len(rows); first += queryBlock {
		end := min(first+queryBlock, len(rows))
		with.means(queries, rows[first:end], own[first:end], counts, mine[first:end], theirs[first:end])
	}
}

// means answers a block of queries.
func (s *setSearch) means(queries Matrix, rows []int, own []int32, counts []Counts, mine, theirs []float64) {
	const unit = unitWord * unitWord
	n, first, least := len(rows), s.sets.of[0].to, tooNear*wordError(s.ix.cols)
	var takesPart [queryBlock]bool
	for i, row := range rows {
		takesPart[i] = s.prepare(i, queries.Row(row), true)
	}
	s.multiply(0, n, 0, first, 0, true)
	for lo, hi := 0, 0; lo < n; lo = hi {
		set := own[lo]
		for hi = lo; hi < n && own[hi] == set; hi++ {
		}
		s.multiply(lo, hi, s.sets.of[set].from, s.sets.of[set].to, first, true)
		for i := lo; i < hi; i++ {
			mine[i], theirs[i] = math.NaN(), math.NaN()
			if !takesPart[i] {
				continue
			}
			products, count := s.products[i*productStride:(i+1)*productStride], counts[set]
			a := 1 - s.largest(s.ofSet(products, int(set)), count.Own)/(unit*float64(count.Own))
			b := 1 - s.largestOthers(products[:first], set, count.Others)/(unit*float64(count.Others))
			if a >= least && b >= least && a+b < math.Inf(1) {
				mine[i], theirs[i] = a, b
			}
		}
	}
}

// ofSet returns the products with a set's points, in whole lanes.
func (s *setSearch) ofSet(products []float32, set int) []float32 {
	columns := s.sets.of[set].columns
	n := len(columns)
	if n > 0 && n%lanes == 0 && s.sets.of[set].run {
		return products[columns[0]:][:n]
	}
	values := s.values[:(n+lanes-1)/lanes*lanes]
	for i, c := range columns {
		values[i] = products[c]
	}
	for i := n; i < len(values); i++ {
		values[i] = float32(math.Inf(-1))
	}
	return values
}

// largest returns the sum of the k largest values, which are in whole lanes; NaN where there are fewer.
func (s *setSearch) largest(values []float32, k int) (sum float64) {
	kernel := s.ix.kernel
	bar, ties := float32(-math.MaxFloat32), 0
	switch n := kernel.countAbove(values, bar); {
	case n < k:
		return math.NaN()
	case n > k:
		bar, ties = raise(kernel, values, k, bar)
	}
	for _, place := range s.found[:kernel.indexFrom(values, bar, s.found)] {
		if v := values[place]; v > bar {
			sum += float64(v)
		}
	}
	if ties > 0 {
		sum += float64(ties) * float64(bar)
	}
	return sum
}

// largestOthers returns the sum of the k largest products with points of the first set that are of another kind than set, none of them below the K-th largest of all.
func (s *setSearch) largestOthers(products []float32, set int32, k int) (sum float64) {
	wanted := s.sets.sets[0].K
	places, _ := s.candidatesOf(0, products, wanted, len(s.sets.sets[0].Points), true)
	held := s.held[:(len(places)+lanes-1)/lanes*lanes]
	for i, row := range places {
		held[i] = products[row]
	}
	for i := len(places); i < len(held); i++ {
		held[i] = float32(math.Inf(-1))
	}
	bar, ties := float32(-math.MaxFloat32), 0
	if len(places) > wanted {
		bar, ties = raise(s.ix.kernel, held, wanted, bar)
	}
	last := bar // the K-th largest
	if ties == 0 {
		last = math.MaxFloat32
		for _, v := range held[:len(places)] {
			if v > bar {
				last = min(last, v)
			}
		}
	}
	// Those of other kinds to the front.
	n := 0
	for i, row := range places {
		v, other := held[i], 0
		held[n] = v
		if v >= last && s.sets.kinds[row] != set {
			other = 1
		}
		n += other
	}
	if n > k {
		held = held[:(n+lanes-1)/lanes*lanes]
		for i := n; i < len(held); i++ {
			held[i] = float32(math.Inf(-1))
		}
		return s.largest(held, k)
	}
	for _, v := range held[:n] {
		sum += float64(v)
	}
	return sum + float64(k-n)*float64(last)
}
