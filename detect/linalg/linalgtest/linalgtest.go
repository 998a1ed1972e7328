// Package linalgtest is what every [linalg.Engine] must pass: the readable reference, each level of the CPU's instructions, an
// accelerator. Its oracle is float64 arithmetic by definition.
//
// Two bounds are demanded. A distance may be off by half a step of float32 (a float64 sum, rounded), or by the share of the rows' spread
// that the engine's documentation states. A neighbour may be another than the oracle's only where their squared distances differ by less
// than float32 products can tell: 4·d·2⁻²⁴·(‖q‖+‖p‖)², lengths taken from the points' mean, and for numbers whose
// squares float32 cannot hold d·2⁻¹²⁶; for cosine 4·d·2⁻²⁴ of the distance.
package linalgtest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
)

// Run checks an engine whose distances may be off by spread times the length of the longer of both rows; 0: not at all, but for rounding.
func Run(t *testing.T, engine linalg.Engine, spread float64) {
	s := suite{engine, spread}
	t.Run("sizes", s.sizes)
	t.Run("blocks", s.blocks)
	t.Run("ties", s.ties)
	t.Run("not finite", s.notFinite)
	t.Run("denormal", s.denormal)
	t.Run("exact copies", s.copies)
	t.Run("workers", s.workers)
	t.Run("together", s.together)
	t.Run("product", s.product)
	t.Run("product of what is not finite", s.productNotFinite)
	t.Run("shapes", s.shapes)
}

type suite struct {
	engine linalg.Engine
	spread float64
}

var metrics = []linalg.Metric{linalg.L2, linalg.Cosine}

// edges are sizes beside the sides of tiles, of panels and of what is looked at at once.
var edges = []int{0, 1, 31, 32, 33, 127, 128, 129}

// random draws rows far from the origin, as real embeddings are.
func random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64()) + 3
	}
	return m
}

