package modular

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
)

// Image is a file as it would be without encryption, and with Options.Int96AsBytes without INT96. It is safe for concurrent use.
//
// The errors of ReadAt say which column is at fault.
type Image struct {
	src    io.ReaderAt
	end    int64 // of what stands where it stood
	footer []byte
	chunks []*chunk // those that are not simply parts of src, by position
}

// Image returns the plain file with the columns of which want says so, by the path of a leaf (nil stands for all), and
// gets the keys of these. Other columns are in the schema and cannot be read. The error for a key that is not at hand
// names the column, and wraps what Keys answered.
func (f *File) Image(ctx context.Context, want func(path []string) bool) (*Image, error) {
	retype := f.opt.Int96AsBytes && slices.Contains(f.Int96(), true)
	if !f.encrypted && !retype {
		return &Image{src: f.src, end: f.size}, nil
	}
	groups, err := f.groups()
	if err != nil {
		return nil, err
	}
	im := &Image{src: f.src, end: f.end}
	keys := map[string][]byte{}
	raws := make([][]byte, len(groups))
	for i := range groups {
		g := &groups[i]
		columns := make([][]byte, len(g.chunks))
		for j := range g.chunks {
			wanted := want == nil || want(f.leaves[j].path)
			plain, c, err := f.chunk(ctx, g, j, wanted, keys)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", f.leaves[j], err)
			}
			if c != nil {
				im.chunks = append(im.chunks, c)
			}
			if meta, ok := plain.object(chunkMetadata); ok && retype && f.leaves[j].kind == physicalInt96 {
				// Its statistics, where there are any, are in no order that is one of bytes.
				meta = meta.with(numberField(metaType, kindI32, physicalFixedBytes)).without(metaStatistics)
				plain = plain.with(structField(chunkMetadata, meta))
			}
			columns[j] = appendObject(nil, plain)
		}
		raws[i] = appendObject(nil, g.object.with(listField(groupColumns, kindStruct, columns)))
	}
	slices.SortFunc(im.chunks, func(a, b *chunk) int { return int(min(max(a.start-b.start, -1), 1)) })
	for i, c := range im.chunks {
		if i > 0 && c.start < im.chunks[i-1].end {
			return nil, broken("columns %s and %s lie in the same place", im.chunks[i-1].name, c.name)
		}
	}
	footer := f.footer.without(fileAlgorithm, fileKeyMetadata).with(listField(fileRowGroups, kindStruct, raws))
	if retype {
		if footer, err = withoutInt96(footer); err != nil {
			return nil, err
		}
	}
	im.footer = appendObject(nil, footer)
	im.footer = binary.LittleEndian.AppendUint32(im.footer, uint32(len(im.footer)))
	im.footer = append(im.footer, plainMagic...)
	return im, nil
}

// withoutInt96 returns a footer whose schema has bytes in place of INT96.
func withoutInt96(footer object) (object, error) {
	elements, ok := footer.list(fileSchema, kindStruct)
	if !ok {
		return nil, broken("its schema cannot be read")
	}
	for i, raw := range elements {
		element, _, err := parseObject(raw)
		if err != nil {
			return nil, broken("its schema cannot be read")
		}
		if kind, ok := element.number(elementType); ok && kind == physicalInt96 {
			element = element.without(elementConverted, elementLogical)
			element = element.with(numberField(elementType, kindI32, physicalFixedBytes)).with(numberField(elementLength, kindI32, int96Size))
			elements[i] = appendObject(nil, element)
		}
	}
	return footer.with(listField(fileSchema, kindStruct, elements)), nil
}

// int96Size is how many bytes a value of INT96 has.
const int96Size = 12

// chunk returns a ColumnChunk without encryption, and where its pages lie, unless they are not encrypted or not wanted.
func (f *File) chunk(ctx context.Context, g *group, j int, wanted bool, keys map[string][]byte) (object, *chunk, error) {
	stored := g.chunks[j]
	plain := stored.without(chunkOffsetIndex, chunkOffsetIndexLength, chunkColumnIndex, chunkColumnIndexLength, chunkCrypto, chunkEncrypted)
	if _, ok := stored.at(chunkPath); ok {
		return nil, nil, broken("its values are in another file")
	}
	if _, ok := stored.at(chunkCrypto); !ok {
		meta, ok := stored.object(chunkMetadata)
		if !ok {
			return nil, nil, broken("nothing says where it lies")
		}
		return plain.with(structField(chunkMetadata, meta.without(metaBloom, metaBloomLength))), nil, nil
	}
	if !wanted {
		return plain.with(structField(chunkMetadata, f.nothing(j))), nil, nil
	}
	key, err := f.columnKey(ctx, stored, keys)
	if err != nil {
		return nil, nil, err
	}
	pages, err := f.suite.pages(key, g.ordinal, int64(j))
	if err != nil {
		return nil, nil, err
	}
	meta, ok := stored.object(chunkMetadata)
	if sealed, separate := stored.bytes(chunkEncrypted); separate {
		b, err := f.suite.open(key, sealed, f.suite.place(ColumnModule, pages.group, pages.column, 0))
		if err != nil {
			return nil, nil, fmt.Errorf("its metadata: %w (or the key is another one)", err)
		}
		if meta, _, err = parseObject(b); err != nil {
			return nil, nil, broken("its metadata cannot be read")
		}
	} else if !ok {
		return nil, nil, broken("nothing says where it lies")
	}
	c, err := f.locate(meta, pages, j)
	if err != nil {
		return nil, nil, err
	}
	return plain.with(structField(chunkMetadata, meta.without(metaBloom, metaBloomLength))), c, nil
}

