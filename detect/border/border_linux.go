package border

import (
	"syscall"
	"testing"
	"unsafe"
)

// Of returns n zeros at the end of a page, the next of which is forbidden.
func Of[T any](t testing.TB, n int) []T {
	t.Helper()
	var value T
	page, bytes := syscall.Getpagesize(), n*int(unsafe.Sizeof(value))
	if bytes == 0 {
		return []T{}
	}
	size := (bytes + page - 1) / page * page
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
	return unsafe.Slice((*T)(unsafe.Pointer(&all[size-bytes])), n)
}
