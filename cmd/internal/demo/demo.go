package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/report"
)

// Options say what to show.
type Options struct {
	Landing  string // a folder that is empty or not there; "": a temporary one
	Records  int
	Seed     uint64
	Progress func(n int64) // records that were taken in
	Log      *slog.Logger

	Accelerator config.Use // "": as the configuration says, which says nothing
}

// Result is what came of it; its JSON form is public. Lost and Duplicated are counted by reading the landing zone
// back and comparing it with what was published, id by id.
type Result struct {
	Published           int     `json:"published"`
	Accepted            int     `json:"accepted"`
	Quarantined         int     `json:"quarantined"`
	Rejected            int     `json:"rejected"`
	Lost                int     `json:"lost"`
	Duplicated          int     `json:"duplicated"`
	Poisoned            int     `json:"poisoned"`
	PoisonedQuarantined int     `json:"poisoned_quarantined"`
	Clean               int     `json:"clean"`
	CleanQuarantined    int     `json:"clean_quarantined"`
	RecordsPerSecond    float64 `json:"records_per_second"`
	Landing             string  `json:"landing"`
	Config              string  `json:"config"`

	Broken         int         `json:"broken"`
	BrokenRejected int         `json:"broken_rejected"` // for the reason for which they were broken
	Recalled       int         `json:"recalled"`        // accepted, and suspicious by what came later
	Attacks        []Attack    `json:"attacks"`
	Example        *Explained  `json:"-"`
	Reference      *app.Fitted `json:"reference"`
}

// Attack is one of the planted ones.
type Attack struct {
	Name        Kind `json:"name"`
	Planted     int  `json:"planted"`
	Quarantined int  `json:"quarantined"`
}

// Explained is one flagged record with its text.
type Explained struct {
	report.Flagged
	Kind Kind
}

// referenceRows is how much trusted history a marketplace with so many records has.
func referenceRows(records int) int { return max(1_000, min(records/5, 10_000)) }

// Run shows the whole of it: it makes a reference from trusted history, publishes traffic with planted poison to an
// embedded broker, tastes it as taster run does, and counts what has landed.
func Run(ctx context.Context, o Options) (*Result, error) {
	result := &Result{}
	folder, err := prepare(&o)
	if err != nil {
		return nil, err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, reviews), kfake.SeedTopics(1, verdicts, deadLetters))
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	defer cluster.Close()
	if result.Config, err = WriteConfig(folder, o.Landing, cluster.ListenAddrs()); err != nil {
		return nil, err
	}
	if result.Reference, err = fit(ctx, &o, result.Config, folder); err != nil {
		return nil, err
	}
	truth, err := publish(ctx, &o, cluster.ListenAddrs())
	if err != nil {
		return nil, err
	}
	result.Published = len(truth)
	loaded, err := o.load(result.Config)
	if err != nil {
		return nil, err
	}
	took, err := taste(ctx, &o, loaded, len(truth))
	if err != nil {
		return nil, err
	}
	result.RecordsPerSecond = float64(len(truth)) / took.Seconds()
	result.Landing = o.Landing
	if err := count(ctx, loaded, o.Landing, truth, result); err != nil {
		return nil, err
	}
	return result, explain(ctx, loaded, o.Landing, truth, result)
}

// ErrNotEmpty says that the landing folder holds something already.
var ErrNotEmpty = errors.New("the folder is not empty")

// prepare finds places for the landing zone and, outside of it, for configuration and keys.
func prepare(o *Options) (folder string, err error) {
	if o.Landing == "" {
		if folder, err = os.MkdirTemp("", "taster-demo-"); err != nil {
			return "", err
		}
		o.Landing = filepath.Join(folder, "landing")
		return folder, nil
	}
	o.Landing = filepath.Clean(o.Landing)
	entries, err := os.ReadDir(o.Landing)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s: %w: the demo counts what it landed, so it wants a landing zone of its own", o.Landing, ErrNotEmpty)
	}
	folder = o.Landing + "-config"
	if _, err := os.Stat(folder); err == nil {
		return "", fmt.Errorf("%s: %w: an earlier demo's configuration and keys are there", folder, ErrNotEmpty)
	}
	return folder, nil
}

func (o *Options) load(path string) (*config.Config, error) {
	loaded, faults := config.Load(path)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	if o.Accelerator != "" {
		loaded.Accelerator.Use = o.Accelerator
	}
	return loaded, nil
}

