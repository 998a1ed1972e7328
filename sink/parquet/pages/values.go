package pages

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// layout says how a leaf's values lie in Arrow's memory, and what becomes of them in Parquet.
type layout uint8

const (
	flags  layout = iota // one bit: BOOLEAN
	bytes1               // INT32
	bytes2               // INT32
	words                // four bytes, as they are
	longs                // eight bytes, as they are
	texts                // BYTE_ARRAY, also behind indexes of 32 bits into a dictionary
)

func layoutOf(t arrow.DataType, physical pq.Type) (layout, error) {
	l, want := layout(0), pq.Types.Int32
	switch t := t.(type) {
	case *arrow.BooleanType:
		l, want = flags, pq.Types.Boolean
	case *arrow.Int8Type, *arrow.Uint8Type:
		l = bytes1
	case *arrow.Int16Type, *arrow.Uint16Type:
		l = bytes2
	case *arrow.Int32Type, *arrow.Uint32Type, *arrow.Date32Type:
		l = words
	case *arrow.Float32Type:
		l, want = words, pq.Types.Float
	case *arrow.Int64Type, *arrow.Uint64Type, *arrow.Time64Type:
		l, want = longs, pq.Types.Int64
	case *arrow.Float64Type:
		l, want = longs, pq.Types.Double
	case *arrow.TimestampType:
		if t.Unit == arrow.Second {
			return 0, fmt.Errorf("no support for columns of type %s", t)
		}
		l, want = longs, pq.Types.Int64
	case *arrow.Time32Type:
		if t.Unit == arrow.Second {
			return 0, fmt.Errorf("no support for columns of type %s", t)
		}
		l = words
	case *arrow.StringType, *arrow.BinaryType:
		l, want = texts, pq.Types.ByteArray
	case *arrow.DictionaryType:
		if !arrow.TypeEqual(t.IndexType, arrow.PrimitiveTypes.Int32) || t.ValueType.ID() != arrow.STRING && t.ValueType.ID() != arrow.BINARY {
			return 0, fmt.Errorf("no support for columns of type %s", t)
		}
		l, want = texts, pq.Types.ByteArray
	default:
		return 0, fmt.Errorf("no support for columns of type %s", t)
	}
	if physical != want {
		return 0, fmt.Errorf("%s as %s", t, physical)
	}
	return l, nil
}

func (l layout) width() int {
	switch l {
	case bytes1:
		return 1
	case bytes2:
		return 2
	case words:
		return 4
	}
	return 8
}

// fixed returns the memory of values of fixed width.
func (l layout) fixed(s span) []byte {
	w, data := l.width(), s.values.Data()
	from := data.Offset() + s.from
	return data.Buffers()[1].Bytes()[from*w : (from+s.to-s.from)*w]
}

// size is how many bytes values are, about, nulls counted in.
func (l layout) size(arr arrow.Array, from, to int) int {
	if from == to {
		return 0
	}
	switch l {
	case flags:
		return (to - from) / 8
	case bytes1, bytes2:
		return 4 * (to - from)
	case texts:
		if arr.DataType().ID() == arrow.DICTIONARY {
			return 4 * (to - from)
		}
		at, _ := textsOf(arr)
		if len(at) <= to {
			return 0 // all are null
		}
		return int(at[to]-at[from]) + 4*(to-from)
	}
	return l.width() * (to - from)
}

// textsOf returns what texts there are: the i-th goes from offset i to offset i+1.
func textsOf(arr arrow.Array) (at []int32, values []byte) {
	data := arr.Data()
	if b := data.Buffers()[1]; b != nil && b.Len() > 0 {
		at = arrow.Int32Traits.CastFromBytes(b.Bytes())[data.Offset():]
	}
	if b := data.Buffers()[2]; b != nil {
		values = b.Bytes()
	}
	return at, values
}

// plain appends values in the encoding PLAIN.
func (l layout) plain(b []byte, spans []span) []byte {
	switch l {
	case flags:
		return appendFlags(b, spans)
	case bytes1, bytes2:
		for _, s := range spans {
			for _, v := range widened(nil, l, s) {
				b = binary.LittleEndian.AppendUint32(b, uint32(v))
			}
		}
		return b
	case texts:
		for _, s := range spans {
			b = appendTexts(b, s)
		}
		return b
	}
	for _, s := range spans {
		b = append(b, l.fixed(s)...)
	}
	return b
}

func appendTexts(b []byte, s span) []byte {
	if d, ok := s.values.(*array.Dictionary); ok {
		at, values := textsOf(d.Dictionary())
		for i := s.from; i < s.to; i++ {
			k := d.GetValueIndex(i)
			b = binary.LittleEndian.AppendUint32(b, uint32(at[k+1]-at[k]))
			b = append(b, values[at[k]:at[k+1]]...)
		}
		return b
	}
	at, values := textsOf(s.values)
	at = at[s.from : s.to+1]
	b = slices.Grow(b, int(at[len(at)-1]-at[0])+4*(len(at)-1))
	from := at[0]
	for _, to := range at[1:] {
		b = binary.LittleEndian.AppendUint32(b, uint32(to-from))
		b = append(b, values[from:to]...)
		from = to
	}
	return b
}

