// Package spectral finds directions along which a few rows of a class lie far out together: the trace that a backdoor leaves
// in embeddings.
//
// What it catches: rows of one class that share a displacement, whatever they are about: triggers, clean-label poison that was
// moved towards another class, texts of one style. What it needs: an embedding and a label (what
// stands out among all rows together is an honest topic as often as poison, and is for detect/embedding to judge). What it does not see: a displacement that is small beside the noise that sampling
// leaves in so many dimensions (in a class of n rows and d dimensions about (d/n)^¼/√share standard deviations), and rows that
// lie far out alone.
//
// Method. Spectral signatures (Tran, Li, Mądry, NeurIPS 2018) are projections on the top singular vectors of a class, centred. They fail
// where poison is rare, because the largest variance is then that of clean rows. Three things are done about that.
//
// Vectors are whitened by a robust covariance, as in SPECTRE (see detect/whitening). Where the reference has few rows for so many
// dimensions it is taken a second time with the stream's, and directions are looked for in both spaces: the first does not
// know poison, the second knows directions of small variance better.
//
// Directions begin at the principal ones and at rows that have the most company far out in their own direction, and are
// drawn six times to the rows that lie more than two deviations out on them. That is power iteration on a moment higher than
// the second, which a small group dominates earlier (Hopkins, Shi, Steurer, "Tensor principal component analysis via
// sum-of-squares proofs", COLT 2015, on why a good start is needed).
//
// Directions are learned in one half of a class and judged in the other, by a hash of the rows, so nothing stands out for having
// been fitted. A direction counts by how many more rows lie beyond a bar than chance has it, were the stream like the
// reference and the class like the others: each comparison is Chernoff's bound on the surprise of a binomial split, the geometric mean
// of both counts, and the best of nine bars. An honest group of rows lies in the reference too; an honest topic in other
// classes too. A class that the reference lacks, or one that is its own reference, has the other classes only; one without any
// others has its own other side.
//
// A row scores the largest, over directions, of the root of the surprise times its deviations beyond the first. Scores are learned
// from the stream and calibrated in it.
//
// In samples of more than 8,192 rows the rows to begin with are told by products of whole numbers (see [linalg.GramOfWhole]), which differ by less than a hundredth of a
// deviation; the directions themselves are learned as ever, from 2,048 rows of each half, and every row is judged. In samples of more than [detect.Enough] rows how far a row's products
// scatter is told by 1,024 of them, and principal directions of one half are those that activation clustering parts the class along (see [whitening.Known.Principal]).
//
// Cost: fixed for the search (products of 2,048 rows with each other per half of a class and space, 9 MB while it lasts), and some 40 products per row. Evidence: the row's
// deviations and how many rows of the class, of the reference and of other classes lie beyond the bar.
package spectral

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/whitening"
	"github.com/tasterhq/taster/schema/finding"
)

// enough is how many reference rows there are from which the stream adds nothing to the covariance.
const enough = 4096

// Detector finds directions that few rows of a class share. The zero value computes on the CPU.
type Detector struct {
	Engine linalg.Engine // nil: the CPU; a device that gets lost is replaced by it
}

// Name implements [detect.Detector].
func (Detector) Name() string { return "spectral" }

// Fit implements [detect.Detector].
func (d Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	engine := linalg.Resilient(d.Engine)
	known, err := whitening.Learn(engine, reference, env)
	if err != nil {
		return nil, fmt.Errorf("spectral: %w", err)
	}
	if known == nil {
		return nil, nil
	}
	return &model{known, engine}, nil
}

type model struct {
	*whitening.Known
	engine linalg.Engine
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value, why := make([]float64, s.N), make([]reason, s.N)
	for i := range value {
		value[i] = math.NaN()
	}
	groups := m.Groups(s, env)
	halves := m.halves(s, groups, env)
	detect.Each(len(halves), env.Workers, func(i int) {
		halves[i].score(s, env, max(1, env.Workers/len(halves)), value, why)
	})
	for _, g := range groups {
		m.rest(s, g, value)
	}
	return detect.Scores{Value: value, Code: finding.PoisonSpectral, Stream: true, Learned: true, Explain: func(row int) string {
		if why[row].half == nil {
			return "too few rows of its class to compare with"
		}
		return why[row].String()
	}}
}

