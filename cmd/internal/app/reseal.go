package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// referenceLimit is the size that a reference may have.
const referenceLimit = 1 << 30

// learnedLimit is the size that a state, or the recalls of a segment, may have.
const learnedLimit = 1 << 30

// newestReference returns the name of the newest copy of a reference's version: one is made when its master key changes.
func (a *App) newestReference(ctx context.Context, topic string, version int) (string, error) {
	name := referenceName(topic, version)
	for object, err := range a.zone.SealedObjects(ctx, strings.TrimSuffix(name, "reference.sealed")) {
		if err != nil {
			return "", err
		}
		name = object.Name
	}
	return name, nil
}

// resealed counts what reseal did.
type resealed struct {
	done     int64
	problems []RotationProblem
}

// reseal makes what is sealed under former master keys independent of them: a reference gets a copy under the present
// one, and the signing key a successor, for which it vouches.
func (a *App) reseal(ctx context.Context, how Rotation) (r resealed, err error) {
	for object, err := range a.zone.SealedObjects(ctx, manifest.ReferenceFolder) {
		if err != nil {
			return r, err
		}
		if !how.Force && object.Key == a.keys.MasterKeyID(envelope.State) {
			continue
		}
		if err := a.resealReference(ctx, object, how); err != nil {
			if ctx.Err() != nil {
				return r, err
			}
			r.problems = append(r.problems, RotationProblem{object.Name, []string{object.Key}, err.Error()})
			continue
		}
		r.done++
	}
	for object, err := range a.zone.SealedObjects(ctx, audit.KeysFolder) {
		if err != nil {
			return r, err
		}
		if !how.Force && object.Key == a.keys.MasterKeyID(envelope.Signing) {
			continue
		}
		if !how.DryRun {
			if err := a.checkpoints.Renew(ctx); err != nil {
				if ctx.Err() != nil {
					return r, err
				}
				r.problems = append(r.problems, RotationProblem{object.Name, []string{object.Key}, err.Error()})
				continue
			}
		}
		r.done++
	}
	for _, folder := range []string{manifest.StateFolder, manifest.RecallsFolder} {
		for object, err := range a.zone.SealedObjects(ctx, folder) {
			if err != nil {
				return r, err
			}
			done, err := a.resealLearned(ctx, object, how)
			if err != nil {
				if ctx.Err() != nil {
					return r, err
				}
				r.problems = append(r.problems, RotationProblem{object.Name, []string{object.Key}, err.Error()})
			}
			if done {
				r.done++
			}
		}
	}
	return r, nil
}

// resealLearned stores a copy of a state, or of recalls, under the present master key, unless that is its key already.
// The audit log is told first, so that a copy is never there without an entry: one that is not there is nothing amiss.
func (a *App) resealLearned(ctx context.Context, object landing.SealedObject, how Rotation) (done bool, _ error) {
	name, err := manifest.ParseSealedName(object.Name)
	if err != nil {
		return false, err
	}
	zone := envelope.State
	if name.Folder == manifest.RecallsFolder {
		if _, zone = envelope.SplitZone(object.Key); zone == "" { // the id of a key in a key file does not tell
			c, err := a.config.Contract(name.Source.Topic)
			if err != nil {
				return false, fmt.Errorf("which master key protects it follows from the contract: %w", err)
			}
			zone = landing.RecallsZone(c)
		}
	}
	if !how.Force && object.Key == a.keys.MasterKeyID(zone) {
		return false, nil
	}
	if how.DryRun {
		return true, nil
	}
	plain, err := a.zone.Sealed(ctx, object.Name, learnedLimit)
	if errors.Is(err, storage.ErrNotExist) { // a newer state has taken its place
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for name.Copy = object.Number + 1; ; name.Copy++ {
		sealed, err := a.keys.Seal(ctx, zone, name.String(), plain)
		if err != nil {
			return false, err
		}
		if err := a.chain.Append(ctx, audit.Entry{
			Event: audit.Reseal, Subject: manifest.SourcePath(name.Source), Action: "put", Result: "ok",
			Details: map[string]string{"copy": name.String(), "copy_sha256": manifest.Digest(sealed), "copy_of": object.Name},
		}); err != nil {
			return false, err
		}
		err = a.store.Put(ctx, name.String(), sealed)
		if errors.Is(err, storage.ErrExists) {
			continue // another rotation
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		return true, nil
	}
}

// resealReference stores a copy of a reference under the present master key and enters it in the audit log. What the
// reference holds, and so its digest, is the same.
func (a *App) resealReference(ctx context.Context, object landing.SealedObject, how Rotation) error {
	if how.DryRun {
		return nil
	}
	plain, err := a.zone.Sealed(ctx, object.Name, referenceLimit)
	if err != nil {
		return err
	}
	original := landing.SealedOriginal(object.Name)
	for n := object.Number + 1; ; n++ {
		name := landing.SealedCopy(original, n)
		sealed, err := a.keys.Seal(ctx, envelope.State, name, plain)
		if err != nil {
			return err
		}
		err = a.store.Put(ctx, name, sealed)
		if errors.Is(err, storage.ErrExists) {
			continue // another rotation
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		topic, version := referenceOf(name)
		return a.chain.Append(ctx, audit.Entry{
			Event: audit.Fit, Subject: topic + "@" + version, Object: name, ObjectSHA256: manifest.Digest(sealed),
			Action: "reseal", Result: "ok", Details: map[string]string{"copy_of": object.Name},
		})
	}
}

// referenceOf returns the topic and the version of a reference, as contracts name it, from its object's name.
func referenceOf(name string) (topic, version string) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return name, ""
	}
	topic, err := manifest.Unescape(parts[1])
	if err != nil {
		return parts[1], parts[2]
	}
	return topic, parts[2]
}
