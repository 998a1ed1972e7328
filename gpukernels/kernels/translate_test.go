package kernels

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTranslated runs the PTX itself on the CPU: each instruction becomes a statement of C++ over the emulator, and the same comparisons with float64 are made as of
// the sources. What clang did to barriers, to the order of loads and to lanes that part ways shows here; only NVIDIA's assembler comes behind it.
func TestTranslated(t *testing.T) {
	if testing.Short() {
		t.Skip("the PTX is translated and run without -short")
	}
	dir := t.TempDir()
	header, source := translate(t, PTX)
	for name, text := range map[string]string{"translated.h": header, "translated.cpp": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	emulator, err := filepath.Abs("../emulator")
	if err != nil {
		t.Fatal(err)
	}
	check := compile(t, "-O1", "-I"+emulator, "-I"+dir, `-DKERNELS="translated.h"`, "../emulator/emulator.cpp", filepath.Join(dir, "translated.cpp"), "testdata/check.cpp")
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), check, group, "4")
			cmd.Env = append(os.Environ(), "CHECK_BRIEF=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// prelude is what the statements are made of. Memory of the block is one array of words, watched over as that of the sources is.
const prelude = `#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
typedef float float4v __attribute__((vector_size(16)));
#include "device.h"
#include "translated.h"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wunused-label"
#pragma GCC diagnostic ignored "-Wunused-variable"
typedef Shared<uint32_t> Words;
template <class T> static inline void read(const Words &w, uint64_t at, T *to, int n) {
    uint32_t words[8];
    for (size_t i = 0; i < n * sizeof(T) / 4; i++) words[i] = w.get((int64_t)at / 4 + i);
    memcpy(to, words, n * sizeof(T));
}
template <class T> static inline void write(const Words &w, uint64_t at, const T *from, int n) {
    uint32_t words[8];
    memcpy(words, from, n * sizeof(T));
    for (size_t i = 0; i < n * sizeof(T) / 4; i++) w.set((int64_t)at / 4 + i, words[i]);
}
template <class To, class From> static inline void move(To &to, From from) {
    static_assert(sizeof to == sizeof from, "a move changes no bits");
    memcpy(&to, &from, sizeof to);
}
template <class T> static inline T least(T a, T b) { return b < a ? b : a; }
template <class T> static inline T greatest(T a, T b) { return a < b ? b : a; }
template <class T> static inline T left(T v, uint32_t n) { return n >= sizeof(T) * 8 ? 0 : (T)(v << n); }
template <class T> static inline T right(T v, uint32_t n) { return (T)(v >> (n >= sizeof(T) * 8 ? sizeof(T) * 8 - 1 : n)); }
template <class T> static inline T right_unsigned(T v, uint32_t n) { return n >= sizeof(T) * 8 ? 0 : (T)(v >> n); }
`

var (
	ptxEntry    = regexp.MustCompile(`^\.visible \.entry (\w+)\(`)
	ptxRegister = regexp.MustCompile(`^\.reg \.(\w+)\s+%(\w+)<(\d+)>;`)
	ptxShared   = regexp.MustCompile(`^\.shared \.align \d+ \.b8 (\w+)\[(\d+)\];`)
	ptxLabel    = regexp.MustCompile(`^(\w+):`)
	ptxLine     = regexp.MustCompile(`^(?:@(!?)%p(\d+)\s+)?([a-z][\w.]*)\s*(.*);`)
	ptxName     = regexp.MustCompile(`^%([a-z]+)(\d+)$`)
	ptxAddress  = regexp.MustCompile(`^\[(%?\w+)(?:\+(-?\d+))?\]$`)
)

var cTypes = map[string]string{
	"pred": "bool", "b16": "uint16_t", "b32": "uint32_t", "b64": "uint64_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
	"s8": "int8_t", "s16": "int16_t", "s32": "int32_t", "s64": "int64_t", "f32": "float", "f64": "double",
}

// translate returns a header that declares the kernels of a PTX module as the emulator wants them, and their bodies.
func translate(t *testing.T, ptx string) (header, source string) {
	t.Helper()
	var declared, every, body strings.Builder
	body.WriteString(prelude)
	name, params, size := "", 0, 0
	offsets := map[string]int{}
	var statements strings.Builder
	for number, line := range strings.Split(ptx, "\n") {
		line = strings.TrimSpace(line)
		fail := func() { t.Fatalf("kernels.ptx:%d: not understood: %s", number+1, line) }
		if m := ptxEntry.FindStringSubmatch(line); m != nil {
			name, params, size = m[1], 0, 0
			offsets = map[string]int{}
			statements.Reset()
			continue
		}
		if m := ptxRegister.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(&statements, "%s %s[%s];\n", cTypes[m[1]], m[2], m[3])
			continue
		}
		if m := ptxShared.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[2])
			offsets[m[1]] = size
			size += (n + 15) / 16 * 16
			continue
		}
		if m := ptxLabel.FindStringSubmatch(line); m != nil {
			fmt.Fprintf(&statements, "%s:;\n", m[1])
			continue
		}
		switch {
		case strings.HasPrefix(line, ".param"):
			params++
			continue
		case line == "}":
			types := strings.TrimSuffix(strings.Repeat("uint64_t, ", params), ", ")
			fmt.Fprintf(&declared, "extern \"C\" void %s(%s);\n", name, types)
			fmt.Fprintf(&every, " K(%s)", name)
			var arguments []string
			for i := range params {
				arguments = append(arguments, "uint64_t a"+strconv.Itoa(i))
			}
			fmt.Fprintf(&body, "void %s(%s) {\nalignas(16) static uint32_t memory[%d];\nconst Words words = {memory, emulator::memory_of(memory, %d, 4, \"%s\")};\n%s}\n",
				name, strings.Join(arguments, ", "), size/4+4, size/4, name, statements.String())
			continue
		case line == "" || line == "{" || line == ")" || strings.HasPrefix(line, "//") || strings.HasPrefix(line, "."):
			continue
		}
		m := ptxLine.FindStringSubmatch(line)
		if m == nil {
			fail()
		}
		if m[2] != "" {
			fmt.Fprintf(&statements, "if (%sp[%s]) ", m[1], m[2])
		}
		s := instruction(m[3], operands(m[4]), offsets, number+1)
		if s == "" {
			fail()
		}
		statements.WriteString("{ " + s + " }\n")
	}
	header = "#pragma once\n#include <stdint.h>\nenum { BLOCK_THREADS = 256 };\n" + declared.String() + "#define EVERY_KERNEL(K)" + every.String() + "\n"
	return header, body.String()
}

