package app

import (
	"fmt"
	"io/fs"
	"syscall"
)

// fileVersion tells one state of a file from every other: whoever writes to it, or puts another in its place, changes
// its inode or its time of change, which no program can set.
func fileVersion(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", stat.Ino, stat.Ctim.Sec, stat.Ctim.Nsec)
}
