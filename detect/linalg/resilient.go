package linalg

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// Watched is an engine of which somebody wants to know when it is lost: [Resilient] calls Lost for every question that the CPU answers instead.
// Lost may be called by several goroutines at once.
type Watched struct {
	Engine
	Lost func(error)
}

// Resilient returns an engine that answers on the CPU whatever the given one cannot answer because it is lost. It keeps
// the points for that case. A nil engine stands for the CPU, which cannot be lost.
//
// Scores may differ by rounding before and after a loss, and in nothing else.
func Resilient(engine Engine) Engine {
	if engine == nil {
		return CPU{}
	}
	r := resilient{engine, func(error) {}}
	if w, ok := engine.(Watched); ok {
		r = resilient{w.Engine, w.Lost}
	}
	if cpu, ok := r.engine.(CPU); ok {
		return cpu
	}
	return r
}

type resilient struct {
	engine Engine
	lost   func(error)
}

type resilientIndex struct {
	lost    func(error)
	current atomic.Pointer[Index]
	spare   func() (Index, error) // of the CPU, made once, however many ask for it at the moment of the loss
}

// spared is an index that can answer on the CPU itself, from what it keeps anyway.
type spared interface {
	onCPU() (Index, error)
}

func (r resilient) Load(points Matrix, metric Metric) (Index, error) {
	ix, err := r.engine.Load(points, metric)
	if errors.Is(err, ErrLost) {
		r.lost(err)
		return CPU{}.Load(points, metric)
	}
	if err != nil {
		return nil, err
	}
	kept := &resilientIndex{lost: r.lost}
	kept.current.Store(&ix)
	if own, ok := ix.(spared); ok {
		kept.spare = own.onCPU
		return kept, nil
	}
	points.Data = slices.Clone(points.Data)
	kept.spare = sync.OnceValues(func() (Index, error) { return CPU{}.Load(points, metric) })
	return kept, nil
}

func (ix *resilientIndex) Nearest(queries Matrix, k, workers int) (Neighbours, error) {
	found, err := (*ix.current.Load()).Nearest(queries, k, workers)
	if !errors.Is(err, ErrLost) {
		return found, err
	}
	ix.lost(err)
	spare, err := ix.spare()
	if err != nil {
		return Neighbours{}, err
	}
	ix.current.Store(&spare)
	return spare.Nearest(queries, k, workers)
}

func (r resilient) Product(dst, a, b Matrix) error {
	err := r.engine.Product(dst, a, b)
	if errors.Is(err, ErrLost) {
		r.lost(err)
		return CPU{}.Product(dst, a, b)
	}
	return err
}
