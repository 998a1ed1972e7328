package modular

import (
	"encoding/binary"
	"errors"
)

// What follows reads and writes structs of Thrift's compact protocol
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) field by field, without knowing
// what they mean: a footer that is changed here and there keeps every field, also those of later versions of Parquet.

// kind is a type of the compact protocol.
type kind byte

const (
	kindTrue   kind = 1
	kindFalse  kind = 2
	kindI8     kind = 3
	kindI16    kind = 4
	kindI32    kind = 5
	kindI64    kind = 6
	kindDouble kind = 7
	kindBinary kind = 8
	kindList   kind = 9
	kindSet    kind = 10
	kindMap    kind = 11
	kindStruct kind = 12
	kindUUID   kind = 13
)

// deepest is how many structs, lists and maps may lie within each other. Parquet's own need six.
const deepest = 32

var errThrift = errors.New("broken Thrift")

// field is one field of a struct: its id, and its value as it is encoded, which is empty for booleans.
type field struct {
	id    int16
	kind  kind
	value []byte
}

// object is the fields of a struct, in their order.
type object []field

// parseObject reads a struct and returns how many bytes it takes. The values are parts of b.
func parseObject(b []byte) (object, int, error) {
	var out object
	n, err := eachField(b, 0, func(f field) { out = append(out, f) })
	return out, n, err
}

// eachField calls found, unless it is nil, for every field of a struct that lies under depth others.
func eachField(b []byte, depth int, found func(field)) (int, error) {
	if depth > deepest {
		return 0, errThrift
	}
	at, id := 0, int16(0)
	for {
		if at >= len(b) {
			return 0, errThrift
		}
		head := b[at]
		at++
		if head == 0 {
			return at, nil
		}
		if delta := int16(head >> 4); delta != 0 {
			id += delta
		} else {
			long, n := binary.Varint(b[at:])
			if n <= 0 || int64(int16(long)) != long {
				return 0, errThrift
			}
			id = int16(long)
			at += n
		}
		k := kind(head & 15)
		n := 0
		if k != kindTrue && k != kindFalse {
			var err error
			if n, err = extent(k, b[at:], depth); err != nil {
				return 0, err
			}
		}
		if found != nil {
			found(field{id, k, b[at : at+n]})
		}
		at += n
	}
}

// extent returns how many bytes a value takes. Booleans are taken as elements of a list, where they have a byte.
func extent(k kind, b []byte, depth int) (int, error) {
	n := 0
	switch k {
	case kindTrue, kindFalse, kindI8:
		n = 1
	case kindI16, kindI32, kindI64:
		_, n = binary.Varint(b)
		if n <= 0 {
			return 0, errThrift
		}
	case kindDouble:
		n = 8
	case kindUUID:
		n = 16
	case kindBinary:
		size, head := binary.Uvarint(b)
		if head <= 0 || size > uint64(len(b)-head) {
			return 0, errThrift
		}
		n = head + int(size)
	case kindStruct:
		return eachField(b, depth+1, nil)
	case kindList, kindSet:
		element, count, head, err := listHead(b)
		if err != nil {
			return 0, err
		}
		return run(b, head, count, depth, element)
	case kindMap:
		count, head := binary.Uvarint(b)
		if head <= 0 || count > uint64(len(b)) {
			return 0, errThrift
		}
		if count == 0 {
			return head, nil
		}
		if head >= len(b) {
			return 0, errThrift
		}
		kinds := b[head]
		return run(b, head+1, int(count), depth, kind(kinds>>4), kind(kinds&15))
	default:
		return 0, errThrift
	}
	if n > len(b) {
		return 0, errThrift
	}
	return n, nil
}

// run returns where count elements, each of values of these kinds, end that begin at b[at:].
func run(b []byte, at, count, depth int, kinds ...kind) (int, error) {
	if depth > deepest {
		return 0, errThrift
	}
	for range count {
		for _, k := range kinds {
			n, err := extent(k, b[at:], depth+1)
			if err != nil {
				return 0, err
			}
			at += n
		}
	}
	return at, nil
}

