package files

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/validate"
)

// cell turns one column's cells into members of a JSON object. What a cell means follows from the column's type in
// the contract:
//
//   - a string is the cell as it stands;
//   - an integer or number is what JSON calls one, with blanks around it; a number also in the other forms in which
//     programs write it (.5, 1., +1);
//   - a boolean is true or false in any case of letters;
//   - an array, an object and a column of JSON text hold JSON; what is no JSON is a string;
//   - a column that the contract does not know holds strings.
//
// What does not look like its type becomes a string, so that the schema refuses it. An empty cell without quotes is a
// field that is not there, or null where the schema requires the field and allows null, or the empty string in a
// string column that must have a value.
type cell struct {
	member []byte // "name":
	kind   kind
	empty  []byte // what an empty cell stands for; nil for no member
}

type kind uint8

const (
	text kind = iota
	integer
	number
	boolean
	document
)

// cells makes the columns that a header names.
func cells(header []field, c *contract.Contract) ([]cell, error) {
	required := requiredMembers(c.Schema)
	known := map[string]bool{}
	columns := make([]cell, len(header))
	for i, f := range header {
		name := string(f.unquoted(nil))
		if known[name] {
			return nil, fmt.Errorf("%w: its header names a column twice, column %d", ErrCorrupt, i+1)
		}
		known[name] = true
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return nil, fmt.Errorf("%w: the name of column %d in its header is not UTF-8", ErrCorrupt, i+1)
		}
		columns[i].member = append(quoted, ':')
		described, ok := c.Schema.Field(pointerTo("", name))
		if !ok {
			continue
		}
		columns[i].kind = kindOf(described)
		switch {
		case !described.Nullable && columns[i].kind == text:
			columns[i].empty = []byte(`""`)
		case described.Nullable && required[name]:
			columns[i].empty = []byte("null")
		}
	}
	return columns, nil
}

func kindOf(f validate.Field) kind {
	switch {
	case f.JSON || f.Type == nil:
		return document
	case f.Type.ID() == arrow.STRING:
		return text
	case arrow.IsInteger(f.Type.ID()):
		return integer
	case arrow.IsFloating(f.Type.ID()):
		return number
	case f.Type.ID() == arrow.BOOL:
		return boolean
	}
	return document
}

func pointerTo(parent, name string) string {
	return parent + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// requiredMembers returns the names that the schema's own `required` lists. Files say of every cell whether it is
// empty and never whether it is there, so this decides between null and no member.
func requiredMembers(s *validate.Schema) map[string]bool {
	var root struct{ Required []string }
	if files := s.Files(); len(files) > 0 {
		_ = json.Unmarshal(files[0].Bytes, &root) // draft 3 has booleans there, and then nothing is known
	}
	names := map[string]bool{}
	for _, name := range root.Required {
		names[name] = true
	}
	return names
}

// append adds the cell's member to an object that is open.
func (c *cell) append(object []byte, f field) []byte {
	value := f.text
	if !f.quoted && len(value) == 0 {
		if c.empty == nil {
			return object
		}
		return append(c.begin(object), c.empty...)
	}
	object = c.begin(object)
	if f.doubled {
		value = f.unquoted(nil)
	}
	if c.kind != text {
		if made, ok := c.typed(object, bytes.TrimSpace(value)); ok {
			return made
		}
	}
	return appendString(object, value)
}

func (c *cell) begin(object []byte) []byte {
	if object[len(object)-1] != '{' {
		object = append(object, ',')
	}
	return append(object, c.member...)
}

func (c *cell) typed(object, value []byte) ([]byte, bool) {
	switch c.kind {
	case integer:
		if isNumber(value) {
			return append(object, value...), true
		}
	case number:
		if isNumber(value) {
			return append(object, value...), true
		}
		if bytes.ContainsAny(value, "xXpP_nN") { // what ParseFloat takes and people do not write
			return object, false
		}
		if v, err := strconv.ParseFloat(string(value), 64); err == nil && !math.IsInf(v, 0) {
			return strconv.AppendFloat(object, v, 'g', -1, 64), true
		}
	case boolean:
		switch {
		case bytes.EqualFold(value, []byte("true")):
			return append(object, "true"...), true
		case bytes.EqualFold(value, []byte("false")):
			return append(object, "false"...), true
		}
	case document:
		// Duplicate names and bytes that are not UTF-8 are the decoder's to refuse, each with its own reason.
		if jsontext.Value(value).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			return append(object, value...), true
		}
	}
	return object, false
}

// unquoted appends the field's text with its doubled quotes made one.
func (f *field) unquoted(dst []byte) []byte {
	for rest := f.text; ; {
		i := bytes.Index(rest, []byte(`""`))
		if i < 0 || !f.doubled {
			return append(dst, rest...)
		}
		dst = append(dst, rest[:i+1]...)
		rest = rest[i+2:]
	}
}

// isNumber tells whether b is a number of JSON (RFC 8259, section 6).
func isNumber(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte{'-'})
	whole := digits(b)
	if whole == 0 || whole > 1 && b[0] == '0' {
		return false
	}
	if b = b[whole:]; len(b) > 0 && b[0] == '.' {
		n := digits(b[1:])
		if n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		b = b[1:]
		if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		n := digits(b)
		return n > 0 && n == len(b)
	}
	return len(b) == 0
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n]-'0' < 10 {
		n++
	}
	return n
}

// appendString adds a JSON string. Bytes that are not UTF-8 stay as they are, for the decoder to refuse.
func appendString[T []byte | string](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}
