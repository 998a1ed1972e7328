package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/progress"
	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/sink/envelope"
)

func newKeys(c *cli) *cobra.Command {
	command := group(&cobra.Command{
		Use:   "keys",
		Short: "Make a local key file, tell which master keys are needed, change them",
		Long: "keys makes and describes local key files, which are for trying taster out and for places without a key\n" +
			"service: a configuration with production: true refuses them. It tells which master keys a landing zone needs,\n" +
			"and wraps what stands under former ones under the present ones.",
		Example: "  taster keys init keys.json\n  taster keys list -c taster.yaml\n  taster keys rotate -c taster.yaml",
	})
	command.AddCommand(newKeysInit(c), newKeysList(c), newKeysRotate(c))
	return command
}

func newKeysInit(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "init FILE",
		Short: "Make a key file with one random master key for each purpose",
		Long: "init writes a new key file that only its owner may read, with a random master key of 32 bytes for each purpose\n" +
			"that a configuration knows. It never overwrites a file: without its keys nothing can be read again.",
		Example: "  taster keys init /etc/taster/keys.json",
		Args:    exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			err := envelope.CreateKeyFile(args[0], config.Purposes...)
			if errors.Is(err, fs.ErrExist) {
				return usage("%s is there already, and keys are never overwritten", strict.Quote(args[0]))
			}
			if err != nil {
				return err
			}
			return printKeys(c, args[0])
		},
	}
}

func newKeysList(c *cli) *cobra.Command {
	var configPath string
	command := &cobra.Command{
		Use:   "list FILE | -c taster.yaml",
		Short: "Tell which keys a key file holds, or which master keys a landing zone needs",
		Long: "list FILE prints the name of each key in a key file, which is its master key id in the landing zone, with a\n" +
			"fingerprint that tells two keys of one name apart. Keys themselves are never printed.\n\n" +
			"list -c prints each master key that the landing zone needs or the configuration names: which zones are written\n" +
			"under it now, whether it can be used (it is tried), and how many files and sealed objects are unreadable without\n" +
			"it. Nothing is decrypted. A former key may be destroyed, and leave keys.previous, when nothing needs it.",
		Example: "  taster keys list /etc/taster/keys.json\n  taster keys list -c taster.yaml -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && configPath == "":
				return printKeys(c, args[0])
			case len(args) == 0 && configPath != "":
				return listKeys(c, cmd, configPath)
			}
			return usage("%s wants either FILE, a key file, or -c, the configuration; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		},
	}
	command.Flags().StringVarP(&configPath, "config", "c", "", "the configuration, to tell which master keys its landing zone needs")
	return command
}

func listKeys(c *cli, cmd *cobra.Command, configPath string) error {
	loaded, err := c.config(configPath)
	if err != nil {
		return err
	}
	step, finish := c.steps("reading manifests")
	defer finish()
	list, err := app.ListKeys(cmd.Context(), loaded, step)
	finish()
	if err != nil {
		return outcome(err)
	}
	return c.print(list, func(w io.Writer) { printKeyList(w, list) })
}

func printKeyList(w io.Writer, list *app.KeyList) {
	for _, k := range list.Keys {
		fmt.Fprintf(w, "%s\n", k.ID)
		line := k.State
		if len(k.Zones) > 0 {
			line += ": " + strings.Join(k.Zones, ", ")
		}
		switch {
		case k.Usable == nil:
			line += "; not tried"
		case *k.Usable:
			line += "; can be used"
		default:
			line += "; CANNOT be used: " + k.Problem
		}
		fmt.Fprintf(w, "  %s\n", line)
		fmt.Fprintf(w, "  needed by %d files (%d bytes), %d of them with the key material within (%d bytes), and %d sealed objects\n", k.Files, k.Bytes, k.Internal, k.InternalBytes, k.Sealed)
		if k.Oldest != nil {
			fmt.Fprintf(w, "  oldest %s %s\n  newest %s %s\n", k.Oldest.Time, k.Oldest.File, k.Newest.Time, k.Newest.File)
		}
		switch {
		case k.State == app.KeyPresent:
		case k.Needed && k.State == app.KeyMissing:
			fmt.Fprintf(w, "  put it into keys.previous, or what needs it cannot be read\n")
		case k.Needed:
			fmt.Fprintf(w, "  keep it: destroying it makes what needs it unreadable for ever\n")
		default:
			fmt.Fprintf(w, "  nothing needs it: it may leave keys.previous\n")
		}
	}
	if list.Unfinished > 0 {
		fmt.Fprintf(w, "%d files wait for a rotation that was stopped: run taster keys rotate\n", list.Unfinished)
	}
	if list.Lost > 0 {
		fmt.Fprintf(w, "%d files have lost their key material and cannot be read: put it back from a backup (taster verify names them)\n", list.Lost)
	}
}

