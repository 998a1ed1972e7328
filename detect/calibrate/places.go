package calibrate

import (
	"math"
	"sort"
)

// places tells where to look for a score among rising ones: the body of their range is cut into cells of equal width, and
// for each it is known how many scores lie below. Most cells hold a score or none, where halving would guess a dozen times.
type places struct {
	lo, hi float64 // of the cells; what lies below is in the first of them, what lies above in the last
	scale  float64 // cells per unit
	first  []int32 // by cell, and one more: scores in the cells before it; none where halving has to do
}

const (
	outside   = 64      // one in so many scores on either side does not stretch the cells
	mostCells = 1 << 14 // 64 KiB
	fewPlaces = 8       // scores of one cell that are compared one after the other
)

func newPlaces(sorted []float64) places {
	m := len(sorted)
	p := places{lo: sorted[m/outside], hi: sorted[m-1-m/outside]}
	cells := min(2*m, mostCells)
	p.scale = float64(cells) / (p.hi - p.lo)
	if !(p.scale > 0) || math.IsInf(p.scale, 0) { // no width, or one beyond numbers
		return p
	}
	p.first = make([]int32, cells+1)
	cell := 0
	for i, s := range sorted {
		for at := p.cell(s, cells); cell < at; {
			cell++
			p.first[cell] = int32(i)
		}
	}
	for cell < cells {
		cell++
		p.first[cell] = int32(m)
	}
	return p
}

// cell returns in which of so many cells a score lies. It never falls as the score rises, rounding included.
func (p *places) cell(score float64, cells int) int {
	switch {
	case !(score > p.lo):
		return 0
	case score >= p.hi:
		return cells - 1
	}
	return min(int((score-p.lo)*p.scale), cells-1)
}

// search is sort.SearchFloat64s of the scores that p was made from.
func (p *places) search(sorted []float64, score float64) int {
	if p.first == nil {
		return sort.SearchFloat64s(sorted, score)
	}
	cell := p.cell(score, len(p.first)-1)
	from, to := int(p.first[cell]), int(p.first[cell+1])
	if to-from > fewPlaces {
		return from + sort.SearchFloat64s(sorted[from:to], score)
	}
	for from < to && sorted[from] < score {
		from++
	}
	return from
}
