package pages

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/compress"
)

// TestPacksLikeArrow has pages come out as arrow-go packs them, whatever was packed before.
func TestPacksLikeArrow(t *testing.T) {
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 500)
	for i := range words {
		words[i] = make([]byte, 1+rng.IntN(12))
		for k := range words[i] {
			words[i][k] = byte('a' + rng.IntN(26))
		}
	}
	e := &encoder{leaf: &leaf{}}
	for _, level := range []int{1, 3} {
		e.level = level
		for _, size := range []int{0, 1, 7, 255, 256, 1023, 1024, 1025, 4000, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1<<20 + 9, window} {
			text := make([]byte, 0, size+16)
			for len(text) < size {
				if text = append(text, words[rng.IntN(len(words))]...); rng.IntN(50) == 0 {
					for range min(300, size) {
						text = append(text, byte(rng.Uint32()))
					}
				}
			}
			text = text[:size]
			if got, want := e.zstd().EncodeAll(text, nil), codec.EncodeLevel(nil, text, level); !bytes.Equal(got, want) {
				t.Errorf("level %d: %d bytes become %d, and %d by arrow-go", level, size, len(got), len(want))
			}
		}
	}
}

// TestPieces has bytes lie behind each other, and none where others are.
func TestPieces(t *testing.T) {
	var p pieces
	var want []byte
	rng := rand.New(rand.NewPCG(1, 3))
	for i, n := range []int{1, 100, 5000, 1, pieceSize, 7, pieceSize + 1, 3, 1 << 20, 1 << 20, 400_000, 400_000, 9} {
		into := p.end(n)
		if room := cap(*into) - len(*into); room < n {
			t.Fatalf("room for %d bytes of %d", room, n)
		}
		more := make([]byte, n)
		for k := range more {
			more[k] = byte(rng.Uint32())
		}
		*into = append(*into, more...)
		p.size += int64(n)
		want = append(want, more...)
		if i == 5 && len(p.list) > 4 {
			t.Errorf("%d pieces", len(p.list))
		}
	}
	if !bytes.Equal(bytes.Join(p.list, nil), want) || p.size != int64(len(want)) {
		t.Error("other bytes")
	}
	if p.drop(); len(p.list) != 0 || p.size != 0 {
		t.Error("something is left")
	}
}
