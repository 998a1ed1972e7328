package landing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

// ErrRows says that a file does not hold the rows that were committed. Nothing is made of such a file; verify tells
// what is wrong with it.
var ErrRows = errors.New("the file does not hold the rows that were committed")

// changeBytes is from how many bytes of names on a change is written, and another begun: far below
// manifest.ChangeLimit.
const changeBytes = manifest.ChangeLimit / 4

// Compaction says which files of a partition are copied into new ones.
//
// The rows of several files of one verdict go into one file where the files follow on one another, have the same
// columns, and were committed on the same UTC day: a file is never kept longer for its youngest row than a day. A file
// that is half as large as Target, or larger, stays as it is.
type Compaction struct {
	Target     int64     // stored bytes that go into one file at most
	Before     time.Time // of segments that were committed earlier
	All        bool      // look at segments of days that an earlier compaction has been through, too
	Rewrite    bool      // instead of all that: copy, one to one, each file that other master keys, or other storage of key material, protect than now would
	Restricted []string  // columns that are to have a key of their own, beside those that have one
	Rule       string    // why, for the audit log
	Progress   func(rows int64)
}

// Compacted tells what Compact did.
type Compacted struct {
	Merged int   // files that count no longer
	Into   int   // files that took their place
	Rows   int64 // in them
	Before int64 // stored bytes of the former
	After  int64 // stored bytes of the latter
	Lost   int   // attempts that another writer's change made void
}

// run is files of one verdict whose rows are to be copied, in order.
type run struct {
	files []manifest.File
	bytes int64
}

// Compact copies the rows of small files of a partition into larger ones, and lets these count in their place. What it
// has done when an error ends it stays done. To do it twice, by any number of processes, at any time, is harmless:
//
//   - the new files are named with the number of the change that will list them, so that nobody takes them for orphans
//     before that number is taken;
//   - every row is compared, by digests of the plaintext, with what was committed: when it is read, and again when it
//     is read back from the new file;
//   - the change is written only if its number is free: who loses the number deletes the files that it made, and looks
//     anew at what counts.
//
// The old files stay. Superseded names those that may be deleted.
func (z *Zone) Compact(ctx context.Context, source record.Source, opt Compaction) (done Compacted, err error) {
	if z.opt.Keys == nil {
		return done, fmt.Errorf("%w: to compact", envelope.ErrNoKey)
	}
	if opt.Progress == nil {
		opt.Progress = func(int64) {}
	}
	for {
		if err = z.compact(ctx, source, opt, &done); !errors.Is(err, ErrLost) {
			return done, err
		}
		done.Lost++
	}
}

func (z *Zone) compact(ctx context.Context, source record.Source, opt Compaction, done *Compacted) error {
	view, err := z.View(ctx, source)
	if err != nil {
		return err
	}
	c := z.Next(view, manifest.Compact, opt.Rule)
	var now Compacted // by the change at hand
	var names int
	var faults []error // of single files, which do not keep others from being merged
	apply := func() error {
		if len(c.Removed) == 0 {
			return nil
		}
		err := z.Apply(ctx, view, c)
		if errors.Is(err, ErrLost) { // after any other error they may count
			return errors.Join(err, z.drop(ctx, fileNames(c.Added)))
		}
		if err != nil {
			return err
		}
		done.Merged, done.Into, done.Rows = done.Merged+now.Merged, done.Into+now.Into, done.Rows+now.Rows
		done.Before, done.After = done.Before+now.Before, done.After+now.After
		c, now, names = z.Next(view, manifest.Compact, opt.Rule), Compacted{}, 0
		return nil
	}
	fail := func(err error) error { // before the change was tried
		if z.taken(ctx, c) {
			err = fmt.Errorf("%w: %s (%w)", ErrLost, c.Name(), err) // what failed is perhaps no more
		}
		return errors.Join(err, z.drop(ctx, fileNames(c.Added)))
	}
	for r, err := range z.runs(ctx, view, opt) {
		if err != nil {
			return fail(err)
		}
		for len(r.files) > 0 {
			taken, file, err := z.merge(ctx, c, r, opt)
			if damaged(err) && !z.taken(ctx, c) {
				faults = append(faults, err)
				break
			}
			if err != nil {
				return fail(err)
			}
			if file != nil {
				c.Added = append(c.Added, *file)
				for _, f := range r.files[:taken] {
					c.Removed = append(c.Removed, manifest.Removed{Name: f.Name, Rows: f.Rows})
					names += len(f.Name)
					now.Before += f.Bytes
				}
				now.Merged, now.Into, now.Rows, now.After = now.Merged+taken, now.Into+1, now.Rows+file.Rows, now.After+file.Bytes
			}
			r.files = r.files[taken:]
		}
		if now.Before >= opt.Target || names >= changeBytes {
			if err := apply(); err != nil {
				return err
			}
		}
	}
	return errors.Join(append([]error{apply()}, faults...)...)
}

