package taster_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedAssembly runs the generators again and compares. They are modules of their own, so that avo is needed here only.
func TestGeneratedAssembly(t *testing.T) {
	if testing.Short() {
		t.Skip("the generators are built and run without -short")
	}
	for _, g := range []struct{ module, program, folder, pkg, name string }{
		{"detect/linalg/gen", ".", "detect/linalg", "linalg", "kernels_amd64"},
		{"detect/linalg/gen", "./peak", "cmd/internal/bench/peers", "main", "peak_amd64"},
		{"detect/lanes/gen", ".", "detect/lanes", "lanes", "kernels_amd64"},
		{"detect/embedding/gen", ".", "detect/embedding", "embedding", "kernels_amd64"},
		{"detect/nearduplicate/gen", ".", "detect/nearduplicate", "nearduplicate", "kernels_amd64"},
		{"detect/wording/gen", ".", "detect/wording", "wording", "kernels_amd64"},
		{"detect/trigger/gen", ".", "detect/trigger", "trigger", "kernels_amd64"},
		{"schema/validate/gen", ".", "schema/validate", "validate", "kernels_amd64"},
	} {
		t.Run(g.folder, func(t *testing.T) {
			run := func(args ...string) ([]byte, error) {
				cmd := exec.CommandContext(t.Context(), "go", args...)
				cmd.Dir, cmd.Env = g.module, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
				return cmd.CombinedOutput()
			}
			if out, err := run("mod", "download"); err != nil {
				t.Skipf("github.com/mmcloughlin/avo cannot be had: %v\n%s", err, out)
			}
			written := filepath.Join(t.TempDir(), g.name)
			if out, err := run("run", g.program, "-pkg", g.pkg, "-out", written+".s", "-stubs", written+".go"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, kind := range []string{".s", ".go"} {
				want, err := os.ReadFile(written + kind)
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(g.folder, g.name+kind)
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
		})
	}
}
