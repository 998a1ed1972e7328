package trigger

import (
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
)

// Of a sample with more than detect.Enough distinct records a portion is counted, and every record is judged by that. A record of the
// portion is one of those that have its features, and is left out of their counts. To any other record one more is added first, such
// as those with its label are on the average. So what is said of both means the same.

// portion returns those of the distinct rows that are counted.
func (st *stream) portion(all distinct, seed uint64) distinct {
	chosen := distinct{first: all.first}
	chosen.rows = detect.Portion(all.rows, detect.Enough, seed, func(row int) uint64 { return rowKey(st.tokens, st.own, row) })
	st.in = make([]bool, st.sample.N)
	for _, row := range chosen.rows {
		st.in[row] = true
		chosen.tokens += len(st.tokens.Row(row))
	}
	st.likely = make([]float64, st.groups)
	if st.own == nil {
		return chosen
	}
	sums, rows := make([]int64, st.groups), make([]int64, st.groups) // whole numbers: the order of rows does not matter
	const unit = 1 << 20
	for _, row := range chosen.rows {
		if g := int(st.own[row]); g >= 0 {
			sums[g] += int64(float64(st.p[row*st.groups+g]) * unit)
			rows[g]++
		}
	}
	for g := range sums {
		st.likely[g] = float64(sums[g]) / unit / float64(max(1, rows[g]))
	}
	return chosen
}

// evident returns the counts by which a feature is weighed, how many records like them are to be added to those, and how many times as
// many rows they are of as are counted: words are counted over all rows, for that costs little, and a trigger of one word may be rare.
func (st *stream) evident(at int, v *view) (c *counts, more, times float64) {
	if at < len(st.words.table) {
		return &st.words, 0, float64(st.words.rows) / float64(st.rows)
	}
	return &st.counts, v.more, 1
}

// view returns by which counts a row is judged.
func (st *stream) view(row int) *view {
	if first := st.unique.first[row]; st.others != nil && (first < 0 || !st.in[first]) {
		return st.others
	}
	return &st.counted
}

// judge judges all rows of a sample by a portion of them, explaining away included, which is learned from that portion too.
func (st *stream) judge(j *judged, workers int) {
	s := st.sample
	st.suspects = make([]float32, s.N)
	found := eachWorker(len(st.unique.rows), workers, func(from, to int) bool {
		x := st.extractor()
		found := false
		for _, i := range st.unique.rows[from:to] {
			x.extract(st.tokens.Row(i))
			if st.evidence(i, st.counted.weights, &x).peak >= beyond {
				st.suspects[i] = st.suspicion(i, &x, &st.counted)
				found = true
			}
		}
		return found
	})
	var g *group
	if slices.Contains(found, true) {
		g = st.fitGroup(st.unique.rows, workers)
	}
	eachWorker(s.N, workers, func(from, to int) any {
		x := st.extractor()
		for i := from; i < to; i++ {
			if first := st.unique.first[i]; s.Text[i] == nil || first >= 0 && int(first) != i {
				continue
			}
			x.extract(st.tokens.Row(i))
			v := st.view(i)
			e := st.evidence(i, v.weights, &x)
			if g != nil {
				if v == st.others && e.peak >= beyond {
					st.suspects[i] = st.suspicion(i, &x, v)
				}
				rest := st.restOf(i, &x, v, g)
				e.score -= explained * (1 - float64(st.suspicions[i])) * max(0, e.score-rest.score)
			}
			j.plain[i] = e.score
			if st.referenceRows > 0 && st.own != nil && st.own[i] >= 0 {
				j.association[i] = e.drag * math.Sqrt(st.surprise(i)+agreeing)
			}
		}
		return nil
	})
	for i, first := range st.unique.first {
		if first >= 0 && int(first) != i {
			j.plain[i], j.association[i] = j.plain[first], j.association[first]
			if g != nil {
				st.suspicions[i] = st.suspicions[first]
			}
		}
	}
	st.suspects = nil // nothing is left to be explained away
}
