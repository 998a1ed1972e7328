//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// patience is for whatever must happen sooner or later, on a busy machine.
const patience = 90 * time.Second

// drainTime is how long an instance that works may take to end.
const drainTime = 45 * time.Second

// binary returns the program that the tests start. It is the test's own binary under the name taster, see TestMain.
var binary = func(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("taster")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// site is a place where taster is deployed: a configuration with one contract, keys and a landing zone. Any number of
// instances run there.
type site struct {
	t       *testing.T
	topic   string
	config  string
	landing string
	group   string
	env     []string // for the instances, beside the test's own

	mu        sync.Mutex
	instances []*instance
}

const flightSchema = `{
  "type": "object",
  "additionalProperties": false,
  "required": ["id", "date", "delay", "distance", "origin", "destination"],
  "properties": {
    "id": {"type": "string"},
    "date": {"type": "string"},
    "delay": {"type": "integer"},
    "distance": {"type": "integer"},
    "origin": {"type": "string"},
    "destination": {"type": "string"}
  }
}
`

// newSite prepares a site for one topic of flights. kafka holds further members of the configuration's kafka mapping;
// segment says when a segment ends. Its event topics are TOPIC.verdicts and TOPIC.dead.
func newSite(t *testing.T, topic string, brokers []string, kafka, segment string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, topic: topic, config: filepath.Join(dir, "taster.yaml"), landing: filepath.Join(dir, "landing"), group: "group-" + topic}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("taster.yaml", fmt.Sprintf(`kafka:
  brokers: [%s]
  group: %s
  verdicts: %s.verdicts
  dead_letters: %s.dead
  %s
contracts: [flights.yaml]
landing:
  url: file://./landing
  segment: %s
keys: {default: "keyfile://./keys.json#default", restricted: "keyfile://./keys.json#restricted"}
listen: 127.0.0.1:0
log: {format: json, level: info}
`, strings.Join(brokers, ", "), s.group, topic, topic, kafka, segment))
	write("flights.yaml", fmt.Sprintf("topic: %s\nowner: me\nclassification: internal\nschema: flights.schema.json\nrestricted: [/destination]\n"+
		"roles: {id: /id, features: [/delay, /distance]}\n", topic))
	write("flights.schema.json", flightSchema)
	if out, err := exec.Command(binary(t), "keys", "init", filepath.Join(dir, "keys.json")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(s.close)
	return s
}

// close ends what still runs, and shows the logs of a test that failed. They hold no content.
func (s *site) close() {
	for _, i := range s.all() {
		i.kill()
		log := i.log.text()
		if strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:") {
			s.t.Errorf("instance %d crashed or raced:\n%s", i.number, log)
		} else if s.t.Failed() {
			s.t.Logf("instance %d, its last words:\n%s", i.number, tail(log, 40))
		}
	}
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

func (s *site) all() []*instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.instances)
}

// instance is one process of taster run.
type instance struct {
	t      *testing.T
	number int
	cmd    *exec.Cmd
	log    *logFile
	ended  chan struct{}
	err    error // of Wait, when ended is closed
}

// start starts an instance. It returns at once.
func (s *site) start() *instance {
	s.t.Helper()
	i := &instance{t: s.t, cmd: exec.Command(binary(s.t), "run", "-c", s.config), log: newLogFile(), ended: make(chan struct{})}
	i.cmd.Env = append(os.Environ(), s.env...)
	i.cmd.Stderr = i.log
	if err := i.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		i.err = i.cmd.Wait()
		close(i.ended)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	i.number = len(s.instances)
	s.instances = append(s.instances, i)
	return i
}

// kill is kill -9.
func (i *instance) kill() {
	_ = i.cmd.Process.Kill()
	<-i.ended
}

// pause stops the process as a machine that is suspended does, and proceed lets it go on.
func (i *instance) pause()   { i.signal(syscall.SIGSTOP) }
func (i *instance) proceed() { i.signal(syscall.SIGCONT) }

