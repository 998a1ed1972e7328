package linalg

import (
	"math"
	"slices"
)

// Reference is the engine to read and to compare others with: every distance by its definition, in float64, and a sort.
type Reference struct{}

type referenceIndex struct {
	points Matrix
	metric Metric
}

// Load implements [Engine].
func (Reference) Load(points Matrix, metric Metric) (Index, error) {
	if err := points.check("the point matrix"); err != nil {
		return nil, err
	}
	points.Data = slices.Clone(points.Data)
	return referenceIndex{points, metric}, nil
}

// Nearest implements [Index]. It uses one goroutine whatever workers says.
func (ix referenceIndex) Nearest(queries Matrix, k, _ int) (Neighbours, error) {
	if err := checkQueries(queries, ix.points.Cols, k); err != nil {
		return Neighbours{}, err
	}
	type neighbour struct {
		distance float64
		index    int
	}
	found := newNeighbours(queries.Rows, k)
	for q := range queries.Rows {
		var all []neighbour
		if _, ok := squaredNorm(queries.Row(q)); ok {
			for p := range ix.points.Rows {
				if _, ok := squaredNorm(ix.points.Row(p)); ok {
					all = append(all, neighbour{ix.metric.distance(queries.Row(q), ix.points.Row(p)), p})
				}
			}
		}
		slices.SortStableFunc(all, func(a, b neighbour) int {
			switch {
			case a.distance < b.distance:
				return -1
			case a.distance > b.distance:
				return 1
			}
			return 0
		})
		for i := range k {
			if i < len(all) {
				found.Index[q*k+i], found.Distance[q*k+i] = int32(all[i].index), float32(all[i].distance)
			} else {
				found.Index[q*k+i], found.Distance[q*k+i] = -1, float32(math.NaN())
			}
		}
	}
	return found, nil
}

func (m Metric) distance(a, b []float32) float64 {
	var square, dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		square += (x - y) * (x - y)
		dot += x * y
		aa += x * x
		bb += y * y
	}
	switch {
	case m == L2:
		return math.Sqrt(square)
	case aa == 0 || bb == 0:
		return 1
	default:
		return 1 - dot/math.Sqrt(aa*bb)
	}
}

// Product implements [Engine].
func (Reference) Product(dst, a, b Matrix) error {
	if err := checkProduct(dst, a, b); err != nil {
		return err
	}
	for i := range a.Rows {
		for j := range b.Rows {
			var sum float64
			for k := range a.Cols {
				sum += float64(a.Row(i)[k]) * float64(b.Row(j)[k])
			}
			dst.Data[i*dst.Cols+j] = float32(sum)
		}
	}
	return nil
}
