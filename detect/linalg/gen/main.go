// Command gen writes the assembly of package linalg:
//
//	go run . -pkg linalg -out ../kernels_amd64.s -stubs ../kernels_amd64.go
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	for rows := 1; rows <= 12; rows++ {
		tile("AVX512", rows, 16, func() VecVirtual { return ZMM() })
	}
	for rows := 1; rows <= 12; rows++ {
		wordTile(rows)
	}
	for rows := 1; rows <= 6; rows++ {
		tile("AVX2", rows, 8, func() VecVirtual { return YMM() })
	}
	for rows := 1; rows <= 4; rows++ {
		tileSSE(rows)
	}
	transpose()
	exact512("squares")
	exact2("squares")
	dots512()
	exact2("dots")
	norm()
	wideNorm()
	rowMoments()
	sumRows()
	widen()
	times()
	prefetch()
	words()
	indexFrom()
	cosines()
	countAbove()
	markFrom()
	unit()
	for _, width := range []int{2, 4, 8, 16} {
		columns(width)
	}
	kth()
	upTo()
	roots()
	moments()
	pick()
	for _, most := range []int{16, 24} {
		nearestSum(most)
	}
	Generate()
}

// base loads where a slice begins.
func base(name string) GPVirtual { return Load(Param(name).Base(), GP64()).(GPVirtual) }

// arguments of a tile, strides in bytes.
type arguments struct {
	depth, stride, from, fromStride, dst, dstStride, b Register
	a                                                  []Mem // of each row
	bases                                              []GPVirtual
}

