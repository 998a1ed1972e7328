package consistency

import (
	"fmt"
	"math"
	"strconv"

	"github.com/tasterhq/taster/detect"
)

const (
	mostOutcomes = 4096  // a longer row of probabilities is not looked at
	mostInferred = 1024  // of a longer one, classes by name are not told: that takes its square
	sure         = 4     // standard errors from which a class is known by its probabilities
	least        = 1e-30 // of 1: a probability of nothing counts as this, or nearly all that float32 has below
)

// Outcomes tells which class an index of the probabilities stands for, as the package comment says. It is not changed
// after it was made.
type Outcomes struct {
	width    int
	integers bool           // a class is named by its index
	index    map[string]int // otherwise: the classes that could be told
}

// NewOutcomes learns from a sample which class an index stands for; nil where it has no labels or no probabilities, or
// where nothing can be told.
func NewOutcomes(s *detect.Sample) *Outcomes {
	if s.Label == nil || s.Probabilities == nil || s.Outcomes < 2 || s.Outcomes > mostOutcomes {
		return nil
	}
	o := &Outcomes{width: s.Outcomes, integers: true}
	rows := make([]float64, len(s.Classes))
	for i, label := range s.Label {
		if label >= 0 && usable(s.Probabilities[i*s.Outcomes:(i+1)*s.Outcomes]) {
			rows[label]++
		}
	}
	named := 0
	for class, name := range s.Classes {
		if rows[class] > 0 {
			named++
			o.integers = o.integers && o.number(name) >= 0
		}
	}
	if named == 0 {
		return nil
	}
	if o.integers {
		return o
	}
	if named > 2*o.width || o.width > mostInferred {
		return nil
	}
	if o.index = infer(s, rows); len(o.index) == 0 {
		return nil
	}
	return o
}

// number returns the index that a class is named by, or -1.
func (o *Outcomes) number(name string) int {
	k, err := strconv.Atoi(name)
	if err != nil || k < 0 || k >= o.width || strconv.Itoa(k) != name {
		return -1
	}
	return k
}

// of returns the outcome of a row's label, or -1.
func (o *Outcomes) of(s *detect.Sample, row int) int {
	label := s.Label[row]
	if label < 0 {
		return -1
	}
	if o.integers {
		return o.number(s.Classes[label])
	}
	if k, ok := o.index[s.Classes[label]]; ok {
		return k
	}
	return -1
}

// Of returns the index that stands for every row's label, -1 where that cannot be told; nil for a sample without labels or
// probabilities of the same length.
func (o *Outcomes) Of(s *detect.Sample) []int32 {
	if s.Label == nil || s.Probabilities == nil || s.Outcomes != o.width {
		return nil
	}
	of := make([]int32, len(s.Classes))
	for class, name := range s.Classes {
		of[class] = -1
		if o.integers {
			of[class] = int32(o.number(name))
		} else if k, ok := o.index[name]; ok {
			of[class] = int32(k)
		}
	}
	out := make([]int32, s.N)
	for i, label := range s.Label {
		if out[i] = -1; label >= 0 {
			out[i] = of[label]
		}
	}
	return out
}

// infer returns the index of every class that can be told by the data: the one whose mean probability is raised most in
// the class over what it is in the others, if no other class raises it more, and not by chance. rows is how many rows of
// each class have probabilities.
func infer(s *detect.Sample, rows []float64) map[string]int {
	width := s.Outcomes
	mean, square := make([]float64, width), make([]float64, width)
	raised := make([][]float64, len(s.Classes)) // by class and index: the mean, in the end less that of the other classes
	n := 0.0
	for i, label := range s.Label {
		p := s.Probabilities[i*width : (i+1)*width]
		if label < 0 || !usable(p) {
			continue
		}
		if raised[label] == nil {
			raised[label] = make([]float64, width)
		}
		n++
		for k, v := range p {
			mean[k] += float64(v)
			square[k] += float64(v) * float64(v)
			raised[label][k] += float64(v) / rows[label]
		}
	}
	for k := range mean {
		mean[k] /= n
		square[k] = max(0, square[k]/n-mean[k]*mean[k]) // the variance
	}
	wantedBy := make([]int, width) // the class that raises an index most
	for k := range wantedBy {
		wantedBy[k] = -1
	}
	for class, r := range raised {
		for k := range r {
			r[k] -= (n*mean[k] - rows[class]*r[k]) / (n - rows[class]) // NaN or infinite where there is no other class
			if best := wantedBy[k]; best < 0 || r[k] > raised[best][k] {
				wantedBy[k] = class
			}
		}
	}
	index := map[string]int{}
	for class, r := range raised {
		best := -1
		for k := range r {
			if best < 0 || r[k] > r[best] {
				best = k
			}
		}
		if best >= 0 && wantedBy[best] == class && r[best] > sure*math.Sqrt(square[best]*(1/rows[class]+1/(n-rows[class]))) {
			index[s.Classes[class]] = best
		}
	}
	return index
}

// oddsAgainst returns ln((1 − m)/(1 + m)) of the margin m between a row's own outcome and the best other; NaN where p
// cannot be probabilities. They need not add up to 1.
func oddsAgainst(p []float32, own int) float64 {
	if !usable(p) {
		return math.NaN()
	}
	// 1 − m and 1 + m by what is small in them: both are exact where m is near 1 or −1.
	var others float64
	best := own
	for k, v := range p {
		if k != own && (best == own || v > p[best]) {
			best = k
		}
	}
	for k, v := range p {
		if k != own && k != best {
			others += float64(v)
		}
	}
	mine, theirs := float64(p[own]), float64(p[best])
	sum := mine + theirs + others
	return math.Log(max(others+2*theirs, least*sum)) - math.Log(max(others+2*mine, least*sum))
}

func (o *Outcomes) explain(s *detect.Sample, row, own int) string {
	p := s.Probabilities[row*o.width : (row+1)*o.width]
	best := 0
	for k, v := range p {
		if v > p[best] {
			best = k
		}
	}
	if best == own {
		return fmt.Sprintf("which the model has at %.3g, no more than that", p[own])
	}
	name := strconv.Itoa(best)
	if !o.integers {
		for class, k := range o.index {
			if k == best {
				name = class
			}
		}
	}
	return fmt.Sprintf("which the model has at %.3g, and %q at %.3g", p[own], name, p[best])
}
