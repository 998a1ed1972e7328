package contract

import (
	"slices"
	"strings"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/validate"
)

// Supported lists the kinds of personal data that this version looks for. `default` in sanitize.pii stands for
// those of them that the contract does not name.
var Supported = []string{"CREDIT_CARD", "EMAIL_ADDRESS"}

// The contract language is larger than what this version can do, so that a contract that is right stays right. What
// cannot be done yet is a fault: a record must never pass as cleaned by a rule that was not applied. All of these
// limits are here and nowhere else.

// supportPII refuses the kinds of personal data that this version does not look for, and the actions that need a
// key.
func (d *draft) supportPII(entity string, action Action, at strict.Value) {
	switch action {
	case Hash, Tokenize:
		at.Fault(Unsupported, "this version cannot %s personal data; use redact, reject or keep", action)
		return
	case Redact, Reject:
	default:
		return
	}
	if entity == DefaultEntity {
		d.contract.Notes = append(d.contract.Notes, validate.Fault{
			File: d.contract.Path, Line: at.Line(), Field: "sanitize.pii.default", Code: Unsupported,
			Detail: "stands for " + strings.Join(Supported, " and ") + ", all that this version looks for",
		})
	} else if !slices.Contains(Supported, entity) {
		at.Fault(Unsupported, "this version cannot find %s, only %s; leave the key out, or set it to keep", entity,
			strings.Join(Supported, " and "))
	}
}

// supportSanitize refuses the cleaning that this version does not have.
func (d *draft) supportSanitize(m strict.Mapping) {
	s := &d.contract.Sanitize
	if len(d.tokenize) > 0 {
		m.At("tokenize").Fault(Unsupported, "this version cannot tokenize; drop the fields, or make them restricted")
	}
	if s.Secrets != "" && s.Secrets != Keep {
		m.At("secrets").Fault(Unsupported, "this version does not look for secrets; leave the key out, or set it to keep")
	}
	if s.Injection != "" && s.Injection != Keep {
		m.At("injection").Fault(Unsupported,
			"this version does not look for prompt injection; leave the key out, or set it to keep")
	}
}
