package files

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/tasterhq/taster/schema/finding"
)

// rowWriter assembles a row from its columns' values and levels (Dremel, Melnik et al., VLDB 2010) and writes it as
// JSON.
type rowWriter struct {
	out       []byte
	columns   [][]parquet.Value // what is left of each leaf column
	unbounded bool              // a value was NaN or infinite
}

// write appends a row to w.out.
func (w *rowWriter) write(root *node, row parquet.Row) error {
	w.unbounded = false
	w.columns = w.columns[:0]
	row.Range(func(_ int, values []parquet.Value) bool {
		w.columns = append(w.columns, values)
		return true
	})
	if len(w.columns) != root.leaves {
		return fmt.Errorf("%w: a row has %d columns, its schema %d", ErrCorrupt, len(w.columns), root.leaves)
	}
	return w.value(root)
}

// code returns what is wrong with the row that was written last, "" where nothing is.
func (w *rowWriter) code() finding.Code {
	if w.unbounded {
		return finding.NumberRange
	}
	return ""
}

// peek returns the next value of the node's first column; its levels tell of the whole node.
func (w *rowWriter) peek(n *node) (*parquet.Value, error) {
	column := w.columns[n.leaf]
	if len(column) == 0 {
		return nil, fmt.Errorf("%w: a column has fewer values than its levels say", ErrCorrupt)
	}
	return &column[0], nil
}

// absent tells whether an optional node is null here, and then passes over it.
func (w *rowWriter) absent(n *node) (bool, error) {
	if !n.optional {
		return false, nil
	}
	first, err := w.peek(n)
	if err != nil || first.DefinitionLevel() >= n.def {
		return false, err
	}
	return true, w.pass(n)
}

// pass moves behind a node that has no values: Parquet stores one null for it in each of its columns.
func (w *rowWriter) pass(n *node) error {
	for i := n.leaf; i < n.leaf+n.leaves; i++ {
		if len(w.columns[i]) == 0 {
			return fmt.Errorf("%w: a column has fewer values than its levels say", ErrCorrupt)
		}
		w.columns[i] = w.columns[i][1:]
	}
	return nil
}

// value writes a node.
func (w *rowWriter) value(n *node) error {
	null, err := w.absent(n)
	switch {
	case err != nil:
		return err
	case null:
		w.out = append(w.out, "null"...)
		return nil
	}
	return w.present(n)
}

// present writes a node that is not null.
func (w *rowWriter) present(n *node) error {
	first, err := w.peek(n)
	if err != nil {
		return err
	}
	switch n.shape {
	case leaf:
		w.columns[n.leaf] = w.columns[n.leaf][1:]
		if first.Kind() != n.scalar.physical {
			return fmt.Errorf("%w: a column holds values of another type than its schema says", ErrCorrupt)
		}
		w.scalar(n.scalar, first)
		return nil
	case object:
		w.out = append(w.out, '{')
		for _, child := range n.children {
			if err := w.member(child); err != nil {
				return err
			}
		}
		w.out = append(w.out, '}')
		return nil
	}
	open, shut := byte('['), byte(']')
	if n.shape == pairs {
		open, shut = '{', '}'
	}
	w.out = append(w.out, open)
	if first.DefinitionLevel() < n.itemDef {
		w.out = append(w.out, shut)
		return w.pass(n)
	}
	for more := true; more; {
		if w.out[len(w.out)-1] != open {
			w.out = append(w.out, ',')
		}
		if n.shape == pairs {
			if err := w.key(n.children[0]); err != nil {
				return err
			}
			w.out = append(w.out, ':')
		}
		if err := w.value(n.children[len(n.children)-1]); err != nil {
			return err
		}
		rest := w.columns[n.leaf]
		more = len(rest) > 0 && rest[0].RepetitionLevel() == n.itemRep
	}
	w.out = append(w.out, shut)
	return nil
}

func (w *rowWriter) member(n *node) error {
	null, err := w.absent(n)
	if err != nil || null && !n.required {
		return err
	}
	if w.out[len(w.out)-1] != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, n.member...)
	if null {
		w.out = append(w.out, "null"...)
		return nil
	}
	return w.present(n)
}

// key writes a map's key, as a string whatever it is.
func (w *rowWriter) key(n *node) error {
	from := len(w.out)
	if err := w.value(n); err != nil {
		return err
	}
	if w.out[from] != '"' {
		key := string(w.out[from:])
		w.out = appendString(w.out[:from], key)
	}
	return nil
}