func newKeysRotate(c *cli) *cobra.Command {
	var configPath string
	var how app.Rotation
	command := &cobra.Command{
		Use:   "rotate -c taster.yaml",
		Short: "Wrap the keys of what has landed under the present master keys",
		Long: "rotate wraps the data keys of every file that stands under another master key than its zone's present one under\n" +
			"that one, without writing a data file anew. It wants external key material (landing.key_material) and the former\n" +
			"master keys in keys.previous. Files stay readable all the while, by whoever may use the former or the present key.\n" +
			"Killed at any moment, the next run goes on from there.\n\n" +
			"It exits with 1 when something still needs a former key, and says what and what to do.",
		Example: "  taster keys rotate -c taster.yaml --dry-run\n  taster keys rotate -c taster.yaml -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var result *app.Rotated
			err := c.withApp(cmd, configPath, func(a *app.App) (err error) {
				step, finish := c.steps("rotating keys")
				defer finish()
				result, err = a.RotateKeys(cmd.Context(), how, step)
				return err
			})
			if err != nil {
				return err
			}
			if err := c.print(result, func(w io.Writer) { printRotated(w, result) }); err != nil {
				return err
			}
			if !result.OK {
				return shown(exitBad)
			}
			return nil
		},
	}
	configFlag(command, &configPath)
	command.Flags().StringVar(&how.Topic, "topic", "", "only files of this topic")
	command.Flags().BoolVar(&how.DryRun, "dry-run", false, "only tell what would be done")
	command.Flags().BoolVar(&how.Force, "force", false, "also what is under its present master key: that key was rotated within its key service")
	return command
}

func printRotated(w io.Writer, r *app.Rotated) {
	would := ""
	if r.DryRun {
		would = "would be "
	}
	fmt.Fprintf(w, "%d files: %d %swrapped anew, %d up to date, %d finished for a rotation that was stopped\n", r.Files, r.Rotated, would, r.Current, r.Finished)
	if r.Resealed > 0 {
		fmt.Fprintf(w, "%d references, states, recalls and signing keys %sreplaced by others under the present master keys\n", r.Resealed, would)
	}
	if r.Adopted > 0 {
		fmt.Fprintf(w, "%d of them had been wrapped anew by another program\n", r.Adopted)
	}
	const shown = 20
	for _, p := range r.Problems[:min(shown, len(r.Problems))] {
		fmt.Fprintf(w, "%s: needs %s: %s\n", p.Object, strings.Join(p.Keys, ", "), p.Detail)
	}
	if more := len(r.Problems) - shown; more > 0 {
		fmt.Fprintf(w, "and %d more: -o json lists them\n", more)
	}
	if r.Internal > 0 {
		fmt.Fprintf(w, "%d files (%d bytes) hold their key material themselves and were left as they are\n", r.Internal, r.InternalBytes)
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "%d files could not be wrapped anew\n", r.Failed)
	}
	if r.OK && !r.DryRun {
		fmt.Fprintln(w, "see taster keys list before a former key is destroyed")
	}
}

// steps begins a bar for work whose amount is told with each step.
func (c *cli) steps(title string) (step func(done, total int), finish func()) {
	var bar *progress.Bar
	before := 0
	return func(done, total int) {
		if bar == nil {
			bar = c.progress(title, int64(total))
		}
		bar.Add(int64(done - before))
		before = done
	}, func() { bar.Finish() }
}

// key describes a master key without giving it away.
type key struct {
	Name        string `json:"name"`        // its master key id
	Fingerprint string `json:"fingerprint"` // 8 bytes, in hex, that follow from the key and do not lead back to it
}

func printKeys(c *cli, path string) error {
	file, err := envelope.LoadKeyFile(path)
	if err != nil {
		return usage("%w", err)
	}
	result := struct {
		File string `json:"file"`
		Keys []key  `json:"keys"`
	}{File: path}
	for _, name := range file.Names() {
		derived, err := file.Derive(name, "taster key fingerprint")
		if err != nil {
			return usage("%w", err)
		}
		result.Keys = append(result.Keys, key{name, hex.EncodeToString(derived[:8])})
	}
	return c.print(result, func(w io.Writer) {
		for _, k := range result.Keys {
			fmt.Fprintf(w, "%-12s %s\n", k.Name, k.Fingerprint)
		}
	})
}
