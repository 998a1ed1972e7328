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
}

func newSketch(reference *detect.Sample) *sketch {
	k := &sketch{}
	var documents, last [1 << bucketBits]int32 // last: the row that counted a bucket last, plus one
	var buffer []uint64
	n := 0
	for row, text := range reference.Text {
		if len(text) == 0 {
			continue
		}
		n++
		trigrams, words := features(buffer[:0], text)
		buffer = trigrams[:0]
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
	return k
}

func (k *sketch) dim() int { return sketchDim }

func (k *sketch) fits(s *detect.Sample) bool { return s.Text != nil }

func (k *sketch) vector(dst []float32, s *detect.Sample, row int) bool {
	text := s.Text[row]
	if len(text) == 0 {
		return false
	}
	var room [1024]uint64
	trigrams, words := features(room[:0], text)
	sum := (*[sketchDim]float32)(dst)
	clear(sum[:])
	// The upper bits of a hash choose the weight, the lower ones place and sign.
	for _, hash := range trigrams {
		sign := uint32(hash>>6&1) << 31
		sum[hash%sketchDim] += math.Float32frombits(math.Float32bits(k.weight[hash>>(64-bucketBits)]) ^ sign)
	}
	for _, hash := range words {
		sign := uint32(hash>>6&1) << 31
		sum[hash%sketchDim] += wordWeight * math.Float32frombits(math.Float32bits(k.weight[hash>>(64-bucketBits)])^sign)
	}
	return true
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

// features appends the hashes of text's trigrams to room and, behind them, those of its words. Of a longer text only the
// first maxText bytes count.
func features(room []uint64, text []byte) (trigrams, words []uint64) {
	text = text[:min(len(text), maxText)]
	const golden = 0x9e3779b97f4a7c15
	window := uint64(' ')
	for _, b := range text {
		c := uint64(fold[b])
		if c == ' ' && window&0xff == ' ' {
			continue
		}
		window = (window<<8 | c) & 0xffffff
		room = append(room, spread(window))
	}
	n := len(room)
	word := uint64(0)
	for _, b := range text {
		if c := fold[b]; c >= 'a' && c <= 'z' || c >= 0x80 || c == '0' {
			word = (word ^ uint64(c)) * golden
		} else if word != 0 {
			room = append(room, spread(word))
			word = 0
		}
	}
	if word != 0 {
		room = append(room, spread(word))
	}
	return room[:n:n], room[n:]
}

// spread makes every bit of the result depend on x.
func spread(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	return (x ^ x>>32) * 0xd6e8feb86659fd93
}
