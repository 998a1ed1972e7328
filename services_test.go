package taster_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestServicesTestsAreRun holds every test that needs a service to a name that make test-services runs: one that no
// pattern matches would be skipped without a word.
func TestServicesTestsAreRun(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`-tags services .*-run '(Kafka[^']*)'`).FindSubmatch(makefile)
	if found == nil {
		t.Fatal("the Makefile does not say which tests test-services runs")
	}
	run := regexp.MustCompile(string(found[1]))
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(t `)
	seen := 0
	err = filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "//go:build services") {
			return err
		}
		for _, name := range test.FindAllSubmatch(text, -1) {
			seen++
			if !run.Match(name[1]) {
				t.Errorf("%s: %s has none of the names that make test-services runs (%s)", path, name[1], found[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 30 {
		t.Errorf("%d tests were found, and there are more", seen)
	}
}
