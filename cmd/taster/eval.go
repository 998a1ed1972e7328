package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/attack"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/schema/contract"
)

func newEval(c *cli) *cobra.Command {
	var e evalFlags
	command := &cobra.Command{
		Use:   "eval --contract FILE (--truth /poison | --attack NAME,...) [--reference FILE] INPUT...",
		Short: "Tell how well poison would be detected, on records whose truth you know or on attacks that it plants",
		Long: "eval judges records and tells how much poison among them would be found, and at how many false alarms.\n\n" +
			"--truth points at a field that is 1 for poison and 0 for clean records; it is taken out before anything looks at the record,\n" +
			"and all records are one segment. --attack plants attacks in clean records of yours instead, one after the other, before they\n" +
			"are decoded and cleaned; a planted record takes the place of a clean one. With --reference, a file of trusted and clean\n" +
			"records, they are judged against it; without, against each other. Records and reference are held in memory.\n\n" + attackHelp(),
		Example: "  taster eval --contract reviews.yaml --truth /poison --reference clean.jsonl labelled.jsonl\n" +
			"  taster eval --contract reviews.yaml --attack badnets,syntactic,drift --rate 0.1,1,5 --reference clean.jsonl reviews.jsonl",
		Args: someInputs,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			switch {
			case e.contract == "" || e.truth == "" && len(e.attacks) == 0:
				return usage("taster eval needs --contract and --truth, or --attack; see taster eval --help")
			case e.truth != "" && len(e.attacks) > 0:
				return usage("--truth and --attack exclude each other: attacks are planted in clean records; see taster eval --help")
			case e.truth != "" && (cmd.Flags().Changed("rate") || cmd.Flags().Changed("seed")):
				return usage("--rate and --seed go with --attack; see taster eval --help")
			}
			loaded, faults := contract.Load(e.contract)
			if len(faults) > 0 {
				return faulty("the contract is not good", faults)
			}
			log := slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			on, _, err := app.OpenAccelerator(config.Accelerator{Use: e.use}, app.LogLosses(log))
			if err != nil {
				return outcome(err)
			}
			defer on.Close()
			if len(e.attacks) > 0 {
				return e.plant(cmd.Context(), c, loaded, inputs, on)
			}
			return e.compare(cmd.Context(), c, loaded, inputs, on)
		},
	}
	flags := command.Flags()
	acceleratorFlag(command, &e.use)
	flags.StringVar(&e.contract, "contract", "", "the contract of the records (required)")
	flags.StringVar(&e.truth, "truth", "", "pointer to the field that is 1 for poison, 0 for clean")
	flags.StringSliceVar(&e.attacks, "attack", nil, "attacks to plant, by name, or all")
	e.rates = percents{1}
	flags.Var(&e.rates, "rate", "how much to plant, in per cent of all records, at most 50")
	flags.Uint64Var(&e.seed, "seed", 0, "another seed plants in other records, with other words and directions")
	flags.StringVar(&e.reference, "reference", "", "a file of trusted, clean records of the same contract")
	flags.Float64Var(&e.failUnder, "fail-under", 0, "exit with 1 when less than this share of the poison, or of any attack, is caught")
	return command
}

// attackHelp is the table of attacks.
func attackHelp() string {
	var b strings.Builder
	b.WriteString("Attacks:\n")
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, a := range attack.All {
		fmt.Fprintf(t, "  %s\t%s\n", a.Name, a.Summary)
	}
	_ = t.Flush() // to memory
	b.WriteString("docs/DETECTION.md says what each does to a record.")
	return b.String()
}

type evalFlags struct {
	use                        config.Use
	contract, truth, reference string
	attacks                    []string
	rates                      percents
	seed                       uint64
	failUnder                  float64
}

// percents is a flag for shares in per cent, with commas between them.
type percents []float64

func (p *percents) String() string {
	var texts []string
	for _, one := range *p {
		texts = append(texts, strconv.FormatFloat(one, 'g', -1, 64))
	}
	return strings.Join(texts, ",")
}
func (p *percents) Type() string { return "percent,..." }
func (p *percents) Set(text string) error {
	*p = nil
	for word := range strings.SplitSeq(text, ",") {
		one, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
		if err != nil || !(one > 0 && one <= 50) {
			return errors.New("want per cent of all records, each more than 0 and at most 50, such as 0.1,1,5")
		}
		*p = append(*p, one)
	}
	return nil
}

