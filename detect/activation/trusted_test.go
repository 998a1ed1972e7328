package activation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/whitening"
)

// TestTrustedPlaces has trusted rows stand where a copy of them about their centre would, to the bit.
func TestTrustedPlaces(t *testing.T) {
	const dim = 24
	rng := rand.New(rand.NewPCG(1, 2))
	some := func(rows int) linalg.Matrix {
		m := linalg.Matrix{Rows: rows, Cols: dim, Data: make([]float32, rows*dim)}
		for i := range m.Data {
			m.Data[i] = float32(3 + rng.NormFloat64())
		}
		return m
	}
	u := some(dimensions)
	for _, n := range []int{0, 1, 33, whitening.Chunk - 1, whitening.Chunk, whitening.Chunk + 1, 2*whitening.Chunk + 5} {
		t.Run(fmt.Sprint(n, " rows"), func(t *testing.T) {
			rows := some(n)
			c := &class{model: &model{engine: linalg.Resilient(nil)}}
			if n > 0 {
				c.trusted = trusted{rows, whitening.Middle(rows)}
			}
			before := slices.Clone(rows.Data)
			got := c.trustedPlaces(u)
			if !slices.Equal(rows.Data, before) {
				t.Error("rows that others read were moved")
			}
			centred := linalg.Matrix{Rows: n, Cols: dim, Data: before}
			whitening.Centre(centred)
			if !slices.Equal(got, c.places(u, centred)) {
				t.Error("they stand elsewhere")
			}
		})
	}
}
