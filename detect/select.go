package detect

import (
	"math"
	"slices"
	"sync/atomic"
)

// Select returns the given rows of s, in the given order and as often as they are named, as a sample of their
// own. Texts and the tables of names are shared with s; classes and providers keep their numbers, so some may
// have no row.
func (s *Sample) Select(rows []int) *Sample {
	out := &Sample{
		N: len(rows), Classes: s.Classes, FeatureNames: s.FeatureNames, Dim: s.Dim, Providers: s.Providers,
		Text: pick(s.Text, rows), Label: pick(s.Label, rows), Provider: pick(s.Provider, rows),
		HasEmbedding: pick(s.HasEmbedding, rows),
		Features:     pickRows(s.Features, len(s.FeatureNames), rows),
		Embedding:    pickRows(s.Embedding, s.Dim, rows),

		Probabilities: pickRows(s.Probabilities, s.Outcomes, rows), Outcomes: s.Outcomes,
		Loss:     pick(s.Loss, rows),
		Gradient: pickRows(s.Gradient, s.GradientDim, rows), GradientDim: s.GradientDim,
	}
	return out
}

// WithoutVectors returns s without embeddings, probabilities and gradients. The other columns are shared with s.
func (s *Sample) WithoutVectors() *Sample {
	out := *s
	out.Embedding, out.Dim, out.HasEmbedding = nil, 0, nil
	out.Probabilities, out.Outcomes = nil, 0
	out.Gradient, out.GradientDim = nil, 0
	out.room = nil
	return &out
}

func pick[T any](column []T, rows []int) []T {
	if column == nil {
		return nil
	}
	out := make([]T, len(rows))
	for i, row := range rows {
		out[i] = column[row]
	}
	return out
}

func pickRows[T any](column []T, width int, rows []int) []T {
	if column == nil {
		return nil
	}
	out := make([]T, len(rows)*width)
	for i, row := range rows {
		copy(out[i*width:(i+1)*width], column[row*width:(row+1)*width])
	}
	return out
}

// room is a sample's vectors with the memory behind them that is free, until somebody takes it.
type room struct {
	taken                              atomic.Bool
	embedding, probabilities, gradient []float32
}

// Join returns the rows of s and then those of t, which has the same features and the same length of vectors. A role
// that s lacks is lacking; where t lacks one its rows have nothing there. Texts are shared, and so may vectors be (MoveSample).
func (s *Sample) Join(t *Sample) *Sample {
	free := &room{}
	if s.room != nil && s.room.taken.CompareAndSwap(false, true) {
		free = s.room
	}
	out := &Sample{
		N: s.N + t.N, Text: join(s.Text, t.Text, s.N, t.N, nil),
		FeatureNames: s.FeatureNames, Dim: s.Dim,
		Features:  join(s.Features, t.Features, len(s.Features), t.N*len(s.FeatureNames), math.NaN()),
		Embedding: joinVectors(s.Embedding, t.Embedding, t.N*s.Dim, free.embedding),

		Probabilities: joinVectors(s.Probabilities, t.Probabilities, t.N*s.Outcomes, free.probabilities), Outcomes: s.Outcomes,
		Loss:     join(s.Loss, t.Loss, s.N, t.N, math.NaN()),
		Gradient: joinVectors(s.Gradient, t.Gradient, t.N*s.GradientDim, free.gradient), GradientDim: s.GradientDim,
	}
	out.Label, out.Classes = joinNumbered(s.Label, s.Classes, t.Label, t.Classes, t.N)
	out.Provider, out.Providers = joinNumbered(s.Provider, s.Providers, t.Provider, t.Providers, t.N)
	if s.Embedding != nil && (s.HasEmbedding != nil || t.HasEmbedding != nil || t.Embedding == nil) {
		mine, theirs := s.HasEmbedding, t.HasEmbedding
		if mine == nil {
			mine = slices.Repeat([]bool{true}, s.N)
		}
		if theirs == nil {
			theirs = slices.Repeat([]bool{t.Embedding != nil}, t.N)
		}
		out.HasEmbedding = slices.Concat(mine, theirs)
	}
	return out
}

func join[T any](a, b []T, n, m int, missing T) []T {
	if a == nil {
		return nil
	}
	return behind(append(make([]T, 0, n+m), a...), b, m, missing)
}

// joinVectors is join where free is a with room behind it, or nothing.
func joinVectors(a, b []float32, m int, free []float32) []float32 {
	if a != nil && len(free) == len(a) && cap(free)-len(free) >= m {
		return behind(free, b, m, 0)
	}
	return join(a, b, len(a), m, 0)
}

// behind appends b, or m values that are missing where there is none.
func behind[T any](out, b []T, m int, missing T) []T {
	if b == nil {
		for range m {
			out = append(out, missing)
		}
		return out
	}
	return append(out, b...)
}

func joinNumbered(a []int32, names []string, b []int32, others []string, m int) ([]int32, []string) {
	out := join(a, b, len(a), m, -1)
	if out == nil || b == nil {
		return out, names
	}
	number := make(map[string]int32, len(names))
	for i, name := range names {
		number[name] = int32(i)
	}
	names = slices.Clip(names)
	for i := len(a); i < len(out); i++ {
		if out[i] < 0 {
			continue
		}
		name := others[out[i]]
		at, ok := number[name]
		if !ok {
			at = int32(len(names))
			number[name], names = at, append(names, name)
		}
		out[i] = at
	}
	return out, names
}
