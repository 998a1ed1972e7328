package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

const (
	// checkpointEvery is how long what was written may stay without a signature while a command runs.
	checkpointEvery = 3 * time.Minute
	// checkpointTime bounds one attempt: records must not wait for a signature.
	checkpointTime = 30 * time.Second
	// signingTime bounds it where somebody waits to see rows.
	signingTime = 5 * time.Second
)

// vault seals the zone's signing key with the master key for signing.
type vault struct{ keys *envelope.Keyring }

func (v vault) Seal(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	return v.keys.Seal(ctx, envelope.Signing, name, plaintext)
}

func (v vault) Unseal(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	return v.keys.Unseal(ctx, name, sealed)
}

// checkpoint signs what the audit chains have grown by. What cannot be signed now is signed the next time, or by
// whoever goes on with the chain; it never holds up a record.
func checkpoint(ctx context.Context, c *audit.Checkpoints, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkpointTime)
	defer cancel()
	if err := c.Write(ctx); err != nil {
		log.Warn("the audit log was written, and no checkpoint could be signed; the next one makes up for it", "error", err)
	}
}

// keepCheckpoints signs every few minutes, until stop is called.
func keepCheckpoints(ctx context.Context, c *audit.Checkpoints, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(checkpointEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				checkpoint(ctx, c, log)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// enter writes one entry into the audit log of a landing zone, by a chain of its own, and signs it. Who may decrypt need
// not be able to sign: then somebody else's checkpoint will name the entry, at the latest that of a verification with
// keys.
func enter(ctx context.Context, url string, keys *envelope.Keyring, entry audit.Entry) error {
	store, err := storage.Open(ctx, url)
	if err != nil {
		return fmt.Errorf("the audit log must be written before anything is decrypted: %w", err)
	}
	c := audit.OpenCheckpoints(store, vault{keys}, time.Now)
	if err := audit.OpenProcess(c.Store(), audit.NewProcess(time.Now()), time.Now).Append(ctx, entry); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, signingTime)
	defer cancel()
	_ = c.Write(ctx)
	return nil
}
