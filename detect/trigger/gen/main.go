// Command gen writes the assembly of package trigger:
//
//	go run . -pkg trigger -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// What the Go side says: see features.go and rare.go.
const (
	golden             = 0x9e3779b97f4a7c15
	families           = 0xbf58476d1ce4e5b9
	scrambled          = 0xd6e8feb86659fd93
	glued, pair, shape = 1, 2, 3
	edge, star         = 1 << 30, 1<<30 + 1

	setBits  = 22
	slotBits = 12
	slotMul  = 0x9e3779b1
)

func main() {
	ConstraintExpr("amd64")
	rare()
	Generate()
}

func all(v uint64) VecVirtual {
	x, z := GP64(), ZMM()
	MOVQ(U64(v), x)
	VPBROADCASTQ(x, z)
	return z
}

func all32(v uint32) VecVirtual {
	x, y := GP32(), YMM()
	MOVL(U32(v), x)
	VPBROADCASTD(x, y)
	return y
}

// rare looks up eight features at a time.
func rare() {
	TEXT("rareAVX512", NOSPLIT, "func(row *uint32, n int, functions *uint32, set, parts, found *uint64, codes *uint32) (rare, skeleton int)")
	Pragma("noescape")
	Doc("rareAVX512 finds the features of n tokens that are not in a set, but for those of the ends of a row: words, glued marks, pairs but the last,",
		"and skeletons of three and four parts. It writes them to found, codes that rise in the order of Append to codes, and the parts",
		"of the skeleton to parts, of which there are skeleton. It reads parts[-1], and writes up to eight behind the last of each.")
	row, n := Load(Param("row"), GP64()), Load(Param("n"), GP64())
	functions, set := Load(Param("functions"), GP64()), Load(Param("set"), GP64())
	parts, found, codes := Load(Param("parts"), GP64()), Load(Param("found"), GP64()), Load(Param("codes"), GP64())

	factor, scramble, one, low6, rest := all(golden), all(scrambled), all(1), all(63), GP64()
	product := func(a, b uint64) VecVirtual { return all(a * b) }
	glueds, pairs, shapes := product(families, glued), product(families, pair), product(families, shape)
	stars, last := product(golden, star), product(golden, edge)
	lanes := YMM()
	{
		data := GLOBL("lanes", RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(uint32(i)))
		}
		VMOVDQU32(data, lanes)
	}
	three := all32(3)
	code, step := YMM(), all32(24)
	VPMULLD(three, lanes, code)
	more := []VecVirtual{1: all32(1), 2: all32(2)}
	count := GP64()
	XORQ(count, count)

	// test notes which of eight features, of those in mask, are not in the set.
	test := func(f VecVirtual, mask Register, code VecVirtual, ahead uint32) {
		t := ZMM()
		VPSRLQ(Imm(32), f, t)
		VPXORQ(t, f, f)
		VPMULLQ(scramble, f, f)
		at, w, k := ZMM(), ZMM(), K()
		VPSRLQ(Imm(64-setBits+6), f, at)
		KMOVB(mask, k)
		VPXORQ(w, w, w)
		VPGATHERQQ(Mem{Base: set, Index: at, Scale: 8}, k, w)
		VPSRLQ(Imm(64-setBits), f, t)
		VPANDQ(low6, t, t)
		VPSRLVQ(t, w, w)
		KMOVB(mask, k)
		VPTESTNMQ(one, w, k, k)
		c := YMM()
		VPCOMPRESSQ_Z(f, k, f)
		if ahead == 0 {
			VPCOMPRESSD_Z(code, k, c)
		} else {
			VPADDD(more[ahead], code, c)
			VPCOMPRESSD_Z(c, k, c)
		}
		VMOVDQU64(f, Mem{Base: found, Index: count, Scale: 8})
		VMOVDQU32(c, Mem{Base: codes, Index: count, Scale: 4})
		many := GP32()
		KMOVB(k, many)
		POPCNTL(many, many)
		ADDQ(many.As64(), count)
	}

	Comment("Words, glued marks and pairs, and the parts of the skeleton.")
	i, length, carry := GP64(), GP64(), GP32()
	XORQ(i, i)
	XORQ(length, length)
	XORL(carry, carry)
	{
		multiplier, mask32, one32 := all32(slotMul), all32(1<<slotBits-1), all32(1)
		zero := YMM()
		VPXORD(zero, zero, zero)
		Label("tokens")
		CMPQ(i, n)
		JGE(LabelRef("counted"))
		MOVQ(n, rest)
		SUBQ(i, rest)
		y, k := YMM(), K()
		VPBROADCASTD(rest.As32(), y)
		VPCMPUD(Imm(1), y, lanes, k)
		mask := GP32()
		KMOVB(k, mask)
		t, id := YMM(), YMM()
		VMOVDQU32_Z(Mem{Base: row, Index: i, Scale: 4}, k, t)
		VPSRLD(Imm(2), t, id)
		h, f := ZMM(), ZMM()
		VPMOVZXDQ(id, h)
		VPMULLQ(factor, h, h)
		VMOVDQA64(h, f)
		test(f, mask, code, 0)

		VPANDD(three, t, t)
		kg, some := K(), GP32()
		VPCMPEQD(three, t, k, kg)
		KMOVB(kg, some)
		TESTL(some, some)
		JE(LabelRef("unglued"))
		VPADDQ(glueds, h, f)
		test(f, some, code, 1)
		Label("unglued")

		b := ZMM()
		VALIGNQ(Imm(7), last, h, f)
		VMOVDQA64(h, last)
		VPROLQ(Imm(21), h, b)
		VPADDQ(b, f, f)
		VPADDQ(pairs, f, f)
		test(f, mask, code, 2)
		VPADDD(step, code, code)

		Comment("A word of the table stands at its place or behind others that do.")
		at, want, slot := YMM(), YMM(), YMM()
		VPMULLD(multiplier, id, at)
		VPSRLD(Imm(32-slotBits), at, at)
		VPADDD(one32, id, want)
		is, other := K(), K()
		KXORB(is, is, is)
		open := K()
		KMOVB(mask, open)
		Label("slots")
		kc := K()
		KMOVB(open, kc)
		VPXORD(slot, slot, slot)
		VPGATHERDD(Mem{Base: functions, Index: at, Scale: 4}, kc, slot)
		VPCMPEQD(want, slot, open, other)
		KORB(other, is, is)
		VPCMPUD(Imm(4), want, slot, open, open)
		VPCMPUD(Imm(4), zero, slot, open, open)
		VPADDD(one32, at, at)
		VPANDD(mask32, at, at)
		KORTESTB(open, open)
		JNE(LabelRef("slots"))

		function, starred := GP32(), GP32()
		KMOVB(is, function)
		MOVL(mask, starred)
		XORL(function, starred) // those of the table are of the mask
		before, keep := GP32(), GP32()
		LEAL(Mem{Base: carry, Index: starred, Scale: 2}, before)
		MOVL(starred, carry)
		SHRL(Imm(7), carry)
		ANDL(starred, before)
		MOVL(mask, keep)
		XORL(before, keep)
		ks := K()
		KMOVB(starred, ks)
		VMOVDQA64(stars, ks, h)
		KMOVB(keep, ks)
		VPCOMPRESSQ_Z(h, ks, h)
		VMOVDQU64(h, Mem{Base: parts, Index: length, Scale: 8})
		POPCNTL(keep, keep)
		ADDQ(keep.As64(), length)
		ADDQ(Imm(8), i)
		JMP(LabelRef("tokens"))
		Label("counted")
	}

	Comment("Three and four parts of the skeleton.")
	{
		// Codes go on behind those of n tokens and what stands at a row's ends.
		base := GP32()
		LEAL(Mem{Base: n, Index: n, Scale: 2, Disp: 8}, base)
		VPBROADCASTD(base, code)
		twice := YMM()
		VPADDD(lanes, lanes, twice)
		VPADDD(twice, code, code)
		sixteen := all32(16)
		four := GP32()
		MOVL(U32(0xfe), four)
		MOVQ(U32(2), i)
		Label("parts")
		CMPQ(i, length)
		JGE(LabelRef("done"))
		MOVQ(length, rest)
		SUBQ(i, rest)
		y, k := YMM(), K()
		VPBROADCASTD(rest.As32(), y)
		VPCMPUD(Imm(1), y, lanes, k)
		mask := GP32()
		KMOVB(k, mask)
		at := func(back int) Mem { return Mem{Base: parts, Index: i, Scale: 8, Disp: -8 * back} }
		f, a, b := ZMM(), ZMM(), ZMM()
		VPROLQ(Imm(21), at(1), a)
		VPROLQ(Imm(42), at(0), b)
		VPADDQ(a, b, f)
		VPADDQ(at(2), f, f)
		VPADDQ(shapes, f, f)
		test(f, mask, code, 0)
		ANDL(four, mask)
		MOVL(U32(0xff), four)
		VPROLQ(Imm(21), at(2), a)
		VPROLQ(Imm(42), at(1), b)
		VPADDQ(a, b, f)
		VPROLQ(Imm(53), at(0), a)
		VPADDQ(a, f, f)
		VPADDQ(at(3), f, f)
		VPADDQ(shapes, f, f)
		test(f, mask, code, 1)
		VPADDD(sixteen, code, code)
		ADDQ(Imm(8), i)
		JMP(LabelRef("parts"))
		Label("done")
	}
	Store(count, ReturnIndex(0))
	Store(length, ReturnIndex(1))
	VZEROUPPER()
	RET()
}
