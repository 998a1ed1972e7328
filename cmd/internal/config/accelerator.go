package config

import (
	"errors"
	"strconv"
	"strings"

	"github.com/tasterhq/taster/schema/contract/strict"
)

// Accelerator says where the detectors' matrix work is done.
type Accelerator struct {
	Use    Use   `json:"use"`
	Memory int64 `json:"memory,omitempty"` // bytes of a device that may be used; 0: most of what is free
}

// Use is the choice between the CPU and a device: Auto, CPU, CUDA, or CUDA with a device's index as in cuda:1. It is a flag.
type Use string

const (
	Auto Use = "auto" // a device where there is one
	CPU  Use = "cpu"
	CUDA Use = "cuda" // the first device, and an error where there is none
)

var errUse = errors.New("want auto, cpu, cuda or, for another than the first device, cuda:1 and so on")

// Set implements pflag.Value.
func (u *Use) Set(text string) error {
	device, isNumber := strings.CutPrefix(text, string(CUDA)+":")
	if isNumber {
		if n, err := strconv.ParseUint(device, 10, 16); err != nil || strconv.FormatUint(n, 10) != device {
			return errUse
		}
	} else if one := Use(text); one != Auto && one != CPU && one != CUDA {
		return errUse
	}
	*u = Use(text)
	return nil
}

func (u *Use) String() string { return string(*u) }

// Type implements pflag.Value.
func (*Use) Type() string { return "auto|cpu|cuda" }

// Device returns the index of the device that is meant, 0 where none is named.
func (u Use) Device() int {
	n, _ := strconv.Atoi(strings.TrimPrefix(string(u), string(CUDA)+":")) // Set has looked
	return n
}

func accelerator(v strict.Value) Accelerator {
	a := Accelerator{Use: Auto}
	m := v.Mapping("use", "memory")
	if text := m.At("use").Text(); text != "" {
		if err := a.Use.Set(text); err != nil {
			m.At("use").Fault(strict.BadValue, "%v, is %s", err, m.At("use").Shown())
		}
	}
	a.Memory = m.At("memory").Size(64<<20, 1<<50, 0)
	return a
}
