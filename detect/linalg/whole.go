package linalg

import "math"

// wholeLength is the largest length of a row of whole numbers whose products with others of such a length, and all sums of some of their terms, are exact in float32, by
// Cauchy and Schwarz: 2¹² less what rounding may add to rows of up to 36,000 values.
const wholeLength = 4000

// GramOfWhole is [Gram] of rows each of which is scaled by a factor of its own, which makes its length wholeLength at most, and rounded to whole numbers. Every engine
// that adds up in float32 gives the same bits; processors with AVX512-VNNI twice as fast as [Gram].
//
// It is for asking which rows lie alike, where a thousandth of a row's length does not matter. Rows have the factor of the median row that is made so many times as
// long, so that they compare, but for those that are longer still, which are made shorter.
func GramOfWhole(engine Engine, x Matrix, each func(first int, rows Matrix)) error {
	if err := x.check("the matrix"); err != nil {
		return err
	}
	const room = 4 // times the median length, up to which rows compare
	lengths := make([]float32, x.Rows)
	for i := range lengths {
		lengths[i] = float32(math.Sqrt(wideSquares(x.Row(i))))
	}
	if x.Rows == 0 {
		return nil
	}
	usual := room * float64(Median(lengths))
	factor := func(row int) float32 {
		if length := max(usual, float64(lengths[row])); length > 1e-30 && length <= 1e30 {
			return float32(wholeLength / length)
		}
		return 0 // nothing can be said of rows that have no length, or no finite one
	}
	if e, ok := engine.(CPU); ok {
		if k := e.Level.kernel(); k.words != nil {
			return k.gramOfWords(x, factor, each)
		}
	}
	whole := Matrix{Rows: x.Rows, Cols: x.Cols, Data: make([]float32, len(x.Data))}
	for i := range x.Rows {
		to, by := whole.Row(i), factor(i)
		for c, v := range x.Row(i) {
			if by != 0 {
				to[c] = float32(math.RoundToEven(float64(v * by)))
			}
		}
	}
	kept, err := Keep(engine, whole)
	if err != nil {
		return err
	}
	return Gram(whole, kept, each)
}

// gramOfWords multiplies pairs of numbers as if they were one.
func (k *kernel) gramOfWords(x Matrix, factor func(row int) float32, each func(first int, rows Matrix)) error {
	width := max(1, (x.Cols+15)/16) * 16
	pairs := Matrix{Rows: x.Rows, Cols: width / 2, Data: make([]float32, x.Rows*width/2)}
	padded := make([]float32, width)
	for i := range x.Rows {
		by := factor(i)
		if by == 0 {
			continue
		}
		row := x.Row(i)
		if x.Cols != width {
			copy(padded, row)
			row = padded
		}
		k.words(pairs.Row(i), row, by)
	}
	with := *k
	with.tiles = k.wordTiles
	kept := newPacked(&with, pairs.Rows, pairs.Cols)
	with.pack(kept.panels, pairs.Data, pairs.Cols, pairs.Rows, pairs.Cols)
	return Gram(pairs, kept, each)
}
