package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

// All detectors together, with memory, judge streams that lack what the reference has, and the other way round.
func TestOddStreamsWithMemory(t *testing.T) {
	if raced {
		t.Skip("the race detector is on: each detector's conformance shows it the same")
	}
	full := func(n int, seed uint64) *detect.Sample { return detecttest.Clean(n, seed) }
	edits := map[string]func(*detect.Sample){
		"everything": func(*detect.Sample) {},
		"new class": func(s *detect.Sample) {
			s.Classes = append(slices.Clip(s.Classes), "unheard of")
			for i := range s.Label {
				if i%3 == 0 {
					s.Label[i] = int32(len(s.Classes) - 1)
				}
			}
		},
		"new providers": func(s *detect.Sample) {
			for i := range s.Providers {
				s.Providers[i] = fmt.Sprint("new ", i)
			}
		},
		"no label":     func(s *detect.Sample) { s.Label, s.Classes = nil, nil },
		"no text":      func(s *detect.Sample) { s.Text = nil },
		"no embedding": func(s *detect.Sample) { s.Embedding, s.Dim, s.HasEmbedding = nil, 0, nil },
		"no features":  func(s *detect.Sample) { s.Features, s.FeatureNames = nil, nil },
	}
	for _, ref := range []*detect.Sample{nil, full(300, 99)} {
		s := scorer(t, 0.01, ref, nil, 2)
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range edits {
				if !yield(name) {
					return
				}
			}
		}) {
			t.Run(fmt.Sprintf("%s/reference %v", name, ref != nil), func(t *testing.T) {
				p := partition(0)
				n, flagged := 0, 0.0
				why := map[string]int{} // of the records quarantined, what counted most
				for i, rows := range []int{200, 1, 0, 2, 49, 200} {
					sample := full(rows, 200+uint64(i))
					sample = sample.Select(upTo(rows)) // not to change what Clean keeps
					sample.Classes, sample.Providers = slices.Clone(sample.Classes), slices.Clone(sample.Providers)
					edits[name](sample)
					d := p.judge(t, s, sample)
					if len(d.Verdicts) != rows || len(d.Risks) != rows || len(d.Forgotten) != 0 {
						t.Fatalf("%d rows: %d verdicts, forgotten %v", rows, len(d.Verdicts), d.Forgotten)
					}
					for _, risk := range d.Risks {
						if !(risk >= 0 && risk <= 1) {
							t.Fatalf("risk %v", risk)
						}
					}
					for _, findings := range d.Findings {
						why[findings[0].Detector]++
					}
					if rows > 0 {
						n += rows
						flagged += quarantined(d, every) * float64(rows)
					}
				}
				// That a provider sends none of what it sent in the reference is a drift like another.
				if lacking := ref != nil && strings.HasPrefix(name, "no "); !lacking && flagged > 0.1*float64(n) {
					t.Log(why)
					t.Errorf("%.0f of %d clean rows quarantined at a budget of 1 %%", flagged, n)
				}
			})
		}
	}
}
