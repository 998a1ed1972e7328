package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

const rowSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id", "maybe"],
  "properties": {
    "id": {"type": "string"},
    "maybe": {"type": ["string", "null"]},
    "note": {"type": "string"},
    "n": {"type": "integer"},
    "x": {"type": "number"},
    "ok": {"type": "boolean"},
    "vector": {"type": "array", "items": {"type": "number"}},
    "free": {},
    "who": {"type": "object", "required": ["name"], "properties": {"name": {"type": ["string", "null"]}, "age": {"type": "integer"}}}
  }
}`

func load(t testing.TB, more string) *contract.Contract {
	t.Helper()
	dir := t.TempDir()
	yaml := "topic: rows\nowner: shop\nclassification: public\nschema: rows.schema.json\n" + more
	for name, data := range map[string]string{"rows.yaml": yaml, "rows.schema.json": rowSchema} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := contract.Load(filepath.Join(dir, "rows.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string, c *contract.Contract) *File {
	t.Helper()
	f, err := Open(t.Context(), path, c, Access{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// rows reads a file to its end, or to its damage. A broken row is written as its code, a colon and its bytes.
func rows(t testing.TB, f *File) ([]string, error) {
	t.Helper()
	var out []string
	for {
		item, err := f.Next()
		if err != nil {
			if _, again := f.Next(); !errors.Is(again, err) && again.Error() != err.Error() {
				t.Errorf("after %v the next call returned %v", err, again)
			}
			if errors.Is(err, ErrEnd) {
				err = nil
			}
			return out, err
		}
		text := string(item.Message.Value)
		if item.Code != "" {
			text = string(item.Code) + ":" + text
		}
		out = append(out, text)
	}
}

func TestLines(t *testing.T) {
	c := load(t, "limits: {bytes: 100}")
	data := "\ufeff{\"id\":1}\r\n\n \t\r\nnot json\n" + strings.Repeat("x", 200) + "\n{\"id\":2}"
	f := open(t, write(t, "a.jsonl", []byte(data)), c)
	got, err := rows(t, f)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"id":1}`, "not json", "too_large:" + strings.Repeat("x", 200), `{"id":2}`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSourceOffsetsAndTimes(t *testing.T) {
	c := load(t, "")
	data := []byte("{}\n\n{}\nbroken\n{}\n")
	path := write(t, "a.jsonl", data)
	when := time.UnixMilli(1_600_000_000_123)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, c)
	sum := sha256.Sum256(data)
	if s := f.Source(); s.Topic != "rows" || s.Partition != 0 || s.ID != hex.EncodeToString(sum[:]) {
		t.Errorf("source is %+v", s)
	}
	for want := range int64(4) {
		item, err := f.Next()
		if err != nil || item.Message.Offset != want || item.Message.Timestamp != when.UnixMilli() {
			t.Errorf("row %d came as %+v, %v", want, item, err)
		}
	}
}

// TestSkip reads every file from every row on, and beyond.
func TestSkip(t *testing.T) {
	c := load(t, "")
	for name, data := range everyFormat(t) {
		path := write(t, name, data)
		all, err := rows(t, open(t, path, c))
		if err != nil || len(all) != 3 {
			t.Fatalf("%s: %q, %v", name, all, err)
		}
		for n := range int64(6) {
			f := open(t, path, c)
			if err := f.Skip(n); err != nil {
				t.Fatalf("%s: skipping %d: %v", name, n, err)
			}
			got, err := rows(t, f)
			if want := all[min(int(n), len(all)):]; err != nil || !slices.Equal(got, want) {
				t.Errorf("%s from row %d: %q, %v; want %q", name, n, got, err, want)
			}
		}
	}
}