// operands splits at commas outside braces.
func operands(text string) []string {
	var all []string
	depth, from := 0, 0
	for i, c := range text {
		switch c {
		case '{':
			depth++
		case '}':
			depth--
		case ',':
			if depth == 0 {
				all, from = append(all, strings.TrimSpace(text[from:i])), i+1
			}
		}
	}
	return append(all, strings.TrimSpace(text[from:]))
}

func instruction(op string, o []string, offsets map[string]int, line int) string {
	special := map[string]string{"%tid.x": "thread_x()", "%ctaid.x": "block_x()", "%ctaid.y": "block_y()", "%ctaid.z": "block_z()", "%nctaid.x": "grid_x()", "%nctaid.y": "grid_y()"}
	value := func(s string) string {
		if m := ptxName.FindStringSubmatch(s); m != nil {
			return m[1] + "[" + m[2] + "]"
		}
		if v, ok := special[s]; ok {
			return "(uint32_t)" + v
		}
		if at, ok := offsets[s]; ok {
			return "(uint64_t)" + strconv.Itoa(at)
		}
		if v, ok := strings.CutPrefix(s, "0f"); ok {
			return "float_of(0x" + v + "u)"
		}
		if v, ok := strings.CutPrefix(s, "0d"); ok {
			return "double_of(0x" + v + "ull)"
		}
		return "(" + s + "ll)"
	}
	list := func(s string) (all []string) {
		for _, v := range operands(strings.Trim(s, "{} ")) {
			all = append(all, value(v))
		}
		return all
	}
	parts := strings.Split(op, ".")
	last := cTypes[parts[len(parts)-1]]
	unsigned := strings.Replace(last, "int", "uint", 1)
	if strings.HasPrefix(last, "uint") {
		unsigned = last
	}
	set := func(format string, args ...any) string {
		return value(o[0]) + " = " + fmt.Sprintf(format, args...) + ";"
	}
	as := func(kind string, i int) string { return "(" + kind + ")" + value(o[i]) }
	// In unsigned numbers, which may overflow.
	binary := func(operator string) string {
		if last == "float" || last == "double" {
			return set("%s %s %s", value(o[1]), operator, value(o[2]))
		}
		return set("(%s)(%s %s %s)", unsigned, as(unsigned, 1), operator, as(unsigned, 2))
	}
	site := fmt.Sprintf(`"kernels.ptx", %d`, line)
	switch parts[0] {
	case "add":
		return binary("+")
	case "sub":
		return binary("-")
	case "and":
		return binary("&")
	case "or":
		return binary("|")
	case "xor":
		return binary("^")
	case "mul", "mad":
		switch {
		case last == "float" || last == "double":
			return binary("*")
		case parts[1] == "wide":
			return set("(int64_t)%s * (int64_t)%s", as(last, 1), as(last, 2))
		case parts[0] == "mad":
			return set("(%s)(%s * %s + %s)", unsigned, as(unsigned, 1), as(unsigned, 2), as(unsigned, 3))
		}
		return binary("*")
	case "div":
		return set("%s / %s", as(last, 1), as(last, 2))
	case "rcp":
		return set("1 / %s", value(o[1]))
	case "sqrt":
		return set("std::sqrt(%s)", value(o[1]))
	case "fma":
		return set("std::fma(%s, %s, %s)", value(o[1]), value(o[2]), value(o[3]))
	case "neg":
		return set("-%s", value(o[1]))
	case "not":
		return set("(%s)~%s", unsigned, as(unsigned, 1))
	case "min", "max":
		name := map[string]string{"min": "least", "max": "greatest"}[parts[0]]
		if last == "double" || last == "float" {
			name = "std::f" + parts[0] // a NaN gives way
		}
		return set("%s(%s, %s)", name, as(last, 1), as(last, 2))
	case "shl":
		return set("left<%s>(%s, %s)", last, value(o[1]), value(o[2]))
	case "shr":
		if strings.HasPrefix(last, "u") {
			return set("right_unsigned<%s>(%s, %s)", last, value(o[1]), value(o[2]))
		}
		return set("right<%s>(%s, %s)", last, value(o[1]), value(o[2]))
	case "popc":
		return set("__builtin_popcount(%s)", value(o[1]))
	case "setp":
		a, b := as(last, 1), as(last, 2)
		compare := map[string]string{"lt": "<", "gt": ">", "le": "<=", "ge": ">=", "eq": "=="}
		inverse := map[string]string{"geu": "<", "leu": ">", "gtu": "<=", "ltu": ">=", "neu": "=="} // true for NaN, too
		if c, ok := compare[parts[1]]; ok {
			return set("%s %s %s", a, c, b)
		}
		if c, ok := inverse[parts[1]]; ok {
			return set("!(%s %s %s)", a, c, b)
		}
		switch {
		case parts[1] == "ne" && !strings.HasPrefix(parts[2], "f"):
			return set("%s != %s", a, b)
		case parts[1] == "num":
			return set("%s == %s && %s == %s", a, a, b, b)
		case parts[1] == "nan":
			return set("%s != %s || %s != %s", a, a, b, b)
		}
	case "selp":
		return set("%s ? %s : %s", value(o[3]), as(last, 1), as(last, 2))
	case "cvt":
		if op == "cvt.rn.bf16x2.f32" {
			return set("pack_bf16(%s, %s)", value(o[2]), value(o[1]))
		}
		// From what the last part says, to what the one before says.
		to := cTypes[parts[len(parts)-2]]
		return set("(%s)%s", to, as(last, 1))
	case "cvta":
		return set("%s", value(o[1]))
	case "mov":
		if parts[1] == "pred" {
			return set("%s != 0", value(o[1]))
		}
		if ptxName.MatchString(o[1]) {
			return fmt.Sprintf("move(%s, %s);", value(o[0]), value(o[1]))
		}
		return set("%s", value(o[1]))
	case "ld":
		at := ptxAddress.FindStringSubmatch(o[1])
		if at == nil {
			return ""
		}
		if parts[1] == "param" {
			return fmt.Sprintf("move(%s, a%s);", value(o[0]), at[1][strings.LastIndex(at[1], "_")+1:])
		}
		to := list(o[0])
		address := value(at[1]) + " + " + map[bool]string{true: "0", false: at[2]}[at[2] == ""]
		s := fmt.Sprintf("%s v[%d]; ", last, len(to))
		if parts[1] == "shared" {
			s += fmt.Sprintf("read(words, %s, v, %d); ", address, len(to))
		} else {
			s += fmt.Sprintf("memcpy(v, (const void *)(%s), sizeof v); ", address)
		}
		for i, v := range to {
			s += fmt.Sprintf("%s = v[%d]; ", v, i) // a wider register is filled with zeros or with the sign
		}
		return s
	case "st":
		at := ptxAddress.FindStringSubmatch(o[0])
		if at == nil {
			return ""
		}
		from := list(o[1])
		address := value(at[1]) + " + " + map[bool]string{true: "0", false: at[2]}[at[2] == ""]
		s := fmt.Sprintf("%s v[%d] = {(%s)%s}; ", last, len(from), last, strings.Join(from, ", ("+last+")"))
		if parts[1] == "shared" {
			return s + fmt.Sprintf("write(words, %s, v, %d);", address, len(from))
		}
		return s + fmt.Sprintf("memcpy((void *)(%s), v, sizeof v);", address)
	case "atom":
		if at := ptxAddress.FindStringSubmatch(o[1]); op == "atom.shared.add.u32" && at != nil && at[2] == "" {
			return set("words.add((int64_t)%s / 4, (uint32_t)%s)", value(at[1]), value(o[2]))
		}
	case "bra":
		return "goto " + o[0] + ";"
	case "ret":
		return "return;"
	case "bar":
		if parts[1] == "warp" {
			return "emulator::warp_wait(" + site + ");"
		}
		return "emulator::block_wait(" + site + ");"
	case "shfl":
		return set("warp_xor_at(%s, %s, %d)", value(o[1]), value(o[2]), line)
	case "vote":
		return set("warp_ballot_at(%s, %d)", value(o[1]), line)
	case "redux":
		return set("warp_%s_at(%s, %d)", map[string]string{"add": "total", "max": "largest"}[parts[2]], value(o[1]), line)
	case "mma":
		c, a, b := list(o[0]), list(o[1]), list(o[2])
		s := fmt.Sprintf("float c[4] = {%s}; uint32_t x[4] = {%s}, y[2] = {%s}; (emulator::multiply_bf16)(c, x, y, %d); ", strings.Join(list(o[3]), ", "), strings.Join(a, ", "), strings.Join(b, ", "), line)
		for i, v := range c {
			s += fmt.Sprintf("%s = c[%d]; ", v, i)
		}
		return s
	}
	return ""
}
