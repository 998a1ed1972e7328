package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/reuse"
	"github.com/tasterhq/taster/schema/validate"
)

// checked is what bytes into checked columns cost, beside the same put together from what is at hand.
type checked struct {
	Name                  string
	Compiled              bool
	Bytes                 int     // of a record
	Ours, Portable, Naive float64 // nanoseconds of processor time per record; Portable is Ours without vector instructions
	Mallocs, NaiveMallocs float64 // allocations per record
}

// form is a schema with records of it.
type form struct {
	name, schema string
	vectors      []string
	records      [][]byte
}

// BenchmarkValidate sets one core's work of schema/validate beside encoding/json, jsonschema/v5 and Arrow's builders, in
// turns. The naive way takes repeated names, broken surrogates and invalid UTF-8, which taster's does not.
func BenchmarkValidate(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, f := range forms() {
		b.Run(f.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "schema.json")
			schema, err := f.compile(path)
			if err != nil {
				b.Fatal(err)
			}
			rules, err := jsonschema.Compile(path)
			if err != nil {
				b.Fatal(err)
			}
			c := checked{Name: f.name}
			c.Compiled = schema.Coverage() == nil
			decoder := schema.NewDecoder(&reuse.Shared)
			defer decoder.Release()
			for _, r := range f.records {
				c.Bytes += len(r)
			}
			c.Bytes /= len(f.records)
			ours := func() {
				if err := f.decode(decoder); err != nil {
					b.Fatal(err)
				}
			}
			naive := f.naive(b, schema, rules)
			ours() // and builders have grown
			naive()
			for b.Loop() {
				for range 5 {
					c.least(cost(ours, validated*len(f.records), validated), cost(naive, len(f.records), 1))
				}
			}
			j := job{Do: jobValidate, Topic: f.name, Label: jobValidate}
			r := start(b, j, "GODEBUG="+portable)
			<-r.ended
			if r.err != nil {
				b.Fatal(r.err)
			}
			c.Portable = (&line{Records: validated * len(f.records), outcome: r.outcome}).micros() * 1e3
			b.ReportMetric(c.Ours, "ns/record")
			b.ReportMetric(c.Portable, "portable-ns/record")
			b.ReportMetric(c.Naive, "naive-ns/record")
			b.ReportMetric(c.Naive/c.Ours, "x-naive")
			b.ReportMetric(0, "ns/op")
			table.checks = append(table.checks, c)
		})
	}
}

// least keeps the cheaper of what was measured: whatever else the machine does only adds to it.
func (c *checked) least(ours, naive line) {
	keep := func(ns, mallocs *float64, l line) {
		if v := l.micros() * 1e3; *ns == 0 || v < *ns {
			*ns, *mallocs = v, l.each(l.Mallocs)
		}
	}
	keep(&c.Ours, &c.Mallocs, ours)
	keep(&c.Naive, &c.NaiveMallocs, naive)
}

// cost measures work that is done so many times, on so many records in all.
func cost(work func(), records, times int) line {
	runtime.GC()
	m := &meter{}
	m.start()
	for range times {
		work()
	}
	m.stop()
	return line{Records: records, outcome: m.cost}
}

// validated is how often a form's records are decoded in one measurement: one decoding alone is short.
const validated = 16

// portable switches off, in a process of its own, what the vector instructions of schema/validate need beside others.
const portable = "cpu.bmi1=off"