func packed(t testing.TB, data []byte) (gz, zst []byte) {
	t.Helper()
	var a, b bytes.Buffer
	w := gzip.NewWriter(&a)
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{w, z} {
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return a.Bytes(), b.Bytes()
}

// everyFormat returns the same three rows in each format and compression.
func everyFormat(t testing.TB) map[string][]byte {
	t.Helper()
	plain := map[string][]byte{
		"a.jsonl":   []byte("{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n{\"id\":\"c\",\"n\":3}\n"),
		"a.csv":     []byte("id,n\na,1\nb,2\n\"c\",3\n"),
		"a.tsv":     []byte("id\tn\na\t1\nb\t2\nc\t3\n"),
		"a.parquet": parquetOf(t, []simple{{"a", 1}, {"b", 2}, {"c", 3}}),
	}
	all := map[string][]byte{}
	for name, data := range plain {
		all[name] = data
		all[name+".gz"], all[name+".zst"] = packed(t, data)
	}
	return all
}

func TestEveryFormatGivesTheSameRows(t *testing.T) {
	c := load(t, "")
	want := []string{`{"id":"a","n":1}`, `{"id":"b","n":2}`, `{"id":"c","n":3}`}
	for name, data := range everyFormat(t) {
		got, err := rows(t, open(t, write(t, name, data), c))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestDamageIsToldAndWhatIsBeforeItIsRead cuts and scribbles over compressed files.
func TestDamageIsToldAndWhatIsBeforeItIsRead(t *testing.T) {
	c := load(t, "")
	var data bytes.Buffer
	const n = 50_000
	for i := range n {
		data.WriteString(`{"id":"` + strings.Repeat(string(rune('a'+i%26)), i%40) + `"}` + "\n")
	}
	gz, zst := packed(t, data.Bytes())
	for name, whole := range map[string][]byte{"a.jsonl.gz": gz, "a.jsonl.zst": zst} {
		for how, damaged := range map[string][]byte{
			"cut":      whole[:len(whole)*2/3],
			"scribble": slices.Concat(whole[:len(whole)*2/3], []byte("scribble"), whole[len(whole)*2/3+8:]),
		} {
			got, err := rows(t, open(t, write(t, name, damaged), c))
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, %s: after %d rows: %v, want ErrCorrupt", name, how, len(got), err)
			}
			if len(got) == 0 || len(got) >= n {
				t.Errorf("%s, %s: %d rows were read of %d", name, how, len(got), n)
			}
			for _, row := range got {
				if how == "cut" && !strings.HasSuffix(row, "\"}") {
					t.Fatalf("%s: half a row was delivered: %q", name, row)
				}
			}
		}
	}
	for name, data := range map[string][]byte{
		"empty.jsonl.gz": nil, "text.jsonl.gz": []byte("{}\n"), "text.jsonl.zst": []byte("{}\n{}\n"),
		"empty.parquet": nil, "text.parquet": []byte("PAR1 this is no parquet PAR1"), "empty.csv": nil,
	} {
		f, err := Open(t.Context(), write(t, name, data), c, Access{})
		if err == nil {
			_, err = f.Next()
			_ = f.Close()
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestInputsThatCannotBeOpened(t *testing.T) {
	c := load(t, "")
	dir := t.TempDir()
	for input, want := range map[string]error{
		filepath.Join(dir, "none.jsonl"):              fs.ErrNotExist,
		"file://" + filepath.Join(dir, "none.csv"):    fs.ErrNotExist,
		"s3://bucket/a.jsonl":                         ErrUnsupported,
		"file://elsewhere/a.jsonl":                    ErrUnsupported,
		filepath.Join(dir, "a.xlsx"):                  ErrUnsupported,
		filepath.Join(dir, "a.gz"):                    ErrUnsupported,
		write(t, "x.parquet", []byte("PAR1....PARE")): ErrUnsupported,
	} {
		if _, err := Open(t.Context(), input, c, Access{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", input, err, want)
		}
	}
	folder := filepath.Join(dir, "folder.jsonl")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), folder, c, Access{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, write(t, "a.jsonl", []byte("{}")), c, Access{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if f, err := Open(t.Context(), "file://"+write(t, "a b.jsonl", []byte("{}")), c, Access{}); err != nil {
		t.Errorf("a file URL: %v", err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFileThatChanges(t *testing.T) {
	path := write(t, "a.jsonl", []byte("{}\n"))
	f := open(t, path, load(t, ""))
	if err := os.WriteFile(path, []byte("{}\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := rows(t, f); !errors.Is(err, ErrChanged) {
		t.Errorf("%d rows, %v; want ErrChanged", len(got), err)
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.jsonl", "a.jsonl", "c.csv", "odd[1].csv"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	got, err := Expand(t.Context(), []string{in("*.jsonl"), in("odd[1].csv"), in("none.csv"), "s3://x/*.csv"}, nil)
	if want := []string{in("a.jsonl"), in("b.jsonl"), in("odd[1].csv"), in("none.csv"), "s3://x/*.csv"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := Expand(t.Context(), []string{in("*.tsv")}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pattern that names nothing: %v", err)
	}
}

// TestAHugeLineIsBounded reads a line longer than what is held.
func TestAHugeLineIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a file of 160 MiB")
	}
	huge := bytes.Repeat([]byte("0123456789abcdef"), 10<<20)
	data := slices.Concat([]byte("{\"id\":\"a\"}\n"), huge, []byte("\n{\"id\":\"b\"}\n"))
	f := open(t, write(t, "a.jsonl", data), load(t, ""))
	var lengths []int
	var codes []finding.Code
	for {
		item, err := f.Next()
		if errors.Is(err, ErrEnd) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lengths, codes = append(lengths, len(item.Message.Value)), append(codes, item.Code)
	}
	if !slices.Equal(lengths, []int{10, longest, 10}) && !slices.Equal(lengths, []int{10, longest + firstWindow, 10}) {
		t.Errorf("lengths %v", lengths)
	}
	if !slices.Equal(codes, []finding.Code{"", finding.TooLarge, ""}) {
		t.Errorf("codes %v", codes)
	}
}

func BenchmarkLines(b *testing.B) {
	line := `{"id":"r-000001","body":"` + strings.Repeat("The handle is sturdy and the lid closes well. ", 8) + `"}` + "\n"
	data := bytes.Repeat([]byte(line), 200_000)
	path := write(b, "a.jsonl", data)
	c := load(b, "")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		file, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		l := newLines(file, c)
		n := 0
		for {
			if _, _, err := l.next(); err != nil {
				break
			}
			n++
		}
		if n != 200_000 {
			b.Fatal(n)
		}
		_ = file.Close()
	}
}
