package linalg

// Rows adds up some rows of a matrix, weighted. It is scratch for one goroutine; the zero value is ready.
type Rows struct {
	last  []float32 // the columns beyond whole eights of the rows that are added up, and zeros
	count []int32
}

// Sum sets dst to Σ weights[i] times row index[i] of m; index rises. That is what the operand that [KeepAcross] makes of m on the CPU gives for a left side that has these weights at index and
// zeros elsewhere, to the bit where m is finite, in the time that a few rows take.
func (r *Rows) Sum(dst []float32, index []int32, weights []float32, m Matrix) {
	r.sum(Best.kernel(), dst, index, weights, m)
}

func (r *Rows) sum(k *kernel, dst []float32, index []int32, weights []float32, m Matrix) {
	const eight = 8
	whole := m.Cols / eight * eight
	if k.sumRows(dst[:whole], index, weights[:len(index)], m.Data, m.Cols); whole == m.Cols {
		return
	}
	r.last, r.count = r.last[:0], r.count[:0]
	for i, row := range index {
		var some [eight]float32
		copy(some[:], m.Row(int(row))[whole:])
		r.last, r.count = append(r.last, some[:]...), append(r.count, int32(i))
	}
	var sums [eight]float32
	k.sumRows(sums[:], r.count, weights[:len(index)], r.last, eight)
	copy(dst[whole:m.Cols], sums[:])
}

// sumRowsPortable sets the first columns, a multiple of 8, of a sum of rows of so many.
func sumRowsPortable(dst []float32, index []int32, weights, rows []float32, width int) {
	clear(dst)
	for i, row := range index {
		w := weights[i]
		for c, v := range rows[int(row)*width:][:len(dst)] {
			dst[c] += w * v
		}
	}
}

// Moments sets sum and square to what the values of each row of m, and their squares, add up to, in four sums each: all levels give the same bits.
func Moments(sum, square []float64, m Matrix) { momentsOf(Best.kernel(), sum, square, m) }

func momentsOf(k *kernel, sum, square []float64, m Matrix) {
	const four = 4
	blocks, r := m.Cols/four, 0
	var sums [four][2][four]float64
	for ; r < m.Rows; r += four {
		rows := min(four, m.Rows-r)
		if rows == four {
			k.rowMoments(m.Data[r*m.Cols:(r+four)*m.Cols], m.Cols, blocks, &sums)
		} else {
			for i := range rows {
				rowMoments(m.Row(r+i), blocks, &sums[i])
			}
		}
		for i := range rows {
			for _, v := range m.Row(r + i)[blocks*four:] {
				a := float64(v)
				sums[i][0][0] += a
				sums[i][1][0] += float64(a * a)
			}
			s, q := &sums[i][0], &sums[i][1]
			sum[r+i], square[r+i] = s[0]+s[1]+(s[2]+s[3]), q[0]+q[1]+(q[2]+q[3])
		}
	}
}

// rowMomentsPortable adds up so many blocks of four values of four rows, stride apart, and of their squares.
func rowMomentsPortable(rows []float32, stride, blocks int, out *[4][2][4]float64) {
	for r := range out {
		rowMoments(rows[r*stride:], blocks, &out[r])
	}
}

func rowMoments(row []float32, blocks int, out *[2][4]float64) {
	var s0, s1, s2, s3, q0, q1, q2, q3 float64
	for row = row[:4*blocks]; len(row) >= 4; row = row[4:] {
		a, b, c, d := float64(row[0]), float64(row[1]), float64(row[2]), float64(row[3])
		s0 += a
		s1 += b
		s2 += c
		s3 += d
		q0 += float64(a * a)
		q1 += float64(b * b)
		q2 += float64(c * c)
		q3 += float64(d * d)
	}
	*out = [2][4]float64{{s0, s1, s2, s3}, {q0, q1, q2, q3}}
}
