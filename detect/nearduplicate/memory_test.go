package nearduplicate

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

func TestMemoryConformance(t *testing.T) {
	t.Run("text", func(t *testing.T) { detecttest.RunMemory(t, Detector{}, detecttest.Clean, MaxMemory) })
	t.Run("embedding", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the text's run shows the same at half the time")
		}
		detecttest.RunMemory(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Text = nil
			return s
		}, MaxMemory)
	})
	t.Run("features", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the text's run shows the same at half the time")
		}
		detecttest.RunMemory(t, Detector{}, func(n int, seed uint64) *detect.Sample {
			s := detecttest.Clean(n, seed)
			s.Text, s.Embedding, s.Dim, s.HasEmbedding = nil, nil, 0, nil
			return s
		}, MaxMemory)
	})
}

// long runs a stream of segments through a model, and returns how many of its planted and of its other rows scored above
// 0 after the first half, with the evidence of the last planted one.
func long(t *testing.T, m detect.Remembering, segments int, segment func(i int) (*detect.Sample, func(row int) bool), evidence *string) (recall, clean float64) {
	t.Helper()
	env := detect.Env{Seed: 1, Workers: 2}
	memory, err := m.Memory(nil)
	if err != nil {
		t.Fatal(err)
	}
	var hit, planted, alarms, others float64
	for i := range segments {
		s, isPlanted := segment(i)
		scores := m.ScoreWith(s, memory, env)
		memory.Merge(m.Observe(s, make([]bool, s.N), env))
		if 2*i < segments {
			continue
		}
		for row, v := range scores.Value {
			above := 0.0
			if v > 0 {
				above = 1
			}
			if isPlanted(row) {
				*evidence = scores.Explain(row)
				planted++
				hit += above
			} else {
				others++
				alarms += above
			}
		}
	}
	return hit / math.Max(1, planted), alarms / others
}

// short is about 100 bytes of words.
func short(rng *rand.Rand) string {
	var b strings.Builder
	for range 20 {
		b.WriteString(vocabulary[int(math.Exp(rng.Float64()*math.Log(20000)))-1])
		b.WriteByte(' ')
	}
	return b.String()
}

var vocabulary = func() (words []string) {
	for rank := range 20000 {
		words = append(words, word(rank+1))
	}
	return words
}()

// mails are short texts, every tenth of which is one of few that clean traffic repeats.
func mails(rng *rand.Rand) string {
	if rng.IntN(10) == 0 {
		return fmt.Sprintf("Dear customer, order %d was shipped by partner %d and will reach you within three to five working days. "+
			"Please keep this mail. Kind regards, the shop", rng.IntN(1e6), rng.IntN(9))
	}
	return short(rng)
}

// TestDrip: one row of a flood in every thousand is nothing to see in a segment; in the stream it is. A row that was
// reworded so much that none of its bands is left is not found.
func TestDrip(t *testing.T) {
	const segments, rows = 80, 500
	for _, c := range []struct {
		name    string
		clean   func(*rand.Rand) string
		changes int
		recall  float64
	}{{"a number changed", mails, 0, 0.97}, {"a word changed", short, 1, 0.6}} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(21, 22))
			m, err := Detector{}.Fit(texts(1000, func(int) string { return c.clean(rng) }), detect.Env{Seed: 1, Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			base := short(rng)
			var evidence string
			recall, clean := long(t, m.(detect.Remembering), segments, func(i int) (*detect.Sample, func(int) bool) {
				planted := func(row int) bool { return row == 100 && i%2 == 0 }
				return texts(rows, func(row int) string {
					if planted(row) {
						return flood(base, rng, c.changes)
					}
					return c.clean(rng)
				}), planted
			}, &evidence)
			t.Logf("recall in the second half %.2f, clean rows above 0: %.5f; %s", recall, clean, evidence)
			if recall < c.recall || clean > 0.001 {
				t.Errorf("recall %.2f, want %.2f; %.5f of clean rows above 0, want at most 0.001", recall, c.recall, clean)
			}
			if !strings.Contains(evidence, "that the stream has shown; 0 of 1000 in the reference") {
				t.Errorf("evidence does not tell the stream: %s", evidence)
			}
		})
	}
}

