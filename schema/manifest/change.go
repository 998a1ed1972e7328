package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// Kind says what a change does.
type Kind string

// The kinds of changes.
const (
	Compact Kind = "compact" // rows of several files were copied into fewer; nothing else is different
	Retain  Kind = "retain"  // files were removed because the time for which they may be kept is over
	Rotate  Kind = "rotate"  // data keys were wrapped anew; no data file is different
)

// ChangeLimit is how many bytes a change may have at most. Whoever has more to change writes several.
const ChangeLimit = 4 << 20

// Change supersedes entries of manifests of one partition: manifests themselves are never edited. The changes of a
// partition are one chain, numbered from 0, written like manifests only if the name is free; whoever loses the name
// reads what the winner did and begins anew. What counts in a landing zone is what the manifests list, as the changes
// leave it, one after the other.
//
// A change MUST NOT exist unless every byte that it lists as added is durable. What it removes may still be there.
type Change struct {
	Version   int    `json:"version"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	Sequence  int64  `json:"sequence"`
	Kind      Kind   `json:"kind"`
	Time      Time   `json:"time"`
	Process   string `json:"process"`  // the process that wrote it, as its audit chain is named
	Writer    string `json:"writer"`   // 32 random hex digits, as in a manifest
	Previous  string `json:"previous"` // hex SHA-256 of the previous change's bytes; "" in the first
	Rule      string `json:"rule"`     // why: the rule or the request that allowed it

	Removed   []Removed  `json:"removed"`
	Added     []File     `json:"added"`
	Materials []Material `json:"materials"`
}

// Removed is a file that counts no longer.
type Removed struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// Material is new key material of a file that keeps it in a sidecar. The change holds all of it, so that whoever finds
// an older sidecar can put the new one in its place.
type Material struct {
	File    string   `json:"file"`
	Keys    []string `json:"keys"`    // ids of the master keys that the file now needs, sorted
	Before  string   `json:"before"`  // hex SHA-256 of the sidecar that this one replaces
	SHA256  string   `json:"sha256"`  // of the sidecar
	Sidecar string   `json:"sidecar"` // its bytes, which are text; they hold wrapped keys only
}

// Source returns the stream that the change belongs to.
func (c *Change) Source() record.Source {
	return record.Source{Topic: c.Topic, ID: c.TopicID, Partition: c.Partition}
}

// Name returns the object name of the change.
func (c *Change) Name() string { return ChangeName(c.Source(), c.Sequence) }

// Encode returns the canonical bytes.
func (c *Change) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: change: %w", ErrInvalid, err)
	}
	out, err := Canonical(c)
	if err != nil {
		return nil, fmt.Errorf("%w: change: %w", ErrInvalid, err)
	}
	if len(out) > ChangeLimit {
		return nil, fmt.Errorf("%w: a change of %d bytes, at most %d", ErrInvalid, len(out), ChangeLimit)
	}
	return out, nil
}

// DecodeChange reads a change. It takes canonical bytes only, and only a change that agrees with itself.
func DecodeChange(data []byte) (*Change, error) {
	var c Change
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes follow the JSON object", ErrInvalid)
	}
	again, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(data, again) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrInvalid)
	}
	return &c, nil
}

// check reports the first thing by which the change contradicts itself or the format.
func (c *Change) check() error {
	switch {
	case c.Version != Version:
		return fmt.Errorf("version %d, want %d", c.Version, Version)
	case c.Topic == "" || c.TopicID == "":
		return errors.New("topic or topic_id is empty")
	case c.Partition < 0 || c.Sequence < 0:
		return errors.New("partition or sequence is negative")
	case c.Previous == "" != (c.Sequence == 0), c.Previous != "" && !isHex(c.Previous, 64):
		return errors.New("previous must be a SHA-256, and empty in the first change")
	case c.Process == "" || c.Rule == "":
		return errors.New("process or rule is empty")
	case !isHex(c.Writer, 32):
		return errors.New("writer is not 32 hex digits")
	case c.Removed == nil || c.Added == nil || c.Materials == nil:
		return errors.New("removed, added and materials must be there, empty if need be")
	}
	seen := map[string]bool{}
	var before, after [len(finding.Verdicts)]int64
	for i, r := range c.Removed {
		name, err := ParseFileName(r.Name)
		if err != nil || name.Source != c.Source() || name.Change >= c.Sequence || r.Rows <= 0 || seen[r.Name] {
			return fmt.Errorf("removed[%d] cannot be a file that was there", i)
		}
		seen[r.Name] = true
		before[name.Verdict] += r.Rows
	}
	for i, f := range c.Added {
		name, err := ParseFileName(f.Name)
		if err != nil || name.Source != c.Source() || name.Verdict != f.Verdict || name.Change != c.Sequence || name.First < 0 || name.Next <= name.First || seen[f.Name] {
			return fmt.Errorf("added[%d]: the name belongs to another change", i)
		}
		seen[f.Name] = true
		if err := f.check(); err != nil {
			return fmt.Errorf("added[%d]: %w", i, err)
		}
		after[name.Verdict] += f.Rows
	}
	for i, m := range c.Materials {
		name, err := ParseFileName(m.File)
		if err != nil || name.Source != c.Source() || name.Change >= c.Sequence || seen[m.File] {
			return fmt.Errorf("materials[%d] cannot be of a file that was there", i)
		}
		seen[m.File] = true
		if !isHex(m.Before, 64) || m.SHA256 != Digest([]byte(m.Sidecar)) || len(m.Keys) == 0 {
			return fmt.Errorf("materials[%d]: before, sha256 or keys do not fit", i)
		}
	}
	switch c.Kind {
	case Compact:
		if len(c.Removed) == 0 || len(c.Materials) != 0 || before != after {
			return errors.New("a compaction keeps every row of every verdict")
		}
	case Retain:
		if len(c.Removed) == 0 || len(c.Added) != 0 || len(c.Materials) != 0 {
			return errors.New("a retention only removes")
		}
	case Rotate:
		if len(c.Removed) != 0 || len(c.Added) != 0 || len(c.Materials) == 0 {
			return errors.New("a rotation only changes key material")
		}
	default:
		return errors.New("the kind is not known")
	}
	return nil
}
