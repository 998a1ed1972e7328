package app

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
)

// softLimit is the memory that the garbage collector works harder to stay below. What is in use at a time, whatever
// the length of the topics, is well below it (memoryLimit bounds it): without a limit the collector would let as much
// garbage again pile up beside it. docs/PERFORMANCE.md has what the process as a whole needs.
const softLimit = 384 << 20

// LimitMemory sets the soft memory limit of the process: softLimit, or most of what the control group has, where that
// is less. An operator's GOMEMLIMIT is left as it is.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := int64(softLimit)
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if text, err := os.ReadFile(name); err == nil {
			limit = min(limit, groupLimit(text))
		}
	}
	debug.SetMemoryLimit(limit)
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
