package detecttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
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

// Recurrent is a plain detector with a memory: how many rows of the stream so far hold the same text, as a logarithm.
type Recurrent struct{}

// Name implements detect.Detector.
func (Recurrent) Name() string { return "recurrent" }

// Fit implements detect.Detector.
func (Recurrent) Fit(s *detect.Sample, _ detect.Env) (detect.Model, error) {
	if s.Text == nil {
		return nil, nil
	}
	return recurrent{}, nil
}

// recurrences is how many bytes the memory of Recurrent takes.
const recurrences = 1 + 4<<12

type recurrent struct{}

// counts are how many texts had a hash, and how many of them there are.
type counts [1 << 12]uint32

func (c *counts) of(text []byte) *uint32 {
	h := fnv.New32a()
	h.Write(text)
	return &c[h.Sum32()%uint32(len(c))]
}

// Merge implements detect.Memory.
func (c *counts) Merge(other detect.Memory) {
	for i, n := range other.(*counts) {
		c[i] += n
	}
}

// AppendBinary implements encoding.BinaryAppender.
func (c *counts) AppendBinary(data []byte) ([]byte, error) {
	data = append(data, 1) // version
	for _, n := range c {
		data = binary.LittleEndian.AppendUint32(data, n)
	}
	return data, nil
}

// Score implements detect.Model.
func (m recurrent) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, &counts{}, env)
}

// Memory implements detect.Remembering.
func (recurrent) Memory(data []byte) (detect.Memory, error) {
	c := &counts{}
	if len(data) == 0 {
		return c, nil
	}
	if len(data) != recurrences || data[0] != 1 {
		return nil, errors.New("recurrent: no memory of this version")
	}
	for i := range c {
		c[i] = binary.LittleEndian.Uint32(data[1+4*i:])
	}
	return c, nil
}

// Observe implements detect.Remembering.
func (recurrent) Observe(s *detect.Sample, _ []bool, _ detect.Env) detect.Memory {
	c := &counts{}
	for _, text := range s.Text {
		if text != nil {
			*c.of(text)++
		}
	}
	return c
}

// ScoreWith implements detect.Remembering.
func (m recurrent) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	now := m.Observe(s, nil, env).(*counts)
	now.Merge(before)
	value := make([]float64, s.N)
	for i := range value {
		value[i] = math.NaN()
		if s.Text != nil && s.Text[i] != nil {
			value[i] = math.Log(float64(max(1, *now.of(s.Text[i]))))
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonNearDuplicate, Stream: true, Explain: func(row int) string {
		return fmt.Sprintf("about %.0f equal texts in the stream so far", math.Exp(value[row]))
	}}
}

// Clean returns n rows of clean, varied data with every role: four heavy-tailed, correlated features, an
// embedding of 16 dimensions in two clusters by class, texts of random words, two classes, three providers, and what a
// fairly good model makes of such rows: probabilities, losses and gradients of 12 dimensions.
func Clean(n int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 0x7a57e))
	s := &detect.Sample{
		N: n, Text: make([][]byte, n), Label: make([]int32, n), Classes: []string{"neg", "pos"},
		Features: make([]float64, 0, 4*n), FeatureNames: []string{"a", "b", "c", "d"},
		Embedding: make([]float32, 0, 16*n), Dim: 16,
		Provider: make([]int32, n), Providers: []string{"p", "q", "r"},
		Probabilities: make([]float32, 0, 2*n), Outcomes: 2,
		Loss:     make([]float64, 0, n),
		Gradient: make([]float32, 0, 12*n), GradientDim: 12,
	}
	model := rand.New(rand.NewPCG(seed, 0x6d0de1)) // apart, so that rows stay the same when a role is added
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
		own := 1 / (1 + math.Exp(-2.5-1.5*model.NormFloat64())) // the probability of its class
		if class == 0 {
			s.Probabilities = append(s.Probabilities, float32(own), float32(1-own))
		} else {
			s.Probabilities = append(s.Probabilities, float32(1-own), float32(own))
		}
		s.Loss = append(s.Loss, -math.Log(own))
		for k := range 12 {
			v := model.NormFloat64()
			if k == 0 {
				v += 2 - 4*float64(class)
			}
			s.Gradient = append(s.Gradient, float32((1-own)*v))
		}
	}
	return s
}
