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
		return damage{r, stored}, nil
	case ".zst":
		r, err := zstd.NewReader(stored, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, stored.blame(err))
		}
		f.closes = append(f.closes, func() error { r.Close(); return nil })
		return damage{r, stored}, nil
	}
	return stored, nil
}
