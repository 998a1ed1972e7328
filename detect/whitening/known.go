package whitening

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/linalg"
)

// MinRows is how many rows of a class in a stream there must be for it to be looked at.
const MinRows = 64

const (
	minTrusted   = 32   // reference rows of a class below which they are not compared with
	maxReference = 8192 // reference rows that are kept, of all classes together
	maxOthers    = 4096 // rows of other classes that a class is compared with
)

// Known is what is kept of a reference whose classes are compared with a stream's.
type Known struct {
	Vectors embedding.Vectors
	Space   Map
	Classes []linalg.Matrix          // vectors of reference rows, a matrix for each class
	Rows    int                      // of Classes
	Trusted map[string]linalg.Matrix // those of classes that have enough
	Whole   uint64                   // fingerprint of all of the reference, to recognise it

	wanted atomic.Bool // places
}

// learned names what is known of a reference by an engine of a kind.
type learned struct {
	reference *detect.Sample
	engine    string
}

// Learn keeps what classes of a reference with labels and embeddings show, once for all detectors that share; nil where it has not both, or too
// few rows.
func Learn(engine linalg.Engine, reference *detect.Sample, env detect.Env) (*Known, error) {
	type result struct {
		known *Known
		err   error
	}
	r := detect.Once(env, learned{reference, fmt.Sprintf("%T", engine)}, func() result {
		k, err := learn(engine, reference, env.Workers)
		return result{k, err}
	})
	return r.known, r.err
}

func learn(engine linalg.Engine, reference *detect.Sample, workers int) (*Known, error) {
	if reference.Label == nil || reference.Embedding == nil {
		return nil, nil
	}
	k := &Known{Trusted: map[string]linalg.Matrix{}}
	var ok bool
	if k.Vectors, ok = embedding.NewVectors(reference); !ok {
		return nil, nil
	}
	groups := groups(k.Vectors, reference, workers)
	for _, g := range groups {
		k.Whole += g.Fingerprint()
		rows := Vectors(k.Vectors, reference, g.Rows[:min(len(g.Rows), max(minTrusted, maxReference/len(groups)))])
		k.Classes = append(k.Classes, rows)
		k.Rows += rows.Rows
		if rows.Rows >= minTrusted {
			k.Trusted[g.Class] = rows
		}
	}
	var err error
	if k.Space, ok, err = Fit(engine, k.Classes); !ok || err != nil {
		return nil, err
	}
	return k, nil
}

// seen names what is made of a sample's vectors.
type seen struct {
	known  *Known
	sample *detect.Sample
}

// Groups returns the groups of a sample that the vectors fit, by class number, those without rows left out. They may not be changed.
func (k *Known) Groups(s *detect.Sample, env detect.Env) []Group {
	return detect.Once(env, seen{k, s}, func() []Group { return groups(k.Vectors, s, env.Workers) })
}

// Sides holds rows of every class of a sample, each about its own centre, for the others to be compared with.
type Sides []linalg.Matrix

// Sides returns those of the sample's groups, so many of which are compared; a group below MinRows has none. They may not be changed.
func (k *Known) Sides(s *detect.Sample, compared int, env detect.Env) Sides {
	type key struct {
		seen
		compared int
	}
	return detect.Once(env, key{seen{k, s}, compared}, func() Sides {
		groups := k.Groups(s, env)
		out := make(Sides, len(groups))
		detect.Each(len(groups), env.Workers, func(i int) {
			if g := groups[i]; len(g.Rows) >= MinRows {
				out[i] = Vectors(k.Vectors, s, g.Rows[:min(len(g.Rows), max(MinRows, maxOthers/max(1, compared-1)))])
				Centre(out[i])
			}
		})
		return out
	})
}

// Learned is how many rows of a class, or of half of one, are learned from at most.
const Learned = 2048

// Dimensions is how many principal directions of a class are shared, as many as activation clustering takes.
const Dimensions = 10

