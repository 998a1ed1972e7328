package modular

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// how says how a file is written.
type how struct {
	ctr, clearFooter, v2, dictionary, columnKey, clearColumn, noPrefix, uncompressed bool
}

func (h how) String() string {
	type fields how
	return fmt.Sprintf("%+v", fields(h))
}

var testKeys = named{"f": strings.Repeat("f", 32), "c": strings.Repeat("c", 16)}

// written returns an encrypted file of n rows with three columns, of which text is nullable and numbers a list.
func written(t testing.TB, n int, h how) []byte {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "numbers", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range n {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%3 == 2 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("text %d", i%10))
		}
		list := b.Field(2).(*array.ListBuilder)
		list.Append(true)
		for j := range i % 4 {
			list.ValueBuilder().(*array.Float64Builder).Append(float64(i*j) / 8)
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	columns := pq.ColumnPathToEncryptionPropsMap{"id": pq.NewColumnEncryptionProperties("id"), "text": pq.NewColumnEncryptionProperties("text")}
	if h.columnKey {
		columns["text"] = pq.NewColumnEncryptionProperties("text", pq.WithKey(testKeys["c"]), pq.WithKeyMetadata("c"))
	}
	if !h.clearColumn {
		columns["numbers.list.element"] = pq.NewColumnEncryptionProperties("numbers.list.element")
	}
	opts := []pq.EncryptOption{pq.WithFooterKeyMetadata("f"), pq.WithEncryptedColumns(columns)}
	if !h.noPrefix {
		opts = append(opts, pq.WithAadPrefix("name"))
	}
	if h.ctr {
		opts = append(opts, pq.WithAlg(pq.AesCtr))
	}
	if h.clearFooter {
		opts = append(opts, pq.WithPlaintextFooter())
	}
	version := pq.DataPageV1
	if h.v2 {
		version = pq.DataPageV2
	}
	codec := compress.Codecs.Snappy
	if h.uncompressed {
		codec = compress.Codecs.Uncompressed
	}
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &out, pq.NewWriterProperties(
		pq.WithEncryptionProperties(pq.NewFileEncryptionProperties(testKeys["f"], opts...)),
		pq.WithDataPageVersion(version), pq.WithDictionaryDefault(h.dictionary), pq.WithCompression(codec),
		pq.WithDataPageSize(256), pq.WithBatchSize(16), pq.WithMaxRowGroupLength(int64(n/2+1)), pq.WithPageIndexEnabled(true),
	), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t testing.TB, data []byte, keys Keys) (*Image, error) {
	t.Helper()
	f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Keys: keys})
	if err != nil {
		return nil, err
	}
	return f.Image(t.Context(), nil)
}

func ways() (out []how) {
	for i := range 1 << 7 {
		h := how{ctr: i&1 != 0, clearFooter: i&2 != 0, v2: i&4 != 0, dictionary: i&8 != 0, columnKey: i&16 != 0, clearColumn: i&32 != 0, noPrefix: i&64 != 0}
		if !h.ctr || !h.clearFooter { // arrow-go 18.8 says AES_GCM_V1 of such files, and nobody can open them
			out = append(out, h)
		}
	}
	return out
}

// TestImage reads what arrow-go encrypted, in every combination of what it can do.
func TestImage(t *testing.T) {
	const n = 200
	for _, h := range ways() {
		t.Run(h.String(), func(t *testing.T) {
			data := written(t, n, h)
			im, err := open(t, data, testKeys)
			if err != nil {
				t.Fatal(err)
			}
			rows := byArrow(t, im)
			if len(rows) != n || byParquetGo(t, im) != n {
				t.Fatalf("%d rows", len(rows))
			}
			for i, row := range rows {
				want := map[string]any{"id": float64(i), "text": fmt.Sprintf("text %d", i%10), "numbers": []any{}}
				if i%3 == 2 {
					want["text"] = nil
				}
				for j := range i % 4 {
					want["numbers"] = append(want["numbers"].([]any), float64(i*j)/8)
				}
				if !reflect.DeepEqual(row, want) {
					t.Fatalf("row %d: %v, want %v", i, row, want)
				}
			}
			f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Keys: testKeys, AADPrefix: "other"})
			if h.noPrefix == errors.Is(err, ErrPrefix) || !errors.Is(err, ErrBroken) {
				t.Errorf("under another name: %v, %v", f, err)
			}
		})
	}
}

