package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/ingest/kafka"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/landing"
)

// Run consumes every contract's topic until ctx ends, and then lands what it has. taken, if not nil, is told how far
// each source has been taken in.
func (a *App) Run(ctx context.Context, taken func(src record.Source, next int64)) error {
	if len(a.config.Kafka.Brokers) == 0 {
		return fmt.Errorf("%s: kafka.brokers: %w; name at least one broker", a.config.Path, ErrMissing)
	}
	topics, names := map[string]pipeline.Topic{}, []string{}
	for _, c := range a.config.Contracts {
		topic, err := a.topic(ctx, c)
		if err != nil {
			return err
		}
		topics[c.Topic] = topic
		names = append(names, c.Topic)
	}
	stop, err := a.observe.serve(a.config.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer stop() // after the drain: it is watched like everything else
	connection := connectionOf(&a.config.Kafka)
	publisher, err := kafka.OpenPublisher(ctx, connection, kafka.EventTopics{Verdicts: a.config.Kafka.Verdicts, DeadLetters: a.config.Kafka.DeadLetters})
	if err != nil {
		return err
	}
	defer publisher.Close()
	consumer, err := kafka.Open(ctx, kafka.Config{Connection: connection, Group: a.config.Kafka.Group, Topics: names, BufferBytes: sourceLimit}, a.observe.kafka())
	if err != nil {
		return err
	}
	h := &handler{app: a, consumer: consumer, publisher: publisher, taken: taken, tidier: newTidier(a.zone, a.log)}
	h.pipeline = pipeline.New(topics, lander{a.zone, h}, a.commits, publisher, h, a.limits(), h.observe)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-h.pipeline.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	a.observe.ready.Store(true)
	context.AfterFunc(ctx, func() { a.observe.ready.Store(false) })
	return ended(ctx, h.pipeline, consumer.Run(ctx, h))
}

// ended says why a run ended: what made the pipeline give up is told rather than what followed from it.
func ended(ctx context.Context, p *pipeline.Pipeline, err error) error {
	select {
	case failed := <-p.Failed():
		return failed
	default:
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// handler joins the consumer to the pipeline, both ways.
type handler struct {
	app       *App
	consumer  *kafka.Consumer
	publisher *kafka.Publisher
	pipeline  *pipeline.Pipeline
	taken     func(record.Source, int64)
	tidier    *tidier
}

// lander is the landing zone as the pipeline sees it.
type lander struct {
	*landing.Zone
	h *handler
}

// Head is asked for by a stream that lost a commit. The winner may have died before it told anybody of what it
// committed, and then nobody else would: the loser has the partition.
func (l lander) Head(ctx context.Context, src record.Source, hint *landing.Hint) (landing.Head, error) {
	return l.h.resume(ctx, src, hint)
}

// observe takes the pipeline's events.
func (h *handler) observe(event pipeline.Event) {
	if e, ok := event.(pipeline.Retrying); ok && e.Step == "commit" {
		h.tidier.failed(e.Source)
	}
	h.app.observe.pipeline(event)
}

// Assigned finds the end of what has landed. What a crashed owner may not have told any more is told again first: the
// audit entries and the events of every manifest that lies behind the hint.
func (h *handler) Assigned(ctx context.Context, src record.Source, hint kafka.Hint) (int64, error) {
	var head landing.Head
	killpoint.Reach("assigned")
	err := h.retry(ctx, src, "reload", func() (err error) {
		head, err = h.resume(ctx, src, &landing.Hint{TopicID: hint.TopicID, First: hint.First, Next: hint.Next})
		return err
	})
	if err != nil {
		return 0, err
	}
	killpoint.Reach("resumed")
	h.tidier.taken(head)
	return head.Next(), h.pipeline.Open(src, head)
}

// resume finds the end of what has landed of a source, and repeats what must follow every commit: for each behind the
// hint, and for the last one if the hint says nothing, since only that can have gone untold.
func (h *handler) resume(ctx context.Context, src record.Source, hint *landing.Hint) (landing.Head, error) {
	zone := h.app.zone
	head, err := zone.Head(ctx, src, hint)
	if err != nil {
		return head, err
	}
	if hint != nil && hint.TopicID == src.ID && hint.Next > head.Next() {
		// No reason to stop: the offset is a hint, and a new landing zone for an old group is nothing wrong.
		h.app.log.Error("the group's offset says that more has landed than this landing zone holds: is it the right one, and is it mounted?",
			"topic", src.Topic, "partition", src.Partition, "offset", hint.Next, "landed", head.Next())
	}
	if head.Last == nil {
		return head, nil
	}
	killpoint.Reach("head_found")
	next, err := h.untold(ctx, src, hint, head)
	if err != nil {
		return head, err
	}
	for m, err := range zone.Since(ctx, src, next) {
		if err != nil {
			return head, err
		}
		next = m.Next
		killpoint.Reach("walk_begun")
		if err := h.app.commits.Append(ctx, m.Manifest); err != nil {
			return head, err
		}
		killpoint.Reach("walk_audited")
		var events []finding.Event
		for f, err := range zone.Flagged(ctx, m.Manifest) {
			if err != nil {
				return head, err
			}
			events = append(events, finding.Event{Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, Offset: f.Offset, Verdict: f.Verdict, Reasons: f.Reasons})
		}
		recalls, err := zone.Recalls(ctx, m.Manifest)
		if err != nil {
			return head, err
		}
		if err := h.publisher.Publish(ctx, append(events, pipeline.RecallEvents(recalls)...)); err != nil {
			return head, err
		}
		killpoint.Reach("walk_told")
	}
	if next < head.Next() { // to Since it looks like the end
		return head, fmt.Errorf("the manifest of topic %q partition %d that begins at offset %d was there, and cannot be found any more: is the landing zone away?", src.Topic, src.Partition, next)
	}
	return head, nil
}

// untold returns the offset from which on manifests may be that nobody was told of. That is where the hint ends, if the
// manifest that it names is there and ends there, too. Another landing zone's hint may name any offset, and where no
// manifest begins nothing would be found to be told.
func (h *handler) untold(ctx context.Context, src record.Source, hint *landing.Hint, head landing.Head) (int64, error) {
	if hint == nil || hint.TopicID != src.ID || hint.Next > head.Next() {
		return head.First(), nil
	}
	if hint.Next == 0 { // of a stream that had committed nothing
		return 0, nil
	}
	for m, err := range h.app.zone.Since(ctx, src, hint.First) {
		if err != nil {
			return 0, err
		}
		if m.Next == hint.Next {
			return hint.Next, nil
		}
		break
	}
	return head.First(), nil
}

// retry repeats a step until it succeeds, ctx ends or the landing zone contradicts itself.
func (h *handler) retry(ctx context.Context, src record.Source, name string, step func() error) error {
	for attempt := 1; ; attempt++ {
		err := step()
		if err == nil || errors.Is(err, landing.ErrCorrupt) || ctx.Err() != nil {
			return err
		}
		h.app.observe.pipeline(pipeline.Retrying{Source: src, Step: name, Attempt: attempt, Err: err})
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(time.Duration(attempt)*200*time.Millisecond, 10*time.Second)):
		}
	}
}

func (h *handler) Messages(ctx context.Context, src record.Source, messages []record.Message, next int64) error {
	err := h.pipeline.Messages(ctx, src, messages, next)
	if err == nil && h.taken != nil {
		h.taken(src, next)
	}
	return err
}

func (h *handler) Revoked(ctx context.Context, src record.Source, lost bool) error {
	killpoint.Reach("revoked")
	defer killpoint.Reach("given_back")
	defer h.app.commits.Forget(src)
	defer h.tidier.given(ctx, src)
	if lost {
		return h.pipeline.Abandon(src)
	}
	err := h.pipeline.Drain(ctx, src)
	killpoint.Reach("drained")
	if err != nil {
		// What has not landed is read again by whoever has the partition next.
		h.app.log.Warn("gave a partition back before all of it had landed", "topic", src.Topic, "partition", src.Partition, "error", err)
	}
	return nil
}

func (h *handler) Landed(ctx context.Context, src record.Source, head landing.Head) error {
	killpoint.Reach("offset_begun")
	err := h.consumer.Commit(ctx, src, head.First(), head.Next())
	killpoint.Reach("offset_done")
	h.tidier.landed(ctx, src, head)
	killpoint.Reach("tidied")
	return err
}

func (h *handler) Rewind(src record.Source, next int64) { h.consumer.Rewind(src, next) }

func connectionOf(k *config.Kafka) kafka.Connection {
	c := kafka.Connection{Brokers: k.Brokers}
	if k.TLS != nil {
		c.TLS = &kafka.TLS{CA: k.TLS.CA, Cert: k.TLS.Cert, Key: k.TLS.Key, ServerName: k.TLS.ServerName}
	}
	if s := k.SASL; s != nil {
		c.SASL = &kafka.SASL{
			Mechanism: s.Mechanism, Username: s.Username, Password: kafka.Secret(s.Password.Reveal()),
			Token: kafka.Secret(s.Token.Reveal()), TokenFile: s.TokenFile,
		}
	}
	return c
}

// kafka returns how the consumer's events become log lines and metrics.
func (o *observer) kafka() kafka.Events {
	place := func(src record.Source) []any { return []any{"topic", src.Topic, "partition", src.Partition} }
	return kafka.Events{
		Assigned: func(src record.Source, start int64) {
			o.log.Info("partition assigned", append(place(src), "topic_id", src.ID, "start", start)...)
		},
		Revoked: func(src record.Source, lost bool) {
			o.log.Info("partition given back", append(place(src), "lost", lost)...)
		},
		Paused: func(src record.Source, buffered int64) {
			o.log.Debug("partition paused: it is read faster than it lands", append(place(src), "bytes", buffered)...)
		},
		Resumed: func(src record.Source, buffered int64) {
			o.log.Debug("partition resumed", append(place(src), "bytes", buffered)...)
		},
		Gap: func(src record.Source, next, start int64) {
			o.log.Warn("the log begins behind what was wanted: retention removed records that were never read", append(place(src), "wanted", next, "begins", start)...)
		},
		Stopped: func(src record.Source, err error) {
			o.log.Error("partition stopped: reading on would lose records", append(place(src), "error", err)...)
		},
		TopicMissing: func(topic string) { o.log.Warn("the topic does not exist; waiting for it", "topic", topic) },
		TopicFound:   func(topic string) { o.log.Info("the topic exists now", "topic", topic) },
		TopicReplaced: func(topic, id string) {
			o.log.Warn("the topic was deleted or made again", "topic", topic, "topic_id", id)
		},
		FetchFailed: func(topic string, partition int32, err error) {
			o.log.Warn("a fetch failed and is repeated", "topic", topic, "partition", partition, "error", err)
		},
		BrokerFailed: func(broker string, err error) {
			o.log.Warn("a broker cannot be reached; trying again", "broker", broker, "error", err)
		},
		GroupFailed: func(err error) { o.log.Warn("the group was lost; joining again", "error", err) },
		CommitFailed: func(src record.Source, err error) {
			o.log.Debug("committing the offset failed", append(place(src), "error", err)...)
		},
		Lag: func(src record.Source, lag int64) { o.setLag(src, lag) },
	}
}
