package linalg

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// engines are compared with Reference. A further engine passes the same tests.
var engines = map[string]Engine{
	"reference": Reference{},
	"cpu":       CPU{},
	"portable":  CPU{Level: Portable},
	"SSE":       CPU{Level: SSE},
	"AVX2":      CPU{Level: AVX2},
	"resilient": Resilient(&dying{}),
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
		return fmt.Errorf("%w: unplugged", ErrLost)
	}
	return nil
}

func (d *dying) Load(points Matrix, metric Metric) (Index, error) {
	ix, err := CPU{}.Load(points, metric)
	return dyingIndex{ix, d}, err
}

func (d *dying) Product(dst, a, b Matrix) error {
	if err := d.spend(); err != nil {
		return err
	}
	return CPU{}.Product(dst, a, b)
}

type dyingIndex struct {
	Index
	device *dying
}

func (ix dyingIndex) Nearest(queries Matrix, k, workers int) (Neighbours, error) {
	if err := ix.device.spend(); err != nil {
		return Neighbours{}, err
	}
	return ix.Index.Nearest(queries, k, workers)
}

func random(rng *rand.Rand, rows, cols int) Matrix {
	m := Matrix{rows, cols, make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64()) + 3 // far from the origin, as real embeddings are
	}
	return m
}

var (
	sizes = []int{0, 1, 31, 32, 33, 127, 128, 129}
	dims  = []int{0, 1, 2, 7, 9, 31, 64, 129, 384, 1024}
)

func TestNearestAgreesWithReference(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			for _, cols := range dims {
				for i, rows := range sizes {
					if cols > 129 && i%3 != 1 {
						continue
					}
					points, queries := random(rng, rows, cols), random(rng, sizes[(i*3+cols)%len(sizes)], cols)
					for _, k := range []int{1, 5, 64, 200} {
						if cols > 31 && k > 5 {
							continue // what depends on k does not depend on the depth
						}
						compare(t, engine, points, queries, k)
					}
				}
			}
			compare(t, engine, random(rng, 700, 5), random(rng, 130, 5), 64) // more than one block of either
		})
	}
}

// compare demands the reference's neighbours, but for exchanges among those whose distances are equal within rounding.
func compare(t *testing.T, engine Engine, points, queries Matrix, k int) {
	t.Helper()
	for _, metric := range []Metric{L2, Cosine} {
		want := nearest(t, Reference{}, points, queries, metric, k, 1)
		got := nearest(t, engine, points, queries, metric, k, 2)
		if got.K != k || len(got.Index) != queries.Rows*k || len(got.Distance) != len(got.Index) {
			t.Fatalf("%d × %d, %d queries, k = %d: %d entries", points.Rows, points.Cols, queries.Rows, k, len(got.Index))
		}
		for q := range queries.Rows {
			wantIndex, wantDistance := want.Of(q)
			gotIndex, gotDistance := got.Of(q)
			if len(gotIndex) != len(wantIndex) {
				t.Fatalf("metric %d, %d points: query %d has %d neighbours, want %d", metric, points.Rows, q, len(gotIndex), len(wantIndex))
			}
			worst := float32(0)
			for _, d := range wantDistance {
				worst = max(worst, d)
			}
			seen := map[int32]bool{}
			for i, p := range gotIndex {
				exact := metric.distance(queries.Row(q), points.Row(int(p)))
				if seen[p] || !near(gotDistance[i], exact, queries.Row(q)) || exact > float64(worst)+tolerance(queries.Row(q)) {
					t.Fatalf("metric %d, %d × %d, k = %d: query %d has neighbour %d at %v: exactly %v, the reference's farthest %v",
						metric, points.Rows, points.Cols, k, q, p, gotDistance[i], exact, worst)
				}
				seen[p] = true
			}
		}
	}
}

// tolerance is what the package doc allows.
func tolerance(query []float32) float64 {
	norm, _ := squaredNorm(query)
	return 1e-3 * math.Sqrt(float64(norm)+1)
}

func near(got float32, want float64, query []float32) bool {
	return math.Abs(float64(got)-want) <= tolerance(query)
}

