package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// recorder keeps the state of the zone after every write.
type recorder struct {
	storage.Store
	t testing.TB

	mu     sync.Mutex // rotations write several sidecars at a time
	now    objects
	states []objects
}

func (r *recorder) keep(name string, data []byte) {
	if strings.HasPrefix(name, "_tmp/") {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if data == nil && r.now[name] == nil {
		return
	}
	r.now = r.now.with(name, data)
	r.states = append(r.states, r.now)
}

func (r *recorder) Put(ctx context.Context, name string, data []byte) error {
	err := r.Store.Put(ctx, name, data)
	if err == nil {
		r.keep(name, bytes.Clone(data))
	}
	return err
}

func (r *recorder) Replace(ctx context.Context, name string, data []byte) error {
	err := r.Store.Replace(ctx, name, data)
	if err == nil {
		r.keep(name, bytes.Clone(data))
	}
	return err
}

func (r *recorder) Delete(ctx context.Context, name string) error {
	err := r.Store.Delete(ctx, name)
	if err == nil {
		r.keep(name, nil)
	}
	return err
}

func (r *recorder) Create(ctx context.Context, name string) (storage.Writer, error) {
	w, err := r.Store.Create(ctx, name)
	return &recording{w, r, name, bytes.Buffer{}}, err
}

type recording struct {
	storage.Writer
	r    *recorder
	name string
	data bytes.Buffer
}

func (w *recording) Write(b []byte) (int, error) {
	w.data.Write(b)
	return w.Writer.Write(b)
}

func (w *recording) Commit(ctx context.Context) error {
	err := w.Writer.Commit(ctx)
	if err == nil {
		w.r.keep(w.name, w.data.Bytes())
	}
	return err
}

// vault seals the signing key as the commands do.
type vault struct{ keys *envelope.Keyring }

func (v vault) Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	return v.keys.Seal(ctx, envelope.Signing, name, plaintext)
}

func (v vault) Unseal(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	return v.keys.Unseal(ctx, name, sealed)
}

// at is when the whole zone was written, and looked at.
var at = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func clockAt() time.Time { return at }

// whole is a landing zone with objects of every kind, and every state on the way to it.
type whole struct {
	objects
	keys   *envelope.Keyring
	states []objects
}

// buildWhole makes one with the real writers: key material beside files, commits of two partitions, a compaction of
// which one superseded file is still there and the others are gone, a rotation, a reference, several checkpoints.
func buildWhole(t testing.TB) *whole { return buildUntil(t, false) }

