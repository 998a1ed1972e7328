package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Bucket keeps objects in a bucket of an object store, below a prefix.
//
// Every object carries the random id of the write that made it, as metadata. When a conditional write is told that the
// name is taken, that id is read: clients repeat requests by themselves, so a writer whose first answer was lost would
// meet its own object and be told that it lost. Therefore:
//
//   - of any number of writers of a name exactly one MUST succeed, and MUST be told so if it gets an answer at all;
//   - ErrExists MUST NOT be returned for an object that the same call has written;
//   - an object MUST NOT be visible before Put or Commit has sent all of it;
//   - Abort MUST NOT leave parts behind that the store keeps for good, whether or not the writer's context has ended.
type Bucket struct {
	bucket   bucket
	url      string // as an operator would say it: scheme, bucket, prefix
	prefix   string // "" or with a slash at its end
	timeout  time.Duration
	partSize int
}

// bucket is what one provider must be able to do. Keys are whole, prefix included, and are not escaped in any way that
// another client of the same bucket would see. Errors are the provider's own: explain tells what they mean.
type bucket interface {
	// put stores a small object with the id of its writer, if absent is set only if there is none.
	put(ctx context.Context, key, writer string, data []byte, absent bool) error
	// writer returns the id that the object was written with.
	writer(ctx context.Context, key string) (string, error)
	// get fills p from offset on, less at the end of the object. The version that it returns, given to a later get, makes
	// that fail if the object is another one meanwhile.
	get(ctx context.Context, key, version string, p []byte, offset int64) (got, error)
	// list returns a page of keys in byte order and the token of the next page, "" after the last.
	list(ctx context.Context, prefix, token string) (page []listed, next string, err error)
	delete(ctx context.Context, key string) error
	// begin begins to store a large object in parts.
	begin(ctx context.Context, key, writer string) (upload, error)
	explain(err error) (meaning, string)
}

// upload is a large object under way. Calls follow one another.
type upload interface {
	part(ctx context.Context, number int, data []byte) error // from 1 on
	complete(ctx context.Context) error                      // only if the name is free
	abort(ctx context.Context) error
}

type got struct {
	n       int   // bytes read
	size    int64 // of the object
	version string
	written time.Time // when this version of it was
}

type listed struct {
	key      string
	size     int64
	modified time.Time
	version  string
}

// pageSize is how many names are listed at a time: as many as S3 gives.
const pageSize = 1000

// meaning is what an error of a provider comes down to.
type meaning int

const (
	unavailable meaning = iota // nobody knows; a repetition may do better
	taken                      // a condition does not hold: the name is taken, or the object is not that version any more
	contended                  // another conditional write is under way: repeat
	vanished                   // the upload is not there any more: completed before, or aborted
	missing                    // there is no such object
	beyond                     // the range begins at or behind the end of the object
	refused                    // no repetition helps
)

// openers open the bucket of a location; they do not ask the store anything yet.
var openers = map[string]func(context.Context, location) (bucket, error){"s3": openS3, "azblob": openAzure, "gs": openGCS}

func openBucket(ctx context.Context, at location) (*Bucket, error) {
	prefix, err := at.folder()
	if err != nil {
		return nil, err
	}
	b, err := openers[at.scheme](ctx, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %s://%s: %w", ErrUnusable, at.scheme, at.bucket, err)
	}
	return &Bucket{bucket: b, url: at.scheme + "://" + at.bucket + "/" + prefix, prefix: prefix, timeout: at.timeout, partSize: defaultPartSize}, nil
}

// fault is what went wrong with one object, in words.
type fault struct {
	operation, where string
	meaning          meaning
	text             string
	cause            error // nil unless time ended the request: a context's error, or errSlow
}

func (f *fault) Error() string {
	return fmt.Sprintf("%s %s: %s", f.operation, f.where, f.text)
}

// Unwrap gives the error that tells a caller how to react. The provider's own error is not among them: it can hold
// URLs with signatures.
func (f *fault) Unwrap() []error {
	var kind error
	switch f.meaning {
	case taken:
		kind = ErrExists
	case missing:
		kind = ErrNotExist
	case refused:
		kind = ErrUnusable
	default:
		kind = ErrUnavailable
	}
	if f.cause != nil {
		return []error{kind, f.cause}
	}
	return []error{kind}
}

// means tells whether err is a fault with that meaning.
func means(err error, m meaning) bool {
	var f *fault
	return errors.As(err, &f) && f.meaning == m
}

// errSlow is the cause of a fault when a request took longer than it may. It is not the context's error: who asks
// whether its own context has ended must not be told so.
var errSlow = errors.New("too slow")

// perTimeout is how many bytes may take as long as a small request may, on top of it: with 30 s, what moves slower than
// 140 KB/s counts as hanging.
const perTimeout = 4 << 20

