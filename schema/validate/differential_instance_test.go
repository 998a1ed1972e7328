package validate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// instance is a JSON value as a tree. A number is kept as it is written.
type instance struct {
	kind  byte // as jsontext has it: n f t 0 " [ {
	text  string
	keys  []string // of an object, in order
	items []*instance

	raw string // as it was read
	at  int
}

func (v *instance) member(name string) *instance {
	if k := slices.Index(v.keys, name); k >= 0 && v.kind == '{' {
		return v.items[k]
	}
	return nil
}

var errNotJSON = errors.New("not strict JSON")

// read takes strict JSON apart with jsontext, which shares nothing with this package.
func read(text []byte) (*instance, error) {
	if !jsontext.Value(text).IsValid() {
		return nil, errNotJSON
	}
	d := jsontext.NewDecoder(bytes.NewReader(text))
	var value func() (*instance, error)
	value = func() (*instance, error) {
		at := int(d.InputOffset())
		for strings.IndexByte(" \t\r\n,:", text[at]) >= 0 {
			at++
		}
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		v := &instance{kind: byte(token.Kind()), at: at}
		switch v.kind {
		case '"', '0':
			v.text = token.String()
		case '[', '{':
			for d.PeekKind() != ']' && d.PeekKind() != '}' {
				if v.kind == '{' {
					key, err := d.ReadToken()
					if err != nil {
						return nil, err
					}
					v.keys = append(v.keys, key.String())
				}
				item, err := value()
				if err != nil {
					return nil, err
				}
				v.items = append(v.items, item)
			}
			if _, err := d.ReadToken(); err != nil {
				return nil, err
			}
		}
		v.raw = string(text[at:d.InputOffset()])
		return v, nil
	}
	return value()
}

// reference turns the value into what jsonschema/v5 reads. It gives up, in panic, on exponents that math/big finds too
// large, so that zeros are written without; other such numbers are out of range.
func (v *instance) reference() any {
	switch v.kind {
	case 'f', 't':
		return v.kind == 't'
	case '"':
		return v.text
	case '0':
		mantissa, _, _ := strings.Cut(strings.ToLower(v.text), "e")
		if strings.Trim(mantissa, "-0.") == "" {
			return json.Number("0")
		}
		return json.Number(v.text)
	case '[':
		list := make([]any, len(v.items))
		for i, item := range v.items {
			list[i] = item.reference()
		}
		return list
	case '{':
		members := make(map[string]any, len(v.items))
		for i, item := range v.items {
			members[v.keys[i]] = item.reference()
		}
		return members
	}
	return nil
}

// float returns the nearest double. There is none for what is beyond all of them, or rounds to zero and is not zero.
func (v *instance) float() (float64, bool) {
	f, err := strconv.ParseFloat(v.text, 64)
	mantissa, _, _ := strings.Cut(strings.ToLower(v.text), "e")
	return f, err == nil && (f != 0 || strings.Trim(mantissa, "-0.") == "")
}

// exact returns a number that has a float.
func (v *instance) exact() *big.Rat {
	r, ok := new(big.Rat).SetString(string(v.reference().(json.Number)))
	if !ok {
		panic(v.text)
	}
	return r
}

// parts lists v and all that is in it.
func (v *instance) parts(into []*instance) []*instance {
	into = append(into, v)
	for _, item := range v.items {
		into = item.parts(into)
	}
	return into
}

func (v *instance) clone() *instance {
	c := *v
	c.keys, c.items = slices.Clone(v.keys), slices.Clone(v.items)
	for i, item := range c.items {
		c.items[i] = item.clone()
	}
	return &c
}

// fitter makes instances of a schema.
type fitter struct {
	generator
	whole any
}

