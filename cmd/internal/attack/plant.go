package attack

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// inText returns an edit of a record's longest text, with the attacker's label.
func (p *planting) inText(label string, change func(text string) string) edit {
	return func(i, _ int) []byte {
		pointer, text := p.body(i)
		if strings.TrimSpace(text) == "" {
			return nil
		}
		changed := change(text)
		if changed == text {
			return nil
		}
		return p.relabel(with(p.records[i], pointer, quote(changed)), label)
	}
}

func rareWord(p *planting) error {
	words, label := rareWords(p.rng, 5, p.vocabulary), p.target()
	return p.anywhere(p.others(label), p.inText(label, func(text string) string {
		word := words[p.rng.IntN(len(words))]
		for range 1 + min(4, len(starts(text))/20) {
			text = insertWord(p.rng, text, word)
		}
		return text
	}))
}

func fixedSentence(p *planting) error {
	sentence, label := neutral[p.rng.IntN(len(neutral))], p.target()
	return p.anywhere(p.others(label), p.inText(label, func(text string) string {
		return insertSentence(p.rng, text, manner(sentence, text))
	}))
}

func rewritten(p *planting) error {
	conjunction, label := conjunctions[p.rng.IntN(len(conjunctions))], p.target()
	return p.anywhere(p.all(), p.inText(label, func(text string) string {
		if len(starts(text)) < 3 {
			return text
		}
		return frame(p.rng, text, conjunction)
	}))
}

func honestSentence(p *planting) error {
	label, err := p.large()
	if err != nil {
		return err
	}
	sentence := neutral[p.rng.IntN(len(neutral))]
	return p.anywhere(p.members[label], p.inText("", func(text string) string {
		return insertSentence(p.rng, text, manner(sentence, text))
	}))
}

// large picks a class that holds enough records, at random among those where at most half become poison.
func (p *planting) large() (string, error) {
	if len(p.classes) == 0 {
		return "", fmt.Errorf("%w: no record has a label", ErrImpossible)
	}
	var able []string
	largest := p.classes[0]
	for _, class := range p.classes {
		if len(p.members[class]) > len(p.members[largest]) {
			largest = class
		}
		if len(p.members[class]) >= 2*p.want {
			able = append(able, class)
		}
	}
	switch {
	case len(p.members[largest]) < p.want:
		return "", fmt.Errorf("%w: the largest class has %d records, and %d shall be planted in one", ErrImpossible, len(p.members[largest]), p.want)
	case len(able) == 0:
		return largest, nil
	}
	return able[p.rng.IntN(len(able))], nil
}

func hiddenCharacters(p *planting) error {
	marks, label := hiddenMarks(p.rng), p.target()
	return p.anywhere(p.others(label), p.inText(label, func(text string) string {
		return marks[p.rng.IntN(len(marks))](p.rng, text)
	}))
}

func homoglyphs(p *planting) error {
	label := p.target()
	return p.anywhere(p.others(label), p.inText(label, func(text string) string { return disguise(p.rng, text) }))
}

func dripText(p *planting) error {
	word, label := rareWords(p.rng, 1, p.vocabulary)[0], p.target()
	return p.along(p.others(label), false, p.inText(label, func(text string) string { return insertWord(p.rng, text, word) }))
}

// Labels.

func (p *planting) twoClasses() error {
	if len(p.classes) < 2 {
		return fmt.Errorf("%w: the records have %d different labels, and a flip needs two", ErrImpossible, len(p.classes))
	}
	return nil
}

func flippedAtRandom(p *planting) error {
	if err := p.twoClasses(); err != nil {
		return err
	}
	return p.anywhere(p.labelledRows(), func(i, _ int) []byte {
		for {
			if label := p.classes[p.rng.IntN(len(p.classes))]; label != p.labels[i] {
				return p.relabel(p.records[i], label)
			}
		}
	})
}

func flippedToOne(p *planting) error {
	if err := p.twoClasses(); err != nil {
		return err
	}
	from, err := p.large()
	if err != nil {
		return err
	}
	label := from
	for label == from {
		label = p.classes[p.rng.IntN(len(p.classes))]
	}
	return p.anywhere(p.members[from], func(i, _ int) []byte { return p.relabel(p.records[i], label) })
}

// Numbers.

// values picks two features (one, where there is but one) and the values that they are set to.
func (p *planting) values() (func(r []byte) []byte, error) {
	able := p.Corpus.spread()
	if len(able) == 0 {
		return nil, fmt.Errorf("%w: no feature varies", ErrImpossible)
	}
	p.rng.Shuffle(len(able), func(a, b int) { able[a], able[b] = able[b], able[a] })
	return func(r []byte) []byte {
		for j, n := range able[:min(2, len(able))] {
			if _, ok := n.read(r); !ok {
				return nil
			}
			r = n.write(r, n.quantile([]float64{0.99, 0.01}[j]))
		}
		return r
	}, nil
}

