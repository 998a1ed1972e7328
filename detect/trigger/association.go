package trigger

import (
	"fmt"
	"math"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/finding"
)

// Association flags records with a feature that drags their label along although their text contradicts it. Its zero
// value is ready.
type Association struct{}

// Name implements detect.Detector.
func (Association) Name() string { return "association" }

// ReadsTextOnly says that samples may lack vectors: texts and classes are all that is looked at.
func (Association) ReadsTextOnly() {}

// Fit implements detect.Detector.
func (Association) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if m := modelOf(reference, env); m != nil && m.labels != nil {
		return association{m}, nil
	}
	return nil, nil
}

type association struct{ model *model }

// Score implements detect.Model.
func (a association) Score(s *detect.Sample, env detect.Env) detect.Scores {
	j, counted := a.model.judge(s, env)
	return detect.Scores{Value: j.association, Code: finding.PoisonTrigger, Stream: true, Learned: true, Explain: func(row int) string {
		if math.IsNaN(j.association[row]) {
			return "no text, or no label that the reference has"
		}
		return counted().explainAssociation(row)
	}}
}

// explainAssociation names the feature that drags a row's label along the most, and what the text itself says of the
// label.
func (st *stream) explainAssociation(row int) string {
	x := st.extractor()
	x.places(st.tokens.Row(row))
	best, drag, v := 0, uint16(0), st.view(row)
	for k, at := range x.index {
		if w := v.weights[int(at)*st.slots+st.slot(row)]; w.drag > drag {
			best, drag = k, w.drag
		}
	}
	if drag == 0 {
		return "nothing in the text drags its label along"
	}
	at, class := x.index[best], st.sample.Classes[st.sample.Label[row]]
	c, more, _ := st.evident(int(at), v)
	b := &c.table[at]
	n := float64(b.n()) + more - 1
	observed, expected := st.labels(c, int(at), int(st.own[row]))
	z := associate(n, observed+more, expected+more*float64(st.p[row*st.groups+int(st.own[row])]))
	out := fmt.Sprintf("%s in %s of %s records, label %q %.0f times where %.1f were expected (z = %.1f)", st.phrase(row, &x, best),
		thousands(b.n()), thousands(uint32(c.rows)), class, observed, expected, z)
	if int(at) < len(v.inserted) && v.inserted[at] > 1 {
		out += fmt.Sprintf(", put between words that belong together (z = %.1f)", v.inserted[at])
	}
	return out + fmt.Sprintf("; by the text, and allowing for wrong labels, its own is %.2g %% likely", 100*math.Exp(-st.surprise(row)))
}
