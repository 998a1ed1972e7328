package collusion

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

const (
	mostDim   = 32   // numbers of a point in one space
	mostWidth = 4096 // numbers of a vector that are looked at
	step      = 512  // of a unit: a point's numbers are whole
	furthest  = math.MaxInt16
)

// space says how points are made of one role.
type space struct {
	name  string
	read  func(dst []float64, s *detect.Sample, row int) bool // a record's vector; false where it has none
	width int                                                 // of the role
	used  int
	dim   int

	middle, unit []float64 // by number of the vector
	axes         []float64 // dim × used: of a projection; nil for none
}

// newSpaces returns the spaces of all roles that a reference has.
func newSpaces(s *detect.Sample, seed uint64) []space {
	var out []space
	if len(s.FeatureNames) > 0 && s.Features != nil {
		sp := space{name: "features", width: len(s.FeatureNames), read: readFeatures}
		if sp.learn(s, seed, true) {
			out = append(out, sp)
		}
	}
	if s.Dim > 0 && s.Embedding != nil {
		sp := space{name: "embeddings", width: s.Dim, read: readEmbedding}
		if sp.learn(s, seed, false) {
			out = append(out, sp)
		}
	}
	if s.GradientDim > 0 && s.Gradient != nil {
		sp := space{name: "gradients", width: s.GradientDim, read: readGradient}
		if sp.learn(s, seed, false) {
			out = append(out, sp)
		}
	}
	return out
}

func (m *model) fits(s *detect.Sample) bool {
	for i := range m.spaces {
		sp, width := &m.spaces[i], 0
		switch sp.name {
		case "features":
			width = len(s.FeatureNames)
		case "embeddings":
			width = s.Dim
		case "gradients":
			width = s.GradientDim
		}
		if width != sp.width {
			return false
		}
	}
	return true
}

func readFeatures(dst []float64, s *detect.Sample, row int) bool {
	some := false
	width := len(s.FeatureNames)
	for j := range dst {
		v := s.Features[row*width+j]
		dst[j] = max(-math.MaxFloat64, min(v, math.MaxFloat64))
		some = some || v == v
	}
	return some
}

func readEmbedding(dst []float64, s *detect.Sample, row int) bool {
	if s.Embedding == nil || s.HasEmbedding != nil && !s.HasEmbedding[row] {
		return false
	}
	return readVector(dst, s.Embedding[row*s.Dim:])
}

func readVector(dst []float64, v []float32) bool {
	some := false
	for j := range dst {
		x := float64(v[j])
		if x-x != 0 {
			return false
		}
		dst[j] = x
		some = some || x != 0
	}
	return some
}

// readGradient reads a gradient's direction: who colludes is free to choose the length.
func readGradient(dst []float64, s *detect.Sample, row int) bool {
	if s.Gradient == nil || !readVector(dst, s.Gradient[row*s.GradientDim:]) {
		return false
	}
	norm := 0.0
	for _, x := range dst {
		norm += x * x
	}
	norm = math.Sqrt(norm)
	for j := range dst {
		dst[j] /= norm
	}
	return true
}

// learn measures the reference's vectors; false where they do not vary. Each number is measured by its own spread, or all by the mean
// of theirs.
func (sp *space) learn(s *detect.Sample, seed uint64, each bool) bool {
	sp.used = min(sp.width, mostWidth)
	sp.dim = min(sp.used, mostDim)
	vector := make([]float64, sp.used)
	columns := make([][]float64, sp.used)
	for row := range s.N {
		if sp.read(vector, s, row) {
			for j, v := range vector {
				if v == v {
					columns[j] = append(columns[j], v)
				}
			}
		}
	}
	sp.middle, sp.unit = make([]float64, sp.used), make([]float64, sp.used)
	mean := 0.0
	for j, values := range columns {
		sp.middle[j], sp.unit[j] = spread(values)
		mean += sp.unit[j] / float64(sp.used)
	}
	if !(mean > 0) || math.IsInf(mean, 0) {
		return false
	}
	for j, unit := range sp.unit {
		switch {
		case !each:
			sp.unit[j] = mean
		case unit == 0: // constant: a difference counts against its size
			sp.unit[j] = max(1, math.Abs(sp.middle[j]))
		}
	}
	if sp.dim < sp.used {
		rng := rand.New(rand.NewPCG(seed, 0x617865))
		sp.axes = make([]float64, sp.dim*sp.used)
		for i := range sp.axes {
			sp.axes[i] = rng.NormFloat64() / math.Sqrt(float64(sp.used))
		}
	}
	return true
}

// spread returns the median and a robust standard deviation: from the quartiles or, where half of all values are equal, from all of
// them. It sorts values.
func spread(values []float64) (middle, unit float64) {
	n := len(values)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(values)
	middle = values[n/2]
	if unit = values[n*3/4]/1.349 - values[n/4]/1.349; unit > 0 {
		return middle, min(unit, math.MaxFloat64)
	}
	square := 0.0
	for _, v := range values {
		d := v/math.Sqrt(float64(n)) - middle/math.Sqrt(float64(n))
		square += d * d
	}
	return middle, min(math.Sqrt(square), math.MaxFloat64)
}

// digest adds what points are made with to a hash.
func (sp *space) digest(h uint64) uint64 {
	for _, b := range []byte(sp.name) {
		h = sketch.Mix(h ^ uint64(b))
	}
	for j := range sp.unit {
		h = sketch.Mix(h ^ math.Float64bits(sp.middle[j]))
		h = sketch.Mix(h ^ math.Float64bits(sp.unit[j]))
	}
	return h
}

// point returns a record's point in all spaces; in one where it has no vector it lies in the middle. Nil: it has none in any.
func (m *model) point(s *detect.Sample, row int) []int16 {
	out := make([]int16, 0, m.dim)
	some := m.phrases.of > 0 && s.Text != nil && len(s.Text[row]) > 0
	for i := range m.spaces {
		sp := &m.spaces[i]
		vector := make([]float64, sp.used)
		if sp.read(vector, s, row) {
			some = true
			for j, v := range vector {
				vector[j] = 0
				if v == v {
					vector[j] = max(-furthest, min((v-sp.middle[j])/sp.unit[j], furthest))
				}
			}
		} else {
			clear(vector)
		}
		for d := range sp.dim {
			x := 0.0
			if sp.axes == nil {
				x = vector[d]
			} else {
				for j, a := range sp.axes[d*sp.used : (d+1)*sp.used] {
					x += a * vector[j]
				}
			}
			out = append(out, int16(math.Round(max(-furthest, min(x*step, furthest)))))
		}
	}
	if !some {
		return nil
	}
	return out
}
