//go:build linux

package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tasterhq/taster/sink/killpoint"
)

// fault is one kind of bad luck. strike makes it happen in a cycle, and tells what exactly that was.
type fault struct {
	name   string
	weight int                 // how often it is drawn
	needs  func(*round) string // why it cannot happen in a round; nil: it always can
	strike func(*cycle)
}

// cycle is one go: some records, some instances, one fault.
type cycle struct {
	*round
	number int
	rand   *rand.Rand
	fault  string
	detail []string // what was drawn and what struck
	struck bool     // the fault came to be
	began  int      // the number of the first process of the cycle
}

func (c *cycle) note(format string, args ...any) {
	c.detail = append(c.detail, fmt.Sprintf(format, args...))
}

// upTo draws a time.
func (c *cycle) upTo(limit time.Duration) time.Duration {
	return time.Duration(c.rand.Int64N(int64(limit)))
}

func (c *cycle) pause(limit time.Duration) { time.Sleep(c.upTo(limit)) }

// publish sends some records.
func (c *cycle) publish() {
	c.sent++
	c.truth.publish(c.broker, 15+c.rand.IntN(60), c.fault, c.number, c.sent,
		func() int { return c.rand.IntN(7 * 11 * 13) }, func() int32 { return c.rand.Int32N(partitions) })
}

func kill(plans ...string) string { return "TASTER_KILL=" + strings.Join(plans, ",") }

// soon is how long what is bound to happen takes at most on the embedded broker, or it has been missed.
const soon = 1500 * time.Millisecond

// reached waits for a process to die at its point.
func (c *cycle) reached(p *process) {
	c.struck = p.within(c.slow*soon) && strings.Contains(p.text(), "killpoint reached")
	if c.struck {
		c.note("it died")
	}
}

// committed waits until an instance has committed something.
func (c *cycle) committed(p *process) bool {
	return p.await(`"msg":"segment committed"`, c.slow*soon)
}

// assigned waits until an instance has partitions.
func (c *cycle) assigned(p *process) bool {
	return p.await(`"msg":"partition assigned"`, c.slow*soon)
}

// faults lists all of them.
var faults = []fault{
	{"kill at random", 4, nil, killAtRandom},
	{"kill at a point", 8, nil, killAtPoint},
	{"kill before an answer", 3, func(r *round) string {
		if r.broker.whileAnswering == nil {
			return "only the embedded broker tells when it has a request in hand"
		}
		return ""
	}, killBeforeAnswer},
	{"rebalance", 3, nil, rebalance},
	{"zombie", 3, nil, func(c *cycle) { zombies(c, 1) }},
	{"session timeout", 1, func(r *round) string {
		if r.slow == 1 {
			return "the embedded broker does not miss a member between its join and its sync"
		}
		return ""
	}, sessionTimeout},
	{"two zombies", 3, nil, func(c *cycle) { zombies(c, 2) }},
	{"disk full", 2, nil, diskFull},
	{"disk read-only", 2, nil, diskReadOnly},
	{"storage away", 2, nil, storageAway},
	{"storage swapped", 1, nil, storageSwapped},
	{"keys away", 2, nil, keysAway},
	{"broker away", 2, nil, brokerAway},
	{"clock jumps", 2, nil, clockJumps},
	{"backfill killed", 3, nil, backfillKilled},
	{"housekeeping killed", 3, nil, housekeepingKilled},
	{"told to stop", 2, nil, toldToStop},
}

func killAtRandom(c *cycle) {
	c.publish()
	victim := c.start()
	var others []*process
	for range c.rand.IntN(3) {
		others = append(others, c.start())
	}
	if c.rand.IntN(2) == 0 {
		c.assigned(victim)
		c.publish()
	}
	after := c.upTo(350 * time.Millisecond)
	c.note("%d others, after %s", len(others), after)
	time.Sleep(after)
	victim.kill()
	c.struck = true
	if len(others) > 0 {
		c.broker.evict(c.group)
		c.pause(300 * time.Millisecond)
	}
}

