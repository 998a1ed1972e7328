package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/storage"
)

// EnterChanges writes the entries of all changes of a partition that have none yet, whichever process made the change
// and whatever became of it. To repeat it is harmless, and so are two who do it at once.
func EnterChanges(ctx context.Context, store Store, source record.Source) error {
	sequence, previous, err := lastChange(ctx, store, source)
	if err != nil {
		return err
	}
	for sequence++; ; sequence++ {
		name := manifest.ChangeName(source, sequence)
		data, err := storage.ReadAll(ctx, store, name, manifest.ChangeLimit)
		if errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		change, err := manifest.DecodeChange(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		entry := forChange(change, manifest.Digest(data), previous)
		text, err := entry.encode()
		if err != nil {
			return err
		}
		if _, err := put(ctx, store, ChangeName(source, sequence), text); err != nil {
			return err
		}
		previous = entry.Digest
	}
}

// lastChange returns the sequence and the digest of the last entry of a partition's changes; -1 and "" without one.
func lastChange(ctx context.Context, store Store, source record.Source) (sequence int64, digest string, err error) {
	last := ""
	for info, err := range store.List(ctx, ChangesFolder+manifest.SourcePath(source)+"/") {
		if err != nil {
			return 0, "", err
		}
		last = info.Name
	}
	if last == "" {
		return -1, "", nil
	}
	data, err := storage.ReadAll(ctx, store, last, entryLimit)
	if err != nil {
		return 0, "", err
	}
	entry, err := Decode(data)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", last, err)
	}
	_, sequence, err = manifest.ParseChangeName(entry.Object)
	if err != nil || ChangeName(source, sequence) != last {
		return 0, "", fmt.Errorf("%w: %s is of another change", ErrForged, last)
	}
	stands(store, last, data)
	return sequence, entry.Digest, nil
}
