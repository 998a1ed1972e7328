package collusion

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

// strange returns clean rows of thirty providers, a third of whom are others than those of other seeds.
func strange(n int, seed uint64) *detect.Sample {
	s := detecttest.Clean(n, seed)
	s.Providers = nil
	for p := range 30 {
		name := fmt.Sprint("provider ", p)
		if p%3 == 0 {
			name += fmt.Sprint(" as of ", seed)
		}
		s.Providers = append(s.Providers, name)
	}
	for i := range s.Provider {
		s.Provider[i] = int32(i % 30)
	}
	return s
}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, strange)
	detecttest.RunMemory(t, Detector{}, strange, MaxMemory)
}

// town makes records of shops, with numbers of which each shop has its own kind.
type town struct {
	rng   *rand.Rand
	dim   int
	shops int
}

// shop returns the mean of a shop's records, always the same.
func (w *town) shop(name int) []float64 {
	rng := rand.New(rand.NewPCG(uint64(name), 99))
	mean := make([]float64, w.dim)
	for j := range mean {
		mean[j] = rng.NormFloat64()
	}
	return mean
}

// sample returns n records of shops that are named by of.
func (w *town) sample(n int, of func(i int) int) *detect.Sample {
	s := &detect.Sample{N: n}
	for j := range w.dim {
		s.FeatureNames = append(s.FeatureNames, fmt.Sprint("x", j))
	}
	at := map[int]int32{}
	for i := range n {
		name := of(i)
		if _, ok := at[name]; !ok {
			at[name] = int32(len(s.Providers))
			s.Providers = append(s.Providers, fmt.Sprint("shop ", name))
		}
		s.Provider = append(s.Provider, at[name])
		for _, v := range w.shop(name) {
			s.Features = append(s.Features, v+w.rng.NormFloat64())
		}
	}
	return s
}

func (w *town) known(int) int { return w.rng.IntN(w.shops) }

