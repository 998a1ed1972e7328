package landing

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tasterhq/taster/sink/envelope"
)

func TestSealedObjects(t *testing.T) {
	open := keyFile(t, "a", "b")
	store := posix(t, t.TempDir())
	seal := func(key string, names ...string) {
		t.Helper()
		z := external(t, store, open("default="+key))
		for _, name := range names {
			if err := z.PutSealed(t.Context(), envelope.State, name, []byte("secret of "+name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	seal("a", "_reference/t/1/reference.sealed", "_reference/t/1/reference.9.sealed", "_reference/t/10/reference.sealed",
		"_audit/keys/1.sealed", "_audit/keys/9.sealed", "_state/x.sealed", "_state/y.sealed")
	seal("b", "_reference/t/1/reference.10.sealed", "_audit/keys/10.sealed")
	for _, name := range []string{"_audit/keys/11.vkey", "_reference/t/2/reference.sealed"} {
		if err := store.Put(t.Context(), name, []byte("another kind")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, folder := range sealedFolders {
		for object, err := range external(t, store, nil).SealedObjects(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(object.Name, " ", object.Number, " ", object.Key))
		}
	}
	want := []string{
		"_reference/t/1/reference.10.sealed 10 b", "_reference/t/10/reference.sealed 0 a", "_state/x.sealed 0 a", "_state/y.sealed 0 a",
		"_audit/keys/10.sealed 10 b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, name := range []string{"_reference/t/1/reference.sealed", "_state/x.sealed"} {
		for _, n := range []int{0, 1, 12} {
			if of := SealedOriginal(SealedCopy(name, n)); of != name {
				t.Errorf("copy %d of %s is one of %s", n, name, of)
			}
		}
	}
}