// killAtPoint brings about what leads to a point, and has a process die there.
func killAtPoint(c *cycle) {
	point := killpoint.Names[c.rand.IntN(len(killpoint.Names))]
	count := 1 + c.rand.IntN(3)
	zones := []string{"accepted/", "quarantined/", "rejected/"}
	var p *process
	switch point {
	case "file_opened", "file_resumed", "file_fed", "file_drained":
		c.note("%s", point)
		p = c.backfill(kill(point+":1"), c.file())
	case "walk_begun", "walk_audited", "walk_told":
		c.note("%s", point)
		c.publish()
		first := c.start(kill("manifest_landed:1"))
		first.within(c.slow * 2 * time.Second)
		first.kill()
		c.broker.evict(c.group)
		p = c.start(kill(point + ":1"))
	case "delete_begun", "deleted":
		zone := zones[c.rand.IntN(3)]
		c.note("%s@%s", point, zone)
		c.publish()
		first := c.start(kill("files_landed:1"))
		first.within(c.slow * 2 * time.Second)
		first.kill()
		c.broker.evict(c.group)
		p = c.start(kill(point + "@" + zone + ":1"))
	case "commit_lost", "drop_begun", "dropped", "manifest_doubted", "rewind_begun", "rewind_reloaded", "rewind_done":
		c.note("%s", point)
		p = c.overtaken("files_landed:1:stop", point+":1")
	case "entry_doubted":
		c.note("%s", point)
		p = c.overtaken("entry_begun@_audit/commits/:1:stop", point+":1")
	case "revoked", "drained", "given_back":
		c.note("%s", point)
		c.publish()
		p = c.start(kill(point + ":1"))
		c.assigned(p)
		if c.rand.IntN(2) == 0 {
			c.start()
			c.pause(200 * time.Millisecond)
		}
		p.signal(syscall.SIGTERM)
	default:
		plan := point
		if slices.Contains([]string{"temp_created", "temp_written", "temp_synced", "folder_made", "linked", "folder_synced", "temp_closed"}, point) {
			objects := append([]string{"", "_commits/", "_audit/commits/", "_audit/process/"}, zones...)
			if object := objects[c.rand.IntN(len(objects))]; object != "" {
				plan += "@" + object
			}
		}
		plan += fmt.Sprintf(":%d", count)
		c.note("%s", plan)
		c.publish()
		p = c.start(kill(plan))
		if c.assigned(p) {
			c.publish()
		}
	}
	c.reached(p)
}

// overtaken starts a writer that stops at a point, has another take over and commit, and lets the first go on.
func (c *cycle) overtaken(stop, then string) *process {
	c.publish()
	first := c.start(kill(stop, then))
	first.await("killpoint reached", c.slow*soon)
	c.broker.evict(c.group)
	second := c.start()
	c.committed(second)
	first.signal(syscall.SIGCONT)
	return first
}

// killBeforeAnswer has the broker take events or an offset, and the instance die before it hears of that.
func killBeforeAnswer(c *cycle) {
	key, what := kmsg.Produce, "events"
	if c.rand.IntN(2) == 0 {
		key, what = kmsg.OffsetCommit, "offset"
	}
	c.note("%s", what)
	c.publish()
	p := c.start()
	c.broker.whileAnswering(key, func() { p.signal(syscall.SIGKILL) })
	c.struck = p.within(c.slow * soon)
	c.broker.forget()
}

// rebalance has members come, leave and die.
func rebalance(c *cycle) {
	c.publish()
	members := []*process{c.start()}
	c.assigned(members[0])
	for range 1 + c.rand.IntN(2) {
		members = append(members, c.start())
		c.pause(150 * time.Millisecond)
		c.publish()
	}
	i := c.rand.IntN(len(members))
	how := []string{"leaves", "dies", "is thrown out with all others"}[c.rand.IntN(3)]
	c.note("%d members, member %d %s", len(members), i, how)
	switch how {
	case "leaves":
		members[i].signal(syscall.SIGTERM)
	case "dies":
		members[i].kill()
		c.broker.evict(c.group)
	default:
		c.broker.evict(c.group)
	}
	c.struck = true
	c.publish()
	c.pause(400 * time.Millisecond)
}

