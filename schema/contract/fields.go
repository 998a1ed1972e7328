package contract

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// part is what a role wants of its field's type.
type part uint8

const (
	partID      part = iota // a text or an integer
	partText                // a text
	partLabel               // a text, an integer or a truth value
	partFeature             // a number; or an array of numbers, which then is the only feature
	partNumber              // a number
	partVector              // an array of numbers
)

// compile reads the schema, checks every pointer against its fields, and keeps the compiled schema in the contract
// when there is no fault.
func (d *draft) compile() {
	c := d.contract
	if c.SchemaPath == "" {
		return
	}
	options := validate.Options{Bytes: c.Limits.Bytes, Depth: c.Limits.Depth}
	// Without Vectors and Drop at first: a pointer that leads nowhere shall be told with its place in the contract.
	schema, faults := validate.Compile(c.SchemaPath, options)
	if len(faults) > 0 {
		if reason := strict.CheckFile(c.SchemaPath); reason != "" {
			d.schema.Fault(strict.FileMissing, "the schema file %s cannot be read: %s", strict.Quote(c.SchemaPath), reason)
			return
		}
		d.doc.Add(faults...)
		return
	}
	d.checkRoles(schema)
	d.checkConflicts(schema)
	if len(d.doc.Faults()) > 0 {
		return
	}
	for _, pointer := range []string{c.Roles.Embedding, c.Roles.Gradient} {
		if pointer != "" {
			options.Vectors = append(options.Vectors, pointer)
		}
	}
	options.Drop = c.Sanitize.Drop
	c.Schema, faults = validate.Compile(c.SchemaPath, options)
	d.doc.Add(faults...)
}

// find looks a pointer up in the schema; a pointer that leads nowhere is a fault that names the nearest field.
func (p place) find(schema *validate.Schema) (validate.Field, bool) {
	field, ok := schema.Field(p.pointer)
	if !ok {
		detail := ""
		if near := strict.Nearest(p.pointer, pointers("", schema.Columns().Fields())); near != "" {
			detail = fmt.Sprintf("; the nearest field is %q", near)
		}
		p.Fault(PointerUnknown, "%s points at nothing: the schema has no such field%s", p.Shown(), detail)
	}
	return field, ok
}

// pointers lists the pointers to all fields that columns are made of.
func pointers(parent string, fields []arrow.Field) []string {
	var all []string
	for _, field := range fields {
		if parent == "" && field.Name == validate.Extra {
			continue
		}
		pointer := parent + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(field.Name)
		all = append(all, pointer)
		if inner, ok := field.Type.(*arrow.StructType); ok {
			all = append(all, pointers(pointer, inner.Fields())...)
		}
	}
	return all
}

func (d *draft) checkRoles(schema *validate.Schema) {
	var features []role
	vectors := false
	for _, r := range d.roles {
		field, ok := r.find(schema)
		if !ok {
			continue
		}
		want := ""
		text := isText(field)
		whole := arrow.IsInteger(field.Type.ID())
		number := whole || arrow.IsFloating(field.Type.ID())
		vector := isVector(field)
		switch r.part {
		case partID:
			if !text && !whole {
				want = "a string or an integer"
			}
		case partText:
			if !text {
				want = "a string"
			}
		case partLabel:
			if !text && !whole && field.Type.ID() != arrow.BOOL {
				want = "a string, an integer or a boolean"
			}
		case partFeature:
			if !number && !vector {
				want = "a number, or an array of numbers"
			}
			features = append(features, r)
			vectors = vectors || vector
		case partNumber:
			if !number {
				want = "a number"
			}
		case partVector:
			if !vector {
				want = "an array of numbers"
			}
		}
		if want != "" {
			r.Fault(RoleType, "%s is %s in the schema; this role wants %s", r.Shown(), describe(field), want)
		}
	}
	if vectors && len(features) > 1 {
		features[1].Fault(RoleType, "features are several numbers or one array of numbers, not both")
	}
}

func isText(f validate.Field) bool { return f.Type.ID() == arrow.STRING && !f.JSON }

func isVector(f validate.Field) bool {
	return f.Elem != nil && (arrow.IsInteger(f.Elem.ID()) || arrow.IsFloating(f.Elem.ID()))
}

// describe names a column's type in the words of JSON Schema.
func describe(f validate.Field) string {
	switch id := f.Type.ID(); {
	case f.JSON:
		return "of no single type, or free-form"
	case isText(f):
		return "a string"
	case isVector(f):
		return "an array of numbers"
	case f.Elem != nil:
		return "an array"
	case id == arrow.STRUCT:
		return "an object"
	case id == arrow.BOOL:
		return "a boolean"
	case arrow.IsInteger(id):
		return "an integer"
	case arrow.IsFloating(id):
		return "a number"
	}
	return "stored as " + f.Type.String()
}

// checkConflicts looks at the pointers of restricted and sanitize, and refuses to drop what is needed elsewhere: a
// field, one inside it, or one that it is inside of.
func (d *draft) checkConflicts(schema *validate.Schema) {
	for _, p := range d.restricted {
		p.find(schema)
	}
	for _, p := range d.tokenize {
		p.find(schema)
	}
	for _, drop := range d.drop {
		if _, ok := drop.find(schema); !ok {
			continue
		}
		for _, r := range d.roles {
			if within(r.pointer, drop.pointer) {
				drop.Fault(FieldConflict, "%s is dropped and is needed for the role on line %d", drop.Shown(), r.Line())
			}
		}
		for _, other := range append(d.restricted, d.tokenize...) {
			if within(other.pointer, drop.pointer) {
				drop.Fault(FieldConflict, "%s is dropped and is named on line %d as a field to keep", drop.Shown(), other.Line())
			}
		}
	}
}

// within says whether a field is outer or is inside outer.
func within(inner, outer string) bool {
	a, _ := record.Tokens(inner)
	b, _ := record.Tokens(outer)
	if len(a) < len(b) {
		return false
	}
	for i := range b {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
