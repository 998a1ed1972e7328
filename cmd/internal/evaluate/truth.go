package evaluate

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tasterhq/taster/schema/record"
)

// Truth reads whether a record is poison at a pointer, as Run does.
func Truth(value []byte, pointer string) (poison, found bool) {
	path, ok := record.Tokens(pointer)
	if !ok || len(path) == 0 {
		return false, false
	}
	_, poison, found = cut(value, path)
	return poison, found
}

// cut returns a record without the member that path names, and the truth that it held. The other bytes stay as they
// were, so that a fault in them is judged like any other. What is no JSON object, does not have the member, or has
// no 0 or 1 there (as a number, a boolean, or a string, which is how CSV files say it) is returned whole.
func cut(value []byte, path []string) (rest []byte, poison, found bool) {
	d := jsontext.NewDecoder(bytes.NewBuffer(value), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for depth := range path {
		if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
			return value, false, false
		}
		for {
			before := d.InputOffset()
			name, err := d.ReadToken()
			if err != nil || name.Kind() != '"' {
				return value, false, false
			}
			if name.String() != path[depth] {
				if d.SkipValue() != nil {
					return value, false, false
				}
				continue
			}
			if depth+1 < len(path) {
				break
			}
			truth, err := d.ReadValue()
			if err != nil {
				return value, false, false
			}
			switch string(bytes.Trim(truth, `"`)) {
			case "0", "0.0", "false":
			case "1", "1.0", "true":
				poison = true
			default:
				return value, false, false
			}
			return remove(value, int(before), int(d.InputOffset())), poison, true
		}
	}
	return value, false, false
}

// remove takes out the member that lies in value[from:to], where from is the end of the token before it: with the
// comma before it, or, for an object's first member, the comma after it.
func remove(value []byte, from, to int) []byte {
	start := from + len(value[from:to]) - len(bytes.TrimLeft(value[from:to], " \t\r\n"))
	if value[start] != ',' {
		after := to + len(value[to:]) - len(bytes.TrimLeft(value[to:], " \t\r\n"))
		if after < len(value) && value[after] == ',' {
			to = after + 1
		}
	}
	return append(append(make([]byte, 0, len(value)), value[:start]...), value[to:]...)
}
