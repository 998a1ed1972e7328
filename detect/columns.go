package detect

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

// Misfit is a row with a vector that cannot be compared with the others, by its length.
type Misfit struct {
	Row     int
	Pointer string // the role's pointer
	Length  int
	Want    int
}

// NewSample lays out the rows of batches by the roles of c. Texts and, where one batch holds vectors of one length
// only, embeddings are read in place: the sample is good as long as the batches are.
//
// Vectors must have one length. It is like's, where like has any (nil: it has none), otherwise the most common in the
// batches; a row with another length has no vector, or no features, and is told as a Misfit, by rising row.
//
// A role whose column the batches lack is an error, and so is a column of a type that cannot play the role.
func NewSample(c *contract.Contract, batches []*record.Batch, like *Sample) (*Sample, []Misfit, error) {
	return newSample(c, &layout{batches: batches, workers: 1}, like)
}

// MoveSample is NewSample for whoever has the batches for himself. All vectors of a role move into one piece of memory, of which the batches' columns are
// parts afterwards, and behind them is room for so many rows more: the first Join to ask for no more than that copies none of the sample's own vectors.
// Up to so many goroutines join texts and gather features.
func MoveSample(c *contract.Contract, batches []*record.Batch, like *Sample, room, workers int) (*Sample, []Misfit, error) {
	return newSample(c, &layout{batches: batches, moves: true, room: room, workers: workers}, like)
}

func newSample(c *contract.Contract, b *layout, like *Sample) (*Sample, []Misfit, error) {
	s := &Sample{}
	b.sample = s
	batches := b.batches
	for _, one := range batches {
		b.starts = append(b.starts, s.N)
		s.N += int(one.Records.NumRows())
	}
	if like == nil {
		like = &Sample{}
	}
	r := c.Roles
	if err := b.text(r.Text); err != nil {
		return nil, nil, err
	}
	if r.Label != "" {
		if err := b.label(r.Label); err != nil {
			return nil, nil, err
		}
	}
	if len(r.Features) > 0 {
		if err := b.features(r.Features, len(like.FeatureNames)); err != nil {
			return nil, nil, err
		}
	}
	if r.Embedding != "" {
		var err error
		if s.Embedding, s.Dim, s.HasEmbedding, err = b.matrix("embedding", r.Embedding, like.Dim); err != nil {
			return nil, nil, err
		}
	}
	if r.Probabilities != "" {
		var err error
		if s.Probabilities, s.Outcomes, _, err = b.matrix("probabilities", r.Probabilities, like.Outcomes); err != nil {
			return nil, nil, err
		}
	}
	if r.Loss != "" {
		if err := b.loss(r.Loss); err != nil {
			return nil, nil, err
		}
	}
	if r.Gradient != "" {
		var err error
		if s.Gradient, s.GradientDim, _, err = b.matrix("gradient", r.Gradient, like.GradientDim); err != nil {
			return nil, nil, err
		}
	}
	if b.moves {
		s.room = &room{embedding: s.Embedding, probabilities: s.Probabilities, gradient: s.Gradient}
		s.Embedding, s.Probabilities, s.Gradient = slices.Clip(s.Embedding), slices.Clip(s.Probabilities), slices.Clip(s.Gradient)
	}
	b.provider(r.Provider)
	slices.SortFunc(b.misfits, func(x, y Misfit) int { return x.Row - y.Row })
	return s, b.misfits, nil
}

// layout builds one sample.
type layout struct {
	sample  *Sample
	batches []*record.Batch
	misfits []Misfit
	moves   bool  // vectors into one piece of memory
	room    int   // for so many rows behind them
	workers int   // goroutines
	starts  []int // of each batch, its first row
}

// columns returns the column that pointer names in every batch.
func (b *layout) columns(role, pointer string) ([]arrow.Array, error) {
	out := make([]arrow.Array, len(b.batches))
	for i, batch := range b.batches {
		column, ok := record.Lookup(batch.Records, pointer)
		if !ok {
			return nil, fmt.Errorf("roles.%s: there is no column %s: is the field dropped, or not in the schema?", role, pointer)
		}
		out[i] = column
	}
	return out, nil
}