func (i *instance) signal(s syscall.Signal) {
	i.t.Helper()
	if err := i.cmd.Process.Signal(s); err != nil {
		i.t.Fatal(err)
	}
}

// stop asks the instance to drain and end, and wants it to have succeeded.
func (i *instance) stop() {
	i.t.Helper()
	i.await(`"msg":"listening"`) // before that it may not have come to listen to signals either
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Errorf("instance %d: %v", i.number, err)
	}
	i.drained()
}

// drained waits until an instance that was asked to end has, and wants it to have succeeded.
func (i *instance) drained() {
	i.t.Helper()
	select {
	case <-i.ended:
	case <-time.After(drainTime):
		_ = i.cmd.Process.Signal(syscall.SIGQUIT) // ends it with the stacks of all goroutines
		<-i.ended
		i.t.Errorf("instance %d did not end within %s of SIGTERM:\n%s", i.number, drainTime, i.log.text())
		return
	}
	if i.err != nil {
		i.t.Errorf("instance %d: %v\n%s", i.number, i.err, tail(i.log.text(), 10))
	}
}

// stopAll stops instances at once, as a deployment that goes down does.
func stopAll(instances ...*instance) {
	var wg sync.WaitGroup
	for _, i := range instances {
		wg.Go(i.stop)
	}
	wg.Wait()
}

// await waits until a line of the log holds all words, and returns it.
func (i *instance) await(words ...string) string {
	i.t.Helper()
	line := ""
	within(i.t, fmt.Sprintf("instance %d to log %q", i.number, words), func() bool {
		line = i.log.find(words...)
		return line != ""
	})
	return line
}

// within polls until done.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// get asks the instance's own server, and returns status 0 when it does not answer.
func (i *instance) get(path string) (status int, body string) {
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(i.await(`"msg":"listening"`)), &line); err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(i.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+line.Address+path, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

// metric adds up the samples of a metric that have all labels, each written name="value".
func (i *instance) metric(name string, labels ...string) float64 {
	_, body := i.get("/metrics")
	sum := 0.0
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, name) || !strings.ContainsRune("{ ", rune(line[len(name)])) ||
			slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(line, l) }) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			i.t.Fatalf("metric %s: %v", name, err)
		}
		sum += v
	}
	return sum
}

// logFile takes in what an instance prints.
type logFile struct {
	mu    sync.Mutex
	data  []byte
	grown chan struct{} // closed and replaced with every line
}

func newLogFile() *logFile { return &logFile{grown: make(chan struct{})} }

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, b...)
	close(l.grown)
	l.grown = make(chan struct{})
	return len(b), nil
}

func (l *logFile) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.data)
}

// next returns a channel that is closed when more is printed.
func (l *logFile) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// find returns the first line that holds all words.
func (l *logFile) find(words ...string) string {
	for line := range strings.Lines(l.text()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return line
		}
	}
	return ""
}

// heads returns how far each partition of one incarnation of the topic has landed.
func (s *site) heads(topicID string) map[int]int64 {
	heads := map[int]int64{}
	folder := filepath.Dir(filepath.Join(s.landing, filepath.FromSlash(manifest.Folder(record.Source{Topic: s.topic, ID: topicID}))))
	partitions, _ := os.ReadDir(folder) // not there yet: nothing has landed
	for _, p := range partitions {
		number, err := strconv.Atoi(p.Name())
		if err != nil {
			s.t.Fatal(err)
		}
		names, err := os.ReadDir(filepath.Join(folder, p.Name()))
		if err != nil || len(names) == 0 {
			continue
		}
		var m struct{ Next int64 }
		text, err := os.ReadFile(filepath.Join(folder, p.Name(), names[len(names)-1].Name()))
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		heads[number] = m.Next
	}
	return heads
}

// manifests reads every manifest of the landing zone.
func (s *site) manifests() []manifest.Manifest {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.landing, "_commits", "*", "*", "*", "*.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	all := make([]manifest.Manifest, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			s.t.Fatal(err)
		}
		m, err := manifest.Decode(text)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, *m)
	}
	return all
}

