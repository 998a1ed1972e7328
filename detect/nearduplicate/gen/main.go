// Command gen writes the assembly of package nearduplicate:
//
//	go run . -pkg nearduplicate -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	ahead = 16 // of what is compared, signatures are fetched

	mix1 = 0xbf58476d1ce4e5b9
	mix2 = 0x94d049bb133111eb
)

func main() {
	ConstraintExpr("amd64")
	pairs()
	bandKeys()
	Generate()
}

// table declares read-only bytes, 64 of them.
func table(name string, at func(i int) byte) Mem {
	data := GLOBL(name, RODATA|NOPTR)
	for i := range 64 {
		DATA(i, U8(at(i)))
	}
	return data
}

// all broadcasts a number to eight lanes.
func all(v uint64) VecVirtual {
	x, z := GP64(), ZMM()
	MOVQ(U64(v), x)
	VPBROADCASTQ(x, z)
	return z
}

// mix is sketch.Mix of eight numbers.
func mix(z, a, b VecVirtual) {
	t := ZMM()
	VPSRLQ(Imm(30), z, t)
	VPXORQ(t, z, z)
	VPMULLQ(a, z, z)
	VPSRLQ(Imm(27), z, t)
	VPXORQ(t, z, z)
	VPMULLQ(b, z, z)
	VPSRLQ(Imm(31), z, t)
	VPXORQ(t, z, z)
}

// pairs compares each type with the three that follow it.
func pairs() {
	TEXT("pairsAVX512", NOSPLIT, "func(order *uint64, n int, signatures *uint64, out *uint32) int")
	Pragma("noescape")
	Doc("pairsAVX512 compares the signatures of the first n of order, each with the window that follows it, and notes",
		"4·i + j − i of those that may be as similar as the lowest level wants. It returns how many these are, n·window at most.",
		"Behind the n stand pairsAhead more, of which all but a window are only fetched.")
	order, n := Load(Param("order"), GP64()), Load(Param("n"), GP64())
	signatures, out := Load(Param("signatures"), GP64()), Load(Param("out"), GP64())
	found, number := GP64(), GP64()
	XORQ(found, found)
	XORQ(number, number)
	// row is where the signature of the type at order[i+ahead] is.
	row := func(ahead int) Register {
		x := GP64()
		MOVLQSX(Mem{Base: order, Disp: 8 + 16*ahead}, x)
		SHLQ(Imm(6), x)
		return x
	}
	a := make([]VecVirtual, 4)
	for j := range 3 {
		a[j] = ZMM()
		VMOVDQU64(Mem{Base: signatures, Index: row(j), Scale: 1}, a[j])
	}
	a[3] = ZMM()
	TESTQ(n, n)
	JLE(LabelRef("done"))
	Label("next")
	PREFETCHT0(Mem{Base: signatures, Index: row(ahead), Scale: 1})
	VMOVDQU64(Mem{Base: signatures, Index: row(3), Scale: 1}, a[3])
	k0 := K()
	VPTESTNMB(a[0], a[0], k0)
	zero := GP64()
	KMOVQ(k0, zero)
	for j := 1; j <= 3; j++ {
		k := K()
		VPCMPEQB(a[j], a[0], k)
		equal, both := GP64(), GP64()
		KMOVQ(k, equal)
		MOVQ(equal, both)
		ANDQ(zero, both)
		XORQ(both, equal)
		POPCNTQ(equal, equal)
		POPCNTQ(both, both)
		// 5·equal + 2·both ≥ 2·64: two fifths of what is not empty.
		LEAQ(Mem{Base: equal, Index: equal, Scale: 4}, equal)
		LEAQ(Mem{Base: equal, Index: both, Scale: 2}, equal)
		code := GP64()
		LEAQ(Mem{Base: number, Disp: j}, code)
		MOVL(code.As32(), Mem{Base: out, Index: found, Scale: 4})
		SUBQ(U32(128), equal)
		NOTQ(equal)
		SHRQ(Imm(63), equal)
		ADDQ(equal, found)
	}
	for j := range 3 {
		VMOVDQA64(a[j+1], a[j])
	}
	ADDQ(Imm(16), order)
	ADDQ(Imm(4), number)
	DECQ(n)
	JNE(LabelRef("next"))
	Label("done")
	Store(found, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// bandKeys writes the keys of the bands of signatures.
func bandKeys() {
	TEXT("bandKeysAVX512", NOSPLIT, "func(signatures *uint64, n int, keys *uint32)")
	Pragma("noescape")
	Doc("bandKeysAVX512 is bandKeys of n signatures, none of which is empty.")
	signatures, n, keys := Load(Param("signatures"), GP64()), Load(Param("n"), GP64()), Load(Param("keys"), GP64())
	m1, m2 := all(mix1), all(mix2)
	one, low6, low := all(1), all(63), all(0xff)
	fourth := K() // only the first band has a fourth byte
	{
		x := GP32()
		MOVL(U32(1), x)
		KMOVB(x, fourth)
	}
	first := ZMM()
	VMOVDQU64(table("bandNumbers", func(i int) byte { return lane(i, func(b int) int { return b + 1 }) }), first)
	var position [4]VecVirtual
	for step := range position {
		position[step] = ZMM()
		name := []string{"band0", "band1", "band2", "band3"}[step]
		VMOVDQU64(table(name, func(i int) byte { return lane(i, func(b int) int { return b*8/3 + 21*step }) }), position[step])
	}
	TESTQ(n, n)
	JLE(LabelRef("written"))
	Label("signature")
	z := ZMM()
	VMOVDQU64(Mem{Base: signatures}, z)
	k := K()
	VPTESTMB(z, z, k)
	mask := GP64()
	KMOVQ(k, mask)
	filled, h := ZMM(), ZMM()
	VPBROADCASTQ(mask, filled)
	VMOVDQA64(first, h)
	for step := range position {
		d, t := ZMM(), ZMM()
		// How far it is to the next that is not empty: the zeros below the lowest one.
		VPRORVQ(position[step], filled, d)
		VPSUBQ(one, d, t)
		VPANDNQ(t, d, d)
		VPOPCNTQ(d, d)
		VPADDQ(position[step], d, t)
		VPANDQ(low6, t, t)
		VPERMB(z, t, t)
		VPANDQ(low, t, t)
		VPSLLQ(Imm(8), t, t)
		if step < 3 {
			VPTERNLOGQ(Imm(0x1e), d, t, h) // h ^ (t | d)
			mix(h, m1, m2)
			continue
		}
		last := ZMM()
		VMOVDQA64(h, last)
		VPTERNLOGQ(Imm(0x1e), d, t, last)
		mix(last, m1, m2)
		VMOVDQA64(last, fourth, h)
	}
	y := YMM()
	VPMOVQD(h, y)
	VMOVDQU32(y, Mem{Base: keys})
	ADDQ(Imm(64), signatures)
	ADDQ(Imm(32), keys)
	DECQ(n)
	JNE(LabelRef("signature"))
	Label("written")
	VZEROUPPER()
	RET()
}

// lane is byte i of eight little-endian numbers.
func lane(i int, number func(lane int) int) byte {
	return byte(uint64(number(i/8)) >> (i % 8 * 8))
}
