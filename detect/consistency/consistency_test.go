package consistency

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
	t.Run("embeddings", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Probabilities, s.Outcomes = nil, 0
			return s
		})
	})
	t.Run("probabilities", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Embedding, s.Dim = nil, 0
			return s
		})
	})
}

// told returns n rows of classes whose embeddings and probabilities tell them apart, by names, of the given frequencies.
func told(n, dim int, frequency []float64, name func(k int) string, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 11))
	centres := rand.New(rand.NewPCG(1, 12))
	width := len(frequency)
	centre := make([]float64, width*dim)
	for i := range centre {
		centre[i] = centres.NormFloat64()
	}
	s := &detect.Sample{N: n, Dim: dim, Outcomes: width}
	for k := range frequency {
		s.Classes = append(s.Classes, name(k))
	}
	var sum float64
	for _, f := range frequency {
		sum += f
	}
	for range n {
		k, u := 0, rng.Float64()*sum
		for ; k < width-1 && u >= frequency[k]; k++ {
			u -= frequency[k]
		}
		s.Label = append(s.Label, int32(k))
		for j := range dim {
			s.Embedding = append(s.Embedding, float32(centre[k*dim+j]+rng.NormFloat64()))
		}
		p, all := make([]float64, width), 0.0
		for j := range p {
			p[j] = frequency[j] / sum * math.Exp(1.5*rng.NormFloat64())
			if j == k {
				p[j] *= math.Exp(6)
			}
			all += p[j]
		}
		for _, v := range p {
			s.Probabilities = append(s.Probabilities, float32(v/all))
		}
	}
	return s
}

func even(classes int) []float64 { return slices.Repeat([]float64{1}, classes) }

func word(k int) string { return fmt.Sprint("class ", k) }

// recall is the share of flipped rows above all but one per cent of the others.
func recall(t *testing.T, value []float64, flipped []bool) float64 {
	t.Helper()
	if i := slices.IndexFunc(value, math.IsNaN); i >= 0 {
		t.Fatalf("row %d has no score", i)
	}
	_, at1, _ := planted.Figures(value, flipped)
	return at1
}

func TestFlipsAreFound(t *testing.T) {
	for _, c := range []struct {
		what    string
		classes []float64
		rows    int
		share   float64 // of labels that are flipped; more would be the majority of a rare class
		want    float64
	}{
		{"two classes", even(2), 1000, 0.03, 0.9},
		{"ten classes", even(10), 1000, 0.03, 0.9},
		{"a rare class", []float64{100, 1}, 4000, 0.003, 0.9},
		{"a hundred classes", even(100), 3000, 0.03, 0.8},
	} {
		for _, given := range []string{"both", "embeddings", "probabilities"} {
			for _, trusted := range []bool{true, false} {
				reference, stream := told(c.rows, 24, c.classes, word, 1), told(3000, 24, c.classes, word, 2)
				flipped := planted.FlipLabels(stream, c.share, 3)
				for _, s := range []*detect.Sample{reference, stream} {
					if given == "embeddings" {
						s.Probabilities, s.Outcomes = nil, 0
					}
					if given == "probabilities" {
						s.Embedding, s.Dim = nil, 0
					}
				}
				if !trusted {
					reference = stream
				}
				m, err := Detector{}.Fit(reference, env)
				if err != nil || m == nil {
					t.Fatal("no model: ", err)
				}
				got := recall(t, m.Score(stream, env).Value, flipped)
				t.Logf("%s, %s, reference %v: recall %.2f", c.what, given, trusted, got)
				if got < c.want {
					t.Errorf("%s, %s, reference %v: recall %.2f at 1 %% false alarms: want %.2f", c.what, given, trusted, got, c.want)
				}
			}
		}
	}
}

