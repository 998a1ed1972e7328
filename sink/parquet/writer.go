package parquet

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet/pages"
)

// Options say how files are written.
type Options struct {
	Keys           *envelope.Keyring
	External       bool                  // put the key material into Written.Sidecar, not into the file
	Restricted     []string              // RFC 6901 pointers of the fields whose columns get a key of their own
	Classification record.Classification // the contract's, which rejected rows get
	GroupRows      int                   // largest row group; default 65,536 rows
	GroupBytes     int64                 // the same by size of the messages; default 32 MiB
	Memory         memory.Allocator      // default memory.DefaultAllocator

	// For measurements, which nothing outside this package can ask for.
	plain bool                                          // leaves out the encryption
	tune  func([]pq.WriterProperty) []pq.WriterProperty // chooses otherwise
}

const (
	defaultGroupRows  = 1 << 16
	defaultGroupBytes = 32 << 20
	createdBy         = "taster"
	arrowSchemaKey    = "ARROW:schema"
)

// Written tells what a file holds.
type Written struct {
	Rows    int64
	Content string   // hex digest of the plaintext, see docs/landing-zone.md
	Keys    []string // master key ids, sorted

	// Sidecar is the file's key material with Options.External, else nil. Without it nobody can read the file.
	Sidecar *envelope.Sidecar
}

// Count returns how many rows of a segment got a verdict.
func Count(seg *record.Segment, dec *record.Decision, v finding.Verdict) int64 {
	if v == finding.Rejected {
		return int64(seg.Refused())
	}
	n := int64(0)
	for _, got := range dec.Verdicts {
		if got == v {
			n++
		}
	}
	return n
}

// Write writes the rows of a segment that got verdict v, of which there must be one at least, as the object name.
// Neither the segment nor the decision is changed. What it writes counts for nothing when it returns an error.
func Write(ctx context.Context, out io.Writer, name string, seg *record.Segment, dec *record.Decision, v finding.Verdict, opt Options) (w Written, err error) {
	defer guard(&err, "write "+name)
	if opt.GroupRows <= 0 {
		opt.GroupRows = defaultGroupRows
	}
	if opt.GroupBytes <= 0 {
		opt.GroupBytes = defaultGroupBytes
	}
	if opt.Memory == nil {
		opt.Memory = memory.DefaultAllocator
	}
	if len(dec.Verdicts) != seg.Rows() || len(dec.Risks) != seg.Rows() {
		return w, fmt.Errorf("the decision has %d verdicts and %d risks for %d rows", len(dec.Verdicts), len(dec.Risks), seg.Rows())
	}
	groups := split(seg, dec, v, opt.GroupRows, opt.GroupBytes)
	if len(groups) == 0 {
		return w, fmt.Errorf("%s: no rows to write", name)
	}
	fields, own, err := columnsOf(seg, v)
	if err != nil {
		return w, err
	}
	schema := arrow.NewSchema(fields, nil)
	sample := groups[0].runs[0].batch.Records
	f, err := newFile(ctx, out, name, schema, own, func(column int) arrow.Array { return sample.Column(column) }, v, opt, &w)
	if err != nil {
		return w, err
	}
	p := &provenanceBuilder{mem: opt.Memory, source: seg.Source, decision: dec, verdict: v, classification: opt.Classification}
	digest := beginContent(schema)
	defer func() { _ = digest.end() }() // without which its goroutine would stay when something fails
	for _, g := range groups {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		batches := g.batches()
		err := f.group(g.rows, func(column int) (rows []pages.Rows, err error) {
			if column < own {
				for _, b := range batches {
					arr := b.batch.Records.Column(column)
					arr.Retain()
					rows = append(rows, pages.Rows{Array: arr, Ranges: b.ranges})
				}
			} else {
				rows = []pages.Rows{pages.All(columnBeside(g, column-own, p))}
			}
			for _, r := range rows {
				err = errors.Join(err, digest.add(column, r))
			}
			return rows, err
		})
		if err != nil {
			return w, err
		}
		w.Rows += int64(g.rows)
	}
	if err := f.Close(); err != nil {
		return w, err
	}
	if err := digest.end(); err != nil {
		return w, err
	}
	w.Content = digest.sum()
	return w, nil
}

