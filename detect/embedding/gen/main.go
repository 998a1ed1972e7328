// Command gen writes the assembly of package embedding:
//
//	go run . -pkg embedding -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	cutText()
	addTrigrams()
	addWords()
	Generate()
}

// The predicates of VPCMP.
var (
	less    = Imm(1)
	upTo    = Imm(2)
	greater = Imm(6)
)

// bytes fills a register with one byte.
func bytes(b uint8) VecVirtual {
	v := ZMM()
	VPBROADCASTD(constant(fmt.Sprintf("d%02x", b), U32(uint32(b)*0x01010101)), v)
	return v
}

// quads fills a register with one number of 64 bits.
func quads(x uint64) VecVirtual {
	v := ZMM()
	VPBROADCASTQ(constant(fmt.Sprintf("q%016x", x), U64(x)), v)
	return v
}

// constant declares read-only data once.
func constant(name string, values ...Constant) Mem {
	data, ok := declared[name]
	if !ok {
		data = GLOBL(name, RODATA|NOPTR)
		at := 0
		for _, v := range values {
			DATA(at, v)
			at += v.Bytes()
		}
		declared[name] = data
	}
	return data
}

var declared = map[string]Mem{}

// upToRest sets k to the lowest n bits, all of them from 64 on and none below 0.
func upToRest(n Register, k Register) {
	count, all, none := GP64(), GP64(), GP64()
	MOVQ(n, count)
	XORQ(none, none)
	TESTQ(count, count)
	CMOVQLT(none, count)
	MOVQ(I32(64), all)
	CMPQ(count, all)
	CMOVQGT(all, count)
	// BZHI takes the index modulo 256, and leaves all bits from 64 on.
	MOVQ(I32(-1), all)
	BZHIQ(count, all, all)
	KMOVQ(all, k)
}

// shifted returns mask a bit up, with the highest bit of before below.
func shifted(mask, before Register) GPVirtual {
	out := GP64()
	MOVQ(mask, out)
	SHLQ(Imm(1), before, out)
	return out
}

// emit writes the places of a mask's bits, of which no two are side by side, behind at, and moves on by as many.
func emit(mask GPVirtual, numbers, at VecVirtual, to Register, label string) {
	k, v, low, n := K(), ZMM(), ZMM(), GP64()
	KMOVQ(mask, k)
	VPCOMPRESSB_Z(numbers, k, v)
	VPMOVZXBD(v.AsX(), low)
	VPADDD(at, low, low)
	VMOVDQU32(low, Mem{Base: to})
	POPCNTQ(mask, n)
	CMPQ(n, Imm(16))
	JLE(LabelRef(label))
	VEXTRACTI128(Imm(1), v.AsY(), v.AsX())
	VPMOVZXBD(v.AsX(), low)
	VPADDD(at, low, low)
	VMOVDQU32(low, Mem{Base: to, Disp: 64})
	Label(label)
	LEAQ(Mem{Base: to, Index: n, Scale: 4}, to)
}

