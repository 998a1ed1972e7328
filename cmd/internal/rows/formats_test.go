package rows

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// batchOf makes a batch of rows given as Arrow's JSON.
func batchOf(t *testing.T, s *arrow.Schema, text string) arrow.RecordBatch {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Release)
	return batch
}

var (
	place1 = arrow.StructOf(arrow.Field{Name: "city", Type: arrow.BinaryTypes.String})
	place2 = arrow.StructOf(arrow.Field{Name: "city", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "zip", Type: arrow.PrimitiveTypes.Int32, Nullable: true})
	older  = arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "place", Type: place1, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(place1), Nullable: true},
		{Name: "gone", Type: arrow.PrimitiveTypes.Float64},
		{Name: "taster_timestamp", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}},
		{Name: "taster_topic", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
	}, nil)
	newer = arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "place", Type: place2, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(place2), Nullable: true},
		{Name: "more", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "taster_timestamp", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}},
		{Name: "taster_topic", Type: arrow.BinaryTypes.String},
	}, nil)
	olderRows = `[
		{"id": 1, "text": "a, \"quoted\"\nline", "place": {"city": "Wien"}, "tags": [{"city": "x"}], "gone": 1.5, "taster_timestamp": 1767323045006, "taster_topic": "t"},
		{"id": 2, "text": "", "place": null, "tags": [], "gone": -0.25, "taster_timestamp": 1767323045000, "taster_topic": "t"}]`
	newerRows = `[
		{"id": null, "place": {"city": "Graz", "zip": 8010}, "tags": [{"city": "y", "zip": 1}, {"city": "z", "zip": null}], "more": "/wA=", "text": null, "taster_timestamp": 1767398400000, "taster_topic": "u"}]`
	together = []string{
		`{"id":1,"text":"a, \"quoted\"\nline","place":{"city":"Wien","zip":null},"tags":[{"city":"x","zip":null}],"gone":1.5,"more":null,"taster_timestamp":"2026-01-02T03:04:05.006Z","taster_topic":"t"}`,
		`{"id":2,"text":"","place":null,"tags":[],"gone":-0.25,"more":null,"taster_timestamp":"2026-01-02T03:04:05Z","taster_topic":"t"}`,
		`{"id":null,"text":null,"place":{"city":"Graz","zip":8010},"tags":[{"city":"y","zip":1},{"city":"z","zip":null}],"gone":null,"more":"/wA=","taster_timestamp":"2026-01-03T00:00:00Z","taster_topic":"u"}`,
	}
)

