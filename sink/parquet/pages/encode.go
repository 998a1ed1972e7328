package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/tasterhq/taster/sink/parquet/modular"
)

// node is a step of the way from a column of the schema to one of its leaves.
type node struct {
	nullable bool
	list     uint32 // for a list, how many lists this is the innermost of; 0 for anything else
	child    int    // of a struct; -1 at the leaf
}

// leaf is a column of values, and how its chunks are written.
type leaf struct {
	desc       *schema.Column
	ordinal    int // among the leaves of the file
	path       []node
	def, rep   int // the largest levels
	layout     layout
	dictionary bool
	delta      bool
	summed     bool // has statistics
	codec      compress.Codec
	zstandard  bool // which the codec is
	level      int
}

// leavesOf calls for each leaf of a field, in the order of Parquet.
func leavesOf(f arrow.Field, path []node, found func(path []node, t arrow.DataType) error) error {
	step := func(n node) []node {
		n.nullable = f.Nullable
		return append(path[:len(path):len(path)], n)
	}
	switch t := f.Type.(type) {
	case *arrow.StructType:
		if t.NumFields() == 0 {
			return errors.New("a struct without fields")
		}
		for i, child := range t.Fields() {
			if err := leavesOf(child, step(node{child: i}), found); err != nil {
				return err
			}
		}
		return nil
	case arrow.ListLikeType:
		depth := uint32(1)
		for _, n := range path {
			if n.list > 0 {
				depth++
			}
		}
		return leavesOf(t.ElemField(), step(node{list: depth}), found)
	}
	return found(step(node{child: -1}), f.Type)
}

func newLeaf(desc *schema.Column, ordinal int, path []node, t arrow.DataType, props *pq.WriterProperties) (*leaf, error) {
	at := desc.Path()
	l := &leaf{
		desc: desc, ordinal: ordinal, path: path,
		dictionary: props.DictionaryEnabledFor(at), summed: props.StatisticsEnabledFor(at) && desc.SortOrder() != schema.SortUNKNOWN,
		level: props.CompressionLevelFor(at),
	}
	for _, n := range path {
		if n.nullable {
			l.def++
		}
		if n.list > 0 {
			l.def++
			l.rep++
		}
	}
	if l.def != int(desc.MaxDefinitionLevel()) || l.rep != int(desc.MaxRepetitionLevel()) {
		return nil, errors.New("its layout has other levels")
	}
	var err error
	if l.layout, err = layoutOf(t, desc.PhysicalType()); err != nil {
		return nil, err
	}
	if l.layout == flags {
		l.dictionary = false
	}
	if l.layout == texts || l.rep > 0 {
		l.summed = false // texts are long, and the least and the largest element of all lists are nothing to skip by
	}
	switch how := props.EncodingFor(at); {
	case l.dictionary || how == pq.Encodings.Plain:
	case how == pq.Encodings.DeltaBinaryPacked && l.layout == longs:
		l.delta = true
	default:
		return nil, fmt.Errorf("no support for the encoding %s", how)
	}
	if codec := props.CompressionFor(at); codec != compress.Codecs.Uncompressed {
		if l.codec, err = compress.GetCodec(codec); err != nil {
			return nil, err
		}
		l.zstandard = codec == compress.Codecs.Zstd
	}
	return l, nil
}

// Column is what became of a column of a row group.
type Column struct {
	chunks   []chunk
	encoders []*encoder
}

// chunk is a column chunk.
type chunk struct {
	leaf       *leaf
	group      int
	dictionary pieces // page and header
	pages      pieces // data pages and their headers
	count      int    // of data pages
	size       int64  // of all pages and headers before compression and encryption
	entries    int64  // values, nulls and empty lists
	encoding   pq.Encoding
	summary    *metadata.EncodedStatistics // nil: none
}

// Release gives memory back that other columns will use. Whoever has an encoded column appended need not.
func (c *Column) Release() {
	for _, e := range c.encoders {
		e.giveBack()
	}
	c.chunks, c.encoders = nil, nil
}