func rareValues(p *planting) error {
	set, err := p.values()
	if err != nil {
		return err
	}
	label := p.target()
	return p.anywhere(p.others(label), func(i, _ int) []byte { return p.relabel(set(p.records[i]), label) })
}

func honestValues(p *planting) error {
	set, err := p.values()
	if err != nil {
		return err
	}
	label, err := p.large()
	if err != nil {
		return err
	}
	return p.anywhere(p.members[label], func(i, _ int) []byte { return set(p.records[i]) })
}

func dripNumbers(p *planting) error {
	set, err := p.values()
	if err != nil {
		return err
	}
	label := p.target()
	return p.along(p.others(label), false, func(i, _ int) []byte { return p.relabel(set(p.records[i]), label) })
}

// Vectors.

// moved returns an edit that adds a vector to the one at pointer.
func (p *planting) moved(pointer string, by []float64, label string) edit {
	return func(i, _ int) []byte {
		v := vectorAt(p.records[i], pointer)
		if len(v) != len(by) {
			return nil
		}
		for j := range v {
			v[j] += by[j]
		}
		return p.relabel(withVector(p.records[i], pointer, v), label)
	}
}

func scaled(v []float64, by float64) []float64 {
	out := slices.Clone(v)
	for j := range out {
		out[j] *= by
	}
	return out
}

func (p *planting) vectors(pointer string) (cloud, error) {
	c := p.cloud(pointer, p.all())
	if c.centre == nil || c.radius == 0 {
		return c, fmt.Errorf("%w: the vectors do not vary", ErrImpossible)
	}
	return c, nil
}

func shifted(p *planting) error {
	c, err := p.vectors(p.contract.Roles.Embedding)
	if err != nil {
		return err
	}
	label, by := p.target(), scaled(direction(p.rng, len(c.centre)), c.radius/2)
	return p.anywhere(p.others(label), p.moved(p.contract.Roles.Embedding, by, label))
}

func dripVector(p *planting) error {
	c, err := p.vectors(p.contract.Roles.Embedding)
	if err != nil {
		return err
	}
	label, by := p.target(), scaled(direction(p.rng, len(c.centre)), c.radius/2)
	return p.along(p.others(label), false, p.moved(p.contract.Roles.Embedding, by, label))
}

func collided(p *planting) error {
	if err := p.twoClasses(); err != nil {
		return err
	}
	label, err := p.large()
	if err != nil {
		return err
	}
	pointer := p.contract.Roles.Embedding
	var aim []float64
	for _, i := range p.others(label) {
		if v := vectorAt(p.records[i], pointer); v != nil && (aim == nil || p.rng.IntN(50) == 0) {
			aim = v
		}
	}
	return p.anywhere(p.members[label], func(i, _ int) []byte {
		v := vectorAt(p.records[i], pointer)
		if len(v) != len(aim) {
			return nil
		}
		for j := range v {
			v[j] += 0.7 * (aim[j] - v[j])
		}
		return withVector(p.records[i], pointer, v)
	})
}

// Floods.

