// Package text cuts texts into tokens, once for every detector that counts words.
//
// A token is a number: a hash of the lower-cased word, whose leading bits are a hash of the word's first five letters,
// so that inflections of one word share them. Words are runs of letters, digits and combining marks of any script,
// with apostrophes inside; characters of scripts that put no spaces between words (Han, kana, Thai and their
// neighbours) are words of their own, and so is every other character that is not white space. Nothing can be read
// back from a token.
//
// Different words may have the same number: two of 50,000 different words do with a chance of a few in a hundred
// thousand each, and words with equal beginnings no more often. Bytes that are not UTF-8 are read as U+FFFD.
package text

import (
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
)

// Token is one word or mark of a text.
type Token uint32

const (
	stemBits = 14
	stemSize = 5 // letters that a stem is made of

	markFlag  = 1 // not a word but punctuation, a symbol, an emoji
	gluedFlag = 2 // no white space stands before it
)

// Stems is the number of values that Stem has.
const Stems = 1 << stemBits

// ID returns the number of the word itself, the same wherever it stands. It has 30 bits.
func (t Token) ID() uint32 { return uint32(t) >> 2 }

// Stem returns the number, below Stems, that words with the same first five letters share.
func (t Token) Stem() uint32 { return uint32(t) >> (32 - stemBits) }

// Mark tells that the token is no word but punctuation, a symbol or an emoji.
func (t Token) Mark() bool { return t&markFlag != 0 }

// Glued tells that no white space stands between the token and what is before it.
func (t Token) Glued() bool { return t&gluedFlag != 0 }

// GluedMark tells that the token is Mark and Glued.
func (t Token) GluedMark() bool { return t&(markFlag|gluedFlag) == markFlag|gluedFlag }

// Most is the number of tokens of one text that are kept: the first three quarters of them from its beginning and the
// last quarter from its end. It bounds what one record can cost, and how many chances it has to look odd.
const Most = 1 << 14

// Tokens holds the tokens of many texts. It is not changed after it was made.
type Tokens struct {
	blocks []block
}

const blockRows = 1 << 10

type block struct {
	tokens []Token
	ends   []int
	keys   []uint64
}

// Row returns the tokens of text i, Most at most; none for an empty or absent text.
func (t *Tokens) Row(i int) []Token {
	b := &t.blocks[i/blockRows]
	i %= blockRows
	from := 0
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.tokens[from:b.ends[i]:b.ends[i]]
}

// Key is [Key] of Row(i).
func (t *Tokens) Key(i int) uint64 { return t.blocks[i/blockRows].keys[i%blockRows] }

// Count returns the number of tokens in all texts.
func (t *Tokens) Count() int {
	n := 0
	for i := range t.blocks {
		n += len(t.blocks[i].tokens)
	}
	return n
}

type (
	tokensOf struct{ sample *detect.Sample }
	headOf   struct{ sample *detect.Sample }
)

// Of returns the tokens of a sample's texts.
func Of(s *detect.Sample, env detect.Env) *Tokens {
	return detect.Once(env, tokensOf{s}, func() *Tokens {
		if head := detect.Once(env, headOf{s}, func() *detect.Sample { return nil }); head != nil {
			return Of(head, env).extended(s.Text, env.Workers)
		}
		return Tokenize(s.Text, env.Workers)
	})
}

// Continues says, before anybody asks for its tokens, that joint begins with the rows of head: what serves for one need not be cut
// again for the other.
func Continues(joint, head *detect.Sample, env detect.Env) {
	detect.Once(env, headOf{joint}, func() *detect.Sample { return head })
}

// Known says, before anybody asks for them, what the tokens of a sample's texts are.
func Known(s *detect.Sample, tokens *Tokens, env detect.Env) {
	detect.Once(env, tokensOf{s}, func() *Tokens { return tokens })
}

