package linalg_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/linalg/linalgtest"
)

func random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64()) + 3
	}
	return m
}

func TestConformance(t *testing.T) {
	t.Run("reference", func(t *testing.T) {
		if testing.Short() {
			t.Skip("every distance by its definition: for runs without -short")
		}
		linalgtest.Run(t, linalg.Reference{}, 0)
	})
	for _, level := range append([]linalg.Level{linalg.Best}, linalg.Levels()...) { // that this processor has
		t.Run(level.String(), func(t *testing.T) {
			if testing.Short() && level > linalg.Best {
				t.Skip("levels differ by arithmetic alone, which is for runs without -short")
			}
			linalgtest.Run(t, linalg.CPU{Level: level}, 0)
		})
	}
	t.Run("resilient", func(t *testing.T) { linalgtest.Run(t, linalg.Resilient(&dying{}), 0) })
}

// TestLevelsAgree to the bit.
func TestLevelsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, cols := range []int{3, 64, 400} {
		points, queries := random(rng, 700, cols), random(rng, 50, cols)
		for _, metric := range []linalg.Metric{linalg.L2, linalg.Cosine} {
			var want linalg.Neighbours
			for i, level := range linalg.Levels() {
				ix, err := linalg.CPU{Level: level}.Load(points, metric)
				if err != nil {
					t.Fatal(err)
				}
				got, err := ix.Nearest(queries, 10, 2)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					want = got
				}
				if !slices.Equal(got.Index, want.Index) || !slices.Equal(got.Distance, want.Distance) {
					t.Errorf("%s gives other neighbours than %s", level, linalg.Levels()[0])
				}
			}
		}
	}
}

// dying loses its device after two answers.
type dying struct {
	mu    sync.Mutex
	calls int
}

func (d *dying) spend() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls++; d.calls > 2 {
		return fmt.Errorf("%w: unplugged", linalg.ErrLost)
	}
	return nil
}

func (d *dying) Load(points linalg.Matrix, metric linalg.Metric) (linalg.Index, error) {
	ix, err := linalg.CPU{}.Load(points, metric)
	return dyingIndex{ix, d}, err
}

func (d *dying) Product(dst, a, b linalg.Matrix) error {
	if err := d.spend(); err != nil {
		return err
	}
	return linalg.CPU{}.Product(dst, a, b)
}

type dyingIndex struct {
	linalg.Index
	device *dying
}

func (ix dyingIndex) Nearest(queries linalg.Matrix, k, workers int) (linalg.Neighbours, error) {
	if err := ix.device.spend(); err != nil {
		return linalg.Neighbours{}, err
	}
	return ix.Index.Nearest(queries, k, workers)
}

func TestNearestAllocations(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	ix, err := linalg.CPU{}.Load(random(rng, 640, 32), linalg.L2)
	if err != nil {
		t.Fatal(err)
	}
	queries := random(rng, 4096, 32)
	if n := testing.AllocsPerRun(3, func() { ix.Nearest(queries, 10, 1) }); n > 20 {
		t.Errorf("%v allocations for %d queries: scratch must be made once a worker", n, queries.Rows)
	}
}

// engines are what is timed.
func engines() map[string]linalg.Engine {
	out := map[string]linalg.Engine{}
	for _, level := range linalg.Levels() {
		out[level.String()] = linalg.CPU{Level: level}
	}
	return out
}

func BenchmarkNearest(b *testing.B) {
	rng := rand.New(rand.NewPCG(15, 16))
	for engine, with := range engines() {
		for _, cols := range []int{10, 32, 384, 1024} {
			for _, rows := range []int{640, 1000, 10000} {
				points, queries := random(rng, rows, cols), random(rng, 1024, cols)
				ix, err := with.Load(points, linalg.L2)
				if err != nil {
					b.Fatal(err)
				}
				b.Run(fmt.Sprintf("%s/%dx%d", engine, rows, cols), func(b *testing.B) {
					b.SetBytes(int64(len(queries.Data) * 4))
					for b.Loop() {
						ix.Nearest(queries, 10, 1)
					}
					seconds := b.Elapsed().Seconds() / float64(b.N)
					b.ReportMetric(float64(queries.Rows)/seconds, "records/s")
					b.ReportMetric(2e-9*float64(rows*cols*queries.Rows)/seconds, "GFLOPS")
				})
			}
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	rng := rand.New(rand.NewPCG(17, 18))
	for engine, with := range engines() {
		for _, shape := range [][3]int{{2048, 64, 384}, {2048, 2048, 384}, {384, 384, 4096}} {
			x, y := random(rng, shape[0], shape[2]), random(rng, shape[1], shape[2])
			dst := linalg.Matrix{shape[0], shape[1], make([]float32, shape[0]*shape[1])}
			b.Run(fmt.Sprintf("%s/%dx%dx%d", engine, shape[0], shape[1], shape[2]), func(b *testing.B) {
				b.SetBytes(int64(len(x.Data)+len(y.Data)) * 4)
				b.ReportAllocs()
				for b.Loop() {
					if err := with.Product(dst, x, y); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(2e-9*float64(shape[0]*shape[1]*shape[2])*float64(b.N)/b.Elapsed().Seconds(), "GFLOPS")
			})
		}
	}
}
