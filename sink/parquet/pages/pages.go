// Package pages writes Parquet files: Arrow arrays, as pages of columns.
//
// The words are those of the format (https://github.com/apache/parquet-format). A file is row groups, a row group has a
// column chunk for each leaf of the schema, and a column chunk is pages: a dictionary, where there is one, and data pages
// of version 1. The footer's metadata is made by arrow-go, which reads it, too; pages are made here, because this is where
// the time goes: a column's values are copied once, into the page that is compressed, and column chunks are encoded
// independently of each other, so that a caller may have several encoded side by side.
//
// What is written is what a reader needs and no more: levels as runs, without ever holding them one by one; a dictionary
// for a whole column chunk or none; least and largest value and the number of nulls of a column chunk where they are
// asked for, not of a page. Encryption is AES_GCM_V1, with an encrypted footer, and covers every column or none.
//
// The bytes of a file without encryption depend on rows, row groups and properties alone.
package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

const (
	magic       = "PAR1"
	magicSealed = "PARE"
)

// Writer writes one file. Begin, Append, End and Close are for one goroutine; Encode is for any number of them.
type Writer struct {
	out    io.Writer
	at     int64 // how much of the file is written
	leaves [][]*leaf
	props  *pq.WriterProperties
	meta   *metadata.FileMetaDataBuilder
	sealed *encryption // nil: not encrypted

	group   *metadata.RowGroupMetaDataBuilder
	groups  int
	written int // column chunks of this row group
}

// NewWriter begins a file. layout is what the schema is in Parquet, leaf by leaf in the same order. Of the properties
// those count that say how a column is encoded (dictionary, plain or DELTA_BINARY_PACKED), compressed and summed up, how
// large its pages are, how the file is encrypted and who writes it; meta goes into its footer.
func NewWriter(out io.Writer, columns *arrow.Schema, layout *schema.Schema, props *pq.WriterProperties, meta metadata.KeyValueMetadata) (*Writer, error) {
	w := &Writer{out: out, props: props, meta: metadata.NewFileMetadataBuilder(layout, props, meta)}
	n := 0
	for _, field := range columns.Fields() {
		var of []*leaf
		err := leavesOf(field, nil, func(path []node, t arrow.DataType) error {
			if n >= layout.NumColumns() {
				return errors.New("the layout has fewer leaves than the schema")
			}
			one, err := newLeaf(layout.Column(n), n, path, t, props)
			n++
			of = append(of, one)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
		w.leaves = append(w.leaves, of)
	}
	if n != layout.NumColumns() {
		return nil, errors.New("the layout has more leaves than the schema")
	}
	head := magic
	if how := props.FileEncryptionProperties(); how != nil {
		var err error
		if w.sealed, err = newEncryption(how, w.leaves); err != nil {
			return nil, err
		}
		head = magicSealed
	}
	return w, w.write([]byte(head))
}

func (w *Writer) write(b []byte) error {
	n, err := w.out.Write(b)
	w.at += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// Begin begins a row group of so many rows.
func (w *Writer) Begin(rows int) {
	w.group = w.meta.AppendRowGroup()
	w.group.SetNumRows(rows)
	w.written = 0
}

// Append writes the next column of the row group, which Encode made, and gives its memory back.
func (w *Writer) Append(c *Column) error {
	defer c.Release()
	for i := range c.chunks {
		one := &c.chunks[i]
		if one.leaf.ordinal != w.written || one.group != w.groups {
			return fmt.Errorf("column chunk %d of row group %d in place of %d of %d", one.leaf.ordinal, one.group, w.written, w.groups)
		}
		meta := w.group.NextColumnChunk()
		if one.summary != nil {
			meta.SetStats(*one.summary)
		}
		info := metadata.ChunkMetaInfo{
			NumValues: one.entries, IndexPageOffset: -1, DataPageOffset: w.at + one.dictionary.size,
			CompressedSize: one.dictionary.size + one.pages.size, UncompressedSize: one.size,
		}
		stats := metadata.EncodingStats{DataEncodingStats: map[pq.Encoding]int32{one.encoding: int32(one.count)}}
		if one.dictionary.size > 0 {
			info.DictPageOffset = w.at
			stats.DictEncodingStats = map[pq.Encoding]int32{w.props.DictionaryPageEncoding(): 1}
		}
		if err := meta.Finish(info, one.dictionary.size > 0, false, stats); err != nil {
			return err
		}
		if w.sealed != nil {
			if err := meta.PopulateCryptoData(w.sealed.column(one.leaf.ordinal, w.groups)); err != nil {
				return err
			}
		}
		for _, part := range [][][]byte{one.dictionary.list, one.pages.list} {
			for _, b := range part {
				if err := w.write(b); err != nil {
					return err
				}
			}
		}
		w.written++
	}
	return nil
}

// End ends a row group.
func (w *Writer) End() error {
	if err := w.group.Finish(0, int16(w.groups)); err != nil {
		return err
	}
	w.groups++
	return nil
}

// Close writes the footer. It leaves the io.Writer open.
func (w *Writer) Close() error {
	footer, err := w.meta.Finish()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if w.sealed == nil {
		_, err = footer.WriteTo(&b, nil)
	} else {
		if _, err := w.meta.GetFileCryptoMetaData().WriteTo(&b); err != nil {
			return err
		}
		_, err = footer.WriteTo(&b, w.sealed.footer())
	}
	if err != nil {
		return err
	}
	end := magic
	if w.sealed != nil {
		end = magicSealed
	}
	tail := binary.LittleEndian.AppendUint32(nil, uint32(b.Len()))
	b.Write(append(tail, end...))
	return w.write(b.Bytes())
}
