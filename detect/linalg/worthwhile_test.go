package linalg_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
)

// counting counts what reaches it.
type counting struct {
	loads, products int
}

func (c *counting) Load(points linalg.Matrix, metric linalg.Metric) (linalg.Index, error) {
	c.loads++
	return linalg.CPU{}.Load(points, metric)
}

func (c *counting) Product(dst, a, b linalg.Matrix) error {
	c.products++
	return linalg.CPU{}.Product(dst, a, b)
}

// TestKeep: an operand is multiplied where it is worth the way of the other matrices, by shape alone, and its products are the engine's.
func TestKeep(t *testing.T) {
	rng := rand.New(rand.NewPCG(45, 46))
	for _, c := range []struct {
		n, m, d int
		there   bool
	}{{0, 0, 0, false}, {10, 2048, 384, true}, {6, 2048, 384, false}, {4096, 60, 384, false}, {4096, 4096, 60, false}} {
		device := &counting{}
		a, b := random(rng, c.n, c.d), random(rng, c.m, c.d)
		got, want := linalg.Matrix{Rows: c.n, Cols: c.m, Data: make([]float32, c.n*c.m)}, linalg.Matrix{Rows: c.n, Cols: c.m, Data: make([]float32, c.n*c.m)}
		if err := (linalg.CPU{}).Product(want, a, b); err != nil {
			t.Fatal(err)
		}
		for _, engine := range []linalg.Engine{linalg.CPU{}, linalg.Resilient(linalg.Worthwhile(device))} {
			o, err := linalg.Keep(engine, b)
			if err == nil {
				clear(got.Data)
				err = o.Product(got, a)
			}
			if err != nil || !slices.Equal(got.Data, want.Data) {
				t.Fatalf("%d × %d by %d: other products than without, %v", c.n, c.d, c.m, err)
			}
		}
		if device.products == 1 != c.there {
			t.Errorf("a product of %d × %d by %d that stay: on the device %v, want %v", c.n, c.d, c.m, device.products == 1, c.there)
		}
	}
	if _, err := linalg.Keep(linalg.CPU{}, linalg.Matrix{Rows: 2, Cols: 2}); !errors.Is(err, linalg.ErrShape) {
		t.Errorf("a matrix without values: %v", err)
	}
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
