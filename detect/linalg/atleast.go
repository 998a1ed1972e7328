package linalg

import "math/bits"

// AtLeast appends the numbers of values that are at least bar to dst, rising; NaN is not.
func AtLeast(dst []int32, values []float32, bar float32) []int32 {
	const some = 1024
	var marks [some / lanes]uint64
	kernel := Best.kernel()
	for first := 0; first < len(values); first += some {
		part := values[first:min(first+some, len(values))]
		whole := len(part) / lanes * lanes
		kernel.markFrom(part[:whole], bar, marks[:])
		for w, mask := range marks[:whole/lanes] {
			for ; mask != 0; mask &= mask - 1 {
				dst = append(dst, int32(first+w*lanes+bits.TrailingZeros64(mask)))
			}
		}
		for i, v := range part[whole:] {
			if v >= bar {
				dst = append(dst, int32(first+whole+i))
			}
		}
	}
	return dst
}
