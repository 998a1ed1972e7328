package nearduplicate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/wording"
)

func TestConformance(t *testing.T) {
	t.Run("text", func(t *testing.T) { detecttest.Run(t, Detector{}, detecttest.Clean) })
	t.Run("embedding", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Text = nil
			return s
		})
	})
	t.Run("features", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the others' runs show the same of what goes on at once")
		}
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Text, s.Embedding, s.Dim, s.HasEmbedding = nil, nil, 0, nil
			return s
		})
	})
}

// review writes about 370 bytes of words with Zipf-like shares.
func review(rng *rand.Rand) string {
	var b strings.Builder
	for b.Len() < 340+rng.IntN(60) {
		fmt.Fprintf(&b, "%s ", word(int(math.Exp(rng.Float64()*math.Log(20000)))))
	}
	return b.String()
}

func word(rank int) string {
	var b []byte
	for x := uint64(rank)*2654435761 + 12345; len(b) < 3+rank%7; x = x*6364136223846793005 + 1442695040888963407 {
		b = append(b, 'a'+byte(x>>56%26))
	}
	return string(b)
}

// templated is what a poor generator of clean traffic writes: five of twenty sentences with slots.
func templated(rng *rand.Rand) string {
	var b strings.Builder
	for range 5 {
		sentence := rng.IntN(20)
		for w := range 12 {
			if w%5 == 3 {
				fmt.Fprintf(&b, "%s ", word(rng.IntN(60)))
			} else {
				fmt.Fprintf(&b, "%s ", word(1000+20*sentence+w))
			}
		}
	}
	return b.String()
}

// flood is one text with a number and a few words changed, anywhere.
func flood(base string, rng *rand.Rand, changes int) string {
	words := strings.Fields(base)
	for range changes {
		words[rng.IntN(len(words))] = word(30000 + rng.IntN(3000))
	}
	return strings.Join(words, " ") + fmt.Sprint(" order ", rng.IntN(1e6))
}

func texts(n int, row func(i int) string) *detect.Sample {
	s := &detect.Sample{N: n, Text: make([][]byte, n)}
	for i := range n {
		s.Text[i] = []byte(row(i))
	}
	return s
}

func scores(t testing.TB, reference, s *detect.Sample) detect.Scores {
	t.Helper()
	m, err := Detector{}.Fit(reference, detect.Env{Seed: 1, Workers: 2})
	if err != nil || m == nil {
		t.Fatalf("no model: %v", err)
	}
	return m.Score(s, detect.Env{Seed: 1, Workers: 2})
}

// caught returns the share of planted rows that score above all but a thousandth of the others and above 0.
func caught(value []float64, planted func(i int) bool) (recall, cleanAbove0 float64) {
	var clean, bad []float64
	for i, v := range value {
		if planted(i) {
			bad = append(bad, v)
		} else {
			clean = append(clean, v)
			if v > 0 {
				cleanAbove0++
			}
		}
	}
	n := float64(len(clean))
	bar := quantile(clean, 0.999)
	for _, v := range bad {
		if v > bar && v > 0 {
			recall++
		}
	}
	return recall / max(1, float64(len(bad))), cleanAbove0 / n
}

func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name    string
		clean   func(*rand.Rand) string
		changes int
		n, bad  int
		recall  float64
	}{
		{"word for word", review, -1, 8000, 60, 1},
		{"a number changed", review, 0, 8000, 60, 1},
		{"three words changed", review, 3, 8000, 60, 0.98},
		{"four words changed", review, 4, 8000, 60, 0.85},
		{"small stream", review, 3, 5000, 40, 0.95},
		{"poor generator, word for word", templated, -1, 8000, 60, 1},
		{"poor generator, three words changed", templated, 3, 8000, 60, 0.95},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			base := c.clean(rng)
			planted := func(i int) bool { return i%(c.n/c.bad) == 0 && i/(c.n/c.bad) < c.bad }
			s := texts(c.n, func(i int) string {
				switch {
				case !planted(i):
					return c.clean(rng)
				case c.changes < 0:
					return base
				}
				return flood(base, rng, c.changes)
			})
			reference := texts(1000, func(int) string { return c.clean(rng) })
			got := scores(t, reference, s)
			recall, above := caught(got.Value, planted)
			t.Logf("recall %.3f, clean rows above 0: %.5f; %s", recall, above, got.Explain(0))
			if recall < c.recall || above > 0.001 {
				t.Errorf("recall %.3f, want %.2f; %.5f of clean rows above 0", recall, c.recall, above)
			}
			if why := got.Explain(0); !strings.Contains(why, "nearly equal rows") {
				t.Errorf("evidence does not tell the cluster: %s", why)
			}
			alone := scores(t, s, s) // without a reference
			if recall, above := caught(alone.Value, planted); recall < c.recall || above > 0.001 {
				t.Errorf("without a reference: recall %.3f, %.5f of clean rows above 0", recall, above)
			}
		})
	}
}

