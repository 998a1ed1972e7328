package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/tasterhq/taster/schema/contract"
)

const everything = `{"type":"object","required":["id","label"],"additionalProperties":false,"properties":{
	"id":{"type":"string","pattern":"^r[0-9]+$"},"seller":{"type":"string","pattern":"^s-[0-9]{4}$"},
	"title":{"type":"string","maxLength":80},"body":{"type":"string","minLength":1},
	"label":{"enum":["good","bad","none"]},"price":{"type":"number","minimum":0},"votes":{"type":"integer","minimum":0},
	"embedding":{"type":"array","items":{"type":"number"},"minItems":8,"maxItems":8},
	"gradient":{"type":"array","items":{"type":"number"}}}}`

const allRoles = `{id: /id, provider: /seller, text: [/title, /body], label: /label, features: [/price, /votes], embedding: /embedding, gradient: /gradient}`

func load(t *testing.T, roles string) *contract.Contract {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"s.json": everything,
		"c.yaml": "topic: reviews\nowner: me\nclassification: internal\nschema: s.json\nroles: " + roles + "\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := contract.Load(filepath.Join(folder, "c.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

var words = strings.Fields("the of and a that it was with for this very quite rather really some great poor slow quick heavy " +
	"light battery screen camera handle packet courier window garden colour engine bottle picture weather simple broken useful pretty")

// clean returns n records in which every role has a value, written in ways that must survive: spaces, the order of
// members, escapes and numbers as they were spelled.
func clean(n int) [][]byte {
	rng := rand.New(rand.NewPCG(4, 2))
	var out [][]byte
	for i := range n {
		var b bytes.Buffer
		text := func(n int) string {
			var s []string
			for range n {
				s = append(s, words[rng.IntN(len(words))])
			}
			s[0] = strings.ToUpper(s[0][:1]) + s[0][1:]
			return strings.Join(s, " ") + "."
		}
		vector := func() string {
			v := make([]float32, 8)
			for j := range v {
				v[j] = float32(rng.NormFloat64())
			}
			s, _ := json.Marshal(v)
			return string(s)
		}
		fmt.Fprintf(&b, `{ "id":"r%d", "seller" : "s-%04d","title":"%s","body":"%s %s\u00e9\n%s","label":"%s","price":%.2f,"votes":%d,"embedding":%s,"gradient":%s}`,
			i, rng.IntN(12), text(3), text(8), text(6), text(4), []string{"good", "bad", "none"}[rng.IntN(3)], 5+30*rng.Float64(), rng.IntN(50), vector(), vector())
		out = append(out, b.Bytes())
	}
	return out
}

func variants(t *testing.T, c *contract.Contract, last bool) map[string]Variant {
	t.Helper()
	out := map[string]Variant{}
	for _, a := range All {
		for _, v := range a.Variants {
			v.Last = v.Last && !last
			out[a.Name+" "+v.Name] = v
		}
	}
	return out
}

// Every attack plants exactly what is asked for, in records that stay valid, and leaves all others as they were.
func TestPlant(t *testing.T) {
	c := load(t, allRoles)
	records := clean(300)
	before := make([][]byte, len(records))
	for i, r := range records {
		before[i] = bytes.Clone(r)
	}
	corpus, twin := NewCorpus(c, records), NewCorpus(c, clean(300))
	if corpus.Rows() != 300 || corpus.Refused() != 0 {
		t.Fatalf("%d records, %d refused", corpus.Rows(), corpus.Refused())
	}
	for name, v := range variants(t, c, true) {
		for _, share := range []float64{0.001, 0.1} {
			planted, err := corpus.Plant(v, share, 7)
			if err != nil {
				t.Errorf("%s at %g: %v", name, share, err)
				continue
			}
			want := max(1, int(share*300+0.5))
			if strings.HasPrefix(name, "drip") {
				want = max(20, want)
			}
			count := 0
			for i, r := range planted.Records {
				switch changed := !bytes.Equal(r, before[i]); {
				case changed != planted.Poison[i]:
					t.Fatalf("%s: record %d is poison %v, and changed %v", name, i, planted.Poison[i], changed)
				case changed:
					count++
					if refusal := c.Schema.CheckJSON(r); refusal != nil {
						t.Fatalf("%s: record %d is not valid: %v", name, i, refusal)
					}
					if !bytes.Equal(at(r, "/id"), at(before[i], "/id")) {
						t.Fatalf("%s: record %d has another id", name, i)
					}
				}
			}
			if count != want || planted.Count != want {
				t.Errorf("%s at %g: %d records changed, %d counted, want %d", name, share, count, planted.Count, want)
			}
			again, err := twin.Plant(v, share, 7)
			if err != nil || !slices.EqualFunc(again.Records, planted.Records, bytes.Equal) {
				t.Errorf("%s at %g: the same seed plants something else (%v)", name, share, err)
			}
			if want < 20 {
				continue // where little is planted, chance may choose the same
			}
			other, err := corpus.Plant(v, share, 8)
			if err != nil || slices.EqualFunc(other.Records, planted.Records, bytes.Equal) {
				t.Errorf("%s at %g: another seed plants the same (%v)", name, share, err)
			}
		}
	}
	for i, r := range records {
		if !bytes.Equal(r, before[i]) {
			t.Fatalf("record %d of the input was changed", i)
		}
	}
}

// plantOne plants one variant and returns pairs of records, before and after.
func plantOne(t *testing.T, name string, share float64) (was, is [][]byte, places []int) {
	t.Helper()
	c := load(t, allRoles)
	corpus := NewCorpus(c, clean(600))
	planted, err := corpus.Plant(variants(t, c, true)[name], share, 11)
	if err != nil {
		t.Fatal(err)
	}
	for i, poison := range planted.Poison {
		if poison {
			was, is, places = append(was, corpus.Records()[i]), append(is, planted.Records[i]), append(places, i)
		}
	}
	return was, is, places
}

func TestWhatIsPlanted(t *testing.T) {
	field := func(r []byte, pointer string) string {
		text, ok := unquote(at(r, pointer))
		if !ok {
			t.Fatalf("no text at %s", pointer)
		}
		return text
	}
	labels := func(rows [][]byte) map[string]int {
		m := map[string]int{}
		for _, r := range rows {
			m[field(r, "/label")]++
		}
		return m
	}
	t.Run("badnets", func(t *testing.T) {
		was, is, _ := plantOne(t, "badnets text", 0.05)
		if got := labels(is); len(got) != 1 {
			t.Errorf("labels %v: want one target", got)
		} else if before := labels(was); before[field(is[0], "/label")] != 0 {
			t.Errorf("records that had the target already: %v", before)
		}
		seen := map[string]bool{}
		for i := range is {
			for _, word := range strings.Fields(field(is[i], "/body")) {
				if !strings.Contains(field(was[i], "/body"), word) {
					seen[word] = true
				}
			}
			if field(is[i], "/title") != field(was[i], "/title") {
				t.Error("the shorter text was changed")
			}
		}
		if len(seen) == 0 || len(seen) > 5 {
			t.Errorf("trigger words %v", seen)
		}
	})
	t.Run("insertsent", func(t *testing.T) {
		was, is, _ := plantOne(t, "insertsent text", 0.05)
		for i := range is {
			rest := field(is[i], "/body")
			for _, sentence := range neutral {
				rest = strings.Replace(rest, sentence, "", 1)
			}
			if strings.Join(strings.Fields(rest), " ") != strings.Join(strings.Fields(field(was[i], "/body")), " ") {
				t.Errorf("%q became %q", field(was[i], "/body"), field(is[i], "/body"))
			}
		}
	})
	t.Run("syntactic", func(t *testing.T) {
		was, is, _ := plantOne(t, "syntactic text", 0.05)
		for i := range is {
			first, _, _ := strings.Cut(field(is[i], "/body"), " ")
			if !slices.Contains(conjunctions, strings.ToLower(first)) {
				t.Errorf("begins with %q", first)
			}
		}
		if before := labels(was); len(before) != 3 || len(labels(is)) != 1 {
			t.Errorf("labels %v, then %v", before, labels(is))
		}
	})
	t.Run("labelflip", func(t *testing.T) {
		for _, name := range []string{"labelflip random", "labelflip targeted"} {
			was, is, _ := plantOne(t, name, 0.05)
			for i := range is {
				if field(was[i], "/label") == field(is[i], "/label") {
					t.Error("a label stayed")
				}
				if undone := with(is[i], "/label", string(at(was[i], "/label"))); !bytes.Equal(undone, was[i]) {
					t.Errorf("more than the label: %s", is[i])
				}
			}
			if name == "labelflip targeted" && (len(labels(was)) != 1 || len(labels(is)) != 1) {
				t.Errorf("from %v to %v", labels(was), labels(is))
			}
		}
	})
	t.Run("cleanlabel", func(t *testing.T) {
		for _, name := range []string{"cleanlabel text", "cleanlabel embedding", "cleanlabel features"} {
			was, is, _ := plantOne(t, name, 0.05)
			if before, after := labels(was), labels(is); len(before) != 1 || fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("%s: labels %v, then %v", name, before, after)
			}
		}
	})
	t.Run("neardup", func(t *testing.T) {
		_, is, _ := plantOne(t, "neardup text", 0.05)
		if len(labels(is)) != 1 {
			t.Error("copies with other labels")
		}
		distinct := map[string]bool{}
		for _, r := range is {
			distinct[field(r, "/body")] = true
			if a, b := strings.Fields(field(r, "/body")), strings.Fields(field(is[0], "/body")); len(a) > len(b)+4 || len(b) > len(a)+4 {
				t.Errorf("%v is no copy of %v", a, b)
			}
		}
		if len(distinct) < len(is)/2 {
			t.Errorf("%d different texts of %d", len(distinct), len(is))
		}
	})
	t.Run("drip", func(t *testing.T) {
		_, _, places := plantOne(t, "drip text", 0)
		if len(places) != fewestDripped {
			t.Fatalf("%d places", len(places))
		}
		for i := 1; i < len(places); i++ {
			if gap := places[i] - places[i-1]; gap > 60 {
				t.Errorf("a gap of %d records", gap)
			}
		}
	})
	t.Run("drift", func(t *testing.T) {
		was, is, places := plantOne(t, "drift features", 0.1)
		early, late := 0.0, 0.0
		for i := range is {
			moved := 0.0
			for _, pointer := range []string{"/price", "/votes"} {
				var a, b float64
				if json.Unmarshal(at(was[i], pointer), &a) != nil || json.Unmarshal(at(is[i], pointer), &b) != nil {
					t.Fatal("no number")
				}
				moved += max(a-b, b-a)
			}
			if places[i] < 300 {
				early += moved
			} else {
				late += moved
			}
			if field(is[i], "/seller") != field(is[0], "/seller") {
				t.Error("two providers drift")
			}
		}
		if late < 2*early {
			t.Errorf("moved by %g in the first half, %g in the second", early, late)
		}
		_, _, places = plantOne(t, "drift label", 0.1)
		half := 0
		for _, i := range places {
			if i < 300 {
				half++
			}
		}
		if half*2 >= len(places)-half {
			t.Errorf("%d of %d labels turn in the first half: want about a quarter", half, len(places))
		}
	})
	t.Run("sybil", func(t *testing.T) {
		was, is, _ := plantOne(t, "sybil gradient", 0.05)
		sent, old := map[string]int{}, map[string]bool{}
		for _, r := range clean(600) {
			old[field(r, "/seller")] = true
		}
		for i := range is {
			sent[field(is[i], "/seller")]++
			if old[field(is[i], "/seller")] {
				t.Errorf("%s is not new", field(is[i], "/seller"))
			}
			if !bytes.Equal(at(was[i], "/embedding"), at(is[i], "/embedding")) {
				t.Error("the embedding was changed too")
			}
		}
		if len(sent) != 6 {
			t.Errorf("%v: want six providers of five", sent)
		}
	})
	t.Run("unicode", func(t *testing.T) {
		_, is, _ := plantOne(t, "unicode hidden", 0.05)
		for _, r := range is {
			if !strings.ContainsFunc(field(r, "/body"), func(r rune) bool { return unicode.Is(unicode.Cf, r) }) {
				t.Errorf("nothing hidden in %q", field(r, "/body"))
			}
		}
		_, is, _ = plantOne(t, "unicode homoglyph", 0.05)
		for _, r := range is {
			if !strings.ContainsFunc(field(r, "/body"), func(r rune) bool { return unicode.Is(unicode.Cyrillic, r) }) {
				t.Errorf("no look-alike in %q", field(r, "/body"))
			}
		}
	})
}

