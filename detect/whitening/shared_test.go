package whitening_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/activation"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/spectral"
)

// Two detectors share what they learn of classes of a long sample. Whether they do, who comes first, how many work on it and how rows stand does not show.
func TestWhatIsSharedDoesNotShow(t *testing.T) {
	ref, stream := planted.Gaussian(16, []int{6000, 11500, 700}, 0.05, 6, 3).Split(1000, 1)
	if stream.N <= detect.Enough {
		t.Fatal("not a long sample")
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(stream.N)
	moved := stream.Select(order)
	detectors := []detect.Detector{spectral.Detector{}, activation.Detector{}}
	var alone [2][]float64
	for i, d := range detectors {
		m, err := d.Fit(ref.Sample, detect.Env{Seed: 1, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		alone[i] = m.Score(stream.Sample, detect.Env{Seed: 1, Workers: 1}).Value
	}
	for _, first := range []int{0, 1} {
		fitting := detect.Env{Seed: 1, Workers: 2, Shared: &detect.Shared{}}
		var models [2]detect.Model
		for i, d := range detectors {
			var err error
			if models[i], err = d.Fit(ref.Sample, fitting); err != nil {
				t.Fatal(err)
			}
		}
		for _, workers := range []int{1, 3} {
			env := detect.Env{Seed: 1, Workers: workers, Shared: &detect.Shared{}}
			for _, i := range []int{first, 1 - first} {
				for row, v := range models[i].Score(stream.Sample, env).Value {
					if math.Float64bits(v) != math.Float64bits(alone[i][row]) {
						t.Fatalf("%s, %d workers: row %d scores %v, and %v alone", detectors[i].Name(), workers, row, v, alone[i][row])
					}
				}
			}
		}
		for at, v := range models[first].Score(moved, detect.Env{Seed: 1, Workers: 2}).Value {
			if want := alone[first][order[at]]; math.Float64bits(v) != math.Float64bits(want) {
				t.Fatalf("%s: row %d scores %v where it stood, and %v elsewhere", detectors[first].Name(), order[at], want, v)
			}
		}
	}
}
