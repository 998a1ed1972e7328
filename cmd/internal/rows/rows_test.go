package rows

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/validate"
)

func compile(t *testing.T, schema string, opt validate.Options) *validate.Schema {
	t.Helper()
	path := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(path, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	s, faults := validate.Compile(path, opt)
	if len(faults) > 0 {
		t.Fatalf("%v in %s", faults, schema)
	}
	return s
}

// through sends records through the columns and back, and returns one document for each.
func through(t *testing.T, s *validate.Schema, records ...string) []string {
	t.Helper()
	d := s.NewDecoder(memory.DefaultAllocator)
	for _, r := range records {
		if refusal := d.Append([]byte(r)); refusal != nil {
			t.Fatalf("refused: %v: %s", refusal, r)
		}
	}
	batch := d.Take()
	defer batch.Release()
	var out bytes.Buffer
	if err := New(JSONL, &out).Write(batch); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(records) {
		t.Fatalf("%d lines for %d records", len(lines), len(records))
	}
	return lines
}

// TestMapping holds one line for each row of the table in docs/schema-mapping.md, and what is said below it.
func TestMapping(t *testing.T) {
	for _, c := range []struct{ name, schema, record, want string }{
		{"string", `{"type":"string","format":"date-time"}`, `"2016-12-31T23:59:60.123456789z"`, ``},
		{"escapes", `{"type":"string"}`, `"\u0000\u001f\"\\\/\b\f\n\r\t\ud83d\ude00\u2028<>&é"`, `"\u0000\u001f\"\\/\b\f\n\r\t😀` + "\u2028" + `<>&é"`},
		{"empty string", `{"type":"string"}`, `""`, ``},
		{"integer", `{"type":"integer"}`, `9223372036854775807`, ``},
		{"smallest integer", `{"type":"integer"}`, `-9223372036854775808`, ``},
		{"integer with a point", `{"type":"integer"}`, `1.0`, `1`},
		{"integer with an exponent", `{"type":"integer"}`, `1e2`, `100`},
		{"number", `{"type":"number"}`, `0.1`, ``},
		{"whole number", `{"type":["integer","number"]}`, `3`, ``},
		{"largest double", `{"type":"number"}`, `1.7976931348623157e308`, `1.7976931348623157e+308`},
		{"smallest double", `{"type":"number"}`, `5e-324`, ``},
		{"number with more digits than a double has", `{"type":"number"}`, `0.1000000000000000055511151231257827`, `0.1`},
		{"negative zero", `{"type":"number"}`, `-0.0`, `-0`},
		{"boolean", `{"type":"boolean"}`, `true`, ``},
		{"object", `{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"string"}}}`, `{"a":"x","b":1}`, `{"b":1,"a":"x"}`},
		{"object without a field", `{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"string"}}}`, `{}`, `{"b":null,"a":null}`},
		{"array", `{"type":"array","items":{"type":"integer"}}`, `[1,2,3]`, ``},
		{"empty array", `{"type":"array","items":{"type":"integer"}}`, `[]`, ``},
		{"array of arrays", `{"type":"array","items":{"type":"array","items":{"type":["string","null"]}}}`, `[["a",null],[],["b"]]`, ``},
		{"array of objects", `{"type":"array","items":{"type":"object","properties":{"x":{"type":"number"}}}}`, `[{"x":1.5},{},{"x":null}]`, `[{"x":1.5},{"x":null},{"x":null}]`},
		{"enum", `{"enum":["a","b"]}`, `"b"`, ``},
		{"const", `{"const":7}`, `7`, ``},
		{"no type", `{}`, `{"z": [1, 2.50, 1e300, {"y": null}], "a": 123456789012345678901234567890}`, ``},
		{"several types", `{"type":["string","integer"]}`, `5`, ``},
		{"several types, other", `{"type":["string","integer"]}`, `"5"`, ``},
		{"oneOf", `{"oneOf":[{"type":"string"},{"type":"array"}]}`, `[1]`, ``},
		{"map", `{"type":"object","additionalProperties":{"type":"integer"}}`, `{"b":1,"a":2}`, ``},
		{"array without items", `{"type":"array"}`, `[1,"a",null]`, ``},
		{"nullable", `{"type":["integer","null"]}`, `null`, ``},
		{"nullable by anyOf", `{"anyOf":[{"type":"object","properties":{"x":{"type":"integer"}}},{"type":"null"}]}`, `null`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if want == "" {
				want = c.record
			}
			if strings.Contains(c.schema, `"number"`) && strings.Contains(c.record, "null") {
				c.schema = strings.ReplaceAll(c.schema, `"type":"number"`, `"type":["number","null"]`)
			}
			s := compile(t, `{"type":"object","properties":{"v":`+c.schema+`}}`, validate.Options{})
			got := through(t, s, `{"v":`+c.record+`}`)[0]
			if got != `{"v":`+want+`}` {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	s := compile(t, `{"type":"object","properties":{"v":{"type":"array","items":{"type":"number"}}}}`, validate.Options{Vectors: []string{"/v"}})
	if got := through(t, s, `{"v":[0.1,1e-30,3.4e38,16777217,-1]}`)[0]; got != `{"v":[0.1,1e-30,3.4e+38,16777216,-1]}` {
		t.Errorf("vector: %s", got)
	}
	s = compile(t, `{"type":"object","properties":{"v":{"type":"object","properties":{"a/b":{"type":"integer"}}}}}`, validate.Options{})
	for record, want := range map[string]string{
		`{"v":{"a/b":1}}`:                       `{"v":{"a/b":1}}`,
		`{"v":{"a/b":1,"m~n":[1]},"x":"é"}`:     `{"v":{"a/b":1},"taster_extra":{"/v/m~0n":[1],"/x":"é"}}`,
		`{"x":null}`:                            `{"v":null,"taster_extra":{"/x":null}}`,
		`{"v":{"a/b":1},"taster\"": {"y": 1 }}`: `{"v":{"a/b":1},"taster_extra":{"/taster\"":{"y":1}}}`,
	} {
		if got := through(t, s, record)[0]; !same(t, parse(t, got), parse(t, want)) {
			t.Errorf("extra fields: got %s, want %s", got, want)
		}
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one document: %s", text)
	}
	return v
}

// same compares documents: whole numbers by every digit, others as doubles by every bit.
func same(t *testing.T, got, want any) bool {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for name, value := range want {
			inside, ok := g[name]
			if !ok || !same(t, inside, value) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for i := range want {
			if !same(t, g[i], want[i]) {
				return false
			}
		}
		return true
	case json.Number:
		g, ok := got.(json.Number)
		if !ok {
			return false
		}
		if g == want {
			return true
		}
		a, errA := strconv.ParseFloat(string(g), 64)
		b, errB := strconv.ParseFloat(string(want), 64)
		_, whole := strconv.ParseInt(string(want), 10, 64)
		return errA == nil && errB == nil && math.Float64bits(a) == math.Float64bits(b) && whole != nil
	}
	return got == want
}

// kind is a schema made at random, with what its values become.
type kind struct {
	schema string
	json   bool // the column holds JSON text
	value  func(r *rand.Rand, pointer string, extra map[string]any) (sent, want any)
}

var words = []string{"a", "b", "id", "ü", "a/b", "m~n", "with \"quotes\"", "white space", "日本", "Z", "\\", "n\nl", "/", "~1", "null"}

func text(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(8) {
		switch r.IntN(5) {
		case 0:
			b.WriteRune(rune(r.IntN(0x20)))
		case 1:
			b.WriteRune(rune(0x1f600 + r.IntN(50)))
		case 2:
			b.WriteString([]string{"\u2028", "\u202e", "\"", "\\", "/", "<", "\x7f", "\ufffd", "\u0085"}[r.IntN(9)])
		default:
			b.WriteRune(rune(0x20 + r.IntN(0x600)))
		}
	}
	return b.String()
}

func whole(r *rand.Rand) json.Number {
	switch r.IntN(4) {
	case 0:
		return json.Number(strconv.Itoa(r.IntN(200) - 100))
	case 1:
		return json.Number(strconv.FormatInt([]int64{math.MaxInt64, math.MinInt64, 1<<53 + 1, -1<<53 - 1, 0}[r.IntN(5)], 10))
	}
	return json.Number(strconv.FormatInt(int64(r.Uint64()), 10))
}

func double(r *rand.Rand) json.Number {
	for {
		f := math.Float64frombits(r.Uint64())
		if r.IntN(2) == 0 {
			f = r.NormFloat64()
		}
		if !math.IsNaN(f) && !math.IsInf(f, 0) {
			return json.Number(strconv.FormatFloat(f, "eg"[r.IntN(2)], -1, 64))
		}
	}
}

// anything makes any JSON value.
func anything(r *rand.Rand, depth int) any {
	switch n := r.IntN(7); {
	case n == 0:
		return nil
	case n == 1:
		return r.IntN(2) == 0
	case n == 2:
		return text(r)
	case n == 3 || depth == 0:
		return double(r)
	case n == 4:
		list := []any{}
		for range r.IntN(3) {
			list = append(list, anything(r, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range r.IntN(3) {
		object[text(r)] = anything(r, depth-1)
	}
	return object
}

func scalar(name string, make func(*rand.Rand) any) kind {
	return kind{schema: `{"type":"` + name + `"}`, value: func(r *rand.Rand, _ string, _ map[string]any) (any, any) { v := make(r); return v, v }}
}

func random(r *rand.Rand, depth int) kind {
	n := r.IntN(9)
	if depth == 0 {
		n = r.IntN(6)
	}
	switch n {
	case 0:
		return scalar("string", func(r *rand.Rand) any { return text(r) })
	case 1:
		return scalar("integer", func(r *rand.Rand) any { return whole(r) })
	case 2:
		return scalar("number", func(r *rand.Rand) any { return double(r) })
	case 3:
		return scalar("boolean", func(r *rand.Rand) any { return r.IntN(2) == 0 })
	case 4:
		k := kind{schema: `{"enum":["x","y é","z\"z"]}`}
		k.value = func(r *rand.Rand, _ string, _ map[string]any) (any, any) {
			v := []string{"x", "y é", "z\"z"}[r.IntN(3)]
			return v, v
		}
		return k
	case 5:
		return kind{schema: `{}`, json: true, value: func(r *rand.Rand, _ string, _ map[string]any) (any, any) { v := anything(r, 3); return v, v }}
	case 6, 7:
		return object(r, depth-1)
	}
	items := random(r, depth-1)
	// Items of JSON text make the array itself JSON text, in which nothing is an undeclared field.
	return kind{schema: `{"type":"array","items":` + items.schema + `}`, json: items.json, value: func(r *rand.Rand, pointer string, extra map[string]any) (any, any) {
		sent, want := []any{}, []any{}
		for i := range r.IntN(4) {
			s, w := items.value(r, pointer+"/"+strconv.Itoa(i), extra)
			sent, want = append(sent, s), append(want, w)
		}
		if items.json {
			return sent, sent
		}
		return sent, want
	}}
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func object(r *rand.Rand, depth int) kind {
	names := r.Perm(len(words))[:1+r.IntN(4)]
	var declared []kind
	var properties []string
	for _, at := range names {
		k := random(r, depth)
		declared = append(declared, k)
		name, _ := json.Marshal(words[at])
		properties = append(properties, string(name)+":"+k.schema)
	}
	return kind{schema: `{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`, value: func(r *rand.Rand, pointer string, extra map[string]any) (any, any) {
		sent, want := map[string]any{}, map[string]any{}
		for i, at := range names {
			if r.IntN(4) == 0 {
				want[words[at]] = nil
				continue
			}
			sent[words[at]], want[words[at]] = declared[i].value(r, pointer+"/"+pointerEscapes.Replace(words[at]), extra)
		}
		for range r.IntN(2) {
			name := fmt.Sprintf("extra %d/~", r.IntN(100))
			sent[name] = anything(r, 2)
			extra[pointer+"/"+pointerEscapes.Replace(name)] = sent[name]
		}
		return sent, want
	}}
}

// TestRandom makes schemas and records at random, and compares what comes back with what encoding/json makes of what
// was sent.
func TestRandom(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 3))
		k := object(r, 3)
		s := compile(t, k.schema, validate.Options{})
		var records []string
		var wants []map[string]any
		for range 8 {
			extra := map[string]any{}
			sent, want := k.value(r, "", extra)
			record, err := json.Marshal(sent)
			if err != nil {
				t.Fatal(err)
			}
			expected := want.(map[string]any)
			if len(extra) > 0 {
				expected[validate.Extra] = extra
			}
			records, wants = append(records, string(record)), append(wants, expected)
		}
		for i, line := range through(t, s, records...) {
			if want, _ := json.Marshal(wants[i]); !same(t, parse(t, line), any(wants[i])) {
				t.Fatalf("seed %d, schema %s\nsent %s\ngot  %s\nwant %s", seed, k.schema, records[i], line, want)
			}
		}
	}
}

// TestOwnColumns writes what taster's own columns hold.
func TestOwnColumns(t *testing.T) {
	at := time.Date(2026, 1, 31, 23, 59, 59, 123e6, time.UTC)
	headers := arrow.ListOf(arrow.StructOf(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true}))
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "raw", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, Nullable: true},
		{Name: "headers", Type: headers, Nullable: true},
		{Name: "partition", Type: arrow.PrimitiveTypes.Int32},
		{Name: "risk", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "word", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	raw := []byte{0, 0xff, '"', '\n'}
	b.Field(0).(*array.BinaryBuilder).Append(raw)
	b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMilli()))
	list := b.Field(2).(*array.ListBuilder)
	list.Append(true)
	header := list.ValueBuilder().(*array.StructBuilder)
	header.Append(true)
	header.FieldBuilder(0).(*array.StringBuilder).Append("trace")
	header.FieldBuilder(1).(*array.BinaryBuilder).Append(raw)
	b.Field(3).(*array.Int32Builder).Append(-7)
	b.Field(4).(*array.Float64Builder).Append(math.NaN())
	if err := b.Field(5).(*array.BinaryDictionaryBuilder).AppendString("w"); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if i == 3 {
			b.Field(i).(*array.Int32Builder).Append(0)
		} else {
			b.Field(i).AppendNull()
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	var out bytes.Buffer
	if err := New(JSONL, &out).Write(batch); err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(raw)
	want := `{"raw":"` + encoded + `","at":"2026-01-31T23:59:59.123Z","headers":[{"key":"trace","value":"` + encoded + `"}],"partition":-7,"risk":null,"word":"w"}` + "\n" +
		`{"raw":null,"at":null,"headers":null,"partition":0,"risk":null,"word":null}` + "\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	// A part of a batch has its own rows, not those of the whole.
	out.Reset()
	if err := New(JSONL, &out).Write(batch.NewSlice(1, 2)); err != nil || out.String() != strings.SplitAfter(want, "\n")[1] {
		t.Errorf("a slice: %v %s", err, out.String())
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriter(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"a":{"type":"string"}}}`, validate.Options{})
	d := s.NewDecoder(memory.DefaultAllocator)
	for range 1000 {
		if refusal := d.Append([]byte(`{"a":"` + strings.Repeat("x", 1000) + `"}`)); refusal != nil {
			t.Fatal(refusal)
		}
	}
	batch := d.Take()
	defer batch.Release()
	for _, after := range []int{0, 100_000, 1_000_000} {
		if err := New(JSONL, &failing{after}).Write(batch); !errors.Is(err, errFull) {
			t.Errorf("an output that is full after %d bytes: %v", after, err)
		}
	}
	var out bytes.Buffer
	w := New(JSONL, &out)
	for range 2 {
		if err := w.Write(batch); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 2000 {
		t.Errorf("%d lines of 2000", n)
	}
	// No columns: still one object a line.
	none := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 2)
	out.Reset()
	if err := New(JSONL, &out).Write(none); err != nil || out.String() != "{}\n{}\n" {
		t.Errorf("without columns: %v %q", err, out.String())
	}
}
