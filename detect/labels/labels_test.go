package labels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/text"
)

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
}

// rated returns n texts that show their class by about two words of fifteen.
func rated(n, classes int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 11))
	s := &detect.Sample{N: n}
	for c := range classes {
		s.Classes = append(s.Classes, fmt.Sprint("class ", c))
	}
	for range n {
		class := rng.IntN(classes)
		var b strings.Builder
		for range 10 + rng.IntN(30) {
			if rng.IntN(7) == 0 {
				fmt.Fprintf(&b, "telling%dx%d ", class, int(60*rng.Float64()*rng.Float64()))
			} else {
				fmt.Fprintf(&b, "plain%d ", int(math.Exp(rng.Float64()*7)))
			}
		}
		s.Text = append(s.Text, []byte(b.String()))
		s.Label = append(s.Label, int32(class))
	}
	return s
}

// recall is the share of flipped rows above all but one per cent of the others.
func recall(t *testing.T, value []float64, flipped []bool) float64 {
	t.Helper()
	if i := slices.IndexFunc(value, math.IsNaN); i >= 0 {
		t.Fatalf("row %d has no score", i)
	}
	_, at1, _ := planted.Figures(value, flipped)
	return at1
}

func TestFlipsAreFound(t *testing.T) {
	for _, c := range []struct {
		classes int
		share   float64
		want    float64
		alone   float64 // without a reference
	}{{2, 0.01, 0.7, 0.7}, {2, 0.1, 0.7, 0.3}, {5, 0.02, 0.7, 0.6}, {40, 0.02, 0.5, 0.4}} {
		t.Run(fmt.Sprint(c.classes, " classes ", c.share), func(t *testing.T) {
			stream := rated(4000, c.classes, 2)
			flipped := planted.FlipLabels(stream, c.share, 3)
			m, err := Detector{}.Fit(rated(1000, c.classes, 1), env)
			if err != nil || m == nil {
				t.Fatal("no model: ", err)
			}
			if got := recall(t, m.Score(stream, env).Value, flipped); got < c.want {
				t.Errorf("recall %.2f at 1 %% false alarms: want %.2f", got, c.want)
			}
			m, _ = Detector{}.Fit(stream, env)
			if got := recall(t, m.Score(stream, env).Value, flipped); got < c.alone {
				t.Errorf("without a reference recall %.2f at 1 %% false alarms: want %.2f", got, c.alone)
			}
		})
	}
}

// Where the text says nothing of the label, probabilities must not pretend that it does.
func TestProbabilitiesAreCalibrated(t *testing.T) {
	for _, informative := range []bool{true, false} {
		reference, stream := rated(1500, 3, 1), rated(3000, 3, 2)
		if !informative {
			for _, s := range []*detect.Sample{reference, stream} {
				rng := rand.New(rand.NewPCG(5, 5))
				rng.Shuffle(s.N, func(i, j int) { s.Label[i], s.Label[j] = s.Label[j], s.Label[i] })
			}
		}
		m := Fit(reference, env)
		own := m.Groups(stream)
		p := m.Predict(stream, env)
		said, right := 0.0, 0.0
		for i, g := range own {
			row := p[i*3 : i*3+3]
			sum := row[0] + row[1] + row[2]
			if math.Abs(float64(sum)-1) > 1e-5 {
				t.Fatalf("probabilities add up to %v", sum)
			}
			top := slices.Max(row)
			said += float64(top)
			if row[g] == top {
				right++
			}
		}
		said, right = said/float64(stream.N), right/float64(stream.N)
		if math.Abs(said-right) > 0.07 {
			t.Errorf("informative %v: says %.2f on average and is right on %.2f", informative, said, right)
		}
		if informative && right < 0.85 {
			t.Errorf("right on %.2f of clear texts", right)
		}
	}
}

func TestLabelsWithoutOpinion(t *testing.T) {
	m, err := Detector{}.Fit(rated(300, 2, 1), env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	s := rated(50, 2, 2)
	s.Classes = append(s.Classes, "unheard of")
	s.Label[0], s.Label[1], s.Text[2] = 2, -1, nil
	value := m.Score(s, env).Value
	for i, v := range value {
		if math.IsNaN(v) != (i < 3) {
			t.Errorf("row %d scores %v", i, v)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	model, err := Detector{}.Fit(rated(1000, 2, 1), env)
	if err != nil {
		b.Fatal(err)
	}
	const n = 100_000
	stream := rated(n, 2, 2)
	bytes := 0
	for _, t := range stream.Text {
		bytes += len(t)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		model.Score(stream, detect.Env{Workers: 1})
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
}

// Probabilities and scores are taken many rows at a time, and are those of one row after the other, to the bit.
func TestManyRowsAreOneAfterTheOther(t *testing.T) {
	for _, classes := range []int{2, 3, MostGroups} {
		reference, s := rated(400, classes, 1), rated(predictedRows+7, classes, 2)
		s.Text[3], s.Text[4], s.Label[5] = nil, []byte("nothing that was seen"), -1
		m := Fit(reference, env)
		p, value := m.predict(s, false, env), scorer{m}.Score(s, env).Value
		own, model := m.Groups(s), m.whole()
		logits := make([]float32, classes)
		for i, words := range s.Text {
			model.logits(logits, text.Append(nil, words))
			top, sum := slices.Max(logits), float32(0)
			for g, l := range logits {
				logits[g] = float32(math.Exp(float64(model.temper * (l - top))))
				sum += logits[g]
			}
			for g := range logits {
				logits[g] = (1-doubt)*logits[g]/sum + doubt/float32(classes)
			}
			if got := p[i*classes : (i+1)*classes]; !slices.Equal(got, logits) {
				t.Fatalf("%d classes, row %d: %v, want %v", classes, i, got, logits)
			}
			want := math.NaN()
			if words != nil && own[i] >= 0 {
				sure := surely(logits[own[i]], classes)
				want = math.Log1p(math.Exp(-logOdds(sure, math.Log(sure))))
			}
			if math.Float64bits(value[i]) != math.Float64bits(want) {
				t.Fatalf("%d classes, row %d: score %v, want %v", classes, i, value[i], want)
			}
		}
	}
}
