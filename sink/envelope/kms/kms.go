// Package kms wraps and unwraps keys by master keys in AWS KMS, Azure Key Vault, Google Cloud KMS and the transit
// engine of HashiCorp Vault.
//
// Each service is asked through its provider's own client, one call for one wrap, without any repetition: that is the
// Keyring's. The context that binds a wrapped key to its zone, taster_zone=ZONE, follows from the master key id; how
// each service holds it, and what the wrapped text is, is told by the service's type and in docs/keys.md, from which
// the clients for Python and the JVM are written too.
package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tasterhq/taster/sink/envelope"
)

// Open makes a client for the key service of a key, with what the provider's own tools take from the environment.
// Nothing is asked of the service. It is an envelope.Services.
func Open(ctx context.Context, key envelope.KeyURL) (envelope.KMS, error) {
	switch key.Scheme {
	case "awskms":
		return openAWS(ctx, key)
	case "azurekeyvault":
		return openAzure(key)
	case "gcpkms":
		return openGCP(ctx, key)
	case "hashivault":
		return openVault(key)
	}
	return nil, fmt.Errorf("%w: no key service has the scheme %q", envelope.ErrConfig, key.Scheme)
}

// advice says what to do about an error.
var advice = map[error]string{
	envelope.ErrNoKey:    "check the key's name and place, and whether it was destroyed",
	envelope.ErrDenied:   "check who this process is to the service, and that it may encrypt and decrypt with the key in this zone",
	envelope.ErrDisabled: "enable the key or cancel its deletion; until then nothing under it can be written or read",
	envelope.ErrWrongKey: "what was wrapped belongs to another key or another zone, or was changed",
	envelope.ErrConfig:   "check the key's kind and the parameters of its URL",
}

// fault is what a service answered, in the words that all share.
type fault struct {
	is     error         // one of envelope's, ErrUnavailable included
	detail string        // the service's own code and text
	after  time.Duration // how long it asked to wait
}

// explain makes a fault an error that names the key, says what to do and holds none of the secrets.
func (f fault) explain(masterKeyID string, secrets ...[]byte) error {
	detail := clean(f.detail)
	for _, secret := range secrets {
		if quotes(f.detail, secret) { // also where the cut leaves a part of it only
			detail = "the service's text is withheld, as it quotes the key"
		}
	}
	if errors.Is(f.is, envelope.ErrUnavailable) {
		return &envelope.Unavailable{Err: errors.New(detail), After: f.after}
	}
	return fmt.Errorf("master key %q: %w (%s); %s", masterKeyID, f.is, detail, advice[f.is])
}

// clean makes a service's text one line of bounded length.
func clean(text string) string {
	const limit = 300
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// quotes tells whether a text holds a secret in one of the spellings in which it travels.
func quotes(text string, secret []byte) bool {
	if len(secret) == 0 {
		return false
	}
	for _, spelt := range []string{
		string(secret), base64.RawStdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret), hex.EncodeToString(secret),
	} {
		if strings.Contains(text, spelt) {
			return true
		}
	}
	return false
}

// unreached is the fault of a call that brought no answer, or none that can be read: the text of an error of unknown
// make is not shown, as it may quote the answer.
func unreached(err error) fault {
	f := fault{is: envelope.ErrUnavailable, detail: fmt.Sprintf("its answer cannot be read (%T)", err)}
	var network *url.Error
	switch {
	case errors.As(err, &network):
		f.detail = network.Err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		f.detail = err.Error()
	}
	return f
}

// transient tells whether a status says that the same call may succeed later.
func transient(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// bind puts the context before a key, for a service that has no place for it: context ‖ 00 ‖ key.
func bind(key []byte, masterKeyID string) []byte {
	return append(append([]byte(envelope.Context(masterKeyID)), 0), key...)
}

// unbind undoes bind. It fails if the key was wrapped for another zone.
func unbind(bound []byte, masterKeyID string) ([]byte, bool) {
	return bytes.CutPrefix(bound, append([]byte(envelope.Context(masterKeyID)), 0))
}

const errWrapped = "the wrapped key is not what this service returns"
