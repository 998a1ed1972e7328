package landing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// secretive is a contract with a restricted column, so that its files have two data keys and more.
var secretive = &contract.Contract{Topic: source.Topic, Digest: accepted.Digest, Classification: record.Internal, Restricted: []string{"/note"}}

// keyFile makes a key file and returns a function that opens keyrings of it: zones as NAME=KEY, previous keys as -KEY.
func keyFile(t testing.TB, names ...string) func(args ...string) *envelope.Keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, names...); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) *envelope.Keyring {
		t.Helper()
		s := envelope.Settings{Zones: map[string]string{}}
		for _, arg := range args {
			url := "keyfile://" + path + "#"
			if former, ok := strings.CutPrefix(arg, "-"); ok {
				s.Previous = append(s.Previous, url+former)
				continue
			}
			zone, key, _ := strings.Cut(arg, "=")
			s.Zones[zone] = url + key
		}
		keys, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
}

// external opens a zone that writes sidecars.
func external(t testing.TB, store storage.Store, keys *envelope.Keyring) *Zone {
	t.Helper()
	z, err := Open(t.Context(), Options{Store: store, Keys: keys, Process: "20260101T000000Z-0123456789abcdef", External: true})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// land commits n segments of twenty offsets each, with three files each.
func land(t testing.TB, z *Zone, n int) {
	t.Helper()
	h := head(t, z, nil)
	for range n {
		seg := segment(h.Next(), h.Next()+20)
		var err error
		if h, err = z.Commit(t.Context(), seg, decide(seg), secretive, h); err != nil {
			t.Fatal(err)
		}
		seg.Release()
	}
}

// readable reads every row that counts, all columns, and returns how many.
func readable(ctx context.Context, z *Zone) (rows int64, err error) {
	for s, err := range z.Segments(ctx) {
		if err != nil {
			return rows, err
		}
		for _, f := range s.Current {
			for batch, err := range z.Rows(ctx, f, nil) {
				if err != nil {
					return rows, err
				}
				rows += batch.NumRows()
			}
		}
	}
	return rows, nil
}

func wantRows(t testing.TB, z *Zone, want int64) {
	t.Helper()
	if rows, err := readable(t.Context(), z); err != nil || rows != want {
		t.Fatalf("%d rows, want %d: %v", rows, want, err)
	}
}

// sidecars returns the digest of each stored sidecar by its file.
func sidecars(t testing.TB, store storage.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, folder := range []string{"accepted/", "quarantined/", "rejected/"} {
		for info, err := range store.List(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(info.Name, "_KEY_MATERIAL_FOR_") {
				data, err := storage.ReadAll(t.Context(), store, info.Name, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				out[strings.TrimSuffix(strings.Replace(info.Name, "_KEY_MATERIAL_FOR_", "", 1), ".json")] = manifest.Digest(data)
			}
		}
	}
	return out
}

// announced checks that every file that counts has the sidecar that the newest record of it announces.
func announced(t testing.TB, z *Zone) {
	t.Helper()
	there := sidecars(t, z.Store())
	for s, err := range z.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Current {
			if there[f.Name] != f.Material {
				t.Errorf("%s has another sidecar than was announced", f.Name)
			}
			delete(there, f.Name)
		}
	}
	if len(there) != 0 {
		t.Errorf("sidecars without a file: %v", slices.Collect(maps.Keys(there)))
	}
}

func rotate(t testing.TB, z *Zone, how Rotation) *Rotated {
	t.Helper()
	how.Rule = "test"
	if how.Changed == nil {
		how.Changed = func(ctx context.Context, src record.Source) error { return audit.EnterChanges(ctx, z.Store(), src) }
	}
	got, err := z.Rotate(t.Context(), how)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A file with external key material has its sidecar before its manifest, and is read with it.
func TestSidecarsAreWritten(t *testing.T) {
	open := keyFile(t, "a", "b", "medic")
	store := posix(t, t.TempDir())
	z := external(t, store, open("default=a", "quarantined=b", "restricted=medic"))
	land(t, z, 3)
	announced(t, z)
	want := []string{"a", "medic"}
	for s, err := range z.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Current {
			if f.Verdict.String() == "accepted" && !slices.Equal(f.Keys, want) {
				t.Errorf("%s: keys %v, want %v", f.Name, f.Keys, want)
			}
		}
	}
	rows, err := readable(t.Context(), z)
	if err != nil || rows == 0 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	// With the internal form the same zone is read, too, and files of both forms lie side by side.
	internal, err := Open(t.Context(), Options{Store: store, Keys: open("default=a", "quarantined=b", "restricted=medic"), Process: "p"})
	if err != nil {
		t.Fatal(err)
	}
	land(t, internal, 1)
	if more, err := readable(t.Context(), z); err != nil || more <= rows {
		t.Errorf("%d rows after %d: %v", more, rows, err)
	}
	if got := len(sidecars(t, store)); got != 9 {
		t.Errorf("%d sidecars, want 9", got)
	}
}

func TestRotate(t *testing.T) {
	open := keyFile(t, "old", "oldmedic", "new", "medic")
	store := posix(t, t.TempDir())
	before := external(t, store, open("default=old", "restricted=oldmedic"))
	land(t, before, 10)
	rows, err := readable(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for info, err := range store.List(t.Context(), "accepted/") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(info.Name, ".parquet") {
			data, err := storage.ReadAll(t.Context(), store, info.Name, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			files[info.Name] = manifest.Digest(data)
		}
	}

	z := external(t, store, open("default=new", "restricted=medic", "-old", "-oldmedic"))
	dry := rotate(t, z, Rotation{DryRun: true})
	if dry.Files != 30 || dry.Rotated != 30 || dry.Changes != 0 {
		t.Errorf("dry run: %+v", dry)
	}
	announced(t, before) // nothing was changed
	got := rotate(t, z, Rotation{})
	if got.Files != 30 || got.Rotated != 30 || got.Changes != 1 || got.Failed+got.Internal+got.Finished+got.Current+got.Adopted != 0 {
		t.Errorf("%+v", got)
	}
	announced(t, z)
	wantRows(t, external(t, store, open("default=new", "restricted=medic")), rows)
	if _, err := readable(t.Context(), before); !errors.Is(err, envelope.ErrNoKey) {
		t.Errorf("with the former keys only: %v", err)
	}
	for name, digest := range files {
		data, err := storage.ReadAll(t.Context(), store, name, 1<<30)
		if err != nil || manifest.Digest(data) != digest {
			t.Errorf("%s was written anew: %v", name, err)
		}
	}
	if again := rotate(t, z, Rotation{}); again.Current != 30 || again.Changes != 0 {
		t.Errorf("a second time: %+v", again)
	}
	if forced := rotate(t, z, Rotation{Force: true}); forced.Rotated != 30 || forced.Changes != 1 {
		t.Errorf("forced: %+v", forced)
	}
	announced(t, z)
	wantRows(t, z, rows)
	if none := rotate(t, z, Rotation{Topics: []string{"other"}}); none.Files != 0 {
		t.Errorf("another topic: %+v", none)
	}
}

// Files that hold their key material themselves are told, and do not keep the others from being rotated.
func TestRotateTellsInternalFiles(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	inside, err := Open(t.Context(), Options{Store: store, Keys: open("default=old"), Process: "p"})
	if err != nil {
		t.Fatal(err)
	}
	land(t, inside, 1)
	land(t, external(t, store, open("default=old")), 1)
	got := rotate(t, external(t, store, open("default=new", "-old")), Rotation{})
	if got.Internal != 3 || got.Rotated != 3 || got.InternalBytes == 0 || len(got.Faults) != 3 {
		t.Fatalf("%+v", got)
	}
	for _, f := range got.Faults {
		if !errors.Is(f.Err, ErrInternal) || !slices.Equal(f.Keys, []string{"old"}) {
			t.Errorf("%+v", f)
		}
	}
}

// failing ends the world at one operation: nothing of that one and of those after it reaches the store, as after kill -9.
type failing struct {
	storage.Store
	mu   sync.Mutex
	left int
	log  []string
}

var errKilled = errors.New("killed")

func (f *failing) step(what, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, what+" "+name)
	if f.left--; f.left < 0 {
		return errKilled
	}
	return nil
}

func (f *failing) Put(ctx context.Context, name string, data []byte) error {
	if err := f.step("put", name); err != nil {
		return err
	}
	return f.Store.Put(ctx, name, data)
}

func (f *failing) Replace(ctx context.Context, name string, data []byte) error {
	if err := f.step("replace", name); err != nil {
		return err
	}
	return f.Store.Replace(ctx, name, data)
}

// copied returns a copy of a folder.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Killed at each step, a rotation leaves every row readable with the old and the new keys together; the next one ends
// it, and then the new ones suffice.
func TestRotateKilledAtEachStep(t *testing.T) {
	open := keyFile(t, "old", "new", "newer")
	origin := t.TempDir()
	land(t, external(t, posix(t, origin), open("default=old")), 2)
	rows, err := readable(t.Context(), external(t, posix(t, origin), open("default=old")))
	if err != nil {
		t.Fatal(err)
	}
	for step := 0; ; step++ {
		dir := copied(t, origin)
		store := &failing{Store: posix(t, dir), left: step}
		ctx, cancel := context.WithCancelCause(t.Context())
		z := external(t, store, open("default=new", "-old"))
		z.opt.Retrying = func(string, int, error) { cancel(errKilled) } // who is dead does not try again
		_, err := z.Rotate(ctx, Rotation{Rule: "test", Changed: func(ctx context.Context, src record.Source) error { return audit.EnterChanges(ctx, store, src) }})
		cancel(nil)

		after := posix(t, dir)
		wantRows(t, external(t, after, open("default=new", "-old")), rows)
		if err == nil {
			wantRows(t, external(t, after, open("default=new")), rows)
			if step < 3 {
				t.Fatalf("only %d steps: %v", step, store.log)
			}
			return
		}
		if step%2 == 0 {
			second := rotate(t, external(t, after, open("default=new", "-old")), Rotation{})
			if second.Rotated+second.Finished+second.Current != 6 {
				t.Fatalf("killed at step %d, the second run: %+v", step, second)
			}
			if len(store.log) > 2 && second.Changes != 0 {
				t.Errorf("killed at step %d, behind the change, a second one was made", step)
			}
			wantRows(t, external(t, after, open("default=new")), rows)
		} else {
			// The keys have been changed once more meanwhile.
			third := external(t, after, open("default=newer", "-old", "-new"))
			if got := rotate(t, third, Rotation{}); got.Rotated != 6 {
				t.Fatalf("killed at step %d, the run with other keys: %+v", step, got)
			}
			wantRows(t, external(t, after, open("default=newer")), rows)
		}
		announced(t, z)
		for c, err := range z.Changes(t.Context(), source) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := storage.ReadAll(t.Context(), after, audit.ChangeName(source, c.Sequence), 1<<20); err != nil {
				t.Errorf("killed at step %d, a change is not in the audit log: %v", step, err)
			}
		}
	}
}

