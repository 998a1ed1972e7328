package kms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"

	cloudkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tasterhq/taster/sink/envelope"
)

// GCP is a symmetric key of Google Cloud KMS. The context is the additional authenticated data, and the wrapped text
// is the base64 of the ciphertext.
type GCP struct {
	client *cloudkms.KeyManagementClient
	key    string
}

// NewGCP makes one of a client and a key's resource name. The client should not repeat calls: the Keyring does.
func NewGCP(client *cloudkms.KeyManagementClient, key string) *GCP {
	return &GCP{client: client, key: key}
}

func openGCP(ctx context.Context, key envelope.KeyURL, options ...option.ClientOption) (*GCP, error) {
	// The client would write requests into its debug log, keys included.
	options = append(options, option.WithLogger(slog.New(slog.DiscardHandler)))
	if endpoint := key.Params.Get("endpoint"); endpoint != "" {
		options = append(options, option.WithEndpoint(endpoint))
	}
	client, err := cloudkms.NewKeyManagementRESTClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: Google Cloud: %w", envelope.ErrConfig, err)
	}
	client.CallOptions.Encrypt, client.CallOptions.Decrypt = nil, nil
	return NewGCP(client, key.Key), nil
}

func crc(data []byte) int64 {
	return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// WrapKey implements envelope.KMS. Checksums show damage on the way, which would make data unreadable for good.
func (g *GCP) WrapKey(ctx context.Context, key []byte, masterKeyID string) (string, error) {
	aad := []byte(envelope.Context(masterKeyID))
	out, err := g.client.Encrypt(ctx, &kmspb.EncryptRequest{
		Name: g.key, Plaintext: key, AdditionalAuthenticatedData: aad,
		PlaintextCrc32C: wrapperspb.Int64(crc(key)), AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(crc(aad)),
	})
	if err != nil {
		return "", gcpFault(err, envelope.ErrConfig).explain(masterKeyID, key)
	}
	if !out.GetVerifiedPlaintextCrc32C() || !out.GetVerifiedAdditionalAuthenticatedDataCrc32C() || out.GetCiphertextCrc32C().GetValue() != crc(out.GetCiphertext()) {
		return "", fault{is: envelope.ErrUnavailable, detail: "the key was damaged on the way"}.explain(masterKeyID)
	}
	return base64.StdEncoding.EncodeToString(out.GetCiphertext()), nil
}

// UnwrapKey implements envelope.KMS.
func (g *GCP) UnwrapKey(ctx context.Context, wrapped string, masterKeyID string) ([]byte, error) {
	sealed, err := base64.StdEncoding.DecodeString(wrapped)
	if err != nil {
		return nil, fault{is: envelope.ErrWrongKey, detail: errWrapped}.explain(masterKeyID)
	}
	aad := []byte(envelope.Context(masterKeyID))
	out, err := g.client.Decrypt(ctx, &kmspb.DecryptRequest{
		Name: g.key, Ciphertext: sealed, AdditionalAuthenticatedData: aad,
		CiphertextCrc32C: wrapperspb.Int64(crc(sealed)), AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(crc(aad)),
	})
	if err != nil {
		return nil, gcpFault(err, envelope.ErrWrongKey).explain(masterKeyID)
	}
	if out.GetPlaintextCrc32C().GetValue() != crc(out.GetPlaintext()) {
		return nil, fault{is: envelope.ErrUnavailable, detail: "the key was damaged on the way"}.explain(masterKeyID)
	}
	return out.GetPlaintext(), nil
}

// gcpFault sorts answers, https://cloud.google.com/kms/docs/reference/error-codes. A refused argument is given as
// what is wrong then.
func gcpFault(err, argument error) fault {
	var login *oauth2.RetrieveError
	if errors.As(err, &login) && login.Response != nil {
		f := fault{is: envelope.ErrDenied, detail: "the login service answered " + login.Response.Status}
		if transient(login.Response.StatusCode) {
			f.is = envelope.ErrUnavailable
		}
		return f
	}
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return unreached(err)
	}
	var body struct {
		Error struct{ Status, Message string }
	}
	if json.Unmarshal([]byte(answer.Body), &body) != nil || body.Error.Status == "" {
		body.Error.Status, body.Error.Message = http.StatusText(answer.Code), answer.Message
	}
	f := fault{is: argument, detail: body.Error.Status + ": " + body.Error.Message, after: retryAfter(answer.Header)}
	switch {
	case transient(answer.Code):
		f.is = envelope.ErrUnavailable
	case body.Error.Status == "FAILED_PRECONDITION":
		f.is = envelope.ErrDisabled
	case answer.Code == http.StatusUnauthorized, answer.Code == http.StatusForbidden:
		f.is = envelope.ErrDenied
	case answer.Code == http.StatusNotFound:
		f.is = envelope.ErrNoKey
	}
	return f
}
