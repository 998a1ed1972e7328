package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// content is the digest of plaintext that manifests hold: the same for the same rows, whatever the batches, row
// groups, encodings and keys. docs/landing-zone.md defines it.
type content struct {
	names   []string
	columns []hash.Hash
	buf     []byte
}

func newContent(s *arrow.Schema) *content {
	c := &content{}
	for _, f := range s.Fields() {
		c.names = append(c.names, f.Name)
		c.columns = append(c.columns, sha256.New())
	}
	return c
}

// add appends an array to a column.
func (c *content) add(column int, arr arrow.Array) error {
	value, err := encoder(arr)
	if err != nil {
		return fmt.Errorf("column %s: %w", c.names[column], err)
	}
	const full = 32 << 10
	h, buf := c.columns[column], c.buf[:0]
	for i := range arr.Len() {
		if buf = value(buf, i); len(buf) >= full {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	c.buf = buf[:0]
	return nil
}

// sum returns the digest in hex.
func (c *content) sum() string {
	all := sha256.New()
	for i, h := range c.columns {
		all.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(c.names[i]))))
		all.Write([]byte(c.names[i]))
		all.Write(h.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil))
}

// encoder returns what appends value i of arr in canonical form. It is made once for an array, so that nothing is
// looked up for a value.
func encoder(arr arrow.Array) (func(buf []byte, i int) []byte, error) {
	plain, err := valueEncoder(arr)
	if err != nil {
		return nil, err
	}
	if arr.NullN() == 0 {
		return func(buf []byte, i int) []byte { return plain(append(buf, 1), i) }, nil
	}
	return func(buf []byte, i int) []byte {
		if arr.IsNull(i) {
			return append(buf, 0)
		}
		return plain(append(buf, 1), i)
	}, nil
}

func valueEncoder(arr arrow.Array) (func(buf []byte, i int) []byte, error) {
	le := binary.LittleEndian
	switch a := arr.(type) {
	case *array.Boolean:
		return func(buf []byte, i int) []byte {
			if a.Value(i) {
				return append(buf, 1)
			}
			return append(buf, 0)
		}, nil
	case *array.Int8:
		return func(buf []byte, i int) []byte { return append(buf, byte(a.Value(i))) }, nil
	case *array.Uint8:
		return func(buf []byte, i int) []byte { return append(buf, a.Value(i)) }, nil
	case *array.Int16:
		return func(buf []byte, i int) []byte { return le.AppendUint16(buf, uint16(a.Value(i))) }, nil
	case *array.Uint16:
		return func(buf []byte, i int) []byte { return le.AppendUint16(buf, a.Value(i)) }, nil
	case *array.Int32:
		return func(buf []byte, i int) []byte { return le.AppendUint32(buf, uint32(a.Value(i))) }, nil
	case *array.Uint32:
		return func(buf []byte, i int) []byte { return le.AppendUint32(buf, a.Value(i)) }, nil
	case *array.Date32:
		return func(buf []byte, i int) []byte { return le.AppendUint32(buf, uint32(a.Value(i))) }, nil
	case *array.Time32:
		return func(buf []byte, i int) []byte { return le.AppendUint32(buf, uint32(a.Value(i))) }, nil
	case *array.Int64:
		return func(buf []byte, i int) []byte { return le.AppendUint64(buf, uint64(a.Value(i))) }, nil
	case *array.Uint64:
		return func(buf []byte, i int) []byte { return le.AppendUint64(buf, a.Value(i)) }, nil
	case *array.Timestamp:
		return func(buf []byte, i int) []byte { return le.AppendUint64(buf, uint64(a.Value(i))) }, nil
	case *array.Time64:
		return func(buf []byte, i int) []byte { return le.AppendUint64(buf, uint64(a.Value(i))) }, nil
	case *array.Float32:
		return func(buf []byte, i int) []byte { return le.AppendUint32(buf, math.Float32bits(a.Value(i))) }, nil
	case *array.Float64:
		return func(buf []byte, i int) []byte { return le.AppendUint64(buf, math.Float64bits(a.Value(i))) }, nil
	case *array.String:
		return func(buf []byte, i int) []byte {
			v := a.Value(i)
			return append(le.AppendUint32(buf, uint32(len(v))), v...)
		}, nil
	case *array.Binary:
		return func(buf []byte, i int) []byte {
			v := a.Value(i)
			return append(le.AppendUint32(buf, uint32(len(v))), v...)
		}, nil
	case *array.Dictionary:
		dict, err := valueEncoder(a.Dictionary())
		if err != nil {
			return nil, err
		}
		return func(buf []byte, i int) []byte { return dict(buf, a.GetValueIndex(i)) }, nil
	case *array.Struct:
		fields := make([]func([]byte, int) []byte, a.NumField())
		for i := range fields {
			field, err := encoder(a.Field(i))
			if err != nil {
				return nil, err
			}
			fields[i] = field
		}
		return func(buf []byte, i int) []byte {
			for _, field := range fields {
				buf = field(buf, i)
			}
			return buf
		}, nil
	case array.ListLike:
		values, err := encoder(a.ListValues())
		if err != nil {
			return nil, err
		}
		return func(buf []byte, i int) []byte {
			from, to := a.ValueOffsets(i)
			buf = le.AppendUint32(buf, uint32(to-from))
			for j := from; j < to; j++ {
				buf = values(buf, int(j))
			}
			return buf
		}, nil
	}
	return nil, fmt.Errorf("no support for columns of type %s", arr.DataType())
}