// begin declares a tile. Rows of a are addressed from every third one, with the stride as index once or twice.
func begin(name string, rows, lanes int) (t arguments) {
	TEXT(fmt.Sprintf("tile%s%d", name, rows), NOSPLIT,
		"func(depth int, a []float32, stride int, b, from []float32, fromStride int, dst []float32, dstStride int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("tile%s%d is a [tile] of %d × %d.", name, rows, rows, 2*lanes))
	bytes := func(name string) Register {
		r := Load(Param(name), GP64())
		SHLQ(Imm(2), r)
		return r
	}
	t.depth, t.stride = Load(Param("depth"), GP64()), bytes("stride")
	t.bases = append(t.bases, base("a"))
	t.b = base("b")
	t.from, t.fromStride = base("from"), bytes("fromStride")
	t.dst, t.dstStride = base("dst"), bytes("dstStride")
	for r := 3; r < rows; r += 3 {
		base := GP64()
		LEAQ(Mem{Base: t.bases[len(t.bases)-1], Index: t.stride, Scale: 2}, base)
		ADDQ(t.stride, base)
		t.bases = append(t.bases, base)
	}
	for r := range rows {
		m := Mem{Base: t.bases[r/3]}
		if r%3 > 0 {
			m.Index, m.Scale = t.stride, uint8(r%3)
		}
		t.a = append(t.a, m)
	}
	return t
}

// steps runs body once for each of depth, between loading the sums and storing them.
func (t arguments) steps(lanes int, sums [][2]VecVirtual, move func(from, to Op), body func()) {
	for r := range sums {
		if r > 0 {
			ADDQ(t.fromStride, t.from)
		}
		for h := range 2 {
			move(Mem{Base: t.from, Disp: 4 * lanes * h}, sums[r][h])
		}
	}
	TESTQ(t.depth, t.depth)
	JZ(LabelRef("store"))
	Label("step")
	body()
	for _, base := range t.bases {
		ADDQ(Imm(4), base)
	}
	ADDQ(Imm(uint64(8*lanes)), t.b)
	DECQ(t.depth)
	JNZ(LabelRef("step"))
	Label("store")
	for r := range sums {
		if r > 0 {
			ADDQ(t.dstStride, t.dst)
		}
		for h := range 2 {
			move(sums[r][h], Mem{Base: t.dst, Disp: 4 * lanes * h})
		}
	}
}

// tile writes one with fused multiplication and addition: rows × 2 registers of sums, two of b and two for elements of a.
func tile(name string, rows, lanes int, vector func() VecVirtual) {
	t := begin(name, rows, lanes)
	sums := make([][2]VecVirtual, rows)
	for r := range sums {
		sums[r] = [2]VecVirtual{vector(), vector()}
	}
	b, a := [2]VecVirtual{vector(), vector()}, [2]VecVirtual{vector(), vector()}
	t.steps(lanes, sums, func(from, to Op) { VMOVUPS(from, to) }, func() {
		VMOVUPS(Mem{Base: t.b}, b[0])
		VMOVUPS(Mem{Base: t.b, Disp: 4 * lanes}, b[1])
		for r := range rows {
			VBROADCASTSS(t.a[r], a[r%2])
			VFMADD231PS(b[0], a[r%2], sums[r][0])
			VFMADD231PS(b[1], a[r%2], sums[r][1])
		}
	})
	VZEROUPPER()
	RET()
}

// wordTile writes one of whole numbers: pairs of 16 bits are multiplied and added up in 32, and become floats at the end.
func wordTile(rows int) {
	t := begin("Words", rows, 16)
	sums := make([][2]VecVirtual, rows)
	for r := range sums {
		sums[r] = [2]VecVirtual{ZMM(), ZMM()}
		for _, s := range sums[r] {
			VPXORD(s, s, s)
		}
	}
	b, a := [2]VecVirtual{ZMM(), ZMM()}, [2]VecVirtual{ZMM(), ZMM()}
	TESTQ(t.depth, t.depth)
	JZ(LabelRef("store"))
	Label("step")
	VMOVDQU32(Mem{Base: t.b}, b[0])
	VMOVDQU32(Mem{Base: t.b, Disp: 64}, b[1])
	for r := range rows {
		VPBROADCASTD(t.a[r], a[r%2])
		VPDPWSSD(b[0], a[r%2], sums[r][0])
		VPDPWSSD(b[1], a[r%2], sums[r][1])
	}
	for _, base := range t.bases {
		ADDQ(Imm(4), base)
	}
	ADDQ(U32(128), t.b)
	DECQ(t.depth)
	JNZ(LabelRef("step"))
	Label("store")
	for r := range sums {
		if r > 0 {
			ADDQ(t.fromStride, t.from)
			ADDQ(t.dstStride, t.dst)
		}
		for h, s := range sums[r] {
			VCVTDQ2PS(s, s)
			VADDPS(Mem{Base: t.from, Disp: 64 * h}, s, s)
			VMOVUPS(s, Mem{Base: t.dst, Disp: 64 * h})
		}
	}
	VZEROUPPER()
	RET()
}

func tileSSE(rows int) {
	t := begin("SSE", rows, 4)
	sums := make([][2]VecVirtual, rows)
	for r := range sums {
		sums[r] = [2]VecVirtual{XMM(), XMM()}
	}
	b := [2]VecVirtual{XMM(), XMM()}
	t.steps(4, sums, func(from, to Op) { MOVUPS(from, to) }, func() {
		MOVUPS(Mem{Base: t.b}, b[0])
		MOVUPS(Mem{Base: t.b, Disp: 16}, b[1])
		for r := range rows {
			a, other := XMM(), XMM()
			MOVSS(t.a[r], a)
			SHUFPS(Imm(0), a, a)
			MOVAPS(a, other)
			MULPS(b[0], a)
			ADDPS(a, sums[r][0])
			MULPS(b[1], other)
			ADDPS(other, sums[r][1])
		}
	})
	RET()
}

// transpose writes 8 × 8 blocks: pairs, then pairs of pairs, then halves change places.
func transpose() {
	TEXT("transposeAVX2", NOSPLIT, "func(blocks int, src []float32, stride int, dst []float32, dstStride int)")
	Pragma("noescape")
	Doc("transposeAVX2 writes blocks of eight columns of eight rows, stride apart, as rows, dstStride apart.")
	blocks := Load(Param("blocks"), GP64())
	src, stride := base("src"), Load(Param("stride"), GP64())
	dst, dstStride := base("dst"), Load(Param("dstStride"), GP64())
	SHLQ(Imm(2), stride)
	SHLQ(Imm(2), dstStride)
	at := func(stride Register, rows [3]Register, r int) Mem {
		m := Mem{Base: rows[r/3]}
		if r%3 > 0 {
			m.Index, m.Scale = stride, uint8(r%3)
		}
		return m
	}
	bases := func(p, stride Register) (out [3]Register) {
		out[0] = p
		for i := 1; i < 3; i++ {
			base := GP64()
			LEAQ(Mem{Base: out[i-1], Index: stride, Scale: 2}, base)
			ADDQ(stride, base)
			out[i] = base
		}
		return out
	}
	from := bases(src, stride)
	TESTQ(blocks, blocks)
	JZ(LabelRef("done"))
	Label("block")
	var x, y [8]VecVirtual
	for r := range x {
		x[r] = YMM()
		VMOVUPS(at(stride, from, r), x[r])
	}
	for r := range y {
		y[r] = YMM()
		if r%2 == 0 {
			VUNPCKLPS(x[r+1], x[r], y[r])
		} else {
			VUNPCKHPS(x[r], x[r-1], y[r])
		}
	}
	// y0 = a0 b0 a1 b1, y1 = a2 b2 a3 b3, y2 = c0 d0 c1 d1, …
	for i, p := range [8][3]int{{0, 2, 0x44}, {0, 2, 0xee}, {1, 3, 0x44}, {1, 3, 0xee}, {4, 6, 0x44}, {4, 6, 0xee}, {5, 7, 0x44}, {5, 7, 0xee}} {
		x[i] = YMM()
		VSHUFPS(Imm(uint64(p[2])), y[p[1]], y[p[0]], x[i])
	}
	to := bases(dst, dstStride)
	for r := range 8 {
		z := YMM()
		VPERM2F128(Imm(uint64(0x20+0x11*(r/4))), x[4+r%4], x[r%4], z)
		VMOVUPS(z, at(dstStride, to, r))
	}
	for _, base := range from {
		ADDQ(Imm(32), base)
	}
	LEAQ(Mem{Base: dst, Index: dstStride, Scale: 8}, dst)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	Label("done")
	VZEROUPPER()
	RET()
}

// exact declares a function of float64 sums over rows of float32: sixteen sums, one for each column modulo 16, added up by halves.
func exact(level, what string, body func(width Register, query, point GPVirtual) (sum VecVirtual)) {
	TEXT(what+level, NOSPLIT, "func(index []int32, width int, query []float64, points []float32, out []float64)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s%s is [exact.%s].", what, level, what))
	n, width := Load(Param("index").Len(), GP64()), Load(Param("width"), GP64())
	query, points, index, out := base("query"), base("points"), base("index"), base("out")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("row")
	point, q, left := GP64(), GP64(), GP64()
	MOVLQSX(Mem{Base: index}, point)
	IMULQ(width, point)
	LEAQ(Mem{Base: points, Index: point, Scale: 4}, point)
	MOVQ(query, q)
	MOVQ(width, left)
	sum := body(left, q, point)
	VMOVSD(sum.AsX(), Mem{Base: out})
	ADDQ(Imm(4), index)
	ADDQ(Imm(8), out)
	DECQ(n)
	JNZ(LabelRef("row"))
	Label("done")
	VZEROUPPER()
	RET()
}

// accumulate adds (p - q)² or p·q to the sums, of which each has so many bytes.
func accumulate(what string, bytes int, vector func() VecVirtual, left Register, query, point GPVirtual) (sums []VecVirtual) {
	for range 128 / bytes {
		s := vector()
		VXORPD(s, s, s)
		sums = append(sums, s)
	}
	Label("step")
	for i, s := range sums {
		p := vector()
		VCVTPS2PD(Mem{Base: point, Disp: i * bytes / 2}, p)
		q := Mem{Base: query, Disp: i * bytes}
		if what == "squares" {
			VSUBPD(q, p, p)
			VMULPD(p, p, p)
		} else {
			VMULPD(q, p, p)
		}
		VADDPD(p, s, s)
	}
	ADDQ(Imm(64), point)
	ADDQ(Imm(128), query)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("step"))
	return sums
}

// fold adds the halves of four sums, twice.
func fold(sum VecVirtual) {
	other := YMM()
	VEXTRACTF128(Imm(1), sum.AsY(), other.AsX())
	VADDPD(other.AsX(), sum.AsX(), sum.AsX())
	VPERMILPD(Imm(1), sum.AsX(), other.AsX())
	VADDSD(other.AsX(), sum.AsX(), sum.AsX())
}

