// Command peak writes the assembly that tells how many multiplications and additions a core does at most:
//
//	go run ./peak -pkg main -out peak_amd64.s -stubs peak_amd64.go
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// sums is how many are independent of each other: more than the latency of an instruction times how many a cycle begins.
const sums = 12

func main() {
	ConstraintExpr("amd64")
	loop("AVX512", func() VecVirtual { return ZMM() })
	loop("AVX2", func() VecVirtual { return YMM() })
	Generate()
}

func loop(name string, vector func() VecVirtual) {
	TEXT("fused"+name, NOSPLIT, "func(turns int)")
	Doc("fused" + name + " does twelve fused multiplications and additions of a vector each turn, with all that they need in registers.")
	turns := Load(Param("turns"), GP64())
	var all [sums + 2]VecVirtual
	for i := range all {
		all[i] = vector()
		if name == "AVX512" {
			VPXORQ(all[i], all[i], all[i])
		} else {
			VXORPS(all[i], all[i], all[i])
		}
	}
	Label("turn")
	for _, sum := range all[:sums] {
		VFMADD231PS(all[sums], all[sums+1], sum)
	}
	DECQ(turns)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}
