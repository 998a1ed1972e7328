package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/cmd/internal/rows"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/ingest/kafka"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet/modular"
	"github.com/tasterhq/taster/sink/storage"
)

func configFlag(command *cobra.Command, path *string) {
	command.Flags().StringVarP(path, "config", "c", "", "the configuration (required)")
}

// loadConfig reads the configuration that a command cannot do without.
func (c *cli) loadConfig(cmd *cobra.Command, path string) (*config.Config, error) {
	if path == "" {
		return nil, usage("%s needs -c, the configuration; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return c.config(path)
}

// withApp runs work on an open landing zone, and enters its beginning and its end in the audit log.
func (c *cli) withApp(cmd *cobra.Command, configPath string, work func(*app.App) error) error {
	loaded, err := c.loadConfig(cmd, configPath)
	if err != nil {
		return err
	}
	return c.within(cmd, loaded, work)
}

func (c *cli) within(cmd *cobra.Command, loaded *config.Config, work func(*app.App) error) error {
	ctx := cmd.Context()
	a, err := app.Open(ctx, loaded, c.logger(loaded.Log), cmd.Name())
	if err != nil {
		return outcome(err)
	}
	err = work(a)
	return outcome(errors.Join(err, a.Close(ctx, err)))
}

// withScoring is withApp for commands that score, whose flag goes before the configuration.
func (c *cli) withScoring(cmd *cobra.Command, configPath string, use config.Use, work func(*app.App) error) error {
	loaded, err := c.loadConfig(cmd, configPath)
	if err != nil {
		return err
	}
	if use != "" {
		loaded.Accelerator.Use = use
	}
	return c.within(cmd, loaded, work)
}

// outcome gives an error its exit code: what is wrong with the configuration or the keys is 2, what cannot be reached
// is 3.
func outcome(err error) error {
	var exit *exitError
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case errors.Is(err, envelope.ErrWrongKey), errors.Is(err, envelope.ErrNoKey), errors.Is(err, envelope.ErrConfig),
		errors.Is(err, envelope.ErrDenied), errors.Is(err, envelope.ErrDisabled), errors.Is(err, app.ErrReference),
		errors.Is(err, storage.ErrUnusable), errors.Is(err, app.ErrNotFound), errors.Is(err, app.ErrMissing), errors.Is(err, app.ErrColumn), errors.Is(err, kafka.ErrTopicMissing), errors.Is(err, kafka.ErrRefused),
		errors.Is(err, files.ErrUnsupported), errors.Is(err, modular.ErrPrefix), errors.Is(err, envelope.ErrExternal), errors.Is(err, evaluate.ErrNoTruth), errors.Is(err, rows.ErrSchema):
		return &exitError{code: exitUsage, err: err}
	case errors.Is(err, context.Canceled):
		return unreachable(errors.New("stopped before it was done; what has landed stays, and the same command goes on from there"))
	}
	return unreachable(err)
}