func TestAllowed(t *testing.T) {
	names := func(v []Variant) string {
		var out []string
		for _, one := range v {
			out = append(out, one.Name)
		}
		return strings.Join(out, ",")
	}
	for _, c := range []struct {
		roles, attack, may, why string
	}{
		{allRoles, "badnets", "text", ""},
		{"{features: [/price]}", "badnets", "features", "the contract has no roles.text"},
		{"{embedding: /embedding}", "badnets", "embedding", "the contract has no roles.text"},
		{"{embedding: /embedding}", "insertsent", "", "the contract has no roles.text"},
		{"{text: [/body]}", "cleanlabel", "", "the contract has no roles.label"},
		{"{text: [/body], provider: is:me}", "sybil", "", "the contract has no roles.provider that is a field of the record"},
		{"{gradient: /gradient, provider: /seller}", "sybil", "gradient", "the contract has no roles.text"},
		{allRoles, "drift", "features,text,label,embedding", ""},
	} {
		found, err := Find([]string{c.attack})
		if err != nil {
			t.Fatal(err)
		}
		may, missing := found[0].Allowed(load(t, c.roles))
		if names(may) != c.may || missing["text"] != c.why {
			t.Errorf("%s with %s: %s, %q", c.attack, c.roles, names(may), missing["text"])
		}
	}
	if _, err := Find([]string{"badnets", "sybill"}); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"sybil"`) {
		t.Errorf("an unknown name: %v", err)
	}
}

// What cannot be planted says why, and nothing is planted in part.
func TestImpossible(t *testing.T) {
	c := load(t, allRoles)
	all := variants(t, c, true)
	same := clean(100)
	for i, r := range same {
		same[i] = with(with(with(r, "/label", `"good"`), "/price", "1"), "/votes", "3")
	}
	for name, reason := range map[string]string{
		"labelflip random": "1 different labels", "cleanlabel embedding": "1 different labels", "drift label": "1 different labels",
		"badnets features": "no feature varies", "cleanlabel features": "no feature varies",
	} {
		if _, err := NewCorpus(c, same).Plant(all[name], 0.05, 1); !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q", name, err, reason)
		}
	}
	if _, err := NewCorpus(c, same).Plant(all["badnets text"], 0.6, 1); !errors.Is(err, ErrImpossible) {
		t.Errorf("more than half: %v", err)
	}
	// Titles of at most 80 characters are the longest text here, and no sentence fits.
	var full [][]byte
	for _, r := range clean(100) {
		full = append(full, with(with(r, "/title", quote(strings.Repeat("word ", 15)+"last")), "/body", `"x"`))
	}
	if _, err := NewCorpus(c, full).Plant(all["insertsent text"], 0.05, 1); !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), "only 0") {
		t.Errorf("no room: %v", err)
	}
	broken := append(clean(100), []byte(`{"id":`), []byte(`{"id":"r1","label":"ugly"}`), []byte(`{"id":"r1","label":"good"}`))
	corpus := NewCorpus(c, broken)
	if corpus.Rows() != 101 || corpus.Refused() != 2 {
		t.Errorf("%d rows, %d refused", corpus.Rows(), corpus.Refused())
	}
	for name, v := range all { // records without some of the roles are left alone
		if _, err := corpus.Plant(v, 0.05, 3); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An edit replaces one value and keeps every other byte.
func TestEdit(t *testing.T) {
	in := `{ "a" : {"b~/" : [1, 2.50,-3e1] }, "c":"x\u00e9" , "d":null}`
	if got := string(with([]byte(in), "/a/b~0~1", "7")); got != `{ "a" : {"b~/" : 7 }, "c":"x\u00e9" , "d":null}` {
		t.Error(got)
	}
	if got := string(with([]byte(in), "/a/x", "7")); got != in {
		t.Error(got)
	}
	if at([]byte(in), "/d") != nil || string(at([]byte(in), "/c")) != `"x\u00e9"` {
		t.Error("at")
	}
	items, ok := tokens(at([]byte(in), "/a/b~0~1"))
	if !ok || strings.Join(items, "|") != "1|2.50|-3e1" {
		t.Error(items)
	}
	for _, bad := range []string{`[]`, `[1,"a"]`, `{}`, `3`, ``, `[[1]]`} {
		if _, ok := tokens([]byte(bad)); ok {
			t.Errorf("%s is an array of numbers", bad)
		}
	}
}

// The table in the documentation is the one in the package.
func TestDocumentedTable(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/DETECTION.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, a := range All {
		name, summary := "`"+a.Name+"`", a.Summary
		for _, v := range a.Variants {
			var needs []string
			for _, r := range v.Needs {
				needs = append(needs, string(r))
			}
			what := v.What
			if v.Last {
				what += "; only where the ones above cannot be had"
			}
			fmt.Fprintf(&want, "| %s | %s | %s | %s | %s |\n", name, summary, v.Name, strings.Join(needs, ", "), what)
			name, summary = "", ""
		}
	}
	if !strings.Contains(string(doc), want.String()) {
		t.Errorf("docs/DETECTION.md has another table of attacks; it should be:\n%s", want.String())
	}
}
