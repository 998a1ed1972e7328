// Package storage is the seam to the object store that holds a landing zone: a folder, or a bucket of Amazon S3, Azure
// Blob Storage or Google Cloud Storage, or of what speaks like them.
//
// An object is a name with slashes and bytes that do not change. It is not there until it is complete and durable,
// and from then on its name is taken: a second writer of the name gets ErrExists, whoever came first. There is no
// appending, and no overwriting but for one kind of object: key material that stands beside a data file is replaced
// when master keys are rotated (Replacer). It is replaced whole: a reader sees the old bytes or the new ones.
//
// An error other than ErrExists from a write proves nothing: the object may or may not be there. Who must know reads
// it back.
//
// # What the errors ask for
//
// ErrUnavailable: the store is away, slow or throttling; the same call may succeed later, so wait and repeat it.
// ErrUnusable: no repeating helps until somebody changes the configuration, the bucket or the rights in it. ErrExists
// and ErrNotExist are answers. No error holds a credential, and none holds the content of an object.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	// ErrExists says that the name is taken. Nothing was changed, and the object that has the name is durable.
	ErrExists = errors.New("object exists")
	// ErrNotExist says that there is no object of that name.
	ErrNotExist = errors.New("object does not exist")
	// ErrUnusable says that the landing zone cannot be used at all, however often one tries: its URL is wrong, or the
	// folder or bucket is missing or may not be written, or the store lacks what exactly-once needs.
	ErrUnusable = errors.New("landing zone cannot be used")
	// ErrUnavailable says that an object store did not answer, or not as it should: the same call may succeed later.
	ErrUnavailable = errors.New("object store is not available")
)

// Putter writes small objects at one go.
type Putter interface {
	// Put stores data under name if the name is free; else the error is ErrExists.
	// When Put returns nil the object is durable.
	Put(ctx context.Context, name string, data []byte) error
}

// Creator writes large objects bit by bit.
type Creator interface {
	Create(ctx context.Context, name string) (Writer, error)
}

// Writer is an object being written. Nobody sees it before Commit. One of Commit and Abort must be called; Abort
// after either does nothing.
type Writer interface {
	io.Writer
	// Commit makes the object visible and durable if the name is free; else the error is ErrExists.
	Commit(ctx context.Context) error
	Abort()
}

// Replacer overwrites small objects. It is for the one kind of object that may be overwritten, see the package
// documentation; everything else is written once.
type Replacer interface {
	// Replace stores data under name, whether the name is free or not, atomically: whoever reads sees all of the old
	// bytes or all of the new ones. When Replace returns nil the new ones are durable; after an error it may be either.
	Replace(ctx context.Context, name string, data []byte) error
}

// Opener reads objects. The error for a name without an object is ErrNotExist. Reading ends when ctx does.
type Opener interface {
	Open(ctx context.Context, name string) (Reader, error)
}

// Reader reads one object from anywhere within.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Lister finds objects.
type Lister interface {
	// List yields every object whose name begins with prefix, in byte order of the names, and ends at the first error.
	// An object that is written or deleted meanwhile may or may not be among them.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Info is what a listing tells of an object.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time // when it was written, by the clock of the store; zero on file://
	Version  string    // another one whenever the object is replaced; "" on file://
}

// Deleter removes objects. Removing what is not there is no error.
type Deleter interface {
	Delete(ctx context.Context, name string) error
}

// Store is all of it together.
type Store interface {
	Putter
	Creator
	Opener
	Lister
	Deleter
	Replacer
}

// Open opens the store that a URL names and proves by trying that it can
// be written and read, and that put-if-absent holds. The error wraps ErrUnusable or ErrUnavailable.
func Open(ctx context.Context, rawURL string) (Store, error) {
	at, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if at.scheme == "file" {
		return OpenPosix(ctx, at.path)
	}
	b, err := openBucket(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := b.prove(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// OpenReadOnly opens the store that a URL names to read it. Nothing is written, not even to try.
func OpenReadOnly(ctx context.Context, rawURL string) (Store, error) {
	at, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if at.scheme == "file" {
		return readPosix(at.path)
	}
	b, err := openBucket(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := b.proveReadable(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// ReadAll returns the bytes of an object of at most limit bytes.
func ReadAll(ctx context.Context, o Opener, name string, limit int64) ([]byte, error) {
	r, err := o.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that such an object may have", name, r.Size(), limit)
	}
	data := make([]byte, r.Size())
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, r.Size()), data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// maxName is the length in bytes that S3, Azure and Google Cloud Storage allow for a key.
const maxName = 1024

// checkName refuses names that could mean different things to different stores, or leave the zone.
func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, isOdd) {
		return fmt.Errorf("%q is not an object name", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q is not an object name", name)
		}
	}
	return nil
}

// isOdd tells a backslash, which is a slash to some, and control characters, which an XML listing cannot hold.
func isOdd(r rune) bool { return r == '\\' || r < 0x20 || r == 0x7f }
