package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet/modular"
)

// batchRows is how many rows a batch has that is read back.
const batchRows = 8192

// Keys returns the data keys of a file. An envelope.Keyring is one where the key material is in the files.
type Keys = modular.Keys

// Beside returns the keys of one file whose key material may stand in a sidecar. sidecar is called once, and only if it
// does.
func Beside(ring *envelope.Keyring, sidecar func(context.Context) (*envelope.Sidecar, error)) Keys {
	return &beside{ring: ring, get: sidecar}
}

type beside struct {
	ring *envelope.Keyring
	get  func(context.Context) (*envelope.Sidecar, error)
	have *envelope.Sidecar
}

// DataKey implements Keys.
func (b *beside) DataKey(ctx context.Context, keyMetadata []byte) ([]byte, error) {
	if b.ring == nil {
		return noKeys{}.DataKey(ctx, keyMetadata)
	}
	return b.ring.DataKeyFrom(ctx, keyMetadata, func(ctx context.Context) (s *envelope.Sidecar, err error) {
		if b.have == nil {
			b.have, err = b.get(ctx)
		}
		return b.have, err
	})
}

// noKeys is what opens nothing that is encrypted.
type noKeys struct{}

// DataKey implements Keys.
func (noKeys) DataKey(context.Context, []byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: none was given", envelope.ErrNoKey)
}

// Reader reads one file. It is not safe for concurrent use.
type Reader struct {
	name   string
	source *modular.File
	file   *file.Reader // of the footer only
	schema *arrow.Schema
	times  bool // the schema has times in place of the bytes of INT96 that Arrow reads

	leaves []int // of which rows has the keys
	rows   *pqarrow.FileReader
}

// Open reads the footer of a file that this package wrote and that has size bytes. name is the object's name, to which
// the file is bound: a file under another name is refused, and so is one that is not wholly encrypted and authenticated.
// An empty name takes any file, as OpenForeign does.
//
// The error is that of keys if the footer's key is not at hand, and ErrBroken for a file that was changed or is something
// else.
func Open(ctx context.Context, src io.ReaderAt, size int64, name string, keys Keys) (*Reader, error) {
	r, err := openAny(ctx, src, size, name, name, keys)
	if err != nil || name == "" {
		return r, err
	}
	whole, err := r.source.Authenticated()
	if err != nil {
		return nil, located(name, err)
	}
	if !whole {
		return nil, fmt.Errorf("%w: %s: it is not encrypted, or not all of it with authentication: not what taster writes", ErrBroken, name)
	}
	return r, nil
}

// OpenForeign reads the footer of any Parquet file, encrypted by Parquet Modular Encryption or not at all. name is what
// errors call it. prefix is the AAD prefix to which an encrypted file must be bound; if it is empty, one that is stored in
// the file is believed. Errors are those of Open, and name the file in any case. Times of the type INT96 have the type
// that goes with the file's writer (see times.go); one that does not fit it is an error that names the column.
func OpenForeign(ctx context.Context, src io.ReaderAt, size int64, name, prefix string, keys Keys) (*Reader, error) {
	if keys == nil {
		keys = noKeys{}
	}
	return openAny(ctx, src, size, name, prefix, namedKeys{name, keys})
}

// namedKeys says in errors of keys which file wants them.
type namedKeys struct {
	file string
	keys Keys
}

// DataKey implements Keys.
func (n namedKeys) DataKey(ctx context.Context, keyMetadata []byte) ([]byte, error) {
	key, err := n.keys.DataKey(ctx, keyMetadata)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.file, err)
	}
	return key, nil
}

func openAny(ctx context.Context, src io.ReaderAt, size int64, name, prefix string, keys Keys) (r *Reader, err error) {
	defer guard(&err, "open "+name)
	if ring, ok := keys.(*envelope.Keyring); keys == nil || ok && ring == nil {
		keys = noKeys{}
	}
	f, err := modular.Open(ctx, src, size, modular.Options{AADPrefix: prefix, Keys: keys, Int96AsBytes: true})
	if err != nil {
		return nil, located(name, err)
	}
	r = &Reader{name: name, source: f}
	rows, err := r.image(ctx, nil)
	if err != nil {
		return nil, err
	}
	if r.schema, err = rows.Schema(); err != nil {
		return nil, located(name, err)
	}
	if times := f.Int96(); slices.Contains(times, true) {
		if r.schema, err = timesIn(r.schema, rows, times); err != nil {
			return nil, located(name, err)
		}
		r.times = true
	}
	r.file = rows.ParquetReader()
	return r, nil
}

// image opens the file with the values of some leaves.
func (r *Reader) image(ctx context.Context, leaves []int) (*pqarrow.FileReader, error) {
	var wanted map[string]bool
	if r.file != nil {
		wanted = make(map[string]bool, len(leaves))
		for _, leaf := range leaves {
			wanted[r.file.MetaData().Schema.Column(leaf).ColumnPath().String()] = true
		}
	}
	image, err := r.source.Image(ctx, func(path []string) bool { return wanted[strings.Join(path, ".")] })
	if err != nil {
		return nil, located(r.name, err)
	}
	f, err := file.NewParquetReader(io.NewSectionReader(image, 0, image.Size()))
	if err != nil {
		return nil, located(r.name, err)
	}
	rows, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{BatchSize: batchRows}, memory.DefaultAllocator)
	if err != nil {
		return nil, located(r.name, err)
	}
	return rows, nil
}

