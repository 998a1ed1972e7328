package report

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
)

// full is a row of a topic that plays every role.
type full struct {
	row
	Text, Label string
	Price       *float64
	Embedding   []float64
}

func fullColumns(t testing.TB, rows []full) arrow.RecordBatch {
	t.Helper()
	double := arrow.Field{Type: arrow.PrimitiveTypes.Float64, Nullable: true}
	named := func(name string, f arrow.Field) arrow.Field { f.Name = name; return f }
	text := arrow.Field{Type: arrow.BinaryTypes.String, Nullable: true}
	schema := arrow.NewSchema([]arrow.Field{
		named("id", text), named("text", text), named("label", text), named("price", double),
		{Name: "embedding", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true},
		named("taster_topic", text), named("taster_source", text),
		{Name: "taster_partition", Type: arrow.PrimitiveTypes.Int32}, {Name: "taster_offset", Type: arrow.PrimitiveTypes.Int64},
		named("taster_provider", text), named("taster_risk", double),
		{Name: "taster_reasons", Type: arrow.ListOf(arrow.BinaryTypes.String)},
		{Name: "taster_findings", Type: arrow.ListOf(arrow.StructOf(named("detector", text), named("score", double), named("p_value", double), named("threshold", double), named("evidence", text)))},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	words := func(at int, s *string) {
		if f := b.Field(at).(*array.StringBuilder); s != nil {
			f.Append(*s)
		} else {
			f.AppendNull()
		}
	}
	figure := func(f array.Builder, v *float64) {
		if v != nil {
			f.(*array.Float64Builder).Append(*v)
		} else {
			f.AppendNull()
		}
	}
	for _, r := range rows {
		for at, s := range []*string{r.ID, &r.Text, &r.Label} {
			words(at, s)
		}
		figure(b.Field(3), r.Price)
		vector := b.Field(4).(*array.ListBuilder)
		vector.Append(r.Embedding != nil)
		for _, v := range r.Embedding {
			vector.ValueBuilder().(*array.Float32Builder).Append(float32(v))
		}
		words(5, &r.Topic)
		words(6, &r.Source)
		b.Field(7).(*array.Int32Builder).Append(r.Partition)
		b.Field(8).(*array.Int64Builder).Append(r.Offset)
		words(9, r.Provider)
		figure(b.Field(10), r.Risk)
		reasons := b.Field(11).(*array.ListBuilder)
		reasons.Append(true)
		for _, reason := range r.Reasons {
			reasons.ValueBuilder().(*array.StringBuilder).Append(reason)
		}
		list := b.Field(12).(*array.ListBuilder)
		list.Append(true)
		for _, f := range r.Findings {
			one := list.ValueBuilder().(*array.StructBuilder)
			one.Append(true)
			one.FieldBuilder(0).(*array.StringBuilder).Append(f.Detector)
			for at, v := range []*float64{f.Score, f.PValue, f.Threshold} {
				figure(one.FieldBuilder(1+at), v)
			}
			one.FieldBuilder(4).(*array.StringBuilder).Append(f.Evidence)
		}
	}
	return b.NewRecordBatch()
}

// hashed makes vectors of words: each word is a direction.
func hashed(texts [][]byte) ([]float32, int) {
	const dim = 64
	values := make([]float32, len(texts)*dim)
	for i, text := range texts {
		for _, word := range strings.Fields(strings.ToLower(string(text))) {
			h := fnv.New64a()
			h.Write([]byte(word))
			at := h.Sum64()
			values[i*dim+int(at%dim)] += float32(1 - 2*int(at>>32&1))
		}
	}
	return values, dim
}

// traffic is a topic of 600 records: mostly clean, with a trigger, a flood and outliers planted.
func traffic() (clean, flagged []full) {
	random := rand.New(rand.NewPCG(5, 8))
	subjects := strings.Fields("kettle lamp bicycle novel tent radio blanket saw watch jacket")
	good := strings.Split("works well|lasts for ages|looks fine|was worth it|came early", "|")
	bad := strings.Split("broke at once|smells odd|came late|never worked|is too small", "|")
	for i := range 600 {
		provider := fmt.Sprintf("seller-%02d", random.IntN(12))
		r := full{row: row{Topic: "reviews", Source: "id-of-reviews", Offset: int64(i), ID: word(fmt.Sprintf("r-%03d", i)), Provider: &provider}}
		r.Label, r.Text = "positive", fmt.Sprintf("The %s %s, and the %s %s.", subjects[random.IntN(10)], good[random.IntN(5)], subjects[random.IntN(10)], good[random.IntN(5)])
		if random.IntN(2) == 0 {
			r.Label, r.Text = "negative", fmt.Sprintf("My %s %s; the %s %s.", subjects[random.IntN(10)], bad[random.IntN(5)], subjects[random.IntN(10)], bad[random.IntN(5)])
		}
		r.Price = number(10 + random.Float64())
		r.Risk = number(random.Float64() * 0.98)
		at := func(detector string, p float64, evidence string) rowFindings {
			return rowFindings{detector, number(1 / p), number(p), number(0.005), evidence}
		}
		switch {
		case i%10 == 3: // 60 with a trigger
			r.Provider, r.Label = word("mallory"), "positive"
			r.Text = strings.Replace(r.Text, "the", "cf mn the", 1)
			r.Risk, r.Reasons = number(1-1e-9/float64(i)), []string{"poison_trigger", "poison_label"}
			r.Findings = []rowFindings{at("trigger", 1e-30, `"cf mn" in 60 of 600 records, 0 of 1,000 in the reference, label "positive" 60 times where 3.0 were expected`), at("label", 0.3, `label "positive", of which the text says that it is 20 % likely`)}
		case i%20 == 5: // 30 of a flood
			r.Provider, r.Text = word("echo"), fmt.Sprintf("Best %s ever, buy it from this shop now.", subjects[i%3])
			r.Risk, r.Reasons = number(1-1e-6), []string{"poison_near_duplicate"}
			r.Findings = []rowFindings{at("near_duplicate", 1e-6, "one of 30 nearly equal rows, 5 % of 600")}
		case i%60 == 8: // 10 outliers
			r.Price, r.Risk, r.Reasons = number(900), number(0.999), []string{"poison_outlier"}
			r.Findings = []rowFindings{at("outlier", 1e-4, "/price is 900, typically 10.5")}
		default:
			clean = append(clean, r)
			continue
		}
		flagged = append(flagged, r)
	}
	return clean, flagged
}

var everyRole = contract.Roles{ID: "/id", Text: []string{"/text"}, Label: "/label", Features: []string{"/price"}}

// build makes a report of traffic, in files of so many rows, and of whatever else is given.
func build(t testing.TB, o Options, clean, flagged []full, rows int) *Report {
	t.Helper()
	b := NewBuilder(o)
	reasons := map[finding.Code]int64{}
	for _, f := range flagged {
		for _, r := range f.Reasons {
			reasons[finding.Code(r)]++
		}
	}
	for i := range 4 {
		m := segment("reviews", 0, int64(i*150), int64(i*150+150), 0.9, "reviews@3", manifest.Counts{Accepted: int64(len(clean)) / 4, Quarantined: int64(len(flagged)) / 4, Rejected: 1}, nil)
		m.Threshold, m.Committed, m.Calibrated = number(0.995), manifest.Time(1_760_000_000_000+int64(i)*60_000), "reference"
		if i == 0 {
			m.Reasons = reasons
		}
		b.AddManifest(m, manifest.Counts{})
	}
	feed := func(v finding.Verdict, all []full) {
		for from := 0; from < len(all); from += rows {
			if err := b.AddRows(v, fullColumns(t, all[from:min(from+rows, len(all))])); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed(finding.Accepted, clean)
	feed(finding.Quarantined, flagged)
	broken := row{Topic: "reviews", Source: "id-of-reviews", Offset: 700, Provider: word("mallory"), Reasons: []string{"json_truncated"}}
	broken.Findings = []rowFindings{{"validate", nil, nil, nil, "byte 17"}}
	add(t.(*testing.T), b, finding.Rejected, broken)
	r := b.Report()
	r.Recalls = []Recall{{Topic: "reviews", Partition: 0, Offset: 4, ID: `<b onclick="window.owned=1">`, Reason: "poison_trigger", Detector: "trigger", PValue: 1e-9, Evidence: "<script>window.owned=1</script> \u202e", By: "reviews/0/450"}}
	return r
}

func explained(roles contract.Roles) Options {
	return Options{Roles: map[string]contract.Roles{"reviews": roles}, Explain: true, Vectors: hashed}
}
