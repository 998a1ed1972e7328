package check

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/tasterhq/taster/schema/finding"
)

// lines reads a file line by line. Of a line that is longer than most, most+1 bytes are kept: enough to be refused as
// too large, whatever the line's length.
type lines struct {
	in   *bufio.Reader
	most int
	line int   // the 1-based number of the line that next returned
	took int64 // bytes of the file that the line took
	kept []byte
}

func newLines(r io.Reader, most int) *lines {
	return &lines{in: bufio.NewReaderSize(r, 64<<10), most: most}
}

// next returns the next line, nil when there is only white space in it. It is valid until the next call.
func (l *lines) next() ([]byte, error) {
	l.kept, l.took = l.kept[:0], 0
	l.line++
	for {
		part, err := l.in.ReadSlice('\n')
		l.took += int64(len(part))
		l.kept = append(l.kept, part[:min(len(part), l.most+1-len(l.kept))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && l.took > 0, err == nil:
		default:
			return nil, err
		}
		value := bytes.TrimRight(l.kept, "\r\n")
		if len(bytes.TrimSpace(value)) == 0 {
			value = nil
		}
		return value, nil
	}
}

// meaning says in words what a reason code means.
func meaning(code finding.Code) string {
	for _, m := range finding.Meanings {
		if m.Code == code {
			return m.Text
		}
	}
	return string(code)
}
