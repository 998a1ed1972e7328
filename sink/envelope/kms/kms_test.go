package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"

	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kmstest"
)

// secret is what the tests wrap: no error may show it.
var secret = bytes.Repeat([]byte("planted key!pkp!"), 2)

// target is one key in a service of ours.
type target struct {
	name    string
	key     string // the service's name of it
	url     string
	service *kmstest.Service
	open    func(t *testing.T, token string) envelope.KMS
}

type staticToken string

func (s staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func parse(t *testing.T, text string) envelope.KeyURL {
	t.Helper()
	u, err := envelope.ParseKeyURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func targets(t *testing.T) []target {
	const resource = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/train"
	vault := target{name: "vault", key: "train", url: "hashivault://train", service: kmstest.NewVault("train", "other")}
	vaultServer := serve(t, vault.service)
	vault.open = func(t *testing.T, token string) envelope.KMS {
		t.Setenv("VAULT_ADDR", vaultServer.URL)
		t.Setenv("VAULT_TOKEN", token)
		k, err := Open(t.Context(), parse(t, vault.url))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	gcp := target{name: "gcp", key: resource, url: "gcpkms://" + resource, service: kmstest.NewGCP(resource)}
	gcpServer := serve(t, gcp.service)
	gcp.open = func(t *testing.T, token string) envelope.KMS {
		source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
		k, err := openGCP(t.Context(), parse(t, gcp.url+"?endpoint="+gcpServer.URL), option.WithTokenSource(source))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	azure := target{name: "azure", key: "train", url: "azurekeyvault://taster.vault.azure.net/keys/train", service: kmstest.NewAzure("train")}
	azureServer := httptest.NewTLSServer(azure.service)
	t.Cleanup(azureServer.Close)
	azure.open = func(t *testing.T, token string) envelope.KMS {
		client := azureServer.Client()
		client.Transport = &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server's certificate is httptest's
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, azureServer.Listener.Addr().String())
			},
		}
		t.Cleanup(client.CloseIdleConnections)
		k, err := dialAzure(parse(t, azure.url), staticToken(token), client)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	return []target{vault, gcp, azure}
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// check looks that an error is what is wanted, is one line, names the key and shows nothing of it.
func check(t *testing.T, what string, err, want error, masterKeyID string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
		return
	}
	text := fmt.Sprintf("%v %+v", err, err)
	if !errors.Is(err, envelope.ErrUnavailable) && !strings.Contains(text, masterKeyID) {
		t.Errorf("%s: the error does not name the key: %v", what, err)
	}
	if strings.ContainsAny(err.Error(), "\n\t") || len(err.Error()) > 900 {
		t.Errorf("%s: the error is not one line: %q", what, err)
	}
	bound := base64.RawURLEncoding.EncodeToString(bind(secret, masterKeyID))
	for _, spelt := range []string{"planted", base64.StdEncoding.EncodeToString(secret)[:16], hex.EncodeToString(secret[:8]), bound[len(bound)-24:]} {
		if strings.Contains(text, spelt) {
			t.Errorf("%s: the error shows the key: %v", what, err)
		}
	}
}

// conform holds what every key service does, whoever runs it.
func conform(t *testing.T, k envelope.KMS, url string) {
	ctx := t.Context()
	base := parse(t, url).ID()
	accepted := envelope.InZone(base, envelope.Accepted)
	for _, size := range []int{16, 24, 32} {
		wrapped, err := k.WrapKey(ctx, secret[:size], accepted)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.UnwrapKey(ctx, wrapped, accepted); err != nil || !bytes.Equal(got, secret[:size]) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
	}
	wrapped, err := k.WrapKey(ctx, secret, accepted)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.WrapKey(ctx, secret, accepted); err != nil || again == wrapped {
		t.Errorf("the same key is wrapped into the same text, %v", err)
	}
	for _, other := range []string{envelope.InZone(base, envelope.Quarantined), base} {
		_, err := k.UnwrapKey(ctx, wrapped, other)
		check(t, "opened as "+other, err, envelope.ErrWrongKey, other)
	}
	bare, err := k.WrapKey(ctx, secret, base)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.UnwrapKey(ctx, bare, base); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("without a zone: %v", err)
	}
	_, err = k.UnwrapKey(ctx, bare, accepted)
	check(t, "wrapped without a zone", err, envelope.ErrWrongKey, accepted)
	middle := len(wrapped) / 2
	flipped := byte('A')
	if wrapped[middle] == flipped {
		flipped = 'B'
	}
	for what, bad := range map[string]string{
		"empty": "", "not base64": "&&&", "cut": wrapped[:len(wrapped)-8], "changed": wrapped[:middle] + string(flipped) + wrapped[middle+1:],
	} {
		_, err := k.UnwrapKey(ctx, bad, accepted)
		check(t, what, err, envelope.ErrWrongKey, accepted)
	}
}

func TestServices(t *testing.T) {
	for _, target := range targets(t) {
		t.Run(target.name, func(t *testing.T) {
			k := target.open(t, kmstest.Token)
			conform(t, k, target.url)
			id := envelope.InZone(target.url, envelope.Accepted)
			ctx := t.Context()
			wrapped, err := k.WrapKey(ctx, secret, id)
			if err != nil {
				t.Fatal(err)
			}
			both := func(what string, want error) {
				t.Helper()
				_, err := k.WrapKey(ctx, secret, id)
				check(t, what+", wrap", err, want, id)
				_, err = k.UnwrapKey(ctx, wrapped, id)
				check(t, what+", unwrap", err, want, id)
			}

			target.service.Rotate(target.key)
			if got, err := k.UnwrapKey(ctx, wrapped, id); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("what an older version wrapped: %v", err)
			}
			newer, err := k.WrapKey(ctx, secret, id)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.UnwrapKey(ctx, newer, id); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("what the newer version wrapped: %v", err)
			}

			for _, status := range []int{429, 500, 502, 503} {
				target.service.Fail(2, status, "7")
				for _, op := range []string{"wrap", "unwrap"} {
					if op == "wrap" {
						_, err = k.WrapKey(ctx, secret, id)
					} else {
						_, err = k.UnwrapKey(ctx, wrapped, id)
					}
					check(t, fmt.Sprint(op, " ", status), err, envelope.ErrUnavailable, id)
					if asked := new(envelope.Unavailable); !errors.As(err, &asked) || asked.After != 7*time.Second {
						t.Errorf("%s, status %d: asked to wait %v, want 7s", op, status, asked.After)
					}
				}
			}
			target.service.Away(true)
			both("away", envelope.ErrUnavailable)
			target.service.Away(false)
			target.service.Delay(300 * time.Millisecond)
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			_, err = k.WrapKey(short, secret, id)
			cancel()
			check(t, "slow", err, envelope.ErrUnavailable, id)
			target.service.Delay(0)

			target.service.Disable(target.key, true)
			both("disabled", envelope.ErrDisabled)
			target.service.Disable(target.key, false)
			if target.name != "azure" { // which knows no context
				target.service.Deny("taster_zone=accepted")
				both("zone denied", envelope.ErrDenied)
				if _, err := k.WrapKey(ctx, secret, envelope.InZone(target.url, envelope.Rejected)); err != nil {
					t.Errorf("denying one zone stops another: %v", err)
				}
			}
			target.service.Destroy(target.key)
			if target.name == "azure" {
				both("destroyed", envelope.ErrNoKey)
			}
			id = envelope.InZone(target.url, envelope.Rejected)
			both("destroyed", envelope.ErrNoKey)
			k = target.open(t, "another token")
			both("a stranger", envelope.ErrDenied)
		})
	}
}

