package nearduplicate

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/tasterhq/taster/detect"
)

// signature is 64 bytes, eight in a word. A byte of 0 is an empty bin: the row had nothing to put there.
type signature [8]uint64

// similarity estimates the similarity of what two signatures were made from: equal bytes among those that are not empty
// in both. Where one half shows less than an eighth, the answer is 0.
func (a *signature) similarity(b *signature) float64 {
	equal, empty := 0, 0
	for i := range a {
		equal += zeroBytes(a[i] ^ b[i])
		empty += zeroBytes(a[i] | b[i])
		if i == 3 && 8*(equal-empty) < 32-empty {
			return 0
		}
	}
	if empty == 64 {
		return 0
	}
	return float64(equal-empty) / float64(64-empty)
}

// zeroBytes counts the bytes of x that are 0 (Warren, "Hacker's Delight", 6-1).
func zeroBytes(x uint64) int {
	const low = 0x7f7f7f7f7f7f7f7f
	return bits.OnesCount64(^((x&low + low) | x | low))
}

// rowType is all rows with the same words, or the same vector.
type rowType struct {
	hash      uint64
	signature signature
	words     int
	rows      int // of the sample that was grouped
	reference int // rows of the reference, once merged
}

// grouping holds types in the order of their hashes, so that nothing that is computed from them depends on the order of
// rows; typeOf is -1 for a row that has nothing to compare.
type grouping struct {
	types  []rowType
	typeOf []int32
}

// groupTypes finds the types of a sample. Rows with equal contents share the work; sign is called for one of them.
func groupTypes(contents []uint64, sign func(row int) (signature, uint64, int), env detect.Env) grouping {
	type member struct {
		hash  uint64
		index int32
	}
	byHash := func(a, b member) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return cmp.Compare(a.index, b.index)
	}
	rows := make([]member, 0, len(contents))
	for row, h := range contents {
		if h != 0 {
			rows = append(rows, member{h, int32(row)})
		}
	}
	slices.SortFunc(rows, byHash)
	var starts []int // of the runs of equal contents
	for i := range rows {
		if i == 0 || rows[i].hash != rows[i-1].hash {
			starts = append(starts, i)
		}
	}

	signed := make([]rowType, len(starts))
	detect.Each(len(starts), env.Workers, func(u int) {
		t := &signed[u]
		t.signature, t.hash, t.words = sign(int(rows[starts[u]].index))
	})
	order := make([]member, len(signed))
	for u := range signed {
		order[u] = member{signed[u].hash, int32(u)}
	}
	slices.SortFunc(order, byHash)

	g := grouping{typeOf: make([]int32, len(contents))}
	for row := range g.typeOf {
		g.typeOf[row] = -1
	}
	for _, o := range order {
		t := signed[o.index]
		if t.words == 0 {
			continue
		}
		if n := len(g.types); n == 0 || g.types[n-1].hash != t.hash {
			g.types = append(g.types, t)
		}
		end := len(rows)
		if int(o.index)+1 < len(starts) {
			end = starts[o.index+1]
		}
		last := len(g.types) - 1
		g.types[last].rows += end - starts[o.index]
		for _, member := range rows[starts[o.index]:end] {
			g.typeOf[member.index] = int32(last)
		}
	}
	return g
}

// merge puts the types of stream and reference together; typeOf tells of the stream's rows.
func merge(stream, reference grouping) grouping {
	g := grouping{types: make([]rowType, 0, len(stream.types)+len(reference.types)), typeOf: make([]int32, len(stream.typeOf))}
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

// thresholds are the levels of similarity at which clusters are made.
var thresholds = [...]float64{0.4, 0.55, 0.7, 0.85}

const (
	sorts  = 4
	window = 3
)

// clusters returns, for each level, each type's cluster, named by its least member; with chains, whoever hangs on to it by pairs belongs.
func clusters(types []rowType, chains bool, workers int) [][]int32 {
	type pair struct {
		a, b  int32
		level int8 // the highest that it reaches
	}
	var found [sorts][]pair
	detect.Each(sorts, workers, func(sort int) {
		type place struct {
			key, tie uint64
			index    int32
		}
		order := make([]place, len(types))
		for i := range types {
			s := &types[i].signature
			order[i] = place{s[2*sort], s[2*sort+1], int32(i)}
		}
		slices.SortFunc(order, func(a, b place) int {
			switch {
			case a.key != b.key:
				return cmp.Compare(a.key, b.key)
			case a.tie != b.tie:
				return cmp.Compare(a.tie, b.tie)
			}
			return cmp.Compare(a.index, b.index)
		})
		for i := range order {
			for _, other := range order[i+1 : min(i+1+window, len(order))] {
				a, b := order[i].index, other.index
				similarity := types[a].signature.similarity(&types[b].signature)
				level := int8(-1)
				for l, threshold := range thresholds {
					if similarity >= threshold {
						level = int8(l)
					}
				}
				if level >= 0 {
					found[sort] = append(found[sort], pair{a, b, level})
				}
			}
		}
	})

	levels := make([][]int32, len(thresholds))
	for level := range levels {
		parent := make([]int32, len(types))
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
					a, b := root(p.a), root(p.b)
					parent[max(a, b)] = min(a, b)
				}
			}
		}
		for i := range parent {
			parent[i] = root(int32(i))
		}
		if !chains {
			unchain(types, parent, thresholds[level])
		}
		levels[level] = parent
	}
	return levels
}

const (
	fewestChained = 8  // types of a cluster that may be a chain
	mostAsked     = 33 // of its types that say what is common to it
)

// unchain takes out of each cluster the types that are not as similar as asked to what is common to it: in a long stream of
// texts from one template, or one small vocabulary, pairs of neighbours chain types into one cluster that have nothing to do
// with one another, ever more of them the longer it is. Copies of one text keep most of what they were copied from, whatever
// was changed in each. Those taken out are clusters of their own.
func unchain(types []rowType, cluster []int32, similarity float64) {
	size := make([]int32, len(cluster))
	for _, c := range cluster {
		size[c]++
	}
	members := map[int32][]int32{}
	for i, c := range cluster {
		if size[c] >= fewestChained {
			members[c] = append(members[c], int32(i))
		}
	}
	for _, all := range members {
		common := commonSignature(types, all)
		least := int32(-1)
		for _, i := range all {
			switch {
			case types[i].signature.similarity(&common) < similarity:
				cluster[i] = i
			case least < 0:
				least = i
				fallthrough
			default:
				cluster[i] = least
			}
		}
	}
}

// commonSignature has in each byte what most of the members have there, by some of them that stand evenly among all.
func commonSignature(types []rowType, members []int32) (common signature) {
	asked := min(len(members), mostAsked)
	for at := range 64 {
		word, shift := at/8, 8*(at%8)
		var count [256]uint8
		most := uint8(0)
		for k := range asked {
			b := types[members[k*len(members)/asked]].signature[word] >> shift & 0xff
			if count[b]++; count[b] > most {
				most = count[b]
				common[word] = common[word]&^(0xff<<shift) | b<<shift
			}
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
