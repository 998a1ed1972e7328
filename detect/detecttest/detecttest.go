// Package detecttest is the conformance suite that every detector passes.
//
// It holds what detect.Detector and detect.Model promise whatever the method: the same answer again, with any
// number of workers and in any order of rows; inputs left as they were; finite scores or NaN; and no panic on the
// degenerate samples that real streams bring. RunMemory holds what detect.Remembering promises besides.
package detecttest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// Rows that the suite asks makeSample for: a reference and a stream.
const (
	referenceRows = 240
	streamRows    = 300
)

// Run tests detector on samples of makeSample, which returns n rows of clean, varied data with the roles that the
// detector needs, the same for the same n and seed. It is asked for n = 0 and n = 1 too.
func Run(t *testing.T, detector detect.Detector, makeSample func(n int, seed uint64) *detect.Sample) {
	t.Helper()
	t.Run("name", func(t *testing.T) {
		name := detector.Name()
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " -/.") {
			t.Errorf("name %q: want lower-case words joined by underscores", name)
		}
	})
	t.Run("agreement", func(t *testing.T) { agreement(t, detector, makeSample) })
	t.Run("order", func(t *testing.T) { order(t, detector, makeSample) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, detector, makeSample) })
	t.Run("untouched", func(t *testing.T) { untouched(t, detector, makeSample) })
	t.Run("missing role", func(t *testing.T) { missingRole(t, detector, makeSample) })
	t.Run("degenerate", func(t *testing.T) { degenerate(t, detector, makeSample) })
}

func env(workers int) detect.Env { return detect.Env{Seed: 7, Workers: workers} }

func fit(t *testing.T, d detect.Detector, s *detect.Sample, workers int) detect.Model {
	t.Helper()
	m, err := d.Fit(s, env(workers))
	if err != nil {
		t.Fatalf("Fit on %d rows: %v", s.N, err)
	}
	return m
}

// agreement: the same samples give the same bits, again and with any number of workers.
func agreement(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	reference, stream := makeSample(referenceRows, 1), makeSample(streamRows, 2)
	m := fit(t, d, reference, 1)
	if m == nil {
		t.Fatal("no model: makeSample must give the roles that the detector needs")
	}
	want := m.Score(stream, env(1))
	check(t, "stream", stream, want)
	opinions := 0
	for _, v := range want.Value {
		if !math.IsNaN(v) {
			opinions++
		}
	}
	if opinions == 0 {
		t.Fatal("no row has a score: the suite would prove nothing")
	}
	for _, workers := range []int{1, 2, 8} {
		got := fit(t, d, reference, workers).Score(stream, env(workers))
		equal(t, fmt.Sprintf("%d workers instead of one", workers), want, got)
		if got.Stream != want.Stream || got.PerClass != want.PerClass || got.Code != want.Code {
			t.Fatalf("%d workers: code or kind of score differ", workers)
		}
	}
}

// order: a row's score does not depend on where it stands, but for rounding.
func order(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	m := fit(t, d, makeSample(referenceRows, 1), 2)
	if m == nil {
		t.Skip("no model")
	}
	stream := makeSample(streamRows, 2)
	perm := rand.New(rand.NewPCG(3, 5)).Perm(stream.N)
	want, moved := m.Score(stream, env(2)), m.Score(stream.Select(perm), env(2))
	got := detect.Scores{Value: make([]float64, stream.N)}
	if moved.LogP != nil {
		got.LogP = make([]float64, stream.N)
	}
	for to, from := range perm {
		got.Value[from] = moved.Value[to]
		if got.LogP != nil {
			got.LogP[from] = moved.LogP[to]
		}
	}
	near(t, "in another order", want, got)
}

// concurrent: one model may be used by many at once; the race detector looks on where it is on.
func concurrent(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	m := fit(t, d, makeSample(referenceRows, 1), 2)
	if m == nil {
		t.Skip("no model")
	}
	a, b := makeSample(streamRows, 2), makeSample(streamRows/3, 4)
	wantA, wantB := m.Score(a, env(2)), m.Score(b, env(2))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s, want := a, wantA
			if i%2 == 1 {
				s, want = b, wantB
			}
			got := m.Score(s, env(1+i))
			for row := range want.Value {
				if math.Float64bits(got.Value[row]) != math.Float64bits(want.Value[row]) {
					t.Errorf("row %d scores %v beside others, %v alone", row, got.Value[row], want.Value[row])
					return
				}
			}
		})
	}
	wg.Wait()
}

