package nearduplicate

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

// portably does something without vectors. Where a processor has none, what these tests compare is one and the same.
func portably(do func()) {
	kept := vectors
	vectors = nil
	defer func() { vectors = kept }()
	do()
}

// Similar types are found alike by vectors and without them.
func TestPairedByVectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(32, 5))
	type pair struct {
		a, b       int32
		similarity float64
	}
	for _, n := range []int{0, 1, 5, pairsAtOnce, pairsAtOnce + pairsAhead - 1, pairsAtOnce + pairsAhead, 3*pairsAtOnce + 100} {
		for _, values := range []int{1, 2, 3, 5, 200} {
			signatures, order := make([]signature, n), make([]place, n)
			for i := range signatures {
				empty := rng.IntN(70)
				for b := range 64 {
					if rng.IntN(64) >= empty {
						signatures[i][b/8] |= uint64(rng.IntN(values)) << (b % 8 * 8)
					}
				}
				order[i] = place{index: int32(rng.IntN(n))}
			}
			pairs := func() (out []pair) {
				similarTypes(order, signatures, func(a, b int32, similarity float64) { out = append(out, pair{a, b, similarity}) })
				return out
			}
			got := pairs()
			portably(func() {
				if want := pairs(); !slices.Equal(got, want) {
					t.Errorf("%d types of %d values: %d pairs, want %d, or others", n, values, len(got), len(want))
				}
			})
		}
	}
}

// Bands are the same by vectors and without them.
func TestBandsByVectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(33, 5))
	signatures := make([]signature, 5000)
	for i := range signatures {
		filled := rng.IntN(65)
		for b := range 64 {
			if rng.IntN(64) < filled {
				signatures[i][b/8] |= uint64(1+rng.IntN(255)) << (b % 8 * 8)
			}
		}
		b := rng.IntN(64) // one is not empty
		signatures[i][b/8] |= 1 << (b % 8 * 8)
	}
	got, want := make([][bands]uint32, len(signatures)), make([][bands]uint32, len(signatures))
	allBandKeys(signatures, got)
	portably(func() { allBandKeys(signatures, want) })
	if !slices.Equal(got, want) {
		t.Error("keys differ")
	}
}

// Scores and memories are the same by vectors and without them.
func TestScoredByVectors(t *testing.T) {
	result := func() (out []any) {
		env := detect.Env{Seed: 1, Workers: 2, Shared: &detect.Shared{}}
		m, err := Detector{}.Fit(detecttest.Clean(500, 1), env)
		if err != nil {
			t.Fatal(err)
		}
		s := detecttest.Clean(1000, 2)
		for i := range 40 {
			s.Text[25*i] = s.Text[3]
		}
		memory := m.(*model).Observe(s, nil, env)
		data, err := memory.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return append(out, m.(*model).ScoreWith(s, memory, env).Value, data, m.(*model).Suspects(s, memory, env))
	}
	got := result()
	portably(func() {
		if !reflect.DeepEqual(got, result()) {
			t.Error("something differs")
		}
	})
}
