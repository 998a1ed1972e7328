package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A store that was opened while its file system was not mounted must not write into the one that is mounted later, and
// goes on when its own is back.
func TestAnotherFolderUnderTheSamePath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "zone")
	early, err := OpenPosix(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := early.Create(t.Context(), "begun/before")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(dir, dir+".early")
	right, err := OpenPosix(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"put": early.Put(t.Context(), "a", nil), "replace": early.Replace(t.Context(), "b", nil), "commit": w.Commit(t.Context())} {
		if err == nil || name != "commit" && !strings.Contains(err.Error(), "not the folder that was opened") {
			t.Errorf("%s into another folder: %v", name, err)
		}
	}
	for info, err := range right.List(t.Context(), "") {
		t.Errorf("the other folder has %s, %v", info.Name, err)
	}
	if err := right.Put(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
	move(dir, dir+".right")
	move(dir+".early", dir)
	if err := early.Put(t.Context(), "a", nil); err != nil {
		t.Errorf("into its own folder, which is back: %v", err)
	}
}
