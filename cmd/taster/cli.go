package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/progress"
	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/validate"
)

// The exit codes. They are part of the public interface.
const (
	exitGood        = 0
	exitBad         = 1 // the thing checked is not good
	exitUsage       = 2 // usage or configuration
	exitUnreachable = 3 // something that is needed cannot be reached
)

// commands makes every command; each stands in a file of its own.
var commands = []func(*cli) *cobra.Command{
	newBackfill,
	newCat,
	newCheck,
	newCompact,
	newDemo,
	newEval,
	newFit,
	newGPU,
	newKeys,
	newLs,
	newReport,
	newRun,
	newTidy,
	newVerify,
	newVersion,
}

// cli is what the commands share: where they write to, and in which form.
type cli struct {
	stdout io.Writer    // the result and nothing else
	stderr io.Writer    // logs, progress and errors
	output outputFormat // of the result and of errors
}

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &cli{stdout: stdout, stderr: stderr, output: outputIn(args)}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitGood
	}
	var exit *exitError
	if !errors.As(err, &exit) { // cobra's own: commands return nothing else than exit errors
		exit = &exitError{code: exitUsage, err: fmt.Errorf("%w; see %s --help", err, command.CommandPath())}
	}
	c.fail(exit)
	return exit.code
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "taster",
		Short: "Nothing enters training that was not tasted",
		Long: "taster reads Kafka topics and files, checks every record against its contract, cleans it, looks for\n" +
			"poisoning, and writes what may be learned from, and what may not, as encrypted Parquet.\n\n" +
			"Exit codes: 0 good, 1 the thing checked is not good, 2 usage or configuration,\n" +
			"3 something that is needed cannot be reached.",
		Example:       "  taster check --contract reviews.yaml --sample reviews.jsonl",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().VarP(&c.output, "output", "o", "form of the result: text or json")
	root.SetFlagErrorFunc(flagError)
	for _, make := range commands {
		root.AddCommand(make(c))
	}
	group(root)
	root.SetHelpCommand(newHelp(root))
	settle(root)
	return root
}

// settle makes sure that whatever a command's own work returns carries an exit code, so that errors without one are
// cobra's, about usage.
func settle(command *cobra.Command) {
	if work := command.RunE; work != nil {
		command.RunE = func(cmd *cobra.Command, args []string) error {
			err := work(cmd, args)
			var exit *exitError
			if err == nil || errors.As(err, &exit) {
				return err
			}
			return unreachable(err)
		}
	}
	for _, child := range command.Commands() {
		settle(child)
	}
}

// group makes a command that only holds others: alone it is a usage error, and so is an unknown name after it.
func group(command *cobra.Command) *cobra.Command {
	command.Args = cobra.ArbitraryArgs
	command.RunE = func(cmd *cobra.Command, args []string) error {
		var names []string
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		if len(args) == 0 {
			return usage("%s needs a command: one of %s; see %s --help", cmd.CommandPath(), strings.Join(names, ", "),
				cmd.CommandPath())
		}
		return usage("unknown command %s; the nearest command is %q; see %s --help", strict.Quote(args[0]),
			cmd.CommandPath()+" "+strict.Nearest(args[0], names), cmd.CommandPath())
	}
	return command
}

func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about a command",
		Example: "  taster help check",
		RunE: func(_ *cobra.Command, args []string) error {
			command, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return root.RunE(root, args)
			}
			return command.Help()
		},
	}
}

// flagError names the nearest flag beside an unknown one.
func flagError(command *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usage("%v; see %s --help", err, command.CommandPath())
	}
	var names []string
	command.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return usage("unknown flag %s; the nearest flag is --%s; see %s --help",
		strict.Quote("--"+unknown.GetSpecifiedName()), strict.Nearest(unknown.GetSpecifiedName(), names), command.CommandPath())
}

// noArgs refuses arguments of a command that takes flags only.
func noArgs(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage("%s takes no argument, and %s is one; see %s --help", command.CommandPath(), strict.Quote(args[0]),
		command.CommandPath())
}