// landedOffsets adds up heads: the number of records, if every offset has one.
func (s *site) landedOffsets(topicID string) int64 {
	var sum int64
	for _, next := range s.heads(topicID) {
		sum += next
	}
	return sum
}

func (s *site) awaitOffsets(topicID string, want int64) {
	s.t.Helper()
	var got int64
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		if got = s.landedOffsets(topicID); got >= want {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d offsets have landed after %s: %v", got, want, 2*patience, s.heads(topicID))
		}
	}
	if got != want {
		s.t.Fatalf("%d offsets have landed, and there are only %d", got, want)
	}
}

// settle has one more instance own every partition for a moment, and removes what is left over. An instance that dies
// between its commit and its events leaves them to the partition's next owner, and its files to that one or to tidy:
// nothing may be counted before there was one.
func (s *site) settle(partitions int) {
	s.t.Helper()
	last := s.start()
	within(s.t, "every partition to be taken over", func() bool { return strings.Count(last.log.text(), "partition assigned") == partitions })
	last.stop()
	cmd := exec.Command(binary(s.t), "tidy", "-c", s.config, "--grace", "0s")
	cmd.Env = append(os.Environ(), s.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("tidy: %v\n%s", err, tail(string(out), 60))
	}
}

// row is what taster cat prints of one record.
type row struct {
	Topic     string   `json:"taster_topic"`
	Source    string   `json:"taster_source"`
	Partition int32    `json:"taster_partition"`
	Offset    int64    `json:"taster_offset"`
	Verdict   string   `json:"taster_verdict"`
	Reasons   []string `json:"taster_reasons"`
	Key       []byte   `json:"taster_key"`
	Raw       []byte   `json:"taster_raw"`

	id  string
	own []byte // the record as JSON: its own fields, or the raw bytes
}

// place is a row's, or an event's.
type place struct {
	source    string
	partition int32
	offset    int64
}

// cat prints the landing zone with the real command, and hands over every row.
func (s *site) cat(each func(row)) {
	s.t.Helper()
	cmd := exec.Command(binary(s.t), "cat", "-c", s.config, s.landing)
	cmd.Env = append(os.Environ(), s.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Verdict == "rejected" {
			r.id, r.own = string(r.Key), r.Raw
		} else {
			// A record's own columns come first, in the order of its schema.
			own, _, found := bytes.Cut(lines.Bytes(), []byte(`,"taster_topic":`))
			var id struct{ ID string }
			if err := json.Unmarshal(lines.Bytes(), &id); err != nil || !found {
				s.t.Fatalf("a row without columns of taster's: %v", err)
			}
			r.id, r.own = id.ID, append(bytes.Clone(own), '}')
		}
		each(r)
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		s.t.Fatalf("cat: %v\n%s", err, stderr.String())
	}
}

// verify runs the real command with keys, and wants the landing zone to be good: no file may be there that nobody
// committed.
func (s *site) verify() {
	s.t.Helper()
	for _, args := range [][]string{{"verify", s.landing, "-o", "json"}, {"verify", "-c", s.config, s.landing, "-o", "json"}} {
		cmd := exec.Command(binary(s.t), args...)
		cmd.Env = append(os.Environ(), s.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Errorf("%v: %v\n%s", args, err, tail(string(out), 60))
		}
	}
}

// truth is what was published, by id.
type truth struct {
	mu     sync.Mutex
	values map[string][]byte
	places map[string]place // where the broker has them; nil: that is not checked
}

func newTruth() *truth { return &truth{values: map[string][]byte{}} }

// record remembers a record and makes it one of Kafka's, with the id as its key.
func (tr *truth) record(id string, value []byte) *kgo.Record {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.values[id] = value
	return &kgo.Record{Key: []byte(id), Value: value}
}

