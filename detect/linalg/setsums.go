package linalg

import (
	"fmt"
	"math"
	"slices"
)

// sumKernel is what a level answers [Sets.Sums] with.
type sumKernel struct {
	// moments returns the sum and the sum of squares of those values that are members: bit i of members[j] stands for value 16j + i. It only guides a
	// guess, and may add up in any order.
	moments func(values []float32, members []uint16) (sum, squares float32)
	// pick returns how many members are at least bar, and writes the numbers of the first of them to the front of index, which has room for so many, and behind them numbers
	// that values may have too. Values are numbered from 0, and from split on by jump more. Their number is a multiple of lanes, at most pointBlock, for which and 32 more
	// places is scratch.
	pick      func(values []float32, members []uint16, bar float32, split, jump int, places []uint16, index *[picked]int32) int
	few, many nearestSum // of at most fewNear and mostNear candidates
}

// nearestSum tells of the distances to the k nearest of some candidates, as [kernel.cosines] has them: their sum, each rounded to float32, the least and the largest, and how many
// they are, which is more than k where several are as far as the last. What stands behind index, up to as many as there may be, are numbers of points.
type nearestSum func(index []int32, width int, query []float64, points []float32, norms []float64, norm float64, k int) (total, least, farthest float64, kept int)

const (
	fewNear  = 16 // candidates
	mostNear = 24
	picked   = 32 // numbers of what is picked that are written down
	beyondK  = 1  // a bar leaves so many more than are wanted at least, lest the last of these lies too near to it to be sure
)

// Sums answers for every query what the distances to its nearest points in the first set add up to, and, for those for which own is above 0, in the set that it says; the same as
// of the distances that [Sets.Nearest] tells, added up in their order. There is no sum of a query that is nobody's neighbour, nor where a query asks no
// other set.
func (s *Sets) Sums(all, others []Sum, queries Matrix, own []int32) error {
	if err := checkQueries(queries, s.cols, 1); err != nil {
		return err
	}
	if n := queries.Rows; len(own) != n || len(all) != n || len(others) != n {
		return fmt.Errorf("%w: %d queries, sets of %d, and room for %d and %d sums", ErrShape, n, len(own), len(all), len(others))
	}
	clear(all)
	clear(others)
	if !s.summed() {
		return s.sumNearest(all, others, queries, own)
	}
	with, ok := s.idle.Get().(*setSearch)
	if !ok {
		with = s.newSearch()
	}
	defer s.idle.Put(with)
	var found, foundOthers Neighbours // of those that are left in doubt
	for first := 0; first < queries.Rows; first += queryBlock {
		end := min(first+queryBlock, queries.Rows)
		with.list = with.list[:0]
		for q := first; q < end; q++ {
			with.list = append(with.list, q)
		}
		if s.miss.Load() < mostMissed {
			doubtful := with.sums(all, others, queries, own)
			s.miss.Add(max(-s.miss.Load(), int64(2*doubtful-(end-first))))
			if with.list = with.list[:doubtful]; doubtful == 0 {
				continue
			}
		}
		if found.K == 0 {
			found, foundOthers = newNeighbours(queries.Rows, s.sets[0].K), newNeighbours(queries.Rows, s.most)
		}
		listed := append(with.listed[:0], with.list...)
		with.block(queries, own, found, foundOthers, false)
		for _, q := range listed {
			all[q] = sumOf(found, q)
			if own[q] > 0 {
				others[q] = sumOf(foundOthers, q)
			}
		}
		with.listed = listed
	}
	return nil
}

// summed says whether sums come faster than neighbours.
func (s *Sets) summed() bool {
	if s.ix == nil || s.ix.kernel.sums == nil || s.ix.words == nil {
		return false
	}
	for _, set := range s.sets {
		if set.K > fewNear-2*beyondK {
			return false
		}
	}
	return true
}

// sumNearest adds up the distances of Nearest.
func (s *Sets) sumNearest(all, others []Sum, queries Matrix, own []int32) error {
	found, foundOthers, err := s.Nearest(queries, own)
	if err != nil {
		return err
	}
	for q := range all {
		all[q] = sumOf(found, q)
		if own[q] > 0 {
			others[q] = sumOf(foundOthers, q)
		}
	}
	return nil
}

