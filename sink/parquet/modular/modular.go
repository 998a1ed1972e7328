// Package modular reads files of Parquet Modular Encryption as the plain files that they were before.
//
// The words are those of the specification (https://github.com/apache/parquet-format/blob/master/Encryption.md). A
// module is what is encrypted as one: a footer, a column's metadata, a page's header, a page. Modules are bound to their
// place by additional authenticated data (AAD): the file's, which is an optional prefix that says which file this shall
// be and bytes that are the file's own, and behind it the kind of module, row group, column and page.
//
// Image shows such a file as a plain one: an io.ReaderAt that any reader of Parquet takes. Every page stands where it
// stood, so that every offset in the footer still holds: what encryption had added to a page is filled by a field of its
// header that no reader knows, and that every reader of Thrift passes over. The footer is written anew, without what
// speaks of encryption, of indexes and of bloom filters; all other fields are kept, known or not. Nothing is decrypted
// before it is read, and no more than the part of a column chunk that is asked for, or one page, is held.
//
// A reader that has no type for the times of INT96 (96 bits: a Julian day and nanoseconds) may have them as they are:
// Options.Int96AsBytes.
//
// Whole columns are opened: encrypted and plaintext footers (whose signature is checked), one key for all or keys for
// columns, columns that are not encrypted, AES_GCM_V1 and AES_GCM_CTR_V1, keys of 128, 192 and 256 bits, a stored prefix
// or one that the reader must know, page headers that are padded (parquet-java), data pages of version 1 and 2, the
// latter with levels within the ciphertext (Arrow) or before it (parquet-java).
//
// What is authenticated is what the file's writer chose: pages under AES_GCM_CTR_V1, columns that are not encrypted,
// and the levels of parquet-java's data pages of version 2 can be changed unseen. A plaintext footer can be replaced by
// that of a file that is not encrypted at all. Authenticated tells of all of these but the levels.
package modular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

var (
	// ErrBroken says that a file is no Parquet file, or was changed, or is opened by other keys than it was written with.
	ErrBroken = errors.New("broken Parquet file")
	// ErrPrefix says that the AAD prefix is missing: the file does not say which file it is. With ErrBroken it says that it
	// is another file than the one that it is opened as.
	ErrPrefix = errors.New("AAD prefix")
)

// Keys returns data keys.
type Keys interface {
	// DataKey returns the key, of 16, 24 or 32 bytes, that key metadata speaks of. Key metadata is what the file's writer
	// put there.
	DataKey(ctx context.Context, keyMetadata []byte) ([]byte, error)
}

// Options say how a file is opened.
type Options struct {
	Keys Keys
	// AADPrefix is the prefix that the file must have. If it is empty, a prefix that is stored in the file is believed.
	AADPrefix string
	// Int96AsBytes has images call a column of the type INT96 one of FIXED_LEN_BYTE_ARRAY(12), be the file encrypted or
	// not. The values of both are the same bytes: 8 of the nanoseconds of a day, 4 of the Julian day, little-endian.
	Int96AsBytes bool
}

// File is an open file, encrypted or not.
type File struct {
	src       io.ReaderAt
	size      int64
	opt       Options
	encrypted bool
	suite     suite
	end       int64  // where the footer begins
	footer    object // FileMetaData
	leaves    []leaf
	footerKey []byte
}

// leaf is a leaf of the schema: a column of values.
type leaf struct {
	path []string
	kind int64 // physical type
}

func (l leaf) String() string { return strings.Join(l.path, ".") }

// Field ids of parquet.thrift.
const (
	cryptoAlgorithm, cryptoKeyMetadata = 1, 2 // FileCryptoMetaData

	algorithmGCM, algorithmCTR                      = 1, 2    // EncryptionAlgorithm
	algorithmPrefix, algorithmUnique, algorithmAsks = 1, 2, 3 // AesGcmV1 and AesGcmCtrV1

	fileSchema, fileRowGroups, fileAlgorithm, fileKeyMetadata = 2, 4, 8, 9 // FileMetaData

	elementType, elementLength, elementName, elementChildren, elementConverted, elementLogical = 1, 2, 4, 5, 6, 10 // SchemaElement

	groupColumns, groupOrdinal = 1, 7 // RowGroup

	chunkPath, chunkOffset, chunkMetadata, chunkOffsetIndex, chunkOffsetIndexLength, chunkColumnIndex, chunkColumnIndexLength, chunkCrypto, chunkEncrypted = 1, 2, 3, 4, 5, 6, 7, 8, 9 // ColumnChunk

	cryptoFooterKey, cryptoColumnKey         = 1, 2 // ColumnCryptoMetaData
	columnKeyPathInSchema, columnKeyMetadata = 1, 2 // EncryptionWithColumnKey

	metaType, metaEncodings, metaPath, metaCodec, metaValues, metaUncompressed, metaCompressed, metaDataPage, metaIndexPage, metaDictionary, metaStatistics, metaBloom, metaBloomLength = 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15 // ColumnMetaData
)

