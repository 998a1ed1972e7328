package linalg

import (
	"math"
	"testing"
	"unsafe"

	"github.com/tasterhq/taster/detect/border"
)

// TestNarrowKernelsStayInside: who reads or writes behind a slice dies.
func TestNarrowKernelsStayInside(t *testing.T) {
	for _, k := range narrowKernels() {
		for _, n := range []int{8, 16, 64, 640} {
			for _, width := range []int{2, 4, 8, 16} {
				query, points, out, kept := border.Of[float64](t, width), border.Of[float64](t, n*width), border.Of[float64](t, n), border.Of[float64](t, n+eight)
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

// TestKernelsStayInside: what has whole vectors reads and writes nothing else.
func TestKernelsStayInside(t *testing.T) {
	for _, level := range Levels() {
		k := level.kernel()
		for _, n := range []int{8, 16, 384} {
			row, wide := border.Of[float32](t, n), border.Of[float64](t, n)
			k.prefetch(row)
			k.norm(row)
			k.wideNorm(row)
			k.widen(wide, row)
			k.times(border.Of[float32](t, n), row, border.Of[float32](t, n))
		}
		for _, n := range []int{1, 3, 4, 5, 8} {
			points, query, out := border.Of[float32](t, n*16), border.Of[float64](t, 16), border.Of[float64](t, n)
			room := border.Of[float32](t, n)
			index := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(room))), n)
			for i := range index {
				index[i] = int32(n - 1 - i)
			}
			k.dots(index, 16, query, points, out)
			k.squares(index, 16, query, points, out)
		}
	}
	for _, level := range Levels() {
		level.kernel().cosines(border.Of[float64](t, 16), border.Of[float64](t, 16), 1)
	}
	for _, k := range wordKernels() {
		index := border.Of[float32](t, 64+16)
		k.indexFrom(border.Of[float32](t, 64), 0, unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(index))), len(index)))
		for _, n := range []int{16, 48, 384} {
			k.words(border.Of[float32](t, n/2), border.Of[float32](t, n), 1)
			for rows := 1; rows < len(k.wordTiles); rows++ {
				a, b := border.Of[float32](t, rows*n/2), border.Of[float32](t, k.cols*n/2)
				from, dst := border.Of[float32](t, k.cols), border.Of[float32](t, rows*k.cols)
				k.wordTiles[rows](n/2, a, n/2, b, from, 0, dst, k.cols)
			}
		}
	}
}