func wrongType(role, pointer string, t arrow.DataType, want string) error {
	return fmt.Errorf("roles.%s: column %s is of type %s: want %s", role, pointer, t, want)
}

// view returns s as bytes, without a copy. They must not be written to.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringsOf returns how to read a string column, or nil for another type. Null is nil, and nothing else is.
func stringsOf(column arrow.Array) func(i int) []byte {
	empty := []byte{}
	var value func(i int) string
	switch a := column.(type) {
	case *array.String:
		value = a.Value
	case *array.LargeString:
		value = a.Value
	case *array.StringView:
		value = a.Value
	case *array.Dictionary:
		words, ok := a.Dictionary().(*array.String)
		if !ok {
			return nil
		}
		value = func(i int) string { return words.Value(a.GetValueIndex(i)) }
	default:
		return nil
	}
	return func(i int) []byte {
		if column.IsNull(i) {
			return nil
		}
		if s := value(i); s != "" {
			return view(s)
		}
		return empty
	}
}

// textsOf returns how to append a text column's row to dst; an array of strings gives its items line by line.
func textsOf(column arrow.Array) func(dst []byte, i int) ([]byte, bool) {
	if read := stringsOf(column); read != nil {
		return func(dst []byte, i int) ([]byte, bool) {
			text := read(i)
			return append(dst, text...), text != nil
		}
	}
	list, ok := column.(array.ListLike)
	if !ok {
		return nil
	}
	read := stringsOf(list.ListValues())
	if read == nil {
		return nil
	}
	return func(dst []byte, i int) ([]byte, bool) {
		if column.IsNull(i) {
			return dst, false
		}
		from, to := list.ValueOffsets(i)
		for at := from; at < to; at++ {
			if at > from {
				dst = append(dst, '\n')
			}
			dst = append(dst, read(int(at))...)
		}
		return dst, true
	}
}

func (b *layout) text(pointers []string) error {
	if len(pointers) == 0 {
		return nil
	}
	s := b.sample
	s.Text = make([][]byte, s.N)
	fields := make([][]arrow.Array, len(pointers))
	for p, pointer := range pointers {
		columns, err := b.columns("text", pointer)
		if err != nil {
			return err
		}
		for _, column := range columns {
			if textsOf(column) == nil {
				return wrongType("text", pointer, column.DataType(), "a string or an array of strings")
			}
		}
		fields[p] = columns
	}
	Chunks(len(b.batches), 1, b.workers, func() func(at, _ int) {
		room := 0 // for a row's text, going by the batch before
		return func(at, _ int) {
			batch := b.batches[at]
			rows := int(batch.Records.NumRows())
			texts := s.Text[b.starts[at]:][:rows]
			if len(pointers) == 1 {
				if read := stringsOf(fields[0][at]); read != nil {
					for i := range texts {
						texts[i] = read(i)
					}
					return
				}
			}
			// All texts of the batch are joined in one arena, so texts are cut out of it last.
			ends := make([]int, rows)
			parts := make([]arrow.Array, len(pointers))
			for p := range pointers {
				parts[p] = fields[p][at]
			}
			arena, ok := joinStrings(parts, ends)
			if !ok {
				arena = joinTexts(parts, ends, min(rows*room, int(batch.Bytes)))
			}
			room = len(arena)*9/8/max(1, rows) + 1
			from := 0
			for i, to := range ends {
				if to >= 0 {
					texts[i] = arena[from:to:to]
					from = to
				}
			}
		}
	})
	return nil
}

