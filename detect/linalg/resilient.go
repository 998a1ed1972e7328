package linalg

import (
	"errors"
	"slices"
	"sync/atomic"
)

// Resilient returns an engine that answers on the CPU whatever the given one cannot answer because it is lost. It keeps
// the points for that case. A nil engine stands for the CPU, which cannot be lost.
//
// Scores may differ by rounding before and after a loss, and in nothing else.
func Resilient(engine Engine) Engine {
	if engine == nil {
		return CPU{}
	}
	return resilient{engine}
}

type resilient struct{ engine Engine }

type resilientIndex struct {
	points  Matrix
	metric  Metric
	current atomic.Pointer[Index]
}

func (r resilient) Load(points Matrix, metric Metric) (Index, error) {
	ix, err := r.engine.Load(points, metric)
	if errors.Is(err, ErrLost) {
		return CPU{}.Load(points, metric)
	}
	if err != nil {
		return nil, err
	}
	points.Data = slices.Clone(points.Data)
	kept := &resilientIndex{points: points, metric: metric}
	kept.current.Store(&ix)
	return kept, nil
}

func (ix *resilientIndex) Nearest(queries Matrix, k, workers int) (Neighbours, error) {
	found, err := (*ix.current.Load()).Nearest(queries, k, workers)
	if !errors.Is(err, ErrLost) {
		return found, err
	}
	spare, err := CPU{}.Load(ix.points, ix.metric)
	if err != nil {
		return Neighbours{}, err
	}
	ix.current.Store(&spare)
	return spare.Nearest(queries, k, workers)
}

func (r resilient) Product(dst, a, b Matrix) error {
	err := r.engine.Product(dst, a, b)
	if errors.Is(err, ErrLost) {
		return CPU{}.Product(dst, a, b)
	}
	return err
}
