// Package gradient finds gradients that would pull a model where its class does not lead: crafted updates, and those of
// providers that work together.
//
// A row's gradient is what a model's loss has on that row, or the update that a provider sends. Needed is the role
// gradient; labels and providers sharpen it, and without them the parts below that speak of them fall away. A row whose
// gradient is all zeros, or not finite, gets no opinion.
//
// Two detectors look at them, whose scores are about −ln of how rare they are. That of Detector is the larger of two:
//
//   - Against the class: 1 − cosine to the mean direction of the class in the reference (of all rows, where the class is not
//     known or has fewer than 30 rows there). The mean is of unit vectors, so no length can move it, taken again without the
//     tenth that is farthest from it. A flipped label turns a gradient round.
//   - Norm: the length, which is what an update that must survive averaging has to raise (clipping, as in Sun, Kairouz,
//     Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019). Both are measured by the class's
//     median and 95 % quantile.
//
// That of Similarity is the larger of two others, which depend on the stream. So it is a detector of its own: a record's own
// gradient is exchangeable with the reference's, and is calibrated on those of its class alone.
//
//   - Alike within a provider: the cosine of a row's residual to the sum of its provider's others. A residual is the unit
//     gradient less the mean of its class in the stream, and less what the provider's rows had beyond their class's mean
//     in the reference, if it has a past: what is honestly its own does not count.
//   - Alike between providers, after FoolsGold (Fung, Yoon, Beschastnikh, "The Limitations of Federated Learning in Sybil
//     Settings", RAID 2020): each provider's sum of residuals has a most similar other, pardoned as there (a cosine shrinks by
//     the ratio of the two providers' own highest cosines, where the other's is higher); a row counts by its cosine to that
//     other's sum. Sums of independent residuals of d effective dimensions have cosines like normal deviates of variance 1/d; the
//     chance that one of so many providers is so similar is allowed for.
//
// Without a reference nothing is calibrated by class, and Detector's score is the largest of all four: two scores that share the
// weight find less. Similarity then has no opinion.
//
// Similarity needs a reference with providers, and looks at one stream's providers, at most 2,048 of them, those with the most rows. A
// new provider whose data honestly differs looks like one whose rows were made alike: both mean that somebody should look.
//
// Neither sees gradients shaped to lie among honest ones of their class, from providers that are not alike.
//
// Cost: two passes over a row's gradient, and two more and a k-nearest search among the providers' sums. Evidence: the part that
// decided, with the cosine or norm and what is usual, and the partner.
package gradient

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	fewestRows    = 20 // rows without which nothing is usual
	fewestClass   = 30 // rows from which a class has a mean of its own
	trimmed       = 10 // one in so many rows is left out of the mean
	mostProviders = 2048
	pairs         = 4000 // of reference rows, by which dimensions are counted
	partners      = 8    // providers among which the most similar is looked for
	furthest      = 1e9
)

// Detector finds gradients out of line. The zero value computes on the CPU.
type Detector struct {
	Engine linalg.Engine // nil: the CPU; a device that gets lost is replaced by it
}

// Name implements [detect.Detector].
func (Detector) Name() string { return "gradient" }

// Similarity finds gradients that are alike where they should not be. The zero value computes on the CPU.
type Similarity struct {
	Engine linalg.Engine // as of Detector
}

// Name implements [detect.Detector].
func (Similarity) Name() string { return "gradient_similarity" }

// direction is where the gradients of a class point, and what is usual of them.
type direction struct {
	rows       int
	mean       []float64 // of unit gradients
	unit       []float64 // the mean at length 1; zeros where it has none
	away, norm usual     // 1 − cosine to unit, and length
}

// usual is the body of a distribution.
type usual struct{ median, up float64 } // up: from the median to the 95 % quantile

