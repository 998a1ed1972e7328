package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/ingest/kafka"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// What a child process can be told to do. Whole runs are measured in a process of their own, so that its memory and
// its processor time are nobody else's: the broker, and what makes the records, are in the parent.
const (
	jobStraight = "straight"
	jobBackfill = "backfill"
	jobRun      = "run"
	jobConsume  = "consume" // from Kafka, and nothing else
	jobValidate = "validate"
)

// job is what a child process is to do.
type job struct {
	Do      string
	Topic   string
	Config  string
	Landing string // empty but for the reference
	Group   string
	Schema  string
	File    string
	Brokers []string
	Records int
	Age     time.Duration // of a segment
	Marks   []int         // numbers of records after which to look at the memory
	Profile string        // a folder for its profiles, or ""
	Label   string        // what their names begin with
}

// outcome is what it cost. Fitting the detectors, which happens once in a process's life, does not count, except
// for memory.
type outcome struct {
	Wall, CPU     time.Duration
	Mallocs, Heap uint64 // allocations, and bytes that were allocated
	Peak          int64  // resident bytes at most, in the whole life of the process
	Marks         []mark
}

// mark is a look at a process that has taken in so many records.
type mark struct {
	Records        int
	Resident, Peak int64 // bytes, now and at most
}

// jobVariable holds a child's job.
const jobVariable = "TASTER_BENCH_JOB"

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	table.print(os.Stdout)
	if folder, err := scratch(); err == nil {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// spawn runs a job in a child process.
func spawn(b *testing.B, j job) outcome {
	b.Helper()
	r := start(b, j)
	<-r.ended
	if r.err != nil {
		b.Fatal(r.err)
	}
	return r.outcome
}

// running is a child process. What it did can be read once it has ended.
type running struct {
	ended chan struct{}
	outcome
	err error
}

// start begins a job in a child process, with more in its environment.
func start(b *testing.B, j job, env ...string) *running {
	b.Helper()
	if j.Profile = os.Getenv("PROFILE"); j.Profile != "" {
		if err := os.MkdirAll(j.Profile, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	var answer bytes.Buffer
	child := exec.CommandContext(b.Context(), self)
	child.Env = append(append(os.Environ(), env...), jobVariable+"="+string(text))
	child.Stdout, child.Stderr = &answer, os.Stderr
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	r := &running{ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		if r.err = child.Wait(); r.err == nil {
			r.err = json.Unmarshal(answer.Bytes(), &r.outcome)
		}
		if r.err != nil {
			r.err = fmt.Errorf("%s: %w", j.Do, r.err)
		}
	}()
	return r
}

// within returns a context that ends when the process does.
func (r *running) within(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.ended:
			cancel(errors.Join(errors.New("the process ended before all was published"), r.err))
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// resident returns this process's resident set in bytes, now and at its largest. Linux begins a child's ru_maxrss with
// its parent's, which is why the process itself is asked, and its own VmRSS and VmHWM (proc_pid_status(5)) are preferred.
func resident() (now, peak int64) {
	if now, peak := residentOf("self"); peak > 0 {
		return now, peak
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, 0
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss, usage.Maxrss // macOS counts bytes, all others KiB
	}
	return usage.Maxrss << 10, usage.Maxrss << 10
}

// residentOf returns the same of any process, and zeros where there is no /proc.
func residentOf(process string) (now, peak int64) {
	status, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(status) {
		for name, to := range map[string]*int64{"VmRSS": &now, "VmHWM": &peak} {
			if n, _ := fmt.Sscanf(string(line), name+": %d kB", to); n == 1 {
				*to <<= 10
			}
		}
	}
	return now, peak
}

// job returns a job on a workload, with a landing zone of its own.
func (w workload) job(b *testing.B, do string) job {
	b.Helper()
	landing := filepath.Join(b.TempDir(), "landing")
	if err := os.CopyFS(landing, os.DirFS(w.landing)); err != nil {
		b.Fatal(err)
	}
	return job{
		Do: do, Topic: w.topic, Config: w.config, Landing: landing, Group: filepath.Base(filepath.Dir(landing)) + "-" + do,
		Schema: w.schema, File: w.file, Brokers: w.brokers, Records: w.records, Age: 30 * time.Second, Label: do,
	}
}

// serve does a job and prints what it cost.
func serve(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	app.LimitMemory()
	m := &meter{profile: j.Profile, name: j.Topic + "-" + j.Label}
	do := map[string]func(context.Context, *meter) error{
		jobStraight: j.straight, jobBackfill: j.backfill, jobRun: j.run, jobConsume: j.consume, jobValidate: j.validate,
	}[j.Do]
	if err := do(context.Background(), m); err != nil {
		return err
	}
	_, m.cost.Peak = resident()
	return json.NewEncoder(os.Stdout).Encode(m.cost)
}

// meter measures what this process spends between start and stop.
type meter struct {
	profile, name string

	once   sync.Once
	wall   time.Time
	cpu    time.Duration
	memory runtime.MemStats
	file   *os.File
	cost   outcome
}

// start begins to count; only the first call does.
func (m *meter) start() {
	m.once.Do(func() {
		if m.profile != "" {
			if file, err := os.Create(filepath.Join(m.profile, m.name+".cpu")); err == nil {
				m.file = file
				_ = pprof.StartCPUProfile(file)
			}
		}
		runtime.ReadMemStats(&m.memory)
		m.wall, m.cpu = time.Now(), processorTime()
	})
}

func (m *meter) stop() {
	m.cost.Wall, m.cost.CPU = time.Since(m.wall), processorTime()-m.cpu
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	m.cost.Mallocs, m.cost.Heap = now.Mallocs-m.memory.Mallocs, now.TotalAlloc-m.memory.TotalAlloc
	if m.file != nil {
		pprof.StopCPUProfile()
		_ = m.file.Close()
		if file, err := os.Create(filepath.Join(m.profile, m.name+".heap")); err == nil { // in use, and all that ever was
			_ = pprof.Lookup("allocs").WriteTo(file, 0)
			_ = file.Close()
		}
	}
}

// processorTime returns what all threads of this process have used, user and system.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (j job) straight(_ context.Context, m *meter) error {
	c, faults := contract.Load(filepath.Join(filepath.Dir(j.Config), "contracts", j.Topic+".yaml"))
	if len(faults) > 0 {
		return faults[0]
	}
	values, err := readLines(j.File)
	if err != nil {
		return err
	}
	m.start()
	defer m.stop()
	rows, err := Straight(j.Schema, plainColumns(c.Schema), values, filepath.Dir(j.Landing))
	if err == nil && rows != j.Records {
		err = fmt.Errorf("the straight program wrote %d of %d records", rows, j.Records)
	}
	return err
}

// plainColumns are a schema's columns without the one for undeclared fields, which the straight program does not know.
func plainColumns(s *validate.Schema) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Columns().Fields() {
		if f.Name != validate.Extra {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

func readLines(path string) (lines [][]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(make([]byte, 1<<20), 1<<20)
	for s.Scan() {
		lines = append(lines, bytes.Clone(s.Bytes()))
	}
	return lines, s.Err()
}

// open opens taster on the job's own landing zone, with the segments that are the default.
func (j job) open(ctx context.Context) (*config.Config, *app.App, error) {
	c, faults := config.Load(j.Config)
	if len(faults) > 0 {
		return nil, nil, faults[0]
	}
	c.Landing.URL = "file://" + filepath.ToSlash(j.Landing)
	c.Landing.Segment.Records, c.Landing.Segment.Bytes, c.Landing.Segment.Age = 100_000, 128<<20, j.Age
	c.Kafka.Brokers, c.Kafka.Group = j.Brokers, j.Group
	a, err := app.Open(ctx, c, slog.New(slog.DiscardHandler), "bench")
	return c, a, err
}

func (j job) backfill(ctx context.Context, m *meter) error {
	_, a, err := j.open(ctx)
	if err != nil {
		return err
	}
	c, err := a.Contract(j.Topic)
	if err != nil {
		return err
	}
	result, err := a.Backfill(ctx, c, []string{j.File}, func(int64) { m.start() })
	m.stop()
	if err == nil && (result.Read != int64(j.Records) || result.Rejected != 0) {
		err = fmt.Errorf("backfill read %d of %d records and rejected %d", result.Read, j.Records, result.Rejected)
	}
	return errors.Join(err, a.Close(ctx, err))
}

func (j job) run(ctx context.Context, m *meter) error {
	_, a, err := j.open(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	taken, total := map[record.Source]int64{}, int64(0)
	err = a.Run(ctx, func(src record.Source, next int64) {
		m.start()
		mu.Lock()
		defer mu.Unlock()
		total += next - taken[src]
		taken[src] = next
		for len(j.Marks) > 0 && total >= int64(j.Marks[0]) {
			now, peak := resident()
			m.cost.Marks = append(m.cost.Marks, mark{j.Marks[0], now, peak})
			j.Marks = j.Marks[1:]
		}
		if total >= int64(j.Records) {
			cancel()
		}
	})
	m.stop()
	return errors.Join(err, a.Close(ctx, err))
}

func (j job) consume(ctx context.Context, m *meter) error {
	consumer, err := kafka.Open(ctx, kafka.Config{
		Connection: kafka.Connection{Brokers: j.Brokers}, Group: j.Group, Topics: []string{j.Topic},
	}, kafka.Events{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return consumer.Run(ctx, &counter{meter: m, left: int64(j.Records), done: cancel})
}

// counter is a handler of Kafka's messages that only counts them.
type counter struct {
	meter *meter
	left  int64
	done  func()
}

func (*counter) Assigned(context.Context, record.Source, kafka.Hint) (int64, error) { return 0, nil }
func (*counter) Revoked(context.Context, record.Source, bool) error                 { return nil }

func (c *counter) Messages(_ context.Context, _ record.Source, messages []record.Message, _ int64) error {
	c.meter.start()
	n := int64(len(messages))
	if left := atomic.AddInt64(&c.left, -n); left <= 0 && left+n > 0 {
		c.meter.stop()
		c.done()
	}
	return nil
}
