package trigger

import (
	"math"
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
}

// purity returns the share of the records with a feature and one label that are more than the reference, and the label
// model, let expect.
func (st *stream) purity(at uint32, slot int) float64 {
	b := &st.table[at]
	observed := float64(b.n)
	usual := observed
	if st.referenceRows > 0 {
		usual = (float64(st.reference[at]) + 0.5) * float64(st.rows) / float64(st.referenceRows)
	}
	if slot < st.groups {
		var expected float64
		observed, expected = st.labelled(int(at), slot)
		usual = min(1, usual/float64(b.n)) * expected
	}
	if observed <= 0 {
		return 0
	}
	return max(0, 1-usual/observed)
}

// suspicion returns how probably a row is of a group, by the purest of its features that are beyond chance.
func (st *stream) suspicion(row int, x *extractor) float32 {
	slot := st.slot(row)
	weights := st.weights[slot:]
	most := 0.0
	for _, at := range x.index {
		if float64(weights[int(at)*st.slots].peak)*peakUnit >= beyond {
			most = max(most, st.purity(at, slot))
		}
	}
	return float32(most)
}

// separate fits the mixture to first suspicions, and sets st.suspicions to how probably each row is of the group and
// st.rest to what features say of the others.
func (st *stream) separate(suspicions []float32, unique distinct, workers int) {
	st.suspicions = suspicions
	rows := make([]float64, st.slots) // distinct ones, per slot
	for i, counts := range unique.counts {
		if counts {
			rows[st.slot(i)]++
		}
	}
	var g *group
	for _, last := range []bool{false, true} {
		g = st.gather(unique)
		next := make([]float32, len(suspicions))
		eachWorker(len(next), workers, func(from, to int) any {
			x := extractor{size: st.size, functions: st.model.functions}
			for i := from; i < to; i++ {
				ratio, prior := st.likelihood(i, &x, g, rows)
				if last {
					// What is rare is no less a group, and a feature that clean records do not have is enough.
					p := min(float64(suspicions[i]), 0.999)
					prior = max(0, math.Log(p/(1-p)/doubtful))
				}
				next[i] = float32(1 / (1 + math.Exp(-ratio-prior)))
			}
			return nil
		})
		st.suspicions = next
	}
	st.rest = st.weigh(g, workers)
}

// gather adds up what suspicious records have. It is quick: few are.
func (st *stream) gather(unique distinct) *group {
	buckets := st.size.buckets()
	g := &group{
		records:  make([]uint32, buckets*st.slots),
		expected: make([]uint32, buckets*st.groups),
		size:     make([]float64, st.slots),
	}
	last := make([]uint32, buckets)
	x := extractor{size: st.size, functions: st.model.functions}
	add := make([]uint32, st.groups)
	for i, counts := range unique.counts {
		p := float64(st.suspicions[i])
		if !counts || p < negligible {
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
	return g
}

// likelihood returns the logarithm of how much likelier a row's features are among the group's other records than among all
// clean ones with its label, and that of the group's share of these. rows is the number of records per slot.
func (st *stream) likelihood(row int, x *extractor, g *group, rows []float64) (ratio, share float64) {
	slot := st.slot(row)
	own := 0.0
	if p := float64(st.suspicions[row]); p >= negligible {
		own = float64(uint32(p/st.unit+0.5)) * st.unit
	}
	size := g.size[slot] - own
	if size < fewestKind {
		return math.Inf(-1), 0
	}
	x.extract(st.tokens.Row(row))
	others := max(0, rows[slot]-size)
	known := rows[slot] / float64(st.rows) * float64(st.referenceRows) // reference records with the label, about
	for _, at := range x.index {
		in := max(0, float64(g.records[int(at)*st.slots+slot])*st.unit-own)
		all, part := float64(st.table[at].n), 1.0
		if slot < st.groups {
			n, expected := all, 0.0
			all, expected = st.labelled(int(at), slot)
			part = expected / n
		}
		out := max(0, all-in-1) + float64(st.reference[at])*part
		usual := min(1, (out+0.5)/(others+known+1))
		ratio += math.Log((in + rareKind) / (size*usual + rareKind))
	}
	return ratio / repeated, math.Log(size / (others + 1))
}
