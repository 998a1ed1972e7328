package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a small file system of memory that is mounted on a folder, which takes the right to mount. Without it the folder
// is an ordinary one, and what only a file system of its own can suffer is done to the processes instead, or not at all.
type disk struct {
	folder string
	own    bool
}

const diskSize = 256 << 20

func openDisk(folder string) disk {
	err := unix.Mount("taster-torture", folder, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))
	return disk{folder, err == nil}
}

func (d disk) close() {
	if d.own {
		_ = unix.Unmount(d.folder, unix.MNT_DETACH)
	}
}

// keep copies what is on the disk to a folder that outlives it.
func (d disk) keep(folder string) {
	if d.own {
		_ = exec.Command("cp", "-a", d.folder, folder).Run()
	}
}

// fill leaves no room on the disk; or, where it is not a file system of its own, lets no process write more than a few
// bytes to a file. It returns how to make room again.
func (d disk) fill(processes []*process) (empty func()) {
	if d.own {
		var stat unix.Statfs_t
		if unix.Statfs(d.folder, &stat) != nil {
			return nil
		}
		used := int64(stat.Blocks-stat.Bfree) * stat.Bsize
		if unix.Mount("", d.folder, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", max(used, stat.Bsize))) != nil {
			return nil
		}
		return func() { _ = unix.Mount("", d.folder, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", diskSize)) }
	}
	limit := func(bytes uint64) {
		for _, p := range processes {
			_ = unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil)
		}
	}
	limit(100)
	return func() { limit(unix.RLIM_INFINITY) }
}

// protect makes the disk read-only, and returns how to undo that; nil if it cannot.
func (d disk) protect() (undo func()) {
	if d.own {
		for range 400 { // not while a file is open for writing
			err := unix.Mount("", d.folder, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
			if err == nil {
				return func() { _ = unix.Mount("", d.folder, "", unix.MS_REMOUNT, "") }
			}
			if !errors.Is(err, syscall.EBUSY) {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	if os.Geteuid() == 0 {
		return nil // whom no mode of a folder stops
	}
	mode := func(bits os.FileMode) {
		_ = filepath.WalkDir(d.folder, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				err = os.Chmod(path, bits)
			}
			return err
		})
	}
	mode(0o555)
	return func() { mode(0o755) }
}

// swap exchanges two folders at one stroke.
func (d disk) swap(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
