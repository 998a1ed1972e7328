package verify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// remembering makes a zone of one partition with three segments, each of which taught something.
func remembering(t testing.TB) (objects, *envelope.Keyring) {
	return buildZone(t, func(store storage.Store, keys *envelope.Keyring) {
		w := begin(t, store, keys, at)
		w.memory = map[record.Source][]byte{}
		for _, next := range []int64{4, 8, 12} {
			w.commit(first, next)
		}
	})
}

func unsealer(zone objects, keys *envelope.Keyring) verify.Unsealer {
	return func(ctx context.Context, name string) ([]byte, error) { return keys.Unseal(ctx, name, zone[name]) }
}

// codes lists what a report complains of, or remarks.
func codes(found []verify.Problem) (out []string) {
	for _, p := range found {
		out = append(out, p.Code)
	}
	slices.Sort(out)
	return out
}

func TestStatesComeAndGo(t *testing.T) {
	zone, keys := remembering(t)
	states, recalls := zone.names("_state/"), zone.names("_recalls/")
	if len(states) != 3 || len(recalls) != 2 {
		t.Fatalf("there are %v and %v", states, recalls)
	}
	for what, c := range map[string]struct {
		zone objects
		want []string
	}{
		"all":                     {zone, nil},
		"the first deleted":       {zone.with(states[0], nil), nil},
		"the older ones deleted":  {zone.with(states[0], nil).with(states[1], nil), nil},
		"the newest deleted":      {zone.with(states[2], nil), []string{"state_missing"}},
		"the first changed":       {zone.with(states[0], []byte("x")), []string{"state_changed"}},
		"an earlier one put back": {zone.with(states[2], zone[states[1]]), []string{"state_changed"}},
		"recalls deleted":         {zone.with(recalls[0], nil), []string{"recalls_missing"}},
		"recalls exchanged":       {zone.with(recalls[0], zone[recalls[1]]), []string{"recalls_changed"}},
	} {
		report := look(t, c.zone, verify.Options{Unseal: unsealer(c.zone, keys)}, 2*time.Hour)
		if got := codes(report.Problems); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, report.Problems, c.want)
		}
		if report.States != 1 || report.Recalls != 2 {
			t.Errorf("%s: %d states and %d recalls", what, report.States, report.Recalls)
		}
	}

	// A state whose partition goes on meanwhile is no more looked for.
	later := zone.with(states[2], nil)
	last := zone.names("_commits/")[2]
	text := strings.Replace(last, "008.json", "012.json", 1)
	report := look(t, appearing{later, text, []byte("{}")}, verify.Options{}, 2*time.Hour)
	if slices.Contains(codes(report.Problems), "state_missing") {
		t.Errorf("the partition went on: %+v", report.Problems)
	}
}

// appearing is a zone in which an object appears that was not listed.
type appearing struct {
	objects
	name string
	data []byte
}

func (a appearing) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == a.name {
		return objects{name: a.data}.Open(ctx, name)
	}
	return a.objects.Open(ctx, name)
}

func TestStatesWithKeys(t *testing.T) {
	zone, keys := remembering(t)
	newest := zone.names("_state/")[2]
	for what, c := range map[string]struct {
		object   string
		plain    []byte
		err      error
		problems []string
		notes    []string
	}{
		"another state":       {newest, []byte("another"), nil, []string{"state_content"}, nil},
		"broken":              {newest, nil, errors.New("broken"), []string{"state_unreadable"}, nil},
		"the key is gone":     {newest, nil, fmt.Errorf("%w: destroyed", verify.ErrKey), nil, []string{"key_unavailable"}},
		"an old one is":       {zone.names("_state/")[1], nil, errors.New("broken"), nil, nil}, // nobody needs it
		"other recalls":       {zone.names("_recalls/")[0], []byte("{}\n"), nil, []string{"recalls_content"}, nil},
		"recalls without key": {zone.names("_recalls/")[0], nil, fmt.Errorf("%w: destroyed", verify.ErrKey), nil, []string{"key_unavailable"}},
	} {
		unseal := func(ctx context.Context, name string) ([]byte, error) {
			if name == c.object {
				return c.plain, c.err
			}
			return unsealer(zone, keys)(ctx, name)
		}
		report := look(t, zone, verify.Options{Unseal: unseal}, 0)
		if !slices.Equal(codes(report.Problems), c.problems) || !slices.Equal(codes(report.Notes), c.notes) {
			t.Errorf("%s: %+v, notes %+v", what, report.Problems, report.Notes)
		}
	}
	if _, err := verify.Run(t.Context(), zone, verify.Options{Unseal: func(context.Context, string) ([]byte, error) {
		return nil, fmt.Errorf("%w: the key service", verify.ErrAway)
	}}); err == nil {
		t.Error("a key service that does not answer says nothing about the zone")
	}
}

// A partition that had to begin anew is good, and it is said.
func TestStateRestarted(t *testing.T) {
	zone, _ := buildZone(t, func(store storage.Store, keys *envelope.Keyring) {
		w := begin(t, store, keys, at)
		w.memory = map[record.Source][]byte{}
		w.commit(first, 4)
		w.memory = map[record.Source][]byte{} // it could not be read
		w.commit(first, 8)
		w.commit(first, 12)
	})
	report := look(t, zone, verify.Options{}, 0)
	if !report.OK || len(report.Notes) != 1 || report.Notes[0].Code != "state_restarted" || report.Notes[0].Object != zone.names("_commits/")[1] {
		t.Errorf("%+v", report)
	}
}
