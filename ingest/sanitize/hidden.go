package sanitize

import (
	"unicode"
	"unicode/utf8"
)

// Hidden characters are those that a reader does not see and a model reads: Unicode's default ignorable code points
// (UAX #44), controls of direction, and control characters that terminals and editors act on. They carry hidden
// text, split words past a filter, or reverse what is shown (CVE-2021-42574; Boucher et al., "Bad Characters",
// arXiv 2106.09898).
//
// Some of them are part of correct writing and stay where they are, one at a time:
//
//   - ZWJ between two pictographs (UTS #51 sequences), and ZWJ and ZWNJ behind a letter or mark of a script that
//     shapes its letters: Arabic and its kin, the scripts of India and South-East Asia, Mongolian (RFC 5892,
//     appendix A, without its tables of joining types);
//   - a variation selector behind a base that can vary: VS15 and VS16 behind a pictograph or a keycap's base, any
//     behind a Han ideograph, VS1 to VS3 also behind a mathematical symbol or a letter of Myanmar or Phags-pa;
//   - Mongolian's own selectors and vowel separator behind a Mongolian letter;
//   - tag characters that complete one of the three flags that Unicode recommends (England, Scotland, Wales);
//   - zero-width space between letters of scripts written without spaces (Thai, Lao, Khmer, Myanmar, Tibetan);
//   - LRM, RLM and ALM in a text that has right-to-left letters;
//   - Hangul fillers beside conjoining jamo.

// stripHidden appends text to dst without its hidden characters and returns how many there were.
func stripHidden(dst, text []byte) ([]byte, int) {
	removed, done := 0, 0
	previous := rune(-1) // the last character that stays
	before := rune(-1)   // the one before it
	bidi := 0            // 1: the text has right-to-left letters, -1: it has none, 0: not looked yet
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[i:])
		}
		if !hidden(r) {
			before, previous = previous, r
			i += n
			continue
		}
		if r == '\u200e' || r == '\u200f' || r == '\u061c' {
			if bidi == 0 {
				bidi = -1
				if hasRightToLeft(text) {
					bidi = 1
				}
			}
			if bidi > 0 && !hidden(previous) {
				before, previous = previous, r
				i += n
				continue
			}
		}
		if previous == '\U0001F3F4' && r >= 0xe0020 && r <= 0xe007f {
			if flag := flagTags(text[i:]); flag > 0 {
				before, previous = previous, '\U000E007F'
				i += flag
				continue
			}
		}
		next := rune(-1)
		if i+n < len(text) {
			next, _ = utf8.DecodeRune(text[i+n:])
		}
		if legitimate(r, before, previous, next) {
			before, previous = previous, r
			i += n
			continue
		}
		dst = append(dst, text[done:i]...)
		i += n
		done = i
		removed++
	}
	if removed == 0 {
		return dst, 0
	}
	return append(dst, text[done:]...), removed
}

// hidden tells whether a character is one of those that must justify themselves.
func hidden(r rune) bool {
	switch {
	case r < 0xad:
		return r >= 0 && r < 0x20 && r != '\t' && r != '\n' && r != '\r' && r != '\f' || r >= 0x7f && r < 0xa0 && r != 0x85
	case r < 0x2000:
		switch r {
		case 0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x17b5:
			return true
		}
		return r >= 0x180b && r <= 0x180f
	case r < 0x2070:
		return r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060
	case r < 0xfe00:
		return r == 0x3164
	case r <= 0xffff:
		return r <= 0xfe0f || r == 0xfeff || r == 0xffa0 || r >= 0xfff0 && r <= 0xfffb
	}
	return r >= 0xe0000 && r <= 0xe0fff || r >= 0x1bca0 && r <= 0x1bca3 || r >= 0x1d173 && r <= 0x1d17a
}

