package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/progress"
	"github.com/tasterhq/taster/sink/verify"
)

func newVerify(c *cli) *cobra.Command {
	var configPath, checkpoint, verifier, since, state string
	command := &cobra.Command{
		Use:   "verify [-c taster.yaml] LANDING",
		Short: "Re-derive every hash, count, chain and signature of a landing zone",
		Long: "verify reads every object of a landing zone and re-derives what it claims from the bytes alone. No key is needed; with\n" +
			"-c it also decrypts every page, counts the rows again, enters the verification in the audit log and signs what no\n" +
			"checkpoint names yet.\n\n" +
			"Keep the newest file below _audit/checkpoints/ and the public key _audit/keys/1.vkey where nobody who can write to the\n" +
			"zone can write, and give them the next time: only then a zone shows that was rolled back, or made anew, as a whole.\n\n" +
			"A verification that is stopped goes on where it was when it is started again. It passes over what it had found good\n" +
			"as long as the store lists the same objects, none of them replaced; buckets do not tell that, and are read again.\n\n" +
			"It exits with 1 when something is not as it was committed, and names the object. Notes are no faults: a commit that\n" +
			"is under way, a rotation that was stopped, files whose key was destroyed.",
		Example: "  taster verify landing\n  taster verify -c taster.yaml landing -o json\n" +
			"  taster verify --checkpoint kept.note --verifier kept.vkey landing\n  taster verify --since 2026-01-31 landing",
		Args: exactArgs("LANDING"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := verifyOptions(checkpoint, verifier, since)
			if err != nil {
				return err
			}
			var loaded *config.Config
			if configPath != "" {
				if loaded, err = c.config(configPath); err != nil {
					return err
				}
			}
			options.State = state
			if !cmd.Flags().Changed("state") {
				options.State = app.VerifyState(args[0])
			}
			var bar *progress.Bar
			var shownBytes int64
			options.Progress = func(done, total int64) {
				if shownBytes == 0 {
					bar = progress.Bytes(c.stderr, "verifying", total)
				}
				bar.Add(done - shownBytes)
				shownBytes = done
			}
			report, err := app.Verify(cmd.Context(), args[0], loaded, options)
			bar.Finish()
			if errors.Is(err, verify.ErrKept) {
				return usage("--checkpoint %s: %v", checkpoint, err)
			}
			if err != nil {
				return outcome(err)
			}
			if err := c.print(report, func(w io.Writer) { printVerify(w, report) }); err != nil {
				return err
			}
			if !report.OK {
				return shown(exitBad)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVarP(&configPath, "config", "c", "", "the configuration, to decrypt as well")
	flags.StringVar(&checkpoint, "checkpoint", "", "a checkpoint that was kept elsewhere: all that it names must still be there")
	flags.StringVar(&verifier, "verifier", "", "the zone's public key, or a file with it, that was kept elsewhere")
	flags.StringVar(&since, "since", "", "look only at what came after a checkpoint: its number, its file, or the newest one before a time")
	flags.StringVar(&state, "state", "", "the file by which a stopped verification is resumed; \"\" for none (default: one in the user's cache folder)")
	return command
}

func verifyOptions(checkpoint, verifier, since string) (o verify.Options, err error) {
	if checkpoint != "" {
		if o.Checkpoint, err = os.ReadFile(checkpoint); err != nil {
			return o, usage("--checkpoint: %v", err)
		}
	}
	if verifier != "" {
		line := verifier
		if data, err := os.ReadFile(verifier); err == nil {
			line = strings.TrimSpace(string(data))
		}
		if o.Verifier, err = verify.ParseVerifier(line); err != nil {
			return o, usage("--verifier %s: neither a file nor a public key: %v", verifier, err)
		}
	}
	if since == "" {
		return o, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, since); err == nil {
			o.SinceTime = at
			return o, nil
		}
	}
	if sequence, err := strconv.ParseInt(since, 10, 64); err == nil {
		o.SinceSequence = &sequence
		return o, nil
	}
	note, err := os.ReadFile(since)
	if err != nil {
		return o, usage("--since %s: not a time like 2026-01-31 or 2026-01-31T12:00:00Z, not a checkpoint's number, and not a file: %v", since, err)
	}
	sequence, err := verify.ParseCheckpoint(note)
	if err != nil {
		return o, usage("--since %s: %v", since, err)
	}
	o.SinceSequence = &sequence
	if o.Checkpoint == nil {
		o.Checkpoint = note
	}
	return o, nil
}

func printVerify(w io.Writer, r *verify.Report) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s: %s [%s]\n", p.Object, p.Detail, p.Code)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d problems more\n", r.More)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s: %s [%s]\n", n.Object, n.Detail, n.Code)
	}
	read := "bytes only; give -c to decrypt as well"
	if r.Decrypted {
		read = "every page decrypted"
		if r.Unreadable > 0 {
			read = fmt.Sprintf("every page decrypted but those of %d files whose key is not available", r.Unreadable)
		}
	}
	fmt.Fprintf(w, "%d manifests, %d files, %d rows, %d audit entries (%s)\n", r.Manifests, r.Files, r.Rows, r.Entries, read)
	if r.Changes > 0 {
		fmt.Fprintf(w, "%d changes, %d files superseded\n", r.Changes, r.Superseded)
	}
	if r.Since != nil {
		fmt.Fprintf(w, "only what came after checkpoint %d of %s was looked at\n", r.Since.Sequence, r.Since.Time)
	}
	if r.Resumed > 0 {
		fmt.Fprintf(w, "%d segments had been found good by the run before, and the store says that they are as they were\n", r.Resumed)
	}
	printSigned(w, &r.Signed)
	if r.OK {
		fmt.Fprintln(w, "good")
	} else {
		fmt.Fprintf(w, "NOT good: %d problems\n", int64(len(r.Problems))+r.More)
	}
}

func printSigned(w io.Writer, s *verify.Signed) {
	if s.Count == 0 {
		fmt.Fprintln(w, "no checkpoints: nothing is signed")
		return
	}
	against := "checked against the key that was given"
	if !s.Trusted {
		against = "by the zone's own key; give --verifier with one that was kept elsewhere"
	}
	if s.Kept {
		against += ", and against a kept checkpoint"
	} else {
		against += "; not checked against a kept checkpoint (--checkpoint)"
	}
	fmt.Fprintf(w, "%d checkpoints, the last signed %s: %s\n", s.Count, s.Time, against)
	if s.Unsigned > 0 {
		fmt.Fprintf(w, "%d chains have grown since\n", s.Unsigned)
	}
}
