// Package manifest is the commit record of the landing zone: what one segment of one partition became, which files
// hold it, and what came before. It also gives every object of the landing zone its name.
//
// A manifest is canonical: equal manifests have equal bytes, and Decode refuses any other spelling. Its SHA-256 is
// the link by which the next manifest of the partition names it. docs/landing-zone.md describes the format.
//
// A manifest holds no record content, no provider names and no keys, only the names of keys.
package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// Version is the format version that Encode writes and Decode reads.
const Version = 1

// ErrInvalid is wrapped by every error of Encode and Decode: the manifest is not one that taster may have written.
var ErrInvalid = errors.New("invalid manifest")

// Manifest says that the offsets [First, Next) of one partition were decided, and where their rows are.
//
// A manifest MUST NOT exist unless every byte that it lists is durable.
type Manifest struct {
	Version   int    `json:"version"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"` // the previous manifest's Next; 0 in the first
	Next      int64  `json:"next"`
	Gaps      int64  `json:"gaps"` // offsets in [First, Next) that had no record

	Opened    Time   `json:"opened"`
	Committed Time   `json:"committed"`
	Process   string `json:"process"`  // the process that wrote it, as its audit chain is named
	Writer    string `json:"writer"`   // 32 random hex digits, new for every commit
	Previous  string `json:"previous"` // hex SHA-256 of the previous manifest's bytes; "" in the first

	Contract        string   `json:"contract"` // hex digest
	Detectors       []string `json:"detectors"`
	Reference       string   `json:"reference"`
	ReferenceDigest string   `json:"reference_digest"`
	Calibrated      string   `json:"calibrated"`
	Threshold       *float64 `json:"threshold"` // nil: no record could be quarantined for its risk
	Risk            float64  `json:"risk"`

	Counts  Counts                 `json:"counts"`
	Reasons map[finding.Code]int64 `json:"reasons"`
	Files   []File                 `json:"files"`

	State   *Sealed  `json:"state,omitempty"`   // what the source has taught until Next; nil where nothing is remembered
	Judged  []string `json:"judged,omitempty"`  // Content of every state by which the segment was judged, sorted
	Recalls *Recalls `json:"recalls,omitempty"` // records accepted earlier that the segment speaks against; nil for none
}

