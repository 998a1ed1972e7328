// Command gen writes the assembly of package wording:
//
//	go run . -pkg wording -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// What the Go side lays down: see noted in vector.go of the package.
const (
	mostText = 4096
	lower    = 0                     // [mostText + 64]byte
	starts   = lower + mostText + 64 // [mostText/2 + 32]uint32
	ends     = starts + 4*(mostText/2+32)
	words    = ends + 4*(mostText/2+32) // [mostText/2 + 16]uint64
	shingles = words + 8*(mostText/2+16)
	least    = shingles + 8*(mostText/2+16) // [64]uint64

	nextText = 512 // bytes ahead are fetched: texts mostly lie one behind the other

	hashSeed = 0xcbf29ce484222325
	hashMul  = 0x100000001b3
	number   = 0x6e756d626572
	mix1     = 0xbf58476d1ce4e5b9
	mix2     = 0x94d049bb133111eb

	// What a summary begins with, each in 32 bits.
	digits   = 0
	capitals = 1
	marks    = 2
	beyond   = 3
	inWords  = 4
	votes    = 5
)

func main() {
	ConstraintExpr("amd64")
	read()
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

// bytes broadcasts a byte to 64.
func bytes(v byte) VecVirtual {
	x, z := GP32(), ZMM()
	MOVL(U32(v), x)
	VPBROADCASTB(x, z)
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

// mixed is sketch.Mix.
func mixed(z uint64) uint64 {
	z = (z ^ z>>30) * mix1
	z = (z ^ z>>27) * mix2
	return z ^ z>>31
}

// read signs and summarises a text: where words begin and end is found 64 bytes at a time, and they are hashed eight at a time.
func read() {
	TEXT("readAVX512", NOSPLIT, "func(text *byte, size int, room, out *uint64, sums *int32) (all uint64, words int)")
	Pragma("noescape")
	Doc("readAVX512 signs a text of up to mostNoted bytes and returns the hash of its words as [shingler] has it, and their number.",
		"Of texts with ideographs that is less than 0, and they are not signed, nor are those with fewer than three words. Sums gets what a [Summary] begins with.")
	text, size := Load(Param("text"), GP64()), Load(Param("size"), GP64())
	room := Load(Param("room"), GP64())
	at := func(base int, index Register, scale uint8) Mem {
		return Mem{Base: room, Disp: base, Index: index, Scale: scale}
	}

	Comment("Where words begin and end. What is behind the text separates words.")
	count, offset := GP64(), GP64()
	XORQ(count, count)
	XORQ(offset, offset)
	carry := GP64()
	XORQ(carry, carry)
	{
		sums, nothing := Load(Param("sums"), GP64()), ZMM()
		VPXORQ(nothing, nothing, nothing)
		VMOVDQU64(nothing.AsY(), Mem{Base: sums})
		MOVL(U32(0), Mem{Base: sums, Disp: 32})
	}
	strange := K() // where ideographs were
	KXORQ(strange, strange, strange)
	iota64 := ZMM()
	VMOVDQU64(table("iota64", func(i int) byte { return byte(i) }), iota64)
	{
		digit0, ten := bytes('0'), bytes(10)
		upperA, lowerA, letters, space := bytes('A'), bytes('a'), bytes(26), bytes(0x20)
		high, ideograph, ideographs := bytes(0x80), bytes(0xe3), bytes(0xed-0xe3+1)
		Label("cut")
		rest := GP64()
		MOVQ(size, rest)
		SUBQ(offset, rest)
		full := GP64()
		MOVQ(I32(64), full)
		CMPQ(rest, full)
		CMOVQGT(full, rest)
		mask := GP64()
		MOVQ(I32(-1), mask)
		BZHIQ(rest, mask, mask)
		K1 := K()
		KMOVQ(mask, K1)
		z, t := ZMM(), ZMM()
		VMOVDQU8_Z(Mem{Base: text, Index: offset, Scale: 1}, K1, z)
		ka, kb, kc := K(), K(), K()
		VPSUBB(ideograph, z, t)
		VPCMPUB(Imm(1), ideographs, t, ka)
		PREFETCHT0(Mem{Base: text, Index: offset, Scale: 1, Disp: nextText})
		KORQ(ka, strange, strange)
		VPSUBB(upperA, z, t)
		VPCMPUB(Imm(1), letters, t, ka)
		sums := Load(Param("sums"), GP64())
		add := func(k Register, at int) {
			n := GP64()
			KMOVQ(k, n)
			POPCNTQ(n, n)
			ADDL(n.As32(), Mem{Base: sums, Disp: 4 * at})
		}
		add(ka, capitals)
		VPORQ(space, z, t)
		VMOVDQU8(t, ka, z)
		VMOVDQU64(z, at(lower, offset, 1))
		VPSUBB(lowerA, z, t)
		VPCMPUB(Imm(1), letters, t, ka)
		VPSUBB(digit0, z, t)
		VPCMPUB(Imm(1), ten, t, kb)
		VPCMPUB(Imm(5), high, z, kc)
		add(kb, digits)
		add(kc, beyond)
		KORQ(ka, kb, ka)
		KORQ(ka, kc, ka)
		add(ka, inWords)
		VPCMPUB(Imm(6), space, z, kb)
		KANDNQ(kb, ka, kb)
		add(kb, marks)
		inside, before, start, end := GP64(), GP64(), GP64(), GP64()
		KMOVQ(ka, inside)
		LEAQ(Mem{Base: carry, Index: inside, Scale: 2}, before)
		MOVQ(inside, carry)
		SHRQ(Imm(63), carry)
		ANDNQ(inside, before, start)
		ANDNQ(before, inside, end)
		// Begins and ends are noted one behind the other; a word that goes on into the next 64 bytes has no end yet.
		begun := GP64()
		POPCNTQ(start, begun)
		base := ZMM()
		VPBROADCASTD(offset.As32(), base)
		note := func(which Register, array int, upTo Register) {
			k, z := K(), ZMM()
			KMOVQ(which, k)
			VPCOMPRESSB_Z(iota64, k, z)
			wide := ZMM()
			VPMOVZXBD(z.AsX(), wide)
			VPADDD(base, wide, wide)
			VMOVDQU32(wide, at(array, upTo, 4))
			VEXTRACTI32X4(Imm(1), z.AsY(), z.AsX())
			VPMOVZXBD(z.AsX(), wide)
			VPADDD(base, wide, wide)
			VMOVDQU32(wide, at(array+64, upTo, 4))
		}
		note(start, starts, count)
		endsAt := GP64()
		MOVQ(count, endsAt)
		hang := GP64()
		MOVQ(before, hang)
		ANDQ(Imm(1), hang)
		SUBQ(hang, endsAt)
		note(end, ends, endsAt)
		ADDQ(begun, count)
		ADDQ(Imm(64), offset)
		CMPQ(offset, size)
		JLE(LabelRef("cut"))
	}

	Comment("What words and shingles are hashed to, eight at a time.")
	m1, m2 := all(mix1), all(mix2)
	{
		seed, factor, numbers := all(hashSeed), all(hashMul), all(mixed(number))
		low, some := all(0xff), all(0xc0)
		steps := make([]VecVirtual, 8)
		for k := range steps {
			steps[k] = all(uint64(k))
		}
		eight, eight32 := all(8), YMM()
		bitsOf := []VecVirtual{steps[1], steps[2], steps[4], eight}
		{
			x := GP32()
			MOVL(U32(8), x)
			VPBROADCASTD(x, eight32)
		}
		last := ZMM()
		VPXORQ(last, last, last)
		g := GP64()
		XORQ(g, g)
		lanes := YMM()
		VPMOVZXBD(iota64.AsX(), lanes)
		Label("hash")
		CMPQ(g, count)
		JGE(LabelRef("hashed"))
		rest := GP64()
		MOVQ(count, rest)
		SUBQ(g, rest)
		restV := YMM()
		VPBROADCASTD(rest.As32(), restV)
		k := K()
		VPCMPUD(Imm(1), restV, lanes, k)
		from, upTo := YMM(), YMM()
		VMOVDQU32_Z(at(starts, g, 4), k, from)
		VMOVDQU32_Z(at(ends, g, 4), k, upTo)
		VPSUBD(from, upTo, upTo)
		length := ZMM()
		VPMOVZXDQ(upTo, length)
		h, seen := ZMM(), ZMM()
		VMOVDQA64(seed, h)
		VPXORQ(seen, seen, seen)
		Label("letters")
		w := ZMM()
		kg := K()
		KXNORQ(kg, kg, kg)
		VPGATHERDQ(Mem{Base: room, Disp: lower, Index: from, Scale: 1}, kg, w)
		for step := range 8 {
			ks, t := K(), ZMM()
			VPCMPUQ(Imm(1), length, steps[step], ks)
			VPANDQ(low, w, t)
			VPORQ(t, seen, ks, seen)
			VPXORQ(t, h, t)
			VPMULLQ(factor, t, ks, h)
			if step < 7 {
				VPSRLQ(Imm(8), w, w)
			}
		}
		kl := K()
		VPCMPUQ(Imm(6), eight, length, kl) // more than eight
		KORTESTB(kl, kl)
		JE(LabelRef("ended"))
		VPSUBQ_Z(eight, length, kl, length)
		VPADDD(eight32, from, from)
		JMP(LabelRef("letters"))
		Label("ended")
		kn := K()
		VPTESTNMQ(some, seen, kn)
		mix(h, m1, m2)
		sums := Load(Param("sums"), GP64())
		for bit := range 4 {
			kv, n := K(), GP32()
			VPTESTMQ(bitsOf[bit], h, k, kv)
			KMOVB(kv, n)
			POPCNTL(n, n)
			ADDL(n, Mem{Base: sums, Disp: 4 * (votes + bit)})
		}
		VMOVDQA64(numbers, kn, h)
		VMOVDQU64(h, at(words, g, 8))
		b1, b2 := ZMM(), ZMM()
		VALIGNQ(Imm(7), last, h, b1)
		VALIGNQ(Imm(6), last, h, b2)
		VMOVDQA64(h, last)
		VPROLQ(Imm(21), b1, b1)
		VPROLQ(Imm(42), b2, b2)
		VPTERNLOGQ(Imm(0x96), b1, b2, h)
		mix(h, m1, m2)
		VMOVDQU64(h, at(shingles, g, 8))
		ADDQ(Imm(8), g)
		JMP(LabelRef("hash"))
		Label("hashed")
	}

	KORTESTQ(strange, strange)
	JNE(LabelRef("ideographs"))
	Comment("The least hash in each bin, and the hash of all words.")
	sum, i := GP64(), GP64()
	XORQ(sum, sum)
	XORQ(i, i)
	factor := GP64()
	MOVQ(U64(hashMul), factor)
	{
		ones := ZMM()
		VPTERNLOGD(Imm(0xff), ones, ones, ones)
		for line := range 8 {
			VMOVDQU64(ones, Mem{Base: room, Disp: least + 64*line})
		}
		for range 2 { // the first two words begin no shingle
			CMPQ(i, count)
			JGE(LabelRef("summed"))
			ROLQ(Imm(5), sum)
			IMULQ(factor, sum)
			XORQ(at(words, i, 8), sum)
			INCQ(i)
		}
		Label("bins")
		CMPQ(i, count)
		JGE(LabelRef("binned"))
		ROLQ(Imm(5), sum)
		IMULQ(factor, sum)
		XORQ(at(words, i, 8), sum)
		s, bin := GP64(), GP64()
		MOVQ(at(shingles, i, 8), s)
		MOVQ(s, bin)
		SHRQ(Imm(58), bin)
		old := GP64()
		MOVQ(at(least, bin, 8), old)
		CMPQ(s, old)
		CMOVQCC(old, s)
		MOVQ(s, at(least, bin, 8))
		INCQ(i)
		JMP(LabelRef("bins"))
		Label("binned")
		out := Load(Param("out"), GP64())
		one := bytes(1)
		onesX := one.AsX()
		for line := range 8 {
			k, z := K(), ZMM()
			VMOVDQU64(Mem{Base: room, Disp: least + 64*line}, z)
			VPCMPEQQ(ones, z, k)
			VPMOVQB(z, z.AsX())
			x := z.AsX()
			VPMAXUB(onesX, x, x)
			word, mask := GP64(), GP64()
			VMOVQ(x, word)
			kx := XMM()
			VPMOVM2B(k, kx)
			VMOVQ(kx, mask)
			ANDNQ(word, mask, word)
			MOVQ(word, Mem{Base: out, Disp: 8 * line})
		}
	}
	Label("summed")
	Store(sum, ReturnIndex(0))
	Store(count, ReturnIndex(1))
	VZEROUPPER()
	RET()
	Label("ideographs")
	none := GP64()
	XORQ(none, none)
	Store(none, ReturnIndex(0))
	MOVQ(count, none)
	NOTQ(none)
	Store(none, ReturnIndex(1))
	VZEROUPPER()
	RET()
}
