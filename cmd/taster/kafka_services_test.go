//go:build services && unix

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/ingest/kafka/kafkatest"
)

// Here the program is built as it is built to be deployed.
func init() {
	build := sync.OnceValues(func() (string, error) {
		path, err := filepath.Abs(filepath.Join("..", "..", ".cache", "e2e", "taster")) // git ignores it, and it is built anew each time
		if err != nil {
			return "", err
		}
		if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return path, nil
	})
	binary = func(t *testing.T) string {
		t.Helper()
		path, err := build()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// TestKafka runs the real program against one real Apache Kafka.
func TestKafka(t *testing.T) {
	b := kafkatest.Start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *kafkatest.Broker)
	}{
		{"chaos", chaos},
		{"topic made again", topicMadeAgain},
		{"aborted transactions", abortedTransactions},
		{"secured", secured},
		{"events after a crash", eventsAfterACrash},
		{"loser tells for the winner", loserTells},
		{"zombie", zombie},
		{"landing zone away", landingAway},
		{"broker away", brokerAway},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b) })
	}
}

// deploy makes the topics of a site and the site. It returns the topic's id.
func deploy(t *testing.T, b *kafkatest.Broker, topic string, partitions int32, segment string) (*site, string) {
	t.Helper()
	id := b.CreateTopic(t, topic, partitions)
	b.CreateTopic(t, topic+".verdicts", 2)
	b.CreateTopic(t, topic+".dead", 1)
	return newSite(t, topic, []string{b.Plain}, "", segment), id
}

// produce sends flights [from, to) and remembers them.
func produce(t *testing.T, b *kafkatest.Broker, s *site, published *truth, from, to int) {
	t.Helper()
	b.Produce(t, s.topic, to-from, func(i int) *kgo.Record { return published.record(flightID(from+i), flight(from+i)) })
}

// chaos has three instances of one group killed, thrown out of their group and stopped for a while, again and again,
// while 300,000 records come in and the topic gets more partitions.
func chaos(t *testing.T, b *kafkatest.Broker) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA must name the folder with the evaluation data")
	}
	text, err := os.ReadFile(filepath.Join(data, "events", "flights.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	rows := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	const total, chunks = 300_000, 60
	random := chance(t)
	s, id := deploy(t, b, "chaos", 3, "{records: 1000, age: 150ms}")
	published := newTruth()
	// What is published is a row of the data with an id; every 1009th is cut off.
	record := func(i int) *kgo.Record {
		row := rows[i%len(rows)]
		value := append(fmt.Appendf(nil, `{"id":"%s",`, flightID(i)), row[1:]...)
		if i%1009 == 0 {
			value = value[:len(value)-9]
		}
		return published.record(flightID(i), value)
	}

	running := []*instance{s.start(), s.start(), s.start()}
	var producing sync.WaitGroup
	producing.Go(func() {
		for chunk := range chunks {
			began := time.Now()
			b.Produce(t, s.topic, total/chunks, func(i int) *kgo.Record { return record(chunk*total/chunks + i) })
			if chunk == chunks/3 {
				b.AddPartitions(t, s.topic, 3)
			}
			time.Sleep(800*time.Millisecond - time.Since(began))
		}
	})
	produced := make(chan struct{})
	go func() { producing.Wait(); close(produced) }()
	const killed, killedAndMissed, evicted, stopped = 0, 1, 2, 3
	var happened [4]int
	began := time.Now()
	for done := false; !done; {
		victim := random.IntN(len(running))
		select {
		case <-time.After(time.Duration(random.IntN(3000)) * time.Millisecond):
		case <-produced:
			done = true
		}
		if random.IntN(2) == 0 { // right after it has logged something: a commit, most often
			select {
			case <-running[victim].log.next():
			case <-time.After(2 * time.Second):
			}
		}
		what := random.IntN(len(happened))
		happened[what]++
		switch what {
		case killed, killedAndMissed:
			running[victim].kill()
		case stopped:
			running[victim].pause()
		}
		if what != killed {
			evict(t, []string{b.Plain}, s.group)
		}
		if what == stopped {
			time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
			running[victim].proceed()
		}
		if what == killed || what == killedAndMissed {
			running[victim] = s.start()
		}
	}
	s.awaitOffsets(id, total)
	t.Logf("%d kills, the whole group thrown out %d times, with an instance stopped %d times; all landed after %s", happened[killed]+happened[killedAndMissed],
		happened[killedAndMissed]+happened[evicted]+happened[stopped], happened[stopped], time.Since(began).Round(time.Millisecond))
	stopAll(running...)
	s.settle(6)

	published.places = map[string]place{}
	for _, r := range b.Read(t, s.topic) {
		published.places[string(r.Key)] = place{id, r.Partition, r.Offset}
	}
	flagged := published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, s.topic+".verdicts"), b.Read(t, s.topic+".dead"))
	if heads := s.heads(id); len(heads) != 6 {
		t.Errorf("records of %d partitions have landed, want 6", len(heads))
	}
	lost, removed := 0, 0
	for _, i := range s.all() {
		lost += strings.Count(i.log.text(), "another writer committed")
		removed += strings.Count(i.log.text(), "removed files")
	}
	t.Logf("%d lost commits, orphans removed %d times", lost, removed)
}

