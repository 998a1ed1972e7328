// Package reuse gives memory that is needed no more to who needs some next, instead of to the garbage collector.
//
// What a record path needs comes and goes in large pieces of much the same sizes: the columns of a batch, the pages of a
// file. New ones cost more than the work that is done on them: the system has to map them, somebody has to clear them,
// and the collector has to run for them. A Pool keeps what was given back and hands it out again as it is, whatever it
// holds: whoever takes memory writes all that anybody will read.
//
// That is only as good as the proof that nobody reads what was given back. In programs that are built with the race
// detector, memory that is given back is written over and never used again: who reads it too late reads nonsense, and
// who does so on another goroutine is told. There, memory that is given back twice, or never was a Pool's, panics.
//
// Large pieces are all it keeps: the collector is good at small ones.
package reuse

import (
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Memory is kept in sizes of which there are four to each power of two, so that at most a fifth of what is handed out is
// too much. Whatever is smaller or larger is the collector's.
const (
	smallest = 4 << 10 // not kept itself
	largest  = 16 << 20
	sizes    = 4 * 12 // from smallest to largest
)

// period is after how many Gets a Pool lets go of what it had too much of all the while: as many as some million records
// need.
const period = 4096

// idle is how long a Pool that nobody asks keeps what it has.
const idle = time.Minute

// Pool keeps memory for those who will need some. It is safe for concurrent use, and an arrow memory.Allocator. Its zero
// value is ready.
type Pool struct {
	// Most is how many bytes are kept at most; 0 is 24 MiB. What is over that goes by age.
	Most int

	mu   sync.Mutex
	free [sizes]shelf
	held int // bytes on all shelves
	gets uint64

	watch sync.Once
	out   ledger
}

// shelf has free memory of one size, that which was given back last on top.
type shelf struct {
	pieces []piece
	spare  int // how many of them nobody needed since the period began
}

type piece struct {
	b  []byte
	at uint64 // how many Gets there had been
}

// take takes the top piece off a shelf that has one.
func (s *shelf) take() []byte {
	last := len(s.pieces) - 1
	b := s.pieces[last].b
	s.pieces[last] = piece{}
	s.pieces = s.pieces[:last]
	s.spare = min(s.spare, last)
	return b
}

// Shared is the process's own.
var Shared Pool

// classOf returns the least of the sizes that hold n bytes, and its number; -1 where such memory is not kept.
func classOf(n int) (class, size int) {
	if n <= smallest || n > largest {
		return -1, n
	}
	k := bits.Len(uint(n - 1)) // n is in (2^(k-1), 2^k]
	quarter := (n - 1) >> (k - 3) & 3
	return 4*(k-13) + quarter, 1<<(k-1) + (quarter+1)<<(k-3)
}

// Get returns n bytes, which hold anything.
func (p *Pool) Get(n int) []byte {
	class, size := classOf(n)
	if class < 0 {
		return p.out.lend(make([]byte, n))
	}
	p.mu.Lock()
	if p.gets++; p.gets%period == 0 {
		p.trim()
	}
	for c := class; c < min(class+2, sizes); c++ { // the next size is better than new memory
		if s := &p.free[c]; len(s.pieces) > 0 {
			b := s.take()
			p.held -= cap(b)
			p.mu.Unlock()
			return p.out.lend(b[:n])
		}
	}
	p.mu.Unlock()
	return p.out.lend(make([]byte, n, size))
}

// Put takes memory back that Get returned, all of it, and that nobody will look at again.
func (p *Pool) Put(b []byte) {
	if cap(b) == 0 || !p.out.back(b) {
		return
	}
	class, size := classOf(cap(b))
	if class < 0 || size != cap(b) {
		return
	}
	p.watch.Do(p.forget)
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.Most
	if most == 0 {
		most = 24 << 20
	}
	if size > most {
		return
	}
	for p.held+size > most {
		p.dropOldest()
	}
	p.held += size
	p.free[class].pieces = append(p.free[class].pieces, piece{b[:0], p.gets})
}

// dropOldest lets go of what has lain longest. It runs under mu, and where something is held.
func (p *Pool) dropOldest() {
	var oldest *shelf
	for c := range p.free {
		if s := &p.free[c]; len(s.pieces) > 0 && (oldest == nil || s.pieces[0].at < oldest.pieces[0].at) {
			oldest = s
		}
	}
	p.held -= cap(oldest.pieces[0].b)
	oldest.pieces = slices.Delete(oldest.pieces, 0, 1)
	oldest.spare = min(oldest.spare, len(oldest.pieces))
}

// trim lets go of what nobody needed since it was called last. It runs under mu.
func (p *Pool) trim() {
	for c := range p.free {
		s := &p.free[c]
		for _, old := range s.pieces[:s.spare] {
			p.held -= cap(old.b)
		}
		s.pieces = slices.Delete(s.pieces, 0, s.spare)
		s.spare = len(s.pieces)
	}
}

// forget has all let go of once nobody has asked for long. It looks whenever the collector has run, which it does every
// few minutes at least.
func (p *Pool) forget() {
	type beacon struct{ _ *byte } // with a pointer: what has none may share its memory with others and stay
	var seen uint64
	var since time.Time
	var light func()
	light = func() {
		runtime.SetFinalizer(&beacon{}, func(*beacon) {
			p.mu.Lock()
			if now := time.Now(); p.gets != seen {
				seen, since = p.gets, now
			} else if now.Sub(since) > idle {
				p.drop()
			}
			p.mu.Unlock()
			light()
		})
	}
	light()
}

// drop lets go of everything. It runs under mu.
func (p *Pool) drop() {
	p.free, p.held = [sizes]shelf{}, 0
}

// Held returns how many bytes are kept.
func (p *Pool) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Allocate implements memory.Allocator.
func (p *Pool) Allocate(size int) []byte { return p.Get(size) }

// Reallocate implements memory.Allocator.
func (p *Pool) Reallocate(size int, b []byte) []byte {
	if size <= cap(b) {
		return b[:size]
	}
	larger := p.Get(size)
	copy(larger, b)
	p.Put(b)
	return larger
}

// Free implements memory.Allocator.
func (p *Pool) Free(b []byte) { p.Put(b) }
