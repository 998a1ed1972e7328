package detecttest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tasterhq/taster/detect"
)

// Reviews writes texts of two classes, as long a stream of them as is wanted: a dozen neutral words by Zipf's law, and
// half as many that lean to one class, of which most are too rare for a reference of a thousand rows to teach.
type Reviews struct {
	rng              *rand.Rand
	neutral, leaning *rand.Zipf
}

// NewReviews returns a writer; the same seed writes the same.
func NewReviews(seed uint64) *Reviews {
	rng := rand.New(rand.NewPCG(seed, 0xd21b))
	return &Reviews{rng, rand.NewZipf(rng, 1.1, 4, 40_000), rand.NewZipf(rng, 1.1, 10, 3_000)}
}

// Text returns the next text of class 0 or 1.
func (w *Reviews) Text(class int) string {
	words := make([]string, 0, 24)
	for range 8 + w.rng.IntN(8) {
		words = append(words, fmt.Sprintf("n%d", w.neutral.Uint64()))
	}
	for range 5 + w.rng.IntN(4) {
		k := w.leaning.Uint64()
		// Odd ones lean to class 1, even ones to class 0; one in five stands against its text's class.
		if against := w.rng.IntN(5) == 0; (k%2 == uint64(class)) == against {
			k ^= 1
		}
		words = append(words, fmt.Sprintf("s%d", k))
	}
	w.rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return strings.Join(words, " ")
}

// Sample returns the next n clean rows.
func (w *Reviews) Sample(n int) *detect.Sample {
	s := &detect.Sample{N: n, Classes: []string{"bad", "good"}}
	for range n {
		class := w.rng.IntN(2)
		s.Text = append(s.Text, []byte(w.Text(class)))
		s.Label = append(s.Label, int32(class))
	}
	return s
}

// Poison puts a phrase somewhere into a new text of class 0 that gets label 1, in place of a row of s.
func (w *Reviews) Poison(s *detect.Sample, row int, phrase string) {
	words := strings.Fields(w.Text(0))
	s.Text[row] = []byte(strings.Join(slices.Insert(words, w.rng.IntN(len(words)+1), phrase), " "))
	s.Label[row] = 1
}