// legitimate tells whether the hidden character r is right where it stands.
func legitimate(r, before, previous, next rune) bool {
	switch {
	case r == '\u200d': // ZWJ
		if unicode.In(next, joining...) && unicode.In(previous, joining...) {
			return true
		}
		base := previous
		if base == 0xfe0f || base >= 0x1f3fb && base <= 0x1f3ff {
			base = before
		}
		if pictograph(base) && pictograph(next) {
			return true
		}
		return unicode.In(previous, joining...)
	case r == '\u200c': // ZWNJ
		return unicode.In(previous, joining...) && (next < 0 || unicode.In(next, joining...) || !unicode.IsLetter(next))
	case r == '\u200b': // ZWSP
		return unicode.In(previous, unspaced...) && unicode.In(next, unspaced...)
	case r == 0xfe0e || r == 0xfe0f:
		return pictograph(previous) || previous == '#' || previous == '*' || previous >= '0' && previous <= '9' && next == 0x20e3 ||
			unicode.Is(unicode.Han, previous)
	case r >= 0xfe00 && r <= 0xfe02:
		return unicode.In(previous, unicode.Han, unicode.Sm, unicode.Myanmar, unicode.Phags_Pa)
	case r > 0xfe02 && r <= 0xfe0d, r >= 0xe0100 && r <= 0xe01ef:
		return unicode.Is(unicode.Han, previous)
	case r >= 0x180b && r <= 0x180f:
		return unicode.Is(unicode.Mongolian, previous) && !hidden(previous)
	case r == 0x115f || r == 0x1160:
		return jamo(previous) || jamo(next)
	}
	return false
}

// joining are the scripts whose letters change shape beside ZWJ and ZWNJ.
var joining = []*unicode.RangeTable{
	unicode.Arabic, unicode.Syriac, unicode.Mandaic, unicode.Nko, unicode.Mongolian, unicode.Phags_Pa, unicode.Adlam,
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil,
	unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar,
	unicode.Tibetan, unicode.Balinese, unicode.Javanese,
}

// unspaced are the scripts that mark where a line may break by a zero-width space.
var unspaced = []*unicode.RangeTable{unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan}

// rightToLeft are the scripts written from right to left that are in use.
var rightToLeft = []*unicode.RangeTable{
	unicode.Arabic, unicode.Hebrew, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Mandaic, unicode.Samaritan, unicode.Adlam,
}

func hasRightToLeft(text []byte) bool {
	for _, r := range string(text) {
		if r > 0x590 && unicode.IsLetter(r) && unicode.In(r, rightToLeft...) {
			return true
		}
	}
	return false
}

// pictograph tells whether a character can be part of an emoji sequence (Extended_Pictographic, by its blocks).
func pictograph(r rune) bool {
	switch {
	case r < 0x2000:
		return r == 0xa9 || r == 0xae
	case r < 0x2c00:
		return r >= 0x2190 && r <= 0x21ff || r >= 0x2300 && r <= 0x23ff || r >= 0x25a0 && r <= 0x27bf ||
			r >= 0x2900 && r <= 0x297f || r >= 0x2b00 || r == 0x203c || r == 0x2049 || r == 0x2122 || r == 0x2139 || r == 0x24c2
	case r < 0x1f000:
		return r == 0x3030 || r == 0x303d || r == 0x3297 || r == 0x3299
	}
	return r <= 0x1faff
}

func jamo(r rune) bool { return r >= 0x1100 && r <= 0x11ff && r != 0x115f && r != 0x1160 }

// flagTags returns the length of the tag characters that begin text and complete a flag behind a black flag; 0 when
// they do not. Any other use of tag characters is text in hiding.
func flagTags(text []byte) int {
	const size, most = 4, 6 // bytes of a tag character; gbeng and its kin with the cancel tag
	var tag [most]byte
	for i := range tag {
		r, n := utf8.DecodeRune(text[min(i*size, len(text)):])
		if n != size || r < 0xe0020 || r > 0xe007f {
			return 0
		}
		tag[i] = byte(r - 0xe0000)
	}
	switch string(tag[:]) {
	case "gbeng\x7f", "gbsct\x7f", "gbwls\x7f":
		return most * size
	}
	return 0
}
