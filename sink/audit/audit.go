// Package audit keeps the hash-chained record of what was done, by whom and under which rule.
//
// There is one chain per partition for commits, one for changes, and one per process for everything else. An entry is an object that is
// written only if its name is free; it carries its own digest and that of the entry before it, so that nothing can be
// changed, taken out, put in or reordered without showing. docs/landing-zone.md describes the format, and how to check
// it with sha256sum.
//
// Entries hold no record content and no keys.
package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// ErrForged says that under the name of an entry there stands another one than can have been written there.
var ErrForged = errors.New("audit entry was forged")

// ErrInvalid is wrapped by every error of Decode.
var ErrInvalid = errors.New("invalid audit entry")

// Version is the format version.
const Version = 1

// The folders of the kinds of chains.
const (
	CommitsFolder = manifest.AuditFolder + "commits/"
	ChangesFolder = manifest.AuditFolder + "changes/"
	ProcessFolder = manifest.AuditFolder + "process/"
)

// The events.
const (
	Start    = "start"    // a process began; details name the command and the digest of its configuration
	Stop     = "stop"     // it ended
	Contract = "contract" // a contract was used for the first time by a process, or another one than before
	Commit   = "commit"   // a manifest was written: provider's data became the platform's
	Decrypt  = "decrypt"  // rows were decrypted for somebody to see
	Verify   = "verify"   // a landing zone was checked
	Fit      = "fit"      // a trusted reference was made
	Delete   = "delete"   // files were deleted that count no longer (superseded, states), or never did (orphans)
	Reseal   = "reseal"   // a state, or recalls, got a copy under another master key
)

// Entry is one link of a chain.
type Entry struct {
	Version      int               `json:"version"`
	Time         manifest.Time     `json:"time"`
	Event        string            `json:"event"`
	Actor        string            `json:"actor"`         // the process that did it
	Subject      string            `json:"subject"`       // what it is about
	Object       string            `json:"object"`        // name of the object concerned, or ""
	ObjectSHA256 string            `json:"object_sha256"` // hex digest of that object, or ""
	Action       string            `json:"action"`
	Result       string            `json:"result"`
	Policy       string            `json:"policy"` // the decision that allowed it
	Details      map[string]string `json:"details"`
	Previous     string            `json:"previous"` // digest of the entry before it; "" in the first
	Digest       string            `json:"digest"`   // hex SHA-256 of the entry without this member
}

// encode fills in the digest and returns the canonical bytes.
func (e *Entry) encode() ([]byte, error) {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Version = Version
	e.Digest = ""
	bare, err := manifest.Canonical(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	bare = bytes.TrimSuffix(bare, []byte(`,"digest":""}`))
	sum := sha256.Sum256(append(bytes.Clone(bare), '}'))
	e.Digest = hex.EncodeToString(sum[:])
	return append(bare, `,"digest":"`+e.Digest+`"}`...), nil
}

// Decode reads an entry. It takes canonical bytes with the right digest only.
func Decode(data []byte) (*Entry, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes follow the JSON object", ErrInvalid)
	}
	if e.Version != Version {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrInvalid, e.Version, Version)
	}
	again := e
	spelled, err := again.encode()
	if err != nil {
		return nil, err
	}
	if again.Digest != e.Digest {
		return nil, fmt.Errorf("%w: the digest does not fit the entry", ErrInvalid)
	}
	if !bytes.Equal(spelled, data) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrInvalid)
	}
	return &e, nil
}

// CommitName returns the name of the audit entry of a manifest.
func CommitName(m *manifest.Manifest) string {
	return fmt.Sprintf("%s%s/%020d.json", CommitsFolder, manifest.SourcePath(m.Source()), m.First)
}

// ChangeName returns the name of the audit entry of a partition's change number sequence.
func ChangeName(source record.Source, sequence int64) string {
	return fmt.Sprintf("%s%s/%020d.json", ChangesFolder, manifest.SourcePath(source), sequence)
}

// ProcessName returns the name of an entry of a process.
func ProcessName(process string, sequence int64) string {
	return fmt.Sprintf("%s%s/%020d.json", ProcessFolder, process, sequence)
}

// NewProcess returns a name for a process that began at now: sortable, and its own.
func NewProcess(now time.Time) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

// forCommit returns the entry of a manifest. Nothing in it depends on who writes it, or when: a repeat after a crash
// gives the same bytes.
func forCommit(m *manifest.Manifest, digest, previous string) *Entry {
	number := func(n int64) string { return fmt.Sprint(n) }
	details := map[string]string{
		"first": number(m.First), "next": number(m.Next),
		"accepted": number(m.Counts.Accepted), "quarantined": number(m.Counts.Quarantined), "rejected": number(m.Counts.Rejected),
	}
	if m.Recalls != nil {
		details["recalls"] = number(m.Recalls.Count)
	}
	return &Entry{
		Time: m.Committed, Event: Commit, Actor: m.Process, Subject: manifest.SourcePath(m.Source()), Object: m.Name(), ObjectSHA256: digest,
		Action: "put", Result: "ok", Policy: "allow contract " + m.Contract, Details: details, Previous: previous,
	}
}

// forChange returns the entry of a change, whose event is the change's kind. As with a manifest, a repeat gives the
// same bytes.
func forChange(c *manifest.Change, digest, previous string) *Entry {
	return &Entry{
		Time: c.Time, Event: string(c.Kind), Actor: c.Process, Subject: manifest.SourcePath(c.Source()), Object: c.Name(), ObjectSHA256: digest,
		Action: "put", Result: "ok", Policy: c.Rule,
		Details: map[string]string{
			"removed": fmt.Sprint(len(c.Removed)), "added": fmt.Sprint(len(c.Added)), "materials": fmt.Sprint(len(c.Materials)),
		},
		Previous: previous,
	}
}