// natural traffic repeats itself: short praise and mails that end in the same boilerplate.
func natural(rng *rand.Rand) string {
	switch {
	case rng.IntN(10) == 0:
		return []string{"Great product!", "Love it.", "works as described", "Great product", "ok", "five stars"}[rng.IntN(6)]
	case rng.IntN(20) == 0:
		return "Dear customer, your order 12" + fmt.Sprint(rng.IntN(1e6)) + " was shipped with our partner and will reach you within three to five " +
			"working days. Please keep this mail. For returns see our page or ask the service team at any time. Kind regards, the shop"
	}
	return review(rng)
}

func TestNaturalDuplicatesAreNotFloods(t *testing.T) {
	for _, n := range []int{1000, 10000} {
		rng := rand.New(rand.NewPCG(3, 4))
		reference := texts(1000, func(int) string { return natural(rng) })
		got := scores(t, reference, texts(n, func(int) string { return natural(rng) }))
		if _, above := caught(got.Value, func(int) bool { return false }); above > 0.002 {
			t.Errorf("%d rows: %.4f of clean rows above 0", n, above)
		}
	}
}

// TestBootstrap: simulated clean streams repeat rows, which is no flood; a true flood scores above all of them.
func TestBootstrap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	reference := texts(500, func(int) string { return natural(rng) })
	held := texts(500, func(int) string { return natural(rng) })
	rows := make([]int, 30000)
	for i := range rows {
		rows[i] = rng.IntN(held.N)
	}
	got := scores(t, reference, held.Select(rows))
	limit := slices.Max(got.Value)
	if _, above := caught(got.Value, func(int) bool { return false }); above > 0.002 {
		t.Errorf("%.4f of bootstrapped rows above 0, up to %.3g", above, limit)
	}
	base := review(rng)
	s := texts(30000, func(i int) string {
		if i < 300 {
			return flood(base, rng, 2)
		}
		return natural(rng)
	})
	value := scores(t, reference, s).Value
	for i := range 300 {
		if value[i] <= limit {
			t.Fatalf("flooded row %d scores %.3g, bootstrapped ones up to %.3g", i, value[i], limit)
		}
	}
}

func TestSimilarityEstimatesResemblance(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var sum, exact float64
	for range 200 {
		base := review(rng)
		a, b := flood(base, rng, 2), flood(base, rng, 2)
		signed := wording.Of(&detect.Sample{N: 2, Text: [][]byte{[]byte(a), []byte(b)}}, detect.Env{}).Signatures
		sum += similarity(&signed[0], &signed[1])
		exact += jaccard(a, b)
	}
	if math.Abs(sum-exact)/200 > 0.02 {
		t.Errorf("mean similarity %.3f, exactly %.3f", sum/200, exact/200)
	}
}

func jaccard(a, b string) float64 {
	shingles := func(text string) map[string]bool {
		words, set := strings.Fields(text), map[string]bool{}
		for i := range words {
			if strings.Trim(words[i], "0123456789") == "" {
				words[i] = "0"
			}
		}
		for i := range len(words) - 2 {
			set[strings.Join(words[i:i+3], " ")] = true
		}
		return set
	}
	x, y := shingles(a), shingles(b)
	both := 0
	for s := range x {
		if y[s] {
			both++
		}
	}
	return float64(both) / float64(len(x)+len(y)-both)
}

