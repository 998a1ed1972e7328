package detect

import (
	"slices"
	"sync"
)

// Shelf keeps a few large things that were made for one sample for the next one: what comes new from the system has to be cleared page by page, which
// takes longer than to fill it. What served the largest sample of all would fit any, so from time to time all goes and what comes next is as large as it
// has to be. A Shelf that nobody asks keeps what it has.
type Shelf[T any] struct {
	mu    sync.Mutex
	free  []T
	taken int
}

// shelved is after how many Takes all goes: seldom enough that new memory costs nothing to speak of. It is odd so that of two that serve in
// turn neither is always lent when the others go.
const shelved = 63

const mostShelved = 2

// Take returns one that fits, if there is any. Those that do not are let go of.
func (s *Shelf[T]) Take(fits func(T) bool) (one T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken++; s.taken%shelved == 0 {
		s.free = nil
	}
	for len(s.free) > 0 && !ok {
		last := len(s.free) - 1
		one = s.free[last]
		s.free = slices.Delete(s.free, last, last+1)
		ok = fits(one)
	}
	return one, ok
}

// Put gives one back, which nobody uses any more.
func (s *Shelf[T]) Put(one T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < mostShelved {
		s.free = append(s.free, one)
	}
}
