package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tasterhq/taster/cmd/internal/demo"
)

// snippet is a fenced block of a document.
type snippet struct {
	language string
	line     int // of its first line
	text     string
}

var fence = regexp.MustCompile("^ *```([a-z]*) *$")

func snippets(t *testing.T, text string) (found []snippet) {
	t.Helper()
	open := false
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && !open:
			open = true
			found = append(found, snippet{language: m[1], line: i + 2})
		case m != nil:
			open = false
		case open:
			found[len(found)-1].text += line + "\n"
		}
	}
	if open {
		t.Errorf("line %d: the block is never closed", found[len(found)-1].line-1)
	}
	return found
}

func documents(t *testing.T) map[string]string {
	t.Helper()
	const root = "../../"
	names, err := filepath.Glob(root + "docs/*.md")
	if err != nil || len(names) < 5 {
		t.Fatalf("found only %d documents: %v", len(names), err)
	}
	texts := map[string]string{}
	for _, name := range append(names, root+"README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(name, root)] = string(text)
	}
	return texts
}

// TestSnippetsParse holds what stands in documents to the syntax that it is given out for.
func TestSnippetsParse(t *testing.T) {
	parsed := map[string]int{}
	for name, text := range documents(t) {
		for _, s := range snippets(t, text) {
			parsed[s.language]++
			var err error
			switch s.language {
			case "sh":
				if runtime.GOOS == "windows" {
					continue
				}
				command := exec.Command("sh", "-n")
				command.Stdin = strings.NewReader(s.text)
				err = command.Run()
			case "yaml":
				var document any
				d := yaml.NewDecoder(strings.NewReader(s.text))
				for err == nil {
					err = d.Decode(&document)
				}
				if errors.Is(err, io.EOF) {
					err = nil
				}
			case "json":
				var document any
				err = json.Unmarshal([]byte(s.text), &document)
			case "", "console", "python", "mermaid":
			default:
				t.Errorf("%s:%d: nobody checks a block of %s", name, s.line, s.language)
			}
			if err != nil {
				t.Errorf("%s:%d: the %s is none: %v", name, s.line, s.language, err)
			}
		}
	}
	for _, language := range []string{"sh", "yaml", "json", "console"} {
		if parsed[language] == 0 {
			t.Errorf("no document has a block of %s: the test shows nothing", language)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinksLeadSomewhere follows every link from one document to another file of the project.
func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			links++
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	}
	if links < 10 {
		t.Errorf("found only %d links: the test shows nothing", links)
	}
}

// TestSnippetsRun runs every command line that documents show, as a reader would, in a folder that holds what the
// documents speak of. A document that shows the demo begins in an empty folder and lives on what the demo leaves.
func TestSnippetsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every command in the documents")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh to run them with")
	}
	shown := 0
	for name, text := range documents(t) {
		var commands []snippet
		withDemo := false
		for _, s := range snippets(t, text) {
			if s.language != "console" {
				continue
			}
			joined := strings.ReplaceAll(s.text, "\\\n", " ")
			for i, line := range strings.Split(joined, "\n") {
				if command, ok := strings.CutPrefix(line, "$ taster "); ok {
					commands = append(commands, snippet{line: s.line + i, text: command})
					withDemo = withDemo || strings.HasPrefix(command, "demo")
				}
			}
		}
		if len(commands) == 0 {
			continue
		}
		shown += len(commands)
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if !withDemo {
				prepare(t, folder)
			}
			for _, c := range commands {
				text := c.text
				switch verb, _, _ := strings.Cut(text, " "); verb {
				case "run": // would never end; that its flags are known is all that can be tried
					text += " --help"
				case "demo": // the last of two flags holds
					text += " --records 2000"
				}
				var stderr bytes.Buffer
				command := exec.CommandContext(t.Context(), "sh", "-c", "taster "+text)
				command.Dir, command.Stdout, command.Stderr = folder, io.Discard, &stderr
				if err := command.Run(); err != nil {
					t.Errorf("%s:%d: taster %s: %v\n%s", name, c.line, text, err, stderr.String())
				}
			}
		})
	}
	if shown < 10 {
		t.Errorf("found only %d commands: the test shows nothing", shown)
	}
}

// prepare makes the folder that the guides speak of: the demo's contract, keys and configuration, trusted history,
// labelled and good records, and a landing zone.
func prepare(t *testing.T, folder string) {
	t.Helper()
	landing := filepath.Join(folder, "landing")
	if _, err := demo.WriteConfig(folder, landing, []string{"localhost:9092"}); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"reviews.yaml": "contracts/reviews.yaml", "reviews.schema.json": "contracts/reviews.schema.json"} {
		text, err := os.ReadFile(filepath.Join(folder, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{ // a schema that is not compiled whole
		"orders.yaml": "topic: orders\nowner: marketplace-team\nclassification: internal\nschema: orders.json\n",
		"orders.json": `{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "type": "object",
  "properties": {
    "id": {"type": "string"},
    "invoice": {"type": "string", "contentMediaType": "application/json"}
  }
}`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		name, kind string
		n          int
		seed       uint64
	}{{"good.jsonl", "history", 20, 1}, {"history.jsonl", "history", 400, 2}, {"labelled.jsonl", "labelled", 600, 3}, {"traffic.jsonl", "traffic", 400, 4}} {
		text, err := reviewLines(f.kind, f.n, f.seed)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, f.name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	arguments := []string{"backfill", "-c", filepath.Join(folder, "taster.yaml"), "--contract", "reviews", filepath.Join(folder, "traffic.jsonl")}
	if code := run(context.Background(), arguments, &stdout, &stderr); code != exitGood {
		t.Fatalf("backfill: exit code %d: %s", code, stderr.String())
	}
}
