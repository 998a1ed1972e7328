// Package envelope encrypts keys with keys.
//
// The words are those of Parquet's key management tools. A file is encrypted with fresh data encryption keys (DEK).
// A DEK is wrapped by a key encryption key (KEK) that serves for a limited time and a limited number of uses, and the
// KEK is wrapped by a master key that never leaves the key management service (KMS). What is needed to unwrap, all
// but the master key, is the key material, in the format PKMT1 that parquet-java and Arrow read. It stands within the
// data (internal), or in a [Sidecar] beside it (external), which can be wrapped anew while the data stays as it is.
//
// A zone is a set of data that shares a master key: who holds the key of "accepted" only can train and cannot open
// the quarantine. The id of a master key in a key service is a URL, and the zone stands behind it, after #. The
// service gets the zone as context, so that it opens a KEK under no other zone, and its access rules can tell zones
// apart though they share a master key. As the context follows from the id alone, every reader of the key material
// knows it.
//
// A [Keyring] waits for a service that is slow, throttles or is away, and asks again until its context ends. What no
// waiting mends (no such key, no right to it) is an error at once.
//
// Key bytes never appear in errors, and String and LogValue of everything that holds them are constant.
package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Errors that no waiting mends.
var (
	// ErrWrongKey says that a key was found under the right name and does not open what was wrapped: the key is another
	// one, the wrapped bytes were changed, or they were wrapped for another zone.
	ErrWrongKey = errors.New("wrong key")
	// ErrNoKey says that no master key of that name is at hand.
	ErrNoKey = errors.New("no such key")
	// ErrDenied says that the key service does not let this process use the key.
	ErrDenied = errors.New("access to the key was denied")
	// ErrDisabled says that the master key is there and out of service: disabled, or waiting for its deletion.
	ErrDisabled = errors.New("the key is disabled")
	// ErrConfig says that a key URL or key file is unusable, however often one tries.
	ErrConfig = errors.New("unusable key configuration")
	// ErrExternal says that key material lies in a sidecar, which was not given or does not hold it.
	ErrExternal = errors.New("the key material is in a sidecar")
)

// ErrUnavailable says that a key service gave no answer, or asked to be asked later. A Keyring returns it only with a
// context that ended, or after Limits.Patience.
var ErrUnavailable = errors.New("the key service is unavailable")

// Unavailable is an error for which ErrUnavailable stands.
type Unavailable struct {
	Err   error
	After time.Duration // the service asked to wait that long, 0 if it did not say
}

// Error implements error.
func (u *Unavailable) Error() string { return ErrUnavailable.Error() + ": " + u.Err.Error() }

// Unwrap returns the cause and ErrUnavailable.
func (u *Unavailable) Unwrap() []error { return []error{ErrUnavailable, u.Err} }

// KMS wraps and unwraps keys by master keys that it alone holds: the interface of parquet-java's KmsClient. A master
// key id that is a URL has the zone behind #, and what is wrapped for one zone must not open for another.
//
// Errors are Unavailable, which the Keyring mends by asking again, or final: ErrNoKey, ErrWrongKey, ErrDenied,
// ErrDisabled or ErrConfig where they are one of these. They name the key and say what to do.
type KMS interface {
	// WrapKey returns the key encrypted by the master key, as text.
	WrapKey(ctx context.Context, key []byte, masterKeyID string) (string, error)
	// UnwrapKey undoes WrapKey.
	UnwrapKey(ctx context.Context, wrapped string, masterKeyID string) ([]byte, error)
}

// MasterKey is a key by its name in a KMS. An id that is a URL is without zone here.
type MasterKey struct {
	KMS KMS
	ID  string
}

const (
	keySize   = 32 // AES-256
	nonceSize = 12
	tagSize   = 16
)

// newKey returns random bytes. crypto/rand never fails.
func newKey(size int) []byte {
	key := make([]byte, size)
	_, _ = rand.Read(key)
	return key
}

// seal returns nonce ‖ ciphertext ‖ tag of AES-GCM, appended to dst.
func seal(dst, key, plaintext, aad []byte) ([]byte, error) {
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	nonce := newKey(nonceSize)
	return aead.Seal(append(dst, nonce...), nonce, plaintext, aad), nil
}

// open undoes seal. It fails with ErrWrongKey.
func open(key, sealed, aad []byte) ([]byte, error) {
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < nonceSize+tagSize {
		return nil, ErrWrongKey
	}
	out, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], aad)
	if err != nil {
		return nil, ErrWrongKey
	}
	return out, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: a key has %d bytes", ErrWrongKey, len(key))
	}
	return cipher.NewGCM(block)
}

// encryptKeyLocally wraps as parquet-java's KeyToolkit.encryptKeyLocally: base64(nonce ‖ ciphertext ‖ tag).
func encryptKeyLocally(key, by, aad []byte) (string, error) {
	sealed, err := seal(nil, by, key, aad)
	return base64.StdEncoding.EncodeToString(sealed), err
}

func decryptKeyLocally(wrapped string, by, aad []byte) ([]byte, error) {
	sealed, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: the wrapped key is not base64", ErrWrongKey)
	}
	return open(by, sealed, aad)
}
