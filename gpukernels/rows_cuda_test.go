//go:build cuda && cgo && linux && amd64

package gpukernels

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const unit = 0x1p-24 // half the distance from 1 to the next float32

// leave makes a device have so many bytes left that rows do not stay there.
func leave(d *Device, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = d.limit - bytes
}

// onRows calls f with rows that are resident, and with the same ones that go there in pieces. Rows 3 and 4 take no part.
func onRows(t *testing.T, rows, cols int, origin bool, f func(t *testing.T, d *Device, r *Rows, data, origin []float32)) {
	rng := rand.New(rand.NewPCG(uint64(rows), uint64(cols)))
	data := draw(rng, rows*cols)
	if rows > 4 {
		data[3*cols], data[4*cols] = float32(math.NaN()), float32(math.Inf(-1))
	}
	var from []float32
	if origin {
		from = draw(rng, cols)
	}
	for _, resident := range []bool{true, false} {
		t.Run(fmt.Sprintf("%dx%d resident %v", rows, cols, resident), func(t *testing.T) {
			d := open(t, Options{})
			if !resident {
				leave(d, int64(4*cols+4)*int64(rows)+int64(4*cols*cols*3)+1<<14) // two pieces of the larger ones
			}
			r, err := d.Keep(slices.Clone(data), cols, from)
			if err != nil {
				t.Fatal(err)
			}
			if r.Resident() != (resident && rows > 0) {
				t.Fatalf("resident: %v", r.Resident())
			}
			f(t, d, r, data, from)
		})
	}
}

// part says whether a row takes part.
func part(row []float32) bool {
	n := 0.0
	for _, v := range row {
		n += float64(v) * float64(v)
	}
	return n <= 1e37
}

// centred returns the rows that take part, in float64, less their origin.
func centred(data, origin []float32, cols int) (all [][]float64) {
	for i := 0; i < len(data); i += cols {
		if !part(data[i : i+cols]) {
			continue
		}
		row := make([]float64, cols)
		for c := range row {
			row[c] = float64(data[i+c])
			if len(origin) > 0 {
				row[c] = float64(data[i+c] - origin[c]) // rounded, as the kernels do
			}
		}
		all = append(all, row)
	}
	return all
}

// near compares with what is allowed for each value.
func near(t *testing.T, what string, got []float32, want, allowed []float64) {
	t.Helper()
	for i := range want {
		if math.IsNaN(want[i]) != math.IsNaN(float64(got[i])) || math.Abs(float64(got[i])-want[i]) > allowed[i] {
			t.Fatalf("%s: value %d is %v, want %v within %g", what, i, got[i], want[i], allowed[i])
		}
	}
}

var shapes = [][2]int{{1, 1}, {33, 130}, {700, 20}, {2000, 3}}

func TestCUDAMean(t *testing.T) {
	for _, s := range shapes {
		onRows(t, s[0], s[1], false, func(t *testing.T, _ *Device, r *Rows, data, _ []float32) {
			rows, got := centred(data, nil, s[1]), make([]float32, s[1])
			n, err := r.Mean(got)
			if err != nil || n != len(rows) {
				t.Fatalf("%d rows of %d take part, %v", n, len(rows), err)
			}
			want, allowed := make([]float64, s[1]), make([]float64, s[1])
			for _, row := range rows {
				for c, v := range row {
					want[c] += v / float64(n)
					allowed[c] += 4 * unit * math.Abs(v) / float64(n)
				}
			}
			near(t, "mean", got, want, allowed)
			if _, err := r.Mean(make([]float32, s[1]+1)); err == nil {
				t.Error("a mean of another length")
			}
		})
	}
}

func TestCUDACovariance(t *testing.T) {
	for i, s := range shapes {
		onRows(t, s[0], s[1], i%2 == 0, func(t *testing.T, _ *Device, r *Rows, data, origin []float32) {
			cols, got := s[1], make([]float32, s[1]*s[1])
			scale := 1 / float64(s[0])
			if err := r.Covariance(got, scale); err != nil {
				t.Fatal(err)
			}
			want, allowed := make([]float64, cols*cols), make([]float64, cols*cols)
			for _, row := range centred(data, origin, cols) {
				for a, x := range row {
					for b, y := range row {
						want[a*cols+b] += scale * x * y
						allowed[a*cols+b] += float64(s[0]+3) * unit * scale * math.Abs(x*y)
					}
				}
			}
			near(t, "covariance", got, want, allowed)
			if err := r.Covariance(got[1:], 1); err == nil {
				t.Error("a covariance of another size")
			}
		})
	}
}

