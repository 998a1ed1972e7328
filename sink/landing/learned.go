package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/storage"
)

// ErrUnreadable says that a state, or recalls, cannot be read, however often one tries: the object is not there or was
// changed, or its key is gone. Other errors of State and Recalls may pass.
var ErrUnreadable = errors.New("it cannot be read any more")

// writeLearned writes what a segment taught, and the recalls that it brings, and adds them to the manifest. Both are
// durable when it returns. It returns the names of all objects that may be there, also with an error.
func (z *Zone) writeLearned(ctx context.Context, m *manifest.Manifest, dec *record.Decision, c *contract.Contract) (made []string, err error) {
	seal := func(folder string, zone envelope.Zone, plain []byte) (manifest.Sealed, error) {
		name := manifest.SealedName{Folder: folder, Source: m.Source(), First: m.First, Random: randomHex(8)}.String()
		made = append(made, name)
		sealed, err := z.putSealed(ctx, zone, name, plain)
		if err != nil {
			return sealed, fmt.Errorf("write %s: %w", name, err)
		}
		return sealed, nil
	}
	if dec.State != nil {
		state, err := seal(manifest.StateFolder, envelope.State, dec.State)
		if err != nil {
			return made, err
		}
		m.State = &state
		killpoint.ReachFor("state_written", state.Name)
	}
	if len(dec.Recalls) > 0 {
		text, err := encodeRecalls(dec.Recalls)
		if err != nil {
			return made, err
		}
		sealed, err := seal(manifest.RecallsFolder, RecallsZone(c), text)
		if err != nil {
			return made, err
		}
		m.Recalls = &manifest.Recalls{Count: int64(len(dec.Recalls)), Sealed: sealed}
		killpoint.ReachFor("recalls_written", sealed.Name)
	}
	return made, nil
}

// RecallsZone returns whose key protects recalls. They quote records as the findings of quarantined ones do, and are for
// the same eyes; where columns are restricted they may quote one of these.
func RecallsZone(c *contract.Contract) envelope.Zone {
	if len(c.Restricted) > 0 {
		return envelope.Restricted
	}
	return envelope.Quarantined
}

// putSealed is PutSealed with what a manifest says of the object.
func (z *Zone) putSealed(ctx context.Context, zone envelope.Zone, name string, plain []byte) (manifest.Sealed, error) {
	sealed, err := z.opt.Keys.Seal(ctx, zone, name, plain)
	if err != nil {
		return manifest.Sealed{}, err
	}
	m, err := envelope.Inspect(materialOf(sealed))
	if err != nil {
		return manifest.Sealed{}, err
	}
	if err := z.opt.Store.Put(ctx, name, sealed); err != nil {
		return manifest.Sealed{}, err
	}
	return manifest.Sealed{
		Name: name, Bytes: int64(len(sealed)), SHA256: manifest.Digest(sealed), Content: manifest.Digest(plain), Key: m.MasterKeyID,
	}, nil
}

// State returns what a source had taught when the manifest was written that lists s; nil for nil. The error wraps
// ErrUnreadable where no repeating helps.
func (z *Zone) State(ctx context.Context, s *manifest.Sealed) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	return z.unsealed(ctx, s)
}

// Recalls returns the recalls that a segment brought. The error wraps ErrUnreadable where no repeating helps.
func (z *Zone) Recalls(ctx context.Context, m *manifest.Manifest) ([]record.Recall, error) {
	if m.Recalls == nil {
		return nil, nil
	}
	text, err := z.unsealed(ctx, &m.Recalls.Sealed)
	if err != nil {
		return nil, err
	}
	recalls, err := decodeRecalls(text)
	if err == nil && int64(len(recalls)) != m.Recalls.Count {
		err = fmt.Errorf("%w: it holds %d recalls, and %d were committed", ErrCorrupt, len(recalls), m.Recalls.Count)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Recalls.Name, err)
	}
	return recalls, nil
}

// unsealed returns the plaintext of an object that a manifest lists, or of the newest copy that opens: a rotation makes
// copies under other master keys.
func (z *Zone) unsealed(ctx context.Context, s *manifest.Sealed) ([]byte, error) {
	plain, err := z.unsealedAs(ctx, s, s.Name)
	if err == nil || !passedOver(err) {
		return plain, err
	}
	var copies []string // the newest last
	for info, err := range z.opt.Store.List(ctx, strings.TrimSuffix(s.Name, sealedSuffix)+".") {
		if err != nil {
			return nil, err
		}
		if n, err := manifest.ParseSealedName(info.Name); err == nil && n.Copy > len(copies) { // listed in byte order: 10 before 2
			copies = append(copies, make([]string, n.Copy-len(copies))...)
		}
		if n, err := manifest.ParseSealedName(info.Name); err == nil && n.Copy > 0 {
			copies[n.Copy-1] = info.Name
		}
	}
	for i := len(copies) - 1; i >= 0; i-- {
		if copies[i] == "" {
			continue
		}
		plain, copyErr := z.unsealedAs(ctx, s, copies[i])
		if copyErr == nil || !passedOver(copyErr) {
			return plain, copyErr
		}
	}
	return nil, err
}

// passedOver tells an error of one object that another copy may not have.
func passedOver(err error) bool {
	return errors.Is(err, ErrUnreadable) || errors.Is(err, envelope.ErrDenied)
}

