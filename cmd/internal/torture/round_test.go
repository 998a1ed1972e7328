//go:build linux

package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// round is some cycles on one landing zone.
type round struct {
	*site
	broker  *broker
	truth   *truth
	slow    time.Duration // how many times slower than the embedded broker the broker is
	sent    int           // batches and files published, for their names
	swapped bool          // instances have worked on another zone for a while
	merged  bool          // small files are merged at the end
	faults  []error       // what was wrong
}

func (r *round) wrong(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(format, args...))
}

// campaign is a number of cycles against one broker.
type campaign struct {
	t        testing.TB
	name     string
	broker   *broker
	keys     *keyService
	slow     time.Duration
	seed     uint64
	from, to int // cycles
	each     int // cycles of a round

	began   time.Time
	cycles  map[string]int
	struck  map[string]int
	tallies map[string]tally
	saw     findings
	skipped map[string]string
	bad     int
}

// run runs every round, and says what was counted.
func (k *campaign) run() {
	k.began = time.Now()
	k.cycles, k.struck, k.tallies, k.skipped = map[string]int{}, map[string]int{}, map[string]tally{}, map[string]string{}
	for first := k.from; first < k.to; first += k.each {
		k.round(first, min(first+k.each, k.to))
		if k.bad >= 8 {
			k.t.Errorf("given up after %d rounds that went wrong", k.bad)
			break
		}
	}
	k.report()
}

func (k *campaign) chance(cycle int) *rand.Rand {
	return rand.New(rand.NewPCG(k.seed, uint64(cycle)*0x9e3779b97f4a7c15))
}

// draw draws a fault.
func (k *campaign) draw(random *rand.Rand, r *round) fault {
	for {
		sum := 0
		for _, f := range faults {
			sum += f.weight
		}
		n := random.IntN(sum)
		for _, f := range faults {
			if n -= f.weight; n >= 0 {
				continue
			}
			why := ""
			if f.needs != nil {
				why = f.needs(r)
			}
			if why == "" {
				return f
			}
			k.skipped[f.name] = why
			break
		}
	}
}

func (k *campaign) round(first, last int) {
	dir, err := os.MkdirTemp("", fmt.Sprintf("taster-torture-%s-%d-", k.name, first))
	if err != nil {
		k.t.Fatal(err)
	}
	id := k.broker.recreate()
	tr := newTruth(id, k.chance(-first-1))
	random := k.chance(-first - 2)
	keyMaterial := []string{"internal", "external"}[random.IntN(2)]
	s := newSite(k.t, dir, k.broker.addrs, k.keys, fmt.Sprintf("group-%d", first), tr.marker, keyMaterial)
	r := &round{site: s, broker: k.broker, slow: k.slow, truth: tr, merged: random.IntN(2) == 0}
	counted := false // an end before that is one of the harness itself
	defer func() { s.close(len(r.faults) > 0 || !counted) }()
	history := []string{fmt.Sprintf("key material %s, files are merged at the end: %v", keyMaterial, r.merged)}
	for number := first; number < last; number++ {
		c := &cycle{round: r, number: number, rand: k.chance(number), began: len(s.processes)}
		f := k.draw(c.rand, r)
		c.fault = f.name
		began := time.Now()
		f.strike(c)
		c.end()
		k.cycles[f.name]++
		if c.struck {
			k.struck[f.name]++
		}
		history = append(history, fmt.Sprintf("cycle %d, %s (%s), %s", number, f.name, strings.Join(c.detail, "; "), time.Since(began).Round(time.Millisecond)))
		if testing.Verbose() {
			k.t.Log(history[len(history)-1])
		}
	}
	r.drain()
	tallies, saw, err := r.truth.count(s, k.broker)
	if err != nil {
		r.faults = append(r.faults, err)
	}
	k.saw.add(saw)
	for name, t := range tallies {
		sum := k.tallies[name]
		sum.add(t)
		k.tallies[name] = sum
	}
	if err := s.sealed(r.truth.marker); err != nil {
		r.faults = append(r.faults, err)
	}
	counted = true
	if len(r.faults) > 0 {
		k.bad++
		k.t.Errorf("%s, cycles %d to %d: SEED=%d FROM=%d CYCLES=%d repeats them; kept in %s\n%v\n%s",
			k.name, first, last-1, k.seed, first, last-first, dir, errors.Join(r.faults...), strings.Join(history, "\n"))
	}
}