func appendFlags(b []byte, spans []span) []byte {
	acc, have := byte(0), 0
	for _, s := range spans {
		for values, i := s.values.(*array.Boolean), s.from; i < s.to; i++ {
			if values.Value(i) {
				acc |= 1 << have
			}
			if have++; have == 8 {
				b = append(b, acc)
				acc, have = 0, 0
			}
		}
	}
	if have > 0 {
		b = append(b, acc)
	}
	return b
}

// widened appends integers of one or two bytes as INT32.
func widened(out []int32, l layout, s span) []int32 {
	raw := l.fixed(s)
	switch s.values.(type) {
	case *array.Int8:
		for _, v := range raw {
			out = append(out, int32(int8(v)))
		}
	case *array.Uint8:
		for _, v := range raw {
			out = append(out, int32(v))
		}
	case *array.Int16:
		for _, v := range arrow.Int16Traits.CastFromBytes(raw) {
			out = append(out, int32(v))
		}
	case *array.Uint16:
		for _, v := range arrow.Uint16Traits.CastFromBytes(raw) {
			out = append(out, int32(v))
		}
	}
	return out
}

// scratch is memory for values that are not used where they are.
type scratch struct {
	numbers []int64
	small   []int32
	flags   []bool
}

// longs gathers values of eight bytes.
func (c *scratch) longs(spans []span) []int64 {
	c.numbers = c.numbers[:0]
	for _, s := range spans {
		c.numbers = append(c.numbers, arrow.Int64Traits.CastFromBytes(longs.fixed(s))...)
	}
	return c.numbers
}

// sum takes values, and so many nulls, into account.
func (c *scratch) sum(sums metadata.TypedStatistics, l layout, spans []span, nulls int) {
	sums.IncNulls(int64(nulls))
	for _, s := range spans {
		switch sums := sums.(type) {
		case *metadata.BooleanStatistics:
			c.flags = c.flags[:0]
			for i := s.from; i < s.to; i++ {
				c.flags = append(c.flags, s.values.(*array.Boolean).Value(i))
			}
			sums.Update(c.flags, 0)
		case *metadata.Int32Statistics:
			if l != words {
				c.small = widened(c.small[:0], l, s)
				sums.Update(c.small, 0)
			} else {
				sums.Update(arrow.Int32Traits.CastFromBytes(l.fixed(s)), 0)
			}
		case *metadata.Int64Statistics:
			sums.Update(arrow.Int64Traits.CastFromBytes(l.fixed(s)), 0)
		case *metadata.Float32Statistics:
			sums.Update(arrow.Float32Traits.CastFromBytes(l.fixed(s)), 0)
		case *metadata.Float64Statistics:
			sums.Update(arrow.Float64Traits.CastFromBytes(l.fixed(s)), 0)
		}
	}
}

// dictionary numbers the different values of a column chunk as they come.
type dictionary struct {
	layout layout
	limit  int    // of plain
	plain  []byte // the values, encoded PLAIN
	count  int

	byText  map[string]uint32
	slots   []slot // of numbers, at twice as many places as there are numbers at least
	shift   uint
	indexes []uint32
	known   []int32     // of each value of the dictionary of an array its number, -1 before it was met
	last    arrow.Array // that dictionary
	small   []int32
}

type slot struct {
	value uint64
	index uint32 // and one; 0 is an empty place
}

// factor makes which numbers share a place unforeseeable, since numbers are others' choice.
var factor = maphash.Comparable(maphash.MakeSeed(), 0) | 1

func (d *dictionary) reset(l layout, limit int) {
	d.layout, d.limit, d.plain, d.count = l, limit, d.plain[:0], 0
	d.last = nil
	if l == texts {
		if d.byText == nil {
			d.byText = map[string]uint32{}
		}
		clear(d.byText)
		return
	}
	if len(d.slots) != 1<<firstBits {
		d.slots = make([]slot, 1<<firstBits)
	}
	clear(d.slots)
	d.shift = 64 - firstBits
}

const firstBits = 10

func (d *dictionary) len() int { return d.count }

// of returns the numbers of values. The error is errLarge when there are too many different ones.
func (d *dictionary) of(spans []span) ([]uint32, error) {
	d.indexes = d.indexes[:0]
	for _, s := range spans {
		switch d.layout {
		case texts:
			d.texts(s)
		case longs:
			for _, v := range arrow.Uint64Traits.CastFromBytes(d.layout.fixed(s)) {
				d.indexes = append(d.indexes, d.number(v))
			}
		case words:
			for _, v := range arrow.Uint32Traits.CastFromBytes(d.layout.fixed(s)) {
				d.indexes = append(d.indexes, d.number(uint64(v)))
			}
		default:
			d.small = widened(d.small[:0], d.layout, s)
			for _, v := range d.small {
				d.indexes = append(d.indexes, d.number(uint64(uint32(v))))
			}
		}
		if len(d.plain) > d.limit {
			d.last = nil
			clear(d.byText)
			return nil, errLarge
		}
	}
	return d.indexes, nil
}