// joinStrings is joinTexts of plain string columns, whose length is known; false for others.
func joinStrings(columns []arrow.Array, ends []int) (arena []byte, ok bool) {
	type plain struct {
		values  []byte // of the rows, one behind the other
		offsets []int32
		nulls   arrow.Array // nil: none
	}
	parts, size := make([]plain, len(columns)), len(ends)*(len(columns)-1)
	for p, column := range columns {
		a, ok := column.(*array.String)
		if !ok || a.Len() == 0 {
			return nil, false
		}
		parts[p] = plain{values: a.ValueBytes(), offsets: a.ValueOffsets()}
		if a.NullN() > 0 {
			parts[p].nulls = a
		}
		size += len(parts[p].values)
	}
	arena = make([]byte, 0, size)
	for i := range ends {
		any := false
		for p := range parts {
			part := &parts[p]
			if part.nulls != nil && part.nulls.IsNull(i) {
				continue
			}
			if any {
				arena = append(arena, '\n')
			}
			first := part.offsets[0]
			arena = append(arena, part.values[part.offsets[i]-first:part.offsets[i+1]-first]...)
			any = true
		}
		if ends[i] = len(arena); !any {
			ends[i] = -1
		}
	}
	return arena, true
}

// joinTexts joins the texts of each row line by line, one row behind the other, and sets ends to where each row's end, or -1 where it has none. Room is
// about how many bytes they have.
func joinTexts(columns []arrow.Array, ends []int, room int) []byte {
	readers := make([]func([]byte, int) ([]byte, bool), len(columns))
	for p, column := range columns {
		readers[p] = textsOf(column)
	}
	arena := make([]byte, 0, room)
	for i := range ends {
		any := false
		for _, read := range readers {
			mark := len(arena)
			if any {
				arena = append(arena, '\n')
			}
			var present bool
			if arena, present = read(arena, i); !present {
				arena = arena[:mark]
			}
			any = any || present
		}
		if ends[i] = len(arena); !any {
			ends[i] = -1
		}
	}
	return arena
}

// names numbers strings in the order in which they first appear.
type names struct {
	list  []string
	index map[string]int32
	last  int32
}

func (n *names) number(name []byte) int32 {
	if n.list != nil && n.list[n.last] == string(name) {
		return n.last
	}
	at, ok := n.index[string(name)]
	if !ok {
		if n.index == nil {
			n.index = map[string]int32{}
		}
		at = int32(len(n.list))
		word := string(name)
		n.list = append(n.list, word)
		n.index[word] = at
	}
	n.last = at
	return at
}

func (b *layout) label(pointer string) error {
	columns, err := b.columns("label", pointer)
	if err != nil {
		return err
	}
	s := b.sample
	s.Label = make([]int32, 0, s.N)
	var classes names
	var scratch []byte
	for _, column := range columns {
		read := stringsOf(column)
		if read == nil {
			var format func(dst []byte, i int) []byte
			if flags, ok := column.(*array.Boolean); ok {
				format = func(dst []byte, i int) []byte { return strconv.AppendBool(dst, flags.Value(i)) }
			} else if number := numbersOf(column); number != nil {
				// Integers up to 2⁵³ and class numbers written as 1.0 alike come out without a point.
				format = func(dst []byte, i int) []byte { return strconv.AppendFloat(dst, number(i), 'f', -1, 64) }
				if whole, ok := column.(*array.Int64); ok {
					format = func(dst []byte, i int) []byte { return strconv.AppendInt(dst, whole.Value(i), 10) }
				}
			} else {
				return wrongType("label", pointer, column.DataType(), "a string, a number or a boolean")
			}
			read = func(i int) []byte {
				if column.IsNull(i) {
					return nil
				}
				scratch = format(scratch[:0], i)
				return scratch
			}
		}
		for i := range column.Len() {
			number := int32(-1)
			if name := read(i); name != nil {
				number = classes.number(name)
			}
			s.Label = append(s.Label, number)
		}
	}
	s.Classes = classes.list
	return nil
}

// numbersOf returns how to read a column of numbers or booleans, null apart, or nil for another type.
func numbersOf(column arrow.Array) func(i int) float64 {
	switch a := column.(type) {
	case *array.Float64:
		return a.Value
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int64:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint64:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Boolean:
		return func(i int) float64 {
			if a.Value(i) {
				return 1
			}
			return 0
		}
	}
	return nil
}

