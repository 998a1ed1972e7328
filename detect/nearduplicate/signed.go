package nearduplicate

import (
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
)

// signed is what rows of texts were signed with.
type signed struct {
	texts      [][]byte
	signatures []signature
	keys       [][bands]uint32 // the numbers of each one's bands
	hash       []uint64        // of the words
	words      []int32         // 0: nothing to compare

	whole *signed        // of which these are the first rows; itself where there are no more
	order func() []place // of all rows of whole with words, by hash and then by row
}

// signedTexts keeps what was signed last: a sample is scored with reference rows behind its own, and then remembered without
// them. What a text's signature is depends on nothing else.
type signedTexts struct {
	mu   sync.Mutex
	last *signed
}

// signedRooms are what rows were signed into in samples of which no more is asked.
var signedRooms shelf[*signed]

// of signs texts; those that the last ones begin with, or that begin with them, share the work.
func (st *signedTexts) of(texts [][]byte, env detect.Env) *signed {
	st.mu.Lock()
	last := st.last
	st.mu.Unlock()
	known := 0
	if last != nil {
		for known < min(len(texts), len(last.texts)) && same(texts[known], last.texts[known]) {
			known++
		}
		if known == len(texts) {
			return last.first(known)
		}
	}
	room, ok := signedRooms.take(func(s *signed) bool { return cap(s.words) >= len(texts) })
	if !ok {
		n := len(texts)
		room = &signed{signatures: make([]signature, n), keys: make([][bands]uint32, n), hash: make([]uint64, n), words: make([]int32, n)}
	}
	detect.AtEnd(env, func() { signedRooms.put(room) })
	out := room.first(len(texts))
	out.texts, out.whole = texts, out
	if known > 0 {
		copy(out.signatures, last.signatures[:known])
		copy(out.keys, last.keys[:known])
		copy(out.hash, last.hash[:known])
		copy(out.words, last.words[:known])
	}
	const rows = 256 // at a time
	detect.Chunks(len(texts)-known, rows, env.Workers, func() func(first, end int) {
		sign := signer()
		return func(first, end int) {
			first, end = known+first, known+end
			for row := first; row < end; row++ {
				hash, words := sign(texts[row], &out.signatures[row])
				out.hash[row], out.words[row] = hash, int32(words)
			}
			allBandKeys(out.signatures[first:end], out.keys[first:end])
		}
	})
	out.order = sync.OnceValue(out.sorted)
	st.mu.Lock()
	st.last = out
	st.mu.Unlock()
	return out
}

// first returns the first n rows.
func (s *signed) first(n int) *signed {
	out := &signed{signatures: s.signatures[:n], keys: s.keys[:n], hash: s.hash[:n], words: s.words[:n], whole: s.whole}
	if s.texts != nil {
		out.texts = s.texts[:n]
	}
	return out
}

// sorted is order.
func (s *signed) sorted() []place {
	scratch := borrow(len(s.words))
	defer scratch.giveBack()
	n := 0
	for row, hash := range s.hash {
		if s.words[row] > 0 {
			scratch.one[n] = place{key: hash, index: int32(row)}
			n++
		}
	}
	return slices.Clone(byKey(scratch.one[:n], scratch.other[:n]))
}

// same tells whether two texts are one and the same memory.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// types finds which rows are of one type.
func (s *signed) types() grouping {
	order := s.whole.order()
	g := grouping{types: make([]rowType, 0, min(len(order), len(s.words))), signatures: s.signatures, typeOf: make([]int32, len(s.words))}
	if len(order) < len(s.whole.words) {
		for row := range g.typeOf {
			g.typeOf[row] = -1
		}
	}
	last := uint64(0)
	for _, p := range order {
		if int(p.index) >= len(s.words) {
			continue
		}
		n := len(g.types)
		if n == 0 || last != p.key {
			last = p.key
			g.types = append(g.types, rowType{hash: p.key, words: s.words[p.index], at: p.index})
			n++
		}
		g.types[n-1].rows++
		g.typeOf[p.index] = int32(n - 1)
	}
	return g
}

// banded is by what bands each row of a sample is known.
type banded struct {
	keys  [][bands]uint32
	words []int32 // 0: nothing to compare
	at    []int32 // by row: which of these it has, -1 for none; nil: each row its own
}

// of returns which keys and words a row has, or -1.
func (b *banded) of(row int) int32 {
	at := int32(row)
	if b.at != nil {
		at = b.at[row]
	}
	if at >= 0 && b.words[at] == 0 {
		return -1
	}
	return at
}

// rows returns how many rows there are.
func (b *banded) rows() int {
	if b.at != nil {
		return len(b.at)
	}
	return len(b.words)
}

// shelf keeps a few large things that were made for one sample for the next one: what comes new from the system has to be cleared page by page, which
// takes longer than to fill it.
type shelf[T any] struct {
	mu   sync.Mutex
	free []T
}

const mostShelved = 2

// take returns one that fits, if there is any. Those that do not are let go of.
func (s *shelf[T]) take(fits func(T) bool) (one T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.free) > 0 && !ok {
		last := len(s.free) - 1
		one = s.free[last]
		s.free = slices.Delete(s.free, last, last+1)
		ok = fits(one)
	}
	return one, ok
}

// put gives one back, which nobody uses any more.
func (s *shelf[T]) put(one T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < mostShelved {
		s.free = append(s.free, one)
	}
}
