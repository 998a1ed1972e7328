package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/report"
)

// Recalls lists the records of a landing zone that were accepted and are recalled. Of rows it reads only the ids, in
// files that hold recalled ones.
func Recalls(ctx context.Context, c *config.Config, url string) (*report.Recalled, error) {
	z, err := openZone(ctx, url, c)
	if err != nil {
		return nil, err
	}
	if err := enter(ctx, url, z.keys, audit.Entry{Event: audit.Decrypt, Subject: "landing", Action: "recalls", Result: "ok"}); err != nil {
		return nil, err
	}
	roles := map[string]contract.Roles{}
	for _, one := range c.Contracts {
		roles[one.Topic] = one.Roles
	}
	recalls := &recallReader{zone: z.zone, list: report.NewRecalls(roles)}
	var files []manifest.File
	for s, err := range z.zone.Segments(ctx) {
		if err == nil {
			err = recalls.add(ctx, s.Manifest)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, s.Current...)
	}
	return recalls.recalled(ctx, files)
}

// recallReader reads the recalls of segments, and then the ids of what they recall.
type recallReader struct {
	zone       *landing.Zone
	list       *report.Recalls
	unreadable int
}

// add reads what a segment recalls. Who has not the key for that sees the rest of the report.
func (r *recallReader) add(ctx context.Context, m *manifest.Manifest) error {
	recalls, err := r.zone.Recalls(ctx, m)
	if errors.Is(err, envelope.ErrNoKey) || errors.Is(err, envelope.ErrDenied) {
		r.unreadable += int(m.Recalls.Count)
		return nil
	}
	r.list.Add(m, recalls)
	return err
}

// recalled returns what was gathered, with the ids that stand in files; of records whose files are gone, or whose key is
// not to be had, the place stands in for the id.
func (r *recallReader) recalled(ctx context.Context, files []manifest.File) (*report.Recalled, error) {
	for _, f := range files {
		columns := r.list.Columns(f)
		if columns == nil {
			continue
		}
		for batch, err := range r.zone.Rows(ctx, f, columns) {
			if errors.Is(err, envelope.ErrNoKey) || errors.Is(err, envelope.ErrDenied) {
				break
			}
			if err == nil {
				err = r.list.AddRows(batch)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return &report.Recalled{Recalls: r.list.List(), Unreadable: r.unreadable}, nil
}
