package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	other "github.com/parquet-go/parquet-go"
)

var primitive = []arrow.DataType{
	arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Uint16,
	arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint64,
	arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary,
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us,
	&arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"},
}

const top = 3

// anyField makes a field of any type, nested up to so many times.
func anyField(rng *rand.Rand, name string, depth int) arrow.Field {
	f := arrow.Field{Name: name, Nullable: rng.IntN(2) == 0}
	switch kind := rng.IntN(6); {
	case depth > 0 && kind == 0:
		var fields []arrow.Field
		for i := range 1 + rng.IntN(3) {
			fields = append(fields, anyField(rng, fmt.Sprint("f", i), depth-1))
		}
		f.Type = arrow.StructOf(fields...)
	case depth > 0 && kind == 1:
		f.Type = arrow.ListOfField(anyField(rng, "element", depth-1))
	case depth == top && kind == 2: // beneath others, arrow-go's writer has those that are null wrong
		f.Type = arrow.FixedSizeListOfField(int32(1+rng.IntN(4)), anyField(rng, "element", 0))
		f.Nullable = false
	default:
		f.Type = primitive[rng.IntN(len(primitive))]
	}
	return f
}

// add appends a value to a builder of any type.
func add(b array.Builder, f arrow.Field, rng *rand.Rand) {
	if f.Nullable && rng.IntN(4) == 0 {
		b.AppendNull()
		return
	}
	few := rng.Int64N(20) - 5
	if rng.IntN(50) == 0 {
		few = int64(rng.Uint64())
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(few > 3)
	case *array.Int8Builder:
		b.Append(int8(few))
	case *array.Uint8Builder:
		b.Append(uint8(few))
	case *array.Int16Builder:
		b.Append(int16(few))
	case *array.Uint16Builder:
		b.Append(uint16(few))
	case *array.Int32Builder:
		b.Append(int32(few))
	case *array.Uint32Builder:
		b.Append(uint32(few))
	case *array.Int64Builder:
		b.Append(few)
	case *array.Uint64Builder:
		b.Append(uint64(few))
	case *array.Float32Builder:
		b.Append(float32(few) / 8)
	case *array.Float64Builder:
		b.Append(float64(few) / 8)
	case *array.Date32Builder:
		b.Append(arrow.Date32(few))
	case *array.Time32Builder:
		b.Append(arrow.Time32(few & 0xFFFF))
	case *array.Time64Builder:
		b.Append(arrow.Time64(few & 0xFFFF))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(few))
	case *array.StringBuilder:
		b.Append(fmt.Sprint("é", few)[:rng.IntN(2)*(2+rng.IntN(2))])
	case *array.BinaryBuilder:
		b.Append([]byte(fmt.Sprint(few)))
	case *array.StructBuilder:
		b.Append(true)
		for i, child := range f.Type.(*arrow.StructType).Fields() {
			add(b.FieldBuilder(i), child, rng)
		}
	case *array.ListBuilder:
		b.Append(true)
		n := rng.IntN(4)
		if rng.IntN(10) == 0 {
			n = 30
		}
		for range n {
			add(b.ValueBuilder(), f.Type.(*arrow.ListType).ElemField(), rng)
		}
	case *array.FixedSizeListBuilder:
		b.Append(true)
		t := f.Type.(*arrow.FixedSizeListType)
		for range t.Len() {
			add(b.ValueBuilder(), t.ElemField(), rng)
		}
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

// anyColumn makes the arrays of a column: whole ones, slices where arrow-go's writer takes them as they are, and empty ones.
func anyColumn(f arrow.Field, sizes []int, rng *rand.Rand) []arrow.Array {
	var out []arrow.Array
	for _, n := range sizes {
		b := array.NewBuilder(memory.DefaultAllocator, f.Type)
		before, after := 0, 0
		if _, flat := f.Type.(arrow.NestedType); !flat {
			before, after = rng.IntN(10), rng.IntN(10)
		}
		for range before + n + after {
			add(b, f, rng)
		}
		whole := b.NewArray()
		out = append(out, array.NewSlice(whole, int64(before), int64(before+n)))
		whole.Release()
		b.Release()
	}
	return out
}

func writeAll(t testing.TB, schema *arrow.Schema, groups [][][]arrow.Array, props *pq.WriterProperties) []byte {
	t.Helper()
	layout, err := pqarrow.ToParquet(schema, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, schema, layout, props, metadata.NewKeyValueMetadata())
	if err != nil {
		t.Fatal(err)
	}
	for g, columns := range groups {
		rows := 0
		for _, arr := range columns[0] {
			rows += arr.Len()
		}
		w.Begin(rows)
		for i, chunks := range columns {
			c, err := w.Encode(g, i, inPieces(chunks, i))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Append(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// inPieces cuts arrays into ranges of rows, as many and as long as it comes.
func inPieces(chunks []arrow.Array, seed int) []Rows {
	rng := rand.New(rand.NewPCG(uint64(seed), 3))
	var out []Rows
	for _, arr := range chunks {
		r := Rows{Array: arr}
		for from := 0; from < arr.Len(); {
			to := min(from+1+rng.IntN(1+rng.IntN(100)), arr.Len())
			r.Ranges = append(r.Ranges, Range{from, to})
			from = to
		}
		out = append(out, r)
	}
	return out
}

// byArrow writes the same with arrow-go's writer, which is the reference.
func byArrow(t testing.TB, schema *arrow.Schema, groups [][][]arrow.Array, props *pq.WriterProperties) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &out, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	for _, columns := range groups {
		w.NewRowGroup()
		for i, chunks := range columns {
			chunked := arrow.NewChunked(schema.Field(i).Type, chunks)
			if err := w.WriteColumnChunked(chunked, 0, int64(chunked.Len())); err != nil {
				t.Fatal(err)
			}
			chunked.Release()
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// levelsAndValues reads a file with parquet-go: of each column chunk all entries, with their levels.
func levelsAndValues(t testing.TB, data []byte) [][]string {
	t.Helper()
	f, err := other.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for _, g := range f.RowGroups() {
		for _, chunk := range g.ColumnChunks() {
			var column []string
			pages := chunk.Pages()
			for {
				page, err := pages.ReadPage()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				values := make([]other.Value, page.NumValues())
				if n, err := page.Values().ReadValues(values); n != len(values) || err != nil && !errors.Is(err, io.EOF) {
					t.Fatalf("%d of %d values: %v", n, len(values), err)
				}
				for _, v := range values {
					column = append(column, fmt.Sprintf("%d %d %v", v.RepetitionLevel(), v.DefinitionLevel(), v))
				}
				other.Release(page)
			}
			pages.Close()
			out = append(out, column)
		}
	}
	return out
}

// Whatever the schema, the nulls, the pages and the way arrays are cut: what arrow-go reads is what was written, and
// parquet-go sees the same levels and values as in the file of arrow-go's writer, with the same metadata.
func TestAnything(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 17))
		var fields []arrow.Field
		for i := range 1 + rng.IntN(5) {
			fields = append(fields, anyField(rng, fmt.Sprint("c", i), top))
		}
		schema := arrow.NewSchema(fields, nil)
		options := []pq.WriterProperty{
			pq.WithVersion(pq.V2_LATEST), pq.WithDictionaryDefault(rng.IntN(2) == 0), pq.WithDataPageVersion(pq.DataPageV1),
			pq.WithDataPageSize(int64(20 + rng.IntN(4)*500)), pq.WithCreatedBy("taster"),
		}
		if rng.IntN(2) == 0 {
			options = append(options, pq.WithCompression(compress.Codecs.Zstd))
		}
		for _, f := range fields {
			if _, ok := f.Type.(*arrow.Int64Type); ok && rng.IntN(2) == 0 {
				options = append(options, pq.WithDictionaryFor(f.Name, false), pq.WithEncodingFor(f.Name, pq.Encodings.DeltaBinaryPacked))
			}
		}
		props := pq.NewWriterProperties(options...)
		var groups [][][]arrow.Array
		for range 1 + rng.IntN(2) {
			sizes := []int{1 + rng.IntN(300), rng.IntN(3), rng.IntN(200)}
			var columns [][]arrow.Array
			for _, f := range fields {
				columns = append(columns, anyColumn(f, sizes, rng))
			}
			groups = append(groups, columns)
		}
		ours, theirs := writeAll(t, schema, groups, props), byArrow(t, schema, groups, props)
		if again := writeAll(t, schema, groups, props); !bytes.Equal(again, ours) {
			t.Fatalf("seed %d: other bytes the second time", seed)
		}

		table, err := pqarrow.ReadTable(context.Background(), bytes.NewReader(ours), nil, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatalf("seed %d: %v of %s", seed, err, schema)
		}
		for i, f := range fields {
			var want, got []string
			for _, columns := range groups {
				for _, arr := range columns[i] {
					for j := range arr.Len() {
						want = append(want, arr.ValueStr(j))
					}
				}
			}
			for _, arr := range table.Column(i).Data().Chunks() {
				for j := range arr.Len() {
					got = append(got, arr.ValueStr(j))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: column %s: %d values of %d differ", seed, f, len(got), len(want))
			}
		}
		table.Release()

		got, want := levelsAndValues(t, ours), levelsAndValues(t, theirs)
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				t.Fatalf("seed %d: column chunk %d of %s has other entries", seed, i, schema)
			}
		}
		sameMetadata(t, seed, ours, theirs)
	}
}

func sameMetadata(t *testing.T, seed int, ours, theirs []byte) {
	t.Helper()
	open := func(data []byte) *metadata.FileMetaData {
		r, err := file.NewParquetReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return r.MetaData()
	}
	a, b := open(ours), open(theirs)
	if a.NumRows != b.NumRows || !a.Schema.Equals(b.Schema) || a.NumRowGroups() != b.NumRowGroups() || a.Version() != b.Version() || a.GetCreatedBy() != b.GetCreatedBy() {
		t.Fatalf("seed %d: other metadata", seed)
	}
	for g := range a.NumRowGroups() {
		if a.RowGroup(g).NumRows() != b.RowGroup(g).NumRows() {
			t.Fatalf("seed %d: row group %d has other metadata", seed, g)
		}
		for i := range a.Schema.NumColumns() {
			one, _ := a.RowGroup(g).ColumnChunk(i)
			two, _ := b.RowGroup(g).ColumnChunk(i)
			if one.NumValues() != two.NumValues() || one.Compression() != two.Compression() || one.Type() != two.Type() || one.PathInSchema().String() != two.PathInSchema().String() {
				t.Fatalf("seed %d: column %d has other metadata", seed, i)
			}
			begin := one.DataPageOffset()
			if one.HasDictionaryPage() {
				begin = one.DictionaryPageOffset()
			}
			if one.FileOffset() != begin || begin > one.DataPageOffset() {
				t.Fatalf("seed %d: column %d has offsets that do not go together", seed, i)
			}
			sums, _ := one.Statistics()
			theirs, _ := two.Statistics()
			column := a.Schema.Column(i)
			if column.MaxRepetitionLevel() > 0 || column.PhysicalType() == pq.Types.ByteArray {
				if sums != nil {
					t.Fatalf("seed %d: column %d has statistics", seed, i)
				}
				continue
			}
			if (sums == nil) != (theirs == nil) {
				t.Fatalf("seed %d: column %d: statistics %v, want %v", seed, i, sums, theirs)
			}
			if sums == nil {
				continue
			}
			got, err := sums.Encode()
			if err != nil {
				t.Fatal(err)
			}
			want, err := theirs.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Min, want.Min) || !bytes.Equal(got.Max, want.Max) || got.NullCount != want.NullCount || got.HasMin != want.HasMin {
				t.Fatalf("seed %d: column %d %s: statistics %+v, want %+v", seed, i, column, got, want)
			}
		}
	}
}

// unpack is the readable reading of the hybrid of RLE and bit-packing.
func unpack(t *testing.T, b []byte, width uint, n int) []uint32 {
	t.Helper()
	var out []uint32
	for len(out) < n {
		head, size := binary.Uvarint(b)
		if size <= 0 {
			t.Fatalf("%d of %d values", len(out), n)
		}
		b = b[size:]
		if head&1 == 0 {
			value := uint32(0)
			for i := range (width + 7) / 8 {
				value |= uint32(b[i]) << (8 * i)
			}
			b = b[(width+7)/8:]
			for range head >> 1 {
				out = append(out, value)
			}
			continue
		}
		for i := range uint(head>>1) * 8 {
			value := uint32(0)
			for k := range width {
				at := i*width + k
				value |= uint32(b[at/8]>>(at%8)&1) << k
			}
			out = append(out, value)
		}
		b = b[uint(head>>1)*width:]
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes too many", len(b))
	}
	return out[:n]
}

func TestRuns(t *testing.T) {
	var r runs
	for seed := range 2000 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		width := uint(1 + rng.IntN(32))
		r.reset(width)
		var want []uint32
		for range rng.IntN(20) {
			value, n := uint32(rng.Uint64())>>(32-width), 1+rng.IntN(1+rng.IntN(40))
			if rng.IntN(3) == 0 {
				value &= 1
			}
			r.put(value, n)
			for range n {
				want = append(want, value)
			}
		}
		if got := unpack(t, r.end(), width, len(want)); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

// Differences that wrap around, widths of 0 to 64 bits, and every length near the end of a block.
func TestDeltas(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	props := pq.NewWriterProperties(pq.WithVersion(pq.V2_LATEST), pq.WithDictionaryDefault(false), pq.WithEncodingFor("n", pq.Encodings.DeltaBinaryPacked))
	for width := range uint(65) {
		rng := rand.New(rand.NewPCG(uint64(width), 2))
		for _, n := range []int{1, 2, 32, 33, 34, 128, 129, 130, 257, 300} {
			b := array.NewInt64Builder(memory.DefaultAllocator)
			for range n {
				v := int64(rng.Uint64() >> 1 >> (63 - min(width, 63)))
				if width == 64 {
					v = []int64{math.MinInt64, math.MaxInt64, 0, -1}[rng.IntN(4)]
				}
				b.Append(v)
			}
			arr := b.NewArray()
			table, err := pqarrow.ReadTable(context.Background(), bytes.NewReader(writeAll(t, schema, [][][]arrow.Array{{{arr}}}, props)), nil, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
			if err != nil {
				t.Fatal(err)
			}
			if got := table.Column(0).Data().Chunk(0); !array.Equal(got, arr) {
				t.Fatalf("%d bits: %s, want %s", width, got, arr)
			}
		}
	}
}

// A dictionary that outgrows its page, after pages that were encoded by it, gives way to plain values.
func TestLargeDictionary(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "texts", Type: arrow.BinaryTypes.String}, {Name: "numbers", Type: arrow.PrimitiveTypes.Int64}, {Name: "few", Type: arrow.PrimitiveTypes.Int32},
		{Name: "none", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	props := pq.NewWriterProperties(pq.WithVersion(pq.V2_LATEST), pq.WithDictionaryPageSizeLimit(10_000), pq.WithDataPageSize(4000))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range 5000 {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("text ", i/2))
		b.Field(1).(*array.Int64Builder).Append(int64(i / 2))
		b.Field(2).(*array.Int32Builder).Append(int32(i % 700))
		b.Field(3).AppendNull()
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var columns [][]arrow.Array
	for _, c := range rec.Columns() {
		columns = append(columns, []arrow.Array{c})
	}
	data := writeAll(t, schema, [][][]arrow.Array{columns}, props)
	table, err := pqarrow.ReadTable(context.Background(), bytes.NewReader(data), nil, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range rec.Columns() {
		got, err := array.Concatenate(table.Column(i).Data().Chunks(), memory.DefaultAllocator)
		if err != nil || !array.Equal(got, c) {
			t.Errorf("column %d differs (%v)", i, err)
		}
	}
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, false} {
		if chunk, _ := r.MetaData().RowGroup(0).ColumnChunk(i); chunk.HasDictionaryPage() != want {
			t.Errorf("column %d: dictionary %v", i, !want)
		}
	}
}

// Columns come in their order, or not at all.
func TestOrder(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}}, nil)
	props := pq.NewWriterProperties(pq.WithVersion(pq.V2_LATEST))
	layout, err := pqarrow.ToParquet(schema, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Append(1)
	arr := []Rows{All(b.NewArray())}
	for _, wrong := range [][2]int{{0, 1}, {1, 0}} {
		w, err := NewWriter(io.Discard, schema, layout, props, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Begin(1)
		c, err := w.Encode(wrong[0], wrong[1], arr)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(c); err == nil {
			t.Errorf("column %d of row group %d was taken first", wrong[1], wrong[0])
		}
	}
	if _, err := NewWriter(io.Discard, arrow.NewSchema(schema.Fields()[:1], nil), layout, props, nil); err == nil {
		t.Error("a layout with a leaf too many was taken")
	}
	for _, bad := range []arrow.DataType{arrow.FixedWidthTypes.Timestamp_s, arrow.BinaryTypes.LargeString, &arrow.Decimal128Type{Precision: 9, Scale: 2}} {
		other := arrow.NewSchema([]arrow.Field{{Name: "a", Type: bad}}, nil)
		layout, err := pqarrow.ToParquet(other, props, pqarrow.DefaultWriterProps())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewWriter(io.Discard, other, layout, props, nil); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
