package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
)

func newFit(c *cli) *cobra.Command {
	var configPath, topic string
	var foreign app.Foreign
	command := &cobra.Command{
		Use:   "fit -c taster.yaml --contract NAME INPUT...",
		Short: "Make a trusted reference from files that you trust",
		Long: "fit draws a uniform sample of at most 10,000 rows from trusted files and keeps it, encrypted, in the landing zone, under\n" +
			"the next version. A contract names it: detect: {reference: reviews@latest}. Records that break the contract are left out.",
		Example: "  taster fit -c taster.yaml --contract reviews history.jsonl",
		Args:    someInputs,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			return c.withApp(cmd, configPath, func(a *app.App) error {
				contract, err := a.Contract(topic)
				if err != nil {
					return usage("%v", err)
				}
				if err := a.OpenInputs(cmd.Context(), foreign); err != nil {
					return err
				}
				bar := c.progress("reading", -1)
				defer bar.Finish()
				result, err := a.Fit(cmd.Context(), contract, inputs, bar.Add)
				bar.Finish()
				if err != nil {
					return err
				}
				return c.print(result, func(w io.Writer) {
					fmt.Fprintf(w, "%s: %d rows of %d records read, %d left out because they break the contract\n", result.Reference, result.Rows, result.Read, result.Rejected)
					fmt.Fprintf(w, "name it in the contract: detect: {reference: %s}\n", result.Reference)
				})
			})
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringVar(&topic, "contract", "", "the topic of the contract that the records are under (required)")
	foreignFlags(command, &foreign)
	return command
}
