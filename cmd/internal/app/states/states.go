// Package states finds what segments are judged by beside themselves: the state that a source's own segments left in the
// landing zone, and the newest states of the topic's other sources, which other instances may have written.
//
// Own states are part of the line of commits: they are read whenever a stream takes a source up, and waited for. The
// states of others are an addition that changes when they are read, not what is right: they are read again now and
// then, all streams of a process share what was read, nothing waits for them but the first segment of a process for a
// while, and whatever cannot be read leaves what was known before.
//
// Others are the sources of the same topic whose state was left under the same contract: what was learned of other
// fields says nothing about these. Of files there may be any number, and of each there is one state for ever; the newest
// by commit are taken.
package states

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

const (
	// Every is how old what is known of others may be before it is read again.
	Every = time.Minute
	// restful bounds the share of time that is spent on listing: a listing that took a second is not repeated for
	// twenty, however few a minute would be.
	restful = 20
	// firstWait is how long the first segment of a process waits for the states of others.
	firstWait = 10 * time.Second
	// readTime bounds one reading of others.
	readTime = 5 * time.Minute
	// mostFiles is how many files' states are taken, and mostBytes how much memory the states of others may take: as
	// much as the messages on their way. The newest are taken; of a partition's state nothing is lost, since the
	// partition itself always has its own.
	mostFiles = 32
	mostBytes = 64 << 20
	// atOnce is how many states are read side by side.
	atOnce = 16
)

// Zone is where states are; landing.Zone is one.
type Zone interface {
	State(ctx context.Context, s *manifest.Sealed) ([]byte, error)
	States(ctx context.Context, topic string) iter.Seq2[landing.StateObject, error]
	Manifest(ctx context.Context, source record.Source, first int64) (*landing.Committed, error)
}

// Options are what a Cache needs to know.
type Options struct {
	Contract string           // hex digest of the contract that is used now
	Every    time.Duration    // default Every
	Now      func() time.Time // default time.Now; only differences count

	// Unreadable, if not nil, is told once of every state that can never be read again. What was learned is gone;
	// records are judged without it.
	Unreadable func(name string, own bool, err error)
	// Away, if not nil, is told when the states of others cannot be read for now, and not again before they could be.
	Away func(err error)
	// Left, if not nil, is told how many states of others are known after they were read, and how many more there are
	// than are taken.
	Left func(known, left int)
}

// Cache finds states of one topic. It is safe for concurrent use. Close ends it.
type Cache struct {
	zone  Zone
	topic string
	opt   Options

	ctx   context.Context
	stop  context.CancelFunc
	reads sync.WaitGroup

	mu      sync.Mutex
	due     time.Time
	reading chan struct{} // closed when the reading under way has ended; nil: there is none
	first   bool          // others were read, or waited for, once
	away    bool
	others  []other // by source
	refused map[string]bool
	ended   map[string]verdict // what manifests say of states that are listed, which never changes
}

// other is the state of one other source.
type other struct {
	source record.Source
	name   string
	state  pipeline.State
}

// verdict is what a manifest says of a state object.
type verdict struct {
	counts    bool // its manifest lists it, and was written under the present contract
	committed manifest.Time
}

