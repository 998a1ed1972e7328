package valuetrigger

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

var env = detect.Env{Seed: 7, Workers: 2}

// numbers returns rows with nothing but features.
func numbers(n int, seed uint64) *detect.Sample {
	s := detecttest.Clean(n, seed)
	s.Text, s.Embedding, s.Dim, s.HasEmbedding = nil, nil, 0, nil
	return s
}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, numbers)
	detecttest.RunMemory(t, Detector{}, numbers, MaxMemory)
}

// names of shop's features.
var names = []string{"amount", "minutes", "route", "stars", "votes", "sometimes"}

// shop returns n rows of numbers such as tables have: amounts with two digits behind the point, minutes that are whole, distances of 300 routes,
// small whole numbers, two of which hang together, and a value that half of the rows lack.
func shop(rng *rand.Rand, n int) *detect.Sample {
	s := &detect.Sample{N: n, FeatureNames: names}
	for range n {
		route := int(300 * math.Pow(rng.Float64(), 2))
		stars := 1 + rng.IntN(5)
		sometimes := math.NaN()
		if rng.IntN(2) == 0 {
			sometimes = rng.NormFloat64()
		}
		s.Features = append(s.Features, math.Round(100*math.Exp(3+rng.NormFloat64()))/100, math.Round(30*rng.NormFloat64()),
			float64(100+route*route%4801), float64(stars), float64(stars/4+rng.IntN(3)), sometimes)
	}
	return s
}

func set(s *detect.Sample, row, feature int, v float64) { s.Features[row*len(names)+feature] = v }

func fit(t testing.TB, reference *detect.Sample) *model {
	t.Helper()
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	return m.(*model)
}

// high returns which shares of planted and of other rows have a score: 2 to 4 times as many records have a value as are expected, or
func high(value []float64, planted func(i int) bool) (recall, others float64) {
	var hit, poison, alarms, clean float64
	for i, v := range value {
		above := 0.0
		if v > 0 {
			above = 1
		}
		if planted(i) {
			poison, hit = poison+1, hit+above
		} else {
			clean, alarms = clean+1, alarms+above
		}
	}
	return hit / math.Max(1, poison), alarms / clean
}

func TestFixedValues(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(s *detect.Sample, row int)
		want  string // of the evidence
	}{
		{"a value", func(s *detect.Sample, row int) { set(s, row, 0, 191.37) }, "amount = 191.37"},
		{"a whole number in the tail", func(s *detect.Sample, row int) { set(s, row, 1, 83) }, "minutes = 83"},
		{"a pair of values that are common", func(s *detect.Sample, row int) { set(s, row, 3, 1); set(s, row, 4, 3) }, "stars = 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			m := fit(t, shop(rng, 1000))
			s := shop(rng, 5000)
			planted := func(i int) bool { return i%100 == 0 }
			last := 0
			for i := range s.N {
				if planted(i) {
					c.plant(s, i)
					last = i
				}
			}
			scores := m.Score(s, env)
			recall, others := high(scores.Value, planted)
			if recall < 1 || others > 0.01 {
				t.Errorf("recall %.3f, %.4f of the others above 0; %s", recall, others, scores.Explain(last))
			}
			if e := scores.Explain(last); !strings.Contains(e, c.want) || !strings.Contains(e, "of the 5000 records") {
				t.Errorf("evidence %q does not tell of %s", e, c.want)
			}
		})
	}
}

// What recurs honestly, in the reference or not, is no trigger.
func TestHonestValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, m := range []int{100, 1000} {
		value := fit(t, shop(rng, m)).Score(shop(rng, 5000), env).Value
		if _, others := high(value, func(int) bool { return false }); others > 0.01 {
			t.Errorf("with %d rows as reference %.4f of clean rows have a score", m, others)
		}
	}
}

// A feature that is another than it was, for so many records, is no trigger: all of them would be poison.
func TestFeatureThatChanged(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := fit(t, shop(rng, 1000))
	s := shop(rng, 2000)
	for i := range s.N {
		if i%3 > 0 {
			set(s, i, 1, 1000)
		}
	}
	if _, others := high(m.Score(s, env).Value, func(int) bool { return false }); others > 0.01 {
		t.Errorf("%.4f of the rows have a score", others)
	}
}

func TestNoOpinion(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	reference := shop(rng, 200)
	m := fit(t, reference)
	for _, v := range m.Score(reference, env).Value {
		if !math.IsNaN(v) {
			t.Fatal("a sample that is its own reference has a score")
		}
	}
	s := shop(rng, 50)
	for j := range names {
		set(s, 3, j, math.NaN())
	}
	if v := m.Score(s, env).Value; !math.IsNaN(v[3]) || math.IsNaN(v[4]) {
		t.Errorf("a row without values scores %v, one with %v; want no opinion, and one", v[3], v[4])
	}
	for name, s := range map[string]*detect.Sample{
		"no features": {N: 50}, "a constant": {N: 50, FeatureNames: []string{"x"}, Features: slices.Repeat([]float64{3}, 50)},
	} {
		if m, err := (Detector{}).Fit(s, env); m != nil || err != nil {
			t.Errorf("%s: there is a model %t, error %v; want neither", name, m != nil, err)
		}
	}
}