// applying lists the schemas that a value is made to follow: s, and what it refers to, one of each set of alternatives.
func (f fitter) applying(s any, into []map[string]any) []map[string]any {
	m, ok := s.(map[string]any)
	if !ok || len(into) > 40 {
		return into
	}
	into = append(into, m)
	if ref, ok := m["$ref"].(string); ok {
		at := f.whole
		for _, token := range fragment(strings.TrimPrefix(ref, "#")) {
			at = at.(map[string]any)[token]
		}
		into = f.applying(at, into)
	}
	if of, ok := m["allOf"].([]any); ok {
		for _, sub := range of {
			into = f.applying(sub, into)
		}
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		if of, ok := m[keyword].([]any); ok && len(of) > 0 {
			into = f.applying(of[f.IntN(len(of))], into)
		}
	}
	if m["if"] != nil {
		if f.chance(2) {
			into = f.applying(m["then"], f.applying(m["if"], into))
		} else {
			into = f.applying(m["else"], into)
		}
	}
	return into
}

// fit makes a value that follows s more often than not.
func (f fitter) fit(s any, depth int) *instance {
	if depth < -4 {
		return &instance{kind: 'n'}
	}
	all := f.applying(s, nil)
	var of [][]any
	for _, m := range all {
		if v, ok := m["const"]; ok {
			of = append(of, []any{v})
		}
		if list, ok := m["enum"].([]any); ok && len(list) > 0 {
			of = append(of, list)
		}
	}
	if len(of) > 0 && !f.chance(10) {
		list := of[f.IntN(len(of))]
		return f.from(list[f.IntN(len(list))])
	}
	kinds := kindNames
	for _, m := range all {
		var allowed []string
		switch t := m["type"].(type) {
		case string:
			allowed = []string{t}
		case []any:
			for _, t := range t {
				allowed = append(allowed, t.(string))
			}
		default:
			continue
		}
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool {
			return !slices.Contains(allowed, k) && (k != "integer" || !slices.Contains(allowed, "number"))
		})
	}
	if len(kinds) == 0 || f.chance(25) {
		kinds = kindNames
	}
	switch kind := kinds[f.IntN(len(kinds))]; kind {
	case "boolean":
		return &instance{kind: pick[byte](f.generator, 'f', 't')}
	case "integer", "number":
		return f.number(all, kind == "integer")
	case "string":
		return &instance{kind: '"', text: f.string(all)}
	case "array":
		return f.array(all, depth)
	case "object":
		return f.object(all, depth)
	}
	return &instance{kind: 'n'}
}

// from turns a value of the schema into an instance.
func (f fitter) from(v any) *instance {
	switch v := v.(type) {
	case bool:
		if v {
			return &instance{kind: 't'}
		}
		return &instance{kind: 'f'}
	case string:
		return &instance{kind: '"', text: v}
	case json.Number:
		return &instance{kind: '0', text: f.respell(string(v))}
	case []any:
		out := &instance{kind: '['}
		for _, item := range v {
			out.items = append(out.items, f.from(item))
		}
		return out
	case map[string]any:
		out := &instance{kind: '{'}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out.keys, out.items = append(out.keys, key), append(out.items, f.from(v[key]))
		}
		return out
	}
	return &instance{kind: 'n'}
}

// respell sometimes writes a number in another way.
func (f fitter) respell(text string) string {
	if !f.chance(4) || strings.ContainsAny(text, "eE") {
		return text
	}
	if !strings.Contains(text, ".") {
		return text + pick(f.generator, ".0", "e0", "E+00", ".00e-0", "0e-1", "00E-2", ".000000000000000000000")
	}
	return text + pick(f.generator, "0", "e0", "E-0", "00000000000000000000")
}

// number makes one near the bounds that there are.
func (f fitter) number(all []map[string]any, whole bool) *instance {
	var near []string
	for _, m := range all {
		for _, keyword := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} {
			n, ok := m[keyword].(json.Number)
			if !ok {
				continue
			}
			near = append(near, string(n))
			r, ok := new(big.Rat).SetString(string(n))
			if !ok || len(r.Num().String())+len(r.Denom().String()) > 60 {
				continue
			}
			for _, step := range []string{"1", "-1", "1e-17", "-1e-17", "0.5", "-0.25", "1e-9"} {
				by, _ := new(big.Rat).SetString(step)
				near = append(near, new(big.Rat).Add(r, by).FloatString(20))
			}
			near = append(near, new(big.Rat).Mul(r, big.NewRat(int64(f.IntN(40)-10), 1)).FloatString(31))
			near = append(near, new(big.Int).Quo(r.Num(), r.Denom()).String())
		}
	}
	text := string(f.generator.number())
	if f.chance(30) {
		text = string(f.hard())
	} else if len(near) > 0 && !f.chance(5) {
		text = near[f.IntN(len(near))]
		if strings.Contains(text, ".") && !f.chance(3) {
			text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
		}
	}
	if whole && !f.chance(5) {
		for range 20 {
			if r, ok := new(big.Rat).SetString(text); len(text) < 400 && ok && r.IsInt() {
				break
			}
			text = string(f.generator.number())
		}
	}
	return &instance{kind: '0', text: f.respell(text)}
}

