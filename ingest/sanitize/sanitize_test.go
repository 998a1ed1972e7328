package sanitize

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/validate"
)

func rules(pii map[string]contract.Action, unicode contract.Action) *Sanitizer {
	return New(&contract.Contract{Sanitize: contract.Sanitize{PII: pii, Unicode: unicode}})
}

var redactAll = map[string]contract.Action{"default": contract.Redact}

func one(s *Sanitizer, text string) (string, Outcome) {
	var out Outcome
	got := s.rules([]byte(text), look([]byte(text))&s.filter, &out)
	return string(got), out
}

func TestPersonalData(t *testing.T) {
	s := rules(redactAll, "")
	for _, c := range []struct{ in, want string }{
		{"write to ann.lee+shop@mail.example.co.uk.", "write to [EMAIL_ADDRESS]."},
		{"a@b.de", "[EMAIL_ADDRESS]"},
		{"<a@b.de>,<c@d.fr>", "<[EMAIL_ADDRESS]>,<[EMAIL_ADDRESS]>"},
		{"mailto:bob@example.com?subject=x", "mailto:[EMAIL_ADDRESS]?subject=x"},
		{"'bob@example.com'", "'[EMAIL_ADDRESS]'"},
		{"jörg@müller.de", "[EMAIL_ADDRESS]"},
		{"дима@пример.рф и всё", "[EMAIL_ADDRESS] и всё"},
		{"wait...bob@example.com", "wait...[EMAIL_ADDRESS]"},
		{"bob@example.com.", "[EMAIL_ADDRESS]."},
		{"bob@example.com-", "[EMAIL_ADDRESS]-"},
		{"bob@localhost", "bob@localhost"},
		{"@bob and bob@ and @", "@bob and bob@ and @"},
		{"icon@2x.png", "icon@2x.png"},
		{"left-pad@1.3.0", "left-pad@1.3.0"},
		{"at 5 @ shop.example.com", "at 5 @ shop.example.com"},
		{"bo\u200bb@exa\u00admple.com", "[EMAIL_ADDRESS]"},
		{"card 4111 1111 1111 1111, thanks", "card [CREDIT_CARD], thanks"},
		{"4111-1111-1111-1111", "[CREDIT_CARD]"},
		{"4111111111111111.", "[CREDIT_CARD]."},
		{"no.4111111111111111", "no.[CREDIT_CARD]"},
		{"amex 3782 822463 10005 exp 12/29", "amex [CREDIT_CARD] exp 12/29"},
		{"diners 3056 930902 5904", "diners [CREDIT_CARD]"},
		{"4111 1111 1111 1111 123", "[CREDIT_CARD] 123"},
		{"4111\u200b111111111111", "[CREDIT_CARD]"},
		{"4111111111111112", "4111111111111112"},                                         // check digit
		{"1234567812345670", "1234567812345670"},                                         // no issuer
		{"0.4111111111111111", "0.4111111111111111"},                                     // a fraction
		{"41111111111111110", "41111111111111110"},                                       // no such length
		{"x4111111111111111", "x4111111111111111"},                                       // part of a word
		{"550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"}, // a UUID
		{"4111 1111-1111 1111", "4111 1111-1111 1111"},                                   // mixed separators
		{"1719273600000", "1719273600000"},                                               // milliseconds
		{"mail a@b.de or pay by 4111111111111111", "mail [EMAIL_ADDRESS] or pay by [CREDIT_CARD]"},
	} {
		got, _ := one(s, c.in)
		if got != c.want {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
		if got, _ := one(s, strings.Repeat("filler text, nothing in it. ", 3)+c.in); !strings.HasSuffix(got, c.want) && !strings.HasPrefix(c.in, "x") {
			t.Errorf("behind other text %q became %q, want %q", c.in, got, c.want)
		}
	}
}

func TestHiddenCharacters(t *testing.T) {
	s := rules(nil, contract.Clean)
	for _, c := range []struct {
		name, in, want string
	}{
		{"plain", "nothing – to “see” here, naïve café 東京", "nothing – to “see” here, naïve café 東京"},
		{"zero-width space", "pass\u200bword", "password"},
		{"soft hyphen", "ig\u00adnore", "ignore"},
		{"byte order mark inside", "a\ufeffb", "ab"},
		{"word joiner", "a\u2060b", "ab"},
		{"bidi override", "user\u202e \u2066// admin\u2069 \u2066", "user // admin "},
		{"backspace and delete", "gooo\bd\x7f", "goood"},
		{"line feed and tab stay", "a\n\tb\r\n", "a\n\tb\r\n"},
		{"hidden text in tags", "hi\U000E0049\U000E0067\U000E006E\U000E006F", "hi"},
		{"tags behind another flag", "\U0001F3F4\U000E0075\U000E0073\U000E0074\U000E0078\U000E007F", "\U0001F3F4"},
		{"flag of Scotland", "\U0001F3F4\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F!", "\U0001F3F4\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F!"},
		{"bytes in variation selectors", "a\U000E0131\U000E0142\ufe01", "a"},
		{"stacked selectors on a picture", "❤\ufe0f\ufe0f\ufe0f", "❤\ufe0f"},
		{"family", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F468\u200d\U0001F469\u200d\U0001F467"},
		{"health worker, skin tone", "\U0001F469\U0001F3FD\u200d⚕\ufe0f", "\U0001F469\U0001F3FD\u200d⚕\ufe0f"},
		{"rainbow flag", "\U0001F3F3\ufe0f\u200d\U0001F308", "\U0001F3F3\ufe0f\u200d\U0001F308"},
		{"keycap", "1\ufe0f\u20e3", "1\ufe0f\u20e3"},
		{"joiner between letters", "cl\u200dean", "clean"},
		{"Persian", "می\u200cخواهم", "می\u200cخواهم"},
		{"Hindi", "क्\u200dष", "क्\u200dष"},
		{"many joiners in Persian", "می\u200c\u200c\u200cخواهم", "می\u200cخواهم"},
		{"non-joiner in Latin", "Auf\u200clage", "Auflage"},
		{"Khmer", "ខ្ញុំ\u200bស្រលាញ់", "ខ្ញុំ\u200bស្រលាញ់"},
		{"marks in Hebrew", "שלום\u200f!", "שלום\u200f!"},
		{"marks in English", "ab\u200ec", "abc"},
		{"ideograph with variation", "葛\U000E0100城", "葛\U000E0100城"},
		{"filler", "a\u3164b\uffa0", "ab"},
		{"escape sequence", "\x1b[31mred", "[31mred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, out := one(s, c.in)
			if got != c.want {
				t.Errorf("%+q, want %+q", got, c.want)
			}
			if (out.Hidden > 0) != (c.in != c.want) {
				t.Errorf("counted %d", out.Hidden)
			}
		})
	}
}

// TestFilterMissesNothing compares the filter with a plain reading, at every length and position around a word.
func TestFilterMissesNothing(t *testing.T) {
	needles := map[string]uint8{
		"@": hasAt, "é": hasHigh, "\x00": hasControl, "\x1f": hasControl, "\x7f": hasControl,
		"4111 1111 1111 1111": hasDigits, "501864667909": hasDigits, "3782-822463-10005": hasDigits,
	}
	for needle, want := range needles {
		for before := range 20 {
			for after := range 20 {
				text := strings.Repeat("a", before) + needle + strings.Repeat("\n", after)
				if got := look([]byte(text)); got&want == 0 {
					t.Fatalf("missed %+q after %d bytes and before %d", needle, before, after)
				}
			}
		}
	}
	for _, text := range []string{"", "a", "a\n", "plain text with a few digits, 12.50 in 2024\r\n\tand more of it", strings.Repeat("word ", 99)} {
		if got := look([]byte(text)); got != 0 {
			t.Errorf("saw %b in %q", got, text)
		}
	}
}

func TestActions(t *testing.T) {
	t.Run("reject", func(t *testing.T) {
		got, out := one(rules(map[string]contract.Action{"EMAIL_ADDRESS": contract.Reject}, ""), "a@b.de 4111111111111111")
		if out.Refuse != finding.PIIRejected || got != "a@b.de 4111111111111111" {
			t.Errorf("%q, %+v", got, out)
		}
	})
	t.Run("keep one, redact the rest", func(t *testing.T) {
		got, out := one(rules(map[string]contract.Action{"default": contract.Redact, "EMAIL_ADDRESS": contract.Keep}, ""), "a@b.de 4111111111111111")
		if got != "a@b.de [CREDIT_CARD]" || out.Kept != 1 || out.Redacted != 1 {
			t.Errorf("%q, %+v", got, out)
		}
	})
	t.Run("nothing named", func(t *testing.T) {
		got, out := one(rules(nil, contract.Keep), "a@b.de \u200b")
		if got != "a@b.de \u200b" || out != (Outcome{}) {
			t.Errorf("%q, %+v", got, out)
		}
	})
	t.Run("unicode", func(t *testing.T) {
		if _, out := one(rules(nil, contract.Reject), "a\u200bb"); out.Refuse != finding.HiddenUnicode {
			t.Errorf("reject: %+v", out)
		}
		if got, out := one(rules(nil, contract.Quarantine), "a\u200bb"); !out.Suspect || got != "ab" {
			t.Errorf("quarantine: %q, %+v", got, out)
		}
	})
}

// nested is a batch with a string in every kind of place.
func nested(t *testing.T, rows ...string) arrow.RecordBatch {
	t.Helper()
	asJSON := arrow.NewMetadata([]string{validate.MetaJSON}, []string{"true"})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "who", Type: arrow.StructOf(
			arrow.Field{Name: "a/b", Type: arrow.BinaryTypes.String, Nullable: true},
			arrow.Field{Name: "age", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		), Nullable: true},
		{Name: "lines", Type: arrow.ListOf(arrow.StructOf(
			arrow.Field{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true})), Nullable: true},
		{Name: "free", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: asJSON},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func lines(t *testing.T, rec arrow.RecordBatch) []string {
	t.Helper()
	data, err := rec.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, string(r))
	}
	return out
}