// validate decodes a form's records on one core, and keeps the cheapest of several runs.
func (j job) validate(_ context.Context, m *meter) error {
	runtime.GOMAXPROCS(1)
	for _, f := range forms() {
		if f.name != j.Topic {
			continue
		}
		folder, err := os.MkdirTemp("", "taster-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		schema, err := f.compile(filepath.Join(folder, "schema.json"))
		if err != nil {
			return err
		}
		decoder := schema.NewDecoder(&reuse.Shared)
		defer decoder.Release()
		for range 10 {
			l := cost(func() { err = errors.Join(err, f.decode(decoder)) }, validated*len(f.records), validated)
			if m.cost.CPU == 0 || l.CPU < m.cost.CPU {
				m.cost = l.outcome
			}
		}
		return err
	}
	return fmt.Errorf("no form of records is called %q", j.Topic)
}

// compile writes the schema to a path and compiles it.
func (f form) compile(path string) (*validate.Schema, error) {
	if err := os.WriteFile(path, []byte(f.schema), 0o644); err != nil {
		return nil, err
	}
	schema, faults := validate.Compile(path, validate.Options{Vectors: f.vectors})
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return schema, nil
}

// decode puts all records into columns once, which are thrown away when they are as long as a batch.
func (f form) decode(decoder *validate.Decoder) error {
	for _, r := range f.records {
		if refusal := decoder.Append(r); refusal != nil {
			return fmt.Errorf("refused: %s", refusal.Code)
		}
		if decoder.Rows() == 4096 || decoder.Full() {
			decoder.Take().Release()
		}
	}
	return nil
}

func (f form) naive(b *testing.B, schema *validate.Schema, rules *jsonschema.Schema) func() {
	columns := plainColumns(schema)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	b.Cleanup(builder.Release)
	rows := 0
	return func() {
		for _, r := range f.records {
			decoder := json.NewDecoder(bytes.NewReader(r))
			decoder.UseNumber()
			var v any
			if err := decoder.Decode(&v); err != nil {
				b.Fatal(err)
			}
			if err := rules.Validate(v); err != nil {
				b.Fatal(err)
			}
			fields := v.(map[string]any)
			for c, field := range columns.Fields() {
				if err := appendAny(builder.Field(c), fields[field.Name]); err != nil {
					b.Fatal(err)
				}
			}
			if rows++; rows == 4096 {
				builder.NewRecordBatch().Release()
				rows = 0
			}
		}
	}
}

const flightSchema = `{"type":"object","additionalProperties":false,"required":["date","delay","distance","origin","destination"],"properties":{
"date":{"type":"string"},"delay":{"type":"integer"},"distance":{"type":"integer","minimum":0},
"origin":{"type":"string","minLength":3,"maxLength":3},"destination":{"type":"string","minLength":3,"maxLength":3}}}`

// threadSchema refers to itself.
const threadSchema = `{"type":"object","required":["id","author","text"],"properties":{
"id":{"type":"integer","minimum":0},"author":{"type":"string","minLength":1,"maxLength":40},"text":{"type":"string","maxLength":5000},
"score":{"type":"integer"},"replies":{"type":"array","items":{"$ref":"#"}}}}`

// placeSchema leaves a place of the record to jsonschema/v5, and wholeSchema every record, with keywords that nothing here is
// compiled for.
var (
	placeSchema = strings.Replace(`{"$schema":"http://json-schema.org/draft-07/schema#",`+threadSchema[1:], `{"$ref":"#"}`, `{"type":"object","required":["id","text"],"contentMediaType":"application/json","properties":{
"id":{"type":"integer"},"author":{"type":"string"},"text":{"type":"string"},"score":{"type":"integer"},"replies":{"type":"array"}}}`, 1)
	wholeSchema = strings.Replace(threadSchema, `{"$ref":"#"}`, `{"$dynamicRef":"#thread"}},"also":{"$dynamicAnchor":"thread","type":"object"`, 1)
)

// tweetSchema is wide and nested, with a type for every field, as the search of Twitter's first interface answered.
var tweetSchema = func() string {
	object := func(fields string) string {
		var names, properties []string
		for _, field := range strings.Fields(fields) {
			name, kind, _ := strings.Cut(field, "=")
			names = append(names, `"`+name+`"`)
			properties = append(properties, `"`+name+`":`+map[string]string{
				"s": `{"type":"string"}`, "i": `{"type":"integer"}`, "b": `{"type":"boolean"}`,
				"S": `{"type":["string","null"]}`, "I": `{"type":["integer","null"]}`, "N": `{"type":["number","null"]}`,
				"ii": `{"type":"array","items":{"type":"integer"}}`,
			}[kind])
		}
		return `"type":"object","required":[` + strings.Join(names, ",") + `],"properties":{` + strings.Join(properties, ",")
	}
	list := func(name, fields string) string {
		return `"` + name + `":{"type":"array","items":{` + object(fields) + `}}}`
	}
	return "{" + object(`created_at=s id=i id_str=s text=s source=s truncated=b in_reply_to_status_id=I in_reply_to_status_id_str=S in_reply_to_user_id=I
		in_reply_to_user_id_str=S in_reply_to_screen_name=S retweet_count=i favorite_count=i favorited=b retweeted=b lang=s longitude=N latitude=N`) +
		`,"metadata":{` + object(`result_type=s iso_language_code=s`) + `}}` +
		`,"user":{` + object(`id=i id_str=s name=s screen_name=s location=s description=s url=S protected=b followers_count=i friends_count=i listed_count=i created_at=s
		favourites_count=i utc_offset=I time_zone=S geo_enabled=b verified=b statuses_count=i lang=s contributors_enabled=b is_translator=b
		is_translation_enabled=b profile_background_color=s profile_background_image_url=s profile_background_image_url_https=s
		profile_background_tile=b profile_image_url=s profile_image_url_https=s profile_link_color=s profile_sidebar_border_color=s
		profile_sidebar_fill_color=s profile_text_color=s profile_use_background_image=b default_profile=b default_profile_image=b
		following=b follow_request_sent=b notifications=b`) + `}}` +
		`,"entities":{"type":"object","required":["hashtags","urls","user_mentions"],"properties":{` +
		list("hashtags", "text=s indices=ii") + "," + list("urls", "url=s expanded_url=s display_url=s indices=ii") + "," +
		list("user_mentions", "screen_name=s name=s id=i id_str=s indices=ii") + `}}}}`
}()

// forms makes some thousand records of each schema, always the same.
func forms() []form {
	g := rand.New(rand.NewPCG(1, 2))
	flights := form{name: "flights", schema: flightSchema}
	tweets := form{name: "tweets", schema: tweetSchema}
	threads := form{name: "threads", schema: threadSchema}
	airports := []string{"DTW", "LAS", "SFO", "OAK", "PHX", "JFK"}
	texts := slices.Collect(reviews(7, 1000))
	said := func() string { return string(bodyOf(texts[g.IntN(len(texts))])) }
	for range 1000 {
		flights.records = append(flights.records, fmt.Appendf(nil, `{"date":"2001/01/%02d %02d:%02d","delay":%d,"distance":%d,"origin":"%s","destination":"%s"}`,
			1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(120)-30, g.IntN(3000), airports[g.IntN(6)], airports[g.IntN(6)]))
		tweets.records = append(tweets.records, tweet(g, said))
		threads.records = append(threads.records, fmt.Appendf(nil, `{"id":%d,"author":"u%d","text":%s,"score":%d,"replies":[{"id":%d,"author":"u%d","text":%s,"replies":[]},{"id":%d,"author":"u%d","text":%s}]}`,
			g.IntN(1e6), g.IntN(1e4), said(), g.IntN(100)-20, g.IntN(1e6), g.IntN(1e4), said(), g.IntN(1e6), g.IntN(1e4), said()))
	}
	return []form{
		{"reviews", reviewSchema, nil, slices.Collect(reviews(3, 1000))}, flights,
		{"vectors of 384 floats", vectorSchema, []string{"/embedding"}, slices.Collect(vectors(3, 200))}, tweets, threads,
		{"threads, a place left", placeSchema, nil, threads.records}, {"threads, all left", wholeSchema, nil, threads.records},
	}
}

// tweet writes a message of about 2,300 bytes. The order of names is that of Twitter's, whatever the schema's.
func tweet(g *rand.Rand, said func() string) []byte {
	id, user := g.Int64N(1<<59), g.Int64N(1<<31)
	truth := func() bool { return g.IntN(4) == 0 }
	colour := func() int { return g.IntN(1 << 24) }
	t := fmt.Appendf(nil, `{"metadata":{"result_type":"recent","iso_language_code":"en"},"created_at":"Sun Aug 31 %02d:%02d:%02d +0000 2014","id":%d,"id_str":"%[4]d","text":%s,`+
		`"source":"<a href=\"http:\/\/twitter.com\/download\/iphone\" rel=\"nofollow\">Twitter for iPhone<\/a>","truncated":%t,`,
		g.IntN(24), g.IntN(60), g.IntN(60), id, said(), truth())
	if truth() {
		t = fmt.Appendf(t, `"in_reply_to_status_id":%d,"in_reply_to_status_id_str":"%[1]d","in_reply_to_user_id":%d,"in_reply_to_user_id_str":"%[2]d","in_reply_to_screen_name":"name%[2]d",`, id-100, user-1)
	} else {
		t = append(t, `"in_reply_to_status_id":null,"in_reply_to_status_id_str":null,"in_reply_to_user_id":null,"in_reply_to_user_id_str":null,"in_reply_to_screen_name":null,`...)
	}
	t = fmt.Appendf(t, `"user":{"id":%d,"id_str":"%[1]d","name":"Person %[1]d","screen_name":"name%[1]d","location":"","description":%s,"url":null,"protected":%t,`+
		`"followers_count":%d,"friends_count":%d,"listed_count":%d,"created_at":"Sat Feb 16 13:40:25 +0000 2013","favourites_count":%d,"utc_offset":%s,"time_zone":null,`,
		user, said(), truth(), g.IntN(9999), g.IntN(999), g.IntN(9), g.IntN(9999), []string{"null", "32400", "-18000"}[g.IntN(3)])
	t = fmt.Appendf(t, `"geo_enabled":%t,"verified":%t,"statuses_count":%d,"lang":"en","contributors_enabled":false,"is_translator":false,"is_translation_enabled":false,`+
		`"profile_background_color":"%06X","profile_background_image_url":"http://abs.twimg.com/images/themes/theme1/bg.png",`+
		`"profile_background_image_url_https":"https://abs.twimg.com/images/themes/theme1/bg.png","profile_background_tile":%t,`,
		truth(), truth(), g.IntN(99999), colour(), truth())
	t = fmt.Appendf(t, `"profile_image_url":"http://pbs.twimg.com/profile_images/%d/x_normal.jpeg","profile_image_url_https":"https://pbs.twimg.com/profile_images/%[1]d/x_normal.jpeg",`+
		`"profile_link_color":"%06X","profile_sidebar_border_color":"%06X","profile_sidebar_fill_color":"%06X","profile_text_color":"%06X","profile_use_background_image":true,`+
		`"default_profile":%t,"default_profile_image":false,"following":false,"follow_request_sent":false,"notifications":false},`,
		g.Int64N(1<<59), colour(), colour(), colour(), colour(), truth())
	place := `"longitude":null,"latitude":null,`
	if truth() {
		place = fmt.Sprintf(`"longitude":%.6f,"latitude":%.6f,`, g.Float64()*360-180, g.Float64()*180-90)
	}
	t = append(t, place...)
	t = fmt.Appendf(t, `"retweet_count":%d,"favorite_count":%d,"entities":{"hashtags":[`, g.IntN(1000), g.IntN(1000))
	for i := range g.IntN(3) {
		if i > 0 {
			t = append(t, ',')
		}
		t = fmt.Appendf(t, `{"text":"tag%d","indices":[%d,%d]}`, g.IntN(100), 10*i, 10*i+7)
	}
	t = append(t, `],"urls":[`...)
	for range g.IntN(2) {
		t = fmt.Appendf(t, `{"url":"http://t.co/x%d","expanded_url":"http://example.com/%[1]d","display_url":"example.com/%[1]d","indices":[40,62]}`, g.IntN(1e6))
	}
	t = append(t, `],"user_mentions":[`...)
	for range g.IntN(2) {
		t = fmt.Appendf(t, `{"screen_name":"name%d","name":"Person %[1]d","id":%[1]d,"id_str":"%[1]d","indices":[0,9]}`, g.Int64N(1<<31))
	}
	return fmt.Appendf(t, `]},"favorited":%t,"retweeted":%t,"lang":"en"}`, truth(), truth())
}
