package embedding

import "sync"

// signedWeights has each weight twice, the second time negative: a hash's sign then is the last bit of its place.
func signedWeights(weight *[1 << bucketBits]float32) []float32 {
	if !available {
		return nil
	}
	signed := make([]float32, 0, 2*len(weight))
	for _, w := range weight {
		signed = append(signed, w, -w)
	}
	return signed
}

// room is where one goroutine writes what it finds in a text.
type room struct {
	small    []byte // as bytes count
	kept     []byte // the same without blanks behind blanks, from before on
	from, to []uint32
}

const (
	before = 2   // bytes that stand before the first: nothing, and a blank
	spare  = 128 // what kernels may write, or read, behind a text
)

var rooms = sync.Pool{New: func() any { return &room{} }}

// sum sets sums to what is in a text that is not empty, each trigram and then each word in its turn, as add does. It reports false where it cannot: a
// word whose hash is 0 is none.
func (k *sketch) sum(sums *[sketchDim]float32, text []byte) bool {
	r := rooms.Get().(*room)
	defer rooms.Put(r)
	if len(r.small) < len(text)+spare {
		size := len(text) + len(text)/2 + spare
		r.small, r.kept = make([]byte, size), make([]byte, before+size)
		r.kept[1] = ' '
		r.from, r.to = make([]uint32, size/2+spare), make([]uint32, size/2+spare)
	}
	clear(sums[:])
	words, bytes := cutText(&text[0], len(text), &r.small[0], &r.kept[before], &r.from[0], &r.to[0])
	if bytes > 0 {
		addTrigrams(&r.kept[before], bytes, &k.signed[0], &sums[0])
	}
	return words == 0 || !addWords(&r.small[0], &r.from[0], &r.to[0], words, &k.signed[0], &sums[0])
}
