//go:build services

package storage_test

import (
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest"
)

// at returns the URL of an object, or of a folder, in the bucket that raw names.
func at(t *testing.T, raw, path string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + path
	return u.String()
}

func TestStoreInputs(t *testing.T) {
	for _, one := range stores {
		t.Run(one.name, func(t *testing.T) {
			bucket := one.start(t).URL()
			zone, err := storage.Open(t.Context(), at(t, bucket, "in")) // a prefix, as a path
			if err != nil {
				t.Fatal(err)
			}
			data := storagetest.Pattern(600_000, 1)
			names := []string{"2026/a b.jsonl.gz", "2026/question?.csv", "2026/hash#.csv", "2026/per%20cent.tsv", "2026/ü.parquet", "2027/x.jsonl"}
			for _, name := range names {
				if err := zone.Put(t.Context(), name, data); err != nil {
					t.Fatal(err)
				}
			}
			n := 0
			for info, err := range storage.ListObjects(t.Context(), at(t, bucket, "in/2026/")) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				if age := time.Since(info.Modified); info.Version == "" || age < -time.Minute || age > time.Hour {
					t.Errorf("%s: version %q, written %v", info.Name, info.Version, info.Modified)
				}
				r, err := storage.OpenObject(t.Context(), info.Name)
				if err != nil {
					t.Errorf("%s: %v", info.Name, err)
					continue
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
				if err != nil || string(got) != string(data) || info.Size != int64(len(data)) {
					t.Errorf("%s: %d bytes, %v", info.Name, len(got), err)
				}
				r.Close()
			}
			if n != 5 {
				t.Errorf("%d objects are listed, want 5", n)
			}
			if _, err := storage.OpenObject(t.Context(), at(t, bucket, "in/2026/absent")); !errors.Is(err, storage.ErrNotExist) || !strings.Contains(err.Error(), "in/2026/absent") {
				t.Errorf("absent: %v", err)
			}
			if _, err := storage.OpenObject(t.Context(), bucket); !errors.Is(err, storage.ErrUnusable) {
				t.Errorf("no name: %v", err)
			}
		})
	}
}