func newUsual(values []float64) usual {
	slices.Sort(values)
	at := func(q float64) float64 { return values[int(q*float64(len(values)-1)+0.5)] }
	u := usual{median: at(0.5)}
	u.up = max(at(0.95)-u.median, 1e-6*math.Abs(u.median), 1e-9)
	return u
}

// score is about −ln of how rare v is, where tails fall exponentially.
func (u usual) score(v float64) float64 {
	return max(-furthest, min(math.Ln10*(v-u.median)/u.up, furthest))
}

type model struct {
	engine linalg.Engine
	sample *detect.Sample // that was fitted
	dim    int
	all    *direction
	class  map[string]*direction
}

// Fit implements [detect.Detector].
func (d Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	norm, rows := judgeable(reference, env)
	if len(rows) < fewestRows {
		return nil, nil
	}
	m := &model{
		engine: d.Engine, sample: reference, dim: reference.GradientDim,
		class: map[string]*direction{}, all: newDirection(reference, norm, rows),
	}
	members := make([][]int, len(reference.Classes))
	if reference.Label != nil {
		for _, row := range rows {
			if label := reference.Label[row]; label >= 0 {
				members[label] = append(members[label], row)
			}
		}
	}
	for label, rows := range members {
		if len(rows) >= fewestClass {
			m.class[reference.Classes[label]] = newDirection(reference, norm, rows)
		}
	}
	return m, nil
}

// judgeable returns the rows whose gradients can be judged, and the length of every row's.
func judgeable(s *detect.Sample, env detect.Env) (norm []float64, rows []int) {
	if s.Gradient == nil || s.GradientDim == 0 {
		return nil, nil
	}
	norm = norms(s, env)
	for row, length := range norm {
		if !math.IsNaN(length) {
			rows = append(rows, row)
		}
	}
	return norm, rows
}

// norms returns the length of every row's gradient, NaN where it cannot be judged.
func norms(s *detect.Sample, env detect.Env) []float64 {
	out := make([]float64, s.N)
	detect.Rows(s.N, 1024, env.Workers, func(from, to int) {
		for row := from; row < to; row++ {
			sum := 0.0
			for _, x := range s.Gradient[row*s.GradientDim : (row+1)*s.GradientDim] {
				sum += float64(x) * float64(x)
			}
			if out[row] = math.Sqrt(sum); !(out[row] > 0) || math.IsInf(sum, 0) {
				out[row] = math.NaN()
			}
		}
	})
	return out
}

func newDirection(s *detect.Sample, norm []float64, rows []int) *direction {
	d := &direction{rows: len(rows)}
	away, lengths := make([]float64, len(rows)), make([]float64, len(rows))
	kept := rows
	for range 2 {
		d.mean, d.unit = make([]float64, s.GradientDim), make([]float64, s.GradientDim)
		for _, row := range kept {
			addUnit(d.mean, s, row, norm[row])
		}
		scale(d.mean, 1/float64(len(kept)))
		if length := math.Sqrt(dot(d.mean, d.mean)); length > 0 {
			copy(d.unit, d.mean)
			scale(d.unit, 1/length)
		}
		for i, row := range rows {
			away[i], lengths[i] = 1-cosine(s, row, norm[row], d.unit), norm[row]
		}
		order := make([]int, len(rows))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(away[a], away[b]) })
		kept = nil
		for _, i := range order[:len(order)-len(order)/trimmed] {
			kept = append(kept, rows[i])
		}
		slices.Sort(kept)
	}
	d.away, d.norm = newUsual(away), newUsual(lengths)
	return d
}

func addUnit(sum []float64, s *detect.Sample, row int, norm float64) {
	by := 1 / norm
	for i, x := range s.Gradient[row*s.GradientDim : (row+1)*s.GradientDim] {
		sum[i] += float64(x) * by
	}
}

func cosine(s *detect.Sample, row int, norm float64, unit []float64) float64 {
	sum := 0.0
	for i, x := range s.Gradient[row*s.GradientDim : (row+1)*s.GradientDim] {
		sum += float64(x) * unit[i]
	}
	return sum / norm
}