func nearest(t *testing.T, engine linalg.Engine, points, queries linalg.Matrix, metric linalg.Metric, k, workers int) linalg.Neighbours {
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

// takesPart says whether a row may have neighbours; near the bound engines may differ.
func takesPart(row []float32) bool { return length(row) <= math.Sqrt(1e37) }

func length(row []float32) float64 {
	sum := 0.0
	for _, x := range row {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

func distance(metric linalg.Metric, a, b []float32) float64 {
	var square, dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		square += (x - y) * (x - y)
		dot += x * y
		aa += x * x
		bb += y * y
	}
	switch {
	case metric == linalg.L2:
		return math.Sqrt(square)
	case aa == 0 || bb == 0:
		return 1
	}
	return max(0, 1-dot/math.Sqrt(aa)/math.Sqrt(bb))
}

// nearest demands the oracle's neighbours, within the bounds, for each k.
func (s suite) nearest(t *testing.T, points, queries linalg.Matrix, ks ...int) {
	t.Helper()
	d := float64(points.Cols)
	longest := 0.0 // from the mean
	mean := make([]float64, points.Cols)
	for p := range points.Rows {
		if row := points.Row(p); takesPart(row) {
			for c, x := range row {
				mean[c] += float64(x) / float64(points.Rows)
			}
		}
	}
	from := func(row []float32) float64 {
		square := 0.0
		for c, x := range row {
			square += (float64(x) - mean[c]) * (float64(x) - mean[c])
		}
		return math.Sqrt(square)
	}
	for p := range points.Rows {
		if row := points.Row(p); takesPart(row) {
			longest = max(longest, from(row))
		}
	}
	for _, metric := range metrics {
		ix, err := s.engine.Load(points, metric)
		if err != nil {
			t.Fatal(err)
		}
		var found []linalg.Neighbours
		for _, k := range ks {
			f, err := ix.Nearest(queries, k, 2)
			if err != nil {
				t.Fatal(err)
			}
			if f.K != k || len(f.Index) != queries.Rows*k || len(f.Distance) != len(f.Index) {
				t.Fatalf("%d × %d, %d queries, k = %d: %d entries", points.Rows, points.Cols, queries.Rows, k, len(f.Index))
			}
			found = append(found, f)
		}
		exact := make([]float64, points.Rows)
		for q := range queries.Rows {
			query := queries.Row(q)
			var order []float64
			for p := range exact {
				exact[p] = math.NaN()
				if takesPart(query) && takesPart(points.Row(p)) {
					exact[p] = distance(metric, query, points.Row(p))
					order = append(order, exact[p])
				}
			}
			slices.Sort(order)
			for i, k := range ks {
				what := fmt.Sprintf("metric %d, %d × %d, k = %d, query %d", metric, points.Rows, points.Cols, k, q)
				index, got := found[i].Of(q)
				if len(index) != min(k, len(order)) {
					t.Fatalf("%s: %d neighbours of %d", what, len(index), len(order))
				}
				for j := q*k + len(index); j < (q+1)*k; j++ {
					if found[i].Index[j] != -1 || !math.IsNaN(float64(found[i].Distance[j])) {
						t.Fatalf("%s: entry %d stands for none and is %d, %v", what, j, found[i].Index[j], found[i].Distance[j])
					}
				}
				if len(index) == 0 {
					continue
				}
				farthest := order[len(index)-1]
				seen := map[int32]bool{}
				for j, p := range index {
					if p < 0 || int(p) >= points.Rows || seen[p] || exact[p] != exact[p] {
						t.Fatalf("%s: neighbours %v", what, index)
					}
					seen[p] = true
					off := math.Abs(float64(got[j]) - exact[p])
					if allowed := exact[p]*0x1p-23 + 1e-45 + s.spread*max(length(query), length(points.Row(int(p)))); off > allowed && metric == linalg.L2 {
						t.Fatalf("%s: point %d at %v, exactly %v", what, p, got[j], exact[p])
					}
					if metric == linalg.Cosine && off > exact[p]*0x1p-23+d*0x1p-50+s.spread {
						t.Fatalf("%s: point %d at %v, exactly %v", what, p, got[j], exact[p])
					}
					beyond := exact[p] - farthest
					allowed := 4*d*0x1p-24 + s.spread
					if metric == linalg.L2 {
						beyond = exact[p]*exact[p] - farthest*farthest
						both := from(query) + longest
						allowed = 4*d*0x1p-24*both*both + d*0x1p-126 + s.spread*both*both
					}
					if beyond > allowed {
						t.Fatalf("%s: point %d at %v, but the last of so many lies at %v", what, p, exact[p], farthest)
					}
				}
			}
		}
	}
}

func (s suite) sizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, cols := range []int{0, 1, 2, 7, 9, 31, 64, 129} {
		for i, rows := range edges {
			queries := edges[(i*3+cols)%len(edges)]
			if testing.Short() {
				queries = min(queries, 13)
			}
			s.nearest(t, random(rng, rows, cols), random(rng, queries, cols), 1, 5, 64, 200)
		}
	}
	for _, c := range [][3]int{{33, 13, 383}, {129, 31, 384}, {65, 7, 385}, {127, 25, 768}, {33, 12, 1024}, {31, 5, 4095}, {33, 14, 4096}} {
		s.nearest(t, random(rng, c[0], c[2]), random(rng, c[1], c[2]), 1, 5, 40)
	}
}

// blocks are more points, and more queries, than an engine is likely to look at together.
func (s suite) blocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range [][3]int{{1023, 97, 5}, {1024, 96, 3}, {1025, 95, 4}, {2500, 1, 6}, {9000, 8, 1}, {2100, 16, 6}, {140, 193, 10}} {
		s.nearest(t, random(rng, c[0], c[2]), random(rng, c[1], c[2]), 1, 10, 64)
	}
}

// ties go to the smallest index.
func (s suite) ties(t *testing.T) {
	for _, metric := range metrics {
		for _, cols := range []int{1, 33, 390} {
			base := random(rand.New(rand.NewPCG(5, 6)), 7, cols)
			if cols == 1 {
				for i := range base.Data {
					base.Data[i] = float32(i + 1)
				}
			}
			points := linalg.Matrix{Cols: cols}
			for range 160 { // more than a block of points
				points.Data = append(points.Data, base.Data...)
				points.Rows += 7
			}
			for _, k := range []int{1, 25, 64} {
				found := nearest(t, s.engine, points, base, metric, k, 2)
				for q := range base.Rows {
					if cols == 1 && metric == linalg.Cosine {
						continue // all alike
					}
					index, _ := found.Of(q)
					got := slices.Sorted(slices.Values(index))
					for i, p := range got {
						if int(p) != i*7+q {
							t.Fatalf("metric %d, %d columns: query %d has neighbours %v: want its first %d copies", metric, cols, q, got, k)
						}
					}
				}
			}
		}
	}
	// All points alike.
	points := linalg.Matrix{Rows: 2000, Cols: 3, Data: make([]float32, 6000)}
	for _, metric := range metrics {
		found := nearest(t, s.engine, points, linalg.Matrix{Rows: 1, Cols: 3, Data: []float32{1, 2, 3}}, metric, 30, 2)
		if got := slices.Sorted(slices.Values(found.Index)); got[0] != 0 || got[29] != 29 {
			t.Errorf("metric %d: of equal points %v are nearest", metric, got)
		}
	}
}

