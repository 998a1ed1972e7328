package embedding

import (
	"sync"
	"sync/atomic"

	"github.com/tasterhq/taster/detect"
)

// Texts returns the built-in vectors of texts, len(texts) × dim, row after row: what the detector compares where no embedding
// is given, weighted by how rare words are among the texts themselves. Their cosine says how alike two texts are written.
// A text without any content, nil for one, has a vector of zeros. The result does not depend on the number of workers.
func Texts(texts [][]byte, workers int) (values []float32, dim int) {
	s := &detect.Sample{N: len(texts), Text: texts}
	k := newSketch(s)
	values = make([]float32, s.N*k.dim())
	var next atomic.Int64
	var wait sync.WaitGroup
	for range max(1, min(workers, (s.N+chunk-1)/chunk)) {
		wait.Go(func() {
			for {
				first := int(next.Add(chunk)) - chunk
				if first >= s.N {
					return
				}
				for row := first; row < min(first+chunk, s.N); row++ {
					k.vector(values[row*k.dim():(row+1)*k.dim()], s, row)
				}
			}
		})
	}
	wait.Wait()
	return values, k.dim()
}
