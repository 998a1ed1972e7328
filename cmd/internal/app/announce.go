package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/cmd/internal/rows"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/landing"
)

// announce tells a writer of the columns of every file that a selection reads. It reads footers only. Files of several
// topics, or rejected rows among others, have no schema in common: the error says how to choose.
func (z *zoneReader) announce(ctx context.Context, p *picker, w rows.Writer) error {
	var topics []string
	var rejected, others bool
	var files []manifest.File
	for c, err := range z.selected(ctx, p.Selection) {
		if err != nil {
			return err
		}
		if !slices.Contains(topics, c.Source.Topic) {
			topics = append(topics, c.Source.Topic)
		}
		rejected = rejected || c.Verdict == finding.Rejected
		others = others || c.Verdict != finding.Rejected
		files = append(files, c.File)
	}
	slices.Sort(topics)
	switch {
	case len(topics) > 1 && others && len(p.Columns) == 0:
		return fmt.Errorf("%w: the landing zone has the topics %s; choose one with --topic", rows.ErrSchema, strings.Join(topics, ", "))
	case rejected && others && len(p.Columns) == 0:
		return fmt.Errorf("%w: rejected rows have no fields of their own; take them alone (--verdict rejected) or leave them out (--verdict accepted, --verdict quarantined), or take jsonl, which has no schema", rows.ErrSchema)
	}
	for _, f := range files {
		schema, err := z.schema(ctx, f)
		if err != nil {
			return err
		}
		if _, none := p.reads(schema); none {
			continue
		}
		if err := w.Columns(p.shown(schema)); err != nil {
			return err
		}
	}
	return nil
}

func (z *zoneReader) schema(ctx context.Context, f manifest.File) (*arrow.Schema, error) {
	r, closer, err := z.zone.OpenFile(ctx, f)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return r.Schema()
}

// kind is files that have the same columns, but for what the schema gained or lost meanwhile.
type kind struct {
	topic   string
	verdict finding.Verdict
}

// columns sees to it that every column that is asked for is in some file. It looks at the first and the last file of
// each kind, and at the others only for what these do not have.
func (z *zoneReader) columns(ctx context.Context, s *Selection) error {
	if len(s.Columns) == 0 {
		return nil
	}
	edges := map[kind][]landing.Current{}
	for c, err := range z.selected(ctx, s) {
		if err != nil {
			return err
		}
		of := kind{c.Source.Topic, c.Verdict}
		edges[of] = append(edges[of][:min(len(edges[of]), 1)], c)
	}
	var known []string
	missing := slices.Clone(s.Columns)
	look := func(c landing.Current) error {
		schema, err := z.schema(ctx, c.File)
		if err != nil {
			return err
		}
		for _, f := range schema.Fields() {
			if !slices.Contains(known, f.Name) {
				known = append(known, f.Name)
			}
		}
		missing = slices.DeleteFunc(missing, schema.HasField)
		return nil
	}
	for _, files := range edges {
		for _, c := range files {
			if err := look(c); err != nil {
				return err
			}
		}
	}
	if len(edges) == 0 {
		return nil
	}
	for c, err := range z.selected(ctx, s) {
		if len(missing) == 0 {
			return nil
		}
		if err == nil {
			err = look(c)
		}
		if err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(known)
	return unknown(missing, known)
}
