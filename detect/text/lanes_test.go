package text

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect/lanes"
)

// scanned is the readable version of Append.
func scanned(text []byte) []Token {
	return (&cutter{}).append(nil, text)
}

// Lanes and the scanner cut any text alike.
func TestLanesAndScanner(t *testing.T) {
	if !lanes.Available() {
		t.Log("this processor has no lanes: the scanner alone is looked at")
	}
	pieces := strings.Split("a|I|it|It's|don't|'|''|rock'n'roll|Incomprehensibilities|ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789| |  |\n|\t|\x00|\x7f|.|,|--|!?|@[`{|Z9z0/:|"+
		"é|l’été|’|🙂|漢字| |\u00a0|\u2003|\xff|\xc3|ß", "|")
	rng := rand.New(rand.NewPCG(1, 2))
	c := newCutter()
	check := func(text []byte) {
		t.Helper()
		dst := []Token{1, 2, 3}
		got := c.append(dst, text)
		if want := scanned(text); !slices.Equal(got[3:], want) || !slices.Equal(got[:3], dst) {
			at := 0
			for at < min(len(got)-3, len(want)) && got[3+at] == want[at] {
				at++
			}
			t.Fatalf("%d and %d tokens of %d bytes differ from number %d on, %q", len(got)-3, len(want), len(text), at, Span(text, max(0, at-3), at+1))
		}
	}
	for n := range 300 {
		check([]byte(strings.Repeat("x", n)))
		check([]byte(strings.Repeat(".", n)))
		check([]byte(strings.Repeat("it's ", n)))
		check([]byte(strings.Repeat("a'", n)))
		check([]byte(strings.Repeat("漢", n)))
	}
	for _, kinds := range []int{24, len(pieces)} { // ASCII alone, and all
		for range 3000 {
			var text []byte
			for range rng.IntN(1 << rng.IntN(8)) {
				text = append(text, pieces[rng.IntN(kinds)]...)
			}
			check(text)
		}
	}
	for c := range 256 { // every byte, at every place of a block
		for at := range 66 {
			text := []byte(strings.Repeat("a", 66))
			text[at] = byte(c)
			check(text)
		}
	}
	for _, n := range []int{lanes.Most - 1, lanes.Most, lanes.Most + 1, 3*lanes.Most + 7} {
		check([]byte(strings.Repeat("x", n)))
		check([]byte(strings.Repeat("word ", n/5+1)[:n]))
		check([]byte(strings.Repeat("é", n)))
		check([]byte(strings.Repeat("ok, é ", n/5)))
	}
	check([]byte(strings.Repeat("! ", Most/2+1)))
	check([]byte(strings.Repeat("one, two ", 3*Most)))
	check([]byte(strings.Repeat("one, zwölf ", 3*Most)))
}

// Keys that are made two at a time are those of the rows.
func TestKeysAreOfRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 3, blockRows - 1, blockRows, 2*blockRows + 1} {
		texts := make([][]byte, n)
		for i := range texts {
			texts[i] = []byte(strings.Repeat("some words, ", rng.IntN(1+rng.IntN(20))))
		}
		tokens := Tokenize(texts, 2)
		for i := range texts {
			if tokens.Key(i) != Key(tokens.Row(i)) {
				t.Fatalf("the key of row %d of %d is another", i, n)
			}
		}
	}
}
