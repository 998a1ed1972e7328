package linalg

// kernels holds the levels that this processor has.
var kernels = [AVX512 + 1]*kernel{Portable: {
	cols:       8,
	tiles:      []tile{1: tilePortable},
	transpose:  transposePortable,
	squares:    squaresPortable,
	dots:       dotsPortable,
	countAbove: countAbovePortable,
	markFrom:   markFromPortable,
	unit:       unitPortable,
}}

// tilePortable is a [tile] of 1 × 8.
func tilePortable(depth int, a []float32, _ int, b, from []float32, _ int, dst []float32, _ int) {
	sum := (*[8]float32)(from)
	s0, s1, s2, s3, s4, s5, s6, s7 := sum[0], sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[7]
	for _, x := range a[:depth] {
		y := (*[8]float32)(b)
		b = b[8:]
		s0 += x * y[0]
		s1 += x * y[1]
		s2 += x * y[2]
		s3 += x * y[3]
		s4 += x * y[4]
		s5 += x * y[5]
		s6 += x * y[6]
		s7 += x * y[7]
	}
	*(*[8]float32)(dst) = [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
}

func transposePortable(blocks int, src []float32, stride int, dst []float32, dstStride int) {
	if blocks == 0 {
		return
	}
	for r := range 8 {
		for c, x := range src[r*stride : r*stride+8*blocks] {
			dst[c*dstStride+r] = x
		}
	}
}

func squaresPortable(index []int32, width int, query []float64, points []float32, out []float64) {
	for i, p := range index {
		var sums [16]float64
		for c, x := range points[int(p)*width : int(p+1)*width] {
			d := float64(x) - query[c]
			sums[c&15] += float64(d * d) // the conversion forbids to fuse
		}
		out[i] = halves(&sums)
	}
}

func dotsPortable(index []int32, width int, query []float64, points []float32, out []float64) {
	for i, p := range index {
		var sums [16]float64
		for c, x := range points[int(p)*width : int(p+1)*width] {
			sums[c&15] += float64(float64(x) * query[c])
		}
		out[i] = halves(&sums)
	}
}

// halves adds up sixteen sums: 8 and 8, 4 and 4, and so on.
func halves(sums *[16]float64) float64 {
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			sums[i] += sums[i+n]
		}
	}
	return sums[0]
}

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

func unitPortable(dst, src []float32, scale float64) {
	for i, x := range src[:len(dst)] {
		dst[i] = float32(float64(x) * scale)
	}
}
