package kernels

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// groups of comparisons that testdata/check.cpp makes.
var groups = []string{"rows", "knn_f32", "knn_tensor", "product_f32", "product_tensor", "covariance_f32", "mahalanobis_f32", "kmeans_assign_f32", "subspace_step_f32", "columns_select", "forest_depth"}

// compile builds a program from C++ sources, as everything that uses the emulator is built.
func compile(t *testing.T, args ...string) string {
	t.Helper()
	compiler, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("g++ is not installed: kernels are not tried on the CPU")
	}
	program := filepath.Join(t.TempDir(), "check")
	args = append([]string{"-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-o", program}, args...)
	if out, err := exec.CommandContext(t.Context(), compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestEmulator breaks each rule that the emulator watches over.
func TestEmulator(t *testing.T) {
	broken := compile(t, `-DKERNELS="../kernels/testdata/broken.h"`, "../emulator/emulator.cpp", "testdata/broken.cpp")
	if out, err := exec.CommandContext(t.Context(), broken).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestEmulated runs every kernel on the CPU and compares with float64, in several orders of blocks and threads. Then it leaves out each barrier in turn: kernels that nobody
// misses a barrier in are not tested.
func TestEmulated(t *testing.T) {
	check := compile(t, "../emulator/emulator.cpp", "../emulator/kernels.cpp", "testdata/check.cpp")
	for _, group := range groups {
		for seed := range 2 {
			t.Run(group+"/"+strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				cmd := exec.CommandContext(t.Context(), check, group, strconv.Itoa(seed))
				if seed > 0 || testing.Short() {
					cmd.Env = append(os.Environ(), "CHECK_BRIEF=1")
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
			if testing.Short() {
				break
			}
		}
	}
	if testing.Short() {
		return
	}
	missed := map[string][]string{
		"columns.cu": {"columns_select"}, "knn.cu": {"knn_f32", "knn_tensor"}, "products.cu": {"subspace_step_f32"}, "rows.cu": {"rows"},
		"select.cuh": {"knn_f32", "knn_tensor"}, "tensor.cuh": {"product_tensor", "knn_tensor"}, "tile.cuh": {"product_f32", "knn_f32"},
	}
	kernel, barrier := regexp.MustCompile(`^KERNEL (\w+)\(`), regexp.MustCompile(`\b(block|warp)_barrier\(\);`)
	for file, groups := range missed {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found, all := 0, groups
		for i, line := range strings.Split(string(text), "\n") {
			if m := kernel.FindStringSubmatch(line); m != nil {
				groups = all
				if slices.Contains(all, m[1]) {
					groups = []string{m[1]}
				}
			}
			if !barrier.MatchString(line) {
				continue
			}
			found++
			number, groups := strconv.Itoa(i+1), groups
			t.Run("without/"+file+":"+number, func(t *testing.T) {
				t.Parallel()
				for _, group := range groups {
					ctx, stop := context.WithTimeout(t.Context(), time.Minute) // who waits for what never comes has failed, too
					out, err := exec.CommandContext(ctx, check, group, "1", file, number).CombinedOutput()
					stop()
					if err != nil && !strings.Contains(err.Error(), "exit status 3") {
						t.Logf("%s: %v: %.200s", group, err, out)
						return
					}
				}
				t.Errorf("%s: nothing fails without this barrier: %s", file, strings.TrimSpace(line))
			})
		}
		if found == 0 {
			t.Errorf("%s has no barrier", file)
		}
	}
}
