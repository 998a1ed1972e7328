package envelope

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// sidecars returns the sidecars in testdata by the program that wrote them: taster, pyarrow.
func sidecars(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) < 2 {
		t.Fatalf("testdata holds %d sidecars, want 2 at least", len(names))
	}
	out := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(name)] = data
	}
	return out
}

// The master keys under which testdata was written: bytes counted from 0 and from 32.
func countedKeys(t *testing.T) *KeyFile {
	t.Helper()
	var keys [2]string
	for i := range keys {
		key := make([]byte, 32)
		for j := range key {
			key[j] = byte(32*i + j)
		}
		keys[i] = base64.StdEncoding.EncodeToString(key)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"keys":{"train":"`+keys[0]+`","medic":"`+keys[1]+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What pyarrow 26.0 wrote, and what taster wrote before, still opens, and can be wrapped anew.
func TestStoredSidecars(t *testing.T) {
	file := countedKeys(t)
	k := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "train"}, Restricted: {file, "medic"}})
	next := newRing(t, Limits{}, map[Zone]MasterKey{Default: {newFile(t, "next"), "next"}})
	next.previous = k.masters()
	for name, data := range sidecars(t) {
		s, err := ParseSidecar(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: encoded again it is %s, %v", name, again, err)
		}
		fresh, changed, err := next.Rewrap(ctx, s, Accepted, false)
		if err != nil || !changed || len(fresh.References()) != 2 {
			t.Errorf("%s: %v, %v", name, changed, err)
			continue
		}
		for _, ref := range s.References() {
			was, err := k.DataKeyFrom(ctx, s.Material(ref), nil)
			if err != nil || len(was) != 32 {
				t.Errorf("%s, %s: %d bytes, %v", name, ref, len(was), err)
			}
			if is, err := next.DataKeyFrom(ctx, fresh.Material(ref), nil); err != nil || !bytes.Equal(is, was) {
				t.Errorf("%s, %s: wrapped anew it is another key, %v", name, ref, err)
			}
		}
	}
}

func FuzzSidecar(f *testing.F) {
	for _, data := range sidecars(f) {
		f.Add(data)
	}
	for _, text := range []string{"", "{}", `{"a":"b"}`, `{"footerKey":"{\"keyMaterialType\":\"PKMT1\",\"masterKeyID\":\"k\",\"wrappedDEK\":\"x\"}"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSidecar(data)
		if err != nil {
			if !errors.Is(err, errSidecar) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		text, err := s.Encode()
		if err != nil {
			t.Fatalf("what was parsed is not encoded: %v", err)
		}
		again, err := ParseSidecar(text)
		if err != nil {
			t.Fatalf("what was encoded is not parsed: %v", err)
		}
		if canonical, err := again.Encode(); err != nil || !bytes.Equal(canonical, text) {
			t.Fatalf("%s became %s, %v", text, canonical, err)
		}
		for _, ref := range s.References() {
			if !bytes.Equal(s.Material(ref), again.Material(ref)) {
				t.Fatalf("%q lost its material", ref)
			}
		}
	})
}

func FuzzKeyURL(f *testing.F) {
	for _, text := range []string{
		"awskms:///arn:aws:kms:eu-west-1:1:key/1?region=x", "awskms://alias/a?endpoint=http://127.0.0.1", "azurekeyvault://v.x/keys/k/1",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k", "hashivault://k?engine=a%2fb&namespace=%20", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseKeyURL(text)
		if err != nil {
			return
		}
		again, err := ParseKeyURL(u.ID())
		if err != nil || again.ID() != u.ID() || again.Key != u.Key {
			t.Fatalf("%q has the id %q, which is %q, %v", text, u.ID(), again.ID(), err)
		}
		if id, zone := SplitZone(InZone(u.ID(), State)); id != u.ID() || zone != State {
			t.Fatalf("%q in its zone is taken apart as %q, %q", text, id, zone)
		}
	})
}
