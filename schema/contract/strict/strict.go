// Package strict reads YAML files in which everything that is not known is a fault: contracts and the
// configuration.
//
// A Document collects faults while its values are taken out, so that a person sees all of them at once. A Value
// that is absent or broken answers with the zero of what it was asked for, and its fault is told once.
//
// Faults hold key names and, for values that are neither text from the environment nor asked for as a secret, the
// value as it stands in the file. A value that came from the environment is never shown.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tasterhq/taster/schema/validate"
)

// Codes of the faults that this package finds. They are stable.
const (
	FileMissing  = "file_missing" // a file cannot be read
	FileTooLarge = "file_too_large"
	Syntax       = "yaml_syntax"   // not YAML, or more than one document
	UnknownKey   = "unknown_key"   // a key that nothing reads
	DuplicateKey = "duplicate_key" // a key that stands twice in one mapping
	MissingKey   = "missing_key"   // a required key is not there
	WrongType    = "wrong_type"    // a list where a text is wanted, and the like
	BadValue     = "bad_value"     // the right type, and not one of the values that are allowed
	EnvUnset     = "env_unset"     // ${NAME} names a variable that is not set
)

// MaxFile is the size, in bytes, beyond which a file is refused unread.
const MaxFile = 1 << 20

// Document is one YAML file and what was found wrong with it so far.
type Document struct {
	file   string
	lookup func(name string) (string, bool)
	faults []validate.Fault
}

// Parse reads the one YAML document in data; file is its name in faults. Where lookup is given, ${NAME} in a text
// value stands for lookup(NAME), and $${ for a plain ${. The value is absent when data is empty or is not YAML; only
// the latter is a fault.
func Parse(file string, data []byte, lookup func(name string) (string, bool)) (*Document, Value) {
	d := &Document{file: file, lookup: lookup}
	root := Value{doc: d, line: 1}
	if len(data) > MaxFile {
		d.add(0, "", FileTooLarge, fmt.Sprintf("the file has more than %d bytes", MaxFile))
		return d, root
	}
	var document, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return d, root
	case err != nil:
		d.syntax(err)
		return d, root
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		d.add(more.Line, "", Syntax, "a second YAML document begins here; a file holds one")
		return d, root
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return d, root
	}
	if len(document.Content) == 1 {
		root.node = document.Content[0]
		root.line = max(root.node.Line, 1)
	}
	return d, root
}

// Faults returns what was found wrong so far, in the order in which it was found.
func (d *Document) Faults() []validate.Fault { return d.faults }

// Add adds faults that were found elsewhere, in a file that this one names for example.
func (d *Document) Add(faults ...validate.Fault) { d.faults = append(d.faults, faults...) }

func (d *Document) add(line int, field, code, detail string) {
	d.Add(validate.Fault{File: d.file, Line: line, Field: field, Code: code, Detail: detail})
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// syntax tells a parser's error. Of an unknown alias only the fact is told: what follows the asterisk may be a
// password that should have been quoted.
func (d *Document) syntax(err error) {
	detail := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := syntaxLine.FindStringSubmatch(detail); m != nil {
		line, _ = strconv.Atoi(m[1])
		detail = detail[len(m[0]):]
	}
	if strings.Contains(detail, "anchor") {
		detail = "an alias (a value that begins with *) names no anchor; put the value in quotes if it is a text"
	}
	d.add(line, "", Syntax, "not YAML: "+detail)
}

// Value is a place in the document: a scalar, a list, a mapping, or nothing.
type Value struct {
	doc  *Document
	node *yaml.Node // nil: absent
	path string     // as a.b[1].c
	line int        // of the value, or of the mapping in which it is missing
}

// Present says whether there is a value.
func (v Value) Present() bool { return v.node != nil }

// Line returns the 1-based line on which the value stands.
func (v Value) Line() int { return v.line }

// Fault adds a fault at this place.
func (v Value) Fault(code, format string, args ...any) {
	v.doc.add(v.line, v.path, code, fmt.Sprintf(format, args...))
}

// resolved follows an alias to what it stands for.
func (v Value) resolved() *yaml.Node {
	if v.node != nil && v.node.Kind == yaml.AliasNode {
		return v.node.Alias
	}
	return v.node
}

// wrong adds the fault of a value of another type.
func (v Value) wrong(want string) {
	is := "a value with a tag of its own"
	switch node := v.resolved(); node.Kind {
	case yaml.MappingNode:
		is = "a mapping"
	case yaml.SequenceNode:
		is = "a list"
	case yaml.ScalarNode:
		switch node.ShortTag() {
		case "!!null":
			v.Fault(WrongType, "has no value; want %s, or leave the key out", want)
			return
		case "!!bool":
			is = "true or false"
		case "!!int", "!!float":
			is = "a number"
		case "!!timestamp":
			is = "a date"
		case "!!str":
			is = "a text"
		}
		if want == "a text" {
			v.Fault(WrongType, "want %s, is %s; put it in quotes", want, is)
			return
		}
	}
	v.Fault(WrongType, "want %s, is %s", want, is)
}

// Text returns the value of a text, with ${NAME} replaced; "" when there is none. An empty text is a fault.
func (v Value) Text() string {
	text, ok := v.text("a text")
	if ok && text == "" {
		v.Fault(BadValue, "is empty")
	}
	return text
}

func (v Value) text(want string) (string, bool) {
	if !v.Present() {
		return "", false
	}
	node := v.resolved()
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
		v.wrong(want)
		return "", false
	}
	return v.expand(node.Value)
}

