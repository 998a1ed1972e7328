package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/cmd/internal/demo"
	"github.com/tasterhq/taster/schema/manifest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"taster": main})
}

// TestScripts runs the command line as a person would. Beside testscript's own commands there are
//
//	exits CODE PROGRAM ARG...     run a program and want that very exit code
//	json TEXT [PATH VALUE]...     TEXT is one JSON document and nothing else, and has these values
//	escape FILE                   put the byte in the place of each \xNN of a file
//	record FILE SIZE              append one JSON record of SIZE bytes, on a line
//	nested FILE DEPTH             append one JSON record that is nested so deep
//	reviews FILE KIND N SEED      write N reviews: history, labelled or traffic
//	kept CONFIG LANDING FILE      what was rejected is, byte for byte, what FILE has on its lines
//	first NAME PATTERN            set $NAME to the first file that a pattern names
//	change PATTERN OFFSET         change one bit of it; an OFFSET below 0 counts from the end
//	broker CONFIG TOPIC...        start an embedded broker; CONFIG gets its address in the place of ${BROKER}
//	publish TOPIC FILE            publish each line of FILE; "empty" and "tombstone" stand for themselves
//	landed LANDING N              wait until manifests cover N offsets
//
// TEXT is stdout, stderr or a file; stdout:3 is its third line. A PATH is made of names and indices with points
// between; a last part `length` is what it says. A VALUE that is JSON is compared as JSON; any other is a text.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "json": jsonCommand, "escape": escape, "record": bigRecord, "nested": nested, "reviews": reviews,
			"kept": kept, "change": change, "first": firstFile, "broker": broker, "publish": publish, "landed": landed,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args)%2 != 1 {
		ts.Fatalf("usage: json TEXT [PATH VALUE]...")
	}
	name, line, _ := strings.Cut(args[0], ":")
	text := ts.ReadFile(name)
	if line != "" {
		n, err := strconv.Atoi(line)
		ts.Check(err)
		lines := strings.SplitAfter(text, "\n")
		if n < 1 || n > len(lines) {
			ts.Fatalf("%s has %d lines", name, len(lines)-1)
		}
		text = lines[n-1]
	}
	var document any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&document); err != nil {
		ts.Fatalf("%s is no JSON document: %v", args[0], err)
	}
	if rest := strings.TrimSpace(text[d.InputOffset():]); rest != "" {
		ts.Fatalf("%s has more than one JSON document: %q", args[0], rest[:min(len(rest), 80)])
	}
	for i := 1; i < len(args); i += 2 {
		got, err := lookup(document, args[i])
		if err != nil {
			ts.Fatalf("%s: %s: %v", args[0], args[i], err)
		}
		var want any
		w := json.NewDecoder(strings.NewReader(args[i+1]))
		w.UseNumber()
		if err := w.Decode(&want); err != nil || w.More() {
			want = args[i+1]
		}
		gotText, err := json.Marshal(got)
		ts.Check(err)
		wantText, err := json.Marshal(want)
		ts.Check(err)
		if !bytes.Equal(gotText, wantText) {
			ts.Fatalf("%s: %s is %s, want %s", args[0], args[i], gotText, wantText)
		}
	}
}

func lookup(value any, path string) (any, error) {
	for part := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			inside, ok := v[part]
			if !ok && part == "length" {
				return len(v), nil
			}
			if !ok {
				return nil, fmt.Errorf("there is no %s", part)
			}
			value = inside
		case []any:
			if part == "length" {
				return len(v), nil
			}
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil, fmt.Errorf("a list of %d has no %s", len(v), part)
			}
			value = v[i]
		default:
			return nil, fmt.Errorf("%s would stand in %T", part, value)
		}
	}
	return value, nil
}

var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

func escape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: escape FILE")
	}
	text := escaped.ReplaceAllStringFunc(ts.ReadFile(args[0]), func(s string) string {
		b, err := strconv.ParseUint(s[2:], 16, 8)
		ts.Check(err)
		return string([]byte{byte(b)})
	})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func appendLine(ts *testscript.TestScript, name string, parts ...string) {
	file, err := os.OpenFile(ts.MkAbs(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = file.WriteString(strings.Join(parts, "") + "\n")
	ts.Check(errors.Join(err, file.Close()))
}

func bigRecord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: record FILE SIZE")
	}
	const head, tail = `{"id":"big","text":"`, `"}`
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	appendLine(ts, args[0], head, strings.Repeat("x", size-len(head)-len(tail)), tail)
}

