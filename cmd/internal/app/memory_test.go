package app

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestGroupLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n":                 math.MaxInt64,
		"":                      math.MaxInt64,
		"-1":                    math.MaxInt64,
		"0":                     math.MaxInt64,
		"268435456\n":           268435456 / 5 * 4,
		"9223372036854771712\n": 9223372036854771712 / 5 * 4, // version 1 writes none like this
	} {
		if got := groupLimit([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(1 << 40)
	t.Setenv("GOMEMLIMIT", "1TiB")
	LimitMemory()
	if got := debug.SetMemoryLimit(-1); got != 1<<40 {
		t.Errorf("the operator's limit became %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	LimitMemory()
	if got := debug.SetMemoryLimit(-1); got > softLimit || got <= 0 {
		t.Errorf("the limit is %d, want at most %d", got, softLimit)
	}
}
