package validate

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/finding"
)

// document is one schema file, taken apart. The tape keeps what a map would lose: the order of properties, and where
// everything stands.
type document struct {
	url  string // where it was read from
	id   string // what it calls itself; url when it does not
	path string // as faults and File name it
	src  []byte
	tape tape

	embedded []string // URLs that schemas within it call themselves
}

// documents are the schema files drawn in so far, the first one first.
type documents struct {
	list   []*document
	read   func(url string) ([]byte, error)
	name   func(url string) string // the path shown for a url
	draft  *jsonschema.Draft       // of documents that do not name one
	faults []Fault
}

// schemaDepth bounds nesting in schema files.
const schemaDepth = 1000

var errNotLocal = errors.New("only schema files on this machine are read; put a copy beside the schema and refer to it by a relative path")

// localDocuments reads schema files only, and names them relative to the schema file at path.
func localDocuments(path string) (*documents, string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	d := &documents{draft: jsonschema.NewCompiler().Draft}
	root := (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}).String()
	local := func(at string) (string, bool) {
		u, err := url.Parse(at)
		if err != nil {
			return "", false
		}
		if u.Scheme == "file" {
			return filepath.FromSlash(u.Path), true
		}
		// A schema with an $id refers to its neighbours by that; they lie beside its file.
		if len(d.list) > 0 {
			base, err := url.Parse(d.list[0].id)
			if err == nil && base.Scheme == u.Scheme && base.Host == u.Host {
				folder := base.Path[:strings.LastIndexByte(base.Path, '/')+1]
				if rest, ok := strings.CutPrefix(u.Path, folder); ok && filepath.IsLocal(filepath.FromSlash(rest)) {
					return filepath.Join(filepath.Dir(abs), filepath.FromSlash(rest)), true
				}
			}
		}
		return "", false
	}
	d.read = func(at string) ([]byte, error) {
		file, ok := local(at)
		if !ok {
			return nil, errNotLocal
		}
		return os.ReadFile(file)
	}
	d.name = func(at string) string {
		file, ok := local(at)
		if !ok {
			return at
		}
		if rel, err := filepath.Rel(filepath.Dir(abs), file); err == nil && !filepath.IsAbs(path) {
			return filepath.Join(filepath.Dir(path), rel)
		}
		return file
	}
	return d, root, nil
}

// get returns the document at url, reading it the first time.
func (d *documents) get(at string) (*document, error) {
	for _, doc := range d.list {
		if doc.url == at {
			return doc, nil
		}
	}
	src, err := d.read(at)
	if err != nil {
		return nil, err
	}
	doc := &document{url: at, id: at, path: d.name(at), src: src, tape: tape{seed: maphash.MakeSeed()}}
	code, where := doc.tape.parse(src, schemaDepth)
	if code != "" {
		meaning := ""
		for _, m := range finding.Meanings {
			if m.Code == code {
				meaning = m.Text
			}
		}
		return nil, &Fault{File: doc.path, Line: doc.line(where), Code: "schema_syntax", Detail: "not strict JSON: " + meaning}
	}
	if id, ok := doc.member(0, "$id"); ok {
		doc.identify(id)
	} else if id, ok := doc.member(0, "id"); ok {
		doc.identify(id)
	}
	d.list = append(d.list, doc)
	return doc, nil
}

func (doc *document) identify(id int) {
	if s, ok := doc.string(id); ok {
		if at, err := join(doc.url, s); err == nil {
			doc.id, _, _ = strings.Cut(at, "#")
		}
	}
}

// load is what jsonschema/v5 reads schemas through.
func (d *documents) load(at string) (io.ReadCloser, error) {
	doc, err := d.get(at)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(doc.src)), nil
}

func (doc *document) line(offset int) int { return 1 + bytes.Count(doc.src[:offset], []byte("\n")) }

func (doc *document) lineOf(node int) int { return doc.line(int(doc.tape.nodes[node].start)) }

// string returns the text of a string node.
func (doc *document) string(at int) (string, bool) {
	if n := &doc.tape.nodes[at]; n.kind == kindString {
		return string(doc.tape.text(n)), true
	}
	return "", false
}

// members calls yield with each key and value node of an object.
func (doc *document) members(at int, yield func(key, value int)) {
	n := &doc.tape.nodes[at]
	if n.kind != kindObject {
		return
	}
	i := at + 1
	for range n.size() {
		yield(i, i+1)
		i = doc.tape.next(i + 1)
	}
}

// items calls yield with each item of an array.
func (doc *document) items(at int, yield func(item int)) {
	n := &doc.tape.nodes[at]
	if n.kind != kindArray {
		return
	}
	i := at + 1
	for range n.size() {
		yield(i)
		i = doc.tape.next(i)
	}
}

func (doc *document) member(at int, name string) (int, bool) { return doc.tape.member(at, name) }

