// Package kernels holds the CUDA kernels: their sources, and the PTX that clang makes of them.
//
// The table of names, parameters and launch rules is kernels.h; the constants below are its constants. make ptx writes kernels.ptx
// anew; it needs clang 14 and nothing of NVIDIA's. The first line of the PTX is the hash of what it was made of.
//
// What is certain without a GPU. The same sources are compiled by g++ over the emulator beside this package, where each kernel is compared with
// float64 at the edges of tiles, with NaN, infinity, ties, copies and denormal numbers, in several orders of blocks and threads. The emulator
// ends a launch when memory that a block shares is used out of bounds, before it was written, or by two threads without a barrier
// in between, which does not depend on the order; a test leaves out each barrier in turn, and each is missed. The PTX, too, is translated
// instruction by instruction and put to the same comparisons, so that what clang did with the sources is looked at. NVIDIA's assembler
// finds no spills, and less than 48 KiB of shared memory, for compute capability 8.0 and 9.0.
//
// What is reasoned and not measured: no kernel has run on a GPU yet. Neighbours, products and assignment keep a tile of 128 × 128 sums in the
// registers of 256 threads, which leaves room for one block on a multiprocessor (product_f32: two), so a grid should have as many blocks as there are
// multiprocessors, or a multiple. In float32 units a step of 16 columns is a thousand multiplications a thread, beside which its barrier is
// small. On tensor cores a step is 96 instructions a warp, and the split into three bfloat16, a hundred instructions of other units, is not
// hidden behind them, because two buffers would not fit into 48 KiB: expect a good part of what the chip can do, not all of it. Sums of
// tensor cores are emulated at their most pessimistic, cut off after every instruction; what a given chip does is said to be a little
// better. Selection touches memory only for points below a query's bar, of which there are few after the first thousand.
package kernels

import _ "embed" // for the PTX

// PTX holds every kernel of kernels.h, for compute capability 8.0 and later. Its version, 7.0, is one that drivers since 2020 take.
//
//go:embed kernels.ptx
var PTX string

// Constants of kernels.h.
const (
	Warp          = 32
	BlockThreads  = 256
	Warps         = BlockThreads / Warp
	Tile          = 128 // prepared rows come in whole tiles
	DepthStep     = 16  // prepared rows have whole steps of columns, one at least
	List          = 256 // uint64 of scratch for each query of a tile
	MaxCandidates = 128
	MaxDirections = 16
	MetricL2      = 0
	MetricCosine  = 1
	NoCandidate   = ^uint64(0)
)
