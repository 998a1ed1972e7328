package linalg

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Set is some of the points that are kept together, and how many neighbours are asked for in it.
type Set struct {
	Points []int32
	K      int
}

// Sets are points of which a first set is asked by every query and others, most of whose points are in the first too, by some: what is in both is multiplied once. It is
// safe for concurrent use. Distances are cosines.
type Sets struct {
	sets  []Set
	kind  []int32
	cols  int
	most  int     // neighbours in another set than the first
	apart []Index // one for each set, where another engine than the CPU answers, or they are too large
	ix    *cpuIndex
	of    []subset
	point []int32 // of each row of ix; -1 where there is none
	kinds []int32 // of each row of ix, where there are kinds
	miss  atomic.Int64
	idle  sync.Pool // of *setSearch
}

// subset is a set's place in an index of all points.
type subset struct {
	rows     []int32  // of the index
	columns  []int32  // where their products stand: those of the first set, then those of what is not in it
	from, to int      // rows that are not in the first set, in whole lanes
	members  []uint16 // bits of columns that take part, and how many do
	sound    int
	run      bool // columns follow one another
}

// LoadSets keeps points for questions about sets of them, the first of which every query asks. A set may name a point once.
//
// Kind, nil for none, has a number for every point: of the first set's neighbours that are of the kind of a query's own set, by its number, distances are
// not told where they do not matter to which points are the nearest. They are NaN then, and none of them is the farthest.
func LoadSets(engine Engine, points Matrix, sets []Set, kind []int32) (*Sets, error) {
	if err := points.check("the point matrix"); err != nil {
		return nil, err
	}
	if len(sets) == 0 || kind != nil && len(kind) != points.Rows {
		return nil, fmt.Errorf("%w: %d sets, and kinds of %d of %d points", ErrShape, len(sets), len(kind), points.Rows)
	}
	all := &Sets{sets: sets, kind: kind, cols: points.Cols}
	widest := 0
	for i, set := range sets {
		if set.K < 1 {
			return nil, fmt.Errorf("%w: %d neighbours asked for, want at least 1", ErrShape, set.K)
		}
		for _, p := range set.Points {
			if p < 0 || int(p) >= points.Rows {
				return nil, fmt.Errorf("%w: there is no point %d", ErrShape, p)
			}
		}
		if i > 0 {
			all.most, widest = max(all.most, set.K), max(widest, len(set.Points))
		}
	}
	cpu, ok := engine.(CPU)
	if !ok || len(sets[0].Points)+widest+2*lanes > pointBlock {
		for _, set := range sets {
			index, err := engine.Load(points.rows(set.Points), Cosine)
			if err != nil {
				return nil, err
			}
			all.apart = append(all.apart, index)
		}
		return all, nil
	}
	// Each set's rows that are not in the first, in whole lanes; what fills them up is nobody's neighbour.
	nothing := make([]float32, points.Cols)
	if len(nothing) > 0 {
		nothing[0] = float32(math.NaN())
	}
	union := Matrix{Cols: points.Cols}
	place := make([]int32, points.Rows) // in the first set
	for p := range place {
		place[p] = -1
	}
	first := 0
	for i, set := range sets {
		s := subset{from: union.Rows}
		for _, p := range set.Points {
			row := place[p]
			column := row
			if row < 0 {
				row = int32(union.Rows)
				column = int32(first + union.Rows - s.from)
				union.Data = append(union.Data, points.Row(int(p))...)
				union.Rows++
				all.point = append(all.point, p)
				if i == 0 {
					place[p] = row
				}
			}
			s.rows, s.columns = append(s.rows, row), append(s.columns, column)
		}
		for union.Rows%lanes > 0 {
			union.Data = append(union.Data, nothing...)
			union.Rows++
			all.point = append(all.point, -1)
		}
		s.to = union.Rows
		if i == 0 {
			first = union.Rows
		}
		s.run = true
		for at, c := range s.columns {
			s.run = s.run && c == s.columns[0]+int32(at)
		}
		all.of = append(all.of, s)
	}
	for _, p := range all.point {
		if kind != nil {
			all.kinds = append(all.kinds, kind[max(p, 0)])
		}
	}
	index, err := cpu.Load(union, Cosine)
	if err != nil {
		return nil, err
	}
	all.ix = index.(*cpuIndex)
	all.ix.inWords()
	for i := range all.of {
		all.of[i].members, all.of[i].sound = all.members(i)
	}
	return all, nil
}

