package report

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// item is what is kept of a record to compare it with others.
type item struct {
	text     []byte    // of roles.text, at most textKept bytes; nil: none
	vector   []float32 // of roles.embedding; nil: none
	features []float64 // of roles.features, NaN where one is missing; nil: none
	order    uint64    // hash of the record's place: a random order that every run agrees on
}

const (
	scanned  = 1 << 18 // bytes of a text in which evidence is looked for
	textKept = 4096    // bytes of a text that are compared with others
)

// hash gives a record, or the segment that begins with it, its place in an order that is random and always the same.
func hash(source string, partition int32, offset int64) uint64 {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], uint32(partition))
	binary.LittleEndian.PutUint64(b[4:], uint64(offset))
	d := xxhash.New()
	_, _ = d.WriteString(source) // never fails, nor does the next
	_, _ = d.Write(b[:])
	return d.Sum64()
}

// best keeps the first n of any number of values, in an order without ties, in amortised constant time.
type best[T any] struct {
	n       int
	compare func(x, y T) int
	dropped func(T)
	values  []T
	last    *T // of the n best, as far as that is known
}

func newBest[T any](n int, compare func(x, y T) int, dropped func(T)) *best[T] {
	return &best[T]{n: n, compare: compare, dropped: dropped}
}

func (b *best[T]) add(v T) {
	if b.values = append(b.values, v); len(b.values) >= 2*b.n {
		b.cut()
	}
}

func (b *best[T]) cut() {
	slices.SortFunc(b.values, b.compare)
	if len(b.values) > b.n {
		for _, v := range b.values[b.n:] {
			b.dropped(v)
		}
		clear(b.values[b.n:])
		b.values = b.values[:b.n]
	}
	if len(b.values) == b.n {
		last := b.values[b.n-1]
		b.last = &last
	}
}

// hopeless says that v need not be added.
func (b *best[T]) hopeless(v T) bool { return b.last != nil && b.compare(v, *b.last) > 0 }

// list returns what is kept, in order.
func (b *best[T]) list() []T {
	b.cut()
	return slices.Clone(b.values)
}

// The sample of accepted records. Reading all their texts would take as long as reading the whole landing zone: rows are
// drawn from a few segments, and those are drawn with a chance that grows with the rows that they have, so that every row
// has much the same chance. Manifests and offsets do not change when files are merged, so neither does the sample.
const (
	sampledSegments = 64   // of one topic
	sampledRows     = 1000 // of one topic
)

type cleanSample struct {
	segments map[string]*best[candidate] // by topic
	ranges   map[record.Source][][2]int64
	rows     map[string]*best[*cleanRow] // by topic
}

type candidate struct {
	record.Source
	first, next int64
	key         float64
}

type cleanRow struct {
	partition    int32
	offset       int64
	id, provider string
	label        string
	item
}

func newCleanSample() *cleanSample {
	return &cleanSample{segments: map[string]*best[candidate]{}, rows: map[string]*best[*cleanRow]{}}
}

// offer takes a segment with n accepted rows into the draw (Efraimidis and Spirakis, Weighted random sampling with a
// reservoir, IPL 97, 2006: the smallest −ln(u)/n are drawn).
func (s *cleanSample) offer(m *manifest.Manifest, n int64) {
	if n <= 0 {
		return
	}
	drawn := s.segments[m.Topic]
	if drawn == nil {
		drawn = newBest(sampledSegments, func(x, y candidate) int {
			return cmp.Or(cmp.Compare(x.key, y.key), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.first, y.first))
		}, func(candidate) {})
		s.segments[m.Topic] = drawn
	}
	u := (float64(hash(m.TopicID, m.Partition, m.First)>>11) + 0.5) / (1 << 53)
	drawn.add(candidate{m.Source(), m.First, m.Next, -math.Log(u) / float64(n)})
	s.ranges = nil
}

// reads says whether a file may hold rows of a segment that was drawn.
func (s *cleanSample) reads(source record.Source, first, next int64) bool {
	if s.ranges == nil {
		s.ranges = map[record.Source][][2]int64{}
		for _, drawn := range s.segments {
			for _, c := range drawn.list() {
				s.ranges[c.Source] = append(s.ranges[c.Source], [2]int64{c.first, c.next})
			}
		}
	}
	return slices.ContainsFunc(s.ranges[source], func(r [2]int64) bool { return first < r[1] && r[0] < next })
}

// addClean takes accepted rows into the sample, if they have the columns for that.
func (b *Builder) addClean(rows arrow.RecordBatch, provider func(int) string) error {
	if !b.options.Explain || len(rows.Schema().FieldIndices("taster_offset")) == 0 {
		return nil
	}
	at, err := placeOf(rows)
	if err != nil {
		return err
	}
	source, err := texts(rows, "taster_source")
	if err != nil {
		return err
	}
	content := b.contents(rows)
	for i := range int(rows.NumRows()) {
		topic, id := at.topic(i), source(i)
		kept := b.clean.rows[topic]
		if kept == nil {
			kept = newBest(sampledRows, func(x, y *cleanRow) int {
				return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(x.partition, y.partition), cmp.Compare(x.offset, y.offset))
			}, func(*cleanRow) {})
			b.clean.rows[topic] = kept
		}
		row := &cleanRow{partition: int32(at.partition(i)), offset: at.offset(i)}
		row.order = hash(id, row.partition, row.offset)
		if kept.hopeless(row) || !b.clean.reads(record.Source{Topic: topic, ID: id, Partition: row.partition}, row.offset, row.offset+1) {
			continue
		}
		c, order := content(topic), row.order
		row.item, row.order = c.item(i), order
		row.text = slices.Clone(row.text[:min(len(row.text), textKept)])
		row.id, row.provider, row.label = b.id(rows, topic, id, row.partition, row.offset, i), provider(i), c.label(i)
		kept.add(row)
	}
	return nil
}

