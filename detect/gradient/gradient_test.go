package gradient

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

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
	t.Run("similarity", func(t *testing.T) { detecttest.Run(t, Similarity{}, detecttest.Clean) })
	for lacking, d := range map[string]detect.Detector{"label": Similarity{}, "provider": Detector{}, "label and provider": Detector{}} {
		t.Run("no "+lacking, func(t *testing.T) {
			detecttest.Run(t, d, func(n int, seed uint64) *detect.Sample {
				s := detecttest.Clean(n, seed)
				if strings.Contains(lacking, "label") {
					s.Label, s.Classes = nil, nil
				}
				if strings.Contains(lacking, "provider") {
					s.Provider, s.Providers = nil, nil
				}
				return s
			})
		})
	}
}

// updates returns n gradients of two classes with lengths of a heavy tail, from providers whose rows lean their own way by
// bias (their data honestly differs).
func updates(n, dim, providers int, bias float64, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 3))
	fixed := rand.New(rand.NewPCG(7, 3))
	s := &detect.Sample{N: n, GradientDim: dim, Classes: []string{"a", "b"}}
	lead := make([]float64, 2*dim)
	for i := range lead {
		lead[i] = fixed.NormFloat64() * 0.7
	}
	lean := make([]float64, providers*dim)
	for i := range lean {
		lean[i] = fixed.NormFloat64() * bias
	}
	for p := range providers {
		s.Providers = append(s.Providers, fmt.Sprint("provider ", p))
	}
	for range n {
		label, p := rng.IntN(2), rng.IntN(providers)
		s.Label, s.Provider = append(s.Label, int32(label)), append(s.Provider, int32(p))
		length := math.Exp(0.5 * rng.NormFloat64())
		for j := range dim {
			s.Gradient = append(s.Gradient, float32(length*(lead[label*dim+j]+lean[p*dim+j]+rng.NormFloat64())))
		}
	}
	return s
}

func score(t *testing.T, d detect.Detector, reference, stream *detect.Sample) detect.Scores {
	t.Helper()
	m, err := d.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	return m.Score(stream, env)
}

// recall is the share of bad rows above all but one per cent of the others.
func recall(t *testing.T, value []float64, bad func(row int) bool) float64 {
	t.Helper()
	var good []float64
	for i, v := range value {
		if math.IsNaN(v) {
			t.Fatalf("row %d has no score", i)
		}
		if !bad(i) {
			good = append(good, v)
		}
	}
	slices.Sort(good)
	bar := good[len(good)-1-len(good)/100]
	hits, all := 0, 0
	for i, v := range value {
		if bad(i) {
			if all++; v > bar {
				hits++
			}
		}
	}
	return float64(hits) / float64(all)
}

// crafted makes the rows for which bad holds point along one direction, with a share of noise, at an ordinary length.
func crafted(s *detect.Sample, bad func(row int) bool, noise float64, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	target := make([]float64, s.GradientDim)
	for i := range target {
		target[i] = rng.NormFloat64()
	}
	for row := range s.N {
		if bad(row) {
			for i, v := range target {
				s.Gradient[row*s.GradientDim+i] = float32(v + noise*rng.NormFloat64())
			}
		}
	}
}