// both writes rows of two files of which the newer has other columns.
func both(t *testing.T, f Format, cut bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w := New(f, &out)
	for _, s := range []*arrow.Schema{older, newer} {
		if err := w.Columns(s); err != nil {
			t.Fatal(err)
		}
	}
	batches := []arrow.RecordBatch{batchOf(t, older, olderRows), batchOf(t, newer, newerRows)}
	if cut { // slices with offsets, which have buffers of other rows
		batches = []arrow.RecordBatch{batches[0].NewSlice(0, 1), batches[0].NewSlice(1, 2), batches[1].NewSlice(0, 1), batches[1].NewSlice(0, 0)}
	}
	for _, b := range batches {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// again prints what a reader of another format finds as JSON lines.
func again(t *testing.T, r array.RecordReader) (out []string) {
	t.Helper()
	var text bytes.Buffer
	w := New(JSONL, &text)
	for r.Next() {
		if err := w.Write(r.RecordBatch()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

func readParquet(t *testing.T, data []byte) array.RecordReader {
	t.Helper()
	f, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{BatchSize: 1000}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	batches, err := r.GetRecordReader(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return batches
}

func TestFormats(t *testing.T) {
	for _, cut := range []bool{false, true} {
		if got := again(t, readParquet(t, both(t, Parquet, cut))); !reflect.DeepEqual(got, together) {
			t.Errorf("parquet:\n%s", strings.Join(got, "\n"))
		}
		r, err := ipc.NewReader(bytes.NewReader(both(t, Arrow, cut)))
		if err != nil {
			t.Fatal(err)
		}
		if got := again(t, r); !reflect.DeepEqual(got, together) {
			t.Errorf("arrow:\n%s", strings.Join(got, "\n"))
		}
		const want = "id,text,place,tags,gone,more,taster_timestamp,taster_topic\n" +
			"1,\"a, \"\"quoted\"\"\nline\",\"{\"\"city\"\":\"\"Wien\"\",\"\"zip\"\":null}\",\"[{\"\"city\"\":\"\"x\"\",\"\"zip\"\":null}]\",1.5,,2026-01-02T03:04:05.006Z,t\n" +
			"2,\"\",,[],-0.25,,2026-01-02T03:04:05Z,t\n" +
			",,\"{\"\"city\"\":\"\"Graz\"\",\"\"zip\"\":8010}\",\"[{\"\"city\"\":\"\"y\"\",\"\"zip\"\":1},{\"\"city\"\":\"\"z\"\",\"\"zip\"\":null}]\",,/wA=,2026-01-03T00:00:00Z,u\n"
		text := both(t, CSV, cut)
		if string(text) != want {
			t.Errorf("csv:\n%s", text)
		}
		cells, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil || len(cells) != 4 || cells[1][1] != "a, \"quoted\"\nline" || !json.Valid([]byte(cells[3][3])) {
			t.Errorf("csv, read again: %q, %v", cells, err)
		}
	}
}

// TestNoRows writes what has columns and no rows, and still can be read.
func TestNoRows(t *testing.T) {
	for _, f := range Formats {
		var out bytes.Buffer
		w := New(f, &out)
		if err := errors.Join(w.Columns(older), w.Close()); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		switch f {
		case JSONL:
			if out.Len() != 0 {
				t.Errorf("jsonl: %q", out.String())
			}
		case CSV:
			if out.String() != "id,text,place,tags,gone,taster_timestamp,taster_topic\n" {
				t.Errorf("csv: %q", out.String())
			}
		case Parquet:
			if got := again(t, readParquet(t, out.Bytes())); got[0] != "" {
				t.Errorf("parquet: %q", got)
			}
		case Arrow:
			r, err := ipc.NewReader(&out)
			if err != nil || len(r.Schema().Fields()) != 7 || r.Next() {
				t.Errorf("arrow: %v", err)
			}
		}
	}
}

// TestColumnsThatDiffer refuses one column of two types.
func TestColumnsThatDiffer(t *testing.T) {
	other := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}, nil)
	for _, f := range Formats {
		w := New(f, io.Discard)
		if err := w.Columns(older); err != nil {
			t.Fatal(err)
		}
		if err := w.Columns(other); errors.Is(err, ErrSchema) != f.OneSchema() {
			t.Errorf("%s: %v", f, err)
		}
	}
	w := New(Arrow, io.Discard)
	if err := w.Columns(older); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(batchOf(t, other, `[{"id": "x"}]`)); !errors.Is(err, ErrSchema) {
		t.Errorf("rows that were not announced: %v", err)
	}
}

// TestManyRowGroups writes more than one row group, fixed-size lists in slices included.
func TestManyRowGroups(t *testing.T) {
	s := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "vector", Type: arrow.FixedSizeListOfNonNullable(2, arrow.PrimitiveTypes.Float32)},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	const n = groupRows + 5000
	for i := range n {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		l := b.Field(1).(*array.FixedSizeListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(i), float32(-i)}, nil)
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	var out bytes.Buffer
	w := New(Parquet, &out)
	for from := int64(0); from < n; from += 8192 {
		if err := w.Write(batch.NewSlice(from, min(from+8192, n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := file.NewParquetReader(bytes.NewReader(out.Bytes()))
	if err != nil || f.NumRowGroups() != 2 || f.NumRows() != n {
		t.Fatalf("%d row groups, %d rows, %v", f.NumRowGroups(), f.NumRows(), err)
	}
	for i, line := range again(t, readParquet(t, out.Bytes())) {
		if want := fmt.Sprintf(`{"id":%d,"vector":[%d,%d]}`, i, i, -i); line != want && i > 0 {
			t.Fatalf("row %d: %s, want %s", i, line, want)
		}
	}
}

// TestFailingOutput hands on the error of what is written to.
func TestFailingOutput(t *testing.T) {
	for _, f := range Formats {
		for after := range 3 {
			w := New(f, &failing{after * 20})
			err := w.Columns(older)
			if err == nil {
				err = w.Write(batchOf(t, older, olderRows))
			}
			if err == nil {
				err = w.Close()
			}
			if !errors.Is(err, errFull) {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
}

func TestFormatNames(t *testing.T) {
	for _, f := range Formats {
		if got, err := ParseFormat(string(f)); got != f || err != nil {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("JSON"); err == nil || !strings.Contains(err.Error(), "jsonl") {
		t.Error(err)
	}
}
