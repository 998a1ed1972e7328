package validate

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// twins reads records twice: with the pass, and with the tape alone.
type twins struct {
	t                testing.TB
	what             string
	fast, slow       *Decoder
	accepted, passed int
	last             [][]byte // records since the columns were compared
}

func newTwins(t testing.TB, what string, s *Schema) *twins {
	w := &twins{t: t, what: what, fast: s.NewDecoder(&stained{}), slow: s.NewDecoder(memory.DefaultAllocator)}
	w.slow.pass = nil
	if w.fast.pass == nil {
		t.Fatalf("%s: the schema has no program", what)
	}
	return w
}

// append reads one record, and compares what is said of it.
func (w *twins) append(record []byte) {
	w.t.Helper()
	// Never give the pass a rest: here it is not its speed that counts.
	w.fast.pass.misses, w.fast.pass.idle = 0, 0
	var got *Refusal
	if w.fast.pass.read(record) {
		w.fast.rows++
		w.fast.used += len(record) + len(w.fast.extra)
		w.passed++
	} else {
		got = w.fast.append(record)
	}
	want := w.slow.append(record)
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		w.t.Fatalf("%s: %q: got %v, the tape says %v", w.what, record, got, want)
	}
	if want == nil {
		w.accepted++
	}
	w.last = append(w.last, record)
	if len(w.last) == 500 {
		w.compare()
	}
}

// compare takes the columns of both, which must be equal.
func (w *twins) compare() {
	w.t.Helper()
	got, want := w.fast.Take(), w.slow.Take()
	defer got.Release()
	defer want.Release()
	for k, column := range want.Columns() {
		if err := wellFormed(got.Column(k)); err != nil {
			w.t.Fatalf("%s: column %s: %v", w.what, want.ColumnName(k), err)
		}
		if !array.Equal(got.Column(k), column) {
			w.t.Fatalf("%s: column %s: got %v, want %v, from\n%s", w.what, want.ColumnName(k), got.Column(k), column,
				bytes.Join(w.last, []byte("\n")))
		}
	}
	w.last = w.last[:0]
}

// end compares what is left, and holds the pass to have read a share of what was accepted: it is what is tested here.
func (w *twins) end(share float64) {
	w.t.Helper()
	w.compare()
	if float64(w.passed) < share*float64(w.accepted) {
		w.t.Errorf("%s: the pass read %d of %d records", w.what, w.passed, w.accepted)
	}
	w.fast.Release()
	w.slow.Release()
}

// mutate makes a record that is like another one, most often broken, sometimes only written differently.
func mutate(g *rand.Rand, record []byte) []byte {
	out := bytes.Clone(record)
	for range 1 + g.IntN(2) {
		if len(out) == 0 {
			return out
		}
		at := g.IntN(len(out))
		switch g.IntN(9) {
		case 0: // a byte
			out[at] = byte(g.IntN(256))
		case 1: // a byte that matters to JSON
			out[at] = "\"\\{}[]:,0123456789.eE+-tfn \t\n\x00u"[g.IntN(31)]
		case 2: // the end is missing
			out = out[:at]
		case 3: // something more
			more := []string{
				" ", "\t", "\n  ", ",", "0", "00", ".0", "e1", "e-06", "-", "\"", "\\", "\\u00e9", "\\ud83d\\ude00",
				"\\ud83d", "\\n", "\\\"", "é", "日本", "😀", "\xff", "\xed\xa0\x80", "\xc0\x80", "null", "true", "[", "]",
				"{", "}", "{}", `"":1,`, `"id":1,`, `"x":{"y":[1,{"y":2,"y":3}]},`, `,"z":null`, "1e400", "9223372036854775808",
			}
			out = append(out[:at:at], append([]byte(more[g.IntN(len(more))]), out[at:]...)...)
		case 4: // something less
			to := min(len(out), at+1+g.IntN(8))
			out = append(out[:at:at], out[to:]...)
		case 5: // a piece twice
			to := min(len(out), at+1+g.IntN(30))
			out = append(out[:to:to], out[at:]...)
		case 6: // members change places, where no comma stands in a string
			members := bytes.Split(out[1:max(1, len(out)-1)], []byte(","))
			g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			out = append(append([]byte{'{'}, bytes.Join(members, []byte(","))...), '}')
		case 7: // a member is missing
			members := bytes.Split(out[1:max(1, len(out)-1)], []byte(","))
			k := g.IntN(len(members))
			members = append(members[:k:k], members[k+1:]...)
			out = append(append([]byte{'{'}, bytes.Join(members, []byte(","))...), '}')
		case 8: // a letter as an escape
			if c := out[at]; c >= 'a' && c <= 'z' {
				out = append(out[:at:at], append(fmt.Appendf(nil, "\\u%04x", c), out[at+1:]...)...)
			}
		}
	}
	return out
}

