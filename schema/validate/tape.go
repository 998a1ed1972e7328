package validate

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/tasterhq/taster/schema/finding"
)

// kind is the type of a JSON value as it stands on the tape.
type kind uint8

const (
	kindNull kind = iota
	kindFalse
	kindTrue
	kindInt    // digits alone, within int64; never -0
	kindNumber // any other number
	kindString
	kindArray
	kindObject
)

// node is one value or one key on the tape. A container stands before its contents; the members of an object
// alternate key and value.
type node struct {
	kind    kind
	escaped bool   // a string with escapes: its text is in the arena
	start   uint32 // first byte of the value as it came, the opening quote of a string included
	end     uint32 // behind its last byte
	bits    uint64 // int64, float64 bits; arena place of an escaped string; next node and size of a container
}

func pair(hi, lo int) uint64 { return uint64(uint32(hi))<<32 | uint64(uint32(lo)) }

// size is the number of items or members of a container.
func (n *node) size() int { return int(uint32(n.bits)) }

// float is the number's value, correctly rounded.
func (n *node) float() float64 {
	if n.kind == kindInt {
		return float64(int64(n.bits))
	}
	return math.Float64frombits(n.bits)
}

// tape is a JSON text taken apart: one flat run of nodes, in the order of the text, used again for the next one.
// It is strict (RFC 8259, RFC 7493): duplicate names, lone surrogates and invalid UTF-8 are refused wherever they
// stand. Work is linear in the text, whatever it holds, and the depth of nesting costs no stack.
type tape struct {
	src   []byte
	nodes []node
	arena []byte  // texts of strings that have escapes
	open  []int32 // nodes of the containers that are not closed yet
	table []int32 // hash table of one large object's keys: node of a key, 0 for none
	seed  maphash.Seed
}

const (
	keptNodes = 1 << 18 // a tape longer than this (6 MiB) is not kept for the next text
	keptArena = 4 << 20
)

// next returns the node that follows the value at i and all that is in it.
func (t *tape) next(i int) int {
	if n := &t.nodes[i]; n.kind >= kindArray {
		return int(n.bits >> 32)
	}
	return i + 1
}

// text is the string's or key's text, without quotes and escapes.
func (t *tape) text(n *node) []byte {
	if n.escaped {
		at := n.bits >> 32
		return t.arena[at : at+uint64(uint32(n.bits))]
	}
	return t.src[n.start+1 : n.end-1]
}

// raw is the value as it came.
func (t *tape) raw(n *node) []byte { return t.src[n.start:n.end] }

// parse takes src apart. A code other than "" says why it could not, and at where. The tape refers to src.
func (t *tape) parse(src []byte, depth int) (code finding.Code, at int) {
	if cap(t.nodes) > keptNodes {
		t.nodes, t.table = nil, nil
	}
	if cap(t.arena) > keptArena {
		t.arena = nil
	}
	t.src, t.nodes, t.arena, t.open = src, t.nodes[:0], t.arena[:0], t.open[:0]

	i := space(src, 0)
	if i == len(src) {
		return finding.Empty, 0
	}
	for {
		// A value begins at i.
		if i == len(src) {
			return finding.JSONTruncated, i
		}
		switch c := src[i]; c {
		case '"':
			if i, code = t.str(i); code != "" {
				return code, i
			}
		case '{', '[':
			if len(t.open) == depth {
				return finding.TooDeep, i
			}
			t.open = append(t.open, int32(len(t.nodes)))
			k := kindObject
			if c == '[' {
				k = kindArray
			}
			t.nodes = append(t.nodes, node{kind: k, start: uint32(i)})
			i = space(src, i+1)
			if i == len(src) {
				return finding.JSONTruncated, i
			}
			if src[i] == c+2 { // ']' and '}' stand two behind their partners
				i++
				t.close(i)
				break
			}
			if k == kindObject {
				if i, code = t.key(i); code != "" {
					return code, i
				}
			}
			continue
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			if i, code = t.number(i); code != "" {
				return code, i
			}
		case 't':
			if i, code = t.literal(i, "true", kindTrue); code != "" {
				return code, i
			}
		case 'f':
			if i, code = t.literal(i, "false", kindFalse); code != "" {
				return code, i
			}
		case 'n':
			if i, code = t.literal(i, "null", kindNull); code != "" {
				return code, i
			}
		default:
			return t.unexpected(i), i
		}

		// A value ends before i; close what ends with it.
		for {
			if len(t.open) == 0 {
				if i = space(src, i); i < len(src) {
					return finding.JSONTrailing, i
				}
				return "", 0
			}
			if i < len(src) && src[i] != ',' {
				i = space(src, i)
			}
			if i == len(src) {
				return finding.JSONTruncated, i
			}
			top := &t.nodes[t.open[len(t.open)-1]]
			top.bits++
			if src[i] == ',' {
				i = space(src, i+1)
				if top.kind == kindObject {
					if i, code = t.key(i); code != "" {
						return code, i
					}
				}
				break
			}
			if top.kind == kindObject && src[i] == '}' {
				if second := t.repeated(t.open[len(t.open)-1]); second >= 0 {
					return finding.JSONDuplicateKey, int(t.nodes[second].start)
				}
			} else if top.kind != kindArray || src[i] != ']' {
				return t.unexpected(i), i
			}
			i++
			t.close(i)
		}
	}
}

