package detect

import "sync"

// Shared keeps what several detectors make of the same sample, its tokens say, so that it is made once. It is safe for
// concurrent use, and lives as long as the work on one sample: one segment that is judged, one part of a reference that
// is learned from.
type Shared struct {
	mu    sync.Mutex
	made  map[any]any // func() T
	atEnd []func()
}

// AtEnd has f called when the work on the sample is over, of which [Shared.End] tells: what only that needed can then serve the next sample. It is
// not called where nothing is shared, or where nobody tells.
func AtEnd(env Env, f func()) {
	if env.Shared == nil {
		return
	}
	env.Shared.mu.Lock()
	defer env.Shared.mu.Unlock()
	env.Shared.atEnd = append(env.Shared.atEnd, f)
}

// End tells that the work on the sample is over: nothing is asked for by Once again, and nobody reads what was made, but for what an Explain reads.
func (s *Shared) End() {
	s.mu.Lock()
	last := s.atEnd
	s.made, s.atEnd = nil, nil
	s.mu.Unlock()
	for _, f := range last {
		f()
	}
}

// Once returns what make returns, which is called once for each key. Whoever asks while it is being made waits. Without
// env.Shared it is made each time. A key is of a type of its maker's own, and names the sample, by its address, and
// whatever else the result depends on; what is made must not be changed.
func Once[T any](env Env, key any, make func() T) T {
	if env.Shared == nil {
		return make()
	}
	env.Shared.mu.Lock()
	once, ok := env.Shared.made[key].(func() T)
	if !ok {
		if env.Shared.made == nil {
			env.Shared.made = map[any]any{}
		}
		once = sync.OnceValue(make)
		env.Shared.made[key] = once
	}
	env.Shared.mu.Unlock()
	return once()
}