func TestEveryPlaceAStringCanStandIn(t *testing.T) {
	in := []string{
		`{"n":1,"text":"clean","tags":["x","y"],"who":{"a/b":"z","age":3},"lines":[{"note":"q"}],"free":"{}"}`,
		`{"n":2,"text":"a@b.de","tags":[],"who":null,"lines":[],"free":"1"}`,
		`{"n":3,"text":null,"tags":["x","to c@d.fr",null],"who":{"a/b":"e@f.io","age":null},"lines":null,"free":null}`,
		`{"n":4,"text":"z","tags":null,"who":{"a/b":null,"age":5},"lines":[{"note":"w"},null,{"note":"g@h.jp and i@j.kr"}],"free":"[\"k@l.cn\", {\"k@l.cn\": 1, \"\\u006b@l.cn\": [\"4\\u200b2\"]}]"}`,
	}
	want := []string{
		in[0],
		`{"n":2,"text":"[EMAIL_ADDRESS]","tags":[],"who":null,"lines":[],"free":"1"}`,
		`{"n":3,"text":null,"tags":["x","to [EMAIL_ADDRESS]",null],"who":{"a/b":"[EMAIL_ADDRESS]","age":null},"lines":null,"free":null}`,
		`{"n":4,"text":"z","tags":null,"who":{"a/b":null,"age":5},"lines":[{"note":"w"},null,{"note":"[EMAIL_ADDRESS] and [EMAIL_ADDRESS]"}],"free":"[\"[EMAIL_ADDRESS]\", {\"[EMAIL_ADDRESS] 1\": 1, \"[EMAIL_ADDRESS] 2\": [\"42\"]}]"}`,
	}
	check := func(t *testing.T, rec arrow.RecordBatch, want []string) []Outcome {
		t.Helper()
		got, found := rules(redactAll, "").Apply(rec)
		defer got.Release()
		normal := func(s string) any {
			var v any
			if err := json.Unmarshal([]byte(s), &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
		for i, line := range lines(t, got) {
			a, _ := json.Marshal(normal(line))
			b, _ := json.Marshal(normal(want[i]))
			if string(a) != string(b) {
				t.Errorf("row %d is\n%s, want\n%s", i, a, b)
			}
		}
		return found
	}
	found := slices.Clone(check(t, nested(t, in...), want))
	wantFound := []Outcome{
		{Row: 1, Field: "/text", Redacted: 1},
		{Row: 2, Field: "/tags", Redacted: 2},
		{Row: 3, Field: "/lines/note", Redacted: 5, Hidden: 1},
	}
	if !slices.Equal(found, wantFound) {
		t.Errorf("found %+v, want %+v", found, wantFound)
	}
	t.Run("slice", func(t *testing.T) {
		all := nested(t, in...)
		defer all.Release()
		for _, o := range check(t, all.NewSlice(2, 4), want[2:]) {
			if o.Row > 1 {
				t.Errorf("row %d of a slice of two", o.Row)
			}
		}
		check(t, all.NewSlice(0, 2), want[:2])
		check(t, all.NewSlice(1, 1), nil)
	})
}

func TestCleanColumnsAreTheSameColumns(t *testing.T) {
	rec := nested(t,
		`{"n":1,"text":"clean, \"100 %\"","tags":["x"],"who":{"a/b":"z","age":3},"lines":[{"note":"q"}],"free":"{\"a\": \"1\"}"}`,
		`{"n":2,"text":"a@b.de","tags":["é"],"who":null,"lines":[],"free":"{\"\\u00e9\": 1}"}`)
	rec.Retain()
	defer rec.Release()
	got, _ := rules(redactAll, "").Apply(rec)
	defer got.Release()
	for i, f := range rec.Schema().Fields() {
		same := rec.Column(i) == got.Column(i)
		if want := f.Name != "text"; same != want {
			t.Errorf("column %s is the same one: %v, want %v", f.Name, same, want)
		}
	}
}

// A batch in which nothing is found costs no allocation for a row.
func TestNothingFoundAllocatesNothing(t *testing.T) {
	const rows = 4000
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i := range rows {
		b.Append("Bought in 2023 for 49.90, the lid closes well, – " + strings.Repeat("x", i%50))
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "body", Type: arrow.BinaryTypes.String}}, nil)
	rec := array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, rows)
	defer rec.Release()
	s := rules(redactAll, contract.Clean)
	s.Apply(rec) // which makes its scratch
	if n := testing.AllocsPerRun(10, func() {
		if _, found := s.Apply(rec); len(found) > 0 {
			t.Errorf("%d rows hold something", len(found))
		}
	}); n > 20 {
		t.Errorf("%v allocations for %d rows", n, rows)
	}
}

func BenchmarkApplyNothingFound(b *testing.B) {
	const rows = 2000
	text := array.NewStringBuilder(memory.DefaultAllocator)
	short := array.NewStringBuilder(memory.DefaultAllocator)
	body := "I bought this in 2023 for 49.90 and used it every day.\nThe handle is sturdy, the lid closes well, and after 14 months nothing rattles. "
	for range rows {
		text.Append(body + body + "Would buy it again, and have told my neighbours so.")
		short.Append("seller-0042")
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "body", Type: arrow.BinaryTypes.String}, {Name: "seller", Type: arrow.BinaryTypes.String},
		{Name: "title", Type: arrow.BinaryTypes.String}}, nil)
	sellers := short.NewArray()
	rec := array.NewRecordBatch(schema, []arrow.Array{text.NewArray(), sellers, sellers}, rows)
	s := rules(redactAll, contract.Clean)
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(rec)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/record")
}
