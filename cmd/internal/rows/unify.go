package rows

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// sink takes rows that all have the columns that begin was called with.
type sink interface {
	begin(*arrow.Schema) error
	write(arrow.RecordBatch) error
	end() error
}

// unified gives rows of different files the same columns.
type unified struct {
	to     sink
	fields []arrow.Field
	schema *arrow.Schema // nil before the first row
}

// Columns implements Writer. The record's own columns stand in the order in which they were met first, before those
// that taster added.
func (u *unified) Columns(s *arrow.Schema) error {
	first := len(u.fields) == 0
	here := map[string]bool{}
	for _, f := range s.Fields() {
		here[f.Name] = true
		f = plain(f)
		at := slices.IndexFunc(u.fields, func(g arrow.Field) bool { return g.Name == f.Name })
		if at < 0 {
			f.Nullable = f.Nullable || !first
			u.fields = append(u.fields, f)
			continue
		}
		both, ok := merge(u.fields[at], f)
		if !ok {
			return fmt.Errorf("%w: column %s is %s in one file and %s in another; take them apart (cat prints one file as well as a landing zone), or as jsonl, which has no schema",
				ErrSchema, f.Name, u.fields[at].Type, f.Type)
		}
		u.fields[at] = both
	}
	for i, f := range u.fields {
		u.fields[i].Nullable = f.Nullable || !here[f.Name]
	}
	return nil
}

// Write implements Writer.
func (u *unified) Write(batch arrow.RecordBatch) error {
	if u.schema == nil {
		if len(u.fields) == 0 {
			if err := u.Columns(batch.Schema()); err != nil {
				return err
			}
		}
		if err := u.begin(); err != nil {
			return err
		}
	}
	columns := make([]arrow.Array, 0, len(u.fields))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, f := range u.schema.Fields() {
		at := batch.Schema().FieldIndices(f.Name)
		if len(at) == 0 {
			if !f.Nullable {
				return fmt.Errorf("%w: rows without %s, which was announced", ErrSchema, f.Name)
			}
			columns = append(columns, array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, int(batch.NumRows())))
			continue
		}
		c, err := conform(batch.Column(at[0]), f.Type)
		if err != nil {
			return fmt.Errorf("column %s: %w", f.Name, err)
		}
		columns = append(columns, c)
	}
	same := array.NewRecordBatch(u.schema, columns, batch.NumRows())
	defer same.Release()
	return u.to.write(same)
}

func (u *unified) begin() error {
	slices.SortStableFunc(u.fields, func(a, b arrow.Field) int {
		return strings.Compare(rank(a.Name), rank(b.Name))
	})
	u.schema = arrow.NewSchema(u.fields, nil)
	return u.to.begin(u.schema)
}

// added is how the columns begin that taster adds; no field of a record may.
const added = "taster_"

// rank sorts the record's own columns before those of taster.
func rank(name string) string {
	if strings.HasPrefix(name, added) {
		return "1"
	}
	return "0"
}

// Close implements Writer. An output without rows has the columns that were announced.
func (u *unified) Close() error {
	if u.schema == nil {
		if err := u.begin(); err != nil {
			return err
		}
	}
	return u.to.end()
}

// plain returns a field as it is written: dictionaries, which may differ from batch to batch, as their values.
func plain(f arrow.Field) arrow.Field {
	switch t := f.Type.(type) {
	case *arrow.DictionaryType:
		f.Type = t.ValueType
	case *arrow.ListType:
		f.Type = arrow.ListOfField(plain(t.ElemField()))
	case *arrow.LargeListType:
		f.Type = arrow.LargeListOfField(plain(t.ElemField()))
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i := range fields {
			fields[i] = plain(t.Field(i))
		}
		f.Type = arrow.StructOf(fields...)
	}
	return f
}

// merge returns a field that holds the values of both: what one of them lacks may be null.
func merge(a, b arrow.Field) (arrow.Field, bool) {
	a.Nullable = a.Nullable || b.Nullable
	if arrow.TypeEqual(a.Type, b.Type) {
		return a, true
	}
	switch t := a.Type.(type) {
	case *arrow.ListType:
		other, ok := b.Type.(*arrow.ListType)
		if !ok {
			return a, false
		}
		element, ok := merge(t.ElemField(), other.ElemField())
		a.Type = arrow.ListOfField(element)
		return a, ok
	case *arrow.StructType:
		other, ok := b.Type.(*arrow.StructType)
		if !ok {
			return a, false
		}
		fields := slices.Clone(t.Fields())
		for i, f := range fields {
			if g, ok := other.FieldByName(f.Name); !ok {
				fields[i].Nullable = true
			} else if fields[i], ok = merge(f, g); !ok {
				return a, false
			}
		}
		for _, g := range other.Fields() {
			if _, ok := t.FieldByName(g.Name); !ok {
				g.Nullable = true
				fields = append(fields, g)
			}
		}
		a.Type = arrow.StructOf(fields...)
		return a, true
	}
	return a, false
}

// conform returns arr, which Columns has seen, as an array of type to. The caller releases it.
func conform(arr arrow.Array, to arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(arr.DataType(), to) {
		if to.ID() == arrow.FIXED_SIZE_LIST && arr.Data().Offset() != 0 {
			// Arrow's Parquet writer takes the wrong rows from a slice of fixed-size lists.
			return array.Concatenate([]arrow.Array{arr}, memory.DefaultAllocator)
		}
		arr.Retain()
		return arr, nil
	}
	switch a := arr.(type) {
	case *array.Dictionary:
		return compute.CastArray(context.Background(), a, compute.SafeCastOptions(to))
	case *array.List, *array.LargeList:
		t, ok := to.(arrow.ListLikeType)
		if !ok || t.ID() != a.DataType().ID() {
			break
		}
		values, err := conform(a.(array.ListLike).ListValues(), t.Elem())
		if err != nil {
			return nil, err
		}
		defer values.Release()
		return rebuilt(a, to, values.Data()), nil
	case *array.Struct:
		t, ok := to.(*arrow.StructType)
		if !ok {
			break
		}
		from := a.DataType().(*arrow.StructType)
		children := make([]arrow.ArrayData, t.NumFields())
		for i, f := range t.Fields() {
			var child arrow.Array
			if at, ok := from.FieldIdx(f.Name); !ok {
				child = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, a.Len())
			} else {
				var err error
				if child, err = conform(a.Field(at), f.Type); err != nil {
					return nil, err
				}
			}
			defer child.Release()
			children[i] = child.Data()
		}
		whole, err := withoutOffset(a)
		if err != nil {
			return nil, err
		}
		defer whole.Release()
		return rebuilt(whole, to, children...), nil
	}
	return nil, fmt.Errorf("%w: rows of type %s, and %s was announced", ErrSchema, arr.DataType(), to)
}

// withoutOffset returns an array that begins where its buffers do, as the columns of Struct.Field do not tell the
// struct's offset.
func withoutOffset(arr arrow.Array) (arrow.Array, error) {
	if arr.Data().Offset() == 0 {
		arr.Retain()
		return arr, nil
	}
	return array.Concatenate([]arrow.Array{arr}, memory.DefaultAllocator)
}

// rebuilt returns an array of another type with arr's own buffers and other children.
func rebuilt(arr arrow.Array, to arrow.DataType, children ...arrow.ArrayData) arrow.Array {
	data := array.NewData(to, arr.Len(), arr.Data().Buffers(), children, arr.NullN(), arr.Data().Offset())
	defer data.Release()
	return array.MakeFromData(data)
}
