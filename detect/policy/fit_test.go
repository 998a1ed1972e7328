package policy

import (
	"fmt"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/schema/finding"
)

// choosy scores how far a row's first feature is from the mean, and learns only from samples that hold the row that it needs.
type choosy struct {
	needs  float64
	stream bool
}

func (choosy) Name() string { return "choosy" }

func (c choosy) Fit(reference *detect.Sample, _ detect.Env) (detect.Model, error) {
	width := len(reference.FeatureNames)
	for i := range reference.N {
		if reference.Features[i*width] == c.needs {
			return c, nil
		}
	}
	return nil, nil
}

func (c choosy) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i := range value {
		value[i] = s.Features[i*len(s.FeatureNames)]
	}
	return detect.Scores{Value: value, Code: finding.PoisonOutlier, Stream: c.stream, Explain: func(int) string { return "" }}
}

// A part of the reference from which a detector cannot learn leaves it without an opinion on the rows that were held out from it;
// it judges all the same.
func TestPartOfReferenceTeachesNothing(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprint("stream ", stream), func(t *testing.T) {
			ref := detecttest.Clean(600, 1)
			ref.Features[0] = 123.25
			s := scorer(t, 0.01, ref, []detect.Detector{choosy{123.25, stream}}, 2)
			if len(s.fitted) != 1 {
				t.Fatal("the detector does not judge")
			}
			if got := len(s.fitted[0].held); got != ref.N {
				t.Errorf("%d reference rows are held out, want %d", got, ref.N)
			}
			poisoned := detecttest.Clean(400, 2)
			poisoned.Features[0] = 1e6
			if d := judge(t, s, poisoned); d.Verdicts[0] != finding.Quarantined {
				t.Error("a row far out is accepted")
			}
		})
	}
}
