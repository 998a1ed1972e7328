// Package batch builds batches: it takes messages one by one, checks and decodes each into a row of columns or
// refuses it with a reason, and hands over the rows sanitised, with their origins, providers and classifications.
//
// Every message that goes in comes out, as a row or among the refused, with its own offset. A refused message
// carries copies of its bytes as they came; a row that is refused only after it was decoded (for personal data that
// the contract does not accept, say) is taken out of the columns and carries its original bytes too. For that the
// builder refers to the messages' bytes until Take: they must stay unchanged until then.
package batch

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/ingest/classify"
	"github.com/tasterhq/taster/ingest/sanitize"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// Builder makes batches of one source. It is used by one goroutine at a time.
type Builder struct {
	limit      int
	provider   contract.Provider
	decoder    *validate.Decoder
	sanitizer  *sanitize.Sanitizer
	classifier *classify.Classifier

	rows      []record.Message // as they came, one for each row of the decoder
	providers []string         // one for each row, where the message itself tells it
	names     map[string]string
	refused   []record.Refused
	bytes     int64
}

// NewBuilder returns a Builder for a contract that Load found good, whose columns are the collector's.
func NewBuilder(c *contract.Contract) *Builder { return NewBuilderIn(c, memory.DefaultAllocator) }

// NewBuilderIn is NewBuilder with columns that live in memory from mem, which gets it back when a batch's records are
// released. Whoever is given a batch must be done with it by then, texts that were cut out of it included.
func NewBuilderIn(c *contract.Contract, mem memory.Allocator) *Builder {
	return &Builder{
		limit:      c.Limits.Bytes,
		provider:   c.Roles.Provider,
		decoder:    c.Schema.NewDecoder(mem),
		sanitizer:  sanitize.New(c),
		classifier: classify.New(c),
		names:      map[string]string{},
	}
}

// Rows returns the number of messages that are in the next batch, the refused ones included.
func (b *Builder) Rows() int { return len(b.rows) + len(b.refused) }

// Bytes returns the size of their keys and values.
func (b *Builder) Bytes() int64 { return b.bytes }

// Full tells that the columns can take no more: the batch must be taken before the next message.
func (b *Builder) Full() bool { return b.decoder.Full() }

// Add checks one message. Its size, then its provider where the message rather than the record names it, then the
// record itself: the first of them that is wrong is the reason why it is refused.
func (b *Builder) Add(m record.Message) {
	switch {
	case m.Value == nil:
		b.refuse(m, "", validate.Refusal{Code: finding.Tombstone, At: -1})
		return
	case len(m.Value) == 0:
		b.refuse(m, "", validate.Refusal{Code: finding.Empty, At: -1})
		return
	case b.limit > 0 && len(m.Value) > b.limit:
		b.refuse(m, "", validate.Refusal{Code: finding.TooLarge, At: -1})
		return
	}
	provider, told := b.told(&m)
	if told && provider == "" {
		b.refuse(m, "", validate.Refusal{Code: finding.ProviderMissing, At: -1})
		return
	}
	if refusal := b.decoder.Append(m.Value); refusal != nil {
		b.refuse(m, provider, *refusal)
		return
	}
	b.bytes += int64(len(m.Key) + len(m.Value))
	b.rows = append(b.rows, m)
	if told {
		b.providers = append(b.providers, provider)
	}
}

// Refuse takes in a message that its source found to be broken already.
func (b *Builder) Refuse(m record.Message, code finding.Code) {
	b.refuse(m, "", validate.Refusal{Code: code, At: -1})
}

func (b *Builder) refuse(m record.Message, provider string, why validate.Refusal) {
	b.bytes += int64(len(m.Key) + len(m.Value))
	b.refused = append(b.refused, record.Refused{
		Message: owned(m), Provider: provider, Code: why.Code, Field: why.Field, At: why.At,
	})
}

// owned returns the message with bytes of its own.
func owned(m record.Message) record.Message {
	m.Key, m.Value = bytes.Clone(m.Key), bytes.Clone(m.Value)
	m.Headers = slices.Clone(m.Headers)
	for i := range m.Headers {
		m.Headers[i].Value = bytes.Clone(m.Headers[i].Value)
	}
	return m
}

// told returns the provider when the contract has it stand outside the record, "" when it is not there; the last of
// several headers of the name counts.
func (b *Builder) told(m *record.Message) (provider string, told bool) {
	switch p := &b.provider; {
	case p.Is != "":
		return p.Is, true
	case p.Key:
		return b.intern(m.Key), true
	case p.Header != "":
		for i := len(m.Headers) - 1; i >= 0; i-- {
			if m.Headers[i].Key == p.Header {
				return b.intern(m.Headers[i].Value), true
			}
		}
		return "", true
	}
	return "", false
}

// intern returns one string for equal names; "" for bytes that are no name because they are not UTF-8.
func (b *Builder) intern(name []byte) string {
	const most = 1 << 16 // names remembered; a hostile producer invents them
	if known, ok := b.names[string(name)]; ok {
		return known
	}
	if !utf8.Valid(name) {
		return ""
	}
	if len(b.names) >= most {
		clear(b.names)
	}
	s := string(name)
	b.names[s] = s
	return s
}

