// Package classify says how sensitive each record is: at least as its contract says, and more when what was found in
// it demands so.
//
//	found in the record                                    at least
//	a value in a column that the contract restricts        restricted
//	personal data that the contract keeps                  confidential
//	personal data that was redacted                        internal
//	nothing of that                                        the contract's classification
//
// A record from which personal data was redacted is not public: what stood around it is still there and may tell
// the person.
package classify

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/ingest/sanitize"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

// Classifier applies one contract. It is safe for concurrent use.
type Classifier struct {
	base       record.Classification
	restricted []string
}

// New returns a Classifier for a contract that Load found good.
func New(c *contract.Contract) *Classifier {
	return &Classifier{c.Classification, c.Restricted}
}

// Rows returns the classification of every row of rec, in which found was found.
func (c *Classifier) Rows(rec arrow.RecordBatch, found []sanitize.Outcome) []record.Classification {
	rows := make([]record.Classification, rec.NumRows())
	for i := range rows {
		rows[i] = c.base
	}
	for _, o := range found {
		switch {
		case o.Kept > 0:
			rows[o.Row] = max(rows[o.Row], record.Confidential)
		case o.Redacted > 0:
			rows[o.Row] = max(rows[o.Row], record.Internal)
		}
	}
	for _, pointer := range c.restricted {
		column, ok := record.Lookup(rec, pointer)
		if !ok {
			continue // dropped, or an object without a column of its own
		}
		if column.NullN() == 0 {
			for i := range rows {
				rows[i] = record.Restricted
			}
			continue
		}
		for i := range rows {
			if column.IsValid(i) {
				rows[i] = record.Restricted
			}
		}
	}
	return rows
}
