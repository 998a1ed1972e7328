package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// KeyList is which master keys a landing zone needs; its JSON form is public.
type KeyList struct {
	Landing    string     `json:"landing"`
	Keys       []KeyState `json:"keys"`
	Unfinished int64      `json:"unfinished"` // files whose rotation was begun and not ended
	Lost       int64      `json:"lost"`       // files whose key material is missing
}

// KeyState is one master key.
type KeyState struct {
	ID    string   `json:"id"`
	State string   `json:"state"` // one of KeyPresent, KeyFormer and KeyMissing
	Zones []string `json:"zones"` // that are written under it now

	Usable  *bool  `json:"usable"`            // whether it wrapped and unwrapped a key that was made for trying; null: not tried
	Problem string `json:"problem,omitempty"` // why not

	Files         int64      `json:"files"` // that need it
	Bytes         int64      `json:"bytes"`
	Internal      int64      `json:"internal"` // of these, with the key material within, where no rotation reaches it
	InternalBytes int64      `json:"internal_bytes"`
	Sealed        int64      `json:"sealed"` // references, state and signing keys that need it
	Oldest        *KeyedFile `json:"oldest,omitempty"`
	Newest        *KeyedFile `json:"newest,omitempty"`
	Needed        bool       `json:"needed"` // something would be unreadable without it
}

// KeyedFile is a file and when its segment was committed.
type KeyedFile struct {
	File string        `json:"file"`
	Time manifest.Time `json:"time"`
}

// The states of a master key.
const (
	KeyPresent = "present" // a zone is written under it
	KeyFormer  = "former"  // in keys.previous
	KeyMissing = "missing" // data needs it, and the configuration does not name it
)

// ListKeys tells which master keys a landing zone needs, and which of them can be used. It reads what says so, and
// decrypts nothing.
func ListKeys(ctx context.Context, c *config.Config, progress func(done, total int)) (*KeyList, error) {
	keys, err := openKeys(ctx, c, envelope.Limits{Patience: keyPatience})
	if err != nil {
		return nil, err
	}
	store, err := storage.OpenReadOnly(ctx, c.Landing.URL)
	if err != nil {
		return nil, err
	}
	zone, err := landing.Open(ctx, landing.Options{Store: store})
	if err != nil {
		return nil, err
	}
	uses, err := zone.KeyUses(ctx, progress)
	if err != nil {
		return nil, err
	}
	list := &KeyList{Landing: c.Landing.URL, Unfinished: uses.Unfinished, Lost: uses.Lost}
	samples := map[string][]byte{}
	for _, use := range uses.Keys {
		samples[use.ID] = use.Sample
		list.Keys = append(list.Keys, KeyState{
			ID: use.ID, Files: use.Files, Bytes: use.Bytes, Internal: use.Internal, InternalBytes: use.InternalBytes, Sealed: use.Sealed,
			Oldest: keyedFile(use.Oldest), Newest: keyedFile(use.Newest), Needed: use.Files+use.Sealed > 0,
		})
	}
	for _, id := range keys.MasterKeyIDs() {
		if !slices.ContainsFunc(list.Keys, func(k KeyState) bool { return k.ID == id }) {
			list.Keys = append(list.Keys, KeyState{ID: id})
		}
	}
	slices.SortFunc(list.Keys, func(a, b KeyState) int { return strings.Compare(a.ID, b.ID) })
	var group errgroup.Group
	for i := range list.Keys {
		k := &list.Keys[i]
		k.Zones = []string{}
		for _, zone := range envelope.Zones {
			if keys.MasterKey(zone).ID == k.ID {
				k.Zones = append(k.Zones, string(zone))
			}
		}
		switch {
		case len(k.Zones) > 0:
			k.State = KeyPresent
		case slices.Contains(keys.MasterKeyIDs(), k.ID):
			k.State = KeyFormer
		default:
			k.State = KeyMissing
		}
		group.Go(func() error { tryKey(ctx, keys, k, samples[k.ID]); return nil })
	}
	return list, group.Wait()
}

func keyedFile(d landing.Dated) *KeyedFile {
	if d.File == "" {
		return nil
	}
	return &KeyedFile{d.File, d.Time}
}