// Take hands over what was added since the last Take and starts anew; nil when there was nothing.
func (b *Builder) Take() *record.Batch {
	if b.Rows() == 0 {
		return nil
	}
	rec, found := b.sanitizer.Apply(b.decoder.Take())
	out := &record.Batch{Refused: b.refused, Bytes: b.bytes, Providers: b.providers}
	if b.provider.Field != "" {
		out.Providers = b.fieldProviders(rec)
	} else if out.Providers == nil {
		out.Providers = make([]string, len(b.rows))
	}
	out.Classifications = b.classifier.Rows(rec, found)
	out.Origins = make([]record.Origin, len(b.rows))
	for i := range b.rows {
		out.Origins[i] = record.Origin{Offset: b.rows[i].Offset, Timestamp: b.rows[i].Timestamp}
	}
	for _, o := range found {
		out.Marks = append(out.Marks, marks(o)...)
	}
	out.Records = rec
	if drop := b.late(out, found); len(drop) > 0 {
		without(out, drop)
	}
	clear(b.rows)
	b.rows = b.rows[:0]
	b.providers, b.refused, b.bytes = nil, nil, 0
	return out
}

// fieldProviders reads the providers from their column, as it is after sanitising: an address that was redacted
// there must not come back as the provider's name.
func (b *Builder) fieldProviders(rec arrow.RecordBatch) []string {
	providers := make([]string, rec.NumRows())
	column, ok := record.Lookup(rec, b.provider.Field)
	if !ok {
		return providers
	}
	for i := range providers {
		if column.IsNull(i) {
			continue
		}
		switch c := column.(type) {
		case *array.String:
			providers[i] = b.intern(stringBytes(c, i))
		case *array.Int64:
			providers[i] = strconv.FormatInt(c.Value(i), 10)
		default:
			providers[i] = column.ValueStr(i)
		}
	}
	return providers
}

// stringBytes returns a value in place.
func stringBytes(c *array.String, i int) []byte {
	offsets := c.ValueOffsets()
	return c.ValueBytes()[offsets[i]-offsets[0] : offsets[i+1]-offsets[0]]
}

// marks says of one row what the sanitiser saw. A mark with a finding asks for quarantine: no statistics stand
// behind it, so its p-value and its threshold are both 1.
func marks(o sanitize.Outcome) []record.Mark {
	if o.Hidden == 0 {
		return nil
	}
	m := record.Mark{Row: o.Row, Code: finding.HiddenUnicode}
	if o.Suspect {
		m.Finding = &finding.Finding{
			Detector: "sanitize", Score: float64(o.Hidden), PValue: 1, Threshold: 1,
			Evidence: strconv.Itoa(o.Hidden) + " hidden characters in " + o.Field, Code: finding.HiddenUnicode,
		}
	}
	return []record.Mark{m}
}

// late refuses the rows that turned out wrong only when they were columns, and returns their numbers.
func (b *Builder) late(out *record.Batch, found []sanitize.Outcome) []int {
	var drop []int
	for _, o := range found {
		if o.Refuse != "" {
			drop = append(drop, o.Row)
			out.Refused = append(out.Refused, record.Refused{
				Message: owned(b.rows[o.Row]), Provider: out.Providers[o.Row], Code: o.Refuse, Field: o.Field, At: -1,
			})
		}
	}
	if b.provider.Field != "" {
		for row, provider := range out.Providers {
			if provider != "" {
				continue
			}
			at, already := slices.BinarySearch(drop, row)
			if already {
				continue
			}
			drop = slices.Insert(drop, at, row)
			out.Refused = append(out.Refused, record.Refused{
				Message: owned(b.rows[row]), Code: finding.ProviderMissing, Field: b.provider.Field, At: -1,
			})
		}
	}
	if len(drop) > 0 {
		slices.SortStableFunc(out.Refused, func(a, b record.Refused) int { return int(a.Offset - b.Offset) })
	}
	return drop
}

// without takes the rows, which are in rising order, out of everything that is counted by row.
func without(out *record.Batch, drop []int) {
	keep := func(i int) bool { _, dropped := slices.BinarySearch(drop, i); return !dropped }
	origins, providers, classes := out.Origins[:0], out.Providers[:0], out.Classifications[:0]
	for i := range out.Origins {
		if keep(i) {
			origins = append(origins, out.Origins[i])
			providers = append(providers, out.Providers[i])
			classes = append(classes, out.Classifications[i])
		}
	}
	out.Origins, out.Providers, out.Classifications = origins, providers, classes
	marks := out.Marks[:0]
	for _, m := range out.Marks {
		if before, dropped := slices.BinarySearch(drop, m.Row); !dropped {
			m.Row -= before
			marks = append(marks, m)
		}
	}
	out.Marks = marks
	rows := out.Records
	out.Records = withoutRows(rows, drop)
	rows.Release()
}

// withoutRows copies the columns without some rows.
func withoutRows(rec arrow.RecordBatch, drop []int) arrow.RecordBatch {
	columns := make([]arrow.Array, rec.NumCols())
	for c := range columns {
		var pieces []arrow.Array
		from := 0
		for _, row := range append(slices.Clip(drop), int(rec.NumRows())) {
			if row > from || row == int(rec.NumRows()) && pieces == nil {
				pieces = append(pieces, array.NewSlice(rec.Column(c), int64(from), int64(row)))
			}
			from = row + 1
		}
		column, err := array.Concatenate(pieces, memory.DefaultAllocator)
		if err != nil {
			panic("batch: columns cannot be copied: " + err.Error()) // they are slices of one column, and smaller
		}
		for _, p := range pieces {
			p.Release()
		}
		columns[c] = column
		defer column.Release()
	}
	return array.NewRecordBatch(rec.Schema(), columns, rec.NumRows()-int64(len(drop)))
}
