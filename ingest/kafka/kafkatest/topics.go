package kafkatest

import (
	"context"
	"encoding/base64"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const patience = time.Minute // for one request of an administrator, on a busy machine

func (b *Broker) client(tb testing.TB, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Plain)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return cl
}

func (b *Broker) admin(tb testing.TB, f func(context.Context, *kadm.Client) error) {
	tb.Helper()
	cl := b.client(tb)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f(ctx, kadm.NewClient(cl)); err != nil {
		tb.Fatal(err)
	}
}

// settle waits until a broker's view of a topic is what was just asked for: the controller answers before it is.
func settle(ctx context.Context, adm *kadm.Client, topic string, as func(detail kadm.TopicDetail, exists bool) bool) error {
	for {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		if as(topics[topic], topics.Has(topic)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// CreateTopic makes a topic and returns its id as Kafka's tools spell it.
func (b *Broker) CreateTopic(tb testing.TB, topic string, partitions int32) string {
	tb.Helper()
	var id string
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		resp, err := adm.CreateTopic(ctx, partitions, 1, nil, topic)
		if err != nil {
			return err
		}
		id = base64.RawURLEncoding.EncodeToString(resp.ID[:])
		return settle(ctx, adm, topic, func(detail kadm.TopicDetail, exists bool) bool {
			return exists && detail.ID == resp.ID && len(detail.Partitions) == int(partitions)
		})
	})
	return id
}

// DeleteTopic deletes a topic, and returns when it can be made again.
func (b *Broker) DeleteTopic(tb testing.TB, topic string) {
	tb.Helper()
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		if _, err := adm.DeleteTopic(ctx, topic); err != nil {
			return err
		}
		return settle(ctx, adm, topic, func(_ kadm.TopicDetail, exists bool) bool { return !exists })
	})
}

// AddPartitions gives a topic so many more partitions.
func (b *Broker) AddPartitions(tb testing.TB, topic string, more int) {
	tb.Helper()
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		before, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		want := len(before[topic].Partitions) + more
		if resp, err := adm.UpdatePartitions(ctx, want, topic); err != nil {
			return err
		} else if err := resp.Error(); err != nil {
			return err
		}
		return settle(ctx, adm, topic, func(detail kadm.TopicDetail, _ bool) bool { return len(detail.Partitions) >= want })
	})
}

// DeleteRecords removes what lies before offset, as retention does.
func (b *Broker) DeleteRecords(tb testing.TB, topic string, partition int32, offset int64) {
	tb.Helper()
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset})
		resp, err := adm.DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		return resp.Error()
	})
}

// Deny takes the permission to read a topic from [User].
func (b *Broker) Deny(tb testing.TB, topic string) {
	tb.Helper()
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		acl := kadm.NewACLs().Deny("User:"+User).DenyHosts("*").Topics(topic).
			ResourcePatternType(kmsg.ACLResourcePatternTypeLiteral).Operations(kadm.OpRead, kadm.OpDescribe)
		_, err := adm.CreateACLs(ctx, acl)
		return err
	})
}

// Produce writes n records to a topic, quickly: record is called for each i in turn. Records go to the partitions by
// their keys, or a few kilobytes to each in turn if they have none. It returns when all are acknowledged.
func (b *Broker) Produce(tb testing.TB, topic string, n int, record func(i int) *kgo.Record) {
	tb.Helper()
	cl := b.client(tb,
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(20*time.Millisecond),
		kgo.MaxBufferedRecords(50_000),
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(4<<10, false, true, nil)),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var mu sync.Mutex
	var failed error
	for i := range n {
		cl.Produce(ctx, record(i), func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		tb.Fatal(failed)
	}
}

// Transact writes values to one partition in one transaction, and commits or aborts it.
func (b *Broker) Transact(tb testing.TB, topic string, partition int32, commit bool, values ...string) {
	tb.Helper()
	cl := b.client(tb, kgo.TransactionalID("kafkatest"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		tb.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}).FirstErr(); err != nil {
			tb.Fatal(err)
		}
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		tb.Fatal(err)
	}
}

// Read returns all records that a topic holds at the time of the call, committed ones only.
func (b *Broker) Read(tb testing.TB, topic string) []*kgo.Record {
	tb.Helper()
	ends := make(map[int32]int64)
	b.admin(tb, func(ctx context.Context, adm *kadm.Client) error {
		listed, err := adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		starts, err := adm.ListStartOffsets(ctx, topic)
		if err != nil {
			return err
		}
		listed.Each(func(o kadm.ListedOffset) {
			if start, ok := starts.Lookup(topic, o.Partition); ok && start.Offset < o.Offset {
				ends[o.Partition] = o.Offset
			}
		})
		return listed.Error()
	})
	cl := b.client(tb, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var records []*kgo.Record
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			tb.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := ends[r.Partition]
			if open && r.Offset < end && !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if open && r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
		})
	}
	return records
}
