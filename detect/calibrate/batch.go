package calibrate

import (
	"math"
	"sort"
)

const (
	extreme    = 0.01 // share of a batch's scores whose size is not believed
	mostPoison = 0.35 // share of a batch that may be held for another mode
	// mostExplained is the share of another mode's rows that the tail of the others may account for. Clean scores in
	// steps or with a shoulder stay far above it.
	mostExplained = 0.01
	fewestClumped = 20  // rows that make a mode
	fewestModes   = 300 // rows of a batch without which nothing is said of modes
	// dipBound is what √n · sup(least concave majorant − empirical distribution) stays below in all but 1 of some 2,000 samples
	// of a uniform distribution, the least favourable of those whose density does not rise (Hartigan and Hartigan,
	// "The Dip Test of Unimodality", Annals of Statistics 1985; value by simulation, see the test).
	dipBound = 2.2
)

// FitBatch makes a null distribution of a score from a batch that may hold poison, without any trusted row: an
// empirical null in the sense of Efron ("Large-Scale Simultaneous Hypothesis Testing", JASA 2004).
//
// The scores of clean rows are taken to have one mode. Where the upper part of the batch shows a second one
// beyond doubt, and one that the tail of the rest cannot account for, the rows from the valley on, at most 35 % of
// all, are left out of the fit and judged by that tail: heavy poison does not hide itself by being many. Where it shows none, all rows
// are fitted, the highest 1 % censored, and on clean data as many are flagged as the budget allows.
func FitBatch(scores []float64) *Null {
	sorted := finite(scores)
	body := len(sorted)
	for range 3 { // poison may come in more than one clump
		cut := valley(sorted[:body])
		if body-cut < fewestClumped || float64(len(sorted)-cut) > mostPoison*float64(len(sorted)) {
			break
		}
		below := fit(sorted[:cut], int(extreme*float64(cut)))
		if explained := float64(cut) * math.Exp(below.LogP(sorted[cut])); explained > mostExplained*float64(body-cut) {
			break
		}
		body = cut
	}
	hidden := 0
	if body == len(sorted) {
		hidden = int(extreme * float64(body))
	}
	null := fit(sorted[:body], hidden)
	if null != nil && body < len(sorted) {
		null.cut = sorted[body]
	}
	return null
}

// FitRest is FitBatch for a combination of scores: only rows that stand in the main mode of every one of them count,
// and no further mode is looked for.
func FitRest(combined []float64, scores [][]float64, nulls []*Null) *Null {
	var rest []float64
rows:
	for i, s := range combined {
		for d, null := range nulls {
			if scores[d][i] >= null.cut {
				continue rows
			}
		}
		rest = append(rest, s)
	}
	if len(rest) < len(combined)/2 {
		return FitBatch(combined) // their modes have little in common
	}
	sorted := finite(rest)
	return fit(sorted, int(extreme*float64(len(sorted))))
}

// valley returns the index in rising scores at which a second, higher mode begins, or len(sorted) where the part
// above the main mode is compatible with a density that only falls.
func valley(sorted []float64) int {
	n := len(sorted)
	if n < fewestModes {
		return n
	}
	// The same clump is the plainer the less of the body is looked at with it.
	cut, deep := n, dipBound
	last := -1
	for _, share := range []float64{0, 0.7, 0.8, 0.9, 0.95} {
		start := max(mode(sorted), int(share*float64(n)))
		if start == last || n-start < fewestRows/2 {
			continue
		}
		last = start
		upper := sorted[start:]
		at, dip := deepest(upper)
		if dip *= math.Sqrt(float64(len(upper))); dip > deep {
			cut, deep = start+at, dip
		}
	}
	if cut == n {
		return n
	}
	// The majorant leaves the distribution somewhere in the valley; its widest gap is where the other mode begins.
	near := max(5, (n-cut)/5)
	for i := max(1, cut-near); i < min(n, cut+near); i++ {
		if sorted[i]-sorted[i-1] > sorted[cut]-sorted[cut-1] {
			cut = i
		}
	}
	return cut
}

// mode returns the index of the middle of the shortest interval that holds half of the rising scores.
func mode(sorted []float64) int {
	half := len(sorted) / 2
	best := 0
	for i := 1; i+half < len(sorted); i++ {
		if sorted[i+half]-sorted[i] < sorted[best+half]-sorted[best] {
			best = i
		}
	}
	return best + half/2
}

// deepest returns the index of the row at which the empirical distribution of rising scores lies deepest below its
// least concave majorant, and how deep. The rows of one value count as spread out between it and the value below,
// or, where that is far, over four times the median distance of two values: a score of few values has a gap after
// each of them, which says nothing of modes, and a flood of equal scores far out has a gap that does.
func deepest(s []float64) (at int, depth float64) {
	n := len(s)
	var first []int // of the rows of each value
	var gaps []float64
	for i := range s {
		if i == 0 || s[i] != s[i-1] {
			if first = append(first, i); i > 0 {
				gaps = append(gaps, s[i]-s[i-1])
			}
		}
	}
	if len(gaps) == 0 {
		return 0, 0
	}
	sort.Float64s(gaps)
	widest := 4 * gaps[(len(gaps)-1)/2]

	// Corners of the piecewise linear distribution: before and after the rows of each value.
	x, f := make([]float64, 0, 2*len(first)), make([]float64, 0, 2*len(first))
	for j, i := range first {
		next := n
		if j+1 < len(first) {
			next = first[j+1]
		}
		left := s[i] - widest
		if i > 0 {
			left = max(left, s[i-1])
		}
		x = append(x, left, s[i])
		f = append(f, float64(i)/float64(n), float64(next)/float64(n))
	}
	hull := make([]int, 0, 64) // corners of the majorant: the upper convex hull
	for i := range x {
		for len(hull) >= 2 {
			a, b := hull[len(hull)-2], hull[len(hull)-1]
			if (x[b]-x[a])*(f[i]-f[a]) < (x[i]-x[a])*(f[b]-f[a]) {
				break // b stays: the slope from a to b is steeper than that from a to i
			}
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, i)
	}
	for h := 1; h < len(hull); h++ {
		a, b := hull[h-1], hull[h]
		slope := (f[b] - f[a]) / (x[b] - x[a])
		if math.IsNaN(slope) || math.IsInf(slope, 0) {
			continue
		}
		for i := a + 1; i < b; i++ {
			if d := f[a] + slope*(x[i]-x[a]) - f[i]; d > depth && i%2 == 0 {
				at, depth = first[i/2], d
			}
		}
	}
	return at, depth
}
