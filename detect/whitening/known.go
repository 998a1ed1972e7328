package whitening

import (
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
}

// Learn keeps what classes of a reference with labels and embeddings show; ok is false where it has not both, or too few rows.
func Learn(engine linalg.Engine, reference *detect.Sample, workers int) (k Known, ok bool, err error) {
	if reference.Label == nil || reference.Embedding == nil {
		return k, false, nil
	}
	if k.Vectors, ok = embedding.NewVectors(reference); !ok {
		return k, false, nil
	}
	k.Trusted = map[string]linalg.Matrix{}
	groups := Groups(k.Vectors, reference, workers)
	for _, g := range groups {
		k.Whole += g.Fingerprint()
		rows := Vectors(k.Vectors, reference, g.Rows[:min(len(g.Rows), max(minTrusted, maxReference/len(groups)))])
		k.Classes = append(k.Classes, rows)
		k.Rows += rows.Rows
		if rows.Rows >= minTrusted {
			k.Trusted[g.Class] = rows
		}
	}
	k.Space, ok, err = Fit(engine, k.Classes)
	return k, ok, err
}

// Sides holds rows of every class of a sample, each about its own centre, for the others to be compared with.
type Sides []linalg.Matrix

// Sides returns those of groups; a group below MinRows has none.
func (k Known) Sides(s *detect.Sample, groups []Group) Sides {
	out := make(Sides, len(groups))
	for i, g := range groups {
		if len(g.Rows) >= MinRows {
			out[i] = Vectors(k.Vectors, s, g.Rows[:min(len(g.Rows), max(MinRows, maxOthers/max(1, len(groups)-1)))])
			Centre(out[i])
		}
	}
	return out
}

// Others returns the rows of all groups but one, until there are enough.
func (s Sides) Others(group, dim int) linalg.Matrix {
	out := linalg.Matrix{Cols: dim}
	for i, other := range s {
		if i != group && out.Rows < maxOthers {
			out.Data = append(out.Data, other.Data...)
			out.Rows += other.Rows
		}
	}
	return out
}
