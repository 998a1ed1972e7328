package kmstest

import (
	"encoding/base64"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
)

// NewGCP returns a Google Cloud KMS with symmetric keys of these resource names:
// https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt.
func NewGCP(names ...string) *Service { return newService(gcp{}, names) }

type gcp struct{}

func (gcp) newVersion() any { return newAES() }

func (g gcp) authentic(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") == "Bearer "+Token {
		return true
	}
	gcpError(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	return false
}

var gcpPath = regexp.MustCompile(`^/v1/(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+):(encrypt|decrypt)$`)

func (gcp) parse(r *http.Request) (request, bool) {
	at := gcpPath.FindStringSubmatch(r.URL.Path)
	body, ok := bodyOf(r)
	if at == nil || !ok || r.Method != http.MethodPost {
		return request{}, false
	}
	aad, err := base64.StdEncoding.DecodeString(body["additionalAuthenticatedData"])
	return request{op: at[2], key: at[1], context: string(aad), body: body}, err == nil && summed(body["additionalAuthenticatedDataCrc32c"], aad)
}

// checksum is CRC-32C as protobuf's JSON spells an int64.
func checksum(data []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), 10)
}

func summed(sum string, data []byte) bool { return sum == "" || sum == checksum(data) }

func (gcp) encrypt(k *key, req request) (any, bool) {
	plain, err := base64.StdEncoding.DecodeString(req.body["plaintext"])
	if err != nil || !summed(req.body["plaintextCrc32c"], plain) {
		return nil, false
	}
	version := len(k.versions)
	sealed := append([]byte{byte(version)}, gcm(k.versions[version-1]).Seal(nil, nil, plain, []byte(req.context))...)
	return map[string]any{
		"name":       req.key + "/cryptoKeyVersions/" + strconv.Itoa(version),
		"ciphertext": base64.StdEncoding.EncodeToString(sealed), "ciphertextCrc32c": checksum(sealed),
		"verifiedPlaintextCrc32c":                   req.body["plaintextCrc32c"] != "",
		"verifiedAdditionalAuthenticatedDataCrc32c": req.body["additionalAuthenticatedDataCrc32c"] != "",
	}, true
}

func (gcp) decrypt(k *key, req request) (any, bool) {
	sealed, err := base64.StdEncoding.DecodeString(req.body["ciphertext"])
	if err != nil || len(sealed) == 0 || sealed[0] == 0 || int(sealed[0]) > len(k.versions) || !summed(req.body["ciphertextCrc32c"], sealed) {
		return nil, false
	}
	plain, err := gcm(k.versions[sealed[0]-1]).Open(nil, nil, sealed[1:], []byte(req.context))
	return map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain), "plaintextCrc32c": checksum(plain)}, err == nil
}

func (gcp) refuse(w http.ResponseWriter, req request, status int, reason string) {
	switch reason {
	case noKey:
		gcpError(w, status, "NOT_FOUND", "CryptoKey "+req.key+" not found.")
	case denied:
		gcpError(w, status, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useTo"+req.op+"' denied on resource '"+req.key+"' (or it may not exist).")
	case disabled:
		gcpError(w, http.StatusBadRequest, "FAILED_PRECONDITION", req.key+"/cryptoKeyVersions/1 is not enabled, current state is: DISABLED.")
	case unreadable:
		gcpError(w, status, "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	default:
		gcpError(w, status, map[int]string{429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT"}[status], "Failed. "+req.body["plaintext"])
	}
}

func gcpError(w http.ResponseWriter, status int, code, text string) {
	reply(w, status, map[string]any{"error": map[string]any{"code": status, "status": code, "message": text}})
}
