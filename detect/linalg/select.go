package linalg

import (
	"math"
	"slices"
)

// smallest returns the k-th smallest of values, which it reorders, and how many of the k smallest equal it. k is at least 1 and at most
// their number.
func smallest(values []float64, k int) (bar float64, ties int) {
	for less := 0; ; {
		middle := values[len(values)/2]
		if middle != middle { // NaN has no place in an order by <; who sorts puts it first
			slices.Sort(values)
			bar = values[k-less-1]
			for i := k - less - 1; i >= 0 && values[i] == bar; i-- {
				ties++
			}
			return bar, ties
		}
		below, equal := 0, 0
		for i, v := range values { // what is below the middle to the front, then what equals it
			if v < middle {
				values[i] = values[below+equal]
				values[below+equal] = values[below]
				values[below] = v
				below++
			} else if v == middle {
				values[i] = values[below+equal]
				values[below+equal] = v
				equal++
			}
		}
		switch {
		case k-less <= below:
			values = values[:below]
		case k-less <= below+equal:
			return middle, k - less - below
		default:
			values, less = values[below+equal:], less+below+equal
		}
	}
}

// Median returns the upper median of values, of which there must be some. It bisects, counting at each of 32 steps, which vectors do
// faster than any order is made. NaN counts as the smallest.
func Median(values []float32) float32 {
	above := len(values) - len(values)/2 - 1 // how many may be larger
	lo, hi := place(float32(math.Inf(-1))), place(float32(math.Inf(1)))
	for lo < hi {
		middle := lo + (hi-lo)/2
		if CountAbove(values, at(middle)) <= above {
			hi = middle
		} else {
			lo = middle + 1
		}
	}
	return at(lo)
}

const sign = 1 << 31

// place numbers all floats in their order.
func place(v float32) uint32 {
	if bits := math.Float32bits(v); bits&sign == 0 {
		return bits | sign
	} else {
		return ^bits
	}
}

// at is the inverse of place.
func at(place uint32) float32 {
	if place&sign != 0 {
		return math.Float32frombits(place &^ sign)
	}
	return math.Float32frombits(^place)
}

// CountAbove returns how many values are larger than bar; NaN is not.
func CountAbove(values []float32, bar float32) int {
	whole := len(values) / lanes * lanes
	return Best.kernel().countAbove(values[:whole], bar) + countAbovePortable(values[whole:], bar)
}
