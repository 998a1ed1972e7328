package loss

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
	t.Run("probabilities", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Loss = nil
			return s
		})
	})
	t.Run("no labels", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Label, s.Classes = nil, nil
			return s
		})
	})
}

// modelled returns n rows of an easy class and a hard one, with the losses that a fair model has on them.
func modelled(n int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 5))
	s := &detect.Sample{N: n, Classes: []string{"easy", "hard"}, Outcomes: 2}
	for range n {
		label := rng.IntN(2)
		own := 1 / (1 + math.Exp(-4+2*float64(label)-rng.NormFloat64()))
		s.Label = append(s.Label, int32(label))
		s.Loss = append(s.Loss, -math.Log(own))
		p := []float32{float32(own), float32(1 - own)}
		if label == 1 {
			slices.Reverse(p)
		}
		s.Probabilities = append(s.Probabilities, p...)
	}
	return s
}

func score(t *testing.T, reference, stream *detect.Sample) []float64 {
	t.Helper()
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	return m.Score(stream, env).Value
}

// above tells what share of rows scores higher than all but one per cent of the others of the same class.
func above(s *detect.Sample, value []float64, bad func(i int) bool) float64 {
	hits, all := 0, 0
	for class := range s.Classes {
		var good []float64
		for i, v := range value {
			if int(s.Label[i]) == class && !bad(i) {
				good = append(good, v)
			}
		}
		slices.Sort(good)
		bar := good[len(good)-1-len(good)/100]
		for i, v := range value {
			if int(s.Label[i]) == class && bad(i) {
				if all++; v > bar {
					hits++
				}
			}
		}
	}
	return float64(hits) / float64(all)
}

func TestWrongLabelsAreFound(t *testing.T) {
	for _, given := range []string{"loss", "probabilities"} {
		for _, trusted := range []bool{true, false} {
			reference, stream := modelled(1000, 1), modelled(4000, 2)
			flipped := func(i int) bool { return i%40 == 0 }
			for i := range stream.N {
				if flipped(i) {
					stream.Label[i] = 1 - stream.Label[i]
					stream.Loss[i] = -math.Log(-math.Expm1(-stream.Loss[i]))
				}
			}
			for _, s := range []*detect.Sample{reference, stream} {
				if given == "probabilities" {
					s.Loss = nil
				} else {
					s.Probabilities, s.Outcomes = nil, 0
				}
			}
			if !trusted {
				reference = stream
			}
			if got := above(stream, score(t, reference, stream), flipped); got < 0.75 {
				t.Errorf("%s, reference %v: recall %.2f at 1 %% false alarms", given, trusted, got)
			}
		}
	}
}

// What is ordinary in a hard class is far out in an easy one.
func TestLossesCompareWithinAClass(t *testing.T) {
	stream := modelled(2, 3)
	stream.Label = []int32{0, 1}
	stream.Loss = []float64{0.3, 0.3}
	if value := score(t, modelled(2000, 1), stream); !(value[0] > value[1]+2) {
		t.Errorf("scores %v", value)
	}
}

func TestBothTails(t *testing.T) {
	reference, stream := modelled(2000, 1), modelled(4, 2)
	stream.Label = []int32{1, 1, 1, -1}
	stream.Loss = []float64{reference.Loss[slices.Index(reference.Label, 1)], 1e-6, 9, 9}
	value := score(t, reference, stream)
	if !(value[1] > 3 && value[2] > 3 && value[3] > 3 && value[0] < 3) {
		t.Errorf("an ordinary loss, one near nothing, a large one, and one of a row without a label score %v", value)
	}
	usual := score(t, reference, reference)
	low := 0
	for i, v := range usual {
		if reference.Loss[i] < 0.02 && v > 3 {
			low++
		}
	}
	if low > reference.N/500 {
		t.Errorf("%d of %d ordinary rows score for a low loss", low, reference.N)
	}
	// Of a density's losses, negative ones too, only high ones tell.
	for i := range reference.Loss {
		reference.Loss[i] = math.Log(reference.Loss[i])
	}
	stream.Loss = []float64{-2, -100, 40, 40}
	if value = score(t, reference, stream); !(value[1] < 0 && value[2] > 10) {
		t.Errorf("losses of a density score %v", value)
	}
}

func TestOddLosses(t *testing.T) {
	reference, stream := modelled(500, 1), modelled(5, 2)
	stream.Loss = []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 0}
	value := score(t, reference, stream)
	if !math.IsNaN(value[0]) || value[1] != furthest || value[3] != furthest || value[2] > 20 {
		t.Errorf("scores %v", value)
	}
	for _, losses := range [][]float64{{0}, {math.Inf(1)}, {3}, {math.MaxFloat64, -math.MaxFloat64}} {
		for i := range reference.Loss {
			reference.Loss[i] = losses[i%len(losses)]
		}
		for i, v := range score(t, reference, stream) {
			if math.IsInf(v, 0) {
				t.Errorf("reference of %v: row %d scores %v", losses, i, v)
			}
		}
	}
	if m, _ := (Detector{}).Fit(modelled(10, 1), env); m != nil {
		t.Error("a model of ten losses")
	}
}

func TestExplain(t *testing.T) {
	stream := modelled(2, 3)
	stream.Label, stream.Loss = []int32{0, -1}, []float64{7, 8}
	m, err := Detector{}.Fit(modelled(1000, 1), env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	scores := m.Score(stream, env)
	for row, want := range []string{`loss 7, higher than usual in class "easy": median`, "loss 8, higher than usual in the reference: median"} {
		if got := scores.Explain(row); !strings.HasPrefix(got, want) {
			t.Errorf("%s: does not begin with %q", got, want)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	const n = 100_000
	for _, given := range []string{"loss", "probabilities"} {
		b.Run(given, func(b *testing.B) {
			reference, stream := modelled(10_000, 1), modelled(n, 2)
			bytes := 8.0
			if given == "probabilities" {
				reference.Loss, stream.Loss = nil, nil
			}
			m, err := Detector{}.Fit(reference, env)
			if err != nil || m == nil {
				b.Fatal("no model: ", err)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.Score(stream, env)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(bytes, "bytes/record")
		})
	}
}
