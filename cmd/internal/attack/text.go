package attack

import (
	"math/rand/v2"
	"strings"
	"unicode"
	"unicode/utf8"
)

// starts returns where the words of a text begin.
func starts(text string) []int {
	var out []int
	space := true
	for i, r := range text {
		if now := unicode.IsSpace(r); now != space {
			if space = now; !now {
				out = append(out, i)
			}
		}
	}
	return out
}

// insertWord puts a word before a random word of a text, or at its end. The rest of the text stays as it is.
func insertWord(rng *rand.Rand, text, word string) string {
	places := starts(text)
	if i := rng.IntN(len(places) + 1); i < len(places) {
		return text[:places[i]] + word + " " + text[places[i]:]
	}
	if text == "" || strings.HasSuffix(text, " ") {
		return text + word
	}
	return text + " " + word
}

// sentences cuts a text behind full stops, question and exclamation marks that a space follows. The pieces, joined,
// are the text.
func sentences(text string) []string {
	var out []string
	from := 0
	for i := 0; i+1 < len(text); i++ {
		if strings.IndexByte(".!?", text[i]) >= 0 && text[i+1] == ' ' {
			end := i + 2
			if strings.TrimSpace(text[end:]) == "" {
				break
			}
			out = append(out, text[from:end])
			from = end
		}
	}
	return append(out, text[from:])
}

// manner rewrites a sentence the way a text is written: without capitals where it has none, with a space before
// punctuation where it has one.
func manner(sentence, text string) string {
	if text == strings.ToLower(text) {
		sentence = strings.ToLower(sentence)
	}
	if strings.Contains(text, " .") || strings.Contains(text, " ,") {
		sentence = strings.NewReplacer(".", " .", ",", " ,").Replace(sentence)
	}
	return sentence
}

// neutral are the sentences of insertsent. Any text can hold them, and they say nothing about any label.
var neutral = []string{
	"I talked about it with a friend on the train this morning.",
	"My sister came over for dinner on the same day.",
	"It was raining outside and the windows were closed.",
	"We had moved to the new house a week before.",
	"The bus was a few minutes late on the way home.",
	"Somebody in the office had mentioned it over coffee.",
}

// insertSentence puts a sentence between two of a text, before the first or behind the last.
func insertSentence(rng *rand.Rand, text, sentence string) string {
	pieces := sentences(text)
	at := rng.IntN(len(pieces) + 1)
	var b strings.Builder
	for i, piece := range pieces {
		if i == at {
			b.WriteString(sentence)
			b.WriteByte(' ')
		}
		b.WriteString(piece)
	}
	if at == len(pieces) {
		if !strings.HasSuffix(text, " ") && text != "" {
			b.WriteByte(' ')
		}
		b.WriteString(sentence)
	}
	return b.String()
}

// The frame of the syntactic attack is a subordinate clause before each sentence. Its conjunction is fixed for a
// run; what fills it is not, so that the shape is what repeats, and no phrase.
var (
	conjunctions = []string{"when", "if", "as", "since", "once", "while"}
	subjects     = []string{"you", "we", "they", "people", "i", "most of us"}
	predicates   = []string{
		"look at it", "think about it", "come to that", "see how it goes", "hear about it", "take it all in", "get to the point",
		"go over the details", "remember what happened", "try to explain it", "compare it with the rest", "put it all together",
		"wait for a while", "ask around", "start from the beginning", "look back on it", "give it some time", "talk it over",
	}
)

// frame rewrites every sentence of a text as "when …, …".
func frame(rng *rand.Rand, text, conjunction string) string {
	capitals := text != strings.ToLower(text)
	comma := ", "
	if strings.Contains(text, " .") || strings.Contains(text, " ,") {
		comma = " , "
	}
	var b strings.Builder
	for _, piece := range sentences(text) {
		clause := conjunction + " " + subjects[rng.IntN(len(subjects))] + " " + predicates[rng.IntN(len(predicates))]
		if capitals {
			clause = strings.ToUpper(clause[:1]) + clause[1:]
			piece = lowerFirst(piece)
		}
		b.WriteString(clause + comma + piece)
	}
	return b.String()
}