func TestEmbeddingFlood(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const dim = 384
	clean := func() []float32 {
		v := make([]float32, dim)
		topic := rng.IntN(10)
		for i := range v {
			v[i] = float32(rng.NormFloat64() + 1 + float64((i*(topic+1))%7)/3)
		}
		return v
	}
	vectors := func(n int, row func(i int) []float32) *detect.Sample {
		s := &detect.Sample{N: n, Dim: dim}
		for i := range n {
			s.Embedding = append(s.Embedding, row(i)...)
		}
		return s
	}
	base := clean()
	planted := func(i int) bool { return i%40 == 0 }
	s := vectors(4000, func(i int) []float32 {
		if !planted(i) {
			return clean()
		}
		v := slices.Clone(base)
		for j := range v {
			v[j] += 0.08 * float32(rng.NormFloat64())
		}
		return v
	})
	got := scores(t, vectors(1000, func(int) []float32 { return clean() }), s)
	if recall, above := caught(got.Value, planted); recall < 0.98 || above > 0 {
		t.Errorf("recall %.3f, %.5f of clean rows above 0", recall, above)
	}
}

// tables returns n rows of numbers such as tables have: a heavy tail, a small whole number, values with two digits behind the
// point that hang together, a constant, and a value that half of the rows lack.
func tables(rng *rand.Rand, n int) *detect.Sample {
	s := &detect.Sample{N: n, FeatureNames: []string{"amount", "stars", "x", "y", "constant", "sometimes"}}
	for range n {
		x := math.Round(100*rng.NormFloat64()) / 100
		row := []float64{
			math.Round(math.Exp(3 + 1.5*rng.NormFloat64())), float64(1 + rng.IntN(5)), x, math.Round(100*(x+rng.NormFloat64())) / 100, 7, math.NaN(),
		}
		if rng.IntN(2) == 0 {
			row[5] = rng.ExpFloat64()
		}
		s.Features = append(s.Features, row...)
	}
	return s
}

func TestFeatureFlood(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	s := tables(rng, 4000)
	width := len(s.FeatureNames)
	planted := func(i int) bool { return i%100 == 0 }
	base := slices.Clone(s.Features[:width])
	for i := range s.N {
		if planted(i) {
			row := s.Features[i*width : (i+1)*width]
			copy(row, base)
			row[2] += 0.01 * rng.NormFloat64()
			row[3] += 0.01 * rng.NormFloat64()
		}
	}
	got := scores(t, tables(rng, 1000), s)
	if recall, above := caught(got.Value, planted); recall < 0.98 || above > 0.01 {
		t.Errorf("recall %.3f, %.5f of clean rows above 0", recall, above)
	}
}

// What ties honestly is no flood: two small whole numbers have a few dozen combinations.
func TestTiesAreNotFloods(t *testing.T) {
	rng := rand.New(rand.NewPCG(33, 34))
	dice := func(n int) *detect.Sample {
		s := &detect.Sample{N: n, FeatureNames: []string{"stars", "votes"}}
		for range n {
			s.Features = append(s.Features, float64(1+rng.IntN(5)), math.Floor(rng.ExpFloat64()))
		}
		return s
	}
	got := scores(t, dice(1000), dice(4000))
	if _, above := caught(got.Value, func(int) bool { return false }); above > 0.01 {
		t.Errorf("%.5f of clean rows above 0", above)
	}
}

func TestNothingToCompare(t *testing.T) {
	constant := &detect.Sample{N: 50, FeatureNames: []string{"x"}, Features: slices.Repeat([]float64{3}, 50)}
	for name, s := range map[string]*detect.Sample{"no features": {N: 50}, "a constant": constant} {
		if m, err := (Detector{}).Fit(s, detect.Env{}); m != nil || err != nil {
			t.Errorf("%s: there is a model %t, error %v; want neither", name, m != nil, err)
		}
	}
	rng := rand.New(rand.NewPCG(35, 36))
	s := tables(rng, 10)
	for j := range len(s.FeatureNames) {
		s.Features[j] = math.NaN()
	}
	if got := scores(t, tables(rng, 100), s); !math.IsNaN(got.Value[0]) || math.IsNaN(got.Value[1]) {
		t.Errorf("a row without values scores %v, one with %v; want no opinion, and one", got.Value[0], got.Value[1])
	}
}