// exactArgs wants one argument for each of names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usage("%s wants %s, and %d arguments were given; see %s --help", command.CommandPath(),
			strings.Join(names, " "), len(args), command.CommandPath())
	}
}

// outputFormat is the value of -o.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

func (o *outputFormat) String() string { return string(*o) }
func (o *outputFormat) Type() string   { return "text|json" }
func (o *outputFormat) Set(text string) error {
	switch format := outputFormat(text); format {
	case outputText, outputJSON:
		*o = format
		return nil
	}
	return errors.New("want text or json")
}

// outputIn looks for -o before the arguments are parsed, so that an error in parsing them comes in the form that was
// asked for.
func outputIn(args []string) outputFormat {
	format := outputText
	for i, arg := range args {
		value, found := strings.CutPrefix(arg, "--output")
		if !found {
			value, found = strings.CutPrefix(arg, "-o")
		}
		switch {
		case arg == "--":
			return format
		case !found:
			continue
		case value == "" && i+1 < len(args):
			value = args[i+1]
		}
		_ = format.Set(strings.TrimPrefix(value, "=")) // what is wrong with it is told when it is parsed
	}
	return format
}

// print writes the result: doc as one JSON document, or what text writes.
func (c *cli) print(doc any, text func(w io.Writer)) error {
	w := &firstError{w: c.stdout}
	if c.output == outputJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(doc); err != nil {
			return unreachable(fmt.Errorf("standard output: %w", err))
		}
		return nil
	}
	text(w)
	if w.err != nil {
		return unreachable(fmt.Errorf("standard output: %w", w.err))
	}
	return nil
}

// firstError remembers the first error of a writer and writes nothing after it, so that text can be written line by
// line without a look at each.
type firstError struct {
	w   io.Writer
	err error
}

func (f *firstError) Write(p []byte) (int, error) {
	if f.err == nil {
		_, f.err = f.w.Write(p)
	}
	return len(p), f.err
}

// progress begins a bar for a number of records, -1 when it is not known.
func (c *cli) progress(title string, total int64) *progress.Bar {
	return progress.Records(c.stderr, title, total)
}

// logger returns the logger that the configuration asks for.
func (c *cli) logger(l config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.Format == "text" {
		return slog.New(slog.NewTextHandler(c.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(c.stderr, options))
}

// config reads the configuration; its faults end the command with exit code 2.
func (c *cli) config(path string) (*config.Config, error) {
	loaded, faults := config.Load(path)
	if len(faults) > 0 {
		return nil, faulty("the configuration is not good", faults)
	}
	return loaded, nil
}

// exitError ends the process with a code. Every error that a command returns is one.
type exitError struct {
	code     int
	err      error // nil when the result, printed already, says what is wrong
	problems []validate.Fault
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// faulty is a configuration or a contract with faults.
func faulty(what string, faults []validate.Fault) error {
	return &exitError{code: exitUsage, err: errors.New(what), problems: faults}
}

// unreachable is something that is needed and cannot be had: a broker, a file, a disk.
func unreachable(err error) error { return &exitError{code: exitUnreachable, err: err} }

// shown is a bad end of which the result, printed already, says everything.
func shown(code int) error { return &exitError{code: code} }

// fail tells a person, or a script, why the command ends.
func (c *cli) fail(e *exitError) {
	if e.err == nil {
		return
	}
	if c.output == outputJSON {
		problems := e.problems
		if problems == nil {
			problems = []validate.Fault{}
		}
		encoder := json.NewEncoder(c.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(struct { // nobody is left to tell
			Error    string           `json:"error"`
			Problems []validate.Fault `json:"problems"`
		}{e.err.Error(), problems})
		return
	}
	fmt.Fprintf(c.stderr, "taster: %v\n", e.err)
	for _, p := range e.problems {
		fmt.Fprintf(c.stderr, "  %v [%s]\n", p, p.Code)
	}
}