// scalar says how a leaf's values are written.
type scalar struct {
	kind     scalarKind
	physical parquet.Kind
	scale    int           // digits behind the point of a decimal
	unit     time.Duration // of a time or timestamp
}

type scalarKind uint8

const (
	asBytes scalarKind = iota
	asBool
	asInt32
	asInt64
	asUint32
	asUint64
	asFloat
	asDouble
	asHalf
	asString
	asJSON
	asUUID
	asDate
	asTime
	asTimestamp
	asInt96
	asDecimal
)

// scalarOf reads a leaf's type. An annotation that does not go with the physical type is no annotation: the library
// reads values through unsafe pointers and must never be asked for a type that they do not have.
func scalarOf(e *format.SchemaElement) scalar {
	s := annotated(e)
	ok := false
	switch e.Type.V {
	case format.Int32:
		ok = s.kind == asUint32 || s.kind == asDate || s.kind == asTime || s.kind == asDecimal
	case format.Int64:
		ok = s.kind == asUint64 || s.kind == asTime || s.kind == asTimestamp || s.kind == asDecimal
	case format.ByteArray, format.FixedLenByteArray:
		ok = s.kind == asString || s.kind == asJSON || s.kind == asUUID || s.kind == asHalf || s.kind == asDecimal
	}
	if !ok {
		s = scalar{kind: plain(e.Type.V)}
	}
	s.physical = parquet.Kind(e.Type.V)
	return s
}

// annotated reads the logical type, or the converted one of older writers; asBytes when there is none.
func annotated(e *format.SchemaElement) scalar {
	switch t := e.LogicalType.Value.(type) {
	case *format.StringType, *format.EnumType:
		return scalar{kind: asString}
	case *format.JsonType:
		return scalar{kind: asJSON}
	case *format.UUIDType:
		return scalar{kind: asUUID}
	case *format.Float16Type:
		return scalar{kind: asHalf}
	case *format.DateType:
		return scalar{kind: asDate}
	case *format.TimeType:
		return scalar{kind: asTime, unit: unit(t.Unit)}
	case *format.TimestampType:
		return scalar{kind: asTimestamp, unit: unit(t.Unit)}
	case *format.DecimalType:
		return scalar{kind: asDecimal, scale: int(t.Scale)}
	case *format.IntType:
		if !t.IsSigned {
			return unsigned(e)
		}
	}
	if e.ConvertedType.Valid {
		switch e.ConvertedType.V {
		case deprecated.UTF8, deprecated.Enum:
			return scalar{kind: asString}
		case deprecated.Json:
			return scalar{kind: asJSON}
		case deprecated.Date:
			return scalar{kind: asDate}
		case deprecated.TimeMillis:
			return scalar{kind: asTime, unit: time.Millisecond}
		case deprecated.TimeMicros:
			return scalar{kind: asTime, unit: time.Microsecond}
		case deprecated.TimestampMillis:
			return scalar{kind: asTimestamp, unit: time.Millisecond}
		case deprecated.TimestampMicros:
			return scalar{kind: asTimestamp, unit: time.Microsecond}
		case deprecated.Decimal:
			return scalar{kind: asDecimal, scale: int(e.Scale.V)}
		case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
			return unsigned(e)
		}
	}
	return scalar{}
}

func plain(t format.Type) scalarKind {
	switch t {
	case format.Boolean:
		return asBool
	case format.Int32:
		return asInt32
	case format.Int64:
		return asInt64
	case format.Int96:
		return asInt96
	case format.Float:
		return asFloat
	case format.Double:
		return asDouble
	}
	return asBytes
}

func unsigned(e *format.SchemaElement) scalar {
	if e.Type.V == format.Int64 {
		return scalar{kind: asUint64}
	}
	return scalar{kind: asUint32}
}

func unit(u format.TimeUnit) time.Duration {
	if u.Value == nil {
		return time.Millisecond
	}
	return u.Value.Duration()
}

