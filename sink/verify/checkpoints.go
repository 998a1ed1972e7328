package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keyObject is one of the two objects of a signing key.
type keyObject struct {
	Object
	generation string
	named      bool // by a checkpoint
}

// kept reads the checkpoint that was kept.
func (v *verifier) kept() error {
	if v.options.Checkpoint == nil {
		return nil
	}
	var why string
	if v.note, why = parseCheckpoint(v.options.Checkpoint); why != "" {
		return fmt.Errorf("%w: %s", ErrKept, why)
	}
	v.noteSHA = hexSHA(v.options.Checkpoint)
	return nil
}

// ParseCheckpoint returns the sequence of a checkpoint. The signature is not checked.
func ParseCheckpoint(note []byte) (sequence int64, err error) {
	c, why := parseCheckpoint(note)
	if why != "" {
		return 0, fmt.Errorf("%w: %s", ErrKept, why)
	}
	return c.sequence, nil
}

// noteSeen is a checkpoint as it was read.
type noteSeen struct {
	*step
	findings
	name, sha string
	note      *checkpoint
	keyShas   map[string]string // of the key objects that it names
}

// checkpoints walks the chain of checkpoints, and hands on what they name.
func (v *verifier) checkpoints() error {
	publics, err := v.publicKeys()
	if err != nil {
		return err
	}
	since := v.since()
	trusted := map[string]bool{} // public keys
	switch {
	case v.options.Verifier != nil:
		trusted[v.options.Verifier.String()] = true
	case publics["1"] != nil:
		trusted[publics["1"].String()] = true
	}
	var last *noteSeen
	var next int64
	previous, ok := "none", false // ok: the last one was signed by a trusted key
	for seen, err := range ordered(v.ctx, v.options.Workers, v.steps(inCheckpoints), v.readCheckpoint) {
		if err != nil {
			return err
		}
		v.add(&seen.findings)
		sequence, _ := strconv.ParseInt(seen.at, 10, 64)
		if sequence > next {
			v.found("checkpoint_missing", checkpointName(next), "the checkpoint before %s is not there", seen.name)
		}
		follows := sequence == next
		next = sequence + 1
		if v.note != nil && v.note.sequence == sequence && seen.sha != v.noteSHA {
			v.found("checkpoint_changed", seen.name, "it is not the one that was kept: this is another zone, or its history was made anew")
		}
		if seen.note == nil {
			last, ok = nil, false
			previous = seen.sha
			continue
		}
		c := seen.note
		if c.sequence != sequence {
			v.found("checkpoint_mismatch", seen.name, "it says that it is number %d", c.sequence)
		}
		if follows && c.previous != previous {
			v.found("checkpoint_chain", seen.name, "it was signed after another checkpoint than the one that stands before it")
		}
		previous = seen.sha
		by := signerOf(c, publics, v.options.Verifier)
		if by == nil {
			v.found("checkpoint_unsigned", seen.name, "no key of this zone signed it")
		} else if c.zone != by.name {
			v.found("checkpoint_mismatch", seen.name, "it speaks of the zone %s and is signed for %s", strconv.Quote(c.zone), by.name)
		}
		ok = by != nil && trusted[by.String()]
		if ok {
			v.report.Signed.Verifier = by.String()
			for _, generation := range announced(c) {
				if p := publics[generation]; p != nil {
					trusted[p.String()] = true
				}
			}
		}
		if err := v.claims(seen.name, c, since(c)); err != nil {
			return err
		}
		v.report.Signed.Count++
		v.report.Signed.Last, v.report.Signed.Time = seen.name, c.time
		last = seen
	}
	v.report.Signed.Trusted = ok && v.options.Verifier != nil
	if last != nil && !ok {
		v.found("checkpoint_untrusted", last.name, "it is not signed by the public key that was given or expected, nor by one that this key vouches for")
	}
	return v.finishCheckpoints(next)
}

func checkpointName(sequence int64) string { return fmt.Sprintf("%s%020d.note", checkpoints, sequence) }

// announced returns the generations of keys that a checkpoint vouches for.
func announced(c *checkpoint) (generations []string) {
	for _, line := range c.lines {
		if m := keyName.FindStringSubmatch(line.name); m != nil && m[2] == "vkey" {
			generations = append(generations, m[1])
		}
	}
	return generations
}

func signerOf(c *checkpoint, publics map[string]*Verifier, given *Verifier) *Verifier {
	if given != nil && c.signedBy(given) {
		return given
	}
	for _, p := range publics {
		if c.signedBy(p) {
			return p
		}
	}
	return nil
}

