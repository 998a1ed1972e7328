//go:build services

package landing

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
	"github.com/tasterhq/taster/sink/kmsclient/enginetest"
)

// pyarrow reads every row while keys are rotated again and again, after a rotation that was killed midway, and after
// it has rotated keys itself, upon which taster takes over what it finds.
func TestPyarrowReadsThroughRotation(t *testing.T) {
	e := enginetest.StartPyarrow(t)
	w := writeClinic(t, Options{External: true}, clinicKeys(t, "default", "quarantined", "medic", "new", "newer"))
	ring := func(present string, former ...string) *envelope.Keyring {
		t.Helper()
		keys, err := envelope.Settings{Services: kms.Open, Zones: map[string]string{"default": w.urls[present]}, Previous: w.keys(former...)}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	read := func(v finding.Verdict, keys ...string) {
		t.Helper()
		got, err := e.Read(enginetest.Query{Paths: w.files[v], Keys: w.keys(keys...)})
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, got, w.rows[v], nil)
	}

	// Back and forth until the reader has seen enough.
	ctx, stop := context.WithCancel(t.Context())
	rotations := make(chan error)
	rounds := 0
	z := external(t, w.zone.Store(), ring("new", all...))
	go func() {
		for ctx.Err() == nil {
			if _, err := z.Rotate(t.Context(), Rotation{Rule: "test", Force: true}); err != nil {
				rotations <- err
				return
			}
			rounds++
		}
		rotations <- nil
	}()
	for range 5 {
		for _, v := range finding.Verdicts {
			read(v, append([]string{"new"}, all...)...)
		}
	}
	stop()
	if err := <-rotations; err != nil || rounds < 5 {
		t.Fatalf("%d rotations, %v", rounds, err)
	}
	t.Logf("%d rotations while pyarrow read %d times", rounds, 5*len(finding.Verdicts))

	// Killed with some sidecars replaced and some not: the change and some sidecars were written.
	before := sidecars(t, w.zone.Store())
	killed := external(t, &failing{Store: w.zone.Store(), left: 4}, ring("newer", "new"))
	if _, err := killed.Rotate(t.Context(), Rotation{Rule: "test"}); !errors.Is(err, errKilled) {
		t.Fatalf("not killed: %v", err)
	}
	same := 0
	for name, digest := range sidecars(t, w.zone.Store()) {
		if before[name] == digest {
			same++
		}
	}
	if same == 0 || same == len(before) {
		t.Fatalf("%d of %d sidecars are the former ones: nothing is mixed", same, len(before))
	}
	for _, v := range finding.Verdicts {
		read(v, "new", "newer")
	}
	z = external(t, w.zone.Store(), ring("newer", "new"))
	if got := rotate(t, z, Rotation{}); got.Finished != int64(same) || got.Changes != 0 {
		t.Errorf("%+v", got)
	}
	for _, v := range finding.Verdicts {
		read(v, "newer")
	}

	// pyarrow's own rotation, and then taster's.
	before = sidecars(t, w.zone.Store())
	for _, v := range finding.Verdicts {
		for _, path := range w.files[v] {
			if err := e.Rotate(path, w.keys("newer")...); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, digest := range sidecars(t, w.zone.Store()) {
		if before[name] == digest {
			t.Fatalf("pyarrow has not rotated %s", name)
		}
	}
	if got := rotate(t, z, Rotation{}); got.Adopted != int64(len(before)) || got.Failed != 0 {
		t.Errorf("after pyarrow's: %+v", got)
	}
	announced(t, z)
	for _, v := range finding.Verdicts {
		read(v, "newer")
	}
	for s, err := range z.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Current {
			if !slices.Equal(f.Keys, []string{"newer"}) {
				t.Errorf("%s needs %v", f.Name, f.Keys)
			}
		}
	}
}
