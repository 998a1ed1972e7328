package landing

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// learn decides as decide does, and remembers how many rows were accepted so far, and the sum of their offsets. It
// recalls the first accepted record of the segment before.
func learn(seg *record.Segment, own []byte) *record.Decision {
	d := decide(seg)
	n, sum := uint64(0), uint64(0)
	if own != nil {
		n, sum = binary.BigEndian.Uint64(own), binary.BigEndian.Uint64(own[8:])
		d.Judged = []string{manifest.Digest(own)}
	}
	row := 0
	for _, b := range seg.Batches {
		for _, o := range b.Origins {
			if d.Verdicts[row] == finding.Accepted {
				n, sum = n+1, sum+uint64(o.Offset)
			}
			row++
		}
	}
	d.State = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n), sum)
	if seg.First > 0 {
		d.Recalls = []record.Recall{{Source: seg.Source, Offset: seg.First - 20, Code: finding.PoisonTrigger, Finding: finding.Finding{
			Detector: "trigger", Score: math.Inf(1), PValue: 1e-9, Threshold: math.NaN(), Evidence: "<note> & more", Code: finding.PoisonTrigger,
		}}}
	}
	return d
}

// remember lands what is left until end, as a stream does that begins at the head.
func remember(ctx context.Context, z *Zone, end int64) (Head, error) {
	h, err := z.Head(ctx, source, nil)
	if err != nil {
		return h, err
	}
	var own []byte
	if h.Last != nil {
		if own, err = z.State(ctx, h.Last.State); err != nil {
			return h, err
		}
	}
	for h.Next() < end {
		seg := segment(h.Next(), h.Next()+20)
		d := learn(seg, own)
		next, err := z.Commit(ctx, seg, d, accepted, h)
		seg.Release()
		if err != nil {
			return h, err
		}
		h, own = next, d.State
	}
	return h, nil
}

// learnedSealed returns the names of the states and recalls that are there.
func learnedSealed(t testing.TB, store storage.Store) (out []string) {
	t.Helper()
	for _, folder := range []string{manifest.StateFolder, manifest.RecallsFolder} {
		for info, err := range store.List(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, info.Name)
		}
	}
	return out
}

func TestStateAndRecallsLandWithTheSegment(t *testing.T) {
	dir := t.TempDir()
	store := posix(t, dir)
	z := zone(t, store)
	h, err := remember(t.Context(), z, 60)
	if err != nil {
		t.Fatal(err)
	}
	own := []byte(nil)
	for m, err := range z.Since(t.Context(), source, 0) {
		if err != nil {
			t.Fatal(err)
		}
		seg := segment(m.First, m.Next)
		want := learn(seg, own)
		seg.Release()
		got, err := z.State(t.Context(), m.State)
		if err != nil || !slices.Equal(got, want.State) || !slices.Equal(m.Judged, want.Judged) {
			t.Errorf("segment %d: state %x judged by %v, want %x by %v: %v", m.First, got, m.Judged, want.State, want.Judged, err)
		}
		recalls, err := z.Recalls(t.Context(), m.Manifest)
		if err != nil || len(recalls) != len(want.Recalls) {
			t.Fatalf("segment %d: %d recalls, want %d: %v", m.First, len(recalls), len(want.Recalls), err)
		}
		for i := range recalls {
			if f := &recalls[i].Finding; !math.IsNaN(f.Score) || !math.IsNaN(f.Threshold) {
				t.Errorf("a number that JSON has not came back as %v and %v", f.Score, f.Threshold)
			}
			recalls[i].Finding.Score, recalls[i].Finding.Threshold = 0, 0
			want.Recalls[i].Finding.Score, want.Recalls[i].Finding.Threshold = 0, 0
			if !reflect.DeepEqual(recalls[i], want.Recalls[i]) {
				t.Errorf("segment %d: recalled %+v, want %+v", m.First, recalls[i], want.Recalls[i])
			}
		}
		own = got
	}
	if got := learnedSealed(t, store); len(got) != 3+2 {
		t.Errorf("there are %v", got)
	}
	for _, name := range learnedSealed(t, store) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil || strings.Contains(string(data), "note") || strings.Contains(string(data), string(own)) {
			t.Errorf("%s is not encrypted: %v", name, err)
		}
	}
	var old []string
	for info, err := range z.OldStates(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, info.Name)
	}
	if len(old) != 1 || !strings.HasPrefix(old[0], manifest.StateFolder) || !strings.Contains(old[0], "/00000000000000000000.") {
		t.Errorf("of three states %v are old, want the first", old)
	}

	// Nothing is remembered: the manifest is as it always was.
	seg := segment(60, 80)
	defer seg.Release()
	if h, err = z.Commit(t.Context(), seg, decide(seg), accepted, h); err != nil {
		t.Fatal(err)
	}
	if state, err := z.State(t.Context(), h.Last.State); h.Last.State != nil || h.Last.Recalls != nil || h.Last.Judged != nil || state != nil || err != nil {
		t.Errorf("a segment that taught nothing lists %v, %v, %v: %v", h.Last.State, h.Last.Recalls, h.Last.Judged, err)
	}
}

