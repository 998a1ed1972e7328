package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/contract"
)

// draw makes n rows with every role; shift moves all of them.
func draw(n int, seed uint64, shift float64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 4))
	s := &detect.Sample{
		N: n, Classes: []string{"a", "b", "c"}, Providers: []string{"p", "q"}, FeatureNames: []string{"/x", "/y"},
		Dim: 8, Outcomes: 3, GradientDim: 4,
	}
	for range n {
		text := ""
		for range 8 + rng.IntN(8) {
			text += fmt.Sprintf("word%d ", int(1/(0.001+rng.Float64()))+int(2000*shift*rng.Float64()))
		}
		s.Text = append(s.Text, []byte(text))
		s.Label = append(s.Label, int32(min(2, rng.Float64()*(3+2*shift))))
		s.Provider = append(s.Provider, int32(min(1, rng.Float64()*(2+2*shift))))
		s.Features = append(s.Features, rng.NormFloat64(), rng.ExpFloat64()+shift)
		s.Loss = append(s.Loss, rng.ExpFloat64()*(1+shift))
		for range s.Dim {
			s.Embedding = append(s.Embedding, float32(rng.NormFloat64()+shift))
		}
		for range s.Outcomes {
			s.Probabilities = append(s.Probabilities, float32(rng.Float64()+shift))
		}
		for range s.GradientDim {
			s.Gradient = append(s.Gradient, float32(rng.NormFloat64()*(1+2*shift)))
		}
	}
	return s
}

func TestCompare(t *testing.T) {
	earlier := draw(2000, 1, 0)
	for _, d := range Compare(earlier, draw(2000, 2, 0), 1) {
		if d.PValue < 0.001 || d.Statistic < 0 || d.Statistic > 1 {
			t.Errorf("of one origin: %+v", d)
		}
	}
	moved := map[string]bool{}
	for _, d := range Compare(earlier, draw(2000, 3, 0.5), 1) {
		if d.PValue < 0.001 {
			moved[d.Role+d.Field] = true
		}
	}
	for _, want := range []string{"textwords", "label", "provider", "features/y", "loss", "embedding", "probabilities", "gradient"} {
		if !moved[want] {
			t.Errorf("%s has moved, and it does not show", want)
		}
	}
	if moved["features/x"] {
		t.Error("/x has not moved, and it shows")
	}
	same := Compare(earlier, earlier, 1)
	for _, d := range same {
		if d.Measure != "unseen_share" && d.Statistic != 0 || d.PValue < 0.01 {
			t.Errorf("a sample against itself: %+v", d)
		}
	}
	if again := Compare(earlier, earlier, 1); fmt.Sprint(again) != fmt.Sprint(same) {
		t.Error("the same samples compare differently again")
	}
}

// The p-values are what they say, on samples of one origin.
func TestCompareLevel(t *testing.T) {
	low, all := map[string]int{}, 0
	for seed := range uint64(100) {
		all++
		for _, d := range Compare(draw(300, 100+seed, 0), draw(200, 1000+seed, 0), 1) {
			if d.PValue <= 0.05 {
				low[d.Role+d.Field]++
			}
		}
	}
	for what, n := range low {
		if n > 15 { // 5 are expected; more than 15 have a chance of one in 10⁵
			t.Errorf("%s: %d of %d comparisons of equals have p ≤ 0.05", what, n, all)
		}
	}
}

func TestCompareOfLittle(t *testing.T) {
	for _, n := range []int{0, 1, 2} {
		for _, m := range []int{0, 1, 2} {
			for _, d := range Compare(draw(n, 1, 0), draw(m, 2, 0), 1) {
				if math.IsNaN(d.Statistic) || math.IsNaN(d.PValue) || d.PValue < 0 || d.PValue > 1 {
					t.Errorf("%d rows against %d: %+v", n, m, d)
				}
			}
		}
	}
	if got := Compare(&detect.Sample{N: 3}, draw(3, 1, 0), 1); len(got) != 0 {
		t.Errorf("roles that one sample lacks are compared: %+v", got)
	}
}

func TestRestrict(t *testing.T) {
	r := &Reference{Sample: draw(20, 1, 0), Name: "t@1"}
	all := contract.Roles{
		Text: []string{"/t"}, Label: "/l", Features: []string{"/x", "/y"}, Embedding: "/e", Probabilities: "/p", Loss: "/o", Gradient: "/g",
		Provider: contract.Provider{Is: "me"},
	}
	if got := r.Restrict(all); !reflect.DeepEqual(got, r) {
		t.Error("a role that the contract names is gone")
	}
	if got := r.Restrict(contract.Roles{}); !reflect.DeepEqual(got, &Reference{Sample: &detect.Sample{N: 20}, Name: "t@1"}) {
		t.Error("a role that the contract does not name is there")
	}
}