// zombies stops writers, each after the group has given its partitions to it, and lets them go on when somebody else has
// committed behind their backs.
func zombies(c *cycle, n int) {
	points := []string{"files_begun", "file_encoded", "file_landed", "files_landed", "manifest_begun", "linked@_commits/", "manifest_landed", "commit_done",
		"entry_begun@_audit/commits/", "audit_done", "events_done", "offset_begun", "head_found"}
	var sleeping []*process
	for range n {
		c.publish()
		var p *process
		if c.rand.IntN(3) == 0 {
			p = c.start()
			c.assigned(p)
			after := c.upTo(150 * time.Millisecond)
			c.note("after %s", after)
			time.Sleep(after)
			p.signal(syscall.SIGSTOP)
		} else {
			point := points[c.rand.IntN(len(points))] + fmt.Sprintf(":%d:stop", 1+c.rand.IntN(2))
			c.note("%s", point)
			p = c.start(kill(point))
			if !p.await("killpoint reached", c.slow*time.Second) {
				p.signal(syscall.SIGSTOP)
			}
		}
		sleeping = append(sleeping, p)
		c.broker.evict(c.group)
	}
	c.publish()
	owner := c.start()
	c.struck = c.committed(owner)
	for _, p := range sleeping {
		p.signal(syscall.SIGCONT)
	}
	c.publish()
	c.pause(400 * time.Millisecond)
}

// sessionTimeout stops a writer until the group itself has missed it and given its partitions away.
func sessionTimeout(c *cycle) {
	c.publish()
	p := c.start(kill("files_landed:2:stop"))
	c.assigned(p)
	c.publish()
	if !p.await("killpoint reached", c.slow*time.Second) {
		p.signal(syscall.SIGSTOP)
	}
	heir := c.start()
	c.struck = heir.await(`"msg":"segment committed"`, patience)
	p.signal(syscall.SIGCONT)
	c.publish()
	c.pause(time.Second)
}

// whileWorking starts instances, lets begin happen to what they work on, and end it again. In one of three cases an
// instance dies in between, and another is started afterwards.
func (c *cycle) whileWorking(begin func() (end func())) {
	c.publish()
	p := c.start()
	c.assigned(p)
	if c.rand.IntN(2) == 0 {
		c.publish()
	}
	c.pause(100 * time.Millisecond)
	end := begin()
	if end == nil {
		c.note("it could not be brought about")
		return
	}
	c.struck = true
	if c.broker.reachable() {
		c.publish()
	}
	c.pause(300 * time.Millisecond)
	dies := c.rand.IntN(3) == 0
	if dies {
		c.note("it dies meanwhile")
		p.kill()
	}
	end()
	if dies {
		c.broker.evict(c.group)
		c.start()
	}
	c.pause(400 * time.Millisecond)
}

func diskFull(c *cycle) {
	c.whileWorking(func() func() { return c.disk.fill(c.running()) })
}

func diskReadOnly(c *cycle) {
	c.whileWorking(c.disk.protect)
}

func storageAway(c *cycle) {
	away := c.landing + ".away"
	c.whileWorking(func() func() {
		if os.Rename(c.landing, away) != nil {
			return nil
		}
		return func() { c.must(os.Rename(away, c.landing)) }
	})
}

// storageSwapped has an instance start while the file system of the landing zone is not mounted, and the file system
// come back under it.
func storageSwapped(c *cycle) {
	c.publish()
	p := c.start()
	c.committed(p)
	p.kill()
	c.broker.evict(c.group)
	away := c.landing + ".away"
	c.must(os.Rename(c.landing, away))
	// An instance whose contract needs no reference would start; let this one.
	c.must(os.CopyFS(filepath.Join(c.landing, "_reference"), os.DirFS(filepath.Join(away, "_reference"))))
	c.publish()
	p = c.start()
	if c.rand.IntN(3) > 0 { // until it is ahead of what the true zone holds
		ends := c.broker.ends()
		for deadline := time.Now().Add(c.slow * 3 * time.Second); c.left(ends) > 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		c.note("all has landed elsewhere")
	} else {
		c.pause(300 * time.Millisecond)
	}
	if err := c.disk.swap(c.landing, away); err != nil {
		c.must(os.RemoveAll(c.landing))
		c.must(os.Rename(away, c.landing))
	} else {
		c.struck = true
	}
	c.swapped = true
	c.publish()
	c.pause(400 * time.Millisecond)
	p.kill()
	c.must(os.RemoveAll(away))
}

func brokerAway(c *cycle) {
	c.whileWorking(func() func() { c.broker.leave(); return c.broker.comeBack })
}

// clockJumps has the clocks of two instances be hours wrong, one of them all of a sudden.
func clockJumps(c *cycle) {
	skew := func() string {
		by := time.Duration(c.rand.IntN(7*24)-3*24) * time.Hour
		after := c.upTo(250 * time.Millisecond)
		c.note("%s after %s", by, after)
		return fmt.Sprintf("TASTER_CLOCK=%s:%s", by, after)
	}
	c.publish()
	first := c.start(skew())
	c.assigned(first)
	c.start(skew())
	c.struck = true
	c.publish()
	c.pause(300 * time.Millisecond)
	first.kill()
	c.broker.evict(c.group)
	c.pause(300 * time.Millisecond)
}

