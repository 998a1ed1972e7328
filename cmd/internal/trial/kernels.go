package trial

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tasterhq/taster/detect/linalg"
)

// What the device and the CPU are asked of rows. The CPU's way is what a detector would do without a device: products by linalg where there are some, plain
// Go for the rest, on all processors.
const (
	centroids  = 64
	directions = 8
	few        = 40 // rows that the spectral detectors multiply with many, step after step
	trees      = 100
	subsample  = 256 // rows that a tree is grown from (Liu, Ting, Zhou, ICDM 2008)
)

// kernels tries what is asked of rows that stay on the device.
func (t *trial) kernels(ctx context.Context, o linalg.CUDAOptions) (found []Work, err error) {
	e, err := linalg.OpenCUDA(o)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	rng := rand.New(rand.NewPCG(3, 4))
	x := t.points
	origin := drawn(rng, 1, x.Cols).Data
	began := time.Now()
	rows, err := e.Kernels().Keep(x.Data, x.Cols, origin)
	if err != nil {
		return nil, err
	}
	kept := time.Since(began)
	began = time.Now()
	points, err := e.KernelPoints(x)
	if err != nil {
		return nil, err
	}
	loaded := time.Since(began)
	centred := linalg.Matrix{Rows: x.Rows, Cols: x.Cols, Data: slices.Clone(x.Data)}
	for r := range x.Rows {
		row := centred.Row(r)
		for c, v := range origin {
			row[c] -= v
		}
	}
	work := []func() (comparison, error){
		func() (comparison, error) { return t.product(rows, drawn(rng, few, x.Cols)) },
		func() (comparison, error) { return t.mean(rows) },
		func() (comparison, error) { return t.covariance(rows, centred) },
		func() (comparison, error) { return t.mahalanobis(rows, centred, drawn(rng, x.Cols, x.Cols)) },
		func() (comparison, error) { return t.directions(rows, centred, drawn(rng, directions, x.Cols)) },
		func() (comparison, error) { return t.medians(rows) },
		func() (comparison, error) { return t.forest(rows, grownForest(x, rng)) },
		func() (comparison, error) { return t.assign(points, drawn(rng, centroids, x.Cols), loaded) },
	}
	for _, w := range work {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := w()
		if err != nil {
			return nil, err
		}
		got := Work{Name: c.name, Load: c.load, Allowed: c.allowed}
		if got.Load == 0 {
			got.Load = kept
		}
		if got.Device, err = timed(c.device); err != nil {
			return nil, err
		}
		if got.CPU, err = timed(c.cpu); err != nil {
			return nil, err
		}
		got.Difference = c.difference()
		found = append(found, got)
	}
	return found, nil
}

// comparison is work for both, what is allowed of difference, and how large it is once both have done it.
type comparison struct {
	name        string
	load        time.Duration // 0: that of rows as they are
	allowed     float64
	device, cpu func() error
	difference  func() float64
}

// between compares two answers by values.
func between(name string, allowed float64, got, want []float32, device, cpu func() error) (comparison, error) {
	return comparison{name, 0, allowed, device, cpu, func() float64 { return apart(got, want) }}, nil
}

func (t *trial) product(rows *linalg.KernelRows, a linalg.Matrix) (comparison, error) {
	x := t.points
	got, want := empty(a.Rows, x.Rows), empty(x.Rows, a.Rows) // by the points, of which there are many, the processors share
	c, err := between(fmt.Sprintf("product of %d × %d by %d that stay", a.Rows, a.Cols, x.Rows), 2*rounding(x.Cols, false)*longest(a)*longest(x), got.Data, nil,
		func() error { return rows.Product(got.Data, a.Data) },
		func() error { return shared(want, x, a, t.workers) })
	c.difference = func() float64 { return apart(got.Data, want.Transpose().Data) }
	return c, err
}

