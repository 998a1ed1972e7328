package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
)

func newReport(c *cli) *cobra.Command {
	var configPath string
	var limit int
	command := &cobra.Command{
		Use:   "report -c taster.yaml LANDING",
		Short: "Show flagged records, risk, reasons and what to do",
		Long: "report reads a landing zone and shows risk by segment and by provider, the records that were flagged with the detectors\n" +
			"that fired and their evidence, what was rejected and why, and what to do about each kind of attack.\n\n" +
			"Evidence quotes records, so the keys are needed; the reading is entered in the audit log.",
		Example: "  taster report -c taster.yaml landing\n  taster report -c taster.yaml landing -o json",
		Args:    exactArgs("LANDING"),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := c.loadConfig(cmd, configPath)
			if err != nil {
				return err
			}
			bar := c.progress("reading", -1)
			defer bar.Finish()
			report, err := app.Report(cmd.Context(), loaded, args[0], app.ReportOptions{Limit: limit, Explain: true}, bar.Add)
			bar.Finish()
			if err != nil {
				return outcome(err)
			}
			var failed error
			if err := c.print(report, func(w io.Writer) { failed = report.Text(w) }); err != nil {
				return err
			}
			return failed
		},
	}
	configFlag(command, &configPath)
	command.Flags().IntVar(&limit, "limit", 0, "list at most so many flagged and so many rejected records; 0: all")
	return command
}