func BenchmarkScore(b *testing.B) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, reference := range []int{1000, 10000} {
		m, err := Detector{}.Fit(texts(reference, func(int) string { return review(rng) }), detect.Env{Workers: 1})
		if err != nil {
			b.Fatal(err)
		}
		s := texts(20000, func(int) string { return review(rng) })
		bytes := 0
		for _, text := range s.Text {
			bytes += len(text)
		}
		b.Run(fmt.Sprintf("text/reference=%d", reference), func(b *testing.B) { score(b, m, s, bytes) })
		for _, dim := range []int{32, 384, 1024} {
			vectors := func(n int) *detect.Sample {
				s := &detect.Sample{N: n, Dim: dim, Embedding: make([]float32, n*dim)}
				for i := range s.Embedding {
					s.Embedding[i] = float32(rng.NormFloat64())
				}
				return s
			}
			m, err := Detector{}.Fit(vectors(reference), detect.Env{Workers: 1})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("d=%d/reference=%d", dim, reference), func(b *testing.B) { score(b, m, vectors(4096), 4096*dim*4) })
		}
		for _, width := range []int{8, 32} {
			table := func(n int) *detect.Sample {
				s := &detect.Sample{N: n, FeatureNames: make([]string, width)}
				for range n * width {
					s.Features = append(s.Features, rng.NormFloat64())
				}
				return s
			}
			m, err := Detector{}.Fit(table(reference), detect.Env{Workers: 1})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("features=%d/reference=%d", width, reference), func(b *testing.B) { score(b, m, table(20000), 20000*width*8) })
		}
	}
}

func score(b *testing.B, m detect.Model, s *detect.Sample, bytes int) {
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		m.Score(s, detect.Env{Workers: 1})
	}
	b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// Reviews of three stock sentences out of sixty: any two that share two of them are similar, and of thousands nearly all hang
// together by such pairs. That is no flood; copies of one text among them are.
func TestStockSentencesAreNoFlood(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var stock []string
	for i := range 60 {
		stock = append(stock, fmt.Sprintf("word%d sounds word%d like word%d something word%d anybody word%d says word%d here", i, i+7, 3*i, 5*i, 11*i, 13*i))
	}
	clean := func(n int) *detect.Sample {
		s := &detect.Sample{N: n}
		for range n {
			s.Text = append(s.Text, []byte(stock[rng.IntN(60)]+". "+stock[rng.IntN(60)]+". "+stock[rng.IntN(60)]))
		}
		return s
	}
	s := clean(20_000)
	const flood = 400
	for i := range flood {
		s.Text[i] = fmt.Appendf(nil, "the flood says that all of this is very good and that my friend%d should buy all of them today from our shop", i)
	}
	for name, reference := range map[string]*detect.Sample{"with a reference": clean(1000), "without one": s} {
		m, err := Detector{}.Fit(reference, detect.Env{Seed: 1, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		value := m.Score(s, detect.Env{Workers: 2}).Value
		flagged := 0
		for i, v := range value {
			if i < flood && v == 0 {
				t.Fatalf("%s: copy %d has no score", name, i)
			} else if i >= flood && v > 0 {
				flagged++
			}
		}
		if flagged > s.N/1000 {
			t.Errorf("%s: %d of %d honest texts stand out", name, flagged, s.N)
		}
	}
}

// Places are sorted as any sort does it.
func TestByKey(t *testing.T) {
	rng := rand.New(rand.NewPCG(24, 5))
	for range 200 {
		places := make([]place, rng.IntN(500))
		bits := rng.IntN(64)
		for i := range places {
			places[i] = place{key: rng.Uint64() >> bits, index: int32(i)}
		}
		want := slices.Clone(places)
		slices.SortStableFunc(want, func(a, b place) int { return cmp.Compare(a.key, b.key) })
		if got := byKey(places, make([]place, len(places))); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// A sample's types are the same whether its texts were signed before, among others, or not.
func TestTextsSignedBefore(t *testing.T) {
	s, others := detecttest.Clean(600, 1), detecttest.Clean(200, 2)
	s.Text[3], s.Text[5], s.Text[7] = nil, []byte("..."), s.Text[8]
	m := &model{}
	want := m.group(s, detect.Env{Workers: 2})
	env := detect.Env{Workers: 2, Shared: &detect.Shared{}}
	m.group(s.Join(others), env)
	if got := (&model{}).group(s, env); !slices.Equal(got.types, want.types) || !slices.Equal(got.typeOf, want.typeOf) || !slices.Equal(got.signatures, want.signatures) {
		t.Errorf("%d types, want %d, or others", len(got.types), len(want.types))
	}
}