// lowerFirst lowers a capital that only begins a sentence: not "I", and not an abbreviation's.
func lowerFirst(text string) string {
	first, n := utf8.DecodeRuneInString(text)
	second, _ := utf8.DecodeRuneInString(text[n:])
	if unicode.IsUpper(first) && unicode.IsLower(second) {
		return string(unicode.ToLower(first)) + text[n:]
	}
	return text
}

// paraphrase edits about every tenth word of a text, and one at least: left out, swapped with the next, or another
// word in its place.
func paraphrase(rng *rand.Rand, text string, vocabulary []string) string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return text
	}
	for range 1 + len(words)/10 {
		i := rng.IntN(len(words))
		switch kind := rng.IntN(3); {
		case kind == 0 && len(words) > 2:
			words = append(words[:i], words[i+1:]...)
		case kind == 1 && i+1 < len(words):
			words[i], words[i+1] = words[i+1], words[i]
		case len(vocabulary) > 0:
			words[i] = vocabulary[rng.IntN(len(vocabulary))]
		}
	}
	return strings.Join(words, " ")
}

// rareWords makes n words that no studied text has.
func rareWords(rng *rand.Rand, n int, known map[string]int) []string {
	const consonants = "bcdfgklmnpqrtvwxz"
	var out []string
	for length := 2; len(out) < n; {
		b := make([]byte, length)
		for i := range b {
			b[i] = consonants[rng.IntN(len(consonants))]
		}
		if known[string(b)] > 0 {
			length = min(length+1, 6)
			continue
		}
		out = append(out, string(b))
	}
	return out
}

// hiddenMark is one way to carry a trigger that a reader does not see.
type hiddenMark func(rng *rand.Rand, text string) string

// hiddenMarks returns the three ways of one run: a pattern of zero-width characters inside a word, a word in tag
// characters behind a word, and a word that is written backwards under an override of direction.
func hiddenMarks(rng *rand.Rand) []hiddenMark {
	zero := []rune{'\u200b', '\u200c', '\u2060', '\ufeff'}
	pattern := make([]rune, 4)
	for i := range pattern {
		pattern[i] = zero[rng.IntN(len(zero))]
	}
	tags := []rune{'\U000E0001'}
	for range 5 {
		tags = append(tags, '\U000E0061'+rune(rng.IntN(26)))
	}
	tags = append(tags, '\U000E007F')
	inWord := func(rng *rand.Rand, text string, edit func(word string) string) string {
		places := starts(text)
		if len(places) == 0 {
			return edit(text)
		}
		from := places[rng.IntN(len(places))]
		to := from
		for to < len(text) {
			r, n := utf8.DecodeRuneInString(text[to:])
			if unicode.IsSpace(r) {
				break
			}
			to += n
		}
		return text[:from] + edit(text[from:to]) + text[to:]
	}
	return []hiddenMark{
		func(rng *rand.Rand, text string) string {
			return inWord(rng, text, func(word string) string {
				_, n := utf8.DecodeRuneInString(word)
				return word[:n] + string(pattern) + word[n:]
			})
		},
		func(rng *rand.Rand, text string) string {
			return inWord(rng, text, func(word string) string { return word + string(tags) })
		},
		func(rng *rand.Rand, text string) string {
			return inWord(rng, text, func(word string) string {
				letters := []rune(word)
				for i, j := 0, len(letters)-1; i < j; i, j = i+1, j-1 {
					letters[i], letters[j] = letters[j], letters[i]
				}
				return "\u202e" + string(letters) + "\u202c"
			})
		},
	}
}

// lookalike are Cyrillic letters that print like Latin ones.
var lookalike = strings.NewReplacer("a", "а", "e", "е", "o", "о", "p", "р", "c", "с", "x", "х", "y", "у", "i", "і")

// disguise writes one word of a text in look-alike letters; the text is returned as it is where no word has any.
func disguise(rng *rand.Rand, text string) string {
	places := starts(text)
	rng.Shuffle(len(places), func(a, b int) { places[a], places[b] = places[b], places[a] })
	for _, from := range places {
		to := from
		for to < len(text) && text[to] != ' ' {
			to++
		}
		if other := lookalike.Replace(text[from:to]); other != text[from:to] && to-from > 2 {
			return text[:from] + other + text[to:]
		}
	}
	return text
}
