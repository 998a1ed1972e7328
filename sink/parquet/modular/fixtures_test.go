package modular

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/parquet-go/parquet-go"
)

// named is raw keys by key metadata.
type named map[string]string

var errNone = errors.New("no such key")

func (n named) DataKey(_ context.Context, metadata []byte) ([]byte, error) {
	if key, ok := n[string(metadata)]; ok {
		return []byte(key), nil
	}
	return nil, fmt.Errorf("%w: %q", errNone, metadata)
}

// The keys of apache/parquet-testing.
var (
	keys128 = named{"kf": "0123456789012345", "kc1": "1234567890123450", "kc2": "1234567890123451"}
	keys256 = named{"kf": "01234567890123456789012345678901", "kc1": "12345678901234567890123456789012", "kc2": "12345678901234567890123456789013",
		"kc3": "12345678901234567890123456789014", "kc4": "12345678901234567890123456789015", "kc5": "12345678901234567890123456789016", "kc6": "12345678901234567890123456789017", "kc7": "12345678901234567890123456789018", "kc8": "12345678901234567890123456789019"}
)

func fixture(t *testing.T, name string) (*os.File, int64) {
	t.Helper()
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA does not name the folder with apache/parquet-testing")
	}
	f, err := os.Open(filepath.Join(data, "parquet-testing", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size()
}

// byArrow reads the values of an image but those of INT96 by arrow-go, and returns its rows.
func byArrow(t *testing.T, im *Image) []map[string]any {
	t.Helper()
	f, err := file.NewParquetReader(io.NewSectionReader(im, 0, im.Size()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{BatchSize: 7}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	var leaves []int
	for i := range f.MetaData().Schema.NumColumns() {
		if f.MetaData().Schema.Column(i).PhysicalType() != pq.Types.Int96 {
			leaves = append(leaves, i)
		}
	}
	batches, err := r.GetRecordReader(t.Context(), leaves, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer batches.Release()
	var out []map[string]any
	for batches.Next() {
		text, err := batches.RecordBatch().MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var part []map[string]any
		if err := json.Unmarshal(text, &part); err != nil {
			t.Fatal(err)
		}
		out = append(out, part...)
	}
	if err := batches.Err(); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out
}

// byParquetGo reads all values of an image by parquet-go, in small pieces, and returns the number of rows.
func byParquetGo(t *testing.T, im *Image) int {
	t.Helper()
	other, err := parquet.OpenFile(im, im.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(7))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range other.RowGroups() {
		rows := g.Rows()
		batch := make([]parquet.Row, 3)
		for {
			m, err := rows.ReadRows(batch)
			n += m
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestFixtures reads the files that Parquet's implementations hold each other to.
func TestFixtures(t *testing.T) {
	for _, c := range []struct {
		name, prefix string
		keys         named
	}{
		{name: "uniform_encryption", keys: keys128},
		{name: "encrypt_columns_and_footer", keys: keys128},
		{name: "encrypt_columns_and_footer_aad", keys: keys128},
		{name: "encrypt_columns_and_footer_aad", keys: keys128, prefix: "tester"},
		{name: "encrypt_columns_and_footer_ctr", keys: keys128},
		{name: "encrypt_columns_and_footer_disable_aad_storage", keys: keys128, prefix: "tester"},
		{name: "encrypt_columns_plaintext_footer", keys: keys128},
		{name: "encrypt_columns_and_footer_bloom_filter", keys: keys128},
		{name: "aes256/uniform_encryption", keys: keys256},
		{name: "aes256/encrypt_columns_and_footer", keys: keys256},
		{name: "aes256/encrypt_columns_and_footer_ctr", keys: keys256},
		{name: "aes256/encrypt_columns_and_footer_disable_aad_storage", keys: keys256, prefix: "tester"},
		{name: "aes256/encrypt_columns_plaintext_footer", keys: keys256},
	} {
		t.Run(c.name+c.prefix, func(t *testing.T) {
			src, size := fixture(t, c.name+".parquet.encrypted")
			f, err := Open(t.Context(), src, size, Options{Keys: c.keys, AADPrefix: c.prefix})
			if err != nil {
				t.Fatal(err)
			}
			im, err := f.Image(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := byArrow(t, im)
			if n := byParquetGo(t, im); n != len(got) || n < 50 {
				t.Errorf("parquet-go reads %d rows, arrow-go %d", n, len(got))
			}
			for i, row := range got {
				if want := expected(c.name, i); !reflect.DeepEqual(row, want) {
					t.Fatalf("row %d: %v, want %v", i, row, want)
				}
			}
		})
	}
}

// expected returns row i of a fixture, as parquet-cpp's and parquet-java's tests define it, in Arrow's JSON.
func expected(name string, i int) map[string]any {
	if strings.Contains(name, "bloom") {
		return map[string]any{"name": fmt.Sprintf("name_%d", i), "int32_field": float64(i), "float_field": float64(i) + 0.25, "double_field": float64(i) + 0.5}
	}
	row := map[string]any{
		"boolean_field": i%2 == 0,
		"int32_field":   strings.TrimSuffix(fmt.Sprintf("00:00:00.%03d", i), ".000"),
		"int64_field":   []any{2e12 * float64(i), 1e12 * float64(2*i+1)},
		"float_field":   shortest(float32(i) * 1.1),
		"double_field":  float64(i) * 1.1111111,
		"ba_field":      nil,
		"flba_field":    base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 10)),
	}
	if i%2 == 0 {
		row["ba_field"] = base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("parquet%03d", i)))
	}
	if text := row["int32_field"].(string); strings.Contains(text, ".") {
		row["int32_field"] = strings.TrimRight(text, "0")
	}
	return row
}

// shortest returns what the shortest decimal of a float32 is as float64.
func shortest(x float32) float64 {
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
	return f
}
