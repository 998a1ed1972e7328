package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/drift"
	"github.com/tasterhq/taster/detect/nearduplicate"
	"github.com/tasterhq/taster/detect/provider"
	"github.com/tasterhq/taster/schema/finding"
)

// streams are the detectors that look at a whole stream, and one that looks at single records.
var streams = []detect.Detector{nearduplicate.Detector{}, drift.Detector{}, provider.Detector{}, detecttest.Spread{}}

// shops write records of ten providers that honestly differ: short texts, a tenth of them one of few notices that everybody sends,
// two features and a label.
type shops struct {
	rng   *rand.Rand
	words []string
	sent  [10]int
}

func newShops(seed uint64) *shops {
	s := &shops{rng: rand.New(rand.NewPCG(seed, 0x73686f70))}
	for i := range 4000 {
		s.words = append(s.words, fmt.Sprintf("w%x", i*2654435761%(1<<20)))
	}
	return s
}

func (s *shops) text() string {
	if s.rng.IntN(10) == 0 {
		return fmt.Sprintf("Dear customer, order %d was shipped by our partner number %d and will reach you within three to five working "+
			"days. Please keep this mail.", s.rng.IntN(1e6), s.rng.IntN(9))
	}
	var b strings.Builder
	for range 20 + s.rng.IntN(10) {
		b.WriteString(s.words[int(math.Exp(s.rng.Float64()*math.Log(4000)))-1])
		b.WriteByte(' ')
	}
	return b.String()
}

// segment writes n rows; plant may change row i, of a provider that has sent so many before.
func (s *shops) segment(n int, plant func(sample *detect.Sample, i, provider, sent int) bool) (*detect.Sample, []bool) {
	out := &detect.Sample{N: n, FeatureNames: []string{"price", "weight"}, Classes: []string{"no", "yes"}}
	for p := range s.sent {
		out.Providers = append(out.Providers, fmt.Sprint("shop ", p))
	}
	planted := make([]bool, n)
	for i := range n {
		p := s.rng.IntN(len(s.sent))
		out.Provider = append(out.Provider, int32(p))
		out.Text = append(out.Text, []byte(s.text()))
		out.Features = append(out.Features, s.rng.NormFloat64()+float64(p)/5, math.Exp(s.rng.NormFloat64()/2))
		out.Label = append(out.Label, int32(s.rng.IntN(2)))
		if plant != nil {
			planted[i] = plant(out, i, p, s.sent[p])
		}
		s.sent[p]++
	}
	return out, planted
}

type poured struct{ clean, alarms, planted, caught, recalled int }

func (p poured) String() string {
	return fmt.Sprintf("%d of %d clean rows quarantined (%.3f %%), %d of %d planted ones, and %d recalled", p.alarms, p.clean,
		100*float64(p.alarms)/float64(p.clean), p.caught, p.planted, p.recalled)
}

// pourShops judges a stream; what is planted counts from the given segment on.
func pourShops(t testing.TB, reference, segments, rows, from int, plant func(s *detect.Sample, i, provider, sent int) bool) (out poured) {
	t.Helper()
	ref, _ := newShops(1).segment(reference, nil)
	s := scorer(t, 0.01, ref, streams, 2)
	w, p := newShops(2), partition(0)
	poison := map[int64]bool{}
	for at := range segments {
		sample, planted := w.segment(rows, plant)
		first := p.next
		d := p.judge(t, s, sample)
		for i, v := range d.Verdicts {
			poison[first+2*int64(i)] = planted[i]
			hit := v == finding.Quarantined
			switch {
			case planted[i] && at >= from:
				out.planted++
				if hit {
					out.caught++
				}
			case !planted[i]:
				out.clean++
				if hit {
					out.alarms++
				}
			}
		}
		for _, r := range d.Recalls {
			if poison[r.Offset] {
				out.recalled++
			}
		}
	}
	return out
}

// TestStreamDetectorsKeepTheBudget: long clean streams with natural duplicates and providers that differ.
func TestStreamDetectorsKeepTheBudget(t *testing.T) {
	if os.Getenv("TASTER_EVAL_DATA") == "" {
		t.Skip("TASTER_EVAL_DATA is not set: long streams are run with the evaluation")
	}
	const segments, rows, reference = 200, 1000, 2000
	got := pourShops(t, reference, segments, rows, 0, nil)
	t.Log(got)
	const budget = 0.01
	if limit := budget + 3*math.Sqrt(budget*(1-budget)*(1.0/reference+1.0/(segments*rows))); float64(got.alarms)/float64(got.clean) > limit {
		t.Errorf("%v: want at most %.2f %%", got, 100*limit)
	}
}

// TestStreamDetectorsFindSlowAttacks: none of them shows in one segment.
func TestStreamDetectorsFindSlowAttacks(t *testing.T) {
	if os.Getenv("TASTER_EVAL_DATA") == "" {
		t.Skip("TASTER_EVAL_DATA is not set: long streams are run with the evaluation")
	}
	for _, c := range []struct {
		name           string
		segments, from int
		share          float64
		plant          func(s *detect.Sample, i, provider, sent int) bool
	}{
		{"a flood of a thousandth", 100, 50, 0.9, func(s *detect.Sample, i, _, sent int) bool {
			if i != 500 {
				return false
			}
			s.Text[i] = fmt.Appendf(nil, "The only charger worth your money is the Voltan %d, everybody who bought another one has regretted it "+
				"dearly so buy it here and buy it now", sent)
			return true
		}},
		{"one provider drifts", 300, 270, 0.25, func(s *detect.Sample, i, provider, sent int) bool {
			if provider != 4 {
				return false
			}
			s.Features[2*i] += 0.05 * float64(sent) / 1000
			return true
		}},
		{"new names that send the same", 60, 30, 0.9, func(s *detect.Sample, i, _, _ int) bool {
			if i%500 != 100 {
				return false
			}
			s.Providers = append(slices.Clip(s.Providers), fmt.Sprintf("sybil %x", s.Text[i][:12]))
			s.Provider[i] = int32(len(s.Providers) - 1)
			s.Text[i] = []byte("This lamp is the best lamp that my family has ever had and the seller is an honest man who ships within a day, five stars")
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := pourShops(t, 2000, c.segments, 1000, c.from, c.plant)
			t.Log(got)
			if share := float64(got.caught) / float64(got.planted); share < c.share {
				t.Errorf("%v: want %.2f of what is planted late", got, c.share)
			}
			if share := float64(got.alarms) / float64(got.clean); share > 0.02 {
				t.Errorf("%v: want at most 2 %% of the clean rows", got)
			}
		})
	}
}