// sumOf adds up the distances of query q, one after the other.
func sumOf(found Neighbours, q int) (s Sum) {
	_, distance := found.Of(q)
	return sumDistances(distance)
}

func sumDistances(distance []float32) (s Sum) {
	for i, d := range distance {
		if s.Total += float64(d); i == 0 {
			s.Nearest, s.Farthest = d, d
		}
		s.Nearest, s.Farthest = min(s.Nearest, d), max(s.Farthest, d)
	}
	s.Count = len(distance)
	return s
}

// sums adds up what the nearest of the queries that are listed are away, by words. It returns how many it leaves in doubt, which come to stand at the front of the list.
func (s *setSearch) sums(all, others []Sum, queries Matrix, own []int32) (doubtful int) {
	n, first := len(s.list), s.sets.of[0].to
	var takesPart [queryBlock]bool
	for i, q := range s.list {
		takesPart[i] = s.prepare(i, queries.Row(q), true)
	}
	s.multiply(0, n, 0, first, 0, true)
	for lo, hi := 0, 0; lo < n; lo = hi {
		set := own[s.list[lo]]
		for hi = lo; hi < n && own[s.list[hi]] == set; hi++ {
		}
		width := first
		if set > 0 {
			s.multiply(lo, hi, s.sets.of[set].from, s.sets.of[set].to, first, true)
			width += s.sets.of[set].to - s.sets.of[set].from
		}
		for i := lo; i < hi; i++ {
			q := s.list[i]
			if !takesPart[i] {
				continue
			}
			s.take(queries.Row(q))
			products := s.products[i*productStride : i*productStride+width]
			sure := s.sum(&all[q], 0, products[:first])
			if sure && set > 0 {
				sure = s.sum(&others[q], set, products)
			}
			if !sure {
				s.list[doubtful] = q
				doubtful++
			}
		}
	}
	return doubtful
}

// sum adds up by products in words; false where that leaves a doubt.
func (s *setSearch) sum(out *Sum, set int32, products []float32) bool {
	of, k := &s.sets.of[set], s.sets.sets[set].K
	if of.sound < k { // there may be fewer neighbours than are wanted
		return false
	}
	places, bar := s.pickOf(set, products, k)
	if places == nil {
		return false
	}
	const unit = unitWord * unitWord
	off := wordError(s.ix.cols)
	total, least, farthest, kept := s.nearestSum(places, k)
	if farthest >= 1-(float64(bar)/unit+off) {
		// Whatever is as near as the last one has a product from here on.
		bar = math.Nextafter32(float32((1-farthest-off)*unit), float32(math.Inf(-1)))
		places = s.pick(set, products, bar)
		if len(places) < k || len(places) > mostNear {
			return false
		}
		total, least, farthest, kept = s.nearestSum(places, k)
	}
	nearest, most := float32(least), float32(farthest)
	if !(nearest > 0) || most > exactly*nearest { // their order matters
		s.near = append(s.near[:0], places...)
		if set > 0 {
			of := &s.sets.of[set]
			slices.SortFunc(s.near, func(a, b int32) int { return slices.Index(of.rows, a) - slices.Index(of.rows, b) })
		}
		found := Neighbours{K: k, Index: s.found[:k], Distance: s.held[:k]}
		s.nearestOf(s.near, found, 0)
		*out = sumDistances(found.Distance)
		return true
	}
	*out = Sum{k, total - float64(kept-k)*float64(most), nearest, most}
	return true
}

func (s *setSearch) nearestSum(places []int32, k int) (total, least, farthest float64, kept int) {
	of := s.ix.kernel.sums.few
	if len(places) > fewNear {
		of = s.ix.kernel.sums.many
	}
	return of(places, s.ix.width, s.query, s.ix.raw, s.ix.norms, s.norm, k)
}

// pick returns which points of a set have products of at least bar.
func (s *setSearch) pick(set int32, products []float32, bar float32) []int32 {
	of, first := &s.sets.of[set], s.sets.of[0].to
	n := s.ix.kernel.sums.pick(products, of.members, bar, first, of.from-first, s.places, (*[picked]int32)(s.found))
	return s.found[:n]
}

