package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/schema/manifest"
)

// latency is how long records took from their timestamp to the manifest that commits them.
type latency struct {
	Kind, Broker  string
	Rate          float64 // records per second
	Measured      int
	P50, P99, Max time.Duration
}

// BenchmarkLatency publishes half as many records per second as taster run takes at most, with segments of one second.
// A record's timestamp is taken when the producer gets it, and a manifest is there when it is seen in the landing zone,
// which is looked at every few milliseconds.
func BenchmarkLatency(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.topic, func(b *testing.B) {
			w := k.configure(b)
			w.brokers = k.broker(b)
			k.latency(b, w, embedded)
		})
	}
}

// embedded names the broker in this process.
const embedded = "embedded"

// latency measures with whatever broker a workload has.
func (k kind) latency(b *testing.B, w workload, broker string) {
	warm, measured := 5*time.Second, 30*time.Second
	if os.Getenv("RECORDS") != "" {
		warm, measured = time.Second, 3*time.Second
	}
	rate := k.half(b)
	for once := true; b.Loop(); once = false {
		if !once {
			continue // one run is as long as it must be
		}
		w.records = publishedFirst + int(rate*(warm+measured).Seconds())
		j := w.job(b, jobRun)
		j.Age, j.Label = time.Second, "latency-"+broker
		r := start(b, j)
		ctx, cancel := r.within(b.Context())
		p := &pace{stamps: map[int32][]int64{}}
		seen, stop := make(chan error, 1), make(chan struct{})
		go func() {
			seen <- p.watch(filepath.Join(j.Landing, filepath.FromSlash(manifest.TopicFolder(k.topic))), stop)
		}()
		var group string // a real broker keeps its records
		if broker == embedded {
			group = j.Group
		}
		err := p.publish(ctx, k, w, group, rate)
		cancel(nil)
		if err != nil {
			b.Fatal(err)
		}
		<-r.ended
		close(stop)
		if err := errors.Join(r.err, <-seen); err != nil {
			b.Fatal(err)
		}
		l, err := p.result(warm)
		if err != nil {
			b.Fatal(err)
		}
		l.Kind, l.Broker, l.Rate = k.topic, broker, rate
		table.latencies = append(table.latencies, l)
		b.ReportMetric(float64(l.P50.Milliseconds()), "p50-ms")
		b.ReportMetric(float64(l.P99.Milliseconds()), "p99-ms")
		b.ReportMetric(float64(l.Max.Milliseconds()), "max-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// half returns half of the records per second that taster run takes, by BenchmarkWhole or else by a run of its own.
func (k kind) half(b *testing.B) float64 {
	b.Helper()
	if l := table.find(k.topic, whole[jobRun]); l != nil {
		return l.rate() / 2
	}
	w := k.configure(b)
	w.records, w.brokers = wanted(b, k.records, k.share), k.broker(b)
	if err := publish(b.Context(), w.brokers, k.topic, k.make(3, w.records)); err != nil {
		b.Fatal(err)
	}
	var l line
	l.plus(w.records, 0, spawn(b, w.job(b, jobRun)))
	return l.rate() / 2
}

// publishedFirst is how many records go ahead, whose commit says that the process runs. So many are scored, and few
// enough that nothing waits behind them.
const publishedFirst = 1000

// pace publishes at a steady rate and notes when each record was published and when it was seen to be committed.
type pace struct {
	mu     sync.Mutex
	stamps map[int32][]int64 // by partition and offset: milliseconds since 1970
	began  int64             // when the steady rate began
	seen   []commit
}

// commit is a manifest, and when it was seen, in milliseconds since 1970.
type commit struct {
	partition   int32
	first, next int64
	at          int64
}

// publish publishes at a rate, and deletes what the group has committed, if one is named: a broker in this process would take ever
// more memory, and processor time to get it, from the run that is measured.
func (p *pace) publish(ctx context.Context, k kind, w workload, group string, rate float64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.DefaultProduceTopic(w.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	var deleting sync.WaitGroup
	defer deleting.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if group != "" {
		deleting.Go(func() {
			if err := keepForgetting(ctx, client, group); err != nil {
				cancel(fmt.Errorf("delete what was committed: %w", err))
			}
		})
	}
	stamp := func(r *kgo.Record, err error) {
		if err != nil {
			cancel(fmt.Errorf("publish: %w", err))
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		of := p.stamps[r.Partition]
		for int64(len(of)) <= r.Offset {
			of = append(of, 0)
		}
		of[r.Offset] = r.Timestamp.UnixMilli()
		p.stamps[r.Partition] = of
	}
	n := 0
	var began time.Time
	for value := range k.make(3, w.records) {
		if n == publishedFirst {
			if err := errors.Join(client.Flush(ctx), p.committed(ctx, publishedFirst)); err != nil {
				return err
			}
			began = time.Now()
			p.began = began.UnixMilli()
		}
		if n >= publishedFirst && n%16 == 0 {
			due := began.Add(time.Duration(float64(n-publishedFirst) / rate * float64(time.Second)))
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Until(due)):
			}
		}
		client.Produce(ctx, &kgo.Record{Key: strconv.AppendInt(nil, int64(n), 10), Value: value}, stamp)
		n++
	}
	return errors.Join(client.Flush(ctx), context.Cause(ctx))
}

// keepForgetting deletes what a group has committed, every second until ctx ends.
func keepForgetting(ctx context.Context, client *kgo.Client, group string) error {
	admin := kadm.NewClient(client)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if _, err := forget(ctx, admin, group); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// committed waits until so many records have landed.
func (p *pace) committed(ctx context.Context, n int64) error {
	for {
		p.mu.Lock()
		landed := int64(0)
		for _, c := range p.seen {
			landed += c.next - c.first
		}
		p.mu.Unlock()
		if landed >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// watch looks at the landing zone for new manifests until it is told to stop.
func (p *pace) watch(folder string, stop <-chan struct{}) error {
	known := map[string]bool{}
	for ended := false; ; {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || known[path] || filepath.Ext(path) != ".json" {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			m, err := manifest.Decode(data)
			if err != nil {
				return err
			}
			known[path] = true
			p.mu.Lock()
			defer p.mu.Unlock()
			p.seen = append(p.seen, commit{m.Partition, m.First, m.Next, time.Now().UnixMilli()})
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // before the first commit there is no folder
			return err
		}
		if ended {
			return nil
		}
		select {
		case <-stop:
			ended = true // and look once more
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// result leaves out what was published before a process that has just begun is warm.
func (p *pace) result(warm time.Duration) (l latency, err error) {
	var all []int64
	for _, c := range p.seen {
		of := p.stamps[c.partition]
		if c.next > int64(len(of)) {
			return l, fmt.Errorf("a manifest ends at %d, and partition %d at %d", c.next, c.partition, len(of))
		}
		for _, stamp := range of[c.first:c.next] {
			if stamp >= p.began+warm.Milliseconds() {
				all = append(all, c.at-stamp)
			}
		}
	}
	if len(all) == 0 {
		return l, errors.New("nothing was committed in the time that is measured")
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return time.Duration(all[min(int(share*float64(len(all))), len(all)-1)]) * time.Millisecond
	}
	return latency{Measured: len(all), P50: at(0.5), P99: at(0.99), Max: at(1)}, nil
}
