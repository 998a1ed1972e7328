package provider

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

func TestConformance(t *testing.T) { detecttest.Run(t, Detector{}, detecttest.Clean) }

func TestMemoryConformance(t *testing.T) {
	detecttest.RunMemory(t, Detector{}, detecttest.Clean, MaxMemory)
}

// stream sends segments of n rows of providers that name returns; each row is quarantined with the chance that rate returns.
type stream struct {
	rng    *rand.Rand
	memory detect.Memory
	names  []string
	index  map[string]int32
}

func newStream(t testing.TB) *stream {
	t.Helper()
	m, err := model{}.Memory(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{rng: rand.New(rand.NewPCG(1, 2)), memory: m, index: map[string]int32{}}
}

func (st *stream) sample(n int, name func(i int) string) *detect.Sample {
	s := &detect.Sample{N: n}
	for i := range n {
		p := name(i)
		if _, ok := st.index[p]; !ok {
			st.index[p] = int32(len(st.names))
			st.names = append(st.names, p)
		}
		s.Provider = append(s.Provider, st.index[p])
	}
	s.Providers = st.names
	return s
}

func (st *stream) segment(n int, name func(i int) string, rate func(provider string) float64) *detect.Sample {
	s := st.sample(n, name)
	flagged := make([]bool, n)
	for i, p := range s.Provider {
		flagged[i] = st.rng.Float64() < rate(s.Providers[p])
	}
	st.memory.Merge(model{}.Observe(s, flagged, detect.Env{}))
	return s
}

func (st *stream) scores(s *detect.Sample) detect.Scores {
	return model{}.ScoreWith(s, st.memory, detect.Env{})
}

func of(providers int) func(i int) string {
	return func(i int) string { return fmt.Sprint("provider ", i%providers) }
}

func TestBadProvider(t *testing.T) {
	st := newStream(t)
	bad := func(p string) float64 {
		if p == "provider 7" {
			return 0.1
		}
		return 0.01
	}
	found := 0
	for at := range 100 {
		s := st.segment(1000, of(20), bad)
		got := st.scores(s)
		for i, lp := range got.LogP {
			if s.Providers[s.Provider[i]] == "provider 7" {
				if lp < math.Log(0.06) && found == 0 {
					found = at + 1
				}
			} else if lp < 0 {
				t.Fatalf("segment %d: %s leans to %v", at, s.Providers[s.Provider[i]], lp)
			}
			if lp < math.Log(least)-1e-9 {
				t.Fatalf("ln p is %v: it must not quarantine", lp)
			}
		}
		if why := got.Explain(7); at == 99 && !strings.Contains(why, "of the provider's 5000 records") {
			t.Errorf("evidence does not tell the history: %s", why)
		}
	}
	t.Logf("found after %d segments of 50 of its records", found)
	if found == 0 || found > 20 {
		t.Errorf("found after %d segments, want at most 20", found)
	}
}

// TestOneBurst: a bad file of an honest provider does not condemn it.
func TestOneBurst(t *testing.T) {
	st := newStream(t)
	for at := range 30 {
		s := st.segment(1000, of(10), func(p string) float64 {
			if p == "provider 3" && at == 20 {
				return 0.9
			}
			return 0.01
		})
		for i, lp := range st.scores(s).LogP {
			if lp < 0 {
				t.Fatalf("segment %d: %s leans to %v", at, s.Providers[s.Provider[i]], lp)
			}
		}
	}
}

// TestMajority: said of half of the segment, p is one half.
func TestMajority(t *testing.T) {
	st := newStream(t)
	half := func(i int) string {
		if i%2 == 0 {
			return "big"
		}
		return fmt.Sprint("provider ", i%20)
	}
	var s *detect.Sample
	for range 60 {
		s = st.segment(1000, half, func(p string) float64 {
			if p == "big" {
				return 0.3
			}
			return 0.01
		})
	}
	if got := st.scores(s); math.Abs(got.LogP[0]-math.Log(0.5)) > 1e-9 || got.LogP[1] != 0 {
		t.Errorf("ln p %v and %v, want ln 0.5 and 0", got.LogP[0], got.LogP[1])
	}
}

// TestSybils: each of many new providers sends few records; what is found of them counts together. Honest newcomers are left alone.
func TestSybils(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  float64
		leans bool
	}{{"sybils", 0.2, true}, {"honest", 0.012, false}} {
		t.Run(c.name, func(t *testing.T) {
			st := newStream(t)
			next := 0
			name := func(i int) string {
				if i%25 == 0 {
					next++
					return fmt.Sprint("new ", next/4)
				}
				return of(10)(i)
			}
			for range 40 {
				st.segment(1000, name, func(p string) float64 {
					if strings.HasPrefix(p, "new") {
						return c.rate
					}
					return 0.01
				})
			}
			got := st.scores(st.sample(2, func(i int) string { return []string{"never seen", "provider 1"}[i] }))
			if leans := got.LogP[0] < 0; leans != c.leans || got.LogP[1] != 0 {
				t.Errorf("ln p of a newcomer %v, of another %v; %s", got.LogP[0], got.LogP[1], got.Explain(0))
			}
		})
	}
}

// TestHonestStreams: in hardly any of 100 streams of honest providers whose rates differ by half does somebody lean.
func TestHonestStreams(t *testing.T) {
	leaned := 0
	for seed := range uint64(100) {
		st := newStream(t)
		st.rng = rand.New(rand.NewPCG(seed, 9))
		any := false
		for range 30 {
			s := st.segment(300, of(10), func(p string) float64 { return 0.01 + 0.0005*float64(p[len(p)-1]-'0') })
			for _, lp := range st.scores(s).LogP {
				any = any || lp <= math.Log(least)
			}
		}
		if any {
			leaned++
		}
	}
	if leaned > 5 { // 5 %, at whatever time one looks
		t.Errorf("in %d of 100 honest streams somebody leans", leaned)
	}
}

func BenchmarkScoreWith(b *testing.B) {
	st := newStream(b)
	s := st.segment(20000, of(1000), func(string) float64 { return 0.01 })
	b.ReportAllocs()
	for b.Loop() {
		st.scores(s)
		model{}.Observe(s, nil, detect.Env{})
	}
	b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