// rounds is how often each record is mutated.
func rounds() int {
	if testing.Short() {
		return 2
	}
	return 8
}

// TestPass holds the pass to say and to store what the tape does, of good records and of broken ones.
func TestPass(t *testing.T) {
	g := rand.New(rand.NewPCG(5, 6))
	for _, w := range workloads() {
		s := compileText(t, w.schema, Options{Vectors: w.vectors})
		for _, with := range levels {
			good, bad := newTwins(t, w.name+", "+with.name, s), newTwins(t, w.name+" mutated, "+with.name, s)
			good.fast.pass.with, bad.fast.pass.with = with, with
			for k, record := range w.records {
				if testing.Short() && k%5 > 0 {
					continue
				}
				good.append(record)
				for range rounds() {
					bad.append(mutate(g, record))
				}
			}
			good.end(1)
			bad.end(0.6)
		}
	}
}

// TestPassOfRealRecords does so with ordinary traffic, flat and nested.
func TestPassOfRealRecords(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with events in it")
	}
	g := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct{ file, schema string }{{"flights.jsonl", flightSchema}, {"tweets.jsonl", tweetSchema}} {
		src, err := os.Open(filepath.Join(data, "events", c.file))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		s := compileText(t, c.schema, Options{})
		good, bad := newTwins(t, c.file, s), newTwins(t, c.file+" mutated", s)
		lines := bufio.NewScanner(src)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			record := bytes.Clone(lines.Bytes())
			good.append(record)
			for range rounds() {
				bad.append(mutate(g, record))
			}
		}
		good.end(1)
		bad.end(0.6)
	}
}