// member returns the value of a member of the object at.
func (t *tape) member(at int, name string) (int, bool) {
	n := &t.nodes[at]
	if n.kind != kindObject {
		return 0, false
	}
	i := at + 1
	for range n.size() {
		if string(t.text(&t.nodes[i])) == name {
			return i + 1, true
		}
		i = t.next(i + 1)
	}
	return 0, false
}

// item returns an item of the array at.
func (t *tape) item(at, k int) (int, bool) {
	n := &t.nodes[at]
	if n.kind != kindArray || k < 0 || k >= n.size() {
		return 0, false
	}
	i := at + 1
	for range k {
		i = t.next(i)
	}
	return i, true
}

// resolve follows the tokens of a pointer as far as it leads.
func (t *tape) resolve(tokens []string) (at int, whole bool) {
	for _, token := range tokens {
		next, ok := t.member(at, token)
		if !ok {
			k, err := strconv.Atoi(token)
			if next, ok = t.item(at, k); err != nil || !ok {
				return at, false
			}
		}
		at = next
	}
	return at, true
}

// fragment splits the pointer in a URL fragment, where everything is escaped twice.
func fragment(pointer string) []string {
	if pointer == "" {
		return nil
	}
	tokens := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, token := range tokens {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		if plain, err := url.PathUnescape(token); err == nil {
			token = plain
		}
		tokens[i] = token
	}
	return tokens
}

// find returns where a compiled schema stands.
func (d *documents) find(location string) (doc *document, at int, ok bool) {
	base, pointer, _ := strings.Cut(location, "#")
	for _, doc := range d.list {
		if doc.url == base || doc.id == base {
			if at, whole := doc.tape.resolve(fragment(pointer)); whole {
				return doc, at, true
			}
		}
	}
	return nil, 0, false
}

// gap names the place of a compiled schema, and a keyword that it has.
func (d *documents) gap(location, keyword string) Gap {
	doc, at, ok := d.find(location)
	if !ok {
		return Gap{File: location, Keyword: keyword}
	}
	_, pointer, _ := strings.Cut(location, "#")
	if plain, err := url.PathUnescape(pointer); err == nil {
		pointer = plain
	}
	return Gap{File: doc.path, Line: doc.lineOf(at), Pointer: pointer, Keyword: keyword}
}

// order returns the names of the schema's properties in the order of the file.
func (d *documents) order(s *jsonschema.Schema) []string {
	if len(s.Properties) == 0 {
		return nil
	}
	names := make([]string, 0, len(s.Properties))
	if doc, at, ok := d.find(s.Location); ok {
		if properties, ok := doc.member(at, "properties"); ok {
			doc.members(properties, func(key, _ int) {
				name, _ := doc.string(key)
				if _, ok := s.Properties[name]; ok {
					names = append(names, name)
				}
			})
		}
	}
	if len(names) != len(s.Properties) { // two files with one $id, say
		names = names[:0]
		for name := range s.Properties {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	return names
}

// names lists every member name that stands in a schema file. They may be told; others are content.
func (d *documents) names() map[string]bool {
	names := map[string]bool{}
	for _, doc := range d.list {
		for i := range doc.tape.nodes {
			if s, ok := doc.string(i); ok {
				names[s] = true
			}
		}
	}
	return names
}

func join(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	r, err := url.Parse(ref)
	if err != nil {
		return "", err
	}
	return b.ResolveReference(r).String(), nil
}

// metaschema returns the URL under which jsonschema/v5 knows the draft that a document names; "" for a draft of the
// user's own.
func (d *documents) metaschema(doc *document) string {
	at, ok := doc.member(0, "$schema")
	if !ok {
		return d.draft.URL()
	}
	named, _ := doc.string(at)
	named = strings.TrimSuffix(strings.TrimSuffix(named, "/"), "#")
	if rest, ok := strings.CutPrefix(named, "http://"); ok {
		named = "https://" + rest
	}
	if named == "https://json-schema.org/schema" {
		return jsonschema.NewCompiler().Draft.URL()
	}
	for _, draft := range drafts {
		if draft.URL() == named {
			return named
		}
	}
	return ""
}

var drafts = []*jsonschema.Draft{
	jsonschema.Draft4, jsonschema.Draft6, jsonschema.Draft7, jsonschema.Draft2019, jsonschema.Draft2020,
}

// survey reads the schema file at url and every file that it refers to, and notes whatever is wrong with them, so
// that all of it can be told at once. jsonschema/v5 stops at the first fault.
func (d *documents) survey(at string) {
	if _, err := d.get(at); err != nil {
		d.unreadable(err, Fault{File: d.name(at), Code: "schema_missing"}, "")
		return
	}
	for next := 0; next < len(d.list); next++ {
		doc := d.list[next]
		d.grammar(doc)
		d.references(doc)
	}
}

// unreadable notes that a file could not be read.
func (d *documents) unreadable(err error, f Fault, ref string) {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		f = *fault
	case errors.Is(err, os.ErrNotExist):
		f.Detail = "no such schema file"
	default:
		var pathError *os.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		f.Detail = "cannot be read: " + err.Error()
	}
	if ref != "" && f.Code != "schema_syntax" {
		f.Detail = fmt.Sprintf("$ref %q: %s", ref, f.Detail)
	}
	if !slices.Contains(d.faults, f) {
		d.faults = append(d.faults, f)
	}
}

// grammar checks a document against the schema of its draft.
func (d *documents) grammar(doc *document) {
	at := d.metaschema(doc)
	if at == "" {
		return
	}
	meta, err := jsonschema.Compile(at)
	if err != nil {
		return // it is built in
	}
	var invalid *jsonschema.ValidationError
	if errors.As(meta.Validate(doc.tape.any(0)), &invalid) {
		d.invalid(doc, invalid)
	}
}

// invalid notes the faults of a schema that its draft does not allow, one for each place.
func (d *documents) invalid(doc *document, e *jsonschema.ValidationError) {
	best := map[string]*jsonschema.ValidationError{}
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		if len(e.Causes) == 0 {
			// A type that is no list and not in the list of types: the list says more.
			if old := best[e.InstanceLocation]; old == nil || keyword(old) == "type" {
				best[e.InstanceLocation] = e
			}
		}
	}
	walk(e)
	for location, leaf := range best {
		at, _ := doc.tape.resolve(fragment(location))
		d.faults = append(d.faults, Fault{
			File: doc.path, Line: doc.lineOf(at), Field: location, Code: "schema_invalid", Detail: leaf.Message,
		})
	}
}

