package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tasterhq/taster/schema/record"
)

func TestMessagesArriveWhole(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic("reviews"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	stamp := time.UnixMilli(1_700_000_000_123)
	for _, r := range []*kgo.Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: stamp, Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}}},
		{Key: []byte("gone")},                       // a tombstone
		{Value: []byte{}},                           // empty, which is not the same
		{Value: bytes.Repeat([]byte("x"), 900_000)}, // large
	} {
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	var got []record.Message
	k := newKeeper()
	k.messages = func(_ context.Context, _ record.Source, msgs []record.Message, _ int64) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		got = append(got, msgs...)
		return nil
	}
	m := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "four messages", func() bool { return m.count("reviews") == 4 })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}

	if src := (record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}); k.next(src) != 4 {
		t.Errorf("source %v was not worked off", src)
	}
	first := got[0]
	if first.Offset != 0 || first.Timestamp != stamp.UnixMilli() || string(first.Key) != "k" || string(first.Value) != "v" {
		t.Errorf("first message: %+v", first)
	}
	if len(first.Headers) != 2 || first.Headers[0].Key != "a" || string(first.Headers[0].Value) != "1" || first.Headers[1].Value != nil {
		t.Errorf("headers: %+v", first.Headers)
	}
	if got[1].Value != nil || string(got[1].Key) != "gone" {
		t.Errorf("a tombstone came as %+v", got[1])
	}
	if got[2].Value == nil || len(got[2].Value) != 0 || got[2].Key != nil {
		t.Errorf("an empty value came as %+v", got[2])
	}
	if len(got[3].Value) != 900_000 {
		t.Errorf("the large value came with %d bytes", len(got[3].Value))
	}
}

func TestStartsWhereTheHandlerSays(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, numbered(10)...)
	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}

	k := newKeeper()
	k.start[src] = 3
	m := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "seven messages", func() bool { return m.count("reviews") == 7 })
	if err := m.Commit(t.Context(), src, 3, 9); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}

	// The hint says 9; the handler knows better.
	again := newKeeper()
	again.start[src] = 6
	m = join(t, testConfig(brokers, "reviews"), again)
	eventually(t, "four messages", func() bool { return m.count("reviews") == 4 })
	if want := []string{"record 6", "record 7", "record 8", "record 9"}; !slices.Equal(again.values(src), want) {
		t.Errorf("got %q, want %q", again.values(src), want)
	}
	if got, want := again.hints[src], []Hint{{TopicID: src.ID, First: 3, Next: 9}}; !slices.Equal(got, want) {
		t.Errorf("hints %v, want %v", got, want)
	}
	if got := k.hints[src]; !slices.Equal(got, []Hint{{}}) {
		t.Errorf("hints before any commit: %v", got)
	}
}

func TestForeignCommitIsNoHint(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, numbered(5)...)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "reviews", Partition: 0, At: 4, LeaderEpoch: -1, Metadata: "set by hand"})
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "tasters", offsets); err != nil {
		t.Fatal(err)
	}
	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	eventually(t, "five messages", func() bool { return m.count("reviews") == 5 })
	if got := m.hints[src]; !slices.Equal(got, []Hint{{}}) {
		t.Errorf("hints %v, want none", got)
	}
}

func TestTwoMembersShareAndPassOn(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(6, "reviews"))
	produce(t, brokers, "reviews", -1, numbered(600)...)

	// Both members keep their sources in one place, as they would in one landing zone: whoever gets a partition
	// goes on where the other one ended.
	k := newKeeper()
	a := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "the first 600", func() bool { return k.count("reviews") == 600 })
	b := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "three partitions each", func() bool { return len(a.Lags()) == 3 && len(b.Lags()) == 3 })
	produce(t, brokers, "reviews", -1, numbered(600)...)
	eventually(t, "the next 600", func() bool { return k.count("reviews") == 1200 })

	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all partitions at the second member", func() bool { return len(b.Lags()) == 6 })
	produce(t, brokers, "reviews", -1, numbered(600)...)
	eventually(t, "the last 600", func() bool { return k.count("reviews") == 1800 })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range int32(6) {
		src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews"), Partition: i}
		k.mu.Lock()
		offsets := k.sources[src].offsets
		k.mu.Unlock()
		for j, offset := range offsets {
			if offset != int64(j) {
				t.Fatalf("partition %d: message %d has offset %d", i, j, offset)
			}
		}
	}
}