func nearest(t *testing.T, engine Engine, points, queries Matrix, metric Metric, k, workers int) Neighbours {
	t.Helper()
	ix, err := engine.Load(points, metric)
	if err != nil {
		t.Fatal(err)
	}
	found, err := ix.Nearest(queries, k, workers)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTiesGoToTheSmallestIndex(t *testing.T) {
	for name, engine := range engines {
		for _, metric := range []Metric{L2, Cosine} {
			rng := rand.New(rand.NewPCG(3, 4))
			base := random(rng, 7, 33)
			points := Matrix{Cols: 33}
			for range 60 { // every point sixty times, over several blocks
				points.Data = append(points.Data, base.Data...)
				points.Rows += 7
			}
			found := nearest(t, engine, points, base, metric, 25, 2)
			for q := range base.Rows {
				index, _ := found.Of(q)
				got := slices.Clone(index)
				slices.Sort(got)
				for i, p := range got {
					if int(p) != i*7+q {
						t.Fatalf("%s, metric %d: query %d has neighbours %v: want its first 25 copies", name, metric, q, got)
					}
				}
			}
		}
	}
}

func TestRowsThatAreNotFiniteHaveNoNeighbours(t *testing.T) {
	odd := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32}
	for name, engine := range engines {
		for _, metric := range []Metric{L2, Cosine} {
			points := random(rand.New(rand.NewPCG(5, 6)), 40, 10)
			queries := random(rand.New(rand.NewPCG(7, 8)), 40, 10)
			for i, x := range odd {
				points.Row(i * 9)[i] = x
				queries.Row(i * 7)[9-i] = x
			}
			clear(points.Row(39)) // zero vectors are allowed
			clear(queries.Row(39))
			found := nearest(t, engine, points, queries, metric, 40, 2)
			for q := range queries.Rows {
				index, distance := found.Of(q)
				want := 36
				if q%7 == 0 && q < 28 {
					want = 0
				}
				if len(index) != want {
					t.Errorf("%s, metric %d: query %d has %d neighbours, want %d", name, metric, q, len(index), want)
				}
				for i, p := range index {
					if p%9 == 0 && p < 36 || !near(distance[i], metric.distance(queries.Row(q), points.Row(int(p))), points.Row(1)) {
						t.Errorf("%s, metric %d: query %d has neighbour %d at %v", name, metric, q, p, distance[i])
					}
				}
			}
		}
	}
}

func TestWorkersAndBatchesDoNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	points, queries := random(rng, 500, 17), random(rng, 333, 17)
	for name, engine := range engines {
		want := nearest(t, engine, points, queries, L2, 9, 1)
		for _, workers := range []int{0, 2, 8} {
			got := nearest(t, engine, points, queries, L2, 9, workers)
			if !slices.Equal(got.Index, want.Index) || !slices.Equal(got.Distance, want.Distance) {
				t.Errorf("%s: %d workers give another answer than one", name, workers)
			}
		}
		for first := 0; first < queries.Rows; first += 37 {
			end := min(first+37, queries.Rows)
			got := nearest(t, engine, points, Matrix{end - first, 17, queries.Data[first*17 : end*17]}, L2, 9, 1)
			if !slices.Equal(got.Index, want.Index[first*9:end*9]) || !slices.Equal(got.Distance, want.Distance[first*9:end*9]) {
				t.Errorf("%s: queries %d to %d asked alone get another answer", name, first, end)
			}
		}
	}
}

func TestProduct(t *testing.T) {
	for name, engine := range engines {
		rng := rand.New(rand.NewPCG(11, 12))
		for _, cols := range dims {
			for i, rows := range sizes {
				a, b := random(rng, rows, cols), random(rng, sizes[len(sizes)-1-i], cols)
				want, got := random(rng, a.Rows, b.Rows), random(rng, a.Rows, b.Rows)
				if err := (Reference{}).Product(want, a, b); err != nil {
					t.Fatal(err)
				}
				if err := engine.Product(got, a, b); err != nil {
					t.Fatal(err)
				}
				for j := range got.Data {
					if math.Abs(float64(got.Data[j]-want.Data[j])) > 1e-5*(1+float64(want.Data[j])) {
						t.Fatalf("%s: %d × %d by %d: value %d is %v, want %v", name, rows, cols, b.Rows, j, got.Data[j], want.Data[j])
					}
				}
			}
		}
	}
}

