package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/parquet"
)

// ErrColumn says that what is to be read does not have a column.
var ErrColumn = errors.New("no such column")

// Selection says which rows are read, and what of them. What is left out does not narrow the choice.
type Selection struct {
	Topics       []string
	Verdicts     []finding.Verdict
	Partition    *int32
	First, Next  int64 // offsets [First, Next); Next 0 is no end
	Providers    []string
	Since, Until time.Time // by the broker's timestamp; Until is the first moment too late
	Columns      []string  // in this order; nil is all that there are. Only their keys are needed.
	Limit        int64     // rows; 0 is no limit
}

// file tells, by its name alone, whether a file may hold such rows.
func (s *Selection) file(f manifest.File) bool {
	name, err := manifest.ParseFileName(f.Name)
	return err == nil && (len(s.Topics) == 0 || slices.Contains(s.Topics, name.Source.Topic)) &&
		(len(s.Verdicts) == 0 || slices.Contains(s.Verdicts, f.Verdict)) &&
		(s.Partition == nil || *s.Partition == name.Source.Partition) &&
		name.Next > s.First && (s.Next == 0 || name.First < s.Next)
}

// details tells the audit log what was asked for. Providers are counted only: a name may be a person's.
func (s *Selection) details(format string) map[string]string {
	verdicts := s.Verdicts
	if len(verdicts) == 0 {
		verdicts = finding.Verdicts[:]
	}
	names := make([]string, len(verdicts))
	for i, v := range verdicts {
		names[i] = v.String()
	}
	d := map[string]string{"verdicts": strings.Join(names, ","), "format": format}
	put := func(name string, given bool, value any) {
		if given {
			d[name] = fmt.Sprint(value)
		}
	}
	put("topics", len(s.Topics) > 0, strings.Join(s.Topics, ","))
	put("first", s.First > 0, s.First)
	put("next", s.Next > 0, s.Next)
	put("providers", len(s.Providers) > 0, len(s.Providers))
	put("since", !s.Since.IsZero(), s.Since.UTC().Format(time.RFC3339Nano))
	put("until", !s.Until.IsZero(), s.Until.UTC().Format(time.RFC3339Nano))
	put("columns", len(s.Columns) > 0, strings.Join(s.Columns, ","))
	put("limit", s.Limit > 0, s.Limit)
	if s.Partition != nil {
		d["partition"] = fmt.Sprint(*s.Partition)
	}
	return d
}

// enough ends the reading when the limit is reached.
var errEnough = errors.New("enough rows")

// picker takes the rows of a selection from batches. It makes nothing for a row.
type picker struct {
	*Selection
	conditions []condition
	left       int64
	mask       []bool
}

// condition clears the mask of rows that are not wanted, by one column.
type condition struct {
	column string
	apply  func(column arrow.Array, mask []bool) error
}

// picker makes a picker. alone says that the rows are those of one file, of which nothing is known but what its columns
// say.
func (s *Selection) picker(alone bool) *picker {
	p := &picker{Selection: s, left: s.Limit}
	among := func(column string, names []string) {
		if len(names) > 0 {
			p.conditions = append(p.conditions, condition{column, func(c arrow.Array, mask []bool) error { return keepTexts(c, mask, names) }})
		}
	}
	between := func(column string, from, to int64, value func(arrow.Array) (func(int) int64, error)) {
		p.conditions = append(p.conditions, condition{column, func(c arrow.Array, mask []bool) error {
			of, err := value(c)
			if err != nil {
				return err
			}
			for i := range mask {
				mask[i] = mask[i] && !c.IsNull(i) && of(i) >= from && of(i) < to
			}
			return nil
		}})
	}
	const end = 1<<63 - 1
	if alone {
		among(parquet.Topic, s.Topics)
		names := make([]string, len(s.Verdicts))
		for i, v := range s.Verdicts {
			names[i] = v.String()
		}
		among(parquet.Verdict, names)
		if s.Partition != nil {
			between(parquet.Partition, int64(*s.Partition), int64(*s.Partition)+1, integersOf)
		}
	}
	if s.First > 0 || s.Next > 0 {
		next := int64(end)
		if s.Next > 0 {
			next = s.Next
		}
		between(parquet.Offset, s.First, next, integersOf)
	}
	among(parquet.Provider, s.Providers)
	if !s.Since.IsZero() || !s.Until.IsZero() {
		from, to := int64(-end), int64(end)
		if !s.Since.IsZero() {
			from = s.Since.UnixMicro()
		}
		if !s.Until.IsZero() {
			to = s.Until.UnixMicro()
		}
		between(parquet.Timestamp, from, to, microsecondsOf)
	}
	return p
}