func (b *layout) features(pointers []string, width int) error {
	s := b.sample
	if len(pointers) == 1 {
		columns, err := b.columns("features", pointers[0])
		if err != nil {
			return err
		}
		if len(columns) == 0 {
			return nil
		}
		if _, ok := columns[0].(array.ListLike); ok {
			return b.featureList(pointers[0], columns, width)
		}
	}
	s.FeatureNames = slices.Clone(pointers)
	s.Features = make([]float64, s.N*len(pointers))
	fields := make([][]arrow.Array, len(pointers))
	for j, pointer := range pointers {
		columns, err := b.columns("features", pointer)
		if err != nil {
			return err
		}
		for _, column := range columns {
			if numbersOf(column) == nil {
				return wrongType("features", pointer, column.DataType(), "numbers, or one array of numbers")
			}
		}
		fields[j] = columns
	}
	Rows(len(b.batches), 1, b.workers, func(batch, _ int) {
		for j := range pointers {
			column := fields[j][batch]
			read := numbersOf(column)
			at := b.starts[batch]*len(pointers) + j
			for i := range column.Len() {
				v := math.NaN()
				if !column.IsNull(i) {
					v = read(i)
				}
				s.Features[at] = v
				at += len(pointers)
			}
		}
	})
	return nil
}

func (b *layout) featureList(pointer string, columns []arrow.Array, width int) error {
	s := b.sample
	lists, err := vectors("features", pointer, columns)
	if err != nil {
		return err
	}
	if width == 0 {
		width = commonLength(lists)
	}
	for j := range width {
		s.FeatureNames = append(s.FeatureNames, pointer+"/"+strconv.Itoa(j))
	}
	s.Features = make([]float64, 0, s.N*width)
	row := -1
	for _, list := range lists {
		read := numbersOf(list.ListValues())
		for i := range list.Len() {
			row++
			from, to := list.ValueOffsets(i)
			absent := list.IsNull(i)
			if !absent && int(to-from) != width {
				b.misfits = append(b.misfits, Misfit{row, pointer, int(to - from), width})
				absent = true
			}
			for j := range width {
				v := math.NaN()
				if at := int(from) + j; !absent && !list.ListValues().IsNull(at) {
					v = read(at)
				}
				s.Features = append(s.Features, v)
			}
		}
	}
	return nil
}

func vectors(role, pointer string, columns []arrow.Array) ([]array.ListLike, error) {
	lists := make([]array.ListLike, len(columns))
	for i, column := range columns {
		list, ok := column.(array.ListLike)
		if !ok || numbersOf(list.ListValues()) == nil {
			return nil, wrongType(role, pointer, column.DataType(), "an array of numbers")
		}
		lists[i] = list
	}
	return lists, nil
}

// commonLength returns the length that most lists have; the smaller of two that are as common.
func commonLength(lists []array.ListLike) int {
	count := map[int]int{}
	for _, list := range lists {
		for i := range list.Len() {
			if !list.IsNull(i) {
				from, to := list.ValueOffsets(i)
				count[int(to-from)]++
			}
		}
	}
	best := 0
	for length, n := range count {
		if n > count[best] || n == count[best] && length < best {
			best = length
		}
	}
	return best
}

