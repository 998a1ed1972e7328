package wording

import (
	"math"
	"math/bits"

	"github.com/tasterhq/taster/detect/sketch"
)

// Bytes fall into classes: what separates words, what is part of one, and what begins a character that is a word by itself.
const (
	separator = iota
	letter
	digit
	ideograph // first of three bytes, U+3000 to U+DFFF: kana, Chinese, Hangul
)

var class = func() (c [256]uint8) {
	for b := range c {
		switch {
		case b >= '0' && b <= '9':
			c[b] = digit
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= 0x80:
			c[b] = letter
		}
		if b >= 0xe3 && b <= 0xed {
			c[b] = ideograph
		}
	}
	return c
}()

const (
	hashSeed = 0xcbf29ce484222325 // FNV-1a
	hashMul  = 0x100000001b3
	number   = 0x6e756d626572 // stands for every word of digits
)

// shingler takes the words of a text one by one.
type shingler struct {
	least        [64]uint64 // least hash in each bin, all ones where there is none
	before, last uint64     // the two previous words
	all          uint64     // hash of the sequence of words
	words        int
}

func (g *shingler) word(h uint64) {
	g.all = bits.RotateLeft64(g.all, 5)*hashMul ^ h
	g.words++
	if g.words >= 3 {
		g.shingle(h ^ bits.RotateLeft64(g.last, 21) ^ bits.RotateLeft64(g.before, 42))
	}
	g.before, g.last = g.last, h
}

func (g *shingler) shingle(h uint64) {
	h = sketch.Mix(h)
	bin := h >> 58
	g.least[bin] = min(g.least[bin], h)
}

// signText returns a text's signature, the hash of its words, and their number.
func signText(text []byte) (s Signature, hash uint64, words int) {
	var g shingler
	for i := range g.least {
		g.least[i] = math.MaxUint64
	}
	if !g.quickly(text) {
		g.carefully(text)
	}
	if g.words < 3 && g.words > 0 {
		g.shingle(g.all)
	}
	for bin, h := range g.least {
		b := max(1, h&0xff)
		if h == math.MaxUint64 {
			b = 0
		}
		s[bin/8] |= b << (bin % 8 * 8)
	}
	return s, sketch.Mix(g.all + uint64(g.words)), g.words
}

// carefully takes the words of any text.
func (g *shingler) carefully(text []byte) {
	h, kind := uint64(hashSeed), uint8(separator)
	for i := 0; i < len(text); i++ {
		b := text[i]
		switch c := class[b]; c {
		case letter:
			if b-'A' < 26 {
				b |= 0x20
			}
			h = (h ^ uint64(b)) * hashMul
			kind = letter
		case digit:
			h = (h ^ uint64(b)) * hashMul
			if kind == separator {
				kind = digit
			}
		default:
			if kind != separator {
				g.word(finish(h, kind))
				h, kind = hashSeed, separator
			}
			if c == ideograph && i+2 < len(text) {
				g.word(sketch.Mix(uint64(b)<<16 | uint64(text[i+1])<<8 | uint64(text[i+2])))
				i += 2
			}
		}
	}
	if kind != separator {
		g.word(finish(h, kind))
	}
}

// A byte's part in its word's hash: what is added to it and what that is multiplied with, which is nothing where no word is; whether
// it is part of a word, and no digit, each as 0 or 1.
type part struct {
	value, factor   uint64
	inside, noDigit uint8
	ideograph       bool
}

var parts = func() (p [256]part) {
	for b := range p {
		switch c := class[b]; c {
		case letter, digit:
			p[b] = part{value: uint64(b), factor: hashMul, inside: 1}
			if c == letter {
				p[b].noDigit = 1
			}
			if b >= 'A' && b <= 'Z' {
				p[b].value |= 0x20
			}
		case ideograph:
			p[b].ideograph = true
		}
	}
	return p
}()

// quickly is carefully for texts without ideographs, of others it takes nothing and returns false. Where words end cannot be
// foretold, so the words are noted first, without a branch that depends on them.
func (g *shingler) quickly(text []byte) bool {
	var room [256]uint64
	words := room[:]
	if most := len(text)/2 + 2; most > len(words) {
		words = make([]uint64, most)
	}
	n, h, noDigit := 0, uint64(0), uint8(0)
	before := &parts[' ']
	for _, b := range text {
		p := &parts[b]
		if p.ideograph {
			return false
		}
		word := uint64(number)
		if noDigit != 0 {
			word = h
		}
		words[n] = word
		n += int(before.inside &^ p.inside)
		start := uint64(hashSeed)
		if before.inside != 0 {
			start = 0
		}
		h = (h ^ (p.value ^ start)) * p.factor
		noDigit = (noDigit | p.noDigit) & p.inside
		before = p
	}
	if before.inside != 0 {
		words[n] = number
		if noDigit != 0 {
			words[n] = h
		}
		n++
	}
	for _, h := range words[:n] {
		g.word(sketch.Mix(h))
	}
	return true
}

func finish(h uint64, kind uint8) uint64 {
	if kind == digit {
		return sketch.Mix(number)
	}
	return sketch.Mix(h)
}
