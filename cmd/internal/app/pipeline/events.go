package pipeline

import (
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// Event is something that happened, for logs and metrics. It holds no record content. The types are Scored, Landed,
// Lost, Retrying and HintFailed.
type Event any

// Scored says that a segment was judged.
type Scored struct {
	Source  record.Source
	Records int
	Bytes   int64
	Built   time.Duration // spent on decoding, checking and sanitising
	Took    time.Duration
}

// Landed says that a segment was committed, and with what outcome.
type Landed struct {
	Source      record.Source
	First, Next int64
	Verdicts    [len(finding.Verdicts)]int
	Reasons     map[finding.Code]int
	Bytes       int64
	Risk        float64
	Took        time.Duration // to write, commit and audit
	Oldest      int64         // broker timestamp of its first message, milliseconds since the Unix epoch; 0 for none
	State       int           // bytes of what the source has taught so far
	Recalls     map[finding.Code]int
	Forgotten   []string // name/version of what states held and this version cannot read
}

// Lost says that another writer committed the offsets that this one had in hand; Next is where it goes on.
type Lost struct {
	Source record.Source
	First  int64
	Next   int64
}

// Retrying says that a step failed and is tried again.
type Retrying struct {
	Source  record.Source
	Step    string // "commit", "audit", "publish", "reload" or "state"
	Attempt int
	Err     error
}

// HintFailed says that the source could not be told how far it has landed.
type HintFailed struct {
	Source record.Source
	Err    error
}
