// Package activation finds small clusters apart from the rest of their class: activation clustering.
//
// What it catches: rows of one class that are of another kind than its others and of one kind among themselves: poison whose
// content comes from another class, or that shares a trigger or a style. It was made for activations of a model that has learned a
// backdoor, and works best where the embedding role holds those. What it needs: an embedding and a label (what
// stands out among all rows together is an honest topic as often as poison, and is for detect/embedding to judge). What it does not see: poison that is spread like its class.
//
// Method (Chen, Carvalho, Baracaldo et al., "Detecting backdoor attacks on deep neural networks by activation clustering", SafeAI
// 2019). Rows of a class are projected on their ten principal directions and parted in two by 2-means; a part that is small and
// apart is poison. Principal directions are taken after whitening by the reference (see detect/whitening): those along which the
// class varies more than it should. Without a reference they are the vectors' own.
//
// 2-means cuts a class in halves when a part is small. It is therefore begun twenty times, with the rows that lie far out on one
// side of each direction as one part, and a part's size is its prior: a row belongs to the small part only if it is nearer by more
// than that says (hard expectation maximisation for two round normal distributions; Celeux and Govaert, "A classification EM algorithm
// for clustering and two stochastic versions", 1992).
//
// Every parting counts by its mean silhouette (of the small part, by centres; Rousseeuw 1987) times the root of a surprise: how many more rows
// of the class lie in the small part than chance has it, were the stream like the reference and the class like the others. Each comparison
// is Chernoff's bound on a binomial split, and the geometric mean of both counts. A clean class of many modes is parted too, but its
// reference has the same mode. A part larger than 35 % of its class is not the small one (Chen et al. take two thirds for poison).
//
// What is parted is 2,048 rows of a class, the first by a hash of what is in them; every row is judged.
// In a sample of more than [detect.Enough] rows they are the first of a half of the class, if that
// has so many, since detect/spectral learns from those too and says, as it reads all rows, where they stand; and rows of a class without a parting score how far they stand from its centre there.
//
// A row scores the largest, over partings, of that product times where it stands between the centres, 0 at the large part's and 1 at
// the small one's. Scores are learned from the stream and calibrated in it.
//
// Cost: fixed for the search (2,048 rows of a class), and where it finds a parting ten products and twenty distances in ten dimensions per row. Evidence: the part's
// size and silhouette, its share in the reference and in other classes.
package activation

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

// Detector finds small clusters apart. The zero value computes on the CPU.
type Detector struct {
	Engine linalg.Engine // nil: the CPU; a device that gets lost is replaced by it
}

// Name implements [detect.Detector].
func (Detector) Name() string { return "activation" }

// Fit implements [detect.Detector].
func (d Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	engine := linalg.Resilient(d.Engine)
	known, err := whitening.Learn(engine, reference, env)
	if err != nil {
		return nil, fmt.Errorf("activation: %w", err)
	}
	if known == nil {
		return nil, nil
	}
	known.WantPlaces()
	m := &model{Known: known, engine: engine, trusted: map[string]trusted{}}
	for class, rows := range known.Trusted {
		m.trusted[class] = trusted{rows, whitening.Middle(rows)}
	}
	return m, nil
}

type model struct {
	*whitening.Known
	engine  linalg.Engine
	trusted map[string]trusted
}

// trusted is the trusted rows of a class, which are not ours alone, and their centre.
type trusted struct {
	linalg.Matrix
	middle []float32
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value, why := make([]float64, s.N), make([]reason, s.N)
	for i := range value {
		value[i] = math.NaN()
	}
	groups := m.Groups(s, env)
	whole := uint64(0)
	for _, g := range groups {
		whole += g.Fingerprint()
	}
	sides := m.Sides(s, len(groups), env)
	detect.Each(len(groups), env.Workers, func(i int) {
		c := &class{model: m, Group: groups[i], self: whole == m.Whole, rng: rand.New(rand.NewPCG(env.Seed, 0x616374))}
		if !c.self {
			c.trusted = m.trusted[c.Class]
		}
		c.others = sides.Others(i, m.Vectors.Dim())
		c.score(s, env, max(1, env.Workers/len(groups)), value, why)
	})
	return detect.Scores{Value: value, Code: finding.PoisonCluster, Stream: true, Learned: true, Explain: func(row int) string {
		if why[row].class == nil {
			return "its class is too small, or too much of one kind, to be parted"
		}
		return why[row].String()
	}}
}

// class is the rows of one class, about to be parted.
type class struct {
	whitening.Group
	model    *model
	self     bool          // the reference is the very sample
	shared   bool          // what is learned from comes first, and its principal directions are known to others
	trusted  trusted       // of the class in the reference
	others   linalg.Matrix // of other classes, each about its centre
	rng      *rand.Rand
	partings []parting
}

// reason is why a row scores what it does.
type reason struct {
	class   *class
	parting int
	at      float64 // 0 at the large part's centre, 1 at the small one's
}

func (r reason) String() string {
	c, p := r.class, r.class.partings[r.parting]
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f %% of the way from the centre of its class", 100*r.at)
	if c.Class != "" {
		fmt.Fprintf(&b, " %q", c.Class)
	}
	fmt.Fprintf(&b, " to that of a cluster of %.2g %% of its rows (silhouette %.2f)", 100*p.share, p.silhouette)
	if c.trusted.Rows > 0 {
		fmt.Fprintf(&b, "; %.2g %% of the reference lie in it", 100*float64(p.trusted)/float64(c.trusted.Rows))
	}
	if c.others.Rows > 0 {
		fmt.Fprintf(&b, "; %.2g %% of other classes", 100*float64(p.others)/float64(c.others.Rows))
	}
	return b.String()
}