var reference = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces every ${NAME}. Each variable that is not set is a fault of its own.
func (v Value) expand(text string) (string, bool) {
	if v.doc.lookup == nil || !strings.Contains(text, "${") {
		return text, true
	}
	good := true
	expanded := reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		name := strings.TrimSuffix(match[2:], "}")
		if !strings.HasSuffix(match, "}") || !variable.MatchString(name) {
			v.Fault(BadValue, "a ${ without a variable's name and a }; write $${ for a plain ${")
			good = false
			return ""
		}
		value, set := v.doc.lookup(name)
		if !set {
			v.Fault(EnvUnset, "the environment variable %s is not set", name)
			good = false
		}
		return value
	})
	return expanded, good
}

// fromText says whether the value is a text that takes something from the environment, which then may be a number
// or a truth value though YAML sees a text.
func (v Value) fromText() bool {
	node := v.resolved()
	return v.doc.lookup != nil && node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" &&
		strings.Contains(node.Value, "${")
}

// scalar returns the value as it stands for a value whose YAML tag is one of tags, and the expanded text for one
// that comes from the environment.
func (v Value) scalar(want string, tags ...string) (string, bool) {
	if !v.Present() {
		return "", false
	}
	if v.fromText() {
		return v.text(want)
	}
	node := v.resolved()
	if node.Kind == yaml.ScalarNode {
		for _, tag := range tags {
			if node.ShortTag() == tag {
				return node.Value, true
			}
		}
	}
	v.wrong(want)
	return "", false
}

// shown returns the value for a fault, as it stands in the file.
func (v Value) shown() string { return Quote(v.resolved().Value) }

// Shown returns the value of a text as it stands in the file, quoted and cut to a length that fits a line. What
// came from the environment is not in it.
func (v Value) Shown() string {
	if !v.Present() {
		return `""`
	}
	return v.shown()
}

// Quote quotes text for a fault and cuts it to a length that fits a line.
func Quote(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "…"
	}
	return strconv.Quote(text)
}

// OneOf returns a text that must be one of allowed; "" when it is absent or another.
func (v Value) OneOf(allowed ...string) string {
	text, ok := v.text("a text")
	if !ok {
		return ""
	}
	for _, a := range allowed {
		if text == a {
			return text
		}
	}
	v.Fault(BadValue, "%s is not one of %s", v.shown(), strings.Join(allowed, ", "))
	return ""
}

// Int returns a whole number within [least, most]; missing when it is absent or wrong.
func (v Value) Int(least, most, missing int) int {
	text, ok := v.scalar("a whole number", "!!int")
	if !ok {
		return missing
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64)
	if err != nil || n < int64(least) || n > int64(most) {
		v.Fault(BadValue, "%s is not a whole number from %d to %d", v.shown(), least, most)
		return missing
	}
	return int(n)
}

