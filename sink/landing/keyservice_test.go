package landing

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tasterhq/taster/sink/envelope"
)

// service is a key service that answers as it is told: with an error, or by a local key.
type service struct {
	file *envelope.KeyFile

	mu    sync.Mutex
	fault error
}

func (s *service) set(fault error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *service) answer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

func (s *service) WrapKey(ctx context.Context, key []byte, _ string) (string, error) {
	if err := s.answer(); err != nil {
		return "", err
	}
	return s.file.WrapKey(ctx, key, "k")
}

func (s *service) UnwrapKey(ctx context.Context, wrapped string, _ string) ([]byte, error) {
	if err := s.answer(); err != nil {
		return nil, err
	}
	return s.file.UnwrapKey(ctx, wrapped, "k")
}

// A key service that is away delays a commit, and one that refuses makes it fail without a trace; both commit when it
// is well again.
func TestKeyServiceAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, "k"); err != nil {
		t.Fatal(err)
	}
	file, err := envelope.LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kms := &service{file: file}
	waits := make(chan error, 1000)
	keys, err := envelope.NewKeyring(map[envelope.Zone]envelope.MasterKey{envelope.Default: {KMS: kms, ID: "hashivault://k"}}, envelope.Limits{
		Uses:    1,
		Waiting: func(_ string, _ int, _ time.Duration, err error) { waits <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	store := posix(t, dir)
	z := zone(t, store)
	z.opt.Keys = keys
	h := head(t, z, nil)

	kms.set(&envelope.Unavailable{Err: errors.New("away")})
	back := time.AfterFunc(3*time.Second, func() { kms.set(nil) })
	defer back.Stop()
	began := time.Now()
	h = commit(t, z, h, 30)
	if len(waits) < 3 || time.Since(began) < 3*time.Second {
		t.Errorf("committed after %v and %d waits though there was no key", time.Since(began), len(waits))
	}

	kms.set(envelope.ErrDenied)
	before := files(t, store)
	seg := segment(30, 60)
	defer seg.Release()
	_, err = z.Commit(t.Context(), seg, decide(seg), accepted, h)
	if !errors.Is(err, envelope.ErrDenied) || !strings.Contains(err.Error(), "accepted") {
		t.Errorf("without the right to wrap: %v", err)
	}
	if after := files(t, store); len(after) != len(before) {
		t.Errorf("the failed commit left %v behind", after)
	}
	if next := head(t, z, nil).Next(); next != 30 {
		t.Errorf("the zone ends at %d though nothing was committed behind 30", next)
	}
	kms.set(nil)
	commit(t, z, head(t, z, nil), 60)
	rows := int64(0)
	for m, err := range z.Manifests(t.Context(), source.Topic) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m.Files {
			for batch, err := range z.Rows(t.Context(), f, nil) {
				if err != nil {
					t.Fatal(err)
				}
				rows += batch.NumRows()
			}
		}
	}
	if want := int64(60 - 5); rows != want { // every eleventh offset is a gap
		t.Errorf("%d rows landed, want %d", rows, want)
	}
}
