package linalg

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// other is an engine that is not known to be the CPU.
type other struct{ CPU }

// spreadRows returns rows around one point, of which some are copies and some have no length, or none that is a number.
func spreadRows(rng *rand.Rand, n, cols int, spread float64) Matrix {
	m := Matrix{n, cols, make([]float32, n*cols)}
	for i := range m.Data {
		m.Data[i] = float32(math.Sin(float64(i%cols)) + spread*rng.NormFloat64())
	}
	for r := range m.Rows {
		switch rng.IntN(20) {
		case 0:
			m.Row(r)[0] = float32(math.Inf(1))
		case 1:
			clear(m.Row(r))
		case 2:
			copy(m.Row(r), m.Row(rng.IntN(r+1)))
		}
	}
	return m
}

// TestSets compares with an index for each set, for points of any spread, copies and rows that take no part, and sets that are small, large, and disjoint from the first or not.
func TestSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(37, 38))
	for trial := range 20 {
		cols := []int{1, 5, 64, 384, 900}[trial%5]
		spread := []float64{1, 0.1, 1e-3, 0}[trial%4]
		draw := func(n int) Matrix { return spreadRows(rng, n, cols, spread) }
		points := draw(700)
		some := func(n int) (out []int32) {
			for _, p := range rng.Perm(points.Rows)[:n] {
				out = append(out, int32(p))
			}
			return out
		}
		sets := []Set{{some(1 + rng.IntN(600)), 1 + rng.IntN(70)}}
		for range 1 + rng.IntN(4) {
			sets = append(sets, Set{some(rng.IntN(250)), 1 + rng.IntN(30)})
		}
		var kind []int32
		if trial%3 > 0 {
			kind = make([]int32, points.Rows)
			for p := range kind {
				kind[p] = int32(rng.IntN(len(sets) + 1))
			}
		}
		queries := draw(130)
		own := make([]int32, queries.Rows)
		for q := range own {
			own[q] = int32(rng.IntN(len(sets)+1)) - 1
		}
		if trial%2 == 0 {
			slices.Sort(own)
		}
		var engines []Engine
		exactly := map[int]bool{} // an index for each set may miss some that lie as near as others by float32
		for _, level := range Levels() {
			if !testing.Short() || level == Levels()[len(Levels())-1] { // levels differ by arithmetic alone
				exactly[len(engines)] = true
				engines = append(engines, CPU{Level: level})
			}
		}
		for at, engine := range append(engines, other{}) {
			got, err := LoadSets(engine, points, sets, kind)
			if err != nil {
				t.Fatal(err)
			}
			all, others, err := got.Nearest(queries, own)
			if err != nil {
				t.Fatal(err)
			}
			var alone []Neighbours // of each set
			for _, set := range sets {
				index, err := engine.Load(points.rows(set.Points), Cosine)
				if err != nil {
					t.Fatal(err)
				}
				found, err := index.Nearest(queries, max(1, len(set.Points)), 1) // all, so that none is missed
				if err != nil {
					t.Fatal(err)
				}
				alone = append(alone, found)
			}
			for q := range queries.Rows {
				for _, c := range []struct {
					set   int
					found Neighbours
				}{{0, all}, {int(own[q]), others}} {
					index, distance := c.found.Of(q)
					if c.set < 0 || c.set == 0 && &c.found.Index[0] == &others.Index[0] {
						if len(index) > 0 {
							t.Fatalf("query %d asks no other set, and has neighbours there", q)
						}
						continue
					}
					want := map[int32]float32{}
					places, distances := alone[c.set].Of(q)
					for i, p := range places {
						want[sets[c.set].Points[p]] = distances[i]
					}
					distances = slices.Sorted(slices.Values(distances))
					distances = distances[:min(len(distances), sets[c.set].K)]
					if len(index) != len(distances) {
						t.Fatalf("trial %d, engine %d, query %d: %d neighbours, want %d", trial, at, q, len(index), len(distances))
					}
					var near []float32
					farthest := float32(-1)
					for i, p := range index {
						d, ok := want[p]
						if !ok || slices.Contains(index[:i], p) {
							t.Fatalf("trial %d, engine %d, query %d, set %d: point %d", trial, at, q, c.set, p)
						}
						near = append(near, d)
						if v := distance[i]; v == d {
							farthest = max(farthest, v)
						} else if v == v || kind == nil || c.set > 0 || kind[p] != own[q] {
							t.Fatalf("trial %d, engine %d, query %d: distance %v, want %v", trial, at, q, v, d)
						}
					}
					if slices.Sort(near); !exactly[at] {
						continue
					}
					if !slices.Equal(near, distances) || len(near) > 0 && farthest != near[len(near)-1] {
						t.Fatalf("trial %d, engine %d, query %d, set %d: distances are %v, want %v; the farthest is told to be %v", trial, at, q, c.set, near, distances, farthest)
					}
				}
			}
		}
	}
}

func TestSetsThatDoNotFit(t *testing.T) {
	points := Matrix{2, 3, make([]float32, 6)}
	for _, sets := range [][]Set{nil, {{K: 0}}, {{Points: []int32{2}, K: 1}}, {{Points: []int32{-1}, K: 1}}} {
		if _, err := LoadSets(CPU{}, points, sets, nil); !errors.Is(err, ErrShape) {
			t.Errorf("%v: %v", sets, err)
		}
	}
	sets, err := LoadSets(CPU{}, points, []Set{{Points: []int32{0, 1}, K: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := sets.Nearest(Matrix{1, 2, make([]float32, 2)}, []int32{0}); !errors.Is(err, ErrShape) {
		t.Error(err)
	}
	if _, _, err := sets.Nearest(Matrix{1, 3, make([]float32, 3)}, nil); !errors.Is(err, ErrShape) {
		t.Error(err)
	}
}