// file writes a file for backfill and remembers its rows.
func (c *cycle) file() string {
	c.sent++
	name := filepath.Join(c.dir, "input", fmt.Sprintf("%05d-%d.jsonl", c.number, c.sent))
	var data []byte
	var rows []*published
	for i := range 30 + c.rand.IntN(120) {
		p := &published{id: fmt.Sprintf("f%05d-%d-%04d", c.number, c.sent, i), fault: c.fault, cycle: c.number}
		p.value = c.truth.make(p.id, c.rand.IntN(7*11*13))
		data = append(append(data, p.value...), '\n')
		rows = append(rows, p)
	}
	c.must(os.WriteFile(name, data, 0o600))
	for i, p := range rows {
		p.at = place{fileSource(data), 0, int64(i)}
		c.truth.add(p)
	}
	return name
}

// backfill starts landing a file.
func (c *cycle) backfill(env, file string) *process {
	return c.launch([]string{env}, "backfill", "-c", c.config, "--contract", topic, file)
}

// backfillKilled has a backfill die, and others go on with the same file, perhaps while it lives. Whatever is left when
// the round ends is landed then.
func backfillKilled(c *cycle) {
	file := c.file()
	points := []string{"file_resumed:1", "files_landed:2", "file_landed:3", "linked@_commits/:2", "manifest_landed:2", "commit_done:1", "entry_begun@_audit/commits/:2",
		"audit_done:1", "file_fed:1", "file_drained:1", "files_landed:1:stop", "manifest_begun:2:stop"}
	plan := points[c.rand.IntN(len(points))]
	c.note("%s", plan)
	p := c.backfill(kill(plan), file)
	if strings.HasSuffix(plan, ":stop") {
		p.await("killpoint reached", c.slow*time.Second)
		second := c.backfill("", file)
		c.pause(200 * time.Millisecond)
		p.signal(syscall.SIGCONT)
		c.struck = true
		second.within(c.slow * time.Second)
		p.within(c.slow * time.Second)
		return
	}
	c.reached(p)
	p.kill()
	for range c.rand.IntN(3) {
		again := c.backfill("", file)
		c.pause(150 * time.Millisecond)
		if c.rand.IntN(2) == 0 {
			again.kill()
		}
	}
	c.pause(100 * time.Millisecond)
}

// housekeepingKilled has small files merged and old ones deleted while instances commit, and whoever does that die.
func housekeepingKilled(c *cycle) {
	c.publish()
	instance := c.start()
	c.committed(instance)
	points := []string{"temp_synced@accepted/:1", "linked@accepted/:1", "linked@quarantined/:1", "folder_synced@rejected/:1", "manifest_begun:1", "manifest_begun:2:stop",
		"linked@_changes/:1", "manifest_landed:2", "entry_begun:4", "delete_begun@accepted/:1", "deleted@rejected/:2"}
	for range 1 + c.rand.IntN(2) {
		plan := points[c.rand.IntN(len(points))]
		if c.rand.IntN(4) == 0 {
			c.note("compact, after a while")
			p := c.compact()
			c.pause(300 * time.Millisecond)
			p.kill()
			c.struck = true
			continue
		}
		c.note("compact, %s", plan)
		p := c.compact(kill(plan))
		if !strings.HasSuffix(plan, ":stop") {
			c.reached(p)
			continue
		}
		p.await("killpoint reached", c.slow*soon)
		second := c.compact()
		second.within(c.slow * soon)
		p.signal(syscall.SIGCONT)
		c.struck = p.within(c.slow * soon)
	}
	c.publish()
	c.pause(200 * time.Millisecond)
}

// compact starts merging files and deleting at once those that it replaces.
func (c *cycle) compact(env ...string) *process {
	return c.launch(env, "compact", "-c", c.config, "--before", "0s", "--grace", "0s")
}

// toldToStop wants SIGTERM to be obeyed, whenever it comes.
func toldToStop(c *cycle) {
	c.publish()
	members := []*process{c.start()}
	if c.rand.IntN(2) == 0 {
		members = append(members, c.start())
	}
	c.pause(400 * time.Millisecond)
	for _, p := range members {
		if err := p.stop(); err != nil {
			c.wrong("%v", err)
		}
	}
	c.struck = true
}
