package sanitize

import (
	"slices"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

// span is one piece of personal data, [from, to) in bytes.
type span struct {
	from, to int
	entity   string
}

// redact does with the spans in s.spans what the contract says. The result is text itself when all of them are kept.
func (s *Sanitizer) redact(text []byte, out *Outcome) []byte {
	slices.SortFunc(s.spans, func(a, b span) int { return a.from - b.from })
	var result []byte
	done := 0
	for _, sp := range s.spans {
		if sp.from < done {
			continue // overlaps the one before it
		}
		action := s.email
		if sp.entity == CreditCard {
			action = s.card
		}
		switch action {
		case contract.Keep:
			out.Kept++
			continue
		case contract.Reject:
			out.Refuse = finding.PIIRejected
			out.Kept++
			continue
		}
		out.Redacted++
		result = append(result, text[done:sp.from]...)
		result = append(result, '[')
		result = append(result, sp.entity...)
		result = append(result, ']')
		done = sp.to
	}
	if result == nil {
		return text
	}
	return append(result, text[done:]...)
}
