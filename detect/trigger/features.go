package trigger

import (
	"math/bits"

	"github.com/tasterhq/taster/detect/text"
)

// family is a kind of feature.
type family uint8

const (
	word    family = iota // one word or mark
	glued                 // a mark with no white space before it
	pair                  // two neighbouring words; the text's two ends count as words
	shape                 // three or four neighbours of the skeleton, in which runs of content words are one star
	opening               // the first one to three of the skeleton, or the first two words
)

// Numbers that stand for what is no token. IDs have 30 bits.
const (
	edge = 1<<30 + iota // before the first and after the last token
	star                // a run of content words
)

// tableSize is the size of a table of features, in bits: words have their own part, where they seldom meet, pairs of
// them half of the other, and everything else the rest.
type tableSize struct{ words, others int }

func (s tableSize) buckets() int { return 1<<s.words + 1<<s.others }

var largest = tableSize{words: 17, others: 20}

// tableFor returns the size for so many tokens: two buckets to a feature, as far as memory allows.
func tableFor(tokens int, most tableSize) tableSize {
	b := tableSize{words: 10, others: 12}
	for b.others < most.others && 1<<b.others < 7*tokens {
		b.others++
	}
	for b.words < most.words && 1<<b.words < 2*tokens {
		b.words++
	}
	return b
}

// extractor turns a row of tokens into features. It is for one goroutine.
type extractor struct {
	size      tableSize
	functions *functions
	numbers   numbering // nil: buckets are wanted

	index    []uint32 // buckets, or their numbers, in order of family
	skeleton []uint64 // spread numbers

	glued  []uint32  // scratch of featuresKernel
	ratios []float64 // and of stream.likelihood
	most   [8]uint16
	sums   [4]int32 // and these of those that add up

	// Where in the row they stand, by places only.
	cuts   [opening + 1]int
	marks  []uint16 // the glued marks
	starts []uint16 // where each part of the skeleton begins; one more than parts
}

// spread gives a number 64 bits, the upper ones as good as random.
func spread(id uint32) uint64 { return uint64(id) * 0x9e3779b97f4a7c15 }

// The rotations keep the order of what is added up.
func two(a, b uint64) uint64      { return a + bits.RotateLeft64(b, 21) }
func three(a, b, c uint64) uint64 { return two(a, b) + bits.RotateLeft64(c, 42) }

// of is added to the sum of the parts, so that families differ.
func (f family) of(h uint64) uint64 { return h + uint64(f)*0xbf58476d1ce4e5b9 }

func (s tableSize) word(spread uint64) uint32 { return uint32(spread >> (uint(64-s.words) & 63)) }

func scramble(h uint64) uint64 { return (h ^ h>>32) * 0xd6e8feb86659fd93 }

func (s tableSize) pair(before, after uint64) uint32 {
	return 1<<s.words + uint32(scramble(two(before, after))>>(uint(65-s.others)&63))
}

func (s tableSize) other(h uint64) uint32 {
	return 1<<s.words + 1<<(s.others-1) + uint32(scramble(h)>>(uint(65-s.others)&63))
}

// wordsKernel, featuresKernel and numbersKernel are wordsAVX512 and so on, nil where the processor does not have what they take.
var (
	wordsKernel    func(row *uint32, n, words int, index *uint32)
	featuresKernel func(row *uint32, n int, functions *uint32, words, others int, parts *uint64, glued, index *uint32) (features, skeleton int)
	numbersKernel  func(index *uint32, n int, numbers *uint64)
)

// words returns the buckets, or their numbers, of a row's words only.
func (x *extractor) words(row []text.Token) []uint32 {
	n := len(row)
	x.room(n)
	index := x.index[:n]
	if wordsKernel != nil && n > 0 {
		wordsKernel((*uint32)(&row[0]), n, x.size.words, &index[0])
		if x.numbers != nil {
			numbersKernel(&index[0], n, &x.numbers[0])
		}
		return index
	}
	for i, t := range row {
		index[i] = x.size.word(spread(t.ID()))
	}
	if x.numbers != nil {
		for k, at := range index {
			index[k] = x.numbers.of(at)
		}
	}
	return index
}

// extract fills x.index, and returns it. The same feature may come twice.
func (x *extractor) extract(row []text.Token) []uint32 {
	n := len(row)
	if featuresKernel == nil || n == 0 {
		return x.places(row)
	}
	x.room(n)
	index, parts := x.index[:cap(x.index)], x.skeleton[:cap(x.skeleton)]
	k, length := featuresKernel((*uint32)(&row[0]), n, &x.functions.slots[0], x.size.words, x.size.others, &parts[0], &x.glued[0], &index[0])
	x.skeleton = parts[:length]
	k = x.openings(row, index, k)
	if x.numbers != nil {
		numbersKernel(&index[0], k, &x.numbers[0])
	}
	x.index = index[:k]
	return x.index
}

