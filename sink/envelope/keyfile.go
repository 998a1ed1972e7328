package envelope

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
)

const redacted = "[key file, redacted]"

// KeyFile is a KMS whose master keys lie in a local file, readable by its owner only: for demonstrations and tests,
// not for production. It is safe for concurrent use.
type KeyFile struct {
	path string
	keys map[string][]byte
}

type keyFileJSON struct {
	Version int               `json:"version"`
	Keys    map[string]string `json:"keys"`
}

// LoadKeyFile reads a key file. Errors wrap ErrConfig and name the file, never a key's bytes.
func LoadKeyFile(path string) (*KeyFile, error) {
	fail := func(format string, args ...any) (*KeyFile, error) {
		return nil, fmt.Errorf("%w: key file %s: %w", ErrConfig, path, fmt.Errorf(format, args...))
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("there is none (taster keys init makes one): %w", fs.ErrNotExist)
	}
	if err != nil {
		return fail("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail("%w", err)
	}
	if !info.Mode().IsRegular() {
		return fail("not a file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return fail("mode is %04o, so others can read or change the keys; make it 0600", mode)
	}
	const limit = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return fail("%w", err)
	}
	if len(data) > limit {
		return fail("larger than 1 MiB")
	}
	var parsed keyFileJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&parsed); err != nil {
		// A JSON error may quote what it met, which may be a key.
		return fail("not a JSON object with the members version and keys, or broken")
	}
	if parsed.Version != 1 {
		return fail("version %d, want 1", parsed.Version)
	}
	if len(parsed.Keys) == 0 {
		return fail("it holds no key")
	}
	kf := &KeyFile{path: path, keys: map[string][]byte{}}
	for name, text := range parsed.Keys {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != 16 && len(key) != 24 && len(key) != keySize {
			return fail("key %q is not the base64 of 32 bytes (or, from elsewhere, of 16 or 24)", name)
		}
		kf.keys[name] = key
	}
	return kf, nil
}

// CreateKeyFile makes a key file with fresh keys of the given names. It never replaces a file.
func CreateKeyFile(path string, names ...string) error {
	content := keyFileJSON{Version: 1, Keys: map[string]string{}}
	for _, name := range names {
		if name == "" {
			return fmt.Errorf("%w: a key needs a name", ErrConfig)
		}
		content.Keys[name] = base64.StdEncoding.EncodeToString(newKey(keySize))
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: a key file needs at least one key", ErrConfig)
	}
	data, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Names returns the names of all keys, sorted.
func (f *KeyFile) Names() []string { return slices.Sorted(maps.Keys(f.keys)) }

// Path returns where the file lies.
func (f *KeyFile) Path() string { return f.path }

// WrapKey implements KMS.
func (f *KeyFile) WrapKey(_ context.Context, key []byte, masterKeyID string) (string, error) {
	master, err := f.master(masterKeyID)
	if err != nil {
		return "", err
	}
	return encryptKeyLocally(key, master, []byte(masterKeyID))
}

// UnwrapKey implements KMS.
func (f *KeyFile) UnwrapKey(_ context.Context, wrapped string, masterKeyID string) ([]byte, error) {
	master, err := f.master(masterKeyID)
	if err != nil {
		return nil, err
	}
	key, err := decryptKeyLocally(wrapped, master, []byte(masterKeyID))
	if err != nil {
		return nil, fmt.Errorf("key file %s, key %q: %w", f.path, masterKeyID, err)
	}
	return key, nil
}

// Raw returns a key itself: a data key of somebody else's Parquet file, whose key metadata is the key's name and no key
// material. The error is ErrNoKey.
func (f *KeyFile) Raw(name string) ([]byte, error) {
	key, err := f.master(name)
	return slices.Clone(key), err
}

// Derive returns 32 bytes that follow from a master key and a purpose, by HKDF with SHA-256 (RFC 5869): a secret
// that needs no storage of its own.
func (f *KeyFile) Derive(masterKeyID, purpose string) ([]byte, error) {
	master, err := f.master(masterKeyID)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, master, nil, purpose, keySize)
}

func (f *KeyFile) master(id string) ([]byte, error) {
	key, ok := f.keys[id]
	if !ok {
		return nil, fmt.Errorf("%w: key file %s has no key %q, only %s", ErrNoKey, f.path, id, strings.Join(f.Names(), ", "))
	}
	return key, nil
}

// String implements fmt.Stringer. It is constant.
func (f *KeyFile) String() string { return redacted }

// GoString implements fmt.GoStringer. It is constant.
func (f *KeyFile) GoString() string { return redacted }

// LogValue implements slog.LogValuer. It is constant.
func (f *KeyFile) LogValue() slog.Value { return slog.StringValue(redacted) }
