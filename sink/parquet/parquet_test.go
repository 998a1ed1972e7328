package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
)

var ctx = context.Background()

func keyFile(t testing.TB, names ...string) *envelope.KeyFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, names...); err != nil {
		t.Fatal(err)
	}
	f, err := envelope.LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func keyring(t testing.TB, f *envelope.KeyFile, zones map[envelope.Zone]string) *envelope.Keyring {
	t.Helper()
	masters := map[envelope.Zone]envelope.MasterKey{}
	for zone, name := range zones {
		masters[zone] = envelope.MasterKey{KMS: f, ID: name}
	}
	k, err := envelope.NewKeyring(masters, envelope.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ring(t testing.TB) *envelope.Keyring {
	return keyring(t, keyFile(t, "default"), map[envelope.Zone]string{envelope.Default: "default"})
}

// everyType has a column of every kind that a contract can lead to.
var everyType = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String},
	{Name: "body", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "stars", Type: arrow.PrimitiveTypes.Int64},
	{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "verified", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "created", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "photo", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	{Name: "embedding", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true},
	{Name: "fixed", Type: arrow.FixedSizeListOfNonNullable(3, arrow.PrimitiveTypes.Float32)},
	{Name: "kind", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "box", Nullable: true, Type: arrow.StructOf(
		arrow.Field{Name: "w", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "in", Nullable: true, Type: arrow.StructOf(arrow.Field{Name: "h", Type: arrow.BinaryTypes.String, Nullable: true})},
	)},
	{Name: "items", Nullable: true, Type: arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "sku", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	))},
}, nil)

// fill appends one row of random values, some null, to a builder of any type.
func fill(b array.Builder, nullable bool, rng *rand.Rand) {
	if nullable && rng.IntN(5) == 0 {
		b.AppendNull()
		return
	}
	word := func() string { return fmt.Sprintf("SECRET-%d", rng.IntN(50)) }
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(word())
	case *array.BinaryBuilder:
		b.Append([]byte(word()))
	case *array.Int64Builder:
		b.Append(rng.Int64N(5))
	case *array.Int32Builder:
		b.Append(rng.Int32())
	case *array.Float64Builder:
		b.Append(rng.NormFloat64())
	case *array.Float32Builder:
		b.Append(rng.Float32())
	case *array.BooleanBuilder:
		b.Append(rng.IntN(2) == 0)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(rng.Int64N(1e15)))
	case *array.Date32Builder:
		b.Append(arrow.Date32(rng.Int32N(20000)))
	case *array.BinaryDictionaryBuilder:
		if err := b.AppendString(word()); err != nil {
			panic(err)
		}
	case *array.FixedSizeListBuilder:
		b.Append(true)
		for range 3 {
			fill(b.ValueBuilder(), false, rng)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range rng.IntN(4) {
			fill(b.ValueBuilder(), false, rng)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			fill(b.FieldBuilder(i), b.Type().(*arrow.StructType).Field(i).Nullable, rng)
		}
	default:
		panic(fmt.Sprintf("%T", b))
	}
}

// segment makes batches of the given sizes, with a refused message after every tenth row.
func segment(schema *arrow.Schema, seed uint64, sizes ...int) *record.Segment {
	rng := rand.New(rand.NewPCG(seed, 1))
	seg := &record.Segment{Source: record.Source{Topic: "reviews", ID: "AAAAAAAAQACAAAAAAAAAAQ", Partition: 2}, Opened: 1767225599999}
	for _, n := range sizes {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		batch := &record.Batch{}
		for i := range n {
			for j, f := range schema.Fields() {
				fill(b.Field(j), f.Nullable, rng)
			}
			batch.Origins = append(batch.Origins, record.Origin{Offset: seg.Next, Timestamp: 1767225600000 + seg.Next})
			batch.Providers = append(batch.Providers, []string{"acme", "", "SECRET-provider"}[rng.IntN(3)])
			batch.Classifications = append(batch.Classifications, record.Classification(rng.IntN(4)))
			batch.Bytes += 300
			seg.Next++
			if i%10 == 0 {
				batch.Refused = append(batch.Refused, record.Refused{
					Message: record.Message{Offset: seg.Next, Timestamp: 1767225600000 + seg.Next, Key: []byte("SECRET-key"), Value: []byte(`{"SECRET-raw`),
						Headers: []record.Header{{Key: "SECRET-h", Value: []byte("SECRET-v")}, {Key: "SECRET-h"}}},
					Provider: "acme\xff", Code: finding.JSONTruncated, Field: "/body", At: int64(i) - 1,
				})
				seg.Next++
			}
		}
		batch.Records = b.NewRecordBatch()
		b.Release()
		seg.Batches = append(seg.Batches, batch)
	}
	return seg
}