func exact512(what string) {
	exact("AVX512", what, func(left Register, query, point GPVirtual) VecVirtual {
		sums := accumulate(what, 64, func() VecVirtual { return ZMM() }, left, query, point)
		VADDPD(sums[1], sums[0], sums[0])
		half := YMM()
		VEXTRACTF64X4(Imm(1), sums[0], half)
		VADDPD(half, sums[0].AsY(), sums[0].AsY())
		fold(sums[0])
		return sums[0]
	})
}

// dots512 takes four points at a time, whose sums do not wait for each other. A product of two float32 is exact in float64, so that fusing it
// with the addition changes nothing.
func dots512() {
	TEXT("dotsAVX512", NOSPLIT, "func(index []int32, width int, query []float64, points []float32, out []float64)")
	Pragma("noescape")
	Doc("dotsAVX512 is [exact.dots].")
	n, width := Load(Param("index").Len(), GP64()), Load(Param("width"), GP64())
	query, points, index, out := base("query"), base("points"), base("index"), base("out")
	some := func(label string, at int) {
		rows := make([]GPVirtual, at)
		sums := make([][2]VecVirtual, at)
		for r := range rows {
			rows[r] = GP64()
			MOVLQSX(Mem{Base: index, Disp: 4 * r}, rows[r])
			IMULQ(width, rows[r])
			LEAQ(Mem{Base: points, Index: rows[r], Scale: 4}, rows[r])
			sums[r] = [2]VecVirtual{ZMM(), ZMM()}
			for _, s := range sums[r] {
				VPXORQ(s, s, s)
			}
		}
		q, left := GP64(), GP64()
		MOVQ(query, q)
		MOVQ(width, left)
		Label(label)
		for h := range 2 {
			part := ZMM()
			VMOVUPD(Mem{Base: q, Disp: 64 * h}, part)
			for r, row := range rows {
				p := ZMM()
				VCVTPS2PD(Mem{Base: row, Disp: 32 * h}, p)
				VFMADD231PD(part, p, sums[r][h])
			}
		}
		for _, row := range rows {
			ADDQ(Imm(64), row)
		}
		ADDQ(U32(128), q)
		SUBQ(Imm(16), left)
		JNZ(LabelRef(label))
		for r := range rows {
			VADDPD(sums[r][1], sums[r][0], sums[r][0])
			half := YMM()
			VEXTRACTF64X4(Imm(1), sums[r][0], half)
			VADDPD(half, sums[r][0].AsY(), sums[r][0].AsY())
			fold(sums[r][0])
			VMOVSD(sums[r][0].AsX(), Mem{Base: out, Disp: 8 * r})
		}
		ADDQ(Imm(uint64(4*at)), index)
		ADDQ(Imm(uint64(8*at)), out)
		SUBQ(Imm(uint64(at)), n)
	}
	Label("four")
	CMPQ(n, Imm(4))
	JL(LabelRef("rest"))
	some("steps", 4)
	JMP(LabelRef("four"))
	Label("rest")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	some("step", 1)
	JMP(LabelRef("rest"))
	Label("done")
	VZEROUPPER()
	RET()
}

