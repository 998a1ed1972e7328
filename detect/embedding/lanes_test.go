package embedding

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/border"
)

// strange are texts at the edges of what is read at once.
func strange() [][]byte {
	rng := rand.New(rand.NewPCG(3, 5))
	texts := [][]byte{
		[]byte("a"), []byte(" "), []byte("  "), []byte("\x00"), []byte("\t a\n\n b "), []byte("don't"), []byte("A1b2C3"), []byte("0123456789"), []byte("0"), []byte("!"), []byte("\x7f\x80\xff"),
		[]byte("ÄÖÜ straße, 本語 и так далее"), []byte("@[`{/:az AZ 09"), bytes.Repeat([]byte{' '}, 200), bytes.Repeat([]byte("x"), 300), bytes.Repeat([]byte("a "), maxText),
		bytes.Repeat([]byte("incomprehensibilities, "), 4000), []byte("the end of a word, at its end"), []byte("ends with blank "), []byte("word"),
	}
	for n := range 200 {
		texts = append(texts, bytes.Repeat([]byte("word "), 41)[:n+1], bytes.Repeat([]byte("w"), n+1), bytes.Repeat([]byte("a."), n+1)[n:])
	}
	const alphabet = "etaoin ETAOIN  019'.,-\t\x00\x7f\x80\xc3\xa4\xff"
	for range 2000 {
		text := make([]byte, 1+rng.IntN(300))
		for i := range text {
			if text[i] = alphabet[rng.IntN(len(alphabet))]; rng.IntN(20) == 0 {
				text[i] = byte(rng.Uint32())
			}
		}
		texts = append(texts, text)
	}
	return texts
}

// TestSums: what is added up 64 bytes at a time is what is added up byte by byte, to the bit.
func TestSums(t *testing.T) {
	texts := strange()
	k := newSketch(&detect.Sample{N: 500, Text: texts[len(texts)-500:]})
	if k.signed == nil {
		t.Log("this processor reads texts byte by byte")
		return
	}
	for _, text := range texts {
		text = text[:min(len(text), maxText)]
		at := border.Of[byte](t, len(text)) // who reads on dies
		copy(at, text)
		var got, want [sketchDim]float32
		if k.add(&want, text); !k.sum(&got, at) {
			t.Fatalf("%.80q cannot be added up", text)
		}
		for i := range got {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%d bytes, %.80q: sum %d is %v, want %v", len(text), text, i, got[i], want[i])
			}
		}
	}
}

// TestTextKernelsStayInside: no more is read or written than is told.
func TestTextKernelsStayInside(t *testing.T) {
	if !available {
		t.Log("this processor reads texts byte by byte")
		return
	}
	table, sums := border.Of[float32](t, 2<<bucketBits), border.Of[float32](t, sketchDim)
	for _, n := range []int{1, 2, 15, 16, 17, 63, 64, 65, 128, 1000} {
		for _, what := range []string{"a ", "x", " ", ".", "ab. "} {
			text := border.Of[byte](t, n)
			copy(text, bytes.Repeat([]byte(what), n))
			most := n/2 + 1 // words
			small, kept := border.Of[byte](t, n+64), border.Of[byte](t, before+n+64)
			from, to := border.Of[uint32](t, most+16), border.Of[uint32](t, most+16)
			words, left := cutText(&text[0], n, &small[0], &kept[before], &from[0], &to[0])
			if words > most || left > n {
				t.Fatalf("%d words and %d bytes of %d bytes of %q", words, left, n, what)
			}
			if left > 0 {
				end := border.Of[byte](t, before+left+16)
				copy(end, kept)
				addTrigrams(&end[before], left, &table[0], &sums[0])
			}
			if words > 0 {
				end := border.Of[byte](t, int(to[words-1])+8)
				copy(end, small)
				addWords(&end[0], &from[0], &to[0], words, &table[0], &sums[0])
			}
		}
	}
}

// TestNoWord: a word whose hash is 0 is added up byte by byte.
func TestNoWord(t *testing.T) {
	if !available {
		t.Log("this processor reads texts byte by byte")
		return
	}
	table, sums := make([]float32, 2<<bucketBits), make([]float32, sketchDim)
	small, from, to := make([]byte, spare), make([]uint32, spare), make([]uint32, spare)
	for words := 1; words < 40; words++ {
		for i := range words {
			small[i], from[i], to[i] = 'a', uint32(i), uint32(i+1)
		}
		for none := range words {
			small[none] = 0
			if !addWords(&small[0], &from[0], &to[0], words, &table[0], &sums[0]) {
				t.Fatalf("word %d of %d has no hash, and nobody says so", none, words)
			}
			small[none] = 'a'
		}
		if addWords(&small[0], &from[0], &to[0], words, &table[0], &sums[0]) {
			t.Fatalf("all of %d words have a hash", words)
		}
	}
}

func BenchmarkTexts(b *testing.B) {
	var texts [][]byte
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text []byte
		for len(text) < 220 {
			for range 1 + rng.IntN(9) {
				text = append(text, byte('a'+min(rng.IntN(26), rng.IntN(26))))
			}
			text = append(text, ' ')
		}
		texts = append(texts, text)
	}
	k := newSketch(&detect.Sample{N: len(texts), Text: texts})
	for name, how := range map[string]func(*[sketchDim]float32, []byte){"bytes": k.add, "lanes": func(s *[sketchDim]float32, text []byte) { k.sum(s, text) }} {
		if name == "lanes" && k.signed == nil {
			continue
		}
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				var sums [sketchDim]float32
				how(&sums, texts[i%len(texts)])
			}
		})
	}
}