// close ends the innermost open container before end.
func (t *tape) close(end int) {
	last := len(t.open) - 1
	n := &t.nodes[t.open[last]]
	n.end = uint32(end)
	n.bits = pair(len(t.nodes), int(n.bits))
	t.open = t.open[:last]
}

// unexpected tells what a byte is that no grammar rule wants.
func (t *tape) unexpected(i int) finding.Code {
	if r, size := utf8.DecodeRune(t.src[i:]); r == utf8.RuneError && size <= 1 {
		return finding.UTF8Invalid
	}
	return finding.JSONSyntax
}

// key reads a member's name and the colon, and returns where the value begins.
func (t *tape) key(i int) (int, finding.Code) {
	if i == len(t.src) {
		return i, finding.JSONTruncated
	}
	if t.src[i] != '"' {
		return i, t.unexpected(i)
	}
	i, code := t.str(i)
	if code != "" {
		return i, code
	}
	if i < len(t.src) && t.src[i] != ':' {
		i = space(t.src, i)
	}
	if i == len(t.src) {
		return i, finding.JSONTruncated
	}
	if t.src[i] != ':' {
		return i, t.unexpected(i)
	}
	return space(t.src, i+1), ""
}

func (t *tape) literal(i int, word string, k kind) (int, finding.Code) {
	rest := t.src[i:]
	if len(rest) >= len(word) && string(rest[:len(word)]) == word {
		t.nodes = append(t.nodes, node{kind: k, start: uint32(i), end: uint32(i + len(word))})
		return i + len(word), ""
	}
	for j := range rest {
		if rest[j] != word[j] {
			return i + j, t.unexpected(i + j)
		}
	}
	return len(t.src), finding.JSONTruncated
}

func space(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\r' || src[i] == '\t') {
		i++
	}
	return i
}

// Eight bytes at a time ("SWAR"): a high bit for each byte that ends a plain run of string text, which is a quote,
// a backslash, a control character or anything outside ASCII. Bits above the lowest one may be wrong.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return (w | (quote-ones)&^quote | (slash-ones)&^slash | (w-ones*0x20)&^w) & highs
}

