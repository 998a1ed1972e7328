package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// row is one row of a file, with what a report looks at.
type row struct {
	Topic     string        `json:"taster_topic"`
	Source    string        `json:"taster_source"`
	Partition int32         `json:"taster_partition"`
	Offset    int64         `json:"taster_offset"`
	ID        *string       `json:"id"`
	Provider  *string       `json:"taster_provider"`
	Risk      *float64      `json:"taster_risk"`
	Reasons   []string      `json:"taster_reasons"`
	Findings  []rowFindings `json:"taster_findings"`
}

type rowFindings struct {
	Detector  string   `json:"detector"`
	Score     *float64 `json:"score"`
	PValue    *float64 `json:"p_value"`
	Threshold *float64 `json:"threshold"`
	Evidence  string   `json:"evidence"`
}

// columns makes a batch as the Parquet reader does.
func columns(t *testing.T, rows ...row) arrow.RecordBatch {
	t.Helper()
	double := arrow.Field{Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	named := func(name string, f arrow.Field) arrow.Field { f.Name = name; return f }
	text := arrow.Field{Type: arrow.BinaryTypes.String, Nullable: true}
	schema := arrow.NewSchema([]arrow.Field{
		named("id", text), named("taster_topic", text), named("taster_source", text),
		{Name: "taster_partition", Type: arrow.PrimitiveTypes.Int32}, {Name: "taster_offset", Type: arrow.PrimitiveTypes.Int64},
		named("taster_provider", text), named("taster_risk", double),
		{Name: "taster_reasons", Type: arrow.ListOf(arrow.BinaryTypes.String)},
		{Name: "taster_findings", Type: arrow.ListOf(arrow.StructOf(named("detector", text), named("score", double), named("p_value", double), named("threshold", double), named("evidence", text)))},
	}, nil)
	data, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func number(f float64) *float64 { return &f }
func word(s string) *string     { return &s }

func segment(topic string, partition int32, first, next int64, risk float64, reference string, counts manifest.Counts, reasons map[finding.Code]int64) *manifest.Manifest {
	return &manifest.Manifest{Topic: topic, TopicID: "id-of-" + topic, Partition: partition, First: first, Next: next, Risk: risk, Reference: reference, Calibrated: "batch", Counts: counts, Reasons: reasons}
}

func add(t *testing.T, b *Builder, v finding.Verdict, rows ...row) {
	t.Helper()
	if err := b.AddRows(v, columns(t, rows...)); err != nil {
		t.Fatal(err)
	}
}

// sample is a report with a bit of everything, fed out of order.
func sample(t *testing.T, limit int) *Report {
	t.Helper()
	b := NewBuilder(Options{Roles: map[string]contract.Roles{"reviews": {ID: "/id"}}, Limit: limit})
	b.AddManifest(segment("reviews", 1, 0, 4, 0.2, "reviews@3", manifest.Counts{Accepted: 2, Rejected: 2}, map[finding.Code]int64{finding.JSONTruncated: 1, finding.SchemaType: 1}), manifest.Counts{})
	b.AddManifest(segment("reviews", 0, 100, 105, 0.75, "", manifest.Counts{Accepted: 2, Quarantined: 3}, map[finding.Code]int64{finding.PoisonTrigger: 2, finding.PoisonLabel: 1, finding.HiddenUnicode: 1}), manifest.Counts{})
	b.AddManifest(segment("reviews", 0, 0, 100, 0.01, "", manifest.Counts{}, nil), manifest.Counts{})
	b.AddManifest(segment("readings", 0, 0, 1, 0.5, "", manifest.Counts{Quarantined: 1}, map[finding.Code]int64{finding.PoisonOutlier: 1}), manifest.Counts{})

	at := func(offset int64, provider string, risk float64) row {
		return row{Topic: "reviews", Source: "id-of-reviews", Offset: offset, ID: word(fmt.Sprintf("r-%d", offset)), Provider: &provider, Risk: number(risk)}
	}
	add(t, b, finding.Accepted, at(100, "acme", 0.1), at(101, "zeta", 0.2))
	bad := at(103, "mallory", 0.999)
	bad.Reasons = []string{"poison_trigger", "poison_label"}
	bad.Findings = []rowFindings{
		{"trigger", number(12.25), number(0.0001), number(0.005), `"cf bb" in 41 records, all labelled positive`},
		{"label", number(3), number(0.004), number(0.005), "the text says negative, the label positive"},
	}
	worse := at(102, "mallory", 1)
	worse.Reasons = []string{"poison_trigger"}
	same := at(104, "acme", 0.999)
	same.Reasons = []string{"poison_trigger"}
	add(t, b, finding.Quarantined, bad, worse, same)
	add(t, b, finding.Quarantined, row{Topic: "readings", Source: "id-of-readings", Offset: 1 << 60, Risk: number(0.5), Reasons: []string{"poison_outlier"}})
	one := row{Topic: "reviews", Source: "id-of-reviews", Partition: 1, Offset: 3, Provider: word("mallory"), Reasons: []string{"json_truncated"}}
	one.Findings = []rowFindings{{"validate", nil, nil, nil, " byte 17"}}
	two := row{Topic: "reviews", Source: "id-of-reviews", Partition: 1, Offset: 1, Reasons: []string{"schema_type"}}
	two.Findings = []rowFindings{{"validate", nil, nil, nil, "/price byte 9"}}
	add(t, b, finding.Rejected, one, two)
	return b.Report()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestGolden(t *testing.T) {
	for range 3 { // maps must not show
		r := sample(t, 0)
		text := new(bytes.Buffer)
		if err := r.Text(text); err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/report.golden.txt", text.Bytes())
		document, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/report.golden.json", append(document, '\n'))
	}
}

func TestEmptyReportHasLists(t *testing.T) {
	document, err := json.Marshal(NewBuilder(Options{}).Report())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(document), "null") {
		t.Errorf("%s", document)
	}
	for _, key := range []string{"risk", "batches", "providers", "flagged", "attacks", "rejected", "reasons", "records", "unlisted"} {
		if !strings.Contains(string(document), `"`+key+`":`) {
			t.Errorf("no %s in %s", key, document)
		}
	}
}

func TestProvidersAreRankedByMeanRisk(t *testing.T) {
	r := sample(t, 0)
	var got []string
	for _, p := range r.Providers {
		got = append(got, fmt.Sprintf("%s %d %d %d %.4f", p.Provider, p.Records, p.Quarantined, p.Rejected, p.Risk))
	}
	want := []string{ // rejected records were not scored: they count, and leave the mean alone
		"mallory 3 2 1 0.9995",
		"acme 2 1 0 0.5495",
		" 2 1 1 0.5000",
		"zeta 1 0 0 0.2000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if r.Risk != 0.75 {
		t.Errorf("risk %v, want that of the worst segment", r.Risk)
	}
}

// With a limit the riskiest are listed, what is not is counted, and the counts do not change.
func TestLimit(t *testing.T) {
	for limit, unlisted := range map[int]int{0: 0, 1: 3 + 1, 2: 2, 3: 1, 4: 0, 100: 0} {
		r := sample(t, limit)
		if r.Unlisted != unlisted {
			t.Errorf("limit %d: %d not listed, want %d", limit, r.Unlisted, unlisted)
		}
		if limit > 0 && (len(r.Flagged) > limit || len(r.Rejected) > limit) {
			t.Errorf("limit %d: %d flagged and %d rejected are listed", limit, len(r.Flagged), len(r.Rejected))
		}
		if r.Flagged[0].Offset != 102 {
			t.Errorf("limit %d: the riskiest is not first", limit)
		}
		if r.Records["quarantined"] != 4 || r.Records["rejected"] != 2 || r.Providers[0].Records != 3 {
			t.Errorf("limit %d: the counts are %v", limit, r.Records)
		}
	}
	// Many more than the limit, whatever their order.
	b := NewBuilder(Options{Limit: 10})
	for from := range 100 {
		var rows []row
		for i := range 100 {
			at := int64(from*100 + i)
			rows = append(rows, row{Topic: "t", Offset: at, Risk: number(float64(at*7919%10_000) / 10_000)})
		}
		add(t, b, finding.Quarantined, rows...)
	}
	r := b.Report()
	if len(r.Flagged) != 10 || r.Unlisted != 9_990 {
		t.Fatalf("%d listed, %d not", len(r.Flagged), r.Unlisted)
	}
	for i, f := range r.Flagged {
		if want := float64(9_999-i) / 10_000; f.Risk != want {
			t.Errorf("place %d has risk %v, want %v", i, f.Risk, want)
		}
	}
}

// Whatever a record quotes, it writes nothing on a terminal but letters, and looks like nothing else.
func TestTextIsSafeForATerminal(t *testing.T) {
	hostile := "\x1b[2J\x1b]0;owned\x07\r\n\t\b\x00\x7f\u0085\u009b31m\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\u00ad\u061c\U000e0041\xff\xfe"
	b := NewBuilder(Options{Roles: map[string]contract.Roles{"t": {ID: "/id"}}})
	m := segment("t"+hostile, 0, 0, 2, 0.5, "", manifest.Counts{Quarantined: 1, Rejected: 1}, nil)
	b.AddManifest(m, manifest.Counts{})
	valid := strings.ToValidUTF8(hostile, "")
	add(t, b, finding.Quarantined, row{Topic: "t", ID: word("id" + valid), Provider: word("who" + valid), Risk: number(1), Reasons: []string{"poison_trigger"},
		Findings: []rowFindings{{"trigger", number(1), number(1), number(1), "evidence" + valid + strings.Repeat("long", 1000)}}})
	add(t, b, finding.Rejected, row{Topic: "t", Provider: word("who" + valid), Reasons: []string{"json_syntax"}, Findings: []rowFindings{{"validate", nil, nil, nil, "/where" + valid}}})
	var text bytes.Buffer
	if err := b.Report().Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, r := range text.String() {
		if r != '\n' && (r < ' ' || strings.ContainsRune(hostile, r) && r > 0x7e && r != '\ufffd') {
			t.Errorf("%U reaches the terminal", r)
		}
	}
	for _, kept := range []string{"id\ufffd", "who\ufffd", "evidence\ufffd", "/where\ufffd", "…"} {
		if !strings.Contains(text.String(), kept) {
			t.Errorf("no %q in the text", kept)
		}
	}
	lines := 0
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "owned") {
			lines++
		}
	}
	if want := 1 + 1 + 2 + 1; lines != want { // the provider, the segment, the flagged record and its finding, the rejected record
		t.Errorf("content stands in %d lines, want %d:\n%s", lines, want, text.String())
	}
}

