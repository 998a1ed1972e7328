package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// What a caller can do about an error.
var (
	// ErrUnreachable: no broker answered in time. Trying again later may help.
	ErrUnreachable = errors.New("no Kafka broker can be reached")
	// ErrRefused: a broker answered, and what it said shows that the configuration does not fit it (TLS,
	// credentials, permissions, version). Trying again without changing something will not help.
	ErrRefused = errors.New("refused by Kafka")
	// ErrTopicMissing: a topic that is written to does not exist. Topics are made by the operator, never by taster.
	ErrTopicMissing = errors.New("topic does not exist")
)

// options turns a Connection into options of the client library. Files that cannot be read are ErrRefused.
func (c Connection) options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.DialTimeout(c.ConnectTimeout),
	}
	if c.TLS != nil {
		cfg, err := c.TLS.config()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if c.SASL != nil {
		opts = append(opts, kgo.SASL(c.SASL.mechanism()))
	}
	return opts, nil
}

func (t *TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca: %s holds no PEM certificate", t.CA)
		}
	}
	if t.Cert != "" {
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			return nil, fmt.Errorf("kafka.tls.cert and key: %w", err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			return &pair, err
		}
	}
	return cfg, nil
}

func (s *SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case mechanismPlain:
		return plain.Auth{User: s.Username, Pass: string(s.Password)}.AsMechanism()
	case mechanismScram256:
		return scram.Auth{User: s.Username, Pass: string(s.Password)}.AsSha256Mechanism()
	case mechanismScram512:
		return scram.Auth{User: s.Username, Pass: string(s.Password)}.AsSha512Mechanism()
	}
	return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		token := string(s.Token)
		if s.TokenFile != "" {
			raw, err := os.ReadFile(s.TokenFile)
			if err != nil {
				return oauth.Auth{}, fmt.Errorf("kafka.sasl token file: %w", err)
			}
			token = strings.TrimSpace(string(raw))
		}
		return oauth.Auth{Token: token}, nil
	})
}

// The lowest version of each request that carries topic ids.
const (
	fetchWithTopicIDs    = 13 // KIP-516, Kafka 3.1
	metadataWithTopicIDs = 10 // KIP-516, Kafka 2.8
)

// greet makes the first contact: it returns nil only if a broker answers, lets us in, and knows topic ids. It tries
// every broker once, and waits for none longer than the connect timeout.
func (c Connection) greet(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		if c.SASL != nil && errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the broker ended the connection while we authenticated%s: check kafka.sasl (%w)", ErrRefused, c.identity(), err)
		}
		return c.explain(err)
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err != nil {
		return c.explain(err)
	}
	highest := make(map[int16]int16, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		highest[k.ApiKey] = k.MaxVersion
	}
	if highest[int16(kmsg.Fetch)] < fetchWithTopicIDs || highest[int16(kmsg.Metadata)] < metadataWithTopicIDs {
		return fmt.Errorf("%w: the broker does not know topic ids, which keep apart a topic and another one of the same name: it needs Apache Kafka 3.1 or later", ErrRefused)
	}
	return nil
}

// topicInfo is what a broker says about one topic.
type topicInfo struct {
	id         string // "" if the topic does not exist
	partitions int
}

// topics asks a broker for the topics by name. A topic that may not be seen is ErrRefused.
func (c Connection) topics(ctx context.Context, cl *kgo.Client, names []string) (map[string]topicInfo, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, c.explain(err)
	}
	topics := make(map[string]topicInfo, len(names))
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			topics[*t.Topic] = topicInfo{}
		case err != nil && len(t.Partitions) == 0:
			return nil, fmt.Errorf("topic %q: %w", *t.Topic, c.explain(err))
		case t.TopicID == [16]byte{}:
			return nil, fmt.Errorf("%w: the broker gives topic %q no topic id: it needs Apache Kafka 3.1 or later", ErrRefused, *t.Topic)
		default:
			topics[*t.Topic] = topicInfo{id: topicID(t.TopicID), partitions: len(t.Partitions)}
		}
	}
	return topics, nil
}

