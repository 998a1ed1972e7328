// Package finding holds the words in which taster says what it thinks of a record: the verdict, the stable
// reason codes, and a detector's finding with its evidence.
//
// Reason codes are part of the public interface. Scripts, events and reports rely on them, so a code is never
// renamed and never given a second meaning. The table in docs/reason-codes.md lists all of them; a test compares
// the two.
package finding

import "fmt"

// Verdict says where a record goes.
type Verdict uint8

const (
	// Accepted records may be learned from.
	Accepted Verdict = iota
	// Quarantined records are well formed and suspicious; a person may release them.
	Quarantined
	// Rejected records broke the contract or a limit. Their bytes are kept as they came.
	Rejected
)

// Verdicts lists every verdict, in the order of their values.
var Verdicts = [...]Verdict{Accepted, Quarantined, Rejected}

// String returns the verdict as it stands in files, events and folder names.
func (v Verdict) String() string {
	switch v {
	case Accepted:
		return "accepted"
	case Quarantined:
		return "quarantined"
	case Rejected:
		return "rejected"
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It accepts the words that String returns.
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, known := range Verdicts {
		if string(text) == known.String() {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("unknown verdict %q: want accepted, quarantined or rejected", text)
}

// Finding is what one detector has to say of one record.
//
// Evidence may hold record content (the trigger phrase, say). It is stored encrypted beside the record and never
// stands in a log, an error, a metric or an event.
type Finding struct {
	Detector  string  `json:"detector"`
	Score     float64 `json:"score"`     // the detector's own scale; larger is more suspicious
	PValue    float64 `json:"p_value"`   // chance of a score at least this large on a clean record, in (0, 1]
	Threshold float64 `json:"threshold"` // the p-value at or below which this detector alone would have flagged
	Evidence  string  `json:"evidence"`
	Code      Code    `json:"-"` // the reason code that the record gets when this finding counts
}
