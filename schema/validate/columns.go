package validate

import (
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// store says how a place's values are kept.
type store uint8

const (
	storeText   store = iota // utf8
	storeJSON                // utf8, the JSON text as it came
	storeInt                 // int64
	storeFloat               // float64
	storeBool                // boolean
	storeStruct              // struct, a child per property that is stored
	storeList                // list, one child
	storeVector              // list of float32 without nulls
)

// layout describes one column of a schema, and how it hangs together with others.
type layout struct {
	store    store
	dtype    arrow.DataType
	nullable bool
	children []int // slots
}

// buffer is an Arrow buffer of values that can be appended to. What was appended is the slice; the memory behind it
// comes from the allocator and is handed over to the batch as it is.
type buffer[T byte | int32 | int64 | float32 | float64] struct {
	values []T // cap is what fits into memory
	memory *memory.Buffer
	hint   int // values in the batch before
}

// reserve makes room for n more values.
func (b *buffer[T]) reserve(mem memory.Allocator, n int) {
	if len(b.values)+n > cap(b.values) {
		b.grow(mem, n)
	}
}

func (b *buffer[T]) grow(mem memory.Allocator, n int) {
	if b.memory == nil {
		b.memory = memory.NewResizableBuffer(mem)
	}
	want := max(2*cap(b.values), len(b.values)+n, b.hint, 64)
	b.memory.Reserve(want * sizeOf[T]())
	all := arrow.GetData[T](b.memory.Buf())
	b.values = all[:len(b.values)]
}

func sizeOf[T byte | int32 | int64 | float32 | float64]() int {
	var v T
	switch any(v).(type) {
	case byte:
		return 1
	case int32, float32:
		return 4
	}
	return 8
}

// take hands the memory over; nil when nothing was appended.
func (b *buffer[T]) take() *memory.Buffer {
	out := b.memory
	if out != nil {
		out.ResizeNoShrink(len(b.values) * sizeOf[T]())
	}
	b.hint = len(b.values) + len(b.values)/16
	b.memory, b.values = nil, nil
	return out
}

func (b *buffer[T]) release() {
	if b.memory != nil {
		b.memory.Release()
	}
	b.memory, b.values = nil, nil
}

// column is one column that is being filled. Which buffers are used depends on how it stores.
type column struct {
	layout
	mem     memory.Allocator
	rows    int
	valid   buffer[byte] // one bit a row; only of a nullable column
	bits    buffer[byte] // booleans, one bit a row
	offsets buffer[int32]
	text    buffer[byte]
	ints    buffer[int64]
	floats  buffer[float64]
	vectors buffer[float32]
}

// setBit makes bit n what on says; the bits before n are there, those behind are not.
func setBit(b *buffer[byte], mem memory.Allocator, n int, on bool) {
	if n&7 == 0 {
		b.reserve(mem, 1)
		b.values = append(b.values, 0)
	}
	if on {
		b.values[n>>3] |= 1 << (n & 7)
	}
}

// cutBits takes back the bits from n on.
func cutBits(b *buffer[byte], n int) {
	if len(b.values) > 0 {
		b.values = b.values[:(n+7)/8]
		if n&7 != 0 {
			b.values[n>>3] &= 1<<(n&7) - 1
		}
	}
}

// row counts a row in, valid or null.
func (c *column) row(valid bool) {
	if c.nullable {
		setBit(&c.valid, c.mem, c.rows, valid)
	}
	c.rows++
}

// offset notes where the next row begins: the first one also where it begins itself.
func (c *column) offset(end int) {
	c.offsets.reserve(c.mem, 2)
	if len(c.offsets.values) == 0 {
		c.offsets.values = append(c.offsets.values, 0)
	}
	c.offsets.values = append(c.offsets.values, int32(end))
}

func (c *column) addText(text []byte) {
	c.text.reserve(c.mem, len(text))
	c.text.values = append(c.text.values, text...)
	c.offset(len(c.text.values))
	c.row(true)
}

func (c *column) addInt(v int64) {
	c.ints.reserve(c.mem, 1)
	c.ints.values = append(c.ints.values, v)
	c.row(true)
}

func (c *column) addFloat(v float64) {
	c.floats.reserve(c.mem, 1)
	c.floats.values = append(c.floats.values, v)
	c.row(true)
}

func (c *column) addBool(v bool) {
	setBit(&c.bits, c.mem, c.rows, v)
	c.row(true)
}

// columns are all columns of a schema, by slot.
type columns []column

// addNull adds a null row, and one to each child of a struct.
func (cs columns) addNull(slot int) {
	c := &cs[slot]
	switch c.store {
	case storeText, storeJSON:
		c.offset(len(c.text.values))
	case storeInt:
		c.ints.reserve(c.mem, 1)
		c.ints.values = append(c.ints.values, 0)
	case storeFloat:
		c.floats.reserve(c.mem, 1)
		c.floats.values = append(c.floats.values, 0)
	case storeBool:
		setBit(&c.bits, c.mem, c.rows, false)
	case storeVector:
		c.offset(len(c.vectors.values))
	case storeList:
		c.offset(cs[c.children[0]].rows)
	case storeStruct:
		for _, child := range c.children {
			cs.addNull(child)
		}
	}
	c.row(false)
}

// cut takes back the rows from n on.
func (cs columns) cut(slot, n int) {
	c := &cs[slot]
	if c.rows == n && c.store != storeStruct && c.store != storeList {
		// Values of a row that was not finished may still be there.
		if c.store == storeVector {
			c.vectors.values = c.vectors.values[:c.from(n)]
		}
		return
	}
	c.rows = n
	if c.nullable {
		cutBits(&c.valid, n)
	}
	switch c.store {
	case storeText, storeJSON:
		c.text.values = c.text.values[:c.from(n)]
	case storeInt:
		c.ints.values = c.ints.values[:n]
	case storeFloat:
		c.floats.values = c.floats.values[:n]
	case storeBool:
		cutBits(&c.bits, n)
	case storeVector:
		c.vectors.values = c.vectors.values[:c.from(n)]
	case storeList:
		cs.cut(c.children[0], c.from(n))
	case storeStruct:
		for _, child := range c.children {
			cs.cut(child, n)
		}
	}
	if len(c.offsets.values) > 0 {
		c.offsets.values = c.offsets.values[:n+1]
	}
}

// from returns where row n begins.
func (c *column) from(n int) int {
	if len(c.offsets.values) == 0 {
		return 0
	}
	return int(c.offsets.values[n])
}

// take hands the rows of a column over and starts anew.
func (cs columns) take(slot int) arrow.ArrayData {
	c := &cs[slot]
	nulls := 0
	if c.nullable {
		nulls = c.rows
		for _, b := range c.valid.values {
			nulls -= bits.OnesCount8(b)
		}
	}
	buffers := make([]*memory.Buffer, 1, 3)
	buffers[0] = c.valid.take()
	var children []arrow.ArrayData
	switch c.store {
	case storeText, storeJSON:
		buffers = append(buffers, c.takeOffsets(), filled(c.text.take(), c.mem))
	case storeInt:
		buffers = append(buffers, filled(c.ints.take(), c.mem))
	case storeFloat:
		buffers = append(buffers, filled(c.floats.take(), c.mem))
	case storeBool:
		buffers = append(buffers, filled(c.bits.take(), c.mem))
	case storeVector:
		rows := len(c.vectors.values)
		values := []*memory.Buffer{nil, filled(c.vectors.take(), c.mem)}
		children = append(children, array.NewData(arrow.PrimitiveTypes.Float32, rows, values, nil, 0, 0))
		values[1].Release()
		buffers = append(buffers, c.takeOffsets())
	case storeList, storeStruct:
		if c.store == storeList {
			buffers = append(buffers, c.takeOffsets())
		}
		for _, child := range c.children {
			children = append(children, cs.take(child))
		}
	}
	data := array.NewData(c.dtype, c.rows, buffers, children, nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	c.rows = 0
	return data
}

func (c *column) takeOffsets() *memory.Buffer {
	if len(c.offsets.values) == 0 {
		c.offsets.reserve(c.mem, 1)
		c.offsets.values = append(c.offsets.values, 0)
	}
	return c.offsets.take()
}

// filled stands an empty buffer in for none, which readers do not expect behind values.
func filled(b *memory.Buffer, mem memory.Allocator) *memory.Buffer {
	if b == nil {
		return memory.NewResizableBuffer(mem)
	}
	return b
}

func (c *column) release() {
	c.valid.release()
	c.bits.release()
	c.offsets.release()
	c.text.release()
	c.ints.release()
	c.floats.release()
	c.vectors.release()
	c.rows = 0
}