// pickOf picks a little more than k points of a set by a bar, at most mostNear; nil where it finds none that leaves as many. Where bars lie is guessed from how the
// query's products with the first set are spread, which is asked first.
func (s *setSearch) pickOf(set int32, products []float32, k int) (places []int32, bar float32) {
	of, g := &s.sets.of[set], &s.guess[set]
	if set == 0 {
		sum, squares := s.ix.kernel.sums.moments(products, of.members)
		s.mean = float64(sum) / float64(of.sound)
		s.deviation = math.Sqrt(float64(squares)/float64(of.sound) - s.mean*s.mean)
	}
	if of.sound <= mostNear {
		if places = s.pick(set, products, -math.MaxFloat32); len(places) < k {
			return nil, 0
		}
		return places, float32(math.Inf(-1))
	}
	if !(s.deviation > 0) {
		return nil, 0
	}
	if g.hazard == 0 {
		g.place, g.hazard = 1.5, 2 // about those of a normal distribution
	}
	const tries = 16
	least, middle := k+beyondK, logarithms[k+beyondK+2]
	at, hazard, lastAt, last := g.place, g.hazard, 0.0, 0.0
	low, high := math.Inf(-1), math.Inf(1) // where too many are left, and too few
	for try := range tries {
		bar = float32(s.mean + at*s.deviation)
		places = s.pick(set, products, bar)
		now := logarithms[min(len(places), len(logarithms)-1)]
		if try > 0 && (last-now)*(at-lastAt) > 0 {
			hazard = min(max((last-now)/(at-lastAt), g.hazard/4), 4*g.hazard)
		}
		if len(places) >= least && len(places) <= mostNear {
			g.place += (at + (now-middle)/hazard - g.place) / 16
			g.hazard += (hazard - g.hazard) / 16
			return places, bar
		}
		if now > middle {
			low = at
		} else {
			high = at
		}
		lastAt, last = at, now
		if at += (now - middle) / hazard; !(at > low && at < high) {
			at = low/2 + high/2
		}
	}
	return nil, 0
}

// logarithms of counts; of none that of a half.
var logarithms = func() (l [256]float64) {
	for i := range l {
		l[i] = math.Log(max(float64(i), 0.5))
	}
	return l
}()

// members returns bits for the columns of products that belong to a set, of points that take part, and how many they are: columns of the first set, and, of another, those behind.
func (s *Sets) members(set int) (bits []uint16, n int) {
	of, width := &s.of[set], s.of[0].to
	if set > 0 {
		width += of.to - of.from
	}
	bits = make([]uint16, width/16)
	for i, column := range of.columns {
		if !math.IsInf(float64(s.ix.bias[of.rows[i]]), -1) {
			bits[column/16] |= 1 << (column % 16)
			n++
		}
	}
	return bits, n
}

// What to read, and what the kernels are compared with.

func momentsPortable(values []float32, members []uint16) (sum, squares float32) {
	for i, v := range values {
		if members[i/16]>>(i%16)&1 != 0 {
			sum += v
			squares += v * v
		}
	}
	return sum, squares
}

func pickPortable(values []float32, members []uint16, bar float32, split, jump int, _ []uint16, index *[picked]int32) (n int) {
	clear(index[:])
	for i, v := range values {
		number := i
		if i >= split {
			number += jump
		}
		if members[i/16]>>(i%16)&1 != 0 && v >= bar {
			if n < picked {
				index[n] = int32(number)
			}
			n++
		}
	}
	return n
}

func nearestSumPortable(index []int32, width int, query []float64, points []float32, norms []float64, norm float64, k int) (total, least, farthest float64, kept int) {
	distance, lengths := make([]float64, len(index)), make([]float64, len(index))
	dotsPortable(index, width, query, points, distance)
	for i, p := range index {
		lengths[i] = norms[p]
	}
	cosinesPortable(distance, lengths, norm)
	slices.Sort(distance)
	least = distance[0]
	for _, d := range distance {
		if d <= distance[k-1] {
			total, farthest, kept = total+float64(float32(d)), d, kept+1
		}
	}
	return total, least, farthest, kept
}
