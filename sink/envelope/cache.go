package envelope

import (
	"context"
	"sync"
	"time"
)

// kek is a key encryption key.
type kek struct {
	key     []byte
	id      []byte // 16 bytes
	wrapped string // by the master key
}

// cache keeps KEKs for a limited time: one per zone that wraps, for a limited number of uses, and a limited number of
// those that were unwrapped. It is safe for concurrent use, and locked only while it is looked at.
type cache struct {
	limits Limits
	now    func() time.Time

	mu      *sync.Mutex
	zones   map[Zone]*serving
	reading map[string]unwrapped     // by master key id and wrapped KEK
	flights map[string]chan struct{} // what is being fetched; closed when that has ended
}

type serving struct {
	kek
	since time.Time
	uses  int
}

type unwrapped struct {
	key   []byte
	since time.Time
}

func newCache(l Limits) cache {
	if l.Age <= 0 {
		l.Age = 10 * time.Minute
	}
	if l.Uses <= 0 {
		l.Uses = 1 << 16
	}
	if l.Opened <= 0 {
		l.Opened = 4096
	}
	return cache{
		limits: l, now: time.Now, mu: new(sync.Mutex),
		zones: map[Zone]*serving{}, reading: map[string]unwrapped{}, flights: map[string]chan struct{}{},
	}
}

// fresh tells whether what was fetched at a time may serve still. A clock that was set back makes it old.
func (c *cache) fresh(since time.Time) bool {
	age := c.now().Sub(since)
	return age >= 0 && age < c.limits.Age
}

// inUse returns the KEK that wraps for a zone and counts the use.
func (c *cache) inUse(zone Zone) (kek, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.zones[zone]
	if have == nil || have.uses >= c.limits.Uses || !c.fresh(have.since) {
		return kek{}, false
	}
	have.uses++
	return have.kek, true
}

// use puts a KEK into service and counts the first use.
func (c *cache) use(zone Zone, key kek) kek {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.zones[zone] = &serving{kek: key, since: c.now(), uses: 1}
	return key
}

func (c *cache) opened(name string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.reading[name]
	return have.key, ok && c.fresh(have.since)
}

// open keeps an unwrapped KEK. What has grown old goes, and the oldest if there are too many still.
func (c *cache) open(name string, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.reading) >= c.limits.Opened {
		oldest := ""
		for name, have := range c.reading {
			if !c.fresh(have.since) {
				delete(c.reading, name)
			} else if oldest == "" || have.since.Before(c.reading[oldest].since) {
				oldest = name
			}
		}
		if len(c.reading) >= c.limits.Opened {
			delete(c.reading, oldest)
		}
	}
	c.reading[name] = unwrapped{key: key, since: c.now()}
}

// once returns as soon as look finds what it wants. Until then one caller at a time fetches; the others wait for it
// and look again, so that a fetch that failed for one, because its context ended perhaps, is tried by the next.
func (c *cache) once(ctx context.Context, name string, look func() bool, fetch func() error) error {
	for !look() {
		c.mu.Lock()
		flight, others := c.flights[name]
		if !others {
			flight = make(chan struct{})
			c.flights[name] = flight
		}
		c.mu.Unlock()
		if !others {
			return c.fly(name, flight, look, fetch)
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *cache) fly(name string, flight chan struct{}, look func() bool, fetch func() error) error {
	defer func() {
		c.mu.Lock()
		delete(c.flights, name)
		c.mu.Unlock()
		close(flight)
	}()
	if look() { // another flight ended between our look and our start
		return nil
	}
	return fetch()
}
