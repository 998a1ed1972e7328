package validate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
)

// TestMapping is the table of docs/schema-mapping.md: a property's schema and its column.
func TestMapping(t *testing.T) {
	for _, c := range []struct{ schema, column string }{
		{`{"type":"string"}`, "utf8"},
		{`{"type":"string","format":"date-time"}`, "utf8"},
		{`{"type":"string","enum":["a","b"]}`, "utf8"},
		{`{"enum":["a","b"]}`, "utf8"},
		{`{"const":"a"}`, "utf8"},
		{`{"type":"integer"}`, "int64"},
		{`{"enum":[1,2]}`, "int64"},
		{`{"type":"number"}`, "float64"},
		{`{"type":["integer","number"]}`, "float64"},
		{`{"enum":[1,2.5]}`, "float64"},
		{`{"type":"boolean"}`, "bool"},
		{`{"type":["string","null"]}`, "utf8?"},
		{`{"type":"string","nullable":true}`, "utf8"},
		{`{"anyOf":[{"type":"integer"},{"type":"null"}]}`, "int64?"},
		{`{"oneOf":[{"type":"null"},{"$ref":"#/$defs/point"}]}`, "struct<x: float64 nullable, y: float64 nullable>?"},
		{`{"$ref":"#/$defs/point"}`, "struct<x: float64, y: float64 nullable>"},
		{`{"allOf":[{"$ref":"#/$defs/point"},{"properties":{"z":{"type":"integer"}}}]}`, "struct<x: float64, y: float64 nullable, z: int64 nullable>"},
		{`{"anyOf":[{"type":"string","maxLength":3},{"type":"string","pattern":"^x"}]}`, "utf8"},
		{`{"type":"string","not":{"const":"x"}}`, "utf8"},
		{`{"type":"string","if":{"minLength":3},"then":{"pattern":"a"}}`, "utf8"},
		{`{"type":"array","items":{"type":"string"}}`, "list<item: utf8>"},
		{`{"type":"array","items":{"type":["number","null"]}}`, "list<item: float64, nullable>"},
		{`{"type":"array","items":{"type":"array","items":{"type":"integer"}}}`, "list<item: list<item: int64>>"},
		{`{"type":"array","items":{"$ref":"#/$defs/point"}}`, "list<item: struct<x: float64, y: float64 nullable>>"},
		{`{}`, "json?"},
		{`true`, "json?"},
		{`{"type":"null"}`, "json?"},
		{`{"type":["string","integer"]}`, "json"},
		{`{"type":["string","integer","null"]}`, "json?"},
		{`{"oneOf":[{"type":"string"},{"type":"integer"}]}`, "json"},
		{`{"type":"object"}`, "json"},
		{`{"type":"object","additionalProperties":{"type":"string"}}`, "json"},
		{`{"type":"object","patternProperties":{"^a":{"type":"string"}}}`, "json"},
		{`{"type":"array"}`, "json"},
		{`{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}]}`, "json"},
		{`{"type":"array","items":{"type":["string","integer"]}}`, "json"},
		{`{"$ref":"#/$defs/tree"}`, "struct<name: utf8 nullable, kids: utf8 nullable>"},
		{`{"$ref":"#"}`, "json?"},
	} {
		s := compileText(t, `{
			"type": "object", "required": ["f"], "properties": {"f": `+c.schema+`},
			"$defs": {
				"point": {"type":"object","required":["x"],"properties":{"x":{"type":"number"},"y":{"type":"number"}}},
				"tree": {"type":"object","properties":{"name":{"type":"string"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}}}
			}
		}`, Options{})
		f := s.Columns().Field(0)
		got := f.Type.String()
		if value, ok := f.Metadata.GetValue(MetaJSON); ok && value == "true" {
			got = "json"
		}
		if f.Nullable {
			got += "?"
		}
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(c.column, " ", "") {
			t.Errorf("%s: column %s, want %s", c.schema, got, c.column)
		}
		if last := s.Columns().Field(s.Columns().NumFields() - 1); last.Name != Extra || !last.Nullable {
			t.Errorf("%s: the last column is %v", c.schema, last)
		}
	}
}

func TestColumnOrderIsTheFiles(t *testing.T) {
	s := compileText(t, `{"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"integer"},"m":{"type":"integer"}}}`, Options{})
	var got []string
	for _, f := range s.Columns().Fields() {
		got = append(got, f.Name)
	}
	if strings.Join(got, " ") != "z a m taster_extra" {
		t.Errorf("columns %v", got)
	}
}

