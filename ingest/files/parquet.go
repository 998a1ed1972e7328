package files

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/parquet-go/parquet-go"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/reuse"
)

// Parquet rows become JSON objects:
//
//	Parquet                              JSON
//	BOOLEAN                              boolean
//	INT of any width, signed or not      number
//	FLOAT, DOUBLE, FLOAT16               number in the shortest form that gives the same value again
//	DECIMAL                              number with all its digits
//	STRING, ENUM                         string
//	JSON                                 the JSON itself
//	UUID                                 string, RFC 9562
//	DATE                                 string, RFC 3339 full-date
//	TIME                                 string, hours to fractions of a second, without an offset
//	TIMESTAMP, INT96                     string, RFC 3339, in UTC; one without a time zone is taken as UTC
//	other bytes                          string, base64 (RFC 4648, section 4)
//	group                                object
//	LIST, repeated field                 array
//	MAP                                  object; keys that are no strings are written as they would be as values
//
// A null is a member that is not there, or null where the schema's own `required` lists the member, and null within
// arrays. NaN and infinities are no JSON: a row that holds one is returned with number_range, and what is kept of it
// says NaN, Infinity or -Infinity in its place.

// rowsAtOnce is how many rows are taken out of the pages together.
const rowsAtOnce = 64

// table of Parquet: its row groups one after the other.
type parquetRows struct {
	groups []parquet.RowGroup
	root   *node
	rows   parquet.Rows // of the row group that is being read
	batch  [rowsAtOnce]parquet.Row
	have   int
	at     int
	ended  bool // the row group has no more rows than those in batch
	seek   int64

	writers []*rowWriter // of goroutines that write side by side; the first one also writes alone
	text    int          // bytes that the rows of one writer had at last
}

