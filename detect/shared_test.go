package detect

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOnce(t *testing.T) {
	type key struct{ of *Sample }
	var made atomic.Int32
	make := func() int32 { return made.Add(1) }
	a, b := &Sample{}, &Sample{}
	env := Env{Shared: &Shared{}}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if got := Once(env, key{a}, make); got != 1 {
				t.Errorf("made again: %d", got)
			}
		})
	}
	wait.Wait()
	if got := Once(env, key{b}, make); got != 2 {
		t.Errorf("another sample has got %d, want its own", got)
	}
	if got := Once(Env{}, key{a}, make); got != 3 {
		t.Errorf("without anything shared %d came back, want it to be made anew", got)
	}
}

func TestEachAndChunks(t *testing.T) {
	for _, n := range []int{0, 1, 7, 64, 65} {
		for _, workers := range []int{0, 1, 3, 100} {
			calls := make([]atomic.Int32, n)
			Each(n, workers, func(i int) { calls[i].Add(1) })
			var goroutines atomic.Int32
			Chunks(n, 8, workers, func() func(first, end int) {
				goroutines.Add(1)
				return func(first, end int) {
					if first%8 != 0 || end != min(first+8, n) {
						t.Errorf("n = %d: a piece from %d to %d", n, first, end)
					}
					for i := first; i < end; i++ {
						calls[i].Add(1)
					}
				}
			})
			for i := range calls {
				if got := calls[i].Load(); got != 2 {
					t.Errorf("n = %d, %d workers: %d was worked on %d times, want once by each", n, workers, i, got)
				}
			}
			if got := int(goroutines.Load()); got > max(1, workers) {
				t.Errorf("n = %d: %d goroutines, want at most %d", n, got, workers)
			}
		}
	}
}

// What was lent for one sample is given back once, when the work on it is over, and serves the next.
func TestAtEnd(t *testing.T) {
	var shelf Shelf[[]int]
	whatever := func([]int) bool { return true }
	if _, ok := shelf.Take(whatever); ok {
		t.Error("an empty shelf gives something")
	}
	env := Env{Shared: &Shared{}}
	for n := range 4 {
		AtEnd(env, func() { shelf.Put(make([]int, n)) })
	}
	AtEnd(Env{}, func() { t.Error("called without anything shared") })
	env.Shared.End()
	env.Shared.End()
	if one, ok := shelf.Take(func(s []int) bool { return len(s) == 0 }); !ok || len(one) != 0 {
		t.Errorf("%v, %v: want what fits", one, ok)
	}
	if _, ok := shelf.Take(whatever); ok {
		t.Error("what did not fit was kept, or given back twice")
	}
	type key struct{}
	if Once(env, key{}, func() int { return 7 }) != 7 {
		t.Error("nothing is made after the end")
	}
}

// TestShelfAges has what fits all that comes go at last, and what is made anew serve until then.
func TestShelfAges(t *testing.T) {
	var shelf Shelf[[]int]
	lent := [][]int{make([]int, 1000), make([]int, 1000)} // the largest samples of all, at the same time
	made := 0
	for range 20 * shelved {
		shelf.Put(lent[0])
		lent = lent[1:]
		one, ok := shelf.Take(func(s []int) bool { return len(s) >= 10 })
		if !ok {
			one = make([]int, 10)
			made++
		}
		lent = append(lent, one)
	}
	if len(lent[0]) > 10 || len(lent[1]) > 10 || made > 20 {
		t.Errorf("%d and %d are in use, after %d were made anew", len(lent[0]), len(lent[1]), made)
	}
}

// TestPassing has what passes be made once while somebody's work lasts, and again, the same, afterwards.
func TestPassing(t *testing.T) {
	made := 0
	p := NewPassing(func() *[1 << 16]byte { made++; return &[1 << 16]byte{1} })
	for work := range 3 {
		env := Env{Shared: &Shared{}}
		for range 2 {
			if p.Get(env)[0] != 1 {
				t.Fatal("something else was made")
			}
			runtime.GC()
		}
		if made != work+1 {
			t.Fatalf("made %d times", made)
		}
		env.Shared.End()
		runtime.GC()
	}
	p.Get(Env{})
	runtime.GC()
	if p.Get(Env{}); made != 4 {
		t.Errorf("where nothing is shared it was made %d times", made-3)
	}
}
