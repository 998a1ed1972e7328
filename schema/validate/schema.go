package validate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// Names of columns and of field metadata.
const (
	// Extra is the last column of every schema: the fields that the schema does not declare but allows, as one JSON
	// object from RFC 6901 pointer to value; null where a record has none.
	Extra = "taster_extra"
	// MetaJSON marks a column of JSON text: its value is "true".
	MetaJSON = "taster:json"
	// MetaPointer holds the RFC 6901 pointer of a column.
	MetaPointer = "taster:pointer"

	reserved = "taster_" // how no field of a record may begin
)

// The limits that hold where Options name none, and the largest ones that may be named.
const (
	DefaultBytes = 1 << 20
	DefaultDepth = 128
	MaxBytes     = 256 << 20
	MaxDepth     = 10_000
)

// Schema is a compiled JSON Schema with the columns that follow from it. It is safe for concurrent use.
type Schema struct {
	limits   Options
	rules    *jsonschema.Schema
	plan     *plan
	compiled bool // the plan has neither gaps nor conditions
	whole    bool // jsonschema/v5 has to see every record
	// recursive: a plan contains itself, and what a record costs is bounded by what is kept of it (see judging).
	recursive bool
	gaps      []Gap           // what the plan does not check
	memory    int             // members whose order a Decoder remembers
	names     map[string]bool // what stands in the schema files and may therefore be told

	layouts []layout // by slot; the last one is taster_extra
	top     []int    // slots of the columns
	columns *arrow.Schema
	program *program // nil when the pass has nothing to offer
	fields  map[string]Field
	files   []File

	checkers sync.Pool
}

// File is one schema file that was drawn in.
type File struct {
	Path  string // as Compile's path was given, others relative to it
	Bytes []byte
}

// Field describes what a pointer names.
type Field struct {
	Type     arrow.DataType // of the column; of the column that there would be, when Dropped
	Nullable bool
	Elem     arrow.DataType // of a list's items; nil when Type is no list
	Length   int            // how many items every array has (minItems equals maxItems); -1 when that varies
	JSON     bool           // the column holds JSON text
	Dropped  bool           // checked, and not stored
}

// Compile reads the schema file at path and every file that it refers to. Only local files are read. All faults are
// told at once; the Schema is nil when there is one.
func Compile(path string, opt Options) (*Schema, []Fault) {
	fault := func(code, field, format string, a ...any) []Fault {
		return []Fault{{File: path, Field: field, Code: code, Detail: fmt.Sprintf(format, a...)}}
	}
	if opt.Bytes < 0 || opt.Bytes > MaxBytes {
		return nil, fault("limits", "", "a record may have at most %d bytes, which is the most that a column can take", MaxBytes)
	}
	if opt.Depth < 0 || opt.Depth > MaxDepth {
		return nil, fault("limits", "", "a record may be nested at most %d deep", MaxDepth)
	}
	docs, url, err := localDocuments(path)
	if err != nil {
		return nil, fault("schema_missing", "", "%v", err)
	}
	docs.survey(url)
	if len(docs.faults) > 0 {
		slices.SortFunc(docs.faults, func(a, b Fault) int {
			return strings.Compare(fmt.Sprintf("%s:%09d:%s:%s", a.File, a.Line, a.Field, a.Detail),
				fmt.Sprintf("%s:%09d:%s:%s", b.File, b.Line, b.Field, b.Detail))
		})
		return nil, slices.Compact(docs.faults)
	}
	s, err := compile(url, docs, opt)
	if err != nil {
		return nil, []Fault{docs.rejected(path, err)}
	}
	if faults := s.store(docs, path, opt); len(faults) > 0 {
		return nil, faults
	}
	return s, nil
}

// compile makes the part of a Schema that gives verdicts.
func compile(url string, docs *documents, opt Options) (s *Schema, err error) {
	defer func() {
		// jsonschema/v5 panics on a pattern that Go cannot compile when nothing told it that it is one.
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%v", r)
		}
	}()
	if opt.Bytes == 0 {
		opt.Bytes = DefaultBytes
	}
	if opt.Depth == 0 {
		opt.Depth = DefaultDepth
	}
	compiler := jsonschema.NewCompiler()
	compiler.Draft, compiler.LoadURL = docs.draft, docs.load
	rules, err := compiler.Compile(url)
	if err != nil {
		return nil, err
	}
	b := planner{
		docs: docs, cyclic: map[*jsonschema.Schema]bool{}, shared: map[string]*plan{}, ids: map[*jsonschema.Schema]int{},
		evaluated: map[*jsonschema.Schema]*evaluated{},
	}
	for _, doc := range docs.list {
		if docs.metaschema(doc) == "" {
			b.gaps = append(b.gaps, Gap{File: doc.path, Line: 1, Keyword: "$schema", Record: true})
			b.whole = true
		}
	}
	plan := b.root(rules)
	if b.plans > maxPlans {
		return nil, fmt.Errorf("its $refs blow it up to more than %d fields", maxPlans)
	}
	if b.endless() {
		b.leave(rules, "recursion")
	}
	return &Schema{
		limits: opt, rules: rules, plan: plan, compiled: len(b.gaps) == 0 && !b.conditional, whole: b.whole, recursive: recurs(plan), gaps: b.gaps, memory: b.slots, names: docs.names(),
	}, nil
}

