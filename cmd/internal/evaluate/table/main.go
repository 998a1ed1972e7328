// Command table judges taster's detectors on the public data that TASTER_EVAL_DATA names and writes what it finds into a
// document, between markers. It is what make eval runs.
//
//	go run ./cmd/internal/evaluate/table [-parts backdoors,labels,tabular,embeddings,clean,attacks] [-draws 5] [-rows 6000] [-quick] [-doc FILE]
//
// Everything is judged with the default configuration: nothing is set for a data set but which field plays which part.
// All randomness is seeded, so that the same code gives the same figures; only times differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// run is one run of the program.
type run struct {
	data    string // folder with the evaluation data
	scratch string // folder for contracts and schemas
	draws   int    // of the reference
	rows    int    // of a stream that attacks are planted in
	quick   bool   // without attacks unsupervised, and without texts that have embeddings beside them
	began   time.Time
}

// part is one section of the document.
type part struct {
	name  string
	write func(context.Context, *run, *strings.Builder) error
}

var parts = []part{
	{"backdoors", backdoors},
	{"labels", labelErrors},
	{"tabular", tabular},
	{"embeddings", embeddings},
	{"clean", clean},
	{"attacks", attacks},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		stop()
		os.Exit(1)
	}
}

func work(ctx context.Context) error {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	wanted := flag.String("parts", strings.Join(names, ","), "what to judge")
	draws := flag.Int("draws", 5, "seeded draws of the reference, of which the mean is told")
	rows := flag.Int("rows", 6000, "records of a stream that attacks are planted in")
	quick := flag.Bool("quick", false, "attacks with a reference only; no texts with embeddings beside them")
	doc := flag.String("doc", "", "the document that is brought up to date; none: print only")
	flag.Parse()
	r := &run{data: os.Getenv("TASTER_EVAL_DATA"), draws: *draws, rows: *rows, quick: *quick, began: time.Now()}
	if r.data == "" {
		return errors.New("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	chosen := strings.Split(*wanted, ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no part %q: want some of %s", name, strings.Join(names, ","))
		}
	}
	var err error
	if r.scratch, err = os.MkdirTemp("", "taster-eval-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.scratch)
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		from := time.Now()
		var b strings.Builder
		if err := p.write(ctx, r, &b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		command, flags := "make eval PARTS="+p.name, []string(nil)
		flag.Visit(func(f *flag.Flag) {
			if f.Name == "draws" || f.Name == "rows" || f.Name == "quick" {
				flags = append(flags, "-"+f.Name+"="+f.Value.String())
			}
		})
		if flags != nil {
			command += " FLAGS='" + strings.Join(flags, " ") + "'"
		}
		fmt.Fprintf(&b, "\n%s, `%s`; %.0f s on %d cores.\n", revision(), command, time.Since(from).Seconds(), runtime.GOMAXPROCS(0))
		fmt.Printf("\n## %s\n\n%s", p.name, b.String())
		if *doc != "" {
			if err := replace(*doc, p.name, b.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// say tells how far the run has come.
func (r *run) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, a...))
}

// revision tells what was judged, as far as the build knows.
func revision() string {
	if of := os.Getenv("TASTER_EVAL_REVISION"); of != "" {
		return "Revision " + of
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "Revision " + s.Value[:12]
			}
		}
	}
	return "Revision not known"
}

// replace puts text between the markers of a part.
func replace(path, part, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	opening, closing := "<!-- eval "+part+" -->\n", "<!-- end of eval "+part+" -->"
	before, rest, ok := strings.Cut(string(old), opening)
	_, after, closed := strings.Cut(rest, closing)
	if !ok || !closed {
		return fmt.Errorf("%s has no %q with a %q behind it", filepath.Base(path), strings.TrimSpace(opening), closing)
	}
	return os.WriteFile(path, []byte(before+opening+"\n"+text+"\n"+closing+after), 0o644)
}