func (f fitter) string(all []map[string]any) string {
	text := f.generator.text()
	low, high := 0, 1000
	for _, m := range all {
		if p, ok := m["pattern"].(string); ok {
			if of := patterns[p]; len(of) > 0 && !f.chance(6) {
				text = of[f.IntN(len(of))]
			}
		}
		if format, ok := m["format"].(string); ok && !f.chance(6) {
			of := formats[format]
			text = of[f.IntN(len(of))]
		}
		low, high = max(low, atoi(m["minLength"], 0)), min(high, atoi(m["maxLength"], 1000))
	}
	if f.chance(8) {
		return text
	}
	for n := utf8.RuneCountInString(text); n < low; n++ {
		text += pick(f.generator, "a", "é", "😀", "b")
	}
	if runes := []rune(text); len(runes) > high {
		text = string(runes[:high])
	}
	return text
}

func atoi(v any, otherwise int) int {
	if n, ok := v.(json.Number); ok {
		if i, err := strconv.Atoi(string(n)); err == nil {
			return i
		}
	}
	return otherwise
}

func (f fitter) array(all []map[string]any, depth int) *instance {
	out := &instance{kind: '['}
	low, high, distinct := 0, 1000, false
	var contains []any
	for _, m := range all {
		low, high = max(low, atoi(m["minItems"], 0)), min(high, atoi(m["maxItems"], 1000))
		distinct = distinct || m["uniqueItems"] == true
		if s, ok := m["contains"]; ok {
			contains = append(contains, s)
		}
	}
	size := low + f.IntN(4)
	if f.chance(40) {
		size = low + f.IntN(40)
	}
	if depth <= 0 {
		size = low
	}
	fractions := slices.ContainsFunc(all, func(m map[string]any) bool {
		items, ok := m["items"].(map[string]any)
		return ok && (items["type"] == "number" || fmt.Sprint(items["type"]) == "[number null]")
	}) && !f.chance(3)
	if fractions && f.chance(3) {
		size = low + f.IntN(40)
	}
	for k := range min(size, high) {
		var at any = true
		for _, m := range all {
			var sub any
			tuple, ok := m["prefixItems"].([]any)
			rest := m["items"]
			if old, is := m["items"].([]any); is {
				tuple, ok, rest = old, true, m["additionalItems"]
			}
			if ok && k < len(tuple) {
				sub = tuple[k]
			} else {
				sub = rest
			}
			at = both(at, sub)
		}
		if len(contains) > 0 && f.chance(2) {
			at = both(at, contains[f.IntN(len(contains))])
		}
		item := f.fit(at, depth-1)
		if fractions && !f.chance(30) {
			item = &instance{kind: '0', text: f.fraction()}
		}
		for range 3 { // when they must differ
			if !distinct || !slices.ContainsFunc(out.items, func(v *instance) bool { return v.kind == item.kind && v.text == item.text }) {
				break
			}
			item = f.fit(at, depth-1)
		}
		out.items = append(out.items, item)
	}
	return out
}

// fraction is a number as most vectors have them.
func (f fitter) fraction() string {
	return pick(f.generator, "", "-") + strconv.Itoa(f.IntN(10)) + "." + fmt.Sprintf("%013d", f.Uint64()%1e13)[:1+f.IntN(13)]
}

// both is the schema that demands what two demand.
func both(a, b any) any {
	switch {
	case b == nil || b == true:
		return a
	case a == true:
		return b
	}
	return map[string]any{"allOf": []any{a, b}}
}

