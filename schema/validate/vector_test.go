package validate

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// TestPlain compares every way to copy string text with the tape's.
func TestPlain(t *testing.T) {
	g := rand.New(rand.NewPCG(13, 14))
	for _, with := range levels {
		if with.plain == nil {
			continue
		}
		for size := range 200 {
			for _, end := range []byte{'"', '\\', 0, 0x1F, '\n', 0x80, 0xC3, 0xFF} {
				from, to := make([]byte, size+1+margin), make([]byte, size+1+margin)
				for k := range size {
					from[k] = "az AZ09~!#[]^\x7f {}"[g.IntN(17)]
				}
				from[size] = end
				if got := with.plain(&to[0], &from[0]); got != plain(from, 0) || got != size || !bytes.Equal(from[:size], to[:size]) {
					t.Fatalf("%s: %d bytes and then %q: copied %d, %q", with.name, size, end, got, to)
				}
			}
		}
	}
}

// TestFractions compares every way to read arrays of numbers with strconv, bit for bit, whatever is among them.
func TestFractions(t *testing.T) {
	g := rand.New(rand.NewPCG(15, 16))
	for _, with := range levels {
		taken := 0
		for round := range 3000 {
			var list []string
			for range g.IntN(40) {
				sign := []string{"", "-"}[g.IntN(2)]
				switch g.IntN(12 + 30*(round%3)) {
				case 0:
					list = append(list, sign+strconv.FormatFloat(g.NormFloat64(), 'g', -1, 64))
				case 1:
					list = append(list, sign+strconv.Itoa(g.IntN(1000)))
				case 2:
					list = append(list, sign+strconv.FormatFloat(g.Float64()*1e-5, 'e', g.IntN(8), 64))
				case 3:
					list = append(list, sign+strconv.FormatFloat(g.Float64()*100, 'f', 1+g.IntN(5), 64))
				case 4:
					list = append(list, sign+"9."+strings.Repeat("9", 1+g.IntN(18)))
				case 5:
					list = append(list, sign+"0."+strings.Repeat("0", 1+g.IntN(18))+"1")
				default:
					list = append(list, sign+strconv.FormatFloat(g.Float64()*10, 'f', 1+g.IntN(14), 64))
				}
			}
			separator := []string{",", ", ", " ,", ",\t"}[max(0, g.IntN(12)-8)%4]
			text := strings.Join(list, separator)
			if g.IntN(3) == 0 && text != "" { // something is wrong
				b := []byte(text)
				b[g.IntN(len(b))] = "0123456789.,-+eE ]}x\x00\xff"[g.IntN(22)]
				text = string(b)
			}
			src := slack(text + "]}")
			d := &pass{base: unsafe.Pointer(&src[margin]), size: len(text) + 2, with: with}
			doubles, singles := make([]float64, 50), make([]float32, 50)
			count, end := fractions(d, doubles, &with.float64s, 0)
			if again, same := fractions(d, singles, &with.float32s, 0); again != count || same != end {
				t.Fatalf("%s: %q: %d doubles to %d, %d singles to %d", with.name, text, count, end, again, same)
			}
			taken += count
			at := 0
			for k := range count {
				// What was taken is what JSON allows, and followed by a comma and a space at most.
				length := strings.IndexByte(text[at:], ',')
				if length < 0 {
					t.Fatalf("%s: %q: more than %d numbers", with.name, text, k)
				}
				number := text[at : at+length]
				if newNumber(number) == nil {
					t.Fatalf("%s: %q is no number", with.name, number)
				}
				want, err := strconv.ParseFloat(number, 64)
				if err != nil || math.Float64bits(want) != math.Float64bits(doubles[k]) || float32(want) != singles[k] ||
					math.Signbit(want) != math.Signbit(float64(singles[k])) {
					t.Fatalf("%s: %q: got %v and %v, want %v", with.name, number, doubles[k], singles[k], want)
				}
				if at += length + 1; at < len(text) && text[at] == ' ' {
					at++
				}
			}
			if at != end {
				t.Fatalf("%s: %q: %d numbers end at %d, not at %d", with.name, text, count, at, end)
			}
		}
		if taken < 10_000 {
			t.Errorf("%s: only %d numbers were taken", with.name, taken)
		}
	}
}

// slack puts a text between bytes that are zero.
func slack(text string) []byte {
	out := make([]byte, margin+len(text)+margin)
	copy(out[margin:], text)
	return out
}

// newNumber is a node, or nil when the text is no JSON number.
func newNumber(text string) *node {
	d := newTape()
	if code, _ := d.parse([]byte(text), 1); code != "" || d.nodes[0].end != uint32(len(text)) {
		return nil
	}
	return &d.nodes[0]
}

// TestNearest compares the nearest double with strconv's.
func TestNearest(t *testing.T) {
	g := rand.New(rand.NewPCG(17, 18))
	told := 0
	for range 300_000 {
		mantissa := g.Uint64() >> g.IntN(64)
		exponent := g.IntN(2*farthest+20) - farthest - 10
		got, ok := nearest(mantissa, exponent)
		if !ok {
			continue
		}
		told++
		if want, _ := strconv.ParseFloat(fmt.Sprintf("%de%d", mantissa, exponent), 64); got != want {
			t.Fatalf("%d × 10^%d: got %v, want %v", mantissa, exponent, got, want)
		}
	}
	if told < 200_000 {
		t.Errorf("only %d were told", told)
	}
}

// TestPassNumbers holds the pass to read every number as the tape does.
func TestPassNumbers(t *testing.T) {
	g := rand.New(rand.NewPCG(19, 20))
	s := compileText(t, `{"type":"object","properties":{"n":{"type":"number"},"i":{"type":"integer"}, "l":{"type":"array","items":{"type":"number"}}}}`, Options{})
	w := newTwins(t, "numbers", s)
	for k := range 3000 * rounds() {
		text := ""
		switch k % 7 {
		case 0:
			text = strconv.FormatFloat(math.Float64frombits(g.Uint64()), 'g', -1, 64)
		case 1:
			text = strconv.FormatFloat(g.NormFloat64(), 'f', g.IntN(25), 64)
		case 2:
			text = strconv.FormatInt(int64(g.Uint64())>>g.IntN(64), 10)
		case 3:
			text = fmt.Sprintf("%d.%de%d", g.IntN(1000), g.Uint64()>>g.IntN(64), g.IntN(40)-20)
		case 4:
			text = fmt.Sprintf("-%d%de-%d", 1+g.Uint64()>>g.IntN(64), g.Uint64(), g.IntN(60))
		case 5:
			text = fmt.Sprintf("%d.%s", g.IntN(100), strings.Repeat("0", g.IntN(20)))
		case 6:
			b := []byte(strconv.FormatFloat(g.NormFloat64()*1000, 'g', 1+g.IntN(20), 64))
			b[g.IntN(len(b))] = "0123456789.-+eE "[g.IntN(16)]
			text = string(b)
		}
		w.append(fmt.Appendf(nil, `{"%s":%s}`, []string{"n", "i"}[k&1], text))
		w.append(fmt.Appendf(nil, `{"l":[%s,%[1]s, 0.5, %[1]s]}`, text))
	}
	w.end(0.9)
}
