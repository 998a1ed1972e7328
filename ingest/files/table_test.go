package files

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tasterhq/taster/schema/contract"
)

func TestTable(t *testing.T) {
	c := load(t, "limits: {bytes: 200}")
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"plain", "id,n\na,1\nb,2", []string{`{"id":"a","n":1}`, `{"id":"b","n":2}`}},
		{"Windows line ends, blank lines, byte order mark", "\ufeffid,n\r\n\r\na,1\r\n\r\n", []string{`{"id":"a","n":1}`}},
		{"quoted", "id,note\n\"a\",\"x, \"\"y\"\"\nz\"\r\nb,\"\"\n", []string{`{"id":"a","note":"x, \"y\"\nz"}`, `{"id":"b","note":""}`}},
		{"too few and too many fields", "id,n\na\nb,2\nc,3,4\n", []string{"row_malformed:a", `{"id":"b","n":2}`, "row_malformed:c,3,4"}},
		{"a quote in a field", "id,note\na,5\" pipe\nb,fine\n", []string{"row_malformed:a,5\" pipe", `{"id":"b","note":"fine"}`}},
		{"text behind a quote", "id,note\na,\"x\"y\nb,fine\n", []string{"row_malformed:a,\"x\"y", `{"id":"b","note":"fine"}`}},
		{"a quote that is never closed", "id,note\na,\"x\nb,fine\nc,fine\n", []string{"row_malformed:a,\"x", `{"id":"b","note":"fine"}`, `{"id":"c","note":"fine"}`}},
		{"a quote that the next row's ends", "id,note\na,\"x\nb,\"fine\"\n", []string{"row_malformed:a,\"x", `{"id":"b","note":"fine"}`}},
		{"a long row", "id,note\na," + strings.Repeat("x", 300) + "\nb,y\n", []string{"too_large:a," + strings.Repeat("x", 300), `{"id":"b","note":"y"}`}},
		{"empty cells", "id,maybe,note,n\n,,,\n\"\",\"\",\"\",\n", []string{`{"id":"","maybe":null}`, `{"id":"","maybe":"","note":""}`}},
		{"types", "n,x,ok,vector,free\n 7 ,.5,TRUE,\"[1,2.5]\",\"{\"\"a\"\":[1]}\"\n", []string{`{"n":7,"x":0.5,"ok":true,"vector":[1,2.5],"free":{"a":[1]}}`}},
		{"what is not of its type", "n,x,ok,vector,free\n007,nan,yes,1;2,some text\n", []string{`{"n":"007","x":"nan","ok":"yes","vector":"1;2","free":"some text"}`}},
		{"numbers", "x\n1.\n+1\n-0.0\n1e5\n1e999\n0x10\n1_000\n", []string{`{"x":1}`, `{"x":1}`, `{"x":-0.0}`, `{"x":1e5}`, `{"x":1e999}`, `{"x":"0x10"}`, `{"x":"1_000"}`}},
		{"unknown columns", "other,id\n5,a\n", []string{`{"other":"5","id":"a"}`}},
		{"no breaking out of a cell", "free,id\n\"1,\"\"id\"\":2\",a\n", []string{`{"free":"1,\"id\":2","id":"a"}`}},
		{"controls", "id\na\x01\tb\\\n", []string{`{"id":"a\u0001\tb\\"}`}},
		{"one column", "id\n\"\"\na\n", []string{`{"id":""}`, `{"id":"a"}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := rows(t, open(t, write(t, "a.csv", []byte(test.in)), c))
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got\n%q, %v; want\n%q", got, err, test.want)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	c := load(t, "")
	for name, in := range map[string]string{
		"nothing": "", "blank": "\n\n", "twice": "id,n,id\n", "broken": "id,\"n\nx", "not UTF-8": "id,\xff\n",
	} {
		if _, err := Open(t.Context(), write(t, "a.csv", []byte(in)), c, Access{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

// readTable reads a table in rows of raw bytes, fields and JSON.
func readTable(t *testing.T, src io.Reader, c *contract.Contract) (raw []string, fields [][]string, values [][]byte, err error) {
	t.Helper()
	table, err := newTable(src, ',', c)
	if err != nil {
		return nil, nil, nil, err
	}
	for {
		value, code, err := table.next()
		if errors.Is(err, ErrEnd) {
			return raw, fields, values, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
		raw = append(raw, string(code)+":"+string(value))
		if code != "" {
			fields = append(fields, nil)
			continue
		}
		var row []string
		for i := range table.fields {
			row = append(row, string(table.fields[i].unquoted(nil)))
		}
		fields = append(fields, row)
		values = append(values, bytes.Clone(value))
	}
}

// FuzzTable holds three things: rows are the same however the file is cut into reads, what encoding/csv reads without
// complaint is read alike, and every good row is JSON when the file is UTF-8.
func FuzzTable(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "csv", "*.csv"))
	if err != nil || len(seeds) < 5 {
		f.Fatalf("%d seeds in testdata/csv, %v", len(seeds), err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := load(f, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, fields, values, err := readTable(t, bytes.NewReader(data), c)
		piecewise, _, _, errPiecewise := readTable(t, iotest.OneByteReader(bytes.NewReader(data)), c)
		if !slices.Equal(raw, piecewise) || (err == nil) != (errPiecewise == nil) {
			t.Fatalf("whole: %q, %v\nbyte by byte: %q, %v", raw, err, piecewise, errPiecewise)
		}
		if err != nil {
			return
		}
		for _, value := range values {
			if bytes.Equal(bytes.ToValidUTF8(data, nil), data) && !json.Valid(value) {
				t.Errorf("a row became %q, which is no JSON", value)
			}
		}
		// encoding/csv joins \r\n within quotes and takes a lone \r before a line's end away; those it may have.
		if bytes.IndexByte(data, '\r') >= 0 {
			return
		}
		reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		reader.FieldsPerRecord = -1
		all, err := reader.ReadAll()
		if err != nil || len(all) == 0 {
			return
		}
		header, all := all[0], all[1:]
		if len(all) != len(fields) {
			t.Fatalf("%d rows, encoding/csv has %d", len(fields), len(all))
		}
		for i, row := range all {
			if len(row) != len(header) {
				row = nil
			}
			if !slices.Equal(row, fields[i]) {
				t.Errorf("row %d is %q, by encoding/csv %q", i, fields[i], row)
			}
		}
	})
}
