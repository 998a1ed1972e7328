// Package rows writes decrypted Arrow rows in the formats that other tools take.
//
//   - jsonl: one JSON object a line, in the form in which records came: text that holds JSON stands as JSON, binary as
//     base64, times as RFC 3339, floats with the fewest digits that give the same value back.
//   - csv: RFC 4180 with a header. Lists, structs and text that holds JSON are JSON text; what is no such thing is
//     written as in jsonl, without its quotes. A null is an empty cell, an empty text is "".
//   - parquet: a plain file of the same columns and types, compressed by Zstandard.
//   - arrow: an Arrow IPC stream (application/vnd.apache.arrow.stream) of the same columns and types.
//
// All of them write as they are given rows; parquet holds one row group, 32 MiB or so. The formats but jsonl have one
// schema for all rows, so they are told every file's columns before the first row (Writer.Columns); a column that
// only some files have is null in the rows of the others.
package rows

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tasterhq/taster/schema/validate"
)

// Format is the name of a form of output.
type Format string

// The formats.
const (
	JSONL   Format = "jsonl"
	CSV     Format = "csv"
	Parquet Format = "parquet"
	Arrow   Format = "arrow"
)

// Formats lists them.
var Formats = []Format{JSONL, CSV, Parquet, Arrow}

// ParseFormat returns the format of that name.
func ParseFormat(name string) (Format, error) {
	if f := Format(name); slices.Contains(Formats, f) {
		return f, nil
	}
	return "", fmt.Errorf("no format is named %q; there are jsonl, csv, parquet and arrow", name)
}

// OneSchema tells whether all rows have the same columns in this format, so that a Writer must hear of all of them.
func (f Format) OneSchema() bool { return f != JSONL }

// Binary tells whether the format is nothing for a terminal.
func (f Format) Binary() bool { return f == Parquet || f == Arrow }

// ErrSchema says that rows do not go into one output together. It is wrapped with what differs.
var ErrSchema = errors.New("columns that do not go together")

// Writer writes rows in one format. It is used by one goroutine at a time.
type Writer interface {
	// Columns announces the columns of some of the rows. It is called for every kind of rows before the first Write,
	// unless the format has no need of it, and fails with ErrSchema.
	Columns(*arrow.Schema) error
	// Write writes every row of a batch.
	Write(arrow.RecordBatch) error
	// Close writes what belongs behind the last row. Without it an output of one schema is not whole.
	Close() error
}

// New returns a Writer to w, which it does not close.
func New(f Format, w io.Writer) Writer {
	switch f {
	case CSV:
		return &unified{to: &csvRows{w: w}}
	case Parquet:
		return &unified{to: &parquetRows{w: w}}
	case Arrow:
		return &unified{to: &arrowRows{w: w}}
	}
	return &jsonLines{w: w}
}

// jsonLines writes JSON lines, in large pieces, and keeps nothing back.
type jsonLines struct {
	w   io.Writer
	buf []byte
}

func (*jsonLines) Columns(*arrow.Schema) error { return nil }

func (*jsonLines) Close() error { return nil }

// Write writes every row as one JSON object a line, with every column, null included; only taster_extra is left out
// where it is null.
func (w *jsonLines) Write(batch arrow.RecordBatch) error {
	w.buf = w.buf[:0]
	fields := batch.Schema().Fields()
	names := make([][]byte, len(fields))
	for i, f := range fields {
		quoted, err := jsontext.AppendQuote(nil, f.Name)
		if err != nil {
			return fmt.Errorf("column %d has a name that is not UTF-8", i)
		}
		names[i] = append(quoted, ':')
	}
	for row := range int(batch.NumRows()) {
		open := byte('{')
		for i := range fields {
			column := batch.Column(i)
			if fields[i].Name == validate.Extra && column.IsNull(row) {
				continue
			}
			w.buf = append(append(w.buf, open), names[i]...)
			open = ','
			var err error
			if w.buf, err = appendValue(w.buf, column, row, isJSON(fields[i])); err != nil {
				return fmt.Errorf("column %s: %w", fields[i].Name, err)
			}
		}
		if open == '{' {
			w.buf = append(w.buf, '{')
		}
		w.buf = append(w.buf, '}', '\n')
		if len(w.buf) > 1<<16 {
			if _, err := w.w.Write(w.buf); err != nil {
				return err
			}
			w.buf = w.buf[:0]
		}
	}
	_, err := w.w.Write(w.buf)
	return err
}

