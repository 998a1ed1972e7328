package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// prove tries all that a landing zone needs of its bucket, and above all that a name cannot be taken twice: neither by
// a small object nor by one that is sent in parts, which stores do by other code. What it writes stands in tmpFolder
// and is deleted.
func (b *Bucket) prove(ctx context.Context) error {
	if err := b.proveReadable(ctx); err != nil {
		return err
	}
	if err := b.sweep(ctx); err != nil {
		return err
	}
	small, large, raced := tmpFolder+"/probe-"+random(), tmpFolder+"/probe-"+random(), tmpFolder+"/probe-"+random()
	err := b.proveWrites(ctx, small, large)
	if err == nil {
		err = b.proveOneWinner(ctx, raced)
	}
	for _, name := range []string{small, large, raced} {
		if deleteErr := b.Delete(context.WithoutCancel(ctx), name); err == nil && deleteErr != nil {
			err = deleteErr
		}
	}
	return err
}

func (b *Bucket) proveWrites(ctx context.Context, small, large string) error {
	if err := b.Put(ctx, small, []byte("probe")); err != nil {
		return err
	}
	whole := bytes.Repeat([]byte("probe"), 60_000) // more than the smallest chunk of Google's sessions
	if err := b.putParts(ctx, large, whole); err != nil {
		return err
	}
	for _, second := range []struct {
		how   string
		write func(context.Context, string, []byte) error
	}{{"", b.Put}, {" by an object in parts", b.putParts}} {
		for _, name := range []string{small, large} {
			if err := second.write(ctx, name, bytes.Repeat([]byte("again"), 60_000)); !errors.Is(err, ErrExists) {
				if err == nil {
					return b.twice(second.how)
				}
				return err
			}
		}
	}
	if data, err := ReadAll(ctx, b, large, 1<<20); err != nil {
		return err
	} else if !bytes.Equal(data, whole) {
		return fmt.Errorf("%w: %s: the loser of a name has changed the object; exactly-once needs put-if-absent", ErrUnusable, b.url)
	}
	return b.Replace(ctx, small, []byte("again"))
}

// twice is the refusal of a store that lets a name be taken twice.
func (b *Bucket) twice(how string) error {
	return fmt.Errorf("%w: %s: a name can be taken twice there%s; exactly-once needs put-if-absent (If-None-Match: * on S3 and Azure, ifGenerationMatch=0 on Google): use a store that has it",
		ErrUnusable, b.url, how)
}

// proveOneWinner has several writers take a name at once: some stores look first and write then.
func (b *Bucket) proveOneWinner(ctx context.Context, name string) error {
	const writers = 8
	answers := make(chan error, writers)
	for range writers {
		go func() { answers <- b.Put(ctx, name, []byte("probe")) }()
	}
	won := 0
	var failed error
	for range writers {
		switch err := <-answers; {
		case err == nil:
			won++
		case !errors.Is(err, ErrExists):
			failed = err
		}
	}
	switch {
	case won > 1:
		return b.twice(" by writers that come at the same time")
	case won == 0 && failed == nil:
		return fmt.Errorf("%w: %s: a free name counts as taken there", ErrUnusable, b.url)
	}
	return failed
}

// putParts puts an object as large ones are put, however small it is.
func (b *Bucket) putParts(ctx context.Context, name string, data []byte) error {
	w, err := b.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.(*bucketWriter).send(); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// proveReadable lists, if only to learn that the bucket is there and may be read.
func (b *Bucket) proveReadable(ctx context.Context) error {
	return b.try(ctx, "list", b.prefix, 0, func(ctx context.Context) error {
		_, _, err := b.bucket.list(ctx, b.prefix+tmpFolder+"/", "")
		return err
	})
}

// sweep removes what killed processes have left: of probes, and of uploads if the store keeps them for good and lets
// them be listed. Should a writer live after all, its commit fails and it writes again.
func (b *Bucket) sweep(ctx context.Context) error {
	for o, err := range b.list(ctx, b.prefix+tmpFolder+"/") {
		if err != nil {
			return err
		}
		if time.Since(o.modified) < staleAfter {
			continue
		}
		if err := b.Delete(ctx, o.key[len(b.prefix):]); err != nil {
			return err
		}
	}
	if s, keeps := b.bucket.(interface {
		sweepUploads(ctx context.Context, prefix string, before time.Time) error
	}); keeps {
		// That needs a right which nothing else needs, and the bucket's own rule does the same: errors do no harm.
		_ = b.try(ctx, "list uploads of", b.prefix, 0, func(ctx context.Context) error {
			return s.sweepUploads(ctx, b.prefix, time.Now().Add(-staleAfter))
		})
	}
	return nil
}
