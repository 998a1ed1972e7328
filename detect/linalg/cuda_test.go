//go:build cuda && cgo && linux && amd64

package linalg_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/linalg/linalgtest"
)

// device opens the first device: the emulated one under make test-cuda, a real one under make test-gpu.
func device(t *testing.T, o linalg.CUDAOptions) *linalg.CUDA {
	t.Helper()
	e, err := linalg.OpenCUDA(o)
	if err != nil {
		t.Fatalf("%v; make test-cuda brings an emulated device, make test-gpu wants a real one", err)
	}
	t.Cleanup(e.Close)
	t.Logf("%+v, driver %s", e.Device(), linalg.Driver())
	return e
}

func TestCUDAConformance(t *testing.T) {
	linalgtest.Run(t, device(t, linalg.CUDAOptions{}), 0)
	if !testing.Short() { // twice as long on the emulated device
		t.Run("re-rank", func(t *testing.T) { linalgtest.Run(t, device(t, linalg.CUDAOptions{Rerank: true}), 0) })
	}
}

// emulated skips what needs a device that can be broken.
func emulated(t *testing.T) {
	t.Helper()
	devices, err := linalg.Devices()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(devices[0].Name, "emulated") {
		t.Skip("real devices are not broken")
	}
}

// TestCUDAAnswersAsTheCPU does: the same neighbours in the same order, the same distances to the bit.
func TestCUDAAnswersAsTheCPU(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	plain, tensor := device(t, linalg.CUDAOptions{}), device(t, linalg.CUDAOptions{Tensor: true})
	for _, cols := range []int{3, 100} {
		points, queries := random(rng, 900, cols), random(rng, 140, cols)
		for _, metric := range []linalg.Metric{linalg.L2, linalg.Cosine} {
			for _, k := range []int{1, 10, 100, 150} {
				var found []linalg.Neighbours
				for _, engine := range []linalg.Engine{linalg.CPU{}, plain, tensor} {
					ix, err := engine.Load(points, metric)
					if err != nil {
						t.Fatal(err)
					}
					f, err := ix.Nearest(queries, k, 2)
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, f)
				}
				for i, f := range found[1:] {
					if !slices.Equal(found[0].Index, f.Index) || !slices.Equal(found[0].Distance, f.Distance) {
						t.Errorf("%s, %d columns, k = %d, tensor cores %v: the device answers otherwise than the CPU", metric, cols, k, i == 1)
					}
				}
			}
		}
	}
}

// TestCUDARerank: the device's own distances are the CPU's but for the last bit, and so are the neighbours.
func TestCUDARerank(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	exact := device(t, linalg.CUDAOptions{Rerank: true})
	points, queries := random(rng, 900, 100), random(rng, 140, 100)
	for _, metric := range []linalg.Metric{linalg.L2, linalg.Cosine} {
		var found [2]linalg.Neighbours
		for i, engine := range []linalg.Engine{linalg.CPU{}, exact} {
			ix, err := engine.Load(points, metric)
			if err != nil {
				t.Fatal(err)
			}
			if found[i], err = ix.Nearest(queries, 10, 2); err != nil {
				t.Fatal(err)
			}
		}
		for q := range queries.Rows {
			far := map[int32]float32{}
			index, distance := found[0].Of(q)
			for i, p := range index {
				far[p] = distance[i]
			}
			index, distance = found[1].Of(q)
			for i, p := range index {
				if want, ok := far[p]; !ok || len(far) != len(index) || math.Abs(float64(distance[i]-want)) > 0x1p-23*float64(want) {
					t.Fatalf("%s, query %d: point %d at %v, want it at %v, %v", metric, q, p, distance[i], want, ok)
				}
			}
		}
	}
}