// explain puts an error of the client library into words that say what to change.
func (c Connection) explain(err error) error {
	var (
		eof       *kgo.ErrFirstReadEOF
		header    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError
		op        *net.OpError
		dns       *net.DNSError
	)
	refused := func(why string) error { return fmt.Errorf("%w: %s (%w)", ErrRefused, why, err) }
	switch {
	case err == nil, errors.Is(err, ErrRefused), errors.Is(err, ErrUnreachable):
		return err
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return refused(fmt.Sprintf("authentication failed%s: check kafka.sasl", c.identity()))
	case errors.Is(err, kerr.IllegalSaslState):
		return refused("the broker's port takes no SASL authentication: leave out kafka.sasl, or use another port")
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return refused(fmt.Sprintf("the broker does not offer SASL mechanism%s: check kafka.sasl.mechanism", c.identity()))
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return refused(fmt.Sprintf("the principal%s lacks permission on the topic: it needs READ and DESCRIBE on what is consumed, WRITE and DESCRIBE on the verdict and dead-letter topics", c.identity()))
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return refused(fmt.Sprintf("the principal%s lacks permission on the consumer group: it needs READ on it", c.identity()))
	case errors.Is(err, kerr.InvalidGroupID):
		return refused("the broker does not take the name of the consumer group: change kafka.group")
	case errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return refused(fmt.Sprintf("the principal%s lacks a permission on the cluster", c.identity()))
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return refused("another program is in the consumer group, or an older version that balances in another way: use a group of its own")
	case errors.Is(err, kerr.InvalidSessionTimeout):
		return refused("the session timeout is outside what the broker allows (group.min.session.timeout.ms, group.max.session.timeout.ms)")
	case errors.As(err, &authority):
		return refused("the broker's certificate is signed by an authority that is not trusted: set kafka.tls.ca to the authority's certificate")
	case errors.As(err, &hostname):
		return refused("the broker's certificate is for another host name: dial it by the name in the certificate, or set the TLS server name")
	case errors.As(err, &invalid), errors.As(err, &verify):
		return refused("the broker's certificate is not valid")
	case errors.As(err, &header):
		return refused("the broker's port does not speak TLS: leave out kafka.tls, or use the broker's TLS port")
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return refused("the broker ended the TLS handshake: if it wants a client certificate, set kafka.tls.cert and kafka.tls.key to one that it trusts")
	case strings.Contains(err.Error(), "invalid large response size"):
		// The first bytes of a TLS alert (or of HTTP) read as a length. The library has no type for that.
		if c.TLS == nil {
			return refused("the broker's port speaks TLS, or not Kafka's protocol at all: add kafka.tls, or check the port")
		}
		return refused("the broker's port does not speak Kafka's protocol: check the port")
	case errors.As(err, &eof):
		switch {
		case c.TLS != nil && c.SASL != nil:
			return refused("the broker ended the connection at once: its port does not speak TLS, or it rejects the authentication")
		case c.TLS != nil:
			return refused("the broker ended the connection at once: its port does not speak TLS, or it wants kafka.sasl")
		case c.SASL != nil:
			return refused("the broker ended the connection at once: its port wants kafka.tls, or it rejects the authentication")
		}
		return refused("the broker ended the connection at once: its port wants kafka.tls or kafka.sasl")
	case errors.As(err, &op), errors.As(err, &dns), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		check := "check kafka.brokers and the network"
		if c.TLS != nil {
			check += ", and whether the port speaks TLS"
		}
		return fmt.Errorf("%w: tried %s for up to %s: %s (%w)",
			ErrUnreachable, strings.Join(c.Brokers, ", "), c.ConnectTimeout.Round(time.Millisecond), check, err)
	}
	return fmt.Errorf("kafka: %w", err)
}

// hopeless reports whether joining the group again would end the same way.
func hopeless(err error) bool {
	return errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.InconsistentGroupProtocol) ||
		errors.Is(err, kerr.InvalidSessionTimeout) ||
		errors.Is(err, kerr.InvalidGroupID)
}

// identity names who we are to the broker, as far as it may be told.
func (c Connection) identity() string {
	if c.SASL == nil {
		return ""
	}
	if c.SASL.Username == "" {
		return " by " + c.SASL.Mechanism
	}
	return fmt.Sprintf(" (user %q by %s)", c.SASL.Username, c.SASL.Mechanism)
}