func nested(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: nested FILE DEPTH")
	}
	depth, err := strconv.Atoi(args[1])
	ts.Check(err)
	appendLine(ts, args[0], `{"id":"deep","text":`, strings.Repeat("[", depth-1), strings.Repeat("]", depth-1), `}`)
}

func reviews(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: reviews FILE history|labelled|traffic N SEED")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	seed, err := strconv.ParseUint(args[3], 10, 64)
	ts.Check(err)
	text, err := reviewLines(args[1], n, seed)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

// reviewLines makes reviews of the demo's marketplace: trusted history, traffic with poison and broken records, or
// labelled traffic, where /poison tells the truth and nothing is broken.
func reviewLines(kind string, n int, seed uint64) ([]byte, error) {
	var records iter.Seq[demo.Record]
	switch kind {
	case "history":
		records = demo.History(seed, n)
	case "labelled", "traffic":
		records = demo.Traffic(seed, n)
	default:
		return nil, fmt.Errorf("no such reviews: %s", kind)
	}
	var text []byte
	for r := range records {
		if kind != "labelled" {
			text = append(append(text, r.Value...), '\n')
			continue
		}
		if r.Kind == demo.Broken {
			continue
		}
		poison := 1
		if r.Kind == demo.Clean {
			poison = 0
		}
		text = fmt.Appendf(text, `{"poison":%d,%s`+"\n", poison, bytes.TrimPrefix(r.Value, []byte("{")))
	}
	return text, nil
}

func kept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: kept CONFIG LANDING FILE")
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[2]), "\n"), "\n")
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"cat", "-c", ts.MkAbs(args[0]), ts.MkAbs(args[1]), "--verdict", "rejected"}, &stdout, &stderr); code != exitGood {
		ts.Fatalf("taster cat: exit code %d: %s", code, stderr.String())
	}
	d, found := json.NewDecoder(&stdout), 0
	for ; d.More(); found++ {
		var row struct {
			Offset int64   `json:"taster_offset"`
			Raw    *string `json:"taster_raw"`
		}
		ts.Check(d.Decode(&row))
		want := lines[row.Offset]
		if row.Raw == nil {
			if want != tombstone {
				ts.Fatalf("offset %d was kept as a tombstone", row.Offset)
			}
			continue
		}
		if want == empty {
			want = ""
		}
		if got, err := base64.StdEncoding.DecodeString(*row.Raw); err != nil || string(got) != want {
			ts.Fatalf("offset %d was not kept as it came: %.80q, %v", row.Offset, got, err)
		}
	}
	if found == 0 {
		ts.Fatalf("nothing was rejected")
	}
}

func change(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: change PATTERN OFFSET")
	}
	name, data := match(ts, args[0])
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.Chmod(name, 0o600))
	ts.Check(os.WriteFile(name, data, 0o600))
}

func firstFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: first NAME PATTERN")
	}
	name, _ := match(ts, args[1])
	ts.Setenv(args[0], name)
}

// match reads the first file that a pattern names.
func match(ts *testscript.TestScript, pattern string) (name string, data []byte) {
	names, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("no file is named %s", pattern)
	}
	data, err = os.ReadFile(names[0])
	ts.Check(err)
	return names[0], data
}

// What a line of a published file stands for when it is not the record itself.
const (
	empty     = "empty"
	tombstone = "tombstone"
)

func broker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: broker CONFIG TOPIC...")
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, args[1:]...))
	ts.Check(err)
	ts.Defer(cluster.Close)
	address := cluster.ListenAddrs()[0]
	ts.Setenv("BROKER", address)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(ts.ReadFile(args[0]), "${BROKER}", address)), 0o600))
}

func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: publish TOPIC FILE")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(ts.Getenv("BROKER")), kgo.DefaultProduceTopic(args[0]))
	ts.Check(err)
	defer client.Close()
	for line := range strings.SplitSeq(strings.TrimSuffix(ts.ReadFile(args[1]), "\n"), "\n") {
		value := []byte(line)
		switch line {
		case empty:
			value = []byte{}
		case tombstone:
			value = nil
		}
		ts.Check(client.ProduceSync(context.Background(), &kgo.Record{Key: []byte("k"), Value: value}).FirstErr())
	}
}

func landed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: landed LANDING N")
	}
	want, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	var covered int64
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		covered = 0
		names, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "_commits", "*", "*", "*", "*.json"))
		ts.Check(err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			ts.Check(err)
			m, err := manifest.Decode(data)
			ts.Check(err)
			covered += m.Next - m.First
		}
		if covered >= want {
			return
		}
	}
	ts.Fatalf("manifests cover %d offsets, want %d", covered, want)
}
