package validate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/finding"
)

// generator makes schemas, and values that nearly fit them.
type generator struct {
	*rand.Rand
	plain bool // only what plans check
}

var names = []string{"a", "b", "c", "d/e", "~f", "g\"h", "é", ""}

func (g generator) name() string         { return names[g.IntN(len(names))] }
func (g generator) chance(n int) bool    { return g.IntN(n) == 0 }
func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) number() json.Number {
	return json.Number(pick(g, "0", "-0", "1", "2", "3", "1.0", "1.5", "-1", "2e0", "20e-1", "1e2", "0.1", "0.10", "1E-1",
		"100", "9007199254740993", "9007199254740992", "9007199254740992.0", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "12345678901234567890123", "0.3", "0.30000000000000004", "1e308", "5e-324",
		fmt.Sprint(g.IntN(7)-3), fmt.Sprintf("%.2f", g.NormFloat64())))
}

func (g generator) text() string {
	return pick(g, "", "a", "b", "ab", "abc", "é", "日本", "x/y", "😀", "a\nb", "2001-02-03", strings.Repeat("z", g.IntN(12)))
}

// schema makes a schema as a value that encoding/json can write; depth bounds how deep it goes.
func (g generator) schema(depth int) any {
	if g.chance(12) {
		return g.chance(4)
	}
	s := map[string]any{}
	types := []string{"null", "boolean", "integer", "number", "string", "array", "object"}
	if depth > 0 {
		types = append(types, "object", "object", "array")
	}
	kind := types[g.IntN(len(types))]
	switch {
	case g.chance(10):
	case g.chance(4):
		other := types[g.IntN(len(types))]
		if other != kind {
			s["type"] = []string{kind, other}
			break
		}
		fallthrough
	default:
		s["type"] = kind
	}
	if g.chance(10) {
		s["enum"] = []any{g.text(), g.number(), nil, true, g.text(), g.number()}
	}
	if g.chance(20) {
		s["const"] = pick[any](g, g.text(), g.number(), nil, false)
	}
	if !g.plain && g.chance(15) {
		s["enum"] = []any{[]any{g.number()}, map[string]any{"a": g.text()}}
	}
	switch kind {
	case "string":
		if g.chance(3) {
			s["minLength"] = g.IntN(4)
		}
		if g.chance(3) {
			s["maxLength"] = g.IntN(6)
		}
		if g.chance(5) {
			s["pattern"] = pick(g, "^a", "b$", "^[a-z]*$", "é")
		}
		if g.chance(5) {
			s["format"] = pick(g, "date", "unknown")
		}
	case "integer", "number":
		for _, keyword := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
			if g.chance(5) {
				s[keyword] = g.number()
			}
		}
		if g.chance(5) {
			s["multipleOf"] = json.Number(pick(g, "1", "2", "0.1", "0.01", "1.5", "3e-1", "100", "1e30", "1e-30"))
		}
	case "array":
		if depth > 0 && !g.chance(4) {
			s["items"] = g.schema(depth - 1)
		}
		if g.chance(4) {
			s["minItems"] = g.IntN(3)
		}
		if g.chance(4) {
			s["maxItems"] = g.IntN(4)
		}
		if !g.plain && g.chance(4) {
			s["uniqueItems"] = true
		}
		if !g.plain && depth > 0 && g.chance(4) {
			s[pick(g, "prefixItems", "contains", "unevaluatedItems")] = []any{g.schema(depth - 1)}
			for _, single := range []string{"contains", "unevaluatedItems"} {
				if list, ok := s[single].([]any); ok {
					s[single] = list[0]
				}
			}
		}
	case "object":
		properties := map[string]any{}
		var required []string
		for range g.IntN(5) {
			name := g.name()
			properties[name] = g.schema(depth - 1)
			if g.chance(3) {
				required = append(required, name)
			}
		}
		if g.chance(5) {
			required = append(required, g.name())
		}
		if len(properties) > 0 && depth > 0 {
			s["properties"] = properties
		}
		if len(required) > 0 {
			s["required"] = unique(required)
		}
		if g.chance(3) {
			s["additionalProperties"] = false
		} else if depth > 0 && g.chance(4) {
			s["additionalProperties"] = g.schema(depth - 1)
		}
		if g.chance(8) {
			s["minProperties"] = g.IntN(3)
		}
		if g.chance(8) {
			s["maxProperties"] = g.IntN(4)
		}
		if !g.plain && depth > 0 && g.chance(4) {
			switch g.IntN(4) {
			case 0:
				s["patternProperties"] = map[string]any{"^a": g.schema(depth - 1)}
			case 1:
				s["propertyNames"] = map[string]any{"maxLength": 2}
			case 2:
				s["dependentRequired"] = map[string]any{"a": []string{"b"}}
			case 3:
				s["unevaluatedProperties"] = g.schema(depth - 1)
			}
		}
	}
	if depth > 0 && g.chance(8) {
		s["allOf"] = []any{g.schema(depth - 1), g.schema(depth - 1)}
	}
	if depth > 0 && g.chance(8) {
		s[pick(g, "anyOf", "oneOf")] = []any{g.schema(depth - 1), map[string]any{"type": "null"}}
	}
	if depth > 0 && g.chance(12) {
		s["$ref"] = "#/$defs/" + pick(g, "x", "y")
	}
	if !g.plain && depth > 0 && g.chance(6) {
		switch g.IntN(3) {
		case 0:
			s[pick(g, "anyOf", "oneOf")] = []any{g.schema(depth - 1), g.schema(depth - 1)}
		case 1:
			s["not"] = g.schema(depth - 1)
		case 2:
			s["if"], s["then"], s["else"] = g.schema(depth-1), g.schema(depth-1), g.schema(depth-1)
		}
	}
	return s
}

