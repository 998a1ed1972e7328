package audit

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/storage"
)

// The folders of checkpoints and of the keys that sign them.
const (
	CheckpointsFolder = manifest.AuditFolder + "checkpoints/"
	KeysFolder        = manifest.AuditFolder + "keys/"
)

// noteLines is how many objects one checkpoint names at most: a signed note has at most 1,000,000 bytes, and a line,
// with the longest topic that Kafka allows, stays below 480.
const noteLines = 2000

// noteLimit is the size that a signed note may have (golang.org/x/mod/sumdb/note).
const noteLimit = 1_000_000

// CheckpointName returns the name of checkpoint number sequence.
func CheckpointName(sequence int64) string {
	return fmt.Sprintf("%s%020d.note", CheckpointsFolder, sequence)
}

// keyName returns the name of the key of a generation, sealed (".sealed") or its public half (".vkey").
func keyName(generation int, suffix string) string {
	return KeysFolder + strconv.Itoa(generation) + suffix
}

// Vault encrypts the signing key, so that the landing zone can keep it. The name is bound to what is sealed, and errors
// tell it.
type Vault interface {
	Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error)
	Unseal(ctx context.Context, name string, sealed []byte) ([]byte, error)
}

// Checkpoints signs how far the chains of a landing zone have come. A checkpoint is a signed note
// (golang.org/x/mod/sumdb/note, Ed25519) that names the last entry of each chain that grew, with its SHA-256, and the
// checkpoint before it. Checkpoints are one chain, whichever process writes them. Who keeps the last one elsewhere
// will see when the zone is rolled back to an earlier state.
//
// Only entries that were written through Store are known. A checkpoint MUST NOT name an entry that is not durable.
//
// The zone's signing key is made with the first checkpoint and kept in the zone, sealed. All of it is safe for
// concurrent use, by any number of processes.
type Checkpoints struct {
	store Store
	vault Vault
	now   func() time.Time

	mu    sync.Mutex
	grown map[string]Tip // by chain

	write sync.Mutex    // held by Write
	keys  []*signingKey // by generation, from 1
	head  *head
}

// Tip is the last entry of a chain.
type Tip struct {
	Name   string // of the object
	SHA256 string // hex, of its bytes
}

// signingKey is one generation of the zone's key.
type signingKey struct {
	note.Verifier
	public  string      // the line of text that stands for Verifier
	objects []Tip       // the sealed key and its public half
	signer  note.Signer // nil until it is needed: earlier generations may be sealed by a key that is gone
}

// head is the last checkpoint.
type head struct {
	next       int64  // the sequence of the one after it
	digest     string // hex SHA-256 of its bytes, "none" before the first
	generation int    // the key that signs the next one; 0: none was announced yet
}

// OpenCheckpoints returns the writer of checkpoints of a landing zone. Nothing is read or written yet.
func OpenCheckpoints(store Store, vault Vault, now func() time.Time) *Checkpoints {
	return &Checkpoints{store: store, vault: vault, now: now, grown: map[string]Tip{}}
}

// Store returns the store through which chains are to be written (OpenProcess, OpenCommits, EnterChanges), so that the
// next checkpoint names what they wrote.
func (c *Checkpoints) Store() Store { return watched{c.store, c} }

// watched tells Checkpoints of every entry that stands: see put.
type watched struct {
	Store
	c *Checkpoints
}

func (w watched) stands(name string, data []byte) {
	w.c.Grew(Tip{name, manifest.Digest(data)})
}

// Grew says that an entry stands. Of several in a chain the last counts.
func (c *Checkpoints) Grew(tip Tip) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if chain := path.Dir(tip.Name); c.grown[chain].Name < tip.Name {
		c.grown[chain] = tip
	}
}

// Write signs what has grown since the last call, in as many checkpoints as it takes: none if nothing has. After an
// error what was not signed is signed by the next call.
func (c *Checkpoints) Write(ctx context.Context) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.mu.Lock()
	tips := slices.SortedFunc(maps.Values(c.grown), func(a, b Tip) int { return cmp.Compare(a.Name, b.Name) })
	c.mu.Unlock()
	if len(tips) == 0 {
		return nil
	}
	if err := c.open(ctx); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for part := range slices.Chunk(tips, noteLines) {
		if err := c.append(ctx, part); err != nil {
			c.head = nil // read again
			return fmt.Errorf("checkpoint: %w", err)
		}
		c.mu.Lock()
		for _, tip := range part {
			if chain := path.Dir(tip.Name); c.grown[chain] == tip {
				delete(c.grown, chain)
			}
		}
		c.mu.Unlock()
	}
	return nil
}

