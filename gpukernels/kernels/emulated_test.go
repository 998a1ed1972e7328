package kernels

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// compile builds a program from C++ sources, with the flags that every use of the emulator has.
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

// TestEmulated runs every kernel on the CPU and compares with float64, in several orders of blocks and threads.
func TestEmulated(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the emulator is for Linux")
	}
	check := compile(t, "../emulator/emulator.cpp", "../emulator/kernels.cpp", "testdata/check.cpp")
	seeds := 3
	if testing.Short() {
		seeds = 1
	}
	for _, group := range []string{"rows", "knn_f32", "knn_tensor", "product_f32", "product_tensor", "covariance_f32", "mahalanobis_f32", "kmeans_assign_f32", "subspace_step_f32", "columns_select", "forest_depth"} {
		for seed := range seeds {
			t.Run(group+"/"+strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				if out, err := exec.CommandContext(t.Context(), check, group, strconv.Itoa(seed)).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
