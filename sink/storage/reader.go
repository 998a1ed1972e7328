package storage

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// What a reader keeps. Readers of Parquet ask for the end first, then for one column chunk after another, some of them
// in small pieces: pieces are cut from blocks, and who reads on is given more at a time.
const (
	blockSize = 256 << 10
	maxAhead  = 16 // blocks fetched at one go
	maxBlocks = 32 // blocks kept: 8 MiB, besides what is being fetched
)

// readAttempts is how often a range is asked for without getting one byte more.
const readAttempts = 3

// Open implements Opener. The first block is fetched at once, so a small object costs one request. If the object is
// replaced or deleted while it is read, reading fails; it never mixes two objects.
func (b *Bucket) Open(ctx context.Context, name string) (Reader, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return b.openKey(ctx, b.prefix+name)
}

func (b *Bucket) openKey(ctx context.Context, key string) (Reader, error) {
	r := &bucketReader{b: b, key: key, blocks: map[int64]*block{}, order: list.New()}
	r.ctx, r.cancel = context.WithCancel(ctx)
	first := &block{ready: make(chan struct{})}
	data := make([]byte, blockSize)
	n, err := r.fetch(data, 0)
	if err != nil {
		r.cancel()
		return nil, err
	}
	if first.data = data[:n:n]; n < blockSize/2 {
		first.data = bytes.Clone(first.data)
	}
	close(first.ready)
	r.keep(0, first)
	return r, nil
}

// bucketReader may be used by several goroutines at a time.
type bucketReader struct {
	b       *Bucket
	key     string
	ctx     context.Context
	cancel  context.CancelFunc
	size    int64     // set by the first fetch
	version string    // set by the first fetch
	written time.Time // set by the first fetch

	mu     sync.Mutex
	blocks map[int64]*block // by number
	order  *list.List       // numbers of the blocks kept, the one used last in front
	next   int64            // the block behind the last one read: who asks for it reads on
	ahead  int64            // blocks to fetch then
}

// block is a piece of the object, or will be once ready is closed.
type block struct {
	ready   chan struct{}
	data    []byte
	err     error
	element *list.Element
}

func (r *bucketReader) Size() int64 { return r.size }

// Written returns when the object was stored.
func (r *bucketReader) Written() time.Time { return r.written }

func (r *bucketReader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.blocks)
	r.order.Init()
	return nil
}

// ReadAt implements io.ReaderAt.
func (r *bucketReader) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("read %s: negative offset", r.b.where(r.key))
	}
	if offset >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-offset
	if short {
		p = p[:r.size-offset]
	}
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		var m int
		var err error
		if rest := p[n:]; len(rest) >= 4*blockSize && !r.has(at/blockSize) {
			m, err = r.fetch(rest, at) // large: straight to where it is wanted
		} else {
			m, err = r.cached(rest, at)
		}
		n += m
		if err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

func (r *bucketReader) has(number int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocks[number] != nil
}

// cached copies from the block that holds offset, which it fetches if need be.
func (r *bucketReader) cached(p []byte, offset int64) (int, error) {
	number := offset / blockSize
	b, mine := r.block(number)
	if mine != nil {
		r.fill(number, mine)
	}
	select {
	case <-b.ready:
	case <-r.ctx.Done():
		return 0, r.ended()
	}
	if b.err != nil {
		return 0, b.err
	}
	return copy(p, b.data[offset-number*blockSize:]), nil
}

// block returns a block, and those that the caller must fill: the block itself and some behind it, if it is not there.
func (r *bucketReader) block(number int64) (found *block, mine []*block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch number {
	case r.next:
		r.ahead = min(max(2*r.ahead, 1), maxAhead)
	case r.next - 1: // still in the same block
	default:
		r.ahead = 1
	}
	r.next = number + 1
	if b := r.blocks[number]; b != nil {
		if b.element != nil {
			r.order.MoveToFront(b.element)
		}
		return b, nil
	}
	for i := number; i < number+r.ahead && i*blockSize < r.size && r.blocks[i] == nil; i++ {
		b := &block{ready: make(chan struct{})}
		r.blocks[i] = b
		mine = append(mine, b)
	}
	return mine[0], mine
}

// fill fetches neighbouring blocks at one go.
func (r *bucketReader) fill(number int64, blocks []*block) {
	data := make([]byte, min(int64(len(blocks))*blockSize, r.size-number*blockSize))
	n, err := r.fetch(data, number*blockSize)
	for i, b := range blocks {
		from := i * blockSize
		to := min(from+blockSize, len(data))
		if to <= n {
			b.data = data[from:to:to]
			r.keep(number+int64(i), b)
		} else {
			b.err = err
			r.forget(number + int64(i)) // who asks again may have better luck
		}
		close(b.ready)
	}
}

// keep enters a block that was fetched, and drops those that were used least recently.
func (r *bucketReader) keep(number int64, b *block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	r.blocks[number] = b
	b.element = r.order.PushFront(number)
	for r.order.Len() > maxBlocks {
		oldest := r.order.Back()
		delete(r.blocks, r.order.Remove(oldest).(int64))
	}
}

func (r *bucketReader) forget(number int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.blocks, number)
}

// fetch fills p from offset on. It goes on where a connection broke.
func (r *bucketReader) fetch(p []byte, offset int64) (int, error) {
	n, wait := 0, firstWait
	for attempt := 1; ; attempt++ {
		var g got
		err := r.b.try(r.ctx, "read", r.key, len(p)-n, func(ctx context.Context) (err error) {
			g, err = r.b.bucket.get(ctx, r.key, r.version, p[n:], offset+int64(n))
			return err
		})
		if g.version != "" && r.version == "" {
			r.size, r.version, r.written = g.size, g.version, g.written
		}
		if n += g.n; g.n > 0 {
			attempt, wait = 1, firstWait
		}
		switch {
		case err == nil:
			return n, nil
		case means(err, beyond) && offset == 0 && n == 0:
			return 0, nil // an object of no bytes
		case r.ctx.Err() != nil:
			return n, r.ended()
		case means(err, taken):
			return n, fmt.Errorf("read %s: it was replaced or deleted while it was being read", r.b.where(r.key))
		case !means(err, unavailable) || errors.Is(err, errSlow) || attempt >= readAttempts || !sleep(r.ctx, wait):
			return n, err
		}
		wait = min(2*wait, lastWait)
	}
}

// ended says why nothing can be read any more.
func (r *bucketReader) ended() error {
	return fmt.Errorf("read %s: %w", r.b.where(r.key), context.Cause(r.ctx))
}
