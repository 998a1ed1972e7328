// Package consistency finds labels that contradict what else is given of a record: a model's class probabilities, or an
// embedding. (Labels that contradict their text are package labels' business.)
//
// It catches label flips, random and targeted, and honest label errors, as long as the model or the embedding tells the
// classes apart. It does not see clean-label poison, nor a flip that the model has learned: probabilities should be of a
// model that has not trained on the record.
//
// Needed are labels, and probabilities or embeddings; what is lacking falls away, for the stream or for a single row.
//
// # Probabilities
//
// The score follows the margin of confident learning (Northcutt, Jiang, Chuang, JAIR 2021, arXiv 1911.00068),
// m = P[own label] − max P[other], as ln((1 − m)/(1 + m)): the log-odds of the best other class against the own where
// there are two classes, and in the same order as −m, with room in the tail, where there are more. Margins compare within
// a class, as the thresholds of confident learning do, so scores are calibrated by class. [ConfidentLearning] is the
// published method itself, as a function.
//
// Which class an index of the probabilities stands for: a label that is an integer is the index itself, if all labels are.
// Otherwise it follows from the reference: each class takes the index whose mean probability is raised
// most in the class's rows over those of other classes. Where every index is taken once this is the assignment that maximises
// agreement; two classes that want one index, or a raise that may be chance (below four standard errors), cannot be
// told, and rows of such classes get no opinion from probabilities.
//
// # Embeddings
//
// The score is ln(d_own / d_other): the mean cosine distance to the nearest tenth of a subsample of the own class, against
// that to as many of the nearest rows of other classes, less the median of that in the class: the trust score of Jiang,
// Kim, Guan, Gupta ("To Trust Or Not To Trust A Classifier", NeurIPS 2018) for the given label. Votes of few neighbours
// say less: on sentence embeddings with 5 % of the labels flipped the area under the ROC curve is 0.77 for five votes and
// 0.83 for this. A row is never its own neighbour.
//
// Where both are given their scores are added, weighted by how well each tells that the labels of the reference are right
// (logistic regression on both).
//
// Cost: one pass over the probabilities; 640 + 256 distances for a row with an embedding, whatever the reference. Fitting
// takes as long as scoring 256 rows of each class. Evidence: the probabilities, or the labels of the nearest rows.
package consistency

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/schema/finding"
)

// Detector finds labels that probabilities or embeddings contradict. The zero value computes on the CPU.
type Detector struct {
	Engine linalg.Engine // nil: the CPU; a device that gets lost is replaced by it
}

// Name implements [detect.Detector].
func (Detector) Name() string { return "consistency" }

// Fit implements [detect.Detector].
func (d Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if reference.Label == nil {
		return nil, nil
	}
	m := &model{outcomes: NewOutcomes(reference)}
	var err error
	if m.near, err = newNeighbourhoods(linalg.Resilient(d.Engine), reference, env); err != nil {
		return nil, fmt.Errorf("consistency: %w", err)
	}
	if m.outcomes == nil && m.near == nil {
		return nil, nil
	}
	m.weigh(reference)
	return m, nil
}

type model struct {
	outcomes *Outcomes       // nil: nothing is known of probabilities
	near     *neighbourhoods // nil: nothing is known of embeddings

	byModel, byNear float64 // weights
}

// weigh sets the weights to those under which the logistic function of the score best tells that labels are right: the
// maximum of Σ ln σ(−score) over the reference, by Newton's method, held finite by a weak pull to zero.
func (m *model) weigh(s *detect.Sample) {
	m.byModel, m.byNear = 1, 1
	if m.outcomes == nil || m.near == nil {
		return
	}
	var x [][2]float64
	for at, row := range m.near.fitted {
		if label := m.outcomes.of(s, row); label >= 0 {
			a, b := oddsAgainst(s.Probabilities[row*s.Outcomes:(row+1)*s.Outcomes], label), m.near.fittedScore[at]
			if !math.IsNaN(a) && !math.IsNaN(b) {
				x = append(x, [2]float64{a, b})
			}
		}
	}
	var w [2]float64
	pull := 1e-2 * float64(len(x))
	for range 30 {
		g := [2]float64{pull * w[0], pull * w[1]}
		h := [3]float64{pull, 0, pull}
		for _, v := range x {
			p := 1 / (1 + math.Exp(-w[0]*v[0]-w[1]*v[1])) // of a wrong label, if so many were
			g[0] += p * v[0]
			g[1] += p * v[1]
			h[0] += p * (1 - p) * v[0] * v[0]
			h[1] += p * (1 - p) * v[0] * v[1]
			h[2] += p * (1 - p) * v[1] * v[1]
		}
		det := h[0]*h[2] - h[1]*h[1]
		if !(det > 0) {
			break
		}
		w[0] -= (h[2]*g[0] - h[1]*g[1]) / det
		w[1] -= (h[0]*g[1] - h[1]*g[0]) / det
	}
	// One that hinders is left out.
	if w[0], w[1] = max(w[0], 0), max(w[1], 0); w[0]+w[1] > 0 {
		m.byModel, m.byNear = w[0]/(w[0]+w[1]), w[1]/(w[0]+w[1])
	}
}

const chunk = 1024

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value, odds, near := make([]float64, s.N), nans(s.N), nans(s.N)
	var label []int32 // as outcomes
	if m.outcomes != nil {
		label = m.outcomes.Of(s)
	}
	byDistance := m.near != nil && s.Label != nil && s.Embedding != nil && s.Dim == m.near.dim
	var classes []*class
	if byDistance {
		for _, name := range s.Classes {
			classes = append(classes, m.near.class[name])
		}
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range max(1, min(env.Workers, (s.N+chunk-1)/chunk)) {
		wait.Go(func() {
			var scratch scratch
			for {
				first := int(next.Add(chunk)) - chunk
				if first >= s.N {
					return
				}
				end := min(first+chunk, s.N)
				for i := first; i < end && label != nil; i++ {
					if label[i] >= 0 {
						odds[i] = oddsAgainst(s.Probabilities[i*s.Outcomes:(i+1)*s.Outcomes], int(label[i]))
					}
				}
				if byDistance {
					m.near.score(near, s, classes, first, end, &scratch)
				}
			}
		})
	}
	wait.Wait()
	for i := range value {
		switch a, b := m.byModel*odds[i], m.byNear*near[i]; {
		case math.IsNaN(a):
			value[i] = b
		case math.IsNaN(b):
			value[i] = a
		default:
			value[i] = a + b
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonLabel, PerClass: true, Explain: func(row int) string {
		if math.IsNaN(value[row]) {
			return "nothing to compare the label with"
		}
		line := fmt.Sprintf("label %q", s.Classes[s.Label[row]])
		if !math.IsNaN(odds[row]) {
			line += ", " + m.outcomes.explain(s, row, int(label[row]))
		}
		if !math.IsNaN(near[row]) {
			line += ", " + m.near.explain(s, row)
		}
		return strings.NewReplacer("\n", " ", "\r", " ").Replace(line)
	}}
}

func nans(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
	}
	return out
}

// median returns the upper median of values, which it sorts; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}
