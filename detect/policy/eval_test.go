package policy

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/tasterhq/taster/detect/detecttest/planted"
)

// permuted returns m of n numbers at random.
func permuted(n, m int) []int { return rand.New(rand.NewPCG(uint64(n), 3)).Perm(n)[:m] }

// Backdoors in text against 1,000 clean rows: the overall risk must keep what the best detector sees. The floors are
// the figures of a short published-style baseline (word, word pair and sentence start frequencies and label purity,
// or residual association, whichever is better).
func TestBackdoors(t *testing.T) {
	const draws = 5
	for _, c := range []struct {
		name  string
		floor [3]float64
	}{
		{"badnets-sst2", [3]float64{0.923, 0.52, 0.74}},
		{"syntactic-sst2", [3]float64{0.968, 0.32, 0.88}},
		{"style-sst2-5pct", [3]float64{0.863, 0.05, 0.38}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := planted.Read(t, "text-backdoor/"+c.name+".jsonl")
			var overall [3]float64
			own := map[string][3]float64{}
			var recall, alarms float64
			for seed := range uint64(draws) {
				ref, stream := all.Split(1000, seed)
				s := scorer(t, 0.01, ref.Sample, nil, 2)
				d, details, err := s.judge(context.Background(), stream.Sample, nil)
				if err != nil {
					t.Fatal(err)
				}
				add := func(sum [3]float64, score []float64) [3]float64 {
					auc, at1, at5 := planted.Figures(score, stream.Poison)
					for k, f := range []float64{auc, at1, at5} {
						sum[k] += f / draws
					}
					return sum
				}
				overall = add(overall, d.Risks)
				for _, detail := range details {
					suspicion := make([]float64, stream.N)
					for i, lp := range detail.LogP {
						suspicion[i] = -lp
					}
					own[detail.Detector] = add(own[detail.Detector], suspicion)
				}
				recall += quarantined(d, func(i int) bool { return stream.Poison[i] }) / draws
				alarms += quarantined(d, func(i int) bool { return !stream.Poison[i] }) / draws
			}
			t.Logf("overall %.3f  budget 1 %%: recall %.3f, clean quarantined %.4f", overall, recall, alarms)
			for name, f := range own {
				t.Logf("  %-15s %.3f", name, f)
			}
			for k, floor := range c.floor {
				if overall[k] <= floor {
					t.Errorf("figure %d is %.3f, want more than %.3f", k, overall[k], floor)
				}
			}
		})
	}
}

// The budget holds on clean rows of every kind, with a reference and without.
func TestBudgetHoldsOnRealCleanData(t *testing.T) {
	for _, c := range []struct {
		name    string
		numbers []string
	}{
		{"text-backdoor/badnets-sst2.jsonl", nil},
		{"text-backdoor/syntactic-sst2.jsonl", nil},
		{"text-backdoor/style-sst2-5pct.jsonl", nil},
		{"events/flights.jsonl", []string{"delay", "distance"}},
		{"tabular-anomaly/cardio.jsonl.gz", nil},
		{"tabular-anomaly/letter.jsonl.gz", nil},
		{"tabular-anomaly/mnist.jsonl.gz", nil},
		{"tabular-anomaly/optdigits.jsonl.gz", nil},
		{"tabular-anomaly/pendigits.jsonl.gz", nil},
		{"tabular-anomaly/satellite.jsonl.gz", nil},
		{"embedding-anomaly/cifar10_0-resnet18.jsonl.gz", nil},
		{"embedding-anomaly/20news_3-bert.jsonl.gz", nil},
	} {
		t.Run(filepath.Base(c.name), func(t *testing.T) {
			clean := planted.Read(t, c.name, c.numbers...).Clean()
			m := min(1000, clean.N/2)
			const draws = 2
			for _, with := range []bool{true, false} {
				var mean [3]float64
				var known, n int
				budgets := [...]float64{0.001, 0.01, 0.05}
				for seed := range uint64(draws) {
					ref, stream := clean.Split(m, seed)
					if stream.N > 6000 {
						stream = stream.Rows(rand.New(rand.NewPCG(seed, 3)).Perm(stream.N)[:6000])
					}
					n, known = stream.N, stream.N
					s := scorer(t, 0.5, nil, nil, 2)
					if with {
						known = m
						s = scorer(t, 0.5, ref.Sample, nil, 2)
					}
					details, err := s.details(context.Background(), stream.Sample, nil)
					if err != nil {
						t.Fatal(err)
					}
					d := newDecision(n)
					s.decide(d, details)
					for b, budget := range budgets {
						for _, risk := range d.Risks {
							if risk >= 1-budget {
								mean[b] += 1 / float64(draws*n)
							}
						}
					}
				}
				for b, budget := range budgets {
					error := math.Sqrt(budget * (1 - budget) * (1/float64(n) + 1/float64(known)))
					t.Logf("budget %.1f %%, reference %v: %.2f %% quarantined (standard error %.2f)", 100*budget, with, 100*mean[b], 100*error)
					if mean[b] > budget+2.5*error {
						t.Errorf("%.2f %% of clean rows quarantined at a budget of %.1f %%, reference %v", 100*mean[b], 100*budget, with)
					}
				}
			}
		})
	}
}
