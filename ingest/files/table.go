package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

// table reads CSV and TSV by RFC 4180: a field that begins with a quote ends with one, may hold separators and line
// ends, and doubles the quotes in it. The first row names the columns.
//
// A row with more or fewer fields than the header is malformed. So is one with a quote inside an unquoted field, with
// text behind a closing quote, or with a quote that is never closed (or not within 64 MiB); then only the line on
// which the row begins is taken for the row, and the line behind it begins the next. A broken quote therefore costs
// one line, however many rows follow, and rows have the same numbers whenever the file is read.
type table struct {
	*window
	separator byte
	limit     int
	columns   []cell
	fields    []field
	object    []byte
}

// field is one field of a row, between its quotes.
type field struct {
	text    []byte
	quoted  bool
	doubled bool // holds doubled quotes
}

func newTable(src io.Reader, separator byte, c *contract.Contract) (*table, error) {
	t := &table{window: newWindow(src), separator: separator, limit: c.Limits.Bytes}
	_, ok, err := t.row()
	switch {
	case errors.Is(err, ErrEnd):
		return nil, fmt.Errorf("%w: it has no header; its first row must name the columns", ErrCorrupt)
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: its first row, which must name the columns, has a broken quote", ErrCorrupt)
	}
	t.columns, err = cells(t.fields, c)
	return t, err
}

// next returns the next row as a JSON object.
func (t *table) next() ([]byte, finding.Code, error) {
	raw, ok, err := t.row()
	if err != nil {
		return nil, "", err
	}
	switch {
	case len(raw) >= longest, t.limit > 0 && len(raw) > t.limit:
		return raw, finding.TooLarge, nil
	case !ok || len(t.fields) != len(t.columns):
		return raw, finding.RowMalformed, nil
	}
	t.object = append(t.object[:0], '{')
	for i := range t.columns {
		t.object = t.columns[i].append(t.object, t.fields[i])
	}
	t.object = append(t.object, '}')
	return t.object, "", nil
}

func (t *table) skip(n int64) error {
	for range n {
		if _, _, err := t.row(); err != nil {
			return err
		}
	}
	return nil
}

// row reads the next row that is not blank into t.fields. It returns the row's bytes and whether its quotes are right.
func (t *table) row() (raw []byte, ok bool, err error) {
	for {
		line, err := t.peek()
		if err != nil {
			return nil, false, err
		}
		if len(line) >= longest {
			raw, err := t.line()
			return raw, false, err
		}
		if len(trimEnd(line)) == 0 {
			t.r += len(line)
			continue
		}
		if bytes.IndexByte(line, '"') < 0 {
			t.r += len(line)
			raw = trimEnd(line)
			t.split(raw)
			return raw, true, nil
		}
		n, ok, err := t.quotedRow()
		if err != nil {
			return nil, false, err
		}
		if !ok { // the window may have moved meanwhile
			n = len(t.bytes())
			if i := bytes.IndexByte(t.bytes(), '\n'); i >= 0 {
				n = i + 1
			}
		}
		raw = trimEnd(t.bytes()[:n])
		t.r += n
		return raw, ok, nil
	}
}

// peek returns the line that the window begins with, with its end.
func (t *table) peek() ([]byte, error) {
	seen := 0
	for {
		all := t.bytes()
		if i := bytes.IndexByte(all[seen:], '\n'); i >= 0 {
			return all[:seen+i+1], nil
		}
		seen = len(all)
		switch {
		case t.more():
		case t.full():
			return all, nil
		case !errors.Is(t.err, io.EOF):
			return nil, t.err
		case seen == 0:
			return nil, ErrEnd
		default:
			return all, nil
		}
	}
}

func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// split reads a row without quotes.
func (t *table) split(row []byte) {
	t.fields = t.fields[:0]
	for {
		i := bytes.IndexByte(row, t.separator)
		if i < 0 {
			t.fields = append(t.fields, field{text: row})
			return
		}
		t.fields = append(t.fields, field{text: row[:i]})
		row = row[i+1:]
	}
}

// quotedRow reads a row that has quotes, widening the window until the row is in it, and returns its length with the
// line end.
func (t *table) quotedRow() (n int, ok bool, err error) {
	for {
		n, got := t.parse(t.bytes(), t.err != nil || t.full())
		if got != unfinished {
			return n, got == complete, nil
		}
		for want := 2 * len(t.bytes()); len(t.bytes()) < want && t.more(); {
		}
		if t.err != nil && !errors.Is(t.err, io.EOF) {
			return 0, false, t.err
		}
	}
}

// parsed is what became of reading a row.
type parsed uint8

const (
	complete   parsed = iota
	broken            // its quotes are wrong
	unfinished        // its end is not in sight
)

// parse reads the row that all begins with into t.fields. final tells that nothing will come behind all.
func (t *table) parse(all []byte, final bool) (n int, got parsed) {
	t.fields = t.fields[:0]
	for at := 0; ; at++ {
		if at < len(all) && all[at] == '"' {
			f, length, got := parseQuoted(all[at:], final)
			if got != complete {
				return 0, got
			}
			t.fields = append(t.fields, f)
			at += length
		} else {
			from := at
			for at < len(all) && all[at] != t.separator && all[at] != '\n' {
				if all[at] == '"' {
					return 0, broken
				}
				at++
			}
			text := all[from:at]
			if at == len(all) || all[at] == '\n' {
				text = bytes.TrimSuffix(text, []byte{'\r'})
			}
			t.fields = append(t.fields, field{text: text})
		}
		rest := all[at:]
		if len(rest) > 0 && rest[0] == t.separator {
			continue
		}
		if len(rest) > 0 && rest[0] == '\r' {
			at, rest = at+1, rest[1:]
			if len(rest) > 0 && rest[0] != '\n' {
				return 0, broken
			}
		}
		switch {
		case len(rest) == 0 && !final:
			return 0, unfinished
		case len(rest) == 0:
			return at, complete
		case rest[0] == '\n':
			return at + 1, complete
		}
		return 0, broken // text behind a closing quote
	}
}

// parseQuoted reads the quoted field that all begins with, and returns its length with both quotes.
func parseQuoted(all []byte, final bool) (f field, length int, got parsed) {
	f.quoted = true
	for at := 1; ; {
		i := bytes.IndexByte(all[at:], '"')
		switch {
		case i < 0 && final:
			return f, 0, broken // never closed
		case i < 0, at+i+1 == len(all) && !final: // in the latter case it may be the first of two
			return f, 0, unfinished
		}
		at += i + 1
		if at == len(all) || all[at] != '"' {
			f.text = all[1 : at-1]
			return f, at, complete
		}
		f.doubled = true
		at++
	}
}
