package embedding

import (
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
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

// Hash is of what row's vector is made from: rows with equal hashes have equal vectors. It reports false where there is no vector.
func (v Vectors) Hash(s *detect.Sample, row int) (hash uint64, ok bool) {
	if _, isText := v.source.(*sketch); isText {
		return xxhash.Sum64(s.Text[row]), len(s.Text[row]) > 0
	}
	vector := vectorOf(s, row)
	for _, x := range vector {
		hash = (hash ^ uint64(math.Float32bits(x))) * 0x9e3779b97f4a7c15
		hash ^= hash >> 29
	}
	return spread(hash), vector != nil
}