func scale(v []float64, by float64) {
	for i := range v {
		v[i] *= by
	}
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

type similarity struct {
	engine     linalg.Engine
	sample     *detect.Sample // that was fitted
	dim        int
	dimensions float64              // effective, of residuals
	past       map[string][]float64 // of a provider: mean residual, shrunk by how few rows tell it
}

// Fit implements [detect.Detector]. It learns how far residuals of different providers are alike by chance, and what known
// providers have of their own.
func (d Similarity) Fit(s *detect.Sample, env detect.Env) (detect.Model, error) {
	if m := d.fit(s, env); m != nil {
		return m, nil
	}
	return nil, nil
}

func (d Similarity) fit(s *detect.Sample, env detect.Env) *similarity {
	norm, rows := judgeable(s, env)
	if len(rows) < fewestRows || s.Provider == nil {
		return nil
	}
	g := newGathering(s, norm, env)
	if len(g.of) < 2 {
		return nil // nobody to be alike with
	}
	m := &similarity{engine: linalg.Resilient(d.Engine), sample: s, dim: s.GradientDim}
	rng := rand.New(rand.NewPCG(env.Seed, 0xf001d))
	a, b := make([]float64, m.dim), make([]float64, m.dim)
	var alike []float64
	for range pairs {
		i, j := rows[rng.IntN(len(rows))], rows[rng.IntN(len(rows))]
		if s.Provider[i] == s.Provider[j] || s.Provider[i] < 0 || s.Provider[j] < 0 {
			continue
		}
		g.residual(a, i)
		g.residual(b, j)
		if c := dot(a, b) / math.Sqrt(dot(a, a)*dot(b, b)); !math.IsNaN(c) {
			alike = append(alike, math.Abs(c))
		}
	}
	m.dimensions = 1
	if len(alike) > 0 {
		// 5 % of normal deviates are beyond 1.96 standard deviations.
		slices.Sort(alike)
		spread := max(alike[len(alike)*95/100], 1e-3) / 1.96
		m.dimensions = min(max(1, 1/(spread*spread)), float64(m.dim))
	}
	m.past = map[string][]float64{}
	for at, p := range g.of {
		mean := slices.Clone(g.sum[at])
		// Of n rows the mean has a squared length of 1/n by chance (residuals are about 1 long): what there is beyond is
		// the provider's own (James and Stein's shrinkage).
		n := float64(g.rows[at])
		scale(mean, 1/n)
		if square := dot(mean, mean); square > 0 {
			scale(mean, max(0, 1-1/(n*square)))
		}
		m.past[s.Providers[p]] = mean
	}
	return m
}

// gathering holds the residuals' sums of the providers with the most rows.
type gathering struct {
	s     *detect.Sample
	norm  []float64
	mean  [][]float64 // of unit gradients, by class; the last one of all rows
	of    []int32     // providers
	at    []int32     // by provider: where it stands in of, or -1
	rows  []int
	sum   [][]float64
	past  [][]float64 // by place in of: what a residual of it is less besides; nil for none
	owner []int32     // by row: the place of its provider, or -1
}

func newGathering(s *detect.Sample, norm []float64, env detect.Env) *gathering {
	g := &gathering{s: s, norm: norm, at: make([]int32, len(s.Providers)), owner: make([]int32, s.N)}
	count := make([]int, len(s.Providers))
	inClass := make([]int, len(s.Classes)+1)
	for row, p := range s.Provider {
		if !math.IsNaN(norm[row]) {
			inClass[g.classOf(row)]++
			inClass[len(s.Classes)]++
			if p >= 0 {
				count[p]++
			}
		}
	}
	for p, n := range count {
		if n > 0 {
			g.of = append(g.of, int32(p))
		}
	}
	slices.SortFunc(g.of, func(a, b int32) int {
		if by := cmp.Compare(count[b], count[a]); by != 0 {
			return by
		}
		return cmp.Compare(s.Providers[a], s.Providers[b])
	})
	g.of = g.of[:min(len(g.of), mostProviders)]
	for p := range g.at {
		g.at[p] = -1
	}
	for at, p := range g.of {
		g.at[p] = int32(at)
		g.rows = append(g.rows, count[p])
		g.sum = append(g.sum, make([]float64, s.GradientDim))
	}
	g.past = make([][]float64, len(g.of))
	all := make([]float64, s.GradientDim)
	g.mean = make([][]float64, len(s.Classes)+1)
	for c := range g.mean {
		if g.mean[c] = all; c < len(s.Classes) && inClass[c] >= fewestClass {
			g.mean[c] = make([]float64, s.GradientDim)
		}
	}
	for row, p := range s.Provider {
		if g.owner[row] = -1; p >= 0 && !math.IsNaN(norm[row]) {
			g.owner[row] = g.at[p]
		}
	}

	// Every worker takes some of the dimensions through all rows: sums do not depend on how many there are.
	detect.Rows(s.GradientDim, 8, env.Workers, func(from, to int) {
		for row := range s.N {
			if math.IsNaN(norm[row]) {
				continue
			}
			by := 1 / norm[row]
			class := g.mean[g.classOf(row)][from:to]
			own := &class[0] != &all[from]
			var sum []float64
			if at := g.owner[row]; at >= 0 {
				sum = g.sum[at][from:to]
			}
			all := all[from:to]
			for i, x := range s.Gradient[row*s.GradientDim+from : row*s.GradientDim+to] {
				v := float64(x) * by
				all[i] += v
				if own {
					class[i] += v
				}
				if sum != nil {
					sum[i] += v
				}
			}
		}
	})
	for c, mean := range g.mean {
		if c == len(s.Classes) || &mean[0] != &all[0] {
			scale(mean, 1/max(1, float64(inClass[c])))
		}
	}
	// Sums of unit gradients become sums of residuals: less as many means as there are rows, in a fixed order.
	type part struct{ at, class int32 }
	members := map[part]float64{}
	var order []part
	for row, at := range g.owner {
		if at < 0 {
			continue
		}
		class := g.classOf(row)
		if &g.mean[class][0] == &all[0] {
			class = len(s.Classes)
		}
		p := part{at, int32(class)}
		if members[p] == 0 {
			order = append(order, p)
		}
		members[p]++
	}
	slices.SortFunc(order, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.class, b.class))
	})
	for _, p := range order {
		for i, v := range g.mean[p.class] {
			g.sum[p.at][i] -= members[p] * v
		}
	}
	return g
}