// Sealed is an encrypted object that belongs to a segment and holds no rows.
type Sealed struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`  // hex, of the stored bytes
	Content string `json:"content"` // hex SHA-256 of the plaintext
	Key     string `json:"key"`     // id of the master key that it needs, with the zone
}

// Recalls is the object with the recalls of a segment, one JSON object a line.
type Recalls struct {
	Count int64 `json:"count"`
	Sealed
}

// Counts holds the number of records by verdict.
type Counts struct {
	Accepted    int64 `json:"accepted"`
	Quarantined int64 `json:"quarantined"`
	Rejected    int64 `json:"rejected"`
}

// Of returns the count of one verdict.
func (c Counts) Of(v finding.Verdict) int64 {
	switch v {
	case finding.Accepted:
		return c.Accepted
	case finding.Quarantined:
		return c.Quarantined
	}
	return c.Rejected
}

// Sum returns the number of records of every verdict together.
func (c Counts) Sum() int64 { return c.Accepted + c.Quarantined + c.Rejected }

// File is one Parquet file of a segment.
type File struct {
	Name    string          `json:"name"`
	Verdict finding.Verdict `json:"verdict"`
	Rows    int64           `json:"rows"`
	Bytes   int64           `json:"bytes"`
	SHA256  string          `json:"sha256"`  // hex, of the stored bytes
	Content string          `json:"content"` // hex, of the plaintext: equal for equal rows, however they were encrypted
	Keys    []string        `json:"keys"`    // ids of the master keys that it needs, sorted

	// Material is the hex SHA-256 of the sidecar with the file's key material as it was first written, "" when the
	// material is inside the file. A rotation writes another one: see Change.
	Material string `json:"material,omitempty"`
}

// Time is a moment in milliseconds since the Unix epoch. It is written as RFC 3339, in UTC, with milliseconds.
type Time int64

const timeLayout = "2006-01-02T15:04:05.000Z"

// String returns the time as manifests write it.
func (t Time) String() string { return time.UnixMilli(int64(t)).UTC().Format(timeLayout) }

// MarshalText implements encoding.TextMarshaler. Years before 0 or after 9999 have no RFC 3339 form.
func (t Time) MarshalText() ([]byte, error) {
	if y := time.UnixMilli(int64(t)).UTC().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("time %d ms is outside the years 0 to 9999", int64(t))
	}
	return []byte(t.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Time) UnmarshalText(text []byte) error {
	at, err := time.Parse(timeLayout, string(text))
	if err != nil {
		return fmt.Errorf("not a time like %s", timeLayout)
	}
	*t = Time(at.UnixMilli())
	return nil
}

// Source returns the stream that the manifest belongs to.
func (m *Manifest) Source() record.Source {
	return record.Source{Topic: m.Topic, ID: m.TopicID, Partition: m.Partition}
}

// Name returns the object name of the manifest.
func (m *Manifest) Name() string { return Name(m.Source(), m.First) }

// Encode returns the canonical bytes.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m.encode()
}

func (m *Manifest) encode() ([]byte, error) {
	out, err := Canonical(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out, nil
}

// Canonical returns v as manifests and audit entries are spelled: JSON in the order of the struct's fields, no
// white space, nothing escaped that need not be, no final line feed.
func Canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// Digest returns the hex SHA-256 of a manifest's bytes, which is how the next manifest names it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Decode reads a manifest. It takes canonical bytes only, and only a manifest that agrees with itself.
func Decode(data []byte) (*Manifest, error) {
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes follow the JSON object", ErrInvalid)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(data, again) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrInvalid)
	}
	return &m, nil
}

// check reports everything by which the manifest contradicts itself or the format.
func (m *Manifest) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if m.Version != Version {
		return fmt.Errorf("version %d, want %d", m.Version, Version)
	}
	if m.Topic == "" || m.TopicID == "" {
		fault("topic or topic_id is empty")
	}
	if m.Partition < 0 {
		fault("partition %d is negative", m.Partition)
	}
	if m.First < 0 || m.Next <= m.First {
		fault("offsets [%d, %d) are not a range", m.First, m.Next)
	}
	if m.Previous == "" != (m.First == 0) {
		fault("previous must be empty in the first manifest, and only there")
	}
	if m.Process == "" {
		fault("process is empty")
	}
	if !isHex(m.Writer, 32) {
		fault("writer is not 32 hex digits")
	}
	if m.Previous != "" && !isHex(m.Previous, 64) {
		fault("previous is not a SHA-256")
	}
	if !isHex(m.Contract, 64) {
		fault("contract is not a SHA-256")
	}
	if m.ReferenceDigest != "" && !isHex(m.ReferenceDigest, 64) {
		fault("reference_digest is not a SHA-256")
	}
	if !(m.Risk >= 0 && m.Risk <= 1) {
		fault("risk is outside 0 to 1")
	}
	if m.Threshold != nil && (math.IsNaN(*m.Threshold) || math.IsInf(*m.Threshold, 0)) {
		fault("threshold is not a number")
	}
	if m.Detectors == nil || m.Reasons == nil || m.Files == nil {
		fault("detectors, reasons and files must be there, empty if need be")
	}
	if !slices.IsSorted(m.Detectors) {
		fault("detectors are not sorted")
	}
	left := m.Next - m.First
	for _, n := range []int64{m.Gaps, m.Counts.Accepted, m.Counts.Quarantined, m.Counts.Rejected} {
		if n < 0 || n > left { // never added up, so that hostile counts cannot overflow
			fault("counts and gaps do not add up to next - first")
			left = 0
			break
		}
		left -= n
	}
	if left != 0 {
		fault("counts and gaps do not add up to next - first")
	}
	for code, n := range m.Reasons {
		if n <= 0 || n > m.Next-m.First {
			fault("reason %q has %d records", string(code), n)
		}
	}
	for _, err := range []error{m.checkFiles(), m.checkLearned()} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// checkLearned checks what the segment taught and was judged by.
func (m *Manifest) checkLearned() error {
	for i, digest := range m.Judged {
		if !isHex(digest, 64) || i > 0 && digest <= m.Judged[i-1] {
			return errors.New("judged is not a sorted list of SHA-256")
		}
	}
	if m.State != nil {
		if err := m.State.check(m, StateFolder); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	if m.Recalls != nil {
		if m.Recalls.Count <= 0 {
			return fmt.Errorf("%d recalls", m.Recalls.Count)
		}
		if err := m.Recalls.check(m, RecallsFolder); err != nil {
			return fmt.Errorf("recalls: %w", err)
		}
	}
	return nil
}

func (s *Sealed) check(m *Manifest, folder string) error {
	name, err := ParseSealedName(s.Name)
	switch {
	case err != nil:
		return err
	case name.Folder != folder || name.Source != m.Source() || name.First != m.First || name.Copy != 0:
		return errors.New("the name belongs to another segment")
	case s.Bytes <= 0:
		return fmt.Errorf("size is %d", s.Bytes)
	case !isHex(s.SHA256, 64) || !isHex(s.Content, 64):
		return errors.New("sha256 or content is not a SHA-256")
	case s.Key == "":
		return errors.New("the key is missing")
	}
	return nil
}

func (m *Manifest) checkFiles() error {
	var rows [len(finding.Verdicts)]int64
	last := finding.Accepted
	for i, f := range m.Files {
		if f.Verdict < last {
			return fmt.Errorf("files[%d]: verdicts are out of order", i)
		}
		last = f.Verdict
		name, err := ParseFileName(f.Name)
		if err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
		if name.Verdict != f.Verdict || name.Source != m.Source() || name.First != m.First || name.Next != m.Next || name.Change != Original || name.Opened != m.Opened.day() {
			return fmt.Errorf("files[%d]: the name belongs to another segment", i)
		}
		count := m.Counts.Of(f.Verdict)
		if f.Rows <= 0 || f.Rows > count-rows[f.Verdict] {
			return fmt.Errorf("files[%d]: rows do not add up to the %s count", i, f.Verdict)
		}
		rows[f.Verdict] += f.Rows
		if err := f.check(); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
	}
	for _, v := range finding.Verdicts {
		if rows[v] != m.Counts.Of(v) {
			return fmt.Errorf("rows do not add up to the %s count", v)
		}
	}
	return nil
}

// check reports what no file can be, whatever lists it.
func (f *File) check() error {
	switch {
	case f.Rows <= 0:
		return fmt.Errorf("%d rows", f.Rows)
	case f.Bytes <= 0:
		return fmt.Errorf("size is %d", f.Bytes)
	case !isHex(f.SHA256, 64) || !isHex(f.Content, 64):
		return errors.New("sha256 or content is not a SHA-256")
	case f.Material != "" && !isHex(f.Material, 64):
		return errors.New("material is not a SHA-256")
	case len(f.Keys) == 0 || !slices.IsSorted(f.Keys):
		return errors.New("keys are missing or not sorted")
	}
	return nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