// places is extract, and notes where in the row features stand. Nothing branches on what a word is, which cannot be foretold: what may come is
// written, and counts or is written over.
func (x *extractor) places(row []text.Token) []uint32 {
	size, n := x.size, len(row)
	if n == 0 {
		x.index = x.index[:0]
		return x.index
	}
	x.room(n)
	index, skeleton, starts, marks := x.index[:cap(x.index)], x.skeleton[:n], x.starts[:n+1], x.marks[:n]
	stars, edges := spread(star), spread(edge)
	x.cuts[word] = 0
	last, parts, glue := uint64(0), 0, 0
	words := index[:n]
	for i, t := range row {
		h := spread(t.ID())
		words[i] = size.word(h)
		marks[glue] = uint16(i)
		one := 0
		if t.GluedMark() {
			one = 1
		}
		glue += one
		part := h
		if !x.functions.has(t.ID()) {
			part = stars
		}
		skeleton[parts], starts[parts] = part, uint16(i)
		one = 0
		if (part^stars)|(last^stars) != 0 {
			one = 1
		}
		parts += one
		last = part
	}
	skeleton, marks = skeleton[:parts], marks[:glue]
	starts[parts] = uint16(n)
	starts = starts[:parts+1]

	k := n
	x.cuts[glued] = k
	for _, i := range marks {
		index[k] = size.other(glued.of(spread(row[i].ID())))
		k++
	}

	x.cuts[pair] = k
	before := edges
	pairs := index[k : k+n+1]
	for i, t := range row {
		h := spread(t.ID())
		pairs[i] = size.pair(before, h)
		before = h
	}
	pairs[n] = size.pair(before, edges)
	k += n + 1

	x.cuts[shape] = k
	for i := 0; i+3 <= len(skeleton); i++ {
		h := shape.of(three(skeleton[i], skeleton[i+1], skeleton[i+2]))
		index[k] = size.other(h)
		k++
		if i+4 <= len(skeleton) {
			index[k] = size.other(h + bits.RotateLeft64(skeleton[i+3], 53))
			k++
		}
	}

	x.cuts[opening] = k
	x.skeleton = skeleton
	k = x.openings(row, index, k)
	index = index[:k]
	if x.numbers != nil {
		for k, at := range index {
			index[k] = x.numbers.of(at)
		}
	}
	x.index, x.starts, x.marks = index, starts, marks
	return index
}

// openings puts how a row and its skeleton begin behind the first k features, and returns how many there are then.
func (x *extractor) openings(row []text.Token, index []uint32, k int) int {
	h := opening.of(0)
	for i, part := range x.skeleton[:min(3, len(x.skeleton))] {
		h += bits.RotateLeft64(part, 21*i)
		index[k] = x.size.other(h)
		k++
	}
	if len(row) > 1 {
		index[k] = x.size.other(opening.of(three(spread(edge), spread(row[0].ID()), spread(row[1].ID()))))
		k++
	}
	return k
}

// numbering numbers some of the buckets, from 1 on, in their order. For each 32 buckets it tells which of them have a number, in the lower half, and the
// first one's number in the upper.
type numbering []uint64

// of returns a bucket's number, 0 where it has none.
func (n numbering) of(at uint32) uint32 {
	block := n[at>>5]
	set := uint32(block) >> (at & 31)
	return (uint32(block>>32) + uint32(bits.OnesCount32(uint32(block)&(1<<(at&31)-1)))) & -(set & 1)
}

// add gives all buckets of a set a number, before any has begun.
func (n numbering) add(set []uint32) {
	for i, some := range set {
		n[i] |= uint64(some)
	}
}

// begin numbers the buckets from first on, and returns the number after the last.
func (n numbering) begin(first int) int {
	for i, set := range n {
		n[i] = uint64(first)<<32 | set
		first += bits.OnesCount32(uint32(set))
	}
	return first
}

// below returns the first number that buckets from at on, a multiple of 32, can have.
func (n numbering) below(at int) uint32 { return uint32(n[at>>5] >> 32) }

// each calls do for each bucket that has a number.
func (n numbering) each(do func(at, number int)) {
	for i, block := range n {
		number := int(block >> 32)
		for set := uint32(block); set != 0; set &= set - 1 {
			do(i<<5+bits.TrailingZeros32(set), number)
			number++
		}
	}
}

// room makes room for the features of n tokens, and for what is written behind the last ones.
func (x *extractor) room(n int) {
	if cap(x.index) < featuresOf(n)+16 {
		x.index = make([]uint32, featuresOf(2*n)+16)
		x.skeleton, x.glued = make([]uint64, 2*n+16), make([]uint32, 2*n+16)
		x.starts, x.marks = make([]uint16, 2*n+1), make([]uint16, 2*n)
	}
}

// featuresOf is how many features n tokens have at most.
func featuresOf(n int) int { return 5*n + 5 }

// family returns of which kind the k-th feature of the row is.
func (x *extractor) family(k int) family {
	f := opening
	for k < x.cuts[f] {
		f--
	}
	return f
}

// span returns which tokens of the row the k-th feature is made of.
func (x *extractor) span(k int) (from, to int) {
	f := x.family(k)
	k -= x.cuts[f]
	switch n := int(x.starts[len(x.starts)-1]); f {
	case word:
		return k, k + 1
	case glued:
		return int(x.marks[k]), int(x.marks[k]) + 1
	case pair:
		return max(0, k-1), min(k+1, n)
	case shape:
		return int(x.starts[k/2]), int(x.starts[k/2+3+k%2])
	default:
		if k < min(3, len(x.skeleton)) {
			return 0, int(x.starts[k+1])
		}
		return 0, 2
	}
}

// functions is the set of words that carry a text's shape rather than its content: those that many records have.
type functions struct {
	slots [1 << slotBits]uint32 // open addressing; 0 is free, so words are kept one higher
}

const (
	mostFunctions = 1 << 10 // bounds the set, so that three quarters of its places stay free
	slotBits      = 12
	slotMul       = 0x9e3779b1
)

func (f *functions) has(id uint32) bool {
	for at := id * slotMul >> (32 - slotBits); ; at = (at + 1) % uint32(len(f.slots)) {
		// One or the other is nearly always so, but nobody can tell which: one question for both.
		if slot := f.slots[at]; uint64(slot)*uint64(slot^(id+1)) == 0 {
			return slot == id+1
		}
	}
}

func (f *functions) add(id uint32) {
	at := id * slotMul >> (32 - slotBits)
	for f.slots[at] != 0 {
		at = (at + 1) % uint32(len(f.slots))
	}
	f.slots[at] = id + 1
}