// A zone's context arrives at the service as its documentation has it.
func TestContextArrives(t *testing.T) {
	for _, target := range targets(t)[:2] {
		k := target.open(t, kmstest.Token)
		if _, err := k.WrapKey(t.Context(), secret, envelope.InZone(target.url, envelope.State)); err != nil {
			t.Fatal(err)
		}
		calls := target.service.Calls()
		if len(calls) != 1 || calls[0] != (kmstest.Call{Op: "encrypt", Key: target.key, Context: "taster_zone=state", Status: 200}) {
			t.Errorf("%s: %+v", target.name, calls)
		}
	}
}

// The errors of AWS KMS by its documentation, which moto does not make: a disabled key serves on there.
func TestAWSErrors(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	status, code := 0, ""
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		var body struct{ Plaintext string }
		_ = json.Unmarshal(asked, &body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":"com.amazonaws.kms#%s","message":"what was asked: %s"}`, code, body.Plaintext)
	}))
	url := "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd?endpoint=" + server.URL
	k, err := Open(t.Context(), parse(t, url))
	if err != nil {
		t.Fatal(err)
	}
	id := envelope.InZone(parse(t, url).ID(), envelope.Accepted)
	for _, answer := range []struct {
		status int
		code   string
		want   error
	}{
		{400, "NotFoundException", envelope.ErrNoKey},
		{400, "AccessDeniedException", envelope.ErrDenied},
		{400, "UnrecognizedClientException", envelope.ErrDenied},
		{400, "ExpiredTokenException", envelope.ErrDenied},
		{400, "DisabledException", envelope.ErrDisabled},
		{400, "KMSInvalidStateException", envelope.ErrDisabled},
		{400, "InvalidCiphertextException", envelope.ErrWrongKey},
		{400, "IncorrectKeyException", envelope.ErrWrongKey},
		{400, "InvalidKeyUsageException", envelope.ErrConfig},
		{400, "ValidationException", envelope.ErrConfig},
		{400, "ThrottlingException", envelope.ErrUnavailable},
		{400, "LimitExceededException", envelope.ErrUnavailable},
		{500, "KMSInternalException", envelope.ErrUnavailable},
		{500, "KeyUnavailableException", envelope.ErrUnavailable},
		{503, "DependencyTimeoutException", envelope.ErrUnavailable},
		{502, "", envelope.ErrUnavailable},
	} {
		status, code = answer.status, answer.code
		_, err := k.WrapKey(t.Context(), secret, id)
		check(t, "wrap "+code, err, answer.want, id)
		_, err = k.UnwrapKey(t.Context(), "AAAA", id)
		check(t, "unwrap "+code, err, answer.want, id)
		var asked *envelope.Unavailable
		if errors.As(err, &asked) && asked.After != 7*time.Second {
			t.Errorf("%s: asked to wait %v, want 7s", code, asked.After)
		}
	}
}

