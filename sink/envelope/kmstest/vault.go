package kmstest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
)

// NewVault returns a Vault with a transit engine at its usual path and AEAD keys of these names:
// https://developer.hashicorp.com/vault/api-docs/secret/transit#encrypt-data.
func NewVault(names ...string) *Service { return newService(vault{}, names) }

type vault struct{}

func (vault) newVersion() any { return newAES() }

func (v vault) authentic(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("X-Vault-Token") == Token {
		return true
	}
	v.refuse(w, request{}, http.StatusForbidden, denied)
	return false
}

var vaultPath = regexp.MustCompile(`^/v1/transit/(encrypt|decrypt)/([^/]+)$`)

func (vault) parse(r *http.Request) (request, bool) {
	at := vaultPath.FindStringSubmatch(r.URL.Path)
	body, ok := bodyOf(r)
	if at == nil || !ok || r.Method != http.MethodPut && r.Method != http.MethodPost {
		return request{}, false
	}
	aad, err := base64.StdEncoding.DecodeString(body["associated_data"])
	return request{op: at[1], key: at[2], context: string(aad), body: body}, err == nil
}

func (vault) encrypt(k *key, req request) (any, bool) {
	plain, err := base64.StdEncoding.DecodeString(req.body["plaintext"])
	if err != nil || len(plain) == 0 {
		return nil, false
	}
	sealed := gcm(k.versions[len(k.versions)-1]).Seal(nil, nil, plain, []byte(req.context))
	text := fmt.Sprintf("vault:v%d:%s", len(k.versions), base64.StdEncoding.EncodeToString(sealed))
	return map[string]any{"request_id": "1", "data": map[string]any{"ciphertext": text, "key_version": len(k.versions)}}, true
}

var vaultText = regexp.MustCompile(`^vault:v([1-9][0-9]{0,5}):(.+)$`)

func (vault) decrypt(k *key, req request) (any, bool) {
	at := vaultText.FindStringSubmatch(req.body["ciphertext"])
	if at == nil {
		return nil, false
	}
	version, _ := strconv.Atoi(at[1])
	sealed, err := base64.StdEncoding.DecodeString(at[2])
	if err != nil || version > len(k.versions) {
		return nil, false
	}
	plain, err := gcm(k.versions[version-1]).Open(nil, nil, sealed, []byte(req.context))
	return map[string]any{"request_id": "1", "data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}}, err == nil
}

func (vault) refuse(w http.ResponseWriter, req request, status int, reason string) {
	texts := map[string]string{
		noKey: "encryption key not found", denied: "permission denied", unreadable: "invalid ciphertext: unable to decrypt",
		disabled: "ciphertext or signature version is disallowed by policy (too old)", broken: "internal error",
	}
	if reason == noKey || reason == disabled {
		status = http.StatusBadRequest
	}
	text := texts[reason]
	if reason == unreadable && vaultText.MatchString(req.body["ciphertext"]) {
		// As Vault itself does from version 1.6 on.
		status, text = http.StatusInternalServerError, "1 error occurred:\n\t* cipher: message authentication failed\n\n"
	}
	if reason == broken && len(req.body) > 0 { // a server that talks too much
		text += " while handling " + req.body["plaintext"]
	}
	reply(w, status, map[string]any{"errors": []string{text}})
}
