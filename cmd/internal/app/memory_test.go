package app

import (
	"math"
	"runtime"
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

// The limit stays where it is while less is in use, leaves room above what is in use, and never asks for more than the
// control group has.
func TestLimitFollowsWhatIsInUse(t *testing.T) {
	const mib, none = 1 << 20, math.MaxInt64
	for _, c := range []struct{ live, other, ceiling, want int64 }{
		{100 * mib, 20 * mib, none, softLimit},
		{300 * mib, 20 * mib, none, softLimit},
		{480 * mib, 20 * mib, none, 560 * mib},
		{480 * mib, 20 * mib, 410 * mib, 410 * mib},
		{100 * mib, 20 * mib, 205 * mib, 205 * mib},
	} {
		if got := limitFor(c.live, c.other, c.ceiling); got != c.want {
			t.Errorf("%d MiB in use, %d beside: limit %d MiB, want %d", c.live/mib, c.other/mib, got/mib, c.want/mib)
		}
	}
	live, other := inUse()
	if other <= 0 || other > 4<<30 || live < 0 || live > 4<<30 {
		t.Errorf("%d bytes in use, %d beside", live, other)
	}
}

func TestAfterCollections(t *testing.T) {
	called := make(chan struct{}, 100)
	afterCollections(func() {
		select {
		case called <- struct{}{}:
		default:
		}
	})
	for range 3 {
		runtime.GC()
		<-called
	}
}
