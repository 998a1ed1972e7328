// Package parquet writes decided rows as encrypted Parquet and reads them back.
//
// A file holds the rows of one segment that got one verdict: the record's own columns, unless it was rejected, and
// then the taster_ columns, which docs/landing-zone.md lists. Encryption is Parquet Modular Encryption (AES-GCM,
// encrypted footer, every column encrypted), with key metadata as Parquet's key tools write it, so that pyarrow and
// Spark open the files with nothing but a KMS client.
//
// Package pages makes and encrypts the pages, with column chunks side by side; arrow-go makes the footer's metadata and
// reads files back. Data pages are always of version 1: what one engine encrypts as version 2 another cannot read.
//
// Arrow's Parquet code panics on some faults. None of these leaves this package: they become errors.
package parquet

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/parquet/modular"
)

// ErrBroken says that a file is not what this package writes, or was changed.
var ErrBroken = modular.ErrBroken

// Names of the columns that every row has beside its own.
const (
	Topic          = "taster_topic"
	Source         = "taster_source"
	Partition      = "taster_partition"
	Offset         = "taster_offset"
	Timestamp      = "taster_timestamp"
	Provider       = "taster_provider"
	Verdict        = "taster_verdict"
	Risk           = "taster_risk"
	Classification = "taster_classification"
	Reasons        = "taster_reasons"
	Findings       = "taster_findings"
)

// Names of the columns that only rejected rows have.
const (
	Key     = "taster_key"
	Headers = "taster_headers"
	Raw     = "taster_raw"
)

// ValidateDetector is the detector name in the one finding of a rejected row, whose evidence says where the fault is.
const ValidateDetector = "validate"

// text is how those of our own columns that have few different values are handed to the writer. Readers see plain utf8.
var text = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}

var (
	headerStruct = arrow.StructOf(
		arrow.Field{Name: "key", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true},
	)
	findingStruct = arrow.StructOf(
		arrow.Field{Name: "detector", Type: arrow.BinaryTypes.String},
		arrow.Field{Name: "score", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "p_value", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "threshold", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "evidence", Type: arrow.BinaryTypes.String, Nullable: true},
	)
	reasonsList  = arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.BinaryTypes.String})
	findingsList = arrow.ListOfField(arrow.Field{Name: "element", Type: findingStruct})
	headersList  = arrow.ListOfField(arrow.Field{Name: "element", Type: headerStruct})
	milliseconds = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}
)

// provenance is the taster_ columns of every row, as they are handed to the writer.
var provenance = []arrow.Field{
	{Name: Topic, Type: text},
	{Name: Source, Type: text},
	{Name: Partition, Type: arrow.PrimitiveTypes.Int32},
	{Name: Offset, Type: arrow.PrimitiveTypes.Int64},
	{Name: Timestamp, Type: milliseconds},
	{Name: Provider, Type: text, Nullable: true},
	{Name: Verdict, Type: text},
	{Name: Risk, Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: Classification, Type: text},
	{Name: Reasons, Type: reasonsList},
	{Name: Findings, Type: findingsList},
}

// refusal is what a rejected row has in place of columns of its own.
var refusal = []arrow.Field{
	{Name: Key, Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: Headers, Type: headersList},
	{Name: Raw, Type: arrow.BinaryTypes.Binary, Nullable: true},
}

// readable returns a field as readers shall see it: dictionaries as their values, the element of a list by the name
// that Parquet gives it.
func readable(f arrow.Field) arrow.Field {
	switch t := f.Type.(type) {
	case *arrow.DictionaryType:
		f.Type = t.ValueType
	case *arrow.ListType:
		f.Type = arrow.ListOfField(element(t.ElemField()))
	case *arrow.LargeListType:
		f.Type = arrow.LargeListOfField(element(t.ElemField()))
	case *arrow.FixedSizeListType:
		f.Type = arrow.FixedSizeListOfField(t.Len(), element(t.ElemField()))
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i := range fields {
			fields[i] = readable(t.Field(i))
		}
		f.Type = arrow.StructOf(fields...)
	}
	return f
}

func element(f arrow.Field) arrow.Field {
	f = readable(f)
	f.Name = "element"
	return f
}

// quoting lists the leaf columns that can hold a piece of any field: what the contract restricts must not be readable
// through them.
var quoting = []string{Key, Headers + ".list.element.key", Headers + ".list.element.value", Raw, Findings + ".list.element.evidence"}

// restricted tells which leaf columns need a key of their own. A pointer restricts the column that it names with all
// beneath, or, where the columns do not go as deep as the pointer, the column that holds what it names.
func restricted(leaves [][]string, pointers []string) (map[string]bool, error) {
	if len(pointers) == 0 {
		return nil, nil
	}
	out := map[string]bool{}
	for _, path := range quoting {
		out[path] = true
	}
	for _, pointer := range pointers {
		tokens, ok := record.Tokens(pointer)
		if !ok || len(tokens) == 0 {
			return nil, fmt.Errorf("restricted pointer %q is not an RFC 6901 pointer to a field", pointer)
		}
		for _, leaf := range leaves {
			if covers(tokens, leaf) {
				out[strings.Join(leaf, ".")] = true
			}
		}
	}
	return out, nil
}

// covers tells whether the field that tokens name lies in the leaf column or the column beneath the field. The
// "list" and "element" levels of a Parquet list take up an index into the array, if the pointer has one.
func covers(tokens, leaf []string) bool {
	for len(tokens) > 0 && len(leaf) > 0 {
		if tokens[0] != leaf[0] {
			return false
		}
		tokens, leaf = tokens[1:], leaf[1:]
		if len(leaf) >= 2 && leaf[0] == "list" && leaf[1] == "element" {
			return true
		}
	}
	return true
}

// guard turns a panic of Arrow's code into an error. The panic's text is kept only where it is Arrow's own or the
// runtime's: these name columns, lengths and indexes, never values.
func guard(err *error, doing string) {
	switch r := recover().(type) {
	case nil:
	case string:
		*err = fmt.Errorf("%w: %s: %s", ErrBroken, doing, r)
	case runtime.Error:
		*err = fmt.Errorf("%w: %s: %w", ErrBroken, doing, r)
	default:
		*err = fmt.Errorf("%w: %s: %T", ErrBroken, doing, r)
	}
}
