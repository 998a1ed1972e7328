package activation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
}

func scores(t testing.TB, reference, s *detect.Sample) detect.Scores {
	t.Helper()
	m, err := Detector{}.Fit(reference, detect.Env{Seed: 1, Workers: 2})
	if err != nil || m == nil {
		t.Fatalf("no model: %v", err)
	}
	return m.Score(s, detect.Env{Seed: 1, Workers: 2})
}

func TestSmallClusterApart(t *testing.T) {
	for _, c := range []struct {
		name  string
		sizes []int
		share float64
		self  bool
	}{
		{"a tenth", []int{2000, 3000}, 0.1, false},
		{"1 % of one of two classes of very different size", []int{50, 6000}, 0.01, false},
		{"no reference", []int{2000, 3000}, 0.05, true},
		{"one class", []int{4000}, 0.05, false},
		{"in a long sample", []int{5000, 13000}, 0.01, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref, stream := planted.Gaussian(32, c.sizes, c.share, 9, 1).Split(1000, 1)
			if c.self {
				ref = stream
			}
			got := scores(t, ref.Sample, stream.Sample)
			auc, at1, _ := planted.Figures(got.Value, stream.Poison)
			t.Logf("ROC AUC %.3f, recall at 1 %% %.2f", auc, at1)
			if auc < 0.97 || at1 < 0.8 {
				t.Errorf("ROC AUC %.3f, recall at 1 %% %.2f", auc, at1)
			}
			for row, poison := range stream.Poison {
				if poison && got.Value[row] > 5 && !strings.Contains(got.Explain(row), "to that of a cluster of") {
					t.Fatal(got.Explain(row))
				}
			}
		})
	}
}

// TestModesOfTheReferenceAreNoPoison: a clean class of three modes, one of them small, scores no higher than one of a single mode.
func TestModesOfTheReferenceAreNoPoison(t *testing.T) {
	draw := func(n int, modes bool, seed uint64) *detect.Sample {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := &detect.Sample{N: n, Dim: 24, Classes: []string{"a", "b"}}
		for i := range n {
			label := int32(i % 2)
			mode := 0
			if modes && label == 0 {
				mode = [...]int{0, 0, 0, 0, 0, 0, 1, 1, 1, 2}[rng.IntN(10)]
			}
			for c := range s.Dim {
				v := rng.NormFloat64()
				if c == mode && mode > 0 {
					v += 8
				}
				s.Embedding = append(s.Embedding, float32(v))
			}
			s.Label = append(s.Label, label)
		}
		return s
	}
	top := func(modes bool) float64 {
		worst := 0.0
		for _, v := range scores(t, draw(2000, modes, 1), draw(4000, modes, 2)).Value {
			worst = max(worst, v)
		}
		return worst
	}
	if one, many := top(false), top(true); many > one+1.5 {
		t.Errorf("scores up to %.2f in a class of three modes, %.2f in one", many, one)
	}
}

func TestPoisonInSentenceEmbeddings(t *testing.T) {
	clean := planted.MiniLM(t, "badnets-sst2").Clean()
	for name, set := range map[string]planted.Set{
		"badnets-sst2": planted.MiniLM(t, "badnets-sst2"), "style-sst2-5pct": planted.MiniLM(t, "style-sst2-5pct"),
		"syntactic-sst2": planted.MiniLM(t, "syntactic-sst2"), "planted, 1 in 20, 8 deviations": clean.Backdoor(0.05, 8, true, 1),
		"planted, 1 in 100, 8 deviations": clean.Backdoor(0.01, 8, true, 1),
	} {
		ref, stream := set.Split(1000, 1)
		auc, at1, at5 := planted.Figures(scores(t, ref.Sample, stream.Sample).Value, stream.Poison)
		t.Logf("%s: ROC AUC %.3f, recall at 1 %% %.2f, at 5 %% %.2f", name, auc, at1, at5)
		if strings.Contains(name, "1 in 20,") && auc < 0.95 {
			t.Errorf("%s: ROC AUC %.3f", name, auc)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	for _, dim := range []int{32, 384, 1024} {
		for _, reference := range []int{1000, 10000, 100000} {
			b.Run(fmt.Sprintf("d=%d/reference=%d", dim, reference), func(b *testing.B) {
				ref := planted.Gaussian(dim, []int{reference / 2, reference / 2}, 0, 0, 1)
				s := planted.Gaussian(dim, []int{8192, 8192}, 0.01, 6, 1)
				m, err := Detector{}.Fit(ref.Sample, detect.Env{Workers: 2})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(4 * len(s.Embedding)))
				b.ReportAllocs()
				for b.Loop() {
					m.Score(s.Sample, detect.Env{Workers: 2})
				}
				b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(4*dim), "B/record")
			})
		}
	}
}
