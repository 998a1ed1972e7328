package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
)

func words(s string) []string {
	var out []string
	var sc scanner
	for sc.next([]byte(s)) {
		out = append(out, s[sc.from:sc.at])
	}
	return out
}

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{" \t\n ", nil},
		{"It's GOOD, really-good!", []string{"It's", "GOOD", ",", "really", "-", "good", "!"}},
		{"'quoted' rock'n'roll", []string{"'", "quoted", "'", "rock'n'roll"}},
		{"l’été à Noël", []string{"l’été", "à", "Noël"}},
		{"стоит 5€", []string{"стоит", "5", "€"}},
		{"我喜欢 it", []string{"我", "喜", "欢", "it"}},
		{"हिन्दी 🙂🙂", []string{"हिन्दी", "🙂", "🙂"}},
		{"a\u00a0b", []string{"a", "b"}},
		{"x\xff\xfey", []string{"x", "\xff", "\xfe", "y"}},
	} {
		if got := words(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q is cut into %q: want %q", c.in, got, c.want)
		}
	}
}

func TestFlagsAndCase(t *testing.T) {
	row := Append(nil, []byte("Good good, great , greatly ."))
	if row[0].ID() != row[1].ID() {
		t.Error("case matters")
	}
	if !row[2].Mark() || !row[2].Glued() || row[4].Glued() || row[2].ID() != row[4].ID() {
		t.Error("a comma is a mark, glued only where no space stands before it, and the same otherwise")
	}
	if row[3].Stem() != row[5].Stem() || row[3].ID() == row[5].ID() {
		t.Error("great and greatly share a stem and are two words")
	}
	if row[0].Mark() || row[0].Glued() {
		t.Error("a word at the beginning is neither a mark nor glued")
	}
}

func TestFewCollisions(t *testing.T) {
	ids := map[uint32]string{}
	collisions := 0
	for i := range 50_000 {
		word := fmt.Sprintf("%c%c%c%d", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26, i/17576)
		if i%2 == 1 {
			word = fmt.Sprintf("begin%d", i)
		}
		id := Append(nil, []byte(word))[0].ID()
		if other, ok := ids[id]; ok && other != word {
			collisions++
		}
		ids[id] = word
	}
	// 25,000 words here share one stem and have 16 bits to differ in, which no language does.
	if collisions > 25_000/5 {
		t.Errorf("%d collisions among 50,000 words", collisions)
	}
}

func TestGiganticText(t *testing.T) {
	var b strings.Builder
	const n = 5 * Most
	for i := range n {
		fmt.Fprintf(&b, "w%d ", i)
	}
	in := []byte(b.String())
	row := Append(nil, in)
	if len(row) != Most {
		t.Fatalf("%d tokens: want %d", len(row), Most)
	}
	if want := Append(nil, []byte("w0")); row[0] != want[0] {
		t.Error("the beginning is lost")
	}
	if want := Append(nil, []byte(fmt.Sprint("x w", n-1))); row[Most-1] != want[1] {
		t.Error("the end is lost")
	}
	if got, want := string(Span(in, Most-2, Most)), fmt.Sprintf("w%d w%d", n-2, n-1); got != want {
		t.Errorf("the last two tokens are %q: want %q", got, want)
	}
	if got := string(Span(in, 1, 3)); got != "w1 w2" {
		t.Errorf("tokens 1 and 2 are %q", got)
	}
	if Span([]byte("a b"), 1, 3) != nil {
		t.Error("a span beyond the text is not nil")
	}
}

func TestWorkersAndRows(t *testing.T) {
	var texts [][]byte
	for i := range 3000 {
		texts = append(texts, []byte(strings.Repeat("a b ", i%7)))
	}
	one := Tokenize(texts, 1)
	many := Tokenize(texts, 8)
	total := 0
	for i := range texts {
		if !slices.Equal(one.Row(i), many.Row(i)) || len(one.Row(i)) != 2*(i%7) {
			t.Fatalf("row %d differs or has %d tokens", i, len(one.Row(i)))
		}
		total += len(one.Row(i))
	}
	if one.Count() != total {
		t.Errorf("Count is %d: want %d", one.Count(), total)
	}
}

