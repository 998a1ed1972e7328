package sanitize

import (
	"encoding/binary"
	"math/bits"
)

// What the filter saw in a string.
const (
	hasAt      uint8 = 1 << iota // an @
	hasDigits                    // enough digits close together for a card number
	hasHigh                      // a byte that is not ASCII
	hasControl                   // an ASCII control character other than TAB, LF and CR
)

const (
	low    = 0x0101010101010101
	high   = 0x8080808080808080
	digits = 11 // in three words: the shortest card number has 12, a lone one of which may lie in a fourth word
)

// look filters a string eight bytes at a time. It may see something that is not there, and never misses anything.
func look(b []byte) uint8 {
	var flags uint8
	if len(b) < 8 {
		for _, c := range b {
			flags |= classes[c]
		}
		return flags
	}
	var seen, ats, controls uint64
	var before, last int // digits in the two words before
	for i := 0; ; {
		w := binary.LittleEndian.Uint64(b[i:])
		seen |= w
		at := w ^ '@'*low
		ats |= (at - low) &^ at & high
		del := w ^ 0x7f*low
		if ((w-0x20*low)&^w|(del-low)&^del)&high != 0 {
			for _, c := range b[i : i+8] {
				controls |= uint64(classes[c] & hasControl)
			}
		}
		d := w ^ '0'*low
		n := 8 - bits.OnesCount64(((d&^high+0x76*low)|d)&high)
		if before+last+n >= digits {
			flags |= hasDigits
		}
		before, last = last, n
		switch {
		case i+16 <= len(b):
			i += 8
		case i+8 < len(b):
			i = len(b) - 8 // overlaps the word before: digits counted twice do no harm
		default:
			if ats != 0 {
				flags |= hasAt
			}
			if seen&high != 0 {
				flags |= hasHigh
			}
			if controls != 0 {
				flags |= hasControl
			}
			return flags
		}
	}
}

// classes gives the flags of a byte alone.
var classes = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == '@':
			t[c] = hasAt
		case c >= 0x80:
			t[c] = hasHigh
		case c == 0x7f, c < 0x20 && c != '\t' && c != '\n' && c != '\r':
			t[c] = hasControl
		}
	}
	return t
}()
