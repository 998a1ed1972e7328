package wording

import "github.com/tasterhq/taster/detect/sketch"

// vectors is readAVX512; nil where the processor has not what it takes, and portable code says the same.
var vectors func(text *byte, size int, room, out *uint64, sums *int32) (all uint64, words int)

// mostNoted is how long a text can be that is read by vectors, in bytes.
const mostNoted = 4096

// noted is where vectors note what they find in a text: the text in lower case, where words begin and end, hashes of words and shingles, and
// the least of each bin (see gen, which lays it out).
type noted [((mostNoted + 64) + 2*4*(mostNoted/2+32) + 2*8*(mostNoted/2+16) + 8*64) / 8]uint64

// reader reads texts, with one goroutine's working memory.
type reader struct {
	noted  *noted  // nil where there are no vectors
	halves *halves // of texts that vectors do not read
}

func newReader() *reader {
	if vectors == nil {
		return &reader{halves: new(halves)}
	}
	return &reader{noted: new(noted)}
}

// read sets the signature and the summary of a text, and returns the hash of its words and how many they are, as they were signed.
func (r *reader) read(text []byte, out *Signature, sum *Summary) (hash uint64, words int) {
	if r.noted == nil || len(text) == 0 || len(text) > mostNoted {
		*sum = r.summarise(text)
		*out, hash, words = signText(text)
		return hash, words
	}
	hash, words = vectors(&text[0], len(text), &r.noted[0], &out[0], &sum.Digits)
	if words < 0 { // there are ideographs
		sum.Words = int32(^words)
		*out, hash, words = signText(text)
		return hash, words
	}
	sum.Words = int32(words)
	if words < 3 {
		*out = Signature{}
		if words > 0 {
			h := sketch.Mix(hash)
			out[h>>61] = max(1, h&0xff) << (h >> 58 % 8 * 8)
		}
	}
	return sketch.Mix(hash + uint64(words)), words
}
