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

// Orphans yields the files that lost for good: the manifest at their own first exists and does not list them. A file
// whose manifest does not exist yet is not among them, however old it is: its writer may be alive.
func (z *Zone) Orphans(ctx context.Context) iter.Seq2[storage.Info, error] {
	var folders []string
	for _, v := range finding.Verdicts {
		folders = append(folders, v.String()+"/")
	}
	return z.orphans(ctx, folders, 0)
}

// OrphansOf yields those of one partition whose first is from or later, and whose segment was opened on the UTC day
// of since or later. It lists these days and no others, so it can be asked whenever a partition changes hands.
func (z *Zone) OrphansOf(ctx context.Context, source record.Source, from int64, since time.Time) iter.Seq2[storage.Info, error] {
	var prefixes []string
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
		var listed []manifest.File
		for _, prefix := range prefixes {
			for info, err := range z.opt.Store.List(ctx, prefix) {
				if err != nil {
					yield(info, err)
					return
				}
				name, err := manifest.ParseFileName(info.Name)
				if err != nil || name.First < from {
					continue // not ours, so not ours to judge; or not asked for
				}
				if decider != name.Decider() {
					files, err := z.decided(ctx, name)
					if errors.Is(err, storage.ErrNotExist) {
						continue
					}
					if err != nil {
						yield(info, err)
						return
					}
					decider, listed = name.Decider(), files
				}
				counted := slices.ContainsFunc(listed, func(f manifest.File) bool { return f.Name == info.Name })
				if !counted && !yield(info, nil) {
					return
				}
			}
		}
	}
}

// decided returns the files that the manifest or the change lists for which a file was written. The error is
// storage.ErrNotExist as long as nobody has written that.
func (z *Zone) decided(ctx context.Context, name manifest.FileName) ([]manifest.File, error) {
	if name.Change != manifest.Original {
		c, err := z.readChange(ctx, name.Source, name.Change)
		if err != nil {
			return nil, err
		}
		return c.Added, nil
	}
	c, err := z.read(ctx, name.Source, name.First)
	if err != nil {
		return nil, err
	}
	return c.Files, nil
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
