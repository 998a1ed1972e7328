package trigger

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
)

type poisoned struct {
	*detect.Sample
	poison []bool
}

func (p poisoned) rows(rows []int) poisoned {
	out := poisoned{Sample: p.Select(rows)}
	for _, i := range rows {
		out.poison = append(out.poison, p.poison[i])
	}
	return out
}

// readBackdoor reads one of the shared sets.
func readBackdoor(t testing.TB, name string) poisoned {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	raw, err := os.ReadFile(filepath.Join(folder, "text-backdoor", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	out := poisoned{Sample: &detect.Sample{}}
	for line := range bytes.Lines(raw) {
		var row struct {
			Text, Label string
			Poison      int
		}
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		class := slices.Index(out.Classes, row.Label)
		if class < 0 {
			class = len(out.Classes)
			out.Classes = append(out.Classes, row.Label)
		}
		out.Text = append(out.Text, []byte(row.Text))
		out.Label = append(out.Label, int32(class))
		out.poison = append(out.poison, row.Poison == 1)
		out.N++
	}
	return out
}

// split takes n clean rows out at random as a reference.
func (p poisoned) split(n int, seed uint64) (reference, stream poisoned) {
	var first, rest []int
	for _, i := range rand.New(rand.NewPCG(seed, 77)).Perm(p.N) {
		if len(first) < n && !p.poison[i] {
			first = append(first, i)
		} else {
			rest = append(rest, i)
		}
	}
	slices.Sort(first)
	slices.Sort(rest)
	return p.rows(first), p.rows(rest)
}

// figures are AUROC, recall at 1 % and at 5 % false positives.
type figures [3]float64

func measure(score []float64, poison []bool) figures {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case score[a] > score[b]:
			return -1
		case score[a] < score[b]:
			return 1
		}
		return 0
	})
	good, bad := 0, 0
	for _, p := range poison {
		if p {
			bad++
		} else {
			good++
		}
	}
	var out figures
	area, hits, false1 := 0.0, 0, 0
	for from := 0; from < len(order); {
		to, h, f := from, 0, 0
		for ; to < len(order) && score[order[to]] == score[order[from]]; to++ {
			if poison[order[to]] {
				h++
			} else {
				f++
			}
		}
		area += float64(f) * (float64(hits) + float64(h)/2)
		hits, false1 = hits+h, false1+f
		for k, limit := range []float64{0.01, 0.05} {
			if float64(false1) <= limit*float64(good) {
				out[k+1] = float64(hits) / float64(bad)
			}
		}
		from = to
	}
	out[0] = area / float64(good) / float64(bad)
	return out
}

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
			whole := readBackdoor(t, c.name)
			var guided, shares []figures
			for seed := range uint64(5) {
				reference, stream := whole.split(1000, seed)
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

func run(t testing.TB, reference *detect.Sample, stream poisoned) figures {
	t.Helper()
	env := detect.Env{Seed: 1, Workers: 2}
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	return measure(m.Score(stream.Sample, env).Value, stream.poison)
}

// One row in a hundred of the reference holds the very poison that it shall find: of what a reference knows, nothing may
// excuse it. The floor is what was had before words had to answer for their places whether they are known or not.
func TestPoisonInReference(t *testing.T) {
	whole := readBackdoor(t, "badnets-sst2")
	var all []figures
	for seed := range uint64(3) {
		reference, stream := whole.split(1000, seed)
		var dirt, rest []int
		for i, poison := range stream.poison {
			if poison && len(dirt) < 10 {
				dirt = append(dirt, i)
			} else {
				rest = append(rest, i)
			}
		}
		all = append(all, run(t, reference.Join(stream.Select(dirt)), stream.rows(rest)))
	}
	got := mean(all)
	t.Logf("%.3f", got)
	if got[0] < 0.8 {
		t.Errorf("AUROC %.3f: want 0.8", got[0])
	}
}