// TestCUDARowsProduct: what stays there is multiplied as what is sent, more rows than a lane takes among them.
func TestCUDARowsProduct(t *testing.T) {
	for _, s := range append(shapes, [2]int{widest + 9, 2}) {
		onRows(t, s[0], s[1], true, func(t *testing.T, d *Device, r *Rows, data, _ []float32) {
			a := draw(rand.New(rand.NewPCG(25, 26)), 3*s[1])
			got, want := make([]float32, 3*s[0]), make([]float32, 3*s[0])
			if err := r.Product(got, a); err != nil {
				t.Fatal(err)
			}
			if r.Resident() { // what would be sent needs the memory that the rows do not leave
				if err := d.Product(want, a, data, s[1]); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					if math.Float32bits(v) != math.Float32bits(want[i]) && (v == v || want[i] == want[i]) {
						t.Fatalf("value %d is %v, want %v", i, v, want[i])
					}
				}
			}
			for i, v := range got {
				sum, size, row := 0.0, 0.0, i%s[0]*s[1]
				for c := range s[1] {
					x := float64(a[i/s[0]*s[1]+c]) * float64(data[row+c])
					sum += x
					size += math.Abs(x)
				}
				if off := math.Abs(float64(v) - sum); off > float64(s[1]+1)*unit*size {
					t.Fatalf("value %d is %v, want %v", i, v, sum)
				}
			}
			if err := r.Product(got[1:], a); err == nil {
				t.Error("a product of another size")
			}
		})
	}
}

func TestCUDAMahalanobis(t *testing.T) {
	for i, s := range shapes {
		onRows(t, s[0], s[1], i%2 == 0, func(t *testing.T, _ *Device, r *Rows, data, origin []float32) {
			cols := s[1]
			for _, rank := range []int{0, 1, cols + 5} {
				factor := draw(rand.New(rand.NewPCG(11, 12)), rank*cols)
				got := make([]float32, s[0])
				if err := r.Mahalanobis(got, factor); err != nil {
					t.Fatal(err)
				}
				want, allowed := make([]float64, s[0]), make([]float64, s[0])
				for i := range s[0] {
					if row := data[i*cols : (i+1)*cols]; !part(row) {
						want[i] = math.NaN()
						continue
					}
					row := centred(data[i*cols:(i+1)*cols], origin, cols)[0]
					squares, bound := 0.0, 0.0
					for j := 0; j < len(factor); j += cols {
						sum, size := 0.0, 0.0
						for c, v := range row {
							sum += v * float64(factor[j+c])
							size += math.Abs(v * float64(factor[j+c]))
						}
						squares += sum * sum
						bound += size * size
					}
					want[i] = math.Sqrt(squares)
					allowed[i] = float64(cols+1)*unit*math.Sqrt(bound) + float64(rank+4)*unit*want[i]
				}
				near(t, fmt.Sprintf("rank %d", rank), got, want, allowed)
			}
			if err := r.Mahalanobis(make([]float32, s[0]), make([]float32, cols*2+1)); cols > 1 && err == nil {
				t.Error("a factor that lacks a value")
			}
		})
	}
}

