package batch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

const reviewSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id", "body"],
  "additionalProperties": false,
  "properties": {
    "id": {"type": "string"},
    "seller": {"type": "string"},
    "title": {"type": "string"},
    "body": {"type": "string"},
    "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    "diagnosis": {"type": "string"}
  }
}`

// load writes a contract with the given lines beside those that every contract needs, and loads it.
func load(t testing.TB, more string) *contract.Contract {
	t.Helper()
	dir := t.TempDir()
	text := "topic: reviews\nowner: shop\nclassification: public\nschema: reviews.schema.json\n" + more
	for name, data := range map[string]string{"reviews.yaml": text, "reviews.schema.json": reviewSchema} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := contract.Load(filepath.Join(dir, "reviews.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

func message(offset int64, value string) record.Message {
	return record.Message{Offset: offset, Timestamp: 1000 + offset, Value: []byte(value)}
}

func strs(t *testing.T, b *record.Batch, pointer string) []string {
	t.Helper()
	column, ok := record.Lookup(b.Records, pointer)
	if !ok {
		t.Fatalf("no column %s", pointer)
	}
	var out []string
	for i := range column.Len() {
		out = append(out, column.(*array.String).Value(i))
	}
	return out
}

type refusal struct {
	offset   int64
	code     finding.Code
	field    string
	provider string
	value    string
}

func refusals(b *record.Batch) []refusal {
	var out []refusal
	for _, r := range b.Refused {
		out = append(out, refusal{r.Offset, r.Code, r.Field, r.Provider, string(r.Value)})
	}
	return out
}

func TestEveryMessageComesOutOnce(t *testing.T) {
	b := NewBuilder(load(t, `
