package validate

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// generator makes schemas, and instances that nearly fit them, from one stream of random choices.
type generator struct {
	*rand.Rand
	plain bool // only what plans check without conditions
	draft string
}

// choices is a source of randomness that a fuzzer can steer: each choice is a byte of its input while there are any.
type choices struct {
	bytes []byte
	rest  *rand.PCG
}

func (c *choices) Uint64() uint64 {
	v := c.rest.Uint64()
	if len(c.bytes) > 0 {
		v = v>>8 | uint64(c.bytes[0])<<56 // IntN goes by the upper bits
		c.bytes = c.bytes[1:]
	}
	return v
}

func newGenerator(seed uint64, steered []byte) generator {
	source := &choices{steered, rand.NewPCG(seed, 1)}
	return generator{Rand: rand.New(source), plain: seed%2 == 0}
}

var names = []string{"a", "b", "c", "aa", "ab", "b1", "d/e", "~f", "g\"h", "é", ""}

func (g generator) name() string         { return names[g.IntN(len(names))] }
func (g generator) chance(n int) bool    { return g.IntN(n) == 0 }
func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

// number returns a number as it may stand in a schema or in a record.
func (g generator) number() json.Number {
	switch g.IntN(4) {
	case 0:
		return json.Number(fmt.Sprint(g.IntN(13) - 3))
	case 1:
		return json.Number(fmt.Sprintf("%.*f", g.IntN(4), g.NormFloat64()*4))
	}
	return json.Number(pick(g, "0", "-0", "0.0", "1", "2", "3", "1.0", "1.5", "-1", "2e0", "20e-1", "1e2", "0.1", "0.10", "1E-1",
		"100", "9007199254740993", "9007199254740992", "9007199254740992.0", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "18446744073709551616", "12345678901234567890123", "0.3",
		"0.30000000000000004", "0.29999999999999998", "1e308", "5e-324", "1.7976931348623157e308", "123456789.012345678", "1e15", "1e22", "1e23",
		"0.000001", "1e-7", "3.0e0", "4503599627370497.5", "2.2250738585072014e-308"))
}

// hard returns a number that is out of range, or is written so that one might think so.
func (g generator) hard() json.Number {
	return json.Number(pick(g, "1e400", "-1e400", "1e-400", "1e9999999", "-1E+99999999999999999999", "0e9999999", "-0e-9999999", "0.0e400",
		"1e309", "1.7976931348623159e308", "2e-324", "3e-324", "100000000000000000000e-20",
		"0."+strings.Repeat("0", 330)+"1e331", "1"+strings.Repeat("0", 320)+"e-320", strings.Repeat("9", 320),
		"1."+strings.Repeat("0", 800), "0.1"+strings.Repeat("0", 790)+"1", strings.Repeat("1", 19), strings.Repeat("9", 20)))
}

func (g generator) text() string {
	if g.chance(12) { // longer than what is looked at together
		var long strings.Builder
		for range g.IntN(30) {
			long.WriteString(pick(g, "a", "word ", "0123456789abcdef", "é", "\n", "\"", "\\", "日本語", "😀", "\x7f", strings.Repeat("plain text ", 8)))
		}
		return long.String()
	}
	return pick(g, "", "a", "b", "ab", "abc", "aab", "é", "日本", "x/y", "😀", "a\nb", "2001-02-03", "\x00", "\u2028", "\"\\", "𝒳é",
		"12345678", "abcdefghijklmnop", strings.Repeat("z", g.IntN(12)), strings.Repeat("é", g.IntN(9)))
}

// patterns are regular expressions with texts that match them, and none that matches all.
var patterns = map[string][]string{
	"^a":             {"a", "ab", "aab", "a\nb"},
	"b$":             {"b", "ab", "aab", "zzzb"},
	"^[a-z]*$":       {"", "a", "abc", "zzzzzzzz"},
	"é":              {"é", "aéb", "éé"},
	"^.{2}$":         {"ab", "日本", "😀a"},
	"^s-[0-9]+$":     {"s-1", "s-0042"},
	"^(x|yy)?[0-9]$": {"1", "x2", "yy3"},
	"[0-9]":          {"b1", "x7"},
}

// formats with texts that are and that are not so.
var formats = map[string][]string{
	"date":         {"2001-02-03", "2000-02-29", "2001-02-29", "2001-2-3"},
	"date-time":    {"2001-02-03T04:05:06Z", "2001-02-03t04:05:06.789+01:00", "2001-02-03T04:05:60Z", "2001-02-03 04:05:06Z"},
	"time":         {"04:05:06Z", "24:00:00Z", "04:05:06"},
	"ipv4":         {"127.0.0.1", "256.0.0.1", "1.2.3"},
	"ipv6":         {"::1", "1:2:3:4:5:6:7:8", ":::"},
	"email":        {"a@b.example", "a.b", "@"},
	"uuid":         {"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae7dec11d0a76500a0c91e6bf6"},
	"uri":          {"http://a.example/b?c#d", "//a", ""},
	"hostname":     {"a.example", "-a", "a..b"},
	"duration":     {"P1D", "PT1H", "P", "1D"},
	"json-pointer": {"/a/b", "", "a", "/~2"},
	"regex":        {"^a*$", "a(", "["},
	"unknown":      {"a", "b"},
}

