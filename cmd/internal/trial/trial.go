// Package trial has a device and the CPU do the same work, on random rows, and compares times and answers: what taster gpu tells.
package trial

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
)

// Size says on how much work a device is tried.
type Size struct{ Points, Queries, Columns int }

// Work is one kind of work done by a device and by the CPU.
type Work struct {
	Name                string
	Load                time.Duration // of what stays on the device; 0: nothing does
	Device, CPU         time.Duration // the shorter of two runs, copies included
	Difference, Allowed float64       // the largest between both answers, and what rounding explains in the worst case
}

// trial is the work that a device and the CPU are tried on: random rows, the processors that the CPU has for it.
type trial struct {
	points, queries linalg.Matrix
	workers         int
}

func drawn(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}

// Run has the device of the options do all there is, and the CPU on so many processors: neighbours in every variant, products with and
// without tensor cores, and what is asked of rows. One variant at a time has the device's memory. Errors are the device's.
func Run(ctx context.Context, o linalg.CUDAOptions, size Size, workers int) ([]Work, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	t := &trial{points: drawn(rng, size.Points, size.Columns), queries: drawn(rng, size.Queries, size.Columns), workers: workers}
	var questions []question
	for _, metric := range []linalg.Metric{linalg.L2, linalg.Cosine} {
		q, err := t.nearestOnCPU(metric)
		if err != nil {
			return nil, err
		}
		questions = append(questions, q)
	}
	columns := t.points.Transpose()
	for _, p := range []struct {
		name string
		a, b linalg.Matrix
	}{{"product", t.queries, t.points}, {"gram", columns, columns}} {
		q, err := t.productOnCPU(p.name, p.a, p.b)
		if err != nil {
			return nil, err
		}
		questions = append(questions, q)
	}
	answers := make([][]Work, len(questions)) // told by question, however they are asked
	for _, tensor := range []bool{false, true} {
		for _, rerank := range []bool{false, true} {
			o.Tensor, o.Rerank = tensor, rerank
			if err := variant(ctx, o, questions, answers); err != nil {
				return nil, err
			}
		}
	}
	o.Tensor, o.Rerank = false, false
	asked, err := t.kernels(ctx, o)
	return append(slices.Concat(answers...), asked...), err
}

// question is work of linalg.Engine, which the CPU has answered.
type question struct {
	nearest bool
	ask     func(e linalg.Engine, tensor bool) (Work, error)
}

