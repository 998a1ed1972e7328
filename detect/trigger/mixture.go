package trigger

import (
	"math"
	"slices"

	"github.com/tasterhq/taster/detect/lanes"
)

// A stream with a large poisoned group makes every feature of that group look bad, also the harmless ones that clean
// records share with it. So a stream with features beyond what chance and honest words reach is taken for a mixture of
// two kinds of records, clean ones and ones like those that have such features, fitted by expectation maximisation: naive
// Bayes on the same features, per label, every record left out of what it is judged by. What a record shares with the
// group counts as far as the record is one of it; for the others the group is taken out of all counts.

const (
	// beyond is the evidence of a single feature that clean streams do not reach: an honest word's association ends
	// near 1/√labelSpread, and the largest of a million shares by chance lies near √(2 ln 10⁶).
	beyond = 1.8 + 5.3

	// explained is the share of its evidence that a record loses which is surely not of the group. Not all of it: where a
	// group ends is a guess, and poison at its edge must stay above ordinary records.
	explained = 0.75

	repeated   = 4.5  // features that one token is part of: so often the same evidence is counted
	doubtful   = 10.0 // odds that a feature alone gives a record, of which nothing is believed
	fewestKind = 3.0  // records of a group of which something can be learned
	negligible = 0.01 // probability below which a record is no part of a group
	rareKind   = 1.0  // pseudo-count of records
)

// group is what suspicious records have in common.
type group struct {
	records  []uint32  // per bucket and slot, the sum of their probabilities, in stream.unit
	expected []uint32  // per bucket and label group, what the label model expected of those with labels, in stream.unit
	size     []float64 // per slot
	rows     []float64 // per slot, of the stream
}

// has tells whether some of the group's records have a feature.
func (g *group) has(at, slots, groups int) bool {
	any := uint32(0)
	for _, n := range g.records[at*slots : (at+1)*slots] {
		any |= n
	}
	for _, n := range g.expected[at*groups : (at+1)*groups] {
		any |= n
	}
	return any > 0
}

// purity returns the share of the records with a feature and one label, among them a row that has both, that are more than the
// reference, and the label model, let expect.
func (st *stream) purity(at uint32, row int, v *view) float64 {
	b, slot := &st.table[at], st.slot(row)
	n, more := float64(b.n()), v.more // the row itself, where it is not counted
	observed := n + more
	usual := observed
	if st.referenceRows > 0 {
		usual = (float64(st.reference[at]) + 0.5) * float64(st.rows) / float64(st.referenceRows)
	}
	if slot < st.groups {
		var expected float64
		observed, expected = st.labels(&st.counts, int(at), slot)
		if more > 0 {
			n, observed, expected = n+more, observed+more, expected+more*float64(st.p[row*st.groups+slot])
		}
		usual = min(1, usual/n) * expected
	}
	if observed <= 0 {
		return 0
	}
	return max(0, 1-usual/observed)
}

// suspicion returns how probably a row is of a group, by the purest of its features that are beyond chance.
func (st *stream) suspicion(row int, x *extractor, v *view) float32 {
	weights := v.weights[st.slot(row):]
	most := 0.0
	for _, at := range x.index {
		if float64(weights[int(at)*st.slots].peak)*peakUnit >= beyond {
			most = max(most, st.purity(at, row, v))
		}
	}
	return float32(most)
}

// explainAway returns the rows' trigger scores, less what is explained away.
func (st *stream) explainAway(workers int) []float64 {
	st.apart.Do(func() {
		st.trigger = st.plain
		if st.suspects != nil {
			st.trigger = slices.Clone(st.plain)
			st.separate(workers)
		}
	})
	return st.trigger
}

// separate fits the mixture to the first suspects, and st.trigger loses what is explained.
func (st *stream) separate(workers int) {
	every := make([]int, st.sample.N)
	for i := range every {
		every[i] = i
	}
	st.usual = math.Inf(-1)
	g := st.fitGroup(every, st.usual, workers)
	eachWorker(st.sample.N, workers, func(from, to int) any {
		x := st.extractor()
		for i := from; i < to; i++ {
			x.extract(st.tokens.Row(i))
			rest := st.restOf(i, &x, &st.counted, g)
			if st.sample.Text[i] != nil {
				st.trigger[i] = st.less(i, st.trigger[i], rest.score)
			}
		}
		return nil
	})
}

// fitGroup fits the mixture to the first suspects among rows, which hold all that are counted; none is of the group that
// scores no more than least. Then st.suspicions is how probably each row is of the group, and the views know what features say of it and of
// the others.
func (st *stream) fitGroup(rows []int, least float64, workers int) *group {
	perSlot := make([]float64, st.slots) // distinct ones
	for _, i := range st.unique.rows {
		perSlot[st.slot(i)]++
	}
	st.suspicions = slices.Clone(st.suspects)
	g := st.newGroup(perSlot)
	st.gather(g)
	st.compare(g, &st.counted, workers)
	eachWorker(len(rows), workers, func(from, to int) any {
		x := st.extractor()
		for _, i := range rows[from:to] {
			own := st.ownPart(i)
			enough := g.size[st.slot(i)]-own >= fewestKind && !(st.plain[i] <= least)
			st.suspicions[i] = 0
			if enough { // what features are matters only here
				x.extract(st.tokens.Row(i))
				ratio, share := st.likelihood(i, own, &x, &st.counted, g)
				st.suspicions[i] = float32(1 / (1 + math.Exp(-ratio-share)))
			}
		}
		return nil
	})
	st.gather(g)
	for _, v := range []*view{&st.counted, st.others} {
		if v != nil {
			st.compare(g, v, workers)
			v.rest = st.weigh(g, v, workers)
		}
	}
	return g
}

