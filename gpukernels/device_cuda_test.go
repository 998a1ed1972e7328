//go:build cuda && cgo && linux && amd64

package gpukernels

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
	"time"
)

func open(t *testing.T, o Options) *Device {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatalf("%v; make test-cuda brings an emulated device, make test-gpu wants a real one", err)
	}
	t.Cleanup(func() {
		d.Close()
		<-d.ended // a lost one, too: its memory would count against the next test's
	})
	return d
}

// emulated skips what needs a device that can be broken.
func emulated(t *testing.T) {
	t.Helper()
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(devices[0].Name, "emulated") {
		t.Skip("real devices are not broken")
	}
}

func draw(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

// nearest by definition, of whole numbers, whose products are exact.
func nearest(points, queries []float32, cols, k int) []int32 {
	var all []int32
	type place struct {
		square float64
		index  int32
	}
	for q := 0; q < len(queries); q += cols {
		var places []place
		for p := 0; p < len(points); p += cols {
			square := 0.0
			for c := range cols {
				d := float64(points[p+c] - queries[q+c])
				square += d * d
			}
			places = append(places, place{square, int32(p / cols)})
		}
		slices.SortFunc(places, func(a, b place) int {
			if a.square != b.square {
				return int(a.square - b.square)
			}
			return int(a.index - b.index)
		})
		for i := range k {
			if i < len(places) {
				all = append(all, places[i].index)
			} else {
				all = append(all, -1)
			}
		}
	}
	return all
}

func whole(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.IntN(9) - 4)
	}
	return out
}

func sorted(index []int32, k int) []int32 {
	out := slices.Clone(index)
	for q := 0; q < len(out); q += k {
		slices.SortFunc(out[q:q+k], func(a, b int32) int { return int(uint32(a)) - int(uint32(b)) }) // -1 last
	}
	return out
}

// TestCUDANearest: resident or in pieces, in one lane or several, the neighbours are those of the definition.
func TestCUDANearest(t *testing.T) {
	const cols = 20
	rng := rand.New(rand.NewPCG(1, 2))
	points := whole(rng, 700*cols)
	want := map[int][]int32{}
	queries := whole(rng, 150*cols)
	for _, k := range []int{1, 16, 128} {
		want[k] = sorted(nearest(points, queries, cols, k), k)
	}
	fixed, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	lanesOnly, _ := fixed.Used()
	fixed.Close()
	for name, memory := range map[string]int64{"resident": 0, "in pieces": lanesOnly + 6<<20} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{Memory: memory})
			if name != "resident" {
				// What is resident already leaves room for a few hundred rows.
				_, limit := d.Used()
				d.mu.Lock()
				d.used = limit - 3*prepared(256, cols) - int64(d.blocks)*256<<10
				d.mu.Unlock()
			}
			p, err := d.Load(points, cols, L2, nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.Resident() != (name == "resident") {
				t.Fatalf("resident: %v", p.Resident())
			}
			for k := range want {
				got := make([]int32, 150*k)
				if err := p.Nearest(queries, k, got); err != nil {
					t.Fatal(err)
				}
				if got = sorted(got, k); !slices.Equal(got, want[k]) {
					t.Fatalf("k = %d: other neighbours than by definition", k)
				}
			}
			if err := p.Nearest(queries, 129, make([]int32, 150*129)); err == nil {
				t.Error("129 neighbours")
			}
			if err := p.Nearest(queries[1:], 1, make([]int32, 150)); err == nil {
				t.Error("a query that lacks a value")
			}
		})
	}
}

// TestCUDALanes: more queries than a lane takes, asked for by several at once.
func TestCUDALanes(t *testing.T) {
	const cols = 2
	d := open(t, Options{})
	rng := rand.New(rand.NewPCG(3, 4))
	points, queries := whole(rng, 40*cols), whole(rng, (mostQueries+300)*cols)
	p, err := d.Load(points, cols, L2, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := sorted(nearest(points, queries, cols, 3), 3)
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			got := make([]int32, len(queries)/cols*3)
			if err := p.Nearest(queries, 3, got); err != nil || !slices.Equal(sorted(got, 3), want) {
				t.Errorf("beside others: %v", err)
			}
		})
	}
	wait.Wait()
}

// TestCUDAProduct in one piece and in several, of both sides.
func TestCUDAProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range [][3]int{{1, 1, 1}, {130, 257, 33}, {3, laneBytes/4/128 + 5, 1}, {2*laneBytes/4/3000 + 1, 2, 3000}} {
		n, m, cols := c[0], c[1], c[2]
		d := open(t, Options{})
		a, b, dst := whole(rng, n*cols), whole(rng, m*cols), make([]float32, n*m)
		if err := d.Product(dst, a, b, cols); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for j := range m {
				want := float32(0)
				for k := range cols {
					want += a[i*cols+k] * b[j*cols+k]
				}
				if dst[i*m+j] != want {
					t.Fatalf("%d × %d by %d: value %d, %d is %v, want %v", n, cols, m, i, j, dst[i*m+j], want)
				}
			}
		}
		d.Close()
	}
}