// buildUntil leaves out, if small, what adds no other kind of object.
func buildUntil(t testing.TB, small bool) *whole {
	t.Helper()
	posix, err := storage.OpenPosix(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := &recorder{Store: posix, t: t, now: objects{}}
	keys := keyring(t)
	checkpoints := audit.OpenCheckpoints(store, vault{keys}, clockAt)
	w := &writer{t: t, store: store, keys: keys, process: audit.OpenProcess(checkpoints.Store(), audit.NewProcess(at), clockAt), commits: audit.OpenCommits(checkpoints.Store()), memory: map[record.Source][]byte{}}
	if w.zone, err = landing.Open(t.Context(), landing.Options{Store: store, Keys: keys, Process: w.process.Name(), Now: clockAt, External: true}); err != nil {
		t.Fatal(err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.enter(audit.Entry{Event: audit.Start, Subject: "run", Action: "run", Result: "ok"})
	w.fit(1)
	w.commit(first, 4)
	ok(checkpoints.Write(t.Context()))
	w.commit(first, 8)
	_, err = w.zone.Compact(t.Context(), first, landing.Compaction{Target: 1 << 20, Before: at.Add(time.Hour), Rule: "small files"})
	ok(err)
	ok(audit.EnterChanges(t.Context(), checkpoints.Store(), first))
	left := 0
	for info, err := range w.zone.Superseded(t.Context(), first, at.Add(time.Hour)) {
		ok(err)
		if left++; left > 1 {
			ok(w.zone.Delete(t.Context(), info.Name))
		}
	}
	ok(checkpoints.Write(t.Context()))
	if !small {
		w.commit(second, 3)
	}
	_, err = w.zone.Rotate(t.Context(), landing.Rotation{Force: true, Rule: "the key was rotated", Changed: func(ctx context.Context, s record.Source) error {
		return audit.EnterChanges(ctx, checkpoints.Store(), s)
	}})
	ok(err)
	w.reseal(manifest.RecallsFolder)
	if !small {
		w.reseal(manifest.StateFolder)
		w.commit(first, 11)
	}
	w.enter(audit.Entry{Event: audit.Stop, Subject: "run", Action: "run", Result: "ok"})
	ok(checkpoints.Write(t.Context()))
	return &whole{store.now, keys, store.states}
}

// reseal makes a copy of the first object in a folder, as a rotation does.
func (w *writer) reseal(folder string) {
	w.t.Helper()
	for object, err := range w.zone.SealedObjects(w.t.Context(), folder) {
		if err != nil {
			w.t.Fatal(err)
		}
		name := landing.SealedCopy(object.Name, object.Number+1)
		plain, err := w.zone.Sealed(w.t.Context(), object.Name, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		sealed, err := w.keys.Seal(w.t.Context(), envelope.State, name, plain)
		if err != nil {
			w.t.Fatal(err)
		}
		w.enter(audit.Entry{Event: audit.Reseal, Action: "put", Result: "ok", Details: map[string]string{"copy": name, "copy_sha256": manifest.Digest(sealed), "copy_of": object.Name}})
		if err := w.store.Put(w.t.Context(), name, sealed); err != nil {
			w.t.Fatal(err)
		}
		return
	}
}

// last returns the newest checkpoint.
func (o objects) last() []byte {
	notes := o.names("_audit/checkpoints/")
	if len(notes) == 0 {
		return nil
	}
	return o[notes[len(notes)-1]]
}

// look verifies a zone as it is at the time at which it was written, or some time later.
func look(t testing.TB, zone verify.Store, o verify.Options, later time.Duration) *verify.Report {
	t.Helper()
	o.Now = func() time.Time { return at.Add(later) }
	report, err := verify.Run(t.Context(), zone, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func wholeReader(zone objects, keys *envelope.Keyring) verify.Reader {
	return func(ctx context.Context, name string) (int64, string, error) {
		data := zone[name]
		sidecar := func(context.Context) (*envelope.Sidecar, error) {
			return envelope.ParseSidecar(zone[envelope.SidecarName(name)])
		}
		r, err := parquet.Open(ctx, bytes.NewReader(data), int64(len(data)), name, parquet.Beside(keys, sidecar))
		if err != nil {
			return 0, "", err
		}
		content, rows, err := r.Content(ctx)
		return rows, content, err
	}
}

// kinds are the objects that the whole zone must have, or the tests show nothing.
var kinds = map[string]func(string) bool{
	"file":         func(n string) bool { return strings.HasSuffix(n, ".parquet") },
	"sidecar":      func(n string) bool { return strings.Contains(n, "/_KEY_MATERIAL_FOR_") },
	"manifest":     func(n string) bool { return strings.HasPrefix(n, "_commits/") },
	"change":       func(n string) bool { return strings.HasPrefix(n, "_changes/") },
	"commit entry": func(n string) bool { return strings.HasPrefix(n, "_audit/commits/") },
	"change entry": func(n string) bool { return strings.HasPrefix(n, "_audit/changes/") },
	"entry":        func(n string) bool { return strings.HasPrefix(n, "_audit/process/") },
	"checkpoint":   func(n string) bool { return strings.HasPrefix(n, "_audit/checkpoints/") },
	"sealed key":   func(n string) bool { return strings.HasPrefix(n, "_audit/keys/") && strings.HasSuffix(n, ".sealed") },
	"public key":   func(n string) bool { return strings.HasPrefix(n, "_audit/keys/") && strings.HasSuffix(n, ".vkey") },
	"reference":    func(n string) bool { return strings.HasPrefix(n, "_reference/") },
	"state":        func(n string) bool { return strings.HasPrefix(n, "_state/") && strings.Count(n, ".") == 2 },
	"recalls":      func(n string) bool { return strings.HasPrefix(n, "_recalls/") && strings.Count(n, ".") == 2 },
	"copy":         func(n string) bool { return strings.HasSuffix(n, ".1.sealed") && !strings.HasPrefix(n, "_audit/") },
}

func TestWholeZone(t *testing.T) {
	zone := buildWhole(t)
	size := 0
	for kind, is := range kinds {
		n := 0
		for name := range zone.objects {
			if is(name) {
				n++
				size += len(zone.objects[name])
			}
		}
		if n == 0 {
			t.Errorf("there is no %s", kind)
		}
	}
	t.Logf("%d objects, %d bytes", len(zone.objects), size)
	public, err := verify.ParseVerifier(string(zone.objects["_audit/keys/1.vkey"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []verify.Options{{}, {Read: wholeReader(zone.objects, zone.keys)}, {Verifier: public, Checkpoint: zone.last()}} {
		report := look(t, zone.objects, o, 100*time.Hour)
		if !report.OK || len(report.Notes) > 0 {
			t.Fatalf("%+v", report)
		}
		if report.Bytes != int64(size) || report.Manifests != 4 || report.Changes != 3 || report.Superseded != 6 || report.Signed.Count != 3 || report.Signed.Unsigned != 0 ||
			report.States != 2 || report.Recalls != 2 {
			t.Errorf("%+v", report)
		}
		if given := o.Verifier != nil; report.Signed.Trusted != given || report.Signed.Kept != given || report.Signed.Verifier != public.String() {
			t.Errorf("%+v", report.Signed)
		}
	}
	// 11 offsets of one partition, the last of each of three segments a gap, and three of the other.
	if report := look(t, zone.objects, verify.Options{}, 0); report.Rows != 11-3+3-1 {
		t.Errorf("%d rows", report.Rows)
	}
}

// named checks that a report names an object, or for an object of a chain, its folder.
func named(report *verify.Report, object string) bool {
	return slices.ContainsFunc(report.Problems, func(p verify.Problem) bool { return p.Object == object })
}

// TestEveryByte changes every single byte of a landing zone in turn, in any way, and the object that it stands in must
// be named.
func TestEveryByte(t *testing.T) {
	zone := buildUntil(t, true)
	for kind, is := range kinds {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(zone.objects)), is) {
			t.Fatalf("there is no %s", kind)
		}
	}
	random := rand.New(rand.NewPCG(20260131, 1))
	type change struct {
		name string
		at   int
		with byte
	}
	var todo []change
	step := 1
	if raceEnabled || testing.Short() {
		step = 41
	}
	for _, name := range slices.Sorted(maps.Keys(zone.objects)) {
		for at := random.IntN(step); at < len(zone.objects[name]); at += step {
			todo = append(todo, change{name, at, byte(1 + random.IntN(255))})
		}
	}
	began := time.Now()
	var wait sync.WaitGroup
	workers := 2 * runtime.GOMAXPROCS(0)
	for worker := range workers {
		wait.Go(func() {
			for i := worker; i < len(todo) && !t.Failed(); i += workers {
				c := todo[i]
				data := bytes.Clone(zone.objects[c.name])
				data[c.at] ^= c.with
				report, err := verify.Run(t.Context(), overlay{zone.objects, c.name, data}, verify.Options{Workers: 1, Now: clockAt})
				if err != nil || report.OK || !named(report, c.name) {
					t.Errorf("byte %d of %s, changed by %#x: %v %+v", c.at, c.name, c.with, err, report)
				}
			}
		})
	}
	wait.Wait()
	t.Logf("%d changes in %d objects in %s", len(todo), len(zone.objects), time.Since(began).Round(time.Millisecond))
}

// overlay is a zone in which one object has other bytes.
type overlay struct {
	objects
	name string
	data []byte
}

func (o overlay) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == o.name {
		return io.NopCloser(bytes.NewReader(o.data)), nil
	}
	return o.objects.Open(ctx, name)
}

// TestEveryObject takes away, cuts, lengthens and exchanges every object.
func TestEveryObject(t *testing.T) {
	zone := buildWhole(t)
	names := slices.Sorted(maps.Keys(zone.objects))
	superseded := func(name string) bool {
		report := look(t, zone.objects.with(name, nil), verify.Options{}, 0)
		return report.OK && report.Superseded == 6
	}
	free := 0
	for _, name := range names {
		data := zone.objects[name]
		for what, changed := range map[string]objects{
			"removed": zone.objects.with(name, nil), "emptied": zone.objects.with(name, []byte{}), "cut": zone.objects.with(name, data[:len(data)-1]),
			"halved": zone.objects.with(name, data[:len(data)/2]), "longer": zone.objects.with(name, append(bytes.Clone(data), '\n')),
			"doubled": zone.objects.with(name, slices.Concat(data, data)),
		} {
			report := look(t, changed, verify.Options{}, 0)
			switch {
			case named(report, name):
			case what == "removed" && name == names[slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "_audit/checkpoints/") })+2]:
				// The newest checkpoint: without one that was kept, what remains is a good, older chain.
				if kept := look(t, changed, verify.Options{Checkpoint: data}, 0); !named(kept, name) {
					t.Errorf("the newest checkpoint removed, against a kept one: %+v", kept)
				}
				free++
			case what == "removed" && superseded(name):
				free++ // a file that a compaction made unnecessary, or its key material
			default:
				t.Errorf("%s %s: %+v", name, what, report)
			}
		}
	}
	if free != 3+2+2 {
		t.Errorf("%d removals could not be seen, want 7: the newest checkpoint, a superseded file and its key material, two old states and two copies under other keys", free)
	}
	for i, a := range names {
		for _, b := range names[:i] {
			if path.Dir(a) != path.Dir(b) || bytes.Equal(zone.objects[a], zone.objects[b]) {
				continue
			}
			report := look(t, zone.objects.with(a, zone.objects[b]).with(b, zone.objects[a]), verify.Options{}, 0)
			if !named(report, a) || !named(report, b) {
				t.Errorf("%s and %s exchanged: %+v", a, b, report)
			}
		}
	}
	state, recalls := slices.DeleteFunc(zone.names("_state/"), func(n string) bool { return !kinds["state"](n) })[0], zone.names("_recalls/")[1]
	for name, code := range map[string]string{
		strings.Replace(state, ".sealed", ".7.sealed", 1):                          "state_unlisted",
		strings.Replace(recalls, ".sealed", ".7.sealed", 1):                        "recalls_unlisted",
		path.Dir(state) + "/00000000000000000000.0123456789abcdef.sealed":          "state_unlisted",
		path.Dir(state) + "/00000000000000000001.0123456789abcdef.sealed":          "state_unlisted",
		"_state/reviews/x/0/00000000000000000000.0123456789abcdef.sealed":          "state_unlisted",
		path.Dir(recalls) + "/00000000000000000000.0123456789abcdef.sealed":        "recalls_unlisted",
		path.Dir(recalls) + "/00000000000000000001.0123456789abcdef.sealed":        "recalls_unlisted",
		strings.Replace(recalls, ".sealed", ".01.sealed", 1):                       "unknown_object",
		path.Dir(state) + "/00000000000000000000.sealed":                           "unknown_object",
		"_changes/reviews/x/0/00000000000000000000.json":                           "change_missing",
		strings.Replace(zone.names("_changes/")[0], "0.json", "7.json", 1):         "",
		strings.Replace(zone.names("_audit/changes/")[0], "0.json", "7.json", 1):   "audit_changed",
		"_audit/checkpoints/00000000000000000003.note":                             "checkpoint_changed",
		"_audit/checkpoints/00000000000000000009.note":                             "checkpoint_changed",
		"_audit/checkpoints/9.note":                                                "unknown_object",
		"_audit/keys/2.vkey":                                                       "key_changed",
		"_audit/keys/2.sealed":                                                     "key_unlisted",
		"_audit/keys/0.vkey":                                                       "unknown_object",
		"_audit/keys/x":                                                            "unknown_object",
		strings.Replace(zone.names("accepted/")[0], ".parquet", ".0.parquet", 1):   "",
		path.Dir(zone.names("accepted/")[0]) + "/_KEY_MATERIAL_FOR_x.parquet.json": "file_unlisted",
		path.Dir(zone.names("rejected/")[0]) + "/x.00000000000000000000.parquet":   "file_unlisted",
	} {
		report := look(t, zone.objects.with(name, []byte("{}")), verify.Options{}, 0)
		if code == "" && report.OK {
			t.Errorf("%s added: not seen", name)
		} else if code != "" && !slices.ContainsFunc(report.Problems, func(p verify.Problem) bool { return p.Code == code && p.Object == name }) {
			if code != "change_missing" {
				t.Errorf("%s added: %+v", name, report)
			}
		}
	}
}

// TestEveryState looks at the zone after each single write that made it, as a verification finds it while its writers
// are at work, or after they were killed there. Nothing is a problem; an hour later what was left unfinished is. And
// every earlier state is found out by the newest checkpoint.
func TestEveryState(t *testing.T) {
	zone := buildWhole(t)
	kept := zone.last()
	notes := map[string]int{}
	unfinished := 0
	for i, state := range zone.states {
		if report := look(t, dated{state}, verify.Options{}, 2*time.Hour); !report.OK {
			unfinished++
		}
		report := look(t, dated{state}, verify.Options{}, time.Minute)
		if !report.OK {
			t.Errorf("state %d of %d: %+v", i, len(zone.states), report.Problems)
		}
		for _, n := range report.Notes {
			notes[n.Code]++
		}
		if i == len(zone.states)-1 {
			break
		}
		report = look(t, state, verify.Options{Checkpoint: kept}, time.Minute)
		if !named(report, zone.names("_audit/checkpoints/")[2]) {
			t.Errorf("state %d of %d against the newest checkpoint: %+v", i, len(zone.states), report.Problems)
		}
	}
	for _, code := range []string{"commit_under_way", "rotation_unfinished", "key_unlisted"} {
		if notes[code] == 0 {
			t.Errorf("no state had the note %s: %v", code, notes)
		}
	}
	if unfinished == 0 {
		t.Error("two hours later nothing is left unfinished")
	}
	t.Logf("%d states, %d unfinished two hours later, notes %v", len(zone.states), unfinished, notes)
}

// dated is a zone whose store tells when its objects were written.
type dated struct{ objects }

func (d dated) List(ctx context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		for o, err := range d.objects.List(ctx) {
			o.Changed = at
			if !yield(o, err) {
				return
			}
		}
	}
}

// A zone that was rolled back and went on is another one, from the next checkpoint on.
func TestRolledBack(t *testing.T) {
	zone := buildWhole(t)
	notes := zone.names("_audit/checkpoints/")
	for i, state := range zone.states {
		if state[notes[1]] == nil || state[notes[2]] != nil {
			continue
		}
		forged := state.with(notes[2], bytes.Replace(zone.objects[notes[2]], []byte("time 2026-01-31T12"), []byte("time 2026-01-31T13"), 1))
		report := look(t, forged, verify.Options{Checkpoint: zone.last()}, 0)
		if !named(report, notes[2]) {
			t.Errorf("state %d: %+v", i, report)
		}
		missing := 0
		for _, p := range report.Problems {
			if p.Code == "audit_missing" || p.Code == "manifest_missing" {
				missing++
			}
		}
		if missing == 0 && i < len(zone.states)-2 {
			t.Errorf("state %d: it is not said what is missing: %+v", i, report.Problems)
		}
	}
}

func TestVerifier(t *testing.T) {
	zone, other := buildWhole(t), buildWhole(t)
	stranger, err := verify.ParseVerifier(string(other.objects["_audit/keys/1.vkey"]))
	if err != nil {
		t.Fatal(err)
	}
	last := zone.names("_audit/checkpoints/")[2]
	if report := look(t, zone.objects, verify.Options{Verifier: stranger}, 0); !named(report, last) || report.Signed.Trusted {
		t.Errorf("with another zone's key: %+v", report)
	}
	// All of the zone made anew, with a key of its own: only a kept key or checkpoint tells.
	if report := look(t, other.objects, verify.Options{Checkpoint: zone.last()}, 0); !named(report, last) {
		t.Errorf("against another zone's checkpoint: %+v", report)
	}
	for _, bad := range []string{"", "x", "taster+00000000+AAAA", stranger.String() + "x", strings.Replace(stranger.String(), "taster-", "taster_", 1)} {
		if _, err := verify.ParseVerifier(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
	for _, bad := range []string{"", "taster", string(zone.last()) + "\n", strings.Replace(string(zone.last()), "previous", "Previous", 1)} {
		_, err := verify.Run(t.Context(), zone.objects, verify.Options{Checkpoint: []byte(bad)})
		if err == nil || !strings.Contains(err.Error(), verify.ErrKept.Error()) {
			t.Errorf("%.20q is taken for a checkpoint: %v", bad, err)
		}
	}
}

// What a destroyed key makes unreadable is told calmly: the bytes are as they were committed.
func TestKeyDestroyed(t *testing.T) {
	zone := buildWhole(t)
	report := look(t, zone.objects, verify.Options{Read: func(context.Context, string) (int64, string, error) {
		return 0, "", fmt.Errorf("%w: key quarantined-2025 was destroyed", verify.ErrKey)
	}}, 0)
	if !report.OK || report.Unreadable != report.Files || report.Files == 0 || len(report.Notes) != int(report.Files) || report.Notes[0].Code != "key_unavailable" {
		t.Errorf("%+v", report)
	}
	_, err := verify.Run(t.Context(), zone.objects, verify.Options{Read: func(context.Context, string) (int64, string, error) {
		return 0, "", fmt.Errorf("%w: the key service", verify.ErrAway)
	}})
	if err == nil {
		t.Error("a key service that does not answer says nothing about the zone")
	}
}

// A new signing key is good because the one before vouches for it, also for who knows only the first.
func TestRenewedKey(t *testing.T) {
	zone, _ := buildZone(t, func(store storage.Store, keys *envelope.Keyring) {
		checkpoints := audit.OpenCheckpoints(store, vault{keys}, clockAt)
		process := audit.OpenProcess(checkpoints.Store(), audit.NewProcess(at), clockAt)
		for _, step := range []func() error{
			func() error { return process.Append(t.Context(), audit.Entry{Event: audit.Start}) },
			func() error { return checkpoints.Write(t.Context()) },
			func() error { return checkpoints.Renew(t.Context()) },
			func() error { return process.Append(t.Context(), audit.Entry{Event: audit.Stop}) },
			func() error { return checkpoints.Write(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, kept := range []string{"1", "2"} {
		key, err := verify.ParseVerifier(string(zone["_audit/keys/"+kept+".vkey"]))
		if err != nil {
			t.Fatal(err)
		}
		report := look(t, zone, verify.Options{Verifier: key}, 0)
		if !report.OK || !report.Signed.Trusted || report.Signed.Count != 3 || report.Signed.Verifier+"\n" != string(zone["_audit/keys/2.vkey"]) {
			t.Errorf("with key %s: %+v", kept, report)
		}
	}
	// Without the checkpoint that vouches for it, it is a stranger's.
	names := zone.names("_audit/checkpoints/")
	if report := look(t, zone.with(names[1], nil), verify.Options{}, 0); !named(report, names[1]) || !named(report, names[2]) || !named(report, "_audit/keys/2.vkey") {
		t.Errorf("%+v", report)
	}
}
