package files

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

type simple struct {
	ID string `parquet:"id"`
	N  int64  `parquet:"n"`
}

// parquetOf writes rows in row groups of two.
func parquetOf[T any](t testing.TB, rows []T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := parquet.NewGenericWriter[T](&out, parquet.MaxRowsPerRowGroup(2))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestParquetTypes(t *testing.T) {
	type person struct {
		Name *string `parquet:"name,optional"`
		Age  *int32  `parquet:"age,optional"`
	}
	type row struct {
		ID     string           `parquet:"id"`
		Maybe  *string          `parquet:"maybe,optional"`
		Note   *string          `parquet:"note,optional"`
		N      uint64           `parquet:"n"`
		Small  float32          `parquet:"small"`
		X      float64          `parquet:"x"`
		OK     bool             `parquet:"ok"`
		Vector []float32        `parquet:"vector,list"`
		Bare   []int32          `parquet:"bare"`
		Free   string           `parquet:"free,json"`
		Who    *person          `parquet:"who,optional"`
		People []person         `parquet:"people,list"`
		Counts map[string]int64 `parquet:"counts"`
		Price  int64            `parquet:"price,decimal(2:18)"`
		UUID   [16]byte         `parquet:"uuid,uuid"`
		Raw    []byte           `parquet:"raw"`
		Day    int32            `parquet:"day,date"`
		Milli  int64            `parquet:"milli,timestamp(millisecond)"`
		Nano   int64            `parquet:"nano,timestamp(nanosecond)"`
		Grid   [][]int64        `parquet:"grid,list"`
	}
	name, age := "Ann", int32(7)
	when := time.Date(2024, 2, 29, 12, 30, 15, 250_000_001, time.UTC)
	data := parquetOf(t, []row{
		{
			ID: "a \"q\"", Maybe: &name, Note: &name, N: math.MaxUint64, Small: 0.1, X: 1e300, OK: true,
			Vector: []float32{1, 0.1}, Bare: []int32{1, 2}, Free: `{"k":[1]}`, Who: &person{&name, &age},
			People: []person{{&name, nil}, {nil, &age}}, Counts: map[string]int64{"x": 1}, Price: -5,
			UUID: [16]byte{0x55, 0x0e, 0x84, 0x00, 15: 1}, Raw: []byte{0, 255}, Day: int32(when.Unix() / 86400),
			Milli: when.UnixMilli(), Nano: when.UnixNano(),
		},
		{ID: "b", Free: "no json", Who: &person{}, Milli: -1, Price: 12345},
		{ID: "c", X: math.NaN(), Small: float32(math.Inf(-1)), Free: "1"},
	})
	got, err := rows(t, open(t, write(t, "a.parquet", data), load(t, "")))
	want := []string{
		`{"id":"a \"q\"","maybe":"Ann","note":"Ann","n":18446744073709551615,"small":0.1,"x":1e+300,"ok":true,` +
			`"vector":[1,0.1],"bare":[1,2],"free":{"k":[1]},"who":{"name":"Ann","age":7},` +
			`"people":[{"name":"Ann"},{"age":7}],"counts":{"x":1},"price":-0.05,"uuid":"550e8400-0000-0000-0000-000000000001",` +
			`"raw":"AP8=","day":"2024-02-29","milli":"2024-02-29T12:30:15.25Z","nano":"2024-02-29T12:30:15.250000001Z","grid":[]}`,
		`{"id":"b","maybe":null,"n":0,"small":0,"x":0,"ok":false,"vector":[],"bare":[],"free":"no json","who":{"name":null},` +
			`"people":[],"counts":{},"price":123.45,"uuid":"00000000-0000-0000-0000-000000000000","raw":"","day":"1970-01-01",` +
			`"milli":"1969-12-31T23:59:59.999Z","nano":"1970-01-01T00:00:00Z","grid":[]}`,
	}
	if err != nil || len(got) != 3 {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
	if !strings.HasPrefix(got[2], "number_range:") || !strings.Contains(got[2], `"small":-Infinity,"x":NaN`) {
		t.Errorf("a row with NaN is %s", got[2])
	}
}

func TestDecimals(t *testing.T) {
	for _, c := range []struct {
		unscaled int64
		scale    int
		want     string
	}{
		{0, 2, "0.00"}, {5, 2, "0.05"}, {-5, 2, "-0.05"}, {-12345, 2, "-123.45"}, {7, 0, "7"}, {7, -2, "7e2"}, {100, 3, "0.100"},
		{1, 1 << 30, "1e-1073741824"},
	} {
		v := parquet.Int64Value(c.unscaled)
		var w rowWriter
		w.decimal(c.scale, &v)
		if string(w.out) != c.want {
			t.Errorf("%d × 10^-%d is %s, want %s", c.unscaled, c.scale, w.out, c.want)
		}
	}
	big, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	v := parquet.ByteArrayValue(big.Bytes())
	minus := parquet.ByteArrayValue([]byte{0xff, 0x85}) // two's complement of -123
	var w rowWriter
	w.decimal(10, &v)
	w.out = append(w.out, ' ')
	w.decimal(1, &minus)
	if string(w.out) != "12345678901234567890.1234567890 -12.3" {
		t.Errorf("%s", w.out)
	}
}

// TestDamagedParquet changes every byte of a small file and cuts it everywhere: each time there are rows or an error,
// never a panic, and what is not ErrCorrupt has no more rows than were written.
func TestDamagedParquet(t *testing.T) {
	c := load(t, "")
	whole := parquetOf(t, []simple{{"a", 1}, {"b", 2}, {"c", 3}})
	path := filepath.Join(t.TempDir(), "a.parquet")
	try := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(t.Context(), path, c, Access{})
		if err != nil {
			return err
		}
		defer f.Close()
		got, err := rows(t, f)
		if len(got) > 100 {
			t.Errorf("%d rows came out of 3", len(got))
		}
		return err
	}
	for n := range len(whole) {
		if err := try(whole[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for i := 4; i < len(whole)-8; i++ {
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x55
		if err := try(damaged); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// TestPublicParquetFiles reads files of other writers, sound and damaged.
func TestPublicParquetFiles(t *testing.T) {
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	c := load(t, "")
	read := func(path string) ([]string, error) {
		f, err := Open(t.Context(), path, c, Access{})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return rows(t, f)
	}
	in := func(name string) string { return filepath.Join(folder, "parquet-testing", name) }
	for name, want := range map[string]int{
		"alltypes_plain.parquet": 8, "nested_lists.snappy.parquet": 3, "nested_maps.snappy.parquet": 6,
		"delta_byte_array.parquet": 1000, "byte_stream_split.zstd.parquet": 300, "nested_structs.rust.parquet": 1,
		"delta_binary_packed.parquet": 200, "delta_encoding_optional_column.parquet": 100,
	} {
		got, err := read(in(name))
		if err != nil || len(got) != want {
			t.Errorf("%s: %d rows, %v; want %d", name, len(got), err, want)
			continue
		}
		for i, row := range got {
			if c.Schema.CheckJSON([]byte(row)) != nil && !strings.HasPrefix(row, "{") {
				t.Errorf("%s: row %d is no object", name, i)
			}
		}
	}
	for _, folder := range []string{"", "aes256"} {
		encrypted, err := filepath.Glob(filepath.Join(in(folder), "*.encrypted"))
		if err != nil || len(encrypted) == 0 {
			t.Fatalf("no encrypted files: %v", err)
		}
		for _, path := range encrypted {
			link := filepath.Join(t.TempDir(), "a.parquet")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			if got, err := read(link); err == nil {
				t.Errorf("%s: %d rows were read without a key", filepath.Base(path), len(got))
			}
		}
	}
	bad, err := filepath.Glob(in("bad_data/*.parquet"))
	if err != nil || len(bad) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, path := range bad {
		got, err := read(path)
		t.Logf("%s: %d rows, %v", filepath.Base(path), len(got), err)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt or rows", filepath.Base(path), err)
		}
	}
}
