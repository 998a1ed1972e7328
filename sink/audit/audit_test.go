package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/storage"
)

var source = record.Source{Topic: "reviews", ID: "AAAAAAAAQACAAAAAAAAAAQ", Partition: 1}

func posix(t *testing.T, dir string) *storage.Posix {
	t.Helper()
	p, err := storage.OpenPosix(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// manifests writes n manifests of ten offsets each.
func manifests(t *testing.T, store storage.Putter, n int) []*manifest.Manifest {
	t.Helper()
	var out []*manifest.Manifest
	previous := ""
	for i := range int64(n) {
		m := &manifest.Manifest{
			Version: manifest.Version, Topic: source.Topic, TopicID: source.ID, Partition: source.Partition, First: 10 * i, Next: 10*i + 10, Gaps: 10,
			Opened: 1767225600000, Committed: manifest.Time(1767225600000 + 1000*i), Process: "20260101T000000Z-0123456789abcdef",
			Writer: strings.Repeat("0a", 16), Previous: previous, Contract: strings.Repeat("0b", 32),
			Detectors: []string{}, Reasons: map[finding.Code]int64{}, Files: []manifest.File{},
		}
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), m.Name(), data); err != nil {
			t.Fatal(err)
		}
		previous = manifest.Digest(data)
		out = append(out, m)
	}
	return out
}

// chain reads a chain by name and checks it as docs/landing-zone.md says, without the code of this package.
func chain(t *testing.T, store storage.Store, prefix string) []map[string]any {
	t.Helper()
	var out []map[string]any
	previous := ""
	for info, err := range store.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(t.Context(), store, info.Name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(bytes.Clone(data[:len(data)-77]), '}'))
		var entry map[string]any
		if err := json.Unmarshal(data, &entry); err != nil {
			t.Fatal(err)
		}
		if entry["digest"] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the digest is not that of the bytes", info.Name)
		}
		if entry["previous"] != previous {
			t.Errorf("%s: does not follow the entry before it", info.Name)
		}
		previous = entry["digest"].(string)
		out = append(out, entry)
	}
	return out
}

// The format is public: this test fails when the bytes of an entry change.
func TestGolden(t *testing.T) {
	store := posix(t, t.TempDir())
	m := manifests(t, store, 2)
	if err := OpenCommits(store).Append(t.Context(), m[1]); err != nil {
		t.Fatal(err)
	}
	got, err := storage.ReadAll(t.Context(), store, "_audit/commits/reviews/AAAAAAAAQACAAAAAAAAAAQ/1/00000000000000000010.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/commit.golden.json"
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
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := Decode(want); err != nil {
		t.Error(err)
	}
}

// A writer died after its manifest, several times; whoever comes next writes what is missing, in order, and repeats
// harmlessly. Two at once write the same.
func TestCommitsCatchUp(t *testing.T) {
	dir := t.TempDir()
	store := posix(t, dir)
	m := manifests(t, store, 6)
	if err := OpenCommits(store).Append(t.Context(), m[1]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := OpenCommits(store)
			for _, i := range []int{4, 2, 4, 5, 0} {
				if err := c.Append(t.Context(), m[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := chain(t, store, CommitsFolder)
	if len(got) != 6 {
		t.Fatalf("%d entries, want 6", len(got))
	}
	for i, e := range got {
		data, err := m[i].Encode()
		if err != nil {
			t.Fatal(err)
		}
		if e["object"] != m[i].Name() || e["object_sha256"] != manifest.Digest(data) || e["event"] != Commit || e["time"] != m[i].Committed.String() {
			t.Errorf("entry %d: %v", i, e)
		}
	}
}

func TestForgedCommit(t *testing.T) {
	dir := t.TempDir()
	store := posix(t, dir)
	m := manifests(t, store, 3)
	if err := OpenCommits(store).Append(t.Context(), m[1]); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, CommitName(m[1]))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"changed": {`"result":"ok"`, `"result":"no"`}, "not JSON": {`{`, ``}, "object": {`0010.json"`, `0000.json"`},
	} {
		bad := bytes.Replace(data, []byte(change[0]), []byte(change[1]), 1)
		if name == "object" { // with a digest that fits
			e, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			e.Object = m[0].Name()
			if bad, err = e.encode(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := OpenCommits(store).Append(t.Context(), m[2]); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, CommitName(m[2])), data, 0o644); err != nil {
		t.Fatal(err)
	}
	c := OpenCommits(store)
	c.tips[source] = &tip{known: true, next: 20, digest: strings.Repeat("00", 32)}
	if err := c.Append(t.Context(), m[2]); !errors.Is(err, ErrForged) {
		t.Errorf("an entry under a name that another took: %v", err)
	}
}

func TestProcess(t *testing.T) {
	store := posix(t, t.TempDir())
	now := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))
	name := NewProcess(now)
	if !strings.HasPrefix(name, "20260102T020405Z-") || name == NewProcess(now) {
		t.Errorf("process name %s", name)
	}
	flaky := &lostAnswers{Store: store}
	p := OpenProcess(flaky, name, func() time.Time { return now })
	if err := p.Append(t.Context(), Entry{Event: Start, Subject: "run", Action: "run", Result: "ok", Policy: "allow", Details: map[string]string{"configuration": "00", "a": "<&>"}}); err != nil {
		t.Fatal(err)
	}
	flaky.lose = 1 // stored, and then neither the answer nor reading back works
	if err := p.Append(t.Context(), Entry{Event: Contract, Subject: "reviews"}); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	if err := p.Append(t.Context(), Entry{Event: Stop, Subject: "run"}); err != nil {
		t.Fatal(err)
	}
	got := chain(t, store, ProcessFolder)
	if len(got) != 3 || got[0]["event"] != Start || got[1]["event"] != Contract || got[2]["event"] != Stop {
		t.Fatalf("chain %v", got)
	}
	if got[0]["time"] != "2026-01-02T02:04:05.006Z" || got[0]["actor"] != name {
		t.Errorf("entry %v", got[0])
	}
	// Another's entry stands where ours should.
	if err := store.Put(t.Context(), ProcessName(name, 3), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := p.Append(t.Context(), Entry{Event: Stop}); !errors.Is(err, ErrForged) {
		t.Errorf("got %v, want ErrForged", err)
	}
}

var errLost = errors.New("answer lost")

type lostAnswers struct {
	storage.Store
	lose int
}

func (l *lostAnswers) Put(ctx context.Context, name string, data []byte) error {
	if err := l.Store.Put(ctx, name, data); err != nil || l.lose == 0 {
		return err
	}
	return errLost
}

func (l *lostAnswers) Open(ctx context.Context, name string) (storage.Reader, error) {
	if l.lose > 0 {
		l.lose--
		return nil, errLost
	}
	return l.Store.Open(ctx, name)
}

func FuzzDecode(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.json")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds in testdata")
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error without ErrInvalid: %v", err)
			}
			return
		}
		if again, err := e.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("an entry that was read is written otherwise: %v", err)
		}
	})
}
