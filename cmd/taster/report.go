package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/sink/report"
)

func newReport(c *cli) *cobra.Command {
	var configPath string
	var limit int
	var page string
	var recalls bool
	command := &cobra.Command{
		Use:   "report -c taster.yaml LANDING",
		Short: "Show flagged records, risk, reasons and what to do",
		Long: "report reads a landing zone and shows risk by segment and by provider, the records that were flagged with the detectors\n" +
			"that fired, their evidence and their nearest neighbours, what was rejected and why, and what to do about each kind of attack.\n\n" +
			"--html writes the same as one page that needs nothing beside it: no server, no network, no script to be readable.\n\n" +
			"Evidence and excerpts quote records, so the keys are needed; the reading is entered in the audit log. The page is plain:\n" +
			"keep it where plain data may be.\n\n" +
			"--recalls lists, and does nothing else, the records that were accepted and that later ones speak against, by id and\n" +
			"offset. They stay in the accepted files; what to do with them is for whoever trains on these to decide.",
		Example: "  taster report -c taster.yaml landing\n  taster report -c taster.yaml landing --html report.html\n  taster report -c taster.yaml landing --recalls\n" +
			"  taster report -c taster.yaml landing -o json",
		Args: exactArgs("LANDING"),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := c.loadConfig(cmd, configPath)
			if err != nil {
				return err
			}
			if recalls {
				if page != "" {
					return usage("--recalls is a list of its own; the page of --html has the recalls as well")
				}
				found, err := app.Recalls(cmd.Context(), loaded, args[0])
				if err != nil {
					return outcome(err)
				}
				return printText(c, found)
			}
			if limit == 0 && c.output != outputJSON {
				limit = listed // neither the text nor the page shows more
			}
			bar := c.progress("reading", -1)
			defer bar.Finish()
			found, err := app.Report(cmd.Context(), loaded, args[0], app.ReportOptions{Limit: limit, Explain: true}, bar.Add)
			bar.Finish()
			if err != nil {
				return outcome(err)
			}
			if page != "" {
				if err := writePage(page, found); err != nil {
					return unreachable(err)
				}
			}
			return printText(c, found)
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringVar(&page, "html", "", "also write one page of HTML to this file")
	command.Flags().BoolVar(&recalls, "recalls", false, "only list the records that were accepted and are recalled")
	command.Flags().IntVar(&limit, "limit", 0, "list at most so many flagged and so many rejected records; 0: all")
	return command
}

// printText prints what writes itself as text, or as JSON.
func printText(c *cli, found interface{ Text(io.Writer) error }) error {
	var failed error
	if err := c.print(found, func(w io.Writer) { failed = found.Text(w) }); err != nil {
		return err
	}
	return failed
}

// listed bounds what is kept in memory of a report for people, who read the riskiest.
const listed = 2000

// writePage puts the page in its place at once, for the eyes of who ran the command: it quotes records.
func writePage(path string, r *report.Report) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = r.HTML(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // it holds half a page at most
	}
	return err
}