// tryKey asks the key service of a master key: a present one has to wrap and unwrap a key that is thrown away, any other
// to unwrap one that it has wrapped before.
func tryKey(ctx context.Context, keys *envelope.Keyring, k *KeyState, sample []byte) {
	var err error
	switch {
	case k.State == KeyPresent:
		for _, zone := range k.Zones {
			made, wrapErr := keys.NewDataKey(ctx, envelope.Zone(zone), true)
			if wrapErr == nil {
				_, wrapErr = keys.DataKey(ctx, made.Material)
			}
			err = errors.Join(err, wrapErr)
		}
	case sample != nil:
		_, err = keys.DataKey(ctx, sample)
	default:
		return
	}
	usable := err == nil
	k.Usable = &usable
	if err != nil {
		k.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
}

// Rotation says what RotateKeys is to do.
type Rotation struct {
	Topic  string // "": all
	DryRun bool
	Force  bool
}

// Rotated is the outcome of RotateKeys; its JSON form is public.
type Rotated struct {
	OK     bool `json:"ok"` // nothing needs another master key than a present one
	DryRun bool `json:"dry_run"`

	Files    int64 `json:"files"`    // that count
	Rotated  int64 `json:"rotated"`  // got new key material; in a dry run, would get
	Adopted  int64 `json:"adopted"`  // of these, whose sidecar another program had replaced
	Current  int64 `json:"current"`  // needed nothing
	Finished int64 `json:"finished"` // got the key material that a rotation which was stopped had announced

	Internal      int64 `json:"internal"` // cannot be rotated, with their key material within
	InternalBytes int64 `json:"internal_bytes"`
	Failed        int64 `json:"failed"` // could not be rotated for other reasons

	Resealed int64 `json:"resealed"` // references and signing keys that got a successor

	Changes  int64             `json:"changes"`
	KeyCalls int64             `json:"key_calls"` // of key services
	Seconds  float64           `json:"seconds"`
	Problems []RotationProblem `json:"problems"` // some thousands at most
}

// RotationProblem is why something still needs another master key.
type RotationProblem struct {
	Object string   `json:"object"`
	Keys   []string `json:"keys"`
	Detail string   `json:"detail"`
}

// RotateKeys wraps the data keys of the landing zone's files under the present master keys. What it did is entered in
// the audit log: each change in the chain of its partition, beginning and result in that of the process.
func (a *App) RotateKeys(ctx context.Context, how Rotation, progress func(done, total int)) (*Rotated, error) {
	began := time.Now()
	calls := a.keyCalls.Load()
	details := map[string]string{"topic": how.Topic, "force": strconv.FormatBool(how.Force), "dry_run": strconv.FormatBool(how.DryRun)}
	if err := a.chain.Append(ctx, audit.Entry{Event: string(manifest.Rotate), Subject: "keys", Action: "begin", Result: "ok", Details: details}); err != nil {
		return nil, err
	}
	rule := "taster keys rotate"
	if how.Force {
		rule += " --force"
	}
	var topics []string
	if how.Topic != "" {
		topics = []string{how.Topic}
	}
	done, err := a.zone.Rotate(ctx, landing.Rotation{
		Topics: topics, Force: how.Force, DryRun: how.DryRun, Rule: rule, Progress: progress,
		Changed: func(ctx context.Context, source record.Source) error {
			return audit.EnterChanges(ctx, a.checkpoints.Store(), source)
		},
	})
	if done == nil {
		done = &landing.Rotated{}
	}
	var sealed resealed
	if err == nil && how.Topic == "" {
		sealed, err = a.reseal(ctx, how)
	}
	result := &Rotated{
		OK: err == nil && done.Internal+done.Failed == 0 && len(sealed.problems) == 0, DryRun: how.DryRun, Resealed: sealed.done,
		Files: done.Files, Rotated: done.Rotated, Adopted: done.Adopted, Current: done.Current, Finished: done.Finished,
		Internal: done.Internal, InternalBytes: done.InternalBytes, Failed: done.Failed, Changes: done.Changes,
		KeyCalls: a.keyCalls.Load() - calls, Problems: append([]RotationProblem{}, sealed.problems...),
	}
	for _, f := range done.Faults {
		result.Problems = append(result.Problems, RotationProblem{f.File, f.Keys, f.Err.Error()})
	}
	result.Seconds = time.Since(began).Seconds()
	outcome := "ok"
	switch {
	case err != nil:
		outcome = "failed"
	case !result.OK:
		outcome = "incomplete"
	}
	details = map[string]string{
		"files": fmt.Sprint(done.Files), "rotated": fmt.Sprint(done.Rotated), "finished": fmt.Sprint(done.Finished), "adopted": fmt.Sprint(done.Adopted),
		"resealed": fmt.Sprint(sealed.done), "internal": fmt.Sprint(done.Internal), "failed": fmt.Sprint(done.Failed), "changes": fmt.Sprint(done.Changes), "dry_run": strconv.FormatBool(how.DryRun),
	}
	entered := a.chain.Append(context.WithoutCancel(ctx), audit.Entry{Event: string(manifest.Rotate), Subject: "keys", Action: "end", Result: outcome, Details: details})
	return result, errors.Join(err, entered)
}
