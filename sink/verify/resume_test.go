package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/verify"
)

var errStopped = errors.New("stopped")

// stopping is a store that tells versions, and fails after a number of objects were opened.
type stopping struct {
	objects
	left *atomic.Int64
}

func stopAfter(zone objects, n int64) stopping {
	s := stopping{zone, new(atomic.Int64)}
	s.left.Store(n)
	return s
}

func (s stopping) List(ctx context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		for o, err := range s.objects.List(ctx) {
			o.Version = manifest.Digest(s.objects[o.Name])
			if !yield(o, err) {
				return
			}
		}
	}
}

func (s stopping) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if s.left.Add(-1) < 0 {
		return nil, errStopped
	}
	return s.objects.Open(ctx, name)
}

const never = 1 << 40

// ticking is a clock by which every look is worth saving.
func ticking() func() time.Time {
	var ticks atomic.Int64
	return func() time.Time { return at.Add(time.Duration(ticks.Add(1)) * time.Minute / 10) }
}

// TestResume stops a verification after every number of objects and lets the next one go on.
func TestResume(t *testing.T) {
	zone := buildWhole(t)
	plain := look(t, zone.objects, verify.Options{}, 0)
	resumed := int64(0)
	for n := int64(0); ; n++ {
		state := filepath.Join(t.TempDir(), "state")
		options := verify.Options{State: state, Zone: "zone", Now: ticking(), Workers: 1 + int(n%3)}
		if _, err := verify.Run(t.Context(), stopAfter(zone.objects, n), options); err == nil {
			break // it was not stopped any more
		} else if !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		report, err := verify.Run(t.Context(), stopAfter(zone.objects, never), options)
		if err != nil {
			t.Fatal(err)
		}
		resumed = max(resumed, report.Resumed)
		if report.Resumed > 0 && report.Bytes >= plain.Bytes {
			t.Errorf("stopped after %d: %d segments were passed over, and yet all %d bytes read", n, report.Resumed, report.Bytes)
		}
		report.Resumed, report.Bytes = 0, plain.Bytes
		if fmt.Sprintf("%+v", report) != fmt.Sprintf("%+v", plain) {
			t.Fatalf("stopped after %d: got\n%+v\nwant\n%+v", n, report, plain)
		}
		if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state is there still: %v", err)
		}
	}
	if resumed != 4 {
		t.Errorf("at most %d segments were passed over, want all 4", resumed)
	}
}

// TestResumeTrustsNothingElse changes every object after a verification was stopped near its end: the next one must
// name it, although it had been found good. Another verification does not use the state, nor one of a store that tells no
// versions.
func TestResumeTrustsNothingElse(t *testing.T) {
	zone := buildWhole(t)
	var late []byte
	for n := int64(0); ; n++ {
		state := filepath.Join(t.TempDir(), "state")
		_, err := verify.Run(t.Context(), stopAfter(zone.objects, n), verify.Options{State: state, Zone: "zone", Now: ticking()})
		if err == nil {
			break
		}
		if data, err := os.ReadFile(state); err == nil && len(data) >= len(late) {
			late = data
		}
	}
	again := func(store verify.Store, o verify.Options) *verify.Report {
		t.Helper()
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, late, 0o600); err != nil {
			t.Fatal(err)
		}
		o.State, o.Now = state, ticking()
		report, err := verify.Run(t.Context(), store, o)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := again(stopAfter(zone.objects, never), verify.Options{Zone: "zone"}); report.Resumed != 4 || !report.OK {
		t.Fatalf("%+v", report)
	}
	for _, name := range slices.Sorted(maps.Keys(zone.objects)) {
		data := bytes.Clone(zone.objects[name])
		data[len(data)/2] ^= 4
		if report := again(stopAfter(zone.with(name, data), never), verify.Options{Zone: "zone"}); !named(report, name) {
			t.Errorf("%s changed: %+v", name, report)
		}
	}
	file := zone.names("accepted/")[0]
	for what, report := range map[string]*verify.Report{
		"another zone": again(stopAfter(zone.objects, never), verify.Options{Zone: "another"}),
		"decrypting":   again(stopAfter(zone.objects, never), verify.Options{Zone: "zone", Read: wholeReader(zone.objects, zone.keys)}),
		"no versions":  again(zone.objects, verify.Options{Zone: "zone"}),
	} {
		if report.Resumed != 0 || !report.OK {
			t.Errorf("%s: %+v", what, report)
		}
	}
	added := file[:len(file)-len("0123456789abcdef.parquet")] + "0123456789abcdef.parquet"
	if report := again(stopAfter(zone.with(added, []byte("x")), never), verify.Options{Zone: "zone"}); !named(report, added) {
		t.Errorf("%s added: %+v", added, report)
	}
	for _, broken := range []string{"", "{}\n", string(late[:len(late)-5]), string(late) + "nonsense\n", strings.ReplaceAll(string(late), `"listing":"`, `"listing":"0`)} {
		state := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(state, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := verify.Run(t.Context(), stopAfter(zone.objects, never), verify.Options{Zone: "zone", State: state, Now: ticking()})
		if err != nil || !report.OK || report.Manifests != 4 {
			t.Errorf("with a broken state: %v %+v", err, report)
		}
	}
}

// TestSince looks only at what came after a checkpoint: what came before may be changed unseen, what came after not, and
// neither the links between them.
func TestSince(t *testing.T) {
	zone := buildWhole(t)
	everything := look(t, zone.objects, verify.Options{}, 0)
	seen := map[int64]int{}
	for sequence := range int64(3) {
		o := verify.Options{SinceSequence: &sequence}
		report := look(t, zone.objects, o, 0)
		if !report.OK || report.Since == nil || report.Since.Sequence != sequence || report.Bytes >= everything.Bytes || report.Manifests >= everything.Manifests {
			t.Errorf("since %d: %+v", sequence, report)
		}
		for _, name := range slices.Sorted(maps.Keys(zone.objects)) {
			data := bytes.Clone(zone.objects[name])
			data[len(data)/2] ^= 4
			report := look(t, zone.with(name, data), o, 0)
			if named(report, name) {
				seen[sequence]++
			} else if !report.OK {
				t.Errorf("since %d, %s changed: another object is named: %+v", sequence, name, report)
			}
			for _, is := range []string{"change", "change entry", "checkpoint", "sealed key", "public key"} {
				if kinds[is](name) && report.OK {
					t.Errorf("since %d, %s changed: not seen", sequence, name)
				}
			}
		}
	}
	if seen[0] <= seen[1] || seen[1] <= seen[2] {
		t.Errorf("the later the checkpoint the less is seen: %v", seen)
	}
	all := int64(7)
	if report := look(t, zone.objects, verify.Options{SinceSequence: &all}, 0); !report.OK || report.Since.Sequence != 2 {
		t.Errorf("since a checkpoint that is not there yet: %+v", report)
	}
	if report := look(t, zone.objects, verify.Options{SinceTime: at.Add(-time.Hour)}, 0); report.Since != nil || report.Manifests != 4 {
		t.Errorf("since before the first checkpoint: %+v", report)
	}
	if report := look(t, zone.objects, verify.Options{SinceTime: at}, 0); report.Since == nil || report.Since.Sequence != 2 {
		t.Errorf("since the last: %+v", report)
	}
}
