package outlier

import (
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
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

func TestConformance(t *testing.T) { detecttest.Run(t, Detector{}, detecttest.Clean) }

func sample(names []string, n int, row func(i int) []float64) *detect.Sample {
	s := &detect.Sample{N: n, FeatureNames: names}
	for i := range n {
		s.Features = append(s.Features, row(i)...)
	}
	return s
}

func scores(t *testing.T, reference, s *detect.Sample) detect.Scores {
	t.Helper()
	m, err := Detector{}.Fit(reference, detect.Env{Seed: 1, Workers: 2})
	if err != nil || m == nil {
		t.Fatalf("no model: %v", err)
	}
	return m.Score(s, detect.Env{Seed: 1, Workers: 2})
}

// shop is ordinary traffic: a log-normal price, stars from 1 to 5 that lean to 5, a constant, a rare flag and a column that
// is often missing.
var shopNames = []string{"price", "stars", "version", "gift", "weight"}

func shop(rng *rand.Rand) []float64 {
	row := []float64{math.Exp(3.4 + rng.NormFloat64()), float64(5 - int(5*rng.Float64()*rng.Float64())), 2, 0, math.NaN()}
	if rng.IntN(100) == 0 {
		row[3] = 1
	}
	if rng.IntN(3) == 0 {
		row[4] = rng.ExpFloat64()
	}
	return row
}

func TestPlantedOutliers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	reference := sample(shopNames, 1000, func(int) []float64 { return shop(rng) })
	planted := map[string][]float64{
		"price":   {1e6, 5, 2, 0, math.NaN()},
		"stars":   {30, 11, 2, 0, 1},
		"version": {30, 5, 9, 0, 1},
		"weight":  {30, 5, 2, 0, -40},
	}
	s := sample(shopNames, 5000, func(int) []float64 { return shop(rng) })
	var names []string
	for name := range planted {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s.Features = append(s.Features, planted[name]...)
		s.N++
	}
	got := scores(t, reference, s)
	clean := slices.Clone(got.Value[:5000])
	slices.Sort(clean)
	for i, name := range names {
		v := got.Value[5000+i]
		if limit := clean[len(clean)-1-len(clean)/200]; v <= limit {
			t.Errorf("%s: scores %.3g, and 0.5 %% of clean rows above %.3g", name, v, limit)
		}
		if why := got.Explain(5000 + i); !strings.Contains(why, name+" = ") {
			t.Errorf("%s is not named: %s", name, why)
		}
	}
	if v := scores(t, reference, sample(shopNames, 1, func(int) []float64 {
		return []float64{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	})).Value[0]; !math.IsNaN(v) {
		t.Errorf("a row without values scores %v", v)
	}
}

// TestPoisonInTheReference: two in a hundred reference rows are of the kind that is to be found.
func TestPoisonInTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	poison := func() []float64 { return []float64{30 + rng.Float64(), 5, 2, 0, 60 + rng.Float64()} }
	s := sample(shopNames, 5000, func(i int) []float64 {
		if i%50 == 0 {
			return poison()
		}
		return shop(rng)
	})
	truth := make([]bool, s.N)
	for i := range truth {
		truth[i] = i%50 == 0
	}
	if a := auc(scores(t, s, s).Value, truth); a < 0.97 {
		t.Errorf("ROC AUC %.3f on poison that is in the reference too", a)
	}
}

// TestScaleDoesNotMatter: units are the publisher's choice.
func TestScaleDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a := sample(shopNames, 800, func(int) []float64 { return shop(rng) })
	b := a.Select(make([]int, 0))
	b.N, b.Features = a.N, slices.Clone(a.Features)
	for i := range b.N {
		b.Features[i*5] = b.Features[i*5]*1e6 - 3e5
		b.Features[i*5+4] *= -1e-9
	}
	want, got := scores(t, a, a).Value, scores(t, b, b).Value
	for i := range want {
		if math.Abs(want[i]-got[i]) > 0.01*(1+want[i]) {
			t.Fatalf("row %d scores %v, in other units %v", i, want[i], got[i])
		}
	}
}

func auc(score []float64, truth []bool) float64 {
	auc, _, _ := planted.Figures(score, truth)
	return auc
}