// Verifier returns the public key that the zone's checkpoints are signed with now, as a line of text (see
// note.NewVerifier), for whoever wants to check them from outside. The key is made if there is none.
func (c *Checkpoints) Verifier(ctx context.Context) (string, error) {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.open(ctx); err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	return c.keys[c.head.signing()-1].public, nil
}

// Renew makes a new signing key, sealed under what the signing master key is now, and vouches for it in a checkpoint
// that the key before signs. From then on checkpoints are signed with the new one. A signing master key MUST NOT be
// destroyed before.
func (c *Checkpoints) Renew(ctx context.Context) error {
	c.write.Lock()
	defer c.write.Unlock()
	err := c.open(ctx)
	if err == nil && c.head.generation == 0 {
		err = c.append(ctx, nil) // nothing was signed yet: the first key vouches for itself
	}
	if err == nil && c.head.generation == len(c.keys) { // else one was made before, by whoever died then
		if err = c.make(ctx, len(c.keys)+1); err == nil {
			err = c.load(ctx)
		}
	}
	if err == nil {
		err = c.append(ctx, nil)
	}
	if err != nil {
		c.head = nil
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// signing is the generation that signs the next checkpoint.
func (h *head) signing() int { return max(h.generation, 1) }

// open reads the signing keys, makes the first if there is none, and finds the last checkpoint.
func (c *Checkpoints) open(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	if len(c.keys) == 0 {
		if err := c.make(ctx, 1); err != nil {
			return err
		}
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	if c.head != nil {
		return nil
	}
	last := ""
	for info, err := range c.store.List(ctx, CheckpointsFolder) {
		if err != nil {
			return err
		}
		last = info.Name
	}
	c.head = &head{digest: "none"}
	if last == "" {
		return nil
	}
	data, err := storage.ReadAll(ctx, c.store, last, noteLimit)
	if err == nil {
		err = c.follow(last, data)
	}
	if err != nil {
		c.head = nil
	}
	return err
}

// load reads the generations of the key that are not known yet.
func (c *Checkpoints) load(ctx context.Context) error {
	for {
		generation := len(c.keys) + 1
		sealed, err := storage.ReadAll(ctx, c.store, keyName(generation, ".sealed"), entryLimit)
		if errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		beside := keyName(generation, ".vkey")
		public, err := storage.ReadAll(ctx, c.store, beside, entryLimit)
		if errors.Is(err, storage.ErrNotExist) { // who made the key died before it had put its public half there
			var secret []byte
			if secret, err = c.vault.Unseal(ctx, keyName(generation, ".sealed"), sealed); err != nil {
				return err
			}
			if public, err = publicHalf(secret); err == nil {
				_, err = put(ctx, c.store, beside, public)
			}
		}
		if err != nil {
			return err
		}
		line := strings.TrimSuffix(string(public), "\n")
		verifier, err := note.NewVerifier(line)
		if err != nil {
			return fmt.Errorf("%w: %s holds no public key", ErrForged, beside)
		}
		c.keys = append(c.keys, &signingKey{Verifier: verifier, public: line, objects: []Tip{
			{keyName(generation, ".sealed"), manifest.Digest(sealed)}, {beside, manifest.Digest(public)},
		}})
	}
}

// signer unseals a generation of the key.
func (c *Checkpoints) signer(ctx context.Context, generation int) (note.Signer, error) {
	key := c.keys[generation-1]
	if key.signer != nil {
		return key.signer, nil
	}
	name := keyName(generation, ".sealed")
	sealed, err := storage.ReadAll(ctx, c.store, name, entryLimit)
	if err != nil {
		return nil, err
	}
	secret, err := c.vault.Unseal(ctx, name, sealed)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(string(secret))
	if err != nil {
		return nil, fmt.Errorf("%w: %s holds no signing key", ErrForged, name)
	}
	if public, err := publicHalf(secret); err != nil || string(public) != key.public+"\n" {
		return nil, fmt.Errorf("%w: %s is not the public half of %s", ErrForged, keyName(generation, ".vkey"), name)
	}
	key.signer = signer
	return signer, nil
}

// publicHalf returns the object that stands beside a sealed signing key.
func publicHalf(secret []byte) ([]byte, error) {
	parts := strings.SplitN(string(secret), "+", 5) // PRIVATE+KEY+NAME+HASH+BASE64 of 01 and the seed
	if len(parts) == 5 {
		if seed, err := base64.StdEncoding.DecodeString(parts[4]); err == nil && len(seed) == 1+ed25519.SeedSize {
			public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
			line, err := note.NewEd25519VerifierKey(parts[2], public)
			return []byte(line + "\n"), err
		}
	}
	return nil, fmt.Errorf("%w: what is sealed is no signing key", ErrForged)
}

// make makes a generation of the signing key. Two processes that do so at once meet at its name, and one wins.
func (c *Checkpoints) make(ctx context.Context, generation int) error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	zone := "taster-" + hex.EncodeToString(id[:])
	if generation > 1 {
		zone = c.keys[0].Name() // a zone keeps its name
	}
	secret, _, err := note.GenerateKey(rand.Reader, zone)
	if err != nil {
		return err
	}
	name := keyName(generation, ".sealed")
	sealed, err := c.vault.Seal(ctx, name, []byte(secret))
	if err != nil {
		return err
	}
	if err := c.store.Put(ctx, name, sealed); err != nil && !errors.Is(err, storage.ErrExists) {
		return err // it may stand all the same, and then the next attempt finds it
	}
	return nil
}

// append writes one checkpoint behind the last one, whoever else is writing.
func (c *Checkpoints) append(ctx context.Context, tips []Tip) error {
	for {
		lines := tips
		if c.head.generation < len(c.keys) { // vouch for the next key, which whoever may write to the zone can have put there
			if _, err := c.signer(ctx, c.head.generation+1); err != nil {
				return err
			}
			lines = slices.Concat(c.keys[c.head.generation].objects, tips)
		}
		if len(lines) == 0 {
			return nil // another process has vouched for the key that Renew made
		}
		signer, err := c.signer(ctx, c.head.signing())
		if err != nil {
			return err
		}
		data, err := note.Sign(&note.Note{Text: noteText(signer.Name(), c.head, manifest.Time(c.now().UnixMilli()), lines)}, signer)
		if err != nil {
			return err
		}
		name := CheckpointName(c.head.next)
		there, err := put(ctx, c.store, name, data)
		if err != nil && there == nil {
			return err
		}
		if followed := c.load(ctx); followed != nil { // the winner may have made a key
			return followed
		}
		if followed := c.follow(name, there); followed != nil {
			return followed
		}
		if err == nil {
			return nil
		}
	}
}

func noteText(zone string, h *head, at manifest.Time, lines []Tip) string {
	var text strings.Builder
	fmt.Fprintf(&text, "taster landing zone %s\ncheckpoint %d\ntime %s\nprevious %s\n", zone, h.next, at, h.digest)
	for _, line := range lines {
		fmt.Fprintf(&text, "%s  %s\n", line.SHA256, line.Name)
	}
	return text.String()
}

// follow takes a checkpoint as the last one, if one of the zone's keys signed it.
func (c *Checkpoints) follow(name string, data []byte) error {
	var known []note.Verifier
	for _, key := range c.keys {
		known = append(known, key)
	}
	opened, err := note.Open(data, note.VerifierList(known...))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrForged, name, err)
	}
	sequence, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(name, CheckpointsFolder), ".note"), 10, 64)
	if err != nil || CheckpointName(sequence) != name ||
		!strings.HasPrefix(opened.Text, fmt.Sprintf("taster landing zone %s\ncheckpoint %d\n", c.keys[0].Name(), sequence)) {
		return fmt.Errorf("%w: %s holds another checkpoint than its name says", ErrForged, name)
	}
	c.head = &head{next: sequence + 1, digest: manifest.Digest(data)}
	for i, key := range c.keys {
		if key.KeyHash() == opened.Sigs[0].Hash || strings.Contains(opened.Text, "  "+keyName(i+1, ".vkey")+"\n") {
			c.head.generation = i + 1
		}
	}
	return nil
}