// Physical types of parquet.thrift.
const (
	physicalInt96      = 3
	physicalFixedBytes = 7
)

const (
	plainMagic     = "PAR1"
	encryptedMagic = "PARE"
	longestFooter  = 256 << 20
)

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBroken, fmt.Errorf(format, args...))
}

// Open reads the footer of a file that has size bytes, and gets the footer's key. Errors of Keys are returned as they
// are.
func Open(ctx context.Context, src io.ReaderAt, size int64, opt Options) (*File, error) {
	f := &File{src: src, size: size, opt: opt}
	if size < 12 {
		return nil, broken("%d bytes are too few", size)
	}
	var head [4]byte
	var tail [8]byte
	if err := readAt(src, head[:], 0); err != nil {
		return nil, err
	}
	if err := readAt(src, tail[:], size-8); err != nil {
		return nil, err
	}
	magic := string(tail[4:])
	if magic != plainMagic && magic != encryptedMagic || string(head[:]) != magic {
		return nil, broken("it does not begin and end as a Parquet file does")
	}
	length := int64(uint32(tail[0]) | uint32(tail[1])<<8 | uint32(tail[2])<<16 | uint32(tail[3])<<24)
	if length > size-12 || length > longestFooter {
		return nil, broken("its footer claims %d bytes", length)
	}
	f.end = size - 8 - length
	footer := make([]byte, length)
	if err := readAt(src, footer, f.end); err != nil {
		return nil, err
	}
	var err error
	if magic == encryptedMagic {
		err = f.openFooter(ctx, footer)
	} else {
		err = f.checkFooter(ctx, footer)
	}
	if err != nil {
		return nil, err
	}
	return f, f.readSchema()
}

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) || err == nil {
		return broken("it ends too early")
	}
	return err
}

// openFooter decrypts a footer: FileCryptoMetaData, and behind it the footer's module.
func (f *File) openFooter(ctx context.Context, b []byte) error {
	f.encrypted = true
	crypto, n, err := parseObject(b)
	if err != nil {
		return broken("what it says of its encryption cannot be read")
	}
	algorithm, ok := crypto.object(cryptoAlgorithm)
	if !ok {
		return broken("it does not say how it is encrypted")
	}
	if f.suite, err = newSuite(algorithm, f.opt.AADPrefix); err != nil {
		return err
	}
	metadata, _ := crypto.bytes(cryptoKeyMetadata)
	if f.footerKey, err = f.key(ctx, metadata); err != nil {
		return fmt.Errorf("the footer's key: %w", err)
	}
	plain, err := f.suite.open(f.footerKey, b[n:], f.suite.place(FooterModule, 0, 0, 0))
	if err != nil {
		return fmt.Errorf("its footer: %w%s", err, f.suite.doubt())
	}
	if f.footer, _, err = parseObject(plain); err != nil {
		return broken("its footer cannot be read")
	}
	return nil
}

// checkFooter reads a footer that is not encrypted, and checks its signature if it has one.
func (f *File) checkFooter(ctx context.Context, b []byte) error {
	footer, n, err := parseObject(b)
	if err != nil {
		return broken("its footer cannot be read")
	}
	f.footer = footer
	algorithm, ok := footer.object(fileAlgorithm)
	if !ok {
		if len(b)-n == nonceSize+tagSize {
			return broken("its footer is signed and does not say that anything is encrypted")
		}
		return nil
	}
	f.encrypted = true
	if f.suite, err = newSuite(algorithm, f.opt.AADPrefix); err != nil {
		return err
	}
	if len(b)-n != nonceSize+tagSize {
		return broken("its footer is not signed")
	}
	metadata, _ := footer.bytes(fileKeyMetadata)
	if f.footerKey, err = f.key(ctx, metadata); err != nil {
		return fmt.Errorf("the key that signs the footer: %w", err)
	}
	if err := f.suite.verify(f.footerKey, b[:n], b[n:], f.suite.place(FooterModule, 0, 0, 0)); err != nil {
		return fmt.Errorf("the signature of its footer: %w%s", err, f.suite.doubt())
	}
	return nil
}

