package embedding

import (
	"math"

	"github.com/tasterhq/taster/detect"
)

const (
	sketchDim  = 64
	bucketBits = 15
	rarest     = 12.0 // idf is not counted beyond so many halvings
	wordWeight = 2    // a word weighs as much as so many trigrams
	maxText    = 1 << 16
)

// sketch makes vectors of texts: a count sketch of words and character trigrams, weighted by idf.
type sketch struct {
	weight [1 << bucketBits]float32
	signed []float32 // nil where texts are read byte by byte
}

func newSketch(reference *detect.Sample) *sketch {
	k := &sketch{}
	var documents, last [1 << bucketBits]int32 // last: the row that counted a bucket last, plus one
	var trigrams, words []uint64
	n := 0
	for row, text := range reference.Text {
		if len(text) == 0 {
			continue
		}
		n++
		trigrams, words = features(trigrams[:0], words[:0], text)
		for _, hashes := range [][]uint64{trigrams, words} {
			for _, hash := range hashes {
				if b := hash >> (64 - bucketBits); last[b] != int32(row+1) {
					last[b] = int32(row + 1)
					documents[b]++
				}
			}
		}
	}
	for b, df := range documents {
		k.weight[b] = float32(min(math.Log2(float64(n+1)/float64(df+1)), rarest))
	}
	k.signed = signedWeights(&k.weight)
	return k
}

func (k *sketch) dim() int { return sketchDim }

func (k *sketch) fits(s *detect.Sample) bool { return s.Text != nil }

func (k *sketch) vector(dst []float32, s *detect.Sample, row int) bool {
	text := s.Text[row]
	if len(text) == 0 {
		return false
	}
	text = text[:min(len(text), maxText)]
	sums := (*[sketchDim]float32)(dst)
	if k.signed == nil || !k.sum(sums, text) {
		clear(sums[:])
		k.add(sums, text)
	}
	return true
}

// add adds up what is in a text, byte by byte.
func (k *sketch) add(sum *[sketchDim]float32, text []byte) {
	var room [512]uint64
	words := room[:]
	if most := mostWords(text); most > len(words) {
		words = make([]uint64, most)
	}
	// The upper bits of a hash choose the weight, the lower ones place and sign.
	n, window, word, blank, ended := 0, uint64(' '), uint64(0), false, 0
	for _, b := range text {
		words[n] = word
		window, word, blank, ended = next(window, word, b)
		n += ended
		if blank {
			continue
		}
		hash := spread(window)
		sign := uint32(hash>>6&1) << 31
		sum[hash%sketchDim] += math.Float32frombits(math.Float32bits(k.weight[hash>>(64-bucketBits)]) ^ sign)
	}
	if word != 0 {
		words[n] = word
		n++
	}
	for _, word := range words[:n] {
		hash := spread(word)
		sign := uint32(hash>>6&1) << 31
		sum[hash%sketchDim] += wordWeight * math.Float32frombits(math.Float32bits(k.weight[hash>>(64-bucketBits)])^sign)
	}
}

// fold maps bytes to what counts: letters to lower case, digits to one, white space and control characters to one. Bytes of
// longer characters stay.
var fold = func() (f [256]uint8) {
	for b := range f {
		switch {
		case b >= 'A' && b <= 'Z':
			f[b] = uint8(b) | 0x20
		case b >= '0' && b <= '9':
			f[b] = '0'
		case b <= ' ':
			f[b] = ' '
		default:
			f[b] = uint8(b)
		}
	}
	return f
}()

// folded is a byte as it counts, and what a word's hash is multiplied with: nothing where it ends.
type folded struct{ byte, factor uint64 }

var folds = func() (f [256]folded) {
	for b := range f {
		c := fold[b]
		f[b].byte = uint64(c)
		if c >= 'a' && c <= 'z' || c >= 0x80 || c == '0' {
			f[b].factor = 0x9e3779b97f4a7c15
		}
	}
	return f
}()

// next goes on by a byte, from the last three bytes and the hash of the word that has begun, 0 outside of words. It tells whether
// there is no new trigram, and, as 1 or 0, whether the word has ended: where words end cannot be foretold, so nothing branches on it.
func next(window, word uint64, b byte) (_, _ uint64, blank bool, ended int) {
	f := &folds[b]
	inside, outside := 0, 0
	if word != 0 {
		inside = 1
	}
	if f.factor == 0 {
		outside = 1
	}
	word = (word ^ f.byte) * f.factor
	if f.byte == ' ' && window&0xff == ' ' {
		return window, word, true, inside & outside
	}
	return (window<<8 | f.byte) & 0xffffff, word, false, inside & outside
}

// mostWords is how many words a text may have, and one.
func mostWords(text []byte) int { return len(text)/2 + 2 }

// features appends the hashes of a text's trigrams to one slice and those of its words to the other. Of a longer text only the
// first maxText bytes count.
func features(trigrams, words []uint64, text []byte) (_, _ []uint64) {
	window, word, blank, ended := uint64(' '), uint64(0), false, 0
	for _, b := range text[:min(len(text), maxText)] {
		before := word
		if window, word, blank, ended = next(window, word, b); ended != 0 {
			words = append(words, spread(before))
		}
		if !blank {
			trigrams = append(trigrams, spread(window))
		}
	}
	if word != 0 {
		words = append(words, spread(word))
	}
	return trigrams, words
}

// spread makes every bit of the result depend on x.
func spread(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	return (x ^ x>>32) * 0xd6e8feb86659fd93
}
