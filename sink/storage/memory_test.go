package storage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NewMemory returns a Bucket over a bucket in memory, for the tests of what all providers share.
func NewMemory() *Bucket {
	return &Bucket{bucket: &memory{objects: map[string]memoryObject{}}, url: "mem://zone/p/", prefix: "p/", timeout: defaultTimeout, partSize: defaultPartSize}
}

func (b *Bucket) memory() *memory { return b.bucket.(*memory) }

// Prove is what Open does with a bucket.
func (b *Bucket) Prove(ctx context.Context) error { return b.prove(ctx) }

// Requests returns how many requests of one kind a bucket of NewMemory has had, and forgets them.
func (b *Bucket) Requests(kind string) int {
	m := b.memory()
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.requests[kind]
	delete(m.requests, kind)
	return n
}

// memory is a bucket in memory. before, if set, is called before every request with its kind, and fails it; after fails
// it when it is done.
type memory struct {
	mu            sync.Mutex
	objects       map[string]memoryObject
	uploads       int // under way
	generation    int
	requests      map[string]int
	before, after func(kind string) error
	anyone        func(kind string) bool // ignores conditions, as stores do that do not know them
	cut           int                    // get breaks off after so many bytes, once; 0: never
}

type memoryObject struct {
	data            []byte
	writer, version string
	modified        time.Time
}

var (
	errTaken    = errors.New("taken")
	errMissing  = errors.New("missing")
	errBeyond   = errors.New("beyond")
	errVanished = errors.New("vanished")
	errDenied   = errors.New("denied")
	errBusy     = errors.New("busy")
	errCut      = errors.New("cut")
	errAgain    = errors.New("again")
)

func (m *memory) request(ctx context.Context, kind string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests = map[string]int{}
	}
	m.requests[kind]++
	if m.before != nil {
		if err := m.before(kind); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if m.after != nil {
		return m.after(kind)
	}
	return nil
}

func (m *memory) store(kind, key, writer string, data []byte, absent bool) error {
	if _, there := m.objects[key]; there && absent && (m.anyone == nil || !m.anyone(kind)) {
		return errTaken
	}
	m.generation++
	m.objects[key] = memoryObject{bytes.Clone(data), writer, strconv.Itoa(m.generation), time.Now()}
	return nil
}

func (m *memory) put(ctx context.Context, key, writer string, data []byte, absent bool) error {
	return m.request(ctx, "put", func() error { return m.store("put", key, writer, data, absent) })
}

func (m *memory) writer(ctx context.Context, key string) (id string, err error) {
	return id, m.request(ctx, "writer", func() error {
		o, there := m.objects[key]
		if !there {
			return errMissing
		}
		id = o.writer
		return nil
	})
}

func (m *memory) get(ctx context.Context, key, version string, p []byte, offset int64) (g got, err error) {
	err = m.request(ctx, "get", func() error {
		o, there := m.objects[key]
		switch {
		case !there:
			return errMissing
		case version != "" && version != o.version:
			return errTaken
		case offset >= int64(len(o.data)):
			return errBeyond
		}
		g = got{n: copy(p, o.data[offset:]), size: int64(len(o.data)), version: o.version}
		if cut := m.cut; cut > 0 && cut < g.n {
			g.n, m.cut = cut, 0
			return errCut
		}
		return nil
	})
	return g, err
}

func (m *memory) list(ctx context.Context, prefix, token string) (page []listed, next string, err error) {
	err = m.request(ctx, "list", func() error {
		var keys []string
		for key := range m.objects {
			if strings.HasPrefix(key, prefix) && key > token {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			if len(page) == 100 {
				next = page[99].key
				break
			}
			page = append(page, listed{key, int64(len(m.objects[key].data)), m.objects[key].modified, m.objects[key].version})
		}
		return nil
	})
	return page, next, err
}

func (m *memory) delete(ctx context.Context, key string) error {
	return m.request(ctx, "delete", func() error {
		if _, there := m.objects[key]; !there {
			return errMissing
		}
		delete(m.objects, key)
		return nil
	})
}

func (m *memory) begin(ctx context.Context, key, writer string) (upload, error) {
	u := &memoryUpload{m: m, key: key, writer: writer}
	return u, m.request(ctx, "begin", func() error { m.uploads++; return nil })
}

type memoryUpload struct {
	m           *memory
	key, writer string
	data        []byte
	over        bool
}

func (u *memoryUpload) part(ctx context.Context, number int, data []byte) error {
	return u.m.request(ctx, "part", func() error { u.data = append(u.data, data...); return nil })
}

func (u *memoryUpload) complete(ctx context.Context) error {
	return u.m.request(ctx, "complete", func() error {
		if u.over {
			return errVanished
		}
		if err := u.m.store("complete", u.key, u.writer, u.data, true); err != nil {
			return err
		}
		u.over = true
		u.m.uploads--
		return nil
	})
}

func (u *memoryUpload) abort(ctx context.Context) error {
	return u.m.request(ctx, "abort", func() error {
		if u.over {
			return errVanished
		}
		u.over = true
		u.m.uploads--
		return nil
	})
}

func (m *memory) explain(err error) (meaning, string) {
	for to, from := range map[meaning]error{taken: errTaken, missing: errMissing, beyond: errBeyond, vanished: errVanished, refused: errDenied, contended: errAgain} {
		if errors.Is(err, from) {
			return to, err.Error()
		}
	}
	return unavailable, err.Error()
}

// SweepUploads aborts the unfinished uploads of an S3 bucket that began before a time, as opening it does a day later.
func (b *Bucket) SweepUploads(ctx context.Context, before time.Time) error {
	return b.bucket.(*s3Bucket).sweepUploads(ctx, b.prefix, before)
}
