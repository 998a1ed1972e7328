package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/verify"
)

const rowsOfFile = 5_000

// workplace makes a configuration with short segments, and a file of rows of which every fiftieth is broken.
func workplace(t *testing.T) (*config.Config, string) {
	t.Helper()
	dir := t.TempDir()
	if err := envelope.CreateKeyFile(filepath.Join(dir, "keys.json"), "default"); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	for i := range rowsOfFile {
		if i%50 == 49 {
			fmt.Fprintf(&rows, "{\"n\":\"%d\"}\n", i)
		} else {
			fmt.Fprintf(&rows, "{\"n\":%d}\n", i)
		}
	}
	for name, text := range map[string]string{
		"taster.yaml":   "contracts: [numbers.yaml]\nlanding: {url: file://./landing, segment: {records: 170}}\nkeys: {default: keyfile://./keys.json#default}\n",
		"numbers.yaml":  "topic: numbers\nowner: me\nclassification: public\nschema: numbers.json\n",
		"numbers.json":  `{"type":"object","properties":{"n":{"type":"integer"}}}`,
		"numbers.jsonl": rows.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := config.Load(filepath.Join(dir, "taster.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c, filepath.Join(dir, "numbers.jsonl")
}

func backfill(ctx context.Context, c *config.Config, input string, progress func(int64)) (*app.Backfilled, error) {
	a, err := app.Open(ctx, c, slog.New(slog.NewTextHandler(io.Discard, nil)), "backfill")
	if err != nil {
		return nil, err
	}
	contract, err := a.Contract("numbers")
	if err != nil {
		return nil, err
	}
	result, err := a.Backfill(ctx, contract, []string{input}, progress)
	return result, errors.Join(err, a.Close(ctx, err))
}

// landedOnce checks that every row of the file landed exactly once, with its own value, and that the zone is good.
func landedOnce(t *testing.T, c *config.Config) {
	t.Helper()
	found := make([]int, rowsOfFile)
	columns := func(finding.Verdict) []string { return []string{"n", "taster_raw", "taster_offset"} }
	err := app.Walk(t.Context(), c, c.Landing.URL, "test", columns, func(f manifest.File, batch arrow.RecordBatch) error {
		offsets := batch.Column(1).(*array.Int64)
		for i := range int(batch.NumRows()) {
			at := offsets.Value(i)
			found[at]++
			if f.Verdict == finding.Rejected {
				if got := batch.Column(0).(*array.Binary).ValueString(i); got != fmt.Sprintf(`{"n":"%d"}`, at) || at%50 != 49 {
					return fmt.Errorf("offset %d was rejected with %q", at, got)
				}
			} else if got := batch.Column(0).(*array.Int64).Value(i); got != at {
				return fmt.Errorf("offset %d holds %d", at, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for at, n := range found {
		if n != 1 {
			t.Fatalf("row %d landed %d times", at, n)
		}
	}
	report, err := app.Verify(t.Context(), c.Landing.URL, c, verify.Options{})
	if err != nil || !report.OK {
		t.Errorf("verify: %v %+v", err, report)
	}
}

// A backfill that was stopped goes on where it was.
func TestBackfillIsResumed(t *testing.T) {
	c, input := workplace(t)
	stopped := 0
	for part := int64(1); part <= 3; part++ {
		ctx, cancel := context.WithCancel(t.Context())
		var taken atomic.Int64
		_, err := backfill(ctx, c, input, func(n int64) {
			if taken.Add(n) > 400*part {
				cancel()
			}
		})
		cancel()
		if errors.Is(err, context.Canceled) {
			stopped++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if stopped == 0 {
		t.Error("no backfill was stopped: the test shows nothing")
	}
	if _, err := backfill(t.Context(), c, input, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	landedOnce(t, c)
	result, err := backfill(t.Context(), c, input, func(int64) {})
	if err != nil || result.Read != 0 || len(result.AlreadyLanded) != 1 {
		t.Errorf("once more: %v %+v", err, result)
	}
}

// Several processes work on the same file into the same landing zone: they meet at every manifest, and still each row
// lands once.
func TestBackfillOfOneFileByMany(t *testing.T) {
	c, input := workplace(t)
	var landed atomic.Int64
	var wait sync.WaitGroup
	for range 3 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			result, err := backfill(t.Context(), c, input, func(int64) {})
			if err != nil {
				t.Error(err)
				return
			}
			landed.Add(result.Accepted + result.Quarantined + result.Rejected)
		}()
	}
	wait.Wait()
	landedOnce(t, c)
	if landed.Load() != rowsOfFile {
		t.Errorf("together they landed %d rows of %d", landed.Load(), rowsOfFile)
	}
}
