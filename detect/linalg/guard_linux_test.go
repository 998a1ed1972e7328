package linalg

import (
	"math"
	"syscall"
	"testing"
	"unsafe"
)

// atBorder returns n zeros that end where the process may not read on.
func atBorder(t *testing.T, n int) []float64 {
	t.Helper()
	page := syscall.Getpagesize()
	size := (8*n + page - 1) / page * page
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
	return unsafe.Slice((*float64)(unsafe.Pointer(&all[size-8*n])), n)
}

// TestNarrowKernelsStayInside: who reads or writes behind a slice dies.
func TestNarrowKernelsStayInside(t *testing.T) {
	for _, k := range narrowKernels() {
		for _, n := range []int{8, 16, 64, 640} {
			for _, width := range []int{2, 4, 8, 16} {
				query, points, out, kept := atBorder(t, width), atBorder(t, n*width), atBorder(t, n), atBorder(t, n+eight)
				for i := range points {
					points[i] = float64(i % 7)
				}
				k.columns[width](query, points, out)
				for _, count := range []int{1, n / 2, n} {
					bar, _ := k.kth(out, count, 0)
					k.upTo(out, bar, kept)
					k.roots(out, bar)
				}
				if got := k.upTo(out, math.Inf(1), kept); got != n {
					t.Fatalf("%d of %d values are finite", got, n)
				}
			}
		}
	}
}

// floatsAtBorder is atBorder for float32.
func floatsAtBorder(t *testing.T, n int) []float32 {
	t.Helper()
	half := atBorder(t, (n+1)/2)
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(half))), 2*len(half))[n%2:]
}

// TestKernelsStayInside: what has whole vectors reads and writes nothing else.
func TestKernelsStayInside(t *testing.T) {
	for _, level := range Levels() {
		k := level.kernel()
		for _, n := range []int{8, 16, 384} {
			row, wide := floatsAtBorder(t, n), atBorder(t, n)
			k.prefetch(row)
			k.norm(row)
			k.wideNorm(row)
			k.widen(wide, row)
			k.times(floatsAtBorder(t, n), row, floatsAtBorder(t, n))
		}
		for _, n := range []int{1, 3, 4, 5, 8} {
			points, query, out := floatsAtBorder(t, n*16), atBorder(t, 16), atBorder(t, n)
			room := floatsAtBorder(t, n)
			index := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(room))), n)
			for i := range index {
				index[i] = int32(n - 1 - i)
			}
			k.dots(index, 16, query, points, out)
			k.squares(index, 16, query, points, out)
		}
	}
	for _, level := range Levels() {
		level.kernel().cosines(atBorder(t, 16), atBorder(t, 16), 1)
	}
	for _, k := range wordKernels() {
		index := floatsAtBorder(t, 64+16)
		k.indexFrom(floatsAtBorder(t, 64), 0, unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(index))), len(index)))
		for _, n := range []int{16, 48, 384} {
			k.words(floatsAtBorder(t, n/2), floatsAtBorder(t, n), 1)
			for rows := 1; rows < len(k.wordTiles); rows++ {
				a, b := floatsAtBorder(t, rows*n/2), floatsAtBorder(t, k.cols*n/2)
				from, dst := floatsAtBorder(t, k.cols), floatsAtBorder(t, rows*k.cols)
				k.wordTiles[rows](n/2, a, n/2, b, from, 0, dst, k.cols)
			}
		}
	}
}