// norm adds up the eight sums of SquaredNorm in a register, and then neighbours.
func norm() {
	TEXT("normAVX2", NOSPLIT, "func(row []float32) float32")
	Pragma("noescape")
	Doc("normAVX2 is normPortable for a multiple of 8 values.")
	row, n := base("row"), Load(Param("row").Len(), GP64())
	sum := YMM()
	VXORPS(sum, sum, sum)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	v := YMM()
	VMOVUPS(Mem{Base: row}, v)
	VMULPS(v, v, v)
	VADDPS(v, sum, sum)
	ADDQ(Imm(32), row)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("step"))
	Label("done")
	VHADDPS(sum, sum, sum)
	VHADDPS(sum, sum, sum)
	half := XMM()
	VEXTRACTF128(Imm(1), sum, half)
	VADDSS(half, sum.AsX(), half)
	Store(half, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// wideNorm keeps the eight sums in two registers. The square of a float32 is exact in float64.
func wideNorm() {
	TEXT("wideNormAVX2", NOSPLIT, "func(row []float32) float64")
	Pragma("noescape")
	Doc("wideNormAVX2 is wideNormPortable for a multiple of 8 values.")
	row, n := base("row"), Load(Param("row").Len(), GP64())
	sum := [2]VecVirtual{YMM(), YMM()}
	for _, s := range sum {
		VXORPD(s, s, s)
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	for h, s := range sum {
		v := YMM()
		VCVTPS2PD(Mem{Base: row, Disp: 16 * h}, v)
		VFMADD231PD(v, v, s)
	}
	ADDQ(Imm(32), row)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("step"))
	Label("done")
	VADDPD(sum[1], sum[0], sum[0])
	VHADDPD(sum[0], sum[0], sum[0])
	half := XMM()
	VEXTRACTF128(Imm(1), sum[0], half)
	VADDSD(half, sum[0].AsX(), half)
	Store(half, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// rowMoments keeps the four sums of a row in a register, and those of its squares in another, for four rows at a time: one alone would wait for each addition. The
// square of a float32 is exact in float64.
func rowMoments() {
	TEXT("rowMomentsAVX2", NOSPLIT, "func(rows []float32, stride, blocks int, out *[4][2][4]float64)")
	Pragma("noescape")
	Doc("rowMomentsAVX2 is rowMomentsPortable.")
	rows, stride, n, out := base("rows"), Load(Param("stride"), GP64()), Load(Param("blocks"), GP64()), Load(Param("out"), GP64())
	SHLQ(Imm(2), stride)
	last := GP64()
	LEAQ(Mem{Base: rows, Index: stride, Scale: 2}, last)
	ADDQ(stride, last)
	at := []Mem{{Base: rows}, {Base: rows, Index: stride, Scale: 1}, {Base: rows, Index: stride, Scale: 2}, {Base: last}}
	var sums [4][2]VecVirtual
	for r := range sums {
		for i := range sums[r] {
			sums[r][i] = YMM()
			VXORPD(sums[r][i], sums[r][i], sums[r][i])
		}
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	for r := range sums {
		v := YMM()
		VCVTPS2PD(at[r], v)
		VADDPD(v, sums[r][0], sums[r][0])
		VFMADD231PD(v, v, sums[r][1])
	}
	ADDQ(Imm(16), rows)
	ADDQ(Imm(16), last)
	DECQ(n)
	JNZ(LabelRef("step"))
	Label("done")
	for r := range sums {
		for i, sum := range sums[r] {
			VMOVUPD(sum, Mem{Base: out, Disp: 64*r + 32*i})
		}
	}
	VZEROUPPER()
	RET()
}

// sumRows keeps sums of 64 columns in registers while it passes over the rows, then of eight at a time.
func sumRows() {
	TEXT("sumRowsAVX2", NOSPLIT, "func(dst []float32, index []int32, weights, rows []float32, width int)")
	Pragma("noescape")
	Doc("sumRowsAVX2 is sumRowsPortable, but for rounding: it fuses multiplication and addition, as tiles do.")
	dst, left := base("dst"), Load(Param("dst").Len(), GP64())
	index, n := base("index"), Load(Param("index").Len(), GP64())
	weights, rows, width := base("weights"), base("rows"), Load(Param("width"), GP64())
	SHLQ(Imm(2), width)
	for _, vectors := range []int{8, 1} {
		label := func(what string) string { return fmt.Sprintf("%s%d", what, vectors) }
		Label(label("columns"))
		CMPQ(left, Imm(uint64(8*vectors)))
		JL(LabelRef(label("done")))
		sums := make([]VecVirtual, vectors)
		for i := range sums {
			sums[i] = YMM()
			VXORPS(sums[i], sums[i], sums[i])
		}
		at := GP64()
		XORQ(at, at)
		CMPQ(at, n)
		JGE(LabelRef(label("store")))
		Label(label("row"))
		row, weight := GP64(), YMM()
		MOVLQSX(Mem{Base: index, Index: at, Scale: 4}, row)
		IMULQ(width, row)
		ADDQ(rows, row)
		VBROADCASTSS(Mem{Base: weights, Index: at, Scale: 4}, weight)
		for i, sum := range sums {
			VFMADD231PS(Mem{Base: row, Disp: 32 * i}, weight, sum)
		}
		INCQ(at)
		CMPQ(at, n)
		JL(LabelRef(label("row")))
		Label(label("store"))
		for i, sum := range sums {
			VMOVUPS(sum, Mem{Base: dst, Disp: 32 * i})
		}
		ADDQ(U32(uint32(32*vectors)), dst)
		ADDQ(U32(uint32(32*vectors)), rows)
		SUBQ(Imm(uint64(8*vectors)), left)
		JMP(LabelRef(label("columns")))
		Label(label("done"))
	}
	VZEROUPPER()
	RET()
}

func widen() {
	TEXT("widenAVX2", NOSPLIT, "func(dst []float64, row []float32)")
	Pragma("noescape")
	Doc("widenAVX2 is widenPortable for a multiple of 8 values.")
	dst, row, n := base("dst"), base("row"), Load(Param("row").Len(), GP64())
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	for h := range 2 {
		v := YMM()
		VCVTPS2PD(Mem{Base: row, Disp: 16 * h}, v)
		VMOVUPD(v, Mem{Base: dst, Disp: 32 * h})
	}
	ADDQ(Imm(32), row)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("step"))
	Label("done")
	VZEROUPPER()
	RET()
}

func times() {
	TEXT("timesAVX2", NOSPLIT, "func(dst, a, b []float32)")
	Pragma("noescape")
	Doc("timesAVX2 is timesPortable for a multiple of 8 values.")
	dst, n, a, b := base("dst"), Load(Param("dst").Len(), GP64()), base("a"), base("b")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	v := YMM()
	VMOVUPS(Mem{Base: a}, v)
	VMULPS(Mem{Base: b}, v, v)
	VMOVUPS(v, Mem{Base: dst})
	for _, p := range []Register{dst, a, b} {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(8), n)
	JNZ(LabelRef("step"))
	Label("done")
	VZEROUPPER()
	RET()
}

func prefetch() {
	TEXT("prefetchLines", NOSPLIT, "func(row []float32)")
	Pragma("noescape")
	Doc("prefetchLines asks for the cache lines of a row.")
	row, n := base("row"), Load(Param("row").Len(), GP64())
	SUBQ(Imm(16), n)
	JL(LabelRef("done"))
	Label("line")
	PREFETCHT0(Mem{Base: row})
	ADDQ(Imm(64), row)
	SUBQ(Imm(16), n)
	JGE(LabelRef("line"))
	Label("done")
	RET()
}

// words rounds to whole numbers of 16 bits, to even ones where two are as near.
func words() {
	TEXT("wordsAVX512", NOSPLIT, "func(dst, src []float32, scale float32)")
	Pragma("noescape")
	Doc("wordsAVX512 is wordsPortable for a multiple of 16 values.")
	dst, src, n := base("dst"), base("src"), Load(Param("src").Len(), GP64())
	scale := ZMM()
	at, _ := Param("scale").Resolve()
	VBROADCASTSS(at.Addr, scale)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	v := ZMM()
	VMULPS(Mem{Base: src}, scale, v)
	VCVTPS2DQ(v, v)
	VPMOVSDW(v, Mem{Base: dst})
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("step"))
	Label("done")
	VZEROUPPER()
	RET()
}

// indexFrom packs in a register the numbers of what is kept of sixteen values, and writes over what lies behind them.
func indexFrom() {
	TEXT("indexFromAVX512", NOSPLIT, "func(values []float32, bar float32, index []int32) int")
	Pragma("noescape")
	Doc("indexFromAVX512 is indexFromPortable for a multiple of 16 values.")
	values, n, index := base("values"), Load(Param("values").Len(), GP64()), base("index")
	bar, numbers, sixteen := ZMM(), ZMM(), ZMM()
	at, _ := Param("bar").Resolve()
	VBROADCASTSS(at.Addr, bar)
	first := GLOBL("numbers", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(uint32(i)))
	}
	VMOVDQU32(first, numbers)
	step := GP32()
	MOVL(U32(16), step)
	VPBROADCASTD(step, sixteen)
	kept, bits := GP64(), GP64()
	XORQ(kept, kept)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("pack")
	v, mask := ZMM(), K()
	VCMPPS(Imm(18), Mem{Base: values}, bar, mask) // bar is not larger
	VPCOMPRESSD_Z(numbers, mask, v)
	VMOVDQU32(v, Mem{Base: index, Index: kept, Scale: 4})
	KMOVW(mask, bits.As32())
	POPCNTQ(bits, bits)
	ADDQ(bits, kept)
	VPADDD(sixteen, numbers, numbers)
	ADDQ(Imm(64), values)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("pack"))
	Label("done")
	Store(kept, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func cosines() {
	TEXT("cosinesAVX512", NOSPLIT, "func(dots, norms []float64, norm float64)")
	Pragma("noescape")
	Doc("cosinesAVX512 is cosinesPortable for a multiple of 8 values.")
	dots, norms, n := base("dots"), base("norms"), Load(Param("dots").Len(), GP64())
	norm := scalar("norm")
	one, zero := ZMM(), ZMM()
	bits := GP64()
	MOVQ(Imm(0x3ff0000000000000), bits)
	VPBROADCASTQ(bits, one)
	VXORPD(zero, zero, zero)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("step")
	squares, d, some := ZMM(), ZMM(), K()
	VMULPD(Mem{Base: norms}, norm, squares)
	VCMPPD(Imm(30), zero, squares, some)
	VSQRTPD(squares, squares)
	VMOVUPD(Mem{Base: dots}, d)
	VDIVPD(squares, d, d)
	VSUBPD(d, one, d)
	VMAXPD(zero, d, d)
	VBLENDMPD(d, one, some, d)
	VMOVUPD(d, Mem{Base: dots})
	ADDQ(Imm(64), dots)
	ADDQ(Imm(64), norms)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("step"))
	Label("done")
	VZEROUPPER()
	RET()
}

func exact2(what string) {
	exact("AVX2", what, func(left Register, query, point GPVirtual) VecVirtual {
		sums := accumulate(what, 32, func() VecVirtual { return YMM() }, left, query, point)
		VADDPD(sums[2], sums[0], sums[0])
		VADDPD(sums[3], sums[1], sums[1])
		VADDPD(sums[1], sums[0], sums[0])
		fold(sums[0])
		return sums[0]
	})
}

// countAbove: a comparison leaves -1 in the lanes that hold; four sums of those, subtracted.
func countAbove() {
	TEXT("countAboveAVX2", NOSPLIT, "func(values []float32, bar float32) int")
	Pragma("noescape")
	Doc("countAboveAVX2 is countAbovePortable for a multiple of 32 values.")
	values, n := base("values"), Load(Param("values").Len(), GP64())
	bar := YMM()
	at, _ := Param("bar").Resolve()
	VBROADCASTSS(at.Addr, bar)
	var sums [4]VecVirtual
	for i := range sums {
		sums[i] = YMM()
		VPXOR(sums[i], sums[i], sums[i])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("count")
	for i, s := range sums {
		v := YMM()
		VMOVUPS(Mem{Base: values, Disp: 32 * i}, v)
		VCMPPS(Imm(30), bar, v, v)
		VPSUBD(v, s, s)
	}
	ADDQ(Imm(128), values)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("count"))
	Label("done")
	VPADDD(sums[1], sums[0], sums[0])
	VPADDD(sums[3], sums[2], sums[2])
	VPADDD(sums[2], sums[0], sums[0])
	sum, other := sums[0].AsX(), XMM()
	VEXTRACTI128(Imm(1), sums[0], other)
	VPADDD(other, sum, sum)
	VPSHUFD(Imm(0x4e), sum, other)
	VPADDD(other, sum, sum)
	VPSHUFD(Imm(0xb1), sum, other)
	VPADDD(other, sum, sum)
	count := GP64()
	VMOVD(sum, count.As32())
	Store(count, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func markFrom() {
	TEXT("markFromAVX2", NOSPLIT, "func(values []float32, bar float32, marks []uint64)")
	Pragma("noescape")
	Doc("markFromAVX2 is markFromPortable; eight values give a byte.")
	values, n := base("values"), Load(Param("values").Len(), GP64())
	marks := base("marks")
	bar := YMM()
	at, _ := Param("bar").Resolve()
	VBROADCASTSS(at.Addr, bar)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("mark")
	v, mask := YMM(), GP32()
	VMOVUPS(Mem{Base: values}, v)
	VCMPPS(Imm(29), bar, v, v)
	VMOVMSKPS(v, mask)
	MOVB(mask.As8(), Mem{Base: marks})
	ADDQ(Imm(32), values)
	INCQ(marks)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("mark"))
	Label("done")
	VZEROUPPER()
	RET()
}

func unit() {
	TEXT("unitAVX2", NOSPLIT, "func(dst, src []float32, scale float64)")
	Pragma("noescape")
	Doc("unitAVX2 is unitPortable for a multiple of 8 values.")
	dst, n, src := base("dst"), Load(Param("dst").Len(), GP64()), base("src")
	scale := YMM()
	at, _ := Param("scale").Resolve()
	VBROADCASTSD(at.Addr, scale)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("some")
	low, high := YMM(), YMM()
	VCVTPS2PD(Mem{Base: src}, low)
	VCVTPS2PD(Mem{Base: src, Disp: 16}, high)
	VMULPD(scale, low, low)
	VMULPD(scale, high, high)
	VCVTPD2PSY(low, low.AsX())
	VCVTPD2PSY(high, high.AsX())
	VMOVUPS(low.AsX(), Mem{Base: dst})
	VMOVUPS(high.AsX(), Mem{Base: dst, Disp: 16})
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("some"))
	Label("done")
	VZEROUPPER()
	RET()
}

// scalar spreads a float64 argument over a register.
func scalar(name string) VecVirtual {
	v := ZMM()
	at, _ := Param(name).Resolve()
	VBROADCASTSD(at.Addr, v)
	return v
}

// columns writes squared distances of eight points at a time, added up as halves does: first those of columns half the width apart.
func columns(width int) {
	TEXT(fmt.Sprintf("columns%dAVX512", width), NOSPLIT, "func(query, points, out []float64)")
	Pragma("noescape")
	Doc(fmt.Sprintf("columns%dAVX512 is columnsPortable for %d columns.", width, width))
	query, points, out, n := base("query"), base("points"), base("out"), Load(Param("out").Len(), GP64())
	q := make([]VecVirtual, width)
	for c := range q {
		q[c] = ZMM()
		VBROADCASTSD(Mem{Base: query, Disp: 8 * c}, q[c])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("points")
	var square func(c, step int) VecVirtual // of columns c, c + step, c + 2·step …
	square = func(c, step int) VecVirtual {
		if step == width {
			d := ZMM()
			VMOVUPD(Mem{Base: points, Disp: 64 * c}, d)
			VSUBPD(q[c], d, d)
			VMULPD(d, d, d)
			return d
		}
		a, b := square(c, 2*step), square(c+step, 2*step)
		VADDPD(b, a, a)
		return a
	}
	VMOVUPD(square(0, 1), Mem{Base: out})
	ADDQ(U32(uint32(64*width)), points)
	ADDQ(Imm(64), out)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("points"))
	Label("done")
	VZEROUPPER()
	RET()
}

// reduce folds a register of eight unsigned numbers.
func reduce(all VecVirtual, pick func(m, x, y Op)) GPVirtual {
	other := ZMM()
	VEXTRACTI64X4(Imm(1), all, other.AsY())
	pick(other, all, all)
	VEXTRACTI128(Imm(1), all.AsY(), other.AsX())
	pick(other, all, all)
	VPERMILPD(Imm(1), all.AsX(), other.AsX())
	pick(other, all, all)
	r := GP64()
	VMOVQ(all.AsX(), r)
	return r
}

// kth bisects the numbers that stand for the values, which are not negative. Fewer than k are at most lo, and k or more at most hi. To look where
// a straight line between the counts has k saves no time.
func kth() {
	TEXT("kthAVX512", NOSPLIT, "func(values []float64, k, slack int) (bar float64, surplus int)")
	Pragma("noescape")
	Doc("kthAVX512 is kthPortable, of another bar that leaves as many where there is a choice.")
	values, n := base("values"), Load(Param("values").Len(), GP64())
	k, most := Load(Param("k"), GP64()).(GPVirtual), Load(Param("slack"), GP64()).(GPVirtual)
	ADDQ(k, most)
	small, large, v := ZMM(), ZMM(), ZMM()
	VMOVDQU64(Mem{Base: values}, small)
	VMOVDQA64(small, large)
	at, left := GP64(), GP64()
	XORQ(at, at)
	Label("range")
	VMOVDQU64(Mem{Base: values, Index: at, Scale: 8}, v)
	VPMINUQ(v, small, small)
	VPMAXUQ(v, large, large)
	ADDQ(Imm(8), at)
	CMPQ(at, n)
	JLT(LabelRef("range"))
	lo := reduce(small, func(m, x, y Op) { VPMINUQ(m, x, y) })
	hi := reduce(large, func(m, x, y Op) { VPMAXUQ(m, x, y) })
	DECQ(lo)
	count, bits, middle, upTo := GP64(), GP64(), GP64(), GP64()
	MOVQ(n, upTo) // values at most hi
	Label("halve")
	MOVQ(hi, middle)
	SUBQ(lo, middle)
	CMPQ(middle, Imm(1))
	JBE(LabelRef("done"))
	SHRQ(Imm(1), middle)
	ADDQ(lo, middle)
	bar, mask := ZMM(), K()
	VPBROADCASTQ(middle, bar)
	XORQ(count, count)
	XORQ(at, at)
	MOVQ(n, left)
	Label("count")
	VPCMPUQ(Imm(5), Mem{Base: values, Index: at, Scale: 8}, bar, mask) // bar is not less
	KMOVB(mask, bits.As32())
	POPCNTQ(bits, bits)
	ADDQ(bits, count)
	ADDQ(Imm(8), at)
	SUBQ(Imm(8), left)
	JNZ(LabelRef("count"))
	CMPQ(count, k)
	CMOVQLT(middle, lo)
	CMOVQGE(middle, hi)
	CMOVQGE(count, upTo)
	JLT(LabelRef("halve"))
	CMPQ(count, most)
	JGT(LabelRef("halve"))
	Label("done")
	SUBQ(k, upTo)
	result := XMM()
	VMOVQ(hi, result)
	Store(result, ReturnIndex(0))
	Store(upTo, ReturnIndex(1))
	VZEROUPPER()
	RET()
}

// upTo packs in a register what is kept of eight values, and writes over what lies behind it.
func upTo() {
	TEXT("upToAVX512", NOSPLIT, "func(values []float64, bar float64, out []float64) int")
	Pragma("noescape")
	Doc("upToAVX512 is upToPortable.")
	values, out, n := base("values"), base("out"), Load(Param("values").Len(), GP64())
	bar := scalar("bar")
	kept, bits := GP64(), GP64()
	XORQ(kept, kept)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("pack")
	v, mask := ZMM(), K()
	VMOVUPD(Mem{Base: values}, v)
	VCMPPD(Imm(18), bar, v, mask)
	VCOMPRESSPD_Z(v, mask, v)
	VMOVUPD(v, Mem{Base: out, Index: kept, Scale: 8})
	KMOVB(mask, bits.As32())
	POPCNTQ(bits, bits)
	ADDQ(bits, kept)
	ADDQ(Imm(64), values)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("pack"))
	Label("done")
	Store(kept, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// roots keeps sums, and the smallest and largest roots, in eight lanes.
func roots() {
	TEXT("rootsAVX512", NOSPLIT, "func(values []float64, bar float64) (sum, least, some, most float64)")
	Pragma("noescape")
	Doc("rootsAVX512 is rootsPortable.")
	values, n := base("values"), Load(Param("values").Len(), GP64())
	bar := scalar("bar")
	sum, least, some, most, zero := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
	VXORPD(sum, sum, sum)
	VXORPD(zero, zero, zero)
	VXORPD(most, most, most)
	infinity := GP64()
	MOVQ(Imm(0x7ff0000000000000), infinity)
	VPBROADCASTQ(infinity, least)
	VMOVAPD(least, some)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("root")
	v, kept, positive := ZMM(), K(), K()
	VMOVUPD(Mem{Base: values}, v)
	VCMPPD(Imm(18), bar, v, kept)
	VSQRTPD(v, v)
	short := YMM()
	VCVTPD2PS(v, short)
	VCVTPS2PD(short, v)
	VADDPD(v, sum, kept, sum)
	VMINPD(v, least, kept, least)
	VMAXPD(v, most, kept, most)
	VCMPPD(Imm(30), zero, v, kept, positive)
	VMINPD(v, some, positive, some)
	ADDQ(Imm(64), values)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("root"))
	Label("done")
	for i, all := range []VecVirtual{sum, least, some, most} {
		pick := [](func(m, x, y Op)){
			func(m, x, y Op) { VADDPD(m, x, y) }, func(m, x, y Op) { VMINPD(m, x, y) },
			func(m, x, y Op) { VMINPD(m, x, y) }, func(m, x, y Op) { VMAXPD(m, x, y) },
		}[i]
		other := ZMM()
		VEXTRACTF64X4(Imm(1), all, other.AsY())
		pick(other.AsY(), all.AsY(), all.AsY())
		VEXTRACTF128(Imm(1), all.AsY(), other.AsX())
		pick(other.AsX(), all.AsX(), all.AsX())
		VPERMILPD(Imm(1), all.AsX(), other.AsX())
		pick(other.AsX(), all.AsX(), all.AsX())
		Store(all.AsX(), ReturnIndex(i))
	}
	VZEROUPPER()
	RET()
}

// moments keeps two sums of each, of values that are members.
func moments() {
	TEXT("momentsAVX512", NOSPLIT, "func(values []float32, members []uint16) (sum, squares float32)")
	Pragma("noescape")
	Doc("momentsAVX512 is momentsPortable for a multiple of 32 values.")
	values, n, members := base("values"), Load(Param("values").Len(), GP64()), base("members")
	var sums [4]VecVirtual
	for i := range sums {
		sums[i] = ZMM()
		VXORPS(sums[i], sums[i], sums[i])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("some")
	for i := range 2 {
		v, k := ZMM(), K()
		KMOVW(Mem{Base: members, Disp: 2 * i}, k)
		VMOVUPS_Z(Mem{Base: values, Disp: 64 * i}, k, v)
		VADDPS(v, sums[i], sums[i])
		VFMADD231PS(v, v, sums[2+i])
	}
	ADDQ(U32(128), values)
	ADDQ(Imm(4), members)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("some"))
	Label("done")
	for i := range 2 {
		sum, half := sums[2*i], ZMM()
		VADDPS(sums[2*i+1], sum, sum)
		VEXTRACTF64X4(Imm(1), sum, half.AsY())
		VADDPS(half.AsY(), sum.AsY(), sum.AsY())
		VEXTRACTF128(Imm(1), sum.AsY(), half.AsX())
		VADDPS(half.AsX(), sum.AsX(), sum.AsX())
		VPERMILPS(Imm(0x4e), sum.AsX(), half.AsX())
		VADDPS(half.AsX(), sum.AsX(), sum.AsX())
		VPERMILPS(Imm(0xb1), sum.AsX(), half.AsX())
		VADDSS(half.AsX(), sum.AsX(), sum.AsX())
		Store(sum.AsX(), ReturnIndex(i))
	}
	VZEROUPPER()
	RET()
}

// pick packs numbers of 16 bits, of 32 values at a time. Those that are wanted become 32 bits in the end.
func pick() {
	TEXT("pickAVX512", NOSPLIT, "func(values []float32, members []uint16, bar float32, split, jump int, places []uint16, index *[32]int32) int")
	Pragma("noescape")
	Doc("pickAVX512 is pickPortable.")
	values, n, members, places := base("values"), Load(Param("values").Len(), GP64()), base("members"), base("places")
	bar, numbers, step := ZMM(), ZMM(), ZMM()
	at, _ := Param("bar").Resolve()
	VBROADCASTSS(at.Addr, bar)
	first := GLOBL("words", RODATA|NOPTR)
	for i := range 32 {
		DATA(2*i, U16(uint16(i)))
	}
	VMOVDQU16(first, numbers)
	more := GP32()
	MOVL(U32(32), more)
	VPBROADCASTW(more, step)
	kept, bits := GP64(), GP64()
	XORQ(kept, kept)
	Label("pack")
	for i := range 2 {
		low, high, all, member, v := K(), K(), K(), K(), ZMM()
		KMOVD(Mem{Base: members, Disp: 4 * i}, member)
		VCMPPS(Imm(18), Mem{Base: values, Disp: 128 * i}, bar, low) // bar is not larger
		VCMPPS(Imm(18), Mem{Base: values, Disp: 128*i + 64}, bar, high)
		KUNPCKWD(low, high, all)
		KANDD(member, all, all)
		VPCOMPRESSW_Z(numbers, all, v)
		VMOVDQU16(v, Mem{Base: places, Index: kept, Scale: 2})
		KMOVD(all, bits.As32())
		POPCNTL(bits.As32(), bits.As32())
		ADDQ(bits, kept)
		VPADDW(step, numbers, numbers)
	}
	ADDQ(U32(256), values)
	ADDQ(Imm(8), members)
	SUBQ(Imm(64), n)
	JNZ(LabelRef("pack"))
	// What lies behind the last may be of an earlier call, whose values were more.
	index := Load(Param("index"), GP64())
	split, jump := ZMM(), ZMM()
	at, _ = Param("split").Resolve()
	VPBROADCASTD(at.Addr, split)
	at, _ = Param("jump").Resolve()
	VPBROADCASTD(at.Addr, jump)
	all, there := GP64(), GP64()
	MOVQ(I32(-1), all)
	MOVQ(kept, bits)
	MOVQ(U32(64), there)
	CMPQ(bits, there)
	CMOVQGT(there, bits)
	BZHIQ(bits, all, there)
	for i := range 2 {
		v, beyond, real := ZMM(), K(), K()
		KMOVW(there.As32(), real)
		VPMOVZXWD_Z(Mem{Base: places, Disp: 32 * i}, real, v)
		VPCMPD(Imm(5), split, v, real, beyond) // not less
		VPADDD(jump, v, beyond, v)
		VMOVDQU32(v, Mem{Base: index, Disp: 64 * i})
		if i == 0 {
			SHRQ(Imm(16), there)
		}
	}
	Store(kept, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// nearestSum computes distances of eight candidates at a time, four rows side by side, and counts for each how many are nearer.
func nearestSum(most int) {
	groups := most / 8
	TEXT(fmt.Sprintf("nearestSum%dAVX512", most), NOSPLIT,
		"func(index []int32, width int, query []float64, points []float32, norms []float64, norm float64, k int) (total, least, farthest float64, kept int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("nearestSum%dAVX512 is nearestSumPortable for at most %d candidates, with room for so many, all of which are numbers of points.", most, most))
	width, points, norms, index := Load(Param("width"), GP64()), base("points"), base("norms"), base("index")
	room := AllocLocal(8 * most)
	one, zero, norm, infinity := ZMM(), ZMM(), scalar("norm"), ZMM()
	bits := GP64()
	MOVQ(Imm(0x3ff0000000000000), bits)
	VPBROADCASTQ(bits, one)
	MOVQ(Imm(0x7ff0000000000000), bits)
	VPBROADCASTQ(bits, infinity)
	VXORPD(zero, zero, zero)
	valid := GP64()
	n, all := Load(Param("index").Len(), GP64()), GP64()
	MOVQ(I32(-1), all)
	BZHIQ(n, all, valid)
	// What is written in part counts as live from the beginning: all groups share these.
	var rows [8]VecVirtual
	var lengths [4]VecVirtual
	for i := range rows {
		rows[i] = ZMM()
		lengths[i/2] = ZMM()
	}
	var sums [4][2]VecVirtual
	for r := range sums {
		sums[r] = [2]VecVirtual{ZMM(), ZMM()}
	}
	distances := make([]VecVirtual, groups)
	for g := range distances {
		for half := range 2 {
			var at [4]GPVirtual
			for r := range at {
				at[r] = GP64()
				MOVLQSX(Mem{Base: index, Disp: 4 * (8*g + 4*half + r)}, at[r])
				length := Mem{Base: norms, Index: at[r], Scale: 8}
				if r%2 == 0 {
					VMOVSD(length, lengths[2*half+r/2].AsX())
				} else {
					two := lengths[2*half+r/2].AsX()
					VMOVHPD(length, two, two)
				}
				IMULQ(width, at[r])
				LEAQ(Mem{Base: points, Index: at[r], Scale: 4}, at[r])
				for _, s := range sums[r] {
					VPXORQ(s, s, s)
				}
			}
			q, left := base("query"), GP64()
			MOVQ(width, left)
			label := fmt.Sprintf("steps%d", 2*g+half)
			Label(label)
			for h := range 2 {
				part := ZMM()
				VMOVUPD(Mem{Base: q, Disp: 64 * h}, part)
				for r, row := range at {
					p := ZMM()
					VCVTPS2PD(Mem{Base: row, Disp: 32 * h}, p)
					VFMADD231PD(part, p, sums[r][h])
				}
			}
			for _, row := range at {
				ADDQ(Imm(64), row)
			}
			ADDQ(U32(128), q)
			SUBQ(Imm(16), left)
			JNZ(LabelRef(label))
			for r, s := range sums {
				VADDPD(s[1], s[0], rows[4*half+r])
			}
		}
		// Halves are added up, of two sums side by side, then of four, then of eight.
		fold := func(low, high uint64, a, b VecVirtual) VecVirtual {
			x, y := ZMM(), ZMM()
			VSHUFF64X2(Imm(low), b, a, x)
			VSHUFF64X2(Imm(high), b, a, y)
			VADDPD(y, x, x)
			return x
		}
		pairs := func(i int) VecVirtual {
			return fold(0x88, 0xdd, fold(0x44, 0xee, rows[i], rows[i+2]), fold(0x44, 0xee, rows[i+4], rows[i+6]))
		}
		even, odd := pairs(0), pairs(1)
		dots, other := ZMM(), ZMM()
		VUNPCKLPD(odd, even, dots)
		VUNPCKHPD(odd, even, other)
		VADDPD(other, dots, dots)
		for h := range 2 {
			VINSERTF128(Imm(1), lengths[2*h+1].AsX(), lengths[2*h].AsY(), lengths[2*h].AsY())
		}
		squares, d, some := ZMM(), ZMM(), K()
		VINSERTF64X4(Imm(1), lengths[2].AsY(), lengths[0], squares)
		VMULPD(squares, norm, squares)
		VCMPPD(Imm(30), zero, squares, some)
		VSQRTPD(squares, squares)
		VDIVPD(squares, dots, d)
		VSUBPD(d, one, d)
		VMAXPD(zero, d, d)
		VBLENDMPD(d, one, some, d)
		there := K()
		KMOVW(valid.As32(), there)
		SHRQ(Imm(8), valid)
		VBLENDMPD(d, infinity, there, d)
		VMOVUPD(d, room.Offset(64*g))
		distances[g] = d
	}
	ranks := make([]VecVirtual, groups)
	unit := ZMM()
	MOVQ(I32(1), bits)
	VPBROADCASTQ(bits, unit)
	for g := range ranks {
		ranks[g] = ZMM()
		VPXORQ(ranks[g], ranks[g], ranks[g])
	}
	for i := range most {
		for g, d := range distances {
			nearer := K()
			VCMPPD_BCST(Imm(30), room.Offset(8*i), d, nearer)
			VPADDQ(unit, ranks[g], nearer, ranks[g])
		}
	}
	k, kept, count := ZMM(), GP64(), GP64()
	wanted, _ := Param("k").Resolve()
	VPBROADCASTQ(wanted.Addr, k)
	total, least, farthest := ZMM(), ZMM(), ZMM()
	VXORPD(total, total, total)
	VXORPD(farthest, farthest, farthest)
	VMOVAPD(infinity, least)
	XORQ(kept, kept)
	for g, d := range distances {
		near, short, v := K(), YMM(), ZMM()
		VPCMPUQ(Imm(1), k, ranks[g], near)
		KMOVW(near, count.As32())
		POPCNTQ(count, count)
		ADDQ(count, kept)
		VCVTPD2PS(d, short)
		VCVTPS2PD(short, v)
		VADDPD(v, total, near, total)
		VMINPD(d, least, near, least)
		VMAXPD(d, farthest, near, farthest)
	}
	for i, vector := range []VecVirtual{total, least, farthest} {
		pick := [](func(m, x, y Op)){func(m, x, y Op) { VADDPD(m, x, y) }, func(m, x, y Op) { VMINPD(m, x, y) }, func(m, x, y Op) { VMAXPD(m, x, y) }}[i]
		other := ZMM()
		VEXTRACTF64X4(Imm(1), vector, other.AsY())
		pick(other.AsY(), vector.AsY(), vector.AsY())
		VEXTRACTF128(Imm(1), vector.AsY(), other.AsX())
		pick(other.AsX(), vector.AsX(), vector.AsX())
		VPERMILPD(Imm(1), vector.AsX(), other.AsX())
		pick(other.AsX(), vector.AsX(), vector.AsX())
		Store(vector.AsX(), ReturnIndex(i))
	}
	Store(kept, ReturnIndex(3))
	VZEROUPPER()
	RET()
}
