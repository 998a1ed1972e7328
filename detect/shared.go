package detect

import "sync"

// Shared keeps what several detectors make of the same sample, its tokens say, so that it is made once. It is safe for
// concurrent use, and lives as long as the work on one sample: one segment that is judged, one part of a reference that
// is learned from.
type Shared struct {
	mu   sync.Mutex
	made map[any]any // func() T
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
