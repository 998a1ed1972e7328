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

// Exact says whether the device can tell distances.
func (*Points) Exact() bool { return false }

// NearestExact finds the k nearest points of each query, and their distances, on the device.
func (*Points) NearestExact(_ []float32, _, _ int, _ []int32, _ []float32) error { return errBuild }

// Assign finds the nearest centroid of each point.
func (*Points) Assign(_ []float32, _ []int32) error { return errBuild }

// Keep makes rows of cols values resident as they are.
func (*Device) Keep(_ []float32, _ int, _ []float32) (*Rows, error) { return nil, errBuild }

// Rows are rows as they were given, resident on a device.
type Rows struct{}

// Resident says whether the rows stay on the device.
func (*Rows) Resident() bool { return false }

// Mean sets dst to the mean of each column.
func (*Rows) Mean([]float32) (int, error) { return 0, errBuild }

// Covariance sets dst (cols × cols) to a scaled sum of outer products of the rows.
func (*Rows) Covariance([]float32, float64) error { return errBuild }

// Step sets dst to one step of subspace iteration.
func (*Rows) Step(_, _ []float32) error { return errBuild }

// Mahalanobis sets dst to the whitened length of each row.
func (*Rows) Mahalanobis(_, _ []float32) error { return errBuild }

// Depth sets dst to the mean depth of each row in a forest.
func (*Rows) Depth([]float32, *Forest) error { return errBuild }

// Select sets dst to the element of each rank in each column.
func (*Rows) Select([]float32, []int64) error { return errBuild }

// Product sets dst (n × the rows) to a·Xᵀ.
func (*Rows) Product(_, _ []float32) error { return errBuild }
