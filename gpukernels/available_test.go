package gpukernels_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tasterhq/taster/gpukernels"
)

// TestAvailable: whoever cannot use a device learns why.
func TestAvailable(t *testing.T) {
	err := gpukernels.Available()
	devices, listed := gpukernels.Devices()
	if err == nil {
		if listed != nil || len(devices) == 0 || gpukernels.DriverVersion() == "" {
			t.Fatalf("there is a device, but of %d listed: %v; driver %q", len(devices), listed, gpukernels.DriverVersion())
		}
		for i, d := range devices {
			if d.Index != i || d.Name == "" || d.Memory <= 0 || !strings.Contains(d.Compute, ".") {
				t.Errorf("device %d: %+v", i, d)
			}
		}
		return
	}
	if !errors.Is(err, gpukernels.ErrUnavailable) || !errors.Is(listed, gpukernels.ErrUnavailable) {
		t.Fatalf("%v; %v", err, listed)
	}
	if len(err.Error()) < len(gpukernels.ErrUnavailable.Error())+10 {
		t.Errorf("no reason: %v", err)
	}
}
