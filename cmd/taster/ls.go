package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
)

func newLs(c *cli) *cobra.Command {
	var configPath, format string
	var files app.Files
	var chosen verdicts
	var since, until moment
	command := &cobra.Command{
		Use:   "ls LANDING | ls -c taster.yaml",
		Short: "List the files that count, without any key",
		Long: "ls lists the files of a landing zone that count, as its manifests and the changes to them tell: what is merged, retained and\n" +
			"rotated is followed, and a file that only lies there is not listed. It needs no key and writes nothing.\n\n" +
			"--format paths prints one absolute path, or URL, a line, for other engines. --since and --until choose by when the youngest\n" +
			"rows of a file were committed. Providers stand in the rows only: see taster cat --provider.",
		Example: "  taster ls landing --topic reviews --verdict accepted\n" +
			"  taster ls landing --verdict accepted --format paths > accepted.txt\n" +
			"  taster ls -c taster.yaml --since 2026-01-01 -o json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "table" && format != "paths" {
				return usage("--format: want table or paths")
			}
			var landing string
			switch {
			case len(args) == 1:
				landing = args[0]
			case configPath != "":
				loaded, err := c.config(configPath)
				if err != nil {
					return err
				}
				landing = loaded.Landing.URL
			default:
				return usage("%s wants LANDING, or -c, the configuration that names it; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			files.Verdicts, files.Since, files.Until = chosen, since.Time, until.Time
			if c.output == outputJSON {
				doc := struct {
					Files []app.Listed `json:"files"`
				}{Files: []app.Listed{}}
				if err := app.List(cmd.Context(), landing, files, func(f app.Listed) error {
					doc.Files = append(doc.Files, f)
					return nil
				}); err != nil {
					return outcome(err)
				}
				return c.print(doc, nil)
			}
			out := bufio.NewWriter(c.stdout)
			err := app.List(cmd.Context(), landing, files, lister(out, format == "paths"))
			return outcome(errors.Join(err, out.Flush()))
		},
	}
	configFlag(command, &configPath)
	command.Flags().Lookup("config").Usage = "the configuration, in the place of LANDING"
	command.Flags().StringVar(&format, "format", "table", "table or paths; see also -o json")
	command.Flags().StringArrayVar(&files.Topics, "topic", nil, "only this topic; may be repeated")
	command.Flags().Var(&chosen, "verdict", "only accepted, quarantined or rejected; may be repeated")
	command.Flags().Var(&since, "since", "only files with rows that were committed then or later")
	command.Flags().Var(&until, "until", "only files whose rows were all committed before")
	return command
}

// lister writes files line by line, as they are found.
func lister(w io.Writer, paths bool) func(app.Listed) error {
	if paths {
		return func(f app.Listed) error {
			_, err := fmt.Fprintln(w, f.Path)
			return err
		}
	}
	header := true
	return func(f app.Listed) error {
		if header {
			header = false
			fmt.Fprintf(w, "%-11s %10s %12s %-20s %22s  %s\n", "VERDICT", "ROWS", "BYTES", "COMMITTED", "OFFSETS", "NAME")
		}
		_, err := fmt.Fprintf(w, "%-11s %10d %12d %-20s %22s  %s\n", f.Verdict, f.Rows, f.Bytes,
			time.UnixMilli(int64(f.Committed)).UTC().Format(time.RFC3339), fmt.Sprintf("%d-%d", f.First, f.Next), f.Name)
		return err
	}
}
