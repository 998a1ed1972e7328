package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tasterhq/taster/ingest/kafka/kafkatest"
)

// secured starts a fake cluster with TLS; client certificates are asked for if mutual is set.
func secured(t *testing.T, a *kafkatest.Authority, mutual bool, opts ...kfake.Opt) []string {
	t.Helper()
	cert, key, err := a.Issue("broker")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if mutual {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			t.Fatal(err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		cfg.ClientCAs.AppendCertsFromPEM(pem)
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	_, brokers := fake(t, append(opts, kfake.TLS(cfg), kfake.SeedTopics(1, "reviews"))...)
	return brokers
}

func TestSecuredConnections(t *testing.T) {
	t.Parallel()
	a := kafkatest.TestAuthority(t)
	cert, key, err := a.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	tlsPort := secured(t, a, false)
	mutualPort := secured(t, a, true)
	saslPort := secured(t, a, false, kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "p", "secret"), kfake.Superuser("SCRAM-SHA-256", "s2", "secret"), kfake.Superuser("SCRAM-SHA-512", "s5", "secret"))
	login := func(mechanism, user, password string) *SASL {
		return &SASL{Mechanism: mechanism, Username: user, Password: Secret(password)}
	}
	trusted := &TLS{CA: a.CA}

	for _, tt := range []struct {
		name  string
		conn  Connection
		words string // of the refusal; "" if let in
	}{
		{"TLS", Connection{Brokers: tlsPort, TLS: trusted}, ""},
		{"mutual TLS", Connection{Brokers: mutualPort, TLS: &TLS{CA: a.CA, Cert: cert, Key: key}}, ""},
		{"PLAIN", Connection{Brokers: saslPort, TLS: trusted, SASL: login("PLAIN", "p", "secret")}, ""},
		{"SCRAM-SHA-256", Connection{Brokers: saslPort, TLS: trusted, SASL: login("SCRAM-SHA-256", "s2", "secret")}, ""},
		{"SCRAM-SHA-512", Connection{Brokers: saslPort, TLS: trusted, SASL: login("SCRAM-SHA-512", "s5", "secret")}, ""},

		{"wrong password", Connection{Brokers: saslPort, TLS: trusted, SASL: login("SCRAM-SHA-512", "s5", "hunter2")}, "check kafka.sasl"},
		{"wrong mechanism", Connection{Brokers: saslPort, TLS: trusted, SASL: &SASL{Mechanism: "OAUTHBEARER", Token: "hunter2"}}, "mechanism"},
		{"plain to a TLS port", Connection{Brokers: tlsPort}, "kafka.tls"},
		{"unknown authority", Connection{Brokers: tlsPort, TLS: &TLS{}}, "kafka.tls.ca"},
		{"wrong server name", Connection{Brokers: tlsPort, TLS: &TLS{CA: a.CA, ServerName: "kafka.example"}}, "another host name"},
		{"no client certificate", Connection{Brokers: mutualPort, TLS: trusted}, "kafka.tls.cert"},
		{"no such CA file", Connection{Brokers: tlsPort, TLS: &TLS{CA: "nowhere.pem"}}, "kafka.tls.ca"},
		{"a CA file without a certificate", Connection{Brokers: tlsPort, TLS: &TLS{CA: key}}, "no PEM certificate"},
		{"no such key file", Connection{Brokers: tlsPort, TLS: &TLS{CA: a.CA, Cert: cert, Key: "nowhere.key"}}, "kafka.tls.cert and key"},
		{"no such token file", Connection{Brokers: saslPort, TLS: trusted, SASL: &SASL{Mechanism: "OAUTHBEARER", TokenFile: "nowhere"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(nil, "reviews")
			cfg.Connection = tt.conn
			_, err := Open(t.Context(), cfg, Events{})
			switch {
			case tt.name == "no such token file":
				if err == nil {
					t.Error("let in without a token")
				}
			case tt.words == "" && err != nil:
				t.Error(err)
			case tt.words != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.words)):
				t.Errorf("got %v, want ErrRefused with the words %q", err, tt.words)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	s := &SASL{Mechanism: "OAUTHBEARER", TokenFile: file}
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, message, err := s.mechanism().Authenticate(t.Context(), "broker")
		if err != nil || !strings.Contains(string(message), "auth=Bearer "+token+"\x01") {
			t.Errorf("with token %q: %q, %v", token, message, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	// A port that accepts and never says a word.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	for name, broker := range map[string]string{"nobody listens": nobody, "nobody answers": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig([]string{broker}, "reviews")
			cfg.ConnectTimeout = 300 * time.Millisecond
			began := time.Now()
			_, err := Open(t.Context(), cfg, Events{})
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), broker) {
				t.Errorf("Open returned %v", err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s to find out", took)
			}
			if _, err := OpenPublisher(t.Context(), cfg.Connection, EventTopics{Verdicts: "v"}); !errors.Is(err, ErrUnreachable) {
				t.Errorf("OpenPublisher returned %v", err)
			}
		})
	}
	t.Run("one of two answers", func(t *testing.T) {
		_, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
		if _, err := Open(t.Context(), testConfig(slices.Concat([]string{nobody}, brokers), "reviews"), Events{}); err != nil {
			t.Error(err)
		}
	})
}

func TestForbiddenTopicAndGroup(t *testing.T) {
	t.Parallel()
	allow := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	_, brokers := fake(t, kfake.SeedTopics(1, "reviews", "secrets"), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"),
		kfake.User("PLAIN", "taster", "pw",
			allow(kmsg.ACLResourceTypeTopic, "reviews", kmsg.ACLOperationRead),
			allow(kmsg.ACLResourceTypeTopic, "reviews", kmsg.ACLOperationDescribe)))
	cfg := testConfig(brokers, "secrets")
	cfg.SASL = &SASL{Mechanism: "PLAIN", Username: "taster", Password: "pw"}
	if _, err := Open(t.Context(), cfg, Events{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `"secrets"`) {
		t.Errorf("a topic that may not be read: %v", err)
	}

	cfg.Topics = []string{"reviews"}
	c, err := Open(t.Context(), cfg, Events{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Run(ctx, newKeeper()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "group") {
		t.Errorf("a group that may not be joined: %v", err)
	}
}

func TestInconsistentGroupIsRefused(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumerGroup("tasters"), kgo.ConsumeTopics("reviews"),
		kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	eventually(t, "the other program's membership", func() bool { _, gen := other.GroupMetadata(); return gen > 0 })
	c, err := Open(t.Context(), testConfig(brokers, "reviews"), Events{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Run(ctx, newKeeper()); !errors.Is(err, ErrRefused) || !errors.Is(err, kerr.InconsistentGroupProtocol) {
		t.Errorf("Run returned %v", err)
	}
}
