package embedding

import (
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
)

// Vectors makes the vectors that detectors of vectors compare: those of the embedding role, each dimension divided by the square
// root of its standard deviation, or, where there is none, the built-in ones of texts. It is safe for concurrent use.
type Vectors struct{ source }

// NewVectors learns scales and weights from a reference; ok is false where it has neither embeddings nor texts.
func NewVectors(reference *detect.Sample) (v Vectors, ok bool) {
	switch {
	case reference.Dim > 0 && reference.Embedding != nil:
		return Vectors{newGiven(reference)}, true
	case reference.Text != nil:
		return Vectors{newSketch(reference)}, true
	}
	return Vectors{}, false
}

// Dim returns the length of a vector.
func (v Vectors) Dim() int { return v.dim() }

// Fits says whether a sample has what the vectors are made from.
func (v Vectors) Fits(s *detect.Sample) bool { return v.fits(s) }

// Of writes row's vector to dst, of length Dim, or reports false where it has none that can be computed with: none was given, it
// holds a NaN or an infinity or is huge, or the text is empty. The sample must fit.
func (v Vectors) Of(dst []float32, s *detect.Sample, row int) bool { return v.vector(dst, s, row) }

// Known is Of for a row that is known to have a vector.
func (v Vectors) Known(dst []float32, s *detect.Sample, row int) {
	if g, ok := v.source.(given); ok {
		linalg.Times(dst, s.Embedding[row*s.Dim:(row+1)*s.Dim], g.scale)
		return
	}
	v.vector(dst, s, row)
}

// ahead is how many rows are fetched before they are needed.
const ahead = 3

// Soon says that the vectors of rows are asked for one after the other, and that row i of them is next.
func (v Vectors) Soon(s *detect.Sample, rows []int, i int) {
	if _, given := v.source.(given); given && i+ahead < len(rows) {
		row := rows[i+ahead]
		linalg.Prefetch(s.Embedding[row*s.Dim : (row+1)*s.Dim])
	}
}

// Hashes sets hash to what the vectors of rows from first on are made from, so many as it has values: rows with equal hashes have equal vectors. Has is set to false
// where there is no vector.
func (v Vectors) Hashes(hash []uint64, has []bool, s *detect.Sample, first int) {
	if _, isText := v.source.(*sketch); isText {
		for i := range hash {
			text := s.Text[first+i]
			hash[i], has[i] = xxhash.Sum64(text), len(text) > 0
		}
		return
	}
	// Each value waits for a multiplication with the one before: four rows wait side by side.
	var rows [4][]float32
	var places [4]int
	n := 0
	for i := range hash {
		vector := vectorOf(s, first+i)
		if hash[i], has[i] = spread(0), vector != nil; vector == nil {
			continue
		}
		rows[n], places[n] = vector, i
		if n++; n == len(rows) {
			four := hashFour(rows)
			for k, place := range places {
				hash[place] = four[k]
			}
			n = 0
		}
	}
	for k, row := range rows[:n] {
		hash[places[k]] = hashOne(row)
	}
}

const hashFactor = 0x9e3779b97f4a7c15

func hashOne(row []float32) (hash uint64) {
	for _, x := range row {
		hash = (hash ^ uint64(math.Float32bits(x))) * hashFactor
		hash ^= hash >> 29
	}
	return spread(hash)
}

// hashFour is hashOne of four rows of one length.
func hashFour(rows [4][]float32) [4]uint64 {
	var a, b, c, d uint64
	n := len(rows[0])
	second, third, fourth := rows[1][:n], rows[2][:n], rows[3][:n]
	for i, x := range rows[0] {
		a = (a ^ uint64(math.Float32bits(x))) * hashFactor
		b = (b ^ uint64(math.Float32bits(second[i]))) * hashFactor
		c = (c ^ uint64(math.Float32bits(third[i]))) * hashFactor
		d = (d ^ uint64(math.Float32bits(fourth[i]))) * hashFactor
		a ^= a >> 29
		b ^= b >> 29
		c ^= c >> 29
		d ^= d >> 29
	}
	return [4]uint64{spread(a), spread(b), spread(c), spread(d)}
}