// Rows are rows of an array, in ranges that rise. They are written from where they are.
type Rows struct {
	Array  arrow.Array
	Ranges []Range
}

// Range is the rows [From, To).
type Range struct{ From, To int }

// All returns all rows of an array.
func All(arr arrow.Array) Rows { return Rows{arr, []Range{{0, arr.Len()}}} }

// Encode encodes one column of the row group that comes after so many, whose rows are these together.
func (w *Writer) Encode(group, column int, rows []Rows) (*Column, error) {
	if group > math.MaxInt16 {
		return nil, errors.New("too many row groups")
	}
	c := &Column{}
	for _, l := range w.leaves[column] {
		e := takeEncoder()
		c.encoders = append(c.encoders, e)
		one, err := e.encode(w, l, group, rows)
		if err != nil {
			c.Release()
			return nil, fmt.Errorf("column %s: %w", l.desc.Path(), err)
		}
		c.chunks = append(c.chunks, one)
	}
	return c, nil
}

// span is values [from, to) of an array of a leaf, none of which is null.
type span struct {
	values   arrow.Array
	from, to int
}

// encoder makes one column chunk.
type encoder struct {
	*leaf
	w     *Writer
	group int

	// The page that is being gathered.
	reps, defs runs
	spans      []span
	entries    int
	present    int // values

	indexes runs
	index   dictionary
	sums    metadata.TypedStatistics
	values  scratch

	plain, packed, header []byte
	out, first            pieces
	done                  chunk
}

// errLarge says that a dictionary has outgrown its page.
var errLarge = errors.New("a dictionary too large")

func (e *encoder) encode(w *Writer, l *leaf, group int, rows []Rows) (chunk, error) {
	e.leaf, e.w, e.group = l, w, group
	defer func() { // so that the pool keeps no arrays alive
		e.leaf, e.w, e.sums, e.index.last = nil, nil, nil, nil
		clear(e.spans)
		e.spans = e.spans[:0]
	}()
	if l.dictionary {
		e.index.reset(l.layout, int(w.props.DictionaryPageSizeLimit()))
		err := e.pages(rows, w.props.DictionaryIndexEncoding())
		switch {
		case errors.Is(err, errLarge) || err == nil && len(e.index.plain) == 0:
		case err != nil:
			return chunk{}, err
		default:
			err = e.dictionaryPage()
			return e.done, err
		}
	}
	how := pq.Encodings.Plain
	if l.delta {
		how = pq.Encodings.DeltaBinaryPacked
	}
	err := e.pages(rows, how)
	return e.done, err
}

// pages makes the data pages.
func (e *encoder) pages(rows []Rows, how pq.Encoding) error {
	e.done = chunk{leaf: e.leaf, group: e.group, encoding: how}
	e.out.drop()
	e.first.drop()
	if e.summed {
		e.sums = metadata.NewStatistics(e.desc, memory.DefaultAllocator)
	}
	e.begin()
	most := int(e.w.props.DataPageSize())
	size := 0
	for _, r := range rows {
		for _, at := range r.Ranges {
			for from := at.From; from < at.To; {
				// As many rows as fill the page, and one at least.
				to := at.To
				if size+e.sizeOf(r.Array, from, to) > most {
					to = from + sort.Search(to-from, func(i int) bool { return size+e.sizeOf(r.Array, from, from+i+1) > most })
					if to == from && e.entries == 0 {
						to++
					}
				}
				if to > from {
					size += e.sizeOf(r.Array, from, to)
					e.walk(0, r.Array, from, to, 0, 0, 0)
				}
				if from = to; from < at.To {
					if err := e.page(); err != nil {
						return err
					}
					size = 0
				}
			}
		}
	}
	if e.entries > 0 || e.done.count == 0 {
		if err := e.page(); err != nil {
			return err
		}
	}
	e.done.pages = e.out
	if e.summed && e.done.entries > 0 {
		sum, err := e.sums.Encode()
		if err != nil {
			return err
		}
		sum.Signed = e.desc.SortOrder() == schema.SortSIGNED
		e.done.summary = &sum
	}
	return nil
}

