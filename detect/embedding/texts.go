package embedding

import "github.com/tasterhq/taster/detect"

// Texts returns the built-in vectors of texts, len(texts) × dim, row after row: what the detector compares where no embedding
// is given, weighted by how rare words are among the texts themselves. Their cosine says how alike two texts are written.
// A text without any content, nil for one, has a vector of zeros. The result does not depend on the number of workers.
func Texts(texts [][]byte, workers int) (values []float32, dim int) {
	s := &detect.Sample{N: len(texts), Text: texts}
	k := newSketch(s)
	values = make([]float32, s.N*k.dim())
	detect.Chunks(s.N, chunk, workers, func() func(first, end int) {
		return func(first, end int) {
			for row := first; row < end; row++ {
				k.vector(values[row*k.dim():(row+1)*k.dim()], s, row)
			}
		}
	})
	return values, k.dim()
}