// compare judges records whose truth is known.
func (e *evalFlags) compare(ctx context.Context, c *cli, loaded *contract.Contract, inputs []string, on *app.Accelerator) error {
	bar := c.progress("judging", -1)
	defer bar.Finish()
	result, err := app.Evaluate(ctx, loaded, e.truth, e.reference, inputs, on, bar.Add)
	bar.Finish()
	if err != nil {
		return outcome(err)
	}
	if err := c.print(result, func(w io.Writer) { printEval(w, result) }); err != nil {
		return err
	}
	if recall := result.Decision.Recall; e.failUnder > 0 && (recall == nil || *recall < e.failUnder) {
		return shown(exitBad)
	}
	return nil
}

// plant judges clean records with attacks among them.
func (e *evalFlags) plant(ctx context.Context, c *cli, loaded *contract.Contract, inputs []string, on *app.Accelerator) error {
	if slices.Equal(e.attacks, []string{"all"}) {
		e.attacks = attack.Names()
	}
	attacks, err := attack.Find(e.attacks)
	if err != nil {
		return usage("--attack: %v; see taster eval --help", err)
	}
	judged := 0
	bar := c.progress("judging streams", -1)
	defer bar.Finish()
	result, err := app.EvaluateAttacks(ctx, loaded, app.Attacks{Attacks: attacks, Rates: e.rates, Seed: e.seed}, e.reference, inputs, on,
		func(done, _ int) { bar.Add(int64(done - judged)); judged = done })
	bar.Finish()
	if errors.Is(err, evaluate.ErrNoRecords) {
		return usage("%v", err)
	}
	if err != nil {
		return outcome(err)
	}
	if err := c.print(result, func(w io.Writer) { printAttacks(w, result) }); err != nil {
		return err
	}
	for _, a := range result.Attacks {
		if e.failUnder > 0 && *a.Recall < e.failUnder {
			return shown(exitBad)
		}
	}
	if e.failUnder > 0 && len(result.Attacks) == 0 {
		return shown(exitBad)
	}
	return nil
}

func printAttacks(w io.Writer, r *evaluate.AttackResult) {
	fmt.Fprintf(w, "%d clean records judged, %d more broke the contract; ", r.Rows, r.Refused)
	if r.ReferenceRows > 0 {
		fmt.Fprintf(w, "against a reference of %d rows\n", r.ReferenceRows)
	} else {
		fmt.Fprint(w, "against each other, without a reference\n")
	}
	fmt.Fprintf(w, "With nothing planted %s of them are quarantined at the contract's budget of %g, and %d are rejected.\n",
		figure(r.Clean.QuarantinedRate), r.Budget, r.Clean.Rejected)
	if r.Clean.InSegments != nil {
		fmt.Fprintf(w, "In the segments in which attacks over time are judged %s are quarantined.\n", figure(r.Clean.InSegments))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "attack\trate %\tplanted\tcaught\trecall\tat 1 % false alarms\tAUROC\tclean quarantined\tfirst caught after\tmost caught after\t")
	for _, a := range r.Attacks {
		fmt.Fprintf(t, "%s %s\t%.4g\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", a.Name, a.Variant, a.Rate, a.Planted, a.Caught, figure(a.Recall),
			figure(a.RecallAtFPR1Pct), figure(a.AUROC), figure(a.CleanQuarantinedRate), position(a.FirstCaughtAfter), position(a.MostCaughtAfter))
	}
	_ = t.Flush() // to w, whose errors are kept
	blank := "\n"
	for _, a := range r.Attacks {
		if a.Neutralised != nil {
			fmt.Fprintf(w, "%s%s %s at %.4g %%: hidden characters were taken out of %d of %d planted records before anything was landed\n",
				blank, a.Name, a.Variant, a.Rate, *a.Neutralised, a.Planted)
			blank = ""
		}
	}
	for i, n := range r.NotRun {
		if i == 0 {
			fmt.Fprintln(w)
		}
		rate := ""
		if n.Rate > 0 {
			rate = fmt.Sprintf(" at %.4g %%", n.Rate)
		}
		fmt.Fprintf(w, "not run: %s %s%s: %s\n", n.Name, n.Variant, rate, n.Why)
	}
}

// position prints a number of records; "never" where nothing happened.
func position(n *int) string {
	if n == nil {
		return "never"
	}
	return strconv.Itoa(*n)
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
