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
}

// Align fits null, made from simulated clean streams, to the scores of a stream that is longer than any clean
// stream that the reference could be made into. The share of rows that are not clean is bounded first, with a fit to
// the lower half of the scores, which poison moves little. Then the quartile, the median and the 90 % quantile of the
// others are laid on those of the simulation, and the shape of the tail beyond is the simulation's. Where poison is
// overlooked, the 90 % quantile lies too high and p-values become larger. A score without spread is left as it is.
func Align(null *Null, scores []float64) Aligned {
	same := Aligned{null: null, lowScale: 1, highScale: 1}
	sorted := finite(scores)
	if len(sorted) < fewestRows || null == nil || len(null.sorted) < fewestRows {
		return same
	}
	logP := make([]float64, len(sorted))
	poison := 0.0
	lay := func(high float64) (Aligned, bool) {
		clean := sorted[:int(math.Ceil(float64(len(sorted))*(1-poison)))]
		at := func(q float64) (x, y float64) { return quantile(null.sorted, q), quantile(clean, q) }
		x25, y25 := at(0.25)
		x50, y50 := at(0.5)
		a := Aligned{null: null, from: y50, to: x50, lowScale: (x50 - x25) / (y50 - y25)}
		a.highScale = a.lowScale
		if high > 0 {
			xh, yh := at(high)
			a.highScale = (xh - x50) / (yh - y50)
		}
		sound := func(scale float64) bool { return scale > 0 && !math.IsInf(scale, 0) }
		return a, sound(a.lowScale) && sound(a.highScale)
	}
	// One pass: the fit to all rows leans to the side of the record, and so does what it says of their share.
	a, ok := lay(0)
	if !ok {
		return same
	}
	for i, s := range sorted {
		logP[i] = a.LogP(s)
	}
	poison = min(excess(logP, len(null.sorted)), mostPoison)
	if a, ok = lay(0.9); !ok {
		return same
	}
	return a
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
