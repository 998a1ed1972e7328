//go:build torture

package killpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// plan is one item of TASTER_KILL.
type plan struct {
	point   string
	prefix  string // of the object; "" is any
	count   int64
	signal  syscall.Signal
	reached atomic.Int64
}

var (
	armed = parsePlans(os.Getenv("TASTER_KILL"))
	clock = parseClock(os.Getenv("TASTER_CLOCK"))
	began = time.Now()
)

func parsePlans(text string) (plans []*plan) {
	if text == "" {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		place, how, _ := strings.Cut(item, ":")
		count, action, _ := strings.Cut(how, ":")
		p := &plan{signal: syscall.SIGKILL}
		p.point, p.prefix, _ = strings.Cut(place, "@")
		var err error
		p.count, err = strconv.ParseInt(count, 10, 64)
		switch {
		case err != nil || p.count < 1 || action != "" && action != "stop":
			giveUp("TASTER_KILL=%s: want POINT[@PREFIX]:COUNT[:stop],...", text)
		case !slices.Contains(Names, p.point):
			giveUp("TASTER_KILL=%s: there is no point %s", text, p.point)
		case action == "stop":
			p.signal = syscall.SIGSTOP
		}
		plans = append(plans, p)
	}
	return plans
}

// skew is what TASTER_CLOCK asks for.
type skew struct{ by, after time.Duration }

func parseClock(text string) skew {
	if text == "" {
		return skew{}
	}
	by, after, found := strings.Cut(text, ":")
	var s skew
	var err error
	if s.by, err = time.ParseDuration(by); err == nil && found {
		s.after, err = time.ParseDuration(after)
	}
	if err != nil {
		giveUp("TASTER_CLOCK=%s: want DURATION[:AFTER]", text)
	}
	return s
}

func giveUp(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

// Reach says that the process has come to a point.
func Reach(point string) { ReachFor(point, "") }

// ReachFor says that the process has come to a point with an object.
func ReachFor(point, object string) {
	for _, p := range armed {
		if point != p.point || !strings.HasPrefix(object, p.prefix) || p.reached.Add(1) != p.count {
			continue
		}
		fmt.Fprintf(os.Stderr, "killpoint reached: %s %s\n", point, object)
		_ = syscall.Kill(syscall.Getpid(), p.signal)
		if p.signal == syscall.SIGKILL {
			select {} // not one step further
		}
	}
}

// Skew returns by how much the wall clock is to be taken as wrong.
func Skew() time.Duration {
	if time.Since(began) < clock.after {
		return 0
	}
	return clock.by
}