// content reads what the roles of a topic name in a batch of rows.
type content struct {
	texts    []func(i int) (string, bool)
	labels   func(i int) (string, bool)
	vectors  array.ListLike
	features []func(i int) []float64
	names    []string // of the features
}

// roleColumns are the top-level columns that contents looks at.
func roleColumns(r contract.Roles) []string {
	var names []string
	for _, pointer := range slices.Concat([]string{r.ID, r.Label, r.Embedding}, r.Text, r.Features) {
		if tokens, ok := record.Tokens(pointer); ok && len(tokens) > 0 && !slices.Contains(names, tokens[0]) {
			names = append(names, tokens[0])
		}
	}
	return names
}

// contents returns what to read of a topic's rows. Columns that are not there, or that cannot play their part, are read
// as rows that lack them: a report on an older file must not fail.
func (b *Builder) contents(rows arrow.RecordBatch) func(topic string) *content {
	known := map[string]*content{}
	return func(topic string) *content {
		c := known[topic]
		if c != nil {
			return c
		}
		c = &content{}
		known[topic] = c
		roles := b.options.Roles[topic]
		for _, pointer := range roles.Text {
			if column, ok := record.Lookup(rows, pointer); ok {
				c.texts = append(c.texts, words(column))
			}
		}
		if column, ok := record.Lookup(rows, roles.Label); ok {
			c.labels = words(column)
		}
		if column, ok := record.Lookup(rows, roles.Embedding); ok {
			if list, ok := column.(array.ListLike); ok && plain(list.ListValues()) != nil {
				c.vectors = list
			}
		}
		for _, pointer := range roles.Features {
			column, ok := record.Lookup(rows, pointer)
			if !ok {
				continue
			}
			if list, ok := column.(array.ListLike); ok {
				if plain(list.ListValues()) != nil {
					c.features = append(c.features, func(i int) []float64 { return listed(list, i) })
				}
			} else if value := plain(column); value != nil {
				c.names = append(c.names, strings.TrimPrefix(pointer, "/"))
				c.features = append(c.features, func(i int) []float64 {
					if column.IsNull(i) {
						return []float64{math.NaN()}
					}
					return []float64{value(i)}
				})
			}
		}
		return c
	}
}

func (c *content) label(i int) string {
	if c.labels == nil {
		return ""
	}
	label, _ := c.labels(i)
	return label
}

// item copies what is kept of row i.
func (c *content) item(i int) item {
	var it item
	var text strings.Builder
	for _, read := range c.texts {
		if part, ok := read(i); ok && text.Len() < scanned {
			if text.Len() > 0 {
				text.WriteByte('\n')
			}
			text.WriteString(part[:min(len(part), scanned)])
		}
	}
	if text.Len() > 0 {
		it.text = []byte(text.String())
	}
	if c.vectors != nil && !c.vectors.IsNull(i) {
		for _, v := range listed(c.vectors, i) {
			it.vector = append(it.vector, float32(v))
		}
	}
	for _, read := range c.features {
		it.features = append(it.features, read(i)...)
	}
	if it.text == nil && it.features != nil {
		it.text = figures(c.names, it.features)
	}
	return it
}

// figures writes the features of a record without text, so that there is something to read.
func figures(names []string, values []float64) []byte {
	var out []byte
	for i, v := range values {
		if i > 0 {
			out = append(out, ", "...)
		}
		if len(names) == len(values) {
			out = append(append(out, names[i]...), ' ')
		}
		if math.IsNaN(v) {
			out = append(out, '-')
		} else {
			out = strconv.AppendFloat(out, v, 'g', 6, 64)
		}
		if len(out) > textKept {
			break
		}
	}
	return out
}

// words reads a column as text; the items of a list stand line by line.
func words(column arrow.Array) func(i int) (string, bool) {
	list, ok := column.(array.ListLike)
	if !ok {
		return func(i int) (string, bool) { return textOf(column, i), !column.IsNull(i) }
	}
	return func(i int) (string, bool) {
		if list.IsNull(i) {
			return "", false
		}
		var lines []string
		for from, to := list.ValueOffsets(i); from < to; from++ {
			lines = append(lines, textOf(list.ListValues(), int(from)))
		}
		return strings.Join(lines, "\n"), true
	}
}

// listed copies the numbers of a list; null is NaN.
func listed(list array.ListLike, i int) []float64 {
	if list.IsNull(i) {
		return nil
	}
	values := list.ListValues()
	from, to := list.ValueOffsets(i)
	read, out := plain(values), make([]float64, 0, to-from)
	for at := int(from); at < int(to); at++ {
		if values.IsNull(at) {
			out = append(out, math.NaN())
		} else {
			out = append(out, read(at))
		}
	}
	return out
}

// plain reads a column of numbers, nil for a column of something else.
func plain(column arrow.Array) func(i int) float64 {
	switch c := column.(type) {
	case *array.Float64:
		return c.Value
	case *array.Float32:
		return func(i int) float64 { return float64(c.Value(i)) }
	case *array.Int64:
		return func(i int) float64 { return float64(c.Value(i)) }
	case *array.Int32:
		return func(i int) float64 { return float64(c.Value(i)) }
	case *array.Boolean:
		return func(i int) float64 {
			if c.Value(i) {
				return 1
			}
			return 0
		}
	}
	return nil
}
