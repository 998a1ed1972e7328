package sanitize

import (
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/validate"
)

// place says where in the batch a column stands. Its name is a name of the schema.
type place struct {
	name    string
	parent  *place
	offsets []int32 // of a list: where the items of each of its values end in the child; nil for a struct
	width   int     // of a fixed-size list; 0 otherwise
}

// row follows a value's index up to the row of the batch that it belongs to.
func (p *place) row(i int) int {
	for at := p; at != nil; at = at.parent {
		switch {
		case at.offsets != nil:
			i = sort.Search(len(at.offsets)-1, func(k int) bool { return int(at.offsets[k+1]) > i })
		case at.width > 0:
			i /= at.width
		}
	}
	return i
}

// pointer returns the RFC 6901 pointer of the column; items of a list have the pointer of the list.
func (p *place) pointer() string {
	if p == nil {
		return ""
	}
	if p.name == "" {
		return p.parent.pointer()
	}
	return p.parent.pointer() + "/" + strings.ReplaceAll(strings.ReplaceAll(p.name, "~", "~0"), "/", "~1")
}

// whole tells whether an array and all within it begin and end with their buffers, so that a value's index is its
// index in the child too. What a Decoder hands over is; a slice is not.
func whole(data arrow.ArrayData) bool {
	if data.Offset() != 0 {
		return false
	}
	for _, child := range data.Children() {
		n := data.Len()
		switch t := data.DataType().(type) {
		case *arrow.FixedSizeListType:
			n *= int(t.Len())
		case *arrow.ListType:
			n = 0
			if ends := data.Buffers()[1]; ends != nil && data.Len() > 0 {
				offsets := arrow.Int32Traits.CastFromBytes(ends.Bytes())
				if n = int(offsets[data.Len()]); offsets[0] != 0 {
					return false
				}
			}
		}
		if child.Len() != n || !whole(child) {
			return false
		}
	}
	return true
}

// column treats one column with all that is in it. It returns nil when nothing in it changes, or else a new column
// that shares every buffer that stayed the same.
func (s *Sanitizer) column(column arrow.Array, field arrow.Field, at *place) arrow.Array {
	switch c := column.(type) {
	case *array.String:
		mark, ok := field.Metadata.GetValue(validate.MetaJSON)
		return s.strings(c, ok && mark == "true", at)
	case *array.Struct:
		children := make([]arrow.Array, c.NumField())
		for i, f := range c.DataType().(*arrow.StructType).Fields() {
			children[i] = s.column(c.Field(i), f, &place{name: f.Name, parent: at})
		}
		return rebuilt(column, children)
	case *array.List:
		if c.Len() == 0 {
			return nil
		}
		item := c.DataType().(*arrow.ListType).ElemField()
		return s.items(column, c.ListValues(), item, &place{parent: at, offsets: c.Offsets()[:c.Len()+1]})
	case *array.FixedSizeList:
		t := c.DataType().(*arrow.FixedSizeListType)
		return s.items(column, c.ListValues(), t.ElemField(), &place{parent: at, width: int(t.Len())})
	}
	return nil
}

func (s *Sanitizer) items(column, values arrow.Array, field arrow.Field, at *place) arrow.Array {
	return rebuilt(column, []arrow.Array{s.column(values, field, at)})
}

// rebuilt returns column with the children that changed put in; nil when none did.
func rebuilt(column arrow.Array, changed []arrow.Array) arrow.Array {
	if !slices.ContainsFunc(changed, func(a arrow.Array) bool { return a != nil }) {
		return nil
	}
	data := column.Data()
	children := slices.Clone(data.Children())
	for i, c := range changed {
		if c != nil {
			children[i] = c.Data()
			defer c.Release()
		}
	}
	made := array.NewData(data.DataType(), data.Len(), data.Buffers(), children, data.NullN(), data.Offset())
	defer made.Release()
	return array.MakeFromData(made)
}

// strings treats one string column, which may be JSON text.
func (s *Sanitizer) strings(column *array.String, json bool, at *place) arrow.Array {
	n := column.Len()
	if n == 0 {
		return nil
	}
	offsets := column.ValueOffsets()
	values := column.ValueBytes() // begins at offsets[0]
	base := offsets[0]
	s.edits, s.text = s.edits[:0], s.text[:0]
	for i := range n {
		in := values[offsets[i]-base : offsets[i+1]-base]
		flags := look(in) & s.filter
		if flags == 0 && !json || len(in) == 0 || column.IsNull(i) {
			continue
		}
		var out Outcome
		var result []byte
		if json {
			if flags == 0 && !escapes(in) {
				continue
			}
			result = s.inJSON(in, &out)
		} else {
			result = s.rules(in, flags, &out)
		}
		if out == (Outcome{}) {
			continue
		}
		out.Row, out.Field = at.row(i), at.pointer()
		s.outcomes = append(s.outcomes, out)
		if unsafe.SliceData(result) != unsafe.SliceData(in) || len(result) != len(in) {
			from := len(s.text)
			s.text = append(s.text, result...)
			s.edits = append(s.edits, edit{i, from, len(s.text)})
		}
	}
	if len(s.edits) == 0 {
		return nil
	}
	return s.edited(column)
}

// edited returns the column with s.edits made.
func (s *Sanitizer) edited(column *array.String) arrow.Array {
	n := column.Len()
	offsets, values := column.ValueOffsets(), column.ValueBytes()
	base := offsets[0]
	size := len(values)
	for _, e := range s.edits {
		size += e.to - e.from - int(offsets[e.at+1]-offsets[e.at])
	}
	ends := memory.NewResizableBuffer(memory.DefaultAllocator)
	ends.Resize(arrow.Int32Traits.BytesRequired(n + 1))
	newOffsets := arrow.Int32Traits.CastFromBytes(ends.Bytes())
	bytes := memory.NewResizableBuffer(memory.DefaultAllocator)
	bytes.Resize(size)
	into := bytes.Bytes()

	filled, next := 0, 0 // bytes of into, values of column
	copyUntil := func(stop int) {
		shift := int32(filled) - offsets[next]
		filled += copy(into[filled:], values[offsets[next]-base:offsets[stop]-base])
		for i := next; i < stop; i++ {
			newOffsets[i+1] = offsets[i+1] + shift
		}
		next = stop
	}
	newOffsets[0] = 0
	for _, e := range s.edits {
		copyUntil(e.at)
		filled += copy(into[filled:], s.text[e.from:e.to])
		newOffsets[e.at+1] = int32(filled)
		next = e.at + 1
	}
	copyUntil(n)

	made := array.NewData(column.DataType(), n, []*memory.Buffer{column.Data().Buffers()[0], ends, bytes}, nil, column.NullN(), 0)
	ends.Release()
	bytes.Release()
	defer made.Release()
	return array.NewStringData(made)
}

// merged puts the outcomes of all columns in order of their rows, one for each row.
func (s *Sanitizer) merged() []Outcome {
	slices.SortStableFunc(s.outcomes, func(a, b Outcome) int { return a.Row - b.Row })
	kept := s.outcomes[:0]
	for _, o := range s.outcomes {
		if len(kept) == 0 || kept[len(kept)-1].Row != o.Row {
			kept = append(kept, o)
			continue
		}
		last := &kept[len(kept)-1]
		if last.Refuse == "" && o.Refuse != "" {
			last.Refuse, last.Field = o.Refuse, o.Field
		}
		last.Redacted += o.Redacted
		last.Kept += o.Kept
		last.Hidden += o.Hidden
		last.Suspect = last.Suspect || o.Suspect
	}
	return kept
}
