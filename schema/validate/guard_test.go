//go:build unix

package validate

import (
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// fenced is an allocator whose memory ends where a page begins that may not be touched.
type fenced struct {
	t    testing.TB
	maps map[unsafe.Pointer][]byte
}

func (f *fenced) Allocate(size int) []byte {
	page := os.Getpagesize()
	pages := (size + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, pages+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := syscall.Mprotect(m[pages:], syscall.PROT_NONE); err != nil {
		f.t.Fatal(err)
	}
	b := m[pages-size : pages : pages]
	f.maps[unsafe.Pointer(unsafe.SliceData(b))] = m
	return b
}

func (f *fenced) Reallocate(size int, old []byte) []byte {
	b := f.Allocate(size)
	copy(b, old)
	f.Free(old)
	return b
}

func (f *fenced) Free(b []byte) {
	at := unsafe.Pointer(unsafe.SliceData(b))
	m, ok := f.maps[at]
	if !ok {
		return
	}
	delete(f.maps, at)
	if err := syscall.Munmap(m); err != nil {
		f.t.Fatal(err)
	}
}

// TestPassStaysInside reads records that end where memory ends, into columns that do, too.
func TestPassStaysInside(t *testing.T) {
	for _, w := range workloads() {
		s := compileText(t, w.schema, Options{Vectors: w.vectors})
		for _, with := range levels {
			mem := &fenced{t, map[unsafe.Pointer][]byte{}}
			d := s.NewDecoder(mem)
			d.pass.with, d.pass.sink.mem = with, mem
			for k, record := range w.records[:100] {
				b := mem.Allocate(margin + len(record) + margin)
				p := d.pass
				p.text, p.base, p.aside.src = b, unsafe.Pointer(&b[margin]), b[margin:]
				if !p.read(record) {
					t.Fatalf("%s, %s: left %q", w.name, with.name, record)
				}
				d.rows++
				if k%30 == 29 {
					d.Take().Release()
				}
				mem.Free(b)
				p.text = nil
			}
			d.Release()
			d.pass.sink.release()
		}
	}
}