// matrix lays out a role's vectors as n × width values, row after row. width is 0 for whatever length is the most
// common. has is nil where every row has a vector; a row without has zeros.
func (b *layout) matrix(role, pointer string, width int) (values []float32, _ int, has []bool, err error) {
	columns, err := b.columns(role, pointer)
	if err != nil {
		return nil, 0, nil, err
	}
	lists, err := vectors(role, pointer, columns)
	if err != nil {
		return nil, 0, nil, err
	}
	if width == 0 {
		width = commonLength(lists)
	}
	if len(lists) == 1 && !b.moves {
		if values, ok := contiguous(lists[0], width); ok {
			return values, width, nil, nil
		}
	}
	n := b.sample.N
	values = make([]float32, 0, (n+b.room)*width)
	row := -1
	lacking := func() {
		if has == nil {
			has = slices.Repeat([]bool{true}, n)
		}
		has[row] = false
		values = append(values, make([]float32, width)...)
	}
	for at, list := range lists {
		if part, ok := contiguous(list, width); ok {
			values = append(values, part...)
			row += list.Len()
			if b.moves {
				b.move(at, pointer, values[len(values)-len(part):])
			}
			continue
		}
		read := numbersOf(list.ListValues())
		short, _ := list.ListValues().(*array.Float32)
		for i := range list.Len() {
			row++
			from, to := list.ValueOffsets(i)
			switch {
			case list.IsNull(i):
				lacking()
			case int(to-from) != width:
				b.misfits = append(b.misfits, Misfit{row, pointer, int(to - from), width})
				lacking()
			case short != nil:
				values = append(values, short.Float32Values()[from:to]...)
			default:
				for at := from; at < to; at++ {
					values = append(values, float32(read(int(at))))
				}
			}
		}
	}
	return values, width, has, nil
}

// move makes a batch's column of vectors, of which none is missing, a part of the sample's, whatever else the column's memory was for. That of a field of a
// struct stays where it is.
func (b *layout) move(batch int, pointer string, values []float32) {
	tokens, ok := record.Tokens(pointer)
	if !ok || len(tokens) != 1 {
		return
	}
	old := b.batches[batch].Records
	columns := slices.Clone(old.Columns())
	at := old.Schema().FieldIndices(tokens[0])[0]
	list, ok := columns[at].(*array.List)
	if !ok || list.Offset() != 0 || list.Offsets()[0] != 0 {
		return
	}
	bytes := memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(slices.Clip(values)))
	child := array.NewData(list.ListValues().DataType(), len(values), []*memory.Buffer{nil, bytes}, nil, 0, 0)
	defer child.Release()
	data := array.NewData(list.DataType(), list.Len(), list.Data().Buffers(), []arrow.ArrayData{child}, 0, 0)
	defer data.Release()
	columns[at] = array.NewListData(data)
	defer columns[at].Release()
	b.batches[batch].Records = array.NewRecordBatch(old.Schema(), columns, old.NumRows())
	old.Release()
}

func (b *layout) loss(pointer string) error {
	columns, err := b.columns("loss", pointer)
	if err != nil {
		return err
	}
	s := b.sample
	s.Loss = make([]float64, 0, s.N)
	for _, column := range columns {
		read := numbersOf(column)
		if read == nil {
			return wrongType("loss", pointer, column.DataType(), "a number")
		}
		for i := range column.Len() {
			v := math.NaN()
			if !column.IsNull(i) {
				v = read(i)
			}
			s.Loss = append(s.Loss, v)
		}
	}
	return nil
}

// contiguous returns the values of a list column of float32 as they lie, where every row has dim of them.
func contiguous(list array.ListLike, dim int) ([]float32, bool) {
	values, ok := list.ListValues().(*array.Float32)
	n := list.Len()
	if !ok || n == 0 || dim == 0 || list.NullN() > 0 || values.NullN() > 0 {
		return nil, false
	}
	first, _ := list.ValueOffsets(0)
	for i := range n {
		if from, to := list.ValueOffsets(i); from != first+int64(i*dim) || to-from != int64(dim) {
			return nil, false
		}
	}
	return values.Float32Values()[first : int(first)+n*dim], true
}

func (b *layout) provider(p contract.Provider) {
	if p == (contract.Provider{}) {
		return
	}
	s := b.sample
	s.Provider = make([]int32, 0, s.N)
	var known names
	for _, batch := range b.batches {
		for _, name := range batch.Providers {
			number := int32(-1)
			if name != "" {
				number = known.number(view(name))
			}
			s.Provider = append(s.Provider, number)
		}
	}
	s.Providers = known.list
}
