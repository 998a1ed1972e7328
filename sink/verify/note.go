package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Checkpoints are signed notes, read here from their description (https://c2sp.org/signed-note) and from
// docs/landing-zone.md.

// Verifier is a public key for checkpoints.
type Verifier struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// ParseVerifier reads a line like taster-0123456789abcdef+89abcdef+<base64 of 01 and the 32 bytes of the key>.
func ParseVerifier(line string) (*Verifier, error) {
	bad := errors.New("want a line like NAME+HASH+KEY, as _audit/keys/1.vkey holds it")
	parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "+", 3)
	if len(parts) != 3 || parts[0] == "" || len(parts[1]) != 8 {
		return nil, bad
	}
	hash, err := hex.DecodeString(parts[1])
	if err != nil {
		return nil, bad
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 1 {
		return nil, bad
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if !bytes.Equal(sum[:4], hash) || hex.EncodeToString(hash) != parts[1] {
		return nil, bad
	}
	return &Verifier{parts[0], binary.BigEndian.Uint32(hash), key[1:]}, nil
}

// String returns the line that ParseVerifier reads.
func (v *Verifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.hash, base64.StdEncoding.EncodeToString(append([]byte{1}, v.key...)))
}

// checkpoint is a signed note of a landing zone.
type checkpoint struct {
	text     []byte // what is signed
	keyName  string
	keyHash  uint32
	sig      []byte
	zone     string
	sequence int64
	time     string
	previous string // hex SHA-256 of the checkpoint before, "none" in the first
	lines    []noteLine
}

// noteLine names an object.
type noteLine struct{ sha, name string }

// parseCheckpoint reads a note with exactly one signature, in exactly the form that it is written in.
func parseCheckpoint(note []byte) (*checkpoint, string) {
	const bad = "it is not a checkpoint of the documented form"
	if len(note) > 1_000_000 {
		return nil, bad
	}
	cut := bytes.LastIndex(note, []byte("\n\n"))
	if cut < 0 {
		return nil, bad
	}
	c := &checkpoint{text: note[:cut+1]}
	line, ok := strings.CutPrefix(string(note[cut+2:]), "— ")
	if !ok {
		return nil, bad
	}
	if line, ok = strings.CutSuffix(line, "\n"); !ok || strings.Contains(line, "\n") {
		return nil, bad
	}
	var encoded string
	if c.keyName, encoded, ok = strings.Cut(line, " "); !ok {
		return nil, bad
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(sig) != 4+ed25519.SignatureSize {
		return nil, bad
	}
	c.keyHash, c.sig = binary.BigEndian.Uint32(sig), sig[4:]

	lines := strings.Split(strings.TrimSuffix(string(c.text), "\n"), "\n")
	if len(lines) < 5 {
		return nil, bad
	}
	var sequence string
	for i, field := range []struct {
		prefix string
		to     *string
	}{{"taster landing zone ", &c.zone}, {"checkpoint ", &sequence}, {"time ", &c.time}, {"previous ", &c.previous}} {
		if *field.to, ok = strings.CutPrefix(lines[i], field.prefix); !ok {
			return nil, bad
		}
	}
	if c.sequence, err = strconv.ParseInt(sequence, 10, 64); err != nil || strconv.FormatInt(c.sequence, 10) != sequence || c.sequence < 0 {
		return nil, bad
	}
	if (c.previous == "none") != (c.sequence == 0) || c.sequence > 0 && !isSHA(c.previous) {
		return nil, bad
	}
	for _, line := range lines[4:] {
		sha, name, ok := strings.Cut(line, "  ")
		if !ok || !isSHA(sha) || name == "" {
			return nil, bad
		}
		c.lines = append(c.lines, noteLine{sha, name})
	}
	return c, ""
}

// signedBy tells whether a key signed the note.
func (c *checkpoint) signedBy(v *Verifier) bool {
	return c.keyName == v.name && c.keyHash == v.hash && ed25519.Verify(v.key, c.text, c.sig)
}

func isSHA(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }
