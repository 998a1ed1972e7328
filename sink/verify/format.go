package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// manifest, change and entry repeat the members of docs/landing-zone.md on purpose: verify reads the format, not the code
// that writes it.
type manifest struct {
	Version    int              `json:"version"`
	Topic      string           `json:"topic"`
	TopicID    string           `json:"topic_id"`
	Partition  int32            `json:"partition"`
	First      int64            `json:"first"`
	Next       int64            `json:"next"`
	Gaps       int64            `json:"gaps"`
	Opened     string           `json:"opened"`
	Committed  string           `json:"committed"`
	Process    string           `json:"process"`
	Writer     string           `json:"writer"`
	Previous   string           `json:"previous"`
	Contract   string           `json:"contract"`
	Detectors  []string         `json:"detectors"`
	Reference  string           `json:"reference"`
	RefDigest  string           `json:"reference_digest"`
	Calibrated string           `json:"calibrated"`
	Threshold  *float64         `json:"threshold"`
	Risk       float64          `json:"risk"`
	Counts     counts           `json:"counts"`
	Reasons    map[string]int64 `json:"reasons"`
	Files      []file           `json:"files"`
	State      *sealed          `json:"state"`
	Judged     []string         `json:"judged"`
	Recalls    *recalls         `json:"recalls"`
}

type sealed struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
	Content string `json:"content"`
	Key     string `json:"key"`
}

type recalls struct {
	Count   int64  `json:"count"`
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
	Content string `json:"content"`
	Key     string `json:"key"`
}

type counts struct {
	Accepted    int64 `json:"accepted"`
	Quarantined int64 `json:"quarantined"`
	Rejected    int64 `json:"rejected"`
}

type file struct {
	Name    string   `json:"name"`
	Verdict string   `json:"verdict"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"`
	SHA256  string   `json:"sha256"`
	Content string   `json:"content"`
	Keys    []string `json:"keys"`

	Material string `json:"material"`
}

type change struct {
	Version   int        `json:"version"`
	Topic     string     `json:"topic"`
	TopicID   string     `json:"topic_id"`
	Partition int32      `json:"partition"`
	Sequence  int64      `json:"sequence"`
	Kind      string     `json:"kind"`
	Time      string     `json:"time"`
	Process   string     `json:"process"`
	Writer    string     `json:"writer"`
	Previous  string     `json:"previous"`
	Rule      string     `json:"rule"`
	Removed   []removed  `json:"removed"`
	Added     []file     `json:"added"`
	Materials []material `json:"materials"`
}

type removed struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

type material struct {
	File    string   `json:"file"`
	Keys    []string `json:"keys"`
	Before  string   `json:"before"`
	SHA256  string   `json:"sha256"`
	Sidecar string   `json:"sidecar"`
}

type entry struct {
	Version      int               `json:"version"`
	Time         string            `json:"time"`
	Event        string            `json:"event"`
	Actor        string            `json:"actor"`
	Subject      string            `json:"subject"`
	Object       string            `json:"object"`
	ObjectSHA256 string            `json:"object_sha256"`
	Action       string            `json:"action"`
	Result       string            `json:"result"`
	Policy       string            `json:"policy"`
	Details      map[string]string `json:"details"`
	Previous     string            `json:"previous"`
	Digest       string            `json:"digest"`
}

func parseManifest(text []byte) (*manifest, string) {
	m := new(manifest)
	if why := strict(text, m); why != "" {
		return nil, why
	}
	if m.Version != 1 {
		return nil, fmt.Sprintf("it is of version %d, and this program knows version 1", m.Version)
	}
	return m, ""
}

func parseChange(text []byte) (*change, string) {
	c := new(change)
	if why := strict(text, c); why != "" {
		return nil, why
	}
	if c.Version != 1 {
		return nil, fmt.Sprintf("it is of version %d, and this program knows version 1", c.Version)
	}
	return c, ""
}

// parseEntry checks the entry's own digest, which covers every byte before it.
func parseEntry(text []byte) (*entry, string) {
	const tail = len(`,"digest":""}`) + 64
	if len(text) <= tail {
		return nil, "it is no audit entry"
	}
	body, end := text[:len(text)-tail], text[len(text)-tail:]
	if want := `,"digest":"` + hexSHA(append(bytes.Clone(body), '}')) + `"}`; string(end) != want {
		return nil, "its digest is not that of its bytes: it was changed"
	}
	e := new(entry)
	if why := strict(text, e); why != "" {
		return nil, why
	}
	if e.Version != 1 {
		return nil, fmt.Sprintf("it is of version %d, and this program knows version 1", e.Version)
	}
	return e, ""
}

// strict decodes one JSON object with known members only. What is wrong is said without the text itself.
func strict(text []byte, into any) string {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return "it is not JSON of the documented form"
	}
	if _, err := d.Token(); err != io.EOF {
		return "bytes follow the JSON object"
	}
	return ""
}

// escape spells a topic or an id as part of an object's name.
func escape(s string, id bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-',
			c == '_' && i > 0, c == '.' && i > 0 && !id:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	return b.String()
}
