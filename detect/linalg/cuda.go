package linalg

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tasterhq/taster/gpukernels"
)

// Device describes an accelerator.
type Device = gpukernels.Info

// Kernels is a device as it is: what can be asked of it beyond what every [Engine] answers.
type Kernels = gpukernels.Device

// What is asked of kernels, and of what.
type (
	KernelRows   = gpukernels.Rows
	KernelPoints = gpukernels.Points
	Forest       = gpukernels.Forest
)

// CUDAOptions say which device to use, and how much of its memory.
type CUDAOptions = gpukernels.Options

// ErrUnavailable is wrapped by errors that say why CUDA cannot be used.
var ErrUnavailable = gpukernels.ErrUnavailable

// ErrFull is wrapped, beside [ErrLost], by errors of a device whose memory does not suffice; it may answer smaller questions.
var ErrFull = gpukernels.ErrMemory

// Devices lists the accelerators that this binary and this machine have. Its error wraps [ErrUnavailable] and says why there is none.
func Devices() ([]Device, error) { return gpukernels.Devices() }

// Driver returns the version of CUDA that the driver supports; "" where there is none.
func Driver() string { return gpukernels.DriverVersion() }

// CUDA is the engine of one NVIDIA device.
//
// Which points are nearest is chosen there, among as many candidates as the CPU takes, by float32 products; which of those are kept, and how far they are,
// the CPU tells as it does for its own candidates. Distances are therefore the CPU engine's to the bit, and neighbours
// are other ones only where the package says that rounding may decide. With Rerank it is the device that tells, as the CPU does but for the order of its float64 sums,
// which may show in the last bit of a distance. Products are float32 sums in another order.
//
// What does not fit into the device's memory is sent there in pieces. More neighbours than the device can choose at once (100), and matrices
// without columns, are left to the CPU. An error of the device wraps [ErrLost].
type CUDA struct{ device *gpukernels.Device }

// OpenCUDA opens a device. Its error wraps [ErrUnavailable].
func OpenCUDA(o CUDAOptions) (*CUDA, error) {
	device, err := gpukernels.Open(o)
	if err != nil {
		return nil, err
	}
	return &CUDA{device}, nil
}

// Device describes the device.
func (e *CUDA) Device() Device { return e.device.Info() }

// Kernels returns the device for questions that no [Engine] answers. It is closed with e.
func (e *CUDA) Kernels() *Kernels { return e.device }

// Memory returns how many bytes of the device's memory are in use, and how many may be.
func (e *CUDA) Memory() (used, limit int64) { return e.device.Used() }

// Close gives the device back. What is asked later fails with [ErrLost].
func (e *CUDA) Close() { e.device.Close() }

// Load implements [Engine].
func (e *CUDA) Load(points Matrix, metric Metric) (Index, error) {
	if err := points.check("the point matrix"); err != nil {
		return nil, err
	}
	if points.Cols == 0 || points.Rows == 0 {
		return CPU{}.Load(points, metric)
	}
	host := newIndex(points, metric, Best.kernel())
	wide := make([]float64, host.width)
	for p := range points.Rows {
		host.keep(p, points.Row(p), wide)
	}
	ix := &cudaIndex{host: host}
	kind, origin := gpukernels.Cosine, []float32(nil)
	if metric == L2 {
		kind, origin = gpukernels.L2, host.origin
	}
	ix.spare = sync.OnceValues(func() (Index, error) { return CPU{}.Load(host.given(), metric) })
	var err error
	if ix.points, err = e.device.Load(slices.Clone(points.Data), points.Cols, kind, origin); err != nil {
		return nil, lost(err)
	}
	return ix, nil
}

// KernelPoints brings points to the device for what kernels are asked of their distances.
func (e *CUDA) KernelPoints(points Matrix) (*KernelPoints, error) {
	return e.device.Load(points.Data, points.Cols, gpukernels.L2, nil)
}

// lost turns an error of the device into this package's.
func lost(err error) error {
	if err == nil || errors.Is(err, ErrLost) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// cudaIndex holds the points twice: prepared, on the device, and as given, to tell how far its candidates are.
type cudaIndex struct {
	host   *cpuIndex // without panels
	points *gpukernels.Points
	spare  func() (Index, error) // for more neighbours than the device can choose, and for its loss
}

func (ix *cudaIndex) onCPU() (Index, error) { return ix.spare() }

// Nearest implements [Index].
func (ix *cudaIndex) Nearest(queries Matrix, k, workers int) (Neighbours, error) {
	if err := checkQueries(queries, ix.host.cols, k); err != nil {
		return Neighbours{}, err
	}
	few := candidates(k)
	if few > gpukernels.MaxNeighbours {
		spare, err := ix.spare()
		if err != nil {
			return Neighbours{}, err
		}
		return spare.Nearest(queries, k, workers)
	}
	found := newNeighbours(queries.Rows, k)
	if ix.points.Exact() {
		return found, lost(ix.points.NearestExact(queries.Data, k, few, found.Index, found.Distance))
	}
	chosen := make([]int32, queries.Rows*few)
	if err := ix.points.Nearest(queries.Data, few, chosen); err != nil {
		return Neighbours{}, lost(err)
	}
	const some = 32
	ix.host.each((queries.Rows+some-1)/some, max(1, workers), func(s *search, i int) {
		for q := i * some; q < min((i+1)*some, queries.Rows); q++ {
			index := chosen[q*few : (q+1)*few]
			slices.Sort(index) // of equal distances the smallest index is kept
			none := 0
			for none < few && index[none] < 0 {
				none++
			}
			s.answer(queries.Row(q), index[none:], found, q)
		}
	})
	return found, nil
}

// Product implements [Engine].
func (e *CUDA) Product(dst, a, b Matrix) error {
	if err := checkProduct(dst, a, b); err != nil {
		return err
	}
	if a.Cols == 0 {
		return CPU{}.Product(dst, a, b)
	}
	return lost(e.device.Product(dst.Data, a.Data, b.Data, a.Cols))
}

func (e *CUDA) keep(b Matrix) (Operand, error) {
	if b.Rows == 0 || b.Cols == 0 {
		return sent{CPU{}, b}, nil
	}
	rows, err := e.device.Keep(b.Data, b.Cols, nil)
	if err != nil {
		return nil, lost(err)
	}
	return cudaOperand{rows, b}, nil
}

type cudaOperand struct {
	rows *gpukernels.Rows
	b    Matrix
}

func (o cudaOperand) Product(dst, a Matrix) error {
	if err := checkProduct(dst, a, o.b); err != nil {
		return err
	}
	return lost(o.rows.Product(dst.Data, a.Data))
}
