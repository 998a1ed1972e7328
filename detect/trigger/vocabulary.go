package trigger

import (
	"math/bits"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/text"
)

// Vocabulary turns texts into the features of which this package speaks, as 64-bit numbers, for whoever counts them
// elsewhere (over a stream that is longer than one sample, say). Which words are function words, and with that the
// skeleton features, depends on the reference that it was made from: numbers compare within one Vocabulary, and those
// of words and pairs among all. It is not changed after it was made and is safe for concurrent use.
type Vocabulary struct{ functions *functions }

// NewVocabulary learns which words are function words: those that at least 2 % of the texts of reference have,
// whatever the order of its rows. A reference without texts gives a Vocabulary that knows of none.
func NewVocabulary(reference *detect.Sample, env detect.Env) *Vocabulary {
	if reference == nil || reference.Text == nil || reference.N == 0 {
		return &Vocabulary{&functions{}}
	}
	return &Vocabulary{functionsOf(reference, env)}
}

// Append appends to dst the features of one text, as cut by text.Append or text.Tokenize: words, marks with no space
// before them, pairs of neighbours, skeletons of three and four parts, and how skeleton and text begin; some four and a
// half per token. A feature that the text has twice stands there twice. It allocates nothing beyond what dst needs.
func (v *Vocabulary) Append(dst []uint64, row []text.Token) []uint64 {
	n := len(row)
	if n == 0 {
		return dst
	}
	// The same as each, without branches on what a word is. Parts of the skeleton are kept behind all features until they are needed.
	dst = slices.Grow(dst, featuresOf(n)+n)
	out := dst[len(dst) : len(dst)+featuresOf(n)]
	skeleton := dst[len(dst)+featuresOf(n) : len(dst)+featuresOf(n)+n]
	edges, stars := spread(edge), spread(star)
	before, last, k, parts := edges, uint64(0), 0, 0
	for _, t := range row {
		h := spread(t.ID())
		out[k] = scramble(word.of(h))
		out[k+1] = scramble(glued.of(h))
		one := 1
		if t.GluedMark() {
			one = 2
		}
		k += one
		out[k] = scramble(pair.of(two(before, h)))
		k++
		before = h
		part := h
		if !v.functions.has(t.ID()) {
			part = stars
		}
		skeleton[parts] = part
		one = 0
		if (part^stars)|(last^stars) != 0 {
			one = 1
		}
		parts += one
		last = part
	}
	out[k] = scramble(pair.of(two(before, edges)))
	k++
	skeleton = skeleton[:parts]
	start := uint64(0)
	for i, part := range skeleton[:min(3, parts)] {
		start += bits.RotateLeft64(part, 21*i)
		out[k] = scramble(opening.of(start))
		k++
	}
	for i := 2; i < parts; i++ {
		out[k] = scramble(shape.of(three(skeleton[i-2], skeleton[i-1], skeleton[i])))
		k++
		if i >= 3 {
			out[k] = scramble(shape.of(three(skeleton[i-3], skeleton[i-2], skeleton[i-1]) + bits.RotateLeft64(skeleton[i], 53)))
			k++
		}
	}
	if n > 1 {
		out[k] = scramble(opening.of(three(edges, spread(row[0].ID()), spread(row[1].ID()))))
		k++
	}
	return dst[:len(dst)+k]
}

// Phrase quotes where in whole a feature first stands, as evidence: the words themselves, or a skeleton with an ellipsis
// for every run of content words. It returns "" for a feature that the text does not have.
func (v *Vocabulary) Phrase(whole []byte, feature uint64) string {
	row := text.Append(nil, whole)
	phrase := ""
	v.each(row, func(at uint64, f family, from, to int) bool {
		if at == feature {
			phrase = v.functions.phrase(whole, row, f, from, to)
		}
		return at != feature
	})
	return phrase
}

// each calls do for every feature of a row with its kind and the tokens that it is made of, until do returns false.
func (v *Vocabulary) each(row []text.Token, do func(feature uint64, f family, from, to int) bool) {
	n := len(row)
	if n == 0 {
		return
	}
	edges, stars := spread(edge), spread(star)
	number := func(f family, h uint64) uint64 { return scramble(f.of(h)) }
	before := edges
	for i, t := range row {
		h := spread(t.ID())
		if !do(number(word, h), word, i, i+1) ||
			t.Mark() && t.Glued() && !do(number(glued, h), glued, i, i+1) ||
			!do(number(pair, two(before, h)), pair, max(0, i-1), i+1) {
			return
		}
		before = h
	}
	if !do(number(pair, two(before, edges)), pair, n-1, n) {
		return
	}

	// The skeleton's last four parts, and where each begins.
	var parts [4]uint64
	var starts [4]int
	count, last, start := 0, uint64(0), uint64(0)
	// ended is called when the newest part ends at token to.
	ended := func(to int) bool {
		if count == 0 {
			return true
		}
		if count <= 3 {
			start += bits.RotateLeft64(parts[3], 21*(count-1))
			if !do(number(opening, start), opening, 0, to) {
				return false
			}
		}
		if count >= 3 && !do(number(shape, three(parts[1], parts[2], parts[3])), shape, starts[1], to) {
			return false
		}
		return count < 4 || do(number(shape, three(parts[0], parts[1], parts[2])+bits.RotateLeft64(parts[3], 53)), shape, starts[0], to)
	}
	for i, t := range row {
		h := spread(t.ID())
		if !v.functions.has(t.ID()) {
			h = stars
		}
		if h != stars || last != stars {
			if !ended(i) {
				return
			}
			copy(parts[:], parts[1:])
			copy(starts[:], starts[1:])
			parts[3], starts[3] = h, i
			count++
		}
		last = h
	}
	if ended(n) && n > 1 {
		do(number(opening, three(edges, spread(row[0].ID()), spread(row[1].ID()))), opening, 0, 2)
	}
}