// TestOptionalFieldChangesNothingElse adds an optional property in the middle and finds every other column as it was.
func TestOptionalFieldChangesNothingElse(t *testing.T) {
	const before = `{"type":"object","properties":{"a":{"type":"string"},"o":{"type":"object","properties":{"x":{"type":"integer"}}},
		"l":{"type":"array","items":{"type":"number"}},"j":{}},"required":["a"]}`
	after := strings.Replace(before, `"o":{`, `"new":{"type":["integer","null"]},"o":{`, 1)
	old, young := compileText(t, before, Options{}), compileText(t, after, Options{})
	for _, f := range old.Columns().Fields() {
		g, ok := young.Columns().FieldsByName(f.Name)
		if !ok || !g[0].Equal(f) {
			t.Errorf("column %v became %v", f, g)
		}
	}
	if young.Columns().NumFields() != old.Columns().NumFields()+1 {
		t.Errorf("columns %v", young.Columns())
	}
	const record = `{"a":"x","o":{"x":1},"l":[1],"j":[2],"k":3}`
	one, _ := decode(t, old, record)
	two, _ := decode(t, young, record)
	for i := range int(one.NumCols()) {
		at := young.Columns().FieldIndices(one.ColumnName(i))[0]
		if !array.Equal(one.Column(i), two.Column(at)) {
			t.Errorf("%s: %v became %v", one.ColumnName(i), one.Column(i), two.Column(at))
		}
	}
}

