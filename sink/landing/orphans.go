package landing

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/storage"
)

// Orphans yields the files, states and recalls that lost for good: the manifest at their own first exists and does not list them. A file
// whose manifest does not exist yet is not among them, however old it is: its writer may be alive.
func (z *Zone) Orphans(ctx context.Context) iter.Seq2[storage.Info, error] {
	var folders []string
	for _, v := range finding.Verdicts {
		folders = append(folders, v.String()+"/")
	}
	return z.orphans(ctx, append(folders, manifest.StateFolder, manifest.RecallsFolder), 0)
}

// OrphansOf yields those of one partition whose first is from or later, and whose segment was opened on the UTC day
// of since or later. It lists these days and no others, so it can be asked whenever a partition changes hands.
func (z *Zone) OrphansOf(ctx context.Context, source record.Source, from int64, since time.Time) iter.Seq2[storage.Info, error] {
	prefixes := []string{manifest.StateFolder + manifest.SourcePath(source) + "/", manifest.RecallsFolder + manifest.SourcePath(source) + "/"}
	// A day more: the clock of the machine that wrote them may be fast.
	for day, last := since.UTC(), z.opt.Now().UTC().Add(24*time.Hour); !day.After(last); day = day.Add(24 * time.Hour) {
		for _, v := range finding.Verdicts {
			prefixes = append(prefixes, manifest.FilePrefix(v, source, day.Format(time.DateOnly)))
		}
	}
	return z.orphans(ctx, prefixes, from)
}

func (z *Zone) orphans(ctx context.Context, prefixes []string, from int64) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var decider string // files of a segment, and of its retries, are listed side by side
		var listed []string
		for _, prefix := range prefixes {
			for info, err := range z.opt.Store.List(ctx, prefix) {
				if err != nil {
					yield(info, err)
					return
				}
				o, ok := decidedBy(info.Name)
				if !ok || o.first < from {
					continue // not ours, so not ours to judge; or not asked for
				}
				if decider != o.decider {
					names, err := z.decided(ctx, o)
					if errors.Is(err, storage.ErrNotExist) {
						continue
					}
					if err != nil {
						yield(info, err)
						return
					}
					decider, listed = o.decider, names
				}
				if !slices.Contains(listed, o.name) && !yield(info, nil) {
					return
				}
			}
		}
	}
}

// undecided is an object that counts if another one lists it.
type undecided struct {
	name    string // by which it is listed
	source  record.Source
	first   int64
	change  int64  // the sequence of the change that decides, or manifest.Original
	decider string // the name of the manifest or the change
}

// decidedBy tells what decides whether an object counts. A copy under another master key counts if the original does.
func decidedBy(name string) (o undecided, ok bool) {
	if f, err := manifest.ParseFileName(name); err == nil {
		return undecided{name, f.Source, f.First, f.Change, f.Decider()}, true
	}
	if s, err := manifest.ParseSealedName(name); err == nil {
		s.Copy = 0
		return undecided{s.String(), s.Source, s.First, manifest.Original, manifest.Name(s.Source, s.First)}, true
	}
	return o, false
}

// decided returns the names that the manifest or the change lists for which an object was written. The error is
// storage.ErrNotExist as long as nobody has written that.
func (z *Zone) decided(ctx context.Context, o undecided) (names []string, _ error) {
	if o.change != manifest.Original {
		c, err := z.readChange(ctx, o.source, o.change)
		if err != nil {
			return nil, err
		}
		for _, f := range c.Added {
			names = append(names, f.Name)
		}
		return names, nil
	}
	c, err := z.read(ctx, o.source, o.first)
	if err != nil {
		return nil, err
	}
	for _, f := range c.Files {
		names = append(names, f.Name)
	}
	if c.State != nil {
		names = append(names, c.State.Name)
	}
	if c.Recalls != nil {
		names = append(names, c.Recalls.Name)
	}
	return names, nil
}

// DeleteOrphans deletes what Orphans or OrphansOf yields and returns how many files and bytes that were.
func (z *Zone) DeleteOrphans(ctx context.Context, orphans iter.Seq2[storage.Info, error]) (files int, bytes int64, err error) {
	for info, err := range orphans {
		if err != nil {
			return files, bytes, err
		}
		if err := z.Delete(ctx, info.Name); err != nil {
			return files, bytes, err
		}
		files, bytes = files+1, bytes+info.Size
	}
	return files, bytes, nil
}
