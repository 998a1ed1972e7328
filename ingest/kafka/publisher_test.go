package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

var eventTopics = EventTopics{Verdicts: "verdicts", DeadLetters: "dead"}

// newEvent makes the event for one record of src.
func newEvent(src record.Source, offset int64, verdict finding.Verdict, reasons []finding.Code) finding.Event {
	return finding.Event{Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, Offset: offset, Verdict: verdict, Reasons: reasons}
}

// readAll returns n records of the topics as topic, key and value.
func readAll(t *testing.T, brokers []string, n int, topics ...string) []string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	found := make(map[string]bool)
	for got := 0; got < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got++
			found[r.Topic+" "+string(r.Key)+" "+string(r.Value)] = true
		})
	}
	return slices.Sorted(maps.Keys(found))
}

func TestPublish(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(3, "verdicts", "dead"))
	src := record.Source{Topic: "reviews", ID: "Gxg6ncrlS3mbhkzU9aXkKQ", Partition: 2}
	acks := make(chan int16, 10)
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		acks <- req.(*kmsg.ProduceRequest).Acks
		return nil, nil, false
	})
	p, err := OpenPublisher(t.Context(), Connection{Brokers: brokers}, eventTopics)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Publish(t.Context(), []finding.Event{
		newEvent(src, 7, finding.Quarantined, []finding.Code{finding.PoisonTrigger, finding.PoisonLabel}),
		newEvent(src, 8, finding.Rejected, []finding.Code{finding.JSONTruncated}),
		newEvent(src, 9, finding.Accepted, nil), // a release
	}); err != nil {
		t.Fatal(err)
	}
	if got := <-acks; got != -1 {
		t.Errorf("acks=%d, want all (-1)", got)
	}
	want := []string{
		`dead Gxg6ncrlS3mbhkzU9aXkKQ/2/8 {"topic":"reviews","topic_id":"Gxg6ncrlS3mbhkzU9aXkKQ","partition":2,"offset":8,"verdict":"rejected","reasons":["json_truncated"]}`,
		`verdicts Gxg6ncrlS3mbhkzU9aXkKQ/2/7 {"topic":"reviews","topic_id":"Gxg6ncrlS3mbhkzU9aXkKQ","partition":2,"offset":7,"verdict":"quarantined","reasons":["poison_trigger","poison_label"]}`,
		`verdicts Gxg6ncrlS3mbhkzU9aXkKQ/2/9 {"topic":"reviews","topic_id":"Gxg6ncrlS3mbhkzU9aXkKQ","partition":2,"offset":9,"verdict":"accepted","reasons":[]}`,
	}
	if got := readAll(t, brokers, 3, "verdicts", "dead"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPublishNowhere(t *testing.T) {
	t.Parallel()
	_, brokers := fake(t, kfake.SeedTopics(1, "verdicts"))
	p, err := OpenPublisher(t.Context(), Connection{Brokers: brokers}, EventTopics{Verdicts: "verdicts"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	src := record.Source{Topic: "reviews", ID: "Gxg6ncrlS3mbhkzU9aXkKQ"}
	if err := p.Publish(t.Context(), []finding.Event{newEvent(src, 1, finding.Rejected, nil), newEvent(src, 2, finding.Quarantined, nil)}); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, brokers, 1, "verdicts"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestPublishNeedsItsTopics(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "verdicts"), kfake.AllowAutoTopicCreation())
	_, err := OpenPublisher(t.Context(), Connection{Brokers: brokers}, eventTopics)
	if !errors.Is(err, ErrTopicMissing) || !strings.Contains(err.Error(), `"dead"`) {
		t.Errorf("OpenPublisher returned %v", err)
	}
	if cluster.TopicInfo("dead") != nil {
		t.Error("the topic was made by asking for it")
	}

	if err := cluster.CreateTopic("dead", 1, nil); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPublisher(t.Context(), Connection{Brokers: brokers}, eventTopics)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := cluster.DeleteTopic("dead"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	rejected := []finding.Event{newEvent(record.Source{Topic: "reviews"}, 1, finding.Rejected, nil)}
	if err := p.Publish(ctx, rejected); !errors.Is(err, ErrTopicMissing) {
		t.Errorf("to a topic that was deleted: %v", err)
	}
	// Made again, it is written to again.
	if err := cluster.CreateTopic("dead", 1, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event", func() bool { return p.Publish(ctx, rejected) == nil })
}

func TestPublishReportsRefusals(t *testing.T) {
	t.Parallel()
	cluster, brokers := fake(t, kfake.SeedTopics(1, "verdicts", "dead"))
	p, err := OpenPublisher(t.Context(), Connection{Brokers: brokers}, eventTopics)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dead", Err: kerr.TopicAuthorizationFailed, Count: -1})
	src := record.Source{Topic: "reviews", ID: "Gxg6ncrlS3mbhkzU9aXkKQ"}
	events := []finding.Event{newEvent(src, 1, finding.Rejected, nil)}
	if err := p.Publish(t.Context(), events); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "WRITE") {
		t.Errorf("without permission: %v", err)
	}
	h.Remove()
	// A fault that passes is waited out.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dead", Err: kerr.NotEnoughReplicas, Count: 2})
	if err := p.Publish(t.Context(), events); err != nil {
		t.Errorf("after a passing fault: %v", err)
	}
}