func TestExtraIsLossless(t *testing.T) {
	s := compileText(t, `{"type":"object","properties":{
		"o":{"type":"object","properties":{"x":{"type":"integer"},"p":{"type":"object","properties":{"y":{"type":"integer"}}}}},
		"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}},
		"j":{"type":"object"}
	},"required":["needed"]}`, Options{})
	record := `{"needed": 1.0, "a/b": {"k" : [1, 2]}, "~": null, "q\"\\\u0001": "\ud83d\ude00", "": 0,
		"o":{"x":1,"w":1e2,"p":{"v":[]}}, "l":[{},{"x":2,"z":true}], "j":{"inside":1}}`
	batch, refused := decode(t, s, record, `{"needed":0}`)
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	column := batch.Column(int(batch.NumCols()) - 1).(*array.String)
	want := map[string]string{
		"/needed": "1.0", "/a~1b": `{"k" : [1, 2]}`, "/~0": "null", "/q\"\\\x01": `"\ud83d\ude00"`, "/": "0",
		"/o/w": "1e2", "/o/p/v": "[]", "/l/1/z": "true",
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal([]byte(column.Value(0)), &got); err != nil {
		t.Fatalf("%v: %s", err, column.Value(0))
	}
	if len(got) != len(want) {
		t.Errorf("got %s", column.Value(0))
	}
	for k, v := range want {
		if string(got[k]) != v {
			t.Errorf("%s: got %s, want %s", k, got[k], v)
		}
	}
	if column.Value(1) != `{"/needed":0}` {
		t.Errorf("got %s", column.Value(1))
	}
	rows(t, batch)
}

// A refused record's own words must not get into a Refusal.
func TestRefusals(t *testing.T) {
	const schema = `{"type":"object","properties":{
		"id":{"type":"string","minLength":2,"maxLength":3,"pattern":"^[a-z]+$"},
		"n":{"type":"number","minimum":1,"exclusiveMaximum":2,"multipleOf":0.25},
		"i":{"type":"integer"},
		"e":{"enum":["a","b",null]}, "c":{"const":1},
		"v":{"type":"array","items":{"type":["number","null"]},"minItems":3,"maxItems":3},
		"o":{"type":"object","properties":{"x":{"type":"integer"}},"required":["x","needed"],"additionalProperties":false},
		"m":{"type":"object","additionalProperties":{"type":"integer"},"maxProperties":2},
		"l":{"type":"array","items":{"type":"object","properties":{"k":{"type":"boolean"}}},"minItems":1,"maxItems":2},
		"no":false%s
	},"required":["id"]}`
	plain := fmt.Sprintf(schema, "")
	conditions := `,
		"any":{"anyOf":[{"type":"string","maxLength":1},{"type":"string","pattern":"^z"}]},
		"pick":{"anyOf":[{"type":"string","maxLength":1},{"type":"array","items":{"type":"integer"}}]},
		"not":{"not":{"type":"string"}}, "uniq":{"type":"array","uniqueItems":true},
		"names":{"propertyNames":{"maxLength":3}}, "dep":{"dependentRequired":{"a":["b"]}},
		"has":{"contains":{"type":"integer"}}, "w":{"type":"array","items":{"type":"number","not":{"minimum":5}}}, "tuple":{"prefixItems":[{"type":"string"}],"items":false}`
	conditional := fmt.Sprintf(schema, conditions)
	whole := fmt.Sprintf(schema, conditions+`,"self":{"$dynamicRef":"#"}`)
	for _, c := range []struct{ record, want string }{
		{`[]`, "schema_type at the record, byte 0"},
		{`{"id":1}`, "schema_type at /id, byte 6"},
		{`{}`, "schema_required at /id, byte 0"},
		{`{"id":"a"}`, "schema_length at /id, byte 6"},
		{`{"id":"日本語本"}`, "schema_length at /id, byte 6"},
		{`{"id":"A1"}`, "schema_pattern at /id, byte 6"},
		{`{"id":"aa","n":0.75}`, "schema_range at /n, byte 15"},
		{`{"id":"aa","n":2.0}`, "schema_range at /n, byte 15"},
		{`{"id":"aa","n":1.3}`, "schema_multiple_of at /n, byte 15"},
		{`{"id":"aa","i":1.5}`, "schema_type at /i, byte 15"},
		{`{"id":"aa","i":9223372036854775808}`, "number_range at /i, byte 15"},
		{`{"id":"aa","i":1e19}`, "number_range at /i, byte 15"},
		{`{"id":"aa","e":"secret"}`, "schema_enum at /e, byte 15"},
		{`{"id":"aa","c":2}`, "schema_const at /c, byte 15"},
		{`{"id":"aa","v":[1,2]}`, "vector_length at /v, byte 15"},
		{`{"id":"aa","v":[1,2,3,4]}`, "vector_length at /v, byte 15"},
		{`{"id":"aa","v":[1,null,3]}`, "vector_value at /v/1, byte 18"},
		{`{"id":"aa","v":[1,3.5e38,3]}`, "vector_value at /v/1, byte 18"},
		{`{"id":"aa","v":[1,"2",3]}`, "schema_type at /v/1, byte 18"},
		{`{"id":"aa","v":[1,[2],3]}`, "schema_type at /v/1, byte 18"},
		{`{"id":"aa","v":7}`, "schema_type at /v, byte 15"},
		{`{"id":"aa","o":{"needed":1}}`, "schema_required at /o/x, byte 15"},
		{`{"id":"aa","o":{"x":1}}`, "schema_required at /o/needed, byte 15"},
		{`{"id":"aa","o":{"x":1,"needed":1}}`, "schema_additional at /o, byte 15"},
		{`{"id":"aa","o":{"x":"1","secret":1}}`, "schema_type at /o/x, byte 20"},
		{`{"id":"aa","m":{"secret":"x"}}`, "schema_type at /m, byte 25"},
		{`{"id":"aa","m":{"a":1,"b":2,"d":3}}`, "schema_properties at /m, byte 15"},
		{`{"id":"aa","l":[]}`, "schema_items at /l, byte 15"},
		{`{"id":"aa","l":[{},{"k":0}]}`, "schema_type at /l/1/k, byte 24"},
		{`{"id":"aa","no":1}`, "schema_additional at the record, byte 0"},
		{`{"id":"aa","any":"xx"}`, "schema_combination at /any, byte 17"},
		{`{"id":"aa","any":7}`, "schema_type at /any, byte 17"},
		{`{"id":"aa","pick":[1,"secret"]}`, "schema_type at /pick/1, byte 21"},
		{`{"id":"aa","not":"secret"}`, "schema_combination at /not, byte 17"},
		{`{"id":"aa","uniq":[1,1.0]}`, "schema_unique at /uniq, byte 18"},
		{`{"id":"aa","names":{"secret":1}}`, "schema_properties at /names, byte 19"},
		{`{"id":"aa","dep":{"a":1}}`, "schema_dependency at /dep, byte 17"},
		{`{"id":"aa","has":["secret"]}`, "schema_items at /has, byte 17"},
		{`{"id":"aa","w":[1,7]}`, "schema_combination at /w/1, byte 18"},
		{`{"id":"aa","tuple":["x","secret"]}`, "schema_items at /tuple, byte 19"},
	} {
		for _, schema := range []string{plain, conditional, whole} {
			vectors := []string{"/v", "/w"}
			if schema == plain {
				vectors = vectors[:1]
			}
			s := compileText(t, schema, Options{Vectors: vectors})
			if left := s.Coverage(); (left == nil) != (schema != whole) {
				t.Fatalf("left: %s", left)
			}
			if schema == plain && conditioned(c.record) {
				continue
			}
			d := s.NewDecoder(memory.DefaultAllocator)
			r := d.Append([]byte(c.record))
			if r == nil || r.Error() != c.want {
				t.Errorf("%s: got %v, want %s", c.record, r, c.want)
			}
			if strings.Contains(fmt.Sprint(r), "secret") {
				t.Errorf("%s: content is told: %v", c.record, r)
			}
			batch := d.Take()
			if batch.NumRows() != 0 {
				t.Errorf("%s: left %d rows", c.record, batch.NumRows())
			}
			batch.Release()
		}
	}
}

// conditioned tells whether a record is about a property that the plain schema has not.
func conditioned(record string) bool {
	for _, name := range []string{"any", "pick", "not", "uniq", "names", "dep", "has", "tuple", "w"} {
		if strings.Contains(record, `"`+name+`":`) {
			return true
		}
	}
	return false
}

func TestDropAndVectors(t *testing.T) {
	const schema = `{"type":"object","properties":{
		"id":{"type":"string"},"ip":{"type":"string","minLength":3},
		"o":{"type":"object","properties":{"keep":{"type":"integer"},"lose":{"type":"integer"}}},
		"gone":{"type":"object","properties":{"a":{"type":"integer"}}},
		"e":{"type":"array","items":{"type":"number"},"minItems":2,"maxItems":2},
		"m":{"type":"object","properties":{"e":{"type":"array","items":{"type":"integer"}}}}
	},"required":["id"]}`
	s := compileText(t, schema, Options{Drop: []string{"/ip", "/o/lose", "/gone/a"}, Vectors: []string{"/e", "/m/e"}})
	batch, refused := decode(t, s,
		`{"id":"a","ip":"1.2.3.4","o":{"keep":1,"lose":2,"x":3},"gone":{"a":1},"e":[0.1,2],"m":{"e":[1,2,3]}}`,
		`{"id":"b","ip":"1"}`,
		`{"id":"c","o":null}`,
		`{"id":"d","m":{}}`,
	)
	if fmt.Sprint(refused) != "[schema_length at /ip, byte 15 schema_type at /o, byte 14]" {
		t.Errorf("refused %v", refused)
	}
	want := `{"e":[0.1,2],"id":"a","m":{"e":[1,2,3]},"o":{"keep":1},"taster_extra":"{\"/o/x\":3}"}
{"e":null,"id":"d","m":{"e":null},"o":null,"taster_extra":null}
`
	if got := rows(t, batch); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for pointer, want := range map[string]Field{
		"/id":     {Type: arrow.BinaryTypes.String, Length: -1},
		"/ip":     {Type: arrow.BinaryTypes.String, Nullable: true, Length: -1, Dropped: true},
		"/o/lose": {Type: arrow.PrimitiveTypes.Int64, Nullable: true, Length: -1, Dropped: true},
		"/gone/a": {Type: arrow.PrimitiveTypes.Int64, Nullable: true, Length: -1, Dropped: true},
		"/e":      {Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Float32), Nullable: true, Elem: arrow.PrimitiveTypes.Float32, Length: 2},
		"/m/e":    {Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Float32), Nullable: true, Elem: arrow.PrimitiveTypes.Float32, Length: -1},
	} {
		if got, ok := s.Field(pointer); !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", pointer, got, want)
		}
	}
	if f, ok := s.Field("/gone"); !ok || !f.Dropped {
		t.Errorf("/gone: %v, %t; nothing of it is left", f, ok)
	}
	if _, ok := s.Field("/o/none"); ok {
		t.Error("/o/none is a field")
	}
	vectors := batch.Column(2).(*array.List)
	if got := vectors.ListValues().(*array.Float32).Float32Values(); len(got) != 2 || got[0] != 0.1 {
		t.Errorf("vector values %v", got)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		opt   Options
		want  []string
	}{
		{"missing", map[string]string{}, Options{}, []string{"main.json: no such schema file"}},
		{"not JSON", map[string]string{"main.json": "{\n\"type\": \"object\",\n}"}, Options{},
			[]string{"main.json:3: not strict JSON: not JSON (RFC 8259); NaN, Infinity, comments and trailing commas are not JSON either"}},
		{"repeated property", map[string]string{"main.json": "{\"type\":\"object\",\n\"type\":\"object\"}"}, Options{},
			[]string{"main.json:2: not strict JSON: an object names the same member twice"}},
		{"all at once", map[string]string{
			"main.json": `{
				"type": "object",
				"properties": {
					"a": {"type": "strnig"},
					"b": {"$ref": "other.json"},
					"c": {"$ref": "#/$defs/nowhere"},
					"d": {"$ref": "https://example.com/d.json"},
					"e": {"$ref": "broken.json#/x"},
					"f": {"minLength": -1}
				}
			}`,
			"broken.json": "{",
		}, Options{}, []string{
			`broken.json:1: not strict JSON: the JSON text ends before the value is complete`,
			`main.json:4: /properties/a/type: value must be one of "array", "boolean", "integer", "null", "number", "object", "string"`,
			`main.json:5: $ref "other.json": no such schema file`,
			`main.json:6: $ref "#/$defs/nowhere" leads nowhere: there is no such place in main.json`,
			`main.json:7: $ref "https://example.com/d.json": cannot be read: only schema files on this machine are read; put a copy beside the schema and refer to it by a relative path`,
			`main.json:9: /properties/f/minLength: must be >= 0 but found -1`,
		}},
		{"no anchor", map[string]string{"main.json": "{\"type\":\"object\",\n\"properties\":{\"a\":{\"$ref\":\"#here\"}}}"}, Options{},
			[]string{"main.json:2: "}},
		{"pattern that Go does not have", map[string]string{"main.json": "{\"type\":\"object\",\n\"properties\":{\"a\":{\"pattern\":\"(?=a)\"}}}"}, Options{},
			[]string{"main.json:2: /properties/a/pattern: '(?=a)' is not valid 'regex'"}},
		{"a $ref to itself", map[string]string{"main.json": `{"$ref":"#"}`}, Options{}, []string{"main.json:1: infinite loop"}},
		{"no object", map[string]string{"main.json": `{"type":"array"}`}, Options{},
			[]string{"main.json:1: a record is an object, and this schema allows none"}},
		{"taster's names", map[string]string{"main.json": "{\"type\":\"object\",\"properties\":{\n\n\"taster_risk\":{}}}"}, Options{},
			[]string{"main.json:3: /taster_risk: field names that begin with taster_"}},
		{"drop and vectors", map[string]string{"main.json": `{"type":"object","properties":{
			"t":{"type":"string"},"j":{"type":"object"},"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"number"}}}}}}`},
			Options{Drop: []string{"/nope", "/j/x", "/l/x", "/t/x"}, Vectors: []string{"/t", "/l", "/none"}},
			[]string{
				"main.json: /t: a vector must be an array of numbers, and the schema has strings",
				"main.json: /l: a vector must be an array of numbers, and the schema has an array of objects",
				"main.json: /none: vector: the schema has no such property",
				"main.json: /nope: drop: the schema has no such property",
				"main.json: /j/x: drop: /j is kept as JSON text and has no fields of its own",
				"main.json: /l/x: drop: /l is an array; pointers lead through objects only",
				"main.json: /t/x: drop: /t has no such property in the schema",
			}},
		{"limits", map[string]string{"main.json": `{}`}, Options{Bytes: 1 << 40}, []string{"main.json: a record may have at most"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range c.files {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, faults := Compile("main.json", c.opt)
			if s != nil {
				t.Error("there is a Schema all the same")
			}
			for i, f := range faults {
				if f.Code == "" {
					t.Errorf("%v has no code", f)
				}
				if i >= len(c.want) || !strings.HasPrefix(f.Error(), c.want[i]) {
					t.Errorf("fault %d: %v", i, f)
				}
			}
			if len(faults) != len(c.want) {
				t.Errorf("%d faults, want %d: %v", len(faults), len(c.want), faults)
			}
		})
	}
}