// TestCUDAKeep: an operand that stays is multiplied as one that is sent, and by the CPU once the device is lost.
func TestCUDAKeep(t *testing.T) {
	emulated(t)
	rng := rand.New(rand.NewPCG(43, 44))
	a, b := random(rng, 40, 70), random(rng, 2000, 70)
	for _, at := range []int{1000, 1, 0} { // never, in the product, on the way there
		t.Setenv("TASTER_FAKE_CUDA", fmt.Sprintf("launches=%d", at))
		var told []error
		e := device(t, linalg.CUDAOptions{})
		engine := linalg.Resilient(linalg.Watched{Engine: linalg.Worthwhile(e), Lost: func(err error) { told = append(told, err) }})
		o, err := linalg.Keep(engine, b)
		if err != nil {
			t.Fatal(err)
		}
		got, want := linalg.Matrix{Rows: 40, Cols: 2000, Data: make([]float32, 80_000)}, linalg.Matrix{Rows: 40, Cols: 2000, Data: make([]float32, 80_000)}
		by := linalg.Engine(linalg.CPU{})
		if at == 1000 {
			by = e
		}
		if err := errors.Join(o.Product(got, a), by.Product(want, a, b)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Data, want.Data) {
			t.Fatalf("lost at launch %d: other products than of an operand that is sent", at)
		}
		if lost := len(told); lost != min(1, 1000-at) || lost == 1 && !errors.Is(told[0], linalg.ErrLost) {
			t.Fatalf("lost at launch %d: told of %v", at, told)
		}
		if err := o.Product(want, b); !errors.Is(err, linalg.ErrShape) && at == 1000 {
			t.Fatalf("shapes that do not fit: %v", err)
		}
	}
}

// TestCUDALossIsMadeGood loses the device at one launch after the other: every answer is the CPU's, and somebody is told.
func TestCUDALossIsMadeGood(t *testing.T) {
	emulated(t)
	rng := rand.New(rand.NewPCG(33, 34))
	points, queries := random(rng, 150, 12), random(rng, 30, 12)
	spare, err := linalg.CPU{}.Load(points, linalg.L2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := spare.Nearest(queries, 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	product := linalg.Matrix{Rows: queries.Rows, Cols: points.Rows, Data: make([]float32, queries.Rows*points.Rows)}
	if err := (linalg.CPU{}).Product(product, queries, points); err != nil {
		t.Fatal(err)
	}
	survived := false
	for at := 0; !survived; at++ {
		t.Setenv("TASTER_FAKE_CUDA", fmt.Sprintf("launches=%d", at))
		e, err := linalg.OpenCUDA(linalg.CUDAOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var told []error
		engine := linalg.Resilient(linalg.Watched{Engine: e, Lost: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, err)
		}})
		ix, err := engine.Load(points, linalg.L2)
		if err != nil {
			t.Fatalf("launch %d: %v", at, err)
		}
		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				for range 2 {
					found, err := ix.Nearest(queries, 5, 2)
					if err != nil || !slices.Equal(found.Index, want.Index) || !slices.Equal(found.Distance, want.Distance) {
						t.Errorf("launch %d: other neighbours than the CPU's, %v", at, err)
					}
				}
			})
		}
		wait.Wait()
		got := linalg.Matrix{Rows: product.Rows, Cols: product.Cols, Data: make([]float32, len(product.Data))}
		if err := engine.Product(got, queries, points); err != nil {
			t.Fatalf("launch %d: %v", at, err)
		}
		for i, v := range got.Data {
			if math.Abs(float64(v-product.Data[i])) > 12*0x1p-22*200 {
				t.Fatalf("launch %d: value %d is %v, want %v", at, i, v, product.Data[i])
			}
		}
		for _, err := range told {
			if !errors.Is(err, linalg.ErrLost) || errors.Is(err, linalg.ErrFull) {
				t.Errorf("launch %d: told of %v", at, err)
			}
		}
		if survived = len(told) == 0; survived && at < 5 {
			t.Fatalf("nothing was lost at launch %d", at)
		}
		e.Close()
	}
}

