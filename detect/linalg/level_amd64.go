package linalg

import "golang.org/x/sys/cpu"

//go:generate sh -c "cd gen && go run . -pkg linalg -out ../kernels_amd64.s -stubs ../kernels_amd64.go"

func init() {
	sse := *kernels[Portable]
	sse.tiles = []tile{1: tileSSE1, tileSSE2, tileSSE3, tileSSE4}
	kernels[SSE] = &sse
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		return
	}
	avx2 := kernel{
		cols:       16,
		tiles:      []tile{1: tileAVX21, tileAVX22, tileAVX23, tileAVX24, tileAVX25, tileAVX26},
		transpose:  transposeAVX2,
		squares:    squaresAVX2,
		dots:       dotsAVX2,
		countAbove: countAboveAVX2,
		markFrom:   markFromAVX2,
		unit:       unitAVX2,
		norm:       normAVX2,
		wideNorm:   wideNormAVX2,
		rowMoments: rowMomentsAVX2,
		sumRows:    sumRowsAVX2,
		widen:      widenAVX2,
		times:      timesAVX2,
		prefetch:   prefetchLines,
		cosines:    cosinesPortable,
	}
	kernels[AVX2] = &avx2
	if !cpu.X86.HasAVX512F || !cpu.X86.HasAVX512DQ {
		return
	}
	avx512 := avx2
	avx512.cols = 32
	avx512.tiles = []tile{1: tileAVX5121, tileAVX5122, tileAVX5123, tileAVX5124, tileAVX5125, tileAVX5126, tileAVX5127, tileAVX5128,
		tileAVX5129, tileAVX51210, tileAVX51211, tileAVX51212}
	avx512.squares, avx512.dots, avx512.cosines = squaresAVX512, dotsAVX512, cosinesAVX512
	avx512.narrow = &narrowKernel{kth: kthAVX512, upTo: upToAVX512, roots: rootsAVX512, columns: [mostColumns + 1]func(query, points, out []float64){
		2: columns2AVX512, 4: columns4AVX512, 8: columns8AVX512, 16: columns16AVX512,
	}}
	if cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX512BW {
		avx512.words, avx512.indexFrom = wordsAVX512, indexFromAVX512
		avx512.wordTiles = []tile{1: tileWords1, tileWords2, tileWords3, tileWords4, tileWords5, tileWords6, tileWords7, tileWords8,
			tileWords9, tileWords10, tileWords11, tileWords12}
		if cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT {
			avx512.sums = &sumKernel{moments: momentsAVX512, pick: pickAVX512, few: nearestSum16AVX512, many: nearestSum24AVX512}
		}
	}
	kernels[AVX512] = &avx512
}
