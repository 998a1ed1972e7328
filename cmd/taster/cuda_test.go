//go:build cuda && cgo && linux && amd64

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCUDAScripts runs the command line of a binary with CUDA on the emulated device that make test-cuda brings. TASTER_FAKE_CUDA says
// what is wrong with it, see gpukernels/fakedriver. Beside the commands of TestScripts there is
//
//	launches NAME SHARE...        set $NAME to so many per cent of the launches that standard error tells of
//	vectors FILE N SEED POISON    write N records with an embedding, features and a class; the last POISON are of a third kind
func TestCUDAScripts(t *testing.T) {
	library := os.Getenv("LD_LIBRARY_PATH")
	if library == "" {
		t.Fatal("no driver to be found: make test-cuda brings an emulated device")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cuda",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "json": jsonCommand, "vectors": vectors, "launches": launches},
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "LD_LIBRARY_PATH="+library, "FAKE="+library)
			return nil
		},
	})
}

func vectors(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: vectors FILE N SEED POISON")
	}
	var numbers [3]int
	for i, text := range args[1:] {
		n, err := strconv.Atoi(text)
		ts.Check(err)
		numbers[i] = n
	}
	rng := rand.New(rand.NewPCG(uint64(numbers[1]), 1))
	var text []byte
	for i := range numbers[0] {
		class, poison := rng.IntN(2), 0
		far := float64(4 * class)
		if i >= numbers[0]-numbers[2] {
			far, poison = 12, 1
		}
		text = fmt.Appendf(text, `{"id":"%d-%d","class":"%c","price":%.3f,"stars":%d,"poison":%d,"vector":[`, numbers[1], i, 'a'+class, 20+5*rng.NormFloat64(), 1+rng.IntN(5), poison)
		for c := range 6 {
			if c > 0 {
				text = append(text, ',')
			}
			v := rng.NormFloat64()
			if c == 0 {
				v += far
			}
			text = fmt.Appendf(text, "%.4f", v)
		}
		text = append(text, "]}\n"...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

var told = regexp.MustCompile(`fake driver: (\d+) launches`)

func launches(ts *testscript.TestScript, neg bool, args []string) {
	m := told.FindStringSubmatch(ts.ReadFile("stderr"))
	if neg || len(args)%2 != 0 || m == nil {
		ts.Fatalf("usage: launches NAME SHARE..., after a command with TASTER_FAKE_CUDA_LOG")
	}
	all, err := strconv.Atoi(m[1])
	ts.Check(err)
	for i := 0; i < len(args); i += 2 {
		share, err := strconv.Atoi(args[i+1])
		ts.Check(err)
		ts.Setenv(args[i], strconv.Itoa(all*share/100))
	}
}
