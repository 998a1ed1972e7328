package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// OpenObject opens one object, of whatever name, to read it: s3://bucket/folder/file.jsonl.gz?region=…, the same with
// azblob and gs, file:///path, or a path. In a URL a ?, # or % that belongs to the name is written %3F, %23, %25. The
// error is ErrNotExist if it is not there; reading ends when ctx does. Credentials are looked up once for each bucket.
func OpenObject(ctx context.Context, rawURL string) (Reader, error) {
	at, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if at.scheme == "file" {
		return openFile(at.path)
	}
	if at.path == "" {
		return nil, fmt.Errorf("%w: %q names a bucket and no object in it", ErrUnusable, rawURL)
	}
	b, err := inputs(ctx, at)
	if err != nil {
		return nil, err
	}
	return b.openKey(ctx, at.path)
}

// ListObjects yields the objects whose names begin with what the URL gives as path, in byte order of the names: each
// Name is a URL that OpenObject opens. On file:// the path is a folder, and all files below it are yielded. It ends at
// the first error.
func ListObjects(ctx context.Context, rawURL string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		at, err := parseURL(rawURL)
		if err != nil {
			yield(Info{}, err)
			return
		}
		if at.scheme == "file" {
			p, err := readPosix(at.path)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for info, err := range p.List(ctx, "") {
				info.Name = (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(at.path, info.Name))}).String()
				if !yield(info, err) {
					return
				}
			}
			return
		}
		b, err := inputs(ctx, at)
		if err != nil {
			yield(Info{}, err)
			return
		}
		query := ""
		if i := strings.IndexByte(rawURL, '?'); i >= 0 {
			query = rawURL[i+1:]
		}
		for o, err := range b.list(ctx, at.path) {
			name := (&url.URL{Scheme: at.scheme, Host: at.bucket, Path: "/" + o.key, RawQuery: query}).String()
			if !yield(Info{Name: name, Size: o.size, Modified: o.modified, Version: o.version}, err) {
				return
			}
		}
	}
}

// inputBuckets keeps the buckets of inputs, by URL: a backfill opens thousands of objects, and each client has connections and
// credentials of its own to set up.
var inputBuckets struct {
	sync.Mutex
	buckets map[string]*Bucket
}

// inputs opens the bucket of an input. It has no prefix: the path is the object's, or the beginning of many.
func inputs(ctx context.Context, at location) (*Bucket, error) {
	if at.viaQuery {
		return nil, fmt.Errorf("%w: the URL of an input names it in its path, not with prefix=…", ErrUnusable)
	}
	at.path = ""
	key := at.bucketURL().String() + " " + at.timeout.String()
	inputBuckets.Lock()
	defer inputBuckets.Unlock()
	if b := inputBuckets.buckets[key]; b != nil {
		return b, nil
	}
	b, err := openBucket(ctx, at)
	if err != nil {
		return nil, err
	}
	if inputBuckets.buckets == nil {
		inputBuckets.buckets = map[string]*Bucket{}
	}
	inputBuckets.buckets[key] = b
	return b, nil
}

func openFile(path string) (Reader, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return posixReader{f, info.Size()}, nil
}
