// Package calibrate turns scores into p-values and p-values into one.
//
// A p-value is the chance that a clean record scores at least as high. Scores of different detectors do not
// compare; p-values do.
//
// # From scores to p-values
//
// The p-value of a score s against m scores of rows that are known to be clean, and that the model was not fitted
// on, is conformal (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World"): (1 + #{scores ≥ s}) /
// (m + 1), exact whatever the distribution, as long as the rows are exchangeable. It cannot be smaller than
// 1/(m+1), and a mean over ten detectors dilutes that below any useful budget. Above a threshold u that k of the
// m scores exceed, the tail is therefore extrapolated: exceedances y = s − u of almost every distribution follow
// a generalised Pareto distribution as u rises (Pickands 1975; Balkema and de Haan 1974),
//
//	P(S ≥ u + y) = k/m · (1 + ξ y / σ)^(−1/ξ),   and k/m · exp(−y/σ) for ξ = 0.
//
// ξ and σ maximise the likelihood along Grimshaw's one-dimensional profile (Technometrics 1993). ξ is kept at 0
// or above: a bounded tail would give p-values of nothing and no order among them, and 0 errs on the side of the
// record. The highest ¼ % of the scores count only as "above what the others reach" (type II censoring), and 1 % of
// those of a batch: the most extreme rows move the fit by their share and not by how far out they lie. Poison of up to 1 % of the
// trusted rows then keeps p-values of its kind below its own share; more censoring would take clean outliers for poison.
//
// p-values are kept as natural logarithms, so that the far tail keeps its order.
package calibrate

import (
	"math"
	"sort"

	"github.com/tasterhq/taster/detect/lanes"
	"github.com/tasterhq/taster/detect/rising"
)

const (
	censored    = 0.0025 // share of trusted scores whose size is not believed
	fewestTail  = 20     // exceedances without which a tail is not fitted
	fewestRows  = 50     // scores without which ranks are all there is
	shapeSpread = 0.5    // standard deviation of the normal prior on ξ
	shapeCentre = 0.2    // and its mean: tails of scores are rather heavy than light
	logPDeep    = -300   // from here on ln p is bent towards twice as much: exp(−600) is still a double
)

// Null is what is known of a score on clean records. It is not changed after it was made.
type Null struct {
	sorted []float64 // rising
	spread float64   // a scale to go on by where there is no tail, > 0
	from   float64   // u; +Inf without a tail
	ranked float64   // up to here p is at least what ranks say
	logU   float64   // ln P(S > u)
	sigma  float64
	xi     float64
	cut    float64       // from here on scores were held for another mode and left out; +Inf where none were
	places rising.Places // of sorted
}

// Fit makes the null distribution of a score from what it gave on clean rows that its model was not fitted on.
// NaN is left out; at most 1 % of the rows may be poison. Without any score there is no Null: Fit returns nil.
func Fit(scores []float64) *Null {
	sorted := finite(scores)
	return fit(sorted, int(censored*float64(len(sorted))))
}

func finite(scores []float64) []float64 {
	sorted := make([]float64, 0, len(scores))
	for _, s := range scores {
		if !math.IsNaN(s) {
			sorted = append(sorted, s)
		}
	}
	sort.Float64s(sorted)
	return sorted
}

// fit takes rising scores, of which the highest hidden are censored.
func fit(sorted []float64, hidden int) *Null {
	m := len(sorted)
	if m == 0 {
		return nil
	}
	n := &Null{sorted: sorted, from: math.Inf(1), cut: math.Inf(1), spread: spread(sorted)}
	if m < fewestRows {
		return n
	}
	n.places = rising.Of(sorted)
	k := min(m/4, max(25, int(3*math.Sqrt(float64(m))), 3*hidden))
	n.from = sorted[m-k-1]
	n.ranked = sorted[m-max(25, 2*hidden)]
	first := m - k + sort.SearchFloat64s(sorted[m-k:], math.Nextafter(n.from, math.Inf(1)))
	above := m - first
	if above == 0 {
		// More than the threshold's share of the rows tie at the highest score: nothing is known of what lies above
		// but that it was not seen.
		n.logU = -math.Log(float64(m) + 1)
		n.sigma = n.spread
		return n
	}
	n.logU = math.Log((float64(above) + 1) / (float64(m) + 1))
	believed := max(above-hidden, 1)
	excess := make([]float64, believed)
	for i := range excess {
		excess[i] = sorted[first+i] - n.from
	}
	n.sigma, n.xi = pareto(excess, above-believed)
	if above < fewestTail {
		n.sigma, n.xi = max(n.sigma, n.spread), 0
	}
	return n
}

// spread returns a robust scale of rising scores: the upper quartile over the median; where that is nothing, the
// whole upper half; and one unit where there is no spread at all.
func spread(sorted []float64) float64 {
	m := len(sorted)
	middle := sorted[m/2]
	for _, upper := range []float64{sorted[m*3/4], sorted[m-1]} {
		if d := upper - middle; d > 0 && !math.IsInf(d, 0) {
			return d
		}
	}
	return 1
}

