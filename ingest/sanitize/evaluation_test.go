package sanitize

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// TestPersonalDataOnPublicSentences measures how well both kinds are found, by exact span. The sentences are
// synthetic and their spans count code points.
func TestPersonalDataOnPublicSentences(t *testing.T) {
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	file, err := os.Open(filepath.Join(folder, "pii", "presidio-synth-v2.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type count struct{ found, right, wanted int }
	counts := map[string]*count{EmailAddress: {}, CreditCard: {}}
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for line := 1; in.Scan(); line++ {
		var row struct {
			Text  string
			Spans []struct {
				Type       string
				Start, End int
			}
		}
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		want := map[span]bool{}
		for _, s := range row.Spans {
			if c := counts[s.Type]; c != nil {
				c.wanted++
				want[span{s.Start, s.End, s.Type}] = true
			}
		}
		text := []byte(row.Text)
		var found []span
		if flags := look(text); flags&(hasAt|hasDigits) != 0 {
			found = appendCards(appendEmails(nil, text), text)
		}
		for _, s := range found {
			c := counts[s.entity]
			c.found++
			if want[span{utf8.RuneCount(text[:s.from]), utf8.RuneCount(text[:s.to]), s.entity}] {
				c.right++
			} else {
				t.Logf("line %d has a %s too many at byte %d", line, s.entity, s.from)
			}
		}
	}
	for _, floor := range []struct {
		entity            string
		precision, recall float64
	}{{EmailAddress, 0.98, 0.98}, {CreditCard, 0.98, 0.95}} {
		c := counts[floor.entity]
		precision, recall := float64(c.right)/float64(c.found), float64(c.right)/float64(c.wanted)
		t.Logf("%s: %d spans, %d found, precision %.3f, recall %.3f", floor.entity, c.wanted, c.found, precision, recall)
		if !(precision >= floor.precision && recall >= floor.recall) {
			t.Errorf("%s: want precision %.2f and recall %.2f at least", floor.entity, floor.precision, floor.recall)
		}
	}
}
