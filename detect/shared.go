package detect

import (
	"sync"
	"weak"
)

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

// Passing is what a model needs for as long as the work on the sample lasts that it was fitted to, and hardly ever afterwards: what judges that
// very sample. It is kept for as long as env.Shared is, of whoever asked, and made again, the same, for who asks later. Where nothing is shared it
// is kept.
type Passing[T any] struct {
	mu   sync.Mutex
	make func() *T
	kept *T
	seen weak.Pointer[T]
}

// NewPassing returns what make makes when it is first asked for. Whatever make reads is kept.
func NewPassing[T any](make func() *T) *Passing[T] { return &Passing[T]{make: make} }

// Get returns it. Who asks while it is being made waits.
func (p *Passing[T]) Get(env Env) *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.seen.Value()
	if one == nil {
		one = p.make()
		p.seen = weak.Make(one)
	}
	if env.Shared == nil {
		p.kept = one
	} else {
		Once(env, p, func() *T { return one }) // holds it
	}
	return one
}
