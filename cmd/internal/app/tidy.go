package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/landing"
)

const (
	// tidyTime bounds one look for orphans. What it leaves is harmless and found by the next.
	tidyTime = 10 * time.Second
	// firstSince is how far back the orphans of a partition are looked for of which nothing has ever landed.
	firstSince = 30 * 24 * time.Hour
)

// tidier removes the files that writers left who died, or who could not delete them, before they had committed them:
// each time that a partition's first segment since it was taken over has been committed, after a commit that had to be
// repeated, and when the partition is given back. Before that commit nothing may be deleted: see landing.Orphans.
type tidier struct {
	zone *landing.Zone
	log  *slog.Logger

	mu   sync.Mutex
	held map[record.Source]*tenure
}

// tenure is what must be known of a partition since it was taken over.
type tenure struct {
	from  int64     // the last segment before, which its writer's death may have followed at once
	since time.Time // when that was opened
	due   bool      // after the next commit there may be something to remove

	states []string // that were committed and are there yet, the newest last
}

func newTidier(zone *landing.Zone, log *slog.Logger) *tidier {
	return &tidier{zone: zone, log: log, held: map[record.Source]*tenure{}}
}

// taken says that a partition was taken over at head.
func (t *tidier) taken(head landing.Head) {
	held := &tenure{since: time.Now().Add(-firstSince), due: true}
	if head.Last != nil {
		held.from = head.First()
		held.since = time.UnixMilli(int64(head.Last.Opened)).Add(-24 * time.Hour) // clocks differ
		if head.Last.State != nil {
			held.states = []string{head.Last.State.Name}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[head.Source] = held
}

// failed says that an attempt to commit a segment failed, and may have left files.
func (t *tidier) failed(src record.Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.held[src]; held != nil {
		held.due = true
	}
}

// landed removes what it may after a commit: the state before the last one, and whatever else if there is reason to look.
func (t *tidier) landed(ctx context.Context, src record.Source, head landing.Head) {
	t.mu.Lock()
	held := t.held[src]
	old := ""
	if held != nil && head.Last.State != nil {
		if held.states = append(held.states, head.Last.State.Name); len(held.states) > 2 {
			old, held.states = held.states[0], held.states[1:]
		}
	}
	look := held != nil && held.due
	if look {
		held.due = false
	}
	t.mu.Unlock()
	if old != "" {
		// The one before the newest stays: somebody may just be reading it. What cannot be deleted is left to taster tidy.
		if err := t.zone.Delete(ctx, old); err != nil && ctx.Err() == nil {
			t.log.Debug("an old state cannot be deleted", "state", old, "error", err)
		}
	}
	if look && !t.tidy(ctx, src, held) {
		t.failed(src)
	}
}

// given removes what it may when a partition is given back: a writer that was thought dead may have been slow only,
// and have died since.
func (t *tidier) given(ctx context.Context, src record.Source) {
	t.mu.Lock()
	held := t.held[src]
	delete(t.held, src)
	t.mu.Unlock()
	if held != nil {
		t.tidy(ctx, src, held)
	}
}

func (t *tidier) tidy(ctx context.Context, src record.Source, held *tenure) bool {
	ctx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()
	files, bytes, err := t.zone.DeleteOrphans(ctx, t.zone.OrphansOf(ctx, src, held.from, held.since))
	if files > 0 {
		t.log.Info("removed files that a stopped writer left uncommitted", "topic", src.Topic, "partition", src.Partition, "files", files, "bytes", bytes)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.log.Warn("files that a stopped writer left uncommitted cannot be removed; trying again later", "topic", src.Topic, "partition", src.Partition, "error", err)
	}
	return err == nil
}