// end kills what still runs, and looks at what the cycle's processes said.
func (c *cycle) end() {
	if running := c.running(); len(running) > 0 {
		running[c.rand.IntN(len(running))].metrics()
		for _, p := range running {
			p.kill()
		}
	}
	c.broker.evict(c.group)
	if !c.swapped { // otherwise the offset may be that of another zone, until the next commit
		if err := c.hints(c.broker, c.truth.topicID); err != nil {
			c.wrong("cycle %d (%s): %v", c.number, c.fault, err)
		}
	}
	for _, p := range c.processes[c.began:] {
		text := p.text()
		for _, words := range []string{"panic:", "fatal error:", "DATA RACE", "not a chain", "is not the entry that belongs there"} {
			if strings.Contains(text, words) {
				c.wrong("cycle %d (%s): instance %d said %q; see %s", c.number, c.fault, p.number, words, p.log.Name())
			}
		}
	}
}

// left returns how many offsets have not landed.
func (r *round) left(ends map[int32]int64) (left int64) {
	for partition, end := range ends {
		head, err := r.head(r.truth.topicID, partition)
		r.must(err)
		left += end - head
	}
	return left
}

// drain lands what is left: with the program as it is deployed, which takes no notice of kill points.
func (r *round) drain() {
	env := []string{kill("segment_ended:1", "assigned:1"), "TASTER_CLOCK=1000h"}
	p := r.spawn(r.command("run", "-c", r.config), env)
	ends := r.broker.ends()
	deadline := time.Now().Add(patience)
	for {
		left := r.left(ends)
		// Even if nothing is left to land, what was committed last may be left to tell of, which is done on assignment.
		if left <= 0 && strings.Count(p.text(), `"msg":"partition assigned"`) >= partitions {
			if left < 0 {
				r.wrong("%d offsets more have landed than there are", -left)
			}
			break
		}
		if !p.alive() || time.Now().After(deadline) {
			r.wrong("draining stopped: %d offsets are left; the instance said\n%s", left, tail(p.text(), 10))
			p.signal(syscall.SIGABRT)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.metrics()
	if err := p.stop(); err != nil {
		r.wrong("draining: %w\n%s", err, tail(p.text(), 10))
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "input", "*"))
	r.must(err)
	if len(files) > 0 {
		r.finish(env, "landing the rest of the files", append([]string{"backfill", "-c", r.config, "--contract", topic}, files...)...)
	}
	if r.merged {
		r.finish(env, "merging files", "compact", "-c", r.config, "--before", "0s", "--grace", "0s")
	}
	r.finish(env, "tidying up", "tidy", "-c", r.config, "--grace", "0s")
}

// finish runs a command of the program as it is deployed, and wants it to succeed.
func (r *round) finish(env []string, what string, args ...string) {
	p := r.spawn(r.command(args...), env)
	if !p.within(patience) {
		p.signal(syscall.SIGQUIT)
	}
	<-p.ended
	if p.err != nil {
		r.wrong("%s: %w\n%s", what, p.err, tail(p.text(), 10))
	}
}

// report prints the table.
func (k *campaign) report() {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\tcycles\tstruck\trecords\tlost\tduplicated\tunreadable\t")
	cycles, struck, skipped := 0, 0, ""
	var sum tally
	for _, f := range faults {
		n, t := k.cycles[f.name], k.tallies[f.name]
		if why := k.skipped[f.name]; why != "" {
			skipped += fmt.Sprintf("skipped: %s: %s\n", f.name, why)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", f.name, n, k.struck[f.name], t.published, t.lost, t.duplicated, t.unreadable)
		cycles, struck = cycles+n, struck+k.struck[f.name]
		sum.add(t)
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d\t%d\t%d\t%d\t\n", cycles, struck, sum.published, sum.lost, sum.duplicated, sum.unreadable)
	_ = w.Flush()
	fmt.Printf("\n%s: SEED=%d, %d cycles in %s, %d rounds went wrong\n%s"+
		"%d records were quarantined, %d rejected and %d recalled; %d events told of them, repetitions and files apart; %d files were left that no sweep may remove; %d states hold the rows of their sources\n",
		k.name, k.seed, cycles, time.Since(k.began).Round(time.Second), k.bad, out.String()+skipped, k.saw.quarantined, k.saw.rejected, k.saw.recalled, k.saw.events, k.saw.orphans, k.saw.states)
}
