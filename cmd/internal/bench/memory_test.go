package bench

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkMemory consumes a topic that is long, 10,000,000 reviews unless RECORDS says otherwise, and tells how much
// memory the process has after a tenth of it, three tenths, and all. It must not depend on how long the topic is. The
// records are made as they are consumed and the broker forgets them once they have landed, so its speed is also the
// speed of making them.
func BenchmarkMemory(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.topic, func(b *testing.B) {
			w := k.configure(b)
			w.records = wanted(b, 10_000_000/k.share, k.share)
			w.brokers = k.broker(b)
			sum := line{Kind: k.topic, Name: fmt.Sprintf("taster run, %d records", w.records)}
			var last outcome
			for once := true; b.Loop(); once = false {
				if !once {
					continue // one run is as long as it must be
				}
				j := w.job(b, jobRun)
				j.Label, j.Marks = "long", []int{w.records / 10, w.records * 3 / 10, w.records}
				r := start(b, j)
				ctx, cancel := r.within(b.Context())
				size, err := feed(ctx, w, j.Group, k.make(3, w.records))
				cancel(nil)
				if err != nil {
					b.Fatal(err)
				}
				<-r.ended
				if r.err != nil {
					b.Fatal(r.err)
				}
				last = r.outcome
				sum.plus(w.records, size, last)
			}
			sum.report(b, "")
			b.ReportMetric(float64(sum.Peak)/(1<<20), "MiB-peak")
			table.add(sum)
			for _, m := range last.Marks {
				table.marks = append(table.marks, marked{k.topic, m})
			}
		})
	}
}

// ahead is how many bytes of records may wait in the embedded broker, which are some segments of all partitions: what
// the group has read and not yet committed is among them.
const ahead = 512 << 20

// feed publishes records about as fast as a group commits them, and deletes those that it has. It returns their bytes.
func feed(ctx context.Context, w workload, group string, values iter.Seq[[]byte]) (size int64, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.DefaultProduceTopic(w.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	admin := kadm.NewClient(client)
	n := int64(0)
	for value := range values {
		client.Produce(ctx, &kgo.Record{Key: strconv.AppendInt(nil, n, 10), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("publish: %w", err))
			}
		})
		size += int64(len(value))
		if n++; n%10_000 > 0 {
			continue
		}
		for {
			landed, err := forget(ctx, admin, group)
			if err != nil {
				return size, err
			}
			if (n-landed)*size/n < ahead {
				break
			}
			select {
			case <-ctx.Done():
				return size, context.Cause(ctx)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return size, err
	}
	return size, context.Cause(ctx)
}

// forget deletes what a group has committed, and returns how many records those are.
func forget(ctx context.Context, admin *kadm.Client, group string) (landed int64, err error) {
	committed, err := admin.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return 0, nil // nobody has joined yet
	}
	if err != nil {
		return 0, err
	}
	offsets := kadm.Offsets{}
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At > 0 {
			offsets.Add(o.Offset)
			landed += o.At
		}
	})
	if len(offsets) == 0 {
		return 0, nil
	}
	deleted, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return 0, err
	}
	return landed, deleted.Error()
}
