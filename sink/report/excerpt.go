package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tasterhq/taster/schema/finding"
)

const (
	excerptRunes = 300 // of a text in an excerpt
	before       = 90  // of these, before the evidence
	mostHits     = 40  // places where evidence is found in one text
	widestGap    = 40  // tokens that an ellipsis in a phrase may stand for
)

// excerpt cuts out of a text what shows why it was flagged: the phrase that a finding quotes, wherever it stands, with
// what is around it. highlights are the places of the phrase in the excerpt, [from, to) in code points, by rising from.
func excerpt(text []byte, found []finding.Finding) (cut string, highlights [][2]int) {
	if len(text) == 0 {
		return "", nil
	}
	whole := strings.ToValidUTF8(string(text), "\ufffd")
	tokens := tokenize(whole)
	var hits [][2]int // bytes
	first := -1
	for _, f := range telling(found) {
		for _, phrase := range quoted(f.Evidence) {
			at := find(whole, tokens, phrase, mostHits-len(hits))
			if first < 0 && len(at) > 0 {
				first = at[0][0]
			}
			hits = append(hits, at...)
		}
	}
	from, to := window(whole, max(first, 0))
	hits = merge(hits)
	var b strings.Builder
	if from > 0 {
		b.WriteString("… ")
	}
	lead := b.Len()
	b.WriteString(whole[from:to])
	if to < len(whole) {
		b.WriteString(" …")
	}
	cut = b.String()
	points := func(offset int) int { return utf8.RuneCountInString(cut[:offset]) }
	for _, h := range hits {
		if h[0] = max(h[0], from); h[0] < min(h[1], to) {
			highlights = append(highlights, [2]int{points(h[0] - from + lead), points(min(h[1], to) - from + lead)})
		}
	}
	return cut, highlights
}

// telling are the findings that flag by themselves; where none does, all of them.
func telling(found []finding.Finding) []finding.Finding {
	var fired []finding.Finding
	for _, f := range found {
		if f.PValue <= f.Threshold {
			fired = append(fired, f)
		}
	}
	if fired == nil {
		return found
	}
	return fired
}

// window returns the bytes of an excerpt that shows the byte at hit. It begins and ends between words where there is a
// space near.
func window(text string, hit int) (from, to int) {
	from, to = hit, hit
	after := 0
	for ; after < excerptRunes && to < len(text); after++ {
		_, size := utf8.DecodeRuneInString(text[to:])
		to += size
	}
	for n := 0; n < max(before, excerptRunes-after) && from > 0; n++ {
		_, size := utf8.DecodeLastRuneInString(text[:from])
		from -= size
	}
	if rest := text[from:hit]; from > 0 {
		if space := strings.IndexByte(rest, ' '); space >= 0 && space < before/3 {
			from += space + 1
		}
	}
	to = from
	for n := 0; n < excerptRunes && to < len(text); n++ {
		_, size := utf8.DecodeRuneInString(text[to:])
		to += size
	}
	if to < len(text) {
		if space := strings.LastIndexByte(text[from:to], ' '); space > (to-from)*4/5 && from+space > hit {
			to = from + space
		}
	}
	return from, to
}

// merge sorts places and joins those that overlap.
func merge(hits [][2]int) [][2]int {
	slices.SortFunc(hits, func(x, y [2]int) int { return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1])) })
	out := hits[:0]
	for _, h := range hits {
		if n := len(out); n > 0 && h[0] <= out[n-1][1] {
			out[n-1][1] = max(out[n-1][1], h[1])
		} else {
			out = append(out, h)
		}
	}
	return out
}

// quoted returns the phrases that evidence quotes, as lower-case tokens; an ellipsis stands for any words between. What
// is quoted as a label or a class is no phrase of the text.
func quoted(evidence string) [][]string {
	var phrases [][]string
	for at := 0; at < len(evidence); {
		if evidence[at] != '"' {
			at++
			continue
		}
		prefix, err := strconv.QuotedPrefix(evidence[at:])
		if err != nil {
			at++
			continue
		}
		lead := strings.TrimRight(evidence[:at], " ")
		at += len(prefix)
		if strings.HasSuffix(lead, "label") || strings.HasSuffix(lead, "class") || strings.HasSuffix(lead, "labelled") {
			continue
		}
		phrase, err := strconv.Unquote(prefix)
		if err != nil {
			continue
		}
		var words []string
		for _, t := range tokenize(phrase) {
			words = append(words, strings.ToLower(phrase[t[0]:t[1]]))
		}
		words = trimGaps(words)
		if len(words) > 0 {
			phrases = append(phrases, words)
		}
	}
	return phrases
}

func trimGaps(words []string) []string {
	for len(words) > 0 && words[0] == "…" {
		words = words[1:]
	}
	for len(words) > 0 && words[len(words)-1] == "…" {
		words = words[:len(words)-1]
	}
	return words
}

// tokenize cuts a text into words and single other characters; white space is left out.
func tokenize(text string) [][2]int {
	var tokens [][2]int
	word := -1
	for at, size := 0, 0; at < len(text); at += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[at:])
		inside := unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || r == '_'
		if inside {
			if word < 0 {
				word = at
			}
			continue
		}
		if word >= 0 {
			tokens = append(tokens, [2]int{word, at})
			word = -1
		}
		if !unicode.IsSpace(r) {
			tokens = append(tokens, [2]int{at, at + size})
		}
	}
	if word >= 0 {
		tokens = append(tokens, [2]int{word, len(text)})
	}
	return tokens
}

// find returns where a phrase stands in a text, at most so many times: the bytes of each run of its words.
func find(text string, tokens [][2]int, phrase []string, most int) (hits [][2]int) {
	is := func(at, word int) bool {
		return strings.EqualFold(text[tokens[at][0]:tokens[at][1]], phrase[word])
	}
	for at := 0; at < len(tokens) && len(hits) < most; at++ {
		if !is(at, 0) {
			continue
		}
		var runs [][2]int
		next, word, gap := at, 0, 0
		for word < len(phrase) && next < len(tokens) {
			if phrase[word] == "…" {
				word, gap = word+1, widestGap
				continue
			}
			end := word
			for end < len(phrase) && phrase[end] != "…" {
				end++
			}
			start, ok := run(next, next+gap, word, end, len(tokens), is)
			if !ok {
				break
			}
			next, gap = start+end-word, 0
			runs = append(runs, [2]int{tokens[start][0], tokens[next-1][1]})
			word = end
		}
		if word == len(phrase) {
			hits = append(hits, runs...)
			at = next - 1
		}
	}
	return hits[:min(len(hits), max(most, 0))]
}

// run looks for the words [from, to) of a phrase, side by side, beginning at a token in [first, last].
func run(first, last, from, to, tokens int, is func(at, word int) bool) (int, bool) {
	for start := first; start <= last && start+to-from <= tokens; start++ {
		match := true
		for i := from; i < to && match; i++ {
			match = is(start+i-from, i)
		}
		if match {
			return start, true
		}
	}
	return 0, false
}

// piece is a part of an excerpt.
type piece struct {
	Text string
	Hit  bool // it is what the evidence quotes
}

// pieces cuts an excerpt at its highlights.
func pieces(cut string, highlights [][2]int) []piece {
	var out []piece
	points := []rune(cut)
	add := func(from, to int, hit bool) {
		if from < to {
			out = append(out, piece{string(points[from:to]), hit})
		}
	}
	at := 0
	for _, h := range highlights {
		add(at, h[0], false)
		add(h[0], h[1], true)
		at = h[1]
	}
	add(at, len(points), false)
	return out
}
