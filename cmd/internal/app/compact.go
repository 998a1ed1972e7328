package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// Compaction says what is to be merged.
type Compaction struct {
	Topics  []string      // "" or none: all
	Target  int64         // bytes of files that go into one at most
	Before  time.Duration // segments younger than this are left alone
	All     bool          // also of days that an earlier compaction has been through
	Rewrite bool          // instead: files under other keys than the present ones are written anew, one by one
	Grace   time.Duration // for how long files that count no longer stay
}

// Compacted is what became of it; its JSON form is public.
type Compacted struct {
	Merged       int   `json:"merged"` // files that count no longer
	Into         int   `json:"into"`   // files that have their rows now
	Rows         int64 `json:"rows"`
	BytesBefore  int64 `json:"bytes_before"`
	BytesAfter   int64 `json:"bytes_after"`
	Deleted      int   `json:"deleted"` // files that had ceased to count before the grace period
	DeletedBytes int64 `json:"deleted_bytes"`
	Lost         int   `json:"lost"` // attempts that another process was ahead of
}

// Compact merges small files and deletes those whose grace period is over. A partition that cannot be compacted does not
// keep others from it.
func (a *App) Compact(ctx context.Context, what Compaction, progress func(rows int64)) (*Compacted, error) {
	rule := fmt.Sprintf("compact target %s", strict.FormatSize(what.Target))
	if what.Rewrite {
		rule = "compact rewrite under present keys"
	}
	report := &Compacted{}
	err := a.each(ctx, what.Topics, func(source record.Source) error {
		opt := landing.Compaction{Target: what.Target, Before: time.Now().Add(-what.Before), All: what.All, Rewrite: what.Rewrite, Rule: rule, Progress: progress}
		if c, err := a.config.Contract(source.Topic); err == nil {
			opt.Restricted = c.Restricted
		}
		done, err := a.zone.Compact(ctx, source, opt)
		report.Merged, report.Into, report.Rows = report.Merged+done.Merged, report.Into+done.Into, report.Rows+done.Rows
		report.BytesBefore, report.BytesAfter, report.Lost = report.BytesBefore+done.Before, report.BytesAfter+done.After, report.Lost+done.Lost
		return errors.Join(err, a.enterChanges(ctx, source))
	})
	old, retireErr := a.retire(ctx, what.Topics, what.Grace, false)
	report.Deleted, report.DeletedBytes = old.Files, old.Bytes
	return report, errors.Join(err, retireErr)
}

// each does something with every partition of some topics. What goes wrong with one is told at the end, but for the end
// of ctx.
func (a *App) each(ctx context.Context, topics []string, do func(record.Source) error) error {
	sources, err := a.zone.Sources(ctx, topics...)
	if err != nil {
		return err
	}
	var faults []error
	for _, source := range sources {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(faults, err)...)
		}
		if err := do(source); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// enterChanges writes the audit entries that changes of a partition lack, also those of a process that was killed.
func (a *App) enterChanges(ctx context.Context, source record.Source) error {
	return audit.EnterChanges(context.WithoutCancel(ctx), a.checkpoints.Store(), source)
}

// Deleted counts files.
type Deleted struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// retire deletes the files of some topics that have counted no longer for the grace period. With dry it counts them.
func (a *App) retire(ctx context.Context, topics []string, grace time.Duration, dry bool) (Deleted, error) {
	before := time.Now().Add(-grace)
	var done Deleted
	err := a.each(ctx, topics, func(source record.Source) error {
		some, err := a.delete(ctx, a.zone.Superseded(ctx, source, before), dry)
		done.Files, done.Bytes = done.Files+some.Files, done.Bytes+some.Bytes
		return err
	})
	return done, errors.Join(err, a.enterDeleted(ctx, "superseded", "grace "+grace.String(), done, err, dry))
}

func (a *App) delete(ctx context.Context, files iter.Seq2[storage.Info, error], dry bool) (done Deleted, _ error) {
	for f, err := range files {
		if err == nil && !dry {
			err = a.zone.Delete(ctx, f.Name)
		}
		if err != nil {
			return done, err
		}
		done.Files, done.Bytes = done.Files+1, done.Bytes+f.Size
	}
	return done, nil
}

// enterDeleted tells the audit log what was deleted, and by which rule.
func (a *App) enterDeleted(ctx context.Context, what, rule string, done Deleted, failed error, dry bool) error {
	if dry || done.Files == 0 && failed == nil {
		return nil
	}
	result := "ok"
	if failed != nil {
		result = "failed"
	}
	return a.chain.Append(context.WithoutCancel(ctx), audit.Entry{
		Event: audit.Delete, Subject: what, Action: "delete", Result: result, Policy: rule,
		Details: map[string]string{"files": strconv.Itoa(done.Files), "bytes": strconv.FormatInt(done.Bytes, 10)},
	})
}