// A writer that loses throws its state away with its files.
func TestLostStateIsThrownAway(t *testing.T) {
	dir := t.TempDir()
	real := posix(t, dir)
	store := &delaying{Store: real}
	winner := zone(t, real)
	store.put = func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, manifest.CommitsFolder) {
			if _, err := remember(t.Context(), winner, 40); err != nil {
				t.Fatal(err)
			}
		}
		return real.Put(ctx, name, data)
	}
	if _, err := remember(t.Context(), zone(t, store), 20); !errors.Is(err, ErrLost) {
		t.Fatalf("got %v, want ErrLost", err)
	}
	if got := learnedSealed(t, real); len(got) != 3 {
		t.Errorf("there are %v, want the winner's two states and one object of recalls", got)
	}
}

// TestStateKilledAnywhere kills a writer before and after each operation; another goes on. Rows and state agree whatever
// the moment, and what the dead one left is found and nothing else.
func TestStateKilledAnywhere(t *testing.T) {
	const end = 40
	want := func() []byte {
		z := zone(t, posix(t, t.TempDir()))
		h, err := remember(t.Context(), z, end)
		if err != nil {
			t.Fatal(err)
		}
		state, err := z.State(t.Context(), h.Last.State)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}()
	// After one operation is before the next, but for what the writer itself does about an error: a third is enough of that.
	for effect, step := range map[string]int{"before": 1, "after": 3} {
		for kill, orphans := 1, 0; ; kill += step {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			count, dead := 0, false
			hook := func(o op) error {
				if !dead && o.kind != "write" {
					count++
					if dead = count == kill; dead {
						cancel()
					}
				}
				if dead {
					return errInjected
				}
				return nil
			}
			silent := func(op) error {
				if dead {
					return errInjected
				}
				return nil
			}
			store := &faulty{Store: &uncanceled{posix(t, dir)}, before: hook}
			if effect == "after" {
				store.before, store.after = silent, hook
			}
			_, err := remember(ctx, zone(t, store), end)
			cancel()
			z := zone(t, posix(t, dir))
			h, again := remember(t.Context(), z, end)
			if again != nil {
				t.Fatalf("killed %s operation %d: taking over: %v", effect, kill, again)
			}
			if got, err := z.State(t.Context(), h.Last.State); err != nil || !slices.Equal(got, want) {
				t.Fatalf("killed %s operation %d: the state is %x, want %x: %v", effect, kill, got, want, err)
			}
			n, _, orphansErr := z.DeleteOrphans(t.Context(), z.Orphans(t.Context()))
			if orphansErr != nil {
				t.Fatal(orphansErr)
			}
			orphans += n
			if got := learnedSealed(t, posix(t, dir)); len(got) != 2+1 {
				t.Fatalf("killed %s operation %d: %v are left", effect, kill, got)
			}
			complete(t, dir, end)
			if err == nil {
				if kill < 15 || orphans == 0 {
					t.Errorf("only %d operations, and %d orphans", kill, orphans)
				}
				break
			}
		}
	}
}

// TestUnreadableState wants what no repeating mends to be told from what may pass.
func TestUnreadableState(t *testing.T) {
	open := keyFile(t, "a", "b")
	dir := t.TempDir()
	store := posix(t, dir)
	h, err := remember(t.Context(), external(t, store, open("default=a", "state=b")), 20)
	if err != nil {
		t.Fatal(err)
	}
	m := h.Last.Manifest
	if m.State.Key != "b" {
		t.Errorf("the state needs the key %q, want b", m.State.Key)
	}
	lost := func(what string, z *Zone) {
		t.Helper()
		if state, err := z.State(t.Context(), m.State); !errors.Is(err, ErrUnreadable) || state != nil {
			t.Errorf("%s: got %x, %v; want ErrUnreadable", what, state, err)
		}
	}
	good := external(t, store, open("default=a", "-b"))
	want, err := good.State(t.Context(), m.State)
	if err != nil {
		t.Fatal(err)
	}
	lost("no key", external(t, store, open("default=a")))
	lost("no keys at all", external(t, store, nil))
	flaky := external(t, &faulty{Store: store, before: func(o op) error {
		if o.kind == "open" {
			return storage.ErrUnavailable
		}
		return nil
	}}, open("default=a", "-b"))
	if _, err := flaky.State(t.Context(), m.State); errors.Is(err, ErrUnreadable) || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("the store is away: %v", err)
	}
	path := filepath.Join(dir, filepath.FromSlash(m.State.Name))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		bad := slices.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if state, err := good.State(t.Context(), m.State); !errors.Is(err, ErrUnreadable) || state != nil {
			t.Fatalf("byte %d was changed: %x, %v", at, state, err)
		}
	}

	// A copy under another key stands in for it; one that holds something else does not.
	name := func(n int) string { return SealedCopy(m.State.Name, n) }
	copier := external(t, store, open("default=a"))
	for n, plain := range map[int][]byte{2: want, 10: []byte("something else")} {
		if err := copier.PutSealed(t.Context(), envelope.State, name(n), plain); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Put(t.Context(), name(3), []byte("not sealed at all")); err != nil {
		t.Fatal(err)
	}
	if state, err := copier.State(t.Context(), m.State); err != nil || !slices.Equal(state, want) {
		t.Errorf("with a copy: %x, %v", state, err)
	}
	if err := store.Delete(t.Context(), m.State.Name); err != nil {
		t.Fatal(err)
	}
	if state, err := copier.State(t.Context(), m.State); err != nil || !slices.Equal(state, want) {
		t.Errorf("with a copy only: %x, %v", state, err)
	}
	if err := store.Delete(t.Context(), name(2)); err != nil {
		t.Fatal(err)
	}
	lost("without it", copier)
}
