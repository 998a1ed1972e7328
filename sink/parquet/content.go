package parquet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tasterhq/taster/sink/parquet/pages"
)

// content is the digest of plaintext that manifests hold: the same for the same rows, whatever the batches, row
// groups, encodings and keys. docs/landing-zone.md defines it.
type content struct {
	names   []string
	columns []hash.Hash
}

func newContent(s *arrow.Schema) *content {
	c := &content{}
	for _, f := range s.Fields() {
		c.names = append(c.names, f.Name)
		c.columns = append(c.columns, sha256.New())
	}
	return c
}

// add appends an array to a column. Different columns may be added to at the same time.
func (c *content) add(column int, arr arrow.Array) error {
	values, err := c.encoder(column, arr)
	if err != nil {
		return err
	}
	c.write(column, values, 0, arr.Len())
	return nil
}

func (c *content) encoder(column int, arr arrow.Array) (rangeEncoder, error) {
	values, err := encoder(arr)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", c.names[column], err)
	}
	return values, nil
}

// write appends the values [from, end) to a column.
func (c *content) write(column int, values rangeEncoder, from, end int) {
	buf := contentBuffers.Get().(*[]byte)
	defer contentBuffers.Put(buf)
	h := c.columns[column]
	const full, most = 32 << 10, 512
	step := 1 // rows at a time: as many as filled the buffer well until now
	for from < end {
		to := min(from+step, end)
		*buf = values((*buf)[:0], from, to)
		h.Write(*buf)
		switch {
		case len(*buf) < full/2:
			step = min(2*step, most)
		case len(*buf) > full:
			step = max(1, step/2)
		}
		from = to
	}
	if cap(*buf) > 16*full {
		*buf = nil // of a row that is larger than most
	}
}

var contentBuffers = sync.Pool{New: func() any { return new([]byte) }}

// hashing adds columns to a content while the caller goes on encoding them, on another core where there is one.
type hashing struct {
	*content
	columns chan hashed
	done    chan struct{}
	ended   bool
	err     error
}

// hashed is a column's next values.
type hashed struct {
	column int
	rows   pages.Rows
	values rangeEncoder
}

// ahead is how many arrays may wait for being hashed: the batches of a column or two, which are there anyway until the
// segment has landed.
const ahead = 64

func beginContent(s *arrow.Schema) *hashing {
	h := &hashing{content: newContent(s), columns: make(chan hashed, ahead), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for one := range h.columns {
			if h.err == nil {
				h.err = h.hash(one)
			}
			one.rows.Array.Release()
		}
	}()
	return h
}

// hash is content.write; a panic would end the process here.
func (h *hashing) hash(one hashed) (err error) {
	defer guard(&err, "hash column "+h.names[one.column])
	for _, r := range one.rows.Ranges {
		h.write(one.column, one.values, r.From, r.To)
	}
	return nil
}

// add has rows added to a column. Their array's encoder is made here and not beside the caller: Arrow counts an array's nulls
// when it is first asked for them, and writes the number down.
func (h *hashing) add(column int, rows pages.Rows) error {
	values, err := h.encoder(column, rows.Array)
	if err != nil {
		return err
	}
	rows.Array.Retain()
	h.columns <- hashed{column, rows, values}
	return nil
}

