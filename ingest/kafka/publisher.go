package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/finding"
)

// EventTopics names where events go. An empty name: events of that kind go nowhere.
type EventTopics struct {
	Verdicts    string // quarantined records, and later changes of a verdict
	DeadLetters string // rejected records
}

// Publisher writes events. It is safe for concurrent use.
type Publisher struct {
	conn   Connection
	topics EventTopics
	client *kgo.Client
}

// OpenPublisher checks that a broker can be reached and lets us in, and that the topics exist.
//
// Errors are ErrUnreachable, ErrRefused or ErrTopicMissing, or a fault of the configuration.
func OpenPublisher(ctx context.Context, conn Connection, topics EventTopics) (*Publisher, error) {
	conn = conn.withDefaults()
	if err := conn.Validate(); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range []string{topics.Verdicts, topics.DeadLetters} {
		if name == "" {
			continue
		}
		if err := checkTopicName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	opts, err := conn.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()), // with the library's default, an idempotent producer
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.RecordDeliveryTimeout(2*time.Minute),
		kgo.MetadataMinAge(time.Second),
		kgo.UnknownTopicRetries(3),
		kgo.MaxBufferedRecords(10_000),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	p := &Publisher{conn: conn, topics: topics, client: client}
	if err := p.check(ctx, names); err != nil {
		client.Close()
		return nil, err
	}
	return p, nil
}

func (p *Publisher) check(ctx context.Context, names []string) error {
	if err := p.conn.greet(ctx, p.client); err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	topics, err := p.conn.topics(ctx, p.client, names)
	if err != nil {
		return err
	}
	var missing []error
	for _, name := range names {
		if topics[name].id == "" {
			missing = append(missing, topicMissing(name))
		}
	}
	return errors.Join(missing...)
}

func topicMissing(name string) error {
	return fmt.Errorf("%w: %q: create it (taster creates no topics), or leave it out of the configuration", ErrTopicMissing, name)
}

// Publish writes the events and returns when all in-sync replicas have every one of them: rejected records' to the
// dead-letter topic, all others' to the verdict topic. After an error some may have been written; publishing all of
// them again is right.
func (p *Publisher) Publish(ctx context.Context, events []finding.Event) error {
	records := make([]*kgo.Record, 0, len(events))
	for _, e := range events {
		topic := p.topics.Verdicts
		if e.Verdict == finding.Rejected {
			topic = p.topics.DeadLetters
		}
		if topic == "" {
			continue
		}
		if e.Reasons == nil {
			e.Reasons = []finding.Code{}
		}
		value, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		records = append(records, &kgo.Record{Topic: topic, Key: eventKey(e), Value: value})
	}
	outdated, err := p.produce(ctx, records)
	if len(outdated) > 0 && err == nil {
		// A topic was deleted and made again. The library holds on to the one it knew until it is told to forget.
		p.client.PurgeTopicsFromProducing(p.topics.Verdicts, p.topics.DeadLetters)
		outdated, err = p.produce(ctx, outdated)
		if len(outdated) > 0 && err == nil {
			err = fmt.Errorf("publishing events to topic %s: %w", outdated[0].Topic, p.conn.explain(kerr.UnknownTopicID))
		}
	}
	return err
}

// produce returns those of the records that were meant for a topic which has been replaced, and the first error of
// the others.
func (p *Publisher) produce(ctx context.Context, records []*kgo.Record) (outdated []*kgo.Record, failed error) {
	for _, result := range p.client.ProduceSync(ctx, records...) {
		topic := result.Record.Topic
		switch {
		case result.Err == nil:
		case errors.Is(result.Err, kerr.UnknownTopicID):
			outdated = append(outdated, &kgo.Record{Topic: topic, Key: result.Record.Key, Value: result.Record.Value})
		case failed != nil:
		case errors.Is(result.Err, kerr.UnknownTopicOrPartition):
			failed = topicMissing(topic)
		case ctx.Err() != nil:
			failed = fmt.Errorf("publishing events to topic %s: %w", topic, ctx.Err())
		default:
			failed = fmt.Errorf("publishing events to topic %s: %w", topic, p.conn.explain(result.Err))
		}
	}
	return outdated, failed
}

// eventKey is topic-id/partition/offset: all events on one record are in one partition, in order.
func eventKey(e finding.Event) []byte {
	key := make([]byte, 0, 48)
	key = append(key, e.TopicID...)
	key = append(key, '/')
	key = strconv.AppendInt(key, int64(e.Partition), 10)
	key = append(key, '/')
	return strconv.AppendInt(key, e.Offset, 10)
}

// Close ends the connections. Nothing is under way when no Publish is.
func (p *Publisher) Close() { p.client.Close() }
