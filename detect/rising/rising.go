// Package rising finds places among rising numbers, without the dozen guesses of halving.
package rising

import (
	"math"
	"sort"
)

// Places tells where to look among rising numbers: the body of their range is cut into cells of equal width, and for each it is known how many
// numbers lie below. Most cells hold a number or none, where halving would guess a dozen times. The zero value halves.
type Places struct {
	lo, hi float64 // of the cells; what lies below is in the first of them, what lies above in the last
	scale  float64 // cells per unit
	first  []int32 // by cell, and one more: numbers in the cells before it; none where halving has to do
}

const (
	outside   = 64      // one in so many numbers on either side does not stretch the cells
	mostCells = 1 << 14 // 64 KiB
	fewPlaces = 8       // numbers of one cell that are compared one after the other
)

// Of prepares for rising numbers, none of which is NaN.
func Of(sorted []float64) Places {
	m := len(sorted)
	if m == 0 {
		return Places{}
	}
	p := Places{lo: sorted[m/outside], hi: sorted[m-1-m/outside]}
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

// cell returns in which of so many cells x lies. It never falls as x rises, rounding included.
func (p *Places) cell(x float64, cells int) int {
	switch {
	case !(x > p.lo):
		return 0
	case x >= p.hi:
		return cells - 1
	}
	return min(int((x-p.lo)*p.scale), cells-1)
}

// Search returns how many of the numbers that p was made from lie below x, which is not NaN: sort.SearchFloat64s.
func (p *Places) Search(sorted []float64, x float64) int {
	if p.first == nil {
		return sort.SearchFloat64s(sorted, x)
	}
	cell := p.cell(x, len(p.first)-1)
	from, to := int(p.first[cell]), int(p.first[cell+1])
	if to-from > fewPlaces {
		return from + sort.SearchFloat64s(sorted[from:to], x)
	}
	for from < to && sorted[from] < x {
		from++
	}
	return from
}
