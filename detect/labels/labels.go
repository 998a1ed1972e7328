// Package labels knows what label a text should have: a label model, and the detector that flags labels which
// contradict their text.
//
// The label model is multinomial logistic regression on hashed words and stems (the first five letters of a word),
// weighted by inverse document frequency, each row of unit length; its probabilities are tempered on held-out rows. Of
// more than eight classes it makes eight groups of about equal size, so that a thousand classes cost no more than
// eight: a wrong label is in another group seven times out of eight.
//
// Detector flags labels, not texts: random or targeted flips show, as long as the text says what its label should be.
// Its score is the surprise −log p(own label | text) under a model of the reference. Where that has fewer than 3,000 rows,
// and a stream at least twice as many, a second model is asked, cross-fitted on the stream, three times over, each time
// without the third of the rows that it then judges: it has seen more words, the new ones included, and a few wrong labels
// among thousands teach it little. The mean of their log-odds counts, each weighted by the rows it has learned from.
// Cross-fitting with held-out probabilities follows confident learning (Northcutt et al., JAIR 2021, arXiv 1911.00068),
// whose exact form needs a model's own probabilities. With a larger reference, or in a short stream, scores depend on nothing
// but the row, which calibrates them best and costs least.
//
// It needs texts and labels of at least two classes, 20 labelled rows of reference at least. A row without a text or
// label, or with a label that the reference has not, gets no score. It does not see a flip that the text does not
// contradict, and flags honest labels of ironic or unusual texts first.
package labels

import (
	"fmt"
	"math"
	"weak"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	fewestCross = 200  // rows from which a stream is worth a model of its own
	alone       = 3000 // reference rows from which the stream has little to teach
	worthwhile  = 4096 // rows that are worth a goroutine
)

// Detector flags labels that contradict the text. Its zero value is ready.
type Detector struct{}

// Name implements detect.Detector.
func (Detector) Name() string { return "label" }

// Fit implements detect.Detector.
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if reference.Text == nil || reference.Label == nil {
		return nil, nil
	}
	m := Fit(reference, env)
	if m == nil {
		return nil, nil
	}
	return scorer{m}, nil
}

type scorer struct{ model *Model }

// Score implements detect.Model.
func (sc scorer) Score(s *detect.Sample, env detect.Env) detect.Scores {
	m := sc.model
	value := make([]float64, s.N)
	for i := range value {
		value[i] = math.NaN()
	}
	scores := detect.Scores{Value: value, Code: finding.PoisonLabel, Stream: m.rows < alone, Learned: m.rows < alone, Explain: func(row int) string {
		return fmt.Sprintf("label %q, of which the text says that it is %.2g %% likely", s.Classes[s.Label[row]], 100*math.Exp(-value[row]))
	}}
	if s.Text == nil || s.Label == nil {
		return scores
	}
	own, p := m.Groups(s), m.predict(s, false, env)
	var cross *Model
	var crossOwn []int8
	var crossP []float32
	if m.rows < alone && m.sample != weak.Make(s) && s.N >= max(fewestCross, 2*m.rows) {
		if cross = fit(s, mostCross, env); cross != nil {
			crossOwn, crossP = cross.Groups(s), cross.predict(s, false, env)
		}
	}
	detect.Chunks(s.N, worthwhile, env.Workers, func() func(first, end int) {
		odds, logs, exps := make([]float64, 0, worthwhile), make([]float64, worthwhile), make([]float64, worthwhile)
		return func(first, end int) {
			odds = odds[:0]
			for i := first; i < end; i++ {
				sure := 0.5 // of nobody
				if g := own[i]; g >= 0 && s.Text[i] != nil {
					sure = surely(p[i*m.groups+int(g)], m.groups)
				}
				odds = append(odds, sure)
			}
			lanes.Logs(logs[:len(odds)], odds)
			against := odds
			for k, sure := range odds {
				i, odds := first+k, logOdds(sure, logs[k])
				if cross != nil && crossOwn[i] >= 0 {
					sure := surely(crossP[i*cross.groups+int(crossOwn[i])], cross.groups)
					odds += (logOdds(sure, math.Log(sure)) - odds) * float64(cross.rows) / float64(cross.rows+m.rows)
				}
				against[k] = -odds
			}
			lanes.Exps(exps[:len(odds)], against)
			for k, e := range exps[:len(odds)] {
				if i := first + k; own[i] >= 0 && s.Text[i] != nil {
					value[i] = math.Log1p(e) // −log of the logistic function
				}
			}
		}
	})
	return scores
}

// surely returns the probability of a group as the regression has it, without the doubt that Predict mixes in: rows far
// beyond doubt must still be told apart, or the surest flips would tie with every row that is merely odd.
func surely(p float32, groups int) float64 {
	const least = 1e-7 // p is a float32
	sure := (float64(p) - doubt/float64(groups)) / (1 - doubt)
	return max(least, min(sure, 1-least))
}

// logOdds returns the log-odds of a probability, given its logarithm.
func logOdds(p, log float64) float64 { return log - math.Log1p(-p) }