// decide quarantines the rows that quarantine names.
func decide(seg *record.Segment, quarantine func(row int) bool) *record.Decision {
	d := &record.Decision{Reasons: map[int][]finding.Code{}, Findings: map[int][]finding.Finding{}}
	for i := range seg.Rows() {
		v, risk := finding.Accepted, 0.25
		if quarantine(i) {
			v, risk = finding.Quarantined, 0.99
			d.Reasons[i] = []finding.Code{finding.PoisonTrigger, finding.PoisonCombined}
			d.Findings[i] = []finding.Finding{
				{Detector: "trigger", Score: 7.5, PValue: 0.001, Threshold: 0.005, Evidence: "SECRET-phrase"},
				{Detector: "outlier", Score: math.NaN(), PValue: 1, Threshold: 0.005},
			}
		}
		d.Verdicts, d.Risks = append(d.Verdicts, v), append(d.Risks, risk)
	}
	return d
}

func write(t testing.TB, name string, seg *record.Segment, dec *record.Decision, v finding.Verdict, opt Options) ([]byte, Written) {
	t.Helper()
	var buf bytes.Buffer
	w, err := Write(ctx, &buf, name, seg, dec, v, opt)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w
}

func open(t testing.TB, data []byte, name string, keys *envelope.Keyring) *Reader {
	t.Helper()
	r, err := Open(ctx, bytes.NewReader(data), int64(len(data)), name, keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rows reads a file into one text for each row.
func rows(t testing.TB, r *Reader, columns []string) []string {
	t.Helper()
	var out []string
	for batch, err := range r.Rows(ctx, columns) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(batch.NumRows()) {
			out = append(out, rowText(batch, i))
		}
	}
	return out
}

func rowText(batch arrow.RecordBatch, i int) string {
	var b strings.Builder
	for j, f := range batch.Schema().Fields() {
		fmt.Fprintf(&b, "%s=%s ", f.Name, batch.Column(j).ValueStr(i))
	}
	return b.String()
}

// Every value of every type comes back, whichever way a batch is cut: whole, in runs, in single rows, over several
// row groups.
func TestRoundTrip(t *testing.T) {
	keys := ring(t)
	for name, quarantine := range map[string]func(int) bool{
		"all":       func(int) bool { return true },
		"runs":      func(i int) bool { return i/7%2 == 0 },
		"one":       func(i int) bool { return i == 101 },
		"scattered": func(i int) bool { return i%13 == 5 || i > 290 },
	} {
		for _, groupRows := range []int{0, 50, 7} {
			t.Run(fmt.Sprintf("%s/%d", name, groupRows), func(t *testing.T) {
				seg := segment(everyType, 7, 100, 1, 120, 80)
				defer seg.Release()
				dec := decide(seg, quarantine)
				var want []string
				at := 0
				for _, b := range seg.Batches {
					for i := range b.Origins {
						if quarantine(at) {
							want = append(want, rowText(b.Records, i))
						}
						at++
					}
				}
				data, w := write(t, "quarantined/x", seg, dec, finding.Quarantined, Options{Keys: keys, GroupRows: groupRows})
				if w.Rows != int64(len(want)) || w.Rows != Count(seg, dec, finding.Quarantined) {
					t.Errorf("wrote %d rows, want %d", w.Rows, len(want))
				}
				var own []string
				for _, f := range everyType.Fields() {
					own = append(own, f.Name)
				}
				if got := rows(t, open(t, data, "quarantined/x", keys), own); !slices.Equal(got, want) {
					for i := range got {
						if i >= len(want) || got[i] != want[i] {
							t.Fatalf("row %d of %d:\n%s\nwant (of %d)\n%s", i, len(got), got[i], len(want), want[min(i, len(want)-1)])
						}
					}
					t.Fatalf("%d rows, want %d", len(got), len(want))
				}
				digest, n, err := open(t, data, "", keys).Content(ctx)
				if err != nil || n != w.Rows || digest != w.Content {
					t.Errorf("content %s of %d rows, %v; written %s", digest, n, err, w.Content)
				}
			})
		}
	}
}

// Every row has a provider of its own: the dictionary outgrows its page, and plain values take its place.
func TestManyProviders(t *testing.T) {
	keys := ring(t)
	seg := segment(arrow.NewSchema(everyType.Fields()[2:3], nil), 3, 40_000)
	defer seg.Release()
	names := seg.Batches[0].Providers
	for i := range names {
		names[i] = fmt.Sprintf("provider-with-a-rather-long-name-%08d", i)
	}
	data, w := write(t, "accepted/x", seg, decide(seg, func(int) bool { return false }), finding.Accepted, Options{Keys: keys})
	got := rows(t, open(t, data, "accepted/x", keys), []string{Provider})
	for i, row := range got {
		if row != "taster_provider="+names[i]+" " {
			t.Fatalf("row %d: %s", i, row)
		}
	}
	if digest, n, err := open(t, data, "", keys).Content(ctx); err != nil || n != 40_000 || digest != w.Content {
		t.Errorf("%d rows, %v", n, err)
	}
}

// However many cores encode columns, the file is the same, byte for byte, but for what encryption adds.
func TestSameBytes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	keys := ring(t)
	seg := segment(everyType, 11, 300, 7, 250)
	defer seg.Release()
	dec := decide(seg, func(i int) bool { return i%5 == 0 })
	for _, v := range finding.Verdicts {
		var want []byte
		for _, cores := range []int{1, 2, 8, 1} {
			runtime.GOMAXPROCS(cores)
			got, _ := write(t, "x", seg, dec, v, Options{Keys: keys, GroupRows: 200, plain: true})
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d cores write another file", v, cores)
			}
		}
	}
}

