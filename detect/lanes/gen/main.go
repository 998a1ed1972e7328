// Command gen writes the assembly of package lanes:
//
//	go run . -pkg lanes -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	plain()
	cutTokens()
	hashTokens()
	fold()
	costs()
	bins()
	exps()
	logs()
	Generate()
}

// nextText is how far ahead bytes are fetched: texts mostly lie one behind the other, and much is done with one before the next is read.
const nextText = 512

// The predicates of VPCMP.
var (
	less    = Imm(1)
	upTo    = Imm(2)
	greater = Imm(6)
)

// bytes fills a register with one byte.
func bytes(b uint8) VecVirtual { return doubles(uint32(b) * 0x01010101) }

// doubles fills a register with one number of 32 bits, quads with one of 64.
func doubles(x uint32) VecVirtual {
	v := ZMM()
	VPBROADCASTD(constant(fmt.Sprintf("d%08x", x), U32(x)), v)
	return v
}

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

// places returns sixteen numbers of 32 bits, each a step above the one before, from 0.
func places(name string, step uint32) VecVirtual {
	var values []Constant
	for i := range uint32(16) {
		values = append(values, U32(step*i))
	}
	v := ZMM()
	VMOVDQU32(constant(name, values...), v)
	return v
}

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

// plain finds what is not ASCII.
func plain() {
	TEXT("plain", NOSPLIT, "func(text *byte, n int) int")
	Pragma("noescape")
	Doc("plain returns how many bytes of text there are before the first that is not ASCII. It reads n bytes.")
	text, n := Load(Param("text"), GP64()), Load(Param("n"), GP64())
	at, rest, mask := GP64(), GP64(), GP64()
	XORQ(at, at)
	k := K()
	v := ZMM()
	Label("block")
	MOVQ(n, rest)
	SUBQ(at, rest)
	JLE(LabelRef("end"))
	upToRest(rest, k)
	VMOVDQU8_Z(Mem{Base: text, Index: at, Scale: 1}, k, v)
	PREFETCHT0(Mem{Base: text, Index: at, Scale: 1, Disp: nextText})
	beyond := K()
	VPMOVB2M(v, beyond)
	KMOVQ(beyond, mask)
	TESTQ(mask, mask)
	JNZ(LabelRef("found"))
	ADDQ(Imm(64), at)
	JMP(LabelRef("block"))
	Label("found")
	TZCNTQ(mask, mask)
	ADDQ(mask, at)
	Store(at, ReturnIndex(0))
	VZEROUPPER()
	RET()
	Label("end")
	Store(n, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// kinds are the registers by which bytes are told apart.
type kinds struct{ caseBit, a, letters, upper, zero, digits VecVirtual }

func newKinds() kinds {
	return kinds{caseBit: bytes(0x20), a: bytes('a'), letters: bytes(26), upper: bytes('A'), zero: bytes('0'), digits: bytes(10)}
}

// letter sets k to where ASCII letters stand.
func (c kinds) letter(text VecVirtual, k Register) {
	v := ZMM()
	VPORD(c.caseBit, text, v)
	VPSUBB(c.a, v, v)
	VPCMPUB(less, c.letters, v, k)
}

// capital sets k to where capitals stand, and makes them small.
func (c kinds) capital(text VecVirtual, k Register, small VecVirtual) {
	v := ZMM()
	VPSUBB(c.upper, text, v)
	VPCMPUB(less, c.letters, v, k)
	VMOVDQA64(text, small)
	VPADDB(c.caseBit, text, k, small)
}

func (c kinds) digit(text VecVirtual, k Register) {
	v := ZMM()
	VPSUBB(c.zero, text, v)
	VPCMPUB(less, c.digits, v, k)
}

// shifted returns mask a bit up, with the highest bit of before below.
func shifted(mask, before Register) GPVirtual {
	out := GP64()
	MOVQ(mask, out)
	SHLQ(Imm(1), before, out)
	return out
}

// emit writes the places of a quarter's bits and moves on by as many.
func emit(mask GPVirtual, place VecVirtual, to Register) {
	k, v, n := K(), ZMM(), GP32()
	KMOVW(mask.As32(), k)
	VPCOMPRESSD_Z(place, k, v)
	VMOVDQU32(v, Mem{Base: to})
	MOVWLZX(mask.As16(), n)
	POPCNTL(n, n)
	LEAQ(Mem{Base: to, Index: n.As64(), Scale: 4}, to)
}

// cutTokens finds words and marks of ASCII text.
func cutTokens() {
	TEXT("cutTokens", NOSPLIT, "func(text *byte, n int, small *byte, from, to *uint32) int")
	Pragma("noescape")
	Doc("cutTokens finds the words and marks of n bytes of ASCII and returns how many there are: from, four times where each begins, with the flags of",
		"a mark and of one that no white space precedes; to, where it ends. Small gets the text in lower case. It reads n bytes, and writes up to 64 bytes and",
		"16 places more than there are, and 64 bytes more.")
	text, n := Load(Param("text"), GP64()), Load(Param("n"), GP64())
	small := Load(Param("small"), GP64())
	from, to := Load(Param("from"), GP64()), Load(Param("to"), GP64())
	c := newKinds()
	apostrophe, space, del := bytes('\''), bytes(' '), bytes(0x7f)
	mark, glued := doubles(1), doubles(2)
	begin, end := places("fours", 4), places("ones", 1)
	fours, ones := doubles(64), doubles(16)

	wordBefore, inBefore, marksBefore, spacesBefore := GP64(), GP64(), GP64(), GP64()
	XORQ(wordBefore, wordBefore)
	XORQ(inBefore, inBefore)
	XORQ(marksBefore, marksBefore)
	MOVQ(I32(-1), spacesBefore)

	Label("block")
	valid := K()
	upToRest(n, valid)
	v, lower := ZMM(), ZMM()
	VMOVDQU8_Z(Mem{Base: text}, valid, v)
	k, other := K(), K()
	c.capital(v, k, lower)
	VMOVDQU8(lower, Mem{Base: small})
	// Words: letters, digits, and apostrophes between them.
	word, joined, in := GP64(), GP64(), GP64()
	c.letter(v, k)
	c.digit(v, other)
	KORQ(k, other, k)
	KMOVQ(k, word)
	spaces := GP64()
	VPCMPUB(upTo, space, v, k)
	VPCMPEQB(del, v, other)
	KORQ(k, other, k)
	KMOVQ(k, spaces)
	VPCMPEQB(apostrophe, v, k)
	KMOVQ(k, joined)
	next, rest := GP64(), GP64()
	LEAQ(Mem{Base: n, Disp: -1}, rest)
	upToRest(rest, valid)
	VMOVDQU8_Z(Mem{Base: text, Disp: 1}, valid, v)
	c.letter(v, k)
	c.digit(v, other)
	KORQ(k, other, k)
	KMOVQ(k, next)
	ANDQ(next, joined)
	ANDQ(shifted(word, wordBefore), joined)
	MOVQ(word, wordBefore)
	MOVQ(word, in)
	ORQ(joined, in)
	marks := GP64()
	MOVQ(in, marks)
	ORQ(spaces, marks)
	NOTQ(marks)
	// Where tokens begin and end.
	begins, ends := GP64(), GP64()
	above := shifted(in, inBefore)
	ANDNQ(in, above, begins) // in and not above
	ANDNQ(above, in, ends)   // above and not in
	ORQ(marks, begins)
	ORQ(shifted(marks, marksBefore), ends)
	loose := shifted(spaces, spacesBefore)
	NOTQ(loose)
	MOVQ(in, inBefore)
	MOVQ(marks, marksBefore)
	MOVQ(spaces, spacesBefore)
	for quarter := range 4 {
		place := ZMM()
		VMOVDQA64(begin, place)
		KMOVW(marks.As32(), k)
		VPORD(mark, place, k, place)
		KMOVW(loose.As32(), k)
		VPORD(glued, place, k, place)
		emit(begins, place, from)
		emit(ends, end, to)
		VPADDD(fours, begin, begin)
		VPADDD(ones, end, end)
		if quarter < 3 {
			for _, m := range []Register{marks, loose, begins, ends} {
				SHRQ(Imm(16), m)
			}
		}
	}
	ADDQ(Imm(64), text)
	ADDQ(Imm(64), small)
	SUBQ(Imm(64), n)
	JGE(LabelRef("block")) // once more where the text fills the last block, so that its last token ends
	start := Load(Param("from"), GP64())
	SUBQ(start, from)
	SHRQ(Imm(2), from)
	Store(from, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// hashTokens hashes sixteen tokens side by side.
func hashTokens() {
	TEXT("hashTokens", NOSPLIT, "func(small *byte, from, to *uint32, n int, tokens *uint32)")
	Pragma("noescape")
	Doc("hashTokens writes the tokens that cutTokens found: of n of them, in small. It reads up to 4 bytes behind a word.")
	small, from, to := Load(Param("small"), GP64()), Load(Param("from"), GP64()), Load(Param("to"), GP64())
	n, tokens := Load(Param("n"), GP64()), Load(Param("tokens"), GP64())
	seed, step := doubles(0x2545f491), doubles(0x01000193)
	first, second, whole, head := doubles(0x85ebca6b), doubles(0xc2b2ae35), doubles(1<<18-1), doubles(3)
	low := doubles(0xff)
	long := []VecVirtual{doubles(0), doubles(1), doubles(2), doubles(3)}
	four := doubles(4)

	Label("group")
	k, some := K(), K()
	upToRest(n, k)
	place, length, flags, h, stem := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VMOVDQU32_Z(Mem{Base: from}, k, place)
	VMOVDQU32_Z(Mem{Base: to}, k, length)
	VPANDD(head, place, flags)
	VPSRLD(Imm(2), place, place)
	VPSUBD(place, length, length)
	VMOVDQA64(seed, h)
	letters, letter := ZMM(), ZMM()
	gather := func() {
		VPCMPD(greater, long[0], length, k)
		VPXORD(letters, letters, letters)
		VPGATHERDD(Mem{Base: small, Index: place, Scale: 1}, k, letters)
	}
	read := func(i int) {
		VPCMPD(greater, long[i], length, some)
		switch i {
		case 0:
			VPANDD(low, letters, letter)
		case 3:
			VPSRLD(Imm(24), letters, letter)
		default:
			VPSRLD(Imm(uint64(8*i)), letters, letter)
			VPANDD(low, letter, letter)
		}
		VPXORD(h, letter, letter)
		VPMULLD(step, letter, some, h)
	}
	advance := func(end string) {
		VPCMPD(greater, four, length, k)
		KTESTW(k, k)
		JZ(LabelRef(end))
		VPADDD(four, place, place)
		VPSUBD(four, length, length)
	}
	gather()
	for i := range 4 {
		read(i)
	}
	VMOVDQA64(h, stem)
	advance("mix")
	gather()
	read(0)
	VMOVDQA64(h, stem)
	for i := 1; i < 4; i++ {
		read(i)
	}
	Label("more")
	advance("mix")
	gather()
	for i := range 4 {
		read(i)
	}
	JMP(LabelRef("more"))
	Label("mix")
	for _, v := range []VecVirtual{h, stem} {
		t := ZMM()
		VPSRLD(Imm(16), v, t)
		VPXORD(t, v, v)
		VPMULLD(first, v, v)
		VPSRLD(Imm(13), v, t)
		VPXORD(t, v, v)
		VPMULLD(second, v, v)
		VPSRLD(Imm(16), v, t)
		VPXORD(t, v, v)
	}
	VPSLLD(Imm(2), h, h)
	VPANDD(whole, h, h)
	VPANDND(stem, whole, stem)
	VPORD(stem, h, h)
	VPORD(flags, h, h)
	upToRest(n, k)
	VMOVDQU32(h, k, Mem{Base: tokens})
	ADDQ(Imm(64), from)
	ADDQ(Imm(64), to)
	ADDQ(Imm(64), tokens)
	SUBQ(Imm(16), n)
	JG(LabelRef("group"))
	VZEROUPPER()
	RET()
}

// fold reads bytes as package language does.
func fold() {
	TEXT("fold", NOSPLIT, "func(text *byte, n int, folded *byte)")
	Pragma("noescape")
	Doc("fold writes n bytes of text with capitals made small, digits made 0, and tabs and ends of lines made blanks. It reads n bytes and writes up to 64 more.")
	text, n, folded := Load(Param("text"), GP64()), Load(Param("n"), GP64()), Load(Param("folded"), GP64())
	c := newKinds()
	space, tab, feed, carriage := bytes(' '), bytes('\t'), bytes('\n'), bytes('\r')
	Label("block")
	k, other := K(), K()
	upToRest(n, k)
	v, out := ZMM(), ZMM()
	VMOVDQU8_Z(Mem{Base: text}, k, v)
	PREFETCHT0(Mem{Base: text, Disp: nextText})
	c.capital(v, k, out)
	c.digit(v, k)
	VMOVDQU8(c.zero, k, out)
	VPCMPEQB(tab, v, k)
	for _, white := range []VecVirtual{feed, carriage} {
		VPCMPEQB(white, v, other)
		KORQ(other, k, k)
	}
	VMOVDQU8(space, k, out)
	VMOVDQU8(out, Mem{Base: folded})
	ADDQ(Imm(64), text)
	ADDQ(Imm(64), folded)
	SUBQ(Imm(64), n)
	JG(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// costs looks up sixteen grams at once.
func costs() {
	TEXT("costs", NOSPLIT, "func(folded *byte, n int, four, three, two *byte, shift, step int, sums *uint32)")
	Pragma("noescape")
	Doc("costs writes the sum of what every sixteen of n folded bytes cost, and of those that are left at the end: what four has for a byte and the three before",
		"it; where that is 0, what three has for it and two before, and step; and where that is 0 too, what two has, and twice step. It reads",
		"4 bytes before folded and 64 behind, and 3 behind the tables.")
	folded, n := Load(Param("folded"), GP64()), Load(Param("n"), GP64())
	four, three, two := Load(Param("four"), GP64()), Load(Param("three"), GP64()), Load(Param("two"), GP64())
	sums := Load(Param("sums"), GP64())
	shift := XMM()
	VMOVQ(Load(Param("shift"), GP64()), shift)
	step := ZMM()
	VPBROADCASTD(Load(Param("step"), GP64()).(GPVirtual).As32(), step)
	var windows, grams []Constant
	for i := range uint32(16) {
		windows = append(windows, U32(i/4+i%4)) // four bytes and the four before, for every four
		first := i%4 + 1
		grams = append(grams, U32(first<<24|(first+1)<<16|(first+2)<<8|(first+3))) // the last byte lowest
	}
	window, gram := ZMM(), ZMM()
	VMOVDQU32(constant("windows", windows...), window)
	VMOVDQU32(constant("grams", grams...), gram)
	factor, bit, letters, low, pair := doubles(0x9e3779b1), doubles(32), doubles(31), doubles(0xff), doubles(0xffff)

	Label("block")
	valid, k := K(), K()
	upToRest(n, valid)
	v, slot, t, c := ZMM(), ZMM(), ZMM(), ZMM()
	VPERMD(Mem{Base: folded, Disp: -4}, window, v)
	VPSHUFB(gram, v, v)
	VPSRLD(Imm(8), v, slot)
	VPMULLD(factor, slot, slot)
	VPSRLD(shift, slot, slot)
	VPSLLD(Imm(6), slot, slot)
	VPSRLD(Imm(1), v, t)
	VPANDD(bit, t, t)
	VPORD(t, slot, slot)
	VPANDD(letters, v, t)
	VPORD(t, slot, slot)
	VPXORD(c, c, c)
	KMOVW(valid, k)
	VPGATHERDD(Mem{Base: four, Index: slot, Scale: 1}, k, c)
	VPANDD(low, c, c)
	VPTESTNMD(c, c, valid, k)
	KORTESTW(k, k)
	JNZ(LabelRef("back"))
	Label("sum")
	half, quarter, last := YMM(), XMM(), GP32()
	VEXTRACTI64X4(Imm(1), c, half)
	VPADDD(c.AsY(), half, half)
	VEXTRACTI128(Imm(1), half, quarter)
	VPADDD(half.AsX(), quarter, quarter)
	other := XMM()
	VPSHUFD(Imm(0x4e), quarter, other)
	VPADDD(other, quarter, quarter)
	VPSHUFD(Imm(0xb1), quarter, other)
	VPADDD(other, quarter, quarter)
	VMOVD(quarter, last)
	MOVL(last, Mem{Base: sums})
	ADDQ(Imm(4), sums)
	ADDQ(Imm(16), folded)
	SUBQ(Imm(16), n)
	JG(LabelRef("block"))
	VZEROUPPER()
	RET()

	Label("back")
	lacking := K()
	shorter := ZMM()
	VPSLLD(Imm(8), v, slot)
	VPMULLD(factor, slot, slot)
	VPSRLD(Imm(32-18), slot, slot)
	VPXORD(shorter, shorter, shorter)
	KMOVW(k, lacking)
	VPGATHERDD(Mem{Base: three, Index: slot, Scale: 1}, lacking, shorter)
	VPANDD(low, shorter, shorter)
	VPADDD(step, shorter, k, c)
	VPTESTNMD(shorter, shorter, k, k)
	KORTESTW(k, k)
	JZ(LabelRef("sum"))
	VPANDD(pair, v, slot)
	VPXORD(shorter, shorter, shorter)
	KMOVW(k, lacking)
	VPGATHERDD(Mem{Base: two, Index: slot, Scale: 1}, lacking, shorter)
	VPANDD(low, shorter, shorter)
	VPADDD(step, shorter, shorter)
	VPADDD(step, shorter, k, c)
	JMP(LabelRef("sum"))
}

// bins compares each value with eight edges at once.
func bins() {
	TEXT("bins", NOSPLIT, "func(out *byte, values *float64, edges *[8]float64, n int)")
	Pragma("noescape")
	Doc("bins writes for each of n > 0 values one more than how many of its edges lie below it, and 0 for NaN.")
	out, values := Load(Param("out"), GP64()), Load(Param("values"), GP64())
	edges, n := Load(Param("edges"), GP64()), Load(Param("n"), GP64())
	v := ZMM()
	k, number := K(), K()
	above, is := GP32(), GP32()
	Label("value")
	VBROADCASTSD(Mem{Base: values}, v)
	VCMPPD(Imm(0x1e), Mem{Base: edges}, v, k) // greater, ordered
	VCMPPD(Imm(0), v, v, number)
	KMOVB(k, above)
	KMOVB(number, is)
	POPCNTL(above, above)
	ANDL(Imm(1), is)
	ADDL(is, above)
	MOVB(above.As8(), Mem{Base: out})
	ADDQ(Imm(8), values)
	ADDQ(Imm(64), edges)
	INCQ(out)
	DECQ(n)
	JNZ(LabelRef("value"))
	VZEROUPPER()
	RET()
}

// double fills a register with one number of 64 bits.
func double(x float64) VecVirtual { return quads(math.Float64bits(x)) }

// exps is math.Exp of Go 1.26 for amd64 with FMA, step by step, eight at a time.
func exps() {
	TEXT("exps", NOSPLIT, "func(out, x *float64, n int)")
	Pragma("noescape")
	Doc("exps sets out to e to the power of n > 0 numbers from -708 to 709, as math.Exp does. What it writes for others means nothing.")
	out, x, n := Load(Param("out"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	log2e, high, low := double(1.4426950408889634073599246810018920), double(0.69314718055966295651160180568695068359375), double(0.28235290563031577122588448175013436025525412068e-12)
	sixteenth, two, one, bias := double(0.0625), double(2), double(1), quads(1023)
	var terms []VecVirtual
	for _, t := range []float64{2.4801587301587301587e-5, 1.9841269841269841270e-4, 1.3888888888888888889e-3, 8.3333333333333333333e-3,
		4.1666666666666666667e-2, 1.6666666666666666667e-1, 0.5, 1} {
		terms = append(terms, double(t))
	}
	Label("eight")
	k := K()
	upToRest(n, k)
	r, e, s := ZMM(), ZMM(), ZMM()
	power := YMM()
	VMOVUPD_Z(Mem{Base: x}, k, r)
	VMULPD(r, log2e, e)
	VCVTPD2DQ(e, power)
	VCVTDQ2PD(power, e)
	VFNMADD231PD(high, e, r)
	VFNMADD231PD(low, e, r)
	VMULPD(sixteenth, r, r)
	VMOVAPD(terms[0], s)
	for _, t := range terms[1:] {
		VFMADD213PD(t, r, s)
	}
	VMULPD(s, r, r)
	for range 3 {
		VADDPD(two, r, s)
		VMULPD(s, r, r)
	}
	VADDPD(two, r, s)
	VFMADD213PD(one, s, r)
	VPMOVSXDQ(power, e)
	VPADDQ(bias, e, e)
	VPSLLQ(Imm(52), e, e)
	VMULPD(e, r, r)
	VMOVUPD(r, k, Mem{Base: out})
	ADDQ(Imm(64), x)
	ADDQ(Imm(64), out)
	SUBQ(Imm(8), n)
	JG(LabelRef("eight"))
	VZEROUPPER()
	RET()
}

// logs is math.Log of Go 1.26 for amd64, step by step, eight at a time.
func logs() {
	TEXT("logs", NOSPLIT, "func(out, x *float64, n int)")
	Pragma("noescape")
	Doc("logs sets out to the natural logarithms of n > 0 numbers, as math.Log does.")
	out, x, n := Load(Param("out"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	fraction, half, exponent, zero := quads(1<<52-1), double(0.5), quads(0x7ff), quads(0)
	bias, root, one, two := quads(0x3fe), double(7.07106781186547524401e-01), double(1), double(2)
	high, low := double(6.93147180369123816490e-01), double(1.90821492927058770002e-10)
	l1, l2, l3, l4 := double(6.666666666666735130e-01), double(3.999999999940941908e-01), double(2.857142874366239149e-01), double(2.222219843214978396e-01)
	l5, l6, l7 := double(1.818357216161805012e-01), double(1.531383769920937332e-01), double(1.479819860511658591e-01)
	nan, infinite, endless := quads(0x7FF8000000000001), quads(0xFFF0000000000000), quads(0xFFE0000000000000)
	Label("eight")
	k, other := K(), K()
	upToRest(n, k)
	v, f, e, t := ZMM(), ZMM(), ZMM(), ZMM()
	VMOVUPD_Z(Mem{Base: x}, k, v)
	VPANDQ(fraction, v, f)
	VPORQ(half, f, f)
	VPSRLQ(Imm(52), v, e)
	VPANDQ(exponent, e, e)
	VPSUBQ(bias, e, e)
	VCVTQQ2PD(e, e)
	VCMPPD(Imm(5), f, root, other) // root not less than f
	VMOVAPD_Z(one, other, t)
	VSUBPD(t, e, e)
	VADDPD(one, t, t)
	VMULPD(t, f, f)
	VSUBPD(one, f, f)
	s, s2, s4, a, b := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VADDPD(f, two, t)
	VDIVPD(t, f, s)
	VMULPD(s, s, s2)
	VMULPD(s2, s2, s4)
	VMULPD(s4, l7, a)
	VADDPD(l5, a, a)
	VMULPD(s4, a, a)
	VADDPD(l3, a, a)
	VMULPD(s4, a, a)
	VADDPD(l1, a, a)
	VMULPD(a, s2, a)
	VMULPD(s4, l6, b)
	VADDPD(l4, b, b)
	VMULPD(s4, b, b)
	VADDPD(l2, b, b)
	VMULPD(b, s4, b)
	VADDPD(b, a, a)
	VMULPD(f, half, b)
	VMULPD(f, b, b)
	VADDPD(b, a, a)
	VMULPD(a, s, s)
	VMULPD(e, low, a)
	VADDPD(a, s, s)
	VSUBPD(s, b, b)
	VSUBPD(f, b, b)
	VMULPD(high, e, e)
	VSUBPD(b, e, e)
	VPADDQ(v, v, t)                    // without the sign
	VPCMPUQ(Imm(5), endless, t, other) // infinities and NaN, the negative ones of which are written over
	VMOVAPD(v, other, e)
	VPMOVQ2M(v, other)
	VMOVAPD(nan, other, e)
	VPCMPEQQ(zero, t, other)
	VMOVAPD(infinite, other, e)
	VMOVUPD(e, k, Mem{Base: out})
	ADDQ(Imm(64), x)
	ADDQ(Imm(64), out)
	SUBQ(Imm(8), n)
	JG(LabelRef("eight"))
	VZEROUPPER()
	RET()
}