// In a long sample words tell of distances, and rows score nearly what they do in short ones, whoever else works on it.
func TestLongSamples(t *testing.T) {
	classes := []float64{100, 60, 1} // the last of few rows in the reference
	reference := told(2000, 24, classes, word, 1)
	stream := told(longSample+500, 24, classes, word, 2)
	for _, s := range []*detect.Sample{reference, stream} {
		s.Probabilities, s.Outcomes = nil, 0
	}
	for row := range 40 { // copies of what is known, no vector, and one without a length
		v := stream.Embedding[row*stream.Dim : (row+1)*stream.Dim]
		switch row % 4 {
		case 0:
			copy(v, reference.Embedding[row*stream.Dim:])
		case 1:
			clear(v)
		case 2:
			v[0] = float32(math.NaN())
		}
	}
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	m.(*model).weight = [parts]float64{byNeighbours: 1} // the discriminant tells such classes so well that neighbours would not count
	long := m.Score(stream, detect.Env{Seed: 1, Workers: 1}).Value
	again := m.Score(stream, detect.Env{Seed: 1, Workers: 3}).Value
	rounded := 0
	for first := 0; first < stream.N; first += 5000 {
		var rows []int
		for row := first; row < min(first+5000, stream.N); row++ {
			rows = append(rows, row)
		}
		for i, want := range m.Score(stream.Select(rows), env).Value {
			got := long[first+i]
			if math.Float64bits(got) != math.Float64bits(again[first+i]) {
				t.Fatalf("row %d scores %v and %v", first+i, got, again[first+i])
			}
			if math.IsNaN(got) != math.IsNaN(want) || math.Abs(got-want) > 1e-2*(1+math.Abs(want)) {
				t.Errorf("row %d scores %v in a long sample and %v in a short one", first+i, got, want)
			}
			if got != want && !math.IsNaN(got) {
				rounded++
			}
		}
	}
	if byWords := m.(*model).near.sets.ByWords(); byWords != (rounded > stream.N/2) {
		t.Errorf("%d of %d rows have other scores in a long sample; by rounded distances: %v", rounded, stream.N, byWords)
	}
}

// A part that knows nothing must not drown the other.
func TestUselessPart(t *testing.T) {
	for _, useless := range []string{"embeddings", "probabilities"} {
		reference, stream := told(1000, 24, even(2), word, 1), told(3000, 24, even(2), word, 2)
		for _, s := range []*detect.Sample{reference, stream} {
			rng := rand.New(rand.NewPCG(uint64(s.N), 5))
			rng.Shuffle(s.N, func(i, j int) {
				if useless == "embeddings" {
					for d := range s.Dim {
						a, b := &s.Embedding[i*s.Dim+d], &s.Embedding[j*s.Dim+d]
						*a, *b = *b, *a
					}
					return
				}
				for k := range s.Outcomes {
					a, b := &s.Probabilities[i*s.Outcomes+k], &s.Probabilities[j*s.Outcomes+k]
					*a, *b = *b, *a
				}
			})
		}
		flipped := planted.FlipLabels(stream, 0.03, 3)
		m, err := Detector{}.Fit(reference, env)
		if err != nil || m == nil {
			t.Fatal("no model: ", err)
		}
		if got := recall(t, m.Score(stream, env).Value, flipped); got < 0.85 {
			t.Errorf("useless %s: recall %.2f", useless, got)
		}
	}
}

