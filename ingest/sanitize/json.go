package sanitize

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// escapes tells whether JSON text has an escape that could stand for something that the filter looks for.
func escapes(text []byte) bool { return bytes.Contains(text, []byte(`\u`)) }

// inJSON treats every string and member name in a JSON text and returns the text with the changed ones written
// anew. A changed member name that is there already gets a number, because an object must not name a member twice.
func (s *Sanitizer) inJSON(text []byte, out *Outcome) []byte {
	var result []byte
	done, renamed := 0, 0
	for i := 0; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		end := i + 1
		for end < len(text) && text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(text) {
			break // no JSON; the decoder lets none through
		}
		end++
		quoted := text[i:end]
		value := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(value, '\\') >= 0 {
			var err error
			if value, err = jsontext.AppendUnquote(nil, quoted); err != nil {
				break
			}
		}
		if flags := look(value) & s.filter; flags != 0 {
			before := *out
			changed := s.rules(value, flags, out)
			if *out != before && !bytes.Equal(changed, value) {
				next := bytes.TrimLeft(text[end:], " \t\r\n")
				if len(next) > 0 && next[0] == ':' {
					changed = unique(changed, text, result, &renamed)
				}
				result = append(result, text[done:i]...)
				if made, err := jsontext.AppendQuote(result, changed); err == nil {
					result = made
				}
				done = end
			}
		}
		i = end - 1
	}
	if done == 0 {
		return text
	}
	return append(result, text[done:]...)
}

// unique returns name, with a number behind it when it stands in the old or the new text already.
func unique(name, old, made []byte, renamed *int) []byte {
	taken := func(name []byte) bool {
		quoted, err := jsontext.AppendQuote(nil, name)
		return err == nil && (bytes.Contains(old, quoted) || bytes.Contains(made, quoted))
	}
	for tried := name; ; {
		if !taken(tried) {
			return tried
		}
		*renamed++
		tried = strconv.AppendInt(append(bytes.Clone(name), ' '), int64(*renamed), 10)
	}
}