// rejected turns what jsonschema/v5 says of a schema into a Fault.
func (d *documents) rejected(path string, err error) Fault {
	var fault *Fault
	if errors.As(err, &fault) {
		return *fault
	}
	f := Fault{File: path, Code: "schema_invalid", Detail: strings.TrimPrefix(err.Error(), "jsonschema: ")}
	var wrapped *jsonschema.SchemaError
	if errors.As(err, &wrapped) && wrapped.Err != nil {
		f.Detail = strings.TrimPrefix(wrapped.Err.Error(), "jsonschema: ")
	}
	if strings.HasSuffix(f.Detail, " not found") {
		f.Code = "schema_ref"
	}
	// It names the reference, not where that stands.
	for _, doc := range d.list {
		doc.schemas(0, doc.id, func(at int, _ string) {
			ref, ok := doc.member(at, "$ref")
			if !ok || f.Line > 0 {
				return
			}
			if s, _ := doc.string(ref); s != "" && strings.Contains(f.Detail, s) {
				f.File, f.Line = doc.path, doc.lineOf(ref)
			}
		})
	}
	return f
}

// storer lays out the columns of a Schema.
type storer struct {
	*Schema
	file    string
	vectors map[string]bool
	drop    map[string]bool
	faults  []Fault
}

// store derives the columns from the plan.
func (s *Schema) store(docs *documents, path string, opt Options) []Fault {
	st := &storer{Schema: s, file: path, vectors: map[string]bool{}, drop: map[string]bool{}}
	s.fields = map[string]Field{}
	for _, p := range opt.Vectors {
		st.vectors[p] = true
	}
	for _, p := range opt.Drop {
		st.drop[p] = true
	}
	if s.plan.holds&s.plan.types&maskObject == 0 {
		return []Fault{{File: path, Line: 1, Code: "schema_root", Detail: "a record is an object, and this schema allows none"}}
	}
	var fields []arrow.Field
	s.plan.store, s.plan.slot = storeStruct, rootSlot
	for i := range s.plan.props {
		prop := &s.plan.props[i]
		if !prop.declared {
			continue
		}
		if strings.HasPrefix(prop.name, reserved) {
			st.fault(Fault{
				File: path, Line: docs.lineOfProperty(prop.name), Field: pointerTo("", prop.name), Code: "schema_name",
				Detail: "field names that begin with taster_ are taster's own; rename the property",
			})
			continue
		}
		f := st.place(prop.plan, prop.name, pointerTo("", prop.name), !prop.required, false)
		if prop.plan.slot != noSlot {
			fields = append(fields, f)
			s.top = append(s.top, prop.plan.slot)
		}
	}
	for _, named := range []struct {
		list       []string
		code, what string
	}{{opt.Vectors, "schema_vector", "vector"}, {opt.Drop, "schema_drop", "drop"}} {
		for _, p := range named.list {
			if _, ok := s.fields[p]; !ok {
				st.fault(Fault{File: path, Field: p, Code: named.code, Detail: named.what + ": " + s.nowhere(p)})
			}
		}
	}
	s.top = append(s.top, len(s.layouts))
	s.layouts = append(s.layouts, layout{store: storeText, dtype: arrow.BinaryTypes.String, nullable: true})
	fields = append(fields, arrow.Field{
		Name: Extra, Type: arrow.BinaryTypes.String, Nullable: true,
		Metadata: arrow.NewMetadata([]string{MetaJSON}, []string{"true"}),
	})
	s.columns = arrow.NewSchema(fields, nil)
	if !s.whole && len(st.faults) == 0 {
		s.program = assemble(s.plan)
	}
	for _, doc := range docs.list {
		s.files = append(s.files, File{doc.path, doc.src})
	}
	slices.SortFunc(s.files[1:], func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return st.faults
}

func (st *storer) fault(f Fault) { st.faults = append(st.faults, f) }

// nowhere says why a pointer names no field.
func (s *Schema) nowhere(pointer string) string {
	for at := pointer; at != ""; {
		at = at[:max(0, strings.LastIndexByte(at, '/'))]
		if f, ok := s.fields[at]; ok {
			switch {
			case f.JSON:
				return at + " is kept as JSON text and has no fields of its own"
			case f.Elem != nil:
				return at + " is an array; pointers lead through objects only"
			}
			return at + " has no such property in the schema"
		}
	}
	return "the schema has no such property"
}

// shape says how the values of a plan are stored.
func shape(p *plan) store {
	switch m := p.types & p.holds &^ maskNull; {
	case m == 0:
		return storeJSON
	case m == maskString:
		return storeText
	case m == maskInt:
		return storeInt
	case m&^maskNumber == 0:
		return storeFloat
	case m&^maskBool == 0:
		return storeBool
	case m == maskObject && slices.ContainsFunc(p.props, func(prop property) bool { return prop.declared }):
		return storeStruct
	case m == maskArray && p.items != nil && shape(p.items) != storeJSON:
		return storeList
	}
	return storeJSON
}

// place gives p a column, and returns its Arrow field. The pointer is "" inside arrays, where none lead.
func (st *storer) place(p *plan, name, pointer string, optional, dropped bool) arrow.Field {
	dropped = dropped || st.drop[pointer]
	optional = optional || p.types&p.holds&maskNull != 0
	p.store = shape(p)
	var l layout
	var keys, values []string
	described := Field{Length: -1}
	switch p.store {
	case storeText:
		l.dtype = arrow.BinaryTypes.String
	case storeJSON:
		l.dtype = arrow.BinaryTypes.String
		keys, values = []string{MetaJSON}, []string{"true"}
		described.JSON = true
	case storeInt:
		l.dtype = arrow.PrimitiveTypes.Int64
	case storeFloat:
		l.dtype = arrow.PrimitiveTypes.Float64
	case storeBool:
		l.dtype = arrow.FixedWidthTypes.Boolean
	case storeStruct:
		var fields, all []arrow.Field
		for i := range p.props {
			prop := &p.props[i]
			if !prop.declared {
				continue
			}
			inner := ""
			if pointer != "" {
				inner = pointerTo(pointer, prop.name)
			}
			// Where the struct is null its children are.
			f := st.place(prop.plan, prop.name, inner, optional || !prop.required, dropped)
			all = append(all, f)
			if prop.plan.slot != noSlot {
				fields = append(fields, f)
				l.children = append(l.children, prop.plan.slot)
			}
		}
		if len(fields) == 0 { // Parquet has no struct without children
			dropped, fields = true, all
		}
		l.dtype = arrow.StructOf(fields...)
	case storeList:
		if p.minItems == p.maxItems {
			described.Length = p.minItems
		}
		if st.vectors[pointer] {
			p.store, p.vector = storeVector, true
			if shape(p.items) != storeInt && shape(p.items) != storeFloat {
				st.fault(Fault{
					File: st.file, Field: pointer, Code: "schema_vector",
					Detail: "a vector must be an array of numbers, and the schema has an array of " + kindName(p.items),
				})
			}
			l.dtype = arrow.ListOfNonNullable(arrow.PrimitiveTypes.Float32)
			described.Elem = arrow.PrimitiveTypes.Float32
			break
		}
		item := st.place(p.items, "item", "", false, dropped)
		if p.items.slot != noSlot {
			l.children = []int{p.items.slot}
		}
		l.dtype = arrow.ListOfField(item)
		described.Elem = item.Type
	}
	if st.vectors[pointer] && p.store != storeVector {
		st.fault(Fault{
			File: st.file, Field: pointer, Code: "schema_vector",
			Detail: "a vector must be an array of numbers, and the schema has " + kindName(p),
		})
	}
	l.store, l.nullable = p.store, optional
	described.Type, described.Nullable, described.Dropped = l.dtype, optional, dropped
	p.slot = noSlot
	if !dropped {
		p.slot = len(st.layouts)
		st.layouts = append(st.layouts, l)
	}
	if pointer != "" {
		st.fields[pointer] = described
		keys, values = append(keys, MetaPointer), append(values, pointer)
	}
	return arrow.Field{Name: name, Type: l.dtype, Nullable: optional, Metadata: arrow.NewMetadata(keys, values)}
}

// kindName tells what a plan's place holds, for a person.
func kindName(p *plan) string {
	switch shape(p) {
	case storeText:
		return "strings"
	case storeInt, storeFloat:
		return "numbers"
	case storeBool:
		return "booleans"
	case storeStruct:
		return "objects"
	case storeList:
		return "arrays"
	}
	return "values of no single type"
}

// Columns returns the Arrow schema of the rows that a Decoder makes.
func (s *Schema) Columns() *arrow.Schema { return s.columns }

// Files returns the schema file and then the files that it draws in, by path.
func (s *Schema) Files() []File { return s.files }

// Field tells what an RFC 6901 pointer names, and whether it names anything that the schema declares. Pointers lead
// through objects, never into arrays or JSON text.
func (s *Schema) Field(pointer string) (Field, bool) {
	f, ok := s.fields[pointer]
	return f, ok
}

// Coverage lists every place of the schema that has to be left to jsonschema/v5, in the order in which they were met;
// none when the schema is compiled whole.
func (s *Schema) Coverage() []Gap { return slices.Clone(s.gaps) }
