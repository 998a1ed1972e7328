// Package kernels holds the CUDA kernels: their sources, and the PTX that clang makes of them.
//
// The table of names, parameters and launch rules is kernels.h; the constants below are its constants.
//
// The same sources are compiled by g++ over package emulator, which is how they are tested where there is no GPU. Registers and
// spills are ptxas's to tell. What no machine has been asked yet is how fast they are: nothing here is measured on a GPU.
//
// make ptx writes kernels.ptx anew; it needs clang 14. Its first line is the hash of what it was made of.
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