// classOf returns where the mean of a row's class stands.
func (g *gathering) classOf(row int) int {
	if g.s.Label == nil || g.s.Label[row] < 0 {
		return len(g.s.Classes)
	}
	return int(g.s.Label[row])
}

// less takes what providers had of their own in the past from their residuals.
func (g *gathering) less(past map[string][]float64) {
	for at, p := range g.of {
		if g.past[at] = past[g.s.Providers[p]]; g.past[at] != nil {
			for i, v := range g.past[at] {
				g.sum[at][i] -= float64(g.rows[at]) * v
			}
		}
	}
}

// residual writes a row's residual to dst.
func (g *gathering) residual(dst []float64, row int) {
	by, mean := 1/g.norm[row], g.mean[g.classOf(row)]
	for i, x := range g.s.Gradient[row*g.s.GradientDim : (row+1)*g.s.GradientDim] {
		dst[i] = float64(x)*by - mean[i]
	}
	if at := g.owner[row]; at >= 0 && g.past[at] != nil {
		for i, v := range g.past[at] {
			dst[i] -= v
		}
	}
}

// pairing is FoolsGold's answer: every provider's most similar other.
type pairing struct {
	other  []int32   // by place in of; -1: none
	pardon []float64 // what cosines to the other shrink by
	cosine []float64 // of the two sums
}

