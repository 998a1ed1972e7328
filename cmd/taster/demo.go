package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/demo"
)

func newDemo(c *cli) *cobra.Command {
	options := demo.Options{}
	command := &cobra.Command{
		Use:   "demo [--landing DIR] [--records N] [--seed N]",
		Short: "See it work: embedded broker, traffic with planted poison, the whole pipeline",
		Long: "demo starts an embedded broker, makes a reference from trusted history, publishes product reviews with five planted\n" +
			"attacks and broken records among them, tastes them exactly as run does, and then reads the landing zone back and counts.\n" +
			"The traffic follows from the seed.",
		Example: "  taster demo\n  taster demo --landing landing --records 200000 -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const fewest = 1000
			if options.Records < fewest {
				return usage("--records %d: an attack needs some traffic to hide in; want at least %d", options.Records, fewest)
			}
			bar := c.progress("tasting", int64(options.Records))
			defer bar.Finish()
			options.Progress = bar.Add
			options.Log = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			result, err := demo.Run(cmd.Context(), options)
			bar.Finish()
			if errors.Is(err, demo.ErrNotEmpty) {
				return usage("%v", err)
			}
			if err != nil {
				return outcome(err)
			}
			if err := c.print(result, func(w io.Writer) { printDemo(w, result) }); err != nil {
				return err
			}
			if result.Lost > 0 || result.Duplicated > 0 {
				return shown(exitBad)
			}
			return nil
		},
	}
	flags := command.Flags()
	acceleratorFlag(command, &options.Accelerator)
	flags.StringVar(&options.Landing, "landing", "", "the landing zone, a folder that is empty or not there (default: a temporary one)")
	flags.IntVar(&options.Records, "records", 60_000, "how many records to publish")
	flags.Uint64Var(&options.Seed, "seed", 1, "what the traffic is made from")
	return command
}

func printDemo(w io.Writer, r *demo.Result) {
	fmt.Fprintf(w, "%d records published, %d accepted, %d quarantined, %d rejected; %d lost, %d doubled; %.0f records/s\n\n",
		r.Published, r.Accepted, r.Quarantined, r.Rejected, r.Lost, r.Duplicated, r.RecordsPerSecond)
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "WHAT WAS PLANTED\tRECORDS\tCAUGHT")
	for _, a := range r.Attacks {
		fmt.Fprintf(t, "%s\t%d\t%d, quarantined\n", a.Name, a.Planted, a.Quarantined)
	}
	fmt.Fprintf(t, "broken records\t%d\t%d, rejected for the right reason\n", r.Broken, r.BrokenRejected)
	fmt.Fprintf(t, "nothing: clean records\t%d\t%d false alarms (%.2f %%)\n", r.Clean, r.CleanQuarantined, 100*float64(r.CleanQuarantined)/float64(max(r.Clean, 1)))
	_ = t.Flush() // to w, whose errors are kept
	if r.Recalled > 0 {
		fmt.Fprintf(w, "\n%d records that had been accepted are recalled: what came later speaks against them.\n  taster report -c %s %s --recalls\n", r.Recalled, r.Config, r.Landing)
	}
	if e := r.Example; e != nil {
		fmt.Fprintf(w, "\nONE FINDING, EXPLAINED\nRecord %s of %s (a %s, in truth) has risk %.4f, for %v:\n", e.ID, e.Provider, e.Kind, e.Risk, e.Reasons)
		for _, f := range e.Findings {
			fmt.Fprintf(w, "  %s: score %.4g; a clean record scores that high with p = %.2g\n    %s\n", f.Detector, f.Score, f.PValue, f.Evidence)
		}
	}
	fmt.Fprintf(w, "\nWHERE IT IS\nlanding zone:  %s\nconfiguration: %s (keys, contract and schema beside it)\n", r.Landing, r.Config)
	fmt.Fprintf(w, "\nTRY NEXT\n  taster report -c %s %s\n  taster verify -c %s %s\n  taster cat -c %s %s --verdict quarantined\n",
		r.Config, r.Landing, r.Config, r.Landing, r.Config, r.Landing)
}