// Where schemas stand in a schema, in any draft.
var (
	oneSchema = []string{
		"additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
		"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
	}
	schemaList = []string{"allOf", "anyOf", "items", "oneOf", "prefixItems"}
	schemaMap  = []string{"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)

// schemas calls visit with every schema in a document, and with the URL that references in it are relative to.
func (doc *document) schemas(at int, base string, visit func(at int, base string)) {
	if id, ok := doc.member(at, "$id"); ok && at != 0 {
		if s, ok := doc.string(id); ok {
			if inner, err := join(base, s); err == nil {
				base, _, _ = strings.Cut(inner, "#")
			}
		}
	}
	visit(at, base)
	doc.members(at, func(key, value int) {
		name, _ := doc.string(key)
		if slices.Contains(oneSchema, name) {
			doc.schemas(value, base, visit)
		}
		if slices.Contains(schemaList, name) {
			doc.items(value, func(item int) { doc.schemas(item, base, visit) })
		}
		if slices.Contains(schemaMap, name) {
			doc.members(value, func(_, member int) { doc.schemas(member, base, visit) })
		}
	})
}

// references draws in the files that a document refers to, and notes references that lead nowhere.
func (d *documents) references(doc *document) {
	doc.schemas(0, doc.id, func(_ int, base string) {
		if base != doc.id {
			doc.embedded = append(doc.embedded, base)
		}
	})
	doc.schemas(0, doc.id, func(at int, base string) {
		if ref, ok := doc.member(at, "$ref"); ok {
			if s, ok := doc.string(ref); ok {
				d.reference(doc, ref, base, s)
			}
		}
	})
}

// reference looks up one $ref. Anchors and schemas embedded in others are left to jsonschema/v5.
func (d *documents) reference(doc *document, at int, base, ref string) {
	target, err := join(base, ref)
	if err != nil {
		return // the schema of the draft says so
	}
	address, pointer, _ := strings.Cut(target, "#")
	if strings.HasPrefix(address, "urn:") || strings.Contains(address, "://json-schema.org/") {
		return
	}
	fault := Fault{File: doc.path, Line: doc.lineOf(at), Code: "schema_ref"}
	var to *document
	for _, known := range d.list {
		if slices.Contains(known.embedded, address) {
			return
		}
		if known.id == address || known.url == address {
			to = known
		}
	}
	if to == nil {
		if to, err = d.get(address); err != nil {
			d.unreadable(err, fault, ref)
			return
		}
	}
	if strings.HasPrefix(pointer, "/") && pointer != "/" {
		if _, whole := to.tape.resolve(fragment(pointer)); !whole {
			fault.Detail = fmt.Sprintf("$ref %q leads nowhere: there is no such place in %s", ref, to.path)
			d.faults = append(d.faults, fault)
		}
	}
}

// lineOfProperty returns where the first schema file declares a property; 0 when it does not.
func (d *documents) lineOfProperty(name string) int {
	line := 0
	doc := d.list[0]
	doc.schemas(0, doc.id, func(at int, _ string) {
		if properties, ok := doc.member(at, "properties"); ok && line == 0 {
			if value, ok := doc.member(properties, name); ok {
				line = doc.lineOf(value - 1)
			}
		}
	})
	return line
}