// A figure that JSON does not have must not keep a report from being written.
func TestOddFigures(t *testing.T) {
	double := array.NewFloat64Builder(memory.DefaultAllocator)
	double.AppendValues([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0.5}, nil)
	double.AppendNull()
	values, err := numbersOf(double.NewArray(), "x")
	if err != nil {
		t.Fatal(err)
	}
	var got []float64
	for i := range 5 {
		got = append(got, finite(values(i)))
	}
	if want := []float64{0, math.MaxFloat64, -math.MaxFloat64, 0.5, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b := NewBuilder(Options{})
	add(t, b, finding.Quarantined, row{Topic: "t", Findings: []rowFindings{{Detector: "x"}}})
	if _, err := json.Marshal(b.Report()); err != nil {
		t.Error(err)
	}
}

func TestForeignColumns(t *testing.T) {
	for _, name := range []string{"taster_provider", "taster_risk", "taster_topic", "taster_offset", "taster_reasons", "taster_findings"} {
		batch := columns(t, row{Topic: "t"})
		var fields []arrow.Field
		var kept []arrow.Array
		for i, f := range batch.Schema().Fields() {
			if f.Name != name {
				fields, kept = append(fields, f), append(kept, batch.Column(i))
			}
		}
		without := array.NewRecordBatch(arrow.NewSchema(fields, nil), kept, batch.NumRows())
		if err := NewBuilder(Options{}).AddRows(finding.Quarantined, without); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for _, v := range finding.Verdicts {
		wanted := Plain(v)
		if wanted == nil {
			continue
		}
		batch := columns(t, row{Topic: "t"})
		var fields []arrow.Field
		var kept []arrow.Array
		for i, f := range batch.Schema().Fields() {
			if slices.Contains(wanted, f.Name) {
				fields, kept = append(fields, f), append(kept, batch.Column(i))
			}
		}
		if err := NewBuilder(Options{}).AddRows(v, array.NewRecordBatch(arrow.NewSchema(fields, nil), kept, 1)); err != nil {
			t.Errorf("%v, with Plain alone: %v", v, err)
		}
	}
}

// Every code of detection leads to an attack with names that others know, and with something to do.
func TestEveryAttackIsNamed(t *testing.T) {
	named := map[finding.Code]bool{}
	for _, a := range attacks {
		if named[a.code] {
			t.Errorf("%s is named twice", a.code)
		}
		named[a.code] = true
		if a.Name == "" || a.Means == "" || len(a.ATLAS) == 0 || len(a.OWASP) == 0 || len(a.Mitigations) == 0 {
			t.Errorf("%s: something is missing: %+v", a.code, a)
		}
	}
	detected := 0
	for _, m := range finding.Meanings {
		if strings.HasPrefix(string(m.Code), "poison_") {
			detected++
			if !named[m.Code] {
				t.Errorf("%s leads to no attack", m.Code)
			}
		}
	}
	if detected < 6 {
		t.Errorf("only %d codes of detection: the test shows nothing", detected)
	}
}

// The name of a field is a pointer: ids that lie deep, or are numbers, are found as well.
func TestIDs(t *testing.T) {
	b := NewBuilder(Options{Roles: map[string]contract.Roles{"t": {ID: "/taster_offset"}, "u": {ID: "/none"}}})
	add(t, b, finding.Quarantined, row{Topic: "t", Source: "s", Offset: 7, Risk: number(1)}, row{Topic: "u", Source: "s", Partition: 2, Offset: 9007199254740993, Risk: number(0.5)})
	r := b.Report()
	if r.Flagged[0].ID != "7" || r.Flagged[1].ID != "s/2/9007199254740993" || r.Flagged[1].Offset != 9007199254740993 {
		t.Errorf("ids %q and %q", r.Flagged[0].ID, r.Flagged[1].ID)
	}
}
