package contract

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

func TestLoadFull(t *testing.T) {
	c, faults := Load("testdata/good/full.yaml")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if c.Schema == nil {
		t.Fatal("no schema")
	}
	if field, ok := c.Schema.Field("/embedding"); !ok || field.Elem == nil || field.Elem.Name() != "float32" || field.Length != 4 {
		t.Errorf("the embedding is %+v", field)
	}
	if field, ok := c.Schema.Field("/probabilities"); !ok || field.Elem == nil || field.Elem.Name() != "float64" {
		t.Errorf("the probabilities are %+v", field)
	}
	if field, ok := c.Schema.Field("/ip_address"); !ok || !field.Dropped {
		t.Errorf("the dropped field is %+v", field)
	}
	if len(c.Notes) != 1 || c.Notes[0].Line != 21 || !strings.Contains(c.Notes[0].Detail, "CREDIT_CARD and EMAIL_ADDRESS") {
		t.Errorf("notes are %v", c.Notes)
	}
	got := *c
	got.Schema, got.Digest, got.Notes = nil, [32]byte{}, nil
	want := Contract{
		Path: "testdata/good/full.yaml", Topic: "reviews", Owner: "marketplace-team", Purpose: "training",
		Classification: record.Confidential, Region: "eu-west-1",
		SchemaPath: filepath.FromSlash("testdata/good/reviews.schema.json"),
		Roles: Roles{
			ID: "/id", Provider: Provider{Field: "/seller"}, Text: []string{"/title", "/body"}, Label: "/label",
			Features: []string{"/price", "/stars"}, Embedding: "/embedding", Probabilities: "/probabilities",
			Loss: "/loss", Gradient: "/gradient",
		},
		Restricted: []string{"/diagnosis", "/address/city"},
		Limits:     Limits{Bytes: 64 << 10, Depth: 16},
		Sanitize: Sanitize{
			Drop:    []string{"/ip_address", "/address/a~1b"},
			PII:     map[string]Action{"default": Redact, "EMAIL_ADDRESS": Reject, "US_SSN": Keep},
			Secrets: Keep, Unicode: Clean, Injection: Keep,
		},
		Detect: Detect{
			Budget: 0.005, Reference: "reviews@3",
			Detectors: map[string]map[string]any{"outlier": {"enabled": true}, "label": {"enabled": false}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	c, faults := Load("testdata/good/small.yaml")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if c.Limits != (Limits{1 << 20, 128}) || c.Detect.Budget != 0.01 || c.Sanitize.PII != nil || c.Sanitize.Unicode != Clean || len(c.Notes) != 0 {
		t.Errorf("defaults are %+v", c)
	}
}

// TestFaults loads a contract made of the four required keys and what each test adds or puts in their place.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	schema, err := os.ReadFile("testdata/good/reviews.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("reviews.schema.json", string(schema))
	write("array.json", "[1,")
	write("ref.json", `{"type":"object","properties":{"a":{"$ref":"nowhere.json"}}}`)
	write("taster.json", `{"type":"object","properties":{"taster_topic":{"type":"string"}}}`)
	const head = "topic: reviews\nowner: me\nclassification: public\nschema: reviews.schema.json\n"
	for _, test := range []struct{ name, text, want string }{
		{"all required", "purpose: x\n", `1:topic:missing_key:the required key "topic" is missing
1:owner:missing_key:the required key "owner" is missing
1:classification:missing_key:the required key "classification" is missing
1:schema:missing_key:the required key "schema" is missing`},
		{"empty file", "", `1:topic:missing_key:the required key "topic" is missing
1:owner:missing_key:the required key "owner" is missing
1:classification:missing_key:the required key "classification" is missing
1:schema:missing_key:the required key "schema" is missing`},
		{"unknown keys at every level", head + "rols: {}\nroles: {txt: /body}\nlimits: {byte: 1}\nsanitize: {dorp: []}\ndetect: {bugdet: 1, detectors: {outliers: {}, label: {enable: true}}}\n",
			`5:rols:unknown_key:unknown key "rols"; the nearest known key is "roles"
6:roles.txt:unknown_key:unknown key "txt"; the nearest known key is "text"
7:limits.byte:unknown_key:unknown key "byte"; the nearest known key is "bytes"
8:sanitize.dorp:unknown_key:unknown key "dorp"; the nearest known key is "drop"
9:detect.bugdet:unknown_key:unknown key "bugdet"; the nearest known key is "budget"
9:detect.detectors.outliers:unknown_key:unknown key "outliers"; the nearest known key is "outlier"
9:detect.detectors.label.enable:unknown_key:unknown key "enable"; the nearest known key is "enabled"`},
		{"duplicate key", head + "owner: you\n", `5:owner:duplicate_key:the key "owner" stands on line 2 already`},
		{"bad values", "topic: a/b\nowner: 7\nclassification: secret\nschema: reviews.schema.json\nlimits: {bytes: 1MB, depth: 0}\ndetect: {budget: 0.6, reference: reviews@0}\n",
			`1:topic:bad_value:"a/b" is no Kafka topic name: want 1 to 249 of letters, digits, '.', '_' and '-'
2:owner:wrong_type:want a text, is a number; put it in quotes
3:classification:bad_value:"secret" is not one of public, internal, confidential, restricted
5:limits.bytes:bad_value:"1MB" is not a size such as 512B, 64KiB, 1MiB or 2GiB
5:limits.depth:bad_value:"0" is not a whole number from 1 to 10000
6:detect.budget:bad_value:"0.6" is not a share above 0 and at most 0.5
6:detect.reference:bad_value:"reviews@0" is neither NAME@latest nor NAME@VERSION with a VERSION from 1`},
		{"pointer syntax", head + "roles: {id: id, text: [/bo~dy, /body, /body], provider: seller}\n",
			`5:roles.id:pointer_syntax:"id" is no RFC 6901 pointer: want a / before each name, ~1 for a / in a name and ~0 for a ~
5:roles.provider:bad_value:"seller" is none of the forms /field, header:NAME, key and is:NAME
5:roles.text[0]:pointer_syntax:"/bo~dy" is no RFC 6901 pointer: want a / before each name, ~1 for a / in a name and ~0 for a ~
5:roles.text[2]:bad_value:"/body" is named twice`},
		{"pointers to nothing", head + "roles: {id: /idd, provider: /sellr}\nrestricted: [/diagnoses]\nsanitize: {drop: [/adress/city]}\n",
			`5:roles.id:pointer_unknown:"/idd" points at nothing: the schema has no such field; the nearest field is "/id"
5:roles.provider:pointer_unknown:"/sellr" points at nothing: the schema has no such field; the nearest field is "/seller"
6:restricted[0]:pointer_unknown:"/diagnoses" points at nothing: the schema has no such field; the nearest field is "/diagnosis"
7:sanitize.drop[0]:pointer_unknown:"/adress/city" points at nothing: the schema has no such field; the nearest field is "/address/city"`},
		{"types that cannot play the part", head + `roles:
  id: /price
  provider: /verified
  text: [/stars, /free]
  label: /price
  features: [/body, /embedding]
  embedding: /price
  probabilities: /words
  loss: /body
  gradient: /address
`, `6:roles.id:role_type:"/price" is a number in the schema; this role wants a string or an integer
7:roles.provider:role_type:"/verified" is a boolean in the schema; this role wants a string or an integer
8:roles.text[0]:role_type:"/stars" is an integer in the schema; this role wants a string
8:roles.text[1]:role_type:"/free" is of no single type, or free-form in the schema; this role wants a string
9:roles.label:role_type:"/price" is a number in the schema; this role wants a string, an integer or a boolean
10:roles.features[0]:role_type:"/body" is a string in the schema; this role wants a number, or an array of numbers
10:roles.features[1]:role_type:features are several numbers or one array of numbers, not both
11:roles.embedding:role_type:"/price" is a number in the schema; this role wants an array of numbers
12:roles.probabilities:role_type:"/words" is an array in the schema; this role wants an array of numbers
13:roles.loss:role_type:"/body" is a string in the schema; this role wants a number
14:roles.gradient:role_type:"/address" is an object in the schema; this role wants an array of numbers`},
		{"dropped and needed", head + "roles: {id: /id, text: [/address/city]}\nrestricted: [/diagnosis]\nsanitize:\n  drop: [/id, /address, /diagnosis]\n",
			`8:sanitize.drop[0]:field_conflict:"/id" is dropped and is needed for the role on line 5
8:sanitize.drop[1]:field_conflict:"/address" is dropped and is needed for the role on line 5
8:sanitize.drop[2]:field_conflict:"/diagnosis" is dropped and is named on line 6 as a field to keep`},
		{"not in this version", head + "sanitize:\n  tokenize: [/id]\n  pii: {US_SSN: reject, EMAIL_ADDRESS: tokenize, CREDIT_CARD: hash}\n  secrets: redact\n  injection: quarantine\n",
			`6:sanitize.tokenize:unsupported:this version cannot tokenize; drop the fields, or make them restricted
7:sanitize.pii.US_SSN:unsupported:this version cannot find US_SSN, only CREDIT_CARD and EMAIL_ADDRESS; leave the key out, or set it to keep
7:sanitize.pii.EMAIL_ADDRESS:unsupported:this version cannot tokenize personal data; use redact, reject or keep
7:sanitize.pii.CREDIT_CARD:unsupported:this version cannot hash personal data; use redact, reject or keep
8:sanitize.secrets:unsupported:this version does not look for secrets; leave the key out, or set it to keep
9:sanitize.injection:unsupported:this version does not look for prompt injection; leave the key out, or set it to keep`},
		{"actions and entities", head + "sanitize:\n  pii: {EMAIL_ADRESS: redact, PERSON: delete}\n  unicode: strip\n",
			`6:sanitize.pii.EMAIL_ADRESS:unknown_key:unknown kind of personal data "EMAIL_ADRESS"; the nearest known one is "EMAIL_ADDRESS"
6:sanitize.pii.PERSON:bad_value:"delete" is not one of keep, redact, reject, hash, tokenize
7:sanitize.unicode:bad_value:"strip" is not one of keep, clean, quarantine, reject`},
		{"schema missing", strings.Replace(head, "reviews.schema", "nowhere", 1),
			`4:schema:file_missing:the schema file "DIR/nowhere.json" cannot be read: there is no such file`},
		{"not YAML", head + "roles: @x", "5::yaml_syntax:not YAML: found character that cannot start any token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write("contract.yaml", test.text)
			c, faults := Load(path)
			if c != nil {
				t.Error("a contract with faults was returned")
			}
			var lines []string
			for _, f := range faults {
				if f.File != path {
					t.Errorf("a fault in another file: %v", f)
				}
				lines = append(lines, fmt.Sprintf("%d:%s:%s:%s", f.Line, f.Field, f.Code, strings.ReplaceAll(f.Detail, dir, "DIR")))
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	for _, name := range []string{"array.json", "ref.json", "taster.json"} {
		t.Run(name, func(t *testing.T) {
			_, faults := Load(write("contract.yaml", strings.Replace(head, "reviews.schema.json", name, 1)))
			if len(faults) == 0 || filepath.Base(faults[0].File) != name {
				t.Errorf("faults are %v, want them in %s", faults, name)
			}
		})
	}
	if _, faults := Load(filepath.Join(dir, "none.yaml")); len(faults) != 1 || faults[0].Code != strict.FileMissing {
		t.Errorf("a contract that is not there: %v", faults)
	}
}

func TestProviders(t *testing.T) {
	for text, want := range map[string]Provider{
		"/a":           {Field: "/a"},
		"header:x-p:q": {Header: "x-p:q"},
		"key":          {Key: true},
		"is:acme":      {Is: "acme"},
	} {
		d := parse("f", []byte("topic: t\nowner: o\nclassification: public\nschema: s\nroles: {provider: '"+text+"'}\n"))
		if got := d.contract.Roles.Provider; got != want || len(d.doc.Faults()) > 0 {
			t.Errorf("%q is %+v, want %+v; faults %v", text, got, want, d.doc.Faults())
		}
	}
	for _, text := range []string{"header:", "is:", "keys", "Key", " "} {
		d := parse("f", []byte("topic: t\nowner: o\nclassification: public\nschema: s\nroles: {provider: '"+text+"'}\n"))
		if len(d.doc.Faults()) != 1 {
			t.Errorf("%q: faults %v", text, d.doc.Faults())
		}
	}
}

func TestDigest(t *testing.T) {
	one := []validate.File{{Path: "a/b.json", Bytes: []byte("xy")}, {Path: "a/c.json", Bytes: []byte("z")}}
	sum := func(path, contract string, files ...validate.File) string {
		t.Helper()
		d, err := digest(path, []byte(contract), files)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(d[:])
	}
	base := sum("a/c.yaml", "k", one...)
	// Lengths and contents as the documentation lays them out, hashed by sha256sum.
	if want := "42faf348ead76e80e96c5068a40c67d6eda7ecdbd4e94a24a6e84c8b5fdd7681"; base != want {
		t.Errorf("got %s, want %s", base, want)
	}
	if got := sum("a/c.yaml", "k", one[1], one[0]); got != base {
		t.Error("the order in which files are named matters")
	}
	moved := []validate.File{{Path: "d/b.json", Bytes: []byte("xy")}, {Path: "d/c.json", Bytes: []byte("z")}}
	if got := sum("d/e.yaml", "k", moved...); got != base {
		t.Error("moving the folder changes the digest")
	}
	for what, got := range map[string]string{
		"another contract": sum("a/c.yaml", "l", one...),
		"swapped contents": sum("a/c.yaml", "k", validate.File{Path: "a/b.json", Bytes: []byte("z")}, validate.File{Path: "a/c.json", Bytes: []byte("xy")}),
		"a moved byte":     sum("a/c.yaml", "k", validate.File{Path: "a/b.json", Bytes: []byte("x")}, validate.File{Path: "a/c.json", Bytes: []byte("yz")}),
		"one file fewer":   sum("a/c.yaml", "k", one[0]),
	} {
		if got == base {
			t.Errorf("%s does not change the digest", what)
		}
	}
}

// FuzzParse feeds anything to the reader of contracts. It must not panic, must name the file in every fault, and must
// leave nothing half checked: without a fault every required key has a value and every bound holds.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(seeds) < 2 {
		f.Fatalf("the seeds are missing: %v, %v", seeds, err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"", "a: &a [*a]", "topic: {topic: x}", "<<: {topic: a}\n", "roles: {text: [[]]}", "? [a]\n: b", "--- x\n--- y",
		"limits: {bytes: 0x10, depth: 1_0}", "detect: {budget: .inf, detectors: {label: }}", "topic: !!binary aGk="} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := parse("f.yaml", data)
		c := d.contract
		for _, fault := range d.doc.Faults() {
			if fault.File != "f.yaml" || fault.Code == "" || fault.Detail == "" || fault.Line < 0 {
				t.Errorf("a fault without a place, code or detail: %+v", fault)
			}
		}
		if len(d.doc.Faults()) > 0 {
			return
		}
		if c.Topic == "" || c.Owner == "" || c.SchemaPath == "" {
			t.Errorf("a required key has no value and there is no fault: %+v", c)
		}
		if c.Limits.Bytes < 1 || c.Limits.Bytes > validate.MaxBytes || c.Limits.Depth < 1 || c.Limits.Depth > validate.MaxDepth ||
			!(c.Detect.Budget > 0 && c.Detect.Budget <= MaxBudget) {
			t.Errorf("out of bounds and no fault: %+v", c)
		}
	})
}
