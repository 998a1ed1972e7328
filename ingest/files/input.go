package files

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Stored is an input as its bytes are stored. They do not change while they are read: reading fails instead.
type Stored interface {
	io.ReaderAt
	io.Closer
	Size() int64
	Written() time.Time // when it was stored
}

// Remote reaches inputs that are not files of this machine, by their URLs.
type Remote interface {
	// Open opens one object. The error for one that is not there wraps fs.ErrNotExist.
	Open(ctx context.Context, url string) (Stored, error)
	// List yields the URLs of all objects whose names begin with what url gives as path, in byte order of the names.
	List(ctx context.Context, url string) iter.Seq2[string, error]
}

// locate returns where an input is: its path, and whether that is on this machine or within a URL.
func locate(input string) (name string, remote bool, err error) {
	scheme, _, ok := strings.Cut(input, "://")
	if !ok {
		return input, false, nil
	}
	u, err := url.Parse(input)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("%w: %q is no URL", ErrUnsupported, scheme+"://…")
	case scheme != "file":
		return u.Path, true, nil
	case u.Path == "" || u.Host != "" && u.Host != "localhost":
		return "", false, fmt.Errorf("%w: a file URL is written file:///path/to/file", ErrUnsupported)
	}
	return filepath.FromSlash(u.Path), false, nil
}

// localFile is a file of this machine.
type localFile struct {
	*os.File
	info fs.FileInfo
}

func openLocal(name string) (*localFile, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: it is no regular file, and an input is read twice", name, ErrUnsupported)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &localFile{file, info}, nil
}

// Size implements Stored.
func (f *localFile) Size() int64 { return f.info.Size() }

// Written implements Stored.
func (f *localFile) Written() time.Time { return f.info.ModTime() }

func (f *localFile) unchanged() error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if now.Size() != f.info.Size() || !now.ModTime().Equal(f.info.ModTime()) {
		return fmt.Errorf("%w; read it again once nobody writes to it", ErrChanged)
	}
	return nil
}

// wild are the characters that make a name a pattern.
const wild = `*?[`

// Expand replaces inputs that are patterns (path/filepath.Match) by the files that they name, in order of name. A
// pattern that names none gives an error that wraps fs.ErrNotExist; a file whose name only looks like a pattern is
// itself. In a URL the path may be a pattern (path.Match) in * and [, since ? begins what follows the path.
func Expand(ctx context.Context, inputs []string, remote Remote) ([]string, error) {
	var out []string
	for _, input := range inputs {
		found := []string{input}
		var err error
		switch {
		case strings.Contains(input, "://"):
			if remote != nil && !strings.HasPrefix(input, "file://") {
				found, err = expandURL(ctx, input, remote)
			}
		case strings.ContainsAny(input, wild):
			found, err = expandPath(input)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func expandPath(input string) ([]string, error) {
	if _, err := os.Lstat(input); err == nil {
		return []string{input}, nil
	}
	found, err := filepath.Glob(input)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", input, ErrUnsupported, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no file has such a name: %w", input, fs.ErrNotExist)
	}
	return found, nil
}

func expandURL(ctx context.Context, input string, remote Remote) ([]string, error) {
	u, err := url.Parse(input)
	if err != nil {
		return nil, fmt.Errorf("%w: an input that is no URL", ErrUnsupported)
	}
	pattern := u.Path
	if !strings.ContainsAny(pattern, wild) {
		return []string{input}, nil
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", input, ErrUnsupported, err)
	}
	under := *u
	under.Path, under.RawPath = pattern[:strings.IndexAny(pattern, wild)], ""
	var found []string
	for name, err := range remote.List(ctx, under.String()) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", input, err)
		}
		one, err := url.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", input, err)
		}
		if ok, _ := path.Match(pattern, one.Path); ok {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no object has such a name: %w", input, fs.ErrNotExist)
	}
	return slices.Clip(found), nil
}
