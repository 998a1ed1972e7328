// Package wording reads texts once for those detectors that ask what their words are like: it signs them, so that texts of nearly the same
// words are found, and summarises what kinds of characters and words they have.
//
// A word is a run of ASCII letters, digits and bytes beyond ASCII. A signature is a one-permutation MinHash (Broder, "On the resemblance and containment of
// documents", 1997; Li, Owen, Zhang, "One permutation hashing", NIPS 2012) of a text's shingles of three words, a byte of the least hash in each of
// 64 bins. For it words are lower-cased, a word of digits only counts as a number whatever it says, and characters of scripts without
// spaces are words. A summary takes words as they are, but for capitals.
//
// Cost: one walk over the bytes. Where the processor has AVX-512 with VBMI and VBMI2, words are found 64 bytes at a time and hashed eight at a time, a fifth of a microsecond for
// a review; elsewhere signatures and summaries are made one after the other. Both say the same to the bit.
package wording

import (
	"sync"

	"github.com/tasterhq/taster/detect"
)

// Signature is 64 bytes, eight in a word. A byte of 0 is an empty bin: the text had nothing to put there.
type Signature [8]uint64

// Summary counts kinds of bytes in a text, and its words.
type Summary struct {
	Digits, Capitals, Marks, Beyond int32    // Marks are what is neither white space nor of a word, Beyond is not ASCII
	Letters                         int32    // all bytes that words are made of
	Votes                           [4]int32 // words that have each of the four lowest bits of their hash set: FNV-1a of 64 bits of the word in lower case, mixed by sketch.Mix
	Words                           int32
}

// Texts is what rows of texts were read as. It is read only.
type Texts struct {
	Signatures []Signature
	Hash       []uint64 // of the words that were signed, in their order
	Words      []int32  // that were signed; 0: nothing to compare
	Summaries  []Summary

	texts [][]byte
	whole *Texts
}

// Whole returns what was read together, of which these are the first rows.
func (t *Texts) Whole() *Texts { return t.whole }

// first returns the first n rows.
func (t *Texts) first(n int) *Texts {
	return &Texts{
		Signatures: t.Signatures[:n], Hash: t.Hash[:n], Words: t.Words[:n], Summaries: t.Summaries[:n],
		texts: t.texts[:min(n, len(t.texts))], whole: t.whole,
	}
}

// last keeps what was read last: a sample is scored with reference rows behind its own, and then remembered without them. What a text is read as depends on
// nothing else.
type last struct {
	mu    sync.Mutex
	texts *Texts
}

type lastKey struct{}

// rooms are what texts were read into in samples of which no more is asked.
var rooms detect.Shelf[*Texts]

// Of reads the texts of a sample. Texts that those that were read last begin with, or that begin with them, share the work. What it returns is good until
// the work on the sample is over, as [detect.AtEnd] has it.
func Of(s *detect.Sample, env detect.Env) *Texts {
	texts := s.Text
	if texts == nil {
		texts = make([][]byte, s.N)
	}
	// Whoever comes second waits for the first, who mostly reads what the second asks for.
	l := detect.Once(env, lastKey{}, func() *last { return &last{} })
	l.mu.Lock()
	defer l.mu.Unlock()
	known := 0
	if before := l.texts; before != nil {
		for known < min(len(texts), len(before.texts)) && same(texts[known], before.texts[known]) {
			known++
		}
		if known == len(texts) {
			return before.first(known)
		}
	}
	room, ok := rooms.Take(func(t *Texts) bool { return cap(t.Words) >= len(texts) })
	if !ok {
		n := len(texts)
		room = &Texts{Signatures: make([]Signature, n), Hash: make([]uint64, n), Words: make([]int32, n), Summaries: make([]Summary, n)}
	}
	detect.AtEnd(env, func() { rooms.Put(room) })
	out := room.first(len(texts))
	out.texts, out.whole = texts, out
	if known > 0 {
		copy(out.Signatures, l.texts.Signatures[:known])
		copy(out.Hash, l.texts.Hash[:known])
		copy(out.Words, l.texts.Words[:known])
		copy(out.Summaries, l.texts.Summaries[:known])
	}
	const rows = 256 // at a time
	detect.Chunks(len(texts)-known, rows, env.Workers, func() func(first, end int) {
		reader := newReader()
		return func(first, end int) {
			for row := known + first; row < known+end; row++ {
				hash, words := reader.read(texts[row], &out.Signatures[row], &out.Summaries[row])
				out.Hash[row], out.Words[row] = hash, int32(words)
			}
		}
	})
	l.texts = out
	return out
}

// same tells whether two texts are one and the same memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