// fit makes a reference from trusted history and has the contract name it.
func fit(ctx context.Context, o *Options, configPath, folder string) (*app.Fitted, error) {
	history, err := os.Create(filepath.Join(folder, "history.jsonl"))
	if err != nil {
		return nil, err
	}
	defer history.Close()
	var b []byte
	for r := range History(o.Seed, referenceRows(o.Records)) {
		b = append(append(b, r.Value...), '\n')
	}
	if _, err := history.Write(b); err != nil {
		return nil, err
	}
	loaded, err := o.load(configPath)
	if err != nil {
		return nil, err
	}
	a, err := app.Open(ctx, loaded, o.Log, "demo fit")
	if err != nil {
		return nil, err
	}
	c, err := a.Contract(reviews)
	if err != nil {
		return nil, err
	}
	fitted, err := a.Fit(ctx, c, []string{history.Name()}, app.FitOptions{}, func(int64) {})
	if err := errors.Join(err, a.Close(ctx, err)); err != nil {
		return nil, err
	}
	return fitted, os.WriteFile(filepath.Join(folder, "contracts", "reviews.yaml"), []byte(reviewContract+"  reference: reviews@latest\n"), 0o644)
}

// known is the truth of one record, and how often it was found.
type known struct {
	kind  Kind
	code  finding.Code
	found int
}

func publish(ctx context.Context, o *Options, brokers []string) (map[string]*known, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(reviews), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	truth := make(map[string]*known, o.Records)
	var mu sync.Mutex
	var failed error
	for r := range Traffic(o.Seed, o.Records) {
		truth[r.ID] = &known{kind: r.Kind, code: r.Code}
		client.Produce(ctx, &kgo.Record{Key: []byte(r.ID), Value: r.Value}, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	return truth, failed
}

// taste runs the pipeline of taster run until all records were taken in, and then stops it as SIGTERM would. It returns how
// long that took, from the first record to the last one's commit: without fitting the detectors and joining the group.
func taste(ctx context.Context, o *Options, c *config.Config, records int) (time.Duration, error) {
	a, err := app.Open(ctx, c, o.Log, "demo run")
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	taken, total := map[record.Source]int64{}, int64(0)
	var first time.Time
	err = a.Run(ctx, func(src record.Source, next int64) {
		mu.Lock()
		defer mu.Unlock()
		if first.IsZero() {
			first = time.Now()
		}
		o.Progress(next - taken[src])
		total += next - taken[src]
		taken[src] = next
		if total >= int64(records) {
			stop()
		}
	})
	return time.Since(first), errors.Join(err, a.Close(ctx, err))
}

// count reads the landing zone back and compares it with what was published.
func count(ctx context.Context, c *config.Config, landing string, truth map[string]*known, result *Result) error {
	caught := map[Kind]int{}
	planted := map[Kind]int{}
	for _, k := range truth {
		planted[k.kind]++
	}
	columns := func(v finding.Verdict) []string {
		if v == finding.Rejected {
			return []string{"taster_key", "taster_reasons"}
		}
		return []string{"id"}
	}
	err := app.Walk(ctx, c, landing, "count", columns, func(f manifest.File, batch arrow.RecordBatch) error {
		ids, err := idsOf(batch)
		if err != nil {
			return err
		}
		for i := range int(batch.NumRows()) {
			k := truth[ids(i)]
			if k == nil {
				result.Duplicated++ // something that was never published
				continue
			}
			if k.found++; k.found > 1 {
				result.Duplicated++
			}
			switch f.Verdict {
			case finding.Accepted:
				result.Accepted++
			case finding.Quarantined:
				result.Quarantined++
				caught[k.kind]++
			case finding.Rejected:
				result.Rejected++
				if k.kind == Broken && strings.Contains(batch.Column(1).ValueStr(i), `"`+string(k.code)+`"`) {
					result.BrokenRejected++
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range truth {
		if k.found == 0 {
			result.Lost++
		}
	}
	result.Clean, result.CleanQuarantined, result.Broken = planted[Clean], caught[Clean], planted[Broken]
	for _, kind := range Attacks {
		result.Attacks = append(result.Attacks, Attack{kind, planted[kind], caught[kind]})
		result.Poisoned += planted[kind]
		result.PoisonedQuarantined += caught[kind]
	}
	return nil
}

// idsOf finds the records' ids: the field of the contract's role, or the key of a record that could not be read.
func idsOf(batch arrow.RecordBatch) (func(int) string, error) {
	switch c := batch.Column(0).(type) {
	case *array.String:
		return c.Value, nil
	case *array.Binary:
		return c.ValueString, nil
	}
	return nil, fmt.Errorf("column %s holds no ids", batch.ColumnName(0))
}

// explain picks one flagged record to show: one with a trigger, if there is one.
func explain(ctx context.Context, c *config.Config, landing string, truth map[string]*known, result *Result) error {
	found, err := app.Report(ctx, c, landing, app.ReportOptions{}, func(int64) {})
	if err != nil {
		return err
	}
	result.Recalled = len(found.Recalls)
	for _, wanted := range append([]Kind{RareWord}, Attacks...) {
		for _, f := range found.Flagged {
			if k := truth[f.ID]; k != nil && k.kind == wanted {
				result.Example = &Explained{f, k.kind}
				return nil
			}
		}
	}
	return nil
}
