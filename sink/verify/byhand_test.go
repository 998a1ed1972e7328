package verify_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestByHand runs the commands that docs/landing-zone.md gives to who does not trust taster: they find a good zone
// good, and one that was touched not.
func TestByHand(t *testing.T) {
	for _, tool := range []string{"sh", "openssl", "sha256sum", "sed", "grep", "find"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s", tool)
		}
	}
	page, err := os.ReadFile("../../docs/landing-zone.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Verify it yourself\n")
	_, script, _ := strings.Cut(section, "\n```sh\n")
	script, _, found := strings.Cut(script, "\n```\n")
	if !found {
		t.Fatal("the page shows no commands")
	}
	zone := buildWhole(t)
	check := func(zone objects) (string, error) {
		dir := t.TempDir()
		for name, data := range zone {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		command := exec.CommandContext(t.Context(), "sh", "-c", script)
		command.Dir, command.Env = dir, append(os.Environ(), "TMPDIR="+t.TempDir())
		out, err := command.CombinedOutput()
		return string(out), err
	}
	if out, err := check(zone.objects); err != nil || out != "" {
		t.Fatalf("a good zone: %v\n%s", err, out)
	}
	for kind, is := range kinds {
		if kind == "sidecar" || kind == "sealed key" || kind == "copy" { // left to taster verify; the sealed key is named by checkpoint 0
			continue
		}
		var name string
		for _, candidate := range zone.names("") {
			if is(candidate) {
				name = candidate // the last: a superseded file is not looked at
			}
		}
		data := bytes.Clone(zone.objects[name])
		data[len(data)*3/4] ^= 2
		if out, err := check(zone.with(name, data)); err == nil || out == "" {
			t.Errorf("%s changed: %v\n%s", name, err, out)
		}
		if kind == "checkpoint" || kind == "reference" || kind == "state" {
			continue
		}
		if out, err := check(zone.with(name, nil)); err == nil || out == "" {
			t.Errorf("%s removed: %v\n%s", name, err, out)
		}
	}
	var added string
	for _, name := range zone.names("accepted/") {
		if kinds["file"](name) {
			added = strings.Replace(name, ".parquet", "0.parquet", 1)
		}
	}
	if out, err := check(zone.with(added, []byte("x"))); err == nil || !strings.Contains(out, added) {
		t.Errorf("a file added: %v\n%s", err, out)
	}
}
