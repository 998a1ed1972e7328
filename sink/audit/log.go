package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/storage"
)

// entryLimit is the size that an entry, or a manifest, may have at most.
const entryLimit = 1 << 20

// Store is what the log needs of the landing zone's storage.
type Store interface {
	storage.Putter
	storage.Opener
	storage.Lister
}

// watcher is a store that wants to know which entries stand: see Checkpoints.Store.
type watcher interface {
	stands(name string, data []byte)
}

func stands(store Store, name string, data []byte) {
	if w, ok := store.(watcher); ok {
		w.stands(name, data)
	}
}

// put writes an entry, or finds that it is there already. Any other entry under its name is returned with ErrForged.
func put(ctx context.Context, store Store, name string, data []byte) (there []byte, err error) {
	if there, err = place(ctx, store, name, data); err == nil {
		stands(store, name, data)
	}
	return there, err
}

func place(ctx context.Context, store Store, name string, data []byte) (there []byte, err error) {
	killpoint.ReachFor("entry_begun", name)
	if err = store.Put(ctx, name, data); err == nil {
		killpoint.ReachFor("entry_landed", name)
		return data, nil
	}
	killpoint.ReachFor("entry_doubted", name)
	there, readErr := storage.ReadAll(ctx, store, name, entryLimit)
	switch {
	case readErr != nil: // an error from a write proves nothing, and one from a read neither
		return nil, err
	case !bytes.Equal(there, data):
		return there, fmt.Errorf("%w: %s is not the entry that belongs there", ErrForged, name)
	case errors.Is(err, storage.ErrExists):
		return there, nil
	}
	// It is there, but the error may mean that it is not durable yet.
	if err = store.Put(ctx, name, data); err == nil || errors.Is(err, storage.ErrExists) {
		return there, nil
	}
	return nil, err
}

// Process is the chain of one process. It is safe for concurrent use.
type Process struct {
	store Store
	name  string
	now   func() time.Time

	mu       sync.Mutex
	sequence int64
	previous string
}

// OpenProcess begins the chain of a process that NewProcess named. Nothing is written until the first Append.
func OpenProcess(store Store, name string, now func() time.Time) *Process {
	return &Process{store: store, name: name, now: now}
}

// Name returns the name of the process.
func (p *Process) Name() string { return p.name }

// Append writes an entry. Time, actor, version and digests are filled in. After an error the entry may or may not be
// there; to append it again is right.
func (p *Process) Append(ctx context.Context, e Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.Time, e.Actor = manifest.Time(p.now().Add(killpoint.Skew()).UnixMilli()), p.name
	for {
		e.Previous = p.previous
		data, err := e.encode()
		if err != nil {
			return err
		}
		there, err := put(ctx, p.store, ProcessName(p.name, p.sequence), data)
		if err != nil && there == nil {
			return err
		}
		// Where another entry stands, it can only be our own, from an Append that was told of an error and yet succeeded.
		have, decodeErr := Decode(there)
		if decodeErr != nil || have.Actor != p.name || have.Previous != p.previous {
			return errors.Join(err, decodeErr)
		}
		p.sequence, p.previous = p.sequence+1, have.Digest
		if err == nil {
			return nil
		}
	}
}

// Commits writes the entries of manifests, of any partition, whichever process wrote the manifest. It is safe for
// concurrent use.
type Commits struct {
	store Store

	mu   sync.Mutex
	tips map[record.Source]*tip
}

// tip is where a partition's chain ends.
type tip struct {
	mu     sync.Mutex
	known  bool
	next   int64  // the next of the last manifest that has an entry
	digest string // of that entry
}

// OpenCommits returns the writer of commit entries.
func OpenCommits(store Store) *Commits { return &Commits{store: store, tips: map[record.Source]*tip{}} }

// Append writes the entry of a manifest, and before it those of earlier manifests of the partition that have none
// because their writer died. To repeat it is harmless. A manifest that has its entry is found quickly as long as this
// Commits has seen the partition before; otherwise the partition's entries are listed once.
func (c *Commits) Append(ctx context.Context, m *manifest.Manifest) error {
	source := m.Source()
	c.mu.Lock()
	at := c.tips[source]
	if at == nil {
		at = &tip{}
		c.tips[source] = at
	}
	c.mu.Unlock()
	at.mu.Lock()
	defer at.mu.Unlock()

	if !at.known {
		if err := c.find(ctx, source, at); err != nil {
			return err
		}
	}
	for at.next < m.Next {
		next, digest, err := c.read(ctx, source, at.next)
		if err != nil {
			return err
		}
		entry := forCommit(next, digest, at.digest)
		data, err := entry.encode()
		if err != nil {
			return err
		}
		if _, err := put(ctx, c.store, CommitName(next), data); err != nil {
			return err
		}
		at.next, at.digest = next.Next, entry.Digest
	}
	return nil
}

// Forget drops what is remembered of a partition, when it is given away.
func (c *Commits) Forget(source record.Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tips, source)
}

// find looks for the end of a partition's chain. Entries are written in order, so the last one tells.
func (c *Commits) find(ctx context.Context, source record.Source, at *tip) error {
	last := ""
	for info, err := range c.store.List(ctx, CommitsFolder+manifest.SourcePath(source)+"/") {
		if err != nil {
			return err
		}
		last = info.Name
	}
	if last == "" {
		at.known = true
		return nil
	}
	data, err := storage.ReadAll(ctx, c.store, last, entryLimit)
	if err != nil {
		return err
	}
	entry, err := Decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w", last, err)
	}
	_, first, err := manifest.ParseName(entry.Object)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrForged, last, err)
	}
	m, digest, err := c.read(ctx, source, first)
	if err != nil {
		return err
	}
	if CommitName(m) != last || entry.ObjectSHA256 != digest {
		return fmt.Errorf("%w: %s does not belong to %s", ErrForged, last, m.Name())
	}
	stands(c.store, last, data) // who wrote it may have died before a checkpoint named it
	at.known, at.next, at.digest = true, m.Next, entry.Digest
	return nil
}

func (c *Commits) read(ctx context.Context, source record.Source, first int64) (*manifest.Manifest, string, error) {
	name := manifest.Name(source, first)
	data, err := storage.ReadAll(ctx, c.store, name, entryLimit)
	if err != nil {
		return nil, "", err
	}
	m, err := manifest.Decode(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return m, manifest.Digest(data), nil
}
