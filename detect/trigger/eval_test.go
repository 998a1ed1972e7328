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
			var guided, associations, shares []figures
			for seed := range uint64(5) {
				reference, stream := whole.Split(1000, seed)
				guided = append(guided, run(t, Detector{}, reference.Sample, stream))
				associations = append(associations, run(t, Association{}, reference.Sample, stream))
				r, s := *reference.Sample, stream
				bare := *s.Sample
				r.Label, bare.Label = nil, nil
				s.Sample = &bare
				shares = append(shares, run(t, Detector{}, &r, s))
			}
			got := mean(guided)
			t.Logf("association %.3f, trigger with a reference %.3f, without labels %.3f, unsupervised %.3f", mean(associations), got, mean(shares), run(t, Detector{}, whole.Sample, whole))
			for k, name := range []string{"AUROC", "recall at 1 %", "recall at 5 %"} {
				if got[k] <= c.want[k] {
					t.Errorf("%s %.3f: want more than %.3f", name, got[k], c.want[k])
				}
			}
		})
	}
}

func run(t testing.TB, detector detect.Detector, reference *detect.Sample, stream planted.Set) figures {
	t.Helper()
	env := detect.Env{Seed: 1, Workers: 2}
	m, err := detector.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	auc, at1, at5 := planted.Figures(m.Score(stream.Sample, env).Value, stream.Poison)
	return figures{auc, at1, at5}
}

// One row in a hundred of the reference holds the very poison that it shall find. What is as common there as in the stream
// blinds the trigger detector; association, to which shares are nothing, has to find it.
func TestPoisonInReference(t *testing.T) {
	whole := planted.Read(t, "text-backdoor/badnets-sst2.jsonl")
	var triggers, associations []figures
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
		dirty, others := reference.Join(stream.Select(dirt)), stream.Rows(rest)
		triggers = append(triggers, run(t, Detector{}, dirty, others))
		associations = append(associations, run(t, Association{}, dirty, others))
	}
	got := mean(associations)
	t.Logf("trigger %.3f, association %.3f", mean(triggers), got)
	if got[0] < 0.9 {
		t.Errorf("AUROC %.3f: want 0.9", got[0])
	}
}
