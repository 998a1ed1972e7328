package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/storage"
)

// vault seals by writing the name in front, which is all that these tests need.
type vault struct{ lost map[string]bool }

var errNoKey = errors.New("the master key is gone")

func (v vault) Seal(_ context.Context, name string, plaintext []byte) ([]byte, error) {
	return append([]byte(name+"\n"), plaintext...), nil
}

func (v vault) Unseal(_ context.Context, name string, sealed []byte) ([]byte, error) {
	plaintext, ok := bytes.CutPrefix(sealed, []byte(name+"\n"))
	if !ok || v.lost[name] {
		return nil, fmt.Errorf("%s: %w", name, errNoKey)
	}
	return plaintext, nil
}

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC) }

// notes reads all checkpoints and checks them with the note package alone: the signature by one of the keys that the
// zone holds, the link to the one before, and that every line is the SHA-256 of an object.
func notes(t *testing.T, store storage.Store) []string {
	t.Helper()
	var keys []note.Verifier
	for info, err := range store.List(t.Context(), KeysFolder) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(info.Name, ".vkey") {
			data, err := storage.ReadAll(t.Context(), store, info.Name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			key, err := note.NewVerifier(strings.TrimSpace(string(data)))
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
	}
	var texts []string
	previous := "none"
	for info, err := range store.List(t.Context(), CheckpointsFolder) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(t.Context(), store, info.Name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := note.Open(data, note.VerifierList(keys...))
		if err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		lines := strings.Split(strings.TrimSuffix(opened.Text, "\n"), "\n")
		if want := fmt.Sprintf("checkpoint %d", len(texts)); info.Name != CheckpointName(int64(len(texts))) || lines[1] != want {
			t.Errorf("%s: %s, want %s", info.Name, lines[1], want)
		}
		if lines[0] != "taster landing zone "+keys[0].Name() || lines[3] != "previous "+previous {
			t.Errorf("%s: %s, %s, want previous %s", info.Name, lines[0], lines[3], previous)
		}
		for _, line := range lines[4:] {
			sum, name, _ := strings.Cut(line, "  ")
			object, err := storage.ReadAll(t.Context(), store, name, 1<<20)
			if err != nil || manifest.Digest(object) != sum {
				t.Errorf("%s names %s with another digest: %v", info.Name, name, err)
			}
		}
		previous = manifest.Digest(data)
		texts = append(texts, opened.Text)
	}
	return texts
}

// names returns the objects that a checkpoint names.
func names(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			found = append(found, name)
		}
	}
	return found
}

func TestCheckpoints(t *testing.T) {
	store := posix(t, t.TempDir())
	c := OpenCheckpoints(store, vault{}, clock)
	if err := c.Write(t.Context()); err != nil || len(notes(t, store)) != 0 {
		t.Fatalf("nothing had grown: %v", err)
	}
	process := OpenProcess(c.Store(), "20260101T000000Z-0123456789abcdef", clock)
	m := manifests(t, store, 3)
	for _, step := range []error{
		process.Append(t.Context(), Entry{Event: Start}), process.Append(t.Context(), Entry{Event: Stop}),
		OpenCommits(c.Store()).Append(t.Context(), m[1]), c.Write(t.Context()), c.Write(t.Context()),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	texts := notes(t, store)
	if len(texts) != 1 {
		t.Fatalf("%d checkpoints, want 1", len(texts))
	}
	want := []string{KeysFolder + "1.sealed", KeysFolder + "1.vkey", CommitName(m[1]), ProcessName(process.Name(), 1)}
	if got := names(texts[0]); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it names %v, want %v", got, want)
	}

	// Another process goes on with the chain, and names what a dead one had written before any checkpoint did.
	if err := OpenCommits(store).Append(t.Context(), m[2]); err != nil {
		t.Fatal(err)
	}
	other := OpenCheckpoints(store, vault{}, clock)
	if err := errors.Join(OpenCommits(other.Store()).Append(t.Context(), m[2]), other.Write(t.Context())); err != nil {
		t.Fatal(err)
	}
	if texts = notes(t, store); len(texts) != 2 || fmt.Sprint(names(texts[1])) != fmt.Sprint([]string{CommitName(m[2])}) {
		t.Fatalf("%q", texts)
	}
	// The first one finds that it is not alone.
	if err := errors.Join(process.Append(t.Context(), Entry{Event: Start}), c.Write(t.Context())); err != nil {
		t.Fatal(err)
	}
	if texts = notes(t, store); len(texts) != 3 {
		t.Fatalf("%q", texts)
	}
}