// A few records in each of many segments: they are found, and those that came first are recalled.
func TestDrip(t *testing.T) {
	const rows = 250
	for _, c := range []struct{ segments, each int }{{60, 1}, {20, 3}} {
		rng := rand.New(rand.NewPCG(9, 10))
		m := fit(t, shop(rng, 1000))
		var memory detect.Memory = &memory{}
		var kept []detect.Suspicion // of rows that were not flagged
		var first, flagged, recalled, alarms, falsely int
		for k := range c.segments {
			s := shop(rng, rows)
			for i := range c.each {
				set(s, i, 0, 0.07)
				set(s, i, 1, -71)
			}
			scores := m.ScoreWith(s, memory, env)
			for i, v := range scores.Value {
				if v > 0 && i < c.each {
					flagged++
				} else if v > 0 {
					alarms++
				}
			}
			if flagged == 0 {
				first = (k + 1) * c.each
			}
			memory.Merge(m.Observe(s, nil, env))
			for _, c := range m.Suspects(s, memory, env) {
				if scores.Value[c.Row] <= 0 {
					kept = append(kept, c)
				}
			}
		}
		if convicted := m.Convict(memory); convicted != nil {
			for _, suspect := range kept {
				if f, guilty := convicted(suspect.Keys); !guilty {
					continue
				} else if suspect.Row >= c.each {
					falsely++
				} else if recalled++; !(m.Weigh(suspect.Keys, memory) >= suspect.Weight) || !strings.Contains(f.Evidence, "in about ") || !(f.PValue <= convicting) {
					t.Errorf("recalled for %q, p = %g", f.Evidence, f.PValue)
				}
			}
		}
		t.Logf("%d in each of %d segments: flagged after %d; %d in all, %d recalled, %d clean rows flagged, %d recalled", c.each, c.segments, first, flagged, recalled, alarms, falsely)
		all := c.segments * c.each
		if flagged < all*3/4 || c.each > 1 && flagged+recalled < all*9/10 || alarms > c.segments*rows/250 || falsely > c.segments*rows/2500 {
			t.Errorf("%d of %d flagged and %d recalled, %d clean rows flagged and %d recalled", flagged, all, recalled, alarms, falsely)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	for _, width := range []int{8, 32} {
		rng := rand.New(rand.NewPCG(11, 12))
		table := func(n int) *detect.Sample {
			s := &detect.Sample{N: n}
			for j := range width {
				s.FeatureNames = append(s.FeatureNames, fmt.Sprint(j))
			}
			for range n * width {
				s.Features = append(s.Features, math.Round(20*rng.NormFloat64()))
			}
			return s
		}
		m := fit(b, table(1000))
		s, before := table(20_000), m.Observe(table(20_000), nil, env)
		b.Run(fmt.Sprintf("features=%d", width), func(b *testing.B) {
			b.SetBytes(int64(8 * len(s.Features)))
			b.ReportAllocs()
			for b.Loop() {
				env := detect.Env{Workers: 1, Shared: &detect.Shared{}}
				m.ScoreWith(s, before, env)
				m.Observe(s, nil, env)
				m.Suspects(s, before, env)
			}
			b.ReportMetric(float64(b.N*s.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// What is reckoned once for many priors gives the prior that is found by reckoning it for each.
func TestPriorIsTheLikeliest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{1, 10, 300} {
		var cases []outcome
		for range n {
			cases = append(cases, outcome{float64(rng.IntN(9) * rng.IntN(3)), float64(rng.IntN(6)), 0.01 + 20*rng.Float64()*rng.Float64()})
		}
		const ratio = 0.9
		best, want := math.Inf(-1), prior{}
		for shape := 1.0 / 64; shape <= 64; shape *= 4 {
			for odd := 1.0 / 2; odd >= 1.0/1024; odd /= 8 {
				p, sum := prior{shape, odd}, 0.0
				for _, c := range cases {
					w := p.odds(c.r, c.e)
					smooth := math.Exp(logCount(c.others, shape+c.r+1, (shape/c.e+1)/ratio))
					odd := math.Exp(logCount(c.others, oddShape+c.r+1, (oddShape+1)/ratio))
					sum += math.Log(max((smooth+w*odd)/(1+w), math.SmallestNonzeroFloat64))
				}
				if sum > best {
					best, want = sum, p
				}
			}
		}
		if got := priorOf(cases, ratio); got != want {
			t.Errorf("%d cases: %v, want %v", n, got, want)
		}
	}
}
