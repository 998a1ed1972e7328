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
// say less. A row is never its own neighbour.
//
// In samples of more than 8,192 rows distances are those of rows rounded to 16 bits, where the processor multiplies such numbers
// (see [linalg.Sets.Means]): a score differs by less than a ten-thousandth, or by a thousandth where neighbours lie near; rows that lie nearer still are looked at as ever.
//
// Neighbours do not see a direction that is weak and runs through everything, as sentiment does through sentences. Of at
// most 64 classes a linear discriminant looks too: how far the function of the best other class is above the own one's,
// with a common covariance that is shrunk half-way to a sphere (Friedman, "Regularized Discriminant Analysis", JASA 1989).
// Rows of the sample that was fitted are judged by a discriminant of the two thirds without them.
//
// The scores are added, weighted by how well each tells that the labels of the reference are right, all being
// cross-fitted: non-negative logistic regression. What tells nothing has no weight.
//
// Cost: one pass over the probabilities; for a row with an embedding products with 640 rows, which most of the 256 of its class are among, and a product for each of at most
// 64 classes, whatever the reference. Fitting takes as long as scoring 256 rows of each class, and a covariance of at most
// 4,096 rows. Evidence: the probabilities, the labels of the nearest rows, and the discriminant's side.
package consistency

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"

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
	engine := linalg.Resilient(d.Engine)
	var err error
	if m.near, err = newNeighbourhoods(engine, reference, env); err != nil {
		return nil, fmt.Errorf("consistency: %w", err)
	}
	if m.linear, err = newDiscriminant(engine, reference, env); err != nil {
		return nil, fmt.Errorf("consistency: %w", err)
	}
	if m.outcomes == nil && m.near == nil && m.linear == nil {
		return nil, nil
	}
	m.weigh(reference)
	return m, nil
}

// Where a part of the score stands.
const (
	byModel = iota
	byNeighbours
	bySide
	parts
)

type model struct {
	outcomes *Outcomes       // nil: nothing is known of probabilities
	near     *neighbourhoods // nil: too little is known of embeddings
	linear   *discriminant   // nil: as above
	weight   [parts]float64
}

// weigh sets the weights by the rows that neighbourhoods were fitted with, which are some of every class.
func (m *model) weigh(s *detect.Sample) {
	m.weight = [parts]float64{1, 1, 1}
	if m.near == nil {
		return // one part at most: only a class that has neighbours has a discriminant
	}
	var x [][parts]float64
	for at, row := range m.near.fitted {
		score := [parts]float64{math.NaN(), m.near.fittedScore[at], math.NaN()}
		if m.outcomes != nil {
			if label := m.outcomes.of(s, row); label >= 0 {
				score[byModel] = oddsAgainst(s.Probabilities[row*s.Outcomes:(row+1)*s.Outcomes], label)
			}
		}
		if m.linear != nil {
			score[bySide] = m.linear.score(s, row, m.linear.of(s.Classes[s.Label[row]]))
		}
		for part, known := range [parts]bool{m.outcomes != nil, true, m.linear != nil} {
			if !known {
				score[part] = 0
			}
		}
		if sum := score[0] + score[1] + score[2]; !math.IsNaN(sum) {
			x = append(x, score)
		}
	}
	if w, ok := logistic(x); ok {
		m.weight = w
	}
}

// logistic returns the non-negative weights under which σ(−w·x) best tells that labels are right, whose rows' parts are
// x: the maximum of Σ ln σ(−w·x), by Newton's method, held finite by a weak pull to zero. What would be negative is left
// out, the worst first.
func logistic(x [][parts]float64) (w [parts]float64, ok bool) {
	// In units of each part's own size.
	var unit [parts]float64
	for part := range unit {
		for _, v := range x {
			unit[part] += v[part] * v[part] / float64(len(x))
		}
		unit[part] = math.Sqrt(unit[part])
	}
	left := slices.Clone(x)
	for i := range left {
		for part, u := range unit {
			if left[i][part] /= u; u == 0 {
				left[i][part] = 0
			}
		}
	}
	for range parts {
		if w, ok = newton(left); !ok {
			return w, false
		}
		worst := 0
		for part, v := range w {
			if v < w[worst] {
				worst = part
			}
		}
		if w[worst] >= 0 {
			break
		}
		for i := range left {
			left[i][worst] = 0
		}
	}
	sum := 0.0
	for part, u := range unit {
		if w[part] = max(w[part], 0); u > 0 {
			w[part] /= u
			sum += w[part]
		}
	}
	for part := range w {
		w[part] /= sum
	}
	return w, sum > 0 && !math.IsInf(sum, 0)
}

