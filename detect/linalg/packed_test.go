package linalg

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOperandsAgree: products with what the CPU keeps, as it is, across, as a triangle, and of a matrix with itself by halves, are the engine's own
// to the bit, and nothing is written beside them.
func TestOperandsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	draw := func(rows, cols int) Matrix {
		m := Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
		for i := range m.Data {
			m.Data[i] = float32(rng.NormFloat64())
		}
		return m
	}
	for _, level := range Levels() {
		e := CPU{Level: level}
		for _, shape := range [][3]int{{0, 0, 0}, {0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {1, 1, 1}, {13, 33, 7}, {40, 130, 31}, {24, 600, 385}, {41, 31, 800}, {8, 100, 256}} {
			rows, others, cols := shape[0], shape[1], shape[2]
			a, b := draw(rows, cols), draw(others, cols)
			check := func(what string, right Matrix, keep func() (Operand, error)) {
				t.Helper()
				o, err := keep()
				if err != nil {
					t.Fatal(err)
				}
				want := Matrix{Rows: rows, Cols: right.Rows, Data: make([]float32, rows*right.Rows)}
				if err := e.Product(want, a, right); err != nil {
					t.Fatal(err)
				}
				room := make([]float32, rows*right.Rows+100)
				for i := range room {
					room[i] = 7
				}
				if err := o.Product(Matrix{Rows: rows, Cols: right.Rows, Data: room[:rows*right.Rows]}, a); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(room[:rows*right.Rows], want.Data) {
					t.Errorf("%s, %v, %s: not the engine's own product", level, shape, what)
				}
				if slices.IndexFunc(room[rows*right.Rows:], func(v float32) bool { return v != 7 }) >= 0 {
					t.Errorf("%s, %v, %s: something is written behind the product", level, shape, what)
				}
				if err := o.Product(Matrix{}, draw(1, cols+1)); !errors.Is(err, ErrShape) {
					t.Errorf("%s, %v, %s: %v, want a mistake of shape", level, shape, what, err)
				}
			}
			check("as it is", b, func() (Operand, error) { return Keep(e, b) })
			check("across", b, func() (Operand, error) { return KeepAcross(e, b.Transpose()) })
			triangle := draw(cols, cols)
			for r := range cols {
				clear(triangle.Row(r)[r+1:])
			}
			check("a triangle", triangle, func() (Operand, error) { return KeepLower(e, triangle) })

			o, err := Keep(e, b)
			if err != nil {
				t.Fatal(err)
			}
			want, got := draw(others, others), draw(others, others)
			if err := e.Product(want, b, b); err != nil {
				t.Fatal(err)
			}
			if err := Gram(b, o, into(got)); err != nil || !slices.Equal(got.Data, want.Data) {
				t.Errorf("%s, %v: a matrix with itself is not the engine's own product, %v", level, shape, err)
			}
			if err := Gram(draw(others+1, cols), o, func(int, Matrix) {}); !errors.Is(err, ErrShape) {
				t.Errorf("%s, %v: %v, want a mistake of shape", level, shape, err)
			}
		}
	}
	if _, err := KeepAcross(CPU{}, Matrix{Rows: 2, Cols: 2}); !errors.Is(err, ErrShape) {
		t.Error(err)
	}
}

// into copies rows to where they stand in dst, and makes them useless: who is told of them may change them.
func into(dst Matrix) func(first int, rows Matrix) {
	return func(first int, rows Matrix) {
		copy(dst.Data[first*dst.Cols:], rows.Data)
		clear(rows.Data)
	}
}
