//go:build services

package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gcpkms "cloud.google.com/go/kms/apiv1"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"

	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
	"github.com/tasterhq/taster/sink/envelope/kmstest"
)

// keyService is one key in a service, as Go and as Python open it.
type keyService struct {
	url    string           // of the key; its id is what ParseKeyURL says
	ours   envelope.KMS     // the service as taster asks it
	python string           // Python that makes client, a TasterKmsClient
	names  map[string]any   // for that Python
	fakes  *kmstest.Service // nil: a server that cannot be told to fail
}

var secret = bytes.Repeat([]byte("planted key!pkp!"), 2)

// TestPyarrowKMS holds the Python client and taster's own to one wrapped text and one context in each key service.
func TestPyarrowKMS(t *testing.T) {
	Python(t, "boto3", "google.auth", "requests", "azure.identity", "moto.server")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", googleLogin(t))
	services := map[string]keyService{"vault": newVault(t), "gcp": newGCP(t), "azure": newAzure(t), "aws": newAWS(t)}
	e := StartPyarrow(t)
	for name, s := range services {
		t.Run(name, func(t *testing.T) { sameWrapping(t, e, s) })
	}
}

// TestSpark does all that the client for the JVM is held to with one start of Spark.
func TestSpark(t *testing.T) {
	vault, aws := newVault(t), newAWS(t)
	e := StartSpark(t)
	t.Run("writes and reads", func(t *testing.T) { writesAndReads(t, e) })
	for name, s := range map[string]keyService{"vault": vault, "aws": aws} {
		s.python = inJVM
		t.Run(name, func(t *testing.T) { sameWrapping(t, e, s) })
	}
	for _, url := range []string{"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k", "azurekeyvault://v.vault.azure.net/keys/k", "other://k", "",
		"hashivault://", "hashivault://k#accepted", "hashivault://k?other=1", "awskms://k?region=eu-west-1&endpoint=http://192.0.2.1", "keyfile://host/keys.json"} {
		s := keyService{python: inJVM, names: map[string]any{"url": url}}
		if _, class, message := call(t, e, s, "client.wrap_key(b'', 'k')", map[string]any{}); class != "ParquetCryptoRuntimeException" {
			t.Errorf("%s: %s %s", url, class, message)
		}
	}
	t.Run("key files", func(t *testing.T) { keyFileFaults(t, e) })
}

// keyFileFaults has the client in Java open broken key files, all of which hold the secret.
func keyFileFaults(t *testing.T, e *Engine) {
	key := base64.StdEncoding.EncodeToString(secret)
	good := `{"version":1,"keys":{"k":"` + key + `"}}`
	for _, fault := range []struct {
		content string
		mode    os.FileMode
		name    string
		class   string
		word    string
	}{
		{good, 0o600, "k", "", ""},
		{good, 0o644, "k", "ParquetCryptoRuntimeException", "0600"},
		{good, 0o600, "other", "ParquetCryptoRuntimeException", "only k"},
		{good[:len(good)-1], 0o600, "k", "ParquetCryptoRuntimeException", "is not JSON"},
		{strings.Replace(good, ":1,", ":2,", 1), 0o600, "k", "ParquetCryptoRuntimeException", "version 1"},
		{`{"version":1,"keys":{"k":"` + key[:40] + `"}}`, 0o600, "k", "ParquetCryptoRuntimeException", "32 bytes"},
		{`{"version":1,"keys":{}}`, 0o600, "", "ParquetCryptoRuntimeException", "no key"},
		{`["` + key + `"]`, 0o600, "", "ParquetCryptoRuntimeException", "version 1"},
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(fault.content), fault.mode); err != nil {
			t.Fatal(err)
		}
		s := keyService{python: inJVM, names: map[string]any{"url": "keyfile://" + path + "#" + fault.name}}
		_, class, message := call(t, e, s, "client.wrap_key(b'', 'k')", map[string]any{})
		if class != fault.class || !strings.Contains(message, fault.word) {
			t.Errorf("%s, mode %o: %s %s", fault.word, fault.mode, class, message)
		}
	}
}

const byURL = "client = taster_kms.TasterKmsClient([url])"

