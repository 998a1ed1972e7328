package collusion

import (
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/detect/text"
)

const (
	phraseWords = 3  // of a phrase
	mostPhrases = 48 // of a record, those with the least hashes
)

// phrases says of three words in a row how many rows and providers of the reference have them.
type phrases struct {
	rows, providers map[uint32]int32
	of, ofProviders int
}

// learnPhrases counts the phrases of a reference's rows, by provider.
func (m *model) learnPhrases(s *detect.Sample, rows []int) {
	m.phrases = phrases{rows: map[uint32]int32{}, providers: map[uint32]int32{}}
	sent := map[int32]map[uint32]struct{}{}
	for _, row := range rows {
		p := s.Provider[row]
		m.phrases.of++
		if sent[p] == nil {
			sent[p] = map[uint32]struct{}{}
		}
		for _, h := range phrasesOf(s.Text[row]) {
			m.phrases.rows[h]++
			sent[p][h] = struct{}{}
		}
	}
	delete(sent, -1)
	m.phrases.ofProviders = len(sent)
	for _, own := range sent {
		for h := range own {
			m.phrases.providers[h]++
		}
	}
}

// phrasesOf returns the hashes of a text's phrases, each once, rising.
func phrasesOf(whole []byte) []uint32 {
	tokens := text.Append(nil, whole)
	var out []uint32
	for i := phraseWords; i <= len(tokens); i++ {
		h := uint64(phraseWords)
		for _, t := range tokens[i-phraseWords : i] {
			h = sketch.Mix(h ^ uint64(t.ID()))
		}
		out = append(out, uint32(h))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// atMost returns an upper bound on the share of providers' records that have a phrase.
func (p *phrases) atMost(h uint32) float64 {
	return max(atMost(int(p.rows[h]), p.of, 1), atMost(int(p.providers[h]), p.ofProviders, 2))
}

// share judges by phrases: a record's most surprising one by how many other new providers have it in any of the records that are kept.
func (n *neighbourhood) share(provider uint64, own []uint32) (best opinion) {
	records := n.records
	for i, p := range n.providers {
		if p == provider {
			records -= len(n.points[i])
		}
	}
	for _, h := range own {
		senders := n.senders[h]
		c := len(senders)
		if _, found := slices.BinarySearch(senders, provider); found {
			c--
		}
		if c < crowds[0] {
			continue
		}
		mu := float64(records) * n.m.phrases.atMost(h)
		if x := float64(c); x > mu {
			if logP := -(x*math.Log(x/mu) - x + mu); logP < best.logP {
				best = opinion{logP: logP, providers: c, of: len(n.providers) - 1, reference: int(n.m.phrases.rows[h]), m: n.m.phrases.of, space: "phrases"}
			}
		}
	}
	best.logP = min(0, best.logP+math.Log(float64(max(1, len(own)))))
	return best
}