// topicMadeAgain deletes the topic and makes it again, while instances run and while none does.
func topicMadeAgain(t *testing.T, b *kafkatest.Broker) {
	const each = 1000
	s, first := deploy(t, b, "phoenix", 2, "{records: 500, age: 300ms}")
	published := newTruth()
	running := []*instance{s.start(), s.start()}
	produce(t, b, s, published, 0, each)
	s.awaitOffsets(first, each)

	b.DeleteTopic(t, s.topic)
	second := b.CreateTopic(t, s.topic, 2)
	produce(t, b, s, published, each, 2*each)
	s.awaitOffsets(second, each)
	stopAll(running...)

	b.DeleteTopic(t, s.topic)
	third := b.CreateTopic(t, s.topic, 3)
	produce(t, b, s, published, 2*each, 3*each)
	last := s.start()
	s.awaitOffsets(third, each)
	last.stop()

	published.compare(s)
	s.verify()
	incarnation := map[string]int{first: 0, second: 1, third: 2}
	lowest := map[place]int64{}
	s.cat(func(r row) {
		number, err := strconv.Atoi(r.id)
		if err != nil {
			t.Fatal(err)
		}
		if want, known := incarnation[r.Source]; !known || number/each != want {
			t.Fatalf("record %d landed as one of topic id %s", number, r.Source)
		}
		partition := place{source: r.Source, partition: r.Partition}
		if low, ok := lowest[partition]; !ok || r.Offset < low {
			lowest[partition] = r.Offset
		}
	})
	for partition, low := range lowest {
		if low != 0 {
			t.Errorf("%v begins at offset %d", partition, low)
		}
	}
}

// abortedTransactions wants what was aborted never to land, and its offsets to be counted as gaps.
func abortedTransactions(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "bank", 1, "{records: 100, age: 300ms}")
	published := newTruth()
	values := func(from, to int, keep bool) (all []string) {
		for i := from; i < to; i++ {
			if i%101 == 0 {
				continue // cut off: without a key nobody could tell which it is
			}
			value := flight(i)
			if keep {
				published.record(flightID(i), value)
			}
			all = append(all, string(value))
		}
		return all
	}
	running := s.start()
	offsets, gaps := int64(0), int64(0)
	transact := func(commit bool, values []string) {
		b.Transact(t, s.topic, 0, commit, values...)
		offsets += int64(len(values)) + 1
		gaps++
		if !commit {
			gaps += int64(len(values))
		}
	}
	transact(false, values(1, 20, false))
	transact(true, values(20, 60, true))
	transact(false, values(60, 80, false))
	s.awaitOffsets(id, offsets)
	transact(true, values(80, 100, true))
	transact(false, values(100, 130, false)) // at the end there is nothing but what was aborted
	s.awaitOffsets(id, offsets)
	running.stop()
	published.compare(s)
	s.verify()
	found := int64(0)
	for _, m := range s.manifests() {
		found += m.Gaps
	}
	if found != gaps {
		t.Errorf("the manifests count %d gaps, want %d", found, gaps)
	}
}