func TestAttacksAreFound(t *testing.T) {
	const dim = 64
	every := func(k int) func(row int) bool { return func(row int) bool { return row%k == 0 } }
	for _, c := range []struct {
		name string
		by   detect.Detector
		bad  func(row int) bool
		make func(s *detect.Sample, bad func(row int) bool)
		want float64
	}{
		{"turned round", Detector{}, every(50), func(s *detect.Sample, bad func(int) bool) {
			for i := range s.Gradient {
				if bad(i / dim) {
					s.Gradient[i] = -s.Gradient[i]
				}
			}
		}, 0.9},
		{"scaled up", Detector{}, every(50), func(s *detect.Sample, bad func(int) bool) {
			for i := range s.Gradient {
				if bad(i / dim) {
					s.Gradient[i] *= 20
				}
			}
		}, 0.9},
		// One of forty providers sends one direction in different wrappings.
		{"one provider's rows alike", Similarity{}, func(row int) bool { return row%53 == 0 }, func(s *detect.Sample, bad func(int) bool) {
			for row := range s.N {
				if bad(row) {
					s.Provider[row] = 7
				}
			}
			crafted(s, bad, 1, 5)
		}, 0.9},
		// Sybils: fifteen new providers send two or three rows each towards one target.
		{"sybils", Similarity{}, func(row int) bool { return row%100 == 0 }, func(s *detect.Sample, bad func(int) bool) {
			first := len(s.Providers)
			for k := range 15 {
				s.Providers = append(s.Providers, fmt.Sprint("sybil ", k))
			}
			for row := range s.N {
				if bad(row) {
					s.Provider[row] = int32(first + row/100%15)
				}
			}
			crafted(s, bad, 1, 6)
		}, 0.9},
	} {
		for _, trusted := range []bool{true, false} {
			reference, stream := updates(1500, dim, 40, 0.1, 1), updates(4000, dim, 40, 0.1, 2)
			c.make(stream, c.bad)
			by := c.by
			if !trusted {
				by, reference = Detector{}, stream
			}
			got := recall(t, score(t, by, reference, stream).Value, c.bad)
			t.Logf("%s, reference %v: recall %.2f", c.name, trusted, got)
			if got < c.want {
				t.Errorf("%s, reference %v: recall %.2f at 1 %% false alarms: want %.2f", c.name, trusted, got, c.want)
			}
		}
	}
}

// Colluding rows that lie among honest ones of their class one by one are found by being alike, and by nothing else:
// those of one provider, and those of twenty that are new.
func TestProvidersAreNeeded(t *testing.T) {
	const dim = 256
	bad := func(row int) bool { return row%100 == 0 }
	for _, sybils := range []bool{false, true} {
		reference, stream := updates(1000, dim, 40, 0.1, 1), updates(4000, dim, 40, 0.1, 2)
		rng := rand.New(rand.NewPCG(1, 1))
		shift := make([]float32, dim)
		for i := range shift {
			shift[i] = float32(0.6 * rng.NormFloat64())
		}
		for k := range 20 {
			stream.Providers = append(stream.Providers, fmt.Sprint("sybil ", k))
		}
		for row := range stream.N {
			if !bad(row) {
				continue
			}
			if stream.Provider[row] = 3; sybils {
				stream.Provider[row] = 40 + int32(row/100%20)
			}
			for i, v := range shift {
				stream.Gradient[row*dim+i] += v
			}
		}
		with := recall(t, score(t, Similarity{}, reference, stream).Value, bad)
		without := recall(t, score(t, Detector{}, reference, stream).Value, bad)
		t.Logf("sybils %v: recall %.2f by similarity, %.2f without", sybils, with, without)
		if with < 0.8 || without > 0.5 {
			t.Errorf("sybils %v: recall %.2f by similarity, %.2f without", sybils, with, without)
		}
	}
}

// A provider whose data differs is not suspicious for that, once it has a past.
func TestHonestDifference(t *testing.T) {
	reference, stream := updates(3000, 64, 10, 0.4, 1), updates(3000, 64, 10, 0.4, 2)
	high := func(value []float64) float64 {
		n := 0
		for _, v := range value {
			if v > 6 {
				n++
			}
		}
		return float64(n) / float64(len(value))
	}
	known := high(score(t, Similarity{}, reference, stream).Value)
	for p := range stream.Providers {
		stream.Providers[p] = fmt.Sprint("new ", p)
	}
	unknown := high(score(t, Similarity{}, reference, stream).Value)
	if known > 0.01 || unknown < 0.1 {
		t.Errorf("%.3f of known providers' rows and %.3f of new ones' score high", known, unknown)
	}
}

