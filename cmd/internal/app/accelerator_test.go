package app

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/detect/linalg"
)

// TestAcceleratorLost: however many questions the CPU answers in the device's place, each kind of reason is one event, and every question counts.
func TestAcceleratorLost(t *testing.T) {
	var text bytes.Buffer
	o := newObserver(slog.New(slog.NewTextHandler(&text, nil)))
	o.device.WithLabelValues("a device").Set(1)
	lost := o.acceleratorLost()
	for range 3 {
		lost(fmt.Errorf("%w: %w: 5 bytes", linalg.ErrLost, linalg.ErrFull))
	}
	if n := testutil.CollectAndCount(o.device); n != 1 {
		t.Errorf("%d devices are in use after one was full", n)
	}
	for range 4 {
		lost(fmt.Errorf("%w: unplugged", linalg.ErrLost))
	}
	if n := strings.Count(text.String(), "memory does not suffice"); n != 1 {
		t.Errorf("told %d times of too little memory:\n%s", n, &text)
	}
	if n := strings.Count(text.String(), "the device is lost"); n != 1 {
		t.Errorf("told %d times of the loss:\n%s", n, &text)
	}
	if full, gone := testutil.ToFloat64(o.fallbacks.WithLabelValues("memory")), testutil.ToFloat64(o.fallbacks.WithLabelValues("lost")); full != 3 || gone != 4 {
		t.Errorf("counted %v and %v", full, gone)
	}
	if n := testutil.CollectAndCount(o.device); n != 0 {
		t.Errorf("%d devices are in use after the loss", n)
	}
}

func TestOpenAccelerator(t *testing.T) {
	a, why, err := OpenAccelerator(config.Accelerator{Use: config.CPU}, nil)
	if err != nil || why != nil || len(a.Detectors()) == 0 {
		t.Errorf("cpu: %v, %v", why, err)
	}
	a.Close()
	if devices, none := linalg.Devices(); none != nil {
		if _, why, err = OpenAccelerator(config.Accelerator{}, nil); err != nil || !errors.Is(why, linalg.ErrUnavailable) {
			t.Errorf("without a choice: %v, %v", why, err)
		}
		if _, _, err = OpenAccelerator(config.Accelerator{Use: config.CUDA}, nil); !errors.Is(err, linalg.ErrUnavailable) {
			t.Errorf("cuda: %v", err)
		}
	} else if len(devices) == 0 {
		t.Error("no device, and no reason")
	}
}