// breaks panics at the n-th write, from 1.
type breaks struct{ n int }

func (b *breaks) Write(p []byte) (int, error) {
	if b.n--; b.n == 0 {
		panic("broken")
	}
	return len(p), nil
}

// When writing a column panics, the columns that others encode are let go of before Write returns.
func TestPanicBetweenColumns(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 11, 300, 7, 250)
	defer seg.Release()
	dec := decide(seg, func(int) bool { return false })
	for n := 1; ; n += 1 + n/2 {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		out := &breaks{n}
		_, err := Write(t.Context(), out, "x", seg, dec, finding.Accepted, Options{Keys: keys, GroupRows: 200, Memory: mem})
		mem.AssertSize(t, 0)
		if out.n > 0 {
			if err != nil || n < 20 {
				t.Errorf("fewer than %d writes: %v", n, err)
			}
			return
		}
		if !errors.Is(err, ErrBroken) {
			t.Fatalf("write %d panics: %v", n, err)
		}
	}
}

// The digest of plaintext does not depend on how rows were cut into batches and row groups, and does depend on every
// value.
func TestContent(t *testing.T) {
	keys := ring(t)
	all := func(int) bool { return false }
	digest := func(seg *record.Segment, group int) string {
		defer seg.Release()
		_, w := write(t, "accepted/x", seg, decide(seg, all), finding.Accepted, Options{Keys: keys, GroupRows: group})
		return w.Content
	}
	noRefused := func(seg *record.Segment) *record.Segment {
		next := int64(0)
		for _, b := range seg.Batches {
			b.Refused = nil
			for i := range b.Origins {
				b.Origins[i].Offset, b.Origins[i].Timestamp = next, next
				next++
			}
		}
		return seg
	}
	want := digest(noRefused(segment(everyType, 3, 90)), 0)
	if got := digest(noRefused(segment(everyType, 3, 30, 60)), 11); got != want {
		t.Errorf("cut otherwise: %s, want %s", got, want)
	}
	if got := digest(noRefused(segment(everyType, 4, 90)), 0); got == want {
		t.Error("other rows have the same digest")
	}
	changed := noRefused(segment(everyType, 3, 90))
	changed.Batches[0].Providers[5] = "other"
	if got := digest(changed, 0); got == want {
		t.Error("another provider, the same digest")
	}
}

