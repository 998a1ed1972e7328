package envelope

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var ctx = context.Background()

func newFile(t *testing.T, names ...string) *KeyFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := CreateKeyFile(path, names...); err != nil {
		t.Fatal(err)
	}
	f, err := LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newRing(t *testing.T, limits Limits, zones map[Zone]MasterKey) *Keyring {
	t.Helper()
	k, err := NewKeyring(zones, limits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The AES-256 case with AAD of McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16, laid out as
// parquet-java does: nonce, ciphertext, tag.
func TestUnwrapKnownAnswer(t *testing.T) {
	unhex := func(s string) []byte {
		var b []byte
		if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	key := unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
	sealed := unhex("cafebabefacedbaddecaf888" + "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" + "76fc6ece0f4e1768cddf8853bb2d551b")
	aad := unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
	want := unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	got, err := decryptKeyLocally(base64.StdEncoding.EncodeToString(sealed), key, aad)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %x, %v", got, err)
	}
}

func TestDataKeyRoundTrip(t *testing.T) {
	file := newFile(t, "default", "quarantined")
	ring := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "default"}, Quarantined: {file, "quarantined"}})
	for _, footer := range []bool{true, false} {
		made, err := ring.NewDataKey(ctx, Quarantined, footer)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(made.Material, &fields); err != nil {
			t.Fatal(err)
		}
		_, hasKMS := fields["kmsInstanceID"]
		if fields["keyMaterialType"] != "PKMT1" || fields["internalStorage"] != true || fields["isFooterKey"] != footer ||
			fields["doubleWrapping"] != true || fields["masterKeyID"] != "quarantined" || hasKMS != footer {
			t.Errorf("material %s", made.Material)
		}
		// Another process with the same key file.
		got, err := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "quarantined"}}).DataKey(ctx, made.Material)
		if err != nil || !bytes.Equal(got, made.Key) || len(got) != 32 {
			t.Errorf("unwrapped wrongly: %v", err)
		}
		// One who may train but holds no key of the quarantine.
		_, err = newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "default"}}).DataKey(ctx, made.Material)
		if !errors.Is(err, ErrNoKey) {
			t.Errorf("without the key: %v, want ErrNoKey", err)
		}
		// A key of the right name that is another key.
		other := newFile(t, "quarantined")
		_, err = newRing(t, Limits{}, map[Zone]MasterKey{Default: {other, "quarantined"}}).DataKey(ctx, made.Material)
		if !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), other.Path()) || !strings.Contains(err.Error(), `"quarantined"`) {
			t.Errorf("with another key: %v, want ErrWrongKey naming file and key", err)
		}
	}
}

func TestSameNameInTwoFiles(t *testing.T) {
	a, b := newFile(t, "k"), newFile(t, "k")
	ring := newRing(t, Limits{}, map[Zone]MasterKey{Default: {a, "k"}, Rejected: {b, "k"}})
	made, err := ring.NewDataKey(ctx, Rejected, true)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ring.DataKey(ctx, made.Material); err != nil || !bytes.Equal(got, made.Key) {
		t.Errorf("the second file was not tried: %v", err)
	}
}

func TestSingleWrapping(t *testing.T) {
	file := newFile(t, "k")
	wrapped, err := file.WrapKey(ctx, bytes.Repeat([]byte{7}, 32), "k")
	if err != nil {
		t.Fatal(err)
	}
	text, err := compact(material{Type: materialType, InternalStorage: &internal, IsFooterKey: true, MasterKeyID: "k", WrappedDEK: wrapped})
	if err != nil {
		t.Fatal(err)
	}
	got, err := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "k"}}).DataKey(ctx, text)
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestKEKLimits(t *testing.T) {
	file := newFile(t, "k")
	ring := newRing(t, Limits{Age: time.Minute, Uses: 3}, map[Zone]MasterKey{Default: {file, "k"}})
	now := time.Unix(1e9, 0)
	ring.cache.now = func() time.Time { return now }
	id := func(zone Zone) string {
		key, err := ring.NewDataKey(ctx, zone, true)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMaterial(key.Material)
		if err != nil {
			t.Fatal(err)
		}
		return m.KEKID
	}
	first := id(Accepted)
	if id(Accepted) != first || id(Accepted) != first {
		t.Error("a KEK was not used again within its limits")
	}
	second := id(Accepted)
	if second == first {
		t.Error("a KEK was used more often than allowed")
	}
	if id(Rejected) == second {
		t.Error("two zones share a KEK")
	}
	now = now.Add(time.Minute)
	if id(Accepted) == second {
		t.Error("a KEK was used longer than allowed")
	}
}

