package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/schema/finding"
)

// choosy scores how far a row's first feature is from the mean, and learns only from samples that hold the row that it needs.
type choosy struct {
	needs  float64
	stream bool
}

func (choosy) Name() string { return "choosy" }

func (c choosy) Fit(reference *detect.Sample, _ detect.Env) (detect.Model, error) {
	width := len(reference.FeatureNames)
	for i := range reference.N {
		if reference.Features[i*width] == c.needs {
			return c, nil
		}
	}
	return nil, nil
}

func (c choosy) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i := range value {
		value[i] = s.Features[i*len(s.FeatureNames)]
	}
	return detect.Scores{Value: value, Code: finding.PoisonOutlier, Stream: c.stream, Explain: func(int) string { return "" }}
}

// A part of the reference from which a detector cannot learn leaves it without an opinion on the rows that were held out from it;
// it judges all the same.
func TestPartOfReferenceTeachesNothing(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprint("stream ", stream), func(t *testing.T) {
			ref := detecttest.Clean(600, 1)
			ref.Features[0] = 123.25
			s := scorer(t, 0.01, ref, []detect.Detector{choosy{123.25, stream}}, 2)
			if len(s.fitted) != 1 {
				t.Fatal("the detector does not judge")
			}
			if got := len(s.fitted[0].held); got != ref.N {
				t.Errorf("%d reference rows are held out, want %d", got, ref.N)
			}
			poisoned := detecttest.Clean(400, 2)
			poisoned.Features[0] = 1e6
			if d := judge(t, s, poisoned); d.Verdicts[0] != finding.Quarantined {
				t.Error("a row far out is accepted")
			}
		})
	}
}

// A stream is judged by the longest simulation that is not longer than it and tells anything, and no other is made for it.
func TestStreamsAreSimulatedWhenAsked(t *testing.T) {
	scores := make([]float64, 200)
	for i := range scores {
		scores[i] = float64(i)
	}
	nulls := map[int]*calibrate.Null{40: calibrate.Fit(scores), 160: calibrate.Fit(scores), 640: calibrate.Fit(scores)}
	for _, c := range []struct {
		rows, want int
		asked      []int
	}{{5, 40, []int{10, 40}}, {10, 40, []int{10, 40}}, {39, 40, []int{10, 40}}, {40, 40, []int{40}}, {200, 160, []int{160}}, {641, 640, []int{640}}} {
		var f fitted
		var asked []int
		for _, length := range []int{10, 40, 160, 640} {
			f.streams = append(f.streams, stream{length, func() *calibrate.Null {
				asked = append(asked, length)
				return nulls[length]
			}})
		}
		if got := f.null(c.rows); got == nil || got != nulls[c.want] {
			t.Errorf("%d rows are not judged by streams of %d", c.rows, c.want)
		}
		if !slices.Equal(asked, c.asked) {
			t.Errorf("for %d rows streams of %v are simulated, want %v", c.rows, asked, c.asked)
		}
	}
}

// What a short stream asks for is there again for the next one, and the same for any number of workers.
func TestShortStreams(t *testing.T) {
	ref := detecttest.Clean(600, 1)
	var want float64
	for _, workers := range []int{1, 2, 8} {
		f := &scorer(t, 0.01, ref, []detect.Detector{choosy{ref.Features[0], true}}, workers).fitted[0]
		lengths := calibrate.Lengths(ref.N / 2)
		if len(f.streams) != len(lengths) || len(lengths) < 2 {
			t.Fatalf("%d lengths of streams, want %d, two at least", len(f.streams), len(lengths))
		}
		null := f.null(lengths[0])
		if null == nil || null != f.null(lengths[0]) {
			t.Fatal("short streams are simulated anew")
		}
		if got := null.LogP(1); want == 0 {
			want = got
		} else if got != want {
			t.Errorf("%d workers: %v, want %v", workers, got, want)
		}
	}
}