// columnBeside returns a column of a row group that is not one of the record's own.
func columnBeside(g group, column int, p *provenanceBuilder) arrow.Array {
	if p.verdict == finding.Rejected {
		if column < len(refusal) {
			return refusals(g, column, p.mem)
		}
		column -= len(refusal)
	}
	return p.column(g, column)
}

// columnsOf returns the fields of a file, and how many of them are the record's own.
func columnsOf(seg *record.Segment, v finding.Verdict) (fields []arrow.Field, own int, err error) {
	if v == finding.Rejected {
		return append(slices.Clone(refusal), provenance...), 0, nil
	}
	var first *arrow.Schema
	for _, b := range seg.Batches {
		switch {
		case len(b.Origins) == 0:
		case b.Records == nil || int(b.Records.NumRows()) != len(b.Origins) || len(b.Classifications) != len(b.Origins):
			return nil, 0, fmt.Errorf("a batch of %d rows has columns of another length", len(b.Origins))
		case first == nil:
			first = b.Records.Schema()
		case !first.Equal(b.Records.Schema()):
			return nil, 0, fmt.Errorf("the batches of a segment have different columns")
		}
	}
	return append(slices.Clone(first.Fields()), provenance...), first.NumFields(), nil
}

// output is a Parquet file that is being written.
type output struct {
	*pages.Writer
	columns []string
	groups  int
}

// group writes one row group. column returns the rows of a column, whose arrays are released then, and is asked for
// several at the same time: column chunks are encoded side by side and written in order. No more of them are held
// than there are cores to encode them, and one.
func (f *output) group(rows int, column func(i int) ([]pages.Rows, error)) error {
	type result struct {
		encoded *pages.Column
		err     error
	}
	f.Begin(rows)
	results := make([]chan result, len(f.columns))
	for i := range results {
		results[i] = make(chan result, 1)
	}
	var next atomic.Int32
	var stopped atomic.Bool
	encode := func(i int) (r result) {
		defer guard(&r.err, "encode column "+f.columns[i])
		if stopped.Load() {
			return r
		}
		rows, err := column(i)
		defer func() {
			for _, one := range rows {
				one.Array.Release()
			}
		}()
		if err != nil {
			return result{err: err}
		}
		r.encoded, r.err = f.Encode(f.groups, i, rows)
		return r
	}
	workers := min(runtime.GOMAXPROCS(0), len(f.columns))
	free := make(chan struct{}, workers+1) // a place for each column that is held; whoever has one takes the next column
	for range workers {
		go func() {
			for {
				free <- struct{}{}
				i := int(next.Add(1)) - 1
				if i >= len(results) {
					<-free
					return
				}
				results[i] <- encode(i)
			}
		}()
	}
	add := func(c *pages.Column) (err error) { // a panic is a fault too: others still encode
		defer guard(&err, "write a column")
		return f.Append(c)
	}
	var fault error
	for _, one := range results { // also after a fault, for nothing may go on when this returns
		r := <-one
		switch {
		case fault != nil || r.err != nil:
			if r.encoded != nil {
				r.encoded.Release()
			}
			if fault == nil {
				fault = r.err
			}
			stopped.Store(true)
		default:
			if fault = add(r.encoded); fault != nil {
				stopped.Store(true)
			}
		}
		<-free
	}
	if fault != nil {
		return fault
	}
	f.groups++
	return f.End()
}