// TestPieces reads images in pieces of any size and order: the same bytes, however they are had.
func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, h := range []how{{dictionary: true, columnKey: true}, {ctr: true, clearColumn: true}, {v2: true, clearFooter: true}} {
		im, err := open(t, written(t, 500, h), testKeys)
		if err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, im.Size())
		if n, err := im.ReadAt(whole, 0); n != len(whole) || err != nil {
			t.Fatal(n, err)
		}
		if string(whole[:4]) != plainMagic || string(whole[len(whole)-4:]) != plainMagic {
			t.Error("no image of a plain file")
		}
		for range 500 {
			from := r.Int64N(im.Size())
			piece := make([]byte, r.IntN(300)+1)
			n, err := im.ReadAt(piece, from)
			want := whole[from:min(from+int64(len(piece)), im.Size())]
			if !bytes.Equal(piece[:n], want) || errors.Is(err, io.EOF) != (len(want) < len(piece)) {
				t.Fatalf("%v: %d bytes from %d: got %d, %v", h, len(piece), from, n, err)
			}
		}
		if n, err := im.ReadAt(make([]byte, 1), im.Size()); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("behind the end: %d, %v", n, err)
		}
	}
}

// TestChangedByte changes every byte of files in turn. No change is read as other rows.
func TestChangedByte(t *testing.T) {
	for _, h := range []how{{columnKey: true, dictionary: true}, {clearFooter: true, columnKey: true}, {v2: true}} {
		data := written(t, 20, h)
		im, err := open(t, data, testKeys)
		if err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, im.Size())
		if _, err := im.ReadAt(whole, 0); err != nil {
			t.Fatal(err)
		}
		found := 0
		for at := range data {
			bad := bytes.Clone(data)
			bad[at] ^= 1 << (at % 8)
			im, err := open(t, bad, testKeys)
			if err == nil {
				got := make([]byte, im.Size())
				if im.footer == nil {
					err = fmt.Errorf("%w: not encrypted any more", ErrBroken) // which Authenticated tells
				} else if _, err = im.ReadAt(got, 0); err == nil {
					// Nobody reads what lies between the column chunks: indexes.
					if !bytes.Equal(got[im.end:], whole[im.end:]) {
						t.Fatalf("%v: byte %d changed and nobody saw it", h, at)
					}
					for _, c := range im.chunks {
						if !bytes.Equal(got[c.start:c.end], whole[c.start:c.end]) {
							t.Fatalf("%v: byte %d changed column %s and nobody saw it", h, at, c.name)
						}
					}
					continue
				}
			}
			found++
			if !errors.Is(err, ErrBroken) && !errors.Is(err, errNone) {
				t.Fatalf("%v: byte %d: %v", h, at, err)
			}
		}
		if found < len(data)*2/3 {
			t.Errorf("%v: only %d of %d changes were found", h, found, len(data))
		}
		for size := range len(data) {
			if im, err := open(t, data[:size], testKeys); err == nil {
				if _, err = im.ReadAt(make([]byte, im.Size()), 0); err == nil {
					t.Fatalf("%v: cut to %d bytes and nobody saw it", h, size)
				}
			}
		}
	}
}

// TestMovedPages puts pages where others of the same size were: each opens with the right key, at its own place only.
func TestMovedPages(t *testing.T) {
	data := written(t, 400, how{uncompressed: true})
	im, err := open(t, data, testKeys)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i, a := range im.chunks {
		for _, b := range im.chunks[i+1:] {
			if a.end-a.start != b.end-b.start {
				continue
			}
			bad := bytes.Clone(data)
			copy(bad[a.start:a.end], data[b.start:b.end])
			moved++
			im, err := open(t, bad, testKeys)
			if err == nil {
				_, err = im.ReadAt(make([]byte, im.Size()), 0)
			}
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "column "+a.name) {
				t.Errorf("%s in place of %s: %v", b.name, a.name, err)
			}
		}
	}
	if moved == 0 {
		t.Error("no two column chunks have the same size: the test shows nothing")
	}
}