// TestWholeIsFittedWhenAsked: models that nearly no stream asks for are not kept, and are the same when one does.
func TestWholeIsFittedWhenAsked(t *testing.T) {
	ref, stream := detecttest.Clean(1200, 1), detecttest.Clean(300, 2)
	s := scorer(t, 0.01, ref, nil, 2)
	n := 0
	for i := range s.fitted {
		f := &s.fitted[i]
		if f.model != nil {
			continue
		}
		n++
		env := detect.Env{Seed: s.env.Seed, Workers: 2, Shared: &detect.Shared{}}
		model, err := f.detector.Fit(ref, env)
		if err != nil {
			t.Fatal(err)
		}
		got, want := f.whole().Score(stream, env).Value, model.Score(stream, env).Value
		for row, v := range want {
			if math.Float64bits(v) != math.Float64bits(got[row]) {
				t.Fatalf("%s, row %d: %v, want %v", f.detector.Name(), row, got[row], v)
			}
		}
	}
	if n == 0 {
		t.Error("all models are kept")
	}
}

// knowing scores a row by its first feature, far beyond all others where it has learned from that very row.
type knowing struct{ rows map[float64]bool }

func (knowing) Name() string { return "knowing" }

func (knowing) Fit(reference *detect.Sample, _ detect.Env) (detect.Model, error) {
	m := knowing{map[float64]bool{}}
	for i := range reference.N {
		m.rows[reference.Features[i*len(reference.FeatureNames)]] = true
	}
	return m, nil
}

func (m knowing) Score(s *detect.Sample, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i := range value {
		if value[i] = s.Features[i*len(s.FeatureNames)]; m.rows[value[i]] {
			value[i] = 1e6
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonTrigger, Stream: true, Learned: true, Explain: func(int) string { return "" }}
}

// In a long stream all of a small reference calibrates, as far as enough rows are known, and each row by a model that does not know it.
func TestLongStreamsAreCalibratedOnEnoughRows(t *testing.T) {
	numbers := func(n int, seed uint64) *detect.Sample {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := &detect.Sample{N: n, FeatureNames: []string{"a"}, Features: make([]float64, n)}
		for i := range s.Features {
			s.Features[i] = rng.NormFloat64()
		}
		return s
	}
	for _, c := range []struct{ reference, stream, want int }{
		{400, 400, 400},                 // each quarter in turn
		{400, detect.Enough, 100},       // the first one
		{400, detect.Enough + 1, 400},   // all at once
		{1600, detect.Enough + 1, 1200}, // three, which are enough
	} {
		var want []float64
		all := []int{2}
		if c.want == c.reference && c.stream > detect.Enough {
			all = []int{1, 2, 8}
		}
		for _, workers := range all {
			s := scorer(t, 0.01, numbers(c.reference, 1), []detect.Detector{knowing{}}, workers)
			sample := numbers(c.stream, 2)
			sample.Features[0] = 1e5
			env := s.env
			env.Shared = &detect.Shared{}
			got := s.fitted[0].score(sample, nil, env)
			if got.rows != c.want {
				t.Fatalf("reference of %d, stream of %d: calibrated on %d rows, want %d", c.reference, c.stream, got.rows, c.want)
			}
			if room := s.inserted(c.stream); room < c.want/4 || c.stream > detect.Enough && room != c.want {
				t.Errorf("reference of %d, stream of %d: room for %d rows", c.reference, c.stream, room)
			}
			if lp := math.Log(1.5 / float64(c.want)); got.LogP[0] > lp {
				t.Errorf("reference of %d, stream of %d: a row beyond all that are not known has ln p %.2f, want less than %.2f", c.reference, c.stream, got.LogP[0], lp)
			}
			if want == nil {
				want = got.LogP
			} else if !slices.Equal(got.LogP, want) {
				t.Errorf("reference of %d, stream of %d: other p-values with %d workers", c.reference, c.stream, workers)
			}
		}
	}
}
