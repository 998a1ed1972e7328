package trigger

import (
	"cmp"
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

// note keeps what is known of a row, whose features x holds, before anything is explained away, and tells whether it is suspicious.
func (st *stream) note(j *judged, row int, e evidence, x *extractor, v *view) bool {
	j.plain[row] = e.score
	if st.referenceRows > 0 && st.own != nil && st.own[row] >= 0 {
		j.association[row] = e.drag * math.Sqrt(st.surprise(row)+agreeing)
	}
	if e.peak < beyond {
		return false
	}
	st.suspects[row] = st.suspicion(row, x, v)
	return true
}

// judge judges all rows of a sample by a portion of them, explaining away included, which is learned from that portion too and goes down
// only to what the highest ordinary rows are left with.
func (st *stream) judge(j *judged, workers int) {
	s := st.sample
	st.suspects = make([]float32, s.N)
	found := eachWorker(len(st.unique.rows), workers, func(from, to int) bool {
		x := st.extractor()
		found := false
		for _, i := range st.unique.rows[from:to] {
			x.extract(st.tokens.Row(i))
			found = st.note(j, i, st.evidence(i, st.counted.weights, &x), &x, &st.counted) || found
		}
		return found
	})
	var g *group
	if slices.Contains(found, true) {
		rows := slices.Clone(st.unique.rows) // by falling score
		slices.SortFunc(rows, func(a, b int) int { return cmp.Compare(j.plain[b], j.plain[a]) })
		wanted, first := st.ordinary(rows)
		g = st.fitGroup(rows, st.plain[rows[first-1]], workers)
		st.usual = st.explainCounted(rows, wanted, first, g, workers)
	}
	eachWorker(s.N, workers, func(from, to int) any {
		x := st.extractor()
		for i := from; i < to; i++ {
			v := st.view(i)
			if first := st.unique.first[i]; s.Text[i] == nil || first >= 0 && int(first) != i || v == &st.counted {
				continue
			}
			x.extract(st.tokens.Row(i))
			e := st.evidence(i, v.weights, &x)
			if st.note(j, i, e, &x, v); g != nil && e.score > st.usual {
				j.plain[i] = max(st.usual, st.less(i, e.score, st.restOf(i, &x, v, g).score))
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

// lookedAt is the share of the records without a feature beyond chance whose order matters: ten times as many as may be quarantined as a rule. The
// others are suspicious to nobody: they are of no group, and how far they are from being suspicious need not be known.
const lookedAt = 0.1

// ordinary returns how many of the counted rows without a feature beyond chance are lookedAt of them, and how many of all rows, which come by falling
// score, have come with that many and one more.
func (st *stream) ordinary(rows []int) (wanted, first int) {
	all := 0
	for _, i := range rows {
		if st.suspects[i] == 0 {
			all++
		}
	}
	wanted = int(lookedAt * float64(all))
	for found := 0; first < len(rows) && found <= wanted; first++ {
		if st.suspects[rows[first]] == 0 {
			found++
		}
	}
	return wanted, first
}

// explainCounted explains away what the counted rows score, down to a score that it returns: the largest that no more than the wanted number of
// rows without a feature beyond chance exceed when that is done. Rows come by falling score; at least the first of them are looked at.
func (st *stream) explainCounted(rows []int, wanted, first int, g *group, workers int) float64 {
	left := make([]float64, len(rows)) // of each row's score
	var ordinary []float64             // the same of rows without such a feature
	reach := func(score float64) (n int) {
		for _, v := range ordinary {
			if v >= score {
				n++
			}
		}
		return n
	}
	done := 0
	for done < len(rows) && reach(st.plain[rows[done]]) <= wanted { // no row has more left than it scored
		from, to := done, min(len(rows), max(first, done+done/8+1))
		eachWorker(to-from, workers, func(first, end int) any {
			x := st.extractor()
			for k := from + first; k < from+end; k++ {
				i := rows[k]
				x.extract(st.tokens.Row(i))
				left[k] = st.less(i, st.plain[i], st.restOf(i, &x, &st.counted, g).score)
			}
			return nil
		})
		for k := from; k < to; k++ {
			if st.suspects[rows[k]] == 0 {
				ordinary = append(ordinary, left[k])
			}
		}
		done = to
	}
	usual := math.Inf(-1)
	slices.Sort(ordinary)
	if n := len(ordinary); n > wanted {
		usual = ordinary[n-1-wanted]
	}
	for k, i := range rows[:done] {
		if st.plain[i] > usual {
			st.plain[i] = max(usual, left[k])
		}
	}
	return usual
}
