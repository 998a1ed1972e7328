package calibrate

import (
	"math"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
)

// evenShare is the share of the weight that is spread evenly whatever the stream looks like, so that a flood which
// one detector sees cannot take all weight from the others.
const evenShare = 0.1

// leastNews is how much a detector must tell of all rows together, in nats, before weights move half of the way: odds of
// e³ to 1.
const leastNews = 3

// Weights says how much each detector counts in a stream: logP[d] holds detector d's ln p of every row, calibrated
// on calibrated[d] rows.
//
// On a clean stream p-values are uniform, and a detector that sees nothing only adds noise to those that do. Weight
// therefore moves towards detectors by what they tell of this stream (news), as far as that can be told from what calibrates them
// (believed). The weights depend on a row only through its n-th part in that, and the combination is calibrated under the same
// weights, so the budget does not suffer. Prior is what they count when none tells anything; it adds up to 1.
func Weights(logP [][]float64, calibrated []int, prior []float64) []float64 {
	weights := make([]float64, len(logP))
	if len(logP) == 0 {
		return weights
	}
	var sum float64
	for d, column := range logP {
		weights[d] = news(column, calibrated[d]) * believed(len(column), calibrated[d])
		sum += weights[d]
	}
	rows := float64(max(1, len(logP[0])))
	move := (1 - evenShare) * sum / (sum + leastNews/rows)
	for d := range weights {
		if sum > 0 {
			weights[d] *= move / sum
		}
		weights[d] += (1 - move) * prior[d]
	}
	return weights
}

// believed is the part of n rows that counts as evidence where m trusted rows tell what their p-values should be. How often a
// p-value ≤ q comes on clean rows is known to what m of them tell, however long the stream; that a stream of a hundred thousand
// differs from a thousand trusted rows by a little more than three standard errors is next to nothing, and would be fifty nats
// if each of its rows were a witness. So rows beyond detect.Enough count as m together. Up to that many, three standard errors keep most
// of that noise away, and weight that moves early finds more than is lost.
func believed(n, m int) float64 {
	if n <= detect.Enough+m {
		return 1
	}
	return float64(m) / float64(n-detect.Enough)
}

// tails calls f with q = 1/16,384 … 1/8, 1/4, the share of p-values ≤ q, and the standard error of that share on clean rows. Not with
// q = 1/2: of means of ln p over several models (detect/policy) more lie there on clean streams too, but fewer from 1/4 on.
func tails(logP []float64, calibrated int, f func(q, share, err float64)) {
	const steps = 14
	var count [steps]int
	for _, lp := range logP {
		if step := int(-lp / math.Ln2); step > 0 {
			count[min(step, steps)-1]++
		}
	}
	n := float64(len(logP))
	below := 0
	for step := steps; step > 1; step-- {
		below += count[step-1]
		q := math.Exp2(-float64(step))
		f(q, float64(below)/n, math.Sqrt(q*(1-q)*(1/n+1/float64(max(calibrated, 1)))))
	}
}

// news tells how far the ln p of all rows of a stream, calibrated on so many rows, are from those of clean ones, in nats a row: the largest
// Kullback-Leibler divergence, over q, of the share of p-values ≤ q from q itself (the statistic of Berk and Jones, Z.
// Wahrscheinlichkeitstheorie 1979; Donoho and Jin, "Higher criticism", Annals of Statistics 2004), q being raised by three
// standard errors first, for there are many detectors and many q.
func news(logP []float64, calibrated int) float64 {
	best := 0.0
	tails(logP, calibrated, func(q, share, err float64) {
		if q += 3 * err; share > q {
			d := share * math.Log(share/q)
			if share < 1 {
				d += (1 - share) * math.Log((1-share)/(1-q))
			}
			best = max(best, d)
		}
	})
	return best
}