// sizeOf is about how many bytes the rows [from, to) are, without levels.
func (e *encoder) sizeOf(arr arrow.Array, from, to int) int {
	for _, n := range e.path {
		switch {
		case from == to:
			return 0
		case n.list > 0:
			lists := arr.(array.ListLike)
			begin, _ := lists.ValueOffsets(from)
			_, end := lists.ValueOffsets(to - 1)
			arr, from, to = lists.ListValues(), int(begin), int(end)
		case n.child >= 0:
			arr = arr.(*array.Struct).Field(n.child)
		}
	}
	return e.layout.size(arr, from, to)
}

// walk gathers the rows [from, to) of an array at a step of the way: the levels of all, and where the values are. first
// is the repetition level of the first of them, rest that of the others, and def what defines their parents.
func (e *encoder) walk(step int, arr arrow.Array, from, to int, first, rest uint32, def uint32) {
	n := e.path[step]
	if !n.nullable {
		e.descend(step, arr, from, to, first, rest, def)
		return
	}
	if arr.NullN() == 0 {
		e.descend(step, arr, from, to, first, rest, def+1)
		return
	}
	for from < to {
		end, null := from+1, arr.IsNull(from)
		for end < to && arr.IsNull(end) == null {
			end++
		}
		if null {
			e.levels(end-from, first, rest, def)
		} else {
			e.descend(step, arr, from, end, first, rest, def+1)
		}
		from, first = end, rest
	}
}

// descend is walk for rows none of which is null at this step.
func (e *encoder) descend(step int, arr arrow.Array, from, to int, first, rest uint32, def uint32) {
	n := e.path[step]
	switch {
	case n.list > 0:
		lists := arr.(array.ListLike)
		elements := lists.ListValues()
		if l, ok := lists.(*array.List); ok && from < to {
			// The same without asking for every list, and empty ones at once: most rows have no findings.
			at := l.Offsets()[l.Data().Offset()+from : l.Data().Offset()+to+1]
			for i := 0; i < len(at)-1; first = rest {
				end := i + 1
				if at[i] == at[end] {
					for end < len(at)-1 && at[end+1] == at[i] {
						end++
					}
					e.levels(end-i, first, rest, def)
				} else {
					e.walk(step+1, elements, int(at[i]), int(at[end]), first, n.list, def+1)
				}
				i = end
			}
			return
		}
		for i := from; i < to; i++ {
			if begin, end := lists.ValueOffsets(i); begin == end {
				e.levels(1, first, rest, def)
			} else {
				e.walk(step+1, elements, int(begin), int(end), first, n.list, def+1)
			}
			first = rest
		}
	case n.child >= 0:
		e.walk(step+1, arr.(*array.Struct).Field(n.child), from, to, first, rest, def)
	case from < to:
		e.levels(to-from, first, rest, def)
		e.present += to - from
		if last := len(e.spans) - 1; last >= 0 && e.spans[last].values == arr && e.spans[last].to == from {
			e.spans[last].to = to
		} else {
			e.spans = append(e.spans, span{arr, from, to})
		}
	}
}

// levels adds n entries to the page.
func (e *encoder) levels(n int, first, rest, def uint32) {
	e.entries += n
	if e.rep > 0 {
		e.reps.put(first, 1)
		e.reps.put(rest, n-1)
	}
	if e.def > 0 {
		e.defs.put(def, n)
	}
}

// begin begins a page.
func (e *encoder) begin() {
	e.reps.reset(uint(bits.Len(uint(e.rep))))
	e.defs.reset(uint(bits.Len(uint(e.def))))
	clear(e.spans) // which would keep arrays alive
	e.spans, e.entries, e.present = e.spans[:0], 0, 0
}

