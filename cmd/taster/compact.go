package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/schema/contract/strict"
)

// gracePeriod is for how long a file that counts no longer stays by default: longer than any reader reads.
const gracePeriod = 24 * time.Hour

const graceUsage = "how long files that count no longer stay for readers that began before"

func newCompact(c *cli) *cobra.Command {
	var configPath string
	what := app.Compaction{}
	target := byteSize(128 << 20)
	command := &cobra.Command{
		Use:   "compact -c taster.yaml [--topic T] [--target SIZE] [--before TIME] [--rewrite]",
		Short: "Merge small files into larger ones",
		Long: "compact copies the rows of small files into larger ones and commits the change, which readers follow. Files are merged that\n" +
			"follow on one another in a partition, have one verdict and the same columns, and were committed on the same UTC day. The old\n" +
			"files stay for the grace period; then the next compact or tidy deletes them. Every row is compared with what was committed.\n\n" +
			"It may be stopped or killed at any moment, and run beside taster run and beside itself.\n\n" +
			"--rewrite copies files one to one instead: those that need another master key than the present one of their zone, or whose\n" +
			"key material is not kept where landing.key_material says.",
		Example: "  taster compact -c taster.yaml\n  taster compact -c taster.yaml --topic reviews --target 256MiB --before 6h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if what.Before < 0 || what.Grace < 0 {
				return usage("--before and --grace cannot be negative")
			}
			what.Target = int64(target)
			return c.withApp(cmd, configPath, func(a *app.App) error {
				bar := c.progress("compacting", -1)
				defer bar.Finish()
				done, err := a.Compact(cmd.Context(), what, bar.Add)
				bar.Finish()
				if err != nil {
					return err
				}
				return c.print(done, func(w io.Writer) {
					fmt.Fprintf(w, "%d files merged into %d: %d rows, %s before and %s after\n", done.Merged, done.Into, done.Rows, humanSize(done.BytesBefore), humanSize(done.BytesAfter))
					if done.Deleted > 0 {
						fmt.Fprintf(w, "%d files deleted that count no longer: %s\n", done.Deleted, humanSize(done.DeletedBytes))
					}
				})
			})
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringArrayVar(&what.Topics, "topic", nil, "only this topic; may be repeated")
	command.Flags().Var(&target, "target", "size of the files to make; one of half that size stays as it is")
	command.Flags().DurationVar(&what.Before, "before", time.Hour, "only segments that were committed longer ago")
	command.Flags().BoolVar(&what.All, "all", false, "look at all segments, not only at those since the newest day that was merged")
	command.Flags().BoolVar(&what.Rewrite, "rewrite", false, "copy files one to one under the present keys instead")
	command.Flags().DurationVar(&what.Grace, "grace", gracePeriod, graceUsage)
	return command
}

// humanSize shows a number of bytes to people.
func humanSize(n int64) string {
	for unit := int64(1 << 30); unit > 1; unit >>= 10 {
		if n >= 10*unit {
			return strict.FormatSize(n / unit * unit)
		}
	}
	return strict.FormatSize(n)
}