// TestMissingKey reads the other columns without the key of one.
func TestMissingKey(t *testing.T) {
	for _, h := range []how{{columnKey: true}, {columnKey: true, clearFooter: true}} {
		data := written(t, 20, h)
		f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Keys: named{"f": testKeys["f"]}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Image(t.Context(), nil); !errors.Is(err, errNone) || !strings.Contains(err.Error(), "column text") {
			t.Errorf("%v: %v", h, err)
		}
		im, err := f.Image(t.Context(), func(path []string) bool { return path[0] != "text" })
		if err != nil {
			t.Fatal(err)
		}
		if got := im.chunks; len(got) != 4 {
			t.Errorf("%d chunks can be read, want two columns of two row groups", len(got))
		}
		own, err := f.OwnKeys()
		if err != nil || !reflect.DeepEqual(own, [][]string{{"text"}}) {
			t.Errorf("columns with keys of their own: %v, %v", own, err)
		}
		if whole, err := f.Authenticated(); err != nil || !whole {
			t.Errorf("authenticated: %v, %v", whole, err)
		}
		if _, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Keys: named{"f": strings.Repeat("x", 32)}}); !errors.Is(err, ErrBroken) {
			t.Errorf("%v, with another key: %v", h, err)
		}
		if _, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{}); err == nil {
			t.Errorf("%v: opened without keys", h)
		}
	}
	for _, h := range []how{{ctr: true}, {clearColumn: true}} {
		data := written(t, 20, h)
		f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Keys: testKeys})
		if err != nil {
			t.Fatal(err)
		}
		if whole, err := f.Authenticated(); err != nil || whole {
			t.Errorf("%v is authenticated: %v, %v", h, whole, err)
		}
	}
}

// TestPadding fills headers to every length that they can have.
func TestPadding(t *testing.T) {
	header := object{numberField(pageType, kindI32, 0), numberField(pageSize, kindI32, 99), structField(pageData, object{numberField(pageValues, kindI32, 7)})}
	shortest := len(appendObject(nil, header))
	for n := shortest; n < shortest+20_000; n++ {
		b, err := fill(header, n)
		if err != nil || len(b) != n {
			t.Fatalf("%d bytes: %d, %v", n, len(b), err)
		}
		back, used, err := parseObject(b)
		if err != nil || used != n || !reflect.DeepEqual(back.without(unknownField, unknownField+1), header) {
			t.Fatalf("%d bytes: %v, %d, %v", n, back, used, err)
		}
		if n > shortest+300 {
			n += 97
		}
	}
	if _, err := fill(header, shortest-1); err == nil {
		t.Error("filled to less than it has")
	}
}

// TestNestedThrift holds the reader to a bound, so that no file makes it eat the stack.
func TestNestedThrift(t *testing.T) {
	for _, unit := range [][]byte{{0x1c}, {0x19, 0x1c}, {0x19, 0x19}, {0x1b, 1, 0xbb}} {
		if _, _, err := parseObject(bytes.Repeat(unit, 1_000_000)); err == nil {
			t.Errorf("%x: a million levels were taken", unit)
		}
	}
}

// FuzzObject holds that what is read as a struct is written as the same one.
func FuzzObject(f *testing.F) {
	im, err := open(f, written(f, 10, how{columnKey: true}), testKeys)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(im.footer)
	f.Add([]byte{0})
	f.Add([]byte{0x11, 0x12, 0x18, 1, 'x', 0x1b, 1, 0x88, 1, 'a', 1, 'b', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, n, err := parseObject(b)
		if err != nil {
			return
		}
		again := appendObject(nil, o)
		o2, n2, err := parseObject(again)
		if err != nil || n2 != len(again) || len(o) != len(o2) || n > len(b) {
			t.Fatalf("%x became %x: %v", b[:n], again, err)
		}
		for i := range o {
			if o[i].id != o2[i].id || o[i].kind != o2[i].kind || !bytes.Equal(o[i].value, o2[i].value) {
				t.Fatalf("field %d of %x became another in %x", i, b[:n], again)
			}
			o.list(o[i].id, o[i].kind)
			o.bytes(o[i].id)
		}
	})
}

