package reference

import (
	"encoding/hex"
	"math"
	"math/rand/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

// MostRows is how many rows a reference keeps at most, and MostBytes how large they may be together.
const (
	MostRows  = 10_000
	MostBytes = 256 << 20
)

// Reservoir draws a uniform sample of all rows that it is shown (Vitter's algorithm R, ACM TOMS 1985). The same
// rows in the same order with the same seed give the same sample, however they are cut into batches. It is used by
// one goroutine at a time.
type Reservoir struct {
	contract *contract.Contract
	seed     uint64
	rng      *rand.Rand
	most     int
	seen     int64
	kept     []row
	bytes    int64 // of the rows that are kept
	bound    int64
	like     *detect.Sample // the shape of vectors, from the first batch
}

// row owns what it holds.
type row struct {
	text, label, provider []byte // nil: none
	features              []float64
	embedding             []float32 // nil: none
	probabilities         []float32
	loss                  []float64
	gradient              []float32
}

// NewReservoir returns an empty Reservoir for records of c that keeps at most MostRows rows of MostBytes.
func NewReservoir(c *contract.Contract, seed uint64) *Reservoir {
	return &Reservoir{contract: c, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x7e5e_2b01)), most: MostRows, bound: MostBytes}
}

// Add shows the rows of a batch, in order. The batch is not kept.
func (r *Reservoir) Add(batch *record.Batch) error {
	s, _, err := detect.NewSample(r.contract, []*record.Batch{batch}, r.like)
	if err != nil {
		return err
	}
	if r.like == nil && s.N > 0 {
		r.like = &detect.Sample{
			FeatureNames: s.FeatureNames, Dim: s.Dim, Text: s.Text[:0:0],
			Label: s.Label[:0:0], Provider: s.Provider[:0:0],
			Outcomes: s.Outcomes, Loss: s.Loss[:0:0], GradientDim: s.GradientDim,
		}
	} else if like := r.like; like != nil {
		// What no row had before has its length from the first that does.
		if len(like.FeatureNames) == 0 {
			like.FeatureNames = s.FeatureNames
		}
		for _, width := range []struct {
			known *int
			now   int
		}{{&like.Dim, s.Dim}, {&like.Outcomes, s.Outcomes}, {&like.GradientDim, s.GradientDim}} {
			if *width.known == 0 {
				*width.known = width.now
			}
		}
	}
	for i := range s.N {
		r.seen++
		if len(r.kept) < r.most {
			r.kept = append(r.kept, take(s, i))
			r.bytes += r.kept[len(r.kept)-1].size()
		} else if at := r.rng.Int64N(r.seen); at < int64(r.most) {
			r.bytes -= r.kept[at].size()
			r.kept[at] = take(s, i)
			r.bytes += r.kept[at].size()
		}
		for r.bytes > r.bound && len(r.kept) > 1 {
			r.halve()
		}
	}
	return nil
}

// halve forgets a random half of what is kept, and keeps no more than that from then on.
func (r *Reservoir) halve() {
	r.most = len(r.kept) / 2
	for i := range r.most {
		j := i + r.rng.IntN(len(r.kept)-i)
		r.kept[i], r.kept[j] = r.kept[j], r.kept[i]
	}
	clear(r.kept[r.most:])
	r.kept = r.kept[:r.most]
	r.bytes = 0
	for i := range r.kept {
		r.bytes += r.kept[i].size()
	}
}

// size returns about how many bytes a row takes up.
func (r *row) size() int64 {
	return int64(len(r.text) + len(r.label) + len(r.provider) + 8*(len(r.features)+len(r.loss)) +
		4*(len(r.embedding)+len(r.probabilities)+len(r.gradient)))
}

func take(s *detect.Sample, i int) row {
	var r row
	if s.Text != nil && s.Text[i] != nil {
		r.text = append([]byte{}, s.Text[i]...)
	}
	if s.Label != nil && s.Label[i] >= 0 {
		r.label = append([]byte{}, s.Classes[s.Label[i]]...)
	}
	if s.Provider != nil && s.Provider[i] >= 0 {
		r.provider = append([]byte{}, s.Providers[s.Provider[i]]...)
	}
	width := len(s.FeatureNames)
	r.features = append(r.features, s.Features[i*width:(i+1)*width]...)
	if s.Dim > 0 && (s.HasEmbedding == nil || s.HasEmbedding[i]) {
		r.embedding = append(r.embedding, s.Embedding[i*s.Dim:(i+1)*s.Dim]...)
	}
	r.probabilities = append(r.probabilities, s.Probabilities[i*s.Outcomes:(i+1)*s.Outcomes]...)
	if s.Loss != nil {
		r.loss = append(r.loss, s.Loss[i])
	}
	r.gradient = append(r.gradient, s.Gradient[i*s.GradientDim:(i+1)*s.GradientDim]...)
	return r
}

// Rows returns how many rows are kept so far.
func (r *Reservoir) Rows() int { return len(r.kept) }

// Reference makes the reference. Created is RFC 3339; inputs tell where the rows came from.
func (r *Reservoir) Reference(created string, inputs []Input) (*Reference, error) {
	s := &detect.Sample{N: len(r.kept)}
	if like := r.like; like != nil {
		s.FeatureNames, s.Dim = like.FeatureNames, like.Dim
		s.Outcomes, s.GradientDim = like.Outcomes, like.GradientDim
		if like.Text != nil {
			s.Text = make([][]byte, s.N)
		}
		if like.Label != nil {
			s.Label = make([]int32, s.N)
		}
		if like.Provider != nil {
			s.Provider = make([]int32, s.N)
		}
		s.Features = make([]float64, 0, s.N*len(s.FeatureNames))
		if s.Dim > 0 {
			s.Embedding = make([]float32, s.N*s.Dim)
			s.HasEmbedding = make([]bool, s.N)
		}
	}
	classes, providers := map[string]int32{}, map[string]int32{}
	number := func(known map[string]int32, names *[]string, name []byte) int32 {
		if name == nil {
			return -1
		}
		at, ok := known[string(name)]
		if !ok {
			at = int32(len(*names))
			known[string(name)] = at
			*names = append(*names, string(name))
		}
		return at
	}
	for i, row := range r.kept {
		if s.Text != nil {
			s.Text[i] = row.text
		}
		if s.Label != nil {
			s.Label[i] = number(classes, &s.Classes, row.label)
		}
		if s.Provider != nil {
			s.Provider[i] = number(providers, &s.Providers, row.provider)
		}
		s.Features = extend(s.Features, row.features, len(s.FeatureNames), math.NaN())
		s.Probabilities = extend(s.Probabilities, row.probabilities, s.Outcomes, 0)
		s.Loss = append(s.Loss, row.loss...)
		s.Gradient = extend(s.Gradient, row.gradient, s.GradientDim, 0)
		if row.embedding != nil {
			copy(s.Embedding[i*s.Dim:], row.embedding)
			s.HasEmbedding[i] = true
		}
	}
	return New(Header{
		Topic: r.contract.Topic, Contract: hex.EncodeToString(r.contract.Digest[:]), Created: created,
		Seed: r.seed, Seen: r.seen, Inputs: inputs,
	}, s)
}

// extend appends a row of width values, filled up with what stands for none.
func extend[T any](column, row []T, width int, missing T) []T {
	column = append(column, row...)
	for range width - len(row) {
		column = append(column, missing)
	}
	return column
}