func unique(list []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// root makes a whole schema, an object's unless anything may be at the root.
func (g generator) root(anything bool) []byte {
	s, ok := g.schema(4).(map[string]any)
	if !ok || !anything {
		if !ok {
			s = map[string]any{}
		}
		s["type"] = "object"
		if _, ok := s["properties"].(map[string]any); !ok {
			s["properties"] = map[string]any{"a": g.schema(3), "b": g.schema(2), "c": g.schema(2)}
		}
	}
	s["$defs"] = map[string]any{"x": g.schema(1), "y": g.schema(0)}
	if !g.plain && g.chance(6) { // a recursive schema
		s["properties"] = map[string]any{"a": map[string]any{"$ref": "#"}, "b": g.schema(2)}
	}
	if g.chance(4) {
		s["$schema"] = pick(g, "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema")
	}
	out, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return out
}

// value writes a value that follows the schema more often than not.
func (g generator) value(out *bytes.Buffer, schema, whole any, depth int) {
	s, _ := schema.(map[string]any)
	kind := ""
	if !g.chance(15) {
		switch t := s["type"].(type) {
		case string:
			kind = t
		case []any:
			kind = t[g.IntN(len(t))].(string)
		}
		if ref, ok := s["$ref"].(string); ok && g.chance(2) && depth > 0 {
			at := whole
			for _, token := range fragment(strings.TrimPrefix(ref, "#")) {
				at = at.(map[string]any)[token]
			}
			g.value(out, at, whole, depth-1)
			return
		}
		for _, keyword := range []string{"anyOf", "oneOf", "allOf"} {
			if of, ok := s[keyword].([]any); ok && g.chance(2) {
				g.value(out, of[g.IntN(len(of))], whole, depth)
				return
			}
		}
		if of, ok := s["enum"].([]any); ok && !g.chance(4) {
			g.raw(out, of[g.IntN(len(of))])
			return
		}
		if v, ok := s["const"]; ok && !g.chance(4) {
			g.raw(out, v)
			return
		}
	}
	if kind == "" {
		kind = pick(g, "null", "boolean", "integer", "number", "string", "array", "object")
	}
	space := func() {
		if g.chance(10) {
			out.WriteString(pick(g, " ", "\n", "\t", "  "))
		}
	}
	switch kind {
	case "null":
		out.WriteString("null")
	case "boolean":
		out.WriteString(pick(g, "true", "false"))
	case "integer", "number":
		out.WriteString(string(g.number()))
	case "string":
		g.raw(out, g.text())
	case "array":
		out.WriteByte('[')
		space()
		items := s["items"]
		for k := range g.IntN(4) {
			if k > 0 {
				out.WriteByte(',')
			}
			space()
			if depth > 0 {
				g.value(out, items, whole, depth-1)
			} else {
				out.WriteString("0")
			}
		}
		space()
		out.WriteByte(']')
	case "object":
		out.WriteByte('{')
		space()
		properties, _ := s["properties"].(map[string]any)
		var keys []string
		for _, name := range names { // map order is not for seeded tests
			if _, ok := properties[name]; ok && !g.chance(6) {
				keys = append(keys, name)
			}
		}
		if g.chance(3) {
			keys = append(keys, g.name())
		}
		g.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for k, key := range unique(keys) {
			if k > 0 {
				out.WriteByte(',')
			}
			g.raw(out, key)
			space()
			out.WriteByte(':')
			space()
			if depth > 0 {
				g.value(out, properties[key], whole, depth-1)
			} else {
				out.WriteString("1")
			}
		}
		out.WriteByte('}')
	}
}

// raw writes a value, strings sometimes with needless escapes.
func (g generator) raw(out *bytes.Buffer, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if s, ok := v.(string); ok && g.chance(4) {
		out.WriteByte('"')
		for _, r := range s {
			if r < 0x10000 {
				fmt.Fprintf(out, "\\u%04x", r)
			} else {
				out.WriteRune(r)
			}
		}
		out.WriteByte('"')
		return
	}
	out.Write(text)
}

// referenceVerdict is what jsonschema/v5 says of the bytes, with nothing of this package between.
func referenceVerdict(rules *jsonschema.Schema, value []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return err
	}
	return rules.Validate(v)
}