// TestCUDAFreed: the memory of points that nobody can reach is used again.
func TestCUDAFreed(t *testing.T) {
	d := open(t, Options{})
	one := func() {
		if _, err := d.Load(make([]float32, 1000*16), 16, Cosine, nil); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := d.Used()
	one()
	if after, _ := d.Used(); after < before+1000*16*4 {
		t.Fatalf("%d bytes are in use with points, %d without", after, before)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		runtime.GC()
		one() // whatever is asked next frees
		if used, _ := d.Used(); used <= before+2*prepared(1000, 16) {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d bytes are in use, %d without points", used, before)
		}
	}
}

// TestCUDALost: a device that fails says so from then on, and Open begins anew.
func TestCUDALost(t *testing.T) {
	emulated(t)
	for _, at := range []string{"launches=0", "launches=1", "launches=3"} {
		t.Setenv("TASTER_FAKE_CUDA", at)
		d := open(t, Options{})
		rng := rand.New(rand.NewPCG(7, 8))
		points := draw(rng, 300*5)
		p, err := d.Load(points, 5, Cosine, nil)
		for err == nil {
			err = p.Nearest(points, 4, make([]int32, 300*4))
		}
		if !errors.Is(err, ErrLost) || errors.Is(err, ErrMemory) {
			t.Fatalf("%s: %v", at, err)
		}
		if again := d.Product(make([]float32, 1), points[:1], points[:1], 1); !errors.Is(again, ErrLost) || again.Error() != err.Error() {
			t.Fatalf("%s: %v, and then %v", at, err, again)
		}
		d.Close()
		if err := d.Product(make([]float32, 1), points[:1], points[:1], 1); !errors.Is(err, ErrLost) {
			t.Fatalf("%s: after it was closed: %v", at, err)
		}
	}
	t.Setenv("TASTER_FAKE_CUDA", "")
	d, one := open(t, Options{}), make([]float32, 1)
	if err := d.Product(one, []float32{2}, []float32{3}, 1); err != nil || one[0] != 6 {
		t.Fatalf("after the loss: %v, %v", one, err)
	}
}

// TestCUDAHangs: a device that does not answer is lost.
func TestCUDAHangs(t *testing.T) {
	emulated(t)
	t.Setenv("TASTER_FAKE_CUDA", "hang=0")
	d := open(t, Options{})
	d.patience = 30 * time.Millisecond
	if err := d.Product(make([]float32, 1), []float32{2}, []float32{3}, 1); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "no answer") {
		t.Fatalf("%v", err)
	}
}

// TestCUDAMemory: what does not fit is told from a loss, and smaller questions are answered after it.
// A device that hangs while its memory does not suffice is lost: want of memory alone would have it asked again.
func TestCUDAHangsWithoutMemory(t *testing.T) {
	emulated(t)
	t.Setenv("TASTER_FAKE_CUDA", "hang=0")
	d := open(t, Options{})
	d.patience = 30 * time.Millisecond
	for range 2 {
		err := d.do(func() error {
			if err := d.launch(d.lane[0], "rows_prepare", [3]int{1, 1, 1}, make([]uint64, 10)...); err != nil {
				return err
			}
			return fmt.Errorf("%w: too large", ErrMemory)
		})
		if !errors.Is(err, ErrLost) || errors.Is(err, ErrMemory) {
			t.Fatalf("%v", err)
		}
	}
}

func TestCUDAMemory(t *testing.T) {
	emulated(t)
	t.Setenv("TASTER_FAKE_CUDA", "memory=50000000")
	d := open(t, Options{})
	if _, limit := d.Used(); limit != 45000000 {
		t.Errorf("limit %d of 50000000 bytes", limit)
	}
	long := make([]float32, 3_000_000)
	if err := d.Product(make([]float32, 1), long, long, len(long)); !errors.Is(err, ErrMemory) || errors.Is(err, ErrLost) {
		t.Fatalf("rows of 12 MB: %v", err)
	}
	t.Setenv("TASTER_FAKE_CUDA", "memory=35000000") // somebody else took the rest
	if err := d.Product(make([]float32, 1), long[:2_000_000], long[:2_000_000], 2_000_000); !errors.Is(err, ErrMemory) {
		t.Fatalf("the driver's want of memory: %v", err)
	}
	one := make([]float32, 1)
	if err := d.Product(one, []float32{2}, []float32{3}, 1); err != nil || one[0] != 6 {
		t.Fatalf("a small question after a large one: %v, %v", one, err)
	}
	t.Setenv("TASTER_FAKE_CUDA", "memory=20000000")
	if _, err := Open(Options{}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrMemory) {
		t.Fatalf("a device without room for its lanes: %v", err)
	}
}

// TestCUDAOpen: what cannot be opened says why.
func TestCUDAOpen(t *testing.T) {
	if _, err := Open(Options{Device: 1 << 20}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "there is no device 1048576") {
		t.Errorf("%v", err)
	}
	emulated(t)
	t.Setenv("TASTER_FAKE_CUDA", "devices=3")
	if d := open(t, Options{Device: 2}); d.Info().Index != 2 || d.Info().Name != "emulated device 2" {
		t.Errorf("device 2 is %+v", d.Info())
	}
	t.Setenv("TASTER_FAKE_CUDA", "compute=75")
	if _, err := Open(Options{}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "7.5; the kernels need 8.0") {
		t.Errorf("%v", err)
	}
	t.Setenv("TASTER_FAKE_CUDA", "devices=0")
	if err := Available(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "finds no device") {
		t.Errorf("%v", err)
	}
}

// TestCUDARowsThatTakeNoPart have no neighbours and are nobody's.
func TestCUDARowsThatTakeNoPart(t *testing.T) {
	d := open(t, Options{})
	nan := float32(math.NaN())
	p, err := d.Load([]float32{1, 2, nan, 0, 3, 4}, 2, L2, []float32{2, 3})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]int32, 6)
	if err := p.Nearest([]float32{1, 2, nan, nan}, 3, got); err != nil {
		t.Fatal(err)
	}
	if got = sorted(got, 3); !slices.Equal(got, []int32{0, 2, -1, -1, -1, -1}) {
		t.Fatalf("neighbours %v", got)
	}
	empty, err := d.Load(nil, 2, L2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Nearest([]float32{1, 2}, 1, got[:1]); err != nil || got[0] != -1 {
		t.Fatalf("neighbours %v among none: %v", got[:1], err)
	}
}