// TestPassRests sends records that the pass leaves, and then others: it is given a rest and tried again, and nobody
// else notices.
func TestPassRests(t *testing.T) {
	s := compileText(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`, Options{})
	d := s.NewDecoder(memory.DefaultAllocator)
	defer d.Release()
	rested := 0
	for k := range 2000 {
		record := []byte(`{"a":1}`)
		if k < 1000 {
			record = []byte(`{"\u0061":1}`)
		}
		if d.pass.idle > 0 {
			rested++
		}
		if r := d.Append(record); r != nil {
			t.Fatal(r)
		}
	}
	if rested < 900 || rested > 1300 || d.pass.idle > 0 || d.Rows() != 2000 {
		t.Errorf("rested for %d of 2000 records, %d more to go; %d rows", rested, d.pass.idle, d.Rows())
	}
	batch := d.Take()
	defer batch.Release()
	for k, v := range batch.Column(0).(*array.Int64).Int64Values() {
		if v != 1 {
			t.Fatalf("row %d: %d", k, v)
		}
	}
}

// TestPassOddities compares records that are meant to be slow, or stand for what is rare.
func TestPassOddities(t *testing.T) {
	s := compileText(t, `{"type":"object","properties":{
		"a":{"type":"integer"}, "n":{"type":"number","minimum":0.5,"multipleOf":0.25}, "any":{}, "both":{"type":["string","integer"]},
		"on":{"const":true}, "map":{"type":"object","additionalProperties":{"type":"number"}},
		"l":{"type":"array","items":{"type":"number"},"maxItems":3}, "v":{"type":"array","items":{"type":"number"},"maxItems":5},
		"o":{"type":["object","null"],"properties":{"x":{"type":"string","format":"date"},"y":{"type":"object","properties":{"z":{"type":"array","items":{"type":["boolean","null"]}}}}}},
		"quote\"d":{"type":"string"}, "a name of more than sixteen bytes":{"type":"string","enum":["a","bb","a value of more than sixteen bytes"]},
		"é":{"type":"string","minLength":2,"maxLength":3,"pattern":"^[a-zé]+$"}},
		"required":["needed"], "maxProperties":12}`, Options{Vectors: []string{"/v"}, Depth: 100})
	w := newTwins(t, "oddities", s)
	for _, members := range []string{
		``, `"a":1`, `"a":1.0`, `"a":1e2`, `"a":-0`, `"a":1.5`, `"a":9223372036854775807`, `"a":-9223372036854775808`, `"a":9223372036854775808`,
		`"a":01`, `"a":1,"a":1`, `"a":1,"\u0061":1`, `"\u0061":1`, `"n":0.5`, `"n":0.50`, `"n":5e-1`, `"n":0.4999999999999999999999`, `"n":0.75`, `"n":0.8`,
		`"n":1e9999999`, `"a":1e9999999`, `"n":1`, `"n":-1`, `"any":{"a":1,"b":[{}]}`, `"any":{"a":1,"a":2}`, `"any":[1,2,]`, `"any":nul`, `"any":null`,
		`"any": "x\ud83d\ude00\ud83d"`, `"any":1e400`, `"both":"x"`, `"both":1`, `"both":1.0`, `"both":null`, `"on":true`, `"on":false`, `"on":null`,
		`"map":{}`, `"map":{"x":1,"y":2e3}`, `"map":{"x":1,"x":2}`, `"map":{"x":"1"}`, `"map":{"x":null}`, `"l":[]`, `"l":[1,2,3]`, `"l":[1,2,3,4]`, `"l":[null]`,
		`"v":[0.5,0.25,1e-7,2,-3.5]`, `"v":[0.5,0.25,1e-7,2,-3.5,1]`, `"v":[0.1,0.2,0.3,0.4,0.5]`, `"v":[0.1,0.2,0.3,0.4,0.5,0.6]`, `"v":[0.1,0.2,0.3,0.4,]`,
		`"v":[0.1 ,0.2	,0.3]`, `"v":[1e39]`, `"v":[null]`, `"v":null`, `"v":[]`, `"v":[ ]`, `"l":[ ]`, `"o":{ }`, `"o":null`, `"o":{"x":"2001-02-03"}`, `"o":{"x":"2001-02-30"}`,
		`"o":{"y":{"z":[true,null,false]},"u":1}`, `"o":{"y":{"z":[1]}}`, `"o":{"y":{"z":[],"~/\u0001":{"k":0}}}`, `"o":{"y":{"z":[],"~/":{"k":0}}}`,
		`"quote\"d":"x"`, `"quote\u0022d":"x"`, `"a name of more than sixteen bytes":"a"`, `"a name of more than sixteen bytes" : "bb"`,
		`"a name of more than sixteen bytes":"a value of more than sixteen bytes"`, `"a name of more than sixteen byteS":"bb"`,
		`"a name of more than sixteen bytes":"b"`, `"é":"é"`, `"é":"éé"`, `"é":"ééé"`, `"é":"éééé"`, `"é":"abc"`, `"é":"ab1"`, `"é":"\u00e9\u00e9"`, `"needed":1,"needed":2`,
		"\"a\"\t:\t1", "\"a\":\r\n1", `"x":` + strings.Repeat("[", 98) + strings.Repeat("]", 98), `"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99), `"x":` + strings.Repeat(`{"":`, 99) + "1" + strings.Repeat("}", 99),
		`"a":1` + strings.Repeat(" ", 5000), `"any":"` + strings.Repeat("é", 5000) + `"`, `"any":0.` + strings.Repeat("1", 5000), `"n":1` + strings.Repeat("0", 5000) + "e-5000",
	} {
		for _, form := range []string{`{"needed":0,%s}`, `{%s,"needed":[ {} ]}`, ` {%s}`, "{\n%s , \"needed\" : null\n}\n", `{"needed":0,%s,}`, `{"needed":0,%s} x`, `{"needed":0,%s`} {
			w.append(fmt.Appendf(nil, form, members))
		}
	}
	for _, size := range []int{few - 1, few, few + 1, 500} {
		var b strings.Builder
		for k := range size {
			fmt.Fprintf(&b, `"member-%d":%d,`, k, k)
		}
		for _, twin := range []int{0, size / 2, size - 1, size} {
			w.append(fmt.Appendf(nil, `{"needed":{%s"member-%d":0}}`, b.String(), twin))
			w.append(fmt.Appendf(nil, `{"needed":0,"map":{%s"member-%d":0}}`, b.String(), twin))
			w.append(fmt.Appendf(nil, `{"needed":0,"o":{%s"member-%d":0}}`, b.String(), twin))
		}
	}
	w.end(0.7)
}
