// Package loss finds records on which a model's loss is out of proportion.
//
// A loss far above what is usual in the record's class shows a wrong label, or content that the model has never seen. The
// loss is given (role loss), or it is the cross-entropy −ln p(own label) of given probabilities; which class an index of
// these stands for is [consistency.Outcomes]' business. A model that has not learned from the record tells most; one that
// has, learns its errors by heart in the end.
//
// # Both tails
//
// The score is the larger of
//
//	high = ln 10 · (loss − median) / (95 % quantile − median)
//	low  = ln 10 · (median − loss) / (median − 5 % quantile) − ln 20, of the losses' logarithms
//
// with the quantiles of the record's class in the reference, or of all where the class has fewer than 50 rows there: about
// −ln of the share of clean records beyond, where tails fall exponentially, as those of losses do on the high side, and of
// their logarithms on the low one. A low loss has to be 20 times as rare to count as much. Backdoored records can have
// suspiciously low losses early in training, or where a model knows the trigger by heart (Li, Lyu, Koren, Lyu, Li, Ma,
// "Anti-Backdoor Learning", NeurIPS 2021), but a loss at the end of an honest training is as low for whatever is easy: of
// three public sets of backdoored reviews, judged by a linear model cross-fitted on the very poison, 2.2 % at most of the
// poison was in the lowest 1 %. So only losses lower than nearly all that is known are told, and what does the work is the
// high side. Losses that may be negative (of densities) have no logarithm, and only a high side.
//
// It does not see poison that its own model believes: clean-label poison, and a backdoor whose trigger the model has
// learned.
//
// Cost: one pass, a logarithm a record. Evidence: the loss and what is usual.
package loss

import (
	"fmt"
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/consistency"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	fewestRows  = 20    // losses without which nothing is usual
	fewestClass = 50    // losses of a class from which it is judged by its own
	handicap    = 20    // how many times as rare a low loss has to be
	furthest    = 1e9   // a score is at most so far out: infinite losses have one too
	zero        = 1e-7  // of the median: a lower loss counts as this one
	least       = 1e-30 // a lower probability counts as this one: an infinite loss compares with nothing
)

// Detector finds losses out of proportion. Its zero value is ready.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "loss" }

// Fit implements [detect.Detector].
func (Detector) Fit(reference *detect.Sample, _ detect.Env) (detect.Model, error) {
	m := &model{class: map[string]*usual{}}
	if reference.Loss == nil {
		if m.outcomes = consistency.NewOutcomes(reference); m.outcomes == nil {
			return nil, nil
		}
	}
	losses := m.losses(reference)
	known := make([]float64, 0, len(losses))
	byClass := make([][]float64, len(reference.Classes))
	for i, loss := range losses {
		if math.IsNaN(loss) {
			continue
		}
		known = append(known, loss)
		if reference.Label != nil && reference.Label[i] >= 0 {
			byClass[reference.Label[i]] = append(byClass[reference.Label[i]], loss)
		}
	}
	if len(known) < fewestRows {
		return nil, nil
	}
	m.all = newUsual(known)
	for label, known := range byClass {
		if len(known) >= fewestClass {
			m.class[reference.Classes[label]] = newUsual(known)
		}
	}
	return m, nil
}

type model struct {
	outcomes *consistency.Outcomes // nil: losses are given
	all      *usual
	class    map[string]*usual
}

// losses returns the loss of every row, NaN where it has none; nil for a sample without losses.
func (m *model) losses(s *detect.Sample) []float64 {
	if m.outcomes == nil {
		return s.Loss
	}
	label := m.outcomes.Of(s)
	if label == nil {
		return nil
	}
	out := make([]float64, s.N)
	for i, own := range label {
		out[i] = math.NaN()
		if own < 0 {
			continue
		}
		var sum float64
		row := s.Probabilities[i*s.Outcomes : (i+1)*s.Outcomes]
		for _, p := range row {
			if sum += float64(p); !(p >= 0) {
				sum = math.NaN()
			}
		}
		if sum > 0 && !math.IsInf(sum, 0) {
			out[i] = max(0, -math.Log(max(float64(row[own])/sum, least)))
		}
	}
	return out
}

// usual is what losses are like.
type usual struct {
	rows             int
	median           float64
	up               float64 // from the median to the 95 % quantile
	logarithms       bool    // no loss is negative
	logMedian, below float64 // of the logarithms: the median, and from the 5 % quantile to it
}

func newUsual(losses []float64) *usual {
	slices.Sort(losses)
	at := func(q float64) float64 { return losses[int(q*float64(len(losses)-1)+0.5)] }
	u := &usual{rows: len(losses), median: at(0.5), logarithms: losses[0] >= 0 && at(0.5) > 0}
	u.up = spread(at(0.95)-u.median, u.median)
	if u.logarithms {
		u.logMedian = math.Log(u.median)
		u.below = spread(u.logMedian-u.log(at(0.05)), 1)
	}
	return u
}

// spread returns a distance to measure by: d, or, where losses hardly differ, a little of what they are.
func spread(d, size float64) float64 {
	if !(d > 0) || math.IsInf(d, 0) {
		d = 0
	}
	return max(d, 1e-6*min(math.Abs(size), math.MaxFloat64), 1e-12)
}

func (u *usual) log(loss float64) float64 { return math.Log(max(loss, zero*u.median)) }

// score returns how far out a loss is, as ln of how rare.
func (u *usual) score(loss float64) float64 {
	high := math.Ln10 * (loss - u.median) / u.up
	if u.logarithms && loss < u.median {
		high = max(high, math.Ln10*(u.logMedian-u.log(loss))/u.below-math.Log(handicap))
	}
	return max(-furthest, min(high, furthest))
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	losses := m.losses(s)
	classes := make([]*usual, len(s.Classes))
	for i, name := range s.Classes {
		if classes[i] = m.class[name]; classes[i] == nil {
			classes[i] = m.all
		}
	}
	of := func(row int) *usual {
		if s.Label == nil || s.Label[row] < 0 {
			return m.all
		}
		return classes[s.Label[row]]
	}
	value := make([]float64, s.N)
	for i := range value {
		if value[i] = math.NaN(); losses != nil && !math.IsNaN(losses[i]) {
			value[i] = of(i).score(losses[i])
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonLoss, PerClass: true, Explain: func(row int) string {
		if math.IsNaN(value[row]) {
			return "no loss"
		}
		u, where := of(row), "the reference"
		if u != m.all {
			where = fmt.Sprintf("class %q", s.Classes[s.Label[row]])
		}
		side := "higher"
		if losses[row] < u.median {
			side = "lower"
		}
		return fmt.Sprintf("loss %.3g, %s than usual in %s: median %.3g of %d rows, 95 %% below %.3g",
			losses[row], side, where, u.median, u.rows, u.median+u.up)
	}}
}
