package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/check"
	"github.com/tasterhq/taster/cmd/internal/progress"
)

func newCheck(c *cli) *cobra.Command {
	var configPath, contractPath string
	var samples []string
	command := &cobra.Command{
		Use:   "check -c taster.yaml | --contract FILE [--sample FILE]...",
		Short: "Look for faults in a configuration or a contract, and try sample records",
		Long: "check reads a configuration with all its contracts, or one contract alone, and lists every fault with its\n" +
			"line, and what of a schema is checked more slowly because it cannot be compiled. With --sample it also tries\n" +
			"records against the contract and lists each that would be rejected, by line, field and reason code. A provider\n" +
			"needs only the contract.\n\n" +
			"It exits with 1 when a sample record would be rejected, 2 when the configuration or the contract has a fault,\n" +
			"3 when a sample cannot be read.",
		Example: "  taster check -c taster.yaml\n" +
			"  taster check --contract reviews.yaml --sample reviews.jsonl -o json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report *check.Report
			switch {
			case (configPath == "") == (contractPath == ""):
				return usage("give one of -c and --contract; see taster check --help")
			case configPath != "" && len(samples) > 0:
				return usage("--sample goes with --contract: it is tried against that one contract")
			case configPath != "":
				report = check.Config(cmd.Context(), configPath)
			default:
				bar := progress.Bytes(c.stderr, "trying samples", size(samples))
				defer bar.Finish()
				var err error
				report, err = check.Contract(cmd.Context(), contractPath, samples, bar.Add)
				if err != nil {
					return outcome(err)
				}
				bar.Finish()
			}
			if err := c.print(report, func(w io.Writer) { printCheck(w, report) }); err != nil {
				return err
			}
			switch {
			case report.Unreadable:
				return shown(exitUsage)
			case !report.OK:
				return shown(exitBad)
			}
			return nil
		},
	}
	command.Flags().StringVarP(&configPath, "config", "c", "", "the configuration")
	command.Flags().StringVar(&contractPath, "contract", "", "a contract, instead of a configuration")
	command.Flags().StringArrayVar(&samples, "sample", nil, "a file of records, of any form that backfill reads; may be repeated")
	return command
}

func printCheck(w io.Writer, r *check.Report) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%v [%s]\n", p, p.Code)
	}
	if r.NotListed > 0 {
		fmt.Fprintf(w, "and %d more\n", r.NotListed)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %v\n", n)
	}
	for _, s := range r.Schemas {
		if r.Read > 0 { // a provider tries records; how they are checked is the owner's business
			break
		}
		if s.Compiled {
			fmt.Fprintf(w, "%s: %s is compiled whole\n", s.Topic, s.File)
			continue
		}
		fmt.Fprintf(w, "%s: %s is not compiled whole; jsonschema/v5, which is slower, checks\n", s.Topic, s.File)
		for _, gap := range s.Left {
			what := "that place"
			if gap.Record {
				what = "every record, because of it"
			}
			fmt.Fprintf(w, "  %v: %s\n", gap, what)
		}
	}
	if r.Read > 0 {
		fmt.Fprintf(w, "%d records read, %d accepted, %d rejected\n", r.Read, r.Accepted, r.Rejected)
	}
	if r.OK {
		fmt.Fprintln(w, "good")
	}
}

// size returns the size of the files together, -1 when one of them does not tell.
func size(files []string) int64 {
	var total int64
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		total += info.Size()
	}
	return total
}
