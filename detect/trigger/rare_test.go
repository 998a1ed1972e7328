package trigger

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/border"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/text"
)

// What is not in a set is found alike by vectors and one by one, in the same order, in rows of any length.
func TestRareFeatures(t *testing.T) {
	reference := detecttest.NewReviews(1).Sample(500)
	tokens := text.Tokenize(reference.Text, 1)
	v := NewVocabulary(reference, detect.Env{Workers: 1})
	rng := rand.New(rand.NewPCG(41, 5))
	for _, most := range []int{0, 1, 10, 1000} { // texts of which all is in the set
		set := &Set{}
		for i := range reference.N {
			for k, f := range v.Append(nil, tokens.Row(i)) {
				if i < most || most > 0 && k%3 > 0 {
					set.Add(f)
				}
			}
		}
		rare := v.Rare(set)
		check := func(row []text.Token) {
			t.Helper()
			here := border.Of[text.Token](t, len(row))
			copy(here, row)
			row = here
			before := []uint64{1, 2}
			want := append(slices.Clone(before), slices.DeleteFunc(v.Append(nil, row), set.Has)...)
			if got := rare.Append(before, row); !slices.Equal(got, want) {
				t.Fatalf("%d tokens, %d texts in the set: %d features, want %d, or others", len(row), most, len(got), len(want))
			}
		}
		for i := range 100 {
			check(tokens.Row(i))
		}
		// Rows of all lengths, of words of the reference, strange ones and marks, function words in runs.
		for n := range 200 {
			row := make([]text.Token, n)
			for i := range row {
				switch other := tokens.Row(rng.IntN(reference.N)); {
				case i > 0 && rng.IntN(4) == 0:
					row[i] = row[i-1]
				case rng.IntN(8) == 0:
					row[i] = text.Token(rng.Uint32())
				default:
					row[i] = other[rng.IntN(len(other))]
				}
			}
			check(row)
		}
		for _, n := range []int{mostFast - 1, mostFast, mostFast + 1, 3 * mostFast} {
			row := make([]text.Token, n)
			for i := range row {
				row[i] = text.Token(rng.Uint32()) | 3 // glued marks
			}
			check(row)
		}
	}
	// Without a reference no word is a function word.
	v = NewVocabulary(nil, detect.Env{Workers: 1})
	if got, want := v.Rare(&Set{}).Append(nil, tokens.Row(0)), v.Append(nil, tokens.Row(0)); !slices.Equal(got, want) {
		t.Errorf("%d features, want %d, or others", len(got), len(want))
	}
}
