// Package gpukernels runs matrix work on NVIDIA devices, through gorgonia.org/cu and kernels of its own, whose PTX it carries. It
// imports nothing of taster's and knows nothing of records.
//
// One binary serves machines with and without a device: [Available] says whether there is one, and why not. Binaries that were built without the tag cuda
// (make build) hold none of this and say so; make build-cuda makes the other kind.
//
// Rows come in two forms. [Points] are prepared for products: neighbours and centroids are asked of them. [Rows] stay as they were given: moments, order statistics, whitened
// lengths, leading directions and isolation forests are asked of those. Every kernel of package kernels is behind a method of one of the two, or of [Device.Product].
//
// A [Device] makes all calls of the driver from one goroutine that is locked to its thread, since contexts belong to threads. Matrices
// go there and come back through page-locked memory in two lanes: while one lane's piece is computed the other's is copied. What does not fit into the
// device's memory, or into the limit that was set, goes there in pieces with every call. Memory of [Points] and [Rows] that nobody can
// reach any more is freed.
//
// Errors tell how to go on: after [ErrLost] the device answers nothing any more, after [ErrMemory] it may answer smaller questions. Both leave
// what the caller gave as it was, results excepted, which may be half written.
//
// What it does not do: choose between the processor and the device, or tell whether an answer is right. Package detect/linalg does the one, its
// conformance tests and taster gpu the other.
package gpukernels

import "errors"

// ErrUnavailable is wrapped by errors that say why there is no device to open.
var ErrUnavailable = errors.New("CUDA cannot be used")

// ErrLost is wrapped by errors of a device that failed: it was reset or unplugged, a kernel failed, it does not answer.
var ErrLost = errors.New("CUDA device failed")

// ErrMemory is wrapped by errors that say that a device's memory, or the limit set, does not suffice.
var ErrMemory = errors.New("CUDA device memory exhausted")

// MaxNeighbours is the largest k of [Points.Nearest].
const MaxNeighbours = 128

// MaxDirections is the largest number of directions of [Rows.Step].
const MaxDirections = 16

// Forest is an isolation forest (Liu, Ting, Zhou, ICDM 2008), the nodes of all trees one after the other: tree t begins at node Root[t]. Node i with a negative
// Feature is a leaf of depth Value[i], the correction for what it holds included; of the others rows whose column Feature[i] is less than
// Value[i] go to node Child[i], all others, NaN included, to Child[i]+1. Children come behind their parent.
type Forest struct {
	Feature []int32
	Value   []float32
	Child   []int32
	Root    []int32
}

// Metric says how far apart two rows are.
type Metric uint8

const (
	// L2 is the Euclidean distance ‖q − p‖.
	L2 Metric = iota
	// Cosine is 1 − q·p/(‖q‖‖p‖).
	Cosine
)

// Info describes a device.
type Info struct {
	Index   int
	Name    string
	Compute string // the compute capability, such as 9.0
	Memory  int64  // bytes
}

// Options say which device to open, and how much of its memory may be used.
type Options struct {
	Device int   // by index
	Memory int64 // bytes; 0: nine tenths of what is free
	// Tensor has tensor cores multiply for neighbours and products, to about the accuracy of float32: to be measured before it is chosen.
	Tensor bool
	// Rerank keeps points on the device as they were given, too, for [Points.NearestExact]: to be measured before it is chosen.
	Rerank bool
}
