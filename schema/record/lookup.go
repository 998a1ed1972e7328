package record

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Lookup returns the column that an RFC 6901 pointer names, walking into struct columns, and whether there is
// one. The array belongs to rec. Struct columns carry nulls down to their children, so the array's own
// validity is enough.
func Lookup(rec arrow.RecordBatch, pointer string) (arrow.Array, bool) {
	tokens, ok := Tokens(pointer)
	if !ok || len(tokens) == 0 {
		return nil, false
	}
	at := rec.Schema().FieldIndices(tokens[0])
	if len(at) != 1 {
		return nil, false
	}
	column := rec.Column(at[0])
	for _, token := range tokens[1:] {
		parent, ok := column.(*array.Struct)
		if !ok {
			return nil, false
		}
		i, ok := parent.DataType().(*arrow.StructType).FieldIdx(token)
		if !ok {
			return nil, false
		}
		column = parent.Field(i)
	}
	return column, true
}

// Tokens splits an RFC 6901 pointer into its unescaped tokens. The empty pointer has none; anything else must
// begin with a slash.
func Tokens(pointer string) ([]string, bool) {
	if pointer == "" {
		return nil, true
	}
	if pointer[0] != '/' {
		return nil, false
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, t := range tokens {
		if strings.Contains(t, "~") {
			for j := 0; j < len(t); j++ {
				if t[j] == '~' && (j+1 == len(t) || t[j+1] != '0' && t[j+1] != '1') {
					return nil, false
				}
			}
			tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
		}
	}
	return tokens, true
}
