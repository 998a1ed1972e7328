package policy

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

var plain = []detect.Detector{detecttest.Spread{}, detecttest.Repeats{}}

func scorer(t testing.TB, budget float64, ref *detect.Sample, detectors []detect.Detector, workers int) *Scorer {
	t.Helper()
	var r *reference.Reference
	if ref != nil {
		var err error
		if r, err = reference.New(reference.Header{Topic: "t"}, ref); err != nil {
			t.Fatal(err)
		}
		r.Name = "t@1"
	}
	c := &contract.Contract{Path: "t.yaml", Detect: contract.Detect{Budget: budget}}
	s, err := New(c, r, Options{Detectors: detectors, Seed: 1, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func judge(t testing.TB, s *Scorer, sample *detect.Sample) *record.Decision {
	t.Helper()
	d, _, err := s.judge(context.Background(), sample, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func quarantined(d *record.Decision, rows func(i int) bool) float64 {
	hit, all := 0, 0
	for i, v := range d.Verdicts {
		if rows(i) {
			all++
			if v == finding.Quarantined {
				hit++
			}
		}
	}
	return float64(hit) / float64(all)
}

func every(int) bool { return true }

func TestBudgetHoldsOnCleanData(t *testing.T) {
	const n = 4000
	for _, c := range []struct{ m int }{{0}, {300}, {1000}, {4000}} {
		for _, budget := range []float64{0.001, 0.01, 0.05} {
			m := c.m
			var ref *detect.Sample
			if m > 0 {
				ref = detecttest.Clean(m, 1)
			} else {
				m = n
			}
			s := scorer(t, budget, ref, plain, 2)
			var mean float64
			for seed := range uint64(5) {
				mean += quarantined(judge(t, s, detecttest.Clean(n, 10+seed)), every) / 5
			}
			error := math.Sqrt(budget * (1 - budget) * (1/float64(n) + 1/float64(m)))
			t.Logf("%d reference rows, budget %.1f %%: %.2f %% quarantined (standard error %.2f)", c.m, 100*budget, 100*mean, 100*error)
			if mean > budget+2.5*error {
				t.Errorf("%d reference rows: %.2f %% of clean rows quarantined at a budget of %.1f %%", c.m, 100*mean, 100*budget)
			}
		}
	}
}

// withPoison returns clean rows of which the first k were poisoned: half by features far out, half by a flood of one text.
func withPoison(n, k int, seed uint64) *detect.Sample {
	s := detecttest.Clean(n, seed)
	for i := range k {
		if i%2 == 0 {
			s.Features[4*i+1] = 400 + float64(i%7)
		} else {
			s.Text[i] = []byte("buy now, buy here, buy it all")
		}
	}
	return s
}

func TestPoisonIsQuarantinedWithEvidence(t *testing.T) {
	for _, m := range []int{0, 1000} {
		for _, k := range []int{20, 200, 800} {
			var ref *detect.Sample
			if m > 0 {
				ref = detecttest.Clean(m, 1)
			}
			const n = 4000
			d := judge(t, scorer(t, 0.01, ref, plain, 2), withPoison(n, k, 3))
			recall := quarantined(d, func(i int) bool { return i < k })
			clean := quarantined(d, func(i int) bool { return i >= k })
			t.Logf("reference %d, %d poisoned: recall %.3f, clean quarantined %.4f, risk %.6f", m, k, recall, clean, d.Risk)
			if recall < 0.95 {
				t.Errorf("reference %d: recall %.3f of %d poisoned rows", m, recall, k)
			}
			if clean > 0.02 {
				t.Errorf("reference %d: %.4f of the clean rows quarantined beside %d poisoned", m, clean, k)
			}
			if d.Risk < 0.99 {
				t.Errorf("reference %d: the segment's risk is %.3f", m, d.Risk)
			}
			for i := range k {
				if d.Verdicts[i] != finding.Quarantined {
					continue
				}
				want := finding.PoisonOutlier
				if i%2 == 1 {
					want = finding.PoisonNearDuplicate
				}
				if len(d.Reasons[i]) == 0 || d.Reasons[i][0] != want {
					t.Fatalf("row %d has reasons %v, want %s first", i, d.Reasons[i], want)
				}
				f := d.Findings[i][0]
				if f.Evidence == "" || f.PValue > f.Threshold || f.PValue <= 0 || f.Threshold <= 0 || f.Threshold >= 1 {
					t.Fatalf("row %d has finding %+v", i, f)
				}
			}
		}
	}
}

// What is judged does not depend on workers, on when, or on what else a Scorer does.
func TestSameDecision(t *testing.T) {
	stream := withPoison(9000, 100, 5)
	for _, ref := range []*detect.Sample{nil, detecttest.Clean(500, 1)} {
		want := judge(t, scorer(t, 0.01, ref, plain, 1), stream)
		for _, workers := range []int{1, 2, 8} {
			s := scorer(t, 0.01, ref, plain, workers)
			results := make(chan *record.Decision, 3)
			for range 3 {
				go func() {
					d, _, err := s.judge(context.Background(), stream, nil)
					if err != nil {
						t.Error(err)
					}
					results <- d
				}()
			}
			for range 3 {
				if got := <-results; !reflect.DeepEqual(got, want) {
					t.Fatalf("%d workers: another decision", workers)
				}
			}
		}
	}
}

func TestDegenerateSegments(t *testing.T) {
	for _, ref := range []*detect.Sample{nil, detecttest.Clean(60, 1)} {
		s := scorer(t, 0.01, ref, plain, 2)
		for _, n := range []int{0, 1, 2, 49, 51} {
			d := judge(t, s, detecttest.Clean(n, 2))
			if len(d.Verdicts) != n || len(d.Risks) != n {
				t.Fatalf("%d rows: %d verdicts", n, len(d.Verdicts))
			}
			for _, r := range d.Risks {
				if !(r >= 0 && r < 1) {
					t.Fatalf("%d rows: risk %v", n, r)
				}
			}
			if !(d.Risk >= 0 && d.Risk <= 1) {
				t.Fatalf("%d rows: segment risk %v", n, d.Risk)
			}
		}
		same := detecttest.Clean(1, 2).Select(make([]int, 500))
		judge(t, s, same)
		judge(t, s, &detect.Sample{N: 20})
	}
}

func TestChoose(t *testing.T) {
	settings := func(on bool) map[string]any { return map[string]any{"enabled": on} }
	for _, c := range []struct {
		named map[string]map[string]any
		want  string
		fails string
	}{
		{nil, "spread repeats", ""},
		{map[string]map[string]any{"spread": {}}, "", "the only setting"},
		{map[string]map[string]any{"spread": settings(true)}, "spread", ""},
		{map[string]map[string]any{"spread": settings(false)}, "repeats", ""},
		{map[string]map[string]any{"spread": settings(true), "repeats": settings(false)}, "spread", ""},
		{map[string]map[string]any{"spred": nil}, "", `no detector "spred": want one of repeats, spread`},
		{map[string]map[string]any{"spread": {"k": 5}}, "", "the only setting is enabled"},
	} {
		if c.fails == "the only setting" {
			c.fails, c.want = "", "spread" // named without settings: on
		}
		got, err := choose(plain, c.named)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v: error %v, want %q", c.named, err, c.fails)
			}
			continue
		}
		var names []string
		for _, d := range got {
			names = append(names, d.Name())
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("%v: %v, %v, want %s", c.named, names, err, c.want)
		}
	}
}

// One detector that sees poison must not be drowned by others that see nothing.
func TestBlindDetectorsDoNotDilute(t *testing.T) {
	detectors := []detect.Detector{detecttest.Spread{}, noise{1}, noise{2}, noise{3}, noise{4}}
	const n, k = 5000, 100
	stream := detecttest.Clean(n, 3)
	for i := range k {
		stream.Features[4*i] = 40
	}
	caught := func(detectors []detect.Detector) float64 {
		return quarantined(judge(t, scorer(t, 0.01, detecttest.Clean(1000, 1), detectors, 2), stream), func(i int) bool { return i < k })
	}
	alone, among := caught(detectors[:1]), caught(detectors)
	t.Logf("recall alone %.3f, among four that see nothing %.3f", alone, among)
	if among < alone-0.1 {
		t.Errorf("recall falls from %.3f to %.3f", alone, among)
	}
}

// noise knows nothing: its score is a hash of the row's text.
type noise struct{ salt uint64 }

func (d noise) Name() string                                         { return fmt.Sprintf("noise_%d", d.salt) }
func (d noise) Fit(*detect.Sample, detect.Env) (detect.Model, error) { return d, nil }
func (d noise) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i := range value {
		h := d.salt
		for _, b := range s.Text[i] {
			h = h*1099511628211 + uint64(b)
		}
		value[i] = rand.New(rand.NewPCG(h, d.salt)).NormFloat64()
	}
	return detect.Scores{Value: value, Code: finding.PoisonEmbedding, Explain: func(int) string { return "nothing" }}
}

func TestReferenceTooSmall(t *testing.T) {
	r, err := reference.New(reference.Header{}, detecttest.Clean(12, 1))
	if err != nil {
		t.Fatal(err)
	}
	r.Name = "t@7"
	_, err = New(&contract.Contract{}, r, Options{Detectors: plain})
	if err == nil || !strings.Contains(err.Error(), "t@7 holds 12 rows") {
		t.Errorf("error %v", err)
	}
}

func TestClip(t *testing.T) {
	long := string(bytes.Repeat([]byte("é"), 400))
	if got := clip(long); len(got) > longestProof+len("…") || strings.ContainsRune(got, '\ufffd') {
		t.Errorf("clipped to %d bytes", len(got))
	}
}

func BenchmarkDecide(b *testing.B) {
	const n = 100_000
	s := scorer(b, 0.01, detecttest.Clean(10_000, 1), []detect.Detector{noise{1}, noise{2}, noise{3}, noise{4}, noise{5}}, 2)
	details, err := s.details(context.Background(), detecttest.Clean(n, 2), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d := newDecision(n)
		for i := range s.fitted {
			f := &s.fitted[i]
			details[i].LogP = f.logP(&detect.Sample{N: n}, calibrated{Scores: details[i].scores}, 2)
		}
		s.decide(d, details)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}