// unsealedAs returns the plaintext of the object, or of a copy, named name.
func (z *Zone) unsealedAs(ctx context.Context, s *manifest.Sealed, name string) ([]byte, error) {
	if z.opt.Keys == nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrUnreadable, envelope.ErrNoKey)
	}
	src, err := z.opt.Store.Open(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrUnreadable, err)
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	// Key material is of another length in a copy.
	if size := src.Size(); size > s.Bytes+sealedHead || name == s.Name && size != s.Bytes {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, and %d were committed", name, ErrUnreadable, size, s.Bytes)
	}
	sealed := make([]byte, src.Size())
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, src.Size()), sealed); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if name == s.Name && manifest.Digest(sealed) != s.SHA256 {
		return nil, fmt.Errorf("%s: %w: its SHA-256 is not the one that was committed", name, ErrUnreadable)
	}
	plain, err := z.opt.Keys.Unseal(ctx, name, sealed)
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, envelope.ErrUnavailable) || errors.Is(err, envelope.ErrDenied) || errors.Is(err, envelope.ErrConfig)):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case manifest.Digest(plain) != s.Content:
		return nil, fmt.Errorf("%s: %w: it does not hold what was committed", name, ErrUnreadable)
	}
	return append([]byte{}, plain...), nil // never nil
}

// recalled is a recall as it is stored: one JSON object a line.
type recalled struct {
	Topic     string       `json:"topic"`
	TopicID   string       `json:"topic_id"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Code      finding.Code `json:"code"`
	Detector  string       `json:"detector"`
	Score     *float64     `json:"score"` // null: there is no number to tell
	PValue    *float64     `json:"p_value"`
	Threshold *float64     `json:"threshold"`
	Evidence  string       `json:"evidence"`
}

func encodeRecalls(recalls []record.Recall) ([]byte, error) {
	number := func(x float64) *float64 {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
		return &x
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, r := range recalls {
		f := &r.Finding
		if err := enc.Encode(recalled{
			r.Topic, r.ID, r.Partition, r.Offset, r.Code, f.Detector, number(f.Score), number(f.PValue), number(f.Threshold), f.Evidence,
		}); err != nil {
			return nil, errors.New("a recall has no JSON form") // what json says of it could quote it
		}
	}
	return out.Bytes(), nil
}

func decodeRecalls(text []byte) ([]record.Recall, error) {
	number := func(x *float64) float64 {
		if x == nil {
			return math.NaN()
		}
		return *x
	}
	var out []record.Recall
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	for {
		var r recalled
		switch err := dec.Decode(&r); {
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("%w: line %d is no recall", ErrCorrupt, len(out)+1)
		}
		out = append(out, record.Recall{
			Source: record.Source{Topic: r.Topic, ID: r.TopicID, Partition: r.Partition}, Offset: r.Offset, Code: r.Code,
			Finding: finding.Finding{
				Detector: r.Detector, Score: number(r.Score), PValue: number(r.PValue), Threshold: number(r.Threshold), Evidence: r.Evidence, Code: r.Code,
			},
		})
	}
}

// StateObject is a state as a listing shows it. Whether it counts is for its manifest to say.
type StateObject struct {
	storage.Info
	manifest.SealedName
}

// States yields the state objects of a topic, or of all topics for "", by source and offset, copies among them. There
// are few of each source: old ones are deleted.
func (z *Zone) States(ctx context.Context, topic string) iter.Seq2[StateObject, error] {
	return z.states(ctx, manifest.StatesOf(topic))
}

func (z *Zone) states(ctx context.Context, prefix string) iter.Seq2[StateObject, error] {
	return func(yield func(StateObject, error) bool) {
		for info, err := range z.opt.Store.List(ctx, prefix) {
			if err != nil {
				yield(StateObject{}, err)
				return
			}
			name, err := manifest.ParseSealedName(info.Name)
			if err != nil {
				continue // not ours, so not ours to judge
			}
			if !yield(StateObject{info, name}, nil) {
				return
			}
		}
	}
}

// Manifest returns the manifest of a source that begins at first. The error is storage.ErrNotExist if there is none.
func (z *Zone) Manifest(ctx context.Context, source record.Source, first int64) (*Committed, error) {
	return z.read(ctx, source, first)
}

// OldStates yields the state objects that nobody needs any more: of each source those before its last two that were
// committed, and the copies of these. The newest is what the source goes on from; the one before it may just be read by
// somebody who listed it as the newest.
func (z *Zone) OldStates(ctx context.Context) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var source record.Source
		var held []StateObject // of that source, in order
		give := func() bool {
			committed, err := z.committedStates(ctx, held)
			if err != nil {
				yield(storage.Info{}, err)
				return false
			}
			for _, o := range held {
				if len(committed) > 2 && o.First < committed[len(committed)-2] && !yield(o.Info, nil) {
					return false
				}
			}
			return true
		}
		for o, err := range z.states(ctx, manifest.StateFolder) {
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			if o.Source != source {
				if !give() {
					return
				}
				source, held = o.Source, held[:0]
			}
			held = append(held, o)
		}
		give()
	}
}

// committedStates returns where those of a source's states begin that its manifests list, in order.
func (z *Zone) committedStates(ctx context.Context, objects []StateObject) (firsts []int64, _ error) {
	if len(objects) < 3 {
		return nil, nil // none of them can be an old one
	}
	for _, o := range objects {
		if o.Copy > 0 || len(firsts) > 0 && firsts[len(firsts)-1] == o.First {
			continue
		}
		m, err := z.read(ctx, o.Source, o.First)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m.State != nil && m.State.Name == o.Name {
			firsts = append(firsts, o.First)
		}
	}
	return firsts, nil
}
