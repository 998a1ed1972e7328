package nearduplicate

import (
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/wording"
)

// signature is that of a row, whatever it was made from.
type signature = wording.Signature

// similarity estimates the similarity of what two signatures were made from: equal bytes among those that are not empty
// in both. Where one half shows less than an eighth, the answer is 0.
func similarity(a, b *signature) float64 {
	equal, empty := compare(a, b, 0)
	if 8*(equal-empty) < 32-empty {
		return 0
	}
	e, o := compare(a, b, 4)
	equal, empty = equal+e, empty+o
	if empty == 64 {
		return 0
	}
	return float64(equal-empty) / float64(64-empty)
}

// compare counts the bytes of four words that are equal, and those that are empty in both.
func compare(a, b *signature, from int) (equal, empty int) {
	const sum = 0x0101010101010101 // of a word's bytes, in the highest
	var e, o uint64
	for i, x := range a[from : from+4] {
		y := b[from+i]
		e += zeroBytes(x ^ y)
		o += zeroBytes(x | y)
	}
	return int(e * sum >> 56), int(o * sum >> 56)
}

// zeroBytes has a 1 in the bytes that are 0 in x (Warren, "Hacker's Delight", 6-1).
func zeroBytes(x uint64) uint64 {
	const low = 0x7f7f7f7f7f7f7f7f
	return ^((x&low + low) | x | low) >> 7
}

// rowType is all rows with the same words, or the same vector.
type rowType struct {
	hash      uint64
	words     int32
	rows      int32 // of the sample that was grouped
	reference int32 // rows of the reference, once merged
	at        int32 // where the signature is
}

// grouping holds types in the order of their hashes, so that nothing that is computed from them depends on the order of
// rows; typeOf is -1 for a row that has nothing to compare.
type grouping struct {
	types      []rowType
	signatures []signature // of the rows, or of the types; nil where types were merged
	typeOf     []int32
}

// compact returns g with the signatures of its types alone.
func (g grouping) compact() grouping {
	types, signatures := slices.Clone(g.types), make([]signature, len(g.types))
	for i := range types {
		signatures[i], types[i].at = g.signatures[types[i].at], int32(i)
	}
	return grouping{types: types, signatures: signatures, typeOf: g.typeOf}
}

// place is where something with a key stands.
type place struct {
	key   uint64
	index int32
	next  uint32 // high bits of what comes after the key, where something does
}

// Keys are hashes, whose comparisons nobody can predict: many are sorted by digits, the highest three first, which nearly always tell
// them apart; fewer byte by byte, and few one by one.
const (
	digitBits = 11
	digits    = 3
	lowBits   = 64 - digits*digitBits
	many      = digits << digitBits / 4
	few       = 24
)

// byKey returns places by rising key, equal ones as they stand; both slices, of one length, are scratch afterwards, and one of
// them is returned.
func byKey(places, other []place) []place {
	switch {
	case len(places) <= few:
		for i, p := range places {
			for ; i > 0 && places[i-1].key > p.key; i-- {
				places[i] = places[i-1]
			}
			places[i] = p
		}
		return places
	case len(places) < many:
		return byBytes(places, other)
	}
	places, other = byDigits(places, other, lowBits)
	for from := 0; from < len(places); {
		end := from + 1
		for end < len(places) && places[end].key>>lowBits == places[from].key>>lowBits {
			end++
		}
		if run := places[from:end]; !rising(run) {
			if len(run) < many {
				inPlace(run, byKey(run, other[from:end]))
			} else {
				sorted, _ := byDigits(run, other[from:end], 0)
				inPlace(run, sorted)
			}
		}
		from = end
	}
	return places
}

// inPlace copies what was sorted to where it shall be, unless it is there.
func inPlace(places, sorted []place) {
	if &places[0] != &sorted[0] {
		copy(places, sorted)
	}
}