// Select returns the tokens of the given texts, in the given order. It is several times as fast as to cut them again.
func (t *Tokens) Select(rows []int) *Tokens { return (&Tokens{}).Join(t, rows) }

// Join returns the tokens of t's texts and then those of the given ones of others.
func (t *Tokens) Join(others *Tokens, rows []int) *Tokens {
	full := len(t.blocks)
	if full > 0 && len(t.blocks[full-1].ends) < blockRows {
		full--
	}
	first := full * blockRows
	kept := 0
	if full < len(t.blocks) {
		kept = len(t.blocks[full].ends)
	}
	out := &Tokens{blocks: slices.Clone(t.blocks[:full])}
	for from := 0; from < kept+len(rows); from += blockRows {
		n := min(blockRows, kept+len(rows)-from)
		part := block{ends: make([]int, n), keys: make([]uint64, n)}
		row := func(i int) (*Tokens, int) {
			if from+i < kept {
				return t, first + from + i
			}
			return others, rows[from+i-kept]
		}
		all := 0
		for i := range n {
			of, at := row(i)
			all += len(of.Row(at))
		}
		part.tokens = make([]Token, 0, all)
		for i := range n {
			of, at := row(i)
			part.tokens = append(part.tokens, of.Row(at)...)
			part.ends[i], part.keys[i] = len(part.tokens), of.Key(at)
		}
		out.blocks = append(out.blocks, part)
	}
	return out
}

// extended returns the tokens of texts, of which t has the first; those of full blocks are not cut again.
func (t *Tokens) extended(texts [][]byte, workers int) *Tokens {
	full := len(t.blocks)
	if full > 0 && len(t.blocks[full-1].ends) < blockRows {
		full--
	}
	rest := Tokenize(texts[full*blockRows:], workers)
	return &Tokens{blocks: slices.Concat(t.blocks[:full], rest.blocks)}
}

// Tokenize cuts every text, with so many goroutines.
func Tokenize(texts [][]byte, workers int) *Tokens {
	t := &Tokens{blocks: make([]block, (len(texts)+blockRows-1)/blockRows)}
	detect.Chunks(len(texts), blockRows, workers, func() func(first, end int) {
		cutter := newCutter()
		return func(first, end int) {
			rows := texts[first:end]
			bytes := 0
			for _, text := range rows {
				bytes += len(text)
			}
			out := block{tokens: make([]Token, 0, bytes/4+16), ends: make([]int, len(rows)), keys: make([]uint64, len(rows))}
			for i, text := range rows {
				out.tokens = cutter.append(out.tokens, text)
				out.ends[i] = len(out.tokens)
			}
			out.hash()
			t.blocks[first/blockRows] = out
		}
	})
	return t
}

// Append appends the tokens of one text to dst, Most at most.
func Append(dst []Token, text []byte) []Token {
	c := cutters.Get().(*cutter)
	defer cutters.Put(c)
	return c.append(dst, text)
}

var cutters = sync.Pool{New: func() any { return newCutter() }}

// cutter is one goroutine's scratch.
type cutter struct {
	lanes *lanes.Scratch // nil where the processor has none
}

func newCutter() *cutter {
	if !lanes.Available() {
		return &cutter{}
	}
	return &cutter{new(lanes.Scratch)}
}

// append is Append: what is ASCII up to white space is read by lanes, all else by the scanner.
func (c *cutter) append(dst []Token, text []byte) []Token {
	var s scanner
	first := len(dst)
	for s.at < len(text) {
		if c.lanes != nil { // white space is next, or was last, or nothing was before
			dst = c.plain(dst, &s, text)
			dst = cropped(dst, first, 2*Most)
		}
		// What is here, if anything, is not ASCII, or more than lanes read at once.
		for mark := s.at + fewBytes; s.at < len(text) && s.next(text); {
			dst = append(dst, s.token)
			dst = cropped(dst, first, 2*Most)
			if c.lanes != nil && s.at >= mark && s.at < len(text) && ascii[text[s.at]]&3 == spaceClass {
				break
			}
		}
	}
	return cropped(dst, first, Most+1)
}