// secured runs over TLS with SCRAM, and wants clear words when the configuration does not fit.
func secured(t *testing.T, b *kafkatest.Broker) {
	const topic, password = "secured", "not the password"
	id := b.CreateTopic(t, topic, 1)
	b.CreateTopic(t, topic+".verdicts", 1)
	b.CreateTopic(t, topic+".dead", 1)
	tls := fmt.Sprintf("tls: {ca: %q}", b.Authority.CA)
	sasl := fmt.Sprintf(`sasl: {mechanism: SCRAM-SHA-512, username: %s, password: "${TASTER_TEST_PASSWORD}"}`, kafkatest.User)

	good := newSite(t, topic, []string{b.SASL}, tls+"\n  "+sasl, "{age: 300ms}")
	good.env = []string{"TASTER_TEST_PASSWORD=" + kafkatest.Password}
	published := newTruth()
	produce(t, b, good, published, 0, 500)
	running := good.start()
	good.awaitOffsets(id, 500)
	running.stop()
	published.compare(good)
	if strings.Contains(running.log.text(), kafkatest.Password) {
		t.Error("the log holds the password")
	}

	for name, wrong := range map[string]struct{ broker, kafka, words string }{
		"wrong password":      {b.SASL, tls + "\n  " + sasl, "check kafka.sasl"},
		"TLS to a plain port": {b.Plain, tls, "does not speak TLS"},
		"plain to a TLS port": {b.SASL, sasl, "kafka.tls"},
		"no TLS at all":       {b.TLS, "", "kafka.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, topic, []string{wrong.broker}, wrong.kafka, "{age: 300ms}")
			s.env = []string{"TASTER_TEST_PASSWORD=" + password}
			i := s.start()
			select {
			case <-i.ended:
			case <-time.After(patience):
				t.Fatal("it runs")
			}
			log := i.log.text()
			if code := i.cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(log, wrong.words) || strings.Contains(log, password) {
				t.Errorf("exit code %d, want %d with the words %q and without the password:\n%s", code, exitUsage, wrong.words, log)
			}
		})
	}
}