// finishCheckpoints says what must be said of keys and of the kept checkpoint, when next would be the number of the
// checkpoint after the last.
func (v *verifier) finishCheckpoints(next int64) error {
	for _, name := range slices.Sorted(maps.Keys(v.keys)) {
		k := v.keys[name]
		switch {
		case k.named:
		case v.young(k.Changed):
			v.remark(Problem{"key_unlisted", name, "no checkpoint names it yet: the first one that it signs is being written"})
		default:
			v.found("key_unlisted", name, "no checkpoint names it: it was added, or the checkpoints were removed, or who made it was stopped before the first one (then the next one names it)")
		}
		v.pass(k.Size - k.read())
	}
	if v.note != nil {
		v.report.Signed.Kept = true
		if v.note.sequence >= next {
			v.found("checkpoint_missing", checkpointName(v.note.sequence), "the checkpoint that was kept is not there: the zone was rolled back, or is another")
		}
		if v.options.Verifier != nil && !v.note.signedBy(v.options.Verifier) {
			v.found("checkpoint_untrusted", checkpointName(v.note.sequence), "the checkpoint that was kept is not signed by the public key that was given")
		}
		return v.claims(checkpointName(v.note.sequence), v.note, false)
	}
	return nil
}

// read is how many bytes of a key object were read, which is all of them once a checkpoint names it.
func (k *keyObject) read() int64 {
	if k.named {
		return k.Size
	}
	return 0
}

// publicKeys reads the zone's public keys, by generation.
func (v *verifier) publicKeys() (map[string]*Verifier, error) {
	publics := map[string]*Verifier{}
	for name, k := range v.keys {
		if !strings.HasSuffix(name, ".vkey") {
			continue
		}
		text, found, err := v.small(v.ctx, name)
		if err != nil {
			return nil, err
		}
		v.progress(-int64(len(text))) // it is read again when a checkpoint names it
		p, err := ParseVerifier(string(text))
		if err != nil || !found {
			v.found("key_changed", name, "it is no public key: %v", err)
			continue
		}
		publics[k.generation] = p
	}
	return publics, nil
}

func (v *verifier) readCheckpoint(ctx context.Context, s *step) (*noteSeen, error) {
	n, _ := strconv.ParseInt(s.at, 10, 64)
	seen := &noteSeen{step: s, name: checkpointName(n), keyShas: map[string]string{}}
	text, found, err := v.small(ctx, seen.name)
	if err != nil {
		return nil, err
	}
	if !found {
		seen.found("checkpoint_missing", seen.name, "it was listed and is gone")
		return seen, nil
	}
	seen.sha = hexSHA(text)
	var why string
	if seen.note, why = parseCheckpoint(text); why != "" {
		seen.found("checkpoint_changed", seen.name, "%s", why)
	}
	return seen, nil
}

// claims hands on what a checkpoint names to where it is looked for.
func (v *verifier) claims(name string, c *checkpoint, isBefore bool) error {
	for _, line := range c.lines {
		if k := v.keys[line.name]; k != nil || keyName.MatchString(line.name) {
			if err := v.namedKey(name, line); err != nil {
				return err
			}
			continue
		}
		p, ok := locate(line.name)
		if !ok || p.kind != isEntry {
			v.found("checkpoint_mismatch", name, "it names %s, which is no audit entry", strconv.Quote(line.name))
			continue
		}
		if err := v.sorters[p.phase].add(item{p.chain, p.at, isClaimed, line.sha + " " + name}); err != nil {
			return err
		}
		if isBefore {
			if err := v.sorters[p.phase].add(item{p.chain, "", isAnchor, p.at}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) namedKey(checkpoint string, line noteLine) error {
	k := v.keys[line.name]
	if k == nil {
		v.found("key_missing", line.name, "named by %s", checkpoint)
		return nil
	}
	_, sha, found, err := v.digest(v.ctx, line.name)
	switch {
	case err != nil:
		return err
	case !found:
		v.found("key_missing", line.name, "named by %s", checkpoint)
	case sha != line.sha:
		v.found("key_changed", line.name, "its SHA-256 is not the one that %s names", checkpoint)
	}
	if k.named {
		v.progress(-k.Size)
	}
	k.named = true
	return nil
}

// since returns which checkpoints come before what is to be verified.
func (v *verifier) since() func(*checkpoint) bool {
	return func(c *checkpoint) bool {
		at, err := time.Parse(time.RFC3339, c.time)
		before := v.options.SinceSequence != nil && c.sequence <= *v.options.SinceSequence ||
			!v.options.SinceTime.IsZero() && err == nil && !at.After(v.options.SinceTime)
		if before {
			v.report.Since = &Since{c.sequence, c.time}
		}
		return before
	}
}