// fewBytes are not worth it to begin with lanes anew.
const fewBytes = 64

// plain appends the tokens of what follows s, as far as lanes read it.
func (c *cutter) plain(dst []Token, s *scanner, text []byte) []Token {
	rest := text[s.at:]
	n := lanes.Plain(rest[:min(len(rest), lanes.Most)])
	if n < len(rest) {
		for n > 0 && ascii[rest[n-1]]&3 != spaceClass {
			n-- // the word may go on
		}
	}
	if s.at += n; n > 0 && s.at < len(text) {
		s.at-- // the scanner has to see that white space was before
	}
	if n = c.lanes.Cut(rest[:n]); n == 0 {
		return dst
	}
	dst = slices.Grow(dst, n)
	from := len(dst)
	dst = dst[:from+n]
	c.lanes.Hash(unsafe.Slice((*uint32)(&dst[from]), n))
	return dst
}

// cropped leaves the first three quarters and the last quarter of Most of the tokens from first on, where they are so many.
func cropped(dst []Token, first, many int) []Token {
	if len(dst)-first >= many {
		dst = append(dst[:first+Most*3/4], dst[len(dst)-Most/4:]...)
	}
	return dst
}

// Span returns where the tokens [from, to) of a text stand in it, as bytes of text: the phrase behind a finding.
// It returns nil when the text has no such tokens.
func Span(text []byte, from, to int) []byte {
	var s scanner
	total := 0
	for s.next(text) {
		total++
	}
	if total > Most && from >= Most*3/4 {
		from, to = from+total-Most, to+total-Most
	}
	s = scanner{}
	begin := -1
	for i := 0; s.next(text); i++ {
		if i == from {
			begin = s.from
		}
		if i == to-1 && begin >= 0 {
			return text[begin:s.at]
		}
	}
	return nil
}

const (
	spaceClass = iota
	wordClass
	markClass
	otherClass // not ASCII
)

// ascii gives the class of each byte in the lowest bits and its lower case above.
var ascii = func() (table [256]uint16) {
	for c := range table {
		class, lower := markClass, c
		switch {
		case c >= utf8.RuneSelf:
			class = otherClass
		case c <= ' ' || c == 0x7f:
			class = spaceClass
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z':
			class = wordClass
		case c >= 'A' && c <= 'Z':
			class, lower = wordClass, c+'a'-'A'
		}
		table[c] = uint16(lower<<2 | class)
	}
	return table
}()

const (
	hashStart = 0x2545f491
	hashStep  = 0x01000193 // FNV-1a
)

// scanner walks through one text.
type scanner struct {
	at    int // after the token
	from  int // where it begins
	token Token
}

// rune reads the character at s.at: its lower case, class and length.
func (s *scanner) rune(text []byte) (r rune, class, size int) {
	entry := ascii[text[s.at]]
	if class = int(entry & 3); class != otherClass {
		return rune(entry >> 2), class, 1
	}
	r, size = utf8.DecodeRune(text[s.at:])
	switch {
	case unicode.IsSpace(r):
		return r, spaceClass, size
	case unicode.In(r, unspaced...):
		return r, markClass, size
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
		return unicode.ToLower(r), wordClass, size
	}
	return r, markClass, size
}

var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

