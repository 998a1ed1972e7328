package nearduplicate

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

// textContent tells texts apart before anything is made of them; 0 for none.
func textContent(text []byte) uint64 {
	if len(text) == 0 {
		return 0
	}
	return xxhash.Sum64(text) | 1
}

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
func signText(text []byte) (s signature, hash uint64, words int) {
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

// rotation signs vectors by the signs of random rotations: random sign flips and a Hadamard transform. Short vectors
// are rotated more than once, for one rotation has no more signs than there are dimensions.
type rotation struct {
	dim    int
	mean   []float32
	size   int       // a power of two, at least dim
	rounds int       // rotations
	flips  []float32 // ±1, rounds × dim
	every  int       // one in so many coordinates is looked at
}

const signs = 512

func newRotation(s *detect.Sample, seed uint64) *rotation {
	r := &rotation{dim: s.Dim, mean: make([]float32, s.Dim), size: 8}
	for r.size < s.Dim {
		r.size *= 2
	}
	r.rounds, r.every = max(1, signs/r.size), max(1, r.size/signs)
	sum, n := make([]float64, s.Dim), 0.0
	for row := range s.N {
		if v := vector(s, row); v != nil {
			n++
			for i, x := range v {
				sum[i] += float64(x)
			}
		}
	}
	for i := range r.mean {
		r.mean[i] = float32(sum[i] / max(1, n))
	}
	rng := rand.New(rand.NewPCG(seed, 0x726f74617465))
	r.flips = make([]float32, r.rounds*s.Dim)
	for i := range r.flips {
		r.flips[i] = float32(1 - 2*int(rng.Uint64()>>63))
	}
	return r
}

// vector returns a row's embedding, or nil where there is none or it is not finite.
func vector(s *detect.Sample, row int) []float32 {
	if s.Embedding == nil || s.HasEmbedding != nil && !s.HasEmbedding[row] {
		return nil
	}
	v := s.Embedding[row*s.Dim : (row+1)*s.Dim]
	var norm float32
	for _, x := range v {
		norm += x * x
	}
	if !(norm > 0 && norm <= 1e37) {
		return nil
	}
	return v
}

// content hashes a row's vector; 0 for none.
func (r *rotation) content(s *detect.Sample, row int) uint64 {
	if s.Dim != r.dim {
		return 0
	}
	v := vector(s, row)
	if v == nil {
		return 0
	}
	h := uint64(hashSeed)
	for _, x := range v {
		h = (h ^ uint64(math.Float32bits(x))) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	return h | 1
}

func (r *rotation) sign(s *detect.Sample, row int) (out signature) {
	x := make([]float32, r.rounds*r.size)
	v := vector(s, row)
	for round := range r.rounds {
		part, flips := x[round*r.size:(round+1)*r.size], r.flips[round*r.dim:]
		for i, v := range v {
			part[i] = (v - r.mean[i]) * flips[i]
		}
		hadamard(part)
	}
	var packed [64]byte
	for i := range signs {
		packed[i/8] |= byte(math.Float32bits(x[i*r.every])>>31) << (i % 8)
	}
	for i := range packed {
		packed[i] = max(1, packed[i]) // no bin is empty
	}
	for w := range out {
		out[w] = binary.LittleEndian.Uint64(packed[8*w:])
	}
	return out
}

// hadamard transforms x, whose length is a power of two, in place; the factor 1/√n does not matter to signs.
func hadamard(x []float32) {
	for half := 1; half < len(x); half *= 2 {
		for i := 0; i < len(x); i += 2 * half {
			a, b := x[i:i+half], x[i+half:i+2*half]
			for j, v := range a {
				a[j], b[j] = v+b[j], v-b[j]
			}
		}
	}
}
