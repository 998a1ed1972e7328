package app

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
)

// tried is one kind of work done by an engine and by the CPU.
type tried struct {
	name                string
	device, cpu         time.Duration // the shorter of two runs, copies included
	difference, allowed float64       // the largest between both answers, and what is allowed of it
}

// try has an engine and the linalg.CPU do the same work on random rows: neighbours by both metrics, a product of queries and points, and a
// Gram matrix of the columns. All processors take part.
func try(engine linalg.Engine, points, queries, columns, workers int) ([]tried, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(rows, cols int) linalg.Matrix {
		m := linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
		for i := range m.Data {
			m.Data[i] = float32(rng.NormFloat64())
		}
		return m
	}
	p, q := draw(points, columns), draw(queries, columns)
	var all []tried
	for _, metric := range []linalg.Metric{linalg.L2, linalg.Cosine} {
		t, err := tryNearest(engine, p, q, metric, workers)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for _, product := range []struct {
		name string
		a, b linalg.Matrix
	}{{"product", q, p}, {"gram", p.Transpose(), p.Transpose()}} {
		t, err := tryProduct(engine, product.name, product.a, product.b, workers)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// timed returns the shorter time of two runs: the first one pays for memory and, on a device, for kernels that are not there yet.
func timed(work func() error) (time.Duration, error) {
	var best time.Duration
	for i := range 2 {
		began := time.Now()
		if err := work(); err != nil {
			return 0, err
		}
		if took := max(time.Since(began), 1); i == 0 || took < best {
			best = took
		}
	}
	return best, nil
}

// tryNearest compares the sorted distances of each query's neighbours. Both engines tell distances in float64; where rounding exchanges
// neighbours, theirs differ by what the package doc says.
func tryNearest(engine linalg.Engine, points, queries linalg.Matrix, metric linalg.Metric, workers int) (t tried, err error) {
	const k = 10
	t.name = fmt.Sprintf("%d nearest by %s", k, metric)
	var found [2]linalg.Neighbours
	for i, e := range []linalg.Engine{engine, linalg.CPU{}} {
		ix, err := e.Load(points, metric)
		if err != nil {
			return t, err
		}
		took, err := timed(func() (err error) { found[i], err = ix.Nearest(queries, k, workers); return err })
		if err != nil {
			return t, err
		}
		if i == 0 {
			t.device = took
		} else {
			t.cpu = took
		}
	}
	d := float64(points.Cols)
	t.allowed = d * 0x1p-24
	for q := range queries.Rows {
		_, a := found[0].Of(q)
		_, b := found[1].Of(q)
		if len(a) != len(b) {
			return t, fmt.Errorf("query %d has %d neighbours on the device, %d on the CPU", q, len(a), len(b))
		}
		slices.Sort(a)
		slices.Sort(b)
		for i := range a {
			t.difference = max(t.difference, math.Abs(float64(a[i])-float64(b[i])))
		}
		if metric == linalg.L2 { // 2·d·2⁻²⁴·‖q‖‖p‖ of squared distance, at the distance that was found
			if norm := float64(linalg.SquaredNorm(queries.Row(q))); len(b) > 0 && b[0] > 0 {
				t.allowed = max(t.allowed, 2*d*0x1p-24*norm/float64(b[0]))
			}
		}
	}
	return t, nil
}

// tryProduct compares with products that the processors share by rows.
func tryProduct(engine linalg.Engine, name string, a, b linalg.Matrix, workers int) (t tried, err error) {
	t.name = fmt.Sprintf("%s of %d × %d by %d", name, a.Rows, a.Cols, b.Rows)
	got, want := linalg.Matrix{Rows: a.Rows, Cols: b.Rows, Data: make([]float32, a.Rows*b.Rows)}, linalg.Matrix{Rows: a.Rows, Cols: b.Rows, Data: make([]float32, a.Rows*b.Rows)}
	if t.device, err = timed(func() error { return engine.Product(got, a, b) }); err != nil {
		return t, err
	}
	if t.cpu, err = timed(func() error { return shared(want, a, b, workers) }); err != nil {
		return t, err
	}
	most := 0.0 // Σ|a||b| ≤ ‖a‖‖b‖, and two sums each within d·2⁻²⁴ of it
	for _, m := range []linalg.Matrix{a, b} {
		longest := 0.0
		for r := range m.Rows {
			longest = max(longest, math.Sqrt(float64(linalg.SquaredNorm(m.Row(r)))))
		}
		most = max(most, longest)
	}
	t.allowed = 2 * float64(a.Cols) * 0x1p-24 * most * most
	for i := range got.Data {
		t.difference = max(t.difference, math.Abs(float64(got.Data[i])-float64(want.Data[i])))
	}
	return t, nil
}

// shared is the CPU's product, the rows of a shared by workers.
func shared(dst, a, b linalg.Matrix, workers int) error {
	const rows = 128
	part := func(m linalg.Matrix, first, end int) linalg.Matrix {
		return linalg.Matrix{Rows: end - first, Cols: m.Cols, Data: m.Data[first*m.Cols : end*m.Cols]}
	}
	var mu sync.Mutex
	var failed error
	detect.Chunks(a.Rows, rows, workers, func() func(first, end int) {
		return func(first, end int) {
			if err := (linalg.CPU{}).Product(part(dst, first, end), part(a, first, end), b); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		}
	})
	return failed
}