func (s *scanner) next(text []byte) bool {
	glued := s.at > 0
	for s.at < len(text) {
		entry := ascii[text[s.at]]
		r, class, size := rune(entry>>2), int(entry&3), 1
		if class == otherClass {
			r, class, size = s.rune(text)
		}
		if class == spaceClass {
			s.at += size
			glued = false
			continue
		}
		s.from = s.at
		s.at += size
		hash := (uint32(hashStart) ^ uint32(r)) * hashStep
		if class == markClass {
			flags := Token(markFlag)
			if size > 1 && unicode.IsLetter(r) {
				flags = 0
			}
			if glued {
				flags |= gluedFlag
			}
			s.token = token(hash, hash) | flags
			return true
		}
		stem, letters := hash, 1
		for s.at < len(text) {
			// Most characters are ASCII letters.
			entry := ascii[text[s.at]]
			size := 1
			r := rune(entry >> 2)
			if entry&3 != wordClass {
				if text[s.at] == '\'' {
					if !s.wordAt(text, s.at+1) {
						break
					}
				} else if entry&3 != otherClass {
					break
				} else {
					var class int
					if r, class, size = s.rune(text); class != wordClass && !(r == '’' && s.wordAt(text, s.at+size)) {
						break
					}
				}
			}
			s.at += size
			hash = (hash ^ uint32(r)) * hashStep
			if letters++; letters <= stemSize {
				stem = hash
			}
		}
		s.token = token(hash, stem)
		if glued {
			s.token |= gluedFlag
		}
		return true
	}
	return false
}

// wordAt tells whether a letter or digit stands at text[at].
func (s *scanner) wordAt(text []byte, at int) bool {
	if at >= len(text) {
		return false
	}
	ahead := scanner{at: at}
	_, class, _ := ahead.rune(text)
	return class == wordClass
}

// token packs a word's hash and its stem's. A word of up to stemSize letters is its own stem: different bits of the two are
// taken, so that all 30 count.
func token(hash, stem uint32) Token {
	return Token(mix(stem)&^(1<<(32-stemBits)-1) | mix(hash)<<2&(1<<(32-stemBits)-1))
}

// mix is the finalizer of MurmurHash3.
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// hash fills in the keys, four at a time, for a key waits for one multiplication after the other.
func (b *block) hash() {
	row := func(i int) []Token {
		from := 0
		if i > 0 {
			from = b.ends[i-1]
		}
		return b.tokens[from:b.ends[i]]
	}
	i := 0
	for ; i+3 < len(b.ends); i += 4 {
		w, x, y, z := row(i), row(i+1), row(i+2), row(i+3)
		all := min(len(w), len(x), len(y), len(z))
		e, f, g, h := uint64(len(w)), uint64(len(x)), uint64(len(y)), uint64(len(z))
		w0, x0, y0, z0 := w[:all], x[:all], y[:all], z[:all]
		for j, t := range w0 {
			e, f, g, h = stirred(e, t), stirred(f, x0[j]), stirred(g, y0[j]), stirred(h, z0[j])
		}
		// Then what two of them have.
		both := min(len(w), len(x))
		for ; all < both; all++ {
			e, f = stirred(e, w[all]), stirred(f, x[all])
		}
		e, f = rest(e, w[all:]), rest(f, x[all:])
		all = len(z0)
		both = min(len(y), len(z))
		for ; all < both; all++ {
			g, h = stirred(g, y[all]), stirred(h, z[all])
		}
		b.keys[i], b.keys[i+1], b.keys[i+2], b.keys[i+3] = finished(e), finished(f), finished(rest(g, y[all:])), finished(rest(h, z[all:]))
	}
	for ; i < len(b.ends); i++ {
		b.keys[i] = Key(row(i))
	}
}

// rest goes on with a key.
func rest(h uint64, tokens []Token) uint64 {
	for _, t := range tokens {
		h = stirred(h, t)
	}
	return h
}

func stirred(h uint64, t Token) uint64 {
	h = (h ^ uint64(t)) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func finished(h uint64) uint64 {
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>32
}

// Key returns a number for a whole row of tokens: equal rows have equal keys, and different rows different ones but
// for a chance of one in 2⁶⁴.
func Key(row []Token) uint64 {
	h := uint64(len(row))
	for _, t := range row {
		h = stirred(h, t)
	}
	return finished(h)
}