// Encodes three values by hand after docs/landing-zone.md.
func TestContentKnownAnswer(t *testing.T) {
	b := array.NewListBuilder(memory.DefaultAllocator, arrow.BinaryTypes.String)
	v := b.ValueBuilder().(*array.StringBuilder)
	b.Append(true)
	v.Append("ab")
	v.AppendNull()
	b.AppendNull()
	b.Append(true)
	arr := b.NewArray()
	encode, err := encoder(arr)
	if err != nil {
		t.Fatal(err)
	}
	got := encode(nil, 0, arr.Len())
	want := "\x01\x02\x00\x00\x00\x01\x02\x00\x00\x00ab\x00" + "\x00" + "\x01\x00\x00\x00\x00"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is encoded many values at a time is what one value after the other is, in whole columns and in slices of them.
func TestContentManyAtATime(t *testing.T) {
	seg := segment(everyType, 5, 700)
	defer seg.Release()
	for i, field := range everyType.Fields() {
		whole := seg.Batches[0].Records.Column(i)
		part := array.NewSlice(whole, 33, 600)
		for _, arr := range []arrow.Array{whole, part} {
			one, err := valueEncoder(arr)
			if err != nil {
				t.Fatal(err)
			}
			many, err := encoder(arr)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []byte
			for j := range arr.Len() {
				if arr.IsNull(j) {
					want = append(want, 0)
				} else {
					want = one(append(want, 1), j)
				}
			}
			for from := 0; from < arr.Len(); from += 101 {
				got = many(got, from, min(from+101, arr.Len()))
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes differ from %d", field.Name, len(got), len(want))
			}
		}
		part.Release()
	}
}

// Texts that repeat go into the file as a dictionary of each row group, with nulls or without, and as they are where
// the dictionary would be too large, which the sample of the first rows does not tell.
func TestRepeatingTexts(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "few", Type: arrow.BinaryTypes.String},
		{Name: "nulls", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "later", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "none", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	const n = 9000
	want := make([][]string, 4)
	seg := &record.Segment{Source: record.Source{Topic: "t", ID: "AAAAAAAAQACAAAAAAAAAAQ"}, Opened: 1767225599999}
	for from := 0; from < n; from += 3000 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		batch := &record.Batch{}
		for i := from; i < from+3000; i++ {
			row := []string{fmt.Sprint("é", i%7), fmt.Sprint(i % 3), fmt.Sprint(i % 5), "null"}
			if i%4 == 1 {
				row[1] = "null"
			}
			if i > 2000 {
				row[2] = fmt.Sprint(strings.Repeat("long ", 60), i)
			}
			for c, v := range row {
				want[c] = append(want[c], v)
				if v == "null" {
					b.Field(c).AppendNull()
				} else {
					b.Field(c).(*array.StringBuilder).Append(v)
				}
			}
			batch.Origins = append(batch.Origins, record.Origin{Offset: int64(i)})
			batch.Providers = append(batch.Providers, "p")
			batch.Classifications = append(batch.Classifications, record.Public)
		}
		batch.Records = b.NewRecordBatch()
		b.Release()
		seg.Batches = append(seg.Batches, batch)
	}
	seg.Next = n
	defer seg.Release()
	keys := ring(t)
	dec := decide(seg, func(i int) bool { return i%50 == 3 })
	data, w := write(t, "accepted/x", seg, dec, finding.Accepted, Options{Keys: keys, GroupRows: 4000})
	r := open(t, data, "", keys)
	if digest, rows, err := r.Content(ctx); err != nil || rows != w.Rows || digest != w.Content {
		t.Errorf("content %s of %d rows, %v; written %s of %d", digest, rows, err, w.Content, w.Rows)
	}
	at := -1
	for batch, err := range r.Rows(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for row := range int(batch.NumRows()) {
			if at++; at%50 == 3 {
				at++
			}
			for c := range want {
				got := "null"
				if column := batch.Column(c); column.IsValid(row) {
					got = column.ValueStr(row)
				}
				if got != want[c][at] {
					t.Fatalf("row %d, column %d: %.20q, want %.20q", at, c, got, want[c][at])
				}
			}
		}
	}
	if at != n-1 {
		t.Errorf("the last row is %d", at)
	}
}