// mostMissed is how many queries floats have to be asked about again, beyond those for which words did, before words are given up: where points lie so near to each other, or
// are copies, both would be multiplied.
const mostMissed = 1024

// rows returns a copy of the given ones.
func (m Matrix) rows(numbers []int32) Matrix {
	out := Matrix{Cols: m.Cols, Data: make([]float32, 0, len(numbers)*m.Cols)}
	for _, row := range numbers {
		out.Data = append(out.Data, m.Row(int(row))...)
		out.Rows++
	}
	return out
}

// Nearest finds neighbours in the first set for every query, and in the set that own says for those for which it is above 0. Queries with the same set should stand side by
// side. Neighbours are the numbers of points; the others' K is the largest that sets but the first have.
func (s *Sets) Nearest(queries Matrix, own []int32) (all, others Neighbours, err error) {
	if err := checkQueries(queries, s.cols, 1); err != nil {
		return all, others, err
	}
	if len(own) != queries.Rows {
		return all, others, fmt.Errorf("%w: %d queries, and sets of %d", ErrShape, queries.Rows, len(own))
	}
	all, others = newNeighbours(queries.Rows, s.sets[0].K), newNeighbours(queries.Rows, s.most)
	if s.apart != nil {
		return all, others, s.askApart(queries, own, all, others)
	}
	with, ok := s.idle.Get().(*setSearch)
	if !ok {
		with = s.newSearch()
	}
	defer s.idle.Put(with)
	for first := 0; first < queries.Rows; first += queryBlock {
		end := min(first+queryBlock, queries.Rows)
		with.list = with.list[:0]
		for q := first; q < end; q++ {
			with.list = append(with.list, q)
		}
		words := s.ix.words != nil && s.miss.Load() < mostMissed
		doubtful := with.block(queries, own, all, others, words)
		if words {
			s.miss.Add(max(-s.miss.Load(), int64(2*doubtful-(end-first))))
			with.list = with.list[:doubtful]
			with.block(queries, own, all, others, false)
		}
	}
	return all, others, nil
}

// askApart asks an index for each set.
func (s *Sets) askApart(queries Matrix, own []int32, all, others Neighbours) error {
	put := func(set, first, end int, out Neighbours) error {
		part := Matrix{Rows: end - first, Cols: queries.Cols, Data: queries.Data[first*queries.Cols : end*queries.Cols]}
		found, err := s.apart[set].Nearest(part, s.sets[set].K, 1)
		if err != nil {
			return err
		}
		for i := range part.Rows {
			index, distance := found.Of(i)
			at := (first + i) * out.K
			for j, p := range index {
				out.Index[at+j], out.Distance[at+j] = s.sets[set].Points[p], distance[j]
			}
			out.none(first+i, len(index))
		}
		return nil
	}
	if err := put(0, 0, queries.Rows, all); err != nil {
		return err
	}
	for first, end := 0, 0; first < queries.Rows; first = end {
		for end = first; end < queries.Rows && own[end] == own[first]; end++ {
		}
		if own[first] > 0 {
			if err := put(int(own[first]), first, end, others); err != nil {
				return err
			}
			continue
		}
		for q := first; q < end; q++ {
			others.none(q, 0)
		}
	}
	return nil
}

// setSearch is one goroutine's scratch.
type setSearch struct {
	*search
	sets   *Sets
	list   []int     // queries of a block
	listed []int     // a copy of it
	some   reservoir // of one query and set
	values []float32 // products of a set
	held   []float32 // and of candidates
	found  []int32   // candidates, by their place among the values
	places []uint16  // the same, of a row of products
	// How the products of a query with the first set are spread.
	mean, deviation float64
	near            []int32 // those of which distances tell
	sure            []int32 // and those that are the nearest whatever their distance
	guess           []guess // for each set
}

// guess is where the bar was that left as many products as are wanted, and by how much the logarithm of their number falls as it rises.
type guess struct {
	bar, slope float64
	// The same in standard deviations of a query's products, from their mean.
	place, hazard float64
}

