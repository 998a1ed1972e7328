package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/record"
)

// keeper is a Handler that keeps what it is given, and checks the order of the calls.
type keeper struct {
	mu       sync.Mutex
	sources  map[record.Source]*kept
	start    map[record.Source]int64
	hints    map[record.Source][]Hint
	faults   []string
	messages func(context.Context, record.Source, []record.Message, int64) error // replaces the default, if set
	revoked  func(context.Context, record.Source, bool) error
}

type kept struct {
	offsets  []int64
	values   []string
	next     int64
	assigned bool
	inCall   bool
	lost     bool
	times    int // how often it was assigned
}

func newKeeper() *keeper {
	return &keeper{
		sources: make(map[record.Source]*kept),
		start:   make(map[record.Source]int64),
		hints:   make(map[record.Source][]Hint),
	}
}

func (k *keeper) fault(format string, args ...any) {
	k.faults = append(k.faults, fmt.Sprintf(format, args...))
}

func (k *keeper) Assigned(_ context.Context, src record.Source, hint Hint) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sources[src]
	if s == nil {
		s = &kept{}
		k.sources[src] = s
	}
	if s.assigned {
		k.fault("%v assigned twice", src)
	}
	s.assigned = true
	s.times++
	k.hints[src] = append(k.hints[src], hint)
	if start, ok := k.start[src]; ok && s.times == 1 {
		s.next = start
	}
	return s.next, nil
}

func (k *keeper) Messages(ctx context.Context, src record.Source, msgs []record.Message, next int64) error {
	k.mu.Lock()
	s := k.sources[src]
	if s == nil || !s.assigned {
		k.fault("%v: messages without an assignment", src)
	} else {
		if s.inCall {
			k.fault("%v: two calls at once", src)
		}
		s.inCall = true
	}
	hook := k.messages
	k.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, src, msgs, next); err != nil {
			k.mu.Lock()
			s.inCall = false
			k.mu.Unlock()
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.inCall = false
	for _, m := range msgs {
		if m.Offset < s.next || m.Offset >= next {
			k.fault("%v: offset %d outside [%d, %d)", src, m.Offset, s.next, next)
		}
		s.next = m.Offset + 1
		s.offsets = append(s.offsets, m.Offset)
		s.values = append(s.values, string(m.Value))
	}
	s.next = next
	return nil
}

func (k *keeper) Revoked(ctx context.Context, src record.Source, lost bool) error {
	k.mu.Lock()
	s := k.sources[src]
	if s == nil || !s.assigned {
		k.fault("%v revoked without an assignment", src)
	} else {
		if s.inCall {
			k.fault("%v revoked during a call", src)
		}
		s.assigned, s.lost = false, lost
	}
	hook := k.revoked
	k.mu.Unlock()
	if hook != nil {
		return hook(ctx, src, lost)
	}
	return nil
}

// count is the number of messages of a topic that were handed over.
func (k *keeper) count(topic string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for src, s := range k.sources {
		if src.Topic == topic {
			n += len(s.offsets)
		}
	}
	return n
}

func (k *keeper) values(src record.Source) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.sources[src]; s != nil {
		return slices.Clone(s.values)
	}
	return nil
}

func (k *keeper) next(src record.Source) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.sources[src]; s != nil {
		return s.next
	}
	return -1
}

// journal keeps the events' names.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) has(line string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.lines, line)
}

func (j *journal) events() Events {
	return Events{
		Assigned: func(src record.Source, start int64) {
			j.add("assigned %s/%d at %d", src.Topic, src.Partition, start)
		},
		Revoked: func(src record.Source, lost bool) { j.add("revoked %s/%d lost=%t", src.Topic, src.Partition, lost) },
		Paused:  func(src record.Source, _ int64) { j.add("paused %s/%d", src.Topic, src.Partition) },
		Resumed: func(src record.Source, _ int64) { j.add("resumed %s/%d", src.Topic, src.Partition) },
		Gap: func(src record.Source, next, start int64) {
			j.add("gap %s/%d from %d to %d", src.Topic, src.Partition, next, start)
		},
		Stopped:       func(src record.Source, _ error) { j.add("stopped %s/%d", src.Topic, src.Partition) },
		TopicMissing:  func(t string) { j.add("missing %s", t) },
		TopicFound:    func(t string) { j.add("found %s", t) },
		TopicReplaced: func(t, _ string) { j.add("replaced %s", t) },
		FetchFailed:   func(t string, p int32, err error) { j.add("fetch failed %s/%d: %v", t, p, err) },
		BrokerFailed:  func(b string, err error) { j.add("broker failed") },
		GroupFailed:   func(err error) { j.add("group failed: %v", err) },
		CommitFailed:  func(src record.Source, err error) { j.add("commit failed: %v", err) },
	}
}

// fake starts a fake cluster that ends with the test.
func fake(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []string) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, cluster.ListenAddrs()
}

func testConfig(brokers []string, topics ...string) Config {
	return Config{
		Connection:       Connection{Brokers: brokers, ConnectTimeout: 5 * time.Second},
		Group:            "tasters",
		Topics:           topics,
		SessionTimeout:   6 * time.Second,
		RebalanceTimeout: 10 * time.Second,
		DrainTimeout:     5 * time.Second,
		Refresh:          200 * time.Millisecond,
	}
}

// member is a running Consumer.
type member struct {
	*Consumer
	*keeper
	*journal
	stop func() error // ends Run and returns what it returned
}

// join runs a Consumer until the test ends or stop is called.
func join(t *testing.T, cfg Config, k *keeper) *member {
	t.Helper()
	j := &journal{}
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Open(ctx, cfg, j.events())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, k) }()
	var once sync.Once
	var result error
	m := &member{Consumer: c, keeper: k, journal: j}
	m.stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case result = <-ended:
			case <-time.After(30 * time.Second):
				t.Error("Run did not end within 30 s of being told to")
			}
		})
		return result
	}
	t.Cleanup(func() {
		_ = m.stop()
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, f := range k.faults {
			t.Error(f)
		}
		for src, s := range k.sources {
			if s.assigned {
				t.Errorf("%v was never revoked", src)
			}
		}
		if t.Failed() {
			j.mu.Lock()
			defer j.mu.Unlock()
			for _, l := range j.lines {
				t.Log(l)
			}
		}
	})
	return m
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	within(t, 15*time.Second, what, f)
}

func within(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited %s in vain: %s", limit, what)
}

// produce writes values to one partition, or (-1) spread over all.
func produce(t *testing.T, brokers []string, topic string, partition int32, values ...string) {
	t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(brokers...)}
	if partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	} else {
		opts = append(opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Partition: max(partition, 0), Value: []byte(v)}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func numbered(n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("record %d", i)
	}
	return values
}

func topicIDOf(c *kfake.Cluster, topic string) string { return topicID(c.TopicInfo(topic).TopicID) }
