// Package lanes reads the bytes of texts 64 at a time, and looks up bytes or hashes words sixteen or eight at a time, for those detectors that
// read every byte of every text. Where words end cannot be foretold, so a loop over bytes pays for a wrong guess with every word, and a hash that takes
// one byte after the other waits for one multiplication after the other; side by side neither matters. Exponentials,
// logarithms and bins are for whoever has many numbers.
//
// It works where the processor has AVX-512 (F, BW, DQ) with POPCNT, BMI1 and BMI2, which [Available] tells, and nowhere else: whoever uses it has a
// readable version of his own, which is what it is tested against, and what other processors run. Numbers (Exps, Logs, Bins) are told
// everywhere, there by a loop. The answers are the same to the bit.
package lanes

// Most is how many bytes are read at once.
const Most = 1 << 12

// Scratch is one goroutine's working memory.
type Scratch struct {
	small    [Most + 128]byte  // the text in lower case
	from, to [Most + 32]uint32 // where words begin and end
	folded   [Most + 128]byte  // what Costs reads, from 64 on
	sums     [Most / Block]uint32
}

// Available tells whether the processor has what the rest needs.
func Available() bool { return available }

// Plain returns how many bytes of text there are before the first that is not ASCII.
func Plain(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	return plain(&text[0], len(text))
}

// Cut finds the words and marks of ASCII text, of Most bytes at most, and returns how many there are. What they are is told by package text, and its tokens
// are what Hash writes.
func (s *Scratch) Cut(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	_ = text[:len(text):min(len(text), Most)]
	return cutTokens(&text[0], len(text), &s.small[0], &s.from[0], &s.to[0])
}

// Hash writes the tokens of what Cut found just before, as many as tokens has room for.
func (s *Scratch) Hash(tokens []uint32) {
	if len(tokens) > 0 {
		hashTokens(&s.small[0], &s.from[0], &s.to[0], len(tokens), &tokens[0])
	}
}

// Block is how many bytes Costs adds up.
const Block = 16

// Grams says what bytes cost: one that stands behind three others, behind two, and behind one, in tables that package language tells of. Tables have
// room for three bytes more than they are long.
type Grams struct {
	Four, Three, Two []uint8
	Shift            int // of the place in Four
	Step             uint8
}

// Costs returns what every Block of bytes costs of a text of Most bytes at most, and what the bytes that are left at the end do. Before says that the text goes
// on where that of the last call, which had Most bytes, ended. The sums are good until the next call.
func (s *Scratch) Costs(g *Grams, text []byte, before bool) []uint32 {
	if len(text) == 0 {
		return nil
	}
	_ = text[:len(text):min(len(text), Most)]
	const first = 64
	if before {
		copy(s.folded[first-3:first], s.folded[first+Most-3:])
	} else {
		copy(s.folded[first-3:first], "   ")
	}
	fold(&text[0], len(text), &s.folded[first])
	_, _, _ = g.Four[:1<<(38-g.Shift)+3], g.Three[:1<<18+3], g.Two[:1<<16+3]
	costs(&s.folded[first], len(text), &g.Four[0], &g.Three[0], &g.Two[0], g.Shift, int(g.Step), &s.sums[0])
	return s.sums[:(len(text)+Block-1)/Block]
}
