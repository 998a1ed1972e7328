package attack

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tasterhq/taster/schema/record"
)

// locate returns where in a JSON object the value lies that an RFC 6901 pointer names, walking objects only.
func locate(value []byte, pointer string) (from, to int, ok bool) {
	path, ok := record.Tokens(pointer)
	if !ok || len(path) == 0 {
		return 0, 0, false
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(value))
	for depth := range path {
		if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
			return 0, 0, false
		}
		for {
			name, err := d.ReadToken()
			if err != nil || name.Kind() != '"' {
				return 0, 0, false
			}
			if name.String() == path[depth] {
				break
			}
			if d.SkipValue() != nil {
				return 0, 0, false
			}
		}
	}
	found, err := d.ReadValue()
	if err != nil {
		return 0, 0, false
	}
	to = int(d.InputOffset())
	return to - len(found), to, true
}

// at returns the JSON value that pointer names, nil where there is none or null.
func at(value []byte, pointer string) []byte {
	from, to, ok := locate(value, pointer)
	if !ok || string(value[from:to]) == "null" {
		return nil
	}
	return value[from:to]
}

// with returns a copy of the record with another JSON value at pointer. All other bytes are as they were; a record
// that has no such value is returned as it is.
func with(value []byte, pointer, replacement string) []byte {
	from, to, ok := locate(value, pointer)
	if !ok {
		return value
	}
	out := make([]byte, 0, len(value)-(to-from)+len(replacement))
	return append(append(append(out, value[:from]...), replacement...), value[to:]...)
}

func quote(text string) string {
	out, _ := jsontext.AppendQuote(nil, text) // invalid UTF-8 becomes U+FFFD, and no string is an error for it
	return string(out)
}

func unquote(value []byte) (string, bool) {
	out, err := jsontext.AppendUnquote(nil, value)
	return string(out), err == nil && len(value) > 0 && value[0] == '"'
}

// tokens returns the items of a JSON array of numbers as they are written; false for anything else.
func tokens(value []byte) ([]string, bool) {
	inner, ok := strings.CutPrefix(strings.TrimSpace(string(value)), "[")
	if !ok {
		return nil, false
	}
	inner, ok = strings.CutSuffix(inner, "]")
	if !ok || strings.TrimSpace(inner) == "" {
		return nil, false
	}
	items := strings.Split(inner, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
		if _, err := strconv.ParseFloat(items[i], 64); err != nil {
			return nil, false
		}
	}
	return items, true
}

// vectorAt returns the array of numbers that pointer names, nil where there is none.
func vectorAt(value []byte, pointer string) []float64 {
	items, ok := tokens(at(value, pointer))
	if !ok {
		return nil
	}
	out := make([]float64, len(items))
	for i, item := range items {
		out[i], _ = strconv.ParseFloat(item, 64) // tokens has parsed it
	}
	return out
}

// withVector writes an array of numbers with the precision of float32, in which vectors are kept.
func withVector(value []byte, pointer string, v []float64) []byte {
	var b []byte
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, x, 'g', -1, 32)
	}
	return with(value, pointer, string(append(b, ']')))
}
