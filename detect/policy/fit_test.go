package policy

import (
	"fmt"
	"math"
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