func (f fitter) object(all []map[string]any, depth int) *instance {
	out := &instance{kind: '{'}
	want := map[string]bool{}
	for _, m := range all {
		properties, _ := m["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			if properties[name] != false && depth > 0 && !f.chance(4) {
				want[name] = true
			}
		}
		if patterned, ok := m["patternProperties"].(map[string]any); ok {
			for _, name := range names {
				for _, pattern := range slices.Sorted(maps.Keys(patterned)) {
					if strings.Contains(name, strings.Trim(pattern, "^$")) && f.chance(4) {
						want[name] = true
					}
				}
			}
		}
		required, _ := m["required"].([]any)
		for _, name := range required {
			if !f.chance(30) {
				want[name.(string)] = true
			}
		}
	}
	for _, m := range all {
		for _, keyword := range []string{"dependentRequired", "dependencies"} {
			dependent, _ := m[keyword].(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(dependent)) {
				if list, ok := dependent[name].([]any); ok && want[name] && !f.chance(4) {
					for _, name := range list {
						want[name.(string)] = true
					}
				}
			}
		}
	}
	low := 0
	for _, m := range all {
		low = max(low, atoi(m["minProperties"], 0))
	}
	if f.chance(4) && depth > 0 {
		want[f.name()] = true
	}
	for range 10 {
		if len(want) < low {
			want[f.name()] = true
		}
	}
	keys := slices.Sorted(maps.Keys(want))
	if f.chance(3) {
		f.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	}
	if f.chance(200) { // enough for the hash table
		for k := range 40 {
			keys = append(keys, "k"+strconv.Itoa(k))
		}
	}
	for _, name := range keys {
		var at any = true
		for _, m := range all {
			named := false
			if properties, ok := m["properties"].(map[string]any); ok && properties[name] != nil {
				at, named = both(at, properties[name]), true
			}
			if patterned, ok := m["patternProperties"].(map[string]any); ok {
				for _, pattern := range slices.Sorted(maps.Keys(patterned)) {
					if strings.Contains(name, strings.Trim(pattern, "^$")) {
						at, named = both(at, patterned[pattern]), true
					}
				}
			}
			if other := m["additionalProperties"]; !named && other != false {
				at = both(at, other)
			}
			if dependent, ok := m["dependentSchemas"].(map[string]any); ok && dependent[name] != nil {
				if sub, ok := dependent[name].(map[string]any); ok {
					if properties, ok := sub["properties"].(map[string]any); ok {
						at = both(at, properties[name])
					}
				}
			}
		}
		out.keys, out.items = append(out.keys, name), append(out.items, f.fit(at, depth-1))
	}
	return out
}

// mutate changes v in one place.
func (f fitter) mutate(v *instance) {
	parts := v.parts(nil)
	at := parts[f.IntN(len(parts))]
	switch {
	case at.kind == '{' && f.chance(2):
		if k := f.IntN(len(at.items) + 1); k < len(at.items) && f.chance(2) {
			at.keys, at.items = slices.Delete(at.keys, k, k+1), slices.Delete(at.items, k, k+1)
		} else if name := f.name(); !slices.Contains(at.keys, name) {
			at.keys, at.items = append(at.keys, name), append(at.items, f.fit(true, 1))
		}
	case at.kind == '[' && f.chance(2) && len(at.items) > 0:
		k := f.IntN(len(at.items))
		switch f.IntN(3) {
		case 0:
			at.items = slices.Delete(at.items, k, k+1)
		case 1:
			at.items = append(at.items, at.items[k].clone())
		case 2:
			j := f.IntN(len(at.items))
			at.items[k], at.items[j] = at.items[j], at.items[k]
		}
	case at.kind == '0' && f.chance(2):
		at.text = string(pick(f.generator, f.generator.number(), f.hard()))
	case at.kind == '"' && f.chance(2):
		at.text += pick(f.generator, "a", "é", "😀", "\x7f")
	case f.chance(10) && len(parts) > 1: // deeper than allowed, or just as deep
		deep := at
		for range 120 + f.IntN(12) {
			*deep = instance{kind: '[', items: []*instance{{kind: '['}}}
			deep = deep.items[0]
		}
	default:
		*at = *f.fit(true, 1)
	}
}