func compileMemory(schema []byte) (*Schema, *documents, error) {
	const at = "file:///s.json"
	docs := &documents{
		read:  func(string) ([]byte, error) { return schema, nil },
		name:  func(url string) string { return url },
		draft: jsonschema.Draft2020,
	}
	s, err := compile(at, docs, Options{})
	return s, docs, err
}

func compileReference(schema []byte) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.LoadURL = func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(schema)), nil }
	return c.Compile("file:///s.json")
}

// differ makes one schema and some values from a seed, and compares everything that can be compared.
func differ(t *testing.T, seed uint64) (compiled bool, accepted, refused, otherwise int) {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 1)), plain: seed%2 == 0}
	anything := seed%3 == 0
	schema := g.root(anything)
	rules, err := compileReference(schema)
	if err != nil {
		return false, 0, 0, 0 // a $ref to itself; the planner must not be worse off
	}
	s, docs, err := compileMemory(schema)
	if err != nil {
		t.Fatalf("seed %d: %s: %v", seed, schema, err)
	}
	var whole any
	if err := json.Unmarshal(schema, &whole); err != nil {
		t.Fatal(err)
	}
	stored := len(s.store(docs, "s.json", Options{})) == 0
	var d, clean *Decoder
	if stored {
		d, clean = s.NewDecoder(memory.DefaultAllocator), s.NewDecoder(memory.DefaultAllocator)
	}
	for range 30 {
		var out bytes.Buffer
		g.value(&out, whole, whole, 5)
		value := out.Bytes()
		if err := jsontext.Value(value).IsValid(); !err {
			t.Fatalf("seed %d: the generator wrote %s", seed, value)
		}
		want := referenceVerdict(rules, value)
		got := s.CheckJSON(value)
		if (got == nil) != (want == nil) {
			t.Fatalf("seed %d: schema %s\nvalue %s\ngot %v, jsonschema/v5 says %#v", seed, schema, value, got, want)
		}
		if got != nil && s.compiled {
			c := s.newChecker()
			c.parse(value)
			if slow := s.reference(&c.tape); slow.Code != got.Code || slow.Field != got.Field || slow.At != got.At {
				otherwise++
			}
		}
		if got == nil {
			accepted++
		} else {
			refused++
		}
		if !stored {
			continue
		}
		r := d.Append(value)
		switch {
		case r == nil && (got != nil || value[0] != '{'):
			t.Fatalf("seed %d: schema %s\nvalue %s became a row; CheckJSON: %v", seed, schema, value, got)
		case r != nil && got == nil && r.Code != finding.NumberRange && value[0] == '{':
			t.Fatalf("seed %d: schema %s\nvalue %s became no row: %v", seed, schema, value, r)
		case r == nil:
			if again := clean.Append(value); again != nil {
				t.Fatalf("seed %d: %v", seed, again)
			}
		}
	}
	if stored {
		a, b := d.Take(), clean.Take()
		defer a.Release()
		defer b.Release()
		for i, c := range a.Columns() {
			if err := wellFormed(c); err != nil {
				t.Fatalf("seed %d: schema %s: column %s: %v", seed, schema, a.ColumnName(i), err)
			}
		}
		if !array.RecordEqual(a, b) {
			t.Fatalf("seed %d: schema %s: refused records left a trace:\n%v\n%v", seed, schema, a, b)
		}
	}
	return s.compiled, accepted, refused, otherwise
}

// TestDifferential compares plans with jsonschema/v5 on schemas and values that are made together.
func TestDifferential(t *testing.T) {
	rounds := uint64(4000)
	if testing.Short() {
		rounds = 400
	}
	schemas, accepted, refused, otherwise := 0, 0, 0, 0
	for seed := range rounds {
		compiled, a, r, o := differ(t, seed)
		if compiled {
			schemas++
		}
		accepted, refused, otherwise = accepted+a, refused+r, otherwise+o
	}
	t.Logf("%d schemas, %d of them compiled; %d values accepted, %d refused; %d told otherwise", rounds, schemas, accepted, refused, otherwise)
	if schemas < int(rounds)/4 || accepted < int(rounds) || refused < int(rounds) {
		t.Error("the generator has become one-sided: this compares too little")
	}
	// Where several things are wrong, the same one should be told, whoever checks.
	if otherwise > refused/8 {
		t.Errorf("for %d of %d refused values plan and jsonschema/v5 tell different reasons", otherwise, refused)
	}
}

func FuzzDifferential(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed * 7919)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { differ(t, seed) })
}
