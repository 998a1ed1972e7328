package main

import (
	"bufio"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/rows"
)

func newCat(c *cli) *cobra.Command {
	var configPath, format string
	var selection app.Selection
	var chosen verdicts
	var since, until moment
	var at offsets
	var partition int32
	var foreign app.Foreign
	command := &cobra.Command{
		Use:   "cat -c taster.yaml LANDING|FILE [--verdict V] [--format F]",
		Short: "Print decrypted rows, for who holds the keys",
		Long: "cat prints the committed rows of a landing zone, or the rows of one of its files: the record's own fields and the taster_\n" +
			"columns. The reading is entered in the audit log. A FILE from elsewhere may be any Parquet, plain or encrypted by pyarrow,\n" +
			"Spark and others. Formats, whatever -o says:\n" +
			"  jsonl    one JSON object a line; taster_raw and other bytes are base64\n" +
			"  csv      with a header; lists and structs are JSON text, bytes base64, a null is an empty cell and an empty text is \"\"\n" +
			"  parquet  a plain copy, not encrypted, of the same columns and types\n" +
			"  arrow    an Arrow IPC stream of the same columns and types\n" +
			"All but jsonl have one schema: they take one topic, and rejected rows, which have other columns, only alone. A column that\n" +
			"some files do not have yet is null in their rows.",
		Example: "  taster cat -c taster.yaml landing --verdict accepted > accepted.jsonl\n" +
			"  taster cat -c taster.yaml landing --verdict accepted --format parquet > accepted.parquet",
		Args: exactArgs("LANDING|FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			selection.Verdicts, selection.Since, selection.Until, selection.First, selection.Next = chosen, since.Time, until.Time, at.first, at.next
			if partition >= 0 {
				selection.Partition = &partition
			}
			if selection.Limit < 0 {
				return usage("--limit cannot be negative")
			}
			as, err := rows.ParseFormat(format)
			if err != nil {
				return usage("--format: %v", err)
			}
			if as.Binary() && isTerminal(c.stdout) {
				return usage("%s is not for a terminal: send it to a file or another program, as in taster cat … --format %s > rows.%s", as, as, as)
			}
			loaded, err := c.loadConfig(cmd, configPath)
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(c.stdout, 1<<16)
			if err := app.Cat(cmd.Context(), loaded, args[0], foreign, selection, as, out); err != nil {
				_ = out.Flush() // the rows before the fault are good
				return outcome(err)
			}
			return outcome(out.Flush())
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringArrayVar(&selection.Topics, "topic", nil, "only this topic; may be repeated")
	command.Flags().Var(&chosen, "verdict", "only accepted, quarantined or rejected; may be repeated")
	command.Flags().StringArrayVar(&selection.Providers, "provider", nil, "only this provider; may be repeated")
	command.Flags().Var(&since, "since", "only records with this timestamp or a later one")
	command.Flags().Var(&until, "until", "only records with an earlier timestamp")
	command.Flags().Int32Var(&partition, "partition", -1, "only this partition; -1 for all")
	command.Flags().Var(&at, "offset", "only this offset, or FROM:TO, where TO is the first too high and either may be left out")
	command.Flags().StringSliceVar(&selection.Columns, "columns", nil, "only these columns, in this order")
	command.Flags().Int64Var(&selection.Limit, "limit", 0, "at most so many rows; 0 for all")
	command.Flags().StringVar(&format, "format", string(rows.JSONL), "jsonl, csv, parquet or arrow")
	foreignFlags(command, &foreign)
	return command
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
