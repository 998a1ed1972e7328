// Package contract reads contracts: one YAML file per topic that says what a record must look like, which field
// plays which part, what must be removed from it, and how it is judged.
package contract

import (
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// Contract is a contract that was read and found good. It is not changed after Load.
type Contract struct {
	Path           string // the file, as it was named
	Topic          string
	Owner          string
	Purpose        string
	Classification record.Classification
	Region         string
	SchemaPath     string // the JSON Schema file, made absolute or relative to the working folder
	Schema         *validate.Schema
	Roles          Roles
	Restricted     []string // pointers
	Limits         Limits
	Sanitize       Sanitize
	Detect         Detect
	Digest         [32]byte // SHA-256 over the contract and every schema file it draws in

	Notes []validate.Fault // what is no fault and yet worth knowing; taster check shows it
}

// Roles says which field plays which part. Pointers are RFC 6901; "" means that nothing plays the part.
type Roles struct {
	ID            string
	Provider      Provider
	Text          []string
	Label         string
	Features      []string // numbers, or one array of numbers
	Embedding     string
	Probabilities string
	Loss          string
	Gradient      string
}

// Provider says where a record's provider is found: at most one field is set.
type Provider struct {
	Field  string // RFC 6901 pointer
	Header string // header:NAME
	Key    bool   // key
	Is     string // is:NAME, a topic with one provider
}

// Limits bound a record before it is parsed.
type Limits struct {
	Bytes int // largest size of a record's value; default 1 MiB
	Depth int // deepest nesting of arrays and objects; default 128
}

// Action says what is done with personal data that was found.
type Action string

// The actions of sanitize.pii, sanitize.secrets, sanitize.unicode and sanitize.injection; which of them may
// stand where is checked by Load.
const (
	Keep       Action = "keep"
	Redact     Action = "redact"
	Reject     Action = "reject"
	Hash       Action = "hash"
	Tokenize   Action = "tokenize"
	Clean      Action = "clean"
	Quarantine Action = "quarantine"
)

// Sanitize says what is removed or replaced.
type Sanitize struct {
	Drop      []string          // pointers
	Tokenize  []string          // pointers
	PII       map[string]Action // by entity name; "default" for the rest; nil: nothing is looked for
	Secrets   Action            // "" when not named
	Unicode   Action            // default clean
	Injection Action            // "" when not named
}

// Detect says how records are judged.
type Detect struct {
	Budget    float64 // share of clean records that may be quarantined; default 0.01
	Reference string  // NAME@VERSION or NAME@latest; "" for none
	// Detectors holds settings by detector name: "enabled", a bool, is the only one. Empty: all that the roles allow
	// run. When one is named and enabled, only those that are; when all that are named are not, all others.
	Detectors map[string]map[string]any
}
