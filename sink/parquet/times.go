package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// Files of others may hold times of the type INT96: a Julian day, and nanoseconds of that day. No timestamp of Arrow
// holds all of them: one of nanoseconds ends with the years 1677 and 2262, one of microseconds loses digits. A type must
// not depend on the values either: it is told before they are read, and before the keys to read them are asked for, and
// it must be that of the next file too. So the writer decides, of whom the footer tells:
//
//   - Spark's timestamps are whole microseconds of any year: timestamp[us, UTC].
//   - Arrow's writers (pyarrow among them) are read by themselves as timestamp[ns, UTC], and so they are here.
//   - Anybody else (Hive, Impala, Flink) may write any day with any digit: text as in RFC 3339 with every digit, in UTC,
//     which is what timestamps are in JSON, too. Years beyond 9999 have as many digits as they need; those before the
//     year 0, as astronomers count, have a sign.
//
// What does not fit, which is nothing that these writers write of themselves, is an error: nothing is rounded.
//
// Days are those of the proleptic Gregorian calendar, as in Arrow and in RFC 3339.

// timesType returns the type of the times of INT96 in a file with such key-value metadata.
func timesType(footer metadata.KeyValueMetadata) arrow.DataType {
	keys := footer.Keys()
	switch {
	case slices.Contains(keys, "ARROW:schema"): // first: these writers pass on what Spark said of rows that they read
		return arrow.FixedWidthTypes.Timestamp_ns
	case slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, "org.apache.spark.") }):
		return arrow.FixedWidthTypes.Timestamp_us
	}
	return arrow.BinaryTypes.String
}

// timesIn returns the schema of a file with times in place of bytes. int96 tells which leaves hold them.
func timesIn(s *arrow.Schema, rows *pqarrow.FileReader, int96 []bool) (*arrow.Schema, error) {
	to := timesType(rows.ParquetReader().MetaData().KeyValueMetadata())
	fields := s.Fields()
	if len(fields) != len(rows.Manifest.Fields) {
		return nil, errors.New("its schema is not that of its columns")
	}
	for i := range fields {
		var err error
		if fields[i].Type, err = timesOf(&rows.Manifest.Fields[i], fields[i].Type, to, int96); err != nil {
			return nil, fmt.Errorf("column %s: %w", fields[i].Name, err)
		}
	}
	meta := s.Metadata()
	return arrow.NewSchema(fields, &meta), nil
}

// timesOf returns the type of a field with times in place of bytes.
func timesOf(f *pqarrow.SchemaField, is, to arrow.DataType, int96 []bool) (arrow.DataType, error) {
	if !holds(f, int96) {
		return is, nil
	}
	if f.IsLeaf() {
		if fixed, ok := is.(*arrow.FixedSizeBinaryType); ok && fixed.ByteWidth == int96Size {
			return to, nil
		}
	}
	nested, ok := is.(arrow.NestedType)
	if !ok || nested.NumFields() != len(f.Children) {
		return nil, fmt.Errorf("times of the type INT96 within %s cannot be read; leave the column out, as with --columns", is.Name())
	}
	fields := nested.Fields()
	for i := range fields {
		var err error
		if fields[i].Type, err = timesOf(&f.Children[i], fields[i].Type, to, int96); err != nil {
			return nil, err
		}
	}
	switch t := is.(type) {
	case *arrow.StructType:
		return arrow.StructOf(fields...), nil
	case *arrow.ListType:
		return arrow.ListOfField(fields[0]), nil
	case *arrow.LargeListType:
		return arrow.LargeListOfField(fields[0]), nil
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOfField(t.Len(), fields[0]), nil
	case *arrow.MapType:
		if entry, ok := fields[0].Type.(*arrow.StructType); ok && entry.NumFields() == 2 {
			m := arrow.MapOfFields(entry.Field(0), entry.Field(1))
			m.KeysSorted = t.KeysSorted
			return m, nil
		}
	}
	return nil, fmt.Errorf("times of the type INT96 within %s cannot be read; leave the column out, as with --columns", is.Name())
}