// FuzzOpen opens anything with the right keys: an error or an image that is read to its end, and never a panic.
func FuzzOpen(f *testing.F) {
	for _, h := range []how{{columnKey: true, dictionary: true}, {clearFooter: true}, {v2: true, ctr: true, clearColumn: true}} {
		f.Add(written(f, 6, h))
	}
	f.Add(withInt96(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Open(t.Context(), bytes.NewReader(b), int64(len(b)), Options{Keys: testKeys, Int96AsBytes: true})
		if err != nil {
			return
		}
		im, err := file.Image(t.Context(), nil)
		if err != nil {
			return
		}
		if im.Size() > int64(len(b))*100+1<<20 {
			t.Fatalf("%d bytes became %d", len(b), im.Size())
		}
		_, _ = im.ReadAt(make([]byte, im.Size()), 0)
		_, _ = io.Copy(io.Discard, io.NewSectionReader(im, 0, im.Size()))
	})
}

// TestPlainFile shows a file that is not encrypted as it is.
func TestPlainFile(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA does not name the folder with apache/parquet-testing")
	}
	b, err := os.ReadFile(filepath.Join(data, "parquet-testing", "alltypes_plain.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	im, err := open(t, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, im.Size())
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes of %d: %v", len(got), len(b), err)
	}
}

// TestLengths holds what a module's length is compared with.
func TestLengths(t *testing.T) {
	for _, b := range [][]byte{nil, {1, 2, 3}, binary.LittleEndian.AppendUint32(nil, 1<<31), append(binary.LittleEndian.AppendUint32(nil, 11), make([]byte, 11)...)} {
		if _, err := frame(b); !errors.Is(err, ErrBroken) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// withInt96 returns a file of two rows that is not encrypted.
func withInt96(t testing.TB) []byte {
	t.Helper()
	type row struct {
		Before int32              `parquet:"before"`
		At     deprecated.Int96   `parquet:"at"`
		Log    []deprecated.Int96 `parquet:"log,list"`
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[row](&out, parquet.KeyValueMetadata("any", "thing"))
	if _, err := w.Write([]row{{1, deprecated.Int96{2, 3, 4}, []deprecated.Int96{{5, 6, 7}}}, {8, deprecated.Int96{9, 10, 11}, nil}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestInt96AsBytes changes what the footer says of INT96, and nothing else.
func TestInt96AsBytes(t *testing.T) {
	data := withInt96(t)
	f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)), Options{Int96AsBytes: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Int96(); !slices.Equal(got, []bool{false, true, true}) {
		t.Errorf("INT96 are %v", got)
	}
	im, err := f.Image(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, im.Size())
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got[:f.end], data[:f.end]) {
		t.Errorf("the columns have changed: %v", err)
	}
	was, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	is, err := parquet.OpenFile(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	for i, before := range was.Metadata().RowGroups[0].Columns {
		after := is.Metadata().RowGroups[0].Columns[i].MetaData
		if kind := before.MetaData.Type; kind == format.Int96 {
			before.MetaData.Type, before.MetaData.Statistics = format.FixedLenByteArray, format.Statistics{}
		} else if kind != format.Int32 {
			t.Errorf("column %d is %s", i, kind)
		}
		if !reflect.DeepEqual(before.MetaData, after) {
			t.Errorf("column %d: %+v, want %+v", i, after, before.MetaData)
		}
	}
	if value, ok := is.Lookup("any"); !ok || value != "thing" {
		t.Errorf("any=%q", value)
	}
	if text := is.Schema().String(); strings.Count(text, "fixed_len_byte_array(12)") != 2 || strings.Contains(text, "int96") {
		t.Errorf("%s", text)
	}
	if n := byParquetGo(t, im); n != 2 {
		t.Errorf("%d rows", n)
	}
}
