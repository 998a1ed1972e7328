//go:build !linux

package nearduplicate

import "testing"

// atBorder returns n bytes. Only on Linux does a test guard what stands behind them.
func atBorder(_ *testing.T, n int) []byte { return make([]byte, n) }
