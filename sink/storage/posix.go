package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tasterhq/taster/sink/killpoint"
)

// tmpFolder holds what is being written. It lies within the zone so that a file can be linked to its final name.
// Whatever a killed process leaves there is harmless, and is removed a day later.
const tmpFolder = "_tmp"

// Posix keeps objects as files below a folder of a local file system.
//
// The order is always: write under a temporary name, fsync the file, link it to its final name (which fails if that
// exists, atomically), fsync the folder that the name stands in. Therefore:
//
//   - a file MUST NOT have its final name before all its bytes are durable;
//   - Put and Commit MUST NOT return nil or ErrExists before the name is durable, and with it the names of all folders
//     above it;
//   - of any number of writers of a name exactly one MUST succeed;
//   - Replace, which renames instead of linking, MUST show the old bytes or the new ones, whole, whenever it is cut off.
//
// All that touches durability is in this file, and a golden test holds the order of the calls.
type Posix struct {
	root   string
	opened os.FileInfo // the folder itself, as it was opened
	fs     fileSystem

	mu      sync.Mutex
	durable map[string]bool // folders whose names this process itself has made durable
}

// fileSystem is what Posix asks of the operating system. Paths are absolute.
type fileSystem interface {
	Mkdir(path string) error // no error if the folder exists
	CreateTemp(path string) (tempFile, error)
	Link(from, to string) error // fails with fs.ErrExist if to exists
	Rename(from, to string) error
	SyncFolder(path string) error
	Remove(path string) error
}

// tempFile is a file that has no final name yet.
type tempFile interface {
	io.Writer
	Sync() error
	Close() error
}