func (t *trial) mean(rows *linalg.KernelRows) (comparison, error) {
	x := t.points
	got, want := make([]float32, x.Cols), make([]float32, x.Cols)
	largest := 0.0
	for _, v := range x.Data {
		largest = max(largest, math.Abs(float64(v)))
	}
	// Both sum in float64 and round once.
	return between("means of columns", 4*unit*largest, got, want,
		func() error { _, err := rows.Mean(got); return err },
		func() error {
			var mu sync.Mutex
			total := make([]float64, x.Cols)
			err := each(x.Rows, t.workers, func(first, end int) error {
				sums := make([]float64, x.Cols)
				for r := first; r < end; r++ {
					for c, v := range x.Row(r) {
						sums[c] += float64(v)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for c, s := range sums {
					total[c] += s
				}
				return nil
			})
			for c, s := range total {
				want[c] = float32(s / float64(x.Rows))
			}
			return err
		})
}

func (t *trial) covariance(rows *linalg.KernelRows, centred linalg.Matrix) (comparison, error) {
	got, want := empty(centred.Cols, centred.Cols), empty(centred.Cols, centred.Cols)
	scale := 1 / float64(centred.Rows)
	length := longest(centred.Transpose())
	return between("covariance of columns", 2*rounding(centred.Rows+2, false)*scale*length*length, got.Data, want.Data,
		func() error { return rows.Covariance(got.Data, scale) },
		func() error {
			columns := centred.Transpose()
			err := shared(want, columns, columns, t.workers)
			for i := range want.Data {
				want.Data[i] *= float32(scale)
			}
			return err
		})
}

func (t *trial) mahalanobis(rows *linalg.KernelRows, centred, factor linalg.Matrix) (comparison, error) {
	got, want, white := make([]float32, centred.Rows), make([]float32, centred.Rows), empty(centred.Rows, factor.Rows)
	frobenius := math.Sqrt(float64(linalg.SquaredNorm(factor.Data)))
	return between("Mahalanobis distances", 2*rounding(centred.Cols+factor.Rows+4, false)*longest(centred)*frobenius, got, want,
		func() error { return rows.Mahalanobis(got, factor.Data) },
		func() error {
			err := shared(white, centred, factor, t.workers)
			for r := range want {
				want[r] = float32(math.Sqrt(float64(linalg.SquaredNorm(white.Row(r)))))
			}
			return err
		})
}

func (t *trial) directions(rows *linalg.KernelRows, centred, v linalg.Matrix) (comparison, error) {
	got, want, along := empty(v.Rows, v.Cols), empty(v.Rows, v.Cols), empty(centred.Rows, v.Rows)
	columns := centred.Transpose() // which stays, step after step
	squares := 0.0
	for r := range centred.Rows {
		squares += float64(linalg.SquaredNorm(centred.Row(r)))
	}
	return between(fmt.Sprintf("a step towards %d leading directions", v.Rows), 2*rounding(centred.Cols+centred.Rows+4, false)*longest(v)*squares, got.Data, want.Data,
		func() error { return rows.Step(got.Data, v.Data) },
		func() error {
			if err := shared(along, centred, v, t.workers); err != nil {
				return err
			}
			turned := empty(columns.Rows, v.Rows) // by the columns, of which there are many, the processors share
			if err := shared(turned, columns, along.Transpose(), t.workers); err != nil {
				return err
			}
			copy(want.Data, turned.Transpose().Data)
			return nil
		})
}

func (t *trial) medians(rows *linalg.KernelRows) (comparison, error) {
	x := t.points
	got, want := make([]float32, x.Cols), make([]float32, x.Cols)
	return between("medians of columns", 0, got, want,
		func() error { return rows.Select(got, []int64{int64(x.Rows / 2)}) },
		func() error {
			columns := x.Transpose()
			return each(x.Cols, t.workers, func(first, end int) error {
				for c := first; c < end; c++ {
					want[c] = linalg.Median(columns.Row(c))
				}
				return nil
			})
		})
}

func (t *trial) forest(rows *linalg.KernelRows, f *linalg.Forest) (comparison, error) {
	x := t.points
	got, want := make([]float32, x.Rows), make([]float32, x.Rows)
	deepest := float32(0)
	for i, v := range f.Value { // thresholds are no depths
		if f.Feature[i] < 0 {
			deepest = max(deepest, v)
		}
	}
	return between(fmt.Sprintf("depths in an isolation forest of %d trees", len(f.Root)), rounding(len(f.Root), false)*float64(deepest), got, want,
		func() error { return rows.Depth(got, f) },
		func() error {
			return each(x.Rows, t.workers, func(first, end int) error {
				for r := first; r < end; r++ {
					row, sum := x.Row(r), 0.0
					for _, node := range f.Root {
						for f.Feature[node] >= 0 {
							if v := row[f.Feature[node]]; v < f.Value[node] {
								node = f.Child[node]
							} else {
								node = f.Child[node] + 1
							}
						}
						sum += float64(f.Value[node])
					}
					want[r] = float32(sum / float64(len(f.Root)))
				}
				return nil
			})
		})
}

// grownForest is an isolation forest of rows: each tree splits a subsample at random values of random columns until rows are alone or as deep as a balanced tree
// of theirs would be.
func grownForest(x linalg.Matrix, rng *rand.Rand) *linalg.Forest {
	f := &linalg.Forest{}
	node := func() int {
		f.Feature, f.Value, f.Child = append(f.Feature, -1), append(f.Value, 0), append(f.Child, 0)
		return len(f.Value) - 1
	}
	size := min(subsample, x.Rows)
	limit := int(math.Ceil(math.Log2(float64(size))))
	var split func(at, depth int, rows []int)
	split = func(at, depth int, rows []int) {
		c := rng.IntN(x.Cols)
		low, high := float32(math.Inf(1)), float32(math.Inf(-1))
		for _, r := range rows {
			low, high = min(low, x.Row(r)[c]), max(high, x.Row(r)[c])
		}
		if depth >= limit || len(rows) < 2 || low == high {
			f.Value[at] = float32(float64(depth) + unsuccessful(len(rows)))
			return
		}
		bar := low + (high-low)*(1-rng.Float32()) // above low: both sides have rows
		var left, right []int
		for _, r := range rows {
			if x.Row(r)[c] < bar {
				left = append(left, r)
			} else {
				right = append(right, r)
			}
		}
		child := node()
		node()
		f.Feature[at], f.Value[at], f.Child[at] = int32(c), bar, int32(child)
		split(child, depth+1, left)
		split(child+1, depth+1, right)
	}
	for range trees {
		root := node()
		f.Root = append(f.Root, int32(root))
		split(root, 0, rng.Perm(x.Rows)[:size])
	}
	return f
}

// unsuccessful is the mean path length of an unsuccessful search among n in a binary search tree, c(n) of the paper.
func unsuccessful(n int) float64 {
	if n < 2 {
		return 0
	}
	harmonic := 0.0
	for i := 1; i < n; i++ {
		harmonic += 1 / float64(i)
	}
	return 2*harmonic - 2*float64(n-1)/float64(n)
}

// assign compares how far points are, squared, from the centroids that both sides choose.
func (t *trial) assign(points *linalg.KernelPoints, c linalg.Matrix, loaded time.Duration) (comparison, error) {
	x := t.points
	chosen := make([]int32, x.Rows)
	var found linalg.Neighbours
	far := func(r int, which int32) float64 {
		sum := 0.0
		for i, v := range c.Row(int(which)) {
			d := float64(x.Row(r)[i]) - float64(v)
			sum += d * d
		}
		return sum
	}
	length := longest(c)
	return comparison{
		name: fmt.Sprintf("assignment to %d centroids", c.Rows), load: loaded,
		allowed: 2 * rounding(x.Cols, false) * length * (2*longest(x) + length), // twice that of a key: either centroid's may be off
		device:  func() error { return points.Assign(c.Data, chosen) },
		cpu: func() error {
			ix, err := linalg.CPU{}.Load(c, linalg.L2)
			if err == nil {
				found, err = ix.Nearest(x, 1, t.workers)
			}
			return err
		},
		difference: func() float64 {
			most := 0.0
			for r, which := range chosen {
				if which < 0 || found.Index[r] < 0 {
					return math.MaxFloat64
				}
				most = max(most, math.Abs(far(r, which)-far(r, found.Index[r])))
			}
			return most
		},
	}, nil
}
