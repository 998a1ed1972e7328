package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// recorder writes down every call, with paths relative to the zone and temporary names made equal, and fails the one
// that begins with fail.
type recorder struct {
	fileSystem
	root string
	log  []string
	fail string
}

func (r *recorder) note(format string, args ...any) error {
	for i, a := range args {
		if path, ok := a.(string); ok {
			rel, err := filepath.Rel(filepath.Dir(r.root), path)
			if err != nil {
				rel = path
			}
			if dir, base := filepath.Split(rel); strings.HasSuffix(dir, tmpFolder+"/") && len(base) == 32 {
				rel = dir + "TEMP"
			}
			args[i] = rel
		}
	}
	call := fmt.Sprintf(format, args...)
	r.log = append(r.log, call)
	if r.fail != "" && strings.HasPrefix(call, r.fail) {
		return syscall.ENOSPC
	}
	return nil
}

func (r *recorder) Mkdir(path string) error {
	return errors.Join(r.note("mkdir %s", path), r.fileSystem.Mkdir(path))
}
func (r *recorder) Link(from, to string) error {
	if err := r.note("link %s %s", from, to); err != nil {
		return err
	}
	return r.fileSystem.Link(from, to)
}
func (r *recorder) Rename(from, to string) error {
	if err := r.note("rename %s %s", from, to); err != nil {
		return err
	}
	return r.fileSystem.Rename(from, to)
}
func (r *recorder) SyncFolder(path string) error {
	return errors.Join(r.note("sync folder %s", path), r.fileSystem.SyncFolder(path))
}
func (r *recorder) Remove(path string) error {
	return errors.Join(r.note("remove %s", path), r.fileSystem.Remove(path))
}
func (r *recorder) CreateTemp(path string) (tempFile, error) {
	if err := r.note("create %s", path); err != nil {
		return nil, err
	}
	f, err := r.fileSystem.CreateTemp(path)
	return &recordedFile{f, r, path}, err
}

type recordedFile struct {
	tempFile
	r    *recorder
	path string
}

func (f *recordedFile) Write(b []byte) (int, error) {
	if err := f.r.note("write %s %d bytes", f.path, len(b)); err != nil {
		return 0, err
	}
	return f.tempFile.Write(b)
}
func (f *recordedFile) Sync() error {
	return errors.Join(f.r.note("sync %s", f.path), f.tempFile.Sync())
}
func (f *recordedFile) Close() error {
	return errors.Join(f.r.note("close %s", f.path), f.tempFile.Close())
}

// The order of calls is what durability rests on. A change of the golden file must be thought through.
func TestPosixOrderOfOperations(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "zone")
	rec := &recorder{fileSystem: osFileSystem{}, root: root}
	p, err := openPosix(ctx, root, rec)
	if err != nil {
		t.Fatal(err)
	}
	note := func(s string) { rec.log = append(rec.log, "# "+s) }
	note("put in new folders")
	if err := p.Put(ctx, "_commits/t/1.json", []byte("one")); err != nil {
		t.Fatal(err)
	}
	note("put in a folder that this process has made durable")
	if err := p.Put(ctx, "_commits/t/2.json", []byte("two")); err != nil {
		t.Fatal(err)
	}
	note("put where another process made the folder")
	if err := os.Mkdir(filepath.Join(root, "_commits", "u"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(ctx, "_commits/u/1.json", []byte("three")); err != nil {
		t.Fatal(err)
	}
	note("put under a name that is taken")
	if err := p.Put(ctx, "_commits/t/1.json", []byte("other")); !errors.Is(err, ErrExists) {
		t.Fatalf("second put: %v", err)
	}
	note("write and abort")
	w, err := p.Create(ctx, "accepted/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	note("replace")
	if err := p.Replace(ctx, "_commits/t/1.json", []byte("new")); err != nil {
		t.Fatal(err)
	}
	note("delete")
	if err := p.Delete(ctx, "_commits/t/2.json"); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(rec.log, "\n") + "\n"
	if i := strings.Index(got, "probe-"); i >= 0 {
		got = strings.ReplaceAll(got, got[i:i+len("probe-")+32], "probe-RANDOM")
	}
	const golden = "testdata/posix_order.golden"
	if os.Getenv("TASTER_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("order of operations:\n%s\nwant:\n%s", got, want)
	}
}

// Whatever step fails, there is no object, no temporary file, and the next attempt succeeds; except that a failed
// sync of the folder leaves the object, which is why errors prove nothing.
func TestPosixFailedSteps(t *testing.T) {
	ctx := context.Background()
	for _, step := range []string{"create", "write", "sync zone/_tmp", "mkdir zone/a", "sync folder zone/a", "link"} {
		t.Run(step, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "zone")
			rec := &recorder{fileSystem: osFileSystem{}, root: root}
			p, err := openPosix(ctx, root, rec)
			if err != nil {
				t.Fatal(err)
			}
			rec.fail = step
			if err := p.Put(ctx, "a/b", []byte("data")); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("got %v, want ENOSPC", err)
			}
			rec.fail = ""
			left, err := os.ReadDir(filepath.Join(root, tmpFolder))
			if err != nil || len(left) != 0 {
				t.Errorf("%d temporary files left, %v", len(left), err)
			}
			if _, err := p.Open(ctx, "a/b"); step != "sync folder zone/a" && !errors.Is(err, ErrNotExist) {
				t.Errorf("after the failure: %v, want ErrNotExist", err)
			}
			if err := p.Put(ctx, "a/b", []byte("data")); err != nil && step != "sync folder zone/a" {
				t.Errorf("second attempt: %v", err)
			}
		})
	}
}