// The ways to write JSON.
const (
	compact = iota
	spaced  // after commas and colons, as Python does
	odd     // white space of any kind anywhere, needless escapes
)

// write spells v in one of these ways.
func (f fitter) write(out []byte, v *instance, way int) []byte {
	space := func() {
		for way == odd && f.chance(6) {
			out = append(out, pick(f.generator, " ", "\n", "\t", "\r", "  ", "         ")...)
		}
	}
	space()
	switch v.kind {
	case 'n':
		out = append(out, "null"...)
	case 'f':
		out = append(out, "false"...)
	case 't':
		out = append(out, "true"...)
	case '0':
		out = append(out, v.text...)
	case '"':
		out = f.quote(out, v.text, way == odd)
	default:
		out = append(out, v.kind)
		for i, item := range v.items {
			if i > 0 {
				out = append(out, ',')
				if way == spaced {
					out = append(out, ' ')
				}
			}
			if v.kind == '{' {
				space()
				out = f.quote(out, v.keys[i], way == odd && f.chance(3))
				space()
				out = append(out, ':')
				if way == spaced {
					out = append(out, ' ')
				}
			}
			out = f.write(out, item, way)
		}
		space()
		out = append(out, v.kind+2)
	}
	space()
	return out
}

func (f fitter) quote(out []byte, text string, strange bool) []byte {
	if !strange || f.chance(2) {
		if strange || f.chance(3) {
			out, _ = jsontext.AppendQuote(out, text)
			return out
		}
		plain, _ := json.Marshal(text)
		return append(out, plain...)
	}
	out = append(out, '"')
	for _, r := range text {
		switch {
		case f.chance(2) && r < 0x10000:
			out = fmt.Appendf(out, pick(f.generator, "\\u%04x", "\\u%04X"), r)
		case f.chance(2) && r >= 0x10000:
			out = fmt.Appendf(out, "\\u%04x\\u%04X", 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		case r == '/':
			out = append(out, `\/`...)
		case r < 0x20 || r == '"' || r == '\\':
			quoted, _ := jsontext.AppendQuote(nil, string(r))
			out = append(out, quoted[1:len(quoted)-1]...)
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return append(out, '"')
}

// spoil changes the bytes in a way that mostly is no JSON any more.
func (f fitter) spoil(text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	k := f.IntN(len(text))
	insert := func(s string) []byte { return slices.Concat(text[:k], []byte(s), text[k:]) }
	switch f.IntN(8) {
	case 0:
		return text[:k]
	case 1:
		return slices.Delete(slices.Clone(text), k, k+1)
	case 2:
		return insert(pick(f.generator, ",", ":", "{", "}", "[", "]", "\"", "0", "-", ".", "e", "\\", "\x00", "\x1f", " ", "\xff", "\xc0\x80",
			"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xef\xbb\xbf", "/", "null", "tru"))
	case 3: // in a string, if one is found
		if at := bytes.IndexByte(text[k:], '"'); at >= 0 {
			k += at + 1
		}
		return insert(pick(f.generator, `\ud800`, `\udc00`, `\ud83d\ude00`, `\ud800\ud800`, `\u12`, `\x41`, `\`, "\x80", "\xe6\x97", "\t", "\n", "é", `\u0000`))
	case 4: // a member twice
		if v, err := read(text); err == nil && v.kind == '{' && len(v.keys) > 0 {
			j := f.IntN(len(v.keys))
			v.keys, v.items = append(v.keys, v.keys[j]), append(v.items, v.items[f.IntN(len(v.items))])
			return f.write(nil, v, odd)
		}
		return insert(",")
	case 5:
		out := slices.Clone(text)
		out[k] ^= 1 << f.IntN(8)
		return out
	case 6:
		return append(slices.Clone(text), pick(f.generator, "}", "{}", " ", "\x00", "\n\n", "]", ",", "1")...)
	}
	j := k + f.IntN(len(text)-k)
	return slices.Concat(text[:k], text[j:])
}
