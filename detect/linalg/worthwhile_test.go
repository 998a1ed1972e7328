package linalg_test

import (
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
)

// counting counts what reaches it.
type counting struct {
	linalg.CPU
	loads, products int
}

func (c *counting) Load(points linalg.Matrix, metric linalg.Metric) (linalg.Index, error) {
	c.loads++
	return c.CPU.Load(points, metric)
}

func (c *counting) Product(dst, a, b linalg.Matrix) error {
	c.products++
	return c.CPU.Product(dst, a, b)
}

func TestWorthwhile(t *testing.T) {
	matrix := func(rows, cols int) linalg.Matrix {
		return linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	}
	for _, c := range []struct {
		rows, cols int
		there      bool
	}{{0, 0, false}, {63, 4096, false}, {640, 2, false}, {640, 32, true}, {10_000, 384, true}} {
		device := &counting{}
		if _, err := linalg.Worthwhile(device).Load(matrix(c.rows, c.cols), linalg.L2); err != nil {
			t.Fatal(err)
		}
		if device.loads == 1 != c.there {
			t.Errorf("an index of %d × %d: on the device %v, want %v", c.rows, c.cols, device.loads == 1, c.there)
		}
	}
	for _, c := range []struct {
		n, m, d int
		there   bool
	}{{0, 0, 0, false}, {64, 64, 64, false}, {16, 4096, 384, false}, {4096, 384, 16, false}, {512, 512, 384, true}} {
		device := &counting{}
		if err := linalg.Worthwhile(device).Product(matrix(c.n, c.m), matrix(c.n, c.d), matrix(c.m, c.d)); err != nil {
			t.Fatal(err)
		}
		if device.products == 1 != c.there {
			t.Errorf("a product of %d × %d by %d: on the device %v, want %v", c.n, c.d, c.m, device.products == 1, c.there)
		}
	}
}
