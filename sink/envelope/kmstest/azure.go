package kmstest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// NewAzure returns an Azure Key Vault with RSA keys of these names:
// https://learn.microsoft.com/rest/api/keyvault/keys/encrypt. The vendor's clients send their token over TLS only, and
// only to a host below vault.azure.net.
func NewAzure(names ...string) *Service { return newService(azure{}, names) }

type azure struct{}

func (azure) newVersion() any {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func (azure) authentic(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") == "Bearer "+Token {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/kmstest", resource="https://vault.azure.net"`)
	azureError(w, http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.")
	return false
}

var azurePath = regexp.MustCompile(`^/keys/([^/]+)/([0-9a-f]*)/?(encrypt|decrypt)$`)

func (azure) parse(r *http.Request) (request, bool) {
	at := azurePath.FindStringSubmatch(r.URL.Path)
	body, ok := bodyOf(r)
	if at == nil || !ok || r.Method != http.MethodPost || r.URL.Query().Get("api-version") == "" || body["alg"] != "RSA-OAEP-256" {
		return request{}, false
	}
	return request{op: at[3], key: at[1], version: at[2], body: body, host: r.Host}, true
}

// kid names a version of a key. The number of the version is spelt with the 32 digits that Azure has.
func kid(req request, version int) string {
	return fmt.Sprintf("https://%s/keys/%s/%032x", req.host, req.key, version)
}

func azureVersion(k *key, req request) (int, bool) {
	if req.version == "" {
		return len(k.versions), true
	}
	n, err := strconv.ParseInt(strings.TrimLeft(req.version, "0"), 16, 32)
	return int(n), err == nil && n > 0 && int(n) <= len(k.versions)
}

func (azure) encrypt(k *key, req request) (any, bool) {
	version, ok := azureVersion(k, req)
	plain, err := base64.RawURLEncoding.DecodeString(req.body["value"])
	if err != nil || !ok {
		return nil, false
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &k.versions[version-1].(*rsa.PrivateKey).PublicKey, plain, nil)
	return map[string]any{"kid": kid(req, version), "value": base64.RawURLEncoding.EncodeToString(sealed)}, err == nil
}

func (azure) decrypt(k *key, req request) (any, bool) {
	version, ok := azureVersion(k, req)
	sealed, err := base64.RawURLEncoding.DecodeString(req.body["value"])
	if err != nil || !ok {
		return nil, false
	}
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, k.versions[version-1].(*rsa.PrivateKey), sealed, nil)
	return map[string]any{"kid": kid(req, version), "value": base64.RawURLEncoding.EncodeToString(plain)}, err == nil
}

func (azure) refuse(w http.ResponseWriter, req request, status int, reason string) {
	switch reason {
	case noKey:
		azureError(w, status, "KeyNotFound", "", "A key with (name/id) "+req.key+" was not found in this key vault.")
	case denied:
		azureError(w, status, "Forbidden", "ForbiddenByRbac", "Caller is not authorized to perform action on resource.")
	case disabled:
		azureError(w, status, "Forbidden", "KeyDisabled", "Operation "+req.op+" is not allowed on a disabled key.")
	case unreadable:
		azureError(w, status, "BadParameter", "", "The parameter is incorrect.")
	default:
		azureError(w, status, map[int]string{429: "Throttled", 400: "BadParameter"}[status], "", "Failed. "+req.body["value"])
	}
}

func azureError(w http.ResponseWriter, status int, code, inner, text string) {
	body := map[string]any{"code": code, "message": text}
	if inner != "" {
		body["innererror"] = map[string]any{"code": inner}
	}
	reply(w, status, map[string]any{"error": body})
}
