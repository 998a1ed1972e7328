package validate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// compileText compiles a schema that stands in a test.
func compileText(t testing.TB, schema string, opt Options) *Schema {
	t.Helper()
	s, faults := compileFile(t, schema, opt)
	if len(faults) > 0 {
		t.Fatalf("schema: %v", faults)
	}
	return s
}

func compileFile(t testing.TB, schema string, opt Options) (*Schema, []Fault) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.schema.json")
	if err := os.WriteFile(path, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	return Compile(path, opt)
}

// decode appends every record and takes the rows; all memory must come back.
func decode(t *testing.T, s *Schema, records ...string) (arrow.RecordBatch, []*Refusal) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	d := s.NewDecoder(mem)
	var refused []*Refusal
	for _, r := range records {
		if refusal := d.Append([]byte(r)); refusal != nil {
			refused = append(refused, refusal)
		}
	}
	batch := d.Take()
	t.Cleanup(batch.Release)
	return batch, refused
}

// rows prints the columns of a batch as JSON, a line a row.
func rows(t *testing.T, batch arrow.RecordBatch) string {
	t.Helper()
	for _, c := range batch.Columns() {
		if err := wellFormed(c); err != nil {
			t.Fatal(err)
		}
	}
	data, err := batch.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var lines []json.RawMessage
	if err := json.Unmarshal(data, &lines); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, line := range lines {
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.String()
}

const everything = `{
  "type": "object",
  "properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": ["boolean", "null"]},
    "o": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}, "required": ["x"]},
    "l": {"type": "array", "items": {"type": "string"}},
    "ls": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer"}}}},
    "v": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    "j": {}
  },
  "required": ["s"]
}`

func TestColumns(t *testing.T) {
	s := compileText(t, everything, Options{Vectors: []string{"/v"}})
	if left := s.Coverage(); left != nil {
		t.Fatalf("not compiled: %s", left)
	}
	batch, refused := decode(t, s,
		`{"s":"a","i":1.0,"n":2,"b":true,"o":{"x":1,"z":[ 1 ]},"l":["p",  "q"],"ls":[{"k":1},{"u":"\u00e9"}],"v":[1,2.5],"j":{"a" : 1}}`,
		`{"s":"b\n","b":null,"q/r~":"w"}`,
		`{"s":1}`,
		`{"s":"c","ls":[{"k":1},{"k":"x"}]}`,
		`{"s":"d","l":[],"v":[3,4],"j":null,"o":{"x":2,"y":"yy"}}`,
	)
	if got := fmt.Sprint(refused); got != "[schema_type at /s, byte 5 schema_type at /ls/1/k, byte 28]" {
		t.Errorf("refused %s", got)
	}
	want := `{"b":true,"i":1,"j":"{\"a\" : 1}","l":["p","q"],"ls":[{"k":1},{"k":null}],"n":2,"o":{"x":1,"y":null},"s":"a","taster_extra":"{\"/o/z\":[ 1 ],\"/ls/1/u\":\"\\u00e9\"}","v":[1,2.5]}
{"b":null,"i":null,"j":null,"l":null,"ls":null,"n":null,"o":null,"s":"b\n","taster_extra":"{\"/q~1r~0\":\"w\"}","v":null}
{"b":null,"i":null,"j":null,"l":[],"ls":null,"n":null,"o":{"x":2,"y":"yy"},"s":"d","taster_extra":null,"v":[3,4]}
`
	if got := rows(t, batch); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestFlights reads real traffic and finds every value again.
func TestFlights(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with events/flights.jsonl in it")
	}
	src, err := os.ReadFile(filepath.Join(data, "events", "flights.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	s := compileText(t, flightSchema, Options{})
	lines := strings.Split(strings.TrimSpace(string(src)), "\n")
	batch, refused := decode(t, s, lines...)
	if len(refused) > 0 || int(batch.NumRows()) != len(lines) || len(lines) != 20_000 {
		t.Fatalf("%d rows of %d lines, refused %v", batch.NumRows(), len(lines), refused)
	}
	for i, line := range lines {
		var want struct {
			Date, Origin, Destination string
			Delay, Distance           int64
		}
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		got := want
		got.Date = batch.Column(0).(*array.String).Value(i)
		got.Delay = batch.Column(1).(*array.Int64).Value(i)
		got.Distance = batch.Column(2).(*array.Int64).Value(i)
		got.Origin = batch.Column(3).(*array.String).Value(i)
		got.Destination = batch.Column(4).(*array.String).Value(i)
		if got != want {
			t.Fatalf("line %d: got %v, want %v", i+1, got, want)
		}
	}
}