// Float returns a number; missing and false when it is absent or wrong.
func (v Value) Float(missing float64) (float64, bool) {
	text, ok := v.scalar("a number", "!!int", "!!float")
	if !ok {
		return missing, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err != nil {
		v.Fault(BadValue, "%s is not a number", v.shown())
		return missing, false
	}
	return f, true
}

// Bool returns true or false; missing when it is absent or wrong.
func (v Value) Bool(missing bool) bool {
	text, ok := v.scalar("true or false", "!!bool")
	if !ok {
		return missing
	}
	switch strings.ToLower(text) {
	case "true":
		return true
	case "false":
		return false
	}
	v.Fault(BadValue, "%s is neither true nor false", v.shown())
	return missing
}

var size = regexp.MustCompile(`^([0-9]+)(B|KiB|MiB|GiB)?$`)

// Size returns a number of bytes within [least, most], written as 512B, 64KiB, 1MiB, 2GiB or a plain whole number;
// missing when it is absent or wrong.
func (v Value) Size(least, most, missing int64) int64 {
	const want = "a size such as 512B, 64KiB, 1MiB or 2GiB"
	text, ok := v.scalar(want, "!!int", "!!str")
	if !ok {
		return missing
	}
	m := size.FindStringSubmatch(text)
	if m == nil {
		v.Fault(BadValue, "%s is not %s", v.shown(), want)
		return missing
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := int64(1)
	switch m[2] {
	case "KiB":
		unit = 1 << 10
	case "MiB":
		unit = 1 << 20
	case "GiB":
		unit = 1 << 30
	}
	if err != nil || n > most/unit || n*unit < least {
		v.Fault(BadValue, "%s is not from %s to %s", v.shown(), FormatSize(least), FormatSize(most))
		return missing
	}
	return n * unit
}

// FormatSize writes a number of bytes as Size reads it, in the largest unit that divides it.
func FormatSize(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// Duration returns a time span within [least, most], written as 500ms, 30s, 5m or 1h30m; missing when it is absent
// or wrong.
func (v Value) Duration(least, most, missing time.Duration) time.Duration {
	const want = "a time span such as 500ms, 30s, 5m or 1h"
	text, ok := v.scalar(want, "!!str")
	if !ok {
		return missing
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		v.Fault(BadValue, "%s is not %s", v.shown(), want)
		return missing
	}
	if d < least || d > most {
		v.Fault(BadValue, "%s is not from %s to %s", v.shown(), least, most)
		return missing
	}
	return d
}

// List returns the members of a list. A single value that is not a list counts as a list of one where single.
func (v Value) List(single bool) []Value {
	if !v.Present() {
		return nil
	}
	node := v.resolved()
	if node.Kind != yaml.SequenceNode {
		if single && node.Kind == yaml.ScalarNode && node.ShortTag() != "!!null" {
			return []Value{v}
		}
		v.wrong("a list")
		return nil
	}
	members := make([]Value, len(node.Content))
	for i, m := range node.Content {
		members[i] = Value{doc: v.doc, node: m, path: fmt.Sprintf("%s[%d]", v.path, i), line: max(m.Line, v.line)}
	}
	return members
}

// Entry is one key of a mapping with its value.
type Entry struct {
	Key string
	Value
}

// Entries returns the keys of a mapping with their values, in the order in which they stand. A key that stands twice
// is a fault and is returned once.
func (v Value) Entries() []Entry {
	if !v.Present() {
		return nil
	}
	node := v.resolved()
	if node.Kind != yaml.MappingNode {
		v.wrong("a mapping")
		return nil
	}
	entries := make([]Entry, 0, len(node.Content)/2)
	lines := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := Value{doc: v.doc, node: value, line: max(key.Line, 1)}
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			at.path = v.path
			at.Fault(WrongType, "a key that is not a text")
			continue
		}
		at.path = join(v.path, key.Value)
		if first, twice := lines[key.Value]; twice {
			at.Fault(DuplicateKey, "the key %s stands on line %d already", Quote(key.Value), first)
			continue
		}
		lines[key.Value] = at.line
		entries = append(entries, Entry{key.Value, at})
	}
	return entries
}

// Mapping is a mapping whose keys are known beforehand.
type Mapping struct {
	Value
	entries map[string]Value
}

// Mapping returns the value as a mapping with the given keys; each other key is a fault that names the nearest of
// them.
func (v Value) Mapping(known ...string) Mapping {
	entries := v.Entries()
	m := Mapping{v, make(map[string]Value, len(entries))}
	for _, e := range entries {
		if near := Nearest(e.Key, known); near != e.Key {
			e.Fault(UnknownKey, "unknown key %s; the nearest known key is %q", Quote(e.Key), near)
			continue
		}
		m.entries[e.Key] = e.Value
	}
	return m
}

// At returns the value of a key, which may be absent.
func (m Mapping) At(key string) Value {
	if v, ok := m.entries[key]; ok {
		return v
	}
	return Value{doc: m.doc, path: join(m.path, key), line: m.line}
}

// Require returns the value of a key that must be there.
func (m Mapping) Require(key string) Value {
	v := m.At(key)
	if !v.Present() {
		v.Fault(MissingKey, "the required key %q is missing", key)
	}
	return v
}

func join(path, key string) string {
	if shown := Quote(key); len(shown) != len(key)+2 {
		key = shown
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// IsList says whether the value is a list.
func (v Value) IsList() bool { return v.Present() && v.resolved().Kind == yaml.SequenceNode }

// IsMapping says whether the value is a mapping.
func (v Value) IsMapping() bool { return v.Present() && v.resolved().Kind == yaml.MappingNode }
