// Package config reads taster.yaml, the one configuration file, with the contracts that it names.
//
// Reading is strict: an unknown key, an unset environment variable, a file that is not there and the like are
// faults, and all of them are told at once. What is returned is plain data with every default filled in and every
// path made usable from the working folder; nothing is connected to, and no key is read.
//
// A Secret prints as "redacted" wherever it goes; only Reveal gives it away.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/contract/strict"
)

// Config is a configuration that was read and found good. It is not changed after Load.
type Config struct {
	Path      string               `json:"-"` // the file, as it was named
	Kafka     Kafka                `json:"kafka"`
	Contracts []*contract.Contract `json:"-"` // by rising topic; at least one
	Landing   Landing              `json:"landing"`
	Keys      Keys                 `json:"keys"`
	Previous  []string             `json:"previous_keys,omitempty"` // URLs of former master keys, only ever used to unwrap
	Retention Retention            `json:"retention,omitempty"`

	Accelerator Accelerator `json:"accelerator"`

	Listen     string `json:"listen"` // HOST:PORT for metrics and health
	Log        Log    `json:"log"`
	Production bool   `json:"production"`
}

// Kafka says which cluster to read, and as whom. Without Brokers there is none.
type Kafka struct {
	Brokers     []string `json:"brokers"`
	Group       string   `json:"group"`
	TLS         *TLS     `json:"tls,omitempty"`  // nil: plain text
	SASL        *SASL    `json:"sasl,omitempty"` // nil: none
	Verdicts    string   `json:"verdicts"`       // topic of quarantined records and later changes
	DeadLetters string   `json:"dead_letters"`   // topic of rejected records
}

// TLS names PEM files, which are read when a connection is made, so that a renewed certificate needs no restart.
type TLS struct {
	CA         string `json:"ca,omitempty"`   // "": the system's authorities
	Cert       string `json:"cert,omitempty"` // Cert and Key: both or neither
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"` // "": the broker's host name
}

// SASL says how to log in.
type SASL struct {
	Mechanism string `json:"mechanism"` // one of Mechanisms
	Username  string `json:"username,omitempty"`
	Password  Secret `json:"password,omitzero"`
	Token     Secret `json:"token,omitzero"`       // of OAUTHBEARER: Token or TokenFile
	TokenFile string `json:"token_file,omitempty"` // read at each login
}

// Mechanisms lists the SASL mechanisms.
var Mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"}

// Landing says where accepted, quarantined and rejected records go, and when a segment ends.
type Landing struct {
	URL     string  `json:"url"`
	Dir     string  `json:"-"` // the folder that a file:// URL names; "" for a bucket
	Segment Segment `json:"segment"`

	// External puts each file's wrapped keys into an object beside it, so that master keys can be changed without
	// rewriting data.
	External bool `json:"external_key_material"`
}

// Segment bounds a segment; it ends at whichever bound comes first.
type Segment struct {
	Records int           `json:"records"`
	Bytes   int64         `json:"bytes"`
	Age     time.Duration `json:"age_ns"`
}

// Log says how the process logs.
type Log struct {
	Format string     `json:"format"` // json or text
	Level  slog.Level `json:"level"`
}

// Keys holds the URL of a master key for each purpose that the configuration names: keyfile:///PATH#NAME with an
// absolute path, or one that envelope.ParseKeyURL takes. "default" stands for the purposes that it leaves out.
type Keys map[string]string

// Purposes lists what a master key can be for, in the order in which documents show them.
var Purposes = []string{"default", "accepted", "quarantined", "rejected", "restricted", "state", "tokens", "signing"}

// Contract returns the contract for a topic. The error names the nearest topic that has one.
func (c *Config) Contract(topic string) (*contract.Contract, error) {
	topics := make([]string, len(c.Contracts))
	for i, one := range c.Contracts {
		if one.Topic == topic {
			return one, nil
		}
		topics[i] = one.Topic
	}
	return nil, fmt.Errorf("no contract for topic %q in %s; the nearest topic with one is %q", topic, c.Path,
		strict.Nearest(topic, topics))
}

// Digest returns the SHA-256 over the configuration as JSON, every default filled in and every secret replaced by
// the word redacted, together with each contract's topic and digest. The audit log holds it: equal digests mean
// equal behaviour, and nothing about a secret can be learned from one.
func (c *Config) Digest() [32]byte {
	type source struct {
		Topic  string `json:"topic"`
		Digest string `json:"digest"`
	}
	whole := struct {
		*Config
		Contracts []source `json:"contracts"`
	}{Config: c, Contracts: []source{}}
	for _, one := range c.Contracts {
		whole.Contracts = append(whole.Contracts, source{one.Topic, hex.EncodeToString(one.Digest[:])})
	}
	slices.SortFunc(whole.Contracts, func(a, b source) int {
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	})
	text, err := json.Marshal(whole)
	if err != nil {
		panic("config: " + err.Error()) // plain data of marshallable types: cannot be
	}
	return sha256.Sum256(text)
}

// Secret is a text that must not be shown. The zero Secret is none.
type Secret struct {
	text *string // a pointer: a Secret in an unexported field, whose methods fmt cannot call, prints as an address
}

const redacted = "redacted"

// NewSecret keeps text from being shown. The empty text is no secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter, so that no verb gets around String.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