// byBytes is byKey for a number of places that is worth counting bytes but no longer digits.
func byBytes(places, other []place) []place {
	var count [8][256]int32
	for _, p := range places {
		for b := range count {
			count[b][p.key>>(8*b)&0xff]++
		}
	}
	for b := range count {
		places, other = byDigit(places, other, count[b][:], 8*b)
	}
	return places
}

// byDigit sorts places by one digit that begins at a bit, of which count tells how many have each value of it, and returns the slice that holds
// them now and the other. The counts are lost.
func byDigit(places, other []place, count []int32, bit int) (sorted, scratch []place) {
	mask := uint64(len(count) - 1)
	if int(count[places[0].key>>bit&mask]) == len(places) {
		return places, other
	}
	next := int32(0)
	for i, n := range count {
		count[i] = next
		next += n
	}
	for _, p := range places {
		digit := p.key >> bit & mask
		other[count[digit]] = p
		count[digit]++
	}
	return other, places
}

func rising(places []place) bool {
	for i := 1; i < len(places); i++ {
		if places[i].key < places[i-1].key {
			return false
		}
	}
	return true
}

// byDigits sorts places by three digits, the lowest of which begins at a bit, and returns the slice that holds them now and the other.
func byDigits(places, other []place, bit int) (sorted, scratch []place) {
	var count [digits][1 << digitBits]int32
	for _, p := range places {
		for d := range count {
			count[d][p.key>>(bit+d*digitBits)%(1<<digitBits)]++
		}
	}
	for d := range count {
		places, other = byDigit(places, other, count[d][:], bit+d*digitBits)
	}
	return places, other
}

// byNext puts places with equal keys in the order of another key, of which they have the high bits, equal ones as they stand; other is
// scratch of the same length. Keys are lost.
func byNext(places, other []place, next func(index int32) uint64) {
	eachRun(places, func(from, end int) {
		run := places[from:end]
		for i := range run {
			run[i].key = uint64(run[i].next)
		}
		inPlace(run, byKey(run, other[from:end]))
		eachRun(run, func(first, last int) {
			rest := run[first:last]
			for i := range rest {
				rest[i].key = next(rest[i].index) // all at once, for they lie far apart
			}
			inPlace(rest, byKey(rest, other[from+first:from+last]))
		})
	})
}

// eachRun calls do for every two or more places with equal keys.
func eachRun(places []place, do func(from, end int)) {
	for from := 0; from < len(places); {
		key, end := places[from].key, from+1
		for end < len(places) && places[end].key == key {
			end++
		}
		if end > from+1 {
			do(from, end)
		}
		from = end
	}
}

// scratch is what rows are sorted in. It is kept from one segment to the next.
type scratch struct{ one, other []place }

var scratches detect.Shelf[*scratch]

// borrow returns two slices of n places each, with anything in them.
func borrow(n int) *scratch {
	s, ok := scratches.Take(func(s *scratch) bool { return cap(s.one) >= n })
	if !ok {
		s = &scratch{make([]place, n), make([]place, n)}
	}
	s.one, s.other = s.one[:n], s.other[:n]
	return s
}

// spare returns the slice that is not used.
func (s *scratch) spare(used []place) []place {
	if len(used) > 0 && &used[0] == &s.one[0] {
		return s.other
	}
	return s.one
}

func (s *scratch) giveBack() { scratches.Put(s) }