func fit(t testing.TB, s *detect.Sample) *model {
	t.Helper()
	m, err := Detector{}.Fit(s, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	return m.(*model)
}

// Sybils that send one record each now and then, near one point where others lie too, are found, by their number over the whole stream.
func TestSybils(t *testing.T) {
	const segments, rows = 12, 400
	w := &town{rand.New(rand.NewPCG(1, 2)), 6, 100}
	m := fit(t, w.sample(1000, w.known))
	aim := w.sample(1, w.known).Features
	var memory detect.Memory = &memory{}
	var kept []detect.Suspicion
	caught, alarms, recalled, falsely, planted, strangers := 0, 0, 0, 0, 0, 0
	newcomers := 1000
	for k := range segments {
		s := w.sample(rows, func(i int) int {
			if i < 20 { // two new shops in each segment, which are honest, and two that are not
				return newcomers + 4*k + i/5
			}
			return w.known(i)
		})
		sybil := func(row int) bool { return row < 10 }
		for i := range s.N {
			if sybil(i) {
				for j := range w.dim {
					s.Features[i*w.dim+j] = aim[j] + 0.2*w.rng.NormFloat64()
				}
			}
		}
		scores := m.ScoreWith(s, memory, env)
		flagged := func(row int) bool { return scores.LogP[row] <= math.Log(0.001) }
		for i := range s.N {
			switch {
			case sybil(i):
				planted++
				if flagged(i) {
					caught++
				}
			case !math.IsNaN(scores.Value[i]):
				strangers++
				if flagged(i) {
					alarms++
				}
			case scores.LogP[i] != 0:
				t.Fatal("a provider that the reference knows is judged")
			}
		}
		if e := scores.Explain(0); k > 6 && !strings.Contains(e, "other new providers lie as near") {
			t.Errorf("evidence: %s", e)
		}
		memory.Merge(m.Observe(s, nil, env))
		for _, c := range m.Suspects(s, memory, env) {
			if !flagged(c.Row) {
				kept = append(kept, c)
			}
		}
	}
	convicted := m.Convict(memory)
	if convicted == nil {
		t.Fatal("nobody is convicted")
	}
	for _, c := range kept {
		if f, guilty := convicted(c.Keys); guilty && c.Row < 10 {
			if recalled++; f.PValue > 1e-4 || float64(m.Weigh(c.Keys, memory)) < -convicting {
				t.Errorf("recalled with p = %g, weight %g", f.PValue, m.Weigh(c.Keys, memory))
			}
		} else if guilty {
			falsely++
		}
	}
	t.Logf("%d of %d caught, %d recalled; of %d honest records of new shops %d flagged, %d recalled", caught, planted, recalled, strangers, alarms, falsely)
	if caught+recalled < planted*9/10 || caught < planted/2 || alarms > strangers/20 || falsely > strangers/50 {
		t.Errorf("%d of %d caught, %d recalled; of %d honest records of new shops %d flagged, %d recalled", caught, planted, recalled, strangers, alarms, falsely)
	}
}

// New providers that are like the others, or each of its own kind, are left alone, however many there are: p is valid as it stands.
func TestHonestNewcomers(t *testing.T) {
	for _, c := range []struct {
		name string
		of   func(w *town) func(i int) int
	}{
		{"each its own kind", func(w *town) func(int) int { return func(int) int { return 1000 + w.rng.IntN(300) } }},
		{"a record each", func(*town) func(int) int { return func(i int) int { return 1000 + i } }},
		{"one sends all", func(*town) func(int) int { return func(int) int { return 1000 } }},
	} {
		for _, m := range []int{100, 1000} {
			w := &town{rand.New(rand.NewPCG(3, 4)), 3, 40}
			model := fit(t, w.sample(m, w.known))
			logP := slices.Concat(model.Score(w.sample(800, c.of(w)), env).LogP, model.Score(w.sample(800, c.of(w)), env).LogP)
			for _, limit := range []float64{0.01, 0.001} {
				over := 0
				for _, lp := range logP {
					if lp <= math.Log(limit) {
						over++
					}
				}
				if float64(over) > limit*float64(len(logP)) {
					t.Errorf("%s, %d reference rows: %d of %d records have p ≤ %g", c.name, m, over, len(logP), limit)
				}
			}
		}
	}
}

// New providers that use the same three words are found, those that use words as the reference does are not.
func TestSharedPhrase(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	texts := func(n int, provider func(i int) int, phrase func(i int) string) *detect.Sample {
		s := &detect.Sample{N: n}
		at := map[int]int32{}
		for i := range n {
			var words []string
			for range 30 {
				words = append(words, fmt.Sprint("w", int(400*math.Pow(rng.Float64(), 3))))
			}
			words[rng.IntN(30)] = phrase(i)
			s.Text = append(s.Text, []byte(strings.Join(words, " ")))
			p := provider(i)
			if _, ok := at[p]; !ok {
				at[p] = int32(len(s.Providers))
				s.Providers = append(s.Providers, fmt.Sprint("shop ", p))
			}
			s.Provider = append(s.Provider, at[p])
		}
		return s
	}
	known := func(int) int { return rng.IntN(300) }
	plain := func(int) string { return "plain" }
	m := fit(t, texts(1000, known, plain))
	newcomers := func(i int) int {
		if i < 40 {
			return 1000 + i
		}
		return known(i)
	}
	s := texts(600, newcomers, func(i int) string {
		if i < 14 {
			return "w300 w301 w302"
		}
		return "plain"
	})
	scores := m.Score(s, env)
	for i, lp := range scores.LogP {
		if guilty := i < 14; guilty != (lp < math.Log(0.001)) {
			t.Errorf("record %d has ln p = %.1f: %s", i, lp, scores.Explain(i))
		}
	}
	if e := scores.Explain(0); !strings.Contains(e, "13 of 49 other new providers use the same 3 words in a row, which 0 of") {
		t.Errorf("evidence %q", e)
	}
	for range 5 {
		for i, lp := range m.Score(texts(600, newcomers, plain), env).LogP {
			if lp < math.Log(0.001) {
				t.Errorf("an honest record, %d, has ln p = %.1f", i, lp)
			}
		}
	}
}

func TestNoModel(t *testing.T) {
	w := &town{rand.New(rand.NewPCG(5, 6)), 3, 40}
	for name, s := range map[string]*detect.Sample{
		"no provider":               func() *detect.Sample { s := w.sample(200, w.known); s.Provider, s.Providers = nil, nil; return s }(),
		"few rows":                  w.sample(20, w.known),
		"one provider":              w.sample(200, func(int) int { return 1 }),
		"neither numbers nor texts": func() *detect.Sample { s := w.sample(200, w.known); s.Features, s.FeatureNames = nil, nil; return s }(),
	} {
		if m, err := (Detector{}).Fit(s, env); m != nil || err != nil {
			t.Errorf("%s: there is a model %t, error %v; want neither", name, m != nil, err)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	w := &town{rand.New(rand.NewPCG(7, 8)), 8, 100}
	m := fit(b, w.sample(1000, w.known))
	for _, strangers := range []int{0, 10} {
		s := w.sample(10_000, func(i int) int {
			if i%1000 < strangers {
				return 1000 + i
			}
			return w.known(i)
		})
		before := m.Observe(w.sample(10_000, func(i int) int { return 20_000 + i/40 }), nil, env)
		b.Run(fmt.Sprintf("strangers=%d%%", strangers/10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				env := detect.Env{Workers: 1}
				m.ScoreWith(s, before, env)
				m.Observe(s, nil, env)
				m.Suspects(s, before, env)
			}
			b.ReportMetric(float64(b.N*s.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