func TestPosixOneWinner(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for round := range 20 {
		name := fmt.Sprintf("_commits/t/%d", round)
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				p, err := readPosix(dir) // a store of its own each, as if each were a process
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.fs.Mkdir(filepath.Join(dir, tmpFolder)); err != nil {
					t.Error(err)
				}
				switch err := p.Put(ctx, name, fmt.Appendf(nil, "%d", i)); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrExists):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d winners", won.Load())
		}
	}
}

func TestPosixList(t *testing.T) {
	ctx := context.Background()
	p, err := OpenPosix(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a-b", "a.json", "a/1", "a/2/x", "a/20", "b", "b!/c"}
	for _, name := range names {
		if err := p.Put(ctx, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.Root(), tmpFolder, "stale"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{
		"":     "a-b a.json a/1 a/2/x a/20 b b!/c", // byte order of whole names
		"a":    "a-b a.json a/1 a/2/x a/20",
		"a/":   "a/1 a/2/x a/20",
		"a/2":  "a/2/x a/20",
		"c/d/": "", "a/3": "", "b/": "",
	} {
		var got []string
		for info, err := range p.List(ctx, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if info.Size != int64(len(info.Name)) {
				t.Errorf("%s: size %d", info.Name, info.Size)
			}
			got = append(got, info.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("List(%q) = %v, want %s", prefix, got, want)
		}
	}
}

func TestPosixStaleFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenPosix(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, tmpFolder, "old"), filepath.Join(dir, tmpFolder, "young")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPosix(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of yesterday is left: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a file that may be under way: %v", err)
	}
}

func TestPosixNames(t *testing.T) {
	ctx := context.Background()
	p, err := OpenPosix(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\x00", "a\\b", "\xff"} {
		if err := p.Put(ctx, bad, nil); err == nil {
			t.Errorf("put %q succeeded", bad)
		}
		if _, err := p.Open(ctx, bad); err == nil {
			t.Errorf("open %q succeeded", bad)
		}
		if err := p.Delete(ctx, bad); err == nil {
			t.Errorf("delete %q succeeded", bad)
		}
	}
	if err := p.Delete(ctx, "never/was"); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	if _, err := p.Open(ctx, "_tmp"); !errors.Is(err, ErrNotExist) {
		t.Errorf("a folder opened as object: %v", err)
	}
}

func TestOpenUnusable(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	urls := []string{"", "ftp://bucket", "file://relative/path", "file:relative\x00://", "file://" + file, "file://" + file + "/below"}
	if os.Getuid() != 0 { // root writes everywhere
		locked := filepath.Join(t.TempDir(), "locked")
		if err := os.Mkdir(locked, 0o555); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, "file://"+locked)
	}
	for _, u := range urls {
		if _, err := Open(ctx, u); !errors.Is(err, ErrUnusable) {
			t.Errorf("Open(%q): %v, want ErrUnusable", u, err)
		}
	}
	if _, err := OpenReadOnly(ctx, "file:///no/such/folder"); !errors.Is(err, ErrUnusable) {
		t.Errorf("OpenReadOnly: %v", err)
	}
	// A file system on which a name can be taken twice is refused.
	rec := twiceFileSystem{osFileSystem{}}
	if _, err := openPosix(ctx, t.TempDir(), rec); err == nil || !strings.Contains(err.Error(), "put-if-absent") {
		t.Errorf("a store without put-if-absent: %v", err)
	}
}

type twiceFileSystem struct{ osFileSystem }

func (twiceFileSystem) Link(from, to string) error { return os.Rename(from, to+"x") }
func (twiceFileSystem) Remove(string) error        { return nil }

func TestReadAllLimit(t *testing.T) {
	ctx := context.Background()
	p, err := OpenPosix(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Put(ctx, "x", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAll(ctx, p, "x", 5); err != nil || string(got) != "12345" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := ReadAll(ctx, p, "x", 4); err == nil {
		t.Error("an object over the limit was read")
	}
}
