package storage_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/tasterhq/taster/sink/storage"
)

// What is wrong with the configuration is said before, or at, the first request.
func TestOpenRefused(t *testing.T) {
	for _, name := range []string{
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
		"AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGEBLOB_CONNECTIONSTRING",
		"AZURE_STORAGE_DOMAIN", "HTTPS_PROXY", "HTTP_PROXY",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()

	refused := func(url, want string) {
		t.Helper()
		for _, open := range []func() error{
			func() error { _, err := storage.Open(t.Context(), url); return err },
			func() error { _, err := storage.OpenReadOnly(t.Context(), url); return err },
		} {
			if err := open(); !errors.Is(err, storage.ErrUnusable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %q", url, err, want)
			}
		}
	}
	refused("s3://zone", "no region is given")
	refused("s3://zone?region=eu-west-1&use_path_style=true&endpoint="+plain.URL, "no credentials: set AWS_ACCESS_KEY_ID")
	refused("s3://zone?region=eu-west-1&ssetype=none", "ssetype")
	refused("azblob://zone", "no storage account is given")
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
	refused("s3://zone?region=eu-west-1&use_path_style=true&endpoint="+strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS")
	refused("s3://zone?region=eu-west-1&use_path_style=true&endpoint="+secure.URL, "trust the authority")
	t.Setenv("AZURE_STORAGE_ACCOUNT", "account")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024&sig=secret-of-a-test")
	refused("azblob://zone?domain=elsewhere.example", "must not send the token elsewhere")
	refused("azblob://zone?protocol=http", "must not send the token elsewhere")

	// The token stands in the client's URLs, and must not stand in what is said of a failure.
	t.Setenv("AZURE_STORAGE_DOMAIN", "127.0.0.1:1")
	t.Setenv("AZURE_STORAGE_PROTOCOL", "http")
	_, err := storage.Open(t.Context(), "azblob://zone?timeout=2s")
	if !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}