// New makes the cache of a topic. Nothing is read yet.
func New(zone Zone, topic string, opt Options) *Cache {
	if opt.Every <= 0 {
		opt.Every = Every
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	c := &Cache{zone: zone, topic: topic, opt: opt, refused: map[string]bool{}, ended: map[string]verdict{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Close ends what is under way and waits for it.
func (c *Cache) Close() {
	c.stop()
	c.reads.Wait()
}

// Own implements pipeline.Memory.
func (c *Cache) Own(ctx context.Context, head landing.Head) (pipeline.State, error) {
	if head.Last == nil || head.Last.State == nil {
		return pipeline.State{}, nil
	}
	data, err := c.zone.State(ctx, head.Last.State)
	for range 2 {
		if !errors.Is(err, storage.ErrNotExist) {
			break
		}
		// A file system that is not mounted has no objects either, and comes back. Only if the manifest is there, which
		// lists the state, the state is not; and it may have come back between the two looks.
		if _, away := c.zone.Manifest(ctx, head.Source, head.First()); away != nil {
			return pipeline.State{}, fmt.Errorf("the manifest that lists the state: %w", away)
		}
		data, err = c.zone.State(ctx, head.Last.State)
	}
	if errors.Is(err, landing.ErrUnreadable) {
		if c.opt.Unreadable != nil {
			c.opt.Unreadable(head.Last.State.Name, true, err)
		}
		return pipeline.State{}, nil
	}
	if err != nil {
		return pipeline.State{}, err
	}
	return pipeline.State{Data: data, Digest: head.Last.State.Content}, nil
}

// Others implements pipeline.Memory: the states of the topic's sources, but for that of src, in the order of sources. If
// they are due to be read again that is begun, and what was known until then is returned.
func (c *Cache) Others(ctx context.Context, src record.Source) []pipeline.State {
	c.mu.Lock()
	if c.reading == nil && c.ctx.Err() == nil && !c.opt.Now().Before(c.due) {
		c.reading = make(chan struct{})
		c.reads.Add(1)
		go c.read(c.reading)
	}
	reading, first := c.reading, !c.first
	c.mu.Unlock()
	if first && reading != nil {
		wait := time.NewTimer(firstWait)
		defer wait.Stop()
		select {
		case <-reading:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = true
	var out []pipeline.State
	for _, o := range c.others {
		if o.source != src {
			out = append(out, o.state)
		}
	}
	return out
}

// read reads the states of others again.
func (c *Cache) read(done chan struct{}) {
	defer c.reads.Done()
	ctx, cancel := context.WithTimeout(c.ctx, readTime)
	defer cancel()
	began := c.opt.Now()
	others, left, err := c.newest(ctx)
	took := c.opt.Now().Sub(began)

	c.mu.Lock()
	c.due = c.opt.Now().Add(max(c.opt.Every, restful*took))
	tell := err != nil && !c.away && c.ctx.Err() == nil
	c.away = err != nil
	if err == nil {
		c.others = others
	}
	c.reading = nil
	c.mu.Unlock()
	close(done)
	switch {
	case tell && c.opt.Away != nil:
		c.opt.Away(err)
	case err == nil && c.opt.Left != nil:
		c.opt.Left(len(others), left)
	}
}

// candidate is the newest state of a source that counts.
type candidate struct {
	landing.StateObject
	verdict
}

// newest reads the newest states of all sources that are not known yet. With an error nothing of it is good.
func (c *Cache) newest(ctx context.Context) (others []other, left int, err error) {
	listed := map[record.Source][]landing.StateObject{} // in order of their offsets
	for o, err := range c.zone.States(ctx, c.topic) {
		if err != nil {
			return nil, 0, err
		}
		if o.Copy == 0 {
			listed[o.Source] = append(listed[o.Source], o)
		}
	}
	c.forget(listed)
	sources := make([]record.Source, 0, len(listed))
	for source := range listed {
		sources = append(sources, source)
	}
	found := make([]*candidate, len(sources))
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, source := range sources {
		group.Go(func() (err error) {
			found[i], err = c.candidate(limited, listed[source])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	found = slices.DeleteFunc(found, func(c *candidate) bool { return c == nil })
	slices.SortFunc(found, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(b.committed, a.committed), cmp.Compare(a.Name, b.Name))
	})
	files, bytes := 0, int64(0)
	taken := slices.DeleteFunc(slices.Clone(found), func(c *candidate) bool {
		if isFile(c.Source) {
			files++
		}
		bytes += c.Size
		return isFile(c.Source) && files > mostFiles || bytes > mostBytes
	})
	others = make([]other, len(taken))
	group, limited = errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, t := range taken {
		group.Go(func() (err error) {
			others[i], err = c.load(limited, t)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	others = slices.DeleteFunc(others, func(o other) bool { return o.state.Data == nil })
	slices.SortFunc(others, func(a, b other) int {
		return cmp.Or(cmp.Compare(a.source.ID, b.source.ID), cmp.Compare(a.source.Partition, b.source.Partition))
	})
	return others, len(found) - len(taken), nil
}

// isFile tells a file from a partition by the id: a topic's has 22 characters.
func isFile(source record.Source) bool { return len(source.ID) == 64 }

// candidate returns the newest of a source's states that counts, nil for none. A state without a manifest is being
// written, or its writer died; one that its manifest does not list was lost.
func (c *Cache) candidate(ctx context.Context, objects []landing.StateObject) (*candidate, error) {
	for i := len(objects) - 1; i >= 0; i-- {
		o := objects[i]
		c.mu.Lock()
		v, known := c.ended[o.Name]
		c.mu.Unlock()
		if !known {
			m, err := c.zone.Manifest(ctx, o.Source, o.First)
			if errors.Is(err, storage.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			v.committed = m.Committed
			v.counts = m.State != nil && m.State.Name == o.Name && m.Contract == c.opt.Contract
			c.mu.Lock()
			c.ended[o.Name] = v
			c.mu.Unlock()
		}
		if v.counts {
			return &candidate{o, v}, nil
		}
	}
	return nil, nil
}

// load reads a state that is not known yet. It comes back empty if it can never be read, and also if it was deleted since
// it was listed: then there are two newer ones, which the next listing shows.
func (c *Cache) load(ctx context.Context, t *candidate) (other, error) {
	c.mu.Lock()
	at := slices.IndexFunc(c.others, func(o other) bool { return o.source == t.Source })
	known := other{source: t.Source}
	if at >= 0 {
		known = c.others[at]
	}
	refused := c.refused[t.Name]
	c.mu.Unlock()
	if known.name == t.Name || refused {
		return known, nil
	}
	m, err := c.zone.Manifest(ctx, t.Source, t.First)
	if err != nil {
		return other{}, err
	}
	data, err := c.zone.State(ctx, m.State)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return known, nil
	case errors.Is(err, landing.ErrUnreadable):
		c.mu.Lock()
		c.refused[t.Name] = true
		c.mu.Unlock()
		if c.opt.Unreadable != nil {
			c.opt.Unreadable(t.Name, false, err)
		}
		return known, nil
	case err != nil:
		return other{}, err
	}
	return other{t.Source, t.Name, pipeline.State{Data: data, Digest: m.State.Content}}, nil
}

// forget drops what is known of objects that are there no more.
func (c *Cache) forget(listed map[record.Source][]landing.StateObject) {
	there := map[string]bool{}
	for _, objects := range listed {
		for _, o := range objects {
			there[o.Name] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.ended {
		if !there[name] {
			delete(c.ended, name)
		}
	}
	for name := range c.refused {
		if !there[name] {
			delete(c.refused, name)
		}
	}
}