func TestCUDAStep(t *testing.T) {
	for i, s := range shapes {
		onRows(t, s[0], s[1], i%2 == 0, func(t *testing.T, _ *Device, r *Rows, data, origin []float32) {
			cols := s[1]
			for _, n := range []int{1, 5, MaxDirections} {
				v := draw(rand.New(rand.NewPCG(13, 14)), n*cols)
				got := make([]float32, len(v))
				if err := r.Step(got, v); err != nil {
					t.Fatal(err)
				}
				want, allowed := make([]float64, len(v)), make([]float64, len(v))
				for _, row := range centred(data, origin, cols) {
					for j := range n {
						along, size := 0.0, 0.0
						for c, x := range row {
							along += x * float64(v[j*cols+c])
							size += math.Abs(x * float64(v[j*cols+c]))
						}
						for c, x := range row {
							want[j*cols+c] += along * x
							allowed[j*cols+c] += float64(cols+s[0]+4) * unit * size * math.Abs(x)
						}
					}
				}
				near(t, fmt.Sprintf("%d directions", n), got, want, allowed)
			}
			if err := r.Step(make([]float32, 17*cols), make([]float32, 17*cols)); err == nil {
				t.Error("17 directions")
			}
		})
	}
}

func TestCUDASelect(t *testing.T) {
	for _, s := range shapes {
		onRows(t, s[0], s[1], false, func(t *testing.T, d *Device, r *Rows, data, _ []float32) {
			rows, cols := s[0], s[1]
			if !r.Resident() && cols > 1 {
				leave(d, int64(4*rows)*4+1<<14) // two columns, more or less
			}
			ranks := []int64{int64(rows / 2), 0, int64(rows - 1), -1, int64(rows)}
			got := make([]float32, len(ranks)*cols)
			if err := r.Select(got, ranks); err != nil {
				t.Fatal(err)
			}
			for c := range cols {
				var column []float32
				for i := range rows {
					column = append(column, data[i*cols+c])
				}
				slices.Sort(column) // NaN first, as Select has it
				for j, rank := range ranks {
					want := float32(math.NaN())
					if rank >= 0 && rank < int64(rows) {
						want = column[rank]
					}
					if v := got[j*cols+c]; v != want && (v == v || want == want) {
						t.Fatalf("rank %d of column %d is %v, want %v", rank, c, v, want)
					}
				}
			}
			if err := r.Select(got, ranks[1:]); err == nil {
				t.Error("ranks that are fewer than there is room for")
			}
		})
	}
}

// grow makes a tree of random questions and returns its root.
func grow(f *Forest, rng *rand.Rand, cols, height int) {
	i := len(f.Value)
	f.Feature, f.Value, f.Child = append(f.Feature, -1), append(f.Value, float32(rng.IntN(40))/4), append(f.Child, 0)
	ready := []int{i}
	for range height {
		var next []int
		for _, n := range ready {
			if rng.IntN(4) == 0 {
				continue // a leaf
			}
			child := len(f.Value)
			f.Feature[n], f.Value[n], f.Child[n] = int32(rng.IntN(cols)), float32(rng.NormFloat64()), int32(child)
			for range 2 {
				f.Feature, f.Value, f.Child = append(f.Feature, -1), append(f.Value, float32(rng.IntN(40))/4), append(f.Child, 0)
			}
			next = append(next, child, child+1)
		}
		ready = next
	}
	f.Root = append(f.Root, int32(i))
}

