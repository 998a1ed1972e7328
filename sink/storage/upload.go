package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// defaultPartSize is how much of a large object is sent at a time. Twice that is the memory of a writer: one part is
// filled while another is under way. S3 allows 10,000 parts: 78 GiB.
const (
	defaultPartSize = 8 << 20
	maxParts        = 10_000
)

// abortTime is how long Abort may take to remove what is under way, after the writer's context has ended.
const abortTime = 10 * time.Second

// parts keeps the memory of parts for the next writer.
var parts sync.Pool

// Create implements Creator. An object smaller than a part is sent at one go when it is committed. Writing ends when
// ctx does.
func (b *Bucket) Create(ctx context.Context, name string) (Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &bucketWriter{b: b, key: b.prefix + name, id: random()}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

// bucketWriter is not for several goroutines at a time, as no Writer is.
type bucketWriter struct {
	b       *Bucket
	key, id string
	ctx     context.Context
	cancel  context.CancelFunc

	part   []byte  // being filled, up to a part's size
	spare  []byte  // memory for the next part, if any
	flying *flight // the part under way, if any
	upload upload  // nil until the first part is full
	sent   int     // parts
	err    error   // why writing must end
	done   bool
}

// flight is a part under way.
type flight struct {
	data []byte
	done chan error
}

var errDone = errors.New("write or commit after commit or abort")

func (w *bucketWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, fmt.Errorf("%s: %w", w.b.where(w.key), errDone)
	}
	written := 0
	for len(p) > 0 && w.err == nil {
		if len(w.part) == w.b.partSize { // only now: what fits into one part is put at one go
			w.err = w.send()
			continue
		}
		n := min(len(p), w.b.partSize-len(w.part))
		w.grow(n)
		w.part = append(w.part, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, w.err
}

// grow makes room for n bytes more: by doubling, so that small objects take little, then the memory of a whole part.
func (w *bucketWriter) grow(n int) {
	need := len(w.part) + n
	if need <= cap(w.part) {
		return
	}
	var larger []byte
	if size := max(2*cap(w.part), need, 64<<10); w.sent == 0 && size <= w.b.partSize/2 {
		larger = make([]byte, 0, size)
	} else if kept, ok := parts.Get().(*[]byte); ok && cap(*kept) >= w.b.partSize {
		larger = (*kept)[:0]
	} else {
		larger = make([]byte, 0, w.b.partSize)
	}
	w.part = append(larger, w.part...)
}

// send sends the part that was filled, in the background, once the one before it has arrived.
func (w *bucketWriter) send() error {
	if err := w.arrive(); err != nil {
		return err
	}
	if w.sent == maxParts {
		return fmt.Errorf("write %s: more than %d parts of %d bytes", w.b.where(w.key), maxParts, w.b.partSize)
	}
	if w.upload == nil {
		err := w.b.try(w.ctx, "begin upload of", w.key, 0, func(ctx context.Context) error {
			begun, err := w.b.bucket.begin(ctx, w.key, w.id)
			if err == nil {
				w.upload = begun
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	w.sent++
	number, f := w.sent, &flight{data: w.part, done: make(chan error, 1)}
	go func() {
		f.done <- w.b.try(w.ctx, fmt.Sprintf("upload part %d of", number), w.key, len(f.data), func(ctx context.Context) error {
			return w.upload.part(ctx, number, f.data)
		})
	}()
	w.flying, w.part, w.spare = f, w.spare, nil
	return nil
}

// arrive waits for the part under way, and takes its memory back.
func (w *bucketWriter) arrive() error {
	if w.flying == nil {
		return nil
	}
	err := <-w.flying.done
	w.spare, w.flying = w.flying.data[:0], nil
	return err
}

func (w *bucketWriter) Commit(ctx context.Context) error {
	if w.done {
		return fmt.Errorf("%s: %w", w.b.where(w.key), errDone)
	}
	defer w.Abort()
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.upload == nil {
		return w.b.putAs(ctx, w.key, w.id, w.part)
	}
	defer context.AfterFunc(ctx, w.cancel)()
	if len(w.part) > 0 {
		if err := w.send(); err != nil {
			return err
		}
	}
	if err := w.arrive(); err != nil {
		return err
	}
	// Stores put the parts together at a rate that is not the network's.
	err := w.b.try(ctx, "complete upload of", w.key, w.sent*w.b.partSize/16, w.upload.complete)
	if err = w.b.settle(ctx, w.key, w.id, err); err == nil {
		w.upload = nil // nothing to abort
	}
	return err
}

// Abort removes what is under way, also when the context of the writer has ended.
func (w *bucketWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.cancel()
	_ = w.arrive() // of no interest any more
	if w.upload != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
		defer cancel()
		// What a store that is away keeps, the bucket's rule for unfinished uploads removes.
		_ = w.upload.abort(ctx)
	}
	for _, memory := range [][]byte{w.part, w.spare} {
		if cap(memory) >= w.b.partSize {
			parts.Put(&memory)
		}
	}
	w.part, w.spare = nil, nil
}
