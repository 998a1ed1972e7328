//go:build race

package reuse

import (
	"sync"
	"unsafe"
)

// ledger knows what is lent, and has memory that comes back written over and thrown away.
type ledger struct {
	mu   sync.Mutex
	lent map[uintptr]int // by address, the size
}

// nonsense is what memory is written over with: no length, no offset and no text that anybody would take for right.
const nonsense = 0xDB

func fill(b []byte) {
	for i := range b {
		b[i] = nonsense
	}
}

// lend notes that memory is lent.
func (l *ledger) lend(b []byte) []byte {
	all := b[:cap(b)]
	fill(all)
	if len(all) == 0 {
		return b
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent == nil {
		l.lent = map[uintptr]int{}
	}
	l.lent[uintptr(unsafe.Pointer(unsafe.SliceData(all)))] = len(all)
	return b
}

// back tells whether memory that comes back can be used again, which it never can.
func (l *ledger) back(b []byte) bool {
	all := b[:cap(b)]
	at := uintptr(unsafe.Pointer(unsafe.SliceData(all)))
	l.mu.Lock()
	size, ok := l.lent[at]
	delete(l.lent, at)
	l.mu.Unlock()
	if !ok || size != len(all) {
		panic("reuse: memory was given back that is not lent")
	}
	fill(all)
	return false
}
