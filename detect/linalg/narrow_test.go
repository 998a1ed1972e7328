package linalg

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// narrowKernels returns those that this processor has, by name.
func narrowKernels() map[string]*narrowKernel {
	all := map[string]*narrowKernel{"portable": &narrowPortable}
	for _, level := range Levels() {
		if k := level.kernel().narrow; k != nil {
			all[level.String()] = k
		}
	}
	return all
}

// around returns a copy of values in the middle of others.
func around[T any](values []T, poison T) (inside, outside []T) {
	const room = 32
	all := slices.Repeat([]T{poison}, len(values)+2*room)
	inside = all[room : room+len(values) : room+len(values)]
	copy(inside, values)
	return inside, all
}

func TestNarrowKernels(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	for name, k := range narrowKernels() {
		for trial := range 100 {
			n := 8 * (1 + rng.IntN(40))
			width := []int{2, 4, 8, 16}[trial%4]
			query, points := make([]float64, width), make([]float64, n*width)
			coarse := trial%3 == 0 // many distances are equal
			for _, v := range [][]float64{query, points} {
				for i := range v {
					if v[i] = rng.NormFloat64() * math.Exp(4*rng.NormFloat64()); coarse {
						v[i] = float64(rng.IntN(4))
					}
				}
			}
			if trial%5 == 0 {
				points[rng.IntN(len(points))] = math.Inf(1)
			}
			want, got := make([]float64, n), make([]float64, n)
			columnsPortable(query, points, want)
			got, outside := around(got, -1)
			k.columns[width](query, points, got)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: squares of %d columns are not the portable ones", name, width)
			}
			if slices.ContainsFunc(outside[:32], func(v float64) bool { return v != -1 }) || slices.ContainsFunc(outside[32+n:], func(v float64) bool { return v != -1 }) {
				t.Fatalf("%s: squares are written beside their place", name)
			}

			count := 1 + rng.IntN(n)
			bar, surplus := k.kth(got, count, 0)
			upTo := 0
			for _, v := range got {
				if v <= bar {
					upTo++
				}
			}
			wantBar, wantSurplus := kthPortable(got, count, 0)
			if upTo != count+surplus || surplus != wantSurplus || surplus > 0 && bar != wantBar {
				t.Fatalf("%s: %d values are at most the bar of %d, %d too many; portable %d", name, upTo, count, surplus, wantSurplus)
			}
			if loose, over := k.kth(got, count, n); over < 0 || loose < wantBar {
				t.Fatalf("%s: with slack the bar is %v with %d too many", name, loose, over)
			}

			some, wantSome := make([]float64, n+8), make([]float64, n+8)
			if kept, wantKept := k.upTo(got, bar, some), upToPortable(got, bar, wantSome); kept != wantKept || !slices.Equal(some[:kept], wantSome[:kept]) {
				t.Fatalf("%s: values up to the bar are not the portable ones", name)
			}
			sum, least, above, most := k.roots(got, bar)
			s, l, a, m := rootsPortable(got, bar)
			if l != least || a != above || m != most || math.Abs(s-sum) > 1e-9*s || m <= exactly*a && count+surplus <= fewSums && s != sum {
				t.Fatalf("%s: roots %v %v %v %v, want %v %v %v %v", name, sum, least, above, most, s, l, a, m)
			}
		}
	}
}

// TestNarrowAgreesWithIndex: bit for bit, whatever the order in which distances are added up.
func TestNarrowAgreesWithIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 10))
	for name, k := range narrowKernels() {
		for trial := range 24 {
			rows, cols, most := 1+rng.IntN(700), 1+rng.IntN(mostColumns), 1+rng.IntN(140)
			draw := func(n int) Matrix {
				m := Matrix{n, cols, make([]float32, n*cols)}
				for i := range m.Data {
					switch trial % 3 {
					case 0:
						m.Data[i] = float32(rng.NormFloat64())
					case 1:
						m.Data[i] = float32(rng.IntN(3)) / 4
					default:
						m.Data[i] = float32(math.Exp(3 * rng.NormFloat64()))
					}
				}
				return m
			}
			points, queries := draw(rows), draw(8)
			if trial%4 == 0 {
				points.Data[rng.IntN(len(points.Data))] = float32(math.NaN())
				queries.Data[0] = float32(math.Inf(1))
				copy(queries.Row(1), points.Row(0))
			}
			narrow, ok := newNarrow(points, k)
			if !ok {
				t.Fatalf("%s: %d × %d points are not narrow", name, rows, cols)
			}
			index, err := Reference{}.Load(points, L2)
			if err != nil {
				t.Fatal(err)
			}
			found, err := index.Nearest(queries, most, 1)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]Sum, queries.Rows)
			if err := narrow.Sums(got, queries, most); err != nil {
				t.Fatal(err)
			}
			for q, s := range got {
				at, distance := found.Of(q)
				order := make([]int, len(at)) // of points
				for i := range order {
					order[i] = i
				}
				slices.SortFunc(order, func(a, b int) int { return int(at[a] - at[b]) })
				want := Sum{Count: len(distance)}
				for i, o := range order {
					d := distance[o]
					want.Total += float64(d)
					if i == 0 {
						want.Nearest = d
					}
					want.Nearest, want.Farthest = min(want.Nearest, d), max(want.Farthest, d)
				}
				if s != want {
					t.Fatalf("%s: %d nearest of %d × %d, query %d: %+v, want %+v", name, most, rows, cols, q, s, want)
				}
			}
		}
	}
}

func TestNarrowShapes(t *testing.T) {
	for _, m := range []Matrix{{}, {3, 0, nil}, {1, mostColumns + 1, make([]float32, mostColumns+1)}, {2, 2, make([]float32, 3)}} {
		if _, ok := newNarrow(m, &narrowPortable); ok {
			t.Errorf("%d × %d points are narrow", m.Rows, m.Cols)
		}
	}
	n, _ := newNarrow(Matrix{1, 2, []float32{1, 2}}, &narrowPortable)
	for _, err := range []error{
		n.Sums(make([]Sum, 1), Matrix{1, 3, make([]float32, 3)}, 1),
		n.Sums(make([]Sum, 2), Matrix{1, 2, make([]float32, 2)}, 1),
		n.Sums(make([]Sum, 1), Matrix{1, 2, make([]float32, 2)}, 0),
	} {
		if err == nil {
			t.Error("a wrong shape is no error")
		}
	}
}