// untouched: neither Fit nor Score changes its sample.
func untouched(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	reference, stream := makeSample(referenceRows, 1), makeSample(streamRows, 2)
	m := fit(t, d, reference, 2)
	if m == nil {
		t.Skip("no model")
	}
	m.Score(stream, env(2))
	for _, c := range []struct {
		name      string
		got, want *detect.Sample
	}{{"Fit", reference, makeSample(referenceRows, 1)}, {"Score", stream, makeSample(streamRows, 2)}} {
		if !same(c.got, c.want) {
			t.Errorf("%s changed its sample", c.name)
		}
	}
}

// same compares samples bit by bit: NaN equals NaN.
func same(a, b *detect.Sample) bool {
	if !sameBits(a.Features, b.Features, math.Float64bits) || !sameBits(a.Loss, b.Loss, math.Float64bits) ||
		!sameBits(a.Embedding, b.Embedding, math.Float32bits) || !sameBits(a.Gradient, b.Gradient, math.Float32bits) ||
		!sameBits(a.Probabilities, b.Probabilities, math.Float32bits) {
		return false
	}
	x, y := *a, *b
	for _, s := range []*detect.Sample{&x, &y} {
		s.Features, s.Loss, s.Embedding, s.Gradient, s.Probabilities = nil, nil, nil, nil, nil
	}
	return reflect.DeepEqual(x, y)
}

func sameBits[F float32 | float64, B uint32 | uint64](a, b []F, bits func(F) B) bool {
	return slices.EqualFunc(a, b, func(x, y F) bool { return bits(x) == bits(y) })
}

// missingRole: a stream may lack what the reference had, and the other way round.
func missingRole(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	full := makeSample(referenceRows, 1)
	m := fit(t, d, full, 2)
	for _, c := range stripped(full) {
		t.Run(c.name, func(t *testing.T) {
			if m != nil {
				check(t, "full reference", c.sample, m.Score(c.sample, env(2)))
			}
			if poor, err := d.Fit(c.sample, env(2)); err == nil && poor != nil {
				check(t, "poor reference", full, poor.Score(full, env(2)))
			}
		})
	}
}

type named struct {
	name   string
	sample *detect.Sample
}

// stripped returns s without each role in turn, and without any.
func stripped(s *detect.Sample) []named {
	var out []named
	without := func(name string, f func(s *detect.Sample)) {
		poor := *s
		f(&poor)
		out = append(out, named{"no " + name, &poor})
	}
	without("text", func(s *detect.Sample) { s.Text = nil })
	without("label", func(s *detect.Sample) { s.Label, s.Classes = nil, nil })
	without("features", func(s *detect.Sample) { s.Features, s.FeatureNames = nil, nil })
	without("embedding", func(s *detect.Sample) { s.Embedding, s.Dim, s.HasEmbedding = nil, 0, nil })
	without("probabilities", func(s *detect.Sample) { s.Probabilities, s.Outcomes = nil, 0 })
	without("loss", func(s *detect.Sample) { s.Loss = nil })
	without("gradient", func(s *detect.Sample) { s.Gradient, s.GradientDim = nil, 0 })
	without("provider", func(s *detect.Sample) { s.Provider, s.Providers = nil, nil })
	return append(out, named{"no role", &detect.Sample{N: s.N}})
}

// degenerate: each odd sample is fitted and scored against itself, scored by a model of good data, and used as
// the reference for good data.
func degenerate(t *testing.T, d detect.Detector, makeSample func(int, uint64) *detect.Sample) {
	good := makeSample(referenceRows, 1)
	model := fit(t, d, good, 2)
	for _, c := range odd(makeSample) {
		t.Run(c.name, func(t *testing.T) {
			if model != nil {
				check(t, "scored by a model of good data", c.sample, model.Score(c.sample, env(2)))
			}
			m, err := d.Fit(c.sample, env(2))
			if err != nil || m == nil {
				return // it may say that it cannot; it may not panic
			}
			check(t, "scored against itself", c.sample, m.Score(c.sample, env(2)))
			check(t, "as reference", good, m.Score(good, env(2)))
		})
	}
}

