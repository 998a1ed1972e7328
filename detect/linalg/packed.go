package linalg

// packed is an operand of the CPU: in panels as an index has them, made once for many products. What is missing in the last panel is zero.
type packed struct {
	kernel     *kernel
	rows, cols int
	panels     []float32
	lower      bool // the matrix is lower triangular: a panel ends where its last row does
}

func newPacked(k *kernel, rows, cols int) *packed {
	return &packed{kernel: k, rows: rows, cols: cols, panels: alignedFloats((rows + k.cols - 1) / k.cols * k.cols * cols)}
}

func (e CPU) keep(b Matrix) (Operand, error) {
	o := newPacked(e.Level.kernel(), b.Rows, b.Cols)
	o.kernel.pack(o.panels, b.Data, b.Cols, b.Rows, b.Cols)
	return o, nil
}

// KeepLower is [Keep] for a matrix whose values right of the diagonal are zeros. They may be left out: what is not finite in the left side of a
// product need not meet them.
func KeepLower(engine Engine, b Matrix) (Operand, error) {
	o, err := Keep(engine, b)
	if p, ok := o.(*packed); ok {
		p.lower = true
	}
	return o, err
}

// KeepAcross is [Keep] for the transpose of b.
func KeepAcross(engine Engine, b Matrix) (Operand, error) {
	if err := b.check("the right matrix"); err != nil {
		return nil, err
	}
	e, ok := engine.(CPU)
	if !ok {
		return Keep(engine, b.Transpose())
	}
	// What lies side by side in a panel does so in b.
	o := newPacked(e.Level.kernel(), b.Cols, b.Rows)
	side := o.kernel.cols
	for r := range b.Rows {
		row := b.Row(r)
		for c := 0; c < len(row); c += side {
			copy(o.panels[c*b.Rows+r*side:][:side], row[c:])
		}
	}
	return o, nil
}

// Product implements [Operand]. It keeps to the calling goroutine. Values are those of the engine's own products.
func (o *packed) Product(dst, a Matrix) error {
	if err := checkLeft(dst, a, o.rows, o.cols); err != nil {
		return err
	}
	o.product(dst, a, 0)
	return nil
}

// product sets the columns of dst from the given one on, which is a multiple of a panel's width.
func (o *packed) product(dst, a Matrix, from int) {
	side, high := o.kernel.cols, len(o.kernel.tiles)-1
	const some = 512 // rows of the operand at a time: their panels, 786 KB for a chunk, stay in the second level of cache
	nothing, edge := make([]float32, side), alignedFloats(high*side)
	lines := newLines(high, o.cols)
	for first := from; first < o.rows; first += some {
		end := min(first+some, o.rows)
		for c := 0; c == 0 || c < o.cols; c += depthChunk {
			depth := min(depthChunk, o.cols-c)
			for q := 0; q < a.Rows; q += high {
				rows := min(high, a.Rows-q)
				left, stride := lines.of(a, q, rows, c, depth)
				for x := first; x < end; x += side {
					depth := depth
					if o.lower {
						if depth = min(depth, x+side-c); depth <= 0 {
							continue
						}
					}
					to, step := dst.Data[q*dst.Cols+x:], dst.Cols
					start, stepFrom := to, step
					whole := x+side <= o.rows
					if !whole { // beside the last column lies the next row
						to, step = edge, side
						start, stepFrom = edge, side
						if c > 0 {
							for r := range rows {
								copy(edge[r*side:(r+1)*side], dst.Row(q + r)[x:])
							}
						}
					}
					if c == 0 {
						start, stepFrom = nothing, 0
					}
					o.kernel.tiles[rows](depth, left, stride, o.panels[x*o.cols+c*side:], start, stepFrom, to, step)
					if !whole {
						for r := range rows {
							copy(dst.Row(q + r)[x:], edge[r*side:])
						}
					}
				}
			}
		}
	}
}

// Gram sets dst to x·xᵀ, which is symmetric: the CPU computes half of it. kept is x, as [Keep] returned it.
func Gram(dst, x Matrix, kept Operand) error {
	p, ok := kept.(*packed)
	if !ok {
		return kept.Product(dst, x)
	}
	if err := checkLeft(dst, x, p.rows, p.cols); err != nil {
		return err
	}
	if x.Rows != p.rows {
		return checkLeft(Matrix{}, x, p.rows, p.cols)
	}
	const block = 128 // a multiple of every panel's rows; the square of it that is turned over stays in the cache
	for first := 0; first < x.Rows; first += block {
		end := min(first+block, x.Rows)
		part := Matrix{Rows: end - first, Cols: x.Cols, Data: x.Data[first*x.Cols : end*x.Cols]}
		p.product(Matrix{Rows: part.Rows, Cols: dst.Cols, Data: dst.Data[first*dst.Cols : end*dst.Cols]}, part, first)
		below := x.Rows - end
		for c := 0; c < below; c += block {
			mirror(p.kernel, dst, first, end, end+c, min(end+c+block, x.Rows))
		}
	}
	return nil
}

// mirror copies rows first to end, columns from to to, to where they lie on the other side of the diagonal: whole lines of the cache at a time,
// since rows that are a power of two apart fall on each other's place there.
func mirror(k *kernel, m Matrix, first, end, from, to int) {
	const line = aligned
	rows, cols := (end-first)/line*line, (to-from)/line*line
	for c := from; c < from+cols; c += line {
		for r := first; r < first+rows; r += line {
			k.transpose(line/8, m.Data[r*m.Cols+c:], m.Cols, m.Data[c*m.Cols+r:], m.Cols)
			k.transpose(line/8, m.Data[(r+8)*m.Cols+c:], m.Cols, m.Data[c*m.Cols+r+8:], m.Cols)
		}
	}
	for r := first; r < end; r++ {
		c := from + cols
		if r >= first+rows {
			c = from
		}
		for ; c < to; c++ {
			m.Data[c*m.Cols+r] = m.Data[r*m.Cols+c]
		}
	}
}