// Processes that start together make one key, and write one chain.
func TestCheckpointsAtOnce(t *testing.T) {
	store := posix(t, t.TempDir())
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			c := OpenCheckpoints(store, vault{}, clock)
			p := OpenProcess(c.Store(), NewProcess(clock())+fmt.Sprint(i), clock)
			for range 5 {
				if err := errors.Join(p.Append(context.Background(), Entry{Event: Start}), c.Write(context.Background())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if n := len(notes(t, store)); n != 40 {
		t.Errorf("%d checkpoints, want 40", n)
	}
}

// More chains than one note has room for go into several.
func TestManyChains(t *testing.T) {
	store := posix(t, t.TempDir())
	c := OpenCheckpoints(store, vault{}, clock)
	long := strings.Repeat("t", 255)
	for i := range 2*noteLines + 1 {
		c.Grew(Tip{fmt.Sprintf("%s%s/%s/%d/%020d.json", CommitsFolder, long, strings.Repeat("0a", 32), i, i), strings.Repeat("0a", 32)})
	}
	if err := c.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for info, err := range store.List(t.Context(), CheckpointsFolder) {
		if err != nil || info.Size > noteLimit {
			t.Errorf("%s has %d bytes: %v", info.Name, info.Size, err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d checkpoints, want 3", n)
	}
}

// A new key is vouched for by the old one; after that the old one need not be there any more.
func TestRenew(t *testing.T) {
	store := posix(t, t.TempDir())
	c := OpenCheckpoints(store, vault{}, clock)
	if err := c.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	texts := notes(t, store)
	if len(texts) != 2 || fmt.Sprint(names(texts[1])) != fmt.Sprint([]string{KeysFolder + "2.sealed", KeysFolder + "2.vkey"}) {
		t.Fatalf("%q", texts)
	}
	second, err := c.Verifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	later := OpenCheckpoints(store, vault{map[string]bool{KeysFolder + "1.sealed": true}}, clock)
	later.Grew(Tip{KeysFolder + "1.vkey", digestOf(t, store, KeysFolder+"1.vkey")})
	if err := later.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := storage.ReadAll(t.Context(), store, CheckpointName(2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(data, note.VerifierList(key)); err != nil {
		t.Errorf("not signed with the new key: %v", err)
	}
	// Who made a key and died before it was vouched for leaves that to the next.
	if err := later.make(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	last := OpenCheckpoints(store, vault{}, clock)
	if err := last.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if texts = notes(t, store); len(texts) != 4 || fmt.Sprint(names(texts[3])) != fmt.Sprint([]string{KeysFolder + "3.sealed", KeysFolder + "3.vkey"}) {
		t.Fatalf("%q", texts)
	}
}

// A key that was put beside the zone's own is not vouched for: it is not sealed by the master key.
func TestStrangeKey(t *testing.T) {
	store := posix(t, t.TempDir())
	c := OpenCheckpoints(store, vault{}, clock)
	p := OpenProcess(c.Store(), "one", clock)
	if err := errors.Join(p.Append(t.Context(), Entry{Event: Start}), c.Write(t.Context()), p.Append(t.Context(), Entry{Event: Stop})); err != nil {
		t.Fatal(err)
	}
	_, public, err := note.GenerateKey(rand.Reader, "taster-0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Put(t.Context(), KeysFolder+"2.sealed", []byte("sealed by nobody")), store.Put(t.Context(), KeysFolder+"2.vkey", []byte(public+"\n"))); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context()); !errors.Is(err, errNoKey) || !strings.Contains(err.Error(), KeysFolder+"2.sealed") {
		t.Errorf("got %v", err)
	}
	if n := len(notes(t, store)); n != 1 {
		t.Errorf("%d checkpoints, want 1", n)
	}
}

func digestOf(t *testing.T, store storage.Store, name string) string {
	t.Helper()
	data, err := storage.ReadAll(t.Context(), store, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Digest(data)
}

// What cannot be a checkpoint of the zone is not followed, and says where it stands.
func TestForgedCheckpoint(t *testing.T) {
	fresh := func() (string, storage.Store) {
		dir := t.TempDir()
		store := posix(t, dir)
		c := OpenCheckpoints(store, vault{}, clock)
		if err := errors.Join(OpenProcess(c.Store(), "one", clock).Append(t.Context(), Entry{Event: Start}), c.Write(t.Context())); err != nil {
			t.Fatal(err)
		}
		return dir, store
	}
	refused := func(store storage.Store, object string) {
		t.Helper()
		c := OpenCheckpoints(store, vault{}, clock)
		c.Grew(Tip{"_audit/process/two/00000000000000000000.json", strings.Repeat("0a", 32)})
		err := c.Write(t.Context())
		if err == nil || !strings.Contains(err.Error(), object) {
			t.Errorf("%s: %v", object, err)
		}
	}
	dir, store := fresh()
	path := filepath.Join(dir, CheckpointName(0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("taster\n"), bytes.Replace(data, []byte("previous none"), []byte("previous 0000"), 1)} {
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(store, CheckpointName(0))
	}
	if err := errors.Join(os.WriteFile(path, data, 0o644), os.Rename(path, filepath.Join(dir, CheckpointName(1)))); err != nil {
		t.Fatal(err)
	}
	refused(store, CheckpointName(1))

	_, other := fresh()
	for _, name := range []string{KeysFolder + "1.vkey", KeysFolder + "1.sealed"} {
		dir, store = fresh()
		stranger, err := storage.ReadAll(t.Context(), other, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{stranger, []byte("x"), nil} {
			if err := os.WriteFile(filepath.Join(dir, name), bad, 0o644); err != nil {
				t.Fatal(err)
			}
			object := name
			if name == KeysFolder+"1.vkey" && len(bad) > 1 {
				object = CheckpointName(0) // signed by another key than stands there now
			}
			refused(store, object)
		}
	}
}

// A checkpoint of which the answer was lost is found again and not written twice.
func TestCheckpointAnswerLost(t *testing.T) {
	store := posix(t, t.TempDir())
	flaky := &lostAnswers{Store: store}
	c := OpenCheckpoints(flaky, vault{}, clock)
	p := OpenProcess(c.Store(), "one", clock)
	if err := errors.Join(p.Append(t.Context(), Entry{Event: Start}), c.Write(t.Context()), p.Append(t.Context(), Entry{Event: Stop})); err != nil {
		t.Fatal(err)
	}
	flaky.lose = 2 // the look for another key, and the reading back
	if err := c.Write(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	flaky.lose = 0
	if err := c.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	texts := notes(t, store)
	if last := names(texts[len(texts)-1]); fmt.Sprint(last) != fmt.Sprint([]string{ProcessName("one", 1)}) {
		t.Errorf("%q", texts)
	}
}

// The format is public: this test fails when the bytes of a checkpoint change. Ed25519 signs equal bytes equally, so a
// fixed key gives fixed bytes.
func TestCheckpointGolden(t *testing.T) {
	secret, public, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), "taster-0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	store := posix(t, t.TempDir())
	sealed, err := vault{}.Seal(t.Context(), KeysFolder+"1.sealed", []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	c := OpenCheckpoints(store, vault{}, clock)
	process := OpenProcess(c.Store(), "20260101T000000Z-0123456789abcdef", clock)
	m := manifests(t, store, 1)
	for _, step := range []error{
		store.Put(t.Context(), KeysFolder+"1.sealed", sealed), process.Append(t.Context(), Entry{Event: Start}), c.Write(t.Context()),
		OpenCommits(c.Store()).Append(t.Context(), m[0]), c.Write(t.Context()),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	got, err := storage.ReadAll(t.Context(), store, CheckpointName(1), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for golden, got := range map[string][]byte{"testdata/checkpoint.golden.note": got, "testdata/checkpoint.golden.vkey": []byte(public + "\n")} {
		if os.Getenv("TASTER_UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", golden, got, want)
		}
	}
}

// BenchmarkCheckpoint signs how far 10,000 chains have come, into a store that fsyncs, and tells what is kept of them.
func BenchmarkCheckpoint(b *testing.B) {
	store, err := storage.OpenPosix(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	for _, chains := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("chains=%d", chains), func(b *testing.B) {
			b.ReportAllocs()
			c := OpenCheckpoints(store, vault{}, clock)
			for i := 0; b.Loop(); i++ {
				for chain := range chains {
					c.Grew(Tip{fmt.Sprintf("%sreviews/BBBBBBBBBBBBBBBBBBBBBQ/%d/%020d.json", CommitsFolder, chain, i), strings.Repeat("0a", 32)})
				}
				if err := c.Write(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