func TestCUDADepth(t *testing.T) {
	for _, s := range shapes {
		onRows(t, s[0], s[1], false, func(t *testing.T, _ *Device, r *Rows, data, _ []float32) {
			rows, cols := s[0], s[1]
			var f Forest
			rng := rand.New(rand.NewPCG(15, 16))
			for _, trees := range []int{0, 1, 25} {
				for len(f.Root) < trees {
					grow(&f, rng, cols, 6)
				}
				got, want := make([]float32, rows), make([]float64, rows)
				if err := r.Depth(got, &f); err != nil {
					t.Fatal(err)
				}
				for i := range rows {
					for _, root := range f.Root {
						node := root
						for f.Feature[node] >= 0 {
							next := f.Child[node]
							if v := data[i*cols+int(f.Feature[node])]; !(v < f.Value[node]) {
								next++
							}
							node = next
						}
						want[i] += float64(f.Value[node]) / float64(trees)
					}
				}
				near(t, fmt.Sprintf("%d trees", trees), got, want, slices.Repeat([]float64{16 * unit * 10}, rows))
			}
		})
	}
	d := open(t, Options{})
	r, err := d.Keep([]float32{1}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Forest{
		"a loop":             {Feature: []int32{0, -1}, Value: []float32{0, 0}, Child: []int32{0, 0}, Root: []int32{0}},
		"a child too many":   {Feature: []int32{0, -1}, Value: []float32{0, 0}, Child: []int32{1, 0}, Root: []int32{0}},
		"no such column":     {Feature: []int32{1, -1, -1}, Value: []float32{0, 0, 0}, Child: []int32{1, 0, 0}, Root: []int32{0}},
		"no such root":       {Feature: []int32{-1}, Value: []float32{0}, Child: []int32{0}, Root: []int32{1}},
		"a node without one": {Feature: []int32{-1}, Value: []float32{0}, Root: []int32{0}},
	} {
		if err := r.Depth(make([]float32, 1), &f); err == nil || errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCUDANoRows: sums over none are zero, and nothing has a rank.
func TestCUDANoRows(t *testing.T) {
	d := open(t, Options{})
	r, err := d.Keep(nil, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	mean, sum, rank := []float32{1, 1}, []float32{1, 1, 1, 1}, []float32{1, 1}
	n, err := r.Mean(mean)
	err = errors.Join(err, r.Covariance(sum, 1), r.Select(rank, []int64{0}), r.Mahalanobis(nil, sum), r.Depth(nil, &Forest{}))
	if err != nil || n != 0 || mean[0] != 0 || sum[3] != 0 || rank[1] == rank[1] {
		t.Fatalf("%d rows, mean %v, covariance %v, smallest %v: %v", n, mean, sum, rank, err)
	}
	p, err := d.Load(nil, 2, L2, nil)
	if err != nil || p.Assign(mean, nil) != nil {
		t.Fatal(err)
	}
	if _, err := d.Keep(mean, 2, mean[:1]); err == nil {
		t.Error("an origin that lacks a value")
	}
}

// TestCUDAAssign: the centroids are those that a search for one neighbour among them finds by definition.
func TestCUDAAssign(t *testing.T) {
	const cols = 7
	rng := rand.New(rand.NewPCG(17, 18))
	points := whole(rng, 700*cols)
	points[5*cols] = float32(math.NaN())
	for _, count := range []int{0, 1, 130} {
		centroids := whole(rng, count*cols)
		want := slices.Repeat([]int32{-1}, 700)
		if count > 0 {
			copy(want, nearest(centroids, points, cols, 1))
			want[5] = -1
		}
		for _, resident := range []bool{true, false} {
			d := open(t, Options{})
			if !resident {
				leave(d, 2*prepared(256, cols)+prepared(130, cols)+1<<12)
			}
			p, err := d.Load(slices.Clone(points), cols, L2, slices.Repeat([]float32{1}, cols))
			if err != nil || p.Resident() != resident {
				t.Fatal(p.Resident(), err)
			}
			got := make([]int32, 700)
			if err := p.Assign(centroids, got); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d centroids, resident %v: others than by definition", count, resident)
			}
			if err := p.Assign(centroids, got[1:]); err == nil {
				t.Error("one point without room")
			}
			d.Close()
		}
	}
}

// TestCUDANearestExact: distances that the device adds up are float64's, and equal ones go to the smaller index.
func TestCUDANearestExact(t *testing.T) {
	const cols, k = 20, 5
	rng := rand.New(rand.NewPCG(19, 20))
	points, queries := whole(rng, 700*cols), whole(rng, 150*cols)
	want := nearest(points, queries, cols, k)
	queries = append(queries, slices.Repeat([]float32{float32(math.NaN())}, cols)...) // has none
	want = append(want, -1, -1, -1, -1, -1)
	for _, tensor := range []bool{false, true} {
		d := open(t, Options{Rerank: true, Tensor: tensor})
		p, err := d.Load(slices.Clone(points), cols, L2, slices.Repeat([]float32{1}, cols))
		if err != nil || !p.Exact() {
			t.Fatal(p.Exact(), err)
		}
		index, distance := make([]int32, 151*k), make([]float32, 151*k)
		for _, candidates := range []int{k, 16, MaxNeighbours} {
			if err := p.NearestExact(queries, k, candidates, index, distance); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(index, want) {
				t.Fatalf("tensor cores %v, %d candidates: other neighbours than by definition", tensor, candidates)
			}
			for i, p := range index {
				if p < 0 {
					if distance[i] == distance[i] {
						t.Fatalf("nobody is at %v", distance[i])
					}
					continue
				}
				square := 0.0
				for c := range cols {
					x := float64(points[int(p)*cols+c] - queries[i/k*cols+c])
					square += x * x
				}
				if distance[i] != float32(math.Sqrt(square)) {
					t.Fatalf("distance %v, want %v", distance[i], math.Sqrt(square))
				}
			}
		}
		if err := p.NearestExact(queries, k, k-1, index, distance); err == nil {
			t.Error("fewer candidates than neighbours")
		}
		if err := p.NearestExact(queries, k, k, index, distance[1:]); err == nil {
			t.Error("a distance without room")
		}
	}
	// Without room for both, points are there prepared, or not at all, and say so.
	d := open(t, Options{Rerank: true})
	_, limit := d.Used()
	leave(d, limit/spare+prepared(700, cols)+4*cols)
	p, err := d.Load(points, cols, L2, slices.Repeat([]float32{1}, cols))
	if err != nil || !p.Resident() || p.Exact() {
		t.Fatalf("resident %v, as given %v, %v", p.Resident(), p.Exact(), err)
	}
	if err := p.NearestExact(queries, k, k, make([]int32, 151*k), make([]float32, 151*k)); err == nil {
		t.Error("distances without rows")
	}
}

// TestCUDATensorProduct: tensor cores keep their bound, and rows that they cannot take, of either side, are multiplied as ever.
func TestCUDATensorProduct(t *testing.T) {
	d := open(t, Options{Tensor: true})
	rng := rand.New(rand.NewPCG(21, 22))
	for _, c := range [][3]int{{1, 1, 1}, {130, 257, 33}, {3, laneBytes/4/128 + 5, 1}} {
		n, m, cols := c[0], c[1], c[2]
		a, b, dst := draw(rng, n*cols), draw(rng, m*cols), make([]float32, n*m)
		for _, odd := range []func(){func() {}, func() { a[len(a)-1] = float32(math.Inf(1)) }, func() { a[len(a)-1], b[0] = 1, 1e30 }} {
			odd()
			if err := d.Product(dst, a, b, cols); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				for j := range m {
					want, x, y := 0.0, 0.0, 0.0
					for k := range cols {
						v, w := float64(a[i*cols+k]), float64(b[j*cols+k])
						want += v * w
						x += v * v
						y += w * w
					}
					got, allowed := float64(dst[i*m+j]), (float64(cols)/16+2.2*float64(min(cols, 16))+6)*unit*math.Sqrt(x*y)
					if got != want && !(math.Abs(got-want) <= allowed) && !(math.IsNaN(got) && math.IsNaN(want)) {
						t.Fatalf("%d × %d by %d: value %d, %d is %v, want %v within %g", n, cols, m, i, j, got, want, allowed)
					}
				}
			}
		}
	}
}

// TestCUDARowsLost: what a lost device was asked wraps ErrLost, whatever it was.
func TestCUDARowsLost(t *testing.T) {
	emulated(t)
	data := draw(rand.New(rand.NewPCG(23, 24)), 300*4)
	for name, ask := range map[string]func(r *Rows) error{
		"mean":        func(r *Rows) error { _, err := r.Mean(make([]float32, 4)); return err },
		"product":     func(r *Rows) error { return r.Product(make([]float32, 300), data[:4]) },
		"covariance":  func(r *Rows) error { return r.Covariance(make([]float32, 16), 1) },
		"step":        func(r *Rows) error { return r.Step(make([]float32, 4), data[:4]) },
		"select":      func(r *Rows) error { return r.Select(make([]float32, 4), []int64{7}) },
		"mahalanobis": func(r *Rows) error { return r.Mahalanobis(make([]float32, 300), data[:16]) },
		"depth":       func(r *Rows) error { return r.Depth(make([]float32, 300), &Forest{}) },
	} {
		t.Setenv("TASTER_FAKE_CUDA", "launches=1") // the rows' lengths are the first
		d := open(t, Options{})
		r, err := d.Keep(data, 4, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ask(r); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