// between runs something once, before the first operation of a kind.
type between struct {
	storage.Store
	put, replace         func()
	putOnce, replaceOnce sync.Once
}

func (b *between) Put(ctx context.Context, name string, data []byte) error {
	if b.put != nil {
		b.putOnce.Do(b.put)
	}
	return b.Store.Put(ctx, name, data)
}

func (b *between) Replace(ctx context.Context, name string, data []byte) error {
	if b.replace != nil {
		b.replaceOnce.Do(b.replace)
	}
	return b.Store.Replace(ctx, name, data)
}

// Two rotations to different keys, the second one wholly within the first, at the two moments that matter.
func TestRotateTwoAtOnce(t *testing.T) {
	for _, moment := range []string{"before the change", "before the first sidecar"} {
		t.Run(moment, func(t *testing.T) {
			open := keyFile(t, "old", "a", "b")
			store := posix(t, t.TempDir())
			land(t, external(t, store, open("default=old")), 2)
			rows, err := readable(t.Context(), external(t, store, open("default=old")))
			if err != nil {
				t.Fatal(err)
			}
			hook := func() { rotate(t, external(t, store, open("default=b", "-old", "-a")), Rotation{}) }
			wrapped := &between{Store: store}
			if moment == "before the change" {
				wrapped.put = hook
			} else {
				wrapped.replace = hook
			}
			z := external(t, wrapped, open("default=a", "-old", "-b"))
			got := rotate(t, z, Rotation{})
			if got.Rotated != 6 {
				t.Errorf("%+v", got)
			}
			announced(t, z)
			if moment == "before the first sidecar" { // the second one was later, so it counts
				wantRows(t, external(t, store, open("default=b")), rows)
			} else {
				wantRows(t, external(t, store, open("default=a")), rows)
			}
		})
	}
}

