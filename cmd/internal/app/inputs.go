package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/sink/storage"
)

// Buckets is files.Remote: inputs in object stores.
type Buckets struct{}

// Open implements files.Remote.
func (Buckets) Open(ctx context.Context, url string) (files.Stored, error) {
	r, err := storage.OpenObject(ctx, url)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return stored{r}, nil
}

// List implements files.Remote.
func (Buckets) List(ctx context.Context, url string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for info, err := range storage.ListObjects(ctx, url) {
			if !yield(info.Name, err) || err != nil {
				return
			}
		}
	}
}

// stored is an object with its time. Where a store does not tell that, there is none to go by.
type stored struct{ storage.Reader }

// Written implements files.Stored.
func (s stored) Written() time.Time {
	if r, ok := s.Reader.(interface{ Written() time.Time }); ok {
		return r.Written()
	}
	return time.UnixMilli(0)
}