// groupTypes finds the types of a sample. Rows with equal contents share the work; sign is called for one of them.
func groupTypes(contents []uint64, sign func(row int) (signature, uint64, int), env detect.Env) grouping {
	rows := make([]place, 0, len(contents))
	for row, h := range contents {
		if h != 0 {
			rows = append(rows, place{key: h, index: int32(row)})
		}
	}
	rows = byKey(rows, make([]place, len(rows)))
	var starts []int // of the runs of equal contents
	for i := range rows {
		if i == 0 || rows[i].key != rows[i-1].key {
			starts = append(starts, i)
		}
	}

	signed, signatures := make([]rowType, len(starts)), make([]signature, len(starts))
	detect.Each(len(starts), env.Workers, func(u int) {
		t := &signed[u]
		var words int
		signatures[u], t.hash, words = sign(int(rows[starts[u]].index))
		t.words = int32(words)
	})
	order := make([]place, len(signed))
	for u := range signed {
		order[u] = place{key: signed[u].hash, index: int32(u)}
	}
	order = byKey(order, make([]place, len(order)))

	g := grouping{types: make([]rowType, 0, len(order)), signatures: signatures, typeOf: make([]int32, len(contents))}
	for row := range g.typeOf {
		g.typeOf[row] = -1
	}
	for _, o := range order {
		t := &signed[o.index]
		if t.words == 0 {
			continue
		}
		if n := len(g.types); n == 0 || g.types[n-1].hash != t.hash {
			g.types = append(g.types, rowType{hash: t.hash, words: t.words, at: o.index})
		}
		end := len(rows)
		if int(o.index)+1 < len(starts) {
			end = starts[o.index+1]
		}
		last := len(g.types) - 1
		g.types[last].rows += int32(end - starts[o.index])
		for _, member := range rows[starts[o.index]:end] {
			g.typeOf[member.index] = int32(last)
		}
	}
	return g
}

// merge puts the types of stream and reference together; typeOf tells of the stream's rows. A type that is the reference's alone has no rows, and its
// signature there.
func merge(stream, reference grouping) grouping {
	g := grouping{
		types: make([]rowType, 0, len(stream.types)+len(reference.types)), typeOf: make([]int32, len(stream.typeOf)),
	}
	moved := make([]int32, len(stream.types))
	r := 0
	takeReference := func() {
		t := reference.types[r]
		t.reference, t.rows = t.rows, 0
		g.types = append(g.types, t)
		r++
	}
	for i, t := range stream.types {
		for r < len(reference.types) && reference.types[r].hash < t.hash {
			takeReference()
		}
		if r < len(reference.types) && reference.types[r].hash == t.hash {
			t.reference = reference.types[r].rows
			r++
		}
		moved[i] = int32(len(g.types))
		g.types = append(g.types, t)
	}
	for r < len(reference.types) {
		takeReference()
	}
	for row, t := range stream.typeOf {
		if g.typeOf[row] = t; t >= 0 {
			g.typeOf[row] = moved[t]
		}
	}
	return g
}

// mergedRooms are what signatures were gathered in before.
var mergedRooms detect.Shelf[[]signature]

// signaturesOf gathers the signatures of merged types. They are good until they are put back.
func signaturesOf(merged, stream, reference grouping, workers int) []signature {
	n := len(merged.types)
	out, ok := mergedRooms.Take(func(s []signature) bool { return cap(s) >= n })
	if !ok {
		out = make([]signature, n)
	}
	out = out[:n]
	const types = 1024 // at a time
	detect.Rows(n, types, workers, func(first, end int) {
		for i, t := range merged.types[first:end] {
			from := stream.signatures
			if t.rows == 0 {
				from = reference.signatures
			}
			out[first+i] = from[t.at]
		}
	})
	return out
}

// thresholds are the levels of similarity at which clusters are made.
var thresholds = [...]float64{0.4, 0.55, 0.7, 0.85}

const (
	sorts  = 4
	window = 3
)

// clustering tells which types hang together.
type clustering struct {
	slot    []int32                  // by type: where it stands among those that are like another; -1 for all others, which are alone
	members []int32                  // those, rising
	levels  [len(thresholds)][]int32 // for each level and each of them the slot of the least member of its cluster
}

// of returns the slot of a type's cluster, -1 where it is alone.
func (c *clustering) of(level int, t int32) int32 {
	if slot := c.slot[t]; slot >= 0 {
		return c.levels[level][slot]
	}
	return -1
}