// OpenPosix makes the folder if need be and proves that objects can be written there and that a name cannot be
// taken twice. Errors wrap ErrUnusable.
func OpenPosix(ctx context.Context, dir string) (*Posix, error) {
	p, err := openPosix(ctx, dir, osFileSystem{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return p, nil
}

func openPosix(ctx context.Context, dir string, sys fileSystem) (*Posix, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p := &Posix{root: root, fs: sys, durable: map[string]bool{}}
	if err := p.folder(filepath.Join(root, tmpFolder)); err != nil {
		return nil, err
	}
	if p.opened, err = os.Stat(root); err != nil {
		return nil, err
	}
	if err := p.sweep(); err != nil {
		return nil, err
	}
	probe := tmpFolder + "/probe-" + random()
	if err := p.Put(ctx, probe, []byte("probe")); err != nil {
		return nil, err
	}
	err = p.Put(ctx, probe, []byte("probe"))
	if removeErr := p.Delete(ctx, probe); removeErr != nil {
		return nil, removeErr
	}
	if !errors.Is(err, ErrExists) {
		return nil, errors.Join(fmt.Errorf("%s: a name can be taken twice there; exactly-once needs put-if-absent", root), err)
	}
	return p, nil
}

// staleAfter is the age from which a temporary file is taken to be left over from a killed process. Should its writer
// live after all, its link fails and it writes again.
const staleAfter = 24 * time.Hour

// sweep removes stale temporary files.
func (p *Posix) sweep() error {
	entries, err := os.ReadDir(filepath.Join(p.root, tmpFolder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue // an error: gone meanwhile
		}
		if err := p.fs.Remove(filepath.Join(p.root, tmpFolder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readPosix opens a folder only to read it.
func readPosix(dir string) (*Posix, error) {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%w: %s is not a folder", ErrUnusable, dir)
	}
	return &Posix{root: dir, opened: info, fs: osFileSystem{}, durable: map[string]bool{}}, nil
}

// Root returns the folder.
func (p *Posix) Root() string { return p.root }

// Put implements Putter.
func (p *Posix) Put(ctx context.Context, name string, data []byte) error {
	w, err := p.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// Replace implements Replacer.
func (p *Posix) Replace(ctx context.Context, name string, data []byte) error {
	w, err := p.create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.commit(ctx, p.fs.Rename)
}

// Create implements Creator.
func (p *Posix) Create(ctx context.Context, name string) (Writer, error) {
	w, err := p.create(ctx, name)
	if err != nil {
		return nil, err // not a nil *posixWriter
	}
	return w, nil
}

func (p *Posix) create(ctx context.Context, name string) (*posixWriter, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	temp := filepath.Join(p.root, tmpFolder, random())
	f, err := p.fs.CreateTemp(temp)
	if err != nil {
		return nil, err
	}
	killpoint.ReachFor("temp_created", name)
	return &posixWriter{p: p, name: name, temp: temp, f: f}, nil
}

type posixWriter struct {
	p    *Posix
	name string
	temp string
	f    tempFile
	done bool
}

func (w *posixWriter) Write(b []byte) (int, error) { return w.f.Write(b) }

func (w *posixWriter) Commit(ctx context.Context) error { return w.commit(ctx, w.p.fs.Link) }

// commit gives the file its final name with name, which is link or rename.
func (w *posixWriter) commit(ctx context.Context, name func(from, to string) error) error {
	if w.done {
		return fmt.Errorf("%s: commit after commit or abort", w.name)
	}
	defer w.Abort()
	if err := ctx.Err(); err != nil {
		return err
	}
	killpoint.ReachFor("temp_written", w.name)
	if err := w.f.Sync(); err != nil {
		return err
	}
	killpoint.ReachFor("temp_synced", w.name)
	final := filepath.Join(w.p.root, filepath.FromSlash(w.name))
	folder := filepath.Dir(final)
	if err := w.p.folder(folder); err != nil {
		return err
	}
	if err := w.p.same(); err != nil {
		return err
	}
	killpoint.ReachFor("folder_made", w.name)
	err := name(w.temp, final)
	taken := errors.Is(err, fs.ErrExist)
	if err != nil && !taken {
		return err
	}
	killpoint.ReachFor("linked", w.name)
	// Also when the name is taken: whoever took it may have died before this, or may be ourselves, in an attempt whose
	// sync failed.
	if err := w.p.fs.SyncFolder(folder); err != nil {
		return err
	}
	killpoint.ReachFor("folder_synced", w.name)
	if taken {
		return fmt.Errorf("%s: %w", w.name, ErrExists)
	}
	return nil
}

// same wants the folder to be the one that was opened. Where its file system is mounted late, or is gone for a while, another
// folder stands under the same path. What is known of one must not be written into the other:
//
//	not mounted: an empty folder       not visible: holds the offsets [0, 300)
//	a process starts, and commits [0, 400)
//	                                   is mounted
//	the process would commit [400, 500), and [300, 400) would be lost
//
// It is asked between making the temporary file and naming it. If the folder changes after that, there is no temporary
// file in the other one to be named.
func (p *Posix) same() error {
	now, err := os.Stat(p.root)
	if err != nil {
		return err
	}
	if !os.SameFile(p.opened, now) {
		return fmt.Errorf("%s is not the folder that was opened: a file system was mounted there, or is gone. Mount the right one, and start again what began without it", p.root)
	}
	return nil
}

// Abort drops the temporary name. After Commit that is all there is to drop: the final name keeps the file. After a
// rename there is no temporary name any more.
func (w *posixWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	// Neither can undo what Commit has made durable, and what is left in the temporary folder harms nobody.
	_ = w.f.Close()
	killpoint.ReachFor("temp_closed", w.name)
	_ = w.p.fs.Remove(w.temp)
}

// folder makes a folder with all that is missing above it, and makes the names durable, from the zone's own on down.
//
// That a folder exists does not mean that its name would survive a power cut: another process may have made it a
// moment ago and not have synced its parent yet. So a folder counts only once this process has synced the parent.
func (p *Posix) folder(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.folderLocked(path)
}

func (p *Posix) folderLocked(path string) error {
	if p.durable[path] {
		return nil
	}
	parent := filepath.Dir(path)
	above := len(path) <= len(p.root) // then the parent is not ours, unless it is missing
	if _, err := os.Stat(parent); !above || errors.Is(err, fs.ErrNotExist) {
		if err := p.folderLocked(parent); err != nil {
			return err
		}
	}
	if err := p.fs.Mkdir(path); err != nil {
		return err
	}
	if err := p.fs.SyncFolder(parent); err != nil {
		return err
	}
	p.durable[path] = true
	return nil
}

// Open implements Opener.
func (p *Posix) Open(ctx context.Context, name string) (Reader, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(p.root, filepath.FromSlash(name)))
	if notThere(err) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return posixReader{f, info.Size()}, nil
}

type posixReader struct {
	*os.File
	size int64
}

func (r posixReader) Size() int64 { return r.size }

// List implements Lister. It holds the names of one folder per level at a time.
func (p *Posix) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		folder := ""
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			folder = prefix[:i+1]
			if err := checkName(prefix[:i]); err != nil {
				yield(Info{}, err)
				return
			}
		}
		p.list(ctx, folder, prefix, yield)
	}
}

// list yields what stands in folder, which is "" or ends in a slash, and says whether to go on.
func (p *Posix) list(ctx context.Context, folder, prefix string, yield func(Info, error) bool) bool {
	if err := ctx.Err(); err != nil {
		return yield(Info{}, err) && false
	}
	entries, err := os.ReadDir(filepath.Join(p.root, filepath.FromSlash(folder)))
	if notThere(err) {
		return true
	}
	if err != nil {
		return yield(Info{}, err) && false
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		name := folder + e.Name()
		if e.IsDir() {
			name += "/" // object stores sort d.json before d/1.json, and so does this
		}
		if name != tmpFolder+"/" && (strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			if !p.list(ctx, name, prefix, yield) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		info, err := os.Lstat(filepath.Join(p.root, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return yield(Info{}, err) && false
		}
		if !yield(Info{Name: name, Size: info.Size()}, nil) {
			return false
		}
	}
	return true
}

// Delete implements Deleter. That a deletion survives a power cut is nobody's concern.
func (p *Posix) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	killpoint.ReachFor("delete_begun", name)
	if err := p.fs.Remove(filepath.Join(p.root, filepath.FromSlash(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	killpoint.ReachFor("deleted", name)
	return nil
}

// notThere tells whether there is nothing at a path, be it that what should be a folder above it is a file.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

type osFileSystem struct{}

func (osFileSystem) Mkdir(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return nil
		}
	}
	return err
}

func (osFileSystem) CreateTemp(path string) (tempFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

func (osFileSystem) Link(from, to string) error { return os.Link(from, to) }

func (osFileSystem) Rename(from, to string) error { return os.Rename(from, to) }

func (osFileSystem) Remove(path string) error { return os.Remove(path) }

func (osFileSystem) SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