// TestFiles draws in other files by path, by anchor and by the $id that a schema gives itself.
func TestFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"s é/main.json": `{"$id":"https://example.com/schemas/main.json","type":"object",
			"properties":{"b":{"$ref":"parts/b.json"},"a":{"$ref":"a.json#/$defs/a"},"c":{"$ref":"a.json#c"}}}`,
		"s é/a.json":       `{"$defs":{"a":{"type":"integer","maximum":5},"c":{"$anchor":"c","type":"boolean"}}}`,
		"s é/parts/b.json": `{"type":"object","properties":{"y":{"type":"string"},"x":{"$ref":"../a.json#/$defs/a"}}}`,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, faults := Compile("s é/main.json", Options{})
	if faults != nil {
		t.Fatal(faults)
	}
	var files []string
	for _, f := range s.Files() {
		files = append(files, f.Path)
		if want, err := os.ReadFile(f.Path); err != nil || string(want) != string(f.Bytes) {
			t.Errorf("%s: %v %q", f.Path, err, f.Bytes)
		}
	}
	if got := strings.Join(files, " "); got != "s é/main.json s é/a.json s é/parts/b.json" {
		t.Errorf("files %s", got)
	}
	if got := s.Columns().Field(0).Type.String(); got != "struct<y: utf8 nullable, x: int64 nullable>" {
		t.Errorf("column b is %s", got)
	}
	if left := s.Coverage(); left != nil {
		t.Errorf("not compiled: %s", left)
	}
	_, refused := decode(t, s, `{"b":{"x":6}}`, `{"a":6}`, `{"c":1}`, `{"a":5,"c":true}`)
	if fmt.Sprint(refused) != "[schema_range at /b/x, byte 10 schema_range at /a, byte 5 schema_type at /c, byte 5]" {
		t.Errorf("refused %v", refused)
	}
}

