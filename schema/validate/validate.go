// Package validate turns bytes into checked Arrow columns: strict JSON, limits and a JSON Schema on one side, a
// typed row on the other, or a named reason why not.
//
// The Decoder is the seam between bytes and columns. It is given one message at a time, and either a row was
// added to every column or none was changed and the Refusal says why.
//
// Four words recur. The tape is a JSON text taken apart into one flat run of nodes. A plan is what all schemas that
// apply to one place in a record demand together, and the column that the place's values go to. A condition is a demand
// that takes a second look at the place, such as anyOf. A verdict is whether a record is valid; it is always that of
// jsonschema/v5, which also gives it where a schema uses a keyword that plans do not check, and names the condition
// that was not met. How schemas become columns is told in docs/schema-mapping.md.
//
// A record is read once: the plan is made into a program, and a pass over the bytes checks them and fills the columns as
// it goes. Whatever the pass cannot vouch for, it leaves, and the tape and the plan begin anew: they are the definition
// of verdicts, reasons and values, and the pass only ever accepts what they do. It uses AVX-512 or AVX2 where the
// processor has them; results are the same everywhere.
//
// Work is linear in the message, hostile ones included, but for what jsonschema/v5 itself does and for alternatives in a
// schema that contains itself. Nothing here changes a value: what is stored is what was published, in the column's
// type. Cleaning, classification and judging come later and elsewhere.
package validate

import (
	"fmt"

	"github.com/tasterhq/taster/schema/finding"
)

// Options say what, beside the schema itself, shapes the columns.
type Options struct {
	Bytes   int      // limits.bytes; 0: 1 MiB
	Depth   int      // limits.depth; 0: 128
	Vectors []string // pointers to arrays of numbers that are stored as List<float32>
	Drop    []string // pointers to fields that are checked and not stored
}

// Refusal says why a message did not become a row. It never holds record content: Field is built from names that
// stand in the schema, and a field that the schema does not know is told by its parent.
type Refusal struct {
	Code  finding.Code
	Field string // RFC 6901 pointer; "" is the whole record
	At    int64  // byte offset in the value; -1 when there is none
}

// Error implements error.
func (r *Refusal) Error() string {
	field := r.Field
	if field == "" {
		field = "the record"
	}
	if r.At < 0 {
		return fmt.Sprintf("%s at %s", r.Code, field)
	}
	return fmt.Sprintf("%s at %s, byte %d", r.Code, field, r.At)
}

// Fault is one thing that is wrong with a contract, a schema or a configuration, with its place.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"` // 1-based; 0 when unknown
	Field  string `json:"field,omitempty"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Error implements error.
func (f Fault) Error() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d", place, f.Line)
	}
	if f.Field != "" {
		return fmt.Sprintf("%s: %s: %s", place, f.Field, f.Detail)
	}
	return fmt.Sprintf("%s: %s", place, f.Detail)
}

// Gap is a place in a schema that no plan checks, and the keyword that is the reason.
type Gap struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 1-based; 0 when unknown
	Pointer string `json:"pointer"`        // of the schema that has the keyword, within the file: RFC 6901; "" is the whole file
	Keyword string `json:"keyword"`        // or what else it is: "recursion", "size"
	Record  bool   `json:"record"`         // jsonschema/v5 has to see whole records for it, not this place of them alone
}

// String tells a person what is left out, and where it stands.
func (g Gap) String() string {
	if g.Line == 0 {
		return g.Keyword + " at " + g.File
	}
	return fmt.Sprintf("%s at %s:%d", g.Keyword, g.File, g.Line)
}
