package app

import (
	"context"
	"slices"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// Listed is a file that counts; its JSON form is public.
type Listed struct {
	Path      string          `json:"path"` // where it is for other programs: an absolute path, or SCHEME://BUCKET/NAME
	Name      string          `json:"name"` // of the object within the landing zone
	Topic     string          `json:"topic"`
	TopicID   string          `json:"topic_id"`
	Partition int32           `json:"partition"`
	First     int64           `json:"first"` // of the segments that it holds rows of
	Next      int64           `json:"next"`
	Verdict   finding.Verdict `json:"verdict"`
	Rows      int64           `json:"rows"`
	Bytes     int64           `json:"bytes"`
	Committed manifest.Time   `json:"committed"` // the youngest of these segments
	Keys      []string        `json:"keys"`
	SHA256    string          `json:"sha256"`
	Content   string          `json:"content"`
	Material  string          `json:"material"` // SHA-256 of its sidecar with key material, "" without one
}

// Files says which files are listed; what is left out does not narrow the choice.
type Files struct {
	Topics       []string
	Verdicts     []finding.Verdict
	Since, Until time.Time // by when the youngest rows were committed; Until is the first moment too late
}

func (f Files) has(c landing.Current) bool {
	at := time.UnixMilli(int64(c.Committed))
	return (len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, c.Verdict)) &&
		(f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until))
}

// List shows the files that count in a landing zone, in order of partition and offset, as manifests and the changes
// to them tell. It needs no key and writes nothing.
func List(ctx context.Context, url string, files Files, show func(Listed) error) error {
	store, err := storage.OpenReadOnly(ctx, url)
	if err != nil {
		return err
	}
	zone, err := landing.Open(ctx, landing.Options{Store: store})
	if err != nil {
		return err
	}
	for c, err := range zone.Current(ctx, files.Topics...) {
		if err != nil {
			return err
		}
		if !files.has(c) {
			continue
		}
		path, err := storage.Locate(url, c.Name)
		if err != nil {
			return err
		}
		err = show(Listed{
			Path: path, Name: c.Name, Topic: c.Source.Topic, TopicID: c.Source.ID, Partition: c.Source.Partition, First: c.First, Next: c.Next,
			Verdict: c.Verdict, Rows: c.Rows, Bytes: c.Bytes, Committed: c.Committed, Keys: c.Keys, SHA256: c.SHA256, Content: c.Content, Material: c.Material,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