roles: {id: /id, provider: /seller, text: [/body]}
restricted: [/diagnosis]
limits: {bytes: 200}
sanitize: {pii: {EMAIL_ADDRESS: redact, CREDIT_CARD: reject}, unicode: quarantine}
`))
	long := `{"id":"x","body":"` + strings.Repeat("x", 200) + `"}`
	values := []string{
		0:  `{"id":"a","seller":"s1","body":"fine"}`,
		1:  `{"id":"b","seller":"s2","body":"pay 4111 1111 1111 1111"}`,
		2:  `{"id":"c","seller":"s1","body":"ask bob@example.com"}`,
		3:  `{"id":"d","body":"no seller"}`,
		4:  `{"id":"e","seller":"s3","body":"hid` + "\u200b" + `den"}`,
		5:  `{"id":"f","seller":"s1"`,
		6:  long,
		7:  ``,
		8:  `{"id":"g","seller":"s1","body":1}`,
		9:  `{"id":"h","seller":"s2","body":"ill","diagnosis":"flu"}`,
		10: `{"id":"i","seller":"","body":"empty seller"}`,
	}
	for i, v := range values {
		b.Add(message(int64(i), v))
	}
	b.Add(record.Message{Offset: 11, Key: []byte("k")})
	b.Refuse(message(12, "a,b,c"), finding.RowMalformed)
	if b.Rows() != 13 {
		t.Errorf("Rows is %d before Take", b.Rows())
	}
	got := b.Take()
	defer got.Records.Release()

	if want := []string{"a", "c", "e", "h"}; !slices.Equal(strs(t, got, "/id"), want) {
		t.Errorf("rows %v, want %v", strs(t, got, "/id"), want)
	}
	if want := []string{"fine", "ask [EMAIL_ADDRESS]", "hidden", "ill"}; !slices.Equal(strs(t, got, "/body"), want) {
		t.Errorf("bodies %q, want %q", strs(t, got, "/body"), want)
	}
	if want := []string{"s1", "s1", "s3", "s2"}; !slices.Equal(got.Providers, want) {
		t.Errorf("providers %v, want %v", got.Providers, want)
	}
	if want := []record.Origin{{Offset: 0, Timestamp: 1000}, {Offset: 2, Timestamp: 1002}, {Offset: 4, Timestamp: 1004}, {Offset: 9, Timestamp: 1009}}; !slices.Equal(got.Origins, want) {
		t.Errorf("origins %v, want %v", got.Origins, want)
	}
	if want := []record.Classification{record.Public, record.Internal, record.Public, record.Restricted}; !slices.Equal(got.Classifications, want) {
		t.Errorf("classifications %v, want %v", got.Classifications, want)
	}
	if len(got.Marks) != 1 || got.Marks[0].Row != 2 || got.Marks[0].Code != finding.HiddenUnicode || got.Marks[0].Finding == nil {
		t.Errorf("marks %+v", got.Marks)
	}
	want := []refusal{
		{1, finding.PIIRejected, "/body", "s2", values[1]},
		{3, finding.ProviderMissing, "/seller", "", values[3]},
		{5, finding.JSONTruncated, "", "", values[5]},
		{6, finding.TooLarge, "", "", values[6]},
		{7, finding.Empty, "", "", ""},
		{8, finding.SchemaType, "/body", "", values[8]},
		{10, finding.ProviderMissing, "/seller", "", values[10]},
		{11, finding.Tombstone, "", "", ""},
		{12, finding.RowMalformed, "", "", "a,b,c"},
	}
	if !slices.Equal(refusals(got), want) {
		t.Errorf("refused\n%v, want\n%v", refusals(got), want)
	}
	if got.Refused[7].Value != nil || string(got.Refused[7].Key) != "k" {
		t.Errorf("the tombstone came out as %+v", got.Refused[7].Message)
	}
	var size int64 = 1 + 5
	for _, v := range values {
		size += int64(len(v))
	}
	if got.Bytes != size {
		t.Errorf("Bytes is %d, want %d", got.Bytes, size)
	}
	if b.Rows() != 0 || b.Bytes() != 0 || b.Take() != nil {
		t.Error("the builder did not start anew")
	}
}

func TestProviders(t *testing.T) {
	with := func(h ...record.Header) record.Message {
		m := message(0, `{"id":"a","seller":"s","body":"b"}`)
		m.Key, m.Headers = []byte("key-1"), h
		return m
	}
	for _, c := range []struct {
		role string
		m    record.Message
		want string // "" when it is refused
	}{
		{"", with(), "-"},
		{"roles: {provider: 'is:acme'}", with(), "acme"},
		{"roles: {provider: key}", with(), "key-1"},
		{"roles: {provider: key}", message(0, `{"id":"a","body":"b"}`), ""},
		{"roles: {provider: 'header:x-provider'}", with(record.Header{Key: "x-provider", Value: []byte("h1")}), "h1"},
		{"roles: {provider: 'header:x-provider'}", with(record.Header{Key: "x-provider", Value: []byte("h1")}, record.Header{Key: "x-provider", Value: []byte("h2")}), "h2"},
		{"roles: {provider: 'header:x-provider'}", with(), ""},
		{"roles: {provider: 'header:x-provider'}", with(record.Header{Key: "x-provider", Value: []byte("\xff")}), ""},
		{"roles: {provider: /seller}", with(), "s"},
		{"roles: {provider: /stars}", message(0, `{"id":"a","body":"b","stars":3}`), "3"},
	} {
		b := NewBuilder(load(t, c.role))
		b.Add(c.m)
		got := b.Take()
		switch {
		case c.want == "":
			if len(got.Refused) != 1 || got.Refused[0].Code != finding.ProviderMissing || got.Records.NumRows() != 0 || len(got.Providers) != 0 {
				t.Errorf("%s: not refused: %+v", c.role, got)
			}
		case c.want == "-":
			if !slices.Equal(got.Providers, []string{""}) {
				t.Errorf("%s: providers %q", c.role, got.Providers)
			}
		case !slices.Equal(got.Providers, []string{c.want}):
			t.Errorf("%s: providers %q, want %q", c.role, got.Providers, c.want)
		}
		got.Records.Release()
	}
}

// TestRefusedOwnTheirBytes overwrites what the source lent.
func TestRefusedOwnTheirBytes(t *testing.T) {
	b := NewBuilder(load(t, "sanitize: {pii: {EMAIL_ADDRESS: reject}}"))
	lent := []record.Message{
		{Offset: 0, Key: []byte("key"), Value: []byte(`{"id":1}`), Headers: []record.Header{{Key: "h", Value: []byte("value")}}},
		{Offset: 1, Key: []byte("key"), Value: []byte(`{"id":"a","body":"a@b.de"}`), Headers: []record.Header{{Key: "h", Value: []byte("value")}}},
	}
	want := []string{string(lent[0].Value), string(lent[1].Value)}
	b.Add(lent[0])
	clear(lent[0].Value)
	clear(lent[0].Key)
	clear(lent[0].Headers[0].Value)
	b.Add(lent[1])
	got := b.Take()
	clear(lent[1].Value)
	clear(lent[1].Key)
	clear(lent[1].Headers[0].Value)
	if len(got.Refused) != 2 {
		t.Fatalf("refused %v", refusals(got))
	}
	for i, r := range got.Refused {
		if string(r.Value) != want[i] || string(r.Key) != "key" || string(r.Headers[0].Value) != "value" {
			t.Errorf("message %d was kept as %+v", i, r.Message)
		}
	}
}

func reviews(n int) []record.Message {
	out := make([]record.Message, n)
	for i := range out {
		body := strings.TrimSuffix(strings.Repeat("The handle is sturdy and the lid closes well. ", 5), " ")
		out[i] = message(int64(i), fmt.Sprintf(`{"id":"r-%06d","seller":"seller-%02d","title":"Good for %d years","body":"%s","stars":%d}`, i, i%40, i%9, body, 1+i%5))
	}
	return out
}

// TestAllocations holds the path of good records to a fixed number of allocations for each batch.
func TestAllocations(t *testing.T) {
	const rows = 5000
	b := NewBuilder(load(t, "roles: {provider: /seller, text: [/title, /body]}\nsanitize: {pii: {default: redact}}"))
	messages := reviews(rows)
	perBatch := testing.AllocsPerRun(5, func() {
		for i := range messages {
			b.Add(messages[i])
		}
		b.Take().Records.Release()
	})
	if perBatch > 250 {
		t.Errorf("%.0f allocations for %d records", perBatch, rows)
	}
}

func BenchmarkBuilder(b *testing.B) {
	const rows = 5000
	builder := NewBuilder(load(b, "roles: {provider: /seller, text: [/title, /body]}\nsanitize: {pii: {default: redact}}"))
	messages := reviews(rows)
	size := 0
	for i := range messages {
		size += len(messages[i].Value)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for i := range messages {
			builder.Add(messages[i])
		}
		builder.Take().Records.Release()
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "records/s")
}

func FuzzAdd(f *testing.F) {
	seeds := []string{`{"id":"a","seller":"s","body":"b"}`, `{"id":"a"`, ``, `{"id":"a","seller":"s","body":"a@b.de \u200b 4111111111111111"}`, "[1e999]", "\xff"}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	c := load(f, "roles: {provider: /seller}\nsanitize: {pii: {EMAIL_ADDRESS: redact, CREDIT_CARD: reject}, unicode: reject}")
	f.Fuzz(func(t *testing.T, value []byte) {
		b := NewBuilder(c)
		good := `{"id":"good","seller":"s","body":"b"}`
		b.Add(message(0, good))
		b.Add(record.Message{Offset: 1, Value: value})
		b.Add(message(2, good))
		got := b.Take()
		defer got.Records.Release()
		offsets := []int64{}
		for _, o := range got.Origins {
			offsets = append(offsets, o.Offset)
		}
		for _, r := range got.Refused {
			offsets = append(offsets, r.Offset)
			if !bytes.Equal(r.Value, value) {
				t.Error("a refused message lost its bytes")
			}
		}
		slices.Sort(offsets)
		if !slices.Equal(offsets, []int64{0, 1, 2}) || int(got.Records.NumRows()) != len(got.Origins) {
			t.Errorf("offsets %v came out, with %d rows", offsets, got.Records.NumRows())
		}
	})
}