// TestCUDAFull: what does not fit is done by the CPU, and what fits by the device.
func TestCUDAFull(t *testing.T) {
	rng := rand.New(rand.NewPCG(35, 36))
	e := device(t, linalg.CUDAOptions{})
	var told []error
	engine := linalg.Resilient(linalg.Watched{Engine: e, Lost: func(err error) { told = append(told, err) }})
	long := random(rng, 2, 2_500_000) // a row is more than a lane takes
	dst := linalg.Matrix{Rows: 2, Cols: 2, Data: make([]float32, 4)}
	if err := engine.Product(dst, long, long); err != nil {
		t.Fatal(err)
	}
	if dst.Data[0] == 0 || len(told) != 1 || !errors.Is(told[0], linalg.ErrFull) || !errors.Is(told[0], linalg.ErrLost) {
		t.Fatalf("%v, told of %v", dst.Data, told)
	}
	short := random(rng, 2, 2)
	if err := engine.Product(dst, short, short); err != nil || len(told) != 1 {
		t.Fatalf("%v, told of %v", err, told)
	}
	if used, limit := e.Memory(); used <= 0 || limit < used {
		t.Errorf("%d bytes of %d are in use", used, limit)
	}
}

// BenchmarkCUDANearest times the device and the best that the CPU has, on all its processors: 4,096 queries, copies there and back included.
func BenchmarkCUDANearest(b *testing.B) {
	const each = 8 << 30 // of its memory
	engines := map[string]linalg.Engine{"CPU": linalg.CPU{}}
	var e *linalg.CUDA
	for name, o := range map[string]linalg.CUDAOptions{
		"FP32":                  {Memory: each},
		"tensor":                {Memory: each, Tensor: true},
		"FP32, re-rank there":   {Memory: each, Rerank: true},
		"tensor, re-rank there": {Memory: each, Tensor: true, Rerank: true},
	} {
		var err error
		if e, err = linalg.OpenCUDA(o); err != nil {
			b.Fatal(err)
		}
		defer e.Close()
		engines[name] = e
	}
	b.Logf("%+v, driver %s, %d processors", e.Device(), linalg.Driver(), runtime.GOMAXPROCS(0))
	rng := rand.New(rand.NewPCG(37, 38))
	for _, cols := range []int{384, 1024} {
		for _, rows := range []int{10_000, 100_000} {
			points, queries := random(rng, rows, cols), random(rng, 4096, cols)
			for name, engine := range engines {
				ix, err := engine.Load(points, linalg.L2)
				if err != nil {
					b.Fatal(err)
				}
				b.Run(fmt.Sprintf("%s/%dx%d", name, rows, cols), func(b *testing.B) {
					for b.Loop() {
						if _, err := ix.Nearest(queries, 10, runtime.GOMAXPROCS(0)); err != nil {
							b.Fatal(err)
						}
					}
					seconds := b.Elapsed().Seconds() / float64(b.N)
					b.ReportMetric(float64(queries.Rows)/seconds, "records/s")
					b.ReportMetric(2e-9*float64(rows*cols*queries.Rows)/seconds, "GFLOPS")
				})
			}
		}
	}
}

// BenchmarkCUDAProduct is that of products, both operands copied there and the result back.
func BenchmarkCUDAProduct(b *testing.B) {
	e, err := linalg.OpenCUDA(linalg.CUDAOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	rng := rand.New(rand.NewPCG(39, 40))
	for _, shape := range [][3]int{{2048, 2048, 384}, {384, 384, 100_000}, {8192, 8192, 1024}} {
		x, y := random(rng, shape[0], shape[2]), random(rng, shape[1], shape[2])
		dst := linalg.Matrix{Rows: shape[0], Cols: shape[1], Data: make([]float32, shape[0]*shape[1])}
		for name, engine := range map[string]linalg.Engine{"device": e, "one processor": linalg.CPU{}} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", name, shape[0], shape[1], shape[2]), func(b *testing.B) {
				for b.Loop() {
					if err := engine.Product(dst, x, y); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(2e-9*float64(shape[0]*shape[1]*shape[2])*float64(b.N)/b.Elapsed().Seconds(), "GFLOPS")
			})
		}
	}
}