// number returns the number of a value of fixed width.
func (d *dictionary) number(v uint64) uint32 {
	mask := len(d.slots) - 1
	at := int(v * factor >> d.shift)
	for {
		s := &d.slots[at]
		switch {
		case s.index == 0:
			s.value, s.index = v, uint32(d.count)+1
			d.count++
			if d.layout == longs {
				d.plain = binary.LittleEndian.AppendUint64(d.plain, v)
			} else {
				d.plain = binary.LittleEndian.AppendUint32(d.plain, uint32(v))
			}
			if 2*d.count > len(d.slots) {
				d.grow()
			}
			return uint32(d.count) - 1
		case s.value == v:
			return s.index - 1
		}
		at = (at + 1) & mask
	}
}

func (d *dictionary) grow() {
	old := d.slots
	d.slots = make([]slot, 2*len(old))
	d.shift--
	for _, s := range old {
		if s.index == 0 {
			continue
		}
		at := int(s.value * factor >> d.shift)
		for d.slots[at].index != 0 {
			at = (at + 1) & (len(d.slots) - 1)
		}
		d.slots[at] = s
	}
}

// texts numbers texts, until the dictionary is too large.
func (d *dictionary) texts(s span) {
	if a, ok := s.values.(*array.Dictionary); ok {
		values := a.Dictionary()
		if d.last != values {
			d.last = values
			d.known = slices.Grow(d.known[:0], values.Len())[:values.Len()]
			for i := range d.known {
				d.known[i] = -1
			}
		}
		at, text := textsOf(values)
		for _, k := range a.Indices().(*array.Int32).Int32Values()[s.from:s.to] {
			if d.known[k] < 0 {
				d.known[k] = int32(d.text(text[at[k]:at[k+1]]))
			}
			d.indexes = append(d.indexes, uint32(d.known[k]))
		}
		return
	}
	at, text := textsOf(s.values)
	at = at[s.from : s.to+1]
	from := at[0]
	for _, to := range at[1:] {
		d.indexes = append(d.indexes, d.text(text[from:to]))
		from = to
		if len(d.plain) > d.limit {
			return
		}
	}
}

func (d *dictionary) text(v []byte) uint32 {
	index, ok := d.byText[string(v)]
	if !ok {
		index = uint32(d.count)
		d.byText[string(v)] = index
		d.count++
		d.plain = binary.LittleEndian.AppendUint32(d.plain, uint32(len(v)))
		d.plain = append(d.plain, v...)
	}
	return index
}

// appendDeltas appends values in the encoding DELTA_BINARY_PACKED: blocks of 128 differences in four miniblocks, each
// with as many bits as its largest difference over the block's least needs.
func appendDeltas(b []byte, values []int64) []byte {
	const block, mini = 128, 32
	b = binary.AppendUvarint(b, block)
	b = binary.AppendUvarint(b, block/mini)
	b = binary.AppendUvarint(b, uint64(len(values)))
	if len(values) == 0 {
		return binary.AppendVarint(b, 0)
	}
	b = binary.AppendVarint(b, values[0])
	var deltas [block]uint64
	for at := 1; at < len(values); at += block {
		n := min(block, len(values)-at)
		least := int64(math.MaxInt64)
		for i := range n {
			delta := values[at+i] - values[at+i-1] // which may wrap around, and does so again when it is read
			least = min(least, delta)
			deltas[i] = uint64(delta)
		}
		clear(deltas[n:])
		b = binary.AppendVarint(b, least)
		widths := len(b)
		b = append(b, make([]byte, block/mini)...)
		for m := 0; m*mini < n; m++ {
			group := deltas[m*mini : (m+1)*mini]
			all := uint64(0)
			for i := range group {
				if m*mini+i < n {
					group[i] -= uint64(least)
				}
				all |= group[i]
			}
			width := bits.Len64(all)
			b[widths+m] = byte(width)
			b = packWide(b, group, uint(width))
		}
	}
	return b
}

// packWide is packBits for values of up to 64 bits.
func packWide(b []byte, values []uint64, width uint) []byte {
	if width <= 32 {
		return packBits(b, values, width)
	}
	// Of each value the lower half, and then what is left of it.
	acc, have := uint64(0), uint(0)
	put := func(v uint64, n uint) {
		acc |= v << have
		for have += n; have >= 8; have -= 8 {
			b = append(b, byte(acc))
			acc >>= 8
		}
	}
	for _, v := range values {
		put(v&math.MaxUint32, 32)
		put(v>>32, width-32)
	}
	return b
}
