package detect

import (
	"slices"
	"sync"
)

// Shelf keeps a few large things that were made for one sample for the next one: what comes new from the system has to be cleared page by page, which
// takes longer than to fill it.
type Shelf[T any] struct {
	mu   sync.Mutex
	free []T
}

const mostShelved = 2

// Take returns one that fits, if there is any. Those that do not are let go of.
func (s *Shelf[T]) Take(fits func(T) bool) (one T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
