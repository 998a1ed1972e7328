//go:build cuda && cgo && linux && amd64

package driver_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gorgonia.org/cu"

	"github.com/tasterhq/taster/gpukernels/driver"
)

// TestNeedsOnlyLibc: a binary that contains cu names no library of CUDA's for the loader.
func TestNeedsOnlyLibc(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range libraries {
		switch name, _, _ := strings.Cut(library, ".so"); name {
		case "libc", "libdl", "libpthread", "libresolv": // of glibc, one library since 2.34
		default:
			t.Errorf("the binary needs %s", library)
		}
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.HasPrefix(s.Name, "cuMem") || s.Name == "cuInit" {
			t.Errorf("the binary exports %s, which the driver may take for its own", s.Name)
		}
	}
	if driver.Reason() == "" && cu.Version() <= 0 { // that it does contain cu
		t.Error("the driver has version 0")
	}
}

// TestWithoutDriver starts this binary where there is no driver to be found: it starts, and says why there is none.
func TestWithoutDriver(t *testing.T) {
	if os.Getenv("TASTER_WITHOUT_DRIVER") != "" {
		if why := driver.Reason(); !strings.Contains(why, "libcuda.so.1") {
			t.Fatalf("reason %q", why)
		}
		if n, err := cu.NumDevices(); err == nil {
			t.Fatalf("%d devices", n)
		}
		if _, err := driver.HostAlloc(10); err == nil {
			t.Fatal("page-locked memory")
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir() // a library that cannot be loaded, found before any other
	if err := os.WriteFile(broken+"/libcuda.so.1", []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, "-test.run=^TestWithoutDriver$", "-test.count=1")
	command.Env = append(os.Environ(), "TASTER_WITHOUT_DRIVER=1", "LD_LIBRARY_PATH="+broken)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
