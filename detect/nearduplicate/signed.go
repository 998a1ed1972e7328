package nearduplicate

import (
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
)

// signed is what rows of texts were signed with, and which rows have the same words.
type signed struct {
	texts      [][]byte
	signatures []signature
	hash       []uint64 // of the words
	words      []int32  // 0: nothing to compare
	order      []place  // rows with words, by hash and then by row
}

// signedTexts keeps what was signed last: a sample is scored with reference rows behind its own, and then remembered without
// them. What a text's signature is depends on nothing else.
type signedTexts struct {
	mu   sync.Mutex
	last *signed
}

// of signs texts; those that the last ones begin with, or that begin with them, share the work.
func (st *signedTexts) of(texts [][]byte, env detect.Env) *signed {
	st.mu.Lock()
	last := st.last
	st.mu.Unlock()
	if last == nil {
		last = &signed{}
	}
	out, known := &signed{texts: texts}, 0
	for known < min(len(texts), len(last.texts)) && same(texts[known], last.texts[known]) {
		known++
	}
	if known == len(texts) {
		out.signatures, out.hash, out.words = last.signatures[:known], last.hash[:known], last.words[:known]
		out.order = make([]place, 0, min(known, len(last.order)))
		for _, p := range last.order {
			if int(p.index) < known {
				out.order = append(out.order, p)
			}
		}
		return out
	}
	out.signatures, out.hash, out.words = make([]signature, len(texts)), make([]uint64, len(texts)), make([]int32, len(texts))
	copy(out.signatures, last.signatures[:known])
	copy(out.hash, last.hash[:known])
	copy(out.words, last.words[:known])
	const rows = 256 // at a time
	detect.Chunks(len(texts)-known, rows, env.Workers, func() func(first, end int) {
		sign := signer()
		return func(first, end int) {
			for row := known + first; row < known+end; row++ {
				hash, words := sign(texts[row], &out.signatures[row])
				out.hash[row], out.words[row] = hash, int32(words)
			}
		}
	})
	scratch := borrow(len(texts))
	defer scratch.giveBack()
	n := 0
	for row, hash := range out.hash {
		if out.words[row] > 0 {
			scratch.one[n] = place{key: hash, index: int32(row)}
			n++
		}
	}
	out.order = slices.Clone(byKey(scratch.one[:n], scratch.other[:n]))
	st.mu.Lock()
	st.last = out
	st.mu.Unlock()
	return out
}

// same tells whether two texts are one and the same memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// types finds which rows are of one type.
func (s *signed) types() grouping {
	g := grouping{typeOf: make([]int32, len(s.texts))}
	g.types, g.signatures = make([]rowType, 0, len(s.order)), make([]signature, 0, len(s.order))
	if len(s.order) < len(s.texts) {
		for row := range g.typeOf {
			g.typeOf[row] = -1
		}
	}
	for _, p := range s.order {
		n := len(g.types)
		if n == 0 || g.types[n-1].hash != p.key {
			g.types = append(g.types, rowType{hash: p.key, words: int(s.words[p.index])})
			g.signatures = append(g.signatures, s.signatures[p.index])
			n++
		}
		g.types[n-1].rows++
		g.typeOf[p.index] = int32(n - 1)
	}
	return g
}
