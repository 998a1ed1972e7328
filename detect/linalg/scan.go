package linalg

// countAbovePortable returns how many values are larger than bar; NaN is not.
func countAbovePortable(values []float32, bar float32) (n int) {
	for _, v := range values {
		if v > bar {
			n++
		}
	}
	return n
}

// markFromPortable sets bit i of marks where value i is at least bar. len(values) is a multiple of 64.
func markFromPortable(values []float32, bar float32, marks []uint64) {
	for w := range len(values) / lanes {
		var mask uint64
		for i, v := range values[w*lanes : (w+1)*lanes] {
			if v >= bar {
				mask |= 1 << i
			}
		}
		marks[w] = mask
	}
}
