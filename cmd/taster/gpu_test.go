package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/tasterhq/taster/cmd/internal/app"
)

// TestTooFar: a device whose answer is further off than rounding explains does not end well, and the work is named.
func TestTooFar(t *testing.T) {
	report := &app.GPU{Kernels: []app.KernelOf{{Name: "one", Difference: 1, Allowed: 1}, {Name: "other", Difference: 0.5, Allowed: 0.5}}}
	if err := tooFar(report); err != nil {
		t.Fatal(err)
	}
	report.Kernels[1].Difference = 0.6
	var exit *exitError
	if err := tooFar(report); !errors.As(err, &exit) || exit.code != exitBad || !strings.Contains(exit.err.Error(), "other: the device's answer is 0.6") {
		t.Fatalf("%v", err)
	}
}
