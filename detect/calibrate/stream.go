package calibrate

import (
	"math"
	"sort"
)

// Aligned is a Null for one stream whose scores stretch with the stream's length: the null of shorter simulated
// streams, moved so that the clean part of the stream falls on the simulation.
type Aligned struct {
	null                *Null
	from, to            float64 // the medians of the stream and of the simulation
	lowScale, highScale float64 // below and above the median
	unclean             float64
}

// Unclean is a lower bound on the share of the stream's rows that are not clean.
func (a Aligned) Unclean() float64 { return a.unclean }

// Align fits null, made from simulated clean streams, to the scores of a stream that is longer than any clean
// stream that the reference could be made into. The share of rows that are not clean is bounded first, with a fit to
// the lower half of the scores, which poison moves little. Then the quartile, the median and the 90 % quantile of the
// others are laid on those of the simulation, and the shape of the tail beyond is the simulation's. Where poison is
// overlooked, the 90 % quantile lies too high and p-values become larger. A score without spread is left as it is.
func Align(null *Null, scores []float64) Aligned {
	sorted := finite(scores)
	logP := make([]float64, len(sorted))
	poison := 0.0
	// The fit to all rows leans to the side of the record, and so does what it says of their share; the more of them are
	// known, the less it leans.
	for range passes {
		a, ok := lay(null, sorted, poison, 0)
		if !ok {
			return a
		}
		for i, s := range sorted {
			logP[i] = a.LogP(s)
		}
		share := min(Unclean(logP, len(null.sorted)), mostPoison)
		if share <= poison {
			break
		}
		poison = share
	}
	a, _ := lay(null, sorted, poison, 0.9)
	return a
}

// lay lays the quartile, the median and the quantile high of rising scores, the highest of which are poison, on those of
// null; 0 is for no such quantile. Where that makes no sense null is left as it is.
func lay(null *Null, sorted []float64, poison, high float64) (Aligned, bool) {
	same := Aligned{null: null, lowScale: 1, highScale: 1, unclean: poison}
	if len(sorted) < fewestRows || null == nil || len(null.sorted) < fewestRows {
		return same, false
	}
	clean := sorted[:int(math.Ceil(float64(len(sorted))*(1-poison)))]
	at := func(q float64) (x, y float64) { return quantile(null.sorted, q), quantile(clean, q) }
	x25, y25 := at(0.25)
	x50, y50 := at(0.5)
	a := Aligned{null: null, from: y50, to: x50, lowScale: (x50 - x25) / (y50 - y25), unclean: poison}
	a.highScale = a.lowScale
	if high > 0 {
		xh, yh := at(high)
		a.highScale = (xh - x50) / (yh - y50)
	}
	sound := func(scale float64) bool { return scale > 0 && !math.IsInf(scale, 0) }
	if !sound(a.lowScale) || !sound(a.highScale) {
		return same, false
	}
	return a, true
}

func quantile(sorted []float64, q float64) float64 {
	x := q * float64(len(sorted)-1)
	i := min(int(x), len(sorted)-2)
	return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
}

// LogP returns ln p of a score.
func (a Aligned) LogP(score float64) float64 {
	scale := a.highScale
	if score < a.from {
		scale = a.lowScale
	}
	return a.null.LogP(a.to + scale*(score-a.from))
}

// passes is how often Align looks for records that are not clean; it finds hardly more after that.
const passes = 4

// Lengths returns the lengths at which clean streams are simulated from folds of the given size: the size itself
// and every fourth part down to about 50, rising.
func Lengths(fold int) []int {
	var out []int
	for n := fold; n > 0 && (n >= fewestRows || len(out) == 0); n /= 4 {
		out = append(out, n)
	}
	sort.Ints(out)
	return out
}
