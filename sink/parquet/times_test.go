package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
)

// published is the keys of apache/parquet-testing by key metadata, which are the same again for 256 bits but longer.
type published struct{ long bool }

func (p published) DataKey(_ context.Context, metadata []byte) ([]byte, error) {
	short := map[string]string{"kf": "0123456789012345", "kc1": "1234567890123450", "kc2": "1234567890123451"}
	if !p.long {
		return []byte(short[string(metadata)]), nil
	}
	if string(metadata) == "kf" {
		return []byte("01234567890123456789012345678901"), nil
	}
	return []byte("1234567890123456789012345678901" + string('1'+metadata[2]-'0')), nil
}

func evaluation(t *testing.T, name string) *os.File {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA does not name the folder with apache/parquet-testing")
	}
	f, err := os.Open(filepath.Join(folder, "parquet-testing", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func foreign(t *testing.T, f *os.File, prefix string, keys Keys) *Reader {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenForeign(ctx, f, info.Size(), info.Name(), prefix, keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPublishedTimes reads the published files whole, whose times lie 4713 years before Christ.
func TestPublishedTimes(t *testing.T) {
	for _, name := range []string{
		"uniform_encryption", "encrypt_columns_and_footer", "encrypt_columns_and_footer_aad", "encrypt_columns_and_footer_ctr",
		"encrypt_columns_and_footer_disable_aad_storage", "encrypt_columns_plaintext_footer", "aes256/uniform_encryption",
		"aes256/encrypt_columns_and_footer", "aes256/encrypt_columns_and_footer_ctr", "aes256/encrypt_columns_and_footer_disable_aad_storage",
		"aes256/encrypt_columns_plaintext_footer",
	} {
		t.Run(name, func(t *testing.T) {
			prefix := ""
			if strings.Contains(name, "disable_aad_storage") {
				prefix = "tester"
			}
			f := evaluation(t, name+".parquet.encrypted")
			r := foreign(t, f, prefix, published{strings.HasPrefix(name, "aes256/")})
			if got := typeOf(t, r, "int96_field"); !arrow.TypeEqual(got, arrow.BinaryTypes.String) {
				t.Fatalf("int96_field is %s", got)
			}
			for _, columns := range [][]string{nil, {"int96_field"}} {
				n := 0
				for batch, err := range r.Rows(ctx, columns) {
					if err != nil {
						t.Fatal(err)
					}
					if want := arrow.NewSchema(r.fieldsOf(columns), nil); !batch.Schema().Equal(want) {
						t.Fatalf("%s, want %s", batch.Schema(), want)
					}
					column := batch.Column(batch.Schema().FieldIndices("int96_field")[0])
					for i := range column.Len() {
						// As parquet-cpp's and parquet-java's tests define it: the words i, i+1 and i+2.
						at := time.Unix(0, int64(n+1)<<32|int64(n)).AddDate(0, 0, n+2-2440588).UTC()
						if got := column.ValueStr(i); got != at.Format(time.RFC3339Nano) || !strings.HasPrefix(got, "-471") {
							t.Fatalf("row %d: %s, want %s", n, got, at)
						}
						n++
					}
				}
				if int64(n) != r.NumRows() || n < 50 {
					t.Errorf("%d rows of %d", n, r.NumRows())
				}
			}
		})
	}
}

func typeOf(t *testing.T, r *Reader, column string) arrow.DataType {
	t.Helper()
	fields, ok := r.schema.FieldsByName(column)
	if !ok {
		t.Fatalf("no column %s in %s", column, r.schema)
	}
	return fields[0].Type
}

// TestImpalaTimes reads a file that is not encrypted, and whose times have dictionaries.
func TestImpalaTimes(t *testing.T) {
	r := foreign(t, evaluation(t, "alltypes_plain.parquet"), "", nil)
	got := rows(t, r, []string{"timestamp_col"})
	var want []string
	for _, at := range []string{"03-01T00:00", "03-01T00:01", "04-01T00:00", "04-01T00:01", "02-01T00:00", "02-01T00:01", "01-01T00:00", "01-01T00:01"} {
		want = append(want, "timestamp_col=2009-"+at+":00Z ")
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// times is a row with times wherever times can be.
type times struct {
	Name  string             `parquet:"name"`
	At    *deprecated.Int96  `parquet:"at,optional"`
	Log   []deprecated.Int96 `parquet:"log,list"`
	Raw   [12]byte           `parquet:"raw"`
	Inner struct {
		Began deprecated.Int96            `parquet:"began"`
		Named map[string]deprecated.Int96 `parquet:"named"`
	} `parquet:"inner"`
	Deep []struct {
		At *deprecated.Int96 `parquet:"at,optional"`
		No int32             `parquet:"no"`
	} `parquet:"deep,list"`
}

func bits(t *testing.T, text string) deprecated.Int96 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * 60 * 60
	days := at.Unix() / day
	if at.Unix()%day < 0 {
		days--
	}
	nanos := (at.Unix()-days*day)*1e9 + int64(at.Nanosecond())
	return deprecated.Int96{uint32(nanos), uint32(nanos >> 32), uint32(days + julianOfEpoch)}
}

func byOthers(t *testing.T, in []times, options ...pq.WriterOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w := pq.NewGenericWriter[times](&out, append(options, pq.MaxRowsPerRowGroup(100))...)
	if _, err := w.Write(in); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func openTimes(t *testing.T, data []byte) *Reader {
	t.Helper()
	r, err := OpenForeign(ctx, bytes.NewReader(data), int64(len(data)), "times.parquet", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTimesWithin reads times in lists, structs and maps, with nulls, over batches and row groups, as text and as
// Spark's microseconds. Bytes that are no times stay bytes.
func TestTimesWithin(t *testing.T) {
	for writer, options := range map[string][]pq.WriterOption{
		"anybody": nil,
		"spark":   {pq.KeyValueMetadata("org.apache.spark.version", "3.5.1")},
		"v2":      {pq.DataPageVersion(2), pq.Compression(&pq.Snappy)},
		"v1":      {pq.DataPageVersion(1), pq.DataPageStatistics(true), pq.PageBufferSize(100)},
	} {
		t.Run(writer, func(t *testing.T) {
			all := []string{"0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2024-02-29T12:34:56.789Z"}
			var in []times
			var want []string
			for i := range 10_000 {
				at := func(j int) string { return all[(i+j)%len(all)] }
				row := times{Name: fmt.Sprint(i), Raw: [12]byte{byte(i)}}
				shown := []string{fmt.Sprint(i), "null", "[", "", at(5), "", "["}
				if i%3 > 0 {
					b := bits(t, at(0))
					row.At, shown[1] = &b, at(0)
				}
				for j := range i % 4 {
					row.Log = append(row.Log, bits(t, at(j)))
					shown[2] += at(j) + ","
				}
				row.Inner.Began = bits(t, at(5))
				row.Inner.Named = map[string]deprecated.Int96{"k": bits(t, at(6))}
				shown[5] = "k:" + at(6)
				for j := range i % 3 {
					b := bits(t, at(j))
					row.Deep = append(row.Deep, struct {
						At *deprecated.Int96 `parquet:"at,optional"`
						No int32             `parquet:"no"`
					}{&b, int32(j)})
					shown[6] += at(j) + fmt.Sprintf("#%d,", j)
				}
				shown[3] = fmt.Sprint(row.Raw)
				in, want = append(in, row), append(want, strings.Join(shown, " "))
			}
			r := openTimes(t, byOthers(t, in, options...))
			// show is one time, as text in any case.
			show := func(a arrow.Array, i int) string {
				switch a := a.(type) {
				case *array.Timestamp:
					return a.Value(i).ToTime(a.DataType().(*arrow.TimestampType).Unit).UTC().Format(time.RFC3339Nano)
				case *array.String:
					return a.Value(i)
				}
				t.Fatalf("times are %s", a.DataType())
				return ""
			}
			n := 0
			for batch, err := range r.Rows(ctx, nil) {
				if err != nil {
					t.Fatal(err)
				}
				column := func(name string) arrow.Array { return batch.Column(batch.Schema().FieldIndices(name)[0]) }
				if _, ok := column("at").(*array.Timestamp); ok != (writer == "spark") {
					t.Fatalf("at is %s", column("at").DataType())
				}
				log, deep := column("log").(*array.List), column("deep").(*array.List)
				inner := column("inner").(*array.Struct)
				named := inner.Field(1).(*array.Map)
				for i := range int(batch.NumRows()) {
					shown := []string{column("name").ValueStr(i), "null", "[", "", show(inner.Field(0), i), "", "["}
					if at := column("at"); at.IsValid(i) {
						shown[1] = show(at, i)
					}
					from, to := log.ValueOffsets(i)
					for ; from < to; from++ {
						shown[2] += show(log.ListValues(), int(from)) + ","
					}
					shown[3] = fmt.Sprint([12]byte(column("raw").(*array.FixedSizeBinary).Value(i)))
					from, _ = named.ValueOffsets(i)
					shown[5] = named.Keys().ValueStr(int(from)) + ":" + show(named.Items(), int(from))
					from, to = deep.ValueOffsets(i)
					for ; from < to; from++ {
						each := deep.ListValues().(*array.Struct)
						shown[6] += show(each.Field(0), int(from)) + fmt.Sprintf("#%s,", each.Field(1).ValueStr(int(from)))
					}
					if got := strings.Join(shown, " "); got != want[n] {
						t.Fatalf("row %d: %s, want %s", n, got, want[n])
					}
					n++
				}
			}
			if n != len(want) {
				t.Errorf("%d rows, want %d", n, len(want))
			}
		})
	}
}

// TestTimesOfArrow reads what Arrow wrote as INT96 as the nanoseconds that they were, though the rows came from Spark.
func TestTimesOfArrow(t *testing.T) {
	spark := arrow.NewMetadata([]string{"org.apache.spark.version"}, []string{"3.5.1"})
	schema := arrow.NewSchema([]arrow.Field{{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_ns, Nullable: true}}, &spark)
	b := array.NewTimestampBuilder(memory.DefaultAllocator, arrow.FixedWidthTypes.Timestamp_ns.(*arrow.TimestampType))
	defer b.Release()
	b.AppendValues([]arrow.Timestamp{0, -1, 1, math.MaxInt64, math.MinInt64, 7}, []bool{true, true, true, true, true, false})
	column := b.NewArray()
	defer column.Release()
	batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
	defer batch.Release()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &out, nil, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema(), pqarrow.WithDeprecatedInt96Timestamps(true)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(batch), w.Close()); err != nil {
		t.Fatal(err)
	}
	r := openTimes(t, out.Bytes())
	if !slices.Contains(r.source.Int96(), true) {
		t.Fatal("Arrow wrote no INT96")
	}
	for got, err := range r.Rows(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if !array.Equal(got.Column(0), column) {
			t.Errorf("%s, want %s", got.Column(0), column)
		}
	}
}

// TestTimesThatDoNotFit holds that nothing is rounded.
func TestTimesThatDoNotFit(t *testing.T) {
	spark := pq.KeyValueMetadata("org.apache.spark.version", "3.5.1")
	far := deprecated.Int96{0, 0, math.MaxUint32}
	fine := bits(t, "2024-02-29T12:34:56.123456789Z")
	for _, c := range []struct {
		at     deprecated.Int96
		option []pq.WriterOption
		want   string // "" for an error
	}{
		{at: fine, want: "2024-02-29T12:34:56.123456789Z"},
		{at: far, want: "11754508-12-13T00:00:00Z"},
		{at: fine, option: []pq.WriterOption{spark}},
		{at: far, option: []pq.WriterOption{spark}},
	} {
		in := []times{{Name: "x", At: &c.at}}
		r := openTimes(t, byOthers(t, in, c.option...))
		var got string
		var err error
		for batch, e := range r.Rows(ctx, []string{"at"}) {
			if err = e; err == nil {
				got = batch.Column(0).ValueStr(0)
			}
		}
		if c.want != "" && (err != nil || got != c.want) {
			t.Errorf("%v: %s, want %s: %v", c.at, got, c.want, err)
		}
		if c.want == "" && (err == nil || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "times.parquet: column at: a time of the type INT96 does not fit timestamp[us, tz=UTC]")) {
			t.Errorf("%v: %s, %v", c.at, got, err)
		}
		if names := rows(t, r, []string{"name"}); len(names) != 1 || names[0] != "name=x " {
			t.Errorf("without the times: %v", names)
		}
	}
}

// TestTicks holds the first and last times of each unit.
func TestTicks(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} {
		step := int64(unit.Multiplier())
		second := int64(time.Second) / step
		for _, want := range []int64{math.MinInt64, math.MinInt64 + 1, -second - 1, -second, 1 - second, -1, 0, 1, second - 1, second, math.MaxInt64 - 1, math.MaxInt64} {
			at := time.Unix(want/second, want%second*step)
			if got, ok := ticks(at, unit); !ok || int64(got) != want {
				t.Errorf("%s: %d, %v, want %d", unit, got, ok, want)
			}
			if _, ok := ticks(at.Add(1), unit); ok && (unit != arrow.Nanosecond || want == math.MaxInt64) {
				t.Errorf("%s: a nanosecond after %d fits", unit, want)
			}
			if _, ok := ticks(at.Add(-1), unit); ok && (unit != arrow.Nanosecond || want == math.MinInt64) {
				t.Errorf("%s: a nanosecond before %d fits", unit, want)
			}
		}
		for _, want := range []int64{math.MinInt64, math.MaxInt64} {
			at := time.Unix(want/second, want%second*step).Add(time.Duration(step))
			if want < 0 {
				at = at.Add(time.Duration(-2 * step))
			}
			if got, ok := ticks(at, unit); ok {
				t.Errorf("%s: what lies beyond is %d", unit, got)
			}
		}
	}
}
