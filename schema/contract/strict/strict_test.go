package strict_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/validate"
)

// tell renders faults as line:field:code:detail, one a line.
func tell(faults []validate.Fault) string {
	var lines []string
	for _, f := range faults {
		lines = append(lines, fmt.Sprintf("%d:%s:%s:%s", f.Line, f.Field, f.Code, f.Detail))
	}
	return strings.Join(lines, "\n")
}

func parse(t *testing.T, text string, env map[string]string) (*strict.Document, strict.Value) {
	t.Helper()
	var lookup func(string) (string, bool)
	if env != nil {
		lookup = func(name string) (string, bool) {
			value, ok := env[name]
			return value, ok
		}
	}
	return strict.Parse("f.yaml", []byte(text), lookup)
}

func TestKeys(t *testing.T) {
	doc, root := parse(t, "topic: a\ntopci: b\ntopic: c\n2: d\ndeep:\n  limt: 1\n", nil)
	m := root.Mapping("topic", "owner", "deep")
	if got := m.At("topic").Text(); got != "a" {
		t.Errorf("topic is %q", got)
	}
	m.Require("owner")
	m.At("deep").Mapping("limit")
	want := strings.Join([]string{
		`3:topic:duplicate_key:the key "topic" stands on line 1 already`,
		`4::wrong_type:a key that is not a text`,
		`2:topci:unknown_key:unknown key "topci"; the nearest known key is "topic"`,
		`1:owner:missing_key:the required key "owner" is missing`,
		`6:deep.limt:unknown_key:unknown key "limt"; the nearest known key is "limit"`,
	}, "\n")
	if got := tell(doc.Faults()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWrongTypes(t *testing.T) {
	for _, test := range []struct {
		yaml string
		ask  func(strict.Value)
		want string
	}{
		{"v: 1", func(v strict.Value) { v.Text() }, "1:v:wrong_type:want a text, is a number; put it in quotes"},
		{"v: yes", func(v strict.Value) { v.Bool(false) }, "1:v:wrong_type:want true or false, is a text"},
		{"v: 2024-01-01", func(v strict.Value) { v.Text() }, "1:v:wrong_type:want a text, is a date; put it in quotes"},
		{"v: [x]", func(v strict.Value) { v.Text() }, "1:v:wrong_type:want a text, is a list"},
		{"v: {}", func(v strict.Value) { v.List(true) }, "1:v:wrong_type:want a list, is a mapping"},
		{"v: x", func(v strict.Value) { v.Entries() }, "1:v:wrong_type:want a mapping, is a text"},
		{"v:", func(v strict.Value) { v.Text() }, "1:v:wrong_type:has no value; want a text, or leave the key out"},
		{"v: ''", func(v strict.Value) { v.Text() }, "1:v:bad_value:is empty"},
		{"v: !odd x", func(v strict.Value) { v.Text() }, "1:v:wrong_type:want a text, is a value with a tag of its own; put it in quotes"},
		{"v: 1.5", func(v strict.Value) { v.Int(0, 9, 0) }, "1:v:wrong_type:want a whole number, is a number"},
		{"v: 10", func(v strict.Value) { v.Int(0, 9, 0) }, `1:v:bad_value:"10" is not a whole number from 0 to 9`},
		{"v: .nan", func(v strict.Value) { v.Float(0) }, `1:v:bad_value:".nan" is not a number`},
		{"v: 1MB", func(v strict.Value) { v.Size(0, 9, 0) }, `1:v:bad_value:"1MB" is not a size such as 512B, 64KiB, 1MiB or 2GiB`},
		{"v: 1MiB", func(v strict.Value) { v.Size(1, 1<<10, 0) }, `1:v:bad_value:"1MiB" is not from 1B to 1KiB`},
		{"v: 99999999999999999999", func(v strict.Value) { v.Size(0, 9, 0) }, `1:v:wrong_type:want a size such as 512B, 64KiB, 1MiB or 2GiB, is a number`},
		{"v: 30", func(v strict.Value) { v.Duration(0, time.Hour, 0) }, "1:v:wrong_type:want a time span such as 500ms, 30s, 5m or 1h, is a number"},
		{"v: 3h", func(v strict.Value) { v.Duration(0, time.Hour, 0) }, `1:v:bad_value:"3h" is not from 0s to 1h0m0s`},
		{"v: c", func(v strict.Value) { v.OneOf("a", "b") }, `1:v:bad_value:"c" is not one of a, b`},
		{"v: [a, 1]", func(v strict.Value) {
			for _, m := range v.List(false) {
				m.Text()
			}
		}, "1:v[1]:wrong_type:want a text, is a number; put it in quotes"},
	} {
		doc, root := parse(t, test.yaml, nil)
		test.ask(root.Mapping("v").At("v"))
		if got := tell(doc.Faults()); got != test.want {
			t.Errorf("%s: got %s, want %s", test.yaml, got, test.want)
		}
	}
}

func TestValues(t *testing.T) {
	doc, root := parse(t, "n: 12\nf: 0.5\nb: true\ns: 3KiB\np: 7\nd: 1h30m\nl: [a, b]\none: a\nalias: &x 64KiB\nother: *x\n", nil)
	m := root.Mapping("n", "f", "b", "s", "p", "d", "l", "one", "alias", "other", "absent")
	f, _ := m.At("f").Float(0)
	for _, check := range []struct{ got, want any }{
		{m.At("n").Int(0, 20, 1), 12},
		{m.At("absent").Int(0, 20, 1), 1},
		{f, 0.5},
		{m.At("b").Bool(false), true},
		{m.At("absent").Bool(true), true},
		{m.At("s").Size(0, 1<<20, 0), int64(3072)},
		{m.At("p").Size(0, 1<<20, 0), int64(7)},
		{m.At("d").Duration(0, 2*time.Hour, 0), 90 * time.Minute},
		{len(m.At("l").List(false)), 2},
		{len(m.At("one").List(true)), 1},
		{m.At("other").Size(0, 1<<20, 0), int64(65536)},
		{m.At("absent").Text(), ""},
	} {
		if check.got != check.want {
			t.Errorf("got %v, want %v", check.got, check.want)
		}
	}
	if got := tell(doc.Faults()); got != "" {
		t.Error(got)
	}
}

// Values from the environment reach the caller and no fault.
func TestEnvironment(t *testing.T) {
	env := map[string]string{"SECRET": "hunter2", "COUNT": "7", "ON": "true", "EMPTY": ""}
	doc, root := parse(t, strings.Join([]string{
		`a: "x${SECRET}y$${SECRET}"`, `n: "${COUNT}"`, `b: "${ON}"`, `miss: "${NOPE}-${NADA}"`, `open: "${SECRET"`,
		`bad: "${SECRET}"`, `word: "${SECRET}"`, `empty: "${EMPTY}"`, `name: "${not a name}"`,
	}, "\n"), env)
	m := root.Mapping("a", "n", "b", "miss", "open", "bad", "word", "empty", "name")
	if got := m.At("a").Text(); got != "xhunter2y${SECRET}" {
		t.Errorf("a is %q", got)
	}
	if got := m.At("n").Int(0, 9, 0); got != 7 {
		t.Errorf("n is %d", got)
	}
	if !m.At("b").Bool(false) {
		t.Error("b is false")
	}
	m.At("miss").Text()
	m.At("open").Text()
	m.At("bad").Int(0, 9, 0)
	m.At("word").OneOf("a", "b")
	m.At("empty").Text()
	m.At("name").Text()
	want := strings.Join([]string{
		`4:miss:env_unset:the environment variable NOPE is not set`,
		`4:miss:env_unset:the environment variable NADA is not set`,
		`5:open:bad_value:a ${ without a variable's name and a }; write $${ for a plain ${`,
		`6:bad:bad_value:"${SECRET}" is not a whole number from 0 to 9`,
		`7:word:bad_value:"${SECRET}" is not one of a, b`,
		`8:empty:bad_value:is empty`,
		`9:name:bad_value:a ${ without a variable's name and a }; write $${ for a plain ${`,
	}, "\n")
	if got := tell(doc.Faults()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n b: 2":        "2::yaml_syntax:not YAML: mapping values are not allowed in this context",
		"a: 1\n---\nb: 2":    "2::yaml_syntax:a second YAML document begins here; a file holds one",
		"password: *hunter2": "0::yaml_syntax:not YAML: an alias (a value that begins with *) names no anchor; put the value in quotes if it is a text",
		"":                   "",
		"# nothing\n":        "",
	} {
		doc, _ := parse(t, text, nil)
		if got := tell(doc.Faults()); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	doc, root := strict.Parse("f.yaml", make([]byte, strict.MaxFile+1), nil)
	if root.Present() || len(doc.Faults()) != 1 || doc.Faults()[0].Code != strict.FileTooLarge {
		t.Errorf("a file that is too large: %v", doc.Faults())
	}
}

// A document that contains itself is read like any other.
func TestRecursiveAlias(t *testing.T) {
	doc, root := parse(t, "a: &a [*a, {x: *a}]\n", nil)
	for _, member := range root.Mapping("a").At("a").List(false) {
		member.Text()
	}
	if got := len(doc.Faults()); got != 2 {
		t.Errorf("%d faults: %s", got, tell(doc.Faults()))
	}
}

func TestNearest(t *testing.T) {
	known := []string{"topic", "owner", "schema", "sanitize", "near_duplicate"}
	for word, want := range map[string]string{
		"topic": "topic", "topci": "topic", "ownr": "owner", "Schema": "schema", "sanitise": "sanitize",
		"near-duplicate": "near_duplicate", "": "topic", strings.Repeat("x", 500): "topic",
	} {
		if got := strict.Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := strict.Nearest("x", nil); got != "" {
		t.Errorf("Nearest among none is %q", got)
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1: "1B", 1024: "1KiB", 1536: "1536B", 1 << 20: "1MiB", 3 << 30: "3GiB"} {
		if got := strict.FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if _, fault := strict.ReadFile(filepath.Join(dir, "none")); fault == nil || fault.Detail != "cannot be read: there is no such file" {
		t.Errorf("a file that is not there: %v", fault)
	}
	if _, fault := strict.ReadFile(dir); fault == nil || fault.Code != strict.FileMissing {
		t.Errorf("a folder: %v", fault)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, strict.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, fault := strict.ReadFile(large); fault == nil || fault.Code != strict.FileTooLarge {
		t.Errorf("a large file: %v", fault)
	}
}

func TestSorted(t *testing.T) {
	faults := strict.Sorted("b", []validate.Fault{
		{File: "c", Line: 1}, {File: "a", Line: 2}, {File: "b", Line: 9}, {File: "b", Line: 3, Field: "x"}, {File: "b", Line: 3},
		{File: "a", Line: 1},
	})
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprint(f.File, f.Line, f.Field))
	}
	if want := []string{"b3x", "b3", "b9", "a1", "a2", "c1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