// clusters returns each type's cluster; with chains, whoever hangs on to it by pairs belongs.
func clusters(signatures []signature, chains bool, workers int) *clustering {
	type pair struct {
		a, b  int32
		level int8 // the highest that it reaches
	}
	var found [sorts][]pair
	detect.Each(sorts, workers, func(sort int) {
		scratch := borrow(len(signatures))
		defer scratch.giveBack()
		for i := range signatures {
			scratch.one[i] = place{signatures[i][2*sort], int32(i), uint32(signatures[i][2*sort+1] >> 32)}
		}
		order := byKey(scratch.one, scratch.other)
		byNext(order, scratch.spare(order), func(i int32) uint64 { return signatures[i][2*sort+1] })
		similarTypes(order, signatures, func(a, b int32, similar float64) {
			level := int8(-1)
			for l, threshold := range thresholds {
				if similar >= threshold {
					level = int8(l)
				}
			}
			found[sort] = append(found[sort], pair{a, b, level})
		})
	})

	out := &clustering{slot: make([]int32, len(signatures))}
	for i := range out.slot {
		out.slot[i] = -1
	}
	for _, pairs := range found {
		for _, p := range pairs {
			out.slot[p.a], out.slot[p.b] = 0, 0
		}
	}
	for i, slot := range out.slot {
		if slot == 0 {
			out.slot[i] = int32(len(out.members))
			out.members = append(out.members, int32(i))
		}
	}
	detect.Each(len(out.levels), workers, func(level int) {
		parent := make([]int32, len(out.members))
		for i := range parent {
			parent[i] = int32(i)
		}
		root := func(i int32) int32 {
			for parent[i] != i {
				parent[i] = parent[parent[i]]
				i = parent[i]
			}
			return i
		}
		for _, pairs := range found {
			for _, p := range pairs {
				if int(p.level) >= level {
					a, b := root(out.slot[p.a]), root(out.slot[p.b])
					parent[max(a, b)] = min(a, b)
				}
			}
		}
		for i := range parent {
			parent[i] = root(int32(i))
		}
		if !chains {
			unchain(signatures, out.members, parent, thresholds[level])
		}
		out.levels[level] = parent
	})
	return out
}

const (
	fewestChained = 8  // types of a cluster that may be a chain
	mostAsked     = 33 // of its types that say what is common to it
)

// unchain takes out of each cluster the types that are not as similar as asked to what is common to it: in a long stream of
// texts from one template, or one small vocabulary, pairs of neighbours chain types into one cluster that have nothing to do
// with one another, ever more of them the longer it is. Copies of one text keep most of what they were copied from, whatever
// was changed in each. Those taken out are clusters of their own.
func unchain(signatures []signature, types, cluster []int32, least float64) {
	size, at := make([]int32, len(cluster)), make([]int32, len(cluster))
	for _, c := range cluster {
		size[c]++
	}
	chained := int32(0)
	for c, n := range size {
		if at[c] = chained; n >= fewestChained {
			chained += n
		}
	}
	members := make([]int32, chained) // of one cluster after the other
	for i, c := range cluster {
		if size[c] >= fewestChained {
			members[at[c]] = int32(i)
			at[c]++
		}
	}
	for from := int32(0); from < chained; {
		all := members[from : from+size[cluster[members[from]]]]
		from += int32(len(all))
		common := commonSignature(signatures, types, all)
		first := int32(-1)
		for _, i := range all {
			switch {
			case similarity(&signatures[types[i]], &common) < least:
				cluster[i] = i
			case first < 0:
				first = i
				fallthrough
			default:
				cluster[i] = first
			}
		}
	}
}

// commonSignature has in each byte what most of the members have there, by some of them that stand evenly among all.
func commonSignature(signatures []signature, types, members []int32) (common signature) {
	var asked [mostAsked]*signature
	n := min(len(members), mostAsked)
	for k := range n {
		asked[k] = &signatures[types[members[k*len(members)/n]]]
	}
	var count [256]uint8
	for at := range 64 {
		word, shift := at/8, 8*(at%8)
		most, best := uint8(0), uint64(0)
		for _, s := range asked[:n] {
			b := s[word] >> shift & 0xff
			if count[b]++; count[b] > most {
				most, best = count[b], b
			}
		}
		common[word] |= best << shift
		for _, s := range asked[:n] {
			count[s[word]>>shift&0xff] = 0
		}
	}
	return common
}

func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
