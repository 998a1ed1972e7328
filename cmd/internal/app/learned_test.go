package app_test

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// zoneOf opens the landing zone of a configuration as its instances do.
func zoneOf(t *testing.T, c *config.Config, process string) *landing.Zone {
	t.Helper()
	keys, err := envelope.Settings{Zones: c.Keys, Previous: c.Previous}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), c.Landing.URL)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := landing.Open(t.Context(), landing.Options{Store: store, Keys: keys, Process: process})
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestWhatWasLearnedSurvivesRotationAndTidying saves states and recalls, changes their master key, and deletes old ones.
func TestWhatWasLearnedSurvivesRotationAndTidying(t *testing.T) {
	dir := t.TempDir()
	if err := envelope.CreateKeyFile(filepath.Join(dir, "keys.json"), "a", "b"); err != nil {
		t.Fatal(err)
	}
	load := func(name, keys string) *config.Config {
		t.Helper()
		for file, text := range map[string]string{
			name:           "contracts: [numbers.yaml]\nlanding: {url: file://./landing, key_material: external}\nkeys: {" + keys + "}\n",
			"numbers.yaml": "topic: numbers\nowner: me\nclassification: public\nschema: numbers.json\nrestricted: [/s]\nroles: {id: /n}\n",
			"numbers.json": `{"type":"object","properties":{"n":{"type":"integer"},"s":{"type":"string"}}}`,
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, faults := config.Load(filepath.Join(dir, name))
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return c
	}
	before := load("before.yaml", `default: "keyfile://./keys.json#a"`)
	during := load("during.yaml", `default: "keyfile://./keys.json#b", previous: ["keyfile://./keys.json#a"]`)
	after := load("after.yaml", `default: "keyfile://./keys.json#b"`)

	source := record.Source{Topic: "numbers", ID: "AAAAAAAAAAAAAAAAAAAAAQ", Partition: 3}
	var head landing.Head
	commit := func(c *config.Config, n int) {
		t.Helper()
		process := audit.NewProcess(time.Now())
		zone := zoneOf(t, c, process)
		var err error
		if head, err = zone.Head(t.Context(), source, nil); err != nil {
			t.Fatal(err)
		}
		err = audit.OpenProcess(zone.Store(), process, time.Now).Append(t.Context(), audit.Entry{Event: audit.Start})
		for i := range n {
			first := head.Next()
			d := &record.Decision{State: fmt.Appendf(nil, "until %d", first+5), Judged: []string{}}
			if own := head.Last; own != nil && own.State != nil {
				d.Judged = []string{own.State.Content}
			}
			if i == 1 {
				d.Recalls = []record.Recall{{Source: source, Offset: 2, Code: finding.PoisonTrigger, Finding: finding.Finding{Detector: "drip", Evidence: "a word"}}}
			}
			segment := &record.Segment{Source: source, First: first, Next: first + 5}
			if head, err = zone.Commit(t.Context(), segment, d, c.Contracts[0], head); err != nil {
				t.Fatal(err)
			}
			if err = audit.OpenCommits(zone.Store()).Append(t.Context(), head.Last.Manifest); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	commit(before, 2)
	with := func(c *config.Config, do func(*app.App) error) {
		t.Helper()
		a, err := app.Open(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)), "test")
		if err != nil {
			t.Fatal(err)
		}
		err = do(a)
		if closed := a.Close(t.Context(), err); err != nil || closed != nil {
			t.Fatal(err, closed)
		}
	}
	rotate := func(dry bool, resealed int64) {
		t.Helper()
		with(during, func(a *app.App) error {
			done, err := a.RotateKeys(t.Context(), app.Rotation{DryRun: dry}, nil)
			if err == nil && (!done.OK || done.Resealed != resealed) {
				t.Errorf("dry run %v: %+v, want %d resealed", dry, done, resealed)
			}
			return err
		})
	}
	// Two states, and recalls.
	rotate(true, 3)
	rotate(false, 3)
	rotate(false, 0)

	lone := zoneOf(t, after, "x")
	if state, err := lone.State(t.Context(), head.Last.State); err != nil || string(state) != "until 10" {
		t.Errorf("without the former key the state is %q: %v", state, err)
	}
	recalled, err := app.Recalls(t.Context(), after, after.Landing.URL)
	if err != nil || len(recalled.Recalls) != 1 || recalled.Unreadable != 0 {
		t.Fatalf("recalled %+v: %v", recalled, err)
	}
	if r := recalled.Recalls[0]; r.Offset != 2 || r.Partition != 3 || r.ID != "AAAAAAAAAAAAAAAAAAAAAQ/3/2" || r.Evidence != "a word" || r.At.First != 5 {
		t.Errorf("recalled %+v", r)
	}
	good := func(c *config.Config, notes ...string) {
		t.Helper()
		report, err := app.Verify(t.Context(), c.Landing.URL, c, verify.Options{})
		if err != nil || !report.OK || report.States != 1 || report.Recalls < 1 {
			t.Fatalf("verify: %v %+v", err, report)
		}
		var got []string
		for _, n := range report.Notes {
			got = append(got, n.Code)
		}
		if !slices.Equal(got, notes) {
			t.Errorf("notes %v, want %v", report.Notes, notes)
		}
	}
	good(during)
	good(after, "key_unavailable", "key_unavailable") // the originals: nobody needs them

	commit(after, 3)
	states := func() (names []string) {
		for o, err := range lone.States(t.Context(), "numbers") {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, o.Name)
		}
		return names
	}
	if got := states(); len(got) != 2*2+3 {
		t.Errorf("there are %v", got)
	}
	with(after, func(a *app.App) error {
		done, err := a.Tidy(t.Context(), 0, true)
		if err == nil && (done.States.Files != 5 || done.Orphans.Files != 0) {
			t.Errorf("a dry run would delete %+v", done)
		}
		return err
	})
	with(after, func(a *app.App) error {
		done, err := a.Tidy(t.Context(), 0, false)
		if err == nil && (done.States.Files != 5 || done.States.Bytes == 0 || done.Orphans.Files != 0) {
			t.Errorf("deleted %+v", done)
		}
		return err
	})
	if got := states(); len(got) != 2 || !strings.Contains(got[0], "/00000000000000000015.") || got[1] != head.Last.State.Name {
		t.Errorf("%v are left", got)
	}
	good(after, "key_unavailable") // of the recalls
}
