package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
)

func newRun(c *cli) *cobra.Command {
	var configPath string
	var use config.Use
	command := &cobra.Command{
		Use:   "run -c taster.yaml",
		Short: "Consume the contracts' topics until stopped",
		Long: "run consumes every contract's topic as a member of the configured consumer group, judges the records and lands\n" +
			"them. SIGTERM ends it: what is open is landed and committed first. kill -9 loses nothing either.\n\n" +
			"It serves /metrics, /healthz and /readyz on the configured address.",
		Example: "  taster run -c taster.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withScoring(cmd, configPath, use, func(a *app.App) error {
				err := a.Run(cmd.Context(), nil)
				if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
					return nil // it was told to stop before it had begun to consume
				}
				return err
			})
		},
	}
	configFlag(command, &configPath)
	acceleratorFlag(command, &use)
	return command
}