// One per cent of turned gradients in the reference hardly moves what is usual.
func TestMeanIsRobust(t *testing.T) {
	clean, dirty := updates(1000, 32, 5, 0, 1), updates(1000, 32, 5, 0, 1)
	for i := range dirty.Gradient {
		if i/32%100 == 0 {
			dirty.Gradient[i] *= -1000
		}
	}
	a, _ := Detector{}.Fit(clean, env)
	b, _ := Detector{}.Fit(dirty, env)
	for _, class := range clean.Classes {
		x, y := a.(*model).class[class], b.(*model).class[class]
		if c := dot(x.unit, y.unit); c < 0.99 || math.Abs(x.away.median-y.away.median) > 0.02 {
			t.Errorf("class %s: cosine %.3f of the means", class, c)
		}
	}
}

func TestWithoutOpinion(t *testing.T) {
	reference, stream := updates(500, 16, 5, 0, 1), updates(6, 16, 5, 0, 2)
	clear(stream.Gradient[:16])
	stream.Gradient[16] = float32(math.NaN())
	stream.Gradient[32] = float32(math.Inf(1))
	stream.Label[3], stream.Provider[4] = -1, -1
	stream.Classes, stream.Label[5] = append(stream.Classes, "unheard of"), 2
	for d, silent := range map[detect.Detector]func(i int) bool{
		Detector{}: func(i int) bool { return i < 3 }, Similarity{}: func(i int) bool { return i < 3 || i == 4 },
	} {
		for i, v := range score(t, d, reference, stream).Value {
			if math.IsNaN(v) != silent(i) {
				t.Errorf("%s: row %d scores %v", d.Name(), i, v)
			}
		}
	}
	for _, s := range []*detect.Sample{updates(5, 16, 5, 0, 1), {N: 50}, {N: 50, GradientDim: 2, Gradient: make([]float32, 100)}} {
		for _, d := range []detect.Detector{Detector{}, Similarity{}} {
			if m, err := d.Fit(s, env); m != nil || err != nil {
				t.Errorf("%s, %d rows: a model, error %v", d.Name(), s.N, err)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	reference, stream := updates(1500, 64, 40, 0.1, 1), updates(1000, 64, 40, 0.1, 2)
	for i := range 64 {
		stream.Gradient[i] *= -1
		stream.Gradient[64+i] *= 1000
	}
	for row := 2; row < 40; row++ {
		stream.Provider[row] = 3
	}
	crafted(stream, func(row int) bool { return row >= 2 && row < 40 }, 0.1, 1)
	stream.Providers = append(stream.Providers, "sybil 1", "sybil 2")
	stream.Provider[40], stream.Provider[41] = 40, 41
	crafted(stream, func(row int) bool { return row == 40 || row == 41 }, 0.1, 2)
	of, alike := score(t, Detector{}, reference, stream), score(t, Similarity{}, reference, stream)
	for row, want := range map[int]string{
		0: "to the mean gradient of class", 1: "norm ", 5: `others of provider "provider 3", beyond`, 40: `sum of the 1 of provider "sybil 2"`,
	} {
		scores := of
		if row > 1 {
			scores = alike
		}
		if got := scores.Explain(row); !strings.Contains(got, want) {
			t.Errorf("row %d: %s: does not say %q", row, got, want)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	const n = 20_000
	for _, dim := range []int{32, 384, 1024} {
		for _, rows := range []int{1000, 10_000} {
			b.Run(fmt.Sprintf("%d/%d", dim, rows), func(b *testing.B) {
				reference, stream := updates(rows, dim, 100, 0.1, 1), updates(n, dim, 100, 0.1, 2)
				m, err := Detector{}.Fit(reference, env)
				if err != nil || m == nil {
					b.Fatal("no model: ", err)
				}
				alike, err := Similarity{}.Fit(reference, env)
				if err != nil || alike == nil {
					b.Fatal("no model: ", err)
				}
				b.ReportAllocs()
				for b.Loop() {
					m.Score(stream, env)
					alike.Score(stream, env)
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(4*dim), "bytes/record")
			})
		}
	}
}
