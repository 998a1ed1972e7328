package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/rows"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/report"
	"github.com/tasterhq/taster/sink/storage"
)

// zoneReader reads the committed rows of a landing zone.
type zoneReader struct {
	store storage.Store
	keys  *envelope.Keyring
	zone  *landing.Zone
}

func openZone(ctx context.Context, url string, c *config.Config) (*zoneReader, error) {
	keys, err := openKeys(ctx, c, envelope.Limits{Patience: keyPatience})
	if err != nil {
		return nil, err
	}
	store, err := storage.OpenReadOnly(ctx, url)
	if err != nil {
		return nil, err
	}
	zone, err := landing.Open(ctx, landing.Options{Store: store, Keys: keys})
	return &zoneReader{store, keys, zone}, err
}

// ReportOptions say what a report shall hold.
type ReportOptions struct {
	Limit   int  // how many flagged and how many rejected records are listed at most; 0 lists all
	Explain bool // with neighbours and maps, for which a sample of the accepted records is read
}

// Report tells what was found in a landing zone.
func Report(ctx context.Context, c *config.Config, url string, o ReportOptions, progress func(done int64)) (*report.Report, error) {
	z, err := openZone(ctx, url, c)
	if err != nil {
		return nil, err
	}
	if err := enter(ctx, url, z.keys, audit.Entry{Event: audit.Decrypt, Subject: "landing", Action: "report", Result: "ok"}); err != nil {
		return nil, err
	}
	roles := map[string]contract.Roles{}
	for _, one := range c.Contracts {
		roles[one.Topic] = one.Roles
	}
	b := report.NewBuilder(report.Options{Roles: roles, Limit: o.Limit, Explain: o.Explain, Vectors: func(texts [][]byte) ([]float32, int) {
		return embedding.Texts(texts, runtime.GOMAXPROCS(0))
	}})
	var files []manifest.File
	recalls := &recallReader{zone: z.zone, list: report.NewRecalls(roles)}
	for s, err := range z.zone.Segments(ctx) {
		if err == nil {
			err = recalls.add(ctx, s.Manifest)
		}
		if err != nil {
			return nil, err
		}
		b.AddManifest(s.Manifest, s.Gone)
		files = append(files, s.Current...)
	}
	for _, f := range files {
		columns, sampled := b.Columns(f)
		read := 0
		rows := func(columns []string) error {
			for batch, err := range z.zone.Rows(ctx, f, columns) {
				if err != nil {
					return err
				}
				read++
				progress(batch.NumRows())
				if err := b.AddRows(f.Verdict, batch); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
			return nil
		}
		err := rows(columns)
		if sampled && read == 0 && (errors.Is(err, envelope.ErrNoKey) || errors.Is(err, envelope.ErrWrongKey)) {
			err = rows(report.Plain(f.Verdict)) // who may not see a restricted column sees the rest of the report
		}
		if err != nil {
			return nil, err
		}
	}
	found := b.Report()
	recalled, err := recalls.recalled(ctx, files)
	if err != nil {
		return nil, err
	}
	if len(recalled.Recalls) > 0 {
		found.Recalls = recalled.Recalls
	}
	return found, nil
}

// walk shows every committed segment, and every row of the files that count, in the order of partitions and offsets.
// columns says which columns of a verdict's files are wanted; nil stands for all, and an empty list for not opening
// them.
func (z *zoneReader) walk(ctx context.Context, segment func(landing.Segment), columns func(finding.Verdict) []string, rows func(manifest.File, arrow.RecordBatch) error) error {
	for s, err := range z.zone.Segments(ctx) {
		if err != nil {
			return err
		}
		segment(s)
		for _, f := range s.Current {
			wanted := columns(f.Verdict)
			if wanted != nil && len(wanted) == 0 {
				continue
			}
			for batch, err := range z.zone.Rows(ctx, f, wanted) {
				if err != nil {
					return err
				}
				if err := rows(f, batch); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
		}
	}
	return nil
}

// Walk shows columns of every committed row of a landing zone. The reading is entered in the audit log.
func Walk(ctx context.Context, c *config.Config, url, why string, columns func(finding.Verdict) []string, rows func(manifest.File, arrow.RecordBatch) error) error {
	z, err := openZone(ctx, url, c)
	if err != nil {
		return err
	}
	if err := enter(ctx, url, z.keys, audit.Entry{Event: audit.Decrypt, Subject: "landing", Action: why, Result: "ok"}); err != nil {
		return err
	}
	return z.walk(ctx, func(landing.Segment) {}, columns, rows)
}

// Cat writes decrypted rows in a format: those of a landing zone that were selected, in the order of partitions and
// offsets, or those of one file, which foreign helps to open. The reading is entered in the audit log before the first
// row is shown.
func Cat(ctx context.Context, c *config.Config, target string, foreign Foreign, selection Selection, format rows.Format, out io.Writer) error {
	if info, err := os.Stat(target); err == nil && !info.IsDir() {
		return catFile(ctx, c, target, foreign, selection, format, out)
	}
	z, err := openZone(ctx, target, c)
	if err != nil {
		return err
	}
	if err := enter(ctx, target, z.keys, audit.Entry{Event: audit.Decrypt, Subject: "landing", Action: "cat", Result: "ok", Details: selection.details(string(format))}); err != nil {
		return err
	}
	if err := z.columns(ctx, &selection); err != nil {
		return err
	}
	w, p := rows.New(format, out), selection.picker(false)
	if format.OneSchema() {
		if err := z.announce(ctx, p, w); err != nil {
			return err
		}
	}
	for f, err := range z.selected(ctx, &selection) {
		if err == nil {
			err = z.cat(ctx, f.File, p, w)
		}
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

// selected yields the files that count and may hold rows that were selected.
func (z *zoneReader) selected(ctx context.Context, s *Selection) iter.Seq2[landing.Current, error] {
	return func(yield func(landing.Current, error) bool) {
		for c, err := range z.zone.Current(ctx, s.Topics...) {
			if (err != nil || s.file(c.File)) && !yield(c, err) || err != nil {
				return
			}
		}
	}
}

func (z *zoneReader) cat(ctx context.Context, f manifest.File, p *picker, w rows.Writer) error {
	r, closer, err := z.zone.OpenFile(ctx, f)
	if err != nil {
		return err
	}
	defer closer.Close()
	return writeRows(ctx, r, p, w)
}

// catFile writes the rows of one file. Inside the configured landing zone it must be a committed one, and its reading
// is audited; elsewhere it is a copy, which its stored AAD prefix still binds to its name, or Parquet of whomever.
func catFile(ctx context.Context, c *config.Config, path string, foreign Foreign, selection Selection, format rows.Format, out io.Writer) error {
	keys, err := openForeign(ctx, c, foreign)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	var reader *parquet.Reader
	if name, ok := within(c.Landing.Dir, path); ok {
		if err := enter(ctx, c.Landing.URL, keys.ring, audit.Entry{Event: audit.Decrypt, Subject: "file", Object: name, Action: "cat", Result: "ok", Details: selection.details(string(format))}); err != nil {
			return err
		}
		reader, err = parquet.Open(ctx, file, info.Size(), name, keys.keysOf(path))
	} else {
		reader, err = parquet.OpenForeign(ctx, file, info.Size(), path, foreign.AADPrefix, keys.keysOf(path))
	}
	if err != nil {
		return err
	}
	schema, err := reader.Schema()
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range selection.Columns {
		if !schema.HasField(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		known := make([]string, schema.NumFields())
		for i, f := range schema.Fields() {
			known[i] = f.Name
		}
		return unknown(missing, known)
	}
	w, p := rows.New(format, out), selection.picker(true)
	if err := w.Columns(p.shown(schema)); err != nil {
		return err
	}
	if err := writeRows(ctx, reader, p, w); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return w.Close()
}

// within returns path relative to folder, with slashes, if it lies inside.
func within(folder, path string) (string, bool) {
	absolute, err := filepath.Abs(path)
	if err != nil || folder == "" {
		return "", false
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", false
	}
	relative, err := filepath.Rel(folder, absolute)
	if err != nil || relative == ".." || strings.HasPrefix(relative, ".."+string(filepath.Separator)) {
		return "", false
	}
	return filepath.ToSlash(relative), true
}

// writeRows writes what is wanted of a file.
func writeRows(ctx context.Context, r *parquet.Reader, p *picker, w rows.Writer) error {
	schema, err := r.Schema()
	if err != nil {
		return err
	}
	columns, none := p.reads(schema)
	if none {
		return nil
	}
	for batch, err := range r.Rows(ctx, columns) {
		if err == nil {
			err = p.pick(ctx, batch, w.Write)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