// More members than one word of bits has, in orders that change.
func TestManyProperties(t *testing.T) {
	var schema, forward, backward strings.Builder
	schema.WriteString(`{"type":"object","properties":{`)
	const n = 150
	for k := range n {
		if k > 0 {
			schema.WriteByte(',')
			forward.WriteByte(',')
			backward.WriteByte(',')
		}
		fmt.Fprintf(&schema, `"p%d":{"type":"integer"}`, k)
		fmt.Fprintf(&forward, `"p%d":%d`, k, k)
		fmt.Fprintf(&backward, `"p%d":%d`, n-1-k, n-1-k)
	}
	schema.WriteString(`},"required":["p149"]}`)
	s := compileText(t, schema.String(), Options{})
	batch, refused := decode(t, s, "{"+forward.String()+"}", "{"+backward.String()+"}", `{"p0":1}`, `{"p149":1,"p3":2}`)
	if len(refused) != 1 || refused[0].Code != finding.SchemaRequired || refused[0].Field != "/p149" {
		t.Errorf("refused %v", refused)
	}
	for k := range n {
		c := batch.Column(k).(*array.Int64)
		if c.Value(0) != int64(k) || c.Value(1) != int64(k) || c.IsValid(2) != (k == 3 || k == n-1) {
			t.Errorf("p%d: %v", k, c)
		}
	}
}

