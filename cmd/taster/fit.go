package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
)

func newFit(c *cli) *cobra.Command {
	var configPath, topic string
	var use config.Use
	var foreign app.Foreign
	var options app.FitOptions
	command := &cobra.Command{
		Use:   "fit -c taster.yaml --contract NAME INPUT...",
		Short: "Make a trusted reference from files that you trust",
		Long: "fit draws a uniform sample of at most 10,000 rows from trusted files and keeps it, encrypted, in the landing zone, under\n" +
			"the next version. A contract names it: detect: {reference: reviews@latest}. Records that break the contract are left out.\n\n" +
			"--against compares the new reference with an earlier one: what has moved, role by role, and how many of the new rows the\n" +
			"earlier one would quarantine. More than the budget means that the data has changed, or that the files are not to be trusted.",
		Example: "  taster fit -c taster.yaml --contract reviews history.jsonl\n" +
			"  taster fit -c taster.yaml --contract reviews --against reviews@latest --dry-run october.jsonl",
		Args: someInputs,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			return c.withScoring(cmd, configPath, use, func(a *app.App) error {
				contract, err := a.Contract(topic)
				if err != nil {
					return usage("%v", err)
				}
				if err := a.OpenInputs(cmd.Context(), foreign); err != nil {
					return err
				}
				bar := c.progress("reading", -1)
				defer bar.Finish()
				result, err := a.Fit(cmd.Context(), contract, inputs, options, bar.Add)
				bar.Finish()
				if err != nil {
					return err
				}
				return c.print(result, func(w io.Writer) {
					name := result.Reference
					if options.DryRun {
						name = "not kept (--dry-run)"
					}
					fmt.Fprintf(w, "%s: %d rows of %d records read, %d left out because they break the contract\n", name, result.Rows, result.Read, result.Rejected)
					if result.Against != nil {
						printComparison(w, result.Against)
					}
					if !options.DryRun {
						fmt.Fprintf(w, "name it in the contract: detect: {reference: %s}\n", result.Reference)
					}
				})
			})
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringVar(&topic, "contract", "", "the topic of the contract that the records are under (required)")
	command.Flags().StringVar(&options.Against, "against", "", "an earlier reference to compare with, like reviews@3 or reviews@latest")
	command.Flags().BoolVar(&options.DryRun, "dry-run", false, "read and compare, and keep nothing")
	foreignFlags(command, &foreign)
	acceleratorFlag(command, &use)
	return command
}

func printComparison(w io.Writer, c *app.Comparison) {
	fmt.Fprintf(w, "against %s (%d rows): it would quarantine %d rows, %.2f %%, at a budget of %.2f %%", c.Reference, c.Rows, c.Flagged, 100*c.Share, 100*c.Budget)
	if c.Expected {
		fmt.Fprintln(w, ": as expected of data that has not changed")
	} else {
		fmt.Fprintln(w, ": more than expected; look at why before a contract names the new one")
	}
	for _, code := range slices.Sorted(maps.Keys(c.Reasons)) {
		fmt.Fprintf(w, "  %-24s %d rows\n", code, c.Reasons[code])
	}
	fmt.Fprintf(w, "  %-28s %-16s %9s %9s\n", "what", "measure", "distance", "p-value")
	for _, d := range c.Differences {
		what := d.Role
		if d.Field != "" {
			what += " " + d.Field
		}
		fmt.Fprintf(w, "  %-28s %-16s %9.3f %9.2g\n", what, d.Measure, d.Statistic, d.PValue)
	}
}
