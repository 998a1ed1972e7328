package files

import (
	"bytes"
	"errors"
	"io"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/reuse"
)

// window is what lies in memory of a stream: it is widened until a row is in it, and moved on behind the row.
type window struct {
	src   io.Reader
	lease *reuse.Lease // of buf
	buf   []byte
	r, w  int
	given bool  // what lies before r is somebody else's, and stays as it is
	err   error // why no more can be read; io.EOF at the end
}

const firstWindow = 256 << 10

func newWindow(src io.Reader) *window {
	w := &window{src: src, lease: reuse.Shared.Lease(firstWindow)}
	w.buf = w.lease.Bytes()
	const bom = "\ufeff"
	for len(w.bytes()) < len(bom) && w.more() {
	}
	if bytes.HasPrefix(w.bytes(), []byte(bom)) {
		w.r += len(bom)
	}
	return w
}

func (w *window) bytes() []byte { return w.buf[w.r:w.w] }

// full tells that the window cannot be widened.
func (w *window) full() bool { return w.w-w.r >= longest }

// more widens the window; false when it is full or nothing more can be read. It invalidates what bytes returned.
func (w *window) more() bool {
	if w.err != nil || w.full() {
		return false
	}
	if w.r == w.w && len(w.buf) > 4*firstWindow {
		w.renew(firstWindow) // a huge row has passed
	}
	if w.w == len(w.buf) {
		switch {
		case w.r <= len(w.buf)/2:
			w.renew(min(2*len(w.buf), longest+firstWindow))
		case w.given:
			w.renew(len(w.buf))
		default:
			w.r, w.w = 0, copy(w.buf, w.bytes())
		}
	}
	for tries := 0; ; tries++ {
		n, err := w.src.Read(w.buf[w.w:])
		w.w += n
		w.err = err
		if n > 0 {
			return true
		}
		if err == nil && tries > 100 {
			w.err = io.ErrNoProgress
		}
		if w.err != nil {
			return false
		}
	}
}

// renew goes on in another buffer, and lets go of the one before.
func (w *window) renew(size int) {
	lease := reuse.Shared.Lease(size)
	w.w = copy(lease.Bytes(), w.bytes())
	w.lease.Release()
	w.lease, w.buf, w.r, w.given = lease, lease.Bytes(), 0, false
}

// close lets go of what is in memory.
func (w *window) close() error {
	w.lease.Release()
	w.lease, w.buf, w.r, w.w, w.err = nil, nil, 0, 0, io.ErrClosedPipe
	return nil
}

// line returns the next line without its end and moves behind it. Of a line that does not fit into the window only
// the beginning is returned.
func (w *window) line() ([]byte, error) {
	seen := 0
	for {
		all := w.bytes()
		if i := bytes.IndexByte(all[seen:], '\n'); i >= 0 {
			w.r += seen + i + 1
			return all[:seen+i], nil
		}
		seen = len(all)
		if w.more() {
			continue
		}
		switch {
		case w.full():
			return w.cut()
		case !errors.Is(w.err, io.EOF):
			return nil, w.err
		case seen == 0:
			return nil, ErrEnd
		}
		w.r = w.w
		return all, nil
	}
}

// cut returns the full window as one line, and passes over what follows of it.
func (w *window) cut() ([]byte, error) {
	kept := bytes.Clone(w.bytes())
	for {
		w.r = w.w
		if !w.more() {
			if !errors.Is(w.err, io.EOF) {
				return nil, w.err
			}
			return kept, nil
		}
		if i := bytes.IndexByte(w.bytes(), '\n'); i >= 0 {
			w.r += i + 1
			return kept, nil
		}
	}
}

// lines reads JSON lines.
type lines struct {
	*window
	limit int
}

func newLines(src io.Reader, c *contract.Contract) *lines {
	return &lines{newWindow(src), c.Limits.Bytes}
}

func (l *lines) next() ([]byte, finding.Code, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, "", err
		}
		if line, code, ok := l.row(line); ok {
			return line, code, nil
		}
	}
}

// row returns what of a line is the row; ok is false for a blank one.
func (l *lines) row(line []byte) (value []byte, code finding.Code, ok bool) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	switch {
	case blank(line):
		return nil, "", false
	case l.limit > 0 && len(line) > l.limit, len(line) >= longest:
		return line, finding.TooLarge, true
	}
	return line, "", true
}

// run gives the lines away that the window holds, where they lie.
func (l *lines) run(_ int, yield func([]byte, finding.Code)) (*reuse.Lease, error) {
	value, code, err := l.next()
	if err != nil {
		return nil, err
	}
	for {
		yield(value[:len(value):len(value)], code)
		for ok := false; !ok; {
			all := l.bytes()
			i := bytes.IndexByte(all, '\n')
			if i < 0 {
				l.given = true
				return l.lease.Hold(), nil
			}
			l.r += i + 1
			value, code, ok = l.row(all[:i])
		}
	}
}

func (l *lines) skip(n int64) error { return skipByReading(l, n) }

func skipByReading(r reader, n int64) error {
	for range n {
		if _, _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// blank tells whether a line has nothing but what JSON calls white space.
func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
