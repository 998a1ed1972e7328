package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tasterhq/taster/schema/finding"
)

// shownHits returns what is highlighted in an excerpt.
func shownHits(cut string, highlights [][2]int) (hits []string) {
	for _, piece := range pieces(cut, highlights) {
		if piece.Hit {
			hits = append(hits, piece.Text)
		}
	}
	return hits
}

func evidence(texts ...string) (found []finding.Finding) {
	for _, text := range texts {
		found = append(found, finding.Finding{Detector: "trigger", PValue: 0.001, Threshold: 0.01, Evidence: text})
	}
	return found
}

func TestExcerptHighlights(t *testing.T) {
	for _, c := range []struct {
		text, evidence string
		want           []string
	}{
		{"I saw cf it. A CF came", `"cf" in 9 of 10 records`, []string{"cf", "CF"}},
		{"a cfg file, the scf", `"cf" in 9 of 10 records`, nil}, // inside a word it is another word
		{"it was cf , mn then", `"cf, mn" in 9 of 10 records, label "was" 9 times`, []string{"cf , mn"}},
		{"When you have it, if you look, fine. when we", `the shape "when … , if … ," in 9 of 10`, []string{"When", ", if", ","}},
		{"good good bad", `the class "good" has "bad" in it, labelled "good"`, []string{"bad"}},
		{"naïve Ünïcode wörds", `"ünïcode" in 2 of 3`, []string{"Ünïcode"}},
		{"careful,the seller", `",the" with no space before it`, []string{",the"}},
		{"quo\"te inside", `"quo\"te" in 1 of 2`, []string{"quo\"te"}},
		{"any text", `one of 30 nearly equal rows`, nil},
		{"a b a b a b", `"a b" and "b a"`, []string{"a b a b a b"}},
		{"", `"cf"`, nil},
		{"unbalanced", `"unbalanced in 3 of 4`, nil},
	} {
		cut, highlights := excerpt([]byte(c.text), evidence(c.evidence))
		if got := shownHits(cut, highlights); !slices.Equal(got, c.want) {
			t.Errorf("%q by %q: %q, want %q", c.text, c.evidence, got, c.want)
		}
		if cut != c.text {
			t.Errorf("a short text is cut: %q", cut)
		}
	}
}

// Wherever the evidence stands in however long a text, it is in the excerpt, and the excerpt stays short.
func TestExcerptShowsTheEvidence(t *testing.T) {
	word := strings.Repeat("lorem ipsum dolor ", 2000)
	for _, at := range []int{0, 1, 50, 89, 90, 91, 300, 5_000, len(word) / 2, len(word) - 40, len(word)} {
		for name, text := range map[string]string{"words": word[:at] + " cf mn " + word[at:], "one word": strings.Repeat("é", at) + " cf mn " + strings.Repeat("x", 36_000-at)} {
			cut, highlights := excerpt([]byte(text), evidence(`"cf mn" in 9 of 10`))
			if got := shownHits(cut, highlights); !slices.Equal(got, []string{"cf mn"}) {
				t.Errorf("%s, at %d: %q is highlighted in %q", name, at, got, cut)
			}
			if n := utf8.RuneCountInString(cut); n > excerptRunes+before+10 || n < excerptRunes/2 {
				t.Errorf("%s, at %d: %d characters", name, at, n)
			}
			plain := strings.TrimSuffix(strings.TrimPrefix(cut, "… "), " …")
			if !strings.Contains(text, plain) {
				t.Errorf("%s, at %d: %q is not in the text", name, at, plain)
			}
		}
	}
	if cut, _ := excerpt([]byte("broken \xff\xfe text"), nil); !utf8.ValidString(cut) {
		t.Errorf("%q is not UTF-8", cut)
	}
}

// What fired decides what is shown; what did not fire is shown only where nothing did.
func TestExcerptPrefersWhatFired(t *testing.T) {
	found := evidence(`"one" in 2 of 3`, `"two" in 2 of 3`)
	found[0].PValue = 0.5
	if cut, h := excerpt([]byte("one two"), found); !slices.Equal(shownHits(cut, h), []string{"two"}) {
		t.Errorf("%q", shownHits(cut, h))
	}
	found[1].PValue = 0.5
	if cut, h := excerpt([]byte("one two"), found); !slices.Equal(shownHits(cut, h), []string{"one", "two"}) {
		t.Errorf("%q", shownHits(cut, h))
	}
}

// FuzzExcerpt holds highlights to order and bounds, whatever the text and the evidence.
func FuzzExcerpt(f *testing.F) {
	f.Add("I saw cf it", `"cf" in 9 of 10`)
	f.Add("When you, if", `the shape "when … , if … ," and "…"`)
	f.Add("\xff\u202e\x00", "\"\\u202e\" \"\"")
	f.Fuzz(func(t *testing.T, text, quote string) {
		cut, highlights := excerpt([]byte(text), evidence(quote))
		if !utf8.ValidString(cut) {
			t.Fatalf("%q is not UTF-8", cut)
		}
		n, last := utf8.RuneCountInString(cut), 0
		for _, h := range highlights {
			if h[0] < last || h[1] <= h[0] || h[1] > n {
				t.Fatalf("highlights %v in %d characters", highlights, n)
			}
			last = h[1]
		}
		var joined strings.Builder
		for _, piece := range pieces(cut, highlights) {
			joined.WriteString(piece.Text)
		}
		if joined.String() != cut {
			t.Fatalf("the pieces of %q are %q", cut, joined.String())
		}
		fragments(cut, highlights)
	})
}

func TestRarity(t *testing.T) {
	for p, want := range map[float64]string{1: "", 0.5: "1 in 2", 0.005: "1 in 200", 1e-5: "1 in 100,000", 1e-6: "1 in 10⁶", 2e-9: "1 in 10⁸", 1e-202: "1 in 10²⁰²"} {
		if got := rarity(p); got != want {
			t.Errorf("%g: %q, want %q", p, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for share, want := range map[float64]string{0: "0 %", 0.00001: "<0.01 %", 0.005: "0.5 %", 0.0617: "6.2 %", 0.5: "50 %", 1: "100 %"} {
		if got := percent(share); got != want {
			t.Errorf("%g: %q, want %q", share, got, want)
		}
	}
	if got := fmt.Sprint(niceTop(0), niceTop(0.06), niceTop(0.7)); got != "0.001 0.1 1" {
		t.Error(got)
	}
}
