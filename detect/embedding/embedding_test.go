package embedding

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

func TestConformance(t *testing.T) {
	t.Run("embedding", func(t *testing.T) { detecttest.Run(t, Detector{}, detecttest.Clean) })
	t.Run("text", func(t *testing.T) {
		detecttest.Run(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Embedding, s.Dim = nil, 0
			return s
		})
	})
}

func scores(t testing.TB, reference, s *detect.Sample, seed uint64) detect.Scores {
	t.Helper()
	m, err := Detector{}.Fit(reference, detect.Env{Seed: seed, Workers: 2})
	if err != nil || m == nil {
		t.Fatalf("no model: %v", err)
	}
	return m.Score(s, detect.Env{Workers: 2})
}

const dim = 64

// topic draws a vector of one of ten topics; the class is the topic's parity.
func topic(rng *rand.Rand, k int) []float32 {
	centre := rand.New(rand.NewPCG(uint64(k), 77))
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(1 + centre.NormFloat64() + 0.5*rng.NormFloat64())
	}
	return v
}

func topics(n int, seed uint64, pick func(i int, rng *rand.Rand) (k int, label int32)) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &detect.Sample{N: n, Dim: dim, Classes: []string{"even", "odd"}}
	for i := range n {
		k, label := pick(i, rng)
		s.Embedding = append(s.Embedding, topic(rng, k)...)
		s.Label = append(s.Label, label)
	}
	return s
}

func clean(_ int, rng *rand.Rand) (int, int32) {
	k := rng.IntN(10)
	return k, int32(k % 2)
}

func isOdd(i int) bool { return i%50 == 0 }

func truth(n int) []bool {
	out := make([]bool, n)
	for i := range out {
		out[i] = isOdd(i)
	}
	return out
}

func TestForeignAndMislabelledVectors(t *testing.T) {
	reference := topics(1000, 1, clean)
	for name, pick := range map[string]func(int, *rand.Rand) (int, int32){
		"foreign":    func(_ int, rng *rand.Rand) (int, int32) { return 10 + rng.IntN(3), 0 },
		"mislabeled": func(i int, rng *rand.Rand) (int, int32) { k, l := clean(i, rng); return k, 1 - l },
	} {
		s := topics(3000, 2, func(i int, rng *rand.Rand) (int, int32) {
			if isOdd(i) {
				return pick(i, rng)
			}
			return clean(i, rng)
		})
		s.Classes = []string{"odd", "even"} // another order of appearance
		for i, l := range s.Label {
			s.Label[i] = 1 - l
		}
		got := scores(t, reference, s, 1)
		if a := auc(got.Value, truth(s.N)); a < 0.999 {
			t.Errorf("%s: ROC AUC %.3f", name, a)
		}
		if why := got.Explain(0); !strings.Contains(why, "mean cosine distance to the 8 nearest of") {
			t.Errorf("%s: %s", name, why)
		}
		if why := got.Explain(0); !strings.Contains(why, "; the nearest lies at ") {
			t.Errorf("%s: %s", name, why)
		}
		if name == "mislabeled" && !strings.Contains(got.Explain(0), "of its class") {
			t.Errorf("%s: class is not named: %s", name, got.Explain(0))
		}
	}
}

// TestPoisonInTheReference: one in a hundred rows of the reference comes from the clump that is to be found.
func TestPoisonInTheReference(t *testing.T) {
	poisoned := func(every int) func(int, *rand.Rand) (int, int32) {
		return func(i int, rng *rand.Rand) (int, int32) {
			if i%every == 0 {
				return 11, 0
			}
			return clean(i, rng)
		}
	}
	s := topics(3000, 3, poisoned(50))
	for seed := range uint64(5) {
		if a := auc(scores(t, topics(2000, 4+seed, poisoned(100)), s, seed).Value, truth(s.N)); a < 0.99 {
			t.Errorf("seed %d: ROC AUC %.3f", seed, a)
		}
	}
}

func TestVectorsThatCannotBeComparedHaveNoScore(t *testing.T) {
	s := topics(10, 5, clean)
	s.Embedding[2*dim] = float32(math.NaN())
	s.Embedding[3*dim+5] = float32(math.Inf(-1))
	s.HasEmbedding = []bool{true, false, true, true, true, true, true, true, true, true}
	got := scores(t, topics(500, 6, clean), s, 1).Value
	for i, v := range got {
		if math.IsNaN(v) != (i >= 1 && i <= 3) {
			t.Errorf("row %d scores %v", i, v)
		}
	}
}

func prose(rng *rand.Rand, n int) []byte {
	words := strings.Fields("the this is was a good bad fine product price delivery came box very quick slow and but I we like hate it arrived " +
		"broken perfect colour size small large works charger cable phone screen battery again never always bought for my wife son office")
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[int(float64(len(words))*rng.Float64()*rng.Float64())])
		b.WriteByte(" .,"[rng.IntN(3)])
	}
	return []byte(b.String())
}

func texts(n int, seed uint64, odd func(rng *rand.Rand) []byte) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 2))
	s := &detect.Sample{N: n}
	for i := range n {
		if isOdd(i) && odd != nil {
			s.Text = append(s.Text, odd(rng))
		} else {
			s.Text = append(s.Text, prose(rng, 340+rng.IntN(60)))
		}
	}
	return s
}