func (s suite) notFinite(t *testing.T) {
	for _, cols := range []int{1, 10, 390} {
		points, queries := random(rand.New(rand.NewPCG(7, 8)), 150, cols), random(rand.New(rand.NewPCG(9, 10)), 40, cols)
		for i, x := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32} {
			points.Row(i * 9)[i%cols] = x
			queries.Row(i * 7)[(9-i)%cols] = x
		}
		clear(points.Row(39)) // zero vectors are allowed
		clear(queries.Row(39))
		s.nearest(t, points, queries, 1, 40, 160)
		// None that takes part.
		for i := range points.Data {
			points.Data[i] = float32(math.NaN())
		}
		s.nearest(t, points, queries, 3)
	}
	// Large, but not too large.
	points, queries := random(rand.New(rand.NewPCG(11, 12)), 50, 4), random(rand.New(rand.NewPCG(13, 14)), 20, 4)
	for _, m := range []linalg.Matrix{points, queries} {
		for i := range m.Data {
			m.Data[i] *= 1e17
		}
	}
	s.nearest(t, points, queries, 1, 10)
}

// denormal numbers, and those whose squares are: distances are told all the same, and directions are told apart.
func (s suite) denormal(t *testing.T) {
	for _, scale := range []float32{1e-20, 1e-25, 1e-38, 1e-42} {
		for _, cols := range []int{1, 17, 384} {
			points, queries := random(rand.New(rand.NewPCG(15, 16)), 70, cols), random(rand.New(rand.NewPCG(17, 18)), 13, cols)
			for i := range points.Data {
				points.Data[i] *= scale
			}
			for i := range queries.Data[:len(queries.Data)/2] {
				queries.Data[i] *= scale
			}
			s.nearest(t, points, queries, 1, 8)
		}
	}
}

// copies of a query lie at no distance.
func (s suite) copies(t *testing.T) {
	for _, cols := range []int{1, 8, 129, 1024} {
		points := random(rand.New(rand.NewPCG(19, 20)), 90, cols)
		for _, metric := range metrics {
			found := nearest(t, s.engine, points, points, metric, 1, 2)
			for q := range points.Rows {
				_, got := found.Of(q)
				if float64(got[0]) > s.spread*length(points.Row(q))+1e-15 {
					t.Fatalf("metric %d, %d columns: the distance of row %d from itself is %v", metric, cols, q, got[0])
				}
			}
		}
	}
}