func BenchmarkTokenize(b *testing.B) {
	text := []byte("the battery lasts about two days and the case feels solid , but delivery took longer than promised . " +
		"it's not the best one i have owned , yet for this price i would buy it again and recommend it to a friend ; " +
		"the box was slightly damaged on arrival , and customer service answered within a day with a friendly note .")
	texts := make([][]byte, 10_000)
	for i := range texts {
		texts[i] = text
	}
	b.SetBytes(int64(len(text) * len(texts)))
	for b.Loop() {
		Tokenize(texts, 1)
	}
	b.ReportMetric(float64(b.N*len(texts))/b.Elapsed().Seconds(), "records/s")
}

// A sample that begins with another's rows has the tokens that it has by itself, and of full blocks they are the other's own.
func TestContinues(t *testing.T) {
	for _, rows := range []int{0, 1, blockRows - 1, blockRows, 2*blockRows + 7} {
		head, more := &detect.Sample{N: rows, Text: [][]byte{}}, &detect.Sample{N: 1500}
		for i := range rows {
			head.Text = append(head.Text, fmt.Appendf(nil, "head %d, row", i))
		}
		for i := range more.N {
			more.Text = append(more.Text, fmt.Appendf(nil, "and %d more", i))
		}
		if rows > 1 {
			head.Text[1] = nil
		}
		joint := head.Join(more)
		env := detect.Env{Workers: 2, Shared: &detect.Shared{}}
		Continues(joint, head, env)
		got, want := Of(joint, env), Tokenize(joint.Text, 1)
		for i := range joint.N {
			if !slices.Equal(got.Row(i), want.Row(i)) || got.Key(i) != want.Key(i) {
				t.Fatalf("%d rows: row %d differs", rows, i)
			}
		}
		if got.Count() != want.Count() {
			t.Errorf("%d rows: %d tokens, want %d", rows, got.Count(), want.Count())
		}
		if rows >= blockRows && &got.Row(0)[0] != &Of(head, env).Row(0)[0] {
			t.Errorf("%d rows: tokens were cut twice", rows)
		}
	}
}

// What is chosen and joined is what would be cut from the same texts, wherever blocks end.
func TestChosenTokens(t *testing.T) {
	texts := func(n int, word string) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			if i%7 > 0 {
				out[i] = []byte(strings.Repeat(word+" ", i%5) + strconv.Itoa(i))
			}
		}
		return out
	}
	for _, n := range []int{0, 1, blockRows - 1, blockRows, blockRows + 1, 2*blockRows + 5} {
		for _, m := range []int{1, blockRows, 2*blockRows + 1} {
			mine, others := texts(n, "mine"), texts(m, "theirs")
			var rows []int
			for i := range 3 * m / 2 {
				rows = append(rows, (i*7+3)%m)
			}
			all := slices.Clone(mine)
			for _, row := range rows {
				all = append(all, others[row])
			}
			same := func(got *Tokens, texts [][]byte) {
				t.Helper()
				want := Tokenize(texts, 1)
				if got.Count() != want.Count() || len(got.blocks) != len(want.blocks) {
					t.Fatalf("%d and %d texts: %d tokens in %d blocks, want %d in %d", n, m, got.Count(), len(got.blocks), want.Count(), len(want.blocks))
				}
				for i := range texts {
					if !slices.Equal(got.Row(i), want.Row(i)) || got.Key(i) != want.Key(i) {
						t.Fatalf("%d and %d texts: row %d is another", n, m, i)
					}
				}
			}
			same(Tokenize(mine, 1).Join(Tokenize(others, 1), rows), all)
			same(Tokenize(others, 1).Select(rows), all[n:])
		}
	}
}