// try makes one request that moves so many bytes, within the time that it may take.
func (b *Bucket) try(ctx context.Context, operation, key string, bytes int, request func(context.Context) error) error {
	limit := b.timeout + time.Duration(float64(b.timeout)*float64(bytes)/perTimeout)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := request(limited)
	if err == nil {
		return nil
	}
	f := &fault{operation: operation, where: b.where(key)}
	switch {
	case ctx.Err() != nil: // whatever the client made of it
		f.meaning, f.text, f.cause = unavailable, context.Cause(ctx).Error(), ctx.Err()
	case limited.Err() != nil:
		f.meaning, f.text, f.cause = unavailable, fmt.Sprintf("no answer within %s", limit.Round(time.Millisecond)), errSlow
	default:
		f.meaning, f.text = b.bucket.explain(err)
	}
	return f
}

// where names an object as an operator would look for it.
func (b *Bucket) where(key string) string {
	return b.url + strings.TrimPrefix(key, b.prefix)
}

// Waits between repetitions.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 2 * time.Second
)

// sleep waits, and tells whether ctx lets it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Put implements Putter.
func (b *Bucket) Put(ctx context.Context, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	return b.putAs(ctx, b.prefix+name, random(), data)
}

// contentions is how often a conditional write is repeated that collided with another one.
const contentions = 8

func (b *Bucket) putAs(ctx context.Context, key, writer string, data []byte) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := b.try(ctx, "put", key, len(data), func(ctx context.Context) error { return b.bucket.put(ctx, key, writer, data, true) })
		if !means(err, contended) || attempt == contentions || !sleep(ctx, wait) {
			return b.settle(ctx, key, writer, err)
		}
		wait = min(2*wait, lastWait)
	}
}

// settle finds out how a conditional write ended that was told something that decides nothing: that the name is taken,
// perhaps by the write itself, whose first answer was lost; or nothing, because the connection broke, perhaps since the
// store had refused the write and would not read it to the end. The error is nil if the object is the write's own,
// ErrExists if it is another's, and what the write was told if there is none or nobody can say.
func (b *Bucket) settle(ctx context.Context, key, writer string, told error) error {
	var f *fault
	if !errors.As(told, &f) || f.meaning == refused || f.meaning == unavailable && f.cause != nil {
		return told
	}
	var id string
	err := b.try(ctx, "read metadata of", key, 0, func(ctx context.Context) (err error) {
		id, err = b.bucket.writer(ctx, key)
		return err
	})
	switch {
	case err == nil && id == writer:
		return nil
	case err == nil:
		return &fault{"put", b.where(key), taken, ErrExists.Error(), nil}
	case f.meaning == taken && !means(err, missing):
		return err // whose it is must be known before ErrExists may be said
	}
	return told
}

// Replace implements Replacer.
func (b *Bucket) Replace(ctx context.Context, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	key := b.prefix + name
	return b.try(ctx, "replace", key, len(data), func(ctx context.Context) error {
		return b.bucket.put(ctx, key, random(), data, false)
	})
}

// Delete implements Deleter.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	key := b.prefix + name
	err := b.try(ctx, "delete", key, 0, func(ctx context.Context) error { return b.bucket.delete(ctx, key) })
	if means(err, missing) {
		return nil
	}
	return err
}

// List implements Lister. It holds one page of names at a time.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for o, err := range b.list(ctx, b.prefix+prefix) {
			name := strings.TrimPrefix(o.key, b.prefix)
			// What probes have left is nobody's object, as on file://.
			if err == nil && strings.HasPrefix(name, tmpFolder+"/") && !strings.HasPrefix(prefix, tmpFolder+"/") {
				continue
			}
			if !yield(Info{Name: name, Size: o.size, Modified: o.modified, Version: o.version}, err) {
				return
			}
		}
	}
}

// list yields what a bucket holds below a key prefix, in byte order, and ends at the first error.
func (b *Bucket) list(ctx context.Context, prefix string) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		last, token := "", ""
		for {
			var page []listed
			var next string
			err := b.try(ctx, "list", prefix, 0, func(ctx context.Context) (err error) {
				page, next, err = b.bucket.list(ctx, prefix, token)
				return err
			})
			if err != nil {
				yield(listed{}, err)
				return
			}
			for _, o := range page {
				if strings.HasSuffix(o.key, "/") {
					continue // what browsers of object stores put there to show a folder
				}
				if o.key <= last {
					yield(listed{}, &fault{"list", b.where(prefix), refused, fmt.Sprintf(
						"the store lists %q behind %q, and names must come in byte order (a directory bucket of S3 does not list in order)", o.key, last), nil})
					return
				}
				last = o.key
				if !yield(o, nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}
