package validate

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	w := &twins{t: t, what: what, fast: s.NewDecoder(memory.DefaultAllocator), slow: s.NewDecoder(memory.DefaultAllocator)}
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
			for _, record := range w.records {
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
