//go:build linux

package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// programs builds taster twice: as it is deployed, and with the points at which it can be made to die.
var programs = sync.OnceValues(func() (p struct{ plain, torture string }, err error) {
	dir, err := os.MkdirTemp("", "taster-torture-bin-")
	if err != nil {
		return p, err
	}
	p.plain, p.torture = filepath.Join(dir, "taster"), filepath.Join(dir, "taster-torture")
	for _, args := range [][]string{{"-o", p.plain}, {"-tags", "torture", "-o", p.torture}} {
		out, err := exec.Command("go", append(append([]string{"build"}, args...), "../../taster")...).CombinedOutput()
		if err != nil {
			return p, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return p, nil
})

var built atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if built.Load() {
		if p, err := programs(); err == nil {
			_ = os.RemoveAll(filepath.Dir(p.plain))
		}
	}
	os.Exit(code)
}

// topic is the one that all sites consume, with so many partitions.
const (
	topic      = "cells"
	partitions = 3
)

// site is where taster is deployed: a configuration with one contract, keys, logs and a landing zone.
//
//	conf/      configuration, contract, keys
//	input/     files for backfill
//	disk/      a file system of its own, where that can be had
//	disk/landing
//	logs/      what the instances printed, and their metrics
type site struct {
	t       testing.TB
	dir     string
	config  string
	landing string
	group   string
	disk    disk
	keys    *keyService

	mu        sync.Mutex
	processes []*process
}

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "required": ["id", "note", "size", "secret"],
  "properties": {
    "id": {"type": "string"},
    "note": {"type": "string"},
    "size": {"type": "integer"},
    "secret": {"type": "string"}
  }
}
`

// newSite prepares a site. keyMaterial says where files have their wrapped keys: internal or external.
func newSite(t testing.TB, dir string, brokers []string, keys *keyService, group, marker, keyMaterial string) *site {
	t.Helper()
	s := &site{t: t, dir: dir, config: filepath.Join(dir, "conf", "taster.yaml"), landing: filepath.Join(dir, "disk", "landing"), group: group, keys: keys}
	for _, folder := range []string{"conf", "input", "disk", "logs"} {
		s.must(os.MkdirAll(filepath.Join(dir, folder), 0o755))
	}
	s.disk = openDisk(filepath.Join(dir, "disk"))
	write := func(name, text string) { s.must(os.WriteFile(filepath.Join(dir, "conf", name), []byte(text), 0o600)) }
	write("taster.yaml", fmt.Sprintf(`kafka:
  brokers: [%s]
  group: %s
  verdicts: verdicts
  dead_letters: dead
contracts: [cells.yaml]
landing:
  url: file://%s
  segment: {records: 25, age: 60ms}
  key_material: %s