func (s *Sets) newSearch() *setSearch {
	w := &setSearch{search: s.ix.newSearch(), sets: s, values: make([]float32, pointBlock), held: make([]float32, pointBlock),
		found: make([]int32, pointBlock+16), places: make([]uint16, pointBlock+32), guess: make([]guess, len(s.sets))}
	w.ready(1, queryBlock)
	w.some = newReservoirs(1, candidates(max(s.sets[0].K, s.most)), pointBlock, pointBlock)[0]
	return w
}

// candidatesOf finds somewhat more than k places of the largest values, in their order, and returns a bar that is above all others. Of words
// it may be any number of them, of floats it is as an index has it.
func (s *setSearch) candidatesOf(set int, values []float32, k, n int, words bool) (places []int32, bar float32) {
	least, slack := k+3+k/16, 6+k/8
	g := &s.guess[set]
	if words && g.slope > 0 && n > least+slack {
		const tries = 4
		middle := math.Log(float64(least) + float64(slack)/2)
		at, slope := g.bar, g.slope
		lastAt, last := at, 0.0
		for try := range tries {
			count := s.ix.kernel.indexFrom(values, float32(at), s.found)
			if count >= least && count <= least+slack {
				g.bar += (at - g.bar) / 4
				return s.found[:count], float32(at)
			}
			now := math.Log(max(float64(count), 0.5))
			if try > 0 && (last-now)*(at-lastAt) > 0 {
				slope = (last - now) / (at - lastAt)
			}
			lastAt, last = at, now
			at += (now - middle) / slope
		}
	}
	r := &s.some
	r.k = min(candidates(k), n)
	r.reset()
	r.offer(s.ix.kernel, values, 0)
	bar = float32(math.Inf(-1))
	if r.full() && r.n < n {
		bar = r.least()
		s.learn(g, r, values, bar)
	}
	return r.index[:r.n], bar
}

// learn guesses from what a reservoir holds.
func (s *setSearch) learn(g *guess, r *reservoir, values []float32, bar float32) {
	most := bar
	for _, v := range r.value[:r.n] {
		most = max(most, v)
	}
	lower := bar - (most - bar)
	if count := s.ix.kernel.countAbove(values, lower); most > bar && count > r.n {
		g.bar, g.slope = float64(bar), math.Log(float64(count)/float64(r.n))/float64(bar-lower)
	}
}

// block answers the queries that are listed. It returns how many it leaves in doubt, which come to stand at the front of the list.
func (s *setSearch) block(queries Matrix, own []int32, all, others Neighbours, words bool) (doubtful int) {
	ix, n, first := s.ix, len(s.list), s.sets.of[0].to
	off := float64(ix.cols+64) * 0x1p-24
	unit := 1.0
	if words {
		off, unit = wordError(ix.cols), unitWord*unitWord
	}
	var takesPart [queryBlock]bool
	for i, q := range s.list {
		takesPart[i] = s.prepare(i, queries.Row(q), words)
	}
	s.multiply(0, n, 0, first, 0, words)
	for lo, hi := 0, 0; lo < n; lo = hi {
		set := own[s.list[lo]]
		for hi = lo; hi < n && own[s.list[hi]] == set; hi++ {
		}
		if set > 0 {
			s.multiply(lo, hi, s.sets.of[set].from, s.sets.of[set].to, first, words)
		}
		for i := lo; i < hi; i++ {
			q := s.list[i]
			if !takesPart[i] {
				all.none(q, 0)
				others.none(q, 0)
				continue
			}
			s.take(queries.Row(q))
			products := s.products[i*productStride : (i+1)*productStride]
			doubt := s.firstOf(products[:first], set, all, q, off, unit, words)
			if set > 0 {
				doubt = s.otherOf(products, int(set), others, q, off, unit, words) || doubt
			} else {
				others.none(q, 0)
			}
			if doubt {
				s.list[doubtful] = q
				doubtful++
			}
		}
	}
	return doubtful
}

