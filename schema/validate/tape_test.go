package validate

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tasterhq/taster/schema/finding"
)

// bad are JSON texts that are refused whatever the schema, each with its reason.
var bad = []struct {
	name, text string
	code       finding.Code
	at         int
}{
	{"nothing", ``, finding.Empty, 0},
	{"white space only", " \n\t\r ", finding.Empty, 0},
	{"open object", `{`, finding.JSONTruncated, 1},
	{"cut after a name", `{"a"`, finding.JSONTruncated, 4},
	{"cut after a colon", `{"a":`, finding.JSONTruncated, 5},
	{"cut after a value", `{"a":1`, finding.JSONTruncated, 6},
	{"cut after a comma", `{"a":1,`, finding.JSONTruncated, 7},
	{"cut in white space", "{\"a\": ", finding.JSONTruncated, 6},
	{"cut in a string", `{"a":"b`, finding.JSONTruncated, 7},
	{"cut in a long string", `{"a":"bcdefghijklmnop`, finding.JSONTruncated, 21},
	{"cut after a backslash", `"a\`, finding.JSONTruncated, 3},
	{"cut in an escape", `"a\u00`, finding.JSONTruncated, 6},
	{"cut between surrogates", `"\ud83d`, finding.JSONTruncated, 7},
	{"cut in the second surrogate", `"\ud83d\ude`, finding.JSONTruncated, 11},
	{"cut in a character", "\"\xe6\x97", finding.JSONTruncated, 3},
	{"cut in a literal", `tru`, finding.JSONTruncated, 3},
	{"cut after a minus", `-`, finding.JSONTruncated, 1},
	{"cut after a point", `1.`, finding.JSONTruncated, 2},
	{"cut after an e", `1e`, finding.JSONTruncated, 2},
	{"cut after an e and a sign", `1e+`, finding.JSONTruncated, 3},
	{"open array", `[1,`, finding.JSONTruncated, 3},
	{"two values", `{} {}`, finding.JSONTrailing, 3},
	{"a brace too many", `{}}`, finding.JSONTrailing, 2},
	{"a zero byte behind", "{}\x00", finding.JSONTrailing, 2},
	{"bytes behind", `1x`, finding.JSONTrailing, 1},
	{"byte order mark", "\xef\xbb\xbf{}", finding.JSONSyntax, 0},
	{"NaN", `{"a":NaN}`, finding.JSONSyntax, 5},
	{"nan", `nan`, finding.JSONSyntax, 1},
	{"Infinity", `Infinity`, finding.JSONSyntax, 0},
	{"minus Infinity", `-Infinity`, finding.JSONSyntax, 1},
	{"comment", `{/**/}`, finding.JSONSyntax, 1},
	{"trailing comma in an array", `[1,]`, finding.JSONSyntax, 3},
	{"trailing comma in an object", `{"a":1,}`, finding.JSONSyntax, 7},
	{"single quotes", `{'a':1}`, finding.JSONSyntax, 1},
	{"no quotes", `{a:1}`, finding.JSONSyntax, 1},
	{"no colon", `{"a" 1}`, finding.JSONSyntax, 5},
	{"no comma", `[1 2]`, finding.JSONSyntax, 3},
	{"wrong bracket", `[1}`, finding.JSONSyntax, 2},
	{"wrong brace", `{"a":1]`, finding.JSONSyntax, 6},
	{"name only", `{"a"}`, finding.JSONSyntax, 4},
	{"leading zero", `01`, finding.JSONSyntax, 1},
	{"leading zero below zero", `-00`, finding.JSONSyntax, 2},
	{"leading plus", `+1`, finding.JSONSyntax, 0},
	{"no digit before the point", `.5`, finding.JSONSyntax, 0},
	{"no digit behind the point", `[1.]`, finding.JSONSyntax, 3},
	{"no exponent", `[1e]`, finding.JSONSyntax, 3},
	{"hexadecimal", `[0x10]`, finding.JSONSyntax, 2},
	{"control character", "\"a\nb\"", finding.JSONSyntax, 2},
	{"control character far behind", "\"abcdefghijkl\x01\"", finding.JSONSyntax, 13},
	{"unknown escape", `"\x41"`, finding.JSONSyntax, 2},
	{"not hexadecimal", `"\u00g0"`, finding.JSONSyntax, 5},
	{"upper-case literal", `TRUE`, finding.JSONSyntax, 0},
	{"vertical tab", "\v1", finding.JSONSyntax, 0},
	{"no-break space", "\u00a01", finding.JSONSyntax, 0},
	{"repeated name", `{"a":1,"b":2,"a":3}`, finding.JSONDuplicateKey, 13},
	{"repeated name, nested", `{"x":[{"a":1,"a":1}]}`, finding.JSONDuplicateKey, 13},
	{"repeated name, escaped", `{"a":1,"\u0061":3}`, finding.JSONDuplicateKey, 7},
	{"repeated empty name", `{"":1,"":3}`, finding.JSONDuplicateKey, 6},
	{"lone high surrogate", `"\ud800"`, finding.JSONSurrogate, 1},
	{"lone high surrogate before text", `"\ud800abcdef"`, finding.JSONSurrogate, 1},
	{"lone low surrogate", `"a\udc00"`, finding.JSONSurrogate, 2},
	{"two high surrogates", `"\ud800\ud800"`, finding.JSONSurrogate, 1},
	{"lone surrogate in a name", `{"\udfff":1}`, finding.JSONSurrogate, 2},
	{"invalid byte", "\"\xff\"", finding.UTF8Invalid, 1},
	{"overlong", "\"\xc0\x80\"", finding.UTF8Invalid, 1},
	{"surrogate in UTF-8", "\"\xed\xa0\x80\"", finding.UTF8Invalid, 1},
	{"beyond Unicode", "\"\xf4\x90\x80\x80\"", finding.UTF8Invalid, 1},
	{"Latin-1", "{\"a\":\"caf\xe9 au lait\"}", finding.UTF8Invalid, 9},
	{"invalid byte outside a string", "[\xff]", finding.UTF8Invalid, 1},
	{"invalid byte behind an escape", "\"\\n\xff\"", finding.UTF8Invalid, 3},
	{"beyond a double", `{"a":1e999}`, finding.NumberRange, 5},
	{"far beyond a double", `-1e9999999999999999999999`, finding.NumberRange, 0},
	{"digits beyond a double", strings.Repeat("9", 400), finding.NumberRange, 0},
	{"below a double", `1e-400`, finding.NumberRange, 0},
}

func newTape() *tape { return &tape{seed: maphash.MakeSeed()} }

func TestBadJSON(t *testing.T) {
	s := compileText(t, `{"type":"object"}`, Options{})
	for _, c := range bad {
		r := s.CheckJSON([]byte(c.text))
		if r == nil || r.Code != c.code || r.At != int64(c.at) || r.Field != "" {
			t.Errorf("%s: %q: got %+v, want %s at byte %d", c.name, c.text, r, c.code, c.at)
		}
	}
}

func TestRepeatedNameOfMany(t *testing.T) {
	for _, size := range []int{few - 1, few, few + 1, 1000} {
		for _, twin := range []int{-1, 0, size / 2, size - 1} {
			var b strings.Builder
			b.WriteByte('{')
			for k := range size {
				fmt.Fprintf(&b, `"member-%d":{},`, k)
			}
			if twin < 0 {
				twin = size // another name
			}
			fmt.Fprintf(&b, `"member-%d":0}`, twin)
			code, _ := newTape().parse([]byte(b.String()), 10)
			if want := twin < size; (code == finding.JSONDuplicateKey) != want {
				t.Errorf("%d members and then number %d: %q", size, twin, code)
			}
		}
	}
}

// TestHostile feeds texts that are meant to be slow or to overflow a stack. They must cost no more than their size.
func TestHostile(t *testing.T) {
	s := compileText(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`, Options{Bytes: 64 << 20})
	many := func(n int, member string) string {
		var b strings.Builder
		b.WriteByte('{')
		for k := range n {
			if k > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, member, k)
		}
		b.WriteByte('}')
		return b.String()
	}
	for name, c := range map[string]struct {
		text string
		code finding.Code
	}{
		"depth 10,000":           {strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), finding.TooDeep},
		"depth 10,000, open":     {strings.Repeat(`{"a":`, 10_000), finding.TooDeep},
		"100,000 names":          {many(100_000, `"%d":0`), ""},
		"100,000 like names":     {many(100_000, `"aaaaaaaaaaaaaaaa%d":0`), ""},
		"10,000 escaped names":   {many(10_000, `"\u0061%d":0`), ""},
		"a number of 1 MB":       {`{"a":0.` + strings.Repeat("1", 1<<20) + `}`, finding.SchemaType},
		"a small number of 1 MB": {`{"a":1` + strings.Repeat("0", 1<<20) + `e-1048570}`, ""},
		"a large number of 1 MB": {`{"a":1` + strings.Repeat("0", 1<<20) + `e-1000000}`, finding.NumberRange},
		"a million brackets":     {"[" + strings.Repeat("[],", 300_000) + "[]]", finding.SchemaType},
		"a string of 1 MB":       {`{"b":"` + strings.Repeat(`\u0000`, 1<<17) + `"}`, ""},
	} {
		start := time.Now()
		d := s.newChecker()
		r := d.parse([]byte(c.text))
		if r == nil {
			r = d.check()
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if c.code == "" && r != nil || c.code != "" && (r == nil || r.Code != c.code) {
			t.Errorf("%s: got %v, want %q", name, r, c.code)
		}
	}
	large := bytes.Repeat([]byte(" "), 50<<20)
	if r := compileText(t, `{}`, Options{}).CheckJSON(large); r == nil || r.Code != finding.TooLarge || r.At != -1 {
		t.Errorf("50 MB: got %v, want too_large", r)
	}
}

// TestNumbers compares numbers with strconv, bit for bit, and exact comparison with math/big.
func TestNumbers(t *testing.T) {
	g := rand.New(rand.NewPCG(3, 4))
	d := newTape()
	rounds := 200_000
	if testing.Short() {
		rounds = 20_000
	}
	for k := range rounds {
		var text string
		switch k % 6 {
		case 0:
			text = strconv.FormatFloat(math.Float64frombits(g.Uint64()), 'g', -1, 64)
			if strings.ContainsAny(text, "NI") {
				continue
			}
			text = strings.Replace(text, "e+", "E+", 1)
		case 1:
			text = strconv.FormatFloat(g.NormFloat64(), 'f', g.IntN(25), 64)
		case 2:
			text = strconv.FormatInt(int64(g.Uint64())>>g.IntN(64), 10)
		case 3:
			text = strconv.FormatUint(g.Uint64(), 10)
		case 4:
			text = fmt.Sprintf("%d.%de%d", g.IntN(1000), g.Uint64()>>g.IntN(64), g.IntN(40)-20)
		case 5:
			text = fmt.Sprintf("-%d%de-%d", 1+g.Uint64(), g.Uint64(), g.IntN(60))
		}
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		if code, at := d.parse([]byte(text+strings.Repeat(" ", k%9)), 1); code != "" {
			t.Fatalf("%s: %s at %d", text, code, at)
		}
		n := &d.nodes[0]
		if got := n.float(); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%s: got %v, want %v", text, got, want)
		}
		exact, _ := new(big.Rat).SetString(text)
		dec := parseDecimal([]byte(text))
		if dec.rat().Cmp(exact) != 0 || dec.integral() != exact.IsInt() {
			t.Fatalf("%s: got %s", text, dec.String())
		}
		i, ok := dec.int64()
		if fits := exact.IsInt() && exact.Num().IsInt64(); ok != fits || ok && i != exact.Num().Int64() {
			t.Fatalf("%s: got %d, %t", text, i, ok)
		}
		if n.kind == kindInt && (!ok || int64(n.bits) != i) {
			t.Fatalf("%s: got %d", text, int64(n.bits))
		}
		other := big.NewRat(int64(g.IntN(2000)-1000), int64(1+g.IntN(1000)))
		if k%3 == 0 {
			other.Set(exact)
		}
		c := newConstant(other)
		if got, want := c.compare(d, n), exact.Cmp(other); got != want {
			t.Fatalf("%s compared with %s: got %d, want %d", text, other, got, want)
		}
		if other.Sign() > 0 {
			if got, want := c.divides(d, n), new(big.Rat).Quo(exact, other).IsInt(); got != want {
				t.Fatalf("%s a multiple of %s: got %t, want %t", text, other, got, want)
			}
		}
	}
}

// FuzzTape compares verdicts with jsontext, which is strict, too.
func FuzzTape(f *testing.F) {
	for _, c := range bad {
		f.Add([]byte(c.text))
	}
	f.Add([]byte(`{"a":[1,-2.5e3,true,false,null,"x\ud83d\ude00\n"],"":{"é":{}}}`))
	f.Add([]byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)))
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		d := newTape()
		code, at := d.parse(text, 10_000)
		valid := jsontext.Value(text).IsValid()
		switch {
		case code == finding.NumberRange: // not a matter of grammar
		case (code == "") != valid:
			t.Fatalf("got %q at %d, jsontext finds it valid: %t", code, at, valid)
		}
		if at < 0 || at > len(text) {
			t.Fatalf("%s at %d of %d bytes", code, at, len(text))
		}
		if code != "" {
			return
		}
		// Strings and numbers must be what others read, too.
		decoder := jsontext.NewDecoder(bytes.NewReader(text))
		for i := 0; ; {
			token, err := decoder.ReadToken()
			if err != nil {
				break
			}
			switch token.Kind() {
			case '}', ']':
				continue
			case '"':
				if n := &d.nodes[i]; n.kind != kindString || string(d.text(n)) != token.String() {
					t.Fatalf("node %d: %q, jsontext reads %q", i, d.text(n), token.String())
				}
			case '0':
				want, err := strconv.ParseFloat(token.String(), 64)
				if n := &d.nodes[i]; err != nil || math.Float64bits(n.float()) != math.Float64bits(want) {
					t.Fatalf("node %d: %v, strconv reads %v (%v)", i, n.float(), want, err)
				}
			}
			i++
		}
	})
}

// seeds adds the committed examples.
func seeds(f *testing.F) {
	for _, text := range recordSeeds(f) {
		f.Add(text)
	}
}

// recordSeeds are the committed examples; a folder without any would make a fuzz test that starts from nothing.
func recordSeeds(f *testing.F) (texts [][]byte) {
	files, err := filepath.Glob(filepath.Join("testdata", "records", "*"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds in testdata/records")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}