// Portion returns the rows of a class that whoever learns from so many takes in a sample of more than [detect.Enough] rows, so that it is done once: the first of one of its halves, which
// a hash of what is in them chooses. It returns none in other samples and where the half has fewer.
func (g Group) Portion(s *detect.Sample) []int {
	if s.N <= detect.Enough || len(g.Rows) < Learned {
		return nil
	}
	half, _ := g.Halves()
	if len(half) < Learned {
		return nil
	}
	return half[:Learned]
}

// Principal returns the principal directions, [Dimensions] at most, of a class's portion as [Group.Portion] has it, after the reference's map, once for all detectors that share.
// Who has those rows after the map and
// about their centre as operands already gives them, others nil. The directions may not be changed.
func (k *Known) Principal(engine linalg.Engine, s *detect.Sample, class string, portion []int, env detect.Env, x, across linalg.Operand) (linalg.Matrix, error) {
	type key struct {
		seen
		class string
	}
	type result struct {
		directions linalg.Matrix
		err        error
	}
	r := detect.Once(env, key{seen{k, s}, class}, func() (r result) {
		if x == nil {
			if x, across, r.err = k.Round(engine, Vectors(k.Vectors, s, portion)); r.err != nil {
				return r
			}
		}
		r.directions, r.err = Principal(x, across, len(portion), k.Vectors.Dim(), Dimensions, rand.New(rand.NewPCG(env.Seed, 0x7072696e)))
		return r
	})
	return r.directions, r.err
}

// Round returns rows after the reference's map and about their centre, as operands.
func (k *Known) Round(engine linalg.Engine, rows linalg.Matrix) (x, across linalg.Operand, err error) {
	round, err := k.Space.Round(nil, rows)
	if err != nil {
		return nil, nil, err
	}
	Centre(round)
	return Operands(engine, round)
}

// Operands keeps rows and their transpose.
func Operands(engine linalg.Engine, rows linalg.Matrix) (x, across linalg.Operand, err error) {
	if x, err = linalg.Keep(engine, rows); err != nil {
		return nil, nil, err
	}
	across, err = linalg.KeepAcross(engine, rows)
	return x, across, err
}

// Places are where rows of a sample stand in the principal directions of their class, as far as somebody who read those rows for another purpose has looked. It is safe for concurrent use by those
// who set places of different rows.
type Places struct {
	at   []float32 // Dimensions of each row
	mu   sync.Mutex
	rows map[string]int // of each class that were looked at
}

// WantPlaces says that who reads all rows of a class shall fill [Known.Places], for they will be asked for.
func (k *Known) WantPlaces() { k.wanted.Store(true) }

// Places returns those of a sample; nil where nobody wants them, or detectors do not share.
func (k *Known) Places(s *detect.Sample, env detect.Env) *Places {
	type key struct{ seen }
	if !k.wanted.Load() || env.Shared == nil {
		return nil
	}
	return detect.Once(env, key{seen{k, s}}, func() *Places {
		return &Places{at: make([]float32, s.N*Dimensions), rows: map[string]int{}}
	})
}

// Of returns where a row stands, to be set or to be read, which who sets them all says by Done, and Known tells.
func (p *Places) Of(row int) []float32 { return p.at[row*Dimensions : (row+1)*Dimensions] }

// Done says that so many more rows of a class stand where they should.
func (p *Places) Done(class string, rows int) {
	p.mu.Lock()
	p.rows[class] += rows
	p.mu.Unlock()
}

// Known says whether all of so many rows of a class stand where they should; of no places none do.
func (p *Places) Known(class string, rows int) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows[class] == rows
}

// Others returns the rows of all groups but one, until there are enough. They may not be changed.
func (s Sides) Others(group, dim int) linalg.Matrix {
	out := linalg.Matrix{Cols: dim}
	for i, other := range s {
		switch {
		case i == group || other.Rows == 0 || out.Rows >= maxOthers:
		case out.Rows == 0:
			out = other
			out.Data = slices.Clip(out.Data)
		default:
			out.Data = append(out.Data, other.Data...)
			out.Rows += other.Rows
		}
	}
	return out
}