// pareto fits a generalised Pareto distribution with ξ ≥ 0 to rising positive exceedances, above the largest of
// which another hidden ones lie. With θ = ξ/σ, ln L = −r ln σ − (1 + 1/ξ) Σ ln(1 + θ y) − h/ξ · ln(1 + θ y_max)
// has for every θ its maximum in ξ at (Σ ln(1 + θ y) + h ln(1 + θ y_max)) / r, which leaves one dimension.
func pareto(excess []float64, hidden int) (sigma, xi float64) {
	r, h := float64(len(excess)), float64(hidden)
	top := excess[len(excess)-1]
	var sum float64
	for _, y := range excess {
		sum += y / r
	}
	mean := sum + h*top/r // of the exponential distribution with the same censoring
	if !(mean > 0) || math.IsInf(mean, 0) {
		return math.MaxFloat64 / 4, 0
	}
	best := -r*math.Log(mean) - r - penalty(0)
	sigma, xi = mean, 0
	for step := range 48 {
		theta := 1e-3 * math.Pow(10, float64(step)/8) / mean // ξ from next to nothing to far beyond a Cauchy tail's
		var logs float64
		for _, y := range excess {
			logs += math.Log1p(theta * y)
		}
		shape := (logs + h*math.Log1p(theta*top)) / r
		scale := shape / theta
		if like := -r*math.Log(scale) - logs - r - penalty(shape); like > best {
			best, sigma, xi = like, scale, shape
		}
	}
	return sigma, xi
}

func penalty(shape float64) float64 {
	d := (shape - shapeCentre) / shapeSpread
	return d * d / 2
}

// LogP returns the natural logarithm of the p-value of a score: at most 0, and falling strictly as
// the score rises above the lowest that is known. NaN, on which there is no opinion, gets 0.
func (n *Null) LogP(score float64) float64 {
	if math.IsNaN(score) {
		return 0
	}
	if score > n.from {
		y := (score - n.from) / n.sigma
		tail := -y
		if n.xi > 0 {
			tail = -math.Log1p(n.xi*y) / n.xi
		}
		if score <= n.ranked {
			// The fit bends a bounded tail outwards; where ranks are many they know better.
			return max(n.logU+tail, n.rank(score))
		}
		if tail += n.logU; tail < logPDeep {
			depth := (logPDeep - tail) / -logPDeep
			tail = logPDeep * (1 + depth/(1+depth))
		}
		return tail
	}
	return n.rank(score)
}

// LogPs sets out[i] to LogP(scores[i]). The two must not overlap.
func (n *Null) LogPs(out, scores []float64) {
	out = out[:len(scores)]
	if n == nil { // there is none, and no opinion on any row
		for i, score := range scores {
			out[i] = n.LogP(score)
		}
		return
	}
	for i, score := range scores {
		if out[i] = 1; score <= n.from {
			out[i] = n.share(score)
		}
	}
	lanes.Logs(out, out)
	for i, score := range scores {
		if score > n.from { // few
			out[i] = n.LogP(score)
		}
	}
}

// rank returns ln p by rank.
func (n *Null) rank(score float64) float64 { return math.Log(n.share(score)) }

// share returns p by rank.
func (n *Null) share(score float64) float64 {
	m := len(n.sorted)
	rows := float64(m) + 1
	at := n.places.Search(n.sorted, score) // scores below
	switch {
	case at == m:
		// Above everything, and no tail: half a rank at most is made of how far.
		return (0.5 + 0.5/(1+(score-n.sorted[m-1])/n.spread)) / rows
	case n.sorted[at] == score:
		return float64(m-at+1) / rows
	case at == 0:
		return 1
	}
	// Between two neighbours the rank is interpolated, so that scores that differ keep their order.
	lo, hi := n.sorted[at-1], n.sorted[at]
	part := 0.5
	if gap := hi - lo; gap > 0 && !math.IsInf(gap, 0) {
		part = (score - lo) / gap
	}
	return (float64(m-at+1) + 1 - part) / rows
}

// Rows returns how many scores the Null was made from.
func (n *Null) Rows() int { return len(n.sorted) }

// Score returns the least score, to within rounding, whose ln p is at most logP: the inverse of LogP.
func (n *Null) Score(logP float64) float64 {
	lo, hi := n.sorted[0], n.sorted[len(n.sorted)-1]
	for step := n.spread; n.LogP(hi) > logP && step < math.MaxFloat64/4; step *= 2 {
		hi += step
	}
	for range 100 {
		if middle := lo/2 + hi/2; n.LogP(middle) <= logP {
			hi = middle
		} else {
			lo = middle
		}
	}
	return hi
}
