package app

import (
	"context"
	"time"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
)

// keyPatience is how long a command that somebody waits for asks a key service that does not answer. What consumes a
// stream asks for ever.
const keyPatience = 30 * time.Second

// openKeys opens the master keys that the configuration names, former ones included.
func openKeys(ctx context.Context, c *config.Config, limits envelope.Limits) (*envelope.Keyring, error) {
	return envelope.Settings{Zones: c.Keys, Previous: c.Previous, Limits: limits, Services: kms.Open}.Open(ctx)
}