// inJVM makes a client of the one in Java, with the same methods. It is made when it is first used, so that what its
// making throws is an answer.
const inJVM = `
class Client:
    def java(self):
        jvm = spark._jvm
        client, conf = jvm.io.github.tasterhq.kms.TasterKmsClient(), jvm.org.apache.hadoop.conf.Configuration(False)
        conf.set("taster.keys.default", url)
        client.initialize(conf, "DEFAULT", "DEFAULT", "DEFAULT")
        return client
    def wrap_key(self, key, id):
        return self.java().wrapKey(bytearray(key), id)
    def unwrap_key(self, wrapped, id):
        return bytes(self.java().unwrapKey(wrapped, id))
client = Client()
`

// classes says what the two clients throw, in the words of the one in Python.
var classes = map[string]map[string]string{"spark": {"NoKeyError": "KeyAccessDeniedException", "KeyDeniedError": "KeyAccessDeniedException",
	"WrongKeyError": "ParquetCryptoRuntimeException", "KeyServiceError": "ParquetCryptoRuntimeException"}}

// call runs one method of the client and returns its result in base64, or the error's class and message.
func call(t *testing.T, e *Engine, s keyService, expression string, names map[string]any) (value, class, message string) {
	t.Helper()
	for name, v := range s.names {
		names[name] = v
	}
	code := "import base64\n"
	if e.Name == "pyarrow" {
		code += "import taster_kms\n"
	}
	code += s.python + `
try:
    out = ` + expression + `
    result = [base64.b64encode(out).decode() if isinstance(out, bytes) else out, "", ""]
except Exception as e:
    shown, result = e, ["", type(e).__name__, ""]
    if hasattr(e, "java_exception"):
        result[1] = e.java_exception.getClass().getSimpleName()
    while shown is not None:
        result[2] += f"{shown} {shown!r} "
        shown = None if shown.__suppress_context__ else shown.__context__
`
	var out [3]string
	if err := e.Run(code, names, "result", &out); err != nil {
		t.Fatal(err)
	}
	for _, spelt := range []string{"planted", base64.StdEncoding.EncodeToString(secret)[:16], fmt.Sprintf("%x", secret[:8]), kmstest.Token} {
		if strings.Contains(out[2], spelt) {
			t.Errorf("the error shows a key or token: %s", out[2])
		}
	}
	return out[0], out[1], out[2]
}

func sameWrapping(t *testing.T, e *Engine, s keyService) {
	u, err := envelope.ParseKeyURL(s.url)
	if err != nil {
		t.Fatal(err)
	}
	accepted, quarantined := envelope.InZone(u.ID(), envelope.Accepted), envelope.InZone(u.ID(), envelope.Quarantined)
	plain := base64.StdEncoding.EncodeToString(secret)
	unwrap := func(wrapped, id string) (string, string, string) {
		t.Helper()
		return call(t, e, s, "client.unwrap_key(wrapped, id)", map[string]any{"wrapped": wrapped, "id": id})
	}

	theirs, class, message := call(t, e, s, "client.wrap_key(base64.b64decode(key), id)", map[string]any{"key": plain, "id": accepted})
	if class != "" {
		t.Fatalf("wrap: %s %s", class, message)
	}
	if key, err := s.ours.UnwrapKey(t.Context(), theirs, accepted); err != nil || !bytes.Equal(key, secret) {
		t.Errorf("taster does not unwrap what Python wrapped: %v", err)
	}
	if _, err := s.ours.UnwrapKey(t.Context(), theirs, quarantined); err == nil {
		t.Error("Python wraps without the zone")
	}
	ours, err := s.ours.WrapKey(t.Context(), secret, accepted)
	if err != nil {
		t.Fatal(err)
	}
	if got, class, message := unwrap(ours, accepted); got != plain {
		t.Errorf("Python does not unwrap what taster wrapped: %s %s", class, message)
	}
	if got, class, message := unwrap(ours, quarantined); got != "" || class != errorClass(e, "WrongKeyError") {
		t.Errorf("unwrapped in another zone: %s %s", class, message)
	}
	if got, class, message := unwrap(ours, envelope.InZone("hashivault://another", envelope.Accepted)); got != "" || class != errorClass(e, "NoKeyError") {
		t.Errorf("unwrapped by a key that was not given: %s %s", class, message)
	}
	// Another program may have used the service's own name of the key, which tells no zone.
	if foreign, err := s.ours.WrapKey(t.Context(), secret, u.Key); err != nil {
		t.Error(err)
	} else if got, class, message := unwrap(foreign, u.Key); got != plain {
		t.Errorf("without a zone: %s %s", class, message)
	}
	for _, bad := range []string{"", "x", ours[:len(ours)-8], ours[:len(ours)-2] + "!!"} {
		if got, class, message := unwrap(bad, accepted); got != "" || class != errorClass(e, "WrongKeyError") {
			t.Errorf("%q: %s %s", bad, class, message)
		}
	}
	if s.fakes == nil {
		return
	}
	s.fakes.Fail(2, http.StatusServiceUnavailable, "")
	s.fakes.Fail(1, http.StatusTooManyRequests, "1")
	if got, class, message := unwrap(ours, accepted); got != plain {
		t.Errorf("a service that was away for a moment: %s %s", class, message)
	}
	s.fakes.Rotate(keyName(u))
	if got, class, message := unwrap(ours, accepted); got != plain {
		t.Errorf("after a new version of the key: %s %s", class, message)
	}
	s.fakes.Disable(keyName(u), true)
	if _, class, message := unwrap(ours, accepted); class != errorClass(e, "KeyDeniedError") {
		t.Errorf("disabled: %s %s", class, message)
	}
	s.fakes.Disable(keyName(u), false)
	s.fakes.Deny(keyName(u))
	if _, class, message := unwrap(ours, accepted); class != errorClass(e, "KeyDeniedError") {
		t.Errorf("denied: %s %s", class, message)
	}
	// The servers of kmstest quote what they were sent when they fail.
	s.fakes.Fail(20, http.StatusInternalServerError, "")
	if _, class, message := call(t, e, s, "client.wrap_key(base64.b64decode(key), id)", map[string]any{"key": plain, "id": accepted}); class != errorClass(e, "KeyServiceError") {
		t.Errorf("a service that fails: %s %s", class, message)
	}
}