// obstruct puts a file where a folder of the landing zone stands or would stand, so that whatever is to be written or
// read below it fails, for root as well. The function that it returns puts the folder back.
func (s *site) obstruct(folder string) (clear func()) {
	s.t.Helper()
	path := filepath.Join(s.landing, folder)
	aside := filepath.Join(filepath.Dir(s.landing), strings.ReplaceAll("aside/"+folder, "/", "-"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	had := os.Rename(path, aside) == nil
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if err := os.Remove(path); err != nil {
			s.t.Fatal(err)
		}
		if had {
			if err := os.Rename(aside, path); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// eventsAfterACrash kills an instance after it has committed and before it could tell anybody, and wants another one
// to tell.
func eventsAfterACrash(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "told", 2, "{records: 1000, age: 300ms}")
	published := newTruth()
	produce(t, b, s, published, 0, 2000)
	first := s.start()
	s.awaitOffsets(id, 2000)
	first.await("segment committed")
	told := len(b.Read(t, "told.verdicts")) + len(b.Read(t, "told.dead"))

	clear := s.obstruct("_audit/commits")
	produce(t, b, s, published, 2000, 4000)
	within(t, "a commit", func() bool { return s.landedOffsets(id) > 2000 })
	within(t, "the audit log to fail", func() bool { return first.metric("taster_retries_total", `step="audit"`) > 0 })
	first.kill()
	evict(t, []string{b.Plain}, s.group)
	clear()

	second := s.start()
	produce(t, b, s, published, 4000, 5000)
	s.awaitOffsets(id, 5000)
	second.stop()
	flagged := published.compare(s)
	s.verify()
	verdicts, dead := b.Read(t, "told.verdicts"), b.Read(t, "told.dead")
	checkEvents(t, s.topic, flagged, verdicts, dead)
	t.Logf("%d events before the crash, %d in the end", told, len(verdicts)+len(dead))

	// An event topic that is not there holds everything up, and nothing is lost.
	third := s.start()
	third.await("partition assigned")
	b.DeleteTopic(t, "told.dead")
	produce(t, b, s, published, 5000, 6000)
	within(t, "a commit", func() bool { return s.landedOffsets(id) > 5000 })
	within(t, "publishing to fail", func() bool { return third.metric("taster_retries_total", `step="publish"`) > 0 })
	third.kill()
	evict(t, []string{b.Plain}, s.group)
	b.CreateTopic(t, "told.dead", 1)
	fourth := s.start()
	within(t, "both partitions to be taken over", func() bool { return strings.Count(fourth.log.text(), "partition assigned") == 2 })
	s.awaitOffsets(id, 6000)
	fourth.stop()
	flagged = published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, "told.verdicts"), slices.Concat(dead, b.Read(t, "told.dead")))
}

// loserTells has two writers at one partition. The one that was thought dead wins the commit and is killed before it
// tells anybody: the loser must tell in its place.
func loserTells(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "rivals", 1, "{records: 1000, age: 300ms}")
	published := newTruth()
	produce(t, b, s, published, 0, 1000)
	winner := s.start()
	s.awaitOffsets(id, 1000)

	clearCommits := s.obstruct("_commits/rivals")
	produce(t, b, s, published, 1000, 1800)
	winner.await("it is not known whether a commit succeeded")
	winner.pause()
	evict(t, []string{b.Plain}, s.group)
	loser := s.start()
	loser.await("partition assigned")
	loser.await("it is not known whether a commit succeeded")
	loser.pause()

	clearAudit := s.obstruct("_audit/commits")
	clearCommits()
	winner.proceed()
	within(t, "the first writer's commit", func() bool { return s.landedOffsets(id) > 1000 })
	winner.kill()
	clearAudit()
	loser.proceed()
	loser.await("another writer committed these offsets first")
	produce(t, b, s, published, 1800, 2000)
	s.awaitOffsets(id, 2000)
	loser.stop()
	flagged := published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, "rivals.verdicts"), b.Read(t, "rivals.dead"))
}

// zombie stops a process for longer than its session, in the middle of its work, and lets it go on when another one
// has taken its partitions over.
func zombie(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "zombie", 2, "{records: 100000, age: 1s}")
	published := newTruth()
	running := []*instance{s.start(), s.start()}
	running[0].await("partition assigned")
	running[1].await("partition assigned")
	produce(t, b, s, published, 0, 4000)
	s.awaitOffsets(id, 4000)

	produce(t, b, s, published, 4000, 8000)
	within(t, "a segment to be open", func() bool { return running[0].metric("taster_lag_records") == 0 })
	running[0].pause()
	produce(t, b, s, published, 8000, 12000)
	s.awaitOffsets(id, 12000) // by the other one alone, when the session has ended
	before := strings.Count(running[0].log.text(), "partition assigned")
	running[0].proceed()
	produce(t, b, s, published, 12000, 16000)
	running[0].await(`"lost":true`)
	s.awaitOffsets(id, 16000)

	// It is a member like any other again.
	within(t, "the former zombie to get a partition", func() bool { return strings.Count(running[0].log.text(), "partition assigned") > before })
	produce(t, b, s, published, 16000, 20000)
	s.awaitOffsets(id, 20000)
	stopAll(running...)
	flagged := published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, "zombie.verdicts"), b.Read(t, "zombie.dead"))
}

