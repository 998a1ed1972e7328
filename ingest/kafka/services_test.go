//go:build services

package kafka

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/ingest/kafka/kafkatest"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// One broker serves all tests of this package: it takes longer to start than they take to run.
var sharedBroker = sync.OnceValues(kafkatest.Launch)

func TestMain(m *testing.M) {
	code := m.Run()
	if b, err := sharedBroker(); err == nil {
		b.Stop()
	}
	os.Exit(code)
}

func broker(t *testing.T) *kafkatest.Broker {
	t.Helper()
	b, err := sharedBroker()
	if errors.Is(err, kafkatest.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// realConfig gives each test a group and a topic of its own.
func realConfig(t *testing.T, b *kafkatest.Broker, topics ...string) Config {
	cfg := testConfig([]string{b.Plain}, topics...)
	cfg.ConnectTimeout = 10 * time.Second
	cfg.Group = t.Name()
	cfg.Refresh = time.Second
	return cfg
}

func values(prefix string) func(int) *kgo.Record {
	return func(i int) *kgo.Record { return kgo.StringRecord(fmt.Sprintf("%s %d", prefix, i)) }
}

func TestKafkaConsumeAndCommit(t *testing.T) {
	b := broker(t)
	id := b.CreateTopic(t, "commits", 3)
	b.Produce(t, "commits", 3000, values("first"))

	k := newKeeper()
	m := join(t, realConfig(t, b, "commits"), k)
	within(t, time.Minute, "3,000 messages", func() bool { return k.count("commits") == 3000 })
	for i := range int32(3) {
		src := record.Source{Topic: "commits", ID: id, Partition: i}
		if err := m.Commit(t.Context(), src, 0, k.next(src)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}

	again := newKeeper()
	for i := range int32(3) {
		src := record.Source{Topic: "commits", ID: id, Partition: i}
		again.start[src] = k.next(src)
	}
	b.Produce(t, "commits", 300, values("second"))
	join(t, realConfig(t, b, "commits"), again)
	within(t, time.Minute, "300 messages", func() bool { return again.count("commits") == 300 })
	for i := range int32(3) {
		src := record.Source{Topic: "commits", ID: id, Partition: i}
		want := []Hint{{TopicID: id, First: 0, Next: k.next(src)}}
		if again.hints[src] == nil || !slices.Equal(again.hints[src], want) {
			t.Errorf("partition %d: hints %v, want %v", i, again.hints[src], want)
		}
		for _, v := range again.values(src) {
			if !strings.HasPrefix(v, "second") {
				t.Fatalf("partition %d: %q was read again", i, v)
			}
		}
	}
}

func TestKafkaRebalanceWhilePartitionsAreAdded(t *testing.T) {
	b := broker(t)
	id := b.CreateTopic(t, "growing", 3)
	k := newKeeper()
	join(t, realConfig(t, b, "growing"), k)

	const each = 20_000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 4 {
			b.Produce(t, "growing", each, values(fmt.Sprint(i)))
			if i < 2 {
				b.AddPartitions(t, "growing", 2)
			}
		}
	})
	second := join(t, realConfig(t, b, "growing"), k)
	third := join(t, realConfig(t, b, "growing"), k)
	within(t, time.Minute, "a share for the third member", func() bool { return len(third.Lags()) > 0 })
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	within(t, 2*time.Minute, "all messages", func() bool { return k.count("growing") >= 4*each })
	seen := make(map[string]int)
	for i := range int32(7) {
		for _, v := range k.values(record.Source{Topic: "growing", ID: id, Partition: i}) {
			seen[v]++
		}
	}
	if len(seen) != 4*each || k.count("growing") != 4*each {
		t.Errorf("%d messages, %d of them different, want %d", k.count("growing"), len(seen), 4*each)
	}
}

func TestKafkaTopicMadeAgain(t *testing.T) {
	b := broker(t)
	before := record.Source{Topic: "phoenix", ID: b.CreateTopic(t, "phoenix", 1)}
	b.CreateTopic(t, "bystander", 1)
	b.Produce(t, "phoenix", 10, values("old"))
	k := newKeeper()
	m := join(t, realConfig(t, b, "phoenix", "bystander"), k)
	within(t, time.Minute, "the old topic", func() bool { return k.next(before) == 10 })
	if err := m.Commit(t.Context(), before, 0, 10); err != nil {
		t.Fatal(err)
	}

	b.DeleteTopic(t, "phoenix")
	after := record.Source{Topic: "phoenix", ID: b.CreateTopic(t, "phoenix", 1)}
	if after == before {
		t.Fatal("the topic kept its id")
	}
	b.Produce(t, "phoenix", 7, values("new"))
	within(t, time.Minute, "the new topic", func() bool { return k.next(after) == 7 })
	if got := k.values(after); got[0] != "new 0" {
		t.Errorf("the new topic begins with %q", got[0])
	}
	if got := len(k.values(before)); got != 10 {
		t.Errorf("the old topic has %d messages", got)
	}
	for _, h := range k.hints[after] {
		if h != (Hint{}) {
			t.Errorf("the new topic was begun with the hint of the old one: %v", h)
		}
	}
	b.Produce(t, "bystander", 1, values("still read"))
	within(t, time.Minute, "the other topic", func() bool { return k.count("bystander") == 1 })
}

func TestKafkaAbortedTransactions(t *testing.T) {
	b := broker(t)
	src := record.Source{Topic: "bank", ID: b.CreateTopic(t, "bank", 1)}
	b.Transact(t, "bank", 0, true, "a", "b")        // 0, 1, marker 2
	b.Transact(t, "bank", 0, false, "never", "nor") // 3, 4, marker 5
	b.Transact(t, "bank", 0, true, "c")             // 6, marker 7
	b.Transact(t, "bank", 0, false, "nor this")     // 8, marker 9
	k := newKeeper()
	join(t, realConfig(t, b, "bank"), k)
	within(t, time.Minute, "the end of the log", func() bool { return k.next(src) == 10 })
	if got, want := k.values(src), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKafkaRetentionAndTruncation(t *testing.T) {
	b := broker(t)
	id := b.CreateTopic(t, "short", 2)
	b.Produce(t, "short", 2000, func(i int) *kgo.Record { return kgo.KeyStringRecord(fmt.Sprint(i), "v") })
	b.DeleteRecords(t, "short", 0, 100)
	kept := record.Source{Topic: "short", ID: id, Partition: 0}
	cut := record.Source{Topic: "short", ID: id, Partition: 1}
	k := newKeeper()
	k.start[kept] = 10
	k.start[cut] = 1_000_000
	m := join(t, realConfig(t, b, "short"), k)
	within(t, time.Minute, "the gap", func() bool { return m.has("gap short/0 from 10 to 100") })
	within(t, time.Minute, "the stop", func() bool { return m.has("stopped short/1") })
	within(t, time.Minute, "what is left of the first partition", func() bool { return len(k.values(kept)) > 0 })
	if got := len(k.values(cut)); got != 0 {
		t.Errorf("%d messages came from the truncated log", got)
	}
}

func TestKafkaLargeRecord(t *testing.T) {
	b := broker(t)
	src := record.Source{Topic: "whales", ID: b.CreateTopic(t, "whales", 1)}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Plain), kgo.ProducerBatchMaxBytes(60<<20), kgo.BrokerMaxWriteBytes(100<<20),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, size := range []int{10, 50 << 20, 10} {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "whales", Value: make([]byte, size)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	k := newKeeper()
	join(t, realConfig(t, b, "whales"), k)
	within(t, time.Minute, "all three", func() bool { return k.next(src) == 3 })
	if got := k.values(src); len(got) != 3 || len(got[1]) != 50<<20 {
		t.Errorf("%d messages", len(got))
	}
}

func TestKafkaAuthentication(t *testing.T) {
	b := broker(t)
	b.CreateTopic(t, "secured", 1)
	b.CreateTopic(t, "forbidden", 1)
	b.Deny(t, "forbidden")
	b.Produce(t, "secured", 5, values("secret"))
	unsigned := func(claims string) string {
		enc := base64.RawURLEncoding.EncodeToString
		return enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(claims)) + "."
	}
	now := time.Now().Unix()
	token := filepath.Join(t.TempDir(), "token")
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, kafkatest.User, now, now+3600)
	if err := os.WriteFile(token, []byte(unsigned(claims)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key, err := b.Authority.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	ca := &TLS{CA: b.Authority.CA}
	login := func(mechanism string) *SASL {
		return &SASL{Mechanism: mechanism, Username: kafkatest.User, Password: kafkatest.Password}
	}

	for name, conn := range map[string]Connection{
		"scram 256": {Brokers: []string{b.SASL}, TLS: ca, SASL: login("SCRAM-SHA-256")},
		"scram 512": {Brokers: []string{b.SASL}, TLS: ca, SASL: login("SCRAM-SHA-512")},
		"plain":     {Brokers: []string{b.SASL}, TLS: ca, SASL: login("PLAIN")},
		"oauth":     {Brokers: []string{b.SASL}, TLS: ca, SASL: &SASL{Mechanism: "OAUTHBEARER", TokenFile: token}},
		"mutual":    {Brokers: []string{b.TLS}, TLS: &TLS{CA: b.Authority.CA, Cert: cert, Key: key}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := realConfig(t, b, "secured")
			cfg.Connection = conn
			k := newKeeper()
			join(t, cfg, k)
			within(t, time.Minute, "five messages", func() bool { return k.count("secured") == 5 })
		})
	}

	wrong := login("SCRAM-SHA-512")
	wrong.Password = "not the password"
	for name, refused := range map[string]struct {
		conn  Connection
		topic string
		words string
	}{
		"wrong password":     {Connection{Brokers: []string{b.SASL}, TLS: ca, SASL: wrong}, "secured", "authentication failed"},
		"no authentication":  {Connection{Brokers: []string{b.SASL}, TLS: ca}, "secured", "kafka.sasl"},
		"plain to TLS port":  {Connection{Brokers: []string{b.SASL}, SASL: login("SCRAM-SHA-512")}, "secured", "kafka.tls"},
		"TLS to plain port":  {Connection{Brokers: []string{b.Plain}, TLS: ca}, "secured", "does not speak TLS"},
		"unknown authority":  {Connection{Brokers: []string{b.SASL}, TLS: &TLS{}, SASL: login("PLAIN")}, "secured", "kafka.tls.ca"},
		"no certificate":     {Connection{Brokers: []string{b.TLS}, TLS: ca}, "secured", "kafka.tls.cert"},
		"no permission":      {Connection{Brokers: []string{b.SASL}, TLS: ca, SASL: login("PLAIN")}, "forbidden", "READ"},
		"wrong mechanism":    {Connection{Brokers: []string{b.Plain}, SASL: login("PLAIN")}, "secured", "kafka.sasl"},
		"another authority":  {Connection{Brokers: []string{b.SASL}, TLS: &TLS{CA: kafkatest.TestAuthority(t).CA}, SASL: login("PLAIN")}, "secured", "kafka.tls.ca"},
		"wrong name in cert": {Connection{Brokers: []string{b.SASL}, TLS: &TLS{CA: b.Authority.CA, ServerName: "kafka.example"}, SASL: login("PLAIN")}, "secured", "another host name"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := realConfig(t, b, refused.topic)
			cfg.Connection = refused.conn
			_, err := Open(t.Context(), cfg, Events{})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), refused.words) {
				t.Errorf("got %v, want ErrRefused with the words %q", err, refused.words)
			}
			if err != nil && strings.Contains(err.Error(), "not the password") {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

func TestKafkaPublish(t *testing.T) {
	b := broker(t)
	b.CreateTopic(t, "verdicts", 2)
	src := record.Source{Topic: "reviews", ID: "AAAAAAAAAAAAAAAAAAAAAQ"}
	topics := EventTopics{Verdicts: "verdicts", DeadLetters: "dead"}
	conn := Connection{Brokers: []string{b.Plain}}
	if _, err := OpenPublisher(t.Context(), conn, topics); !errors.Is(err, ErrTopicMissing) {
		t.Errorf("without a dead-letter topic: %v", err)
	}
	b.CreateTopic(t, "dead", 1)
	p, err := OpenPublisher(t.Context(), conn, topics)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	events := []finding.Event{
		newEvent(src, 1, finding.Quarantined, []finding.Code{finding.PoisonTrigger}),
		newEvent(src, 2, finding.Rejected, []finding.Code{finding.TooDeep}),
	}
	if err := p.Publish(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	// A topic that is deleted and made again is written to again.
	b.DeleteTopic(t, "verdicts")
	b.CreateTopic(t, "verdicts", 2)
	if err := p.Publish(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if got := b.Read(t, "verdicts"); len(got) != 1 || string(got[0].Key) != "AAAAAAAAAAAAAAAAAAAAAQ/0/1" {
		t.Errorf("verdict topic: %v", got)
	}
	if got := b.Read(t, "dead"); len(got) != 2 {
		t.Errorf("dead-letter topic: %v", got)
	}
}