// Batches follow each other, some of them empty, and every one is whole.
func TestTakeAgain(t *testing.T) {
	s := compileText(t, everything, Options{Vectors: []string{"/v"}})
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	d := s.NewDecoder(mem)
	defer d.Release()
	for _, n := range []int{0, 1, 1000, 3, 0, 129} {
		for i := range n {
			record := fmt.Sprintf(`{"s":"%d","b":%t,"o":{"x":%d},"v":[%d,2],"l":["a"],"ls":[{"k":1},{}]}`, i, i%2 == 0, i, i)
			if i%3 == 0 {
				record = fmt.Sprintf(`{"s":"%d","b":null}`, i)
			}
			if r := d.Append([]byte(record)); r != nil {
				t.Fatal(r)
			}
			if r := d.Append([]byte(`{"s":"x","v":[1,2],"l":["a","b"],"ls":[{"k":1},{"k":"no"}]}`)); r == nil {
				t.Fatal("accepted")
			}
		}
		if d.Rows() != n {
			t.Errorf("%d rows, want %d", d.Rows(), n)
		}
		batch := d.Take()
		if int(batch.NumRows()) != n || d.Rows() != 0 {
			t.Errorf("a batch of %d, want %d", batch.NumRows(), n)
		}
		for i := range n {
			if got := batch.Column(0).(*array.String).Value(i); got != fmt.Sprint(i) {
				t.Errorf("row %d has %s", i, got)
			}
			if got := batch.Column(3).IsNull(i); got != (i%3 == 0) {
				t.Errorf("row %d: null %t", i, got)
			}
		}
		rows(t, batch)
		batch.Release()
	}
	if r := d.Append([]byte(`{"s":"left behind"}`)); r != nil {
		t.Fatal(r)
	}
}

