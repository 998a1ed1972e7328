package nearduplicate

// vectors is what some processors do many of at a time; nil where this one does not, and portable code says the same.
var vectors *kernels

type kernels struct {
	// pairs is pairsAVX512.
	pairs func(order *uint64, n int, signatures *uint64, out *uint32) int
	// bandKeys is bandKeysAVX512.
	bandKeys func(signatures *uint64, n int, keys *uint32)
}

const (
	pairsAtOnce = 256
	pairsAhead  = 16
)

// similarTypes calls found for pairs of types that stand at most a window apart in order and whose similarity is at least
// thresholds[0].
func similarTypes(order []place, signatures []signature, found func(a, b int32, similar float64)) {
	from := 0
	if vectors != nil {
		var codes [window * pairsAtOnce]uint32
		for ; from+pairsAtOnce+pairsAhead <= len(order); from += pairsAtOnce {
			n := vectors.pairs(&order[from].key, pairsAtOnce, &signatures[0][0], &codes[0])
			for _, code := range codes[:n] {
				i := from + int(code>>2)
				a, b := order[i].index, order[i+int(code&3)].index
				if similar := similarity(&signatures[a], &signatures[b]); similar >= thresholds[0] {
					found(a, b, similar)
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
				if similar := similarity(&fetched[i], &fetched[j]); similar >= thresholds[0] {
					found(order[from+i].index, order[from+j].index, similar)
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
		textBandKeys(&signatures[i], &keys[i])
	}
}
