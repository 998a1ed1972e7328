//go:build linux

package torture

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is for what must happen sooner or later on a busy machine.
const patience = 90 * time.Second

// broker is what a round needs of Kafka.
type broker struct {
	t          testing.TB
	addrs      []string
	away, back func() // between the two, no instance can reach the broker

	// whileAnswering runs what the next time that the broker has a request of this kind in hand, which it then grants,
	// though nobody may hear of it any more. nil: that cannot be arranged. forget takes it back.
	whileAnswering func(key kmsg.Key, what func())
	forget         func()

	cl   *kgo.Client
	adm  *kadm.Client
	gone bool
}

func (b *broker) leave() {
	b.away()
	b.gone = true
}

func (b *broker) comeBack() {
	b.back()
	b.gone = false
}

func (b *broker) reachable() bool { return !b.gone }

func (b *broker) open() {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.cl, b.adm = cl, kadm.NewClient(cl)
}

func (b *broker) close() { b.cl.Close() }

// fakeBroker is kfake, which needs a second for what takes Kafka a minute.
func fakeBroker(t testing.TB) *broker {
	t.Helper()
	gate := &gate{}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(gate.listen),
		kfake.SeedTopics(partitions, topic), kfake.SeedTopics(1, "verdicts", "dead"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &broker{t: t, addrs: cluster.ListenAddrs(), away: gate.shut, back: gate.open}
	b.whileAnswering = func(key kmsg.Key, what func()) {
		cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			what()
			return nil, nil, false
		})
	}
	b.forget = func() { cluster.DropControl() }
	b.open()
	t.Cleanup(b.close)
	return b
}

// gate is a listener that can hang up on everybody.
type gate struct {
	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
}

func (g *gate) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return gated{l, g}, err
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = true
	for c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = false
}

type gated struct {
	net.Listener
	g *gate
}

func (l gated) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.g.mu.Lock()
		away := l.g.away
		if !away {
			if l.g.conns == nil {
				l.g.conns = map[net.Conn]bool{}
			}
			l.g.conns[c] = true
		}
		l.g.mu.Unlock()
		if !away {
			return c, nil
		}
		_ = c.Close()
	}
}

// within repeats a request until it succeeds: while the broker is away it hangs up on the harness, too.
func (b *broker) within(f func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			b.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// recreate makes the topic of the cells anew and empties the others, and returns the topic's id.
func (b *broker) recreate() (id string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	recreate := func() error {
		_, err := b.adm.DeleteTopics(ctx, topic, "verdicts", "dead")
		for err == nil { // what is deleted may be there for a while
			var left kadm.TopicDetails
			if left, err = b.adm.ListTopics(ctx); err == nil && !left.Has(topic) && !left.Has("verdicts") && !left.Has("dead") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for name, n := range map[string]int32{topic: partitions, "verdicts": 1, "dead": 1} {
			resp, createErr := b.adm.CreateTopic(ctx, n, 1, nil, name)
			err = errors.Join(err, createErr)
			if name == topic {
				id = base64.RawURLEncoding.EncodeToString(resp.ID[:])
			}
		}
		for err == nil {
			var there kadm.TopicDetails
			if there, err = b.adm.ListTopics(ctx); err == nil && len(there[topic].Partitions) == partitions && there.Has("verdicts") && there.Has("dead") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		return err
	}
	if err := recreate(); err != nil {
		b.t.Fatal(err)
	}
	b.close() // it knows the topics by their former ids
	b.open()
	return id
}

// evict takes every member out of a group at once, as the group does with members that it has not heard of for the
// session timeout. Those that live find out with their next heartbeat, and until then believe that they own what
// others own.
func (b *broker) evict(group string) {
	b.t.Helper()
	b.within(func(ctx context.Context) error {
		groups, err := b.adm.DescribeGroups(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) || err == nil && len(groups[group].Members) == 0 {
			return nil // nobody has joined yet
		}
		if err != nil {
			return err
		}
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group = group
		for _, m := range groups[group].Members {
			member := kmsg.NewLeaveGroupRequestMember()
			member.MemberID = m.MemberID
			req.Members = append(req.Members, member)
		}
		_, err = req.RequestWith(ctx, b.cl)
		return err
	})
}

// offsets returns what the group has committed of the topic.
func (b *broker) offsets(group string) map[int32]int64 {
	b.t.Helper()
	committed := map[int32]int64{}
	b.within(func(ctx context.Context) error {
		all, err := b.adm.FetchOffsets(ctx, group)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil
		}
		for p, o := range all[topic] {
			committed[p] = o.At
		}
		return err
	})
	return committed
}

// ends returns where the topic's partitions end.
func (b *broker) ends() map[int32]int64 {
	b.t.Helper()
	ends := map[int32]int64{}
	b.within(func(ctx context.Context) error {
		all, err := b.adm.ListEndOffsets(ctx, topic)
		all.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		return err
	})
	return ends
}

// read returns all records of a topic.
func (b *broker) read(name string) (records []*kgo.Record) {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ConsumeTopics(name))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	b.within(func(ctx context.Context) error {
		ends, err := b.adm.ListEndOffsets(ctx, name)
		if err != nil {
			return err
		}
		var total int64
		ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
		for int64(len(records)) < total {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return err
			}
			records = append(records, fetches.Records()...)
		}
		return nil
	})
	return records
}
