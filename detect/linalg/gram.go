package linalg

import (
	"fmt"
	"sync"
)

// gramBlock is how many rows of the products of rows with each other are made at a time: a multiple of every panel's rows and of every tile's. Those of 2,048 rows, 786 KB, are
// looked at while they are in the second level of cache.
const gramBlock = 96

// Gram calls each with the rows of x·xᵀ, some of them at a time and in their order; first is the number of the first of these. Each may change them, and not keep them. The CPU computes half of the
// product, which is symmetric, and keeps half of that. kept is x, as [Keep] returned it.
func Gram(x Matrix, kept Operand, each func(first int, rows Matrix)) error {
	p, ok := kept.(*packed)
	if !ok {
		all := Matrix{Rows: x.Rows, Cols: x.Rows, Data: make([]float32, x.Rows*x.Rows)}
		if err := kept.Product(all, x); err != nil {
			return err
		}
		for first := 0; first < x.Rows; first += gramBlock {
			each(first, all.part(first, min(first+gramBlock, x.Rows)))
		}
		return nil
	}
	if err := x.check("the left matrix"); err != nil {
		return err
	}
	if x.Rows != p.rows || x.Cols != p.cols {
		return fmt.Errorf("%w: %d × %d is not what was kept, %d × %d", ErrShape, x.Rows, x.Cols, p.rows, p.cols)
	}
	room, _ := grams.Get().(*gram)
	if room == nil {
		room = &gram{}
	}
	defer grams.Put(room)
	room.of(p, x, each)
	return nil
}

// part is rows first to end.
func (m Matrix) part(first, end int) Matrix {
	return Matrix{Rows: end - first, Cols: m.Cols, Data: m.Data[first*m.Cols : end*m.Cols]}
}

// gram is what a product of rows with each other needs while it is made.
type gram struct {
	rows   []float32   // of a block
	kept   []float32   // of all blocks
	strips [][]float32 // each block's part of kept: what lies right of its square on the diagonal
}

var grams sync.Pool // of *gram

// between is how much farther apart rows of a strip lie than they are long: rows that are a large power of two apart fall on each other's place in the cache.
const between = aligned

func (g *gram) of(p *packed, x Matrix, each func(first int, rows Matrix)) {
	n := x.Rows
	if cap(g.rows) < gramBlock*n {
		g.rows = alignedFloats(gramBlock * n)
	}
	if most := n*(n+2*between)/2 + n; cap(g.kept) < most {
		g.kept = make([]float32, most)
	}
	left := g.kept[:cap(g.kept)]
	g.strips = g.strips[:0]
	for first := 0; first < n; first += gramBlock {
		end := min(first+gramBlock, n)
		rows := Matrix{Rows: end - first, Cols: n, Data: g.rows[:(end-first)*n]}
		p.product(rows, x.part(first, end), first)
		for b, strip := range g.strips {
			above := (b + 1) * gramBlock
			turn(p.kernel, rows, b*gramBlock, strip[first-above:], n-above+between)
		}
		stride := n - end + between
		if end < n {
			for r := range rows.Rows {
				copy(left[r*stride:], rows.Row(r)[end:])
			}
			g.strips = append(g.strips, left[:rows.Rows*stride])
			left = left[rows.Rows*stride:]
		}
		each(first, rows)
	}
}

// turn sets a block of columns, from the given one on, of rows to the transpose of as many columns as there are rows: whole lines of the cache at a time.
func turn(k *kernel, rows Matrix, from int, columns []float32, stride int) {
	const line = aligned
	whole := rows.Rows / line * line
	for r := 0; r < whole; r += line {
		for c := 0; c < gramBlock; c += line {
			k.transpose(line/8, columns[c*stride+r:], stride, rows.Data[r*rows.Cols+from+c:], rows.Cols)
			k.transpose(line/8, columns[(c+8)*stride+r:], stride, rows.Data[r*rows.Cols+from+c+8:], rows.Cols)
		}
	}
	for r := whole; r < rows.Rows; r++ {
		to := rows.Row(r)[from : from+gramBlock]
		for c := range to {
			to[c] = columns[c*stride+r]
		}
	}
}
