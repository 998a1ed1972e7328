package drift

import (
	"math/rand/v2"
	"testing"
)

// TestSummariesAreAlike compares texts whose halves, or whose words, are read side by side with the same read from end to end, of any length, with and
// without words.
func TestSummariesAreAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	portable, best := &scratch{halves: new(halves)}, newScratch()
	for trial := range 3000 {
		text := make([]byte, rng.IntN(200))
		if trial%100 == 0 {
			text = make([]byte, tallied+2-rng.IntN(5))
		}
		kinds := []string{"abcXYZ019 .,é", "a ", "a", " ", "日本 x"}[trial%5]
		for i := range text {
			if text[i] = kinds[rng.IntN(len(kinds))]; trial%7 == 0 {
				text[i] = byte(rng.IntN(256))
			}
		}
		want := summarise(text)
		if got := portable.summarise(text); got != want {
			t.Fatalf("%q is summarised as %+v by halves, want %+v", text, got, want)
		}
		if got := best.summarise(text); got != want {
			t.Fatalf("%q is summarised as %+v, want %+v", text, got, want)
		}
	}
}
