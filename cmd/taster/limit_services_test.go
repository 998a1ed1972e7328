//go:build services && linux

package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// limit bounds the size of the files that a running instance may write. The function that it returns lifts the bound.
func limit(t *testing.T, i *instance, bytes uint64) (lift func()) {
	t.Helper()
	var before unix.Rlimit
	set := func(r *unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(i.cmd.Process.Pid, unix.RLIMIT_FSIZE, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Prlimit(i.cmd.Process.Pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		t.Fatal(err)
	}
	set(&unix.Rlimit{Cur: bytes, Max: before.Max})
	return func() { set(&before) }
}