// Names of classes meet indexes of probabilities by the data, or not at all.
func TestWhichClassAnIndexIs(t *testing.T) {
	index := func(s *detect.Sample) string {
		o := NewOutcomes(s)
		if o == nil {
			return "nothing"
		}
		var out []string
		for class, name := range s.Classes {
			k := -1
			for row, label := range s.Label {
				if int(label) == class {
					k = o.of(s, row)
					break
				}
			}
			out = append(out, fmt.Sprint(name, "=", k))
		}
		return strings.Join(out, " ")
	}
	number := func(k int) string { return fmt.Sprint(k) }
	shifted := func(k int) string { return fmt.Sprint(k + 1) }
	if got, want := index(told(300, 2, even(3), number, 1)), "0=0 1=1 2=2"; got != want {
		t.Errorf("integers: %s", got)
	}
	if got, want := index(told(300, 2, even(3), shifted, 1)), "1=0 2=1 3=2"; got != want {
		t.Errorf("integers that are no indexes: %s", got)
	}
	if got, want := index(told(300, 2, even(3), word, 1)), "class 0=0 class 1=1 class 2=2"; got != want {
		t.Errorf("names: %s", got)
	}
	if got, want := index(told(3000, 2, []float64{100, 1}, word, 1)), "class 0=0 class 1=1"; got != want {
		t.Errorf("a rare class: %s", got)
	}
	// The order in which classes appear says nothing.
	s := told(300, 2, even(3), word, 1)
	for i, l := range s.Label {
		s.Label[i] = 2 - l
	}
	slices.Reverse(s.Classes)
	if got, want := index(s), "class 2=2 class 1=1 class 0=0"; got != want {
		t.Errorf("another order: %s", got)
	}
	// Two names for one outcome: which of them an index stands for cannot be told of the lesser.
	s = told(600, 2, even(3), word, 1)
	s.Classes = append(s.Classes, "class 2 too")
	for i, l := range s.Label {
		if l == 2 && i%2 == 0 {
			s.Label[i] = 3
		}
	}
	if got := index(s); !strings.HasPrefix(got, "class 0=0 class 1=1 ") || !strings.Contains(got, "=-1") {
		t.Errorf("two names: %s", got)
	}
	// Probabilities that say nothing.
	s = told(300, 2, even(3), word, 1)
	rand.New(rand.NewPCG(1, 1)).Shuffle(s.N, func(i, j int) { s.Label[i], s.Label[j] = s.Label[j], s.Label[i] })
	if got := index(s); got != "nothing" {
		t.Errorf("probabilities that say nothing: %s", got)
	}
	if got := index(told(3, 2, even(3), word, 1)); got != "nothing" {
		t.Errorf("three rows: %s", got)
	}
}

func TestOddsFollowTheMargin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	type judged struct{ margin, odds float64 }
	var all []judged
	for range 2000 {
		p, sum := make([]float32, 4), float32(0)
		for k := range p {
			p[k] = float32(math.Exp(4 * rng.NormFloat64()))
			sum += p[k]
		}
		for k := range p {
			p[k] /= sum
		}
		all = append(all, judged{float64(p[1] - highest(p, 1)), oddsAgainst(p, 1)})
	}
	slices.SortFunc(all, func(a, b judged) int {
		if a.margin < b.margin {
			return -1
		}
		return 1
	})
	for i := 1; i < len(all); i++ {
		if all[i].odds > all[i-1].odds+1e-5*(1+math.Abs(all[i].odds)) && math.Abs(all[i].margin) < 0.999 {
			t.Fatalf("margins %v, %v have odds %v, %v", all[i-1].margin, all[i].margin, all[i-1].odds, all[i].odds)
		}
	}
	// The far tail keeps its order, weights need not add up to 1, and what is no probability has no odds.
	if a, b := oddsAgainst([]float32{1, 1e-5}, 1), oddsAgainst([]float32{1, 1e-6}, 1); !(b > a+1) {
		t.Errorf("odds %v, %v", a, b)
	}
	if a, b := oddsAgainst([]float32{0.2, 0.1}, 1), oddsAgainst([]float32{2, 1}, 1); math.Abs(a-b) > 1e-6 || math.Abs(a-math.Log(2)) > 1e-6 {
		t.Errorf("odds %v, %v", a, b)
	}
	for _, p := range [][]float32{{0, 0}, {-1, 2}, {float32(math.NaN()), 1}, {float32(math.Inf(1)), 1}} {
		if !math.IsNaN(oddsAgainst(p, 0)) {
			t.Errorf("%v has odds", p)
		}
	}
}

