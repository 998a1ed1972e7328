package linalg

// Product implements [Engine]. It keeps to the calling goroutine: who has several cuts the left matrix.
func (e CPU) Product(dst, a, b Matrix) error {
	if err := checkProduct(dst, a, b); err != nil {
		return err
	}
	if len(dst.Data) == 0 {
		return nil
	}
	k := e.Level.kernel()
	if few := a.Rows * a.Cols; a.Rows <= b.Rows/2 && few <= 1<<18 {
		k.few(dst, a, b)
		return nil
	}
	side, high, cols := k.cols, len(k.tiles)-1, a.Cols
	const panels = 512 // rows of b that are packed at a time: 786 KB
	packed := alignedFloats(min(panels, (b.Rows+side-1)/side*side) * min(depthChunk, cols))
	nothing, edge := make([]float32, side), alignedFloats(high*side)
	lines := newLines(high, cols)
	for first := 0; first < b.Rows; first += panels {
		wide := min(panels, b.Rows-first)
		for c := 0; c == 0 || c < cols; c += depthChunk {
			depth := min(depthChunk, cols-c)
			k.pack(packed, b.Data[first*cols+c:], cols, wide, depth)
			for q := 0; q < a.Rows; q += high {
				rows := min(high, a.Rows-q)
				left, stride := lines.of(a, q, rows, c, depth)
				for x := 0; x < wide; x += side {
					to, step := dst.Data[q*dst.Cols+first+x:], dst.Cols
					start, from := to, step
					whole := x+side <= wide
					if !whole { // beside the last column lies the next row
						to, step = edge, side
						start, from = edge, side
						if c > 0 {
							for r := range rows {
								copy(edge[r*side:(r+1)*side], dst.Row(q + r)[first+x:first+wide])
							}
						}
					}
					if c == 0 {
						start, from = nothing, 0
					}
					k.tiles[rows](depth, left, stride, packed[x*depth:], start, from, to, step)
					if !whole {
						for r := range rows {
							copy(dst.Row(q + r)[first+x:first+wide], edge[r*side:])
						}
					}
				}
			}
		}
	}
	return nil
}

// few sets dst to a·bᵀ where a has few rows: those are packed, and b, which would take longer to pack than to multiply, is read as it
// lies. Every value is the same as the other way about.
func (k *kernel) few(dst, a, b Matrix) {
	side, high, cols := k.cols, len(k.tiles)-1, a.Cols
	wide := (a.Rows + side - 1) / side * side
	packed := alignedFloats(wide * cols)
	for c := 0; c < cols; c += depthChunk {
		k.pack(packed[wide*c:], a.Data[c:], cols, a.Rows, min(depthChunk, cols-c))
	}
	nothing, across := make([]float32, side), alignedFloats(high*wide)
	lines := newLines(high, cols)
	for q := 0; q < b.Rows; q += high {
		rows := min(high, b.Rows-q)
		for c := 0; c == 0 || c < cols; c += depthChunk {
			depth := min(depthChunk, cols-c)
			left, stride := lines.of(b, q, rows, c, depth)
			for x := 0; x < wide; x += side {
				start, from := across[x:], wide
				if c == 0 {
					start, from = nothing, 0
				}
				k.tiles[rows](depth, left, stride, packed[wide*c+x*depth:], start, from, across[x:], wide)
			}
		}
		for i := range a.Rows {
			to := dst.Data[i*dst.Cols+q : i*dst.Cols+q+rows]
			for r := range to {
				to[r] = across[r*wide+i]
			}
		}
	}
}

// lines gives the rows of a tile. Those whose distance is a large power of two fall on each other's place in the cache, and are
// copied.
type lines struct{ moved []float32 }

func newLines(rows, cols int) lines {
	if cols == 0 || cols%256 != 0 {
		return lines{}
	}
	return lines{alignedFloats(rows * (depthChunk + aligned))}
}

func (l lines) of(m Matrix, first, rows, from, depth int) (left []float32, stride int) {
	left = m.Data[first*m.Cols+from:]
	if l.moved == nil {
		return left, m.Cols
	}
	for r := range rows {
		copy(l.moved[r*(depthChunk+aligned):], left[r*m.Cols:r*m.Cols+depth])
	}
	return l.moved, depthChunk + aligned
}

// Transpose returns the columns of m as rows.
func (m Matrix) Transpose() Matrix {
	t := Matrix{Rows: m.Cols, Cols: m.Rows, Data: make([]float32, len(m.Data))}
	const high, wide = 64, 32 // what stays in the cache
	k := Best.kernel()
	rows, cols := m.Rows&^7, m.Cols&^7
	for r0 := 0; r0 < rows; r0 += high {
		for c0 := 0; c0 < cols; c0 += wide {
			for r := r0; r < min(r0+high, rows); r += 8 {
				k.transpose((min(c0+wide, cols)-c0)/8, m.Data[r*m.Cols+c0:], m.Cols, t.Data[c0*m.Rows+r:], m.Rows)
			}
		}
	}
	for r := range m.Rows {
		c := cols
		if r >= rows {
			c = 0
		}
		for ; c < m.Cols; c++ {
			t.Data[c*m.Rows+r] = m.Data[r*m.Cols+c]
		}
	}
	return t
}