func TestProvenance(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 9, 40)
	defer seg.Release()
	dec := decide(seg, func(i int) bool { return i == 11 })
	data, w := write(t, "quarantined/x", seg, dec, finding.Quarantined, Options{Keys: keys})
	if w.Rows != 1 {
		t.Fatalf("%d rows", w.Rows)
	}
	b := seg.Batches[0]
	provider := b.Providers[11]
	if provider == "" {
		provider = "(null)"
	}
	want := fmt.Sprintf("taster_topic=reviews taster_source=AAAAAAAAQACAAAAAAAAAAQ taster_partition=2 taster_offset=13 taster_timestamp=2026-01-01T00:00:00.013Z "+
		`taster_provider=%s taster_verdict=quarantined taster_risk=0.99 taster_classification=%s taster_reasons=["poison_trigger","poison_combined"] `+
		`taster_findings=[{"detector":"trigger","evidence":"SECRET-phrase","p_value":0.001,"score":7.5,"threshold":0.005},{"detector":"outlier","evidence":"","p_value":1,"score":null,"threshold":0.005}] `,
		provider, b.Classifications[11])
	got := rows(t, open(t, data, "quarantined/x", keys), provenanceNames())
	if len(got) != 1 || got[0] != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	schema, err := open(t, data, "", keys).Schema()
	if err != nil {
		t.Fatal(err)
	}
	types := []string{"utf8", "utf8", "int32", "int64", "timestamp[ms, tz=UTC]", "utf8", "utf8", "float64", "utf8"}
	for i, f := range schema.Fields()[len(everyType.Fields()):] {
		if f.Name != provenance[i].Name {
			t.Errorf("column %d is %s, want %s", i, f.Name, provenance[i].Name)
		}
		if i < len(types) && f.Type.String() != types[i] {
			t.Errorf("%s has type %s, want %s", f.Name, f.Type, types[i])
		}
	}
}

func provenanceNames() []string {
	var out []string
	for _, f := range provenance {
		out = append(out, f.Name)
	}
	return out
}

func TestRejected(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 9, 25)
	defer seg.Release()
	b := seg.Batches[0]
	b.Refused = b.Refused[:3]
	b.Refused[1].Message = record.Message{Offset: 12, Timestamp: 5} // a tombstone without key
	b.Refused[1].Field, b.Refused[1].At = "", -1
	data, w := write(t, "rejected/x", seg, decide(seg, func(int) bool { return false }), finding.Rejected, Options{Keys: keys, Classification: record.Confidential})
	if w.Rows != 3 {
		t.Fatalf("%d rows", w.Rows)
	}
	got := rows(t, open(t, data, "rejected/x", keys), nil)
	const raw = "eyJTRUNSRVQtcmF3" // base64, as ValueStr gives it
	for i, want := range [][]string{
		{"taster_raw=" + raw, `"key":"SECRET-h","value":"U0VDUkVULXY="`, `"value":null`, "taster_provider=acme\uFFFD", "taster_risk=(null)",
			"taster_classification=confidential", `taster_reasons=["json_truncated"]`, `{"detector":"validate","evidence":"/body","p_value":null,"score":null,"threshold":null}`},
		{"taster_key=(null)", "taster_headers=[]", "taster_raw=(null)", `"evidence":null`, "taster_offset=12"},
		{`"evidence":"/body byte 19"`},
	} {
		for _, part := range want {
			if !strings.Contains(got[i], part) {
				t.Errorf("row %d lacks %s: %s", i, part, got[i])
			}
		}
	}
}