func TestConfidentLearning(t *testing.T) {
	// Of class 0 one row says 1 beyond both thresholds, and is the issue; another is in doubt.
	p := []float64{0.9, 0.1, 0.8, 0.2, 0.1, 0.9, 0.55, 0.45, 0.2, 0.8, 0.1, 0.9, 0.3, 0.7}
	labels := []int32{0, 0, 0, 0, 1, 1, 1}
	if got := fmt.Sprint(ConfidentLearning(p, 2, labels)); got != "[2]" {
		t.Errorf("issues %s", got)
	}
	for _, c := range []struct {
		p        []float64
		outcomes int
		labels   []int32
	}{
		{nil, 0, nil}, {nil, 3, nil}, {[]float64{1}, 1, []int32{0}}, {[]float64{0, 0}, 2, []int32{1}}, {[]float64{1, 0}, 2, []int32{-1}},
		{[]float64{math.NaN(), 0, 1, 0}, 2, []int32{1, 7}},
	} {
		if got := ConfidentLearning(c.p, c.outcomes, c.labels); len(got) != 0 {
			t.Errorf("%v: issues %v", c, got)
		}
	}
}

func TestExplain(t *testing.T) {
	reference, stream := told(500, 24, even(3), word, 1), told(200, 24, even(3), word, 2)
	stream.Label[0] = (stream.Label[0] + 1) % 3
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		t.Fatal("no model: ", err)
	}
	scores := m.Score(stream, env)
	line := scores.Explain(0)
	for _, want := range []string{"label \"class", "which the model has at", "nearest reference rows have", "have \"class"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s: does not say %q", line, want)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	const n = 20_000
	for _, dim := range []int{32, 384, 1024} {
		for _, rows := range []int{1000, 10_000} {
			b.Run(fmt.Sprintf("embedding/%d/%d", dim, rows), func(b *testing.B) {
				reference, stream := told(rows, dim, even(2), word, 1), told(n, dim, even(2), word, 2)
				reference.Probabilities, reference.Outcomes = nil, 0
				stream.Probabilities, stream.Outcomes = nil, 0
				benchmark(b, reference, stream)
			})
		}
	}
	for _, classes := range []int{2, 10, 1000} {
		b.Run(fmt.Sprintf("probabilities/%d", classes), func(b *testing.B) {
			reference, stream := told(10_000, 1, even(classes), word, 1), told(n, 1, even(classes), word, 2)
			reference.Embedding, reference.Dim = nil, 0
			stream.Embedding, stream.Dim = nil, 0
			benchmark(b, reference, stream)
		})
	}
}

func benchmark(b *testing.B, reference, stream *detect.Sample) {
	m, err := Detector{}.Fit(reference, env)
	if err != nil || m == nil {
		b.Fatal("no model: ", err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Score(stream, env)
	}
	b.ReportMetric(float64(b.N*stream.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(4*(stream.Dim+stream.Outcomes)), "bytes/record")
}

func BenchmarkFit(b *testing.B) {
	for _, dim := range []int{32, 384, 1024} {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			reference := told(10_000, dim, even(2), word, 1)
			for b.Loop() {
				if m, err := (Detector{}).Fit(reference, env); err != nil || m == nil {
					b.Fatal("no model: ", err)
				}
			}
		})
	}
}

// TestMeanOf: the sum of few digits is that of a sorted sum, to the bit, and what is not of few digits is sorted.
func TestMeanOf(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	for range 2000 {
		values := make([]float32, 1+rng.IntN(70))
		for i := range values {
			values[i] = float32(rng.ExpFloat64() * math.Exp(-float64(rng.IntN(3))*10*rng.Float64()))
		}
		if rng.IntN(10) == 0 {
			values[rng.IntN(len(values))] = float32(rng.IntN(2)) * -1e-9
		}
		k := max(1, len(values)-rng.IntN(12)+1)
		sorted := slices.Clone(values)
		slices.Sort(sorted)
		sum := 0.0
		for _, v := range sorted[:min(k, len(sorted))] {
			sum += max(0, float64(v))
		}
		want := sum / float64(min(k, len(sorted)))
		if got := meanOf(values, k); got != want {
			t.Fatalf("%d of %v: %v, want %v", k, sorted, got, want)
		}
	}
	if got := meanOf(nil, 3); !math.IsNaN(got) {
		t.Errorf("the mean of nothing is %v", got)
	}
}
