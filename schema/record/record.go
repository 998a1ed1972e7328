// Package record holds what flows between the stages: a message as its source gave it, a batch of checked
// records as Arrow columns, a segment of one partition, and the decision on a segment.
//
// The columns are made once, by schema/validate, and go unchanged into detection and into Parquet.
package record

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/finding"
)

// Source names one ordered stream of messages. Offsets mean something only within a Source.
type Source struct {
	Topic     string // the Kafka topic, or the contract's topic for a file
	ID        string // the Kafka topic id (a UUID, base64url without padding), or the lower-case hex SHA-256 of a file's stored bytes
	Partition int32  // 0 for a file
}

// Header is one Kafka record header. Keys may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Message is one record as its source gave it. Its offset and timestamp come from the broker (or from the
// position in the file), never from the record itself.
//
// The slices belong to the source: who keeps a message longer than the call that it was given in copies them.
type Message struct {
	Offset    int64
	Timestamp int64 // milliseconds since the Unix epoch
	Key       []byte
	Value     []byte // nil is a tombstone
	Headers   []Header
}

// Origin is where one row came from, within its segment's Source.
type Origin struct {
	Offset    int64
	Timestamp int64 // milliseconds since the Unix epoch
}

// Classification says how sensitive a record is; a larger value is more sensitive.
type Classification uint8

// The four classes, in rising order.
const (
	Public Classification = iota
	Internal
	Confidential
	Restricted
)

// Batch is the outcome of decoding a run of messages: the valid ones as columns, the others with the reason.
// The row slices (Origins, Providers, Classifications) are as long as Records has rows.
type Batch struct {
	Records         arrow.RecordBatch // the record's own fields; owned by the batch
	Origins         []Origin
	Providers       []string // "" where the contract names no provider
	Classifications []Classification
	Marks           []Mark    // sparse, by rising row
	Refused         []Refused // by rising offset
	Bytes           int64     // size of the messages' values and keys, for limits
}

// Mark is something that an earlier stage (the sanitiser) noticed about one row.
type Mark struct {
	Row     int // within the batch
	Code    finding.Code
	Finding *finding.Finding // why the row must be quarantined; nil when there is only the code to say
}

// Refused is a message that did not become a row. It owns its bytes.
type Refused struct {
	Message
	Provider string
	Code     finding.Code
	Field    string // JSON pointer into the schema's own names, never content; may be empty
	At       int64  // byte offset in the value at which the fault was found; -1 when it has none
}

// Segment is the offsets [First, Next) of one source, decided and landed together.
type Segment struct {
	Source
	First, Next int64
	Batches     []*Batch // in order of offset
	Opened      int64    // when the segment was opened, milliseconds since the Unix epoch
}

// Rows returns the number of valid rows over all batches.
func (s *Segment) Rows() int {
	n := 0
	for _, b := range s.Batches {
		n += len(b.Origins)
	}
	return n
}

// Refused returns the number of refused messages over all batches.
func (s *Segment) Refused() int {
	n := 0
	for _, b := range s.Batches {
		n += len(b.Refused)
	}
	return n
}

// Bytes returns the size of the messages' keys and values over all batches.
func (s *Segment) Bytes() int64 {
	var n int64
	for _, b := range s.Batches {
		n += b.Bytes
	}
	return n
}

// Release gives back the memory of the segment's columns, which may be another segment's next. Neither the segment nor
// anything that was cut out of it may be used afterwards.
func (s *Segment) Release() {
	for _, b := range s.Batches {
		if b.Records != nil {
			b.Records.Release()
			b.Records = nil
		}
	}
	s.Batches = nil
}

// Decision is what was decided on the valid rows of a segment, numbered through all its batches.
// Verdicts and Risks are as long as Segment.Rows; the maps are sparse.
type Decision struct {
	Verdicts []finding.Verdict // Accepted or Quarantined
	Risks    []float64         // in [0, 1]
	Reasons  map[int][]finding.Code
	Findings map[int][]finding.Finding
	Risk     float64 // of the whole segment, in [0, 1]

	Threshold  float64  // the risk from which a record is quarantined
	Calibrated string   // against what p-values were computed: "reference" or "batch"
	Reference  string   // name@version of the reference, "" without one
	RefDigest  string   // hex SHA-256 of the reference, "" without one
	Detectors  []string // name/version of each detector that scored, sorted

	State   []byte   // what the source's own segments have taught so far, this one included; nil where nothing is remembered
	Recalls []Recall // records accepted earlier that what is known now speaks against

	Forgotten []string // name/version of what a state held and this scorer cannot read, sorted: judged without it
	Judged    []string // hex SHA-256 of each state that it was made by, sorted; whoever gives a scorer its Memory fills it in
}

// Memory is what a segment is judged by beside itself: the states that earlier decisions left. A state is opaque to
// everyone but the scorer that wrote it. The slices must not be changed.
type Memory struct {
	Own    []byte   // the State of the source's previous decision; nil at its beginning
	Others [][]byte // the newest states of the topic's other sources
}

// Recall names one record that was accepted earlier, in whatever source of the topic, and says what is held against
// it now. The same record may be recalled more than once, when two instances find out at the same time.
type Recall struct {
	Source
	Offset  int64
	Code    finding.Code
	Finding finding.Finding // evidence may be record content
}

// String returns the classification as contracts spell it.
func (c Classification) String() string {
	switch c {
	case Public:
		return "public"
	case Internal:
		return "internal"
	case Confidential:
		return "confidential"
	}
	return "restricted"
}
