//go:build services

package main

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest/servers"
)

// TestStoreRun has the whole pipeline land in buckets of real object stores, killed in the middle of its work and taken
// over by two others, and counts every record; then everything that reads a landing zone reads it there.
func TestStoreRun(t *testing.T) {
	for name, bucket := range map[string]func(testing.TB) string{"s3": servers.S3, "azure": servers.Azure, "gcs": servers.GCS} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(bucket(t))
			if err != nil {
				t.Fatal(err)
			}
			u.Path = "/some/where"
			runIn(t, u.String())
			backfillFrom(t, u)
		})
	}
}

func runIn(t *testing.T, bucket string) {
	const topic, n = "flights", 6000
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic), kfake.SeedTopics(1, topic+".verdicts", topic+".dead"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s := newSite(t, topic, cluster.ListenAddrs(), "", "{records: 500, age: 500ms}")
	s.landIn(bucket)

	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	published := newTruth()
	send := func(from, to int) {
		t.Helper()
		var records []*kgo.Record
		for i := from; i < to; i++ {
			records = append(records, published.record(flightID(i), flight(i)))
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send(0, n/2)
	first := s.start()
	first.await("segment committed")
	first.kill()
	evict(t, cluster.ListenAddrs(), s.group)
	second := s.start()
	second.await("segment committed")
	send(n/2, n)
	within(t, "every record lands", func() bool { return rowsIn(t, s) >= n })
	second.stop()
	published.compare(s)
	s.verify()

	start := time.Now()
	out, err := exec.Command(binary(t), "report", "-c", s.config, s.landing, "-o", "json").Output()
	if err != nil || !strings.Contains(string(out), `"risk"`) {
		t.Errorf("report: %v\n%s", err, tail(string(out), 5))
	}
	t.Logf("report in %v", time.Since(start).Round(time.Millisecond))
}

// landIn moves a site's landing zone, before anything was written to it.
func (s *site) landIn(url string) {
	s.t.Helper()
	s.landing = url
	text, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, []byte(strings.Replace(string(text), "file://./landing", fmt.Sprintf("%q", url), 1)), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// backfillFrom has inputs in a bucket land in the same bucket, once.
func backfillFrom(t *testing.T, bucket *url.URL) {
	const n = 1000
	in, out := *bucket, *bucket
	in.Path, out.Path = "/in", "/out"
	store, err := storage.Open(t.Context(), in.String())
	if err != nil {
		t.Fatal(err)
	}
	for part := range 2 {
		var lines []byte
		for i := range n {
			lines = append(append(lines, flight(part*n+i)...), '\n')
		}
		if err := store.Put(t.Context(), fmt.Sprintf("flights %d.jsonl", part), lines); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, "backfilled", []string{"127.0.0.1:1"}, "", "{records: 500}")
	s.landIn(out.String())
	in.Path = "/in/*.jsonl"
	for _, want := range []string{fmt.Sprintf(`"read": %d`, 2*n), `"read": 0`} {
		text, err := exec.Command(binary(t), "backfill", "-c", s.config, "--contract", s.topic, in.String(), "-o", "json").CombinedOutput()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("backfill: %v, want %s:\n%s", err, want, tail(string(text), 20))
		}
	}
	if got := rowsIn(t, s); got != 2*n {
		t.Errorf("%d rows landed, want %d", got, 2*n)
	}
	s.verify()
}

// rowsIn counts the rows that are to be read, by asking for the files that hold them.
func rowsIn(t *testing.T, s *site) int {
	t.Helper()
	out, err := exec.Command(binary(t), "ls", s.landing, "-o", "json").Output()
	if err != nil {
		t.Fatalf("ls: %v", err)
	}
	total := 0
	for _, part := range strings.Split(string(out), `"rows":`)[1:] {
		var n int
		if _, err := fmt.Sscan(strings.TrimLeft(part, " "), &n); err == nil {
			total += n
		}
	}
	return total
}