// firstOf answers query q by the first set, by products in so many units that may be off. It reports whether that leaves a doubt, which there is of words only.
func (s *setSearch) firstOf(products []float32, set int32, found Neighbours, q int, off, unit float64, words bool) (doubt bool) {
	places, bar := s.candidatesOf(0, products, found.K, len(s.sets.sets[0].Points), words)
	if s.sets.kind != nil && set > 0 && len(places) > found.K {
		s.withoutOwn(places, products, set, found, q, 2*off*unit)
	} else {
		s.nearestOf(places, found, q)
	}
	if doubt = s.doubts(bar, off, unit); doubt && !words {
		s.nearestOf(s.allNear(products, off), found, q)
	}
	for i, row := range found.Index[q*found.K : (q+1)*found.K] {
		if row >= 0 {
			found.Index[q*found.K+i] = s.sets.point[row]
		}
	}
	return doubt && words
}

// doubts says whether something with a product below the bar may be as near as the farthest that was kept.
func (s *setSearch) doubts(bar float32, off, unit float64) bool {
	return s.farthest >= 1-(float64(bar)/unit+off)
}

// allNear returns the places of all that may be as near as the farthest that was kept, by products of floats.
func (s *setSearch) allNear(products []float32, off float64) []int32 {
	bar := float32(1 - s.farthest - 2*off)
	s.near = s.near[:0]
	for i, v := range products {
		if v >= bar {
			s.near = append(s.near, int32(i))
		}
	}
	return s.near
}

// withoutOwn is nearestOf that leaves out distances to points of the query's own kind, if their product with the query is by more than it may be off larger than the last that
// counts: they are among the nearest in any case. And what is smaller by so much is not.
func (s *setSearch) withoutOwn(places []int32, products []float32, set int32, found Neighbours, q int, off float64) {
	padded := (len(places) + lanes - 1) / lanes * lanes
	held := s.held[:padded]
	for i, row := range places {
		held[i] = products[row]
	}
	for i := len(places); i < padded; i++ {
		held[i] = float32(math.Inf(-1))
	}
	bar, ties := raise(s.ix.kernel, held, found.K, -math.MaxFloat32)
	last := math.Inf(1) // of as many as count, the least
	for _, v := range held[:len(places)] {
		if v > bar || ties > 0 && v == bar {
			last = min(last, float64(v))
		}
	}
	s.sure, s.near = s.sure[:0], s.near[:0]
	for i, row := range places {
		switch v := float64(held[i]); {
		case v < last-off:
		case v > last+off && s.sets.kind[s.sets.point[row]] == set:
			s.sure = append(s.sure, row)
		default:
			s.near = append(s.near, row)
		}
	}
	at := q * found.K
	for i, row := range s.sure {
		found.Index[at+i], found.Distance[at+i] = row, float32(math.NaN())
	}
	s.measure(s.near)
	kept := s.keep(s.near, found.K-len(s.sure))
	s.farthest = 0
	for i, d := range s.distance[:kept] {
		s.farthest = max(s.farthest, d)
		found.Index[at+len(s.sure)+i], found.Distance[at+len(s.sure)+i] = s.near[i], float32(d)
	}
	found.none(q, len(s.sure)+kept)
}

// otherOf answers query q by another set.
func (s *setSearch) otherOf(products []float32, set int, found Neighbours, q int, off, unit float64, words bool) (doubt bool) {
	of, k := s.sets.of[set], s.sets.sets[set].K
	padded := (len(of.columns) + lanes - 1) / lanes * lanes
	values := s.values[:padded]
	for i, c := range of.columns {
		values[i] = products[c]
	}
	for i := len(of.columns); i < padded; i++ {
		values[i] = float32(math.Inf(-1))
	}
	places, bar := s.candidatesOf(set, values, k, len(of.columns), words)
	rows := func(places []int32) []int32 {
		for i, at := range places {
			places[i] = of.rows[at]
		}
		return places
	}
	own := Neighbours{K: k, Index: found.Index[q*found.K:][:k], Distance: found.Distance[q*found.K:][:k]}
	s.nearestOf(rows(places), own, 0)
	if doubt = s.doubts(bar, off, unit); doubt && !words {
		s.nearestOf(rows(s.allNear(values, off)), own, 0)
	}
	for i, row := range own.Index {
		if row >= 0 {
			own.Index[i] = s.sets.point[row]
		}
	}
	found.none(q, k)
	return doubt && words
}
