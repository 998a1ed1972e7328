package rows

import (
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// csvRows writes RFC 4180, with LF as line end. encoding/csv cannot tell an empty text from a null.
type csvRows struct {
	w   io.Writer
	buf []byte
}

func (c *csvRows) begin(s *arrow.Schema) error {
	for i, f := range s.Fields() {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = appendCell(c.buf, f.Name)
	}
	c.buf = append(c.buf, '\n')
	return c.flush()
}

func (c *csvRows) write(batch arrow.RecordBatch) error {
	var scratch []byte
	for row := range int(batch.NumRows()) {
		for i, column := range batch.Columns() {
			if i > 0 {
				c.buf = append(c.buf, ',')
			}
			if column.IsNull(row) {
				continue
			}
			if text, ok := column.(array.StringLike); ok {
				c.buf = appendCell(c.buf, text.Value(row))
				continue
			}
			var err error
			if scratch, err = appendValue(scratch[:0], column, row, false); err != nil {
				return err
			}
			cell := string(scratch)
			if _, nested := column.DataType().(arrow.NestedType); !nested {
				cell = strings.Trim(cell, `"`) // times and base64, which have nothing in them to escape
			}
			c.buf = appendCell(c.buf, cell)
		}
		c.buf = append(c.buf, '\n')
		if len(c.buf) > 1<<16 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

func (c *csvRows) end() error { return nil }

func (c *csvRows) flush() error {
	_, err := c.w.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// appendCell appends a text, in quotes where it needs them: when it is empty, too, which tells it from a null.
func appendCell(b []byte, text string) []byte {
	if text != "" && !strings.ContainsAny(text, ",\"\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		return append(b, text...)
	}
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(text, `"`, `""`)...)
	return append(b, '"')
}
