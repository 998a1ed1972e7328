package linalg

import "math/bits"

// Finder finds large values. It is scratch for one goroutine; the zero value is ready.
type Finder struct{ marks [marked / lanes]uint64 }

const marked = 1024 // values at a time

// AtLeast appends the numbers of values that are at least bar to dst, rising; NaN is not.
func (f *Finder) AtLeast(dst []int32, values []float32, bar float32) []int32 {
	marks := f.marks[:]
	kernel := Best.kernel()
	for first := 0; first < len(values); first += marked {
		part := values[first:min(first+marked, len(values))]
		whole := len(part) / lanes * lanes
		kernel.markFrom(part[:whole], bar, marks)
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