func TestBrokenMaterial(t *testing.T) {
	file := newFile(t, "k")
	ring := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "k"}})
	made, err := ring.NewDataKey(ctx, Default, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range made.Material {
		bad := bytes.Clone(made.Material)
		bad[i] ^= 1
		if got, err := ring.DataKey(ctx, bad); err == nil && !bytes.Equal(got, made.Key) {
			t.Fatalf("byte %d changed: another key came out", i)
		}
	}
	for _, bad := range []string{"", "null", "{}", "[]", `{"keyMaterialType":"PKMT1"}`, strings.Repeat("x", materialLimit+1)} {
		if _, err := ring.DataKey(ctx, []byte(bad)); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

func TestSeal(t *testing.T) {
	file := newFile(t, "k")
	ring := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "k"}})
	secret := []byte("profile of what is normal")
	sealed, err := ring.Seal(ctx, State, "_reference/t/1/profile", secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret[:8]) {
		t.Error("plaintext in a sealed object")
	}
	if got, err := ring.Unseal(ctx, "_reference/t/1/profile", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := ring.Unseal(ctx, "_reference/t/2/profile", sealed); !errors.Is(err, ErrWrongKey) {
		t.Errorf("under another name: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if got, err := ring.Unseal(ctx, "_reference/t/1/profile", bad); err == nil {
			t.Fatalf("byte %d changed and still opened: %q", i, got)
		}
	}
	for cut := range sealed {
		if _, err := ring.Unseal(ctx, "_reference/t/1/profile", sealed[:cut]); err == nil {
			t.Fatalf("opened when cut to %d bytes", cut)
		}
	}
}

func TestKeyFileFaults(t *testing.T) {
	dir := t.TempDir()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x5a}, 32))
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := `{"version":1,"keys":{"a":"` + secret + `"}}`
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"):                                        "taster keys init",
		write("open", good, 0o644):                                           "0600",
		write("broken", good[:len(good)-1], 0o600):                           "broken",
		write("version", strings.Replace(good, ":1,", ":2,", 1), 0o600):      "version 2",
		write("extra", strings.Replace(good, "{", `{"x":0,`, 1), 0o600):      "version and keys",
		write("short", `{"version":1,"keys":{"a":"`+secret[:8]+`"}}`, 0o600): `"a"`,
		write("type", `{"version":1,"keys":{"a":`+"5050505050"+`}}`, 0o600):  "broken",
		write("none", `{"version":1,"keys":{}}`, 0o600):                      "no key",
		write("large", `{"version":1}`+strings.Repeat(" ", 1<<20), 0o600):    "1 MiB",
		dir: "not a file",
	} {
		_, err := LoadKeyFile(path)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want ErrConfig with %q and the path", path, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), secret[:8]) || strings.Contains(err.Error(), "5050505050")) {
			t.Errorf("%s: the error quotes a key", path)
		}
	}
	path := write("good", good, 0o400)
	if _, err := LoadKeyFile(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	if err := CreateKeyFile(path, "b"); err == nil {
		t.Error("a key file was replaced")
	}
}

func TestOpenSettings(t *testing.T) {
	file := newFile(t, "default", "quarantined")
	u := "keyfile://" + file.Path() + "#"
	ring, err := Settings{Zones: map[string]string{"default": u + "default", "quarantined": u + "quarantined"}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ring.MasterKey(Rejected).ID != "default" || ring.MasterKey(Quarantined).ID != "quarantined" {
		t.Error("zones have the wrong keys")
	}
	for _, bad := range []map[string]string{
		{"default": u + "missing"}, {"default": u}, {"default": "keyfile://keys.json#a"}, {"default": "awskms://x"},
		{"default": u + "default", "unknown": u + "default"}, {"accepted": u + "default"}, {}, {"default": "keyfile:///no/such/file#a"},
	} {
		if _, err := (Settings{Zones: bad}).Open(t.Context()); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v, want ErrConfig", bad, err)
		}
	}
}

func TestNothingPrintsKeys(t *testing.T) {
	file := newFile(t, "k")
	ring := newRing(t, Limits{}, map[Zone]MasterKey{Default: {file, "k"}})
	key, err := ring.NewDataKey(ctx, Default, true)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&buf, nil))
	logger.Info("x", "file", file, "ring", ring, "key", key, "master", ring.MasterKey(Default))
	fmt.Fprintf(&buf, "%v %+v %#v %s | %v %+v %#v | %v %+v %#v %s | %v %+v", file, file, file, file, ring, ring, ring, key, key, key, key, ring.MasterKey(Default), ring.MasterKey(Default))
	raw := file.keys["k"]
	for _, secret := range [][]byte{raw, key.Key} {
		for _, form := range []string{string(secret), fmt.Sprint(secret)[1:20], fmt.Sprintf("%x", secret[:4]), base64.StdEncoding.EncodeToString(secret)[:12]} {
			if bytes.Contains(buf.Bytes(), []byte(form)) {
				t.Errorf("a key was printed: %s", buf.Bytes())
			}
		}
	}
}

func TestDerive(t *testing.T) {
	file := newFile(t, "a", "b")
	one, err := file.Derive("a", "tokens")
	if err != nil || len(one) != 32 {
		t.Fatal(len(one), err)
	}
	again, _ := file.Derive("a", "tokens")
	other, _ := file.Derive("a", "signing")
	third, _ := file.Derive("b", "tokens")
	if !bytes.Equal(one, again) || bytes.Equal(one, other) || bytes.Equal(one, third) {
		t.Error("derived secrets must depend on key and purpose and nothing else")
	}
	if _, err := file.Derive("c", "tokens"); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v", err)
	}
}