// No piece of a record, of a finding or of a column name can be read from a file, be it of whatever type.
func TestNoPlaintext(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 5, 500)
	defer seg.Release()
	dec := decide(seg, func(i int) bool { return i%2 == 0 })
	for _, v := range finding.Verdicts {
		for _, pointers := range [][]string{nil, {"/body", "/items"}} {
			data, _ := write(t, "some/name", seg, dec, v, Options{Keys: keys, Restricted: pointers})
			for _, clear := range []string{"SECRET", "acme", "reviews", "taster_", "embedding", "poison", "json_", "/body", "ARROW", "quarantined"} {
				if bytes.Contains(data, []byte(clear)) {
					t.Errorf("%s file with restricted %v holds %q in clear", v, pointers, clear)
				}
			}
			if got := open(t, data, "some/name", keys).NumRows(); got == 0 {
				t.Error("no rows")
			}
		}
	}
}

func TestRestrictedKeys(t *testing.T) {
	f := keyFile(t, "train", "medic", "quarantined")
	all := keyring(t, f, map[envelope.Zone]string{envelope.Default: "quarantined", envelope.Accepted: "train", envelope.Restricted: "medic"})
	train := keyring(t, f, map[envelope.Zone]string{envelope.Default: "train"})
	seg := segment(everyType, 5, 60)
	defer seg.Release()
	dec := decide(seg, func(i int) bool { return i%3 == 0 })
	data, w := write(t, "accepted/x", seg, dec, finding.Accepted, Options{Keys: all, Restricted: []string{"/body", "/box/in", "/items/0/sku"}})
	if !slices.Equal(w.Keys, []string{"medic", "train"}) {
		t.Errorf("keys %v", w.Keys)
	}
	// Whoever may train reads everything but the restricted columns.
	r := open(t, data, "accepted/x", train)
	if got := rows(t, r, []string{"id", "stars", "fixed", "taster_offset", "taster_reasons"}); len(got) != 40 {
		t.Errorf("%d rows", len(got))
	}
	for _, column := range []string{"body", "box", "items", "taster_findings"} {
		for _, err := range open(t, data, "accepted/x", train).Rows(ctx, []string{"id", column}) {
			if !errors.Is(err, envelope.ErrNoKey) {
				t.Errorf("%s without its key: %v", column, err)
			}
		}
		if got := rows(t, open(t, data, "accepted/x", all), []string{"id", column}); len(got) != 40 {
			t.Errorf("%s with its key: %d rows", column, len(got))
		}
	}
	for _, err := range open(t, data, "accepted/x", train).Rows(ctx, nil) {
		if !errors.Is(err, envelope.ErrNoKey) {
			t.Errorf("all columns: %v", err)
		}
	}
	quarantined, _ := write(t, "quarantined/x", seg, dec, finding.Quarantined, Options{Keys: all})
	if _, err := Open(ctx, bytes.NewReader(quarantined), int64(len(quarantined)), "", train); !errors.Is(err, envelope.ErrNoKey) {
		t.Errorf("the quarantine opened for training: %v", err)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		tokens, leaf string
		want         bool
	}{
		{"a", "a", true}, {"a", "a.b", true}, {"a.b", "a", true}, {"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a", "b", false},
		{"a", "a.list.element", true}, {"a.0", "a.list.element.b", true}, {"a.list", "a.list.b", true}, {"ab", "a", false},
	} {
		if got := covers(strings.Split(c.tokens, "."), strings.Split(c.leaf, ".")); got != c.want {
			t.Errorf("/%s over %s: %v", c.tokens, c.leaf, got)
		}
	}
}