// TestEmbeddingDrip is TestDrip for vectors.
func TestEmbeddingDrip(t *testing.T) {
	const dim, segments, rows = 64, 50, 400
	rng := rand.New(rand.NewPCG(23, 24))
	vectors := func(n int, planted func(i int) bool, base []float32) *detect.Sample {
		s := &detect.Sample{N: n, Dim: dim, Embedding: make([]float32, n*dim)}
		for i := range n {
			topic := rng.IntN(10)
			for k := range dim {
				v := float32(rng.NormFloat64() + float64(k*(topic+1)%7)/3)
				if planted(i) {
					v = base[k] + 0.05*float32(rng.NormFloat64())
				}
				s.Embedding[i*dim+k] = v
			}
		}
		return s
	}
	none := func(int) bool { return false }
	m, err := Detector{}.Fit(vectors(1000, none, nil), detect.Env{Seed: 1, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	base := vectors(1, none, nil).Embedding
	var evidence string
	recall, clean := long(t, m.(detect.Remembering), segments, func(int) (*detect.Sample, func(int) bool) {
		planted := func(row int) bool { return row == 7 }
		return vectors(rows, planted, base), planted
	}, &evidence)
	if recall < 0.95 || clean > 0.001 {
		t.Errorf("recall %.2f, %.5f of clean rows above 0; %s", recall, clean, evidence)
	}
}

// TestFeatureDrip is TestDrip for numbers. A model of a part of the reference, whose spreads differ, sees what the memory has
// seen.
func TestFeatureDrip(t *testing.T) {
	const segments, rows = 50, 400
	rng := rand.New(rand.NewPCG(37, 38))
	reference := tables(rng, 1000)
	width := len(reference.FeatureNames)
	base := slices.Clone(tables(rng, 1).Features)
	segment := func(int) (*detect.Sample, func(int) bool) {
		s := tables(rng, rows)
		copy(s.Features[7*width:], base)
		s.Features[7*width+2] += 0.01 * rng.NormFloat64()
		return s, func(row int) bool { return row == 7 }
	}
	env := detect.Env{Seed: 1, Workers: 2}
	m, err := Detector{}.Fit(reference, env)
	if err != nil {
		t.Fatal(err)
	}
	var evidence string
	recall, clean := long(t, m.(detect.Remembering), segments, segment, &evidence)
	if recall < 0.95 || clean > 0.002 {
		t.Errorf("recall %.2f, %.5f of clean rows above 0; %s", recall, clean, evidence)
	}

	part, err := Detector{}.Fit(reference.Select(upTo(750)), env)
	if err != nil {
		t.Fatal(err)
	}
	before, err := m.(detect.Remembering).Memory(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range segments {
		s, _ := segment(0)
		before.Merge(m.(detect.Remembering).Observe(s, nil, env))
	}
	s, _ := segment(0)
	if v := part.(detect.Remembering).ScoreWith(s, before, env).Value[7]; !(v > 0) {
		t.Errorf("a model of a part of the reference gives a flood that was remembered a score of %v", v)
	}
}

func upTo(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// TestMergedMemoriesSeeOneFlood: what is spread over partitions is seen as one.
func TestMergedMemoriesSeeOneFlood(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	env := detect.Env{Seed: 1, Workers: 2}
	fitted, err := Detector{}.Fit(texts(1000, func(int) string { return short(rng) }), env)
	if err != nil {
		t.Fatal(err)
	}
	m := fitted.(detect.Remembering)
	base := short(rng)
	segment := func() *detect.Sample {
		return texts(1000, func(row int) string {
			if row == 3 {
				return base
			}
			return short(rng)
		})
	}
	all := &memory{}
	var own detect.Memory
	for range 32 { // partitions
		own = m.Observe(segment(), nil, env)
		all.Merge(own)
	}
	s := segment()
	if alone, together := m.ScoreWith(s, own, env).Value[3], m.ScoreWith(s, all, env).Value[3]; alone > 0 || together <= 0 {
		t.Errorf("one partition's memory gives %.3g, want 0; that of all gives %.3g, want more", alone, together)
	}
}

// BenchmarkSegment is all that is done with one segment: it is scored, remembered, and looked through for suspects.
func BenchmarkSegment(b *testing.B) {
	rng := rand.New(rand.NewPCG(11, 12))
	env := detect.Env{Workers: 1}
	fitted, err := Detector{}.Fit(texts(1000, func(int) string { return review(rng) }), env)
	if err != nil {
		b.Fatal(err)
	}
	m := fitted.(*model)
	for _, rows := range []int{1000, 20000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := texts(rows, func(int) string { return review(rng) })
			before := m.Observe(s, nil, env)
			b.ReportAllocs()
			for b.Loop() {
				env.Shared = &detect.Shared{} // as for each segment
				m.ScoreWith(s, before, env)
				m.Observe(s, nil, env)
				m.Suspects(s, before, env)
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			data, err := before.AppendBinary(nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data)), "state-bytes")
		})
	}
}