func TestSlowPartitionStopsNoOther(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(2, "reviews"))
	large := strings.Repeat("x", 10_000)
	for range 10 {
		for p := range int32(2) {
			produce(t, brokers, "reviews", p, slices.Repeat([]string{large}, 100)...)
		}
	}

	k := newKeeper()
	release := make(chan struct{})
	k.messages = func(ctx context.Context, src record.Source, _ []record.Message, _ int64) error {
		if src.Partition == 1 {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	cfg := testConfig(brokers, "reviews")
	cfg.BufferBytes = 2 << 20
	cfg.FetchBytes = 1 << 20
	m := join(t, cfg, k)
	fast := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		n := 0
		for src, s := range k.sources {
			if src.Partition == 0 {
				n += len(s.offsets)
			}
		}
		return n
	}
	eventually(t, "all of the fast partition", func() bool { return fast() == 1000 })
	eventually(t, "a pause of the slow one", func() bool { return m.has("paused reviews/1") })
	if held := m.buffered.Load(); held > cfg.BufferBytes {
		t.Errorf("%d bytes are held, more than the %d allowed", held, cfg.BufferBytes)
	}
	eventually(t, "the lag of what is paused", func() bool {
		for _, l := range m.Lags() {
			if l.Partition == 1 && l.High == 1000 && l.Next < 1000 {
				return true
			}
		}
		return false
	})
	close(release)
	eventually(t, "all of the slow partition", func() bool { return m.count("reviews") == 2000 })
	if !m.has("resumed reviews/1") {
		t.Error("the slow partition was never resumed")
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	if held := m.buffered.Load(); held != 0 {
		t.Errorf("%d bytes are held at the end", held)
	}
}

func TestRecordLargerThanTheBufferPasses(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(2, "reviews"))
	for p := range int32(2) {
		produce(t, brokers, "reviews", p, strings.Repeat("x", 900_000), strings.Repeat("y", 900_000), "small")
	}
	cfg := testConfig(brokers, "reviews")
	cfg.BufferBytes, cfg.FetchBytes = 100_000, 100_000
	m := join(t, cfg, newKeeper())
	eventually(t, "six messages", func() bool { return m.count("reviews") == 6 })
}