// columnKey returns the key of a column chunk that is encrypted. keys holds those that were got already.
func (f *File) columnKey(ctx context.Context, stored object, keys map[string][]byte) ([]byte, error) {
	crypto, ok := stored.object(chunkCrypto)
	if !ok {
		return nil, broken("it does not say how it is encrypted")
	}
	if _, ok := crypto.at(cryptoFooterKey); ok {
		return f.footerKey, nil
	}
	own, ok := crypto.object(cryptoColumnKey)
	if !ok {
		return nil, broken("it does not say with which key it is encrypted")
	}
	metadata, _ := own.bytes(columnKeyMetadata)
	if key, ok := keys[string(metadata)]; ok {
		return key, nil
	}
	key, err := f.key(ctx, metadata)
	if err == nil {
		keys[string(metadata)] = key
	}
	return key, err
}

// nothing returns the ColumnMetaData of a column that cannot be read.
func (f *File) nothing(j int) object {
	path := make([][]byte, len(f.leaves[j].path))
	for i, name := range f.leaves[j].path {
		path[i] = append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	}
	return object{
		numberField(metaType, kindI32, f.leaves[j].kind),
		listField(metaEncodings, kindI32, [][]byte{{0}}),
		listField(metaPath, kindBinary, path),
		numberField(metaCodec, kindI32, 0),
		numberField(metaValues, kindI64, 0),
		numberField(metaUncompressed, kindI64, 0),
		numberField(metaCompressed, kindI64, 0),
		numberField(metaDataPage, kindI64, int64(len(plainMagic))),
	}
}

// locate finds where a chunk's pages lie.
func (f *File) locate(meta object, pages *pageCipher, j int) (*chunk, error) {
	data, ok := meta.number(metaDataPage)
	size, ok2 := meta.number(metaCompressed)
	values, ok3 := meta.number(metaValues)
	if !ok || !ok2 || !ok3 {
		return nil, broken("its metadata does not say where it lies")
	}
	if path, ok := meta.list(metaPath, kindBinary); ok {
		var names []string
		for _, raw := range path {
			_, n := binary.Uvarint(raw)
			names = append(names, string(raw[n:]))
		}
		if !slices.Equal(names, f.leaves[j].path) {
			return nil, broken("its metadata is that of column %s", strings.Join(names, "."))
		}
	}
	c := &chunk{name: f.leaves[j].String(), pages: pages, start: data, values: values}
	if first, ok := meta.number(metaDictionary); ok && first > 0 && first < data {
		c.start, c.dictionary = first, true
	}
	c.end = c.start + size
	if c.start < int64(len(plainMagic)) || size < 0 || c.end > f.end || c.end < c.start {
		return nil, broken("its metadata says that it lies where the file does not reach")
	}
	c.src = io.NewSectionReader(f.src, c.start, size)
	return c, nil
}

// Size returns how many bytes the plain file has.
func (im *Image) Size() int64 { return im.end + int64(len(im.footer)) }

// ReadAt implements io.ReaderAt. What is asked for should be as large as a column chunk, or follow what was asked for
// before: anything else decrypts pages that were decrypted already.
func (im *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= im.Size() {
		return 0, io.EOF
	}
	for n < len(p) && err == nil {
		at := off + int64(n)
		switch {
		case at < im.end:
			var m int
			m, err = im.body(p[n:][:min(int64(len(p)-n), im.end-at)], at)
			n += m
		case at < im.Size():
			n += copy(p[n:], im.footer[at-im.end:])
		default:
			err = io.EOF
		}
	}
	return n, err
}

