package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/trial"
)

// acceleratorFlag is of commands that score. Without it the configuration decides.
func acceleratorFlag(command *cobra.Command, use *config.Use) {
	command.Flags().Var(use, "accelerator", "what does matrix work: auto (a GPU where there is one), cpu, cuda or cuda:N (that GPU, or an error)")
}

func newGPU(c *cli) *cobra.Command {
	size := trial.Size{}
	choice := config.Accelerator{Use: config.Auto}
	command := &cobra.Command{
		Use:   "gpu",
		Short: "The accelerator that is used, how fast it is and how exact, or why there is none",
		Long: "gpu tells which devices this machine has, and, if one can be used, how long its kernels take beside the CPU for the same\n" +
			"work, in every variant there is, and how far their answers are apart: further than rounding allows is an error, exit 1. Where none can be used it says why; that is no error, since taster then works on the CPU,\n" +
			"but with --accelerator cuda it is: exit 3.",
		Example: "  taster gpu\n  taster gpu --accelerator cuda:1 --points 100000 --columns 1024 -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, n := range []struct {
				name  string
				value int
			}{{"points", size.Points}, {"queries", size.Queries}, {"columns", size.Columns}} {
				if n.value < 1 || n.value > 1<<24 {
					return usage("--%s %d: want from 1 to %d; see taster gpu --help", n.name, n.value, 1<<24)
				}
			}
			report, err := app.TryAccelerator(cmd.Context(), choice, size)
			if err != nil {
				return outcome(err)
			}
			if err := c.print(report, func(w io.Writer) { printGPU(w, report) }); err != nil {
				return err
			}
			return tooFar(report)
		},
	}
	acceleratorFlag(command, &choice.Use)
	flags := command.Flags()
	flags.IntVar(&size.Points, "points", 20_000, "rows of the reference that is tried")
	flags.IntVar(&size.Queries, "queries", 4_096, "rows that are judged against it")
	flags.IntVar(&size.Columns, "columns", 384, "values of a row")
	flags.Var((*byteSize)(&choice.Memory), "memory", "how much of the device's memory may be used (default: most of what is free)")
	return command
}

// tooFar is the end of a trial in which a device answered otherwise than rounding explains.
func tooFar(r *app.GPU) error {
	for _, k := range r.Kernels {
		if k.Difference > k.Allowed {
			return &exitError{code: exitBad, err: fmt.Errorf("%s: the device's answer is %.2g from the CPU's, and rounding allows %.2g; leave the device alone (--accelerator cpu)", k.Name, k.Difference, k.Allowed)}
		}
	}
	return nil
}

func printGPU(w io.Writer, r *app.GPU) {
	for _, d := range r.Devices {
		fmt.Fprintf(w, "device %d: %s, compute capability %s, %.1f GiB\n", d.Index, d.Name, d.Compute, float64(d.Memory)/(1<<30))
	}
	if r.Driver != "" {
		fmt.Fprintf(w, "driver: CUDA %s\n", r.Driver)
	}
	if !r.Used {
		fmt.Fprintf(w, "no accelerator is used: %s\n", r.Reason)
		return
	}
	fmt.Fprintf(w, "device %d is used, up to %.1f GiB of its memory\n\n", *r.Device, float64(r.Memory)/(1<<30))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "work\tload\tdevice\tCPU\ttimes as fast\tlargest difference\tallowed\t")
	for _, k := range r.Kernels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f\t%.2g\t%.2g\t\n", k.Name, seconds(k.LoadSeconds), seconds(k.DeviceSeconds), seconds(k.CPUSeconds), k.CPUSeconds/k.DeviceSeconds, k.Difference, k.Allowed)
	}
	_ = t.Flush() // to w, whose errors are kept
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond).String()
}
