// Package files reads records from files: JSON lines, CSV, TSV and Parquet, plain or compressed by gzip or
// Zstandard, in bounded memory, as messages like those of Kafka.
//
// A file is a record.Source of one partition: its id is the SHA-256 of the bytes as they are stored, so that a file
// is the same one under whatever name. Offsets are row numbers from zero. Broken rows count; a header and blank
// lines do not. Timestamps are the file's modification time. Messages have no key and no headers.
//
//   - .jsonl: one JSON value a line. The line is the message.
//   - .csv, .tsv: RFC 4180, with a header and with quotes in both; see table.go for how broken rows are told apart
//     and cell.go for how cells become JSON.
//   - .parquet: one JSON object a row; see parquet.go for the types. Files of Parquet Modular Encryption are shown as plain
//     ones by a Decrypt; their names may end in .parquet.encrypted, too.
//   - .gz, .zst behind any of these. A compressed Parquet file is unpacked into a temporary file that has no name.
//
// An input is named by its path, by a file:// URL, or by a URL that a Remote opens.
//
// Damage in compressed data shows where the format has a checksum or a structure that breaks: gzip (RFC 1952) and
// Zstandard (RFC 8878) have the checksum behind the data. A damaged file is reported in any case; rows shortly before
// the report may be damaged too.
//
// A line or row is held whole up to 64 MiB, and one that is longer counts as one row of which the first 64 MiB are
// kept. Beside that and a decompressor's window (128 MiB at most) memory does not grow with the file.
package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
)

// What a caller can tell apart. A file that is not there gives an error that wraps fs.ErrNotExist.
var (
	ErrEnd         = errors.New("no more rows")
	ErrCorrupt     = errors.New("the file is damaged") // rows before the damage have been returned
	ErrUnsupported = errors.New("not an input that can be read")
	ErrChanged     = errors.New("the file changed while it was read")
)

// longest is how much of one line or row is held.
const longest = 64 << 20

// Item is one row. A Code says that the row is broken in a way that only its file shows: its cells do not fit the
// header, say. Value then holds the row's bytes as they stand in the file, where it has such.
type Item struct {
	Message record.Message
	Code    finding.Code
}

// reader yields the rows of one format. The value is good until the next call.
type reader interface {
	next() (value []byte, code finding.Code, err error)
	skip(rows int64) error // at the beginning only
}

// runner is a reader that gives rows away where they lie in memory, which it does not write to again: at least one, and more
// while they take up less than size bytes, or as it suits it. The caller holds the memory then. An error comes without a row.
type runner interface {
	run(size int, yield func(value []byte, code finding.Code)) (*reuse.Lease, error)
}

// File is an open input. It is used by one goroutine at a time.
type File struct {
	path   string
	stored Stored
	source record.Source
	rows   reader
	closes []func() error

	offset    int64
	timestamp int64
	err       error // what Next returned at last
}

// Decrypt shows a Parquet file that has size bytes as a plain one, decrypted while it is read; a file that is not
// encrypted is returned as it is. path is where the file lies, for what stands beside it.
type Decrypt func(ctx context.Context, src io.ReaderAt, size int64, path string) (plain io.ReaderAt, plainSize int64, err error)

// Access says how inputs are reached and opened.
type Access struct {
	Decrypt Decrypt // nil: encrypted Parquet is refused
	Remote  Remote  // nil: URLs other than file:// are refused
}