// body reads up to the next border between a chunk that is encrypted and anything else.
func (im *Image) body(p []byte, at int64) (int, error) {
	i, _ := slices.BinarySearchFunc(im.chunks, at, func(c *chunk, at int64) int {
		if c.end <= at {
			return -1
		}
		return 1
	})
	if i < len(im.chunks) && im.chunks[i].start <= at {
		c := im.chunks[i]
		p = p[:min(int64(len(p)), c.end-at)]
		if err := c.read(p, at); err != nil {
			return 0, fmt.Errorf("column %s: %w", c.name, err)
		}
		return len(p), nil
	}
	if i < len(im.chunks) {
		p = p[:min(int64(len(p)), im.chunks[i].start-at)]
	}
	if err := readAt(im.src, p, at); err != nil {
		return 0, err
	}
	if im.footer != nil && at < int64(len(plainMagic)) {
		copy(p, plainMagic[at:])
	}
	return len(p), nil
}

// chunk is an encrypted column chunk.
type chunk struct {
	name       string
	src        *io.SectionReader
	start, end int64
	dictionary bool
	values     int64 // how many it holds, nulls included
	pages      *pageCipher

	mu     sync.Mutex
	stream *bufio.Reader // nil before the first page
	seen   walk
	page   []byte // the plain page that ends at seen.at
}

// walk is how far the pages of a chunk were read.
type walk struct {
	at     int64 // where the next page begins, from the beginning of the chunk
	page   int   // its number, -1 for a dictionary
	values int64
}

func (c *chunk) begin() walk {
	if c.dictionary {
		return walk{page: -1}
	}
	return walk{}
}