func (w *rowWriter) scalar(s scalar, v *parquet.Value) {
	switch s.kind {
	case asBool:
		w.out = strconv.AppendBool(w.out, v.Boolean())
	case asInt32:
		w.out = strconv.AppendInt(w.out, int64(v.Int32()), 10)
	case asInt64:
		w.out = strconv.AppendInt(w.out, v.Int64(), 10)
	case asUint32:
		w.out = strconv.AppendUint(w.out, uint64(v.Uint32()), 10)
	case asUint64:
		w.out = strconv.AppendUint(w.out, v.Uint64(), 10)
	case asFloat:
		w.float(float64(v.Float()), 32)
	case asDouble:
		w.float(v.Double(), 64)
	case asHalf:
		if b := v.ByteArray(); len(b) == 2 {
			w.float(half(binary.LittleEndian.Uint16(b)), 32)
			return
		}
		w.bytes(v.ByteArray())
	case asString:
		w.out = appendString(w.out, v.ByteArray())
	case asJSON:
		w.json(v.ByteArray())
	case asUUID:
		w.uuid(v.ByteArray())
	case asDate:
		w.time("2006-01-02", time.Unix(int64(v.Int32())*24*60*60, 0))
	case asTime:
		n := v.Int64()
		if v.Kind() == parquet.Int32 {
			n = int64(v.Int32())
		}
		w.time("15:04:05.999999999", time.Unix(0, n*int64(s.unit)))
	case asTimestamp:
		perSecond := int64(time.Second / s.unit)
		n := v.Int64()
		seconds, rest := n/perSecond, n%perSecond
		w.time(time.RFC3339Nano, time.Unix(seconds, rest*int64(s.unit)))
	case asInt96:
		const julianOfEpoch = 2440588 // the day 1970-01-01
		i := v.Int96()
		day := int64(i[2]) - julianOfEpoch
		w.time(time.RFC3339Nano, time.Unix(day*24*60*60, int64(i[1])<<32|int64(i[0])))
	case asDecimal:
		w.decimal(s.scale, v)
	default:
		w.bytes(v.ByteArray())
	}
}

// float writes the shortest form, and notes what JSON has no form for.
func (w *rowWriter) float(f float64, bits int) {
	switch {
	case math.IsNaN(f):
		w.unbounded = true
		w.out = append(w.out, "NaN"...)
	case math.IsInf(f, 1):
		w.unbounded = true
		w.out = append(w.out, "Infinity"...)
	case math.IsInf(f, -1):
		w.unbounded = true
		w.out = append(w.out, "-Infinity"...)
	default:
		w.out = strconv.AppendFloat(w.out, f, 'g', -1, bits)
	}
}

func (w *rowWriter) bytes(b []byte) {
	w.out = append(w.out, '"')
	w.out = base64.StdEncoding.AppendEncode(w.out, b)
	w.out = append(w.out, '"')
}

// json writes a value that the file says is JSON; as a string when it is not.
func (w *rowWriter) json(b []byte) {
	if jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		w.out = append(w.out, b...)
		return
	}
	w.out = appendString(w.out, b)
}

func (w *rowWriter) uuid(b []byte) {
	if len(b) != 16 {
		w.bytes(b)
		return
	}
	w.out = append(w.out, '"')
	for i, end := range []int{4, 6, 8, 10, 16} {
		from := []int{0, 4, 6, 8, 10}[i]
		if i > 0 {
			w.out = append(w.out, '-')
		}
		w.out = hex.AppendEncode(w.out, b[from:end])
	}
	w.out = append(w.out, '"')
}

func (w *rowWriter) time(layout string, t time.Time) {
	w.out = append(w.out, '"')
	w.out = t.UTC().AppendFormat(w.out, layout)
	w.out = append(w.out, '"')
}

// decimal writes unscaled × 10^-scale with all digits.
func (w *rowWriter) decimal(scale int, v *parquet.Value) {
	unscaled := new(big.Int)
	switch v.Kind() {
	case parquet.Int32:
		unscaled.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		unscaled.SetInt64(v.Int64())
	default: // two's complement, most significant byte first
		b := v.ByteArray()
		unscaled.SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			unscaled.Sub(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	digits := unscaled.String()
	if digits[0] == '-' {
		w.out = append(w.out, '-')
		digits = digits[1:]
	}
	const widest = 100 // no decimal has more digits; a file may claim any scale
	if scale <= 0 || scale > widest {
		w.out = append(w.out, digits...)
		if scale != 0 && digits != "0" {
			w.out = append(w.out, 'e')
			w.out = strconv.AppendInt(w.out, int64(-scale), 10)
		}
		return
	}
	if len(digits) <= scale {
		w.out = append(w.out, "0."...)
		for range scale - len(digits) {
			w.out = append(w.out, '0')
		}
		w.out = append(w.out, digits...)
		return
	}
	point := len(digits) - scale
	w.out = append(w.out, digits[:point]...)
	w.out = append(w.out, '.')
	w.out = append(w.out, digits[point:]...)
}

// half widens an IEEE 754 binary16.
func half(h uint16) float64 {
	sign := 1.0
	if h>>15 != 0 {
		sign = -1
	}
	exponent, fraction := int(h>>10&0x1f), float64(h&0x3ff)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 0x1f:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}
