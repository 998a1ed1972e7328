//go:build !(cuda && cgo && linux && amd64)

package gpukernels

import "fmt"

var errBuild = fmt.Errorf("%w: this binary was built without CUDA; make build-cuda makes one that has it", ErrUnavailable)

// Available returns nil when there is a driver and a device, and otherwise why not. It wraps [ErrUnavailable].
func Available() error { return errBuild }

// DriverVersion returns the version of CUDA that the driver supports, such as 12.8; "" without a driver.
func DriverVersion() string { return "" }

// Devices lists the devices.
func Devices() ([]Info, error) { return nil, errBuild }

// Device is one device, open. Without CUDA there is none.
type Device struct{}

// Open opens a device.
func Open(Options) (*Device, error) { return nil, errBuild }

// Info describes the device.
func (*Device) Info() Info { return Info{} }

// Close gives the device's memory back.
func (*Device) Close() {}

// Used returns how many bytes of the device's memory are in use, and how many may be.
func (*Device) Used() (used, limit int64) { return 0, 0 }

// Product sets dst (n × m) to a·bᵀ, where a is n × cols and b m × cols.
func (*Device) Product(_, _, _ []float32, _ int) error { return errBuild }

// Load makes rows of cols values resident.
func (*Device) Load(_ []float32, _ int, _ Metric, _ []float32) (*Points, error) { return nil, errBuild }

// Points are rows that are resident on a device.
type Points struct{}

// Resident says whether the points stay on the device.
func (*Points) Resident() bool { return false }

// Nearest finds the k nearest points of each query.
func (*Points) Nearest(_ []float32, _ int, _ []int32) error { return errBuild }