// located tells which file an error is about, and that it is broken, unless it is its keys that are not at hand.
func located(name string, err error) error {
	for _, other := range []error{
		envelope.ErrNoKey, envelope.ErrWrongKey, envelope.ErrDenied, envelope.ErrDisabled, envelope.ErrConfig, envelope.ErrExternal,
		envelope.ErrUnavailable, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, other) {
			return err
		}
	}
	if !errors.Is(err, ErrBroken) && !errors.Is(err, modular.ErrPrefix) {
		err = fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// NumRows returns how many rows the footer promises.
func (r *Reader) NumRows() int64 { return r.file.NumRows() }

// Schema returns the columns.
func (r *Reader) Schema() (*arrow.Schema, error) { return r.schema, nil }

// Encrypted tells whether any of the file is.
func (r *Reader) Encrypted() bool { return r.source.Encrypted() }

// Rows yields the rows in batches, in order, with the named columns only, in the file's order; nil is all of them.
// Names that the file does not have are passed over, so that one list serves files of every verdict. Only the keys of
// those columns are needed.
//
// A batch is valid until the next one is asked for; who keeps it calls Retain.
func (r *Reader) Rows(ctx context.Context, columns []string) iter.Seq2[arrow.RecordBatch, error] {
	return r.rowsOf(ctx, columns, nil)
}

// rowsOf yields the rows of some row groups, or of all (nil).
func (r *Reader) rowsOf(ctx context.Context, columns []string, groups []int) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		next, stop, err := r.open(ctx, columns, groups)
		if err != nil {
			yield(nil, err)
			return
		}
		defer stop()
		for {
			batch, err := next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}

// open makes a record reader of some row groups, or of all (nil), and returns how to go on and how to stop. Arrow's
// code runs only within these functions, never while the caller's does, so that a panic of the caller is not taken for
// one of Arrow's.
func (r *Reader) open(ctx context.Context, columns []string, groups []int) (next func() (arrow.RecordBatch, error), stop func(), err error) {
	defer guard(&err, "read "+r.name)
	leaves := r.leavesOf(columns)
	if len(leaves) == 0 {
		return nil, nil, fmt.Errorf("%s has none of the columns that were asked for", r.name)
	}
	if r.rows == nil || !slices.Equal(r.leaves, leaves) {
		if r.rows, err = r.image(ctx, leaves); err != nil {
			return nil, nil, err
		}
		r.leaves = leaves
	}
	rows, err := r.rows.GetRecordReader(ctx, leaves, groups)
	if err != nil {
		return nil, nil, located(r.name, err)
	}
	var made arrow.RecordBatch // in place of the one that Arrow read last
	drop := func() {
		if made != nil {
			made.Release()
			made = nil
		}
	}
	next = func() (batch arrow.RecordBatch, err error) {
		defer guard(&err, "read "+r.name)
		drop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batch, err = rows.Read()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, located(r.name, err)
		}
		if err != nil || !r.times {
			return batch, err
		}
		made, err = withTimes(batch, r.fieldsOf(columns))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		return made, nil
	}
	return next, func() { drop(); rows.Release() }, nil
}

func (r *Reader) fieldsOf(columns []string) []arrow.Field {
	if columns == nil {
		return r.schema.Fields()
	}
	return slices.DeleteFunc(r.schema.Fields(), func(f arrow.Field) bool { return !slices.Contains(columns, f.Name) })
}

func (r *Reader) leavesOf(columns []string) []int {
	layout := r.file.MetaData().Schema
	var out []int
	for i := range layout.NumColumns() {
		if columns == nil || slices.Contains(columns, layout.Column(i).ColumnPath()[0]) {
			out = append(out, i)
		}
	}
	return out
}

// Content reads all rows and returns the digest of the plaintext with their number, as Write did.
func (r *Reader) Content(ctx context.Context) (digest string, rows int64, err error) {
	schema, err := r.Schema()
	if err != nil {
		return "", 0, err
	}
	c := newContent(schema)
	for batch, err := range r.Rows(ctx, nil) {
		if err != nil {
			return "", 0, err
		}
		for i, column := range batch.Columns() {
			if err := c.add(i, column); err != nil {
				return "", 0, err
			}
		}
		rows += batch.NumRows()
	}
	return c.sum(), rows, nil
}

// OffsetsAndReasons returns the offsets of a batch that was read back, and its reason codes by row.
func OffsetsAndReasons(batch arrow.RecordBatch) (offsets []int64, reasons func(row int) []finding.Code, err error) {
	column := func(name string) arrow.Array {
		if at := batch.Schema().FieldIndices(name); len(at) == 1 {
			return batch.Column(at[0])
		}
		return nil
	}
	numbers, ok := column(Offset).(*array.Int64)
	lists, ok2 := column(Reasons).(*array.List)
	if !ok || !ok2 {
		return nil, nil, fmt.Errorf("%w: without %s or %s", ErrBroken, Offset, Reasons)
	}
	codes, ok := lists.ListValues().(*array.String)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s is not a list of texts", ErrBroken, Reasons)
	}
	return numbers.Int64Values(), func(row int) []finding.Code {
		from, to := lists.ValueOffsets(row)
		out := make([]finding.Code, 0, to-from)
		for i := from; i < to; i++ {
			out = append(out, finding.Code(strings.Clone(codes.Value(int(i))))) // the batch's memory does not outlive it
		}
		return out
	}, nil
}