// page ends a page.
func (e *encoder) page() error {
	b := e.plain[:0]
	if e.rep > 0 {
		b = block(b, e.reps.end())
	}
	if e.def > 0 {
		b = block(b, e.defs.end())
	}
	switch e.done.encoding {
	case pq.Encodings.Plain:
		b = e.layout.plain(b, e.spans)
	case pq.Encodings.DeltaBinaryPacked:
		b = appendDeltas(b, e.values.longs(e.spans))
	default:
		// Indexes need no more bits than the dictionary has by now, and one at least, since readers were seen that cannot do
		// without.
		indexes, err := e.index.of(e.spans)
		if err != nil {
			return err
		}
		width := max(1, bits.Len(uint(max(0, e.index.len()-1))))
		e.indexes.reset(uint(width))
		for _, i := range indexes {
			e.indexes.put(i, 1)
		}
		b = append(append(b, byte(width)), e.indexes.end()...)
	}
	e.plain = b
	if e.sums != nil {
		e.values.sum(e.sums, e.layout, e.spans, e.entries-e.present)
	}
	head := func(h []byte) []byte {
		h = append(h, 0x2C) // field 5: DataPageHeader
		h = thriftNumber(h, e.entries)
		h = thriftNumber(h, int(e.done.encoding))
		h = thriftNumber(h, int(pq.Encodings.RLE))
		h = thriftNumber(h, int(pq.Encodings.RLE))
		return append(h, 0)
	}
	err := e.put(&e.out, 0, modular.DataPageHeaderModule, modular.DataPageModule, head)
	e.done.entries += int64(e.entries)
	e.done.count++
	e.begin()
	return err
}

// block appends levels behind their length.
func block(b, levels []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(levels))), levels...)
}

func (e *encoder) dictionaryPage() error {
	e.plain = append(e.plain[:0], e.index.plain...)
	err := e.put(&e.first, 2, modular.DictionaryPageHeaderModule, modular.DictionaryPageModule, func(h []byte) []byte {
		h = append(h, 0x4C) // field 7: DictionaryPageHeader
		h = thriftNumber(h, e.index.len())
		h = thriftNumber(h, int(e.w.props.DictionaryPageEncoding()))
		return append(h, 0x12, 0) // it is not sorted
	})
	e.done.dictionary = e.first
	return err
}

// thriftNumber appends the field of a number that follows the field before.
func thriftNumber(h []byte, n int) []byte {
	return binary.AppendVarint(append(h, 0x15), int64(n))
}

// put appends a page, whose content is e.plain, and its header, of which rest is what only this kind of page has.
func (e *encoder) put(to *pieces, kind int, headerModule, pageModule modular.Module, rest func([]byte) []byte) error {
	body := e.plain
	if e.codec != nil {
		if most := int(e.codec.CompressBound(int64(len(e.plain)))); cap(e.packed) < most {
			e.packed = make([]byte, 0, most)
		}
		if e.zstandard && len(e.plain) <= window {
			body = e.zstd().EncodeAll(e.plain, e.packed[:0])
		} else {
			body = e.codec.EncodeLevel(e.packed[:0], e.plain, e.level)
		}
		if cap(body) > cap(e.packed) {
			e.packed = body
		}
	}
	size := len(body)
	if e.w.sealed != nil {
		size += modular.Overhead
	}
	if size > math.MaxInt32 || e.done.count > math.MaxInt16 {
		return errors.New("a page too large, or too many of them")
	}
	e.header = thriftNumber(e.header[:0], kind)
	e.header = thriftNumber(e.header, len(e.plain))
	e.header = thriftNumber(e.header, size)
	e.header = append(rest(e.header), 0)
	into := to.end(len(e.header) + modular.Overhead + size)
	begun := len(*into)
	if sealed := e.w.sealed; sealed == nil {
		*into = append(append(*into, e.header...), body...)
	} else {
		key := sealed.columns[e.ordinal]
		*into = seal(*into, key, e.header, sealed.place(headerModule, e.group, e.ordinal, e.done.count))
		*into = seal(*into, key, body, sealed.place(pageModule, e.group, e.ordinal, e.done.count))
	}
	put := len(*into) - begun
	to.size += int64(put)
	e.done.size += int64(put - size + len(e.plain))
	return nil
}