// belongs notes how probably a row is of the group, of whose features ratio is the likelihood; own is how much of the group it is.
func (st *stream) belongs(row int, own, ratio float64, g *group) {
	st.suspicions[row] = 0
	if g.size[st.slot(row)]-own >= fewestKind {
		// What is rare is no less a group, and a feature that clean records do not have is enough.
		p := min(float64(st.suspects[row]), 0.999)
		st.suspicions[row] = float32(1 / (1 + math.Exp(-ratio-max(0, math.Log(p/(1-p)/doubtful)))))
	}
}

// restOf returns what a row's features, which x holds, say without the group, and notes how probably the row is of it.
func (st *stream) restOf(row int, x *extractor, v *view, g *group) evidence {
	own, ratio := st.ownPart(row), 0.0
	if g.size[st.slot(row)]-own >= fewestKind {
		ratio, _ = st.likelihood(row, own, x, v, g)
	}
	st.belongs(row, own, ratio, g)
	return st.evidence(row, v.rest, x)
}

// less returns a trigger score less what is explained away: all that is more than the rest, as far as the row is not of the group.
func (st *stream) less(row int, score, rest float64) float64 {
	return score - explained*(1-float64(st.suspicions[row]))*max(0, score-rest)
}

// newGroup returns a group of nobody; rows is the number of records per slot.
func (st *stream) newGroup(rows []float64) *group {
	buckets := len(st.table)
	return &group{
		records:  make([]uint32, buckets*st.slots),
		expected: make([]uint32, buckets*st.groups),
		size:     make([]float64, st.slots),
		rows:     rows,
	}
}

// gather adds up what suspicious records have. It is quick: few are.
func (st *stream) gather(g *group) {
	clear(g.records)
	clear(g.expected)
	clear(g.size)
	last := make([]uint32, len(st.table))
	x := st.extractor()
	add := make([]uint32, st.groups)
	for _, i := range st.unique.rows {
		p := float64(st.suspicions[i])
		if p < negligible {
			continue
		}
		slot, part := st.slot(i), uint32(p/st.unit+0.5)
		g.size[slot] += float64(part) * st.unit
		for k := range add {
			add[k] = 0
			if st.own[i] >= 0 {
				add[k] = uint32(p*float64(st.p[i*st.groups+k])/st.unit + 0.5)
			}
		}
		x.extract(st.tokens.Row(i))
		for _, at := range x.index {
			if last[at] == uint32(i+1) {
				continue
			}
			last[at] = uint32(i + 1)
			g.records[int(at)*st.slots+slot] += part
			for k, e := range add {
				g.expected[int(at)*st.groups+k] += e
			}
		}
	}
}

// compare notes what features say for the group of a row that is no part of it: nearly all rows ask for the same numbers.
func (st *stream) compare(g *group, v *view, workers int) {
	if v.ratios == nil {
		v.ratios = make([]float64, len(st.table)*st.slots)
	}
	eachWorker(len(st.table), workers, func(from, to int) any {
		for at := from; at < to; at++ {
			none := st.table[at].n() == 0 && v.more == 0
			for slot := range st.slots {
				ratio := 1.0 // says nothing
				if !none && g.size[slot] >= fewestKind {
					ratio = st.ratio(uint32(at), slot, 0, v, g)
				}
				v.ratios[at*st.slots+slot] = ratio
			}
		}
		part := v.ratios[from*st.slots : to*st.slots]
		lanes.Logs(part, part)
		return nil
	})
}

// ownPart returns how much of the group a row is.
func (st *stream) ownPart(row int) float64 {
	if p := float64(st.suspicions[row]); p >= negligible {
		return float64(uint32(p/st.unit+0.5)) * st.unit
	}
	return 0
}

// ratio returns how much more common a feature is among the group's records with a label than among all
// clean ones; own is how much of the group who asks is.
func (st *stream) ratio(at uint32, slot int, own float64, v *view, g *group) float64 {
	size := g.size[slot] - own
	others := max(0, g.rows[slot]-size)
	known := g.rows[slot] / float64(st.rows) * float64(st.referenceRows) // reference records with the label, about
	in := max(0, float64(g.records[int(at)*st.slots+slot])*st.unit-own)
	all, part := float64(st.table[at].n())+v.more, 1.0
	if slot < st.groups {
		n, expected := all, 0.0
		all, expected = st.labels(&st.counts, int(at), slot)
		if v.more > 0 {
			all, expected = all+v.more, expected+v.more*st.likely[slot]
		}
		part = expected / n
	}
	out := max(0, all-in-1) + float64(st.reference[at])*part
	usual := min(1, (out+0.5)/(others+known+1))
	return (in + rareKind) / (size*usual + rareKind)
}

// likelihood returns the logarithm of how much likelier a row's features are among the group's other records than among all
// clean ones with its label, and that of the group's share of these. own is how much of the group the row is, x its features.
func (st *stream) likelihood(row int, own float64, x *extractor, v *view, g *group) (ratio, share float64) {
	slot := st.slot(row)
	if own == 0 {
		ratios := v.ratios[slot:]
		for _, at := range x.index {
			ratio += ratios[int(at)*st.slots]
		}
	} else {
		x.ratios = slices.Grow(x.ratios[:0], len(x.index))
		for _, at := range x.index {
			x.ratios = append(x.ratios, st.ratio(at, slot, own, v, g))
		}
		lanes.Logs(x.ratios, x.ratios)
		for _, r := range x.ratios {
			ratio += r
		}
	}
	size := g.size[slot] - own
	return ratio / repeated, math.Log(size / (max(0, g.rows[slot]-size) + 1))
}