// workers, and which queries share a call, change nothing.
func (s suite) workers(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	points, queries := random(rng, 2300, 5), random(rng, 110, 5)
	for _, metric := range metrics {
		ix, err := s.engine.Load(points, metric)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(first, end, workers int) linalg.Neighbours {
			found, err := ix.Nearest(linalg.Matrix{Rows: end - first, Cols: 5, Data: queries.Data[first*5 : end*5]}, 9, workers)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		want := ask(0, queries.Rows, 1)
		for _, workers := range []int{0, 2, 7} {
			if got := ask(0, queries.Rows, workers); !slices.Equal(got.Index, want.Index) || !slices.Equal(got.Distance, want.Distance) {
				t.Errorf("%d workers give another answer than one", workers)
			}
			for first := 0; first < queries.Rows && workers > 0; first += 37 {
				end := min(first+37, queries.Rows)
				got := ask(first, end, workers)
				if !slices.Equal(got.Index, want.Index[first*9:end*9]) || !slices.Equal(got.Distance, want.Distance[first*9:end*9]) {
					t.Errorf("queries %d to %d asked alone get another answer", first, end)
				}
			}
		}
	}
}

// together: an index answers several who ask for different numbers of neighbours.
func (s suite) together(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	points, queries := random(rng, 200, 20), random(rng, 50, 20)
	ix, err := s.engine.Load(points, linalg.L2)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for k := 1; k <= 6; k++ {
		want := nearest(t, s.engine, points, queries, linalg.L2, k, 1)
		wait.Go(func() {
			for range 3 {
				got, err := ix.Nearest(queries, k, 2)
				if err != nil || !slices.Equal(got.Index, want.Index) {
					t.Errorf("k = %d beside others: %v", k, err)
				}
			}
		})
	}
	wait.Wait()
}

// product demands Σ within d·2⁻²³·Σ|a||b|, what float32 in any order gives (Higham, "Accuracy and stability of numerical algorithms", 2002,
// section 3.1).
func (s suite) product(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	check := func(rows, others, cols int) {
		a, b, dst := random(rng, rows, cols), random(rng, others, cols), random(rng, rows, others)
		if err := s.engine.Product(dst, a, b); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for j := range others {
				want, bound := 0.0, 1e-40
				for c, x := range a.Row(i) {
					p := float64(x) * float64(b.Row(j)[c])
					want += p
					bound += math.Abs(p)
				}
				bound = 1e-40 + float64(cols)*0x1p-23*bound
				if got := float64(dst.Row(i)[j]); !(math.Abs(got-want) <= bound) {
					t.Fatalf("%d × %d by %d: value %d, %d is %v, want %v within %v", rows, cols, others, i, j, got, want, bound)
				}
			}
		}
	}
	for _, cols := range []int{0, 1, 2, 7, 31, 64, 129} {
		for i, rows := range edges {
			check(rows, edges[len(edges)-1-i], cols)
			if !testing.Short() {
				check(rows, edges[(i+3)%len(edges)], cols)
			}
		}
	}
	for _, c := range [][3]int{{40, 100, 384}, {100, 40, 385}, {33, 31, 1024}, {13, 70, 4096}, {70, 13, 4096}, {3, 600, 40}, {600, 3, 40}, {530, 540, 9}} {
		check(c[0], c[1], c[2])
	}
}

// productNotFinite: what is not finite spoils its own row and column only.
func (s suite) productNotFinite(t *testing.T) {
	for _, shape := range [][2]int{{13, 70}, {70, 13}, {33, 33}} {
		a, b := random(rand.New(rand.NewPCG(27, 28)), shape[0], 9), random(rand.New(rand.NewPCG(29, 30)), shape[1], 9)
		a.Row(5)[3], b.Row(7)[8] = float32(math.NaN()), float32(math.Inf(1))
		dst := linalg.Matrix{Rows: a.Rows, Cols: b.Rows, Data: make([]float32, a.Rows*b.Rows)}
		if err := s.engine.Product(dst, a, b); err != nil {
			t.Fatal(err)
		}
		for i := range a.Rows {
			for j, v := range dst.Row(i) {
				v := float64(v)
				if i == 5 && !math.IsNaN(v) || i != 5 && j == 7 && !math.IsInf(v, 1) || i != 5 && j != 7 && (math.IsNaN(v) || math.IsInf(v, 0)) {
					t.Fatalf("%d by %d: value %d, %d is %v", a.Rows, b.Rows, i, j, v)
				}
			}
		}
	}
}

func (s suite) shapes(t *testing.T) {
	matrix := func(rows, cols, values int) linalg.Matrix {
		return linalg.Matrix{Rows: rows, Cols: cols, Data: make([]float32, values)}
	}
	if _, err := s.engine.Load(matrix(2, 3, 5), linalg.L2); !errors.Is(err, linalg.ErrShape) {
		t.Errorf("points that lack a value: %v", err)
	}
	ix, err := s.engine.Load(matrix(2, 3, 6), linalg.L2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ix.Nearest(matrix(1, 4, 4), 1, 1); !errors.Is(err, linalg.ErrShape) {
		t.Errorf("queries of another width: %v", err)
	}
	if _, err := ix.Nearest(matrix(1, 3, 3), 0, 1); !errors.Is(err, linalg.ErrShape) {
		t.Errorf("no neighbours asked for: %v", err)
	}
	if err := s.engine.Product(matrix(1, 1, 1), matrix(1, 2, 2), matrix(1, 3, 3)); !errors.Is(err, linalg.ErrShape) {
		t.Errorf("product of widths 2 and 3: %v", err)
	}
}