// A file is bound to its name, and no change of a byte goes unnoticed or ends in a panic.
func TestTampering(t *testing.T) {
	f := keyFile(t, "default")
	keys := keyring(t, f, map[envelope.Zone]string{envelope.Default: "default"})
	seg := segment(everyType, 5, 30)
	defer seg.Release()
	data, w := write(t, "accepted/a", seg, decide(seg, func(int) bool { return false }), finding.Accepted, Options{Keys: keys, Restricted: []string{"/body"}})
	if _, err := Open(ctx, bytes.NewReader(data), int64(len(data)), "accepted/b", keys); !errors.Is(err, ErrBroken) {
		t.Errorf("under another name: %v", err)
	}
	other := keyring(t, keyFile(t, "default"), map[envelope.Zone]string{envelope.Default: "default"})
	if _, err := Open(ctx, bytes.NewReader(data), int64(len(data)), "", other); !errors.Is(err, envelope.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := Open(ctx, bytes.NewReader(data), int64(len(data)), "", nil); !errors.Is(err, envelope.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
	check := func(bad []byte) error {
		r, err := Open(ctx, bytes.NewReader(bad), int64(len(bad)), "accepted/a", keys)
		if err != nil {
			return err
		}
		got, _, err := r.Content(ctx)
		if err == nil && got != w.Content {
			return errors.New("other rows without an error")
		}
		if err == nil {
			return nil
		}
		return err
	}
	unnoticed := 0
	for i := 0; i < len(data); i += 17 {
		bad := bytes.Clone(data)
		bad[i] ^= 0x20
		err := check(bad)
		if err == nil {
			unnoticed++ // a letter of key material that nothing depends on; the SHA-256 in the manifest covers it
		} else if strings.Contains(err.Error(), "other rows") {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if unnoticed > 40 {
		t.Errorf("%d changes unnoticed", unnoticed)
	}
	for cut := 0; cut < len(data); cut += 97 {
		if check(data[:cut]) == nil {
			t.Fatalf("opened when cut to %d bytes", cut)
		}
	}
}

func TestWriteFaults(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 5, 30)
	defer seg.Release()
	dec := decide(seg, func(int) bool { return false })
	none := decide(seg, func(int) bool { return false })
	none.Verdicts = none.Verdicts[:3]
	mixed := segment(everyType, 5, 5)
	mixed.Batches = append(mixed.Batches, segment(arrow.NewSchema(everyType.Fields()[:2], nil), 5, 5).Batches...)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for name, err := range map[string]error{
		"no rows": func() error {
			_, err := Write(ctx, &bytes.Buffer{}, "x", seg, dec, finding.Quarantined, Options{Keys: keys})
			return err
		}(),
		"short": func() error {
			_, err := Write(ctx, &bytes.Buffer{}, "x", seg, none, finding.Accepted, Options{Keys: keys})
			return err
		}(),
		"mixed": func() error {
			_, err := Write(ctx, &bytes.Buffer{}, "x", mixed, decide(mixed, func(int) bool { return false }), finding.Accepted, Options{Keys: keys})
			return err
		}(),
		"pointer": func() error {
			_, err := Write(ctx, &bytes.Buffer{}, "x", seg, dec, finding.Accepted, Options{Keys: keys, Restricted: []string{"body"}})
			return err
		}(),
		"canceled": func() error {
			_, err := Write(canceled, &bytes.Buffer{}, "x", seg, dec, finding.Accepted, Options{Keys: keys})
			return err
		}(),
		"disk full": func() error {
			_, err := Write(ctx, &fullDisk{left: 3000}, "x", seg, dec, finding.Accepted, Options{Keys: keys})
			return err
		}(),
		"no keyring": func() error {
			_, err := Write(ctx, &bytes.Buffer{}, "x", seg, dec, finding.Accepted, Options{})
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for left := 0; left < 12000; left += 500 {
		if _, err := Write(ctx, &fullDisk{left: left}, "x", seg, dec, finding.Accepted, Options{Keys: keys}); !errors.Is(err, errFull) {
			t.Fatalf("full after %d bytes: %v", left, err)
		}
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{ left int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.left -= len(b); d.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestReadStopsEarly(t *testing.T) {
	keys := ring(t)
	seg := segment(everyType, 5, 100)
	defer seg.Release()
	data, _ := write(t, "x", seg, decide(seg, func(int) bool { return false }), finding.Accepted, Options{Keys: keys, GroupRows: 10})
	for _, err := range open(t, data, "x", keys).Rows(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range open(t, data, "x", keys).Rows(canceled, nil) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	for _, err := range open(t, data, "x", keys).Rows(ctx, []string{"nothing"}) {
		if err == nil {
			t.Error("a column that is not there was read")
		}
	}
}