func TestShapes(t *testing.T) {
	for name, engine := range engines {
		if _, err := engine.Load(Matrix{2, 3, make([]float32, 5)}, L2); !errors.Is(err, ErrShape) {
			t.Errorf("%s: points that lack a value: %v", name, err)
		}
		ix, err := engine.Load(Matrix{2, 3, make([]float32, 6)}, L2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ix.Nearest(Matrix{1, 4, make([]float32, 4)}, 1, 1); !errors.Is(err, ErrShape) {
			t.Errorf("%s: queries of another width: %v", name, err)
		}
		if _, err := ix.Nearest(Matrix{1, 3, make([]float32, 3)}, 0, 1); !errors.Is(err, ErrShape) {
			t.Errorf("%s: no neighbours asked for: %v", name, err)
		}
		if err := engine.Product(Matrix{1, 1, make([]float32, 1)}, Matrix{1, 2, make([]float32, 2)}, Matrix{1, 3, make([]float32, 3)}); !errors.Is(err, ErrShape) {
			t.Errorf("%s: product of widths 2 and 3: %v", name, err)
		}
	}
}

func TestNearestAllocations(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	ix, err := CPU{}.Load(random(rng, 640, 32), L2)
	if err != nil {
		t.Fatal(err)
	}
	queries := random(rng, 4096, 32)
	if n := testing.AllocsPerRun(3, func() { ix.Nearest(queries, 10, 1) }); n > 20 {
		t.Errorf("%v allocations for %d queries: scratch must be made once a worker", n, queries.Rows)
	}
}

func TestScanAgreesWithPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(17, 18))
	odd := []float32{0, 1, -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, -math.MaxFloat32}
	for _, n := range []int{0, 64, 128, 960} {
		values := make([]float32, n)
		for i := range values {
			if values[i] = float32(rng.NormFloat64()); rng.IntN(4) == 0 {
				values[i] = odd[rng.IntN(len(odd))]
			}
		}
		for _, bar := range append(odd, 0.5) {
			if got, want := Best.kernel().countAbove(values, bar), countAbovePortable(values, bar); got != want {
				t.Errorf("%d of %d above %v, want %d", got, n, bar, want)
			}
			got, want := make([]uint64, n/lanes), make([]uint64, n/lanes)
			Best.kernel().markFrom(values, bar, got)
			markFromPortable(values, bar, want)
			if !slices.Equal(got, want) {
				t.Errorf("marks from %v differ", bar)
			}
		}
	}
}

// TestReservoir offers values of every spread in spans and compares with a sort.
func TestReservoir(t *testing.T) {
	rng := rand.New(rand.NewPCG(19, 20))
	for trial := range 2000 {
		values := make([]float32, 64*(1+rng.IntN(12)))
		for i := range values {
			switch trial % 4 {
			case 0:
				values[i] = float32(rng.NormFloat64())
			case 1:
				values[i] = float32(rng.IntN(5)) - 2
			case 2:
				values[i] = float32(math.Exp(20 * rng.NormFloat64()))
			case 3:
				values[i] = -float32(math.Exp(35 * rng.NormFloat64()))
			}
			if values[i] = max(-maxNorm, min(values[i], maxNorm)); rng.IntN(50) == 0 {
				values[i] = float32(math.Inf(-1))
			}
		}
		k, span := 1+rng.IntN(100), 64*(1+rng.IntN(4))
		r := newReservoirs(1, k, len(values), span)[0]
		r.reset()
		var order []int32
		for first := 0; first < len(values); first += span {
			r.offer(Best.kernel(), values[first:min(first+span, len(values))], first)
		}
		for i, v := range values {
			if !math.IsInf(float64(v), -1) {
				order = append(order, int32(i))
			}
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(values[b], values[a]) })
		want := slices.Clone(order[:min(k, len(order))])
		slices.Sort(want)
		if got := r.index[:r.n]; !slices.Equal(got, want) {
			t.Fatalf("trial %d, %d values in spans of %d, k = %d: kept %v, want %v", trial, len(values), span, k, got, want)
		}
	}
}

func BenchmarkNearest(b *testing.B) {
	rng := rand.New(rand.NewPCG(15, 16))
	for _, engine := range []string{"cpu", "portable"} {
		for _, cols := range []int{10, 32, 384, 1024} {
			for _, rows := range []int{640, 1000, 10000} {
				points, queries := random(rng, rows, cols), random(rng, 1024, cols)
				ix, err := engines[engine].Load(points, L2)
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
	for _, engine := range []string{"cpu", "portable"} {
		for _, shape := range [][3]int{{2048, 64, 384}, {2048, 2048, 384}, {384, 384, 4096}} {
			x, y := random(rng, shape[0], shape[2]), random(rng, shape[1], shape[2])
			dst := Matrix{shape[0], shape[1], make([]float32, shape[0]*shape[1])}
			b.Run(fmt.Sprintf("%s/%dx%dx%d", engine, shape[0], shape[1], shape[2]), func(b *testing.B) {
				b.SetBytes(int64(len(x.Data)+len(y.Data)) * 4)
				b.ReportAllocs()
				for b.Loop() {
					if err := engines[engine].Product(dst, x, y); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(2e-9*float64(shape[0]*shape[1]*shape[2])*float64(b.N)/b.Elapsed().Seconds(), "GFLOPS")
			})
		}
	}
}