// taken tells whether another change has the number of c.
func (z *Zone) taken(ctx context.Context, c *manifest.Change) bool {
	_, err := z.readChange(ctx, c.Source(), c.Sequence)
	return err == nil
}

// damaged tells whether an error is of one file, so that others can be merged nevertheless.
func damaged(err error) bool {
	return errors.Is(err, ErrRows) || errors.Is(err, parquet.ErrBroken) || errors.Is(err, storage.ErrNotExist)
}

func fileNames(files []manifest.File) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	return names
}

// runs yields what is to be copied together.
func (z *Zone) runs(ctx context.Context, view *View, opt Compaction) iter.Seq2[run, error] {
	return func(yield func(run, error) bool) {
		var open [len(finding.Verdicts)]run
		var covered [len(finding.Verdicts)]int64 // where the rows of the files end that were met
		end := func(v finding.Verdict) bool {
			r := open[v]
			open[v] = run{}
			return len(r.files) < 2 || yield(r, nil)
		}
		from := int64(0)
		if !opt.All && !opt.Rewrite {
			from = view.looked()
		}
		last := ""
		for s, err := range z.segmentsOf(ctx, view, from) {
			if err != nil {
				yield(run{}, err)
				return
			}
			day := time.UnixMilli(int64(s.Committed.Committed)).UTC().Format(time.DateOnly)
			for _, v := range finding.Verdicts {
				// What a day has left to merge is merged before anything of the next: see looked.
				if day != last && !end(v) {
					return
				}
			}
			last = day
			for _, v := range finding.Verdicts {
				missing := s.Counts.Of(v) > 0 && s.Next > covered[v]
				for _, f := range s.Current {
					if f.Verdict != v {
						continue
					}
					name, err := manifest.ParseFileName(f.Name)
					if err != nil {
						yield(run{}, fmt.Errorf("%w: %w", ErrCorrupt, err))
						return
					}
					missing, covered[v] = false, max(covered[v], name.Next)
					if opt.Rewrite {
						if z.outdated(f) && !yield(run{[]manifest.File{f}, f.Bytes}, nil) {
							return
						}
						continue
					}
					stays := f.Bytes >= opt.Target/2 || !time.UnixMilli(int64(s.Committed.Committed)).Before(opt.Before)
					if r := &open[v]; (stays || r.bytes+f.Bytes > opt.Target) && !end(v) {
						return
					}
					if !stays {
						r := &open[v]
						r.files, r.bytes = append(r.files, f), r.bytes+f.Bytes
					}
				}
				// Rows of this verdict that lie in between, and are no more.
				if missing && !end(v) {
					return
				}
			}
		}
		for _, v := range finding.Verdicts {
			if !end(v) {
				return
			}
		}
	}
}

// outdated tells whether a file would be protected otherwise if it were written now.
func (z *Zone) outdated(f manifest.File) bool {
	for _, id := range f.Keys {
		if id != z.opt.Keys.MasterKeyID(envelope.Zone(f.Verdict.String())) && id != z.opt.Keys.MasterKeyID(envelope.Restricted) {
			return true
		}
	}
	return z.opt.External != (f.Material != "")
}

