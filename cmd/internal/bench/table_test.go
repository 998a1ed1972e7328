package bench

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// line is what one benchmark measured, over all its iterations.
type line struct {
	Kind, Name string
	Records    int
	Bytes      int64
	outcome

	Faster, Cheaper float64 // times the straight program's records per second, and per second of processor time; 0: not compared
}

// plus adds a run of n records.
func (l *line) plus(n int, bytes int64, o outcome) {
	l.Records += n
	l.Bytes += bytes
	l.Wall += o.Wall
	l.CPU += o.CPU
	l.Mallocs += o.Mallocs
	l.Heap += o.Heap
	l.Peak = max(l.Peak, o.Peak)
}

// versus compares with the straight program, which ran in turns with this one over the same records.
func (l *line) versus(straight line) {
	l.Faster = seconds(straight.Wall) / seconds(l.Wall)
	l.Cheaper = seconds(straight.CPU) / seconds(l.CPU)
}

func (l *line) rate() float64   { return float64(l.Records) / seconds(l.Wall) }
func (l *line) volume() float64 { return float64(l.Bytes) / seconds(l.Wall) / 1e6 }
func (l *line) each(n uint64) float64 {
	return float64(n) / float64(max(l.Records, 1))
}
func (l *line) micros() float64 { return l.each(uint64(l.CPU.Nanoseconds())) / 1e3 }

// report tells the benchmark's own figures, as go test prints and compares them.
func (l *line) report(b *testing.B, prefix string) {
	b.ReportMetric(l.rate(), prefix+"records/s")
	b.ReportMetric(l.volume(), prefix+"MB/s")
	b.ReportMetric(l.micros(), prefix+"cpu-µs/record")
	if l.Heap > 0 { // known of Go programs only
		b.ReportMetric(l.each(l.Mallocs), prefix+"allocs/record")
		b.ReportMetric(l.each(l.Heap), prefix+"B/record")
	}
	b.ReportMetric(0, "ns/op")
	if l.Faster > 0 {
		b.ReportMetric(l.Faster, prefix+"x-straight")
		b.ReportMetric(l.Cheaper, prefix+"x-straight-by-cpu")
	}
}

// results collects what all benchmarks measured, for one table of each sort at the end.
type results struct {
	mu        sync.Mutex
	lines     []line
	checks    []checked
	latencies []latency
	marks     []marked
	absent    []string // what could not be compared with, and why
}

// marked is the memory of a long run.
type marked struct {
	Kind string
	mark
}

var table results

// add takes a line. Of a benchmark that go test repeats, the last counts.
func (r *results) add(l line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.lines {
		if r.lines[i].Kind == l.Kind && r.lines[i].Name == l.Name {
			r.lines[i] = l
			return
		}
	}
	r.lines = append(r.lines, l)
}

// find returns a line that was added, or nil.
func (r *results) find(kind, name string) *line {
	for i := range r.lines {
		if r.lines[i].Kind == kind && r.lines[i].Name == name {
			return &r.lines[i]
		}
	}
	return nil
}

// print prints everything that was measured for a person to read.
func (r *results) print(w io.Writer) {
	if len(r.lines)+len(r.checks)+len(r.latencies)+len(r.marks)+len(r.absent) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d cores. CPU is processor time of all cores, which other programs on the machine disturb less than the clock.\n", runtime.GOMAXPROCS(0))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	if len(r.lines) > 0 {
		fmt.Fprintf(w, "\"x straight\" is how many times as many records as the straight program, by the clock and by processor time; a stage alone\ndoes a part of the work, so only its processor time is set beside the straight program's.\n\n")
		fmt.Fprintln(t, "RECORDS\tWHAT\trecords/s\tMB/s\tCPU µs/record\tallocs/record\tB/record\tpeak MiB\tx straight\tby CPU\t")
	}
	for _, kind := range kinds {
		straight := r.find(kind.topic, whole[jobStraight])
		for _, l := range r.lines {
			if l.Kind != kind.topic {
				continue
			}
			if l.Cheaper == 0 && straight != nil && l.CPU > 0 && l.Name != straight.Name {
				l.Cheaper = straight.micros() / l.micros()
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1f\t%.2f\t%s\t%s\t%s\t%s\t%s\t\n", l.Kind, l.Name, l.rate(), l.volume(), l.micros(),
				known("%.3f", l.each(l.Mallocs)), known("%.0f", l.each(l.Heap)), known("%.0f", float64(l.Peak>>20)), known("%.2f", l.Faster), known("%.2f", l.Cheaper))
		}
	}
	_ = t.Flush() // to the terminal
	if len(r.checks) > 0 {
		fmt.Fprintf(w, "\nBytes into checked columns on one core, beside encoding/json, jsonschema/v5 and Arrow's builders: the least of several runs in turn, processor time.\nPortable is without vector instructions.\n\n")
		fmt.Fprintln(t, "RECORDS\tbytes\tcompiled whole\tns/record\tMB/s\tallocs/record\tportable ns/record\tnaive ns/record\tnaive allocs/record\tx naive\tportable\t")
		for _, c := range r.checks {
			fmt.Fprintf(t, "%s\t%d\t%t\t%.0f\t%.0f\t%.3f\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t\n", c.Name, c.Bytes, c.Compiled, c.Ours, float64(c.Bytes)*1e3/c.Ours, c.Mallocs, c.Portable,
				c.Naive, c.NaiveMallocs, c.Naive/c.Ours, c.Naive/c.Portable)
		}
		_ = t.Flush()
	}
	if len(r.latencies) > 0 {
		fmt.Fprintf(w, "\nFrom a record's timestamp to the manifest that commits it, segments of one second at most.\n\n")
		fmt.Fprintln(t, "RECORDS\tBROKER\trecords/s\tmeasured\tp50\tp99\tmax\t")
		for _, l := range r.latencies {
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%d\t%s\t%s\t%s\t\n", l.Kind, l.Broker, l.Rate, l.Measured, millis(l.P50), millis(l.P99), millis(l.Max))
		}
		_ = t.Flush()
	}
	if len(r.marks) > 0 {
		fmt.Fprintf(w, "\nThe memory of one long run.\n\n")
		fmt.Fprintln(t, "RECORDS\ttaken in\tresident MiB\tpeak MiB\t")
		for _, m := range r.marks {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t\n", m.Kind, m.Records, m.Resident>>20, m.Peak>>20)
		}
		_ = t.Flush()
	}
	for _, a := range r.absent {
		fmt.Fprintf(w, "\nNot compared with %s\n", a)
	}
}

// known prints a figure that was measured, and nothing for one that was not.
func known(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func millis(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
