package wording

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/border"
)

// mixture writes a text of about so many bytes: words of all lengths, numbers, capitals, marks and letters of several bytes.
func mixture(rng *rand.Rand, size int) []byte {
	alphabet := []rune("abzAZ@[`{09/:.,'- \u00a0éßЖ\t’\x00\x7f")
	few := alphabet[:1+rng.IntN(len(alphabet))] // some texts have hardly a mark
	var text []byte
	for len(text) < size {
		text = append(text, string(few[rng.IntN(len(few))])...)
		if rng.IntN(6) == 0 {
			text = append(text, ' ')
		}
	}
	return text[:size]
}

// Texts are read alike by vectors and without them, whatever their length, and from and to memory that ends where they do.
func TestReadByVectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 5))
	reader, end := newReader(), border.Of[byte](t, 20_000)
	if reader.noted == nil {
		t.Log("this processor has no vectors: the same is compared with itself")
	} else {
		reader.noted = &border.Of[noted](t, 1)[0]
	}
	got, sum := &border.Of[Signature](t, 1)[0], &border.Of[Summary](t, 1)[0]
	check := func(text []byte) {
		t.Helper()
		want, hash, words := signText(text)
		text = end[len(end)-copy(end[len(end)-len(text):], text):]
		if h, n := reader.read(text, got, sum); h != hash || n != words || *got != want {
			t.Fatalf("%q: %d words, want %d, or another signature than %x: %x", text, n, words, want, *got)
		}
		if want := summarise(text); *sum != want {
			t.Fatalf("%q is summarised as %+v, want %+v", text, *sum, want)
		}
	}
	for size := range 300 {
		for range 4 {
			check(mixture(rng, size))
		}
		check(bytes.Repeat([]byte("a"), size))
		check(bytes.Repeat([]byte("a "), size))
		check(bytes.Repeat([]byte(" "), size))
		check(append(mixture(rng, size), "漢字 and more"...))
		check(append([]byte("漢字 and more"), mixture(rng, size)...))
	}
	for _, size := range []int{1000, 4031, 4032, 4033, mostNoted - 1, mostNoted, mostNoted + 1, 10_000} {
		check(mixture(rng, size))
		check(bytes.Repeat([]byte("1 "), size)[:size])
		check(bytes.Repeat([]byte("x"), size))
		check([]byte(strings.Repeat("Aé1 .", size)[:size]))
		check([]byte(strings.Repeat("漢 ", size)[:size]))
	}
	for range 2000 { // any bytes
		text := make([]byte, rng.IntN(200))
		for i := range text {
			text[i] = byte(rng.IntN(256))
		}
		check(text)
	}
}

// Texts whose halves are read side by side are summarised as from end to end, of any length, with and without words.
func TestHalvesAreAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	portable := &reader{halves: new(halves)}
	for trial := range 3000 {
		text := make([]byte, rng.IntN(200))
		if trial%100 == 0 {
			text = make([]byte, tallied+2-rng.IntN(5))
		}
		kinds := []string{"abcXYZ019 .,é", "a ", "a", " ", "日本 x"}[trial%5]
		for i := range text {
			if text[i] = kinds[rng.IntN(len(kinds))]; trial%7 == 0 {
				text[i] = byte(rng.IntN(256))
			}
		}
		if got, want := portable.summarise(text), summarise(text); got != want {
			t.Fatalf("%q is summarised as %+v by halves, want %+v", text, got, want)
		}
	}
}

func TestWordsAreWhatCounts(t *testing.T) {
	_, a, _ := signText([]byte("Order 12 of 3,400 cups -- SHIPPED!"))
	_, b, _ := signText([]byte("order 99 of 1,000 cups shipped"))
	_, c, _ := signText([]byte("order w99 of 1,000 cups shipped"))
	if a != b || a == c {
		t.Errorf("case, punctuation and numbers must not count, words must: %x %x %x", a, b, c)
	}
	if _, _, words := signText([]byte("我喜欢这个产品")); words != 7 {
		t.Errorf("%d words in seven Chinese characters", words)
	}
}

// Words that are noted first are those that are taken one by one, whatever the text.
func TestWordsQuickly(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 5))
	alphabet := []rune("abzAZ09 .,'-\u00a0éßЖ\t")
	for trial := range 3000 {
		var text []rune
		for range rng.IntN(900) {
			text = append(text, alphabet[rng.IntN(len(alphabet))])
		}
		if trial%5 == 0 {
			text = append(text, '漢')
		}
		var quick, careful shingler
		careful.carefully([]byte(string(text)))
		if !quick.quickly([]byte(string(text))) {
			if trial%5 != 0 {
				t.Fatalf("%q is taken for a text with ideographs", string(text))
			}
			quick.carefully([]byte(string(text)))
		}
		if quick != careful {
			t.Fatalf("%q: %d words, want %d, or others", string(text), quick.words, careful.words)
		}
	}
}

// What the sample before was read into says nothing of the next one, rows that were read with others are not read again, and portable code reads alike.
func TestRoomsServeAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	sample := func(n int) *detect.Sample {
		s := &detect.Sample{N: n}
		for range n {
			s.Text = append(s.Text, mixture(rng, rng.IntN(100)))
		}
		return s
	}
	for range 5 {
		env := detect.Env{Workers: 2, Shared: &detect.Shared{}}
		few := sample(300)
		joint := few.Join(sample(200))
		for _, s := range []*detect.Sample{few, joint, few, joint} {
			kept := vectors
			vectors = nil
			want := Of(s, detect.Env{Workers: 1})
			vectors = kept
			got := Of(s, env)
			if !slices.Equal(got.Signatures, want.Signatures) || !slices.Equal(got.Hash, want.Hash) || !slices.Equal(got.Words, want.Words) ||
				!slices.Equal(got.Summaries, want.Summaries) {
				t.Fatalf("%d rows are read otherwise after others", s.N)
			}
		}
		if Of(few, env).Whole() != Of(joint, env).Whole() {
			t.Fatal("the first rows are read again")
		}
		env.Shared.End()
	}
}