// landingAway takes parts of the landing zone away from under running instances, and then all of it.
func landingAway(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "disk", 2, "{records: 1000, age: 300ms}")
	published := newTruth()
	i := s.start()
	at := 0
	more := func(n int) {
		produce(t, b, s, published, at, at+n)
		at += n
	}
	more(2000)
	s.awaitOffsets(id, int64(at))
	healthy := func() {
		t.Helper()
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, _ := i.get(path); status != http.StatusOK {
				t.Errorf("%s says %d", path, status)
			}
		}
	}
	for _, away := range []struct {
		folder, step string
	}{{"_tmp", "commit"}, {"quarantined/disk", "commit"}, {"_commits/disk", "manifest"}, {"_audit/commits", "audit"}, {".", "commit"}} {
		before := i.metric("taster_retries_total", fmt.Sprintf("step=%q", away.step))
		clear := s.obstruct(away.folder)
		more(2000)
		within(t, "the failure of "+away.folder+" to be told", func() bool {
			return i.metric("taster_retries_total", fmt.Sprintf("step=%q", away.step)) > before
		})
		healthy()
		clear()
		s.awaitOffsets(id, int64(at))
	}
	// Files that cannot be written to their end, as on a disk that is full.
	lift := limit(t, i, 2000)
	before := i.metric("taster_retries_total", `step="commit"`)
	more(2000)
	within(t, "the full disk to be told", func() bool { return i.metric("taster_retries_total", `step="commit"`) > before })
	healthy()
	lift()
	s.awaitOffsets(id, int64(at))

	// A kill while the manifest cannot be written leaves files that nobody has committed. Whoever commits their offset
	// removes them.
	clear := s.obstruct("_commits/disk")
	more(2000)
	i.await("it is not known whether a commit succeeded", fmt.Sprintf(`"manifest":"_commits/disk/%s`, id))
	within(t, "files without a manifest", func() bool { return strings.Count(i.log.text(), "it is not known") > 3 })
	i.kill()
	evict(t, []string{b.Plain}, s.group)
	clear()
	i = s.start()
	i.await("removed files that a stopped writer left uncommitted")
	s.awaitOffsets(id, int64(at))

	// Who is told to stop meanwhile lands what it has when it can, and is watched until then.
	clear = s.obstruct("_tmp")
	more(2000)
	within(t, "the failure to be told", func() bool { return i.metric("taster_retries_total", `step="commit"`) > 0 })
	i.signal(syscall.SIGTERM)
	within(t, "the instance to be draining", func() bool { status, _ := i.get("/readyz"); return status == http.StatusServiceUnavailable })
	if status, _ := i.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz says %d during the drain", status)
	}
	clear()
	i.drained()
	if got := s.landedOffsets(id); got != int64(at) {
		t.Errorf("%d of %d offsets have landed after a drain", got, at)
	}

	flagged := published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, "disk.verdicts"), b.Read(t, "disk.dead"))
}

// brokerAway ends the broker during consumption and starts it again.
func brokerAway(t *testing.T, b *kafkatest.Broker) {
	s, id := deploy(t, b, "flicker", 3, "{records: 1000, age: 300ms}")
	published := newTruth()
	running := []*instance{s.start(), s.start()}
	produce(t, b, s, published, 0, 20_000)
	within(t, "the first records", func() bool { return s.landedOffsets(id) > 0 })
	b.Down()
	time.Sleep(3 * time.Second)
	for _, i := range running {
		if status, _ := i.get("/healthz"); status != http.StatusOK {
			t.Errorf("/healthz says %d while the broker is away", status)
		}
	}
	b.Up(t)
	produce(t, b, s, published, 20_000, 30_000)
	s.awaitOffsets(id, 30_000)
	stopAll(running...)
	flagged := published.compare(s)
	s.verify()
	checkEvents(t, s.topic, flagged, b.Read(t, "flicker.verdicts"), b.Read(t, "flicker.dead"))
}