// Open opens the input at a path or URL, and reads all of it once to learn its hash.
func Open(ctx context.Context, input string, c *contract.Contract, access Access) (*File, error) {
	path, remote, err := locate(input)
	if err != nil {
		return nil, err
	}
	form, packing, err := formatOf(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path}
	switch {
	case !remote:
		f.stored, err = openLocal(path)
	case access.Remote == nil:
		err = fmt.Errorf("%w: a URL of an object store; only paths and file:// can be read here", ErrUnsupported)
	default:
		f.path = input
		f.stored, err = access.Remote.Open(ctx, input)
	}
	if err != nil {
		return nil, err
	}
	f.closes = []func() error{f.stored.Close}
	if err := f.open(ctx, form, packing, c, access.Decrypt); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *File) open(ctx context.Context, form, packing string, c *contract.Contract, decrypt Decrypt) error {
	f.timestamp = f.stored.Written().UnixMilli()
	id, err := hash(ctx, io.NewSectionReader(f.stored, 0, f.stored.Size()))
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.source = record.Source{Topic: c.Topic, ID: id}
	stored := &counter{r: io.NewSectionReader(f.stored, 0, f.stored.Size())}
	unpacked, err := f.unpack(stored, packing)
	if err != nil {
		return err
	}
	switch form {
	case ".jsonl":
		f.rows = newLines(unpacked, c)
	case ".csv":
		f.rows, err = newTable(unpacked, ',', c)
	case ".tsv":
		f.rows, err = newTable(unpacked, '\t', c)
	case ".parquet":
		f.rows, err = f.openParquet(ctx, unpacked, packing, c, decrypt)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if w, ok := f.rows.(interface{ close() error }); ok {
		f.closes = append(f.closes, w.close)
	}
	return nil
}

// Source returns what the file's rows are offsets of.
func (f *File) Source() record.Source { return f.source }

// Skip passes over the first n rows. It is called before the first Next; a file with fewer rows is at its end then.
func (f *File) Skip(n int64) error {
	if n == 0 || f.err != nil {
		return f.err
	}
	err := f.rows.skip(n)
	if errors.Is(err, ErrEnd) {
		f.err, err = ErrEnd, nil
	}
	f.offset = n
	if err != nil {
		f.err = f.located(err)
	}
	return err
}

// Next returns the next row, ErrEnd behind the last one, or why the file cannot be read on; that error comes again
// with every further call. The row's bytes are good until the next call.
func (f *File) Next() (Item, error) {
	if f.err != nil {
		return Item{}, f.err
	}
	value, code, err := f.rows.next()
	if err != nil {
		return Item{}, f.stop(err)
	}
	m := record.Message{Offset: f.offset, Timestamp: f.timestamp, Value: value}
	f.offset++
	return Item{m, code}, nil
}

// Run appends rows that follow each other, some size bytes of them and one at least, to into. Their values stay as they
// are while the lease is held, which the caller does. Behind the last row it returns ErrEnd, or why the file cannot be read
// on, beside the rows before that. It may take turns with Next.
func (f *File) Run(into []Item, size int) ([]Item, *reuse.Lease, error) {
	if f.err != nil {
		return into, nil, f.err
	}
	yield := func(value []byte, code finding.Code) {
		into = append(into, Item{record.Message{Offset: f.offset, Timestamp: f.timestamp, Value: value}, code})
		f.offset++
	}
	if rows, ok := f.rows.(runner); ok {
		lease, err := rows.run(size, yield)
		if err != nil {
			return into, lease, f.stop(err)
		}
		return into, lease, nil
	}
	lease := reuse.Shared.Lease(size)
	slab := lease.Bytes()[:0:size]
	for {
		value, code, err := f.rows.next()
		if err != nil {
			return into, lease, f.stop(err)
		}
		if len(slab)+len(value) > cap(slab) {
			yield(bytes.Clone(value), code) // the last of the run
			return into, lease, nil
		}
		at := len(slab)
		slab = append(slab, value...)
		yield(slab[at:len(slab):len(slab)], code)
	}
}

// stop keeps and returns why no more rows can be had.
func (f *File) stop(err error) error {
	f.err = err
	if !errors.Is(err, ErrEnd) {
		f.err = f.located(err)
	} else if err := f.unchanged(); err != nil {
		f.err = fmt.Errorf("%s: %w", f.path, err)
	}
	return f.err
}

func (f *File) located(err error) error { return fmt.Errorf("%s, row %d: %w", f.path, f.offset, err) }

// unchanged tells whether the file is still the one whose hash is its name. What is not on this machine is pinned to
// one version by who opened it.
func (f *File) unchanged() error {
	if local, ok := f.stored.(*localFile); ok {
		return local.unchanged()
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	var all error
	for _, close := range slices.Backward(f.closes) {
		all = errors.Join(all, close())
	}
	f.closes = nil
	return all
}

// formatOf reads format and compression off a file's name.
func formatOf(path string) (form, packing string, err error) {
	name := strings.ToLower(filepath.Base(path))
	form = filepath.Ext(name)
	if form == ".gz" || form == ".zst" {
		packing = form
		form = filepath.Ext(strings.TrimSuffix(name, packing))
	}
	if form == ".encrypted" && strings.HasSuffix(strings.TrimSuffix(name, packing), ".parquet.encrypted") {
		form = ".parquet"
	}
	switch form {
	case ".jsonl", ".csv", ".tsv", ".parquet":
		return form, packing, nil
	}
	return "", "", fmt.Errorf("%s: %w: its name must end in .jsonl, .csv, .tsv or .parquet, with .gz or .zst behind it when compressed",
		path, ErrUnsupported)
}

// hash returns the SHA-256 of all that r has, in hexadecimal.
func hash(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, interruptible{ctx, r}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// interruptible stops reading when its context ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