func (g *gathering) pair(engine linalg.Engine, workers int) (pairing, error) {
	n := len(g.of)
	p := pairing{make([]int32, n), make([]float64, n), make([]float64, n)}
	sums := linalg.Matrix{Rows: n, Cols: g.s.GradientDim, Data: make([]float32, 0, n*g.s.GradientDim)}
	for _, sum := range g.sum {
		by := math.Sqrt(dot(sum, sum))
		if by == 0 {
			by = 1
		}
		for _, v := range sum {
			sums.Data = append(sums.Data, float32(v/by))
		}
	}
	index, err := engine.Load(sums, linalg.Cosine)
	if err != nil {
		return p, err
	}
	found, err := index.Nearest(sums, partners+1, workers)
	if err != nil {
		return p, err
	}
	highest := make([]float64, n) // each provider's own highest cosine
	each := func(at int, f func(other int, cosine float64)) {
		others, distance := found.Of(at)
		for i, other := range others {
			if int(other) != at {
				f(int(other), 1-float64(distance[i]))
			}
		}
	}
	for at := range n {
		each(at, func(_ int, c float64) { highest[at] = max(highest[at], c) })
	}
	for at := range n {
		p.other[at] = -1
		best := 0.0
		each(at, func(other int, c float64) {
			pardon := 1.0
			if highest[other] > highest[at] {
				pardon = highest[at] / highest[other]
			}
			if v := c * pardon; v > best || v == best && v > 0 && g.s.Providers[g.of[other]] < g.s.Providers[g.of[p.other[at]]] {
				best = v
				p.other[at], p.pardon[at], p.cosine[at] = int32(other), pardon, c
			}
		})
	}
	return p, nil
}

// rare returns −ln P(X ≥ c) of a cosine X between residuals that have nothing to do with each other.
func (m *similarity) rare(c float64) float64 {
	z := c * math.Sqrt(m.dimensions)
	if z > 30 {
		return z * z / 2
	}
	return -math.Log(math.Erfc(z/math.Sqrt2) / 2)
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value := unknown(s.N)
	scores := detect.Scores{Value: value, Code: finding.PoisonGradient, PerClass: true}
	if s.Gradient == nil || s.GradientDim != m.dim {
		scores.Explain = func(int) string { return "no gradient" }
		return scores
	}
	norm := norms(s, env)
	directions := make([]*direction, len(s.Classes))
	for i, name := range s.Classes {
		if directions[i] = m.class[name]; directions[i] == nil {
			directions[i] = m.all
		}
	}
	of := func(row int) *direction {
		if s.Label == nil || s.Label[row] < 0 {
			return m.all
		}
		return directions[s.Label[row]]
	}
	parts := func(row int) (c, away, long float64) {
		d := of(row)
		c = cosine(s, row, norm[row], d.unit)
		return c, d.away.score(1 - c), d.norm.score(norm[row])
	}
	detect.Rows(s.N, 1024, env.Workers, func(from, to int) {
		for row := from; row < to; row++ {
			if !math.IsNaN(norm[row]) {
				_, away, long := parts(row)
				value[row] = max(away, long)
			}
		}
	})
	alike := func(int) (string, bool) { return "", false }
	if s == m.sample {
		if others := (Similarity{m.engine}).fit(s, env); others != nil {
			of := others.score(s, env)
			scores.PerClass = false
			larger := make([]bool, s.N)
			for row, v := range of.Value {
				if larger[row] = v > value[row]; larger[row] {
					value[row] = v
				}
			}
			alike = func(row int) (string, bool) { return of.Explain(row), larger[row] }
		}
	}
	scores.Explain = func(row int) string {
		if math.IsNaN(value[row]) {
			return "no gradient"
		}
		if why, decides := alike(row); decides {
			return why
		}
		d, where := of(row), "all rows"
		if d != m.all {
			where = fmt.Sprintf("class %q", s.Classes[s.Label[row]])
		}
		if c, away, long := parts(row); away >= long {
			return oneLine("cosine %.2f to the mean gradient of %s, usually %.2f", c, where, 1-d.away.median)
		}
		return oneLine("norm %.3g, in %s usually %.3g and in 95 %% at most %.3g", norm[row], where, d.norm.median, d.norm.median+d.norm.up)
	}
	return scores
}