// rest scores the rows of a class in which nothing was looked for.
func (m *model) rest(s *detect.Sample, g whitening.Group, value []float64) {
	for first := 0; first < len(g.Rows); first += learned {
		var rows []int
		for _, row := range g.Rows[first:min(first+learned, len(g.Rows))] {
			if math.IsNaN(value[row]) {
				rows = append(rows, row)
			}
		}
		if len(rows) == 0 {
			continue
		}
		for i, apart := range whitening.Apart(whitening.Vectors(m.Vectors, s, rows)) {
			value[rows[i]] = faint * apart
		}
	}
}

// halves cuts every class of the sample that is large enough in two, each to be judged by what the other shows.
func (m *model) halves(s *detect.Sample, all []whitening.Group, env detect.Env) []*half {
	var groups []whitening.Group
	var places []int // of groups among all
	whole := uint64(0)
	for i, g := range all {
		whole += g.Fingerprint()
		if len(g.Rows) >= whitening.MinRows {
			groups, places = append(groups, g), append(places, i)
		}
	}
	spaces := []whitening.Map{m.Space}
	own := whole == m.Whole // the reference is the very sample
	sides := m.Sides(s, len(groups), env)
	known := m.Classes
	if m.Rows < enough && !own {
		for _, g := range groups {
			known = append(known[:len(known):len(known)], whitening.Vectors(m.Vectors, s, g.Rows[:min(len(g.Rows), enough)]))
		}
	}
	if len(known) > len(m.Classes) {
		if second, ok, err := whitening.Fit(m.engine, known); ok && err == nil {
			spaces = append(spaces, second)
		}
	}
	var halves []*half
	for i, g := range groups {
		h := half{model: m, class: g.Class, spaces: spaces, others: sides.Others(places[i], m.Vectors.Dim())}
		if !own {
			h.trusted, h.portion = m.Trusted[g.Class], g.Portion(s)
		}
		a, b := g.Halves()
		for part, rows := range [2][2][]int{{a, b}, {b, a}} {
			one := h
			one.learn, one.judge = rows[0], rows[1]
			one.learnsPortion = part == 0 && len(h.portion) > 0
			one.rng = rand.New(rand.NewPCG(env.Seed, uint64(part)))
			halves = append(halves, &one)
		}
	}
	return halves
}

// half is one half of a class, judged by what the other half shows.
type half struct {
	model         *model
	class         string
	spaces        []whitening.Map
	learn, judge  []int
	trusted       linalg.Matrix // of the class in the reference, if that is another sample
	others        linalg.Matrix // of other classes, each about its centre
	rng           *rand.Rand
	portion       []int // of the class, whose principal directions are shared; nil where they are not
	learnsPortion bool  // this half learns from that portion
	directions    []direction
}

// direction is what is known of one direction.
type direction struct {
	median, scale float64 // of the judged rows
	bar           float64 // deviations from where on the excess is surest
	surprise      float64 // of that excess, in nats
	beyond        int     // judged rows beyond the bar
	trusted       int     // reference rows beyond it
	others        int     // rows of other classes beyond it, or judged rows on the other side
}

// reason is why a row scores what it does.
type reason struct {
	half      *half
	direction int
	deviation float64
}

func (r reason) String() string {
	h, d := r.half, r.half.directions[r.direction]
	var b strings.Builder
	fmt.Fprintf(&b, "%.3g deviations out on a direction where %d of %d rows", r.deviation, d.beyond, len(h.judge))
	if h.class != "" {
		fmt.Fprintf(&b, " of class %q", h.class)
	}
	fmt.Fprintf(&b, " lie beyond %.3g", d.bar)
	if h.trusted.Rows > 0 {
		fmt.Fprintf(&b, ", %d of %d reference rows", d.trusted, h.trusted.Rows)
	}
	if h.others.Rows > 0 {
		fmt.Fprintf(&b, ", %d of %d rows of other classes", d.others, h.others.Rows)
	} else if h.trusted.Rows == 0 {
		fmt.Fprintf(&b, ", and %d as far on the other side", d.others)
	}
	return b.String()
}
