package sanitize

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// appendEmails appends the e-mail addresses in text: around each @ as long a local part and as long a domain as the
// grammar allows. Letters of every script count (RFC 6531).
func appendEmails(spans []span, text []byte) []span {
	floor := 0 // nothing before it belongs to a further address
	for from := 0; ; {
		i := bytes.IndexByte(text[from:], '@')
		if i < 0 {
			return spans
		}
		at := from + i
		from = at + 1
		start := localPart(text[floor:at]) + floor
		end := at + 1 + domain(text[at+1:])
		if start == at || end == at+1 {
			continue
		}
		spans = append(spans, span{start, end, EmailAddress})
		floor, from = end, end
	}
}

// localPart returns where the local part that ends b begins; len(b) when there is none.
func localPart(b []byte) int {
	const most = 64 // octets, RFC 5321, 4.5.3.1.1
	i := len(b)
	for i > 0 {
		r, n := utf8.DecodeLastRune(b[:i])
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			if r >= utf8.RuneSelf || bytes.IndexByte([]byte("._%+-'&~!#$*^"), byte(r)) < 0 {
				break
			}
			if r == '.' && i < len(b) && b[i] == '.' {
				break // an ellipsis, not two dots of one address
			}
		}
		if len(b)-(i-n) > most {
			return len(b)
		}
		i -= n
	}
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' {
			break
		}
		i += n
	}
	if i < len(b) && b[len(b)-1] == '.' {
		return len(b)
	}
	return i
}

// domain returns the length of the domain name that begins b; 0 when there is none with two labels at least, the
// last of which is a top level.
func domain(b []byte) int {
	const longest = 253
	end, label := 0, 0 // end of the labels so far; start of this one
	labels := 0
	var top []byte
	for i := 0; i <= len(b) && i <= longest; {
		r, n := rune('.'), 1
		if i < len(b) {
			r, n = utf8.DecodeRune(b[i:])
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '-' {
			i += n
			continue
		}
		piece := bytes.TrimRight(b[label:i], "-")
		if len(piece) == 0 || piece[0] == '-' || len(piece) > 63 {
			break
		}
		labels++
		if isTop(piece) && labels > 1 {
			end, top = label+len(piece), piece
		}
		if r != '.' || len(piece) < i-label {
			break
		}
		i += n
		label = i
	}
	if isFile(top) {
		return 0
	}
	return end
}

// isTop tells whether a label can be a top-level domain: letters only, two at least, or an A-label.
func isTop(label []byte) bool {
	if bytes.HasPrefix(label, []byte("xn--")) {
		return true
	}
	n := 0
	for _, r := range string(label) {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) {
			return false
		}
		n++
	}
	return n >= 2
}

// isFile tells whether a label is a file name's extension that is no top-level domain.
func isFile(label []byte) bool {
	switch string(bytes.ToLower(label)) {
	case "png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "pdf", "css", "js", "ts", "tsx", "html", "json", "xml", "mp4":
		return true
	}
	return false
}