// errorClass returns what a client throws, given what the one in Python does.
func errorClass(e *Engine, python string) string {
	if class, ok := classes[e.Name][python]; ok {
		return class
	}
	return python
}

func keyName(u envelope.KeyURL) string {
	if u.Scheme == "azurekeyvault" {
		return strings.Split(u.Key, "/")[2]
	}
	return u.Key
}

func serve(t *testing.T, s http.Handler) string {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func newVault(t *testing.T) keyService {
	service := kmstest.NewVault("train")
	address := serve(t, service)
	t.Setenv("VAULT_ADDR", address)
	t.Setenv("VAULT_TOKEN", kmstest.Token)
	u, err := envelope.ParseKeyURL("hashivault://train")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := kms.Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return keyService{url: "hashivault://train", ours: ours, python: byURL, names: map[string]any{"url": "hashivault://train"}, fakes: service}
}

func newGCP(t *testing.T) keyService {
	const resource = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/train"
	service := kmstest.NewGCP(resource)
	address := serve(t, service)
	client, err := gcpkms.NewKeyManagementRESTClient(t.Context(), option.WithEndpoint(address),
		option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: kmstest.Token})))
	if err != nil {
		t.Fatal(err)
	}
	return keyService{url: "gcpkms://" + resource, ours: kms.NewGCP(client, resource), python: byURL,
		names: map[string]any{"url": "gcpkms://" + resource + "?endpoint=" + address}, fakes: service}
}

// googleLogin makes a service account whose tokens come from a server of ours, and returns its file.
func googleLogin(t *testing.T) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tokens := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, kmstest.Token)
	}))
	text, err := json.Marshal(map[string]string{"type": "service_account", "project_id": "p", "client_email": "reader@p.example", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokens + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "login.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type staticToken string

func (s staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// newAzure has the client in Python post to http://127.0.0.1 what is meant for the vault, as nobody else has the vault's
// name and certificate; its login is not Azure's.
func newAzure(t *testing.T) keyService {
	service := kmstest.NewAzure("train")
	server := httptest.NewTLSServer(service)
	t.Cleanup(server.Close)
	transport := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server's certificate is httptest's
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := azkeys.NewClient("https://taster.vault.azure.net", staticToken(kmstest.Token),
		&azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	const url = "azurekeyvault://taster.vault.azure.net/keys/train"
	return keyService{url: url, ours: kms.NewAzure(client, "train", ""), fakes: service,
		names: map[string]any{"url": url, "address": serve(t, service), "token": kmstest.Token}, python: `
from taster_kms import _azure, _client, _http
taster_kms.open_key(url)  # with Azure's own login, which nothing is asked for
ask = _http.poster()
def post(url, headers, body):
    assert url.startswith("https://taster.vault.azure.net/")
    return ask(url.replace("https://taster.vault.azure.net", address), headers, body)
_client._SCHEMES["azurekeyvault"] = lambda url: _azure.Azure(url, token=lambda: token, post=post)
client = taster_kms.TasterKmsClient([url])
_client._SCHEMES["azurekeyvault"] = _azure.Azure
`}
}

// startMoto runs moto, which answers for AWS KMS and S3, and returns its address.
func startMoto(t *testing.T) string {
	python := Python(t, "moto.server")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	moto := exec.Command(python, "-c", "import sys; from moto.server import main; main(sys.argv[1:])", "-H", "127.0.0.1", "-p", port)
	if err := moto.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = moto.Process.Kill(); _ = moto.Wait() })
	for until := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return address
		}
		if time.Now().After(until) {
			t.Fatalf("moto: %v", err)
		}
	}
}

