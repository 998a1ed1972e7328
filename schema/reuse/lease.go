package reuse

import "sync/atomic"

// Lease is memory of a Pool that several hold, such as lines of a file that are decoded side by side. The last to let go
// gives it back. A nil Lease is memory that is the collector's: to hold it or to let go of it does nothing.
type Lease struct {
	pool    *Pool
	b       []byte
	holders atomic.Int32
}

// Lease returns n bytes, which hold anything, and which the caller holds.
func (p *Pool) Lease(n int) *Lease {
	l := &Lease{pool: p, b: p.Get(n)}
	l.holders.Store(1)
	return l
}

// Bytes returns the memory.
func (l *Lease) Bytes() []byte { return l.b }

// Hold has one more hold it. Only who holds it already can say so.
func (l *Lease) Hold() *Lease {
	if l != nil {
		l.holders.Add(1)
	}
	return l
}

// Release lets go of it once.
func (l *Lease) Release() {
	if l == nil {
		return
	}
	switch left := l.holders.Add(-1); {
	case left == 0:
		l.pool.Put(l.b)
		l.b = nil
	case left < 0:
		panic("reuse: a lease was let go of by somebody who did not hold it")
	}
}