// Unclean returns a lower bound on the share of rows that are not clean, by their ln p, calibrated on so many rows (Meinshausen and
// Rice, Annals of Statistics 2006): the largest excess of the share of p-values ≤ q over q and three standard errors.
func Unclean(logP []float64, calibrated int) float64 {
	best := 0.0
	tails(logP, calibrated, func(q, share, err float64) {
		best = max(best, (share-q-3*err)/(1-q))
	})
	return best
}

// Combine writes ln of the weighted harmonic sum Σ w_d / p_d of every row to out. The harmonic mean of p-values
// (Wilson, PNAS 2019) is led by the smallest and, as the Cauchy combination (Liu and Xie, JASA 2020), hardly
// feels how they depend on each other; unlike it, it is not dragged down by a p-value near 1. It is a score and
// not yet a p-value: calibrate it under the same weights.
func Combine(out []float64, logP [][]float64, weights []float64) {
	var lead, relative, term [together]float64
	for from := 0; from < len(out); from += together {
		sum := out[from:min(from+together, len(out))]
		n := len(sum)
		// The smallest p-value leads: relative to it every term is at most its weight.
		clear(lead[:n])
		for _, column := range logP {
			for i, lp := range column[from : from+n] {
				lead[i] = min(lead[i], lp)
			}
		}
		clear(sum)
		for d, column := range logP {
			for i, lp := range column[from : from+n] {
				relative[i] = lead[i] - lp
			}
			lanes.Exps(term[:n], relative[:n])
			for i := range sum {
				sum[i] += weights[d] * term[i]
			}
		}
		lanes.Logs(sum, sum)
		for i := range sum {
			sum[i] -= lead[i]
		}
	}
}

// together is how many rows are combined at once.
const together = 256

// Cautious returns ln p as far as m trusted rows can tell: where fewer than a handful of them would be as extreme, p comes
// from an extrapolation whose error is of the size of p itself, and one standard error √(p/m) is added to it. Where
// ranks are many they know better, and p is left as it is. It rises with logP.
func Cautious(logP float64, m int) float64 {
	p := math.Exp(logP)
	expected := p * float64(m) // trusted rows as extreme
	err := math.Sqrt(p/float64(m)) / (1 + expected/cautiousRows)
	return min(0, logP+math.Log1p(err/max(p, math.SmallestNonzeroFloat64)))
}

// cautiousRows is what "a handful" is: at three rows the relative error of a rank, 1/√3, is halved.
const cautiousRows = 3

// Within returns the ln p that Cautious raises to logP.
func Within(logP float64, m int) float64 {
	lo, hi := 3*logP-50, logP
	for range 60 {
		if middle := (lo + hi) / 2; Cautious(middle, m) <= logP {
			lo = middle
		} else {
			hi = middle
		}
	}
	return lo
}

// compressed is where extrapolation ends to be meant literally.
const compressed = 1e-6

// Risk is 1 − p for a calibrated ln p, with one change: below p = 10⁻⁶, far beyond what any reference can prove, p
// goes on as 10⁻⁶ / (1 + ln(10⁻⁶/p)), so that risks of the most suspicious rows do not all round to 1 but keep
// their order.
func Risk(logP float64) float64 {
	if depth := math.Log(compressed) - logP; depth > 0 {
		return 1 - compressed/(1+depth)
	}
	return -math.Expm1(logP)
}

// StreamRisk is the risk of n rows as a whole: 1 minus the chance that a clean stream has as many flagged rows, or
// one as extreme, at a budget calibrated on m rows.
func StreamRisk(flagged, n, m int, budget, smallest float64) float64 {
	if n == 0 {
		return 0
	}
	expected := float64(n) * budget
	deviation := math.Sqrt(expected * (1 - budget) * (1 + float64(n)/float64(max(m, 1))))
	many := math.Erfc((float64(flagged)-0.5-expected)/(deviation*math.Sqrt2)) / 2
	extreme := -math.Expm1(-float64(n) * math.Exp(smallest)) // 1 − (1 − p)ⁿ
	return max(0, 1-2*min(many, extreme))
}
