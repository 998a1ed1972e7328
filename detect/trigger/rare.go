package trigger

import (
	"math/bits"

	"github.com/tasterhq/taster/detect/text"
)

// SetBits is how many of a feature's highest bits a [Set] knows.
const SetBits = 22

// Set is a set of features of a [Vocabulary], by their highest bits: of those outside of a set of 100,000, one in 42 is taken for
// a member.
type Set struct{ bits [1 << SetBits / 64]uint64 }

// Add puts a feature into the set.
func (s *Set) Add(feature uint64) {
	at := feature >> (64 - SetBits)
	s.bits[at/64] |= 1 << (at % 64)
}

// Has tells whether a feature is in the set.
func (s *Set) Has(feature uint64) bool {
	at := feature >> (64 - SetBits)
	return s.bits[at/64]>>(at%64)&1 == 1
}

// rareKernel is rareAVX512, nil where the processor does not have what it takes.
var rareKernel func(row *uint32, n int, functions *uint32, set, parts, found *uint64, codes *uint32) (rare, skeleton int)

// mostFast is how many tokens a row can have that vectors look at.
const mostFast = 1 << 10

// Rare finds the features of rows that a set does not have. It is for one goroutine.
type Rare struct {
	vocabulary *Vocabulary
	set        *Set
	parts      [8 + mostFast + 8]uint64
	found      [5*mostFast + 16]uint64
	codes      [5*mostFast + 16]uint32
}

// Rare returns what finds the features that are not in a set. What it takes is some 70 KB.
func (v *Vocabulary) Rare(set *Set) *Rare { return &Rare{vocabulary: v, set: set} }

// Append appends to dst the features of one text that are not in the set, in the order of [Vocabulary.Append].
func (r *Rare) Append(dst []uint64, row []text.Token) []uint64 {
	n := len(row)
	if rareKernel == nil || n == 0 || n > mostFast {
		kept := len(dst)
		dst = r.vocabulary.Append(dst, row)
		// Which are rare cannot be foretold.
		for _, f := range dst[kept:] {
			dst[kept] = f
			at := f >> (64 - SetBits)
			kept += int(^r.set.bits[at/64] >> (at % 64) & 1)
		}
		return dst[:kept]
	}
	found, parts := rareKernel((*uint32)(&row[0]), n, &r.vocabulary.functions.slots[0], &r.set.bits[0], &r.parts[8], &r.found[0], &r.codes[0])
	add := func(feature uint64, code uint32) {
		if !r.set.Has(feature) {
			r.found[found], r.codes[found] = feature, code
			found++
		}
	}
	end, edges := uint32(3*n), spread(edge)
	add(scramble(pair.of(two(spread(row[n-1].ID()), edges))), end)
	start := uint64(0)
	for i, part := range r.parts[8:][:min(3, parts)] {
		start += bits.RotateLeft64(part, 21*i)
		add(scramble(opening.of(start)), end+1+uint32(i))
	}
	if n > 1 {
		add(scramble(opening.of(three(edges, spread(row[0].ID()), spread(row[1].ID())))), 1<<31)
	}
	// Few are left, and most in their order.
	for i := 1; i < found; i++ {
		f, c := r.found[i], r.codes[i]
		at := i
		for ; at > 0 && r.codes[at-1] > c; at-- {
			r.found[at], r.codes[at] = r.found[at-1], r.codes[at-1]
		}
		r.found[at], r.codes[at] = f, c
	}
	return append(dst, r.found[:found]...)
}