func unknown(n int) []float64 {
	value := make([]float64, n)
	for i := range value {
		value[i] = math.NaN()
	}
	return value
}

func oneLine(format string, a ...any) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(fmt.Sprintf(format, a...))
}

// judged is why a row has its score: its cosine to its provider's other rows, or to the provider most similar to it.
type judged struct {
	between bool
	cosine  float32
}

// Score implements [detect.Model].
func (m *similarity) Score(s *detect.Sample, env detect.Env) detect.Scores {
	if s == m.sample {
		return detect.Scores{
			Value: unknown(s.N), Code: finding.PoisonGradient, Stream: true,
			Explain: func(int) string { return "without a reference gradient looks at this, too" },
		}
	}
	return m.score(s, env)
}

func (m *similarity) score(s *detect.Sample, env detect.Env) detect.Scores {
	value := unknown(s.N)
	scores := detect.Scores{Value: value, Code: finding.PoisonGradient, Stream: true}
	if s.Gradient == nil || s.GradientDim != m.dim || s.Provider == nil {
		scores.Explain = func(int) string { return "no gradient, or no provider" }
		return scores
	}
	why := make([]judged, s.N)
	g := newGathering(s, norms(s, env), env)
	if s != m.sample { // whose past is this very sample
		g.less(m.past)
	}
	var p pairing
	var err error
	if len(g.of) >= 2 {
		p, err = g.pair(m.engine, env.Workers)
	}
	if len(g.of) < 2 || err != nil {
		scores.Explain = func(int) string { return "providers could not be compared" }
		return scores
	}
	length := make([]float64, len(g.of)) // of the providers' sums
	for at, sum := range g.sum {
		length[at] = math.Sqrt(dot(sum, sum))
	}
	detect.Rows(s.N, 1024, env.Workers, func(from, to int) {
		r := make([]float64, m.dim)
		for row := from; row < to; row++ {
			at := g.owner[row]
			if at < 0 {
				continue
			}
			g.residual(r, row)
			square := dot(r, r)
			value[row] = 0
			if n := g.rows[at]; n > 1 {
				with := dot(r, g.sum[at])
				rest := length[at]*length[at] - 2*with + square
				if c := (with - square) / math.Sqrt(square*rest); rest > 1e-9*float64(n) && !math.IsNaN(c) {
					value[row], why[row] = m.rare(min(c, 1)), judged{false, float32(c)}
				}
			}
			if other := p.other[at]; other >= 0 {
				c := dot(r, g.sum[other]) / math.Sqrt(square) / length[other]
				if v := m.rare(min(c, 1)*p.pardon[at]) - math.Log(float64(len(g.of))); v > value[row] {
					value[row], why[row] = v, judged{true, float32(c)}
				}
			}
		}
	})
	scores.Explain = func(row int) string {
		at := g.owner[row]
		if at < 0 {
			return "no gradient, or no provider"
		}
		provider, j := s.Providers[s.Provider[row]], why[row]
		if !j.between {
			return oneLine("cosine %.2f to the sum of the %d others of provider %q, beyond what is usual of their classes", j.cosine, g.rows[at]-1, provider)
		}
		return oneLine("cosine %.2f to the sum of the %d of provider %q, whose sum has %.2f to that of provider %q",
			j.cosine, g.rows[p.other[at]], s.Providers[g.of[p.other[at]]], p.cosine[at], provider)
	}
	return scores
}
