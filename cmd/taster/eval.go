package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/schema/contract"
)

func newEval(c *cli) *cobra.Command {
	var contractPath, truth, reference string
	var failUnder float64
	command := &cobra.Command{
		Use:   "eval --contract FILE --truth /poison [--reference FILE] INPUT...",
		Short: "Tell how well poison would be detected, on records whose truth you know",
		Long: "eval judges records whose truth is known, all as one segment. --truth points at a field that is 1 for poison and 0 for clean\n" +
			"records; it is taken out before anything looks at the record. With --reference, a file of trusted and clean records, they are\n" +
			"judged against it; without, against each other.",
		Example: "  taster eval --contract reviews.yaml --truth /poison --reference clean.jsonl labelled.jsonl",
		Args:    someInputs,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			if contractPath == "" || truth == "" {
				return usage("taster eval needs --contract and --truth; see taster eval --help")
			}
			loaded, faults := contract.Load(contractPath)
			if len(faults) > 0 {
				return faulty("the contract is not good", faults)
			}
			bar := c.progress("judging", -1)
			defer bar.Finish()
			result, err := app.Evaluate(cmd.Context(), loaded, truth, reference, inputs, bar.Add)
			bar.Finish()
			if err != nil {
				return outcome(err)
			}
			if err := c.print(result, func(w io.Writer) { printEval(w, result) }); err != nil {
				return err
			}
			if recall := result.Decision.Recall; failUnder > 0 && (recall == nil || *recall < failUnder) {
				return shown(exitBad)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&contractPath, "contract", "", "the contract of the records (required)")
	flags.StringVar(&truth, "truth", "", "pointer to the field that is 1 for poison, 0 for clean (required)")
	flags.StringVar(&reference, "reference", "", "a file of trusted, clean records of the same contract")
	flags.Float64Var(&failUnder, "fail-under", 0, "exit with 1 when less than this share of the poison is quarantined")
	return command
}

func printEval(w io.Writer, r *evaluate.Result) {
	fmt.Fprintf(w, "%d records judged, %d of them poison; %d more broke the contract\n", r.Rows, r.Poisoned, r.Rejected)
	if r.ReferenceRows > 0 {
		fmt.Fprintf(w, "against a reference of %d rows\n\n", r.ReferenceRows)
	} else {
		fmt.Fprint(w, "against each other, without a reference\n\n")
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tAUROC\taverage precision\trecall at 1 % false alarms\tat 5 %\t")
	fmt.Fprintf(t, "all together\t%s\t%s\t%s\t%s\t\n", figure(r.AUROC), figure(r.AveragePrecision), figure(r.RecallAtFPR1Pct), figure(r.RecallAtFPR5Pct))
	for _, d := range r.Detectors {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\t\n", d.Name, figure(d.AUROC), figure(d.AveragePrecision), figure(d.RecallAtFPR1Pct))
	}
	_ = t.Flush() // to w, whose errors are kept
	fmt.Fprintf(w, "\nAt the contract's budget of %g: %s of the poison quarantined, %s of the clean records; %s of what is quarantined is poison\n",
		r.Budget, figure(r.Decision.Recall), figure(r.Decision.CleanQuarantinedRate), figure(r.Decision.Precision))
}

// figure prints a share; "-" where the data does not define it.
func figure(f *float64) string {
	if f == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *f)
}
