package linalg

import "slices"

// Smallest returns the k-th smallest of values, which it reorders, and how many of the k smallest equal it. k is at least 1 and at most
// their number.
func Smallest[T float32 | float64](values []T, k int) (bar T, ties int) {
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

// Median returns the upper median of values, which it reorders; there must be some.
func Median[T float32 | float64](values []T) T {
	middle, _ := Smallest(values, len(values)/2+1)
	return middle
}

// CountAbove returns how many values are larger than bar; NaN is not.
func CountAbove(values []float32, bar float32) int {
	whole := len(values) / lanes * lanes
	return Best.kernel().countAbove(values[:whole], bar) + countAbovePortable(values[whole:], bar)
}
