package app

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
)

// softLimit is the memory that the garbage collector works harder to stay below. What is in use at a time, whatever
// the length of the topics, is mostly below it (memoryLimit bounds it): without a limit the collector would let as much
// garbage again pile up beside it. docs/PERFORMANCE.md has what the process as a whole needs.
const softLimit = 384 << 20

// LimitMemory sets the soft memory limit of the process: softLimit, or most of what the control group has, where that
// is less. An operator's GOMEMLIMIT is left as it is.
//
// A limit that is below what is in use has the collector begin again as soon as it has ended, for as long as that lasts:
// it takes up to half of all processor time then and frees nothing. So after each collection the limit is moved to where a
// sixteenth of what is in use can be allocated before the next, if softLimit is below that and the control group has as much.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	ceiling := int64(math.MaxInt64)
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if text, err := os.ReadFile(name); err == nil {
			ceiling = min(ceiling, groupLimit(text))
		}
	}
	limit := min(softLimit, ceiling)
	debug.SetMemoryLimit(limit)
	afterCollections(func() {
		live, other := inUse()
		if next := limitFor(live, other, ceiling); next != limit {
			limit = next
			debug.SetMemoryLimit(limit)
		}
	})
}

// groupLimit reads a control group's limit and leaves a fifth of it to what the collector does not count: the program
// itself, and stacks of the system's.
func groupLimit(text []byte) int64 {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64 // the word max, for none
	}
	return n / 5 * 4
}

// limitFor returns the limit when live bytes of the heap were in use after a collection, and other bytes beside the heap.
func limitFor(live, other, ceiling int64) int64 {
	const step = 16 << 20 // to set a limit stops all goroutines for a moment: not for every megabyte
	wanted := live + live/16 + other
	wanted += wanted / 32 // which the collector keeps in hand
	wanted = (wanted + step - 1) / step * step
	return min(max(softLimit, wanted), ceiling)
}

// inUse returns the bytes of the heap that the last collection left, and what of memory is not the heap's.
func inUse() (live, other int64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	var n [5]int64
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			n[i] = int64(min(s.Value.Uint64(), math.MaxInt64)) //nolint:gosec // bounded
		}
	}
	return n[0], n[1] - n[2] - n[3] - n[4]
}

// afterCollections calls do after every garbage collection, until the process ends.
func afterCollections(do func()) {
	type beacon struct{ _ *byte } // with a pointer: what has none may share its memory with others and stay
	var light func()
	light = func() {
		runtime.SetFinalizer(&beacon{}, func(*beacon) {
			do()
			light()
		})
	}
	light()
}
