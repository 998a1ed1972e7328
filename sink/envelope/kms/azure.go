package kms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/tasterhq/taster/sink/envelope"
)

// Azure is an RSA key of Azure Key Vault, used with RSA-OAEP-256. The service knows no additional data, so that what
// it encrypts is context ‖ 00 ‖ key, and the context is compared when it was decrypted; OAEP lets nobody change it.
// The wrapped text is VERSION.CIPHERTEXT, the ciphertext in unpadded base64url as the service returns it: the key's
// version is not in it, and an older one must be named to be used.
type Azure struct {
	client        *azkeys.Client
	name, version string
}

// NewAzure makes one of the client of a vault, a key's name, and a version or "" for the newest to wrap with.
func NewAzure(client *azkeys.Client, name, version string) *Azure {
	return &Azure{client: client, name: name, version: version}
}

func openAzure(key envelope.KeyURL) (*Azure, error) {
	who, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: Azure: %w", envelope.ErrConfig, err)
	}
	return dialAzure(key, who, nil)
}

// dialAzure makes a client that shows a vault who it is, over transport, nil being the usual one.
func dialAzure(key envelope.KeyURL, who azcore.TokenCredential, transport policy.Transporter) (*Azure, error) {
	at := append(strings.Split(key.Key, "/"), "") // HOST keys NAME [VERSION]
	client, err := azkeys.NewClient("https://"+at[0], who, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: -1}, Transport: transport,
	}})
	if err != nil {
		return nil, fmt.Errorf("%w: Azure: %w", envelope.ErrConfig, err)
	}
	return NewAzure(client, at[2], at[3]), nil
}

var rsaOAEP256 = azkeys.EncryptionAlgorithmRSAOAEP256

// WrapKey implements envelope.KMS.
func (a *Azure) WrapKey(ctx context.Context, key []byte, masterKeyID string) (string, error) {
	bound := bind(key, masterKeyID)
	out, err := a.client.Encrypt(ctx, a.name, a.version, azkeys.KeyOperationParameters{Algorithm: &rsaOAEP256, Value: bound}, nil)
	if err != nil {
		return "", azureFault(err, envelope.ErrConfig).explain(masterKeyID, key, bound)
	}
	if out.KID == nil || out.KID.Version() == "" || len(out.Result) == 0 {
		return "", fault{is: envelope.ErrUnavailable, detail: "its answer names no version of the key"}.explain(masterKeyID)
	}
	return out.KID.Version() + "." + base64.RawURLEncoding.EncodeToString(out.Result), nil
}

// UnwrapKey implements envelope.KMS.
func (a *Azure) UnwrapKey(ctx context.Context, wrapped string, masterKeyID string) ([]byte, error) {
	version, text, _ := strings.Cut(wrapped, ".")
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(sealed) == 0 || version == "" || strings.Trim(version, "0123456789abcdefABCDEF") != "" {
		return nil, fault{is: envelope.ErrWrongKey, detail: errWrapped}.explain(masterKeyID)
	}
	out, err := a.client.Decrypt(ctx, a.name, version, azkeys.KeyOperationParameters{Algorithm: &rsaOAEP256, Value: sealed}, nil)
	if err != nil {
		return nil, azureFault(err, envelope.ErrWrongKey).explain(masterKeyID)
	}
	key, ok := unbind(out.Result, masterKeyID)
	if !ok {
		return nil, fault{is: envelope.ErrWrongKey, detail: "it was wrapped for another zone"}.explain(masterKeyID)
	}
	return key, nil
}

// azureFault sorts answers, https://learn.microsoft.com/azure/key-vault/general/rest-error-codes. A refused argument
// is given as what is wrong then.
func azureFault(err, argument error) fault {
	var answer *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	var final interface{ NonRetriable() }
	switch {
	case errors.As(err, &answer):
	case errors.As(err, &login) && login.RawResponse != nil && transient(login.RawResponse.StatusCode):
		return fault{is: envelope.ErrUnavailable, detail: "the login service answered " + login.RawResponse.Status, after: retryAfter(login.RawResponse.Header)}
	case errors.As(err, &final):
		return fault{is: envelope.ErrDenied, detail: err.Error()}
	default:
		return unreached(err)
	}
	code, text := azureText(answer)
	f := fault{is: argument, detail: code + ": " + text}
	if answer.RawResponse != nil {
		f.after = retryAfter(answer.RawResponse.Header)
	}
	switch status := answer.StatusCode; {
	case transient(status):
		f.is = envelope.ErrUnavailable
	case strings.Contains(code, "KeyDisabled"), strings.Contains(code, "KeyExpired"), status == http.StatusConflict:
		f.is = envelope.ErrDisabled
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		f.is = envelope.ErrDenied
	case status == http.StatusNotFound:
		f.is = envelope.ErrNoKey
	}
	return f
}

// azureText returns the code of an answer, with the inner one that tells why an access is forbidden, and its text.
func azureText(answer *azcore.ResponseError) (code, text string) {
	code, text = answer.ErrorCode, "status "+http.StatusText(answer.StatusCode)
	var body struct {
		Error struct {
			Message string
			Inner   struct{ Code string } `json:"innererror"`
		}
	}
	if answer.RawResponse == nil {
		return code, text
	}
	// The client keeps the body in memory, to be read again.
	data, err := io.ReadAll(io.LimitReader(answer.RawResponse.Body, 1<<16))
	if err == nil && json.Unmarshal(data, &body) == nil && body.Error.Message != "" {
		text = body.Error.Message
		if body.Error.Inner.Code != "" {
			code += "/" + body.Error.Inner.Code
		}
	}
	return code, text
}
