package main

import "github.com/tasterhq/taster/detect/linalg"

//go:generate sh -c "cd ../../../../detect/linalg/gen && go run ./peak -pkg main -out ../../../cmd/internal/bench/peers/peak_amd64.s -stubs ../../../cmd/internal/bench/peers/peak_amd64.go"

// fused returns a loop that does nothing but fused multiplications and additions, by the widest vectors that the processor has, and how
// many operations a turn is; nil where there is none.
func fused() (loop func(turns int), operations float64) {
	levels := linalg.Levels()
	switch levels[len(levels)-1] {
	case linalg.AVX512:
		return fusedAVX512, 12 * 16 * 2
	case linalg.AVX2:
		return fusedAVX2, 12 * 8 * 2
	}
	return nil, 0
}