// plain returns the first byte at or behind i that is special.
func plain(src []byte, i int) int {
	for i+8 <= len(src) {
		if m := special(binary.LittleEndian.Uint64(src[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(src) && src[i] >= 0x20 && src[i] < utf8.RuneSelf && src[i] != '"' && src[i] != '\\' {
		i++
	}
	return i
}

// rune returns the end of the character outside ASCII that begins at i.
func (t *tape) rune(i int) (int, finding.Code) {
	r, size := utf8.DecodeRune(t.src[i:])
	if r == utf8.RuneError && size <= 1 {
		if !utf8.FullRune(t.src[i:]) {
			return len(t.src), finding.JSONTruncated
		}
		return i, finding.UTF8Invalid
	}
	return i + size, ""
}

// str reads the string that opens at i, and returns what follows it.
func (t *tape) str(i int) (int, finding.Code) {
	src, j := t.src, i+1
	var code finding.Code
	for {
		j = plain(src, j)
		if j == len(src) {
			return j, finding.JSONTruncated
		}
		switch c := src[j]; {
		case c == '"':
			t.nodes = append(t.nodes, node{kind: kindString, start: uint32(i), end: uint32(j + 1)})
			return j + 1, ""
		case c == '\\':
			return t.unescape(i, j)
		case c < 0x20:
			return j, finding.JSONSyntax
		}
		for j < len(src) && src[j] >= utf8.RuneSelf {
			if j, code = t.rune(j); code != "" {
				return j, code
			}
		}
	}
}

// unescape reads the string that opens at i and has its first escape at j. Its text goes into the arena.
func (t *tape) unescape(i, j int) (int, finding.Code) {
	src, from, mark := t.src, len(t.arena), i+1
	var code finding.Code
	for {
		switch c := src[j]; {
		case c == '"':
			t.arena = append(t.arena, src[mark:j]...)
			t.nodes = append(t.nodes, node{
				kind: kindString, escaped: true, start: uint32(i), end: uint32(j + 1),
				bits: pair(from, len(t.arena)-from),
			})
			return j + 1, ""
		case c == '\\':
			t.arena = append(t.arena, src[mark:j]...)
			if j, code = t.escape(j); code != "" {
				return j, code
			}
			mark = j
		case c < 0x20:
			return j, finding.JSONSyntax
		default:
			for j < len(src) && src[j] >= utf8.RuneSelf {
				if j, code = t.rune(j); code != "" {
					return j, code
				}
			}
		}
		if j = plain(src, j); j == len(src) {
			return j, finding.JSONTruncated
		}
	}
}

// escape appends to the arena what the escape at j stands for, and returns what follows it.
func (t *tape) escape(j int) (int, finding.Code) {
	src := t.src
	if j+1 == len(src) {
		return len(src), finding.JSONTruncated
	}
	c := src[j+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, end, code := hex4(src, j)
		if code != "" {
			return end, code
		}
		switch {
		case r >= 0xDC00 && r < 0xE000:
			return j, finding.JSONSurrogate
		case r >= 0xD800 && r < 0xDC00:
			if end == len(src) || end+1 == len(src) && src[end] == '\\' {
				return len(src), finding.JSONTruncated
			}
			if src[end] != '\\' || src[end+1] != 'u' {
				return j, finding.JSONSurrogate
			}
			low, after, code := hex4(src, end)
			if code != "" {
				return after, code
			}
			if low < 0xDC00 || low >= 0xE000 {
				return j, finding.JSONSurrogate
			}
			r, end = (r-0xD800)<<10+(low-0xDC00)+0x10000, after
		}
		t.arena = utf8.AppendRune(t.arena, r)
		return end, ""
	default:
		return j + 1, t.unexpected(j + 1)
	}
	t.arena = append(t.arena, c)
	return j + 2, ""
}

// hex4 reads the four digits of the \u escape at j.
func hex4(src []byte, j int) (r rune, end int, code finding.Code) {
	for k := j + 2; k < j+6; k++ {
		if k >= len(src) {
			return 0, len(src), finding.JSONTruncated
		}
		c := src[k]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, k, finding.JSONSyntax
		}
		r = r<<4 | rune(c)
	}
	return r, j + 6, ""
}

var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number reads the number that begins at i, and returns what follows it.
func (t *tape) number(i int) (int, finding.Code) {
	src, start := t.src, i
	negative := src[i] == '-'
	if negative {
		i++
	}
	if i == len(src) {
		return i, finding.JSONTruncated
	}
	first := i
	var mantissa uint64 // of all digits; wrong from the 20th on
	for i < len(src) && i < first+4 && src[i]-'0' <= 9 {
		mantissa = mantissa*10 + uint64(src[i]-'0')
		i++
	}
	if i == first+4 { // rarely are there more before the point
		mantissa, i = digits(src, i, mantissa)
	}
	if i == first || src[first] == '0' && i > first+1 {
		at := min(i, first+1)
		return at, t.unexpected(at)
	}
	count, fraction, exponent := i-first, 0, 0
	whole := true
	if i < len(src) && src[i] == '.' {
		whole = false
		from := i + 1
		if mantissa, i = digits(src, from, mantissa); i == from {
			return t.cut(i)
		}
		fraction = i - from
		count += fraction
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		whole = false
		i++
		minus := false
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			minus = src[i] == '-'
			i++
		}
		from := i
		for i < len(src) && src[i]-'0' <= 9 {
			if exponent < 1<<20 {
				exponent = exponent*10 + int(src[i]-'0')
			}
			i++
		}
		if i == from {
			return t.cut(i)
		}
		if minus {
			exponent = -exponent
		}
	}

	n := node{kind: kindNumber, start: uint32(start), end: uint32(i)}
	if whole && count <= 19 && mantissa < 1<<63 && !(negative && mantissa == 0) {
		n.kind, n.bits = kindInt, mantissa
		if negative {
			n.bits = -mantissa
		}
		t.nodes = append(t.nodes, n)
		return i, ""
	}
	var f float64
	exponent -= fraction
	if count <= 19 && mantissa < 1<<53 && exponent >= -22 && exponent <= 22 {
		// Both are exact doubles, so one operation rounds correctly (Clinger, 1990).
		if f = float64(mantissa); exponent < 0 {
			f /= pow10[-exponent]
		} else {
			f *= pow10[exponent]
		}
		if negative {
			f = -f
		}
	} else {
		text := unsafe.String(&src[start], i-start)
		if len(text) > keptDigits { // strconv gives up on exponents that undo thousands of digits
			exact := parseDecimal(src[start:i])
			text = exact.String()
		}
		var err error
		f, err = strconv.ParseFloat(text, 64)
		// A number that a double cannot tell from zero is as much out of range as one beyond its largest.
		if err != nil || f == 0 && !zero(src[start:i]) {
			return start, finding.NumberRange
		}
	}
	n.bits = math.Float64bits(f)
	t.nodes = append(t.nodes, n)
	return i, ""
}

// cut tells what is wrong where a digit must stand and none does.
func (t *tape) cut(i int) (int, finding.Code) {
	if i == len(t.src) {
		return i, finding.JSONTruncated
	}
	return i, t.unexpected(i)
}

var tens = [16]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// digits reads decimal digits from i on and appends them to m.
func digits(src []byte, i int, m uint64) (uint64, int) {
	const highs, sixes, threes = 0xF0F0F0F0F0F0F0F0, 0x0606060606060606, 0x3333333333333333
	for i+8 <= len(src) {
		w := binary.LittleEndian.Uint64(src[i:])
		// A byte is a digit when its upper half is 3 and stays so when 6 is added. The lowest other byte ends the run.
		other := (w&highs | (w+sixes)&highs>>4) ^ threes
		n := bits.TrailingZeros64(other) >> 3 // 8 when all are digits
		// Zeros are shifted in before those that count. Then eight digits are three multiplications (Lemire, "Number
		// parsing at a gigabyte per second", 2021).
		w = w & 0x0F0F0F0F0F0F0F0F << (64 - 8*n)
		w = w*10 + w>>8
		w = (w&0x000000FF000000FF*0x000F424000000064 + w>>16&0x000000FF000000FF*0x0000271000000001) >> 32
		m = m*tens[n] + w
		i += n
		if n < 8 {
			return m, i
		}
	}
	for i < len(src) {
		c := src[i] - '0'
		if c > 9 {
			break
		}
		m = m*10 + uint64(c)
		i++
	}
	return m, i
}

// few is the number of members up to which comparing each with each is the fastest way to find a repeated name.
const few = 16

// repeated returns the node of the first key in the object that stood there before, or -1.
func (t *tape) repeated(object int32) int {
	size := t.nodes[object].size()
	if size > few {
		return t.repeatedOfMany(int(object), size)
	}
	var marks [few]uint64
	var keys [few]int32
	i := int(object) + 1
	for k := range size {
		n := &t.nodes[i]
		text := t.text(n)
		// Length and first bytes tell nearly all names apart.
		mark := uint64(len(text)) << 56
		if len(text) >= 7 {
			mark |= uint64(binary.LittleEndian.Uint32(text)) | uint64(binary.LittleEndian.Uint32(text[3:]))<<24
		} else {
			for j, c := range text {
				mark |= uint64(c) << (8 * j)
			}
		}
		for j := range k {
			if marks[j] == mark && string(t.text(&t.nodes[keys[j]])) == string(text) {
				return i
			}
		}
		marks[k], keys[k] = mark, int32(i)
		i = t.next(i + 1)
	}
	return -1
}

// repeatedOfMany does the same for many members. The hash is keyed, so that nobody can choose names that collide.
func (t *tape) repeatedOfMany(object, size int) int {
	want := 1 << bits.Len(uint(2*size))
	if cap(t.table) < want {
		t.table = make([]int32, want)
	}
	t.table = t.table[:want]
	clear(t.table)
	i := object + 1
	for range size {
		text := t.text(&t.nodes[i])
		h := maphash.Bytes(t.seed, text)
		for {
			h &= uint64(want - 1)
			at := t.table[h]
			if at == 0 {
				t.table[h] = int32(i)
				break
			}
			if string(t.text(&t.nodes[at])) == string(text) {
				return i
			}
			h++
		}
		i = t.next(i + 1)
	}
	return -1
}
