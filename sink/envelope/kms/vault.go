package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/tasterhq/taster/sink/envelope"
)

// Vault is an AEAD key (aes256-gcm96, aes128-gcm96 or chacha20-poly1305) of the transit engine of HashiCorp Vault. The
// context is its associated_data, and the wrapped text is the ciphertext as it returns it, vault:vN:….
type Vault struct {
	client      *api.Client
	engine, key string
}

// NewVault makes one of a client, the path of a transit engine and a key's name. The client should not repeat calls:
// the Keyring does.
func NewVault(client *api.Client, engine, key string) *Vault {
	return &Vault{client: client, engine: engine, key: key}
}

func openVault(key envelope.KeyURL) (*Vault, error) {
	settings := api.DefaultConfig() // with VAULT_ADDR, VAULT_CACERT and so on
	if settings.Error != nil {
		return nil, fmt.Errorf("%w: Vault: %w", envelope.ErrConfig, settings.Error)
	}
	if address := os.Getenv("VAULT_SERVER_URL"); address != "" {
		settings.Address = address
	} else if os.Getenv(api.EnvVaultAddress) == "" && settings.AgentAddress == "" {
		return nil, fmt.Errorf("%w: Vault: set VAULT_ADDR to its URL and VAULT_TOKEN to a token", envelope.ErrConfig)
	}
	settings.MaxRetries, settings.Timeout = 0, 0
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, fmt.Errorf("%w: Vault: %w", envelope.ErrConfig, err)
	}
	if token := os.Getenv("VAULT_SERVER_TOKEN"); token != "" {
		client.SetToken(token)
	}
	if namespace := key.Params.Get("namespace"); namespace != "" {
		client.SetNamespace(namespace)
	}
	engine := key.Params.Get("engine")
	if engine == "" {
		engine = "transit"
	}
	return NewVault(client, engine, key.Key), nil
}

// WrapKey implements envelope.KMS.
func (v *Vault) WrapKey(ctx context.Context, key []byte, masterKeyID string) (string, error) {
	wrapped, err := v.ask(ctx, "encrypt", "plaintext", base64.StdEncoding.EncodeToString(key), "ciphertext", masterKeyID, key)
	return wrapped, err
}

// UnwrapKey implements envelope.KMS.
func (v *Vault) UnwrapKey(ctx context.Context, wrapped string, masterKeyID string) ([]byte, error) {
	text, err := v.ask(ctx, "decrypt", "ciphertext", wrapped, "plaintext", masterKeyID, nil)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault{is: envelope.ErrUnavailable, detail: "its answer is not base64"}.explain(masterKeyID)
	}
	return key, nil
}

// ask sends one member and returns another of the answer.
func (v *Vault) ask(ctx context.Context, op, name, value, want, masterKeyID string, secret []byte) (string, error) {
	body := map[string]any{name: value}
	if text := envelope.Context(masterKeyID); text != "" {
		body["associated_data"] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	var header http.Header
	client := v.client.WithResponseCallbacks(func(r *api.Response) { header = r.Header })
	answer, err := client.Logical().WriteWithContext(ctx, strings.Trim(v.engine, "/")+"/"+op+"/"+v.key, body)
	if err != nil {
		f := vaultFault(err, op)
		f.after = retryAfter(header)
		return "", f.explain(masterKeyID, secret)
	}
	if answer != nil {
		if text, ok := answer.Data[want].(string); ok && text != "" {
			return text, nil
		}
	}
	return "", fault{is: envelope.ErrUnavailable, detail: "its answer has no " + want}.explain(masterKeyID)
}

// vaultFault sorts answers, https://developer.hashicorp.com/vault/api-docs#http-status-codes. Vault has no codes for
// what is wrong with a request, only text.
func vaultFault(err error, op string) fault {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return unreached(err)
	}
	text := strings.Join(answer.Errors, ", ")
	f := fault{is: envelope.ErrConfig, detail: fmt.Sprintf("status %d: %s", answer.StatusCode, text)}
	switch status := answer.StatusCode; {
	case op == "decrypt" && (strings.Contains(text, "message authentication failed") || strings.Contains(text, "invalid ciphertext")):
		f.is = envelope.ErrWrongKey // with status 400 or, from many versions, 500
	case transient(status), status == http.StatusPreconditionFailed, status == 472, status == 473:
		f.is = envelope.ErrUnavailable // 412: the node has not caught up yet; 472, 473: a standby
	case status == http.StatusForbidden:
		f.is = envelope.ErrDenied
	case status == http.StatusNotFound, strings.Contains(text, "key not found"):
		f.is = envelope.ErrNoKey
	case strings.Contains(text, "disallowed by policy"):
		f.is = envelope.ErrDisabled // an old version of the key, beneath min_decryption_version
	case op == "decrypt":
		f.is = envelope.ErrWrongKey
	}
	return f
}
