package detecttest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/finding"
)

// Spread is a plain detector for tests of what stands around detectors: the largest |x − median| / MAD over a
// row's features.
type Spread struct{}

// Name implements detect.Detector.
func (Spread) Name() string { return "spread" }

// Fit implements detect.Detector.
func (Spread) Fit(s *detect.Sample, _ detect.Env) (detect.Model, error) {
	width := len(s.FeatureNames)
	if width == 0 || s.N == 0 {
		return nil, nil
	}
	m := make(spread, width)
	column := make([]float64, 0, s.N)
	for j := range m {
		column = column[:0]
		for i := range s.N {
			if v := s.Features[i*width+j]; !math.IsNaN(v) {
				column = append(column, v)
			}
		}
		m[j].median = median(column)
		for i := range column {
			column[i] = math.Abs(column[i]/2-m[j].median/2) * 2
		}
		m[j].mad = min(median(column), math.MaxFloat64) + 1e-12
	}
	return m, nil
}

type spread []struct{ median, mad float64 }

// Score implements detect.Model.
func (m spread) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i := range value {
		value[i] = math.NaN()
		if len(s.FeatureNames) != len(m) {
			continue
		}
		for j, c := range m {
			z := min(math.Abs(s.Features[i*len(m)+j]-c.median)/c.mad, math.MaxFloat64)
			if !(z <= value[i]) && !math.IsNaN(z) {
				value[i] = z
			}
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonOutlier, Explain: func(row int) string {
		return fmt.Sprintf("%.1f deviations from the median", value[row])
	}}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sort.Float64s(v)
	return v[len(v)/2]
}

// Repeats is a plain detector whose scores depend on the stream: how many other rows hold the same text, as a
// logarithm, and a little of the text's length, so that scores are not all equal.
type Repeats struct{}

// Name implements detect.Detector.
func (Repeats) Name() string { return "repeats" }

// Fit implements detect.Detector.
func (Repeats) Fit(s *detect.Sample, _ detect.Env) (detect.Model, error) {
	if s.Text == nil {
		return nil, nil
	}
	return repeats{}, nil
}

type repeats struct{}

// Score implements detect.Model.
func (repeats) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	count := map[string]int{}
	for _, text := range s.Text {
		count[string(text)]++
	}
	value := make([]float64, s.N)
	for i := range value {
		value[i] = math.NaN()
		if s.Text != nil && s.Text[i] != nil {
			value[i] = math.Log(float64(count[string(s.Text[i])])) + 0.01*math.Log1p(float64(len(s.Text[i])))
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonNearDuplicate, Stream: true, Explain: func(row int) string {
		return fmt.Sprintf("%d equal texts", count[string(s.Text[row])])
	}}
}

// Clean returns n rows of clean, varied data with every role: four heavy-tailed, correlated features, an
// embedding of 16 dimensions in two clusters by class, texts of random words and two classes.
func Clean(n int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 0x7a57e))
	s := &detect.Sample{
		N: n, Text: make([][]byte, n), Label: make([]int32, n), Classes: []string{"neg", "pos"},
		Features: make([]float64, 0, 4*n), FeatureNames: []string{"a", "b", "c", "d"},
		Embedding: make([]float32, 0, 16*n), Dim: 16,
		Provider: make([]int32, n), Providers: []string{"p", "q", "r"},
	}
	for i := range n {
		class := rng.IntN(2)
		s.Label[i], s.Provider[i] = int32(class), int32(rng.IntN(3))
		common := rng.NormFloat64()
		s.Features = append(s.Features, common, common+rng.NormFloat64(), math.Exp(rng.NormFloat64()), rng.ExpFloat64())
		for k := range 16 {
			v := rng.NormFloat64()
			if k == 0 {
				v += 3 * float64(class)
			}
			s.Embedding = append(s.Embedding, float32(v))
		}
		var text []byte
		for range 5 + rng.IntN(20) {
			// Zipf-like: the r-th word has a share of about 1/r.
			text = fmt.Appendf(text, "w%d ", int(math.Exp(rng.Float64()*math.Log(3000))))
		}
		s.Text[i] = fmt.Appendf(text, "%s%d", s.Classes[class], rng.IntN(40))
	}
	return s
}