// A keyring waits for a service that is away, loudly, and loses nothing; what it has cached serves on.
func TestAway(t *testing.T) {
	target := targets(t)[0]
	k := target.open(t, kmstest.Token)
	master := envelope.MasterKey{KMS: k, ID: target.url}
	var mu sync.Mutex
	waits := 0
	ring, err := envelope.NewKeyring(map[envelope.Zone]envelope.MasterKey{envelope.Default: master}, envelope.Limits{
		Waiting: func(id string, attempt int, wait time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			waits++
			check(t, "waiting", err, envelope.ErrUnavailable, id)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := ring.NewDataKey(t.Context(), envelope.Accepted, true)
	if err != nil {
		t.Fatal(err)
	}
	target.service.Away(true)
	if _, err := ring.NewDataKey(t.Context(), envelope.Accepted, true); err != nil {
		t.Errorf("a KEK in use does not serve while the service is away: %v", err)
	}
	back := time.AfterFunc(3*time.Second, func() { target.service.Away(false) })
	defer back.Stop()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			zone := envelope.Zones[i%2+2]
			key, err := ring.NewDataKey(t.Context(), zone, true)
			if err != nil {
				t.Errorf("%s: %v", zone, err)
				return
			}
			if got, err := ring.DataKey(t.Context(), key.Material); err != nil || !bytes.Equal(got, key.Key) {
				t.Errorf("%s: %v", zone, err)
			}
		})
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	if waits == 0 {
		t.Error("nobody was told of the wait")
	}
	encrypts := 0
	for _, call := range target.service.Calls() {
		if call.Op == "encrypt" {
			encrypts++
		}
	}
	if encrypts != 3 {
		t.Errorf("%d KEKs were wrapped for three zones", encrypts)
	}
	if _, err := ring.DataKey(t.Context(), before.Material); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("VAULT_ADDR", "")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	for _, url := range []string{"hashivault://k", "awskms://k"} {
		if _, err := Open(t.Context(), parse(t, url)); !errors.Is(err, envelope.ErrConfig) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := Open(t.Context(), envelope.KeyURL{Scheme: "x"}); !errors.Is(err, envelope.ErrConfig) {
		t.Error(err)
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for text, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, date: time.Hour} {
		got := retryAfter(http.Header{"Retry-After": {text}})
		if (got - want).Abs() > 5*time.Second {
			t.Errorf("%q: %v, want about %v", text, got, want)
		}
	}
}