func newton(x [][parts]float64) (w [parts]float64, ok bool) {
	pull := pull * float64(len(x))
	loss := func(w [parts]float64) float64 {
		sum := 0.0
		for _, v := range w {
			sum += pull / 2 * v * v
		}
		for _, v := range x {
			z := w[0]*v[0] + w[1]*v[1] + w[2]*v[2]
			sum += max(z, 0) + math.Log1p(math.Exp(-math.Abs(z)))
		}
		return sum
	}
	now := loss(w)
	for range 30 {
		var gradient [parts]float64
		curvature := mat.NewSymDense(parts, nil)
		for part, v := range w {
			gradient[part] = pull * v
			curvature.SetSym(part, part, pull+1e-9)
		}
		for _, v := range x {
			p := 1 / (1 + math.Exp(-w[0]*v[0]-w[1]*v[1]-w[2]*v[2])) // that the label is wrong
			for i := range v {
				gradient[i] += p * v[i]
				for j := i; j < parts; j++ {
					curvature.SetSym(i, j, curvature.At(i, j)+p*(1-p)*v[i]*v[j])
				}
			}
		}
		var cholesky mat.Cholesky
		var step mat.VecDense
		if !cholesky.Factorize(curvature) || cholesky.SolveVecTo(&step, mat.NewVecDense(parts, gradient[:])) != nil {
			return w, false
		}
		// Far from the maximum a whole step may go too far.
		better := false
		for size := 1.0; size > 1e-4 && !better; size /= 2 {
			next := w
			for part := range next {
				next[part] -= size * step.AtVec(part)
			}
			if then := loss(next); then < now {
				w, now, better = next, then, true
			}
		}
		if !better {
			break
		}
	}
	return w, true
}

// pull is how strongly weights are held at zero, in parts of a row.
const pull = 1e-2

const chunk = 1024

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value := make([]float64, s.N)
	var score [parts][]float64
	for part := range score {
		score[part] = nans(s.N)
	}
	var label []int32 // as outcomes
	if m.outcomes != nil {
		label = m.outcomes.Of(s)
	}
	vectors := s.Label != nil && s.Embedding != nil
	var classes []*class
	if m.near != nil && vectors && s.Dim == m.near.dim {
		classes = make([]*class, len(s.Classes))
		for i, name := range s.Classes {
			classes[i] = m.near.class[name]
		}
	}
	var sides []int
	if m.linear != nil && vectors && s.Dim == m.linear.dim {
		for _, name := range s.Classes {
			sides = append(sides, m.linear.of(name))
		}
	}
	detect.Chunks(s.N, chunk, env.Workers, func() func(first, end int) {
		var scratch scratch
		return func(first, end int) {
			for i := first; i < end && label != nil; i++ {
				if label[i] >= 0 {
					score[byModel][i] = oddsAgainst(s.Probabilities[i*s.Outcomes:(i+1)*s.Outcomes], int(label[i]))
				}
			}
			if classes != nil {
				m.near.score(score[byNeighbours], s, classes, first, end, &scratch)
			}
			for i := first; i < end && sides != nil; i++ {
				if s.Label[i] >= 0 {
					score[bySide][i] = m.linear.score(s, i, sides[s.Label[i]])
				}
			}
		}
	})
	for i := range value {
		value[i] = math.NaN()
		for part, w := range m.weight {
			if v := score[part][i]; !math.IsNaN(v) {
				if math.IsNaN(value[i]) {
					value[i] = 0
				}
				value[i] += w * v
			}
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonLabel, PerClass: true, Explain: func(row int) string {
		if math.IsNaN(value[row]) {
			return "nothing to compare the label with"
		}
		line := fmt.Sprintf("label %q", s.Classes[s.Label[row]])
		if !math.IsNaN(score[byModel][row]) {
			line += ", " + m.outcomes.explain(s, row, int(label[row]))
		}
		if !math.IsNaN(score[byNeighbours][row]) {
			line += ", " + m.near.explain(s, row)
		}
		if !math.IsNaN(score[bySide][row]) {
			line += ", " + m.linear.explain(s, row, sides[s.Label[row]])
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