// newFile opens a Parquet file for writing and makes its keys, of which it tells w.
func newFile(ctx context.Context, out io.Writer, name string, schema *arrow.Schema, own int, sample func(column int) arrow.Array, v finding.Verdict, opt Options, w *Written) (*output, error) {
	layout, err := pqarrow.ToParquet(schema, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	secrets := keySource{ring: opt.Keys}
	if opt.External {
		secrets.sidecar = &envelope.Sidecar{}
	}
	encryption, err := encryptionFor(ctx, name, layout, v, opt.Restricted, &secrets)
	if err != nil {
		return nil, err
	}
	if opt.plain {
		encryption = nil
	}
	w.Keys, w.Sidecar = secrets.masters(), secrets.sidecar
	props := []pq.WriterProperty{
		pq.WithCreatedBy(createdBy),
		pq.WithVersion(pq.V2_LATEST),
		pq.WithCompression(compress.Codecs.Zstd),
		pq.WithCompressionLevel(zstdLevel),
		pq.WithDictionaryDefault(false),
		pq.WithEncryptionProperties(encryption),
	}
	for i := range own {
		props = encodings(props, schema.Field(i).Name, sample(i))
	}
	for _, f := range schema.Fields()[own:] {
		switch f.Type.ID() {
		case arrow.DICTIONARY, arrow.STRING:
			props = append(props, pq.WithDictionaryFor(f.Name, true))
		case arrow.LIST:
			for _, leaf := range leavesOf(layout, f.Name) {
				props = append(props, pq.WithDictionaryFor(leaf, true))
			}
		}
	}
	for _, rising := range []string{Offset, Timestamp} {
		props = append(props, pq.WithEncodingFor(rising, pq.Encodings.DeltaBinaryPacked))
	}
	if opt.tune != nil {
		props = opt.tune(props)
	}
	chosen := pq.NewWriterProperties(props...)
	if layout, err = pqarrow.ToParquet(schema, chosen, pqarrow.DefaultWriterProps()); err != nil {
		return nil, err
	}
	stored := make([]arrow.Field, schema.NumFields())
	for i, field := range schema.Fields() {
		stored[i] = readable(field)
	}
	ipc := flight.SerializeSchema(arrow.NewSchema(stored, nil), opt.Memory)
	footer := metadata.NewKeyValueMetadata()
	if err := footer.Append(arrowSchemaKey, base64.StdEncoding.EncodeToString(ipc)); err != nil {
		return nil, err
	}
	writer, err := pages.NewWriter(out, schema, layout, chosen, footer)
	if err != nil {
		return nil, err
	}
	f := &output{Writer: writer}
	for _, field := range schema.Fields() {
		f.columns = append(f.columns, field.Name)
	}
	return f, nil
}

// zstdLevel is the fastest: level 3 makes reviews smaller by a twentieth for a third more time, Snappy larger by a third
// for a quarter less (BenchmarkChoices; docs/PERFORMANCE.md has the table).
const zstdLevel = 1

// encodings chooses between dictionary and plain for a column's leaves by looking at a sample of values. A dictionary
// costs a look-up for each value, which is wasted where values hardly repeat.
func encodings(props []pq.WriterProperty, path string, arr arrow.Array) []pq.WriterProperty {
	switch a := arr.(type) {
	case *array.Struct:
		t := a.DataType().(*arrow.StructType)
		for i := range a.NumField() {
			props = encodings(props, path+"."+t.Field(i).Name, a.Field(i))
		}
		return props
	case *array.Dictionary:
		return append(props, pq.WithDictionaryFor(path, true))
	case array.ListLike:
		return encodings(props, path+".list.element", a.ListValues())
	}
	dictionary := false
	switch arr.DataType().ID() {
	case arrow.BOOL:
		return props
	case arrow.FLOAT32, arrow.FLOAT64:
		dictionary = repeats(arr)
		if !dictionary && !shrinks(arr) {
			props = append(props, pq.WithCompressionFor(path, compress.Codecs.Uncompressed))
		}
	default:
		dictionary = repeats(arr)
	}
	return append(props, pq.WithDictionaryFor(path, dictionary))
}

// shrinks tells whether compression takes a tenth at least off a column of floats. What was measured, like the elements
// of an embedding, has mantissas like noise: zstd takes off 8 % then, for a quarter of what landing such rows costs.
func shrinks(arr arrow.Array) bool {
	const sample = 64 << 10
	var values []byte
	switch a := arr.(type) {
	case *array.Float32:
		values = arrow.Float32Traits.CastToBytes(a.Float32Values())
	case *array.Float64:
		values = arrow.Float64Traits.CastToBytes(a.Float64Values())
	}
	values = values[:min(len(values), sample)]
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil || len(values) == 0 {
		return true
	}
	small := codec.EncodeLevel(make([]byte, 0, codec.CompressBound(int64(len(values)))), values, zstdLevel)
	return len(small) <= len(values)/10*9
}

// repeats tells whether values of a leaf column come again often enough for a dictionary to pay: in a sample at most
// one in four is new.
func repeats(arr arrow.Array) bool {
	const sample = 1024
	value, err := valueEncoder(arr)
	if err != nil || arr.Len() == 0 {
		return false
	}
	seen := make(map[uint64]struct{}, sample)
	seed := maphash.MakeSeed()
	var buf []byte
	n := 0
	for i := 0; i < arr.Len() && n < sample; i++ {
		if arr.IsNull(i) {
			continue
		}
		n++
		buf = value(buf[:0], i)
		if len(buf) > 256 {
			return false
		}
		seen[maphash.Bytes(seed, buf)] = struct{}{}
	}
	return len(seen) <= n/4
}

func leavesOf(layout *pqschema.Schema, field string) []string {
	var out []string
	for i := range layout.NumColumns() {
		if path := layout.Column(i).ColumnPath(); path[0] == field {
			out = append(out, path.String())
		}
	}
	return out
}

// keySource makes the data keys of one file and remembers under which master keys they stand.
type keySource struct {
	ring    *envelope.Keyring
	sidecar *envelope.Sidecar // nil: the key material goes into the file
	ids     []string
}

func (k *keySource) next(ctx context.Context, zone envelope.Zone, footer bool) (key envelope.DataKey, err error) {
	if k.sidecar != nil {
		key, err = k.ring.NewExternalDataKey(ctx, zone, footer, k.sidecar)
	} else {
		key, err = k.ring.NewDataKey(ctx, zone, footer)
	}
	k.ids = append(k.ids, key.MasterKeyID)
	return key, err
}

func (k *keySource) masters() []string {
	slices.Sort(k.ids)
	return slices.Compact(k.ids)
}

// encryptionFor makes a file's data keys: one for the footer and all ordinary columns, one for each restricted column.
func encryptionFor(ctx context.Context, name string, layout *pqschema.Schema, v finding.Verdict, pointers []string, secrets *keySource) (*pq.FileEncryptionProperties, error) {
	footer, err := secrets.next(ctx, envelope.Zone(v.String()), true)
	if err != nil {
		return nil, err
	}
	leaves := make([][]string, layout.NumColumns())
	for i := range leaves {
		leaves[i] = layout.Column(i).ColumnPath()
	}
	own, err := restricted(leaves, pointers)
	if err != nil {
		return nil, err
	}
	// A column that is not in the map would stay in clear.
	columns := pq.ColumnPathToEncryptionPropsMap{}
	for _, leaf := range leaves {
		path := strings.Join(leaf, ".")
		if !own[path] {
			columns[path] = pq.NewColumnEncryptionProperties(path)
			continue
		}
		key, err := secrets.next(ctx, envelope.Restricted, false)
		if err != nil {
			return nil, err
		}
		columns[path] = pq.NewColumnEncryptionProperties(path, pq.WithKey(string(key.Key)), pq.WithKeyMetadata(string(key.Material)))
	}
	return pq.NewFileEncryptionProperties(string(footer.Key),
		pq.WithFooterKeyMetadata(string(footer.Material)),
		pq.WithAadPrefix(name),
		pq.WithEncryptedColumns(columns),
	), nil
}
