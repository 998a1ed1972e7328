package validate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// workload is a kind of record that benchmarks and allocation ceilings are measured on.
type workload struct {
	name    string
	schema  string
	vectors []string
	records [][]byte
}

const reviewSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "id": {"type": "string", "minLength": 1, "maxLength": 40},
    "seller": {"type": "string", "pattern": "^s-[0-9]+$"},
    "title": {"type": "string", "maxLength": 200},
    "body": {"type": "string", "maxLength": 5000},
    "label": {"type": "string", "enum": ["positive", "negative", "neutral"]},
    "price": {"type": "number", "minimum": 0, "exclusiveMaximum": 100000},
    "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    "verified": {"type": "boolean"},
    "country": {"type": ["string", "null"]}
  },
  "required": ["id", "seller", "body", "label", "stars"],
  "additionalProperties": false
}`

const flightSchema = `{
  "type": "object",
  "properties": {
    "date": {"type": "string"},
    "delay": {"type": "integer"},
    "distance": {"type": "integer", "minimum": 0},
    "origin": {"type": "string", "minLength": 3, "maxLength": 3},
    "destination": {"type": "string", "minLength": 3, "maxLength": 3}
  },
  "required": ["date", "delay", "distance", "origin", "destination"],
  "additionalProperties": false
}`

// orderSchema has conditions beside types, at three places.
const orderSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "id": {"type": "string"},
    "note": {"type": "string", "maxLength": 1000},
    "customer": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^c-[0-9]+$"}]},
    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
    "total": {"type": "number", "not": {"const": 0}},
    "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer"}}, "required": ["sku"]}}
  },
  "required": ["id", "customer"]
}`

// threadSchema refers to itself in a way that only jsonschema/v5 follows, which has to see every record.
const threadSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$dynamicAnchor": "post",
  "type": "object",
  "properties": {"id": {"type": "string"}, "text": {"type": "string"}, "reply": {"$dynamicRef": "#post"}},
  "required": ["id"]
}`

func embeddingSchema(dim int) string {
	return fmt.Sprintf(`{
  "type": "object",
  "properties": {
    "id": {"type": "string"},
    "text": {"type": "string"},
    "label": {"type": "integer", "minimum": 0, "maximum": 9},
    "embedding": {"type": "array", "items": {"type": "number"}, "minItems": %d, "maxItems": %d}
  },
  "required": ["id", "embedding"]
}`, dim, dim)
}

// workloads makes all of them from a seed.
func workloads() []workload {
	g := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the a great bad product battery lasted two weeks and then it died would buy again never " +
		"screen bright shipping slow box damaged perfect gift my daughter loves this one quality cheap sturdy works")
	text := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(words[g.IntN(len(words))])
			b.WriteByte(' ')
		}
		return b.String()[:n]
	}
	reviews := workload{name: "reviews", schema: reviewSchema}
	embeddings := workload{name: "embeddings", schema: embeddingSchema(384), vectors: []string{"/embedding"}}
	flights := workload{name: "flights", schema: flightSchema}
	for i := range 1000 {
		reviews.records = append(reviews.records, fmt.Appendf(nil,
			`{"id": "r-%08d", "seller": "s-%d", "title": "%s", "body": "%s", "label": "%s", "price": %.2f, "stars": %d, "verified": %t, "country": %s}`,
			i, g.IntN(1000), text(20), text(100+g.IntN(60)), []string{"positive", "negative", "neutral"}[g.IntN(3)],
			g.Float64()*500, 1+g.IntN(5), g.IntN(2) == 0, []string{`"DE"`, `"US"`, "null"}[g.IntN(3)]))
		var vector []byte
		for k := range 384 {
			if k > 0 {
				vector = append(vector, ',')
			}
			vector = fmt.Appendf(vector, "%.7g", g.NormFloat64()*0.05)
		}
		embeddings.records = append(embeddings.records, fmt.Appendf(nil,
			`{"id":"e-%d","text":"%s","label":%d,"embedding":[%s]}`, i, text(60), g.IntN(10), vector))
		airports := []string{"DTW", "LAS", "SFO", "OAK", "PHX", "JFK"}
		flights.records = append(flights.records, fmt.Appendf(nil,
			`{"date":"2001/01/%02d %02d:%02d","delay":%d,"distance":%d,"origin":"%s","destination":"%s"}`,
			1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(120)-30, g.IntN(3000), airports[g.IntN(6)], airports[g.IntN(6)]))
	}
	orders := workload{name: "orders", schema: orderSchema}
	for i := range 1000 {
		customer := []string{`17`, `"c-23"`}[g.IntN(2)]
		orders.records = append(orders.records, fmt.Appendf(nil,
			`{"id":"o-%d","note":"%s","customer":%s,"tags":["%s","%s "],"total":%.2f,"lines":[{"sku":"a-%d","count":%d},{"sku":"b-%[7]d"}]}`,
			i, text(120), customer, text(5), text(7), 1+g.Float64()*90, g.IntN(1000), 1+g.IntN(9)))
	}
	return []workload{reviews, embeddings, flights, orders, {name: "tweets", schema: tweetSchema, records: tweets(300)}}
}

// threads are records that no plan checks whole, and so no pass reads.
func threads() workload {
	w := workload{name: "threads", schema: threadSchema}
	for _, review := range workloads()[0].records {
		text := bytes.SplitN(review, []byte(`"body": "`), 2)[1]
		text, _, _ = bytes.Cut(text, []byte(`"`))
		w.records = append(w.records, fmt.Appendf(nil, `{"id":"t","text":"%s","reply":{"id":"u","text":"%[1]s"}}`, text))
	}
	return w
}

