package bench

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"text/tabwriter"
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
	b.ReportMetric(l.each(l.Mallocs), prefix+"allocs/record")
	b.ReportMetric(l.each(l.Heap), prefix+"B/record")
	b.ReportMetric(0, "ns/op")
	if l.Faster > 0 {
		b.ReportMetric(l.Faster, prefix+"x-straight")
	}
}

// results collects lines; of a benchmark that go test repeats, the last counts.
type results struct {
	mu    sync.Mutex
	lines []line
}

var table results

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

// printTable prints everything that was measured for a person to read.
func printTable(w io.Writer) {
	if len(table.lines) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%d cores. CPU is processor time of all cores, which other programs on the machine disturb less than the clock.\n", runtime.GOMAXPROCS(0))
	fmt.Fprintf(w, "\"x straight\" is how many times as many records as the straight program, by the clock and by processor time.\n\n")
	fmt.Fprintln(t, "RECORDS\tWHAT\trecords/s\tMB/s\tCPU µs/record\tallocs/record\tB/record\tpeak MiB\tx straight\tby CPU\t")
	for _, kind := range kinds {
		for _, l := range table.lines {
			if l.Kind != kind.topic {
				continue
			}
			peak, faster, cheaper := "", "", ""
			if l.Peak > 0 {
				peak = fmt.Sprint(l.Peak >> 20)
			}
			if l.Faster > 0 {
				faster, cheaper = fmt.Sprintf("%.2f", l.Faster), fmt.Sprintf("%.2f", l.Cheaper)
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.1f\t%.2f\t%.3f\t%.0f\t%s\t%s\t%s\t\n",
				l.Kind, l.Name, l.rate(), l.volume(), l.micros(), l.each(l.Mallocs), l.each(l.Heap), peak, faster, cheaper)
		}
	}
	_ = t.Flush() // to the terminal
}