// merge copies the files of a run, or as many of them as have the same columns, into one new file. It returns how many
// files it has dealt with, and no file if they are to stay as they are.
func (z *Zone) merge(ctx context.Context, c *manifest.Change, r run, opt Compaction) (taken int, _ *manifest.File, _ error) {
	for taken = len(r.files); taken > 1 || opt.Rewrite && taken == 1; {
		file, copied, err := z.copyFiles(ctx, c, r.files[:taken], opt)
		if err == nil {
			return taken, file, nil
		}
		if !errors.Is(err, parquet.ErrColumns) || copied == 0 {
			return 0, nil, err
		}
		taken = copied
	}
	return taken, nil, nil
}

// copyFiles writes the rows of files into one, durably, and tells of how many it has copied all. What it has written
// is gone when it returns an error.
func (z *Zone) copyFiles(ctx context.Context, c *manifest.Change, files []manifest.File, opt Compaction) (_ *manifest.File, copied int, err error) {
	first, err := manifest.ParseFileName(files[0].Name)
	if err != nil {
		return nil, 0, err
	}
	last, err := manifest.ParseFileName(files[len(files)-1].Name)
	if err != nil {
		return nil, 0, err
	}
	to := first
	to.Next, to.Change, to.Random = last.Next, c.Sequence, randomHex(8)
	name := to.String()
	w, err := z.opt.Store.Create(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer w.Abort()
	out := &measured{to: w, hash: sha256.New()}
	copier := parquet.NewCopier(out, name, first.Verdict, parquet.Options{
		Keys: z.opt.Keys, External: z.opt.External, Restricted: opt.Restricted, GroupRows: z.opt.GroupRows, GroupBytes: z.opt.GroupBytes,
	})
	for _, f := range files {
		if err := z.copyFile(ctx, copier, f); err != nil {
			return nil, copied, err
		}
		copied++
		opt.Progress(f.Rows)
	}
	written, err := copier.Close(ctx)
	if err != nil {
		return nil, copied, err
	}
	if err := w.Commit(ctx); err != nil {
		return nil, copied, errors.Join(err, z.drop(ctx, []string{name}))
	}
	file := &manifest.File{
		Name: name, Verdict: first.Verdict, Rows: written.Rows, Bytes: out.n, SHA256: hex.EncodeToString(out.hash.Sum(nil)),
		Content: written.Content, Keys: written.Keys,
	}
	if file.Material, err = z.PutSidecar(ctx, name, written.Sidecar); err == nil {
		err = z.check(ctx, *file)
	}
	if err != nil {
		return nil, copied, errors.Join(err, z.drop(ctx, []string{name}))
	}
	return file, copied, nil
}

func (z *Zone) copyFile(ctx context.Context, to *parquet.Copier, f manifest.File) error {
	r, closer, err := z.OpenFile(ctx, f)
	if err != nil {
		return err
	}
	defer closer.Close()
	rows, content, err := to.Add(ctx, r)
	if err == nil && (rows != f.Rows || content != f.Content) {
		err = fmt.Errorf("%w: %s", ErrRows, f.Name)
	}
	return err
}

// check reads a file back.
func (z *Zone) check(ctx context.Context, f manifest.File) error {
	r, closer, err := z.OpenFile(ctx, f)
	if err != nil {
		return err
	}
	defer closer.Close()
	content, rows, err := r.Content(ctx)
	if err == nil && (rows != f.Rows || content != f.Content) {
		err = fmt.Errorf("%w: %s", ErrRows, f.Name)
	}
	return err
}

// Superseded yields the files of a partition that count no longer, by changes from before a time, and are still there.
// What is yielded is to be deleted, in this order, before the next is asked for: the last file of a change tells that
// none of it is left, nor of the changes before it.
func (z *Zone) Superseded(ctx context.Context, source record.Source, before time.Time) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		ripe := int64(0) // changes [0, ripe) are from before
		for c, err := range z.Changes(ctx, source) {
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !time.UnixMilli(int64(c.Time)).Before(before) {
				break
			}
			ripe++
		}
		from, err := z.cleared(ctx, source, ripe)
		for ; err == nil && from < ripe; from++ {
			var c *Changed
			if c, err = z.readChange(ctx, source, from); err != nil {
				break
			}
			for _, r := range c.Removed {
				var size int64
				size, err = z.size(ctx, r.Name)
				if errors.Is(err, storage.ErrNotExist) {
					err = nil
					continue
				}
				if err != nil {
					break
				}
				if !yield(storage.Info{Name: r.Name, Size: size}, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(storage.Info{}, err)
		}
	}
}

// cleared returns the number of the first change before ripe whose files may still be there.
func (z *Zone) cleared(ctx context.Context, source record.Source, ripe int64) (int64, error) {
	for at := ripe - 1; at >= 0; at-- {
		c, err := z.readChange(ctx, source, at)
		if err != nil {
			return 0, err
		}
		if len(c.Removed) == 0 {
			continue
		}
		if _, err := z.size(ctx, c.Removed[len(c.Removed)-1].Name); errors.Is(err, storage.ErrNotExist) {
			return at + 1, nil
		} else if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (z *Zone) size(ctx context.Context, name string) (int64, error) {
	r, err := z.opt.Store.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	return r.Size(), r.Close()
}

// Rule says for how long rows may be kept.
type Rule struct {
	Age  time.Duration // since they were committed; 0 is for ever
	Text string        // the rule's own words, for the audit log
}

// Retained tells what Retain did, or would do.
type Retained struct {
	Files int
	Rows  int64
	Bytes int64
}

// Retain lets the files of a partition count no longer whose time is over: all of their rows were committed longer ago
// than the rule of their verdict allows. Superseded names them when they may be deleted. With dry it only tells what
// it would do. What it has done when an error ends it stays done.
func (z *Zone) Retain(ctx context.Context, source record.Source, rules map[finding.Verdict]Rule, dry bool) (done Retained, err error) {
	for {
		if err = z.retain(ctx, source, rules, dry, &done); !errors.Is(err, ErrLost) {
			return done, err
		}
	}
}

func (z *Zone) retain(ctx context.Context, source record.Source, rules map[finding.Verdict]Rule, dry bool, done *Retained) error {
	view, err := z.View(ctx, source)
	if err != nil {
		return err
	}
	now := z.opt.Now()
	var over [len(finding.Verdicts)][]Current // by verdict, since a change has one rule
	var names [len(finding.Verdicts)]int
	apply := func(v finding.Verdict) error {
		if len(over[v]) == 0 {
			return nil
		}
		c := z.Next(view, manifest.Retain, rules[v].Text)
		var d Retained
		for _, f := range over[v] {
			c.Removed = append(c.Removed, manifest.Removed{Name: f.Name, Rows: f.Rows})
			d.Files, d.Rows, d.Bytes = d.Files+1, d.Rows+f.Rows, d.Bytes+f.Bytes
		}
		if !dry {
			if err := z.Apply(ctx, view, c); err != nil {
				return err
			}
		}
		over[v], names[v] = nil, 0
		done.Files, done.Rows, done.Bytes = done.Files+d.Files, done.Rows+d.Rows, done.Bytes+d.Bytes
		return nil
	}
	for f, err := range current(z.segmentsOf(ctx, view, 0)) {
		if err != nil {
			return err
		}
		rule := rules[f.Verdict]
		if rule.Age <= 0 || now.Sub(time.UnixMilli(int64(f.Committed))) <= rule.Age {
			continue
		}
		over[f.Verdict], names[f.Verdict] = append(over[f.Verdict], f), names[f.Verdict]+len(f.Name)
		if names[f.Verdict] >= changeBytes {
			if err := apply(f.Verdict); err != nil {
				return err
			}
		}
	}
	for _, v := range finding.Verdicts {
		if err := apply(v); err != nil {
			return err
		}
	}
	return nil
}
