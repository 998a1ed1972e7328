package pipeline

import (
	"context"
	"slices"
	"sync"
)

// memory bounds what all messages between a source and the landing zone take up: their bytes, until they are columns,
// and then the columns. Open segments of all streams share it: when it is used up, relieve is called, which ends the largest open segment early. Who came first is served
// first: a large message would otherwise wait for as long as small ones keep coming.
type memory struct {
	limit   int64
	relieve func()

	mu       sync.Mutex
	changed  sync.Cond
	used     int64
	waiting  []*int64 // what each waits for, in the order in which they came
	releases int      // counted, so that one during relieve is not missed
}

func newMemory(limit int64, relieve func()) *memory {
	m := &memory{limit: limit, relieve: relieve}
	m.changed.L = &m.mu
	return m
}

// acquire waits until n bytes are to be had. A message larger than the whole limit is let in when nothing else is
// there, so that it can be refused and kept like any other.
func (m *memory) acquire(ctx context.Context, n int64) error {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changed.Broadcast()
	})
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = append(m.waiting, &n)
	defer func() {
		m.waiting = slices.DeleteFunc(m.waiting, func(w *int64) bool { return w == &n })
		m.changed.Broadcast()
	}()
	for m.waiting[0] != &n || m.used > 0 && m.used+n > m.limit {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if m.waiting[0] != &n {
			m.changed.Wait()
			continue
		}
		before := m.releases
		m.mu.Unlock()
		m.relieve()
		m.mu.Lock()
		if m.releases == before && ctx.Err() == nil {
			m.changed.Wait()
		}
	}
	m.used += n
	return nil
}

func (m *memory) release(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.releases++
	m.changed.Broadcast()
}
