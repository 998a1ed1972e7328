package linalg

// What is too small for a device costs more on the way there than the CPU takes for it. The figures are of the order of magnitude that
// hardware has had for years: two copies and a launch take some 50 µs, in which two cores of a CPU do ten million operations (docs/PERFORMANCE.md),
// and a bus of 16 GB/s brings operands no faster than cores work on them unless each value is used some sixty times.
const (
	trip  = 1e7
	reuse = 64
	batch = 256 // queries that detectors ask at a time
)

// Worthwhile returns an engine that leaves to the CPU what is too small to be worth the way to a device. Whether it is depends on shapes
// alone, and for an index on its points alone: the same question is always answered in the same place.
func Worthwhile(device Engine) Engine { return worthwhile{device} }

type worthwhile struct{ device Engine }

func (w worthwhile) Load(points Matrix, metric Metric) (Index, error) {
	if points.Rows < reuse || 2*batch*float64(points.Rows)*float64(points.Cols) < trip {
		return CPU{}.Load(points, metric)
	}
	return w.device.Load(points, metric)
}

func (w worthwhile) Product(dst, a, b Matrix) error {
	if min(a.Rows, b.Rows, a.Cols) < reuse || 2*float64(a.Rows)*float64(b.Rows)*float64(a.Cols) < trip {
		return CPU{}.Product(dst, a, b)
	}
	return w.device.Product(dst, a, b)
}