// cutText folds 64 bytes at a time and finds where words begin and end.
func cutText() {
	TEXT("cutText", NOSPLIT, "func(text *byte, n int, small, kept *byte, from, to *uint32) (words, bytes int)")
	Pragma("noescape")
	Doc("cutText writes n bytes of text to small as they count, and to kept without blanks that follow a blank, or nothing; of the latter it returns how many there",
		"are. It returns too how many runs there are of letters, digits and bytes beyond ASCII: from, where each begins in small; to, where it ends. It reads n bytes, and writes",
		"up to 64 bytes and 16 places more than there are, and 64 bytes more.")
	text, n := Load(Param("text"), GP64()), Load(Param("n"), GP64())
	small, kept := Load(Param("small"), GP64()), Load(Param("kept"), GP64())
	from, to := Load(Param("from"), GP64()), Load(Param("to"), GP64())
	caseBit, a, letters, upper := bytes(0x20), bytes('a'), bytes(26), bytes('A')
	zero, digits := bytes('0'), bytes(10)
	var values []Constant
	for i := range uint8(64) {
		values = append(values, U8(i))
	}
	numbers, at, step := ZMM(), ZMM(), ZMM()
	VMOVDQU8(constant("numbers", values...), numbers)
	VPXORD(at, at, at)
	VPBROADCASTD(constant("d64", U32(64)), step)
	inBefore, blankBefore := GP64(), GP64()
	XORQ(inBefore, inBefore)
	MOVQ(I32(-1), blankBefore)

	Label("block")
	valid := K()
	upToRest(n, valid)
	v, t, folded := ZMM(), ZMM(), ZMM()
	VMOVDQU8_Z(Mem{Base: text}, valid, v)
	k, words := K(), K()
	VMOVDQA64(v, folded)
	VPSUBB(upper, v, t)
	VPCMPUB(less, letters, t, k)
	VPADDB(caseBit, v, k, folded)
	VPSUBB(zero, v, t)
	VPCMPUB(less, digits, t, words)
	VMOVDQU8(zero, words, folded)
	VPCMPUB(upTo, caseBit, v, k) // a blank is 0x20
	VMOVDQU8(caseBit, k, folded)
	blanks, drop, stay := GP64(), GP64(), GP64()
	KMOVQ(k, blanks)
	MOVQ(shifted(blanks, blankBefore), drop)
	MOVQ(blanks, blankBefore)
	ANDQ(blanks, drop)
	KMOVQ(valid, stay)
	ANDNQ(stay, drop, stay)
	VMOVDQU8(folded, Mem{Base: small})
	KMOVQ(stay, k)
	VPCOMPRESSB_Z(folded, k, t)
	VMOVDQU8(t, Mem{Base: kept})
	POPCNTQ(stay, stay)
	ADDQ(stay, kept)
	VPSUBB(a, folded, t)
	VPCMPUB(less, letters, t, k)
	KORQ(words, k, words)
	VPMOVB2M(folded, k)
	KORQ(words, k, words)
	in, begins, ends := GP64(), GP64(), GP64()
	KMOVQ(words, in)
	above := shifted(in, inBefore)
	ANDNQ(in, above, begins) // in and not above
	ANDNQ(above, in, ends)   // above and not in
	MOVQ(in, inBefore)
	emit(begins, numbers, at, from, "begun")
	emit(ends, numbers, at, to, "ended")
	VPADDD(step, at, at)
	ADDQ(Imm(64), text)
	ADDQ(Imm(64), small)
	SUBQ(Imm(64), n)
	JGE(LabelRef("block")) // once more where the text fills the last block, so that its last word ends
	first := Load(Param("to"), GP64())
	SUBQ(first, to)
	SHRQ(Imm(2), to)
	Store(to, ReturnIndex(0))
	first = Load(Param("kept"), GP64())
	SUBQ(first, kept)
	Store(kept, ReturnIndex(1))
	VZEROUPPER()
	RET()
}

// adder adds what hashes weigh.
type adder struct {
	first, second, low, one VecVirtual
	table, sums             Register
	places, weights         [abreast / 8]VecVirtual // of eight hashes: which sums, in bytes, and where weights stand, in words
}

const abreast = 16 // hashes

func newAdder() (a adder) {
	a.first, a.second = quads(0x9e3779b97f4a7c15), quads(0xd6e8feb86659fd93)
	a.low, a.one = quads(63), quads(1)
	a.table, a.sums = Load(Param("table"), GP64()), Load(Param("sums"), GP64())
	for i := range a.places {
		a.places[i], a.weights[i] = XMM(), XMM()
	}
	return a
}

// spread makes every bit of h depend on all of it.
func (a adder) spread(h VecVirtual) {
	t := ZMM()
	VPMULLQ(a.first, h, h)
	VPSRLQ(Imm(32), h, t)
	VPXORQ(t, h, h)
	VPMULLQ(a.second, h, h)
}

// note keeps where the weights of eight hashes stand, and to which sums they are added.
func (a adder) note(h VecVirtual, which int) {
	t, u := ZMM(), ZMM()
	VPANDQ(a.low, h, t)
	VPMOVQB(t, a.places[which])
	VPSRLQ(Imm(6), h, t)
	VPSRLQ(Imm(48), h, u)
	// The lowest bit of t and the others of u.
	VPTERNLOGQ(Imm(0xb8), t, a.one, u)
	VPMOVQW(u, a.weights[which])
}

// eight adds what was noted, one after the other, and goes to done before each but the first that end says. What is noted never goes through memory, for loads are what this
// waits for.
func (a adder) eight(which int, twice bool, end func(i int)) {
	places, weights := GP64(), GP64()
	VMOVQ(a.places[which], places)
	VMOVQ(a.weights[which], weights)
	for i := range 8 {
		if i == 4 {
			VPEXTRQ(Imm(1), a.weights[which], weights)
		}
		if end != nil && 8*which+i > 0 {
			end(8*which + i)
		}
		at, sum, v := GP32(), GP32(), XMM()
		MOVWLZX(weights.As16(), at)
		MOVBLZX(places.As8(), sum)
		if i%4 < 3 {
			SHRQ(Imm(16), weights)
		}
		if i < 7 {
			SHRQ(Imm(8), places)
		}
		VMOVSS(Mem{Base: a.table, Index: at.As64(), Scale: 4}, v)
		if twice {
			VADDSS(v, v, v)
		}
		VADDSS(Mem{Base: a.sums, Index: sum.As64(), Scale: 4}, v, v)
		VMOVSS(v, Mem{Base: a.sums, Index: sum.As64(), Scale: 4})
	}
}

