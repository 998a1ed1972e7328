package audit

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestVouch(t *testing.T) {
	store := posix(t, t.TempDir())
	const text = "something of the zone's\nreviews@1\n"
	c := OpenCheckpoints(store, vault{}, clock)
	signed, err := c.Vouch(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	check := func(c *Checkpoints, signed []byte) {
		t.Helper()
		if got, err := c.Vouched(t.Context(), signed); err != nil || got != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	check(c, signed)
	check(OpenCheckpoints(store, vault{}, clock), signed)

	// A former key's word still counts, and the new one's does, even for who read the keys before.
	if err := OpenCheckpoints(store, vault{}, clock).Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(c, signed)
	again, err := OpenCheckpoints(store, vault{}, clock).Vouch(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) == string(signed) {
		t.Error("the new key signs like the old one")
	}
	check(c, again)

	// A stranger's does not, even with his key put into the zone.
	secret, public, err := note.GenerateKey(strings.NewReader(strings.Repeat("0123456789abcdef", 8)), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keyName(3, ".sealed"), keyName(3, ".vkey")} {
		data := []byte(public + "\n")
		if strings.HasSuffix(name, ".sealed") {
			data = append([]byte(name+"\n"), secret...)
		}
		if err := store.Put(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][]byte{forged, []byte(text), nil, append([]byte("x"), signed...), signed[:len(signed)-9]} {
		if got, err := OpenCheckpoints(store, vault{}, clock).Vouched(t.Context(), bad); !errors.Is(err, ErrForged) {
			t.Errorf("%q is taken: %q, %v", bad, got, err)
		}
	}
}
