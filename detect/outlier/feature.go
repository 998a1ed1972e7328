package outlier

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	// A feature whose range exceeds its middle half so many times is scaled by asinh: a normal distribution has a ratio of
	// 5, an exponential 6, a log-normal with σ = 1.5 more than 40.
	heavy = 40
	// No scaled value is farther than so many ranges from the median.
	farthest = 100
)

// feature is what the reference says of one column.
type feature struct {
	name        string
	median, mad float64 // mad is the median absolute deviation, unscaled
	lo, hi      float64 // all that was seen
	below       float64 // length of the lower tail: the 5 % quantile less lo
	above       float64
	bend        float64 // of asinh, 0 for a linear scale
	unit        float64 // a scaled value of 1
}

// newFeature learns from the values of a column, which hold no NaN and no infinity. It sorts them.
func newFeature(name string, values []float64) feature {
	f := feature{name: name, unit: 1}
	n := len(values)
	if n == 0 {
		return f
	}
	slices.Sort(values)
	f.median, f.lo, f.hi = middle(values), values[0], values[n-1]
	f.below, f.above = span(f.lo, values[n/20]), span(values[n-1-n/20], f.hi)
	trim := n / 1000
	bottom, top := values[trim], values[n-1-trim]
	if bottom == top { // constant but for less than a thousandth, which counts
		bottom, top = f.lo, f.hi
	}
	width := span(bottom, top)
	if f.below == 0 {
		f.below = width
	}
	if f.above == 0 {
		f.above = width
	}
	if width == 0 { // constant: a difference counts against its size
		width = max(1, math.Abs(f.median))
		f.below, f.above = width, width
	}
	f.unit = width
	if half := span(values[n/4], values[n-1-n/4]); half > 0 && width/half > heavy {
		f.bend = half / 2
		f.unit = f.bent(top) - f.bent(bottom)
	}

	deviations := values
	for i, v := range values {
		deviations[i] = span(min(v, f.median), max(v, f.median))
	}
	slices.Sort(deviations)
	f.mad = middle(deviations)
	return f
}

// middle returns the median of values, which are sorted.
func middle(values []float64) float64 {
	n := len(values)
	return values[(n-1)/2]/2 + values[n/2]/2
}

// span returns hi − lo, as large as it can be.
func span(lo, hi float64) float64 { return min(hi-lo, math.MaxFloat64) }

func (f *feature) bent(v float64) float64 { return math.Asinh(v/f.bend - f.median/f.bend) }

// scale returns v's distance from the median in ranges of the reference; 0 for NaN.
func (f *feature) scale(v float64) float32 {
	if math.IsNaN(v) {
		return 0
	}
	z := v/f.unit - f.median/f.unit
	if f.bend > 0 {
		z = f.bent(v) / f.unit
	}
	return float32(max(-farthest, min(z, farthest)))
}

// beyond returns how many tails v lies outside the reference, at most 1e12; 0 for what lies inside, and for NaN.
func (f *feature) beyond(v float64) float64 {
	switch {
	case v > f.hi && f.above > 0:
		return min((v-f.hi)/f.above, 1e12)
	case v < f.lo && f.below > 0:
		return min((f.lo-v)/f.below, 1e12)
	}
	return 0
}

func (f *feature) explain(b *strings.Builder, v float64) {
	fmt.Fprintf(b, "%s = %.6g (median %.6g, ", f.name, v, f.median)
	switch {
	case f.mad > 0:
		fmt.Fprintf(b, "%+.3g MADs)", v/f.mad-f.median/f.mad)
	case f.lo == f.hi:
		b.WriteString("always)")
	default:
		fmt.Fprintf(b, "more than half the time, range %.6g to %.6g)", f.lo, f.hi)
	}
}