// end waits until all is added. It may be called again.
func (h *hashing) end() error {
	if !h.ended {
		h.ended = true
		close(h.columns)
	}
	<-h.done
	return h.err
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

// rangeEncoder appends the values [from, to) of an array in canonical form.
type rangeEncoder func(buf []byte, from, to int) []byte

// encoder returns what appends values of arr in canonical form. It is made once for an array, and called for as many
// values at a time as may be: nothing is looked up for a value, and those of fixed width are written in one loop.
func encoder(arr arrow.Array) (rangeEncoder, error) {
	if arr.NullN() == 0 {
		switch a := arr.(type) {
		case *array.Dictionary:
			indexes, ok := a.Indices().(*array.Int32)
			if !ok {
				break
			}
			value, err := valueEncoder(a.Dictionary())
			if err != nil {
				return nil, err
			}
			values := indexes.Int32Values()
			return func(buf []byte, from, to int) []byte {
				for _, v := range values[from:to] {
					buf = value(append(buf, 1), int(v))
				}
				return buf
			}, nil
		case *array.String:
			if a.Len() > 0 {
				return texts(a.ValueOffsets(), a.ValueBytes()), nil
			}
		case *array.Int32:
			return words(arrow.Uint32Traits.CastFromBytes(arrow.Int32Traits.CastToBytes(a.Int32Values()))), nil
		case *array.Float32:
			return words(arrow.Uint32Traits.CastFromBytes(arrow.Float32Traits.CastToBytes(a.Float32Values()))), nil
		case *array.Int64:
			return longs(arrow.Uint64Traits.CastFromBytes(arrow.Int64Traits.CastToBytes(a.Int64Values()))), nil
		case *array.Timestamp:
			return longs(arrow.Uint64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(a.TimestampValues()))), nil
		case *array.Float64:
			return longs(arrow.Uint64Traits.CastFromBytes(arrow.Float64Traits.CastToBytes(a.Float64Values()))), nil
		}
	}
	plain, err := valueEncoder(arr)
	if err != nil {
		return nil, err
	}
	if arr.NullN() == 0 {
		return func(buf []byte, from, to int) []byte {
			for i := from; i < to; i++ {
				buf = plain(append(buf, 1), i)
			}
			return buf
		}, nil
	}
	return func(buf []byte, from, to int) []byte {
		for i := from; i < to; i++ {
			if arr.IsNull(i) {
				buf = append(buf, 0)
			} else {
				buf = plain(append(buf, 1), i)
			}
		}
		return buf
	}, nil
}

// texts encodes texts, none of which is null, that lie one behind the other: values begin at the first offset.
func texts(offsets []int32, values []byte) rangeEncoder {
	base := offsets[0]
	return func(buf []byte, from, to int) []byte {
		at := len(buf)
		begin := offsets[from]
		n := int(offsets[to]-begin) + 5*(to-from)
		buf = slices.Grow(buf, n)[:at+n]
		for _, end := range offsets[from+1 : to+1] {
			buf[at] = 1
			binary.LittleEndian.PutUint32(buf[at+1:], uint32(end-begin))
			at += 5 + copy(buf[at+5:], values[begin-base:end-base])
			begin = end
		}
		return buf
	}
}

// words encodes values of four bytes, none of which is null. Each is written as eight, of which the next overwrites three.
func words(values []uint32) rangeEncoder {
	return func(buf []byte, from, to int) []byte {
		at := len(buf)
		n := (to - from) * 5
		buf = slices.Grow(buf, n+3)[:at+n+3]
		for _, v := range values[from:to] {
			binary.LittleEndian.PutUint64(buf[at:], uint64(v)<<8|1)
			at += 5
		}
		return buf[:at]
	}
}

// longs encodes values of eight bytes, none of which is null.
func longs(values []uint64) rangeEncoder {
	return func(buf []byte, from, to int) []byte {
		at := len(buf)
		n := (to - from) * 9
		buf = slices.Grow(buf, n)[:at+n]
		for _, v := range values[from:to] {
			one := buf[at : at+9 : at+9]
			one[0] = 1
			binary.LittleEndian.PutUint64(one[1:], v)
			at += 9
		}
		return buf
	}
}

// valueEncoder returns what appends value i of arr, which is not null.
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
		if a.Len() == 0 {
			return func(buf []byte, _ int) []byte { return buf }, nil // which has no offsets either
		}
		offsets, values := a.ValueOffsets(), a.ValueBytes() // which begin at offsets[0]
		base := offsets[0]
		return func(buf []byte, i int) []byte {
			v := values[offsets[i]-base : offsets[i+1]-base]
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
		fields := make([]rangeEncoder, a.NumField())
		for i := range fields {
			field, err := encoder(a.Field(i))
			if err != nil {
				return nil, err
			}
			fields[i] = field
		}
		return func(buf []byte, i int) []byte {
			for _, field := range fields {
				buf = field(buf, i, i+1)
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
			return values(buf, int(from), int(to))
		}, nil
	}
	return nil, fmt.Errorf("no support for columns of type %s", arr.DataType())
}
