// Command gen writes the assembly of package validate:
//
//	go run . -pkg validate -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	plainAVX2()
	plainAVX512()
	for _, bits := range []int{32, 64} {
		for _, space := range []int{0, 1} {
			fractions(bits, space)
		}
	}
	Generate()
}

// constant declares read-only data.
func constant(name string, bytes ...byte) Mem {
	data := GLOBL(name, RODATA|NOPTR)
	for i, b := range bytes {
		DATA(i, U8(b))
	}
	return data
}

func repeated(n int, bytes ...byte) []byte {
	var out []byte
	for range n {
		out = append(out, bytes...)
	}
	return out
}

func word(v uint64) []byte {
	var out []byte
	for k := range 8 {
		out = append(out, byte(v>>(8*k)))
	}
	return out
}

// plainAVX2 copies 32 bytes at a time.
func plainAVX2() {
	TEXT("plainAVX2", NOSPLIT, "func(to, from *byte) int")
	Pragma("noescape")
	Doc("plainAVX2 copies string text up to a byte that is special, and returns how much. It reads and writes up to 32 bytes",
		"from that byte on.")
	to, from := Load(Param("to"), GP64()), Load(Param("from"), GP64())
	quote, slash, control := YMM(), YMM(), YMM()
	VPBROADCASTB(constant("quote", '"'), quote)
	VPBROADCASTB(constant("slash", '\\'), slash)
	VPBROADCASTB(constant("control", 0x1F), control)
	n := GP64()
	XORQ(n, n)
	Label("step")
	text, found, other := YMM(), YMM(), YMM()
	VMOVDQU(Mem{Base: from, Index: n, Scale: 1}, text)
	VMOVDQU(text, Mem{Base: to, Index: n, Scale: 1})
	VPCMPEQB(quote, text, found)
	VPCMPEQB(slash, text, other)
	VPOR(other, found, found)
	VPMINUB(control, text, other)
	VPCMPEQB(text, other, other) // min(text, 0x1F) = text
	VPOR(other, found, found)
	VPOR(text, found, found) // the high bit of what is not ASCII
	mask := GP32()
	VPMOVMSKB(found, mask)
	TESTL(mask, mask)
	JNZ(LabelRef("end"))
	ADDQ(Imm(32), n)
	JMP(LabelRef("step"))
	Label("end")
	TZCNTL(mask, mask)
	ADDQ(mask.As64(), n)
	Store(n, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// plainAVX512 copies 64 bytes at a time.
func plainAVX512() {
	TEXT("plainAVX512", NOSPLIT, "func(to, from *byte) int")
	Pragma("noescape")
	Doc("plainAVX512 copies string text up to a byte that is special, and returns how much. It reads and writes up to 64 bytes",
		"from that byte on.")
	to, from := Load(Param("to"), GP64()), Load(Param("from"), GP64())
	quote, slash, limit, space := ZMM(), ZMM(), ZMM(), ZMM()
	VPBROADCASTB(constant("quote64", '"'), quote)
	VPBROADCASTB(constant("slash64", '\\'), slash)
	VPBROADCASTB(constant("limit64", 0x80-0x20), limit)
	VPBROADCASTB(constant("space64", ' '), space)
	n := GP64()
	XORQ(n, n)
	Label("step")
	text, shifted := ZMM(), ZMM()
	VMOVDQU64(Mem{Base: from, Index: n, Scale: 1}, text)
	VMOVDQU64(text, Mem{Base: to, Index: n, Scale: 1})
	a, b, c := K(), K(), K()
	VPSUBB(space, text, shifted)
	VPCMPUB(Imm(5), limit, shifted, a) // not below 0x60: neither control characters nor ASCII beyond stay below
	VPCMPEQB(quote, text, b)
	VPCMPEQB(slash, text, c)
	KORQ(a, b, a)
	KORQ(a, c, a)
	mask := GP64()
	KMOVQ(a, mask)
	TESTQ(mask, mask)
	JNZ(LabelRef("end"))
	ADDQ(Imm(64), n)
	JMP(LabelRef("step"))
	Label("end")
	TZCNTQ(mask, mask)
	ADDQ(mask, n)
	Store(n, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// fractions reads four numbers at a time. Each lies in 16 bytes of a register, from its first byte on; what is behind
// it counts as zeros, so that all are d.dddddddddddddd, 15 digits, over 10^15.
func fractions(bits, space int) {
	separator := ""
	if space > 0 {
		separator = "Spaced"
	}
	name := fmt.Sprintf("fractions%d%s", bits, separator)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(to *float%d, from *byte, groups int) (read, size int)", bits))
	Pragma("noescape")
	Doc(name+" reads groups of four numbers, a sign at most, a digit, a point and one to 13 digits, as long as each is followed by",
		"a comma"+map[int]string{0: "", 1: " and a space"}[space]+". It returns how many groups, and their size in bytes. It reads 64 bytes from any number on.")
	to, from, groups := Load(Param("to"), GP64()), Load(Param("from"), GP64()), Load(Param("groups"), GP64())
	start, read := GP64(), GP64()
	MOVQ(from, start)
	XORQ(read, read)

	comma, point, minus, zero, nine := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	for _, c := range []struct {
		z VecVirtual
		b byte
		n string
	}{{comma, ',', "comma"}, {point, '.', "point"}, {minus, '-', "minus"}, {zero, '0', "zero"}, {nine, 9, "nine"}} {
		VPBROADCASTB(constant(name+c.n, c.b), c.z)
	}
	blank := ZMM()
	if space > 0 {
		VPBROADCASTB(constant(name+"blank", ' '), blank)
	}
	// Where digits go once the point and the sign are out; the last place is zero.
	order := []byte{0}
	for k := byte(1); k < 15; k++ {
		order = append(order, k+1)
	}
	order = append(order, 0x80)
	places, ones, tens, hundreds, tenThousands := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VMOVDQU64(constant(name+"places", repeated(4, order...)...), places)
	VPBROADCASTB(constant(name+"one", 1), ones)
	VPBROADCASTW(constant(name+"tens", 10, 1), tens)
	VPBROADCASTD(constant(name+"hundreds", 100, 0, 1, 0), hundreds)
	VPBROADCASTD(constant(name+"tenThousands", 0x10, 0x27, 1, 0), tenThousands)
	none := ZMM()
	VPXORQ(none, none, none)
	scale, divisor, signs := YMM(), YMM(), YMM()
	VPBROADCASTQ(constant(name+"scale", word(1e8)...), scale)
	VPBROADCASTQ(constant(name+"divisor", word(0x430C6BF526340000)...), divisor) // 10^15
	VPBROADCASTQ(constant(name+"sign", word(1<<63)...), signs)
	evens := ZMM()
	var even []byte
	for _, k := range []uint64{0, 2, 4, 6, 0, 2, 4, 6} {
		even = append(even, word(k)...)
	}
	VMOVDQU64(constant(name+"evens", even...), evens)
	lanes := GP64()
	MOVQ(U64(0x0001000100010001), lanes)

	Label("group")
	CMPQ(read, groups)
	JGE(LabelRef("end"))
	window, k := ZMM(), K()
	VMOVDQU64(Mem{Base: from}, window)
	VPCMPEQB(comma, window, k)
	commas := GP64()
	KMOVQ(k, commas)
	all := GP64()
	if space > 0 {
		MOVQ(commas, all)
	}
	var at [4]Register
	for j := range at {
		g := GP64()
		TZCNTQ(commas, g)
		at[j] = g
		if j < 3 {
			BLSRQ(commas, commas)
		}
	}
	TESTQ(commas, commas)
	JZ(LabelRef("end"))
	if space > 0 {
		// Behind each of the four commas there is a space.
		BLSRQ(commas, commas)
		XORQ(commas, all)
		kb, blanks := K(), GP64()
		VPCMPEQB(blank, window, kb)
		KMOVQ(kb, blanks)
		BTRQ(Imm(63), all) // what is behind it is not in sight
		JCS(LabelRef("end"))
		SHLQ(Imm(1), all)
		ANDNQ(all, blanks, all)
		JNZ(LabelRef("end"))
	}
	v, x := ZMM(), XMM()
	VMOVDQU64(Mem{Base: from}, x)
	y, z := x.AsZ(), ZMM()
	VINSERTI32X4(Imm(1), Mem{Base: from, Index: at[0], Scale: 1, Disp: 1 + space}, y, z)
	VINSERTI32X4(Imm(2), Mem{Base: from, Index: at[1], Scale: 1, Disp: 1 + space}, z, z)
	VINSERTI32X4(Imm(3), Mem{Base: from, Index: at[2], Scale: 1, Disp: 1 + space}, z, v)

	kc, kp, km, kd := K(), K(), K(), K()
	digits := ZMM()
	VPSUBB(zero, v, digits)
	VPCMPEQB(comma, v, kc)
	VPCMPEQB(point, v, kp)
	VPCMPEQB(minus, v, km)
	VPCMPUB(Imm(2), nine, digits, kd) // not above
	ends, points, signed, digit := GP64(), GP64(), GP64(), GP64()
	KMOVQ(kc, ends)
	KMOVQ(kp, points)
	KMOVQ(km, signed)
	KMOVQ(kd, digit)

	// The bytes of the number are those below the first comma: of every lane, as it must have one.
	inside := GP64()
	MOVQ(ends, inside)
	SUBQ(lanes, inside)
	ANDNQ(inside, ends, inside)
	last := GP64()
	MOVQ(lanes, last)
	SHLQ(Imm(15), last)
	TESTQ(inside, last)
	JNZ(LabelRef("end"))

	ANDQ(inside, digit)
	ANDQ(inside, points)
	ANDQ(lanes, signed)
	want := GP64() // the point is the second byte, or behind a sign the third
	LEAQ(Mem{Base: lanes, Index: signed, Scale: 1}, want)
	SHLQ(Imm(1), want)
	CMPQ(points, want)
	JNE(LabelRef("end"))
	behind := GP64() // and has something behind it
	MOVQ(want, behind)
	SHLQ(Imm(1), behind)
	ANDNQ(behind, inside, behind)
	JNZ(LabelRef("end"))
	XORQ(signed, inside)
	XORQ(points, inside)
	CMPQ(digit, inside) // whatever else there is are digits
	JNE(LabelRef("end"))

	// Digits move to their places.
	ks := K()
	KMOVQ(digit, kd)
	VMOVDQU8_Z(digits, kd, digits)
	KMOVQ(signed, ks)
	shift := ZMM()
	VMOVDQU8_Z(ones, ks, shift)
	VPSHUFB(none, shift, shift)
	VPADDB(places, shift, shift)
	VPSHUFB(shift, digits, digits)

	VPMADDUBSW(tens, digits, digits)
	VPMADDWD(hundreds, digits, digits)
	VPACKUSDW(digits, digits, digits)
	VPMADDWD(tenThousands, digits, digits)
	VPERMQ(digits, evens, digits)
	halves := digits.AsY()
	high, low, value := YMM(), YMM(), YMM()
	VPMULUDQ(scale, halves, high)
	VPSRLQ(Imm(32), halves, low)
	VPADDQ(low, high, high)
	VCVTUQQ2PD(high, value)
	VDIVPD(divisor, value, value)
	PEXTQ(lanes, signed, signed)
	kn := K()
	KMOVB(signed.As32(), kn)
	VXORPD(signs, value, kn, value)
	if bits == 32 {
		out := XMM()
		VCVTPD2PSY(value, out)
		VMOVUPS(out, Mem{Base: to})
		ADDQ(Imm(16), to)
	} else {
		VMOVUPD(value, Mem{Base: to})
		ADDQ(Imm(32), to)
	}
	LEAQ(Mem{Base: from, Index: at[3], Scale: 1, Disp: 1 + space}, from)
	INCQ(read)
	JMP(LabelRef("group"))
	Label("end")
	SUBQ(start, from)
	Store(read, ReturnIndex(0))
	Store(from, ReturnIndex(1))
	VZEROUPPER()
	RET()
}
