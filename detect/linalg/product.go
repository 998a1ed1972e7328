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
	side, high, cols := k.cols, len(k.tiles)-1, a.Cols
	const panels = 512 // rows of b that are packed at a time: 786 KB
	packed := alignedFloats(min(panels, (b.Rows+side-1)/side*side) * min(depthChunk, cols))
	nothing, edge := make([]float32, side), alignedFloats(high*side)
	// Rows whose distance is a large power of two fall on each other's place in the cache.
	var moved []float32
	stride := cols
	if cols%256 == 0 && cols > 0 {
		stride = depthChunk + aligned
		moved = alignedFloats(high * stride)
	}
	for first := 0; first < b.Rows; first += panels {
		wide := min(panels, b.Rows-first)
		for c := 0; c == 0 || c < cols; c += depthChunk {
			depth := min(depthChunk, cols-c)
			k.pack(packed, b.Data[first*cols+c:], cols, wide, depth)
			for q := 0; q < a.Rows; q += high {
				rows := min(high, a.Rows-q)
				left := a.Data[q*cols+c:]
				if moved != nil {
					for r := range rows {
						copy(moved[r*stride:], left[r*cols:r*cols+depth])
					}
					left = moved
				}
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