// Several rotations really at once, by force, so that each wants to change everything.
func TestRotateRace(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	land(t, external(t, store, open("default=old")), 4)
	rows, err := readable(t.Context(), external(t, store, open("default=old")))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	const n = 4
	for range n {
		z := external(t, posix(t, store.Root()), open("default=new", "-old"))
		go func() {
			_, err := z.Rotate(t.Context(), Rotation{Rule: "race", Force: true, Changed: func(ctx context.Context, src record.Source) error {
				return audit.EnterChanges(ctx, z.Store(), src)
			}})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	z := external(t, store, open("default=new"))
	announced(t, z)
	wantRows(t, z, rows)
}

// Rotation beside a writer: what is committed meanwhile is not lost, and is rotated by the next run.
func TestRotateBesideCommits(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	writer := external(t, store, open("default=old"))
	land(t, writer, 2)
	z := external(t, &between{Store: store, put: func() { land(t, writer, 2) }}, open("default=new", "-old"))
	if got := rotate(t, z, Rotation{}); got.Rotated != 6 {
		t.Errorf("%+v", got)
	}
	if got := rotate(t, z, Rotation{}); got.Rotated != 6 || got.Current != 6 {
		t.Errorf("%+v", got)
	}
	announced(t, z)
	rows, err := readable(t.Context(), z)
	if err != nil || rows == 0 {
		t.Fatal(rows, err)
	}
	wantRows(t, external(t, store, open("default=new")), rows)
}

// unreliable fails one in so many operations as a store does that is away, half of the writes after they were done.
type unreliable struct {
	storage.Store
	oneIn int
}

func (u *unreliable) fails() (before, after error) {
	switch rand.N(2 * u.oneIn) {
	case 0:
		return storage.ErrUnavailable, nil
	case 1:
		return nil, storage.ErrUnavailable
	}
	return nil, nil
}

func (u *unreliable) write(do func() error) error {
	before, after := u.fails()
	if before != nil {
		return before
	}
	return cmp.Or(do(), after)
}

func (u *unreliable) Put(ctx context.Context, name string, data []byte) error {
	return u.write(func() error { return u.Store.Put(ctx, name, data) })
}

func (u *unreliable) Replace(ctx context.Context, name string, data []byte) error {
	return u.write(func() error { return u.Store.Replace(ctx, name, data) })
}

func (u *unreliable) Open(ctx context.Context, name string) (storage.Reader, error) {
	if before, after := u.fails(); before != nil || after != nil {
		return nil, storage.ErrUnavailable
	}
	return u.Store.Open(ctx, name)
}

// away is a key service that answers every third time only.
type away struct {
	envelope.KMS
	n atomic.Int64
}

func (a *away) answers() error {
	if a.n.Add(1)%3 != 0 {
		return &envelope.Unavailable{Err: errors.New("503")}
	}
	return nil
}

func (a *away) WrapKey(ctx context.Context, key []byte, id string) (string, error) {
	if err := a.answers(); err != nil {
		return "", err
	}
	return a.KMS.WrapKey(ctx, key, id)
}

func (a *away) UnwrapKey(ctx context.Context, wrapped, id string) ([]byte, error) {
	if err := a.answers(); err != nil {
		return nil, err
	}
	return a.KMS.UnwrapKey(ctx, wrapped, id)
}

// A store and a key service that fail again and again delay a rotation and change nothing in what it does.
func TestRotateThroughFaults(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	land(t, external(t, store, open("default=old")), 3)
	rows, err := readable(t.Context(), external(t, store, open("default=old")))
	if err != nil {
		t.Fatal(err)
	}
	file := &away{KMS: open("default=new").MasterKey(envelope.Default).KMS}
	keys, err := envelope.NewKeyring(map[envelope.Zone]envelope.MasterKey{envelope.Default: {KMS: file, ID: "new"}}, envelope.Limits{}, envelope.MasterKey{KMS: file, ID: "old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, oneIn := range []int{2, 3, 7} {
		flaky := &unreliable{Store: store, oneIn: oneIn}
		retried := atomic.Int64{}
		z, err := Open(t.Context(), Options{Store: flaky, Keys: keys, Process: "p", External: true, Backoff: [2]time.Duration{time.Millisecond, time.Millisecond},
			Retrying: func(string, int, error) { retried.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		if got := rotate(t, z, Rotation{Force: true}); got.Rotated != 9 || got.Changes != 1 || got.Failed != 0 {
			t.Errorf("one in %d: %+v", oneIn, got)
		}
		if retried.Load() == 0 {
			t.Errorf("one in %d: nothing was repeated", oneIn)
		}
		announced(t, external(t, store, keys))
	}
	if file.n.Load() < 6 {
		t.Errorf("the key service was asked %d times", file.n.Load())
	}
	wantRows(t, external(t, store, open("default=new")), rows)
}

// When the context ends while the key service is away, the rotation ends, and says why.
func TestRotateStopsWaiting(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	land(t, external(t, store, open("default=old")), 1)
	keys, err := envelope.NewKeyring(map[envelope.Zone]envelope.MasterKey{envelope.Default: {KMS: nowhere{}, ID: "new"}}, envelope.Limits{}, envelope.MasterKey{KMS: nowhere{}, ID: "old"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got, err := external(t, store, keys).Rotate(ctx, Rotation{Rule: "test"})
	if !errors.Is(err, envelope.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) || got.Rotated != 0 || got.Failed != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// nowhere is a key service that never answers.
type nowhere struct{}

func (nowhere) WrapKey(context.Context, []byte, string) (string, error) {
	return "", &envelope.Unavailable{Err: errors.New("503")}
}

func (nowhere) UnwrapKey(context.Context, string, string) ([]byte, error) {
	return nil, &envelope.Unavailable{Err: errors.New("503")}
}

// A sidecar that somebody else has replaced is taken over if it opens the file, and put right if it does not.
func TestRotateForeignSidecars(t *testing.T) {
	open := keyFile(t, "old", "new", "theirs")
	store := posix(t, t.TempDir())
	z := external(t, store, open("default=old"))
	land(t, z, 1)
	rows, err := readable(t.Context(), z)
	if err != nil {
		t.Fatal(err)
	}
	z = external(t, store, open("default=new", "-old", "-theirs"))
	var names []string
	for name := range sidecars(t, store) {
		names = append(names, name)
	}
	slices.Sort(names)

	// As another program's rotation would leave it.
	side, err := ReadSidecar(t.Context(), store, names[0])
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := open("default=theirs", "-old").Rewrap(t.Context(), side, envelope.Accepted, true)
	if err != nil {
		t.Fatal(err)
	}
	text, err := theirs.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Replace(t.Context(), envelope.SidecarName(names[0]), text); err != nil {
		t.Fatal(err)
	}
	if got := rotate(t, z, Rotation{}); got.Rotated != 3 || got.Adopted != 1 {
		t.Errorf("%+v", got)
	}
	announced(t, z)

	// Another file's, which opens nothing, and one that is gone: the change has both.
	other, err := storage.ReadAll(t.Context(), store, envelope.SidecarName(names[1]), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Replace(t.Context(), envelope.SidecarName(names[0]), other); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), envelope.SidecarName(names[2])); err != nil {
		t.Fatal(err)
	}
	if _, err := readable(t.Context(), z); err == nil || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("another file's sidecar: %v", err)
	}
	if got := rotate(t, z, Rotation{}); got.Finished != 2 || got.Current != 1 || got.Changes != 0 {
		t.Errorf("%+v", got)
	}
	announced(t, z)
	wantRows(t, external(t, store, open("default=new")), rows)
}

// A master key that is gone makes its files unreadable, and says which, and does not keep the others from being rotated.
func TestRotateWithoutAKey(t *testing.T) {
	open := keyFile(t, "gone", "old", "new")
	store := posix(t, t.TempDir())
	land(t, external(t, store, open("default=old", "quarantined=gone")), 2)
	z := external(t, store, open("default=new", "-old"))
	got := rotate(t, z, Rotation{})
	if got.Rotated != 4 || got.Failed != 2 || len(got.Faults) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, f := range got.Faults {
		if !errors.Is(f.Err, envelope.ErrNoKey) || !strings.HasPrefix(f.File, "quarantined/") || !strings.Contains(f.Err.Error(), `"gone"`) {
			t.Errorf("%+v", f)
		}
	}
	_, err := readable(t.Context(), z)
	if !errors.Is(err, envelope.ErrNoKey) || !strings.Contains(err.Error(), "quarantined/") || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("reading what no key opens: %v", err)
	}
}

// More files than one change takes, over several partitions.
func TestRotateInBatches(t *testing.T) {
	open := keyFile(t, "old", "new")
	store := posix(t, t.TempDir())
	z := external(t, store, open("default=old"))
	for p := range int32(3) {
		src := record.Source{Topic: fmt.Sprintf("t%d", p%2), ID: "x", Partition: p}
		h := Head{Source: src}
		for range 2 {
			seg := segment(h.Next(), h.Next()+20)
			seg.Source = src
			var err error
			if h, err = z.Commit(t.Context(), seg, decide(seg), accepted, h); err != nil {
				t.Fatal(err)
			}
			seg.Release()
		}
	}
	outcomes := make([]outcome, 1203)
	for i := range outcomes {
		outcomes[i].material = &manifest.Material{Sidecar: strings.Repeat("x", 100)}
	}
	outcomes[1201].material.Sidecar = strings.Repeat("x", bytesInChange-200)
	var sizes []int
	for batch := range batches(outcomes) {
		sizes = append(sizes, len(batch))
	}
	if !slices.Equal(sizes, []int{500, 500, 201, 1, 1}) {
		t.Errorf("batches of %v", sizes)
	}
	var seen []int
	got := rotate(t, external(t, store, open("default=new", "-old")), Rotation{Progress: func(done, total int) { seen = append(seen, done, total) }})
	if got.Rotated != 18 || got.Changes != 3 || !slices.Equal(seen, []int{2, 6, 4, 6, 6, 6}) {
		t.Errorf("%+v, progress %v", got, seen)
	}
}

func TestKeyUses(t *testing.T) {
	open := keyFile(t, "old", "new", "medic", "state")
	store := posix(t, t.TempDir())
	inside, err := Open(t.Context(), Options{Store: store, Keys: open("default=old", "restricted=medic"), Process: "p"})
	if err != nil {
		t.Fatal(err)
	}
	land(t, inside, 1)
	z := external(t, store, open("default=new", "restricted=medic", "state=state"))
	land(t, z, 2)
	if err := z.PutSealed(t.Context(), envelope.State, "_reference/t/1/reference.sealed", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "_state/x", []byte("not sealed")); err != nil {
		t.Fatal(err)
	}
	keyless, err := Open(t.Context(), Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	uses, err := keyless.KeyUses(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, k := range uses.Keys {
		fmt.Fprintf(&text, "%s files %d internal %d sealed %d sample %t oldest %t\n", k.ID, k.Files, k.Internal, k.Sealed, k.Sample != nil, k.Oldest.File != "")
		if k.Sample != nil {
			if _, err := open("default="+k.ID).DataKey(t.Context(), k.Sample); err != nil {
				t.Errorf("the sample of %s: %v", k.ID, err)
			}
		}
	}
	want := `medic files 9 internal 3 sealed 0 sample true oldest true
new files 6 internal 0 sealed 0 sample true oldest true
old files 3 internal 3 sealed 0 sample false oldest true
state files 0 internal 0 sealed 1 sample true oldest false
`
	if text.String() != want || uses.Unfinished != 0 || uses.Lost != 0 {
		t.Errorf("%+v\n%s", uses, text.String())
	}
}
