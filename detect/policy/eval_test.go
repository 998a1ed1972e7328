package policy

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// truth is a sample of which it is known what is poison.
type truth struct {
	*detect.Sample
	poison []bool
}

func (d truth) rows(rows []int) truth {
	out := truth{Sample: d.Select(rows)}
	for _, i := range rows {
		out.poison = append(out.poison, d.poison[i])
	}
	return out
}

func (d truth) clean() truth {
	var rows []int
	for i, poison := range d.poison {
		if !poison {
			rows = append(rows, i)
		}
	}
	return d.rows(rows)
}

// split takes m clean rows at random as a reference.
func (d truth) split(m int, seed uint64) (reference, stream truth) {
	var first, rest []int
	for _, i := range rand.New(rand.NewPCG(seed, 77)).Perm(d.N) {
		if len(first) < m && !d.poison[i] {
			first = append(first, i)
		} else {
			rest = append(rest, i)
		}
	}
	slices.Sort(first)
	slices.Sort(rest)
	return d.rows(first), d.rows(rest)
}

// permuted returns m of n numbers at random.
func permuted(n, m int) []int { return rand.New(rand.NewPCG(uint64(n), 3)).Perm(n)[:m] }

// load reads one of the evaluation sets: any of text and label, x or numbers by name, embedding.
func load(t testing.TB, name string, numbers ...string) truth {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	raw, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	d := truth{Sample: &detect.Sample{FeatureNames: numbers}}
	for line := range bytes.Lines(raw) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		if text, ok := row["text"].(string); ok {
			d.Text = append(d.Text, []byte(text))
			label := row["label"].(string)
			class := slices.Index(d.Classes, label)
			if class < 0 {
				class = len(d.Classes)
				d.Classes = append(d.Classes, label)
			}
			d.Label = append(d.Label, int32(class))
		}
		for _, name := range numbers {
			v, ok := row[name].(float64)
			if !ok {
				v = math.NaN()
			}
			d.Features = append(d.Features, v)
		}
		if x, ok := row["x"].([]any); ok {
			for j, v := range x {
				d.Features = append(d.Features, v.(float64))
				if d.N == 0 {
					d.FeatureNames = append(d.FeatureNames, string(rune('a'+j%26)))
				}
			}
		}
		if x, ok := row["embedding"].([]any); ok {
			d.Dim = len(x)
			for _, v := range x {
				d.Embedding = append(d.Embedding, float32(v.(float64)))
			}
		}
		poison, _ := row["poison"].(float64)
		anomaly, _ := row["anomaly"].(float64)
		d.poison = append(d.poison, poison+anomaly > 0)
		d.N++
	}
	return d
}

// figures are AUROC and recall at 1 % and 5 % false alarms; rows that tie are flagged together.
func figures(score []float64, poison []bool) [3]float64 {
	order := make([]int, len(score))
	bad := 0.0
	for i := range order {
		order[i] = i
		if poison[i] {
			bad++
		}
	}
	clean := float64(len(poison)) - bad
	sort.Slice(order, func(a, b int) bool { return score[order[a]] > score[order[b]] })
	var out [3]float64
	hits, alarms := 0.0, 0.0
	for from := 0; from < len(order); {
		to, h, a := from, 0.0, 0.0
		for ; to < len(order) && score[order[to]] == score[order[from]]; to++ {
			if poison[order[to]] {
				h++
			} else {
				a++
			}
		}
		out[0] += a * (hits + h/2) / bad / clean
		hits, alarms, from = hits+h, alarms+a, to
		for k, limit := range []float64{0.01, 0.05} {
			if alarms <= limit*clean {
				out[k+1] = hits / bad
			}
		}
	}
	return out
}

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
			all := load(t, "text-backdoor/"+c.name+".jsonl")
			var overall [3]float64
			own := map[string][3]float64{}
			var recall, alarms float64
			for seed := range uint64(draws) {
				ref, stream := all.split(1000, seed)
				s := scorer(t, 0.01, ref.Sample, nil, 2)
				d, details, err := s.judge(context.Background(), stream.Sample, nil)
				if err != nil {
					t.Fatal(err)
				}
				add := func(sum [3]float64, score []float64) [3]float64 {
					f := figures(score, stream.poison)
					for k := range f {
						sum[k] += f[k] / draws
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
				recall += quarantined(d, func(i int) bool { return stream.poison[i] }) / draws
				alarms += quarantined(d, func(i int) bool { return !stream.poison[i] }) / draws
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
			clean := load(t, c.name, c.numbers...).clean()
			m := min(1000, clean.N/2)
			const draws = 2
			for _, with := range []bool{true, false} {
				var mean [3]float64
				var known, n int
				budgets := [...]float64{0.001, 0.01, 0.05}
				for seed := range uint64(draws) {
					ref, stream := clean.split(m, seed)
					if stream.N > 6000 {
						stream = stream.rows(rand.New(rand.NewPCG(seed, 3)).Perm(stream.N)[:6000])
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
