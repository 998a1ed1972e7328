// Package sanitize removes from a batch what must not be learned: personal data and characters that nobody can see.
//
// It works on Arrow columns. Every string is looked at once by a word-wide filter; only a string that could hold
// something is read again, and only a column in which something changes is built anew. All others are passed on as
// they are.
//
// What is looked for:
//
//   - EMAIL_ADDRESS: an addr-spec (RFC 5322 without quoted or bracketed forms) whose domain has a dot and an
//     alphabetic top level; names of picture files such as icon@2x.png are not taken for one.
//   - CREDIT_CARD: 12 to 19 digits in one piece or in the groups in which cards are printed, with an issuer's
//     prefix and length and a right check digit (ISO/IEC 7812-1, Luhn).
//   - hidden characters: see hidden.go for which, and for where they are legitimate and stay.
//
// Hidden characters are removed before personal data is looked for, so that a zero-width space does not hide an
// address. Every string is treated, whatever role it plays: an address in the id, the label or the provider field
// is personal data like any other. A contract that needs it there says `keep`. In columns of JSON text the strings
// and member names are treated and the text stays JSON; numbers, in whatever column, are not looked at.
//
// Outcomes count and name fields; they never hold content.
package sanitize

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

// Names of the kinds of personal data, as contracts spell them.
const (
	EmailAddress = "EMAIL_ADDRESS"
	CreditCard   = "CREDIT_CARD"
)

// Outcome is what was found in one row.
type Outcome struct {
	Row      int
	Refuse   finding.Code // the contract refuses the row for this reason; "" when it may stay
	Field    string       // RFC 6901 pointer to the field of the reason, or else of the first find
	Redacted int          // pieces of personal data that were replaced
	Kept     int          // pieces of personal data that were found and left
	Hidden   int          // hidden characters that were found
	Suspect  bool         // the contract quarantines the row for its hidden characters
}

// Sanitizer applies one contract's rules. It is used by one goroutine at a time.
type Sanitizer struct {
	email   contract.Action // "" when not looked for
	card    contract.Action
	unicode contract.Action
	filter  uint8 // what makes a string worth a second look

	outcomes []Outcome
	edits    []edit
	spans    []span
	text     []byte
	clean    []byte
}

// edit replaces one value of a string column.
type edit struct {
	at   int // index of the value
	from int // its new bytes are text[from:to]
	to   int
}

// New returns a Sanitizer for a contract that Load found good. Unicode is cleaned unless the contract says
// otherwise. Hash and tokenize, which need a key and which Load refuses for now, redact.
func New(c *contract.Contract) *Sanitizer {
	s := &Sanitizer{
		email:   action(c.Sanitize.PII, EmailAddress),
		card:    action(c.Sanitize.PII, CreditCard),
		unicode: c.Sanitize.Unicode,
	}
	if s.unicode == "" {
		s.unicode = contract.Clean
	}
	if s.email != "" {
		s.filter |= hasAt
	}
	if s.card != "" {
		s.filter |= hasDigits
	}
	if s.unicode != contract.Keep {
		s.filter |= hasHigh | hasControl
	}
	return s
}

func action(pii map[string]contract.Action, entity string) contract.Action {
	a, ok := pii[entity]
	if !ok {
		a = pii["default"]
	}
	switch a {
	case "", contract.Keep, contract.Reject:
		return a
	}
	return contract.Redact
}

// Apply returns the batch without what the contract does not want in it, and an outcome for each row in which
// something was found, by rising row. Rows that the contract refuses are still in it, untouched or not. Apply takes
// over the caller's reference to rec and gives one to the result; the outcomes are valid until the next call.
func (s *Sanitizer) Apply(rec arrow.RecordBatch) (arrow.RecordBatch, []Outcome) {
	s.outcomes = s.outcomes[:0]
	if s.filter == 0 || rec.NumRows() == 0 {
		return rec, nil
	}
	var columns []arrow.Array // nil until one changes
	for i, field := range rec.Schema().Fields() {
		changed := s.top(rec.Column(i), field)
		if changed == nil {
			continue
		}
		if columns == nil {
			columns = make([]arrow.Array, rec.NumCols())
			for j := range columns {
				columns[j] = rec.Column(j)
				columns[j].Retain()
			}
		}
		columns[i].Release()
		columns[i] = changed
	}
	if columns != nil {
		cleaned := array.NewRecordBatch(rec.Schema(), columns, rec.NumRows())
		for _, c := range columns {
			c.Release()
		}
		rec.Release()
		rec = cleaned
	}
	return rec, s.merged()
}

// top treats a column of the batch itself.
func (s *Sanitizer) top(column arrow.Array, field arrow.Field) arrow.Array {
	at := &place{name: field.Name}
	if whole(column.Data()) {
		return s.column(column, field, at)
	}
	compact, err := array.Concatenate([]arrow.Array{column}, memory.DefaultAllocator)
	if err != nil {
		panic("sanitize: a column cannot be copied: " + err.Error()) // one array always fits in one array
	}
	defer compact.Release()
	return s.column(compact, field, at)
}

// rules applies the contract to one string: it returns the string as it shall be (which is in itself when nothing
// changes, or in s.clean) and adds to out what was found.
func (s *Sanitizer) rules(in []byte, flags uint8, out *Outcome) []byte {
	text := in
	if flags&(hasHigh|hasControl) != 0 && s.unicode != contract.Keep {
		cleaned, n := stripHidden(s.clean[:0], in)
		if n > 0 {
			s.clean = cleaned
			out.Hidden += n
			switch s.unicode {
			case contract.Reject:
				out.Refuse = finding.HiddenUnicode
			case contract.Quarantine:
				out.Suspect = true
			}
			text = cleaned
			flags |= look(text) // what was hidden apart may now stand together
		}
	}
	s.spans = s.spans[:0]
	if flags&hasAt != 0 && s.email != "" {
		s.spans = appendEmails(s.spans, text)
	}
	if flags&hasDigits != 0 && s.card != "" {
		s.spans = appendCards(s.spans, text)
	}
	if len(s.spans) == 0 {
		return text
	}
	return s.redact(text, out)
}