func (f *File) key(ctx context.Context, metadata []byte) ([]byte, error) {
	if f.opt.Keys == nil {
		return nil, errors.New("the file is encrypted, and no keys were given")
	}
	return f.opt.Keys.DataKey(ctx, metadata)
}

// readSchema finds the leaves of the schema, which is a tree in preorder.
func (f *File) readSchema() error {
	elements, ok := f.footer.list(fileSchema, kindStruct)
	if !ok || len(elements) == 0 {
		return broken("its schema cannot be read")
	}
	type level struct {
		name string
		left int64 // children that are still to come
	}
	var above []level
	for i, raw := range elements {
		element, _, err := parseObject(raw)
		if err != nil {
			return broken("its schema cannot be read")
		}
		name, _ := element.bytes(elementName)
		children, _ := element.number(elementChildren)
		if i > 0 {
			for len(above) > 0 && above[len(above)-1].left == 0 {
				above = above[:len(above)-1]
			}
			if len(above) == 0 {
				return broken("its schema is no tree")
			}
			above[len(above)-1].left--
		}
		if children > 0 || i == 0 {
			if len(above) > deepest*4 {
				return broken("its schema is too deep")
			}
			above = append(above, level{string(name), children})
			continue
		}
		l := leaf{}
		for _, a := range above[1:] {
			l.path = append(l.path, a.name)
		}
		l.path = append(l.path, string(name))
		l.kind, _ = element.number(elementType)
		f.leaves = append(f.leaves, l)
	}
	return nil
}

// Encrypted tells whether any of the file is.
func (f *File) Encrypted() bool { return f.encrypted }

// AADPrefix returns what the file is bound to, "" if it is not bound to anything.
func (f *File) AADPrefix() string { return f.suite.prefix }

// Authenticated tells whether no byte of the rows can have been changed by who has not the keys.
func (f *File) Authenticated() (bool, error) {
	if !f.encrypted || f.suite.ctr {
		return false, nil
	}
	groups, err := f.groups()
	if err != nil {
		return false, err
	}
	for _, g := range groups {
		for _, chunk := range g.chunks {
			if _, ok := chunk.at(chunkCrypto); !ok {
				return false, nil
			}
		}
	}
	return true, nil
}

// Int96 tells of every leaf column, in their order, whether its type is INT96, whatever images call it.
func (f *File) Int96() []bool {
	out := make([]bool, len(f.leaves))
	for i, l := range f.leaves {
		out[i] = l.kind == physicalInt96
	}
	return out
}

// OwnKeys returns the paths of the leaf columns that have another key than the footer's.
func (f *File) OwnKeys() ([][]string, error) {
	groups, err := f.groups()
	if err != nil {
		return nil, err
	}
	var out [][]string
	for i, l := range f.leaves {
		if slices.ContainsFunc(groups, func(g group) bool {
			crypto, _ := g.chunks[i].object(chunkCrypto)
			_, own := crypto.at(cryptoColumnKey)
			return own
		}) {
			out = append(out, l.path)
		}
	}
	return out, nil
}

// group is a row group.
type group struct {
	object  object
	ordinal int64
	chunks  []object
}

func (f *File) groups() ([]group, error) {
	raws, ok := f.footer.list(fileRowGroups, kindStruct)
	if !ok {
		return nil, broken("its row groups cannot be read")
	}
	out := make([]group, len(raws))
	for i, raw := range raws {
		g := &out[i]
		var err error
		if g.object, _, err = parseObject(raw); err != nil {
			return nil, broken("row group %d cannot be read", i)
		}
		if g.ordinal, ok = g.object.number(groupOrdinal); !ok {
			g.ordinal = int64(i)
		}
		columns, ok := g.object.list(groupColumns, kindStruct)
		if !ok || len(columns) != len(f.leaves) {
			return nil, broken("row group %d has not the columns of the schema", i)
		}
		g.chunks = make([]object, len(columns))
		for j, raw := range columns {
			if g.chunks[j], _, err = parseObject(raw); err != nil {
				return nil, broken("row group %d, column %s cannot be read", i, f.leaves[j])
			}
		}
	}
	return out, nil
}
