//go:build !amd64

package linalg

const hasTile = false

func packPoints(points []float32, cols int, bias []float32) func() product {
	return gonumPoints(points, cols, bias)
}

func countAbove(values []float32, bar float32) int { return countAbovePortable(values, bar) }

func markFrom(values []float32, bar float32, marks []uint64) { markFromPortable(values, bar, marks) }

func tiledProduct(dst, a, b Matrix) { gonumProductOf(dst, a, b) }
