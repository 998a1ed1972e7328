//go:build linux

package torture

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/detect/memory"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// zone opens the landing zone to look into it, with the keys of the configuration.
func (s *site) zone(ctx context.Context) (*landing.Zone, error) {
	for _, pair := range s.keys.env() {
		name, value, _ := strings.Cut(pair, "=")
		s.t.Setenv(name, value)
	}
	c, faults := config.Load(s.config)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	keys, err := envelope.Settings{Zones: c.Keys, Previous: c.Previous, Services: kms.Open}.Open(ctx)
	if err != nil {
		return nil, err
	}
	store, err := storage.OpenReadOnly(ctx, "file://"+s.landing)
	if err != nil {
		return nil, err
	}
	return landing.Open(ctx, landing.Options{Store: store, Keys: keys})
}

// remembered wants of every source that its last state holds every landed row once, and no other; that every segment was
// judged by the state of the one before it; and that old states are gone. Which rows a state holds is told by the
// detector that looks for near duplicates: it counts those that it has seen.
func (s *site) remembered() (states int, _ error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	zone, err := s.zone(ctx)
	if err != nil {
		return 0, err
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	var rows int64
	var last *landing.Committed
	end := func() {
		if last == nil {
			return
		}
		switch {
		case last.State == nil && rows > 0:
			fault("%s: %d rows have taught nothing", manifest.SourcePath(last.Source()), rows)
		case last.State != nil:
			states++
			if counted, err := countedBy(ctx, zone, last); err != nil || counted != rows {
				fault("%s: the state holds %d rows of %d that have landed: %w", manifest.SourcePath(last.Source()), counted, rows, err)
			}
		}
	}
	for m, err := range zone.Manifests(ctx, topic) {
		if err != nil {
			return states, err
		}
		if last == nil || last.Source() != m.Source() {
			end()
			last, rows = nil, 0
		}
		if last != nil && last.State != nil && !slices.Contains(m.Judged, last.State.Content) {
			fault("%s was judged without the state of the segment before it", m.Name())
		}
		last = m
		rows += m.Counts.Accepted + m.Counts.Quarantined
	}
	end()
	for o, err := range zone.OldStates(ctx) {
		if err != nil {
			return states, err
		}
		fault("%s is there, and nobody needs it", o.Name)
	}
	return states, errors.Join(faults...)
}

// countedBy returns of how many rows the state of a manifest was made.
func countedBy(ctx context.Context, zone *landing.Zone, m *landing.Committed) (int64, error) {
	plain, err := zone.State(ctx, m.State)
	if err != nil {
		return 0, err
	}
	state, err := memory.Decode(plain)
	if err != nil {
		return 0, err
	}
	if state.Source != m.Source() {
		return 0, fmt.Errorf("it is the state of %s", manifest.SourcePath(state.Source))
	}
	section := state.Section("near_duplicate")
	if section == nil || len(section.Data) < 2 {
		return 0, errors.New("it holds nothing of near duplicates")
	}
	// A byte for the version of the sketch, what it was made against, and how many rows.
	rest := section.Data[1:]
	_, n := binary.Uvarint(rest)
	if n <= 0 {
		return 0, errors.New("the sketch is of another form")
	}
	rows, n := binary.Uvarint(rest[n:])
	if n <= 0 {
		return 0, errors.New("the sketch is of another form")
	}
	return int64(rows), nil
}

// recall is what taster report --recalls prints of one record.
type recall struct {
	Source, ID, Reason string
	Partition          int32
	Offset             int64
	At                 struct{ Source string }
}

// recalls lists with the real command what is recalled.
func (s *site) recalls() (map[place]recall, error) {
	cmd := s.command("report", "-c", s.config, s.landing, "--recalls", "-o", "json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("report --recalls: %w: %s", err, tail(stderr.String(), 5))
	}
	var report struct {
		Recalls    []recall
		Unreadable int
	}
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || report.Recalls == nil || report.Unreadable > 0 {
		return nil, fmt.Errorf("report --recalls printed %d recalls, %d unreadable: %w", len(report.Recalls), report.Unreadable, err)
	}
	out := map[place]recall{}
	for _, r := range report.Recalls {
		at := place{r.Source, r.Partition, r.Offset}
		if _, twice := out[at]; twice {
			return nil, fmt.Errorf("the record at %v is listed twice", at)
		}
		out[at] = r
	}
	return out, nil
}

// recalled wants what is recalled to have been accepted, and to be what was published there.
func (tr *truth) recalled(recalls map[place]recall, flagged map[place]row) error {
	byPlace := map[place]*published{}
	for _, p := range tr.records {
		byPlace[p.at] = p
	}
	for at, r := range recalls {
		if p := byPlace[at]; p == nil || p.id != r.ID {
			return fmt.Errorf("at %v the record %s is recalled, which was not published there", at, r.ID)
		}
		if f, ok := flagged[at]; ok {
			return fmt.Errorf("the record at %v is recalled, and had been %s", at, f.Verdict)
		}
	}
	return nil
}
