package wording

import "github.com/tasterhq/taster/detect/sketch"

// summarise summarises texts of up to tallied bytes by halves.
func (r *reader) summarise(text []byte) Summary {
	if r.halves != nil && len(text) <= tallied {
		return r.halves.summarise(text)
	}
	return summarise(text)
}

// summarise reads any text.
func summarise(text []byte) (c Summary) {
	h := uint64(hashSeed)
	inWord := false
	end := func() {
		c.Words++
		m := sketch.Mix(h)
		for i := range c.Votes {
			c.Votes[i] += int32(m >> i & 1)
		}
		h, inWord = hashSeed, false
	}
	for _, b := range text {
		switch {
		case b >= 'a' && b <= 'z':
		case b >= 'A' && b <= 'Z':
			c.Capitals++
			b |= 0x20
		case b >= '0' && b <= '9':
			c.Digits++
		case b >= 0x80:
			c.Beyond++
		default:
			if b > ' ' {
				c.Marks++
			}
			if inWord {
				end()
			}
			continue
		}
		c.Letters++
		inWord = true
		h = (h ^ uint64(b)) * hashMul
	}
	if inWord {
		end()
	}
	return c
}

// A byte's share in the summary of its text: what it adds to the hash of its word and what that is multiplied with, which is nothing
// where no word is, and what it counts as, in the places of a tally.
type share struct {
	value, factor uint64
	tally         uint64
	inside        uint64 // of a word, as 0 or 1
}

// A tally counts kinds of bytes side by side in one number: each in so many bits, so that it holds as many bytes as tallied.
const (
	tallyBits = 12
	tallied   = 1<<tallyBits - 1

	digitsAt   = 0
	capitalsAt = 1 * tallyBits
	marksAt    = 2 * tallyBits
	beyondAt   = 3 * tallyBits
	lettersAt  = 4 * tallyBits
)

var shares = func() (p [256]share) {
	for c := range p {
		b := share{value: uint64(c), factor: hashMul, inside: 1, tally: 1 << lettersAt}
		switch {
		case c >= 'a' && c <= 'z':
		case c >= 'A' && c <= 'Z':
			b.value |= 0x20
			b.tally |= 1 << capitalsAt
		case c >= '0' && c <= '9':
			b.tally |= 1 << digitsAt
		case c >= 0x80:
			b.tally |= 1 << beyondAt
		case c > ' ':
			b = share{tally: 1 << marksAt}
		default:
			b = share{}
		}
		p[c] = b
	}
	return p
}()

// votes spreads the four lowest bits of a word's hash, each to a place of 16 bits.
var votes = func() (v [16]uint64) {
	for bits := range v {
		for i := range 4 {
			v[bits] |= uint64(bits>>i&1) << (i * 16)
		}
	}
	return v
}()

// halves is one goroutine's scratch for texts of up to tallied bytes: hashes of words, written over as long as a word goes on, for where words
// end cannot be foretold. A hash waits for one multiplication after the other, so both halves of a text are read side by side.
type halves [2][tallied + 1]uint64

// summarise is the function of that name.
func (s *halves) summarise(text []byte) (c Summary) {
	middle := len(text) / 2
	for middle < len(text) && shares[text[middle]].inside != 0 { // no word lies on both sides
		middle++
	}
	x, y := text[:middle], text[middle:]
	xs, ys := &s[0], &s[1]
	var n, m int
	var h, g, inX, inY, tally uint64
	both := min(len(x), len(y))
	for i, b := range x[:both] {
		p, q := &shares[b], &shares[y[i]]
		xs[n&tallied], ys[m&tallied] = h, g
		n += int(inX &^ p.inside)
		m += int(inY &^ q.inside)
		h = (h ^ p.value ^ hashSeed&(inX-1)) * p.factor
		g = (g ^ q.value ^ hashSeed&(inY-1)) * q.factor
		tally += p.tally + q.tally
		inX, inY = p.inside, q.inside
	}
	for _, b := range x[both:] {
		p := &shares[b]
		xs[n&tallied] = h
		n += int(inX &^ p.inside)
		h = (h ^ p.value ^ hashSeed&(inX-1)) * p.factor
		tally += p.tally
		inX = p.inside
	}
	for _, b := range y[both:] {
		p := &shares[b]
		ys[m&tallied] = g
		m += int(inY &^ p.inside)
		g = (g ^ p.value ^ hashSeed&(inY-1)) * p.factor
		tally += p.tally
		inY = p.inside
	}
	xs[n], ys[m] = h, g
	n, m = n+int(inX), m+int(inY)
	vote := uint64(0)
	for _, h := range xs[:n] {
		vote += votes[sketch.Mix(h)&15]
	}
	for _, h := range ys[:m] {
		vote += votes[sketch.Mix(h)&15]
	}
	c.Digits, c.Capitals = int32(tally>>digitsAt&tallied), int32(tally>>capitalsAt&tallied)
	c.Marks, c.Beyond = int32(tally>>marksAt&tallied), int32(tally>>beyondAt&tallied)
	c.Letters, c.Words = int32(tally>>lettersAt&tallied), int32(n+m)
	for i := range c.Votes {
		c.Votes[i] = int32(vote >> (i * 16) & 0xffff)
	}
	return c
}