func TestForeignTexts(t *testing.T) {
	reference := texts(1000, 1, nil)
	german := strings.Fields("der die das ist war ein gutes schlechtes produkt preis lieferung kam sehr schnell langsam und aber ich wir immer nie wieder")
	for name, odd := range map[string]func(rng *rand.Rand) []byte{
		"gibberish": func(rng *rand.Rand) []byte {
			b := make([]byte, 350)
			for i := range b {
				b[i] = 'a' + byte(rng.IntN(26))
				if rng.IntN(6) == 0 {
					b[i] = ' '
				}
			}
			return b
		},
		"another language": func(rng *rand.Rand) []byte {
			var b []byte
			for len(b) < 350 {
				b = append(append(b, german[rng.IntN(len(german))]...), ' ')
			}
			return b
		},
		"encoded": func(rng *rand.Rand) []byte {
			return fmt.Appendf(nil, "%x%x%x", rng.Uint64(), rng.Uint64(), rng.Uint64())
		},
	} {
		s := texts(3000, 3, odd)
		if a := auc(scores(t, reference, s, 1).Value, truth(s.N)); a < 0.99 {
			t.Errorf("%s: ROC AUC %.3f", name, a)
		}
	}
}

func auc(score []float64, truth []bool) float64 {
	auc, _, _ := planted.Figures(score, truth)
	return auc
}

// TestPublicEmbeddingSets demands the best published figure of k-NN on each, unsupervised on the whole set, mean of ten seeds.
func TestPublicEmbeddingSets(t *testing.T) {
	for name, published := range map[string]float64{"cifar10_0-resnet18": 0.755, "20news_3-bert": 0.691} {
		set := planted.Read(t, "embedding-anomaly/"+name+".jsonl.gz")
		var all []float64
		mean := 0.0
		for seed := range uint64(10) {
			a := auc(scores(t, set.Sample, set.Sample, seed).Value, set.Poison)
			all, mean = append(all, a), mean+a/10
		}
		t.Logf("%s: ROC AUC %.3f (%.3f to %.3f), published %.3f", name, mean, slices.Min(all), slices.Max(all), published)
		if mean < published {
			t.Errorf("%s: ROC AUC %.3f, published %.3f", name, mean, published)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, reference := range []int{1000, 10000} {
		s := texts(8192, 1, nil)
		bytes := 0
		for _, text := range s.Text {
			bytes += len(text)
		}
		score(b, fmt.Sprintf("text/reference=%d", reference), texts(reference, 2, nil), s, bytes)
		for _, dim := range []int{32, 384, 1024} {
			vectors := func(n int) *detect.Sample {
				s := &detect.Sample{N: n, Dim: dim, Embedding: make([]float32, n*dim)}
				for i := range s.Embedding {
					s.Embedding[i] = float32(rng.NormFloat64())
				}
				return s
			}
			plain := vectors(4096)
			score(b, fmt.Sprintf("d=%d/reference=%d", dim, reference), vectors(reference), plain, 4096*dim*4)
			if dim == 384 {
				labelled, classes := vectors(reference), []string{"a", "b"}
				labelled.Classes, plain.Classes = classes, classes
				for i := range labelled.N {
					labelled.Label = append(labelled.Label, int32(i%2))
				}
				for i := range plain.N {
					plain.Label = append(plain.Label, int32(i%2))
				}
				score(b, fmt.Sprintf("d=%d, two classes/reference=%d", dim, reference), labelled, plain, 4096*dim*4)
			}
		}
	}
}

func score(b *testing.B, name string, reference, s *detect.Sample, bytes int) {
	m, err := Detector{}.Fit(reference, detect.Env{Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(bytes))
		b.ReportAllocs()
		for b.Loop() {
			m.Score(s, detect.Env{Workers: 1})
		}
		b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

func TestTextsAreAlikeWhereTheirWordsAre(t *testing.T) {
	rows := texts(2500, 9, nil).Text
	rows[1] = append(slices.Clone(rows[0]), " fine"...)
	rows[2] = nil
	values, dim := Texts(rows, 1)
	if len(values) != len(rows)*dim {
		t.Fatalf("%d values for %d texts of %d dimensions", len(values), len(rows), dim)
	}
	again, _ := Texts(rows, 8)
	if !slices.Equal(values, again) {
		t.Error("vectors depend on the number of workers")
	}
	cosine := func(a, b int) float64 {
		var ab, aa, bb float64
		for i := range dim {
			x, y := float64(values[a*dim+i]), float64(values[b*dim+i])
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		return ab / math.Sqrt(aa*bb)
	}
	if near, far := cosine(0, 1), cosine(0, 3); near < 0.7 || far > near-0.3 {
		t.Errorf("cosine %.2f to nearly the same text, %.2f to another", near, far)
	}
	if slices.ContainsFunc(values[2*dim:3*dim], func(v float32) bool { return v != 0 }) {
		t.Error("no text has a vector other than zero")
	}
	if values, dim := Texts(nil, 4); len(values) != 0 || dim <= 0 {
		t.Errorf("no texts give %d values of %d dimensions", len(values), dim)
	}
}

// TestHashes: rows have the same hash in whatever company they are, and rows without a vector are told.
func TestHashes(t *testing.T) {
	s := topics(41, 1, clean)
	s.HasEmbedding = slices.Repeat([]bool{true}, s.N)
	for _, row := range []int{0, 3, 4, 17, 40} {
		s.HasEmbedding[row] = false
	}
	s.Embedding[7*dim+5] = float32(math.NaN())
	v, ok := NewVectors(s)
	if !ok {
		t.Fatal("no vectors")
	}
	for first := range s.N {
		hash, has := make([]uint64, s.N-first), make([]bool, s.N-first)
		v.Hashes(hash, has, s, first)
		for i := range hash {
			row := first + i
			if want := s.HasEmbedding[row] && row != 7; has[i] != want {
				t.Fatalf("row %d: has a vector: %v", row, has[i])
			}
			if has[i] && hash[i] != hashOne(s.Embedding[row*dim:(row+1)*dim]) {
				t.Fatalf("row %d of those from %d on", row, first)
			}
		}
	}
}
