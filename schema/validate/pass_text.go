package validate

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"

	"github.com/tasterhq/taster/schema/finding"
)

// string reads the string whose first byte behind the quote is at i into its column.
func (p *pass) string(t *task, i int) int {
	c := &p.sink
	if t.slot >= 0 {
		c = &p.columns[t.slot]
	}
	end, size, ascii := p.copy(c, i)
	if end < 0 {
		return left
	}
	if r := t.text; r != nil && !(r.lengths && ascii && size >= r.minLength && uint(size) <= uint(r.maxLength)) {
		if !r.good(c.text.values[c.size:c.size+size], ascii) {
			return left
		}
	}
	if t.slot >= 0 {
		c.size += size
		c.end(c.size)
		c.rows++
	}
	return end
}

// copy writes what the string at i says behind the text of c, without counting it. It copies whole words and looks
// for their end at the same time.
func (p *pass) copy(c *column, i int) (end, size int, ascii bool) {
	if c.size+p.size-i+spare > len(c.text.values) {
		p.makeRoom(c, i)
	}
	from := unsafe.Add(p.base, i)
	to := unsafe.Add(unsafe.Pointer(unsafe.SliceData(c.text.values)), c.size)
	k := 0
	if plain := p.with.plain; plain != nil {
		// Also of short strings, as then it does not have to be foretold how many words they have.
		k = plain((*byte)(to), (*byte)(from))
		if *(*byte)(unsafe.Add(from, k)) == '"' {
			return i + k + 1, k, true
		}
		return p.copyOdd(to, i+k, k)
	}
	for {
		w := load(from, k)
		binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(to, k))[:], w)
		if m := special(w); m != 0 {
			k += bits.TrailingZeros64(m) >> 3
			break
		}
		k += 8
	}
	if *(*byte)(unsafe.Add(from, k)) == '"' {
		return i + k + 1, k, true
	}
	return p.copyOdd(to, i+k, k)
}

// copyOdd is copy from a byte on that is special, which is at i and goes to k.
func (p *pass) copyOdd(to unsafe.Pointer, i, k int) (end, size int, ascii bool) {
	ascii = true
	for {
		b := p.byte(i)
		if b == '"' {
			return i + 1, k, ascii
		}
		if b >= utf8.RuneSelf {
			ascii = false
			if i, k = p.runes(to, i, k); i < 0 {
				return left, 0, false
			}
		} else if b != '\\' {
			return left, 0, false
		} else if b = simpleEscape[p.byte(i+1)]; b != 0 {
			*(*byte)(unsafe.Add(to, k)) = b
			i, k = i+2, k+1
		} else {
			r, after := p.escape(i)
			if after < 0 {
				return left, 0, false
			}
			ascii = ascii && r < utf8.RuneSelf
			k += utf8.EncodeRune((*[utf8.UTFMax]byte)(unsafe.Add(to, k))[:], r)
			i = after
		}
		for {
			w := p.word(i)
			binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(to, k))[:], w)
			if m := special(w); m != 0 {
				n := bits.TrailingZeros64(m) >> 3
				i, k = i+n, k+n
				break
			}
			i, k = i+8, k+8
		}
	}
}

// makeRoom makes sure that the string at i fits behind the text of c. Nearly always there is room for the rest of the
// record, which is more than enough; only where there is not is the string measured.
func (p *pass) makeRoom(c *column, i int) {
	end := i
	for end < p.size && p.byte(end) != '"' && p.byte(end) != 0 {
		if p.byte(end) == '\\' {
			end++
		}
		end++
	}
	c.textRoom(end - i)
}

// runes copies characters outside ASCII, of which one begins at i (The Unicode Standard, table 3-7).
func (p *pass) runes(to unsafe.Pointer, i, k int) (int, int) {
	for {
		w := uint32(p.word(i))
		binary.LittleEndian.PutUint32((*[4]byte)(unsafe.Add(to, k))[:], w)
		second := byte(w >> 8)
		n := 0
		switch lead := byte(w); {
		case lead < utf8.RuneSelf:
			return i, k
		case w&0x00C0C0F0 == 0x008080E0:
			if lead == 0xE0 && second < 0xA0 || lead == 0xED && second >= 0xA0 {
				return left, 0
			}
			n = 3
		case w&0x0000C0E0 == 0x000080C0:
			if lead < 0xC2 {
				return left, 0
			}
			n = 2
		case w&0xC0C0C0F8 == 0x808080F0:
			if lead == 0xF0 && second < 0x90 || lead > 0xF4 || lead == 0xF4 && second >= 0x90 {
				return left, 0
			}
			n = 4
		default:
			return left, 0
		}
		i, k = i+n, k+n
	}
}

// simpleEscape is what an escape of two characters stands for, by the second one; 0 for those that are none.
var simpleEscape = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// noDigit marks what is no hexadecimal digit: it stays beyond 16 bits however it is shifted.
const noDigit = 1 << 16

var hexDigit = func() (table [256]uint32) {
	for c := range table {
		table[c] = noDigit
	}
	for k := range uint32(16) {
		table["0123456789abcdef"[k]] = k
		table["0123456789ABCDEF"[k]] = k
	}
	return table
}()

// escape reads the \u escape at i, or the two that make a character beyond 16 bits.
func (p *pass) escape(i int) (r rune, end int) {
	high := p.hex4(i)
	if high >= noDigit || high&0xFC00 == 0xDC00 {
		return 0, left
	}
	if high&0xFC00 != 0xD800 {
		return rune(high), i + 6
	}
	low := p.hex4(i + 6)
	if low >= noDigit || low&0xFC00 != 0xDC00 {
		return 0, left
	}
	return rune((high&0x3FF)<<10|low&0x3FF) + 0x10000, i + 12
}

// hex4 reads a backslash, a u and four digits; noDigit or more when they are not there.
func (p *pass) hex4(i int) uint32 {
	w := p.word(i)
	if uint16(w) != '\\'|'u'<<8 {
		return noDigit
	}
	return hexDigit[byte(w>>16)]<<12 | hexDigit[byte(w>>24)]<<8 | hexDigit[byte(w>>32)]<<4 | hexDigit[byte(w>>40)]
}

// good tells whether a text, in a buffer with spare bytes behind, meets the demands.
func (r *textRules) good(text []byte, ascii bool) bool {
	// A code point has one to four bytes, which often is all that one needs to know.
	if r.maxLength >= 0 && len(text) > r.maxLength && (ascii || utf8.RuneCount(text) > r.maxLength) ||
		len(text) < r.minLength || !ascii && len(text) < 4*r.minLength && utf8.RuneCount(text) < r.minLength {
		return false
	}
	if r.short != nil && !r.listed(text) {
		return false
	}
	for i := range r.patterns {
		if !r.patterns[i].match(text, ascii) {
			return false
		}
	}
	return r.rest == nil || r.rest.checkText(text) == finding.Code("")
}

// listed tells whether a text is one of a few short ones.
func (r *textRules) listed(text []byte) bool {
	if len(text) > 16 {
		return false
	}
	base := unsafe.Pointer(unsafe.SliceData(text))
	first := binary.LittleEndian.Uint64((*[8]byte)(base)[:]) & lowBytes(len(text))
	second := binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(base, 8))[:]) & lowBytes(len(text)-8)
	for i := range r.short {
		if s := &r.short[i]; s.size == len(text) && s.head[0] == first && s.head[1] == second {
			return true
		}
	}
	return false
}
