// Package detect judges records: it turns a segment's columns into the sample that detectors look at, scores it,
// turns scores into p-values and p-values into one risk per record, and decides which records are quarantined.
//
// Everything below this folder is pure: no network, no clock, no files, and randomness only from a seed that is
// given. The same segment, reference and configuration give the same decision, whatever the number of workers.
package detect

import (
	"encoding"

	"github.com/tasterhq/taster/schema/finding"
)

// Version is raised whenever the same input may score differently than before; decisions are recorded with it.
const Version = "6"

// Sample is what detectors see: n rows, each role as one dense column. A role that the contract does not name has
// a nil column. Nothing in it may be changed by a detector.
type Sample struct {
	N int

	Text [][]byte // n texts; several text fields are joined by a line feed; nil entry: no text in this row

	Label   []int32  // n class numbers into Classes, -1 where the row has none
	Classes []string // in order of first appearance; class names are record content

	Features     []float64 // n × len(FeatureNames), row after row; NaN where a row has none
	FeatureNames []string  // schema names, safe to show

	Embedding    []float32 // n × Dim, row after row; a row without a vector is all zeros and false in HasEmbedding
	Dim          int
	HasEmbedding []bool // nil: every row has one

	Probabilities []float32 // n × Outcomes, row after row: a model's class probabilities; a row without is all zeros
	Outcomes      int       // length of a row of Probabilities; which class an index stands for: consistency.Outcomes

	Loss []float64 // n, NaN where a row has none

	Gradient    []float32 // n × GradientDim, row after row; a row without one is all zeros
	GradientDim int

	Provider  []int32 // n indexes into Providers, -1 where there is none
	Providers []string

	room *room // nil: there is none
}

// Env is what a detector may use beside its input.
type Env struct {
	Seed    uint64
	Workers int     // goroutines that may be used; results must not depend on it
	Shared  *Shared // what other detectors made of the same sample; nil: nothing is shared
}

// Detector learns from a reference what is normal. A Detector holds settings only and is safe for concurrent use.
type Detector interface {
	// Name is stable; contracts, findings and reports use it.
	Name() string
	// Fit learns from a trusted sample. Without a reference it is given the very sample that is then scored, which
	// may hold poison: it must be robust to a share of it. A nil Model without an error means that the sample has
	// not what this detector needs.
	Fit(reference *Sample, env Env) (Model, error)
}

// Model scores rows. It is not changed by scoring and is safe for concurrent use.
type Model interface {
	// Score scores every row of s, all rows together where the method looks at the whole stream.
	Score(s *Sample, env Env) Scores
}

// Scores is a Model's answer for one sample.
type Scores struct {
	// Value holds n scores, larger is more suspicious, finite, or NaN for a row on which the model has no opinion.
	Value []float64
	// Code is the reason code of a row that is flagged for its score.
	Code finding.Code
	// Explain tells in one line why row got its score; called for few rows. It may quote the record.
	Explain func(row int) string
	// Stream says that scores depend on the other rows of the sample (counts, floods): such scores are not
	// exchangeable with a reference's and are calibrated on simulated clean streams.
	Stream bool
	// Learned says that the shape of such scores, and not only their scale, depends on what was learned from the
	// sample itself, and so on its length. In a stream longer than any that the reference can simulate, they are
	// calibrated on reference rows that are scored among the stream's.
	Learned bool
	// LogP holds ln p for every row where the method is a test that is valid as it stands (a sequential test against a
	// known null, say), 0 where it has no opinion. Such scores are not calibrated again. Nil: Value is calibrated.
	LogP []float64
	// PerClass says that scores compare only within a class: a row is calibrated on reference rows of its own class,
	// where that has enough of them.
	PerClass bool
}

// Memory is what a model has learned from a stream beyond one segment: sketches of bounded size, which can be added up
// in any order. It holds no text that is longer than a finding's evidence.
type Memory interface {
	// Merge adds what other has seen. Other was made by a model of the same detector and is not changed.
	Merge(other Memory)
	// AppendBinary appends an encoding that the model's Memory method reads, the same bytes for the same content.
	encoding.BinaryAppender
}

// Remembering is a Model that sees more in a stream than one segment shows.
type Remembering interface {
	Model
	// Memory decodes what AppendBinary wrote; nil data gives an empty memory. An error says that the bytes are of
	// another version, or broken.
	Memory(data []byte) (Memory, error)
	// ScoreWith is Score where before is what the stream has shown until s. Before is not changed.
	ScoreWith(s *Sample, before Memory, env Env) Scores
	// Observe returns what s adds to a stream's memory; flagged tells which of its rows are quarantined.
	Observe(s *Sample, flagged []bool, env Env) Memory
}

// Suspicion is a row that looks slightly odd, and the few keys by which to know it when more is known.
type Suspicion struct {
	Row    int
	Weight float32  // how much speaks against it; larger is more suspicious
	Keys   []uint32 // in an encoding of the detector's own
}