func variant(ctx context.Context, o linalg.CUDAOptions, questions []question, answers [][]Work) error {
	e, err := linalg.OpenCUDA(o)
	if err != nil {
		return err
	}
	defer e.Close()
	units, where := "FP32", "CPU"
	if o.Tensor {
		units = "tensor cores"
	}
	if o.Rerank {
		where = "device"
	}
	for i, q := range questions {
		if o.Rerank && !q.nearest {
			continue // a product is not re-ranked
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := q.ask(e, o.Tensor)
		if err != nil {
			return err
		}
		got.Name += ", " + units
		if q.nearest {
			got.Name += ", re-rank on the " + where
		}
		answers[i] = append(answers[i], got)
	}
	return nil
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

// unit is half the distance from 1 to the next float32.
const unit = 0x1p-24

// rounding is by how much a sum of d float32 products may be off, in parts of both rows' lengths (gpukernels/kernels, kernels.h).
func rounding(d int, tensor bool) float64 {
	if tensor {
		return (float64(d)/16 + 2.2*float64(min(d, 16)) + 6) * unit
	}
	return float64(d+1) * unit
}

// nearestOnCPU has engines asked for neighbours. The sorted distances of each query's neighbours are compared. Both sides tell distances in float64; where
// rounding exchanges neighbours, theirs differ by what linalg's package doc says.
func (t *trial) nearestOnCPU(metric linalg.Metric) (question, error) {
	const k = 10
	nearest := func(e linalg.Engine, got *Work) (found linalg.Neighbours, took time.Duration, err error) {
		began := time.Now()
		ix, err := e.Load(t.points, metric)
		if err != nil {
			return found, 0, err
		}
		got.Load = time.Since(began)
		took, err = timed(func() (err error) { found, err = ix.Nearest(t.queries, k, t.workers); return err })
		return found, took, err
	}
	var cpu Work
	want, took, err := nearest(linalg.CPU{}, &cpu)
	return question{true, func(e linalg.Engine, tensor bool) (Work, error) {
		got := Work{Name: fmt.Sprintf("%d nearest by %s", k, metric), CPU: took}
		found, took, err := nearest(e, &got)
		if err != nil {
			return got, err
		}
		got.Device = took
		off := rounding(t.points.Cols, tensor)
		got.Allowed = off
		for q := range t.queries.Rows {
			_, a := found.Of(q)
			_, b := want.Of(q)
			if len(a) != len(b) {
				return got, fmt.Errorf("query %d has %d neighbours on the device, %d on the CPU", q, len(a), len(b))
			}
			a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
			for i := range a {
				got.Difference = max(got.Difference, math.Abs(float64(a[i])-float64(b[i])))
				got.Allowed = max(got.Allowed, off+2*unit*float64(b[i])) // the last bit is another where float64 sums are in another order
			}
			if metric == linalg.L2 { // 2·d·2⁻²⁴·‖q‖‖p‖ of squared distance, at the distance that was found
				if norm := float64(linalg.SquaredNorm(t.queries.Row(q))); len(b) > 0 && b[0] > 0 {
					got.Allowed = max(got.Allowed, 2*off*norm/float64(b[0]))
				}
			}
		}
		return got, nil
	}}, err
}

// productOnCPU has engines asked for a product, which the processors share by rows.
func (t *trial) productOnCPU(name string, a, b linalg.Matrix) (question, error) {
	want := empty(a.Rows, b.Rows)
	took, err := timed(func() error { return shared(want, a, b, t.workers) })
	return question{false, func(e linalg.Engine, tensor bool) (Work, error) {
		tried := Work{Name: fmt.Sprintf("%s of %d × %d by %d", name, a.Rows, a.Cols, b.Rows), CPU: took}
		got := empty(a.Rows, b.Rows)
		var err error
		if tried.Device, err = timed(func() error { return e.Product(got, a, b) }); err != nil {
			return tried, err
		}
		tried.Difference = apart(got.Data, want.Data)
		tried.Allowed = (rounding(a.Cols, tensor) + rounding(a.Cols, false)) * longest(a) * longest(b) // Σ|a||b| ≤ ‖a‖‖b‖, and both sides within so much of it
		return tried, nil
	}}, err
}

func empty(rows, cols int) linalg.Matrix {
	return linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
}

// longest is the length of the longest row.
func longest(m linalg.Matrix) float64 {
	most := 0.0
	for r := range m.Rows {
		most = max(most, math.Sqrt(float64(linalg.SquaredNorm(m.Row(r)))))
	}
	return most
}

// apart is the largest difference, and the largest of all where one side is no number.
func apart(got, want []float32) float64 {
	most := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.MaxFloat64
		}
		most = max(most, d)
	}
	return most
}

// each shares rows by workers.
func each(rows, workers int, f func(first, end int) error) error {
	const some = 128
	var mu sync.Mutex
	var failed error
	detect.Chunks(rows, some, workers, func() func(first, end int) {
		return func(first, end int) {
			if err := f(first, end); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		}
	})
	return failed
}

// shared is the CPU's product, the rows of a shared by workers.
func shared(dst, a, b linalg.Matrix, workers int) error {
	part := func(m linalg.Matrix, first, end int) linalg.Matrix {
		return linalg.Matrix{Rows: end - first, Cols: m.Cols, Data: m.Data[first*m.Cols : end*m.Cols]}
	}
	return each(a.Rows, workers, func(first, end int) error {
		return linalg.CPU{}.Product(part(dst, first, end), part(a, first, end), b)
	})
}
