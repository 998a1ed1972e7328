package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/activation"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/nearduplicate"
	"github.com/tasterhq/taster/detect/spectral"
	"github.com/tasterhq/taster/schema/finding"
)

// TestBudgetHoldsOnVectors: detectors that look for groups of vectors, each alone, find none worth the budget in clean rows.
func TestBudgetHoldsOnVectors(t *testing.T) {
	const budget, draws = 0.01, 1
	for _, c := range []struct {
		name string
		rows func(t *testing.T) planted.Set
	}{
		{"classes of one mode", func(t *testing.T) planted.Set { return planted.Gaussian(24, []int{2500, 1200, 300}, 0, 0, 5) }},
		{"sentence embeddings", func(t *testing.T) planted.Set { return planted.MiniLM(t, "badnets-sst2").Clean() }},
		{"image embeddings without labels", func(t *testing.T) planted.Set {
			return planted.Read(t, "embedding-anomaly/cifar10_0-resnet18.jsonl.gz").Clean()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean := c.rows(t)
			for _, d := range []detect.Detector{spectral.Detector{}, activation.Detector{}} {
				for _, with := range []bool{true, false} {
					share, n, known := 0.0, 0, 0
					for seed := range uint64(draws) {
						ref, stream := clean.Split(min(1000, clean.N/2), seed)
						if stream.N > 4000 {
							stream = stream.Rows(rand.New(rand.NewPCG(seed, 3)).Perm(stream.N)[:4000])
						}
						n, known = stream.N, ref.N
						s := scorer(t, budget, ref.Sample, []detect.Detector{d}, 2)
						if !with {
							known = n
							s = scorer(t, budget, nil, []detect.Detector{d}, 2)
						}
						for _, v := range judge(t, s, stream.Sample).Verdicts {
							if v == finding.Quarantined {
								share += 1 / float64(draws*n)
							}
						}
					}
					deviation := math.Sqrt(budget * (1 - budget) * (1/float64(n) + 1/float64(known)))
					t.Logf("%-10s reference %-5v %.2f %% quarantined (standard error %.2f)", d.Name(), with, 100*share, 100*deviation)
					if share > budget+3*deviation {
						t.Errorf("%s: %.2f %% of clean rows quarantined, reference %v", d.Name(), 100*share, with)
					}
				}
			}
		})
	}
}

// BenchmarkVectors is the default set on records with an embedding and a label and nothing else: how many it judges in a second.
func BenchmarkVectors(b *testing.B) {
	for _, dim := range []int{32, 384, 1024} {
		for _, known := range []int{1000, 10000} {
			class := (49152 + known) / 2 // of one origin: a stream about other centres is quarantined and explained whole
			ref, stream := planted.Gaussian(dim, []int{class, class}, 0.01, 6, 2).Split(known, 1)
			for _, d := range []detect.Detector{nil, embedding.Detector{}, spectral.Detector{}, activation.Detector{}, nearduplicate.Detector{}} {
				detectors, name := []detect.Detector(nil), "default"
				if d != nil {
					detectors, name = []detect.Detector{d}, d.Name()
				}
				b.Run(fmt.Sprintf("%s/d=%d/reference=%d", name, dim, known), func(b *testing.B) {
					s := scorer(b, 0.01, ref.Sample, detectors, 2)
					b.ReportAllocs()
					b.SetBytes(int64(4 * len(stream.Embedding)))
					for b.Loop() {
						judge(b, s, stream.Sample)
					}
					b.ReportMetric(float64(stream.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
				})
			}
		}
	}
}