// openParquet opens the file itself or, when it is compressed as a whole, an unpacked copy of it.
func (f *File) openParquet(ctx context.Context, unpacked io.Reader, packing string, c *contract.Contract, decrypt Decrypt) (*parquetRows, error) {
	var file io.ReaderAt = f.stored
	size := f.stored.Size()
	if packing != "" {
		temp, err := os.CreateTemp("", "taster-*.parquet")
		if err != nil {
			return nil, err
		}
		f.closes = append(f.closes, temp.Close)
		if err := os.Remove(temp.Name()); err != nil {
			return nil, err
		}
		if size, err = io.Copy(temp, interruptible{ctx, unpacked}); err != nil {
			return nil, err
		}
		file = temp
	}
	encrypted, err := checkFooter(file, size)
	if err != nil {
		return nil, err
	}
	plain := file
	if decrypt != nil {
		if plain, size, err = decrypt(ctx, file, size, f.path); err != nil {
			return nil, err
		}
	} else if encrypted {
		return nil, errEncrypted
	}
	var p *parquetRows
	err = guarded(func() error {
		opened, err := parquet.OpenFile(plain, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(readBuffer))
		if err != nil {
			return err
		}
		if opened.Metadata().EncryptionAlgorithm.Value != nil {
			return errEncrypted // with a footer in clear
		}
		root, err := treeOf(opened.Metadata().Schema, c)
		if err != nil {
			return err
		}
		p = &parquetRows{groups: opened.RowGroups(), root: root}
		for range runtime.GOMAXPROCS(0) {
			p.writers = append(p.writers, &rowWriter{})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("its footer: %w", err)
	}
	f.closes = append(f.closes, p.close)
	return p, nil
}

// readBuffer is how much of a column chunk is read at once.
const readBuffer = 64 << 10

// errEncrypted is what a command says that has no keys.
var errEncrypted = fmt.Errorf("%w: an encrypted Parquet file, and there are no keys here; taster backfill and taster fit have some, and taster cat --format parquet makes a plain copy", ErrUnsupported)

// checkFooter looks at what the library would trust: both magic numbers, and the length of the metadata.
func checkFooter(r io.ReaderAt, size int64) (isEncrypted bool, err error) {
	const magic, encrypted = "PAR1", "PARE"
	var head [4]byte
	var tail [8]byte
	if size < int64(len(head)+len(tail)) {
		return false, fmt.Errorf("%w: %d bytes are too few for a Parquet file", ErrCorrupt, size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return false, err
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return false, err
	}
	if string(head[:]) == encrypted || string(tail[4:]) == encrypted {
		return true, nil
	}
	if string(head[:]) != magic || string(tail[4:]) != magic {
		return false, fmt.Errorf("%w: it does not begin and end as a Parquet file does", ErrCorrupt)
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-int64(len(head)+len(tail)) {
		return false, fmt.Errorf("%w: its footer claims %d bytes, more than there are", ErrCorrupt, n)
	}
	return false, nil
}

// guarded calls the Parquet library, which reports some damage by a panic.
func guarded(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the Parquet reader stopped with %v", ErrCorrupt, r)
		}
	}()
	err = call()
	var disk syscall.Errno
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, ErrUnsupported) || errors.As(err, &disk) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

func (p *parquetRows) next() ([]byte, finding.Code, error) {
	for p.at == p.have {
		if err := p.fill(); err != nil {
			return nil, "", err
		}
	}
	w := p.writers[0]
	w.out = w.out[:0]
	at := p.at
	p.at++
	if err := guarded(func() error { return w.write(p.root, p.batch[at]) }); err != nil {
		return nil, "", err
	}
	return w.out, w.code(), nil
}

// run gives away the rows that have been taken out of the pages, written side by side: a number's shortest form costs more than all else.
func (p *parquetRows) run(_ int, yield func([]byte, finding.Code)) (*reuse.Lease, error) {
	for p.at == p.have {
		if err := p.fill(); err != nil {
			return nil, err
		}
	}
	rows := p.batch[p.at:p.have]
	type written struct {
		value []byte
		code  finding.Code
		err   error
	}
	var out [rowsAtOnce]written
	var wait sync.WaitGroup
	writers := p.writers[:min(len(p.writers), len(rows))]
	for k, w := range writers {
		from, to := k*len(rows)/len(writers), (k+1)*len(rows)/len(writers)
		wait.Go(func() {
			w.out = make([]byte, 0, p.text+p.text/8) // it is given away
			for i := from; i < to; i++ {
				at := len(w.out)
				if out[i].err = guarded(func() error { return w.write(p.root, rows[i]) }); out[i].err != nil {
					return
				}
				out[i].value, out[i].code = w.out[at:len(w.out):len(w.out)], w.code()
			}
		})
	}
	wait.Wait()
	p.text = 0
	for _, w := range writers {
		p.text = max(p.text, len(w.out))
		w.out = nil
	}
	for i := range rows {
		if err := out[i].err; err != nil && i == 0 {
			return nil, err
		} else if err != nil {
			return nil, nil // it comes again with the next run, which begins with this row
		}
		yield(out[i].value, out[i].code)
		p.at++
	}
	return nil, nil
}

// fill reads the next rows, of the next row group when this one has none.
func (p *parquetRows) fill() error {
	if p.rows == nil || p.ended {
		if err := p.close(); err != nil {
			return err
		}
		if len(p.groups) == 0 {
			return ErrEnd
		}
		if err := guarded(func() error {
			p.rows = p.groups[0].Rows()
			if p.seek > 0 {
				return p.rows.SeekToRow(p.seek)
			}
			return nil
		}); err != nil {
			return err
		}
		p.groups, p.seek, p.ended = p.groups[1:], 0, false
	}
	p.at, p.have = 0, 0
	return guarded(func() error {
		n, err := p.rows.ReadRows(p.batch[:])
		p.have = n
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			p.ended = true
			return nil
		}
		return err
	})
}

func (p *parquetRows) skip(n int64) error {
	for len(p.groups) > 0 && n >= p.groups[0].NumRows() {
		n -= p.groups[0].NumRows()
		p.groups = p.groups[1:]
	}
	if len(p.groups) == 0 {
		return ErrEnd
	}
	p.seek = n
	return nil
}

func (p *parquetRows) close() error {
	if p.rows == nil {
		return nil
	}
	rows := p.rows
	p.rows = nil
	return guarded(rows.Close)
}
