package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	const most = 100
	long := strings.Repeat("x", 200_000)
	in := "a\r\n\n \t\nb\n" + long + "\n" + long[:most] + "\n" + long[:most+1] + "\n" + "last"
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)),
	} {
		t.Run(name, func(t *testing.T) {
			lines := newLines(r, most)
			var got []string
			var took int64
			for {
				value, err := lines.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				took += lines.took
				if value != nil {
					got = append(got, fmt.Sprintf("%d:%d:%c", lines.line, len(value), value[0]))
				}
			}
			want := "1:1:a 4:1:b 5:101:x 6:100:x 7:101:x 8:4:l"
			if s := strings.Join(got, " "); s != want {
				t.Errorf("got %s, want %s", s, want)
			}
			if took != int64(len(in)) {
				t.Errorf("took %d bytes of %d", took, len(in))
			}
			if cap(lines.kept) > 10*most {
				t.Errorf("kept %d bytes of a line", cap(lines.kept))
			}
		})
	}
	broken := newLines(io.MultiReader(bytes.NewReader([]byte("a\n")), iotest.ErrReader(io.ErrClosedPipe)), most)
	if value, err := broken.next(); err != nil || string(value) != "a" {
		t.Errorf("the line before an error: %q, %v", value, err)
	}
	if _, err := broken.next(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the error: %v", err)
	}
}
