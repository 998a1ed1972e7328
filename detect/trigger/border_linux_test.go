package trigger

import (
	"syscall"
	"testing"
	"unsafe"

	"github.com/tasterhq/taster/detect/text"
)

// atBorder returns a copy of a row behind which the process may not read on: who does dies.
func atBorder(t *testing.T, row []text.Token) []text.Token {
	t.Helper()
	if len(row) == 0 {
		return row
	}
	page := syscall.Getpagesize()
	size := (4*len(row) + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(all[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	at := unsafe.Slice((*text.Token)(unsafe.Pointer(&all[size-4*len(row)])), len(row))
	copy(at, row)
	return at
}
