package nearduplicate

import "github.com/tasterhq/taster/detect/sketch"

// vectors is what some processors do many of at a time; nil where this one does not, and portable code says the same.
var vectors *kernels

type kernels struct {
	// sign is signAVX512.
	sign func(text *byte, size int, room, out *uint64) (all uint64, words int)
	// pairs is pairsAVX512.
	pairs func(order *uint64, n int, signatures *uint64, out *uint32) int
	// bandKeys is bandKeysAVX512.
	bandKeys func(signatures *uint64, n int, keys *uint32)
}

// mostNoted is how long a text can be that is signed by vectors, in bytes.
const mostNoted = 4096

// noted is where vectors note what they find in a text: the text in lower case, where words begin and end, hashes of words and shingles, and
// the least of each bin (see gen, which lays it out).
type noted [((mostNoted + 64) + 2*4*(mostNoted/2+32) + 2*8*(mostNoted/2+16) + 8*64) / 8]uint64

// signer returns a function that signs texts for one goroutine: it sets the signature and returns the hash
// of the words, and their number.
func signer() func(text []byte, out *signature) (hash uint64, words int) {
	portable := func(text []byte, out *signature) (hash uint64, words int) {
		*out, hash, words = signText(text)
		return hash, words
	}
	if vectors == nil {
		return portable
	}
	sign, room := vectors.sign, new(noted)
	return func(text []byte, out *signature) (hash uint64, words int) {
		if len(text) == 0 || len(text) > mostNoted {
			return portable(text, out)
		}
		hash, words = sign(&text[0], len(text), &room[0], &out[0])
		if words >= 0 && words < 3 {
			*out = signature{}
		}
		switch words {
		case -1:
			return portable(text, out)
		case 1, 2:
			h := sketch.Mix(hash)
			out[h>>61] = max(1, h&0xff) << (h >> 58 % 8 * 8)
		}
		return sketch.Mix(hash + uint64(words)), words
	}
}

const (
	pairsAtOnce = 256
	pairsAhead  = 16
)

// similarTypes calls found for pairs of types that stand at most a window apart in order and whose similarity is at least
// thresholds[0].
func similarTypes(order []place, signatures []signature, found func(a, b int32, similarity float64)) {
	from := 0
	if vectors != nil {
		var codes [window * pairsAtOnce]uint32
		for ; from+pairsAtOnce+pairsAhead <= len(order); from += pairsAtOnce {
			n := vectors.pairs(&order[from].key, pairsAtOnce, &signatures[0][0], &codes[0])
			for _, code := range codes[:n] {
				i := from + int(code>>2)
				a, b := order[i].index, order[i+int(code&3)].index
				if similarity := signatures[a].similarity(&signatures[b]); similarity >= thresholds[0] {
					found(a, b, similarity)
				}
			}
		}
	}
	// Signatures are fetched some at a time, for they lie far apart, and none has to wait for what is compared.
	const some = 64
	var near [some + window]signature
	for ; from < len(order); from += some {
		fetched := near[:min(some+window, len(order)-from)]
		for i := range fetched {
			fetched[i] = signatures[order[from+i].index]
		}
		for i := range min(some, len(fetched)) {
			for j := i + 1; j < min(i+1+window, len(fetched)); j++ {
				if similarity := fetched[i].similarity(&fetched[j]); similarity >= thresholds[0] {
					found(order[from+i].index, order[from+j].index, similarity)
				}
			}
		}
	}
}

// allBandKeys writes the keys of the bands of signatures; those of empty ones mean nothing.
func allBandKeys(signatures []signature, keys [][bands]uint32) {
	if vectors != nil && len(signatures) > 0 {
		vectors.bandKeys(&signatures[0][0], len(signatures), &keys[0][0])
		return
	}
	for i := range signatures {
		signatures[i].bandKeys(&keys[i])
	}
}
