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

	ahead = 1024 // bytes by which tokens are fetched before they are asked for, most often those of the rows that follow
)

func main() {
	ConstraintExpr("amd64")
	rare()
	words()
	features()
	numbers()
	evidence()
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

func product(a, b uint64) VecVirtual { return all(a * b) }

var laneNumbers = func() func() Mem {
	var data *Mem
	return func() Mem {
		if data == nil {
			m := GLOBL("lanes", RODATA|NOPTR)
			for i := range 8 {
				DATA(4*i, U32(uint32(i)))
			}
			data = &m
		}
		return *data
	}
}()

// eightLanes are the numbers from 0 to 7.
func eightLanes() VecVirtual {
	y := YMM()
	VMOVDQU32(laneNumbers(), y)
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
	glueds, pairs, shapes := product(families, glued), product(families, pair), product(families, shape)
	stars, last := product(golden, star), product(golden, edge)
	lanes := eightLanes()
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
	i := GP64()
	XORQ(i, i)
	shorten := newSkeleton(stars)
	length := shorten.length
	{
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

		shorten.emit(functions, parts, id, h, mask)
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

// skeleton writes the parts of a skeleton, of which there are length.
type skeleton struct {
	stars, multiplier, mask, one, zero VecVirtual
	length                             GPVirtual
	carry                              GPVirtual // whether the last token was no function word
}

func newSkeleton(stars VecVirtual) skeleton {
	s := skeleton{stars: stars, multiplier: all32(slotMul), mask: all32(1<<slotBits - 1), one: all32(1), zero: YMM(), length: GP64(), carry: GP32()}
	VPXORD(s.zero, s.zero, s.zero)
	XORQ(s.length, s.length)
	XORL(s.carry, s.carry)
	return s
}

// emit goes on by the tokens in mask, of which id has the numbers and h the same, spread, and spoils h.
func (s skeleton) emit(functions, parts Register, id, h VecVirtual, mask GPVirtual) {
	stars, multiplier, mask32, one32, zero, length, carry := s.stars, s.multiplier, s.mask, s.one, s.zero, s.length, s.carry
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
}

// words makes eight words' features at a time.
func words() {
	TEXT("wordsAVX512", NOSPLIT, "func(row *uint32, n, words int, index *uint32)")
	Pragma("noescape")
	Doc("wordsAVX512 writes the buckets of n tokens to index, of a table of so many bits, and up to seven more behind.")
	row, n := Load(Param("row"), GP64()), Load(Param("n"), GP64())
	shift := shiftOf(64, Load(Param("words"), GP64()))
	index := Load(Param("index"), GP64())
	factor, lanes := all(golden), eightLanes()
	i := GP64()
	XORQ(i, i)
	Label("tokens")
	CMPQ(i, n)
	JGE(LabelRef("done"))
	PREFETCHT0(Mem{Base: row, Index: i, Scale: 4, Disp: ahead})
	k, y, h := valid(i, n, lanes), YMM(), ZMM()
	VMOVDQU32_Z(Mem{Base: row, Index: i, Scale: 4}, k, y)
	VPSRLD(Imm(2), y, y)
	VPMOVZXDQ(y, h)
	VPMULLQ(factor, h, h)
	VPSRLQ(shift, h, h)
	VPMOVQD(h, y)
	VMOVDQU32(y, Mem{Base: index, Index: i, Scale: 4})
	ADDQ(Imm(8), i)
	JMP(LabelRef("tokens"))
	Label("done")
	VZEROUPPER()
	RET()
}

// shiftOf is a number less the bits of a table.
func shiftOf(less uint32, bits Register) VecVirtual {
	r, x := GP64(), XMM()
	MOVQ(U32(less), r)
	SUBQ(bits, r)
	VMOVQ(r, x)
	return x
}

// valid tells which of the eight from i on there are of n.
func valid(i, n Register, lanes VecVirtual) Register {
	rest, y, k := GP64(), YMM(), K()
	MOVQ(n, rest)
	SUBQ(i, rest)
	VPBROADCASTD(rest.As32(), y)
	VPCMPUD(Imm(1), y, lanes, k)
	return k
}

// features makes eight features at a time.
func features() {
	TEXT("featuresAVX512", NOSPLIT, "func(row *uint32, n int, functions *uint32, words, others int, parts *uint64, marks, index *uint32) (features, skeleton int)")
	Pragma("noescape")
	Doc("featuresAVX512 writes the buckets of the features of n tokens, but for openings, to index, in the order of extractor.places, and the parts of the",
		"skeleton to parts, of which there are skeleton. Tables are of so many bits. It reads up to eleven behind the last of parts, and up to seven behind that of marks,",
		"which is scratch, and writes up to seven behind the last of each, and sixteen of index.")
	row, n := Load(Param("row"), GP64()), Load(Param("n"), GP64())
	functions := Load(Param("functions"), GP64())
	words, others := Load(Param("words"), GP64()), Load(Param("others"), GP64())
	parts, marks, index := Load(Param("parts"), GP64()), Load(Param("marks"), GP64()), Load(Param("index"), GP64())

	factor, scramble := all(golden), all(scrambled)
	glueds, shapes := product(families, glued), product(families, shape)
	stars, edges := product(golden, star), product(golden, edge)
	lanes := eightLanes()
	three := all32(3)

	wordShift, otherShift := shiftOf(64, words), shiftOf(65, others)
	pairBase, otherBase := ZMM(), ZMM()
	{
		r, one := GP64(), GP64()
		MOVQ(U32(1), one)
		MOVQ(words, RCX)
		SHLQ(CL, one)
		VPBROADCASTQ(one, pairBase)
		MOVQ(U32(1), r)
		MOVQ(others, RCX)
		DECQ(RCX)
		SHLQ(CL, r)
		ADDQ(r, one)
		VPBROADCASTQ(one, otherBase)
	}
	// bucket spoils f.
	bucket := func(f, base VecVirtual) {
		t := ZMM()
		VPSRLQ(Imm(32), f, t)
		VPXORQ(t, f, f)
		VPMULLQ(scramble, f, f)
		VPSRLQ(otherShift, f, f)
		VPADDQ(base, f, f)
	}

	Comment("Words, the numbers of glued marks, and the parts of the skeleton.")
	i, glue := GP64(), GP64()
	XORQ(i, i)
	XORQ(glue, glue)
	shorten := newSkeleton(stars)
	{
		Label("tokens")
		CMPQ(i, n)
		JGE(LabelRef("counted"))
		PREFETCHT0(Mem{Base: row, Index: i, Scale: 4, Disp: ahead})
		k := valid(i, n, lanes)
		mask := GP32()
		KMOVB(k, mask)
		t, id, y := YMM(), YMM(), YMM()
		VMOVDQU32_Z(Mem{Base: row, Index: i, Scale: 4}, k, t)
		VPSRLD(Imm(2), t, id)
		h, f := ZMM(), ZMM()
		VPMOVZXDQ(id, h)
		VPMULLQ(factor, h, h)
		VPSRLQ(wordShift, h, f)
		VPMOVQD(f, y)
		VMOVDQU32(y, Mem{Base: index, Index: i, Scale: 4})

		VPANDD(three, t, t)
		kg, some := K(), GP32()
		VPCMPEQD(three, t, k, kg)
		VPCOMPRESSD_Z(id, kg, y)
		VMOVDQU32(y, Mem{Base: marks, Index: glue, Scale: 4})
		KMOVB(kg, some)
		POPCNTL(some, some)
		ADDQ(some.As64(), glue)
		shorten.emit(functions, parts, id, h, mask)
		ADDQ(Imm(8), i)
		JMP(LabelRef("tokens"))
		Label("counted")
	}

	Comment("Glued marks.")
	to := GP64()
	LEAQ(Mem{Base: index, Index: n, Scale: 4}, to)
	XORQ(i, i)
	{
		Label("marks")
		CMPQ(i, glue)
		JGE(LabelRef("marked"))
		h, y := ZMM(), YMM()
		VPMOVZXDQ(Mem{Base: marks, Index: i, Scale: 4}, h)
		VPMULLQ(factor, h, h)
		VPADDQ(glueds, h, h)
		bucket(h, otherBase)
		VPMOVQD(h, y)
		VMOVDQU32(y, Mem{Base: to, Index: i, Scale: 4})
		ADDQ(Imm(8), i)
		JMP(LabelRef("marks"))
		Label("marked")
	}

	Comment("Pairs: behind the last token is the edge.")
	LEAQ(Mem{Base: to, Index: glue, Scale: 4}, to)
	last := ZMM()
	VMOVDQA64(edges, last)
	XORQ(i, i)
	{
		Label("pairs")
		CMPQ(i, n)
		JG(LabelRef("paired"))
		k := valid(i, n, lanes)
		id, h, f, b, y := YMM(), ZMM(), ZMM(), ZMM(), YMM()
		VMOVDQU32_Z(Mem{Base: row, Index: i, Scale: 4}, k, id)
		VPSRLD(Imm(2), id, id)
		VMOVDQA64(edges, h)
		VPMOVZXDQ(id, f)
		VPMULLQ(factor, f, k, h)
		VALIGNQ(Imm(7), last, h, f)
		VMOVDQA64(h, last)
		VPROLQ(Imm(21), h, b)
		VPADDQ(b, f, f)
		bucket(f, pairBase)
		VPMOVQD(f, y)
		VMOVDQU32(y, Mem{Base: to, Index: i, Scale: 4})
		ADDQ(Imm(8), i)
		JMP(LabelRef("pairs"))
		Label("paired")
	}
	LEAQ(Mem{Base: to, Index: n, Scale: 4, Disp: 4}, to)

	Comment("Three and four parts of the skeleton, in turns; the last has three.")
	triples := GP64()
	LEAQ(Mem{Base: shorten.length, Disp: -2}, triples)
	XORQ(i, i)
	{
		Label("parts")
		CMPQ(i, triples)
		JGE(LabelRef("done"))
		at := func(k int) Mem { return Mem{Base: parts, Index: i, Scale: 8, Disp: 8 * k} }
		f, g, a := ZMM(), ZMM(), ZMM()
		VPROLQ(Imm(21), at(1), f)
		VPROLQ(Imm(42), at(2), a)
		VPADDQ(a, f, f)
		VPADDQ(at(0), f, f)
		VPADDQ(shapes, f, f)
		VPROLQ(Imm(53), at(3), g)
		VPADDQ(f, g, g)
		bucket(f, otherBase)
		bucket(g, otherBase)
		VPSLLQ(Imm(32), g, g)
		VPORQ(g, f, f)
		VMOVDQU64(f, Mem{Base: to, Index: i, Scale: 8})
		ADDQ(Imm(8), i)
		JMP(LabelRef("parts"))
		Label("done")
	}
	SUBQ(index, to)
	SHRQ(Imm(2), to)
	CMPQ(triples, Imm(0))
	JLE(LabelRef("short"))
	LEAQ(Mem{Base: to, Index: triples, Scale: 2, Disp: -1}, to)
	Label("short")
	Store(to, ReturnIndex(0))
	Store(shorten.length, ReturnIndex(1))
	VZEROUPPER()
	RET()
}

// numbers looks up eight buckets at a time.
func numbers() {
	TEXT("numbersAVX512", NOSPLIT, "func(index *uint32, n int, numbers *uint64)")
	Pragma("noescape")
	Doc("numbersAVX512 puts numbers in place of n buckets, as numbering.of does. It writes up to seven behind the last.")
	index, n, table := Load(Param("index"), GP64()), Load(Param("n"), GP64()), Load(Param("numbers"), GP64())
	lanes := eightLanes()
	one, low := all(1), all(31)
	i := GP64()
	XORQ(i, i)
	Label("loop")
	CMPQ(i, n)
	JGE(LabelRef("done"))
	k, y, kg := valid(i, n, lanes), YMM(), K()
	at, block, bit, bits := ZMM(), ZMM(), ZMM(), ZMM()
	VMOVDQU32_Z(Mem{Base: index, Index: i, Scale: 4}, k, y)
	VPMOVZXDQ(y, at)
	VPANDQ(low, at, bit)
	VPSRLQ(Imm(5), at, at)
	VPXORQ(block, block, block)
	KMOVB(k, kg)
	VPGATHERQQ(Mem{Base: table, Index: at, Scale: 8}, kg, block)
	VPSLLVQ(bit, one, bit)
	is := K()
	VPTESTMQ(bit, block, is)
	VPSUBQ(one, bit, bit)
	VPANDQ(bit, block, bits)
	VPOPCNTQ(bits, bits)
	VPSRLQ(Imm(32), block, block)
	VPADDQ_Z(bits, block, is, block)
	VPMOVQD(block, y)
	VMOVDQU32(y, Mem{Base: index, Index: i, Scale: 4})
	ADDQ(Imm(8), i)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// evidence is for features of which all numbers lie together.
func evidence() {
	TEXT("evidenceAVX512", NOSPLIT, "func(index *uint32, n int, weights *int16, stride int, most *[8]uint16, sums *[4]int32)")
	Pragma("noescape")
	Doc("evidenceAVX512 notes the largest of the first and of the second numbers of n weights, without sign, and the sum of the third ones. A weight has three of",
		"16 bits, and stands so many strides of so many bytes behind the first. It reads two bytes behind a weight.")
	index, n := Load(Param("index"), GP64()), Load(Param("n"), GP64())
	weights, stride := Load(Param("weights"), GP64()), Load(Param("stride"), GP64())
	most, total := Load(Param("most"), GP64()), Load(Param("sums"), GP64())
	peak, sum := [2]VecVirtual{XMM(), XMM()}, [2]VecVirtual{XMM(), XMM()}
	for k := range 2 {
		VPXOR(peak[k], peak[k], peak[k])
		VPXOR(sum[k], sum[k], sum[k])
	}
	i, whole := GP64(), GP64()
	add := func(k, ahead int) {
		at, x := GP64(), XMM()
		MOVL(Mem{Base: index, Index: i, Scale: 4, Disp: 4 * ahead}, at.As32())
		IMULQ(stride, at)
		VMOVQ(Mem{Base: weights, Index: at, Scale: 1}, x)
		VPMAXUW(x, peak[k], peak[k])
		VPSRLQ(Imm(32), x, x)
		VPMOVSXWD(x, x)
		VPADDD(x, sum[k], sum[k])
	}
	XORQ(i, i)
	MOVQ(n, whole)
	ANDQ(I8(-4), whole)
	Label("four")
	CMPQ(i, whole)
	JGE(LabelRef("one"))
	for k := range 4 {
		add(k%2, k)
	}
	ADDQ(Imm(4), i)
	JMP(LabelRef("four"))
	Label("one")
	CMPQ(i, n)
	JGE(LabelRef("done"))
	add(0, 0)
	INCQ(i)
	JMP(LabelRef("one"))
	Label("done")
	VPMAXUW(peak[1], peak[0], peak[0])
	VPADDD(sum[1], sum[0], sum[0])
	VMOVDQU(peak[0], Mem{Base: most})
	VMOVDQU(sum[0], Mem{Base: total})
	RET()
}
