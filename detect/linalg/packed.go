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
