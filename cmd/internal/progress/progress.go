// Package progress shows a person how far a long piece of work has come.
//
// A bar is drawn only on a terminal and only once the work has lasted a second, so that short work and scripts see
// nothing of it.
package progress

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// patience is how long work lasts before a bar is drawn for it.
const patience = time.Second

// Bar is one piece of work. A nil Bar draws nothing. It is safe for concurrent use.
type Bar struct {
	mu    sync.Mutex
	out   io.Writer
	title string
	total int64
	done  int64
	bytes bool
	since time.Time
	now   func() time.Time
	bar   *progressbar.ProgressBar // nil until patience has run out
}

// Records begins work on a number of records; total is -1 when it is not known. The bar is nil when w is not a
// terminal.
func Records(w io.Writer, title string, total int64) *Bar {
	return begin(w, title, total, false)
}

// Bytes begins work on a number of bytes; total is -1 when it is not known. The bar is nil when w is not a terminal.
func Bytes(w io.Writer, title string, total int64) *Bar {
	return begin(w, title, total, true)
}

func begin(w io.Writer, title string, total int64, bytes bool) *Bar {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return newBar(w, title, total, bytes, time.Now)
}

func newBar(w io.Writer, title string, total int64, bytes bool, now func() time.Time) *Bar {
	return &Bar{out: w, title: title, total: total, bytes: bytes, since: now(), now: now}
}

// Add says that n more are done.
func (b *Bar) Add(n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	if b.bar != nil {
		_ = b.bar.Add64(n) // a terminal that went away must not end the work
		return
	}
	if b.now().Sub(b.since) < patience {
		return
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(b.out),
		progressbar.OptionSetDescription(b.title),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(b.total > 0),
	}
	if b.bytes {
		options = append(options, progressbar.OptionShowBytes(true))
	}
	b.bar = progressbar.NewOptions64(b.total, options...)
	_ = b.bar.Add64(b.done)
}

// Finish takes the bar off the terminal.
func (b *Bar) Finish() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Finish()
		_ = b.bar.Clear()
		b.bar = nil
	}
}