// all adds as many of what was noted as are left of n, and goes to next if there are more.
func (a adder) all(n Register, twice bool, next string) {
	CMPQ(n, Imm(abreast))
	JL(LabelRef("rest"))
	for which := range a.places {
		a.eight(which, twice, nil)
	}
	SUBQ(Imm(abreast), n)
	JNZ(LabelRef(next))
	JMP(LabelRef("done"))
	Label("rest")
	for which := range a.places {
		a.eight(which, twice, func(i int) {
			CMPQ(n, U8(i))
			JE(LabelRef("done"))
		})
	}
	Label("done")
}

func addTrigrams() {
	TEXT("addTrigrams", NOSPLIT, "func(kept *byte, n int, table, sums *float32)")
	Pragma("noescape")
	Doc("addTrigrams adds to 64 sums what each of n > 0 bytes and the two before it weigh, in their order. It reads two bytes before kept and up to 16 behind.")
	kept, n := Load(Param("kept"), GP64()), Load(Param("n"), GP64())
	a := newAdder()
	Label("some")
	for which := range abreast / 8 {
		h, t, u := ZMM(), ZMM(), ZMM()
		VPMOVZXBQ(Mem{Base: kept, Disp: 8 * which}, h)
		VPMOVZXBQ(Mem{Base: kept, Disp: 8*which - 1}, t)
		VPMOVZXBQ(Mem{Base: kept, Disp: 8*which - 2}, u)
		VPSLLQ(Imm(8), t, t)
		VPSLLQ(Imm(16), u, u)
		VPTERNLOGQ(Imm(0xfe), t, u, h)
		a.spread(h)
		a.note(h, which)
	}
	ADDQ(Imm(abreast), kept)
	a.all(n, false, "some")
	VZEROUPPER()
	RET()
}

func addWords() {
	TEXT("addWords", NOSPLIT, "func(small *byte, from, to *uint32, n int, table, sums *float32) bool")
	Pragma("noescape")
	Doc("addWords adds to 64 sums what each of n > 0 words that cutText found, in small, weighs, in their order, twice. It tells whether a word has 0 for a hash,",
		"and then does no more. It reads up to 8 bytes behind a word, and 16 places.")
	small, from, to := Load(Param("small"), GP64()), Load(Param("from"), GP64()), Load(Param("to"), GP64())
	n := Load(Param("n"), GP64())
	a := newAdder()
	low := quads(0xff)
	long := []VecVirtual{ZMM()}
	VPXORQ(long[0], long[0], long[0])
	for i := 1; i < 8; i++ {
		long = append(long, quads(uint64(i)))
	}
	eight := quads(8)
	Label("some")
	valid, later := K(), K()
	upToRest(n, valid)
	KSHIFTRW(Imm(8), valid, later)
	var place, length, h [2]VecVirtual
	for w, k := range []Register{valid, later} {
		place[w], length[w], h[w] = ZMM(), ZMM(), ZMM()
		VPMOVZXDQ_Z(Mem{Base: from, Disp: 32 * w}, k, place[w])
		VPMOVZXDQ_Z(Mem{Base: to, Disp: 32 * w}, k, length[w])
		VPSUBQ(place[w], length[w], length[w])
		VPXORQ(h[w], h[w], h[w])
	}
	Label("letters")
	var letters [2]VecVirtual
	for w := range letters {
		letters[w] = ZMM()
		k := K()
		VPCMPQ(greater, long[0], length[w], k)
		VPXORQ(letters[w], letters[w], letters[w])
		VPGATHERQQ(Mem{Base: small, Index: place[w], Scale: 1}, k, letters[w])
	}
	for i := range 8 {
		for w := range letters {
			some, letter := K(), ZMM()
			VPCMPQ(greater, long[i], length[w], some)
			VMOVDQA64(h[w], letter)
			VPTERNLOGQ(Imm(0x78), low, letters[w], letter) // h ^ (letters & low)
			VPSRLQ(Imm(8), letters[w], letters[w])
			VPMULLQ(a.first, letter, some, h[w])
		}
	}
	more, other := K(), K()
	VPCMPQ(greater, eight, length[0], more)
	VPCMPQ(greater, eight, length[1], other)
	KORTESTB(more, other)
	JZ(LabelRef("mix"))
	for w := range letters {
		VPADDQ(eight, place[w], place[w])
		VPSUBQ(eight, length[w], length[w])
	}
	JMP(LabelRef("letters"))
	Label("mix")
	for w, k := range []Register{valid, later} {
		none := K()
		VPTESTNMQ(h[w], h[w], k, none)
		KTESTB(none, none)
		JNZ(LabelRef("nothing"))
		a.spread(h[w])
		a.note(h[w], w)
	}
	ADDQ(Imm(4*abreast), from)
	ADDQ(Imm(4*abreast), to)
	a.all(n, true, "some")
	no := GP8()
	XORB(no, no)
	Store(no, ReturnIndex(0))
	VZEROUPPER()
	RET()
	Label("nothing")
	MOVB(Imm(1), no)
	Store(no, ReturnIndex(0))
	VZEROUPPER()
	RET()
}
