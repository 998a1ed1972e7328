package drift

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

func TestConformance(t *testing.T) { detecttest.Run(t, Detector{}, detecttest.Clean) }

func TestMemoryConformance(t *testing.T) {
	detecttest.RunMemory(t, Detector{}, detecttest.Clean, MaxMemory)
}

// after is what the policy asks of a model whose contribution depends on what was seen before.
type after interface {
	ObserveAfter(s *detect.Sample, before detect.Memory, flagged []bool, env detect.Env) detect.Memory
}

// market writes rows of providers that honestly differ from each other.
type market struct {
	rng       *rand.Rand
	providers int
	sent      []float64 // rows by provider
	total     float64
	shift     func(provider int, sent, total float64) float64 // of the first feature, in standard deviations
	burst     float64                                         // how much the mean of a provider's rows differs from segment to segment
}

func newMarket(providers int, seed uint64) *market {
	return &market{rng: rand.New(rand.NewPCG(seed, 1)), providers: providers, sent: make([]float64, providers)}
}

func (m *market) segment(n int) *detect.Sample {
	s := &detect.Sample{N: n, FeatureNames: []string{"price", "weight", "stars"}, Classes: []string{"no", "yes"}}
	for p := range m.providers {
		s.Providers = append(s.Providers, fmt.Sprint("provider ", p))
	}
	swing := make([]float64, m.providers)
	for p := range swing {
		swing[p] = m.burst * m.rng.NormFloat64()
	}
	for range n {
		p := m.rng.IntN(m.providers)
		own := float64(p) / float64(m.providers)
		price := m.rng.NormFloat64() + own + swing[p]
		if m.shift != nil {
			price += m.shift(p, m.sent[p], m.total)
		}
		m.sent[p]++
		m.total++
		label := int32(0)
		if m.rng.Float64() < 0.3+0.4*own {
			label = 1
		}
		s.Provider, s.Label = append(s.Provider, int32(p)), append(s.Label, label)
		s.Features = append(s.Features, price, m.rng.ExpFloat64()+own, float64(1+m.rng.IntN(5)))
	}
	return s
}

type outcome struct {
	first   float64 // rows that the drifting provider had sent when the first of its rows was flagged; -1: never
	flagged []float64
	rows    []float64
	// Of the drifting provider's last segments: the share of rows that are flagged above and below its own median, as it
	// was before the drift.
	high, low float64
	evidence  string
}