func isJSON(f arrow.Field) bool {
	v, ok := f.Metadata.GetValue("taster:json")
	return ok && v == "true"
}

// appendValue appends one value as JSON. asJSON says that text is JSON already.
func appendValue(b []byte, column arrow.Array, row int, asJSON bool) ([]byte, error) {
	if column.IsNull(row) {
		return append(b, "null"...), nil
	}
	switch c := column.(type) {
	case *array.String:
		if asJSON {
			return append(b, c.Value(row)...), nil
		}
		return jsontext.AppendQuote(b, c.Value(row))
	case *array.LargeString:
		return jsontext.AppendQuote(b, c.Value(row))
	case *array.Int8:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), nil
	case *array.Int16:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), nil
	case *array.Uint8:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), nil
	case *array.Uint16:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), nil
	case *array.Uint32:
		return strconv.AppendUint(b, uint64(c.Value(row)), 10), nil
	case *array.Uint64:
		return strconv.AppendUint(b, c.Value(row), 10), nil
	case *array.Float16:
		return appendFloat(b, float64(c.Value(row).Float32()), 32), nil
	case *array.Decimal32, *array.Decimal64, *array.Decimal128, *array.Decimal256:
		return append(b, column.ValueStr(row)...), nil
	case *array.Int64:
		return strconv.AppendInt(b, c.Value(row), 10), nil
	case *array.Int32:
		return strconv.AppendInt(b, int64(c.Value(row)), 10), nil
	case *array.Float64:
		return appendFloat(b, c.Value(row), 64), nil
	case *array.Float32:
		return appendFloat(b, float64(c.Value(row)), 32), nil
	case *array.Boolean:
		return strconv.AppendBool(b, c.Value(row)), nil
	case *array.Binary:
		return appendBase64(b, c.Value(row)), nil
	case *array.LargeBinary:
		return appendBase64(b, c.Value(row)), nil
	case *array.FixedSizeBinary:
		return appendBase64(b, c.Value(row)), nil
	case *array.Timestamp:
		unit := c.DataType().(*arrow.TimestampType).Unit
		return append(c.Value(row).ToTime(unit).UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"'), nil
	case *array.Dictionary:
		return appendValue(b, c.Dictionary(), c.GetValueIndex(row), asJSON)
	case *array.Struct:
		return appendStruct(b, c, row)
	case array.ListLike:
		return appendList(b, c, row)
	}
	return jsontext.AppendQuote(b, column.ValueStr(row))
}

func appendStruct(b []byte, c *array.Struct, row int) (_ []byte, err error) {
	fields := c.DataType().(*arrow.StructType).Fields()
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = jsontext.AppendQuote(b, f.Name); err != nil {
			return b, err
		}
		if b, err = appendValue(append(b, ':'), c.Field(i), row, isJSON(f)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendList(b []byte, c array.ListLike, row int) (_ []byte, err error) {
	asJSON := false
	if t, ok := c.DataType().(arrow.ListLikeType); ok {
		asJSON = isJSON(t.ElemField())
	}
	b = append(b, '[')
	from, to := c.ValueOffsets(row)
	for i := from; i < to; i++ {
		if i > from {
			b = append(b, ',')
		}
		if b, err = appendValue(b, c.ListValues(), int(i), asJSON); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// appendFloat follows ECMA-262, as encoding/json does; what JSON cannot say is null.
func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	format, abs := byte('f'), math.Abs(f)
	if abs != 0 && (bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21)) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits)
}

func appendBase64(b, value []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, '"')
}