func TestAbortedTransactions(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, "before")
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("provider"), kgo.DefaultProduceTopic("reviews"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	transact := func(value string, commit kgo.TransactionEndTry) {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	transact("kept", kgo.TryCommit)    // offset 1, marker 2
	transact("aborted", kgo.TryAbort)  // offset 3, marker 4
	transact("aborted2", kgo.TryAbort) // offset 5, marker 6

	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	eventually(t, "the end of the log", func() bool { return m.next(src) == 7 })
	if got, want := m.values(src), []string{"before", "kept"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTopicMadeAgainIsAnotherSource(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"), kfake.SeedTopics(1, "other"))
	produce(t, brokers, "reviews", 0, numbered(5)...)
	before := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	m := join(t, testConfig(brokers, "reviews", "other"), newKeeper())
	eventually(t, "five messages", func() bool { return m.next(before) == 5 })
	if err := m.Commit(t.Context(), before, 0, 5); err != nil {
		t.Fatal(err)
	}

	if err := cluster.DeleteTopic("reviews"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("reviews", 1, nil); err != nil {
		t.Fatal(err)
	}
	after := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	if after == before {
		t.Fatal("the topic kept its id")
	}
	produce(t, brokers, "reviews", 0, "new 0", "new 1", "new 2", "new 3", "new 4", "new 5", "new 6")
	within(t, 30*time.Second, "seven messages of the new topic", func() bool { return m.next(after) == 7 })
	if got := m.values(after)[0]; got != "new 0" {
		t.Errorf("the new topic begins with %q", got)
	}
	if got := len(m.values(before)); got != 5 {
		t.Errorf("the old topic has %d messages", got)
	}
	if got := m.hints[after]; !slices.Equal(got, []Hint{{}}) {
		t.Errorf("the new topic was begun with the hint %v", got)
	}
	produce(t, brokers, "other", 0, "still read")
	eventually(t, "the other topic", func() bool { return m.count("other") == 1 })
}

func TestMissingTopicIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	m := join(t, testConfig(brokers, "reviews", "later"), newKeeper())
	if !m.has("missing later") {
		t.Error("nobody was told that a topic is missing")
	}
	produce(t, brokers, "reviews", 0, "a")
	eventually(t, "the topic that exists", func() bool { return m.count("reviews") == 1 })
	if err := cluster.CreateTopic("later", 2, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, brokers, "later", 1, "b")
	eventually(t, "the topic that was made later", func() bool { return m.count("later") == 1 && m.has("found later") })
}

func TestNewPartitionsAreRead(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	eventually(t, "an assignment", func() bool { return len(m.Lags()) == 1 })
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreatePartitions(t.Context(), 2, "reviews"); err != nil {
		t.Fatal(err)
	}
	produce(t, brokers, "reviews", 2, "in the last partition")
	eventually(t, "a message from a new partition", func() bool { return m.count("reviews") == 1 && len(m.Lags()) == 3 })
}

func TestRetentionLeavesAGap(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, numbered(10)...)
	if err := cluster.DeleteRecords("reviews", 0, 6); err != nil {
		t.Fatal(err)
	}
	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	k := newKeeper()
	k.start[src] = 2
	m := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "the end of the log", func() bool { return m.next(src) == 10 })
	if got := len(m.values(src)); got != 4 {
		t.Errorf("%d messages, want 4", got)
	}
	if !m.has("gap reviews/0 from 2 to 6") {
		t.Error("nobody was told of the gap")
	}
}

func TestTruncatedLogStopsThePartition(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(2, "reviews"))
	produce(t, brokers, "reviews", 0, numbered(10)...)
	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	k := newKeeper()
	k.start[src] = 50
	m := join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "a loud stop", func() bool { return m.has("stopped reviews/0") })
	produce(t, brokers, "reviews", 0, numbered(60)...)
	produce(t, brokers, "reviews", 1, "still read")
	eventually(t, "the other partition", func() bool { return m.count("reviews") == 1 })
	if got := m.values(src); len(got) != 0 {
		t.Errorf("%d messages came from a log that was truncated", len(got))
	}
}

func TestDrainLandsAndCommits(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(3, "reviews"))
	produce(t, brokers, "reviews", -1, numbered(30)...)
	k := newKeeper()
	var m *member
	committed := make(chan error, 3)
	k.revoked = func(ctx context.Context, src record.Source, lost bool) error {
		time.Sleep(100 * time.Millisecond) // landing takes its time
		if lost {
			return errors.New("lost, though the member left by itself")
		}
		committed <- m.Commit(ctx, src, 0, k.next(src))
		return nil
	}
	m = join(t, testConfig(brokers, "reviews"), k)
	eventually(t, "thirty messages", func() bool { return m.count("reviews") == 30 })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-committed; err != nil {
			t.Error(err)
		}
	}
	if info := cluster.GroupInfo("tasters"); info != nil && len(info.Members) != 0 {
		t.Errorf("%d members are left in the group", len(info.Members))
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	offsets, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "tasters")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		o, ok := offsets.Lookup("reviews", i)
		want := k.next(record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews"), Partition: i})
		if !ok || o.At != want {
			t.Errorf("partition %d: committed %d, want %d", i, o.At, want)
		}
	}
}