func odd(makeSample func(int, uint64) *detect.Sample) []named {
	var out []named
	for _, n := range []int{0, 1, 2, 3, 11} {
		out = append(out, named{fmt.Sprintf("%d rows", n), makeSample(n, 9)})
	}
	edit := func(name string, f func(s *detect.Sample)) {
		s := makeSample(120, 9)
		copied := s.Select(all(s.N)) // makeSample may hand out what it keeps
		f(copied)
		out = append(out, named{name, copied})
	}
	edit("constant", func(s *detect.Sample) {
		*s = *s.Select(make([]int, s.N))
	})
	edit("every feature NaN", func(s *detect.Sample) {
		for i := range s.Features {
			s.Features[i] = math.NaN()
		}
	})
	edit("some features NaN or huge", func(s *detect.Sample) {
		for i := range s.Features {
			switch i % 7 {
			case 0:
				s.Features[i] = math.NaN()
			case 3:
				s.Features[i] = math.MaxFloat64
			case 5:
				s.Features[i] = -math.MaxFloat64
			}
		}
	})
	edit("one class", func(s *detect.Sample) {
		for i := range s.Label {
			s.Label[i] = 0
		}
		s.Classes = s.Classes[:min(1, len(s.Classes))]
	})
	edit("no row has a label", func(s *detect.Sample) {
		for i := range s.Label {
			s.Label[i] = -1
		}
		s.Classes = nil
	})
	edit("classes without rows", func(s *detect.Sample) {
		if s.Label != nil {
			s.Classes = append([]string{"nothing"}, append(s.Classes, "nobody")...)
			for i, l := range s.Label {
				if l >= 0 {
					s.Label[i] = l + 1
				}
			}
		}
	})
	vectors := func(name string, f func(i int) float32) {
		edit(name, func(s *detect.Sample) {
			for _, column := range [][]float32{s.Embedding, s.Gradient, s.Probabilities} {
				for i := range column {
					column[i] = f(i)
				}
			}
		})
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	vectors("zero vectors", func(int) float32 { return 0 })
	vectors("huge vectors", func(int) float32 { return math.MaxFloat32 })
	vectors("tiny vectors", func(i int) float32 { return math.SmallestNonzeroFloat32 * float32(i%5) })
	vectors("vectors of NaN", func(int) float32 { return nan })
	vectors("infinite vectors", func(i int) float32 { return [...]float32{inf, -inf}[i%2] })
	vectors("a NaN or an infinity here and there", func(i int) float32 {
		switch i % 29 {
		case 3:
			return nan
		case 17:
			return inf
		}
		return float32(i%7) / 7
	})
	losses := func(name string, f func(i int) float64) {
		edit(name, func(s *detect.Sample) {
			for i := range s.Loss {
				s.Loss[i] = f(i)
			}
		})
	}
	losses("no loss but zero", func(int) float64 { return 0 })
	losses("no loss but NaN", func(int) float64 { return math.NaN() })
	losses("losses of every kind", func(i int) float64 {
		return [...]float64{1, math.NaN(), math.Inf(1), -2, math.Inf(-1), math.MaxFloat64, 0, 5e-324}[i%8]
	})
	for k, lacking := range []string{
		"text", "label", "features", "embedding", "probabilities", "loss", "gradient", "provider",
	} {
		edit("half without "+lacking, func(s *detect.Sample) {
			for i := 0; i < s.N; i += 2 {
				lack(s, i, k)
			}
		})
	}
	edit("each row without another role", func(s *detect.Sample) {
		for i := range s.N {
			lack(s, i, i%8)
		}
	})
	edit("some rows without any role", func(s *detect.Sample) {
		for i := 0; i < s.N; i += 3 {
			for k := range 8 {
				lack(s, i, k)
			}
		}
	})
	edit("empty texts", func(s *detect.Sample) {
		for i := range s.Text {
			s.Text[i] = []byte{}
		}
	})
	edit("no row has a text", func(s *detect.Sample) {
		for i := range s.Text {
			s.Text[i] = nil
		}
	})
	edit("white space, control characters and broken UTF-8", func(s *detect.Sample) {
		for i := range s.Text {
			s.Text[i] = [][]byte{[]byte(" \t\n "), {0, 1, 2}, {0xff, 0xfe, 0xc3}, []byte("\u200b\u202e\ufeff"), []byte("é漢🙂")}[i%5]
		}
	})
	edit("one gigantic text", func(s *detect.Sample) {
		if s.Text != nil {
			var long []byte
			for i := 0; len(long) < 5<<19; i++ {
				long = fmt.Appendf(long, "word%d of very long winded prose, ", i*i%5000)
			}
			s.Text[0] = long
			s.Text[1] = []byte(strings.Repeat("x", 1<<18))
		}
	})
	edit("one provider each", func(s *detect.Sample) {
		if s.Provider != nil {
			s.Providers = nil
			for i := range s.Provider {
				s.Provider[i] = int32(i)
				s.Providers = append(s.Providers, fmt.Sprint("provider ", i))
			}
		}
	})
	edit("one provider", func(s *detect.Sample) { clear(s.Provider) })
	edit("no row has a provider", func(s *detect.Sample) {
		for i := range s.Provider {
			s.Provider[i] = -1
		}
		s.Providers = nil
	})
	edit("classes and providers that nobody knows", func(s *detect.Sample) {
		*s = *unique(s, 1, 1)
		for i := range s.Label {
			s.Label[i] %= 3
		}
		for i := range s.Provider {
			s.Provider[i] %= 4
		}
	})
	edit("a new class and a new provider among those that are known", func(s *detect.Sample) {
		s.Classes, s.Providers = append(slices.Clip(s.Classes), "new class"), append(slices.Clip(s.Providers), "new provider")
		for i := 0; i < s.N; i += 10 {
			if s.Label != nil {
				s.Label[i] = int32(len(s.Classes) - 1)
			}
			if s.Provider != nil {
				s.Provider[i] = int32(len(s.Providers) - 1)
			}
		}
	})
	s := makeSample(1500, 9)
	many := s.Select(all(s.N))
	if many.Label != nil {
		many.Classes = nil
		for i := range many.Label {
			many.Label[i] = int32(i % 1000)
			if i < 1000 {
				many.Classes = append(many.Classes, fmt.Sprint("class ", i))
			}
		}
		out = append(out, named{"1,000 classes", many})
	}
	return out
}

// lack takes a role from a row.
func lack(s *detect.Sample, row, role int) {
	vector := func(column []float32, width int) {
		if column != nil {
			clear(column[row*width : (row+1)*width])
		}
	}
	switch role {
	case 0:
		if s.Text != nil {
			s.Text[row] = nil
		}
	case 1:
		if s.Label != nil {
			s.Label[row] = -1
		}
	case 2:
		for j := range s.FeatureNames {
			s.Features[row*len(s.FeatureNames)+j] = math.NaN()
		}
	case 3:
		if s.Embedding != nil {
			if s.HasEmbedding == nil {
				s.HasEmbedding = slices.Repeat([]bool{true}, s.N)
			}
			s.HasEmbedding[row] = false
			vector(s.Embedding, s.Dim)
		}
	case 4:
		vector(s.Probabilities, s.Outcomes)
	case 5:
		if s.Loss != nil {
			s.Loss[row] = math.NaN()
		}
	case 6:
		vector(s.Gradient, s.GradientDim)
	case 7:
		if s.Provider != nil {
			s.Provider[row] = -1
		}
	}
}

func all(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// check holds what is true of every answer.
func check(t *testing.T, what string, s *detect.Sample, got detect.Scores) {
	t.Helper()
	if len(got.Value) != s.N {
		t.Fatalf("%s: %d scores for %d rows", what, len(got.Value), s.N)
	}
	if got.LogP != nil && len(got.LogP) != s.N {
		t.Fatalf("%s: %d values of ln p for %d rows", what, len(got.LogP), s.N)
	}
	for i, lp := range got.LogP {
		if !(lp <= 0) || math.IsInf(lp, 0) {
			t.Fatalf("%s: row %d has ln p %v: want a finite number, at most 0", what, i, lp)
		}
	}
	best := -1
	for i, v := range got.Value {
		if math.IsInf(v, 0) {
			t.Fatalf("%s: row %d scores %v: want a finite number or NaN", what, i, v)
		}
		if !math.IsNaN(v) && (best < 0 || v > got.Value[best]) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	if got.Code == "" {
		t.Errorf("%s: no reason code", what)
	}
	if got.Explain == nil {
		t.Fatalf("%s: no Explain", what)
	}
	if line := got.Explain(best); line == "" || strings.ContainsAny(line, "\n\r") {
		t.Errorf("%s: Explain gives %d bytes: want one line", what, len(line))
	}
}
