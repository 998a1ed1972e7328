//go:build cuda && cgo && linux && amd64

package gpukernels

import (
	"fmt"

	"gorgonia.org/cu"

	"github.com/tasterhq/taster/gpukernels/driver"
)

// Available returns nil when there is a driver and a device, and otherwise why not. It wraps [ErrUnavailable].
func Available() error {
	if why := driver.Reason(); why != "" {
		return fmt.Errorf("%w: %s", ErrUnavailable, why)
	}
	n, err := cu.NumDevices()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if n == 0 {
		return fmt.Errorf("%w: the driver finds no device", ErrUnavailable)
	}
	return nil
}

// DriverVersion returns the version of CUDA that the driver supports, such as 12.8; "" without a driver.
func DriverVersion() string {
	v := -1
	if driver.Reason() == "" {
		v = cu.Version()
	}
	if v < 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", v/1000, v%1000/10)
}

// Devices lists the devices.
func Devices() ([]Info, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var all []Info
	for i := range n {
		info, _, _, err := describe(i)
		if err != nil {
			return nil, fmt.Errorf("%w: device %d: %w", ErrUnavailable, i, err)
		}
		all = append(all, info)
	}
	return all, nil
}

func describe(index int) (info Info, device cu.Device, compute int, err error) {
	if device, err = cu.GetDevice(index); err != nil {
		return info, device, 0, err
	}
	info.Index = index
	if info.Name, err = device.Name(); err != nil {
		return info, device, 0, err
	}
	if info.Memory, err = device.TotalMem(); err != nil {
		return info, device, 0, err
	}
	major, minor, err := device.ComputeCapability()
	info.Compute = fmt.Sprintf("%d.%d", major, minor)
	return info, device, 10*major + minor, err
}
