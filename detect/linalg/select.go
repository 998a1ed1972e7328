package linalg

import (
	"math"
	"slices"
)

// smallest returns the k-th smallest of values, which it reorders, and how many of the k smallest equal it. k is at least 1 and at most
// their number. Nothing branches on how two values compare, for that cannot be predicted.
func smallest(values []float64, k int) (bar float64, ties int) {
	if len(values)-k < mostLeft {
		if bar, ties = allButFew(values, k); bar == bar {
			return bar, ties
		}
	}
	for {
		n := len(values)
		middle := values[n/2]
		if n > 16 {
			a, b := values[n/4], values[n-1-n/4]
			middle = max(min(a, b), min(max(a, b), middle))
		}
		if middle != middle { // NaN has no place in an order by <; who sorts puts it first
			slices.Sort(values)
			bar = values[k-1]
			for i := k - 1; i >= 0 && values[i] == bar; i-- {
				ties++
			}
			return bar, ties
		}
		below := 0
		for i, v := range values { // what is below the middle to the front
			values[i], values[below] = values[below], v
			one := 0
			if v < middle {
				one = 1
			}
			below += one
		}
		if k <= below {
			values = values[:below]
			continue
		}
		k, values = k-below, values[below:]
		equal := 0
		for i, v := range values { // then what equals it
			values[i], values[equal] = values[equal], v
			one := 0
			if v == middle {
				one = 1
			}
			equal += one
		}
		if k <= equal {
			return middle, k
		}
		k, values = k-equal, values[equal:]
	}
}

// mostLeft is how many of the largest values are found one by one.
const mostLeft = 12

// allButFew is smallest where fewer than mostLeft values are larger; the bar is NaN where that decides.
func allButFew(values []float64, k int) (bar float64, ties int) {
	var largest [mostLeft]uint64
	top := largest[:len(values)-k+1]
	for _, f := range values {
		v := math.Float64bits(f)
		v ^= uint64(int64(v)>>63) | 1<<63 // in the order of floats
		for i, t := range top {
			low, high := t, v
			if v < t {
				low, high = v, t
			}
			top[i], v = high, low
		}
	}
	v := top[len(top)-1]
	bar = math.Float64frombits(v ^ (uint64(int64(^v)>>63) | 1<<63))
	less := 0
	for _, f := range values {
		one := 0
		if f < bar {
			one = 1
		}
		less += one
	}
	return bar, k - less
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
