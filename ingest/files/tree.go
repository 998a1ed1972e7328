package files

import (
	"encoding/json"
	"fmt"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/tasterhq/taster/schema/contract"
)

// element is one element of a Parquet schema with its place in the columns.
type element struct {
	*format.SchemaElement
	children []*element
	leaf     int // number of the first leaf column within
	leaves   int // how many there are
	def      int // definition level from which it is there
	rep      int // repetition level of its items, when it is repeated
}

func (e *element) is(r format.FieldRepetitionType) bool {
	return e.RepetitionType.Valid && e.RepetitionType.V == r
}

// deepest bounds the nesting of a Parquet schema.
const deepest = 200

// elementsOf makes a tree of the schema's elements, which come in depth-first order.
func elementsOf(list []format.SchemaElement) (*element, error) {
	at, leaves := 0, 0
	var build func(depth, def, rep int) (*element, error)
	build = func(depth, def, rep int) (*element, error) {
		if at >= len(list) || depth > deepest {
			return nil, fmt.Errorf("%w: its schema is no tree, or one of more than %d levels", ErrCorrupt, deepest)
		}
		e := &element{SchemaElement: &list[at], leaf: leaves, def: def, rep: rep}
		at++
		if depth > 0 && !e.is(format.Required) {
			e.def++
		}
		if depth > 0 && e.is(format.Repeated) {
			e.rep++
		}
		if e.Type.Valid {
			leaves++
		}
		for range e.NumChildren.V {
			child, err := build(depth+1, e.def, e.rep)
			if err != nil {
				return nil, err
			}
			if child.leaves > 0 { // a group without columns holds nothing
				e.children = append(e.children, child)
			}
		}
		e.leaves = leaves - e.leaf
		return e, nil
	}
	root, err := build(0, 0, 0)
	if err == nil && at != len(list) {
		err = fmt.Errorf("%w: its schema has elements outside of its tree", ErrCorrupt)
	}
	return root, err
}

// node is how values of a Parquet schema show in JSON.
type node struct {
	shape    shape
	scalar   scalar  // of a leaf
	children []*node // members of an object, the item of an array, key and value of pairs
	member   []byte  // "name":
	leaf     int     // number of the first leaf column within
	leaves   int
	optional bool
	required bool // as a member of an object: null is written, not left out
	def      int  // definition level from which it is there, when optional
	itemDef  int  // definition level from which an array or pairs have an item
	itemRep  int  // repetition level of a further item
}

type shape uint8

const (
	leaf shape = iota
	object
	array
	pairs
)

// treeOf makes the tree of a file's rows. The contract's schema tells which members must be there.
func treeOf(list []format.SchemaElement, c *contract.Contract) (*node, error) {
	root, err := elementsOf(list)
	if err != nil {
		return nil, err
	}
	var schema any
	if files := c.Schema.Files(); len(files) > 0 {
		_ = json.Unmarshal(files[0].Bytes, &schema) // it was compiled; beyond float64 it tells nothing of null anyway
	}
	return root.value(schema), nil
}

// field returns the node of e where it stands in a group; schema is the JSON Schema for it, nil when not known.
func (e *element) field(schema any) *node {
	if e.is(format.Repeated) {
		return e.items(e, e.value(itemSchema(schema)))
	}
	n := e.value(schema)
	n.optional, n.def = e.is(format.Optional), e.def
	return n
}

// items returns the node of an array whose items repeat with repeated.
func (e *element) items(repeated *element, item *node) *node {
	return &node{shape: array, children: []*node{item}, leaf: e.leaf, leaves: e.leaves, itemDef: repeated.def, itemRep: repeated.rep}
}

// value returns the node of e's values, whatever its repetition.
func (e *element) value(schema any) *node {
	if e.Type.Valid {
		return &node{shape: leaf, scalar: scalarOf(e.SchemaElement), leaf: e.leaf, leaves: 1}
	}
	if len(e.children) == 1 && e.children[0].is(format.Repeated) {
		repeated := e.children[0]
		switch {
		case isLogical[*format.ListType](e) || isConverted(e, deprecated.List):
			inner := itemSchema(schema)
			if repeated.wraps(e) {
				return e.items(repeated, repeated.children[0].field(inner))
			}
			return e.items(repeated, repeated.value(inner))
		case isLogical[*format.MapType](e) || isConverted(e, deprecated.Map) || isConverted(e, deprecated.MapKeyValue):
			if len(repeated.children) == 2 {
				n := e.items(repeated, repeated.children[0].field(nil))
				n.shape, n.children = pairs, append(n.children, repeated.children[1].field(nil))
				return n
			}
		}
	}
	n := &node{shape: object, leaf: e.leaf, leaves: e.leaves}
	properties, required := memberSchemas(schema)
	for _, child := range e.children {
		field := child.field(properties[child.Name])
		field.member = append(appendString(nil, child.Name), ':')
		field.required = required[child.Name]
		n.children = append(n.children, field)
	}
	return n
}

// wraps tells whether the repeated group in a list is only there to be repeated, and its child is the item. Older
// writers repeated the item itself (Parquet format, LogicalTypes.md, "Backward-compatibility rules").
func (e *element) wraps(list *element) bool {
	return len(e.children) == 1 && !e.children[0].is(format.Repeated) && e.Name != "array" && e.Name != list.Name+"_tuple"
}

func isLogical[T any](e *element) bool {
	_, ok := e.LogicalType.Value.(T)
	return ok
}

func isConverted(e *element, t deprecated.ConvertedType) bool {
	return e.ConvertedType.Valid && e.ConvertedType.V == t
}

func memberSchemas(schema any) (properties map[string]any, required map[string]bool) {
	s, _ := schema.(map[string]any)
	properties, _ = s["properties"].(map[string]any)
	list, _ := s["required"].([]any)
	required = map[string]bool{}
	for _, name := range list {
		if name, ok := name.(string); ok {
			required[name] = true
		}
	}
	return properties, required
}

func itemSchema(schema any) any {
	s, _ := schema.(map[string]any)
	return s["items"]
}
