package lanes

import (
	"bytes"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect/border"
)

// TestKernelsStayInside: who reads or writes behind what he is given dies.
func TestKernelsStayInside(t *testing.T) {
	if !Available() {
		t.Log("this processor has no lanes")
		return
	}
	text, tokens := border.Of[byte](t, Most), border.Of[uint32](t, Most)
	s := &border.Of[Scratch](t, 1)[0]
	for _, what := range []string{"x", ".", "a. ", "don't ", "a'", " ", "incomprehensibilities "} {
		copy(text, bytes.Repeat([]byte(what), Most/len(what)+1))
		for _, n := range []int{0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000, Most - 64, Most - 1, Most} {
			part := text[Most-n:]
			if got := Plain(part); got != n {
				t.Fatalf("%d of %d bytes are ASCII", got, n)
			}
			own := tokens[Most-s.Cut(part):]
			s.Hash(own)
			again := make([]uint32, s.Cut(slices.Clone(part)))
			if s.Hash(again); !slices.Equal(own, again) {
				t.Fatalf("%d bytes of %q have other tokens elsewhere", n, what)
			}
		}
	}
	for n := 1; n < 40; n++ {
		out, x, edges := border.Of[float64](t, n), border.Of[float64](t, n), border.Of[[8]float64](t, n)
		Exps(out, x)
		Logs(out, x)
		Bins(border.Of[uint8](t, n), x, edges)
	}
	g := &Grams{Four: border.Of[byte](t, 1<<16+3), Three: border.Of[byte](t, 1<<18+3), Two: border.Of[byte](t, 1<<16+3), Shift: 22, Step: 15}
	for _, tables := range [][]uint8{nil, g.Two, g.Three, g.Four} { // from what lies behind others on
		for i := range tables {
			tables[i] = 200
		}
		for c := range 256 { // the last places too
			for i := range text {
				text[i] = byte(c)
			}
			for _, n := range []int{1, 15, 16, 17, 64, 65, Most} {
				if got := s.Costs(g, text[Most-n:], c > 7); len(got) != (n+Block-1)/Block {
					t.Fatalf("%d sums of %d bytes", len(got), n)
				}
			}
		}
	}
	copy(text, bytes.Repeat([]byte{'x'}, Most))
	text[Most-1] = 0x80
	for n := 1; n < 200; n++ {
		if got := Plain(text[Most-n:]); got != n-1 {
			t.Fatalf("%d of %d bytes are ASCII", got, n)
		}
	}
}
