package files

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// counter reads the stored bytes: it knows how many were read and whether reading them failed.
type counter struct {
	r   io.Reader
	n   int64
	err error // other than io.EOF
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// damage tells a decompressor's own errors from those of the disk below it.
type damage struct {
	r      io.Reader
	stored *counter
}

func (d damage) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	return n, d.stored.blame(err)
}

func (c *counter) blame(err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case c.err != nil:
		return c.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends after %d stored bytes, in the middle of its compressed data", ErrCorrupt, c.n)
	}
	return fmt.Errorf("%w near stored byte %d: %w", ErrCorrupt, c.n, err)
}

// unpack returns what the stored bytes hold.
func (f *File) unpack(stored *counter, packing string) (io.Reader, error) {
	switch packing {
	case ".gz":
		r, err := gzip.NewReader(stored)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("%s: %w", f.path, stored.blame(err))
		}
		f.closes = append(f.closes, func() error { _ = r.Close(); return nil }) // only repeats what reading returned
		return f.ahead(damage{r, stored}), nil
	case ".zst":
		r, err := zstd.NewReader(stored, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, stored.blame(err))
		}
		f.closes = append(f.closes, func() error { r.Close(); return nil })
		return f.ahead(damage{r, stored}), nil
	}
	return stored, nil
}

// ahead reads r on a goroutine of its own, some way ahead of who needs it, until the file is closed.
func (f *File) ahead(r io.Reader) io.Reader {
	const size, depth = 256 << 10, 3
	a := &aheadReader{full: make(chan piece), empty: make(chan []byte, depth), stop: make(chan struct{})}
	for range depth {
		a.empty <- nil // made when it is needed
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case buf := <-a.empty:
				if buf == nil {
					buf = make([]byte, size)
				}
				n, err := io.ReadFull(r, buf[:size])
				if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrCorrupt) {
					err = io.EOF
				}
				select {
				case a.full <- piece{buf[:n], err}:
				case <-a.stop:
					return
				}
				if err != nil {
					return
				}
			case <-a.stop:
				return
			}
		}
	}()
	f.closes = append(f.closes, func() error {
		close(a.stop)
		<-ended
		return nil
	})
	return a
}

// aheadReader is the end of ahead that is read from.
type aheadReader struct {
	full  chan piece
	empty chan []byte // to be filled again
	stop  chan struct{}
	now   piece
	at    int // how much of now was read
}

// piece is bytes that were read, and what came behind them.
type piece struct {
	bytes []byte
	err   error
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for a.at == len(a.now.bytes) {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.bytes != nil {
			a.empty <- a.now.bytes
		}
		a.now, a.at = <-a.full, 0
	}
	n := copy(p, a.now.bytes[a.at:])
	a.at += n
	return n, nil
}
