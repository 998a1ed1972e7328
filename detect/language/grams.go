package language

import (
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect/lanes"
)

const (
	unit    = 16   // of cost, per nat: a byte holds up to 16 nats
	backoff = 0.4  // Brants et al. 2007
	smooth  = 0.05 // pseudo-count of pairs of bytes that the reference lacks
)

// fold says as what a byte is read.
var fold = func() (table [256]uint32) {
	for c := range table {
		switch {
		case c >= 'A' && c <= 'Z':
			table[c] = uint32(c + 'a' - 'A')
		case c >= '0' && c <= '9':
			table[c] = '0'
		case c == '\t' || c == '\n' || c == '\r':
			table[c] = ' '
		default:
			table[c] = uint32(c)
		}
	}
	return table
}()

const edges = ' '<<16 | ' '<<8 | ' ' // what stands before a text

func hash(text []byte) uint64 { return xxhash.Sum64(text) }

const (
	threeBits = 18 // of the table of three bytes
	mostBits  = 22 // of the table of four
)

// tableBits returns the size of the table of four-grams that so many bytes may need, so that most of it stays empty.
func tableBits(n int) int { return max(16, min(bits.Len(uint(4*n)), mostBits)) }

// slot returns where four bytes stand in a table of 2^bits: what may follow the same three stands together, in one line of
// a processor's cache, and letters apart from marks and digits.
func slot(gram uint32, shift int) uint32 {
	return gram>>8*0x9e3779b1>>shift<<6 | gram>>1&32 | gram&31
}

// slotOfThree is slot for the last three bytes of a gram.
func slotOfThree(gram uint32) uint32 { return gram << 8 * 0x9e3779b1 >> (32 - threeBits) }

// counts are how often grams occur, in hashed tables.
type counts struct {
	shift int // of slot
	four  []uint32
	three []uint32
	two   []uint32 // 256 × 256, not hashed
}

func newCounts(bits int) *counts {
	return &counts{shift: 32 - (bits - 6), four: make([]uint32, 1<<bits), three: make([]uint32, 1<<threeBits), two: make([]uint32, 1<<16)}
}

func (c *counts) add(text []byte) {
	gram := uint32(edges)
	for _, b := range text {
		gram = gram<<8 | fold[b]
		c.four[slot(gram, c.shift)]++
		c.three[slotOfThree(gram)]++
		c.two[gram&0xffff]++
	}
}

func (c *counts) merge(other *counts) {
	for i, n := range other.four {
		c.four[i] += n
	}
	for i, n := range other.three {
		c.three[i] += n
	}
	for i, n := range other.two {
		c.two[i] += n
	}
}

// grams are costs: −ln p in units of 1/16 nat, and as step the cost of each step back. Four and three bytes that the reference lacks cost 0, which no other does.
type grams lanes.Grams

func cost(p float64) uint8 { return uint8(max(1, min(math.Round(-math.Log(p)*unit), math.MaxUint8))) }

// grams turns counts into costs. texts are those that were counted, in any order.
//
// A hashed table does not tell which bytes a bucket stands for, nor what comes before the last of them. So the texts are read
// again, and of several contexts that meet in a bucket the rarest counts.
func (c *counts) grams(texts func(yield func(text []byte))) *grams {
	four, three := make([]uint32, len(c.four)), make([]uint32, len(c.three)) // how often the context occurs
	rarest := func(context *uint32, n uint32) {
		if *context == 0 || n < *context {
			*context = n
		}
	}
	texts(func(text []byte) {
		gram := uint32(edges)
		for _, b := range text {
			before := gram & 0xffffff
			gram = gram<<8 | fold[b]
			rarest(&four[slot(gram, c.shift)], c.three[slotOfThree(before)])
			rarest(&three[slotOfThree(gram)], c.two[before&0xffff])
		}
	})
	g := &grams{Shift: c.shift, Step: cost(backoff)}
	g.Four, g.Three = costs(c.four, four), costs(c.three, three)

	var before, alone [256]float64
	total := 0.0
	for pair, n := range c.two {
		before[pair>>8] += float64(n)
		alone[pair&0xff] += float64(n)
		total += float64(n)
	}
	g.Two = padded(len(c.two))
	for pair, n := range c.two {
		share := (alone[pair&0xff] + smooth) / (total + 256*smooth)
		g.Two[pair] = cost((float64(n) + 256*smooth*share) / (before[pair>>8] + 256*smooth))
	}
	return g
}

// costs returns −ln(n/context) of every bucket that was counted.
func costs(count, context []uint32) []uint8 {
	out := padded(len(count))
	for at, n := range count {
		// The first bytes of a text have a context that was not counted.
		if n > 0 {
			out[at] = cost(float64(n) / float64(max(n, context[at])))
		}
	}
	return out
}

// padded returns a table of n costs, with room behind it for lanes, which read four at once.
func padded(n int) []uint8 { return make([]uint8, n, n+3) }

// reading is what one text costs.
type reading struct {
	sum      int64
	blocks   int   // of blockSize bytes, whole ones only
	inBlocks int64 // cost of these
	squares  int64 // sum of squares of the blocks' costs
	worst    int64 // cost of the dearest window
	worstAt  int   // its first block
}

// reader reads texts, with one goroutine's scratch.
type reader struct {
	lanes *lanes.Scratch // nil where the processor has none
	cost  [lanes.Most / blockSize]uint32
}

func newReader() *reader {
	if lanes.Available() {
		return &reader{lanes: new(lanes.Scratch)}
	}
	return new(reader)
}

func (r *reader) read(g *grams, text []byte) reading {
	var out reading
	var recent [window]int64
	var inWindow int64
	gram := uint32(edges)
	for from := 0; from < len(text); from += lanes.Most {
		part := text[from:min(len(text), from+lanes.Most)]
		var blocks []uint32
		if r.lanes != nil {
			blocks = r.lanes.Costs((*lanes.Grams)(g), part, from > 0)
		} else {
			blocks, gram = g.costs(r.cost[:0], part, gram)
		}
		for i, block := range blocks {
			cost := int64(block)
			out.sum += cost
			if len(part)-i*blockSize < blockSize {
				break
			}
			inWindow += cost - recent[out.blocks%window]
			recent[out.blocks%window] = cost
			out.blocks++
			out.inBlocks += cost
			out.squares += cost * cost
			if out.blocks >= window && inWindow > out.worst {
				out.worst, out.worstAt = inWindow, out.blocks-window
			}
		}
	}
	return out
}

// costs appends what each block of a text costs, the last of which may be shorter. Gram is what stands before the text, and is returned of its end.
func (g *grams) costs(dst []uint32, text []byte, gram uint32) ([]uint32, uint32) {
	shift := g.Shift
	for len(text) > 0 {
		n := min(blockSize, len(text))
		block := uint32(0)
		for _, b := range text[:n] {
			gram = gram<<8 | fold[b]
			c := g.Four[slot(gram, shift)]
			if c == 0 {
				block += g.back(gram)
				continue
			}
			block += uint32(c)
		}
		text = text[n:]
		dst = append(dst, block)
	}
	return dst, gram
}

// back returns the cost of the last byte of four that the reference lacks.
func (g *grams) back(gram uint32) uint32 {
	if c := g.Three[slotOfThree(gram)]; c != 0 {
		return uint32(c) + uint32(g.Step)
	}
	return uint32(g.Two[gram&0xffff]) + 2*uint32(g.Step)
}