// listHead returns what a list holds and how many bytes that takes to say. Every element has one byte at least.
func listHead(b []byte) (element kind, count, head int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, errThrift
	}
	element, count, head = kind(b[0]&15), int(b[0]>>4), 1
	if count == 15 {
		long, n := binary.Uvarint(b[1:])
		if n <= 0 || long > uint64(len(b)) {
			return 0, 0, 0, errThrift
		}
		count, head = int(long), 1+n
	}
	if count > len(b)-head {
		return 0, 0, 0, errThrift
	}
	return element, count, head, nil
}

// at returns the first field with an id.
func (o object) at(id int16) (field, bool) {
	for _, f := range o {
		if f.id == id {
			return f, true
		}
	}
	return field{}, false
}

// number returns an integer field, 0 when it is not there.
func (o object) number(id int16) (int64, bool) {
	f, ok := o.at(id)
	if !ok || f.kind != kindI16 && f.kind != kindI32 && f.kind != kindI64 {
		return 0, false
	}
	v, _ := binary.Varint(f.value)
	return v, true
}

// bytes returns a binary field.
func (o object) bytes(id int16) ([]byte, bool) {
	f, ok := o.at(id)
	if !ok || f.kind != kindBinary {
		return nil, false
	}
	_, head := binary.Uvarint(f.value)
	return f.value[head:], true
}

// flag returns a boolean field, and otherwise if it is not there.
func (o object) flag(id int16, otherwise bool) bool {
	switch f, ok := o.at(id); {
	case ok && f.kind == kindTrue:
		return true
	case ok && f.kind == kindFalse:
		return false
	}
	return otherwise
}

// object returns a field that is a struct or a union.
func (o object) object(id int16) (object, bool) {
	f, ok := o.at(id)
	if !ok || f.kind != kindStruct {
		return nil, false
	}
	out, _, err := parseObject(f.value)
	return out, err == nil
}

// list returns the elements of a field that is a list of values of one kind.
func (o object) list(id int16, of kind) ([][]byte, bool) {
	f, ok := o.at(id)
	if !ok || f.kind != kindList {
		return nil, false
	}
	element, count, at, err := listHead(f.value)
	if err != nil || count > 0 && element != of {
		return nil, false
	}
	out := make([][]byte, 0, count)
	for range count {
		n, err := extent(element, f.value[at:], 0)
		if err != nil {
			return nil, false
		}
		out = append(out, f.value[at:at+n])
		at += n
	}
	return out, true
}

// without returns the fields but those with one of ids.
func (o object) without(ids ...int16) object {
	out := make(object, 0, len(o))
next:
	for _, f := range o {
		for _, id := range ids {
			if f.id == id {
				continue next
			}
		}
		out = append(out, f)
	}
	return out
}

// with returns the fields with one in place of those of its id, in order of id.
func (o object) with(f field) object {
	rest := o.without(f.id)
	at := len(rest)
	for at > 0 && rest[at-1].id > f.id {
		at--
	}
	return append(rest[:at:at], append(object{f}, rest[at:]...)...)
}

// appendObject appends the fields as a struct.
func appendObject(b []byte, o object) []byte {
	last := int16(0)
	for _, f := range o {
		b = appendField(b, last, f)
		last = f.id
	}
	return append(b, 0)
}

func appendField(b []byte, last int16, f field) []byte {
	if delta := int32(f.id) - int32(last); delta > 0 && delta < 16 {
		b = append(b, byte(delta)<<4|byte(f.kind))
	} else {
		b = binary.AppendVarint(append(b, byte(f.kind)), int64(f.id))
	}
	return append(b, f.value...)
}

func numberField(id int16, k kind, v int64) field {
	return field{id, k, binary.AppendVarint(nil, v)}
}

func structField(id int16, o object) field { return field{id, kindStruct, appendObject(nil, o)} }

func listField(id int16, of kind, elements [][]byte) field {
	head := []byte{byte(len(elements))<<4 | byte(of)}
	if len(elements) >= 15 {
		head = binary.AppendUvarint([]byte{15<<4 | byte(of)}, uint64(len(elements)))
	}
	for _, e := range elements {
		head = append(head, e...)
	}
	return field{id, kindList, head}
}
