package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// Fitted is the outcome of Fit; its JSON form is public.
type Fitted struct {
	Reference string `json:"reference"` // as contracts name it
	Rows      int    `json:"rows"`      // that were kept
	Read      int64  `json:"read"`
	Rejected  int64  `json:"rejected"` // records that broke the contract; they are in no reference
	Digest    string `json:"digest"`
}

// fitSeed makes the sample that a reference keeps the same for the same input.
const fitSeed = 1

// Fit makes a reference from trusted files and keeps it, sealed, in the landing zone under the next version.
func (a *App) Fit(ctx context.Context, c *contract.Contract, inputs []string, progress func(n int64)) (*Fitted, error) {
	c = ofFiles(c)
	inputs, err := files.Expand(ctx, inputs, Buckets{})
	if err != nil {
		return nil, err
	}
	result := &Fitted{}
	reservoir := reference.NewReservoir(c, fitSeed)
	var sources []reference.Input
	for _, input := range inputs {
		source, err := a.fitFile(ctx, c, reservoir, input, result, progress)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	ref, err := reservoir.Reference(time.Now().UTC().Format(time.RFC3339), sources)
	if err != nil {
		return nil, err
	}
	result.Rows, result.Digest = ref.Rows, hex.EncodeToString(ref.Digest[:])
	version, err := a.keepReference(ctx, c.Topic, ref)
	if err != nil {
		return nil, err
	}
	result.Reference = c.Topic + "@" + strconv.Itoa(version)
	return result, nil
}

func (a *App) fitFile(ctx context.Context, c *contract.Contract, reservoir *reference.Reservoir, input string, result *Fitted, progress func(int64)) (reference.Input, error) {
	f, err := files.Open(ctx, input, c, files.Access{Decrypt: a.decrypt, Remote: Buckets{}})
	if err != nil {
		return reference.Input{}, err
	}
	defer f.Close()
	source := reference.Input{SHA256: f.Source().ID}
	builder := batch.NewBuilder(c)
	flush := func() error {
		b := builder.Take()
		if b == nil {
			return nil
		}
		result.Rejected += int64(len(b.Refused))
		defer b.Records.Release()
		return reservoir.Add(b)
	}
	for {
		if err := ctx.Err(); err != nil {
			return source, err
		}
		item, err := f.Next()
		if errors.Is(err, files.ErrEnd) {
			return source, flush()
		}
		if err != nil {
			return source, err
		}
		result.Read++
		source.Rows++
		progress(1)
		if item.Code != "" {
			result.Rejected++
			continue
		}
		m := item.Message
		m.Value = append([]byte(nil), m.Value...)
		builder.Add(m)
		if builder.Rows() >= 4096 || builder.Bytes() >= 4<<20 {
			if err := flush(); err != nil {
				return source, err
			}
		}
	}
}

func referenceFolder(topic string) string { return "_reference/" + manifest.Escape(topic) + "/" }

func referenceName(topic string, version int) string {
	return fmt.Sprintf("%s%d/reference.sealed", referenceFolder(topic), version)
}

// keepReference seals a reference under the first version that is free.
func (a *App) keepReference(ctx context.Context, topic string, ref *reference.Reference) (int, error) {
	latest, err := a.latestReference(ctx, topic)
	if err != nil {
		return 0, err
	}
	for version := latest + 1; ; version++ {
		name := referenceName(topic, version)
		sealed, err := a.keys.Seal(ctx, envelope.State, name, ref.Encode())
		if err != nil {
			return 0, err
		}
		err = a.store.Put(ctx, name, sealed)
		if errors.Is(err, storage.ErrExists) {
			continue // another process fits the same topic
		}
		if err != nil {
			return 0, err
		}
		return version, a.chain.Append(ctx, audit.Entry{
			Event: audit.Fit, Subject: topic + "@" + strconv.Itoa(version), Object: name, ObjectSHA256: manifest.Digest(sealed),
			Action: "put", Result: "ok", Details: map[string]string{"rows": strconv.Itoa(ref.Rows), "digest": hex.EncodeToString(ref.Digest[:])},
		})
	}
}

// latestReference returns the highest version that is there, 0 for none.
func (a *App) latestReference(ctx context.Context, topic string) (int, error) {
	latest := 0
	for info, err := range a.store.List(ctx, referenceFolder(topic)) {
		if err != nil {
			return 0, err
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(info.Name, referenceFolder(topic)), "/")
		if version, err := strconv.Atoi(text); err == nil && version > latest {
			latest = version
		}
	}
	return latest, nil
}

// reference loads the reference that a contract names; nil where it names none.
func (a *App) reference(ctx context.Context, c *contract.Contract) (*reference.Reference, error) {
	if c.Detect.Reference == "" {
		return nil, nil
	}
	topic, which, _ := strings.Cut(c.Detect.Reference, "@")
	version, err := strconv.Atoi(which)
	if which == "latest" {
		if version, err = a.latestReference(ctx, topic); err == nil && version == 0 {
			return nil, fmt.Errorf("%s: detect.reference: %s: %w: no reference was made yet; make one with taster fit", c.Path, c.Detect.Reference, ErrNotFound)
		}
	}
	if err != nil {
		return nil, err
	}
	name, err := a.newestReference(ctx, topic, version)
	if err != nil {
		return nil, err
	}
	sealed, err := storage.ReadAll(ctx, a.store, name, referenceLimit)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: detect.reference: %s@%d: %w in this landing zone", c.Path, topic, version, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	plain, err := a.keys.Unseal(ctx, name, sealed)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", name, err)
	}
	ref, err := reference.Decode(plain)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", name, err)
	}
	ref.Name = topic + "@" + strconv.Itoa(version)
	return ref, nil
}
