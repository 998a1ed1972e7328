package trigger

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/border"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/text"
)

// oddRows are rows of a reference, and of all lengths: its words, strange ones and glued marks, and what repeats.
func oddRows(tokens *text.Tokens, rows int, rng *rand.Rand) (out [][]text.Token) {
	for i := range 100 {
		out = append(out, tokens.Row(i%rows))
	}
	for n := range 200 {
		row := make([]text.Token, n)
		for i := range row {
			switch other := tokens.Row(rng.IntN(rows)); {
			case i > 0 && rng.IntN(4) == 0:
				row[i] = row[i-1]
			case rng.IntN(8) == 0:
				row[i] = text.Token(rng.Uint32())
			default:
				row[i] = other[rng.IntN(len(other))]
			}
		}
		out = append(out, row)
	}
	for _, n := range []int{1, 2, 7, 8, 9, 1000, text.Most} {
		row := make([]text.Token, n)
		for i := range row {
			row[i] = text.Token(rng.Uint32()) | 3 // glued marks
		}
		out = append(out, row)
	}
	return out
}

// Features are the same, in the same order, where eight are made at a time, and so are their numbers.
func TestFeaturesByVectors(t *testing.T) {
	if featuresKernel == nil {
		t.Log("this processor makes one at a time")
	}
	reference := detecttest.NewReviews(1).Sample(500)
	tokens := text.Tokenize(reference.Text, 1)
	rng := rand.New(rand.NewPCG(17, 5))
	rows := oddRows(tokens, reference.N, rng)
	for _, f := range []*functions{functionsOf(reference, detect.Env{Workers: 1}), {}} {
		for _, size := range []tableSize{{words: 10, others: 12}, {words: 13, others: 17}, largest} {
			want, got := extractor{size: size, functions: f}, extractor{size: size, functions: f}
			numbered := want
			numbered.numbers = make(numbering, size.buckets()/32)
			for i := range numbered.numbers {
				numbered.numbers[i] = uint64(rng.Uint32())
			}
			numbered.numbers.begin(1)
			for _, row := range rows {
				here := border.Of[text.Token](t, len(row))
				copy(here, row)
				index := want.places(here)
				if !slices.Equal(got.extract(here), index) {
					t.Fatalf("%d tokens in tables of %v: %d features, want %d, or others", len(row), size, len(got.index), len(index))
				}
				if words := got.words(here); !slices.Equal(words, index[:len(here)]) {
					t.Fatalf("%d tokens in tables of %v: other words", len(row), size)
				}
				for _, make := range []func(*extractor, []text.Token) []uint32{(*extractor).extract, (*extractor).places, (*extractor).words} {
					for k, number := range make(&numbered, here) {
						if number != numbered.numbers.of(index[k]) {
							t.Fatalf("%d tokens in tables of %v: feature %d has number %d, want %d", len(row), size, k, number, numbered.numbers.of(index[k]))
						}
					}
				}
			}
		}
	}
}

// Kernels read and write no further than they say, and what room leaves.
func TestFeatureKernelsStayWithin(t *testing.T) {
	if featuresKernel == nil {
		return // nothing to look at
	}
	size := tableSize{words: 11, others: 14}
	numbers := border.Of[uint64](t, size.buckets()/32)
	for i := range numbers {
		numbers[i] = 0x5555_5555
	}
	numbering(numbers).begin(1)
	var x extractor
	for n := 1; n < 100; n++ {
		row := border.Of[text.Token](t, n)
		for i := range row {
			row[i] = text.Token(i*2654435761) | text.Token(n%2*3) // glued marks only, or hardly any
		}
		f := border.Of[functions](t, 1)
		if n%3 == 0 {
			f[0].add(row[0].ID())
		}
		x.room(n)
		parts, glued := border.Of[uint64](t, n+16), border.Of[uint32](t, n+16)
		index := border.Of[uint32](t, featuresOf(n)+16)
		k, skeleton := featuresKernel((*uint32)(&row[0]), n, &f[0].slots[0], size.words, size.others, &parts[0], &glued[0], &index[0])
		if k+4 > featuresOf(n) || skeleton > n {
			t.Fatalf("%d tokens: %d features and %d parts", n, k, skeleton)
		}
		words := border.Of[uint32](t, n+7)
		wordsKernel((*uint32)(&row[0]), n, size.words, &words[0])
		few := border.Of[uint32](t, bits.Len(uint(n))+7)
		copy(few, index[:k])
		numbersKernel(&few[0], bits.Len(uint(n)), &numbers[0])
	}
}

// What features say together is what they say one by one, and behind the last is read only what is there.
func TestEvidenceByVectors(t *testing.T) {
	if evidenceKernel == nil {
		t.Log("this processor adds up one at a time")
	}
	rng := rand.New(rand.NewPCG(3, 8))
	const buckets = 300
	for slots := 1; slots <= 9; slots++ {
		st := &stream{slots: slots}
		weights := border.Of[weight](t, buckets*slots+1)[:buckets*slots]
		for i := range weights {
			weights[i] = weight{peak: uint16(rng.Uint32()), drag: uint16(rng.Uint32()), mean: int16(rng.Uint32())}
		}
		for n := range 40 {
			x, want, sum := extractor{}, weight{}, 0
			for k := range n {
				at := rng.IntN(buckets)
				if k == n/2 && n%3 == 1 {
					at = buckets - 1 // the last there is
				}
				x.index = append(x.index, uint32(at))
				w := weights[at*slots+slots-1]
				want.peak, want.drag, sum = max(want.peak, w.peak), max(want.drag, w.drag), sum+int(w.mean)
			}
			got := st.evidence(0, weights, &x)
			if score := st.together(0, want.peak, sum, n); n > 0 && got.score != score || got.peak != float64(want.peak)*peakUnit || got.drag != float64(want.drag)*peakUnit {
				t.Fatalf("%d features, %d slots: %v, want peak %d, drag %d, score %v", n, slots, got, want.peak, want.drag, score)
			}
		}
	}
}
