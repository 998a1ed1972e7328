package linalg

import "math"

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
	norm:       normPortable,
	wideNorm:   wideNormPortable,
	rowMoments: rowMomentsPortable,
	sumRows:    sumRowsPortable,
	widen:      widenPortable,
	times:      timesPortable,
	prefetch:   func([]float32) {},
	cosines:    cosinesPortable,
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

func normPortable(row []float32) float32 {
	var a, b, c, d, e, f, g, h float32
	for ; len(row) >= 8; row = row[8:] {
		x := (*[8]float32)(row)
		a += x[0] * x[0]
		b += x[1] * x[1]
		c += x[2] * x[2]
		d += x[3] * x[3]
		e += x[4] * x[4]
		f += x[5] * x[5]
		g += x[6] * x[6]
		h += x[7] * x[7]
	}
	for _, x := range row {
		a += x * x
	}
	return (a + b) + (c + d) + ((e + f) + (g + h))
}

func wideNormPortable(row []float32) float64 {
	var s [8]float64
	for ; len(row) >= 8; row = row[8:] {
		x := (*[8]float32)(row)
		a, b, c, d := float64(x[0]), float64(x[1]), float64(x[2]), float64(x[3])
		e, f, g, h := float64(x[4]), float64(x[5]), float64(x[6]), float64(x[7])
		s[0] += float64(a * a)
		s[1] += float64(b * b)
		s[2] += float64(c * c)
		s[3] += float64(d * d)
		s[4] += float64(e * e)
		s[5] += float64(f * f)
		s[6] += float64(g * g)
		s[7] += float64(h * h)
	}
	for _, v := range row {
		s[0] += float64(float64(v) * float64(v))
	}
	return (s[0] + s[4]) + (s[1] + s[5]) + ((s[2] + s[6]) + (s[3] + s[7]))
}

func widenPortable(dst []float64, row []float32) {
	dst = dst[:len(row)]
	for i, x := range row {
		dst[i] = float64(x)
	}
}

func timesPortable(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

// wordsPortable is what to read, and what the others are compared with; the first of a pair has the lower bits.
func wordsPortable(dst, src []float32, scale float32) {
	word := func(x float32) uint32 {
		v := math.RoundToEven(float64(float32(x * scale)))
		return uint32(uint16(int16(max(math.MinInt16, min(v, math.MaxInt16)))))
	}
	for i := range len(src) / 2 {
		dst[i] = math.Float32frombits(word(src[2*i]) | word(src[2*i+1])<<16)
	}
}

func indexFromPortable(values []float32, bar float32, index []int32) (n int) {
	for i, v := range values {
		if v >= bar {
			index[n] = int32(i)
			n++
		}
	}
	return n
}

func cosinesPortable(dots, norms []float64, norm float64) {
	for i, square := range norms[:len(dots)] {
		if square *= norm; square > 0 {
			dots[i] = max(0, 1-dots[i]/math.Sqrt(square))
		} else {
			dots[i] = 1
		}
	}
}

// wordTilePortable is a tile of pairs of 1 × 32.
func wordTilePortable(depth int, a []float32, _ int, b, from []float32, _ int, dst []float32, _ int) {
	for c := range 32 {
		sum := int32(0)
		for i := range depth {
			x, y := math.Float32bits(a[i]), math.Float32bits(b[32*i+c])
			sum += int32(int16(x))*int32(int16(y)) + int32(int16(x>>16))*int32(int16(y>>16))
		}
		dst[c] = float32(sum) + from[c]
	}
}