// compare reads the landing zone back and wants every record that was published, as it was, once, and nothing else.
// It returns the rows that were not accepted.
func (tr *truth) compare(s *site) map[place]row {
	s.t.Helper()
	flagged := map[place]row{}
	found, doubled, strange, changed := map[string]bool{}, 0, 0, 0
	places := map[place]bool{}
	counts := map[string]int{}
	s.cat(func(r row) {
		counts[r.Verdict]++
		at := place{r.Source, r.Partition, r.Offset}
		want, known := tr.values[r.id]
		switch {
		case !known || r.Topic != s.topic:
			strange++
		case found[r.id] || places[at]:
			doubled++
		case !bytes.Equal(want, r.own), tr.places != nil && tr.places[r.id] != at:
			changed++
		}
		found[r.id], places[at] = true, true
		if r.Verdict != "accepted" {
			r.own, r.Raw, r.Key = nil, nil, nil
			flagged[at] = r
		}
	})
	lost := len(tr.values) - len(found) + strange
	if lost > 0 || doubled > 0 || strange > 0 || changed > 0 {
		s.t.Errorf("of %d records %d are lost, %d doubled, %d changed, and %d were never published", len(tr.values), lost, doubled, changed, strange)
	}
	s.t.Logf("%d records: %v", len(tr.values), counts)
	return flagged
}

// checkEvents wants every flagged row to have been told, by exactly the members that may be told, and no other.
func checkEvents(t *testing.T, topic string, flagged map[place]row, verdicts, deadLetters []*kgo.Record) {
	t.Helper()
	told := map[place]bool{}
	repeated := 0
	for name, events := range map[string][]*kgo.Record{"verdicts": verdicts, "dead letters": deadLetters} {
		for _, e := range events {
			var members map[string]json.RawMessage
			var event struct {
				Topic     string
				TopicID   string `json:"topic_id"`
				Partition int32
				Offset    int64
				Verdict   string
				Reasons   []string
			}
			if err := errors.Join(json.Unmarshal(e.Value, &members), json.Unmarshal(e.Value, &event)); err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, []string{"offset", "partition", "reasons", "topic", "topic_id", "verdict"}) || len(e.Headers) > 0 {
				t.Fatalf("%s: an event has the members %v and %d headers", name, got, len(e.Headers))
			}
			at := place{event.TopicID, event.Partition, event.Offset}
			if want := fmt.Sprintf("%s/%d/%d", at.source, at.partition, at.offset); string(e.Key) != want {
				t.Fatalf("%s: the event of %s has another key", name, want)
			}
			r, ok := flagged[at]
			if !ok || event.Topic != topic || event.Verdict != r.Verdict || !slices.Equal(event.Reasons, r.Reasons) || (event.Verdict == "rejected") != (name == "dead letters") {
				t.Fatalf("%s: the event of %v says %s %v, and the landing zone %s %v", name, at, event.Verdict, event.Reasons, r.Verdict, r.Reasons)
			}
			if told[at] {
				repeated++
			}
			told[at] = true
		}
	}
	if len(told) != len(flagged) {
		t.Errorf("%d of %d flagged records were told", len(told), len(flagged))
	}
	t.Logf("%d records told, %d events repeated", len(told), repeated)
}

// evict takes every member out of a group at once, as the group does with members that it has not heard of for the
// session timeout. Those that live find out with their next heartbeat, and until then are writers who believe that
// they own what others own.
func evict(t *testing.T, brokers []string, group string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var groups kadm.DescribedGroups
	for { // a broker that has only just started has no coordinator for a while
		if groups, err = kadm.NewClient(cl).DescribeGroups(ctx, group); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, m := range groups[group].Members {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = m.MemberID
		req.Members = append(req.Members, member)
	}
	if _, err := req.RequestWith(ctx, cl); err != nil {
		t.Fatal(err)
	}
}

// topicIDOf returns a topic's id as Kafka's tools spell it.
func topicIDOf(t *testing.T, cl *kgo.Client, topic string) string {
	t.Helper()
	topics, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	id := topics[topic].ID
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// readAll returns all records of a topic without transactions.
func readAll(t *testing.T, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var records []*kgo.Record
	for int64(len(records)) < total {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
