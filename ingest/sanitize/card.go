package sanitize

// A card number has 12 to 19 digits (ISO/IEC 7812-1).
const (
	shortestCard = 12
	longestCard  = 19
)

// layouts are the groups in which card numbers are printed.
var layouts = [][]int{
	{4, 4, 4, 4, 3},
	{4, 4, 4, 4},
	{4, 6, 5},
	{4, 6, 4},
}

// appendCards appends the card numbers in text.
func appendCards(spans []span, text []byte) []span {
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		end := i + 1
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		if startsCard(text, i) {
			if n := cardAt(text[i:], end-i); n > 0 {
				spans = append(spans, span{i, i + n, CreditCard})
				end = i + n
			}
		}
		i = end
	}
	return spans
}

// cardAt returns the length of the card number that begins text, whose first run of digits has the length run; 0
// when there is none.
func cardAt(text []byte, run int) int {
	var number [longestCard]byte
	if run >= shortestCard {
		if run > longestCard || !endsCard(text, run) {
			return 0
		}
		if n := copy(number[:], text[:run]); isCard(number[:n]) {
			return run
		}
		return 0
	}
	if run != 4 || run == len(text) || text[run] != ' ' && text[run] != '-' && text[run] != '.' {
		return 0
	}
	separator := text[run]
	for _, layout := range layouts {
		at, n, ok := 0, 0, true
		for g, size := range layout {
			if g > 0 {
				if at >= len(text) || text[at] != separator {
					ok = false
					break
				}
				at++
			}
			stop := at
			for stop < len(text) && stop-at <= size && isDigit(text[stop]) {
				stop++
			}
			if stop-at != size {
				ok = false
				break
			}
			n += copy(number[n:], text[at:stop])
			at = stop
		}
		if ok && endsCard(text, at) && isCard(number[:n]) {
			return at
		}
	}
	return 0
}

// startsCard tells whether what stands before text[i] lets a card number begin there: not the middle of a word, of a
// decimal fraction or of an identifier such as a UUID.
func startsCard(text []byte, i int) bool {
	if i == 0 {
		return true
	}
	before := byte(' ')
	if i > 1 {
		before = text[i-2]
	}
	return stands(text[i-1], before)
}

// endsCard is startsCard for the other end: the number ended before text[i].
func endsCard(text []byte, i int) bool {
	if i >= len(text) {
		return true
	}
	after := byte(' ')
	if i+1 < len(text) {
		after = text[i+1]
	}
	return stands(text[i], after)
}

// stands tells whether a number may end at the byte next, behind which comes beyond.
func stands(next, beyond byte) bool {
	switch next {
	case '.', ',':
		return !isDigit(beyond)
	case '-', '_':
		return !isWord(beyond)
	}
	return !isWord(next)
}

func isDigit(c byte) bool { return c-'0' < 10 }

func isWord(c byte) bool { return isDigit(c) || (c|0x20)-'a' < 26 }

// isCard tells whether the digits are a card number: an issuer's prefix with a length that it uses, and the check
// digit.
func isCard(d []byte) bool {
	return issued(d) && luhn(d)
}

// issued tells whether a scheme has such a prefix and length (ISO/IEC 7812-1 major industry identifiers and the
// ranges that the schemes publish).
func issued(d []byte) bool {
	n := len(d)
	prefix := func(k int) int {
		v := 0
		for _, c := range d[:k] {
			v = v*10 + int(c-'0')
		}
		return v
	}
	two, three, four := prefix(2), prefix(3), prefix(4)
	switch {
	case d[0] == '4': // Visa
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		return n == 16
	case two == 34 || two == 37: // American Express
		return n == 15
	case three >= 300 && three <= 305 || three == 309 || two == 36 || two == 38 || two == 39: // Diners Club
		return n == 14 || n == 16 || n == 19
	case two == 35: // JCB has 3528 to 3589; no other scheme has the rest of 35
		return n >= 16
	case four == 2131 || four == 1800: // JCB, older
		return n == 15
	case four == 6011 || three >= 644 && three <= 649 || two == 65: // Discover
		return n >= 16
	case four >= 2200 && four <= 2204, two == 62, two == 81, two == 82, two == 60, four == 9792: // Mir, UnionPay, RuPay, Troy
		return n >= 16
	case four == 5018 || four == 5020 || four == 5038 || two >= 56 && two <= 58 ||
		four == 6304 || four == 6390 || four == 6759 || four >= 6761 && four <= 6763: // Maestro
		return true
	case two == 50, d[0] == '6': // Maestro's other ranges, which are wide: only in full length
		return n >= 16
	}
	return false
}

// luhn checks the last digit by the formula of ISO/IEC 7812-1, annex B.
func luhn(d []byte) bool {
	sum := 0
	for i, c := range d {
		v := int(c - '0')
		if (len(d)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}