func TestBlockedHandlerIsReleased(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, numbered(3)...)
	k := newKeeper()
	blocked := make(chan struct{})
	k.messages = func(ctx context.Context, _ record.Source, _ []record.Message, _ int64) error {
		close(blocked)
		<-ctx.Done()
		return ctx.Err()
	}
	m := join(t, testConfig(brokers, "reviews"), k)
	<-blocked
	began := time.Now()
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}

func TestHandlerErrorEndsRun(t *testing.T) {
	t.Parallel()
	broken := errors.New("the landing zone is not ours")
	for name, set := range map[string]func(*keeper){
		"messages": func(k *keeper) {
			k.messages = func(context.Context, record.Source, []record.Message, int64) error { return broken }
		},
		"revoked": func(k *keeper) {
			k.revoked = func(context.Context, record.Source, bool) error { return broken }
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
			produce(t, brokers, "reviews", 0, "a")
			k := newKeeper()
			set(k)
			m := join(t, testConfig(brokers, "reviews"), k)
			if name == "messages" {
				select {
				case <-m.ctxDone():
				case <-time.After(10 * time.Second):
					t.Fatal("Run goes on")
				}
			} else {
				eventually(t, "a message", func() bool { return m.count("reviews") == 1 })
			}
			if err := m.stop(); !errors.Is(err, broken) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func (m *member) ctxDone() <-chan struct{} {
	for m.Consumer.started == nil {
		time.Sleep(time.Millisecond)
	}
	<-m.Consumer.started
	return m.Consumer.ctx.Done()
}

func TestLostMembershipIsJoinedAgain(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(2, "reviews"))
	produce(t, brokers, "reviews", -1, numbered(10)...)
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	eventually(t, "ten messages", func() bool { return m.count("reviews") == 10 })
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID})
	eventually(t, "the loss", func() bool { return m.has("revoked reviews/0 lost=true") && m.has("revoked reviews/1 lost=true") })
	eventually(t, "both partitions again", func() bool { return len(m.Lags()) == 2 })
	produce(t, brokers, "reviews", -1, numbered(10)...)
	eventually(t, "ten more", func() bool { return m.count("reviews") == 20 })
}

func TestFetchErrorsAreRetried(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(2, "reviews"))
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Fetch}, Topic: "reviews", Partitions: []int32{0},
		Err: kerr.UnknownServerError, Count: 1,
	})
	produce(t, brokers, "reviews", 0, "a")
	produce(t, brokers, "reviews", 1, "b")
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	within(t, 40*time.Second, "both messages", func() bool { return m.count("reviews") == 2 })
}

func TestCommitFailureIsOnlyTold(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "reviews"))
	produce(t, brokers, "reviews", 0, "a")
	src := record.Source{Topic: "reviews", ID: topicIDOf(cluster, "reviews")}
	m := join(t, testConfig(brokers, "reviews"), newKeeper())
	eventually(t, "a message", func() bool { return m.count("reviews") == 1 })
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		commit := req.(*kmsg.OffsetCommitRequest)
		resp := commit.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range commit.Topics {
			t := kmsg.NewOffsetCommitResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewOffsetCommitResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.GroupAuthorizationFailed.Code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
	if err := m.Commit(t.Context(), src, 0, 1); !errors.Is(err, ErrRefused) {
		t.Errorf("Commit returned %v", err)
	}
	if err := m.Commit(t.Context(), record.Source{Topic: "reviews", ID: "another"}, 0, 1); err == nil {
		t.Error("a commit for a source that is not assigned was accepted")
	}
	if err := m.Commit(t.Context(), src, 0, 1); err != nil {
		t.Error(err)
	}
}

func TestBrokerWithoutTopicIDsIsRefused(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "reviews"), kfake.MaxVersions(kversion.V2_7_0()))
	_, err := Open(t.Context(), testConfig(brokers, "reviews"), Events{})
	if !errors.Is(err, ErrRefused) || !strings.Contains(fmt.Sprint(err), "topic ids") {
		t.Errorf("Open returned %v", err)
	}
}
