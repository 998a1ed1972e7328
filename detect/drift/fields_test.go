package drift

import (
	"math/rand/v2"
	"testing"
)

// TestHalvesReadAsOne compares texts whose halves are read side by side with the same read from end to end, of any length, with and without words.
func TestHalvesReadAsOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	scratch := new(halves)
	for trial := range 3000 {
		text := make([]byte, rng.IntN(200))
		if trial%100 == 0 {
			text = make([]byte, tallied-rng.IntN(3))
		}
		kinds := []string{"abcXYZ019 .,é", "a ", "a", " ", "日本 x"}[trial%5]
		for i := range text {
			if text[i] = kinds[rng.IntN(len(kinds))]; trial%7 == 0 {
				text[i] = byte(rng.IntN(256))
			}
		}
		if got, want := scratch.summarise(text), summarise(text); got != want {
			t.Fatalf("%q is summarised as %+v, want %+v", text, got, want)
		}
	}
}
