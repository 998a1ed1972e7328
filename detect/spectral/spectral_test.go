package spectral

import (
	"fmt"
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

// TestRareBackdoors plants one poisoned row in 200 of its class, in classes of very different size, where the largest variance is
// that of clean rows.
func TestRareBackdoors(t *testing.T) {
	for _, c := range []struct {
		name  string
		sizes []int
		share float64
		self  bool
	}{
		{"in the large class", []int{40, 5000}, 1. / 200, false},
		{"in the large class, no reference", []int{40, 5000}, 1. / 200, true},
		{"in the small class", []int{4000, 250}, 0.08, false},
		{"one class", []int{4000}, 1. / 200, true},
		{"in the large class of a long sample", []int{400, 12000}, 1. / 200, false},
		{"in the large class of one of which a portion is enough", []int{5000, 13000}, 1. / 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref, stream := planted.Gaussian(32, c.sizes, c.share, 7, 1).Split(1000, 1)
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
				if poison && got.Value[row] > 10 && !strings.Contains(got.Explain(row), "deviations out on a direction where") {
					t.Fatal(got.Explain(row))
				}
			}
		})
	}
}

// TestBackdoorsInSentenceEmbeddings: a displacement of real embeddings, whose own topics and styles are directions too.
func TestBackdoorsInSentenceEmbeddings(t *testing.T) {
	clean := planted.MiniLM(t, "badnets-sst2").Clean()
	for _, c := range []struct {
		share, deviations float64
		likeRows          bool
		want              float64
	}{
		{1. / 100, 8, true, 0.97},
		{1. / 100, 8, false, 0.97},
		{1. / 200, 8, true, 0.8},
		{1. / 200, 8, false, 0.8},
	} {
		var auc, at1 float64
		const draws = 3
		for seed := range uint64(draws) {
			ref, stream := clean.Backdoor(c.share, c.deviations, c.likeRows, seed).Split(1000, seed)
			a, r, _ := planted.Figures(scores(t, ref.Sample, stream.Sample).Value, stream.Poison)
			auc, at1 = auc+a/draws, at1+r/draws
		}
		t.Logf("1 in %.0f, %.0f deviations, like rows %v: ROC AUC %.3f, recall at 1 %% %.2f", 1/c.share, c.deviations, c.likeRows, auc, at1)
		if auc < c.want {
			t.Errorf("ROC AUC %.3f, want %.2f", auc, c.want)
		}
	}
	for _, name := range []string{"badnets-sst2", "style-sst2-5pct", "syntactic-sst2"} {
		ref, stream := planted.MiniLM(t, name).Split(1000, 1)
		auc, at1, at5 := planted.Figures(scores(t, ref.Sample, stream.Sample).Value, stream.Poison)
		t.Logf("%s: ROC AUC %.3f, recall at 1 %% %.2f, at 5 %% %.2f", name, auc, at1, at5)
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