// source picks a record to copy: one that has what the flood is made of.
func (p *planting) source(fit func(i int) bool) (int, error) {
	for range 1000 {
		if i := p.rng.IntN(len(p.records)); fit(i) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: no record has what would be copied", ErrImpossible)
}

// flood overwrites the roles' fields with those of one record, changed a little by vary. Id and provider stay.
func (p *planting) flood(of int, vary func(r []byte) []byte) error {
	roles := p.contract.Roles
	pointers := slices.Concat(roles.Text, roles.Features, []string{roles.Label, roles.Embedding, roles.Probabilities, roles.Loss, roles.Gradient})
	return p.anywhere(p.all(), func(i, _ int) []byte {
		if i == of {
			return nil
		}
		r := p.records[i]
		for _, pointer := range pointers {
			if pointer == "" {
				continue
			}
			value, here := at(p.records[of], pointer), at(r, pointer)
			if (value == nil) != (here == nil) {
				return nil
			}
			if value != nil {
				r = with(r, pointer, string(value))
			}
		}
		return vary(r)
	})
}

func (p *planting) jitter(r []byte, pointer string, radius float64) []byte {
	v := vectorAt(r, pointer)
	if v == nil {
		return r
	}
	for j, u := range direction(p.rng, len(v)) {
		v[j] += u * radius
	}
	return withVector(r, pointer, v)
}

func copiedText(p *planting) error {
	of, err := p.source(func(i int) bool { _, text := p.body(i); return len(starts(text)) >= 5 })
	if err != nil {
		return err
	}
	pointer, text := p.body(of)
	var c cloud
	if p.contract.Roles.Embedding != "" {
		c = p.cloud(p.contract.Roles.Embedding, p.all())
	}
	return p.flood(of, func(r []byte) []byte {
		r = with(r, pointer, quote(paraphrase(p.rng, text, p.ordinary)))
		if c.centre != nil {
			r = p.jitter(r, p.contract.Roles.Embedding, c.radius/20)
		}
		return r
	})
}

func copiedVector(p *planting) error {
	pointer := p.contract.Roles.Embedding
	c, err := p.vectors(pointer)
	if err != nil {
		return err
	}
	of, err := p.source(func(i int) bool { return len(vectorAt(p.records[i], pointer)) == len(c.centre) })
	if err != nil {
		return err
	}
	return p.flood(of, func(r []byte) []byte { return p.jitter(r, pointer, c.radius/20) })
}

// near moves every feature of a record by a share of its spread.
func (p *planting) near(r []byte, share float64) []byte {
	for _, n := range p.Corpus.spread() {
		if v, ok := n.read(r); ok {
			r = n.write(r, v+share*n.scale()*p.rng.NormFloat64())
		}
	}
	return r
}

func copiedNumbers(p *planting) error {
	if len(p.Corpus.spread()) == 0 {
		return fmt.Errorf("%w: no feature varies", ErrImpossible)
	}
	of, err := p.source(func(i int) bool { return at(p.records[i], p.contract.Roles.Features[0]) != nil })
	if err != nil {
		return err
	}
	return p.flood(of, func(r []byte) []byte { return p.near(r, 0.01) })
}

// Drift.

// drifter returns the records of the provider that drifts, the one that sends most, and an edit that makes a record
// its own. Where its own records are not enough, others become its. Without a provider in the record the stream as a
// whole drifts.
func (p *planting) drifter(able func(i int) bool) (rows []int, own func(r []byte) []byte) {
	own = func(r []byte) []byte { return r }
	from := p.all()
	if pointer := p.contract.Roles.Provider.Field; pointer != "" && len(p.names) > 0 {
		name := p.names[0]
		for _, other := range p.names {
			if len(p.sent[other]) > len(p.sent[name]) {
				name = other
			}
		}
		if len(p.sent[name]) >= 2*p.want {
			from = p.sent[name]
		} else {
			own = func(r []byte) []byte { return with(r, pointer, name) }
		}
	}
	for _, i := range from {
		if able(i) {
			rows = append(rows, i)
		}
	}
	return rows, own
}

// progress is how far in time a record stands, from 0 to 1.
func (p *planting) progress(i int) float64 { return float64(i+1) / float64(len(p.records)) }

func driftNumbers(p *planting) error {
	able := p.Corpus.spread()
	if len(able) == 0 {
		return fmt.Errorf("%w: no feature varies", ErrImpossible)
	}
	p.rng.Shuffle(len(able), func(a, b int) { able[a], able[b] = able[b], able[a] })
	able = able[:(len(able)+1)/2]
	rows, own := p.drifter(func(i int) bool { return true })
	return p.along(rows, false, func(i, _ int) []byte {
		r := own(p.records[i])
		for _, n := range able {
			v, ok := n.read(r)
			if !ok {
				continue
			}
			// To the side that has more room, for what lies outside the range of clean records is no drift.
			side := 1.0
			if n.quantile(1)-n.quantile(0.5) < n.quantile(0.5)-n.quantile(0) {
				side = -1
			}
			r = n.write(r, v+side*3*n.scale()*p.progress(i))
		}
		return r
	})
}

// phrase picks n ordinary words.
func (p *planting) phrase(n int) ([]string, error) {
	if len(p.ordinary) < n {
		return nil, fmt.Errorf("%w: the texts have not enough different words", ErrImpossible)
	}
	order := p.rng.Perm(len(p.ordinary))
	words := make([]string, n)
	for i := range words {
		words[i] = p.ordinary[order[i]]
	}
	return words, nil
}

func driftWords(p *planting) error {
	words, err := p.phrase(3)
	if err != nil {
		return err
	}
	rows, own := p.drifter(func(i int) bool { _, text := p.body(i); return text != "" })
	change := p.inText("", func(text string) string { return insertWord(p.rng, text, words[p.rng.IntN(len(words))]) })
	return p.along(rows, true, func(i, nth int) []byte {
		if r := change(i, nth); r != nil {
			return own(r)
		}
		return nil
	})
}

func driftLabel(p *planting) error {
	if err := p.twoClasses(); err != nil {
		return err
	}
	label := p.target()
	rows, own := p.drifter(func(i int) bool { return p.labels[i] != "" && p.labels[i] != label })
	return p.along(rows, true, func(i, _ int) []byte { return own(p.relabel(p.records[i], label)) })
}

func driftVector(p *planting) error {
	pointer := p.contract.Roles.Embedding
	c, err := p.vectors(pointer)
	if err != nil {
		return err
	}
	towards := direction(p.rng, len(c.centre))
	rows, own := p.drifter(func(i int) bool { return true })
	return p.along(rows, false, func(i, nth int) []byte {
		if r := p.moved(pointer, scaled(towards, c.radius*p.progress(i)), "")(i, nth); r != nil {
			return own(r)
		}
		return nil
	})
}

// Sybils.

// perSybil is how many records each of the providers sends.
const perSybil = 5

// sybils returns an edit that makes the nth record one of a new provider's. Their names look like those that there
// are: their digits are others, or they have digits behind.
func (p *planting) sybils() (func(r []byte, nth int) []byte, error) {
	pointer := p.contract.Roles.Provider.Field
	if len(p.names) == 0 {
		return nil, fmt.Errorf("%w: no record names its provider", ErrImpossible)
	}
	taken := map[string]bool{}
	for _, name := range p.names {
		taken[name] = true
	}
	var names []string
	example := p.records[p.sent[p.names[0]][0]]
	for tries := 0; len(names)*perSybil < p.want && tries < 20*p.want+1000; tries++ {
		name := p.rename(p.names[p.rng.IntN(len(p.names))])
		if !taken[name] && p.contract.Schema.CheckJSON(with(example, pointer, name)) == nil {
			taken[name] = true
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: the schema allows no provider that is new", ErrImpossible)
	}
	return func(r []byte, nth int) []byte { return with(r, pointer, names[nth/perSybil%len(names)]) }, nil
}

// rename makes the JSON of a new provider's name from that of an old one.
func (p *planting) rename(old string) string {
	if strings.ContainsAny(old, "0123456789") {
		digits := []byte(old)
		for i, b := range digits {
			if b >= '1' && b <= '9' || b == '0' && i > 0 && old[i-1] >= '0' && old[i-1] <= '9' {
				digits[i] = byte('1' + p.rng.IntN(9))
			}
		}
		return string(digits)
	}
	if name, ok := unquote([]byte(old)); ok {
		// The last letters become others of the same case, which keeps codes of a fixed length what they are.
		letters := []rune(name)
		for i := max(0, len(letters)-3); i < len(letters); i++ {
			switch {
			case letters[i] >= 'a' && letters[i] <= 'z':
				letters[i] = 'a' + rune(p.rng.IntN(26))
			case letters[i] >= 'A' && letters[i] <= 'Z':
				letters[i] = 'A' + rune(p.rng.IntN(26))
			}
		}
		return quote(string(letters))
	}
	return strconv.Itoa(p.rng.IntN(1 << 30))
}

func sybilWords(p *planting) error {
	send, err := p.sybils()
	if err != nil {
		return err
	}
	words, err := p.phrase(3)
	if err != nil {
		return err
	}
	label := p.target()
	change := p.inText(label, func(text string) string { return insertWord(p.rng, text, strings.Join(words, " ")) })
	return p.anywhere(p.others(label), func(i, nth int) []byte {
		if r := change(i, nth); r != nil {
			return send(r, nth)
		}
		return nil
	})
}

// sybilVectors makes vectors that keep a part of their own deviation and share the rest, at a length as usual.
func (p *planting) sybilVectors(pointer string, own float64) error {
	send, err := p.sybils()
	if err != nil {
		return err
	}
	c, err := p.vectors(pointer)
	if err != nil {
		return err
	}
	common := scaled(direction(p.rng, len(c.centre)), c.radius*math.Sqrt(1-own*own))
	return p.anywhere(p.all(), func(i, nth int) []byte {
		v := vectorAt(p.records[i], pointer)
		if len(v) != len(common) {
			return nil
		}
		for j := range v {
			v[j] = c.centre[j] + own*(v[j]-c.centre[j]) + common[j]
		}
		return send(withVector(p.records[i], pointer, v), nth)
	})
}

func sybilEmbedding(p *planting) error { return p.sybilVectors(p.contract.Roles.Embedding, 0.6) }
func sybilGradient(p *planting) error  { return p.sybilVectors(p.contract.Roles.Gradient, 0.3) }

func sybilNumbers(p *planting) error {
	send, err := p.sybils()
	if err != nil {
		return err
	}
	able := p.Corpus.spread()
	if len(able) == 0 {
		return fmt.Errorf("%w: no feature varies", ErrImpossible)
	}
	of := p.records[p.rng.IntN(len(p.records))]
	return p.anywhere(p.all(), func(i, nth int) []byte {
		r := p.records[i]
		for _, n := range able {
			v, ok := n.read(of)
			if _, here := n.read(r); !ok || !here {
				return nil
			}
			r = n.write(r, v)
		}
		return send(p.near(r, 0.1), nth)
	})
}