// One Schema serves many goroutines.
func TestConcurrent(t *testing.T) {
	s := compileText(t, strings.Replace(everything, `"j": {}`, `"j": {"uniqueItems": true}`, 1), Options{Vectors: []string{"/v"}})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			d := s.NewDecoder(memory.DefaultAllocator)
			defer d.Release()
			for range 200 {
				if r := d.Append([]byte(`{"s":"a","v":[1,2],"o":{"x":1},"j":[1,2],"u":0}`)); r != nil {
					t.Error(r)
				}
				if r := s.CheckJSON([]byte(`{"s":"a","j":[1,1]}`)); r == nil || r.Code != finding.SchemaUnique {
					t.Error(r)
				}
			}
		})
	}
	group.Wait()
}

// FuzzAppend looks for panics, for traces of refused records, and for columns that are not well formed.
func FuzzAppend(f *testing.F) {
	const schema = `{"type":"object","properties":{
		"id":{"type":"string"},"n":{"type":"number"},"i":{"type":"integer"},
		"v":{"type":"array","items":{"type":"number"},"minItems":3,"maxItems":3},
		"l":{"type":"array","items":{"type":["string","null"]}},
		"o":{"type":["object","null"],"properties":{"x":{"type":"integer"},"y":{"type":"string"}},"additionalProperties":false},
		"ls":{"type":"array","items":{"type":"object","properties":{"b":{"type":"boolean"}}}},"j":{}
	},"required":["id"]}`
	seeds(f)
	s := compileText(f, schema, Options{Vectors: []string{"/v"}})
	f.Fuzz(func(t *testing.T, record []byte) {
		d, clean := s.NewDecoder(memory.DefaultAllocator), s.NewDecoder(memory.DefaultAllocator)
		good := []byte(`{"id":"a","v":[1,2,3],"l":["x",null],"o":{"x":1},"ls":[{"b":true}],"k":1}`)
		for _, value := range [][]byte{good, record, good} {
			if r := d.Append(value); r != nil {
				if r.At > int64(len(value)) {
					t.Fatalf("%v of %d bytes", r, len(value))
				}
				continue
			}
			if r := clean.Append(value); r != nil {
				t.Fatal(r)
			}
		}
		a, b := d.Take(), clean.Take()
		defer a.Release()
		defer b.Release()
		for i, c := range a.Columns() {
			if err := wellFormed(c); err != nil {
				t.Fatalf("%s: %v", a.ColumnName(i), err)
			}
		}
		if !array.RecordEqual(a, b) {
			t.Fatalf("a refused record left a trace: %v %v", a, b)
		}
		for i := range int(a.NumRows()) {
			extra := a.Column(int(a.NumCols()) - 1).(*array.String)
			if extra.IsValid(i) && !json.Valid([]byte(extra.Value(i))) {
				t.Fatalf("taster_extra is not JSON: %s", extra.Value(i))
			}
		}
	})
}

// TestCoverage holds every gap to be told with its place, not the first one only.
func TestCoverage(t *testing.T) {
	s := compileText(t, `{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "type": "object",
  "properties": {
    "a": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "uniqueItems": true},
    "b/c": {"anyOf": [{"type": "string", "contentMediaType": "application/json"}, {"type": "integer"}]},
    "d": {"type": "string"}
  },
  "if": {"required": ["a"]}, "then": {"required": ["d"]}
}`, Options{})
	var got []string
	for _, gap := range s.Coverage() {
		if filepath.Base(gap.File) != "a.schema.json" {
			t.Errorf("%+v: no file", gap)
		}
		got = append(got, fmt.Sprintf("%d %s %s", gap.Line, gap.Pointer, gap.Keyword))
	}
	want := "[5 /properties/a/items contentEncoding 6 /properties/b~1c/anyOf/0 contentMediaType]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %q, want %s", got, want)
	}
	if why := s.Coverage()[0].String(); !strings.HasPrefix(why, "contentEncoding at ") || !strings.HasSuffix(why, "a.schema.json:5") {
		t.Errorf("reason %q", why)
	}
	if gaps := compileText(t, reviewSchema, Options{}).Coverage(); len(gaps) != 0 {
		t.Errorf("reviews: %v", gaps)
	}
}