// read reads a part of the chunk.
func (c *chunk) read(p []byte, at int64) error {
	if int64(len(p)) == c.end-c.start {
		return c.whole(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at -= c.start
	if c.stream == nil || at < c.seen.at-int64(len(c.page)) {
		c.stream = bufio.NewReaderSize(io.NewSectionReader(c.src, 0, c.src.Size()), 1<<16)
		c.seen, c.page = c.begin(), c.page[:0]
	}
	for len(p) > 0 {
		if at >= c.seen.at {
			if err := c.advance(); err != nil {
				c.stream = nil
				return err
			}
			continue
		}
		n := copy(p, c.page[at-c.seen.at+int64(len(c.page)):])
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// whole reads all of the chunk into b and decrypts it there.
func (c *chunk) whole(b []byte) error {
	if err := readAt(c.src, b, 0); err != nil {
		return err
	}
	w := c.begin()
	for w.at < int64(len(b)) && (w.values < c.values || w.page < 0) {
		sealed, err := frame(b[w.at:])
		if err != nil {
			return err
		}
		h, err := c.header(sealed, &w)
		if err != nil {
			return err
		}
		size := lengthSize + len(sealed) + h.size
		if size > len(b)-int(w.at) {
			return broken("a page claims %d bytes", h.size)
		}
		if err := c.open(b[w.at:][:size], h, &w); err != nil {
			return err
		}
	}
	if w.values < c.values {
		return broken("%d of %d values are missing", c.values-w.values, c.values)
	}
	return nil
}

// advance reads the next page.
func (c *chunk) advance() error {
	left := c.src.Size() - c.seen.at
	if left > 0 && c.seen.values >= c.values && c.seen.page >= 0 {
		c.page = append(c.page[:0], make([]byte, min(left, 1<<16))...) // no page, and nobody looks
		c.seen.at += int64(len(c.page))
		return nil
	}
	head, err := c.stream.Peek(lengthSize)
	if err != nil {
		return ended(err)
	}
	n := int64(binary.LittleEndian.Uint32(head)) + lengthSize
	if n > left {
		return broken("a page header claims %d bytes", n)
	}
	c.page = slices.Grow(c.page[:0], int(n))[:n]
	if _, err := io.ReadFull(c.stream, c.page); err != nil {
		return ended(err)
	}
	sealed, err := frame(c.page)
	if err != nil {
		return err
	}
	h, err := c.header(sealed, &c.seen)
	if err != nil {
		return err
	}
	if int64(h.size) > left-n {
		return broken("a page claims %d bytes", h.size)
	}
	c.page = slices.Grow(c.page, h.size)[:int(n)+h.size]
	if _, err := io.ReadFull(c.stream, c.page[n:]); err != nil {
		return ended(err)
	}
	return c.open(c.page, h, &c.seen)
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return broken("it ends too early")
	}
	return err
}

// Field ids of PageHeader.
const (
	pageType, pageSize, pageCRC, pageData, pageDictionary, pageDataV2 = 1, 3, 4, 5, 7, 8

	pageValues                       = 1    // DataPageHeader, DataPageHeaderV2
	pageLevelsDefinition, levelsRest = 5, 6 // DataPageHeaderV2
	unknownField                     = 16   // no field of PageHeader, in reach of all of them
)

const (
	typeData       = 0
	typeDictionary = 2
	typeDataV2     = 3
)

// pageHeader is a page header in plain.
type pageHeader struct {
	fields object
	kind   int64
	size   int   // of the page in the file
	values int64 // of data pages
	levels int   // of data pages of version 2: bytes of levels
}

// header decrypts the header of the next page.
func (c *chunk) header(sealed []byte, w *walk) (pageHeader, error) {
	if w.page > math.MaxInt16 {
		return pageHeader{}, broken("more pages than encryption has numbers for")
	}
	plain, err := c.pages.header(sealed, w.page)
	if err != nil && w.at == 0 && w.page == 0 {
		// Not every writer says that a chunk begins with a dictionary.
		if again, err2 := c.pages.header(sealed, -1); err2 == nil {
			plain, err, w.page = again, nil, -1
		}
	}
	if err != nil {
		return pageHeader{}, fmt.Errorf("header of page %d: %w", w.page, err)
	}
	fields, _, err := parseObject(plain) // parquet-java leaves bytes behind it
	if err != nil {
		return pageHeader{}, broken("header of page %d cannot be read", w.page)
	}
	h := pageHeader{fields: fields}
	h.kind, _ = fields.number(pageType)
	size, _ := fields.number(pageSize)
	if size < int64(c.pages.overhead()) || size > math.MaxInt32 {
		return h, broken("page %d claims %d bytes", w.page, size)
	}
	h.size = int(size)
	id := int16(pageData)
	switch {
	case h.kind == typeDictionary && w.page < 0:
		return h, nil
	case h.kind == typeData && w.page >= 0:
	case h.kind == typeDataV2 && w.page >= 0:
		id = pageDataV2
	default:
		return h, broken("page %d is of type %d", w.page, h.kind)
	}
	data, ok := fields.object(id)
	if h.values, _ = data.number(pageValues); !ok || h.values < 0 {
		return h, broken("header of page %d cannot be read", w.page)
	}
	if id == pageDataV2 {
		a, _ := data.number(pageLevelsDefinition)
		b, _ := data.number(levelsRest)
		if a < 0 || b < 0 || a+b > size {
			return h, broken("page %d claims %d bytes of levels", w.page, a+b)
		}
		h.levels = int(a + b)
	}
	return h, nil
}

// open makes a page plain. b is all of it, its header's module included, before and after.
func (c *chunk) open(b []byte, h pageHeader, w *walk) error {
	body := b[len(b)-h.size:]
	clear := 0
	if h.kind == typeDataV2 && int64(binary.LittleEndian.Uint32(body)) != int64(len(body)-lengthSize) {
		clear = h.levels // as parquet-java writes them, in front of what is encrypted
	}
	sealed, err := frame(body[clear:])
	if err == nil && len(sealed) != len(body)-clear-lengthSize {
		err = broken("it has another length than its header says")
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", w.page, err)
	}
	plain, err := c.pages.page(sealed, w.page)
	if err != nil {
		return fmt.Errorf("page %d: %w", w.page, err)
	}
	// To the end with what is plain now, levels first, so that the next page follows it.
	copy(b[len(b)-len(plain):], plain)
	size := clear + len(plain)
	copy(b[len(b)-size:], body[:clear])
	head, err := fill(h.fields.without(pageCRC).with(numberField(pageSize, kindI32, int64(size))), len(b)-size)
	if err != nil {
		return fmt.Errorf("page %d: %w", w.page, err)
	}
	copy(b, head)
	w.at += int64(len(b))
	w.page++
	w.values += h.values
	return nil
}

// fill returns a page header that has n bytes, by fields that readers pass over.
func fill(header object, n int) ([]byte, error) {
	header = header.without(unknownField, unknownField+1)
	if len(header) == 0 || header[len(header)-1].id >= unknownField {
		return nil, broken("its header has fields that are not known")
	}
	left := n - len(appendObject(nil, header))
	if left < 0 {
		return nil, broken("its header is too long")
	}
	for _, extra := range []int{0, 1} { // a boolean takes one byte
		rest := left - extra
		if extra == 1 {
			header = append(header, field{id: unknownField, kind: kindTrue})
		}
		if rest == 0 {
			return appendObject(nil, header), nil
		}
		for width := 1; width <= 5; width++ {
			size := rest - 1 - width
			if size >= 0 && len(binary.AppendUvarint(nil, uint64(size))) == width {
				value := append(binary.AppendUvarint(nil, uint64(size)), make([]byte, size)...)
				return appendObject(nil, append(header, field{unknownField + int16(extra), kindBinary, value})), nil
			}
		}
	}
	return nil, broken("its header cannot be filled up")
}