var kindNames = []string{"null", "boolean", "integer", "number", "string", "array", "object"}

// modern tells whether the draft is one of the two in which much has another name.
func (g generator) modern() bool { return g.draft == "" || strings.Contains(g.draft, "/20") }

// schema makes a schema as a value that encoding/json can write; depth bounds how deep it goes.
func (g generator) schema(depth int) any {
	if g.chance(14) && !strings.Contains(g.draft, "-04") {
		return g.chance(4)
	}
	s := map[string]any{}
	types := kindNames
	if depth > 0 {
		types = append(slices.Clip(types), "object", "object", "array")
	}
	kind := types[g.IntN(len(types))]
	switch {
	case g.chance(10):
	case g.chance(4):
		other := types[g.IntN(len(types))]
		if other != kind {
			s["type"] = []any{kind, other}
			break
		}
		fallthrough
	default:
		s["type"] = kind
	}
	if g.chance(12) {
		s["enum"] = g.few(1+g.IntN(8), func() any { return pick[any](g, g.text(), g.number(), nil, true, g.text(), g.number(), false) })
	}
	if g.chance(20) {
		s["const"] = pick[any](g, g.text(), g.number(), nil, false)
	}
	if !g.plain && g.chance(15) {
		s["enum"] = []any{
			[]any{g.number()}, map[string]any{"a": g.text()}, []any{}, map[string]any{}, g.text(),
			[]any{[]any{g.number(), g.text()}, map[string]any{"b": nil, "a": g.number()}},
		}[:1+g.IntN(6)]
	}
	if !g.plain && g.chance(40) {
		s["const"] = pick[any](g, []any{g.number(), g.number()}, map[string]any{"a": g.number(), "b": []any{g.text()}})
	}
	// Demands of another type than the value's mean nothing; now and then there are some.
	words := []string{kind}
	if g.chance(8) {
		words = append(words, kindNames[g.IntN(len(kindNames))])
	}
	for _, kind := range words {
		switch kind {
		case "string":
			g.strings(s)
		case "integer", "number":
			g.numbers(s)
		case "array":
			g.arrays(s, depth)
		case "object":
			g.objects(s, depth)
		}
	}
	if depth > 0 && g.chance(8) {
		s["allOf"] = g.few(1+g.IntN(2), func() any { return g.schema(depth - 1) })
	}
	if depth > 0 && g.chance(8) {
		s[pick(g, "anyOf", "oneOf")] = []any{g.schema(depth - 1), map[string]any{"type": "null"}}
	}
	if depth > 0 && g.chance(10) {
		s["$ref"] = "#/$defs/" + pick(g, "x", "y", "z")
	}
	if !g.plain && depth > 0 && g.chance(5) {
		switch g.IntN(3) {
		case 0:
			s[pick(g, "anyOf", "oneOf")] = g.few(1+g.IntN(3), func() any { return g.schema(depth - 1) })
		case 1:
			s["not"] = g.schema(depth - 1)
		case 2:
			s["if"] = g.schema(depth - 1)
			if !g.chance(4) {
				s["then"] = g.schema(depth - 1)
			}
			if !g.chance(3) {
				s["else"] = g.schema(depth - 1)
			}
		}
	}
	if !g.plain && depth > 0 && (s["allOf"] != nil || s["anyOf"] != nil || s["oneOf"] != nil || s["if"] != nil || s["$ref"] != nil) && g.chance(3) {
		s[pick(g, "unevaluatedProperties", "unevaluatedItems")] = pick[any](g, false, false, g.schema(0))
	}
	if !g.plain && depth > 0 && g.chance(30) {
		s["$ref"] = pick(g, "#", "#/$defs/tree", "#/$defs/list")
	}
	return s
}

func (g generator) few(n int, one func() any) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = one()
	}
	return out
}

func (g generator) strings(s map[string]any) {
	if g.chance(3) {
		s["minLength"] = g.IntN(4)
	}
	if g.chance(3) {
		s["maxLength"] = g.IntN(9)
	}
	if g.chance(5) {
		s["pattern"] = pick(g, slices.Sorted(maps.Keys(patterns))...)
	}
	if !g.plain && g.chance(12) {
		s[pick(g, "contentEncoding", "contentMediaType")] = pick(g, "base64", "application/json")
	}
	if g.chance(5) {
		s["format"] = pick(g, slices.Sorted(maps.Keys(formats))...)
	}
}

