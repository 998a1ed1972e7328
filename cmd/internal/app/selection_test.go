package app

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/sink/parquet"
)

// someRows makes n rows with columns of every shape that the landing zone has.
func someRows(n int) arrow.RecordBatch {
	entry := arrow.StructOf(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "headers", Type: arrow.ListOfField(arrow.Field{Name: "element", Type: entry})},
		{Name: "vector", Type: arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Float32}), Nullable: true},
		{Name: "price", Type: arrow.StructOf(arrow.Field{Name: "amount", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
		{Name: "good", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: parquet.Raw, Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: parquet.Provider, Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: parquet.Offset, Type: arrow.PrimitiveTypes.Int64},
		{Name: parquet.Timestamp, Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	headers, vector := b.Field(0).(*array.ListBuilder), b.Field(1).(*array.ListBuilder)
	pair, price := headers.ValueBuilder().(*array.StructBuilder), b.Field(2).(*array.StructBuilder)
	for i := range n {
		headers.Append(true)
		for j := range i % 3 {
			pair.Append(true)
			pair.FieldBuilder(0).(*array.StringBuilder).Append(fmt.Sprint("k", i))
			if j == 0 {
				pair.FieldBuilder(1).AppendNull()
			} else {
				pair.FieldBuilder(1).(*array.BinaryBuilder).Append([]byte{byte(i)})
			}
		}
		if i%5 == 4 {
			vector.AppendNull()
			price.AppendNull()
			b.Field(3).AppendNull()
			b.Field(4).AppendNull()
			b.Field(5).AppendNull()
		} else {
			vector.Append(true)
			vector.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(i), 1}, nil)
			price.Append(true)
			price.FieldBuilder(0).(*array.Int64Builder).Append(int64(i))
			b.Field(3).(*array.BooleanBuilder).Append(i%2 == 0)
			b.Field(4).(*array.BinaryBuilder).Append(fmt.Append(nil, i))
			b.Field(5).(*array.StringBuilder).Append([]string{"a", "b", "c"}[i%3])
		}
		b.Field(6).(*array.Int64Builder).Append(int64(100 + i))
		b.Field(7).(*array.TimestampBuilder).Append(arrow.Timestamp(1000 * i))
	}
	return b.NewRecordBatch()
}

func TestPick(t *testing.T) {
	batch := someRows(40)
	defer batch.Release()
	for name, test := range map[string]struct {
		selection Selection
		want      func(i int) bool
	}{
		"all":        {Selection{}, func(int) bool { return true }},
		"provider":   {Selection{Providers: []string{"b", "none"}}, func(i int) bool { return i%3 == 1 && i%5 != 4 }},
		"offsets":    {Selection{First: 103, Next: 120}, func(i int) bool { return i >= 3 && i < 20 }},
		"from":       {Selection{First: 130}, func(i int) bool { return i >= 30 }},
		"times":      {Selection{Since: time.UnixMilli(5000), Until: time.UnixMilli(9000)}, func(i int) bool { return i >= 5 && i < 9 }},
		"since":      {Selection{Since: time.UnixMilli(5001)}, func(i int) bool { return i >= 6 }},
		"together":   {Selection{Providers: []string{"a", "c"}, Until: time.UnixMilli(30000), First: 110}, func(i int) bool { return i%3 != 1 && i%5 != 4 && i >= 10 && i < 30 }},
		"none":       {Selection{Providers: []string{"none"}}, func(int) bool { return false }},
		"limit":      {Selection{First: 103, Limit: 4}, func(i int) bool { return i >= 3 && i < 7 }},
		"some of it": {Selection{Providers: []string{"c"}, Columns: []string{parquet.Offset, "headers", "vector"}}, func(i int) bool { return i%3 == 2 && i%5 != 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []string
			line := func(r arrow.RecordBatch, i int) string {
				text := ""
				names := test.selection.Columns
				if names == nil {
					for _, f := range r.Schema().Fields() {
						names = append(names, f.Name)
					}
				}
				for _, name := range names {
					text += r.Column(r.Schema().FieldIndices(name)[0]).ValueStr(i) + "|"
				}
				return text
			}
			for i := range int(batch.NumRows()) {
				if test.want(i) {
					want = append(want, line(batch, i))
				}
			}
			p := test.selection.picker(false)
			var err error
			for from := int64(0); from < batch.NumRows() && err == nil; from += 13 { // batches that are slices
				part := batch.NewSlice(from, min(from+13, batch.NumRows()))
				err = p.pick(t.Context(), part, func(r arrow.RecordBatch) error {
					if len(p.Columns) > 0 && int(r.NumCols()) != len(p.Columns) {
						t.Errorf("%d columns", r.NumCols())
					}
					for i := range int(r.NumRows()) {
						got = append(got, line(r, i))
					}
					return nil
				})
				part.Release()
			}
			if err != nil && !(errors.Is(err, errEnough) && p.Limit > 0) {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %d rows\n%q\nwant %d\n%q", len(got), got, len(want), want)
			}
		})
	}
	p := (&Selection{Topics: []string{"x"}}).picker(true)
	if err := p.pick(t.Context(), batch, nil); !errors.Is(err, ErrColumn) {
		t.Errorf("without the column: %v", err)
	}
}

// What picking costs in allocations does not depend on the number of rows.
func TestPickAllocations(t *testing.T) {
	cost := func(rows int) float64 {
		batch := someRows(rows)
		defer batch.Release()
		p := (&Selection{Providers: []string{"a"}, First: 1, Since: time.UnixMilli(1)}).picker(false)
		return testing.AllocsPerRun(10, func() {
			if err := p.pick(t.Context(), batch, func(arrow.RecordBatch) error { return nil }); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := cost(100), cost(8000)
	if many > few+200 {
		t.Errorf("%.0f allocations for 100 rows, %.0f for 8000", few, many)
	}
}
