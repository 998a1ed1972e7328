package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
)

func newTidy(c *cli) *cobra.Command {
	var configPath string
	var grace time.Duration
	var dry bool
	command := &cobra.Command{
		Use:   "tidy -c taster.yaml [--dry-run] [--grace TIME]",
		Short: "Apply the rules of retention, and delete what counts no longer",
		Long: "tidy lets files count no longer whose time is over by the rules of retention in the configuration, and deletes, with their key\n" +
			"material: files that ceased to count before the grace period, and files that never counted because their writer died. Nothing\n" +
			"that counts is deleted without a rule. Every change and every deletion is entered in the audit log.\n\n" +
			"It may be stopped or killed at any moment, and run beside everything else. --dry-run only tells what it would do.",
		Example: "  taster tidy -c taster.yaml --dry-run\n  taster tidy -c taster.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace < 0 {
				return usage("--grace cannot be negative")
			}
			return c.withApp(cmd, configPath, func(a *app.App) error {
				done, err := a.Tidy(cmd.Context(), grace, dry)
				if err != nil {
					return err
				}
				return c.print(done, func(w io.Writer) {
					did := func(does, would string) string {
						if dry {
							return would
						}
						return does
					}
					fmt.Fprintf(w, "retention: %d files with %d rows %s: %s\n", done.Retained.Files, done.Retained.Rows, did("count no longer", "would count no longer"), humanSize(done.Retained.Bytes))
					fmt.Fprintf(w, "superseded: %d files %s: %s\n", done.Superseded.Files, did("deleted", "would be deleted"), humanSize(done.Superseded.Bytes))
					fmt.Fprintf(w, "states: %d objects %s that newer ones have taken the place of: %s\n", done.States.Files, did("deleted", "would be deleted"), humanSize(done.States.Bytes))
					fmt.Fprintf(w, "orphans: %d files %s: %s\n", done.Orphans.Files, did("deleted", "would be deleted"), humanSize(done.Orphans.Bytes))
					if len(done.WithoutContract) > 0 {
						fmt.Fprintf(w, "left alone, since no contract tells how sensitive they are: %s\n", strings.Join(done.WithoutContract, ", "))
					}
				})
			})
		},
	}
	configFlag(command, &configPath)
	command.Flags().BoolVar(&dry, "dry-run", false, "change nothing, only tell")
	command.Flags().DurationVar(&grace, "grace", gracePeriod, graceUsage)
	return command
}
