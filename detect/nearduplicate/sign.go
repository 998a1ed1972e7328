package nearduplicate

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
)

// textContent tells texts apart before anything is made of them; 0 for none.
func textContent(text []byte) uint64 {
	if len(text) == 0 {
		return 0
	}
	return xxhash.Sum64(text) | 1
}

// rotation signs vectors by the signs of random rotations: random sign flips and a Hadamard transform. Short vectors
// are rotated more than once, for one rotation has no more signs than there are dimensions.
type rotation struct {
	dim    int
	mean   []float32
	size   int       // a power of two, at least dim
	rounds int       // rotations
	flips  []float32 // ±1, rounds × dim
	every  int       // one in so many coordinates is looked at
}

const (
	signs    = 512
	hashSeed = 0xcbf29ce484222325
)

func newRotation(s *detect.Sample, seed uint64) *rotation {
	r := &rotation{dim: s.Dim, mean: make([]float32, s.Dim), size: 8}
	for r.size < s.Dim {
		r.size *= 2
	}
	r.rounds, r.every = max(1, signs/r.size), max(1, r.size/signs)
	sum, n := make([]float64, s.Dim), 0.0
	for row := range s.N {
		if v := vector(s, row); v != nil {
			n++
			for i, x := range v {
				sum[i] += float64(x)
			}
		}
	}
	for i := range r.mean {
		r.mean[i] = float32(sum[i] / max(1, n))
	}
	rng := rand.New(rand.NewPCG(seed, 0x726f74617465))
	r.flips = make([]float32, r.rounds*s.Dim)
	for i := range r.flips {
		r.flips[i] = float32(1 - 2*int(rng.Uint64()>>63))
	}
	return r
}

// vector returns a row's embedding, or nil where there is none or it is not finite.
func vector(s *detect.Sample, row int) []float32 {
	if s.Embedding == nil || s.HasEmbedding != nil && !s.HasEmbedding[row] {
		return nil
	}
	v := s.Embedding[row*s.Dim : (row+1)*s.Dim]
	var norm float32
	for _, x := range v {
		norm += x * x
	}
	if !(norm > 0 && norm <= 1e37) {
		return nil
	}
	return v
}

// content hashes a row's vector; 0 for none.
func (r *rotation) content(s *detect.Sample, row int) uint64 {
	if s.Dim != r.dim {
		return 0
	}
	v := vector(s, row)
	if v == nil {
		return 0
	}
	h := uint64(hashSeed)
	for _, x := range v {
		h = (h ^ uint64(math.Float32bits(x))) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	return h | 1
}

func (r *rotation) sign(s *detect.Sample, row int) (out signature) {
	x := make([]float32, r.rounds*r.size)
	v := vector(s, row)
	for round := range r.rounds {
		part, flips := x[round*r.size:(round+1)*r.size], r.flips[round*r.dim:]
		for i, v := range v {
			part[i] = (v - r.mean[i]) * flips[i]
		}
		hadamard(part)
	}
	var packed [64]byte
	for i := range signs {
		packed[i/8] |= byte(math.Float32bits(x[i*r.every])>>31) << (i % 8)
	}
	for i := range packed {
		packed[i] = max(1, packed[i]) // no bin is empty
	}
	for w := range out {
		out[w] = binary.LittleEndian.Uint64(packed[8*w:])
	}
	return out
}

// hadamard transforms x, whose length is a power of two, in place; the factor 1/√n does not matter to signs.
func hadamard(x []float32) {
	for half := 1; half < len(x); half *= 2 {
		for i := 0; i < len(x); i += 2 * half {
			a, b := x[i:i+half], x[i+half:i+2*half]
			for j, v := range a {
				a[j], b[j] = v+b[j], v-b[j]
			}
		}
	}
}
