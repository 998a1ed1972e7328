package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/sink/parquet/pages"
)

// ErrColumns says that a file has other columns than the copy, or other columns with a key of their own. Its rows
// belong into another copy.
var ErrColumns = errors.New("other columns than the rows before")

// Copier writes the rows of files of this package into one new file, under fresh data keys of the present master keys.
// The rows, and so their content digest, stay what they are. A column that had a key of its own keeps one.
//
// It holds no more than one row group. What it writes counts for nothing unless Close returns without an error. It is
// used by one goroutine at a time.
type Copier struct {
	out     io.Writer
	name    string
	verdict finding.Verdict
	opt     Options

	schema    *arrow.Schema // nil before the first Add
	protected []string
	digest    *content
	file      *output // nil before the first row group
	written   Written

	held      []arrow.RecordBatch // the row group that is being gathered
	heldRows  int
	heldBytes int64
	last      int64 // the last offset
}

// NewCopier begins a file of rows with verdict v, as the object name. Of the options, Restricted adds to the columns
// that have a key of their own, and Classification says nothing.
func NewCopier(out io.Writer, name string, v finding.Verdict, opt Options) *Copier {
	if opt.GroupRows <= 0 {
		opt.GroupRows = defaultGroupRows
	}
	if opt.GroupBytes <= 0 {
		opt.GroupBytes = defaultGroupBytes
	}
	if opt.Memory == nil {
		opt.Memory = memory.DefaultAllocator
	}
	return &Copier{out: out, name: name, verdict: v, opt: opt, last: -1}
}

// Add copies all rows of a file and returns their number and their content digest, for the caller to compare with what
// they should be. Offsets must go on rising. The error is ErrColumns, before anything was taken, if the file does not
// go with those before it.
func (c *Copier) Add(ctx context.Context, r *Reader) (rows int64, digest string, err error) {
	defer guard(&err, "copy "+r.name)
	schema, err := r.Schema()
	if err != nil {
		return 0, "", fmt.Errorf("%w: %s: %w", ErrBroken, r.name, err)
	}
	protected, err := r.protected()
	if err != nil {
		return 0, "", err
	}
	if c.schema == nil {
		if len(schema.FieldIndices(Topic)) != 1 || len(schema.FieldIndices(Offset)) != 1 {
			return 0, "", fmt.Errorf("%w: %s has no %s or no %s", ErrBroken, r.name, Topic, Offset)
		}
		c.schema, c.protected, c.digest = schema, protected, newContent(schema)
	} else if !c.schema.Equal(schema) || !slices.Equal(c.protected, protected) {
		return 0, "", fmt.Errorf("%w: %s", ErrColumns, r.name)
	}
	one := newContent(schema)
	for g := range r.file.NumRowGroups() { // one by one: a batch that spans row groups could be of any size
		for batch, err := range r.rowsOf(ctx, nil, []int{g}) {
			if err != nil {
				return rows, "", err
			}
			if err := c.take(ctx, one, batch); err != nil {
				return rows, "", fmt.Errorf("%s: %w", r.name, err)
			}
			rows += batch.NumRows()
		}
	}
	return rows, one.sum(), nil
}

// take adds a batch to the row group, and writes that when it is full.
func (c *Copier) take(ctx context.Context, one *content, batch arrow.RecordBatch) error {
	for i, column := range batch.Columns() {
		if err := errors.Join(one.add(i, column), c.digest.add(i, column)); err != nil {
			return err
		}
	}
	offsets, ok := batch.Column(c.schema.FieldIndices(Offset)[0]).(*array.Int64)
	if !ok {
		return fmt.Errorf("%w: %s does not hold offsets", ErrBroken, Offset)
	}
	for _, offset := range offsets.Int64Values() {
		if offset <= c.last {
			return fmt.Errorf("%w: offset %d follows %d", ErrBroken, offset, c.last)
		}
		c.last = offset
	}
	size := int64(0)
	for _, column := range batch.Columns() {
		size += sizeOf(column.Data())
	}
	if c.heldRows > 0 && (c.heldRows+int(batch.NumRows()) > c.opt.GroupRows || c.heldBytes+size > c.opt.GroupBytes) {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	batch.Retain()
	c.held = append(c.held, batch)
	c.heldRows += int(batch.NumRows())
	c.heldBytes += size
	return nil
}

// sizeOf returns how much memory the buffers of an array take.
func sizeOf(data arrow.ArrayData) int64 {
	n := int64(0)
	for _, b := range data.Buffers() {
		if b != nil {
			n += int64(b.Len())
		}
	}
	for _, child := range data.Children() {
		n += sizeOf(child)
	}
	return n
}

// flush writes what is held as one row group, column by column.
func (c *Copier) flush(ctx context.Context) error {
	if c.file == nil {
		if err := c.open(ctx); err != nil {
			return err
		}
	}
	err := c.file.group(c.heldRows, func(column int) ([]pages.Rows, error) {
		rows := make([]pages.Rows, len(c.held))
		for i, batch := range c.held {
			rows[i] = pages.All(batch.Column(column))
			rows[i].Array.Retain()
		}
		return rows, nil
	})
	if err != nil {
		return err
	}
	c.written.Rows += int64(c.heldRows)
	for _, batch := range c.held {
		batch.Release()
	}
	c.held, c.heldRows, c.heldBytes = c.held[:0], 0, 0
	return nil
}

func (c *Copier) open(ctx context.Context) (err error) {
	own := 0
	if c.verdict != finding.Rejected {
		own = c.schema.FieldIndices(Topic)[0]
	}
	largest := slices.MaxFunc(c.held, func(a, b arrow.RecordBatch) int { return int(a.NumRows() - b.NumRows()) })
	opt := c.opt
	opt.Restricted = slices.Concat(c.protected, c.opt.Restricted)
	c.file, err = newFile(ctx, c.out, c.name, c.schema, own, largest.Column, c.verdict, opt, &c.written)
	return err
}

// Close writes the rest and the footer, and tells what the file holds. Without a row it fails.
func (c *Copier) Close(ctx context.Context) (w Written, err error) {
	defer guard(&err, "write "+c.name)
	if c.heldRows > 0 {
		if err := c.flush(ctx); err != nil {
			return w, err
		}
	}
	if c.file == nil {
		return w, fmt.Errorf("%s: no rows to write", c.name)
	}
	if err := c.file.Close(); err != nil {
		return w, err
	}
	c.written.Content = c.digest.sum()
	return c.written, nil
}

// protected returns which columns have a key of their own, as pointers that restrict these columns again. The columns
// that can quote others have one wherever any has: see restricted.
func (r *Reader) protected() ([]string, error) {
	paths, err := r.source.OwnKeys()
	if err != nil {
		return nil, located(r.name, err)
	}
	var out []string
	for _, path := range paths {
		pointer := "/" + Raw
		if !slices.Contains(quoting, strings.Join(path, ".")) {
			pointer = pointerTo(path)
		}
		if !slices.Contains(out, pointer) {
			out = append(out, pointer)
		}
	}
	return out, nil
}

// pointerTo returns the RFC 6901 pointer that restricts a leaf column, and with one inside a list all of the list.
func pointerTo(leaf []string) string {
	var b strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for i, name := range leaf {
		if len(leaf) >= i+2 && name == "list" && i > 0 && leaf[i+1] == "element" {
			break
		}
		b.WriteByte('/')
		b.WriteString(escape.Replace(name))
	}
	return b.String()
}
