package linalg

import (
	"math"
	"math/bits"
	"slices"
)

// reservoir keeps the k largest of all products that are offered, and of equal ones those with the smaller index.
//
// It counts before it moves: how many products lie above the bar costs an eighth of a cycle each and settles nearly every
// block of a large set; where too many do, the bar is raised by bisection, counting again, until no more than k are left to
// copy. A heap costs log k for each of them, and a mispredicted branch.
type reservoir struct {
	k     int
	n     int       // candidates held, in ascending order of index
	value []float32 // room for 2k, padded to whole lanes
	index []int32
	bar   float32  // a later product must be larger to count
	above []uint64 // scratch, shared: a bit for each product
}

// lanes is how many products are looked at at once; slices that are offered have a multiple of it.
const lanes = 64

// newReservoirs returns n of them, for one goroutine.
func newReservoirs(n, k, points, span int) []reservoir {
	k = min(k, points)
	room := (2*k + lanes - 1) / lanes * lanes
	value, index, above := make([]float32, n*room), make([]int32, n*room), make([]uint64, max(span, room)/lanes)
	all := make([]reservoir, n)
	for i := range all {
		all[i] = reservoir{k: k, value: value[i*room : (i+1)*room], index: index[i*room : (i+1)*room], above: above}
	}
	return all
}

func (r *reservoir) reset() {
	r.n, r.bar = 0, -math.MaxFloat32 // −∞ is nobody's neighbour
}

// close makes the reservoir take nothing until it is reset.
func (r *reservoir) close() { r.bar = float32(math.Inf(1)) }

// full says whether some of what was offered may have been left out.
func (r *reservoir) full() bool { return r.n == r.k && r.n > 0 }

// least returns the least of what is held.
func (r *reservoir) least() float32 {
	least := float32(math.Inf(1))
	for _, v := range r.value[:r.n] {
		least = min(least, v)
	}
	return least
}

// part returns a copy of what is held.
func (r *reservoir) part() part {
	return part{slices.Clone(r.index[:r.n]), slices.Clone(r.value[:r.n])}
}

// offer takes the products of points first, first+1, …
func (r *reservoir) offer(k *kernel, products []float32, first int) {
	c := k.countAbove(products, r.bar)
	if c == 0 || r.k == 0 {
		return
	}
	bar, ties := r.bar, 0
	if c > r.k {
		bar, ties = raise(k, products, r.k, bar)
	}
	k.markFrom(products, bar, r.above)
	n := r.n
	for w, mask := range r.above[:len(products)/lanes] {
		for ; mask != 0; mask &= mask - 1 {
			i := w*lanes + bits.TrailingZeros64(mask)
			v := products[i]
			if v == bar {
				if ties == 0 {
					continue
				}
				ties--
			}
			r.value[n], r.index[n] = v, int32(first+i)
			n++
		}
	}
	r.n = n
	if n > r.k {
		r.shrink(k)
	}
}

// shrink keeps the k best of what is held and raises the bar.
func (r *reservoir) shrink(k *kernel) {
	padded := (r.n + lanes - 1) / lanes * lanes
	for i := r.n; i < padded; i++ {
		r.value[i] = float32(math.Inf(-1))
	}
	held := r.value[:padded]
	below := max(math.Nextafter32(r.bar, float32(math.Inf(-1))), -math.MaxFloat32) // ties with the last bar are held too
	bar, ties := raise(k, held, r.k, below)
	k.markFrom(held, bar, r.above)
	n := 0
	for w, mask := range r.above[:padded/lanes] {
		for ; mask != 0; mask &= mask - 1 {
			i := w*lanes + bits.TrailingZeros64(mask)
			v := held[i]
			if v == bar {
				if ties == 0 {
					continue
				}
				ties--
			}
			r.value[n], r.index[n] = v, r.index[i]
			n++
		}
	}
	r.n, r.bar = n, bar
}

// raise finds a bar above lo that leaves k values: so many lie above it, and ties more, the first ones, equal it. More than k
// must lie above lo.
func raise(with *kernel, values []float32, k int, lo float32) (bar float32, ties int) {
	// Sixteen of the values, evenly spaced, say where to look.
	low, hi := float32(math.MaxFloat32), lo
	for i := 0; i < len(values); i += len(values) / 16 {
		if v := values[i]; v > lo {
			low, hi = min(low, v), max(hi, v)
		}
	}
	width := max(hi-low, float32(math.Abs(float64(hi)))*1e-6, math.SmallestNonzeroFloat32)
	above := with.countAbove(values, hi)
	for above > k {
		lo, hi, width = hi, hi+width, 2*width
		above = with.countAbove(values, hi)
	}
	below := len(values) // how many lie above lo, at most
	for low = min(low, hi) - width/16; low > lo; low, width = low-width, 2*width {
		if c := with.countAbove(values, low); c > k {
			lo, below = low, c
			break
		} else {
			hi, above = low, c
		}
	}
	for straight := true; above != k; straight = !straight {
		middle := lo/2 + hi/2
		if straight { // where a straight line between the counts has k; every other time the middle, lest it crawl
			middle = lo + (hi-lo)*(float32(below-k)/float32(below-above))
		}
		if !(middle > lo && middle < hi) {
			if straight {
				continue
			}
			return hi, k - above // no float lies between: the rest equal hi
		}
		if c := with.countAbove(values, middle); c > k {
			lo, below = middle, c
		} else {
			hi, above = middle, c
		}
	}
	return hi, 0
}
