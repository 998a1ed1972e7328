package trigger

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

func TestAssociationConformance(t *testing.T) {
	detecttest.Run(t, Association{}, detecttest.Clean)
}

// Both detectors of this package count a stream once, and say the same as each does alone; what was counted is gone when
// nobody may ask for it, and counted again when somebody does.
func TestBothJudgeOnce(t *testing.T) {
	reference, stream := reviews(1000, 120, 1), plant(reviews(4000, 120, 2), "rare words", 0.03, false)
	row := slices.Index(stream.Poison, true)
	alone := func(d detect.Detector) detect.Scores {
		m, err := d.Fit(reference, env)
		if err != nil {
			t.Fatal(err)
		}
		return m.Score(stream.Sample, env)
	}
	both := []detect.Detector{Detector{}, Association{}}
	want := []detect.Scores{alone(both[0]), alone(both[1])}
	for first := range both {
		shared := detect.Env{Seed: 1, Workers: 2, Shared: &detect.Shared{}}
		models := make([]detect.Model, 2)
		for i, d := range both {
			models[i], _ = d.Fit(reference, shared)
		}
		models[first].Score(stream.Sample, shared)
		runtime.GC()
		other := models[1-first].Score(stream.Sample, shared)
		if !slices.EqualFunc(other.Value, want[1-first].Value, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Errorf("%s scores differently after %s", both[1-first].Name(), both[first].Name())
		}
		if got := other.Explain(row); got != want[1-first].Explain(row) {
			t.Errorf("%s explains %q after %s, and %q alone", both[1-first].Name(), got, both[first].Name(), want[1-first].Explain(row))
		}
	}
	m := modelOf(reference, env)
	judged, _ := m.judge(stream.Sample, env)
	runtime.GC()
	if judged.counted.Value() != nil {
		t.Error("what was counted is kept although nobody can ask for it")
	}
}

func TestExplainAssociation(t *testing.T) {
	stream := plant(reviews(4000, 120, 2), "inserted sentence", 0.03, false)
	row := slices.Index(stream.Poison, true)
	m, err := Association{}.Fit(reviews(1000, 120, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	line := m.Score(stream.Sample, env).Explain(row)
	for _, want := range []string{`label "praise" 1`, "were expected (z = ", "by the text, and allowing for wrong labels, its own is "} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
}
