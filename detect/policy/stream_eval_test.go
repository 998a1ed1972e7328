package policy

import (
	"context"
	"math"
	"testing"

	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/schema/record"
)

// budgets that contracts are likely to have.
var budgets = [...]float64{0.001, 0.01, 0.05}

// overBudget judges a clean sample segment by segment, with memory, and returns the shares whose risk exceeds each budget.
func overBudget(t *testing.T, s *Scorer, clean planted.Set, segment int) (shares [len(budgets)]float64) {
	t.Helper()
	known, source := record.Memory{}, record.Source{Topic: "t", ID: "x"}
	for from := 0; from < clean.N; from += segment {
		rows := make([]int, min(segment, clean.N-from))
		offsets := make([]int64, len(rows))
		for i := range rows {
			rows[i], offsets[i] = from+i, int64(from+i)
		}
		d, _, err := s.follow(context.Background(), source, clean.Select(rows), offsets, known, func(*record.Decision) {})
		if err != nil {
			t.Fatal(err)
		}
		known.Own = d.State
		for _, risk := range d.Risks {
			for b, budget := range budgets {
				if risk >= 1-budget {
					shares[b] += 1 / float64(clean.N)
				}
			}
		}
	}
	return shares
}

func withinBudget(t *testing.T, what string, shares [len(budgets)]float64, n, m int, slack float64) {
	t.Helper()
	for b, budget := range budgets {
		err := math.Sqrt(budget * (1 - budget) * (1/float64(n) + 1/float64(m)))
		t.Logf("%s, budget %.1f %%: %.2f %% quarantined (%+.1f standard errors)", what, 100*budget, 100*shares[b], (shares[b]-budget)/err)
		if shares[b] > budget+slack*err {
			t.Errorf("%s: %.2f %% of clean rows quarantined at a budget of %.1f %%", what, 100*shares[b], 100*budget)
		}
	}
}

// The budget holds for all detectors together over clean streams that are judged segment by segment, as memory grows.
func TestBudgetHoldsOverRealStreams(t *testing.T) {
	for _, c := range []struct {
		name    string
		numbers []string
	}{
		{"text-backdoor/style-sst2-5pct.jsonl", nil},
		{"events/flights.jsonl", []string{"delay", "distance"}},
		{"tabular-anomaly/pendigits.jsonl.gz", nil},
		{"embedding-anomaly/cifar10_0-resnet18.jsonl.gz", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			// What 1,000 rows happen to tell of the tail differs from draw to draw: the mean of two.
			clean := planted.Read(t, c.name, c.numbers...).Clean()
			var with, without [len(budgets)]float64
			var n, m int
			for seed := range uint64(2) {
				ref, stream := clean.Split(1000, 3+seed)
				if stream.N > 4000 {
					stream = stream.Rows(permuted(stream.N, 4000))
				}
				n, m = stream.N, ref.N
				judged := overBudget(t, scorer(t, 0.01, ref.Sample, nil, 2), stream, 500)
				alone := overBudget(t, scorer(t, 0.01, nil, nil, 2), stream, 1000)
				for b := range budgets {
					with[b] += judged[b] / 2
					without[b] += alone[b] / 2
				}
			}
			withinBudget(t, "with a reference", with, n, m, 3)
			withinBudget(t, "without", without, n, n, 3)
		})
	}
}

// The same on reviews that are written for it, by those detectors that remember.
func TestBudgetHoldsOverAStream(t *testing.T) {
	if raced {
		t.Skip("the race detector is on: too slow, and nothing in it that other tests do not show")
	}
	w := detecttest.NewReviews(1)
	ref := w.Sample(600)
	clean := planted.Set{Sample: w.Sample(3000)}
	withinBudget(t, "reviews", overBudget(t, scorer(t, 0.01, ref, nil, 2), clean, 600), clean.N, ref.N, 3)
}