// reads returns the columns of a file that must be read, nil for all. none says that it has no column that is wanted.
func (p *picker) reads(schema *arrow.Schema) (columns []string, none bool) {
	if len(p.Columns) == 0 {
		return nil, false
	}
	for _, name := range p.Columns {
		if schema.HasField(name) {
			columns = append(columns, name)
		}
	}
	if len(columns) == 0 {
		return nil, true
	}
	for _, c := range p.conditions {
		if !slices.Contains(columns, c.column) {
			columns = append(columns, c.column)
		}
	}
	return columns, false
}

// shown returns what of a schema is wanted, in order.
func (p *picker) shown(schema *arrow.Schema) *arrow.Schema {
	if len(p.Columns) == 0 {
		return schema
	}
	var fields []arrow.Field
	for _, name := range p.Columns {
		if at := schema.FieldIndices(name); len(at) > 0 {
			fields = append(fields, schema.Field(at[0]))
		}
	}
	return arrow.NewSchema(fields, nil)
}

// pick shows what is wanted of a batch, if there is any. The error is errEnough after the last row that is wanted.
func (p *picker) pick(ctx context.Context, batch arrow.RecordBatch, show func(arrow.RecordBatch) error) error {
	kept, err := p.filter(ctx, batch)
	if err != nil {
		return err
	}
	defer kept.Release()
	if p.Limit > 0 && kept.NumRows() > p.left {
		cut := kept.NewSlice(0, p.left)
		defer cut.Release()
		kept = cut
	}
	if kept.NumRows() == 0 {
		return nil
	}
	if len(p.Columns) > 0 {
		schema := p.shown(kept.Schema())
		columns := make([]arrow.Array, schema.NumFields())
		for i, f := range schema.Fields() {
			columns[i] = kept.Column(kept.Schema().FieldIndices(f.Name)[0])
		}
		projected := array.NewRecordBatch(schema, columns, kept.NumRows())
		defer projected.Release()
		kept = projected
	}
	if err := show(kept); err != nil {
		return err
	}
	if p.left -= kept.NumRows(); p.Limit > 0 && p.left == 0 {
		return errEnough
	}
	return nil
}

// filter returns the rows of a batch that meet every condition.
func (p *picker) filter(ctx context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	n := int(batch.NumRows())
	p.mask = slices.Grow(p.mask[:0], n)[:n]
	for i := range p.mask {
		p.mask[i] = true
	}
	for _, c := range p.conditions {
		at := batch.Schema().FieldIndices(c.column)
		if len(at) != 1 {
			return nil, fmt.Errorf("%w: the rows cannot be chosen without %s", ErrColumn, c.column)
		}
		if err := c.apply(batch.Column(at[0]), p.mask); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.column, err)
		}
	}
	switch {
	case !slices.Contains(p.mask, false):
		batch.Retain()
		return batch, nil
	case !slices.Contains(p.mask, true):
		return batch.NewSlice(0, 0), nil
	}
	b := array.NewBooleanBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(p.mask, nil)
	mask := b.NewArray()
	defer mask.Release()
	return compute.FilterRecordBatch(ctx, batch, mask, compute.DefaultFilterOptions())
}

func keepTexts(c arrow.Array, mask []bool, names []string) error {
	texts, ok := c.(interface{ Value(int) string })
	if !ok {
		return fmt.Errorf("%w: it does not hold texts", ErrColumn)
	}
	for i := range mask {
		mask[i] = mask[i] && !c.IsNull(i) && slices.Contains(names, texts.Value(i))
	}
	return nil
}

func integersOf(c arrow.Array) (func(int) int64, error) {
	switch c := c.(type) {
	case *array.Int64:
		return c.Value, nil
	case *array.Int32:
		return func(i int) int64 { return int64(c.Value(i)) }, nil
	}
	return nil, fmt.Errorf("%w: it does not hold whole numbers", ErrColumn)
}

func microsecondsOf(c arrow.Array) (func(int) int64, error) {
	times, ok := c.(*array.Timestamp)
	if !ok {
		return nil, fmt.Errorf("%w: it does not hold times", ErrColumn)
	}
	unit := times.DataType().(*arrow.TimestampType).Unit
	return func(i int) int64 { return times.Value(i).ToTime(unit).UnixMicro() }, nil
}

// unknown is the error for columns that nothing has.
func unknown(columns, known []string) error {
	faults := make([]string, len(columns))
	for i, name := range columns {
		faults[i] = fmt.Sprintf("%s (the nearest is %s)", strict.Quote(name), strict.Quote(strict.Nearest(name, known)))
	}
	return fmt.Errorf("%w: %s", ErrColumn, strings.Join(faults, ", "))
}
