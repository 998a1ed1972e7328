package landing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// KeyUse is what needs one master key.
type KeyUse struct {
	ID string // of the master key, without the zone that a key of a key service is bound to

	Files, Bytes int64 // that count; a file that needs several master keys counts with each
	// Internal of these files hold their key material within themselves, so that no rotation changes their master key.
	Internal, InternalBytes int64
	Sealed                  int64 // sealed objects that nothing supersedes

	// Oldest and Newest are the first and the last of the files, by when their segments were committed.
	Oldest, Newest Dated

	// Sample is key material under this master key, nil if none was met outside of a file: with it the key can be tried.
	Sample []byte
}

// Dated is a file and when its segment was committed.
type Dated struct {
	File string
	Time manifest.Time
}

// KeyUses is what the objects of a landing zone need.
type KeyUses struct {
	Keys []KeyUse // by rising id
	// Unfinished files have an older sidecar than a change announced: a rotation was stopped, and the next one ends it.
	Unfinished int64
	// Lost files have no sidecar, and no change holds one. They count with the keys that their manifest names.
	Lost int64
}

// KeyUses counts what needs which master key. It reads manifests, changes, sidecars and the heads of sealed objects, and
// needs no key. progress, if not nil, is told of manifests that were dealt with, of how many, one at a time.
func (z *Zone) KeyUses(ctx context.Context, progress func(done, total int)) (*KeyUses, error) {
	streams, err := z.streams(ctx, nil)
	if err != nil {
		return nil, err
	}
	c := &useCounter{z: z, keys: map[string]*KeyUse{}, progress: progress}
	for _, s := range streams {
		c.total += len(s.firsts)
	}
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(partitionsAtOnce)
	for _, s := range streams {
		group.Go(func() error {
			if err := c.stream(limited, s); err != nil {
				return fmt.Errorf("%s: %w", manifest.SourcePath(s.source), err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, folder := range sealedFolders {
		if err := c.sealed(ctx, folder); err != nil {
			return nil, err
		}
	}
	for _, use := range c.keys {
		c.result.Keys = append(c.result.Keys, *use)
	}
	slices.SortFunc(c.result.Keys, func(a, b KeyUse) int { return cmp.Compare(a.ID, b.ID) })
	return &c.result, nil
}

type useCounter struct {
	z        *Zone
	progress func(done, total int)

	mu          sync.Mutex
	keys        map[string]*KeyUse
	result      KeyUses
	done, total int
}

func (c *useCounter) stream(ctx context.Context, s stream) error {
	view, err := c.z.View(ctx, s.source)
	if err != nil {
		return err
	}
	return c.z.inOrder(ctx, s, func(manifests []*manifest.Manifest) error {
		type dated struct {
			manifest.File
			at manifest.Time
		}
		var files []dated
		for _, m := range manifests {
			for _, f := range view.Files(m) {
				files = append(files, dated{f, m.Committed})
			}
		}
		err := each(ctx, len(files), func(ctx context.Context, i int) error { return c.file(ctx, view, files[i].File, files[i].at) })
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.done += len(manifests); c.progress != nil {
				c.progress(c.done, c.total)
			}
		}
		return err
	})
}

// file counts one file by what its sidecar says, which is what a reader needs. A manifest says what was needed first,
// and a change what will be when it is in place.
func (c *useCounter) file(ctx context.Context, view *View, f manifest.File, at manifest.Time) error {
	ids, samples := f.Keys, map[string][]byte{}
	unfinished, lost := false, false
	if f.Material != "" {
		data, err := storage.ReadAll(ctx, c.z.opt.Store, envelope.SidecarName(f.Name), envelope.SidecarLimit)
		_, announced := view.Material(f.Name)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			unfinished, lost = announced, !announced
		case err != nil:
			return err
		default:
			unfinished = announced && manifest.Digest(data) != f.Material
			if s, err := envelope.ParseSidecar(data); err == nil {
				ids = s.MasterKeyIDs()
				for _, ref := range s.References() {
					if m, err := envelope.Inspect(s.Material(ref)); err == nil {
						id, _ := envelope.SplitZone(m.MasterKeyID)
						samples[id] = s.Material(ref)
					}
				}
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if unfinished {
		c.result.Unfinished++
	}
	if lost {
		c.result.Lost++
	}
	for _, id := range bare(ids) {
		use := c.use(id)
		use.Files, use.Bytes = use.Files+1, use.Bytes+f.Bytes
		if f.Material == "" {
			use.Internal, use.InternalBytes = use.Internal+1, use.InternalBytes+f.Bytes
		}
		if use.Oldest.File == "" || at < use.Oldest.Time || at == use.Oldest.Time && f.Name < use.Oldest.File {
			use.Oldest = Dated{f.Name, at}
		}
		if use.Newest.File == "" || at > use.Newest.Time || at == use.Newest.Time && f.Name > use.Newest.File {
			use.Newest = Dated{f.Name, at}
		}
		if use.Sample == nil {
			use.Sample = samples[id]
		}
	}
	return nil
}

// bare takes the zones off ids, of which each is returned once.
func bare(ids []string) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if id, _ := envelope.SplitZone(id); !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func (c *useCounter) use(id string) *KeyUse {
	use := c.keys[id]
	if use == nil {
		use = &KeyUse{ID: id}
		c.keys[id] = use
	}
	return use
}

// sealed counts sealed objects by the key material at their head.
func (c *useCounter) sealed(ctx context.Context, folder string) error {
	for object, err := range c.z.SealedObjects(ctx, folder) {
		if err != nil {
			return err
		}
		id, _ := envelope.SplitZone(object.Key)
		use := c.use(id)
		use.Sealed++
		if use.Sample == nil {
			use.Sample = object.Material
		}
	}
	return nil
}