// holds tells whether a field is a time of INT96 or has one beneath it.
func holds(f *pqarrow.SchemaField, int96 []bool) bool {
	if f.IsLeaf() {
		return f.ColIndex < len(int96) && int96[f.ColIndex]
	}
	for i := range f.Children {
		if holds(&f.Children[i], int96) {
			return true
		}
	}
	return false
}

// withTimes returns a batch with times in place of bytes. The caller releases it.
func withTimes(batch arrow.RecordBatch, fields []arrow.Field) (arrow.RecordBatch, error) {
	if len(fields) != int(batch.NumCols()) {
		return nil, fmt.Errorf("%w: %d columns were read, want %d", ErrBroken, batch.NumCols(), len(fields))
	}
	columns := make([]arrow.Array, 0, len(fields))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range fields {
		data, err := timed(batch.Column(i).Data(), f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		columns = append(columns, array.MakeFromData(data))
		data.Release()
	}
	meta := batch.Schema().Metadata()
	return array.NewRecordBatch(arrow.NewSchema(fields, &meta), columns, batch.NumRows()), nil
}

// timed returns an array with times in place of bytes. The caller releases it.
func timed(data arrow.ArrayData, to arrow.DataType) (arrow.ArrayData, error) {
	if arrow.TypeEqual(data.DataType(), to) {
		data.Retain()
		return data, nil
	}
	nested, ok := to.(arrow.NestedType)
	if !ok {
		values := array.NewFixedSizeBinaryData(data)
		defer values.Release()
		return timesFrom(values, to)
	}
	var children []arrow.ArrayData
	defer func() {
		for _, c := range children {
			c.Release()
		}
	}()
	for i, f := range nested.Fields() {
		child, err := timed(data.Children()[i], f.Type)
		if err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	return array.NewData(to, data.Len(), data.Buffers(), children, data.NullN(), data.Offset()), nil
}

// timesFrom makes times of the bytes of INT96.
func timesFrom(values *array.FixedSizeBinary, to arrow.DataType) (arrow.ArrayData, error) {
	b := array.NewBuilder(memory.DefaultAllocator, to)
	defer b.Release()
	b.Reserve(values.Len())
	var text []byte
	for i := range values.Len() {
		if values.IsNull(i) {
			b.AppendNull()
			continue
		}
		at := int96(values.Value(i))
		switch b := b.(type) {
		case *array.TimestampBuilder:
			ticks, ok := ticks(at, to.(*arrow.TimestampType).Unit)
			if !ok {
				return nil, fmt.Errorf("a time of the type INT96 does not fit %s; leave the column out, as with --columns", to)
			}
			b.UnsafeAppend(ticks)
		case *array.StringBuilder:
			text = at.AppendFormat(text[:0], time.RFC3339Nano)
			b.BinaryBuilder.Append(text)
		}
	}
	made := b.NewArray()
	defer made.Release()
	made.Data().Retain()
	return made.Data(), nil
}

const (
	int96Size     = 12
	julianOfEpoch = 2440588 // the day 1970-01-01
	secondsPerDay = 24 * 60 * 60
)

// int96 returns the time of a value. Nanoseconds beyond a day are counted on, as Arrow and Spark do.
func int96(b []byte) time.Time {
	day := int64(binary.LittleEndian.Uint32(b[8:])) - julianOfEpoch
	return time.Unix(day*secondsPerDay, int64(binary.LittleEndian.Uint64(b))).UTC()
}

// ticks returns a time as a timestamp, unless it has digits too many or is too far away.
func ticks(at time.Time, unit arrow.TimeUnit) (arrow.Timestamp, bool) {
	length := int64(unit.Multiplier())
	second := int64(time.Second) / length
	whole, part := at.Unix(), int64(at.Nanosecond())
	if part%length != 0 {
		return 0, false
	}
	part /= length
	if whole < 0 && part > 0 { // both of one sign: then the product is too large only where the sum is
		whole, part = whole+1, part-second
	}
	if whole > math.MaxInt64/second || whole < math.MinInt64/second {
		return 0, false
	}
	sum := whole*second + part
	return arrow.Timestamp(sum), (part < 0) == (sum < whole*second)
}