// run judges a stream segment by segment; a row is flagged where ln p is at most ln 0.01.
func run(t testing.TB, reference *detect.Sample, m *market, segments, rows, drifting int) outcome {
	t.Helper()
	env := detect.Env{Seed: 1, Workers: 2}
	fitted, err := Detector{}.Fit(reference, env)
	if err != nil || fitted == nil {
		t.Fatalf("no model: %v", err)
	}
	model := fitted.(detect.Remembering)
	memory, err := model.Memory(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := outcome{first: -1, flagged: make([]float64, m.providers), rows: make([]float64, m.providers)}
	var highs, lows float64
	for at := range segments {
		s := m.segment(rows)
		scores := model.ScoreWith(s, memory, env)
		for i, lp := range scores.LogP {
			p := int(s.Provider[i])
			out.rows[p]++
			hit := 0.0
			if lp <= math.Log(0.01) {
				hit = 1
				out.flagged[p]++
				if p == drifting && out.first < 0 {
					out.first = m.sent[p]
					out.evidence = scores.Explain(i)
				}
			}
			if p == drifting && at > segments*9/10 {
				if s.Features[3*i] > float64(p)/float64(m.providers) {
					highs++
					out.high += hit
				} else {
					lows++
					out.low += hit
				}
			}
		}
		memory.Merge(model.(after).ObserveAfter(s, memory, nil, env))
	}
	out.high /= math.Max(1, highs)
	out.low /= math.Max(1, lows)
	return out
}

func (o outcome) honest(drifting int) (worst float64) {
	for p, n := range o.rows {
		if p != drifting {
			worst = math.Max(worst, o.flagged[p]/math.Max(1, n))
		}
	}
	return worst
}

// TestOneProviderDrifts: 0.02 standard deviations in a thousand rows is nothing to see in any segment.
func TestOneProviderDrifts(t *testing.T) {
	const drifting = 3
	for _, c := range []struct {
		name  string
		burst float64
		first float64
	}{{"steady", 0, 44000}, {"providers that swing from segment to segment", 0.2, 49000}} {
		t.Run(c.name, func(t *testing.T) {
			reference := newMarket(8, 1)
			m := newMarket(8, 2)
			m.burst = c.burst
			m.shift = func(p int, sent, _ float64) float64 {
				if p != drifting {
					return 0
				}
				return 0.02 * sent / 1000
			}
			got := run(t, reference.segment(8000), m, 100, 4000, drifting)
			t.Logf("%+v", got)
			if got.first < 0 || got.first > c.first {
				t.Errorf("found after %.0f rows, want at most %.0f", got.first, c.first)
			}
			if got.honest(drifting) > 0 {
				t.Errorf("up to %.4f of an honest provider's rows flagged", got.honest(drifting))
			}
			if got.high < 0.3 || got.low > 0.02 {
				t.Errorf("%.2f of its rows on the side to which it drifts, and %.2f of the others", got.high, got.low)
			}
			if !strings.Contains(got.evidence, "price") {
				t.Errorf("evidence does not tell the field: %s", got.evidence)
			}
		})
	}
}

// TestSeason: what all providers do together is no attack.
func TestSeason(t *testing.T) {
	m := newMarket(8, 3)
	m.shift = func(_ int, _, total float64) float64 { return 1.5 * math.Sin(total/60000) }
	if got := run(t, newMarket(8, 1).segment(4000), m, 50, 2000, -1); got.honest(-1) > 0.002 {
		t.Errorf("up to %.4f of a provider's rows flagged", got.honest(-1))
	}
}

// TestNewProvider: who is not in the reference is compared with itself, and only sudden change tells.
func TestNewProvider(t *testing.T) {
	reference := newMarket(4, 1).segment(2000) // so providers 4 and 5 are new
	got := run(t, reference, newMarket(6, 4), 40, 2000, -1)
	if got.honest(-1) > 0.002 {
		t.Errorf("up to %.4f of an honest provider's rows flagged", got.honest(-1))
	}
	m := newMarket(6, 5)
	m.shift = func(p int, sent, _ float64) float64 {
		if p == 5 && sent > 8000 {
			return 3
		}
		return 0
	}
	if got := run(t, reference, m, 40, 2000, 5); got.first < 0 || got.first > 9000 || got.honest(5) > 0 {
		t.Errorf("found after %.0f rows, want soon after 8,000; %.4f of an honest provider's flagged", got.first, got.honest(5))
	}
}

// TestLongCleanStream: the budget holds over 200,000 rows, as many looks, and providers that are not independent rows.
func TestLongCleanStream(t *testing.T) {
	if os.Getenv("TASTER_EVAL_DATA") == "" {
		t.Skip("TASTER_EVAL_DATA is not set: long streams are run with the evaluation")
	}
	for _, burst := range []float64{0, 0.1, 0.5} {
		for _, providers := range []int{1, 3, 10, 100} {
			m := newMarket(providers, 7)
			m.burst = burst
			got := run(t, newMarket(providers, 6).segment(max(1000, 50*providers)), m, 200, 1000, -1)
			all := 0.0
			for _, n := range got.flagged {
				all += n
			}
			t.Logf("%d providers, swing %.1f: %.5f of 200,000 rows flagged", providers, burst, all/200000)
			if limit := 0.01 + 3*math.Sqrt(0.01*0.99*(1/200000.0+1/1000.0)); all/200000 > limit {
				t.Errorf("%d providers, swing %.1f: %.4f of clean rows flagged", providers, burst, all/200000)
			}
		}
	}
}

// TestEvidenceIsAnEProcess: under the null its mean is at most 1, however often one looks.
func TestEvidenceIsAnEProcess(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	base := histogram{0.02, 0.2, 0.18, 0.1, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02}
	other := histogram{0.02, 0.22, 0.16, 0.1, 0.2, 0.08, 0.12, 0.05, 0.03, 0.02} // within the radius
	crossed := 0
	const streams = 1000
	for range streams {
		var n histogram
		for i := range 600 {
			u := rng.Float64()
			b := 0
			for u > other[b] && b < bins-1 {
				u -= other[b]
				b++
			}
			n[b]++
			if i%25 == 24 && evidence(&n, &base, 0.01) >= math.Log(20) {
				crossed++
				break
			}
		}
	}
	if crossed > streams/20 {
		t.Errorf("%d of %d clean streams reach e = 20, want at most 1 in 20", crossed, streams)
	}
	far := histogram{10, 10, 10, 10, 10, 10, 200, 10, 10, 10}
	if e := evidence(&far, &base, 0.01); e < 50 {
		t.Errorf("evidence %.1f for counts that are nothing like the baseline", e)
	}
}

func BenchmarkScoreWith(b *testing.B) {
	env := detect.Env{Workers: 1}
	for _, dim := range []int{0, 32, 384, 1024} {
		sample := func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Embedding, s.Dim = nil, 0
			if dim > 0 {
				rng := rand.New(rand.NewPCG(seed, 3))
				s.Dim, s.Embedding = dim, make([]float32, n*dim)
				for i := range s.Embedding {
					s.Embedding[i] = float32(rng.NormFloat64())
				}
			}
			return s
		}
		fitted, err := Detector{}.Fit(sample(1000, 1), env)
		if err != nil {
			b.Fatal(err)
		}
		m := fitted.(detect.Remembering)
		s := sample(4096, 2)
		before := m.Observe(s, nil, env)
		for _, c := range []struct {
			name string
			f    func()
		}{{"score", func() { m.ScoreWith(s, before, env) }}, {"observe", func() { m.Observe(s, nil, env) }}} {
			b.Run(fmt.Sprintf("%s/d=%d", c.name, dim), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.f()
				}
				b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// TestFlights: real traffic in its order, whose providers (airports) differ, and whose days do.
func TestFlights(t *testing.T) {
	dir := os.Getenv("TASTER_EVAL_DATA")
	if dir == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	data, err := os.ReadFile(filepath.Join(dir, "events", "flights.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all := &detect.Sample{FeatureNames: []string{"delay", "distance", "hour"}}
	index := map[string]int32{}
	for line := range bytes.Lines(data) {
		var r struct {
			Date, Origin    string
			Delay, Distance float64
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		p, ok := index[r.Origin]
		if !ok {
			p = int32(len(all.Providers))
			index[r.Origin] = p
			all.Providers = append(all.Providers, r.Origin)
		}
		hour, err := strconv.Atoi(r.Date[11:13])
		if err != nil {
			t.Fatal(err)
		}
		all.N++
		all.Provider = append(all.Provider, p)
		all.Features = append(all.Features, r.Delay, r.Distance, float64(hour))
	}
	for _, c := range []struct {
		name   string
		random bool
	}{{"reference drawn at random", true}, {"reference from the beginning", false}} {
		t.Run(c.name, func(t *testing.T) {
			const reference, rows = 5000, 500
			order := make([]int, all.N)
			for i := range order {
				order[i] = i
			}
			if c.random {
				rng := rand.New(rand.NewPCG(5, 6))
				rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				slices.Sort(order[reference:])
			}
			env := detect.Env{Seed: 1, Workers: 2}
			fitted, err := Detector{}.Fit(all.Select(order[:reference]), env)
			if err != nil {
				t.Fatal(err)
			}
			m := fitted.(detect.Remembering)
			memory, err := m.Memory(nil)
			if err != nil {
				t.Fatal(err)
			}
			judged, flagged := 0, 0
			for from := reference; from+rows <= len(order); from += rows {
				s := all.Select(order[from : from+rows])
				scores := m.ScoreWith(s, memory, env)
				for i, lp := range scores.LogP {
					judged++
					if lp <= math.Log(0.01) {
						if flagged++; flagged < 4 {
							t.Log(scores.Explain(i))
						}
					}
				}
				memory.Merge(m.(after).ObserveAfter(s, memory, nil, env))
			}
			t.Logf("%d of %d rows flagged", flagged, judged)
			if limit := 0.01 + 3*math.Sqrt(0.01*0.99*(1/float64(judged)+1.0/reference)); float64(flagged) > limit*float64(judged) {
				t.Errorf("%d of %d clean rows flagged", flagged, judged)
			}
		})
	}
}

// TestLongHonestPast: what a provider sent long ago does not excuse what it sends now.
func TestLongHonestPast(t *testing.T) {
	const drifting, honest = 2, 15000
	m := newMarket(8, 12)
	m.shift = func(p int, sent, _ float64) float64 {
		if p != drifting {
			return 0
		}
		return 0.1 * math.Max(0, sent-honest) / 1000
	}
	got := run(t, newMarket(8, 11).segment(4000), m, 60, 4000, drifting)
	if got.first < honest || got.first > honest+10000 || got.honest(drifting) > 0 {
		t.Errorf("found after %.0f rows, want at most 10,000 after the first %d; %.4f of an honest provider's rows flagged", got.first, honest, got.honest(drifting))
	}
}

// TestWindowsAddUpInAnyOrder: also where some parts have come further than others, and some providers are strangers.
func TestWindowsAddUpInAnyOrder(t *testing.T) {
	env := detect.Env{Seed: 1, Workers: 2}
	fitted, err := Detector{}.Fit(newMarket(4, 1).segment(400), env)
	if err != nil {
		t.Fatal(err)
	}
	m := fitted.(*model)
	market := newMarket(6, 2) // of which two are strangers
	parts := []detect.Memory{}
	before := &memory{}
	for range 12 {
		part := m.ObserveAfter(market.segment(1500), before, nil, env)
		parts = append(parts, part)
		before.Merge(part)
	}
	if before.last < 4 {
		t.Fatalf("the stream has come to window %d only: the test would prove nothing", before.last)
	}
	want, err := before.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		left, right := &memory{}, &memory{}
		for i, part := range parts {
			if i < 5 {
				left.Merge(part)
			} else {
				right.Merge(part)
			}
		}
		left.Merge(right)
		if got, err := left.AppendBinary(nil); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("another order gives other bytes, error %v", err)
		}
	}
	if back, err := m.Memory(want); err != nil {
		t.Error(err)
	} else if again, err := back.AppendBinary(nil); err != nil || !bytes.Equal(again, want) {
		t.Errorf("decoded and encoded again it has other bytes, error %v", err)
	}
}

// TestEveryRole: labels, texts and embeddings that drift are found like features.
func TestEveryRole(t *testing.T) {
	const drifting, providers, dim, segments, rows = 1, 6, 16, 25, 1500
	for _, c := range []struct {
		name  string
		drift func(s *detect.Sample, i int, progress float64, rng *rand.Rand)
	}{
		{"label", func(s *detect.Sample, i int, progress float64, rng *rand.Rand) {
			if rng.Float64() < progress {
				s.Label[i] = 1
			}
		}},
		{"text", func(s *detect.Sample, i int, progress float64, rng *rand.Rand) {
			if rng.Float64() < progress {
				s.Text[i] = append(slices.Clip(s.Text[i]), " SALE SALE SALE, today only, at our shop in town"...)
			}
		}},
		{"embedding", func(s *detect.Sample, i int, progress float64, _ *rand.Rand) {
			for k := range dim {
				s.Embedding[i*dim+k] += float32(progress)
			}
		}},
		{"nothing", func(*detect.Sample, int, float64, *rand.Rand) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := detect.Env{Seed: 1, Workers: 2}
			rng := rand.New(rand.NewPCG(31, 32))
			sample := func(n int, seed uint64, progress float64) *detect.Sample {
				s := detecttest.Clean(n, seed)
				s.Features, s.FeatureNames = nil, nil
				s.Providers = []string{"a", "b", "c", "d", "e", "f"}
				for i := range n {
					s.Provider[i] = int32(rng.IntN(providers))
					s.Label[i] = int32(max(0, rng.IntN(5)-3)) // a fifth has label 1, and can become twice as many
					if s.Provider[i] == drifting && progress > 0 {
						c.drift(s, i, progress, rng)
					}
				}
				return s
			}
			fitted, err := Detector{}.Fit(sample(3000, 1, 0), env)
			if err != nil {
				t.Fatal(err)
			}
			m := fitted.(*model)
			memory := &memory{}
			hits, alarms := 0, 0
			var evidence string
			for at := range segments {
				s := sample(rows, uint64(100+at), float64(at)/segments)
				scores := m.ScoreWith(s, memory, env)
				for i, lp := range scores.LogP {
					switch {
					case lp > math.Log(0.01):
					case s.Provider[i] == drifting:
						hits++
						evidence = scores.Explain(i)
					default:
						alarms++
					}
				}
				memory.Merge(m.ObserveAfter(s, memory, nil, env))
			}
			t.Logf("%d rows of the drifting provider flagged, %d of others; %s", hits, alarms, evidence)
			if alarms > 0 || hits > 0 != (c.name != "nothing") {
				t.Errorf("%d rows of the drifting provider flagged, %d of others", hits, alarms)
			}
		})
	}
}
