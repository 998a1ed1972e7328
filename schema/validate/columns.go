package validate

import (
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

// buffer is an Arrow buffer of values that can grow. The memory comes from the allocator, which need not have cleared it,
// and is handed over to the batch as it is: whatever is counted was written.
type buffer[T byte | int32 | int64 | float32 | float64] struct {
	values []T // all that there is memory for; how many of them count is the column's affair
	memory *memory.Buffer
}

// grow makes room for need values, the hint or twice as many as there was room for.
func (b *buffer[T]) grow(mem memory.Allocator, need, hint int) {
	if b.memory == nil {
		b.memory = memory.NewResizableBuffer(mem)
	}
	b.memory.Reserve(max(2*len(b.values), need, hint, 64) * sizeOf[T]())
	b.memory.ResizeNoShrink(cap(b.memory.Buf()) &^ 63) // the allocator may have given more
	b.values = arrow.GetData[T](b.memory.Buf())
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

// take hands the memory over with the first n values; nil when there never was a value.
func (b *buffer[T]) take(n int) *memory.Buffer {
	out := b.memory
	if out != nil {
		out.ResizeNoShrink(n * sizeOf[T]())
	}
	b.memory, b.values = nil, nil
	return out
}

func (b *buffer[T]) release() {
	if b.memory != nil {
		b.memory.Release()
	}
	b.memory, b.values = nil, nil
}

// column is one column that is being filled. Which buffers are used depends on how it stores. What counts is rows
// alone: a value is written behind them and then counted, so that to undo a row is not to count it.
type column struct {
	rows    int           // that are there
	size    int           // bytes of text, or values of vectors, that these rows have
	offsets buffer[int32] // rows + 1 of them; none before the first row
	text    buffer[byte]
	ints    buffer[int64]
	floats  buffer[float64]
	vectors buffer[float32]
	bits    buffer[byte] // booleans, one bit a row
	valid   buffer[byte] // one bit a row; only of a nullable column
	noted   int          // rows that have their bit in valid; those behind are valid
	nulls   int
	owed    int // of a struct: null rows at the end that its children have not got yet

	layout
	mem      memory.Allocator
	hintRows int // what the batch before came to, and a little more
	hintSize int
}

// setBit makes bit n what on says. The bits before n are there; those behind are not, whatever the byte holds.
func setBit(bits []byte, n int, on bool) {
	b := bits[n>>3] & (1<<(n&7) - 1)
	if on {
		b |= 1 << (n & 7)
	}
	bits[n>>3] = b
}

// note writes down which of the first n rows are valid: all that were not noted yet.
func (c *column) note(n int) {
	c.validRoom(n)
	for ; c.noted < n && c.noted&7 != 0; c.noted++ {
		setBit(c.valid.values, c.noted, true)
	}
	for ; c.noted+8 <= n; c.noted += 8 {
		c.valid.values[c.noted>>3] = 0xFF
	}
	if c.noted < n {
		c.valid.values[c.noted>>3] = 1<<(n&7) - 1
		c.noted = n
	}
}

func (c *column) validRoom(rows int) {
	if need := (rows + 7) / 8; need > len(c.valid.values) {
		c.valid.grow(c.mem, need, (c.hintRows+7)/8)
	}
}

// null counts n rows in that are null.
func (c *column) null(n int) {
	c.note(c.rows)
	c.rows += n
	c.nulls += n
	c.validRoom(c.rows)
	for ; c.noted < c.rows && c.noted&7 != 0; c.noted++ {
		setBit(c.valid.values, c.noted, false)
	}
	if c.noted < c.rows {
		clear(c.valid.values[c.noted>>3 : (c.rows+7)>>3])
		c.noted = c.rows
	}
}

// end notes where the values of the row end that is about to be counted.
func (c *column) end(at int) {
	if c.rows+2 > len(c.offsets.values) {
		c.growOffsets(1)
	}
	c.offsets.values[c.rows+1] = int32(at)
}

// ends notes n times where rows end.
func (c *column) ends(at, n int) {
	if c.rows+n+1 > len(c.offsets.values) {
		c.growOffsets(n)
	}
	for k := range c.offsets.values[c.rows+1 : c.rows+1+n] {
		c.offsets.values[c.rows+1+k] = int32(at)
	}
}

func (c *column) growOffsets(n int) {
	first := len(c.offsets.values) == 0
	c.offsets.grow(c.mem, c.rows+n+1, c.hintRows+1)
	if first {
		c.offsets.values[0] = 0
	}
}

// spare is how many bytes behind a text there must be memory for, so that texts can be copied in whole words.
const spare = 64

// textRoom makes room for n bytes of text more.
func (c *column) textRoom(n int) {
	if need := c.size + n + spare; need > len(c.text.values) {
		c.text.grow(c.mem, need, c.hintSize+spare)
	}
}

func (c *column) addText(text []byte) {
	c.textRoom(len(text))
	c.size += copy(c.text.values[c.size:], text)
	c.end(c.size)
	c.rows++
}

func (c *column) addInt(v int64) {
	if c.rows >= len(c.ints.values) {
		c.ints.grow(c.mem, c.rows+1, c.hintRows)
	}
	c.ints.values[c.rows] = v
	c.rows++
}

func (c *column) addFloat(v float64) {
	if c.rows >= len(c.floats.values) {
		c.floats.grow(c.mem, c.rows+1, c.hintRows)
	}
	c.floats.values[c.rows] = v
	c.rows++
}

// floatRoom makes room for n values more and returns it.
func (c *column) floatRoom(n int) []float64 {
	if need := c.rows + n; need > len(c.floats.values) {
		c.floats.grow(c.mem, need, c.hintRows)
	}
	return c.floats.values[c.rows : c.rows+n]
}

func (c *column) addBool(v bool) {
	c.bit(v)
	c.rows++
}

func (c *column) bit(v bool) {
	if c.rows>>3 >= len(c.bits.values) {
		c.bits.grow(c.mem, c.rows>>3+1, (c.hintRows+7)/8)
	}
	setBit(c.bits.values, c.rows, v)
}

// vectorRoom makes room for n values more and returns it.
func (c *column) vectorRoom(n int) []float32 {
	if need := c.size + n; need > len(c.vectors.values) {
		c.vectors.grow(c.mem, need, c.hintSize)
	}
	return c.vectors.values[c.size : c.size+n]
}

// columns are all columns of a schema, by slot.
type columns []column

// addNull adds a null row.
func (cs columns) addNull(slot int) { cs.addNulls(slot, 1) }

// addNulls adds n null rows. The children of a struct get theirs when there is something else for them: in wide
// schemas most structs are null most of the time.
func (cs columns) addNulls(slot, n int) {
	c := &cs[slot]
	switch c.store {
	case storeText, storeJSON, storeVector:
		c.ends(c.size, n)
	case storeInt:
		if need := c.rows + n; need > len(c.ints.values) {
			c.ints.grow(c.mem, need, c.hintRows)
		}
		clear(c.ints.values[c.rows : c.rows+n])
	case storeFloat:
		clear(c.floatRoom(n))
	case storeBool:
		if need := (c.rows + n + 7) / 8; need > len(c.bits.values) {
			c.bits.grow(c.mem, need, (c.hintRows+7)/8)
		}
		if c.rows&7 != 0 {
			setBit(c.bits.values, c.rows, false) // and those behind
		} else {
			c.bits.values[c.rows>>3] = 0
		}
		clear(c.bits.values[c.rows>>3+1 : (c.rows+n+7)>>3])
	case storeList:
		c.ends(cs[c.children[0]].rows, n)
	case storeStruct:
		c.owed += n
	}
	c.null(n)
}

// catchUp gives the children of a struct the null rows that they are owed.
func (cs columns) catchUp(slot int) {
	if c := &cs[slot]; c.owed > 0 {
		n := c.owed
		c.owed = 0
		for _, child := range c.children {
			cs.addNulls(child, n)
		}
	}
}

// cut takes back the rows from n on, and what is there of a row that was not finished.
func (cs columns) cut(slot, n int) {
	c := &cs[slot]
	n = min(n, c.rows)
	has := n // rows that the children are to have
	if c.store == storeStruct {
		before := c.rows - c.owed
		has = min(n, before)
		c.owed = n - has
	}
	c.rows = n
	for ; c.noted > n; c.noted-- {
		if last := c.noted - 1; c.valid.values[last>>3]>>(last&7)&1 == 0 {
			c.nulls--
		}
	}
	switch c.store {
	case storeText, storeJSON, storeVector:
		c.size = c.from(n)
	case storeList:
		cs.cut(c.children[0], c.from(n))
	case storeStruct:
		for _, child := range c.children {
			cs.cut(child, has)
		}
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
	cs.catchUp(slot)
	c := &cs[slot]
	buffers := make([]*memory.Buffer, 1, 3)
	if c.nullable && c.rows > 0 {
		c.note(c.rows)
		buffers[0] = c.valid.take((c.rows + 7) / 8)
	}
	var children []arrow.ArrayData
	switch c.store {
	case storeText, storeJSON:
		buffers = append(buffers, c.takeOffsets(), filled(c.text.take(c.size), c.mem))
	case storeInt:
		buffers = append(buffers, filled(c.ints.take(c.rows), c.mem))
	case storeFloat:
		buffers = append(buffers, filled(c.floats.take(c.rows), c.mem))
	case storeBool:
		buffers = append(buffers, filled(c.bits.take((c.rows+7)/8), c.mem))
	case storeVector:
		values := []*memory.Buffer{nil, filled(c.vectors.take(c.size), c.mem)}
		children = append(children, array.NewData(arrow.PrimitiveTypes.Float32, c.size, values, nil, 0, 0))
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
	data := array.NewData(c.dtype, c.rows, buffers, children, c.nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	c.hintRows, c.hintSize = c.rows+c.rows/16, c.size+c.size/16
	c.rows, c.size, c.noted, c.nulls, c.owed = 0, 0, 0, 0, 0
	return data
}

func (c *column) takeOffsets() *memory.Buffer {
	if len(c.offsets.values) == 0 {
		c.growOffsets(1)
	}
	return c.offsets.take(c.rows + 1)
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
	c.rows, c.size, c.noted, c.nulls, c.owed = 0, 0, 0, 0, 0
}