// What the guide says of buckets: the file system of a URL finds key material beside the files there, too.
func TestPyarrowBucket(t *testing.T) {
	address := startMoto(t)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	keyFile := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(keyFile, "k"); err != nil {
		t.Fatal(err)
	}
	var rows int
	err := StartPyarrow(t).Run(`
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.fs as fs, pyarrow.parquet as pq, pyarrow.parquet.encryption as pe, taster_kms
urls = [f"s3://landing/accepted/~5Fodd~20topic/2026-01-01/{i}.parquet" for i in range(2)]
bucket, _ = fs.FileSystem.from_uri(urls[0] + "?region=us-east-1&scheme=http&allow_bucket_creation=true&endpoint_override=" + address)
bucket.create_dir("landing")
paths = [url.removeprefix("s3://") for url in urls]
factory, connection, decryption = taster_kms.crypto_factory(key), pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
external = pe.EncryptionConfiguration("k", uniform_encryption=True, internal_key_material=False)
for path in paths:
    keys = factory.file_encryption_properties(connection, external, parquet_file_path=path, filesystem=bucket)
    pq.write_table(pa.table({"x": list(range(10))}), path, filesystem=bucket, encryption_properties=keys)
names = [f.base_name for f in bucket.get_file_info(fs.FileSelector("landing", recursive=True)) if f.is_file]
assert "_KEY_MATERIAL_FOR_0.parquet.json" in names, names
how = ds.ParquetFragmentScanOptions(decryption_config=ds.ParquetDecryptionConfig(factory, connection, decryption))
dataset = ds.dataset(paths, schema=pa.schema([("x", pa.int64())]), filesystem=bucket, format=ds.ParquetFileFormat(default_fragment_scan_options=how))
rows = dataset.to_table().num_rows
`, map[string]any{"address": address, "key": "keyfile://" + keyFile}, "rows", &rows)
	if err != nil || rows != 20 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// newAWS makes a key in moto.
func newAWS(t *testing.T) keyService {
	address := startMoto(t)
	client := awskms.New(awskms.Options{Region: "eu-west-1", BaseEndpoint: aws.String("http://" + address), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})})
	made, err := client.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(checkSignature(t, address))
	t.Cleanup(proxy.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test secret", "AWS_SESSION_TOKEN": "test session",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"} {
		t.Setenv(name, value)
	}
	url := "awskms:///" + *made.KeyMetadata.Arn
	return keyService{url: url, ours: kms.NewAWS(client, *made.KeyMetadata.Arn), python: byURL,
		names: map[string]any{"url": url + "?endpoint=" + proxy.URL}}
}

// checkSignature passes requests on to moto, which believes every signature, if they are signed as AWS's own code does.
func checkSignature(t *testing.T, moto string) http.Handler {
	next := httputil.NewSingleHostReverseProxy(&neturl.URL{Scheme: "http", Host: moto})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		got := r.Header.Get("Authorization")
		_, names, _ := strings.Cut(got, "SignedHeaders=")
		names, _, _ = strings.Cut(names, ",")
		signed, _ := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
		for _, name := range strings.Split(names, ";") {
			if value := r.Header.Get(name); value != "" && name != "content-length" {
				signed.Header.Set(name, value)
			}
		}
		if !strings.Contains(names, "content-length") {
			signed.ContentLength = -1
		}
		at, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test secret", SessionToken: "test session"},
			signed, fmt.Sprintf("%x", sha256.Sum256(body)), "kms", "eu-west-1", at)
		if want := signed.Header.Get("Authorization"); err != nil || got != want || time.Since(at).Abs() > time.Minute {
			t.Errorf("signed %q, want %q, %v", got, want, err)
		}
		next.ServeHTTP(w, r)
	})
}