func (g generator) numbers(s map[string]any) {
	for _, keyword := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
		if g.chance(5) {
			s[keyword] = g.number()
			if old, ok := strings.CutPrefix(keyword, "exclusive"); ok && strings.Contains(g.draft, "-04") {
				s[strings.ToLower(old)], s[keyword] = s[keyword], g.chance(2)
			}
		}
	}
	if g.chance(5) {
		s["multipleOf"] = json.Number(pick(g, "1", "2", "0.1", "0.01", "1.5", "3e-1", "100", "1e30", "1e-30", "7", "0.3", "2.5"))
	}
}

func (g generator) arrays(s map[string]any, depth int) {
	if depth > 0 && !g.chance(4) {
		s["items"] = g.schema(depth - 1)
	}
	if g.chance(4) {
		s["minItems"] = g.IntN(3)
	}
	if g.chance(4) {
		s["maxItems"] = g.IntN(5)
	}
	if g.plain {
		return
	}
	if g.chance(4) {
		s["uniqueItems"] = true
	}
	if depth <= 0 {
		return
	}
	if g.chance(4) {
		tuple := g.few(1+g.IntN(3), func() any { return g.schema(depth - 1) })
		if g.draft == "" || strings.Contains(g.draft, "2020") {
			s["prefixItems"] = tuple
		} else {
			s["items"] = tuple
			if g.chance(2) {
				s["additionalItems"] = pick[any](g, g.schema(depth-1), false)
			}
		}
	}
	if g.chance(5) {
		s["contains"] = g.schema(depth - 1)
		if g.chance(3) {
			s["minContains"] = g.IntN(3)
		}
		if g.chance(3) {
			s["maxContains"] = g.IntN(3)
		}
	}
	if g.chance(8) {
		s["unevaluatedItems"] = pick[any](g, false, g.schema(depth-1))
	}
}

func (g generator) objects(s map[string]any, depth int) {
	properties := map[string]any{}
	var required []string
	for range g.IntN(5) {
		name := g.name()
		properties[name] = g.schema(depth - 1)
		if g.chance(3) {
			required = append(required, name)
		}
	}
	if g.chance(8) {
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
		s["maxProperties"] = 1 + g.IntN(4)
	}
	if g.plain || depth <= 0 || !g.chance(3) {
		return
	}
	dependentRequired, dependentSchemas := "dependentRequired", "dependentSchemas"
	if !g.modern() {
		dependentRequired, dependentSchemas = "dependencies", "dependencies"
	}
	for range 1 + g.IntN(2) {
		switch g.IntN(6) {
		case 0, 1:
			s["patternProperties"] = map[string]any{pick(g, "^a", "b$", "[0-9]"): g.schema(depth - 1), pick(g, "^b", "é", ""): g.schema(depth - 1)}
		case 2:
			s["propertyNames"] = pick[any](g, map[string]any{"maxLength": g.IntN(3)}, map[string]any{"pattern": "^[ab]"},
				map[string]any{"enum": []string{"a", "b", "c"}}, g.schema(0))
		case 3:
			s[dependentRequired] = map[string]any{g.name(): []string{g.name()}, "b": unique([]string{g.name(), g.name()})}
		case 4:
			s[dependentSchemas] = map[string]any{g.name(): g.schema(depth - 1)}
		case 5:
			s["unevaluatedProperties"] = pick[any](g, false, g.schema(depth-1))
		}
	}
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
func (g *generator) root(anything bool) []byte {
	if g.chance(3) {
		g.draft = pick(*g, "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-06/schema#",
			"http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema",
			"https://json-schema.org/draft/2020-12/schema")
	}
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
	if g.chance(3) { // what a vector is
		if properties, ok := s["properties"].(map[string]any); ok {
			size := g.IntN(pick(*g, 4, 24))
			properties["v"] = map[string]any{
				"type": "array", "items": map[string]any{"type": pick[any](*g, "number", "integer", []any{"number", "null"})}, "minItems": size, "maxItems": size,
			}
		}
	}
	defs := map[string]any{"x": g.schema(1), "y": g.schema(0), "z": map[string]any{"$ref": "#/$defs/y"}}
	defs["tree"] = map[string]any{
		"type": "object", "properties": map[string]any{
			"a": g.schema(1), "b": map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/tree"}},
			"c": map[string]any{"$ref": "#/$defs/tree"},
		},
		"required": []string{"a"}, "additionalProperties": g.chance(2) && !strings.Contains(g.draft, "-04"),
	}
	defs["list"] = map[string]any{"anyOf": []any{
		g.schema(0), map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/list"}},
	}}
	s["$defs"] = defs
	if !g.plain && g.chance(6) { // a recursive schema
		s["properties"] = map[string]any{"a": map[string]any{"$ref": "#"}, "b": g.schema(2)}
	}
	if g.draft != "" {
		s["$schema"] = g.draft
	}
	out, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return out
}