// perRecord reports a benchmark in the unit that matters here.
func perRecord(b *testing.B, records [][]byte) {
	var size int
	for _, r := range records {
		size += len(r)
	}
	size /= len(records)
	b.SetBytes(int64(size))
	b.ReportMetric(float64(size), "B/record")
	b.ReportAllocs()
}

// BenchmarkAppend is bytes to checked columns, batches of 8,192 rows; one op is one record. It is measured with every
// kind of vector instructions that there is, and by way of the tape, which is how records are read that the pass leaves.
func BenchmarkAppend(b *testing.B) {
	for _, w := range append(workloads(), threads()) {
		s := compileText(b, w.schema, Options{Vectors: w.vectors})
		for _, with := range append(slices.Clone(levels), nil) {
			d := s.NewDecoder(memory.DefaultAllocator)
			name := "tape"
			if d.pass == nil && with != nil {
				continue
			} else if with == nil {
				d.pass = nil
			} else {
				name, d.pass.with = with.name, with
			}
			b.Run(w.name+"/"+name, func(b *testing.B) {
				perRecord(b, w.records)
				for i := 0; b.Loop(); i++ {
					if r := d.Append(w.records[i%len(w.records)]); r != nil {
						b.Fatal(r)
					}
					if d.Rows() == 8192 {
						d.Take().Release()
					}
				}
			})
		}
	}
}

// BenchmarkParse is the tape alone.
func BenchmarkParse(b *testing.B) {
	for _, w := range workloads() {
		b.Run(w.name, func(b *testing.B) {
			s := compileText(b, w.schema, Options{})
			d := s.newChecker()
			perRecord(b, w.records)
			for i := 0; b.Loop(); i++ {
				if r := d.parse(w.records[i%len(w.records)]); r != nil {
					b.Fatal(r)
				}
			}
		})
	}
}

// BenchmarkNaive is the same work put together from what is at hand: encoding/json, jsonschema/v5, RecordBuilder. It
// takes repeated names, broken surrogates and invalid UTF-8, which Append does not.
func BenchmarkNaive(b *testing.B) {
	for _, w := range append(workloads(), threads()) {
		b.Run(w.name, func(b *testing.B) {
			rules := jsonschema.MustCompileString("naive.json", w.schema)
			s := compileText(b, w.schema, Options{Vectors: w.vectors})
			builder := array.NewRecordBuilder(memory.DefaultAllocator, s.Columns())
			defer builder.Release()
			perRecord(b, w.records)
			for i := 0; b.Loop(); i++ {
				decoder := json.NewDecoder(bytes.NewReader(w.records[i%len(w.records)]))
				decoder.UseNumber()
				var v any
				if err := decoder.Decode(&v); err != nil {
					b.Fatal(err)
				}
				if err := rules.Validate(v); err != nil {
					b.Fatal(err)
				}
				appendMap(builder, v.(map[string]any))
				if i%8192 == 8191 {
					builder.NewRecordBatch().Release()
				}
			}
		})
	}
}

func appendMap(b *array.RecordBuilder, v map[string]any) {
	for k, f := range b.Schema().Fields() {
		appendValue(b.Field(k), v[f.Name])
	}
}

func appendValue(b array.Builder, value any) {
	if value == nil {
		b.AppendNull()
		return
	}
	switch column := b.(type) {
	case *array.StringBuilder:
		if text, ok := value.(string); ok {
			column.Append(text)
			return
		}
		text, _ := json.Marshal(value)
		column.Append(string(text))
	case *array.Int64Builder:
		n, _ := value.(json.Number).Int64()
		column.Append(n)
	case *array.Float64Builder:
		n, _ := value.(json.Number).Float64()
		column.Append(n)
	case *array.Float32Builder:
		n, _ := value.(json.Number).Float64()
		column.Append(float32(n))
	case *array.BooleanBuilder:
		column.Append(value.(bool))
	case *array.ListBuilder:
		column.Append(true)
		for _, item := range value.([]any) {
			appendValue(column.ValueBuilder(), item)
		}
	case *array.StructBuilder:
		column.Append(true)
		members := value.(map[string]any)
		for k, f := range column.Type().(*arrow.StructType).Fields() {
			appendValue(column.FieldBuilder(k), members[f.Name])
		}
	}
}
