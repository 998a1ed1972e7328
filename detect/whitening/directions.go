package whitening

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect/linalg"
)

// Centre takes the mean off every row, and returns it.
func Centre(x linalg.Matrix) (middle []float32) {
	middle = Middle(x)
	Less(x, middle)
	return middle
}

// Middle returns the mean of all rows.
func Middle(x linalg.Matrix) []float32 {
	mean := make([]float64, x.Cols)
	for i := range x.Rows {
		for c, v := range x.Row(i) {
			mean[c] += float64(v)
		}
	}
	middle := make([]float32, x.Cols)
	for c, sum := range mean {
		middle[c] = float32(sum / float64(x.Rows))
	}
	return middle
}

// Less takes middle off every row.
func Less(x linalg.Matrix, middle []float32) {
	for i := range x.Rows {
		less(x.Row(i), middle)
	}
}

// less takes middle off a row.
func less(row, middle []float32) {
	row = row[:len(middle)]
	for c, m := range middle {
		row[c] -= m
	}
}

// Principal returns the k principal directions of centred rows, or as many as there are, of unit length, by ten steps of subspace
// iteration from random ones; x are so many rows of so many columns, and across is their transpose.
func Principal(x, across linalg.Operand, rows, cols, k int, rng *rand.Rand) (linalg.Matrix, error) {
	v := linalg.Matrix{Rows: min(k, cols, rows), Cols: cols}
	v.Data = make([]float32, v.Rows*v.Cols)
	for i := range v.Data {
		v.Data[i] = float32(rng.NormFloat64())
	}
	t := linalg.Matrix{Rows: v.Rows, Cols: rows, Data: make([]float32, v.Rows*rows)}
	for range 10 {
		if err := x.Product(t, v); err != nil {
			return v, err
		}
		if err := across.Product(v, t); err != nil {
			return v, err
		}
		for i := range v.Rows {
			row := v.Row(i)
			Normalise(row)
			for range 2 { // twice is enough (Kahan, in Parlett, "The symmetric eigenvalue problem", 1980)
				for l := range i {
					other := v.Row(l)
					p := float32(Dot(row, other))
					for c := range row {
						row[c] -= p * other[c]
					}
				}
				Normalise(row)
			}
		}
	}
	return v, nil
}

// Dot returns the product of two rows.
func Dot(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// Normalise makes a row's length 1, or leaves it all zeros.
func Normalise(row []float32) {
	length := math.Sqrt(Dot(row, row))
	if !(length > 1e-12) || math.IsInf(length, 0) {
		clear(row)
		return
	}
	for c := range row {
		row[c] = float32(float64(row[c]) / length)
	}
}

// Surprise is Chernoff's bound, in nats, on so many as c of c+r falling among n of n+m rows that are all alike; 0 for fewer than expected.
func Surprise(c, r int, n, m float64) float64 {
	if c == 0 || n+m == 0 {
		return 0
	}
	p, q := float64(c)/float64(c+r), n/(n+m)
	if p <= q {
		return 0
	}
	out := p * math.Log(p/q)
	if p < 1 {
		out += (1 - p) * math.Log((1-p)/(1-q))
	}
	return float64(c+r) * out
}

// Spread returns the median of values, of which there must be some, and their median absolute deviation from it; it overwrites them.
func Spread(values []float32) (median, deviation float32) {
	median = linalg.Median(values)
	for i, v := range values {
		values[i] = max(v-median, median-v)
	}
	return median, linalg.Median(values)
}

// Apart returns how far each row is from the centre of all, in units of the median. It stands in where a class is too small, or too
// much of one kind, for more to be said: a score without spread would make all that is said elsewhere look rare.
func Apart(rows linalg.Matrix) []float64 {
	out := make([]float64, rows.Rows)
	Centre(rows)
	for i := range out {
		out[i] = min(math.Sqrt(Dot(rows.Row(i), rows.Row(i))), math.MaxFloat32)
	}
	sorted := slices.Clone(out)
	slices.Sort(sorted)
	for i := range out {
		out[i] /= max(sorted[len(sorted)/2], 1e-30)
		out[i] = min(out[i], 100)
	}
	return out
}
