package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
)

func newBackfill(c *cli) *cobra.Command {
	var configPath, topic string
	var use config.Use
	var foreign app.Foreign
	command := &cobra.Command{
		Use:   "backfill -c taster.yaml --contract NAME INPUT...",
		Short: "Land files by the same pipeline",
		Long: "backfill lands files as records of a contract's topic: .jsonl, .csv, .tsv and .parquet, plain or .gz or .zst.\n" +
			"Encrypted Parquet of pyarrow, Spark and others is opened by the configuration's keys and by those of --keys.\n" +
			"A file is known by the SHA-256 of its bytes. What has landed of it, under whatever name, is not landed again, and a\n" +
			"backfill that was stopped goes on where it was.",
		Example: "  taster backfill -c taster.yaml --contract reviews 2024.jsonl.zst 2025.jsonl.zst",
		Args:    someInputs,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			return c.withScoring(cmd, configPath, use, func(a *app.App) error {
				contract, err := a.Contract(topic)
				if err != nil {
					return usage("%v", err)
				}
				if err := a.OpenInputs(cmd.Context(), foreign); err != nil {
					return err
				}
				bar := c.progress("landing", -1)
				defer bar.Finish()
				result, err := a.Backfill(cmd.Context(), contract, inputs, bar.Add)
				bar.Finish()
				if err != nil {
					return err
				}
				return c.print(result, func(w io.Writer) {
					for _, input := range result.AlreadyLanded {
						fmt.Fprintf(w, "%s has landed already\n", input)
					}
					fmt.Fprintf(w, "%d records read: %d accepted, %d quarantined, %d rejected; %.0f records/s\n",
						result.Read, result.Accepted, result.Quarantined, result.Rejected, result.RecordsPerSecond)
					fmt.Fprintf(w, "landing zone: %s\n", result.Landing)
				})
			})
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringVar(&topic, "contract", "", "the topic of the contract that the records are under (required)")
	foreignFlags(command, &foreign)
	acceleratorFlag(command, &use)
	return command
}

// foreignFlags are those of commands that read Parquet which others encrypted.
func foreignFlags(command *cobra.Command, foreign *app.Foreign) {
	command.Flags().StringArrayVar(&foreign.Keys, "keys", nil, "a key file, or the URL of a master key, of encrypted Parquet from elsewhere; may be repeated")
	command.Flags().StringVar(&foreign.AADPrefix, "aad-prefix", "", "AAD prefix of encrypted Parquet that does not hold it")
}

// someInputs wants at least one file.
func someInputs(command *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	return usage("%s wants at least one INPUT file; see %s --help", command.CommandPath(), command.CommandPath())
}