keys: {default: "hashivault://torture", accepted: "keyfile://./keys.json#default", quarantined: "keyfile://./keys.json#quarantined", restricted: "keyfile://./keys.json#restricted"}
listen: 127.0.0.1:0
log: {format: json, level: debug}
`, strings.Join(brokers, ", "), group, s.landing, keyMaterial))
	write("cells.yaml", "topic: "+topic+"\nowner: me\nclassification: internal\nschema: cells.schema.json\nrestricted: [/secret]\n"+
		"roles: {id: /id, text: [/note], features: [/size]}\ndetect: {reference: cells@latest}\n")
	write("cells.schema.json", schema)
	if out, err := s.command("keys", "init", filepath.Join(dir, "conf", "keys.json")).CombinedOutput(); err != nil {
		t.Fatalf("keys init: %v: %s", err, out)
	}
	// Segments are small here, and only against a reference can a single record of a small segment be known for an outlier.
	clean := filepath.Join(dir, "conf", "clean.jsonl")
	var rows []byte
	for i := range 3000 {
		rows = fmt.Appendf(rows, `{"id":"r%04d","note":"plain words %s","size":%d,"secret":"s %s"}`+"\n", i, marker, i%97, marker)
	}
	s.must(os.WriteFile(clean, rows, 0o600))
	if out, err := s.command("fit", "-c", s.config, "--contract", topic, clean).CombinedOutput(); err != nil {
		t.Fatalf("fit: %v: %s", err, out)
	}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// close ends what still runs and removes the site, or keeps it if something was wrong.
func (s *site) close(keep bool) {
	for _, p := range s.running() {
		p.kill()
	}
	if keep {
		s.disk.keep(filepath.Join(s.dir, "kept"))
	}
	s.disk.close()
	if !keep {
		_ = os.RemoveAll(s.dir)
	}
}

// command prepares the program as it is deployed.
func (s *site) command(args ...string) *exec.Cmd {
	p, err := programs()
	built.Store(true)
	s.must(err)
	cmd := exec.Command(p.plain, args...)
	cmd.Env = append(os.Environ(), s.keys.env()...)
	return cmd
}

// process is one process of taster.
type process struct {
	s      *site
	number int
	cmd    *exec.Cmd
	log    *os.File
	ended  chan struct{}
	err    error // of Wait, when ended is closed
}

// start starts an instance of taster run with an environment of its own.
func (s *site) start(env ...string) *process { return s.launch(env, "run", "-c", s.config) }

// launch starts the program that can be made to die.
func (s *site) launch(env []string, args ...string) *process {
	s.t.Helper()
	programs, err := programs()
	built.Store(true)
	s.must(err)
	return s.spawn(exec.Command(programs.torture, args...), env)
}

func (s *site) spawn(cmd *exec.Cmd, env []string) *process {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &process{s: s, number: len(s.processes), cmd: cmd, ended: make(chan struct{})}
	var err error
	p.log, err = os.Create(filepath.Join(s.dir, "logs", fmt.Sprintf("%04d.log", p.number)))
	s.must(err)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	p.cmd.Env = slices.Concat(os.Environ(), s.keys.env(), env)
	if len(env) > 0 {
		fmt.Fprintln(p.log, "environment:", strings.Join(env, " "))
	}
	s.must(p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		_ = p.log.Close()
		close(p.ended)
	}()
	s.processes = append(s.processes, p)
	return p
}

func (s *site) running() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*process
	for _, p := range s.processes {
		if p.alive() {
			all = append(all, p)
		}
	}
	return all
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// signal does nothing to a process that has ended.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

func (p *process) text() string {
	text, err := os.ReadFile(p.log.Name())
	p.s.must(err)
	return string(text)
}

// await waits until the log holds words, and tells whether it does.
func (p *process) await(words string, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(3 * time.Millisecond) {
		alive := p.alive()
		if strings.Contains(p.text(), words) {
			return true
		}
		if !alive || time.Now().After(deadline) {
			return false
		}
	}
}

// within waits for the process to end, and tells whether it has.
func (p *process) within(limit time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// drainTime is how long an instance that works may take to end.
const drainTime = 60 * time.Second

// stop asks the process to land what it has and end, and returns why it did not end well.
func (p *process) stop() error {
	p.await(`"msg":"listening"`, drainTime) // before that it may not listen to signals either
	p.signal(syscall.SIGTERM)
	if !p.within(drainTime) {
		p.signal(syscall.SIGQUIT) // ends it with the stacks of all goroutines
		<-p.ended
		return fmt.Errorf("instance %d did not end within %s of SIGTERM", p.number, drainTime)
	}
	if p.err != nil {
		return fmt.Errorf("instance %d: %w", p.number, p.err)
	}
	return nil
}

// metrics keeps what the instance answers, if it does.
func (p *process) metrics() {
	for line := range strings.Lines(p.text()) {
		var listening struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &listening) != nil || listening.Msg != "listening" {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listening.Address+"/metrics", nil)
		p.s.must(err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return // it may have died
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil {
			p.s.must(os.WriteFile(filepath.Join(p.s.dir, "logs", fmt.Sprintf("%04d.metrics", p.number)), text, 0o600))
		}
		return
	}
}

// head is where a partition of the topic ends in the landing zone.
func (s *site) head(topicID string, partition int32) (int64, error) {
	source := record.Source{Topic: topic, ID: topicID, Partition: partition}
	folder := filepath.Join(s.landing, filepath.FromSlash(manifest.Folder(source)))
	names, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(folder, names[len(names)-1].Name()))
	if err != nil {
		return 0, err
	}
	m, err := manifest.Decode(text)
	if err != nil {
		return 0, err
	}
	return m.Next, nil
}

// row is what taster cat prints of one record.
type row struct {
	ID        string
	Source    string   `json:"taster_source"`
	Partition int32    `json:"taster_partition"`
	Offset    int64    `json:"taster_offset"`
	Verdict   string   `json:"taster_verdict"`
	Reasons   []string `json:"taster_reasons"`
	Raw       []byte   `json:"taster_raw"`

	own []byte // the record as JSON: its own fields, or the raw bytes
}

// cat reads the landing zone with the real command.
func (s *site) cat() (rows []row, err error) {
	cmd := s.command("cat", "-c", s.config, s.landing)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runErr := cmd.Run()
	for line := range bytes.Lines(stdout.Bytes()) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		var r row
		if err := json.Unmarshal(line, &r); err != nil {
			return rows, fmt.Errorf("cat printed what is no JSON: %w", err)
		}
		if r.Verdict == "rejected" {
			r.own = r.Raw
		} else {
			own, _, found := bytes.Cut(line, []byte(`,"taster_topic":`))
			if !found {
				return rows, errors.New("cat printed a row without columns of taster's")
			}
			r.own = append(bytes.Clone(own), '}')
		}
		rows = append(rows, r)
	}
	if runErr != nil {
		return rows, fmt.Errorf("cat: %w: %s", runErr, tail(stderr.String(), 5))
	}
	return rows, nil
}

// verify runs the real command without keys and with them, and returns what it has to complain of. What it says of files
// that writers left who died while they were throwing them away is not among that: the zone's documentation allows
// them, and they are counted.
func (s *site) verify() (orphans int, err error) {
	var faults []error
	for _, args := range [][]string{{"verify", s.landing, "-o", "json"}, {"verify", "-c", s.config, s.landing, "-o", "json"}} {
		cmd := s.command(args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		runErr := cmd.Run()
		var report struct {
			OK       bool
			Problems []struct{ Code, Object, Detail string }
		}
		if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || report.OK != (runErr == nil) {
			faults = append(faults, fmt.Errorf("%s: %w\n%s", strings.Join(args[:2], " "), errors.Join(runErr, err), tail(stderr.String(), 20)))
			continue
		}
		orphans = 0
		for _, p := range report.Problems {
			decider := ""
			if name, err := manifest.ParseFileName(p.Object); p.Code == "file_unlisted" && err == nil {
				decider = name.Decider()
			}
			if name, err := manifest.ParseSealedName(p.Object); (p.Code == "state_unlisted" || p.Code == "recalls_unlisted") && err == nil {
				decider = manifest.Name(name.Source, name.First)
			}
			if _, err := os.Stat(filepath.Join(s.landing, decider)); decider != "" && err == nil {
				orphans++
				continue
			}
			faults = append(faults, fmt.Errorf("%s: %s: %s: %s", strings.Join(args[:2], " "), p.Code, p.Object, p.Detail))
		}
	}
	return orphans, errors.Join(faults...)
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
