package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Connection says how to reach the brokers.
type Connection struct {
	Brokers  []string // host:port of any of the brokers; the others are learned from it
	ClientID string   // stands in the brokers' logs and quotas; default taster
	TLS      *TLS     // nil: no TLS
	SASL     *SASL    // nil: no authentication by SASL

	// ConnectTimeout bounds a dial, and the first contact as a whole. Default 10 s.
	ConnectTimeout time.Duration
}

// TLS names PEM files. The zero value is TLS with the system's certificate authorities and no client certificate.
// Certificate and key are read again for every connection, so they may be renewed in place.
type TLS struct {
	CA         string // certificate authorities that are trusted in place of the system's
	Cert, Key  string // the client's certificate and private key, for mutual TLS; both or none
	ServerName string // the name that the brokers' certificates must carry; default the host that was dialled
}

// SASL says how to authenticate (RFC 4422).
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	Username  string // not for OAUTHBEARER
	Password  Secret // not for OAUTHBEARER
	Token     Secret // OAUTHBEARER: the token itself
	TokenFile string // OAUTHBEARER: a file that holds the token, read again for every authentication
}

// Secret is a string that prints as "redacted", by every verb and in every encoding.
type Secret string

const redacted = "redacted"

// String returns the word redacted, or nothing where there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Config is what a Consumer needs to know. Zero values of the fields after Topics stand for the defaults.
type Config struct {
	Connection
	Group  string
	Topics []string

	// BufferBytes bounds the memory of messages that were read and not yet worked off, over all partitions.
	// Each partition may hold an equal share of half of it before it is paused; the other half is room for what
	// is under way when that happens. A single record larger than all this still passes, alone. Default 64 MiB.
	BufferBytes int64
	// FetchBytes bounds one fetch from one broker, before decompression. Default 4 MiB.
	FetchBytes int32
	// MaxBatchBytes is the size to which one batch of records may decompress. A partition with a larger one stops:
	// it can neither be read nor be left out. Default 256 MiB.
	MaxBatchBytes int

	// SessionTimeout is how long a member that has died keeps its partitions. Default 15 s.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the group waits for a member to give partitions back. Revoked gets two thirds
	// of it. Default 60 s.
	RebalanceTimeout time.Duration
	// DrainTimeout is how long the Handler may take to land what it has when the Consumer is stopped. Default 30 s.
	DrainTimeout time.Duration
	// Refresh is how often topics, partitions and lags are looked up. Default 15 s.
	Refresh time.Duration
}

// The SASL mechanisms that are supported, as they stand in a configuration.
const (
	mechanismPlain       = "PLAIN"
	mechanismScram256    = "SCRAM-SHA-256"
	mechanismScram512    = "SCRAM-SHA-512"
	mechanismOAuthBearer = "OAUTHBEARER"
)

var mechanisms = []string{mechanismPlain, mechanismScram256, mechanismScram512, mechanismOAuthBearer}

func (c Connection) withDefaults() Connection {
	setDefault(&c.ClientID, "taster")
	setDefault(&c.ConnectTimeout, 10*time.Second)
	return c
}

func (c Config) withDefaults() Config {
	c.Connection = c.Connection.withDefaults()
	setDefault(&c.BufferBytes, 64<<20)
	setDefault(&c.FetchBytes, 4<<20)
	setDefault(&c.MaxBatchBytes, 256<<20)
	setDefault(&c.SessionTimeout, 15*time.Second)
	setDefault(&c.RebalanceTimeout, time.Minute)
	setDefault(&c.DrainTimeout, 30*time.Second)
	setDefault(&c.Refresh, 15*time.Second)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns every fault at once, joined, or nil. It opens no file and no connection.
func (c Connection) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if len(c.Brokers) == 0 {
		fault("kafka.brokers: name at least one broker, as host:port")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			fault("kafka.brokers: %q is not host:port", b)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			fault("kafka.brokers: %q: port %q is not a number from 1 to 65535", b, port)
		}
	}
	if c.ConnectTimeout < 0 {
		fault("kafka: the connect timeout is negative")
	}
	if t := c.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
		fault("kafka.tls: cert and key belong together: give both, or none")
	}
	if s := c.SASL; s != nil {
		switch {
		case !slices.Contains(mechanisms, s.Mechanism):
			fault("kafka.sasl.mechanism: %q is not supported: want one of %s", s.Mechanism, strings.Join(mechanisms, ", "))
		case s.Mechanism == mechanismOAuthBearer:
			if (s.Token == "") == (s.TokenFile == "") {
				fault("kafka.sasl: OAUTHBEARER wants either a token or a token file")
			}
			if s.Username != "" || s.Password != "" {
				fault("kafka.sasl: OAUTHBEARER takes no user name and no password")
			}
		default:
			if s.Username == "" {
				fault("kafka.sasl.username: %s wants a user name", s.Mechanism)
			}
			if s.Password == "" {
				fault("kafka.sasl.password: %s wants a password", s.Mechanism)
			}
			if s.Token != "" || s.TokenFile != "" {
				fault("kafka.sasl: a token is for OAUTHBEARER only, not for %s", s.Mechanism)
			}
		}
	}
	return errors.Join(faults...)
}

// Validate returns every fault at once, joined, or nil. It opens no file and no connection.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if err := c.Connection.Validate(); err != nil {
		faults = append(faults, err)
	}
	if c.Group == "" {
		fault("kafka.group: name the consumer group")
	}
	if len(c.Topics) == 0 {
		fault("kafka: no topic to read: no contract names one")
	}
	seen := make(map[string]bool, len(c.Topics))
	for _, t := range c.Topics {
		if err := checkTopicName(t); err != nil {
			faults = append(faults, err)
		}
		if seen[t] {
			fault("kafka: topic %q is named twice", t)
		}
		seen[t] = true
	}
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"buffer size", c.BufferBytes},
		{"fetch size", int64(c.FetchBytes)},
		{"batch size", int64(c.MaxBatchBytes)},
		{"session timeout", int64(c.SessionTimeout)},
		{"rebalance timeout", int64(c.RebalanceTimeout)},
		{"drain timeout", int64(c.DrainTimeout)},
		{"refresh interval", int64(c.Refresh)},
	} {
		if limit.value < 0 {
			fault("kafka: the %s is negative", limit.name)
		}
	}
	return errors.Join(faults...)
}

// checkTopicName applies the rule of org.apache.kafka.common.internals.Topic.
func checkTopicName(name string) error {
	legal := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	if name == "" || name == "." || name == ".." || len(name) > 249 ||
		strings.ContainsFunc(name, func(r rune) bool { return !legal(r) }) {
		return fmt.Errorf("kafka: %q is not a topic name: want 1 to 249 letters, digits, dots, underscores and hyphens", name)
	}
	return nil
}