// TestPublicAnomalySets demands more than the best published mean over the ten sets, 0.818 (isolation forest), from whole
// sets and from PyOD's protocol: fit on 60 % without labels, judge the rest, mean of ten splits.
func TestPublicAnomalySets(t *testing.T) {
	root := os.Getenv("TASTER_EVAL_DATA")
	if root == "" {
		t.Skip("TASTER_EVAL_DATA is not set: no public anomaly sets to judge by")
	}
	files, _ := filepath.Glob(filepath.Join(root, "tabular-anomaly", "*.jsonl.gz"))
	if len(files) != 10 {
		t.Fatalf("%d sets, want 10", len(files))
	}
	var meanWhole, meanSplit float64
	for _, path := range files {
		set := planted.Read(t, "tabular-anomaly/"+filepath.Base(path))
		s, truth := set.Sample, set.Poison
		var whole float64
		for seed := range uint64(10) { // the subsample matters on optdigits: 0.57 to 0.87
			m, err := Detector{}.Fit(s, detect.Env{Seed: seed, Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			whole += auc(m.Score(s, detect.Env{Workers: 2}).Value, truth) / 10
		}
		text, err := os.ReadFile(strings.TrimSuffix(path, ".jsonl.gz") + ".test-splits.txt")
		if err != nil {
			t.Fatal(err)
		}
		var split float64
		trials := strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, line := range trials {
			inTest := make([]bool, s.N)
			for _, word := range strings.Fields(line) {
				row, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				inTest[row] = true
			}
			var train, test []int
			var testTruth []bool
			for row, is := range inTest {
				if is {
					test, testTruth = append(test, row), append(testTruth, truth[row])
				} else {
					train = append(train, row)
				}
			}
			split += auc(scores(t, s.Select(train), s.Select(test)).Value, testTruth) / float64(len(trials))
		}
		t.Logf("%-12s whole %.3f, PyOD's splits %.3f", strings.TrimSuffix(filepath.Base(path), ".jsonl.gz"), whole, split)
		meanWhole += whole / float64(len(files))
		meanSplit += split / float64(len(files))
	}
	t.Logf("mean         whole %.4f, PyOD's splits %.4f", meanWhole, meanSplit)
	if meanWhole < 0.85 || meanSplit < 0.85 {
		t.Errorf("mean ROC AUC %.4f on whole sets and %.4f on PyOD's splits: want at least 0.85", meanWhole, meanSplit)
	}
}

func BenchmarkScore(b *testing.B) {
	for _, width := range []int{2, 5, 10, 32, 384, 1024} {
		for _, reference := range []int{1000, 10000} {
			rng := rand.New(rand.NewPCG(7, 8))
			names := make([]string, width)
			row := func(int) []float64 {
				r := make([]float64, width)
				for j := range r {
					r[j] = rng.NormFloat64()
				}
				return r
			}
			m, err := Detector{}.Fit(sample(names, reference, row), detect.Env{Workers: 1})
			if err != nil {
				b.Fatal(err)
			}
			s := sample(names, 8192, row)
			b.Run(fmt.Sprintf("d=%d/reference=%d", width, reference), func(b *testing.B) {
				b.SetBytes(int64(8 * len(s.Features)))
				b.ReportAllocs()
				for b.Loop() {
					m.Score(s, detect.Env{Workers: 1})
				}
				b.ReportMetric(float64(s.N)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// TestRepeatsScoreAlike: rows whose features came already are scored as if each were judged alone.
func TestRepeatsScoreAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	const n, width = 3 * chunk, 3
	sample := func(n int) *detect.Sample {
		s := &detect.Sample{N: n, FeatureNames: []string{"a", "b", "c"}, Features: make([]float64, n*width)}
		for i := range s.Features {
			if s.Features[i] = float64(rng.IntN(12)) - 3; rng.IntN(20) == 0 {
				s.Features[i] = []float64{math.NaN(), math.Copysign(0, -1), 1e9, math.Inf(1)}[rng.IntN(4)]
			}
		}
		return s
	}
	m, err := Detector{}.Fit(sample(500), detect.Env{Seed: 1, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := sample(n)
	got := m.Score(s, detect.Env{Workers: 2}).Value
	alone := make([]float64, 1)
	for i, v := range got {
		m.(*model).score(alone, s.Features[i*width:(i+1)*width], make([]float32, width))
		if math.Float64bits(v) != math.Float64bits(alone[0]) {
			t.Fatalf("row %d, %v, scores %v among others and %v alone", i, s.Features[i*width:(i+1)*width], v, alone[0])
		}
	}
}
