package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedAssembly runs the generator again and compares.
func TestGeneratedAssembly(t *testing.T) {
	if testing.Short() {
		t.Skip("the generator is built and run without -short")
	}
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = "../../../../detect/linalg/gen", append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		return cmd.CombinedOutput()
	}
	if out, err := run("mod", "download"); err != nil {
		t.Skipf("github.com/mmcloughlin/avo cannot be had: %v\n%s", err, out)
	}
	dir := t.TempDir()
	files := []string{"peak_amd64.s", "peak_amd64.go"}
	if out, err := run("run", "./peak", "-pkg", "main", "-out", filepath.Join(dir, files[0]), "-stubs", filepath.Join(dir, files[1])); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range files {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The first line is the generator's command with its paths.
		_, want, _ = bytes.Cut(want, []byte("\n"))
		if _, got, _ = bytes.Cut(got, []byte("\n")); !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate", name)
		}
	}
}
