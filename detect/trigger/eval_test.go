package trigger

import (
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

// figures are AUROC, recall at 1 % and at 5 % false positives.
type figures [3]float64

func mean(all []figures) (out figures) {
	for _, f := range all {
		for k := range f {
			out[k] += f[k] / float64(len(all))
		}
	}
	return out
}

func TestPublicBackdoors(t *testing.T) {
	for _, c := range []struct {
		name string
		want figures
	}{
		{"badnets-sst2", figures{0.923, 0.52, 0.74}},
		{"syntactic-sst2", figures{0.968, 0.32, 0.88}},
		{"style-sst2-5pct", figures{0.863, 0.05, 0.38}},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := planted.Read(t, "text-backdoor/"+c.name+".jsonl")
			var guided, shares []figures
			for seed := range uint64(5) {
				reference, stream := whole.Split(1000, seed)
				guided = append(guided, run(t, reference.Sample, stream))
				r, s := *reference.Sample, stream
				bare := *s.Sample
				r.Label, bare.Label = nil, nil
				s.Sample = &bare
				shares = append(shares, run(t, &r, s))
			}
			got := mean(guided)
			t.Logf("with a reference %.3f, without labels %.3f, unsupervised %.3f", got, mean(shares), run(t, whole.Sample, whole))
			for k, name := range []string{"AUROC", "recall at 1 %", "recall at 5 %"} {
				if got[k] <= c.want[k] {
					t.Errorf("%s %.3f: want more than %.3f", name, got[k], c.want[k])
				}
			}
		})
	}
}

func run(t testing.TB, reference *detect.Sample, stream planted.Set) figures {
	t.Helper()
	env := detect.Env{Seed: 1, Workers: 2}
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	auc, at1, at5 := planted.Figures(m.Score(stream.Sample, env).Value, stream.Poison)
	return figures{auc, at1, at5}
}

// One row in a hundred of the reference holds the very poison that it shall find: of what a reference knows, nothing may
// excuse it. The floor is beyond what was had before a text that contradicts its label made a feature count for more.
func TestPoisonInReference(t *testing.T) {
	whole := planted.Read(t, "text-backdoor/badnets-sst2.jsonl")
	var all []figures
	for seed := range uint64(3) {
		reference, stream := whole.Split(1000, seed)
		var dirt, rest []int
		for i, poison := range stream.Poison {
			if poison && len(dirt) < 10 {
				dirt = append(dirt, i)
			} else {
				rest = append(rest, i)
			}
		}
		all = append(all, run(t, reference.Join(stream.Select(dirt)), stream.Rows(rest)))
	}
	got := mean(all)
	t.Logf("%.3f", got)
	if got[0] < 0.9 {
		t.Errorf("AUROC %.3f: want 0.9", got[0])
	}
}
