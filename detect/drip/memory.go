package drip

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/labels"
)

// MostBytes is how long a Memory's encoding can be, before compression.
const MostBytes = 2 << 20

const (
	magic = "drip1\n"

	depth    = 3
	seenBits = 21 // of the set of texts that came

	// mostSeen is the number of records from which the sketch begins anew: a third of new texts would be taken for known
	// ones by then.
	mostSeen = 850_000

	mostTrails = 4096
	mostPhrase = 80                // bytes
	forgotten  = -4 * evidenceUnit // evidence below which a feature is no longer counted
	mostLog    = 1 << 40
)

// widthBits is the width of a sketch. Nothing but tests under the race detector, which are many times slower, changes it.
var widthBits = 17

// Memory is what a stream has shown. Everything in it is whole numbers, so that sums do not depend on the order.
type Memory struct {
	epoch  uint64 // how often the sketch began anew; of two, the earlier one's is void
	rows   uint64 // distinct records of the epoch
	seen   []uint64
	sums   *sketch
	chosen uint64 // how often a feature was chosen to be counted
	shapes shapes
	trails map[uint32]trail
}

// trail is what is known of one feature and label since it was first counted.
type trail struct {
	log     int64 // ln E in 1/evidenceUnit nats
	records uint32
	phrase  string
}

func (t trail) plus(u trail) trail {
	t.log = max(-mostLog, min(t.log+u.log, mostLog))
	t.records += u.records
	if t.phrase == "" || u.phrase != "" && u.phrase < t.phrase {
		t.phrase = u.phrase
	}
	return t
}

// sketch is a count sketch.
type sketch [depth][]int32

func newMemory() *Memory {
	m := &Memory{seen: make([]uint64, 1<<seenBits/64), sums: &sketch{}, trails: map[uint32]trail{}}
	for d := range m.sums {
		m.sums[d] = make([]int32, 1<<widthBits)
	}
	return m
}

// cell returns where a key stands in a row of the sketch, and with which sign.
func cell(key uint32, d int) (at uint32, sign int32) {
	h := (uint64(key) + uint64(d+1)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h ^= h >> 29
	h *= 0x94d049bb133111eb
	return uint32(h >> (64 - widthBits)), 1 - 2*int32(h>>20&1)
}

// estimate returns the sum of a key in a + b, b being nil or a sketch: the median of the rows.
func estimate(key uint32, a, b *sketch) int32 {
	var v [depth]int32
	for d := range v {
		at, sign := cell(key, d)
		sum := a[d][at]
		if b != nil {
			sum += b[d][at]
		}
		v[d] = sign * sum
	}
	return max(min(v[0], v[1]), min(max(v[0], v[1]), v[2]))
}

// noiseOf returns the standard deviation of the cells of a + b, by the median size of every 16th.
func noiseOf(a, b *sketch) float64 {
	size := make([]int32, 0, 1<<widthBits/16)
	for at := 0; at < 1<<widthBits; at += 16 {
		v := a[0][at] + b[0][at]
		size = append(size, max(v, -v))
	}
	slices.Sort(size)
	return float64(size[len(size)/2]) / 0.6745
}

// empty tells that nothing was seen yet.
func (m *Memory) empty() bool { return m.rows == 0 && m.epoch == 0 && m.chosen == 0 }

func (m *Memory) has(id uint64) bool {
	at := id >> (64 - seenBits)
	return m.seen[at/64]>>(at%64)&1 == 1
}

func (m *Memory) mark(id uint64) {
	at := id >> (64 - seenBits)
	m.seen[at/64] |= 1 << (at % 64)
}

// nextEpoch returns the epoch of what comes next.
func (m *Memory) nextEpoch() uint64 {
	if m.rows > mostSeen && m.epoch < math.MaxUint64 {
		return m.epoch + 1
	}
	return m.epoch
}

// Merge implements detect.Memory.
func (m *Memory) Merge(other detect.Memory) {
	o := other.(*Memory)
	if o.epoch > m.epoch {
		m.epoch, m.rows = o.epoch, 0
		clear(m.seen)
		for d := range m.sums {
			clear(m.sums[d])
		}
	}
	if o.epoch == m.epoch {
		m.rows += o.rows
		for at, bits := range o.seen {
			m.seen[at] |= bits
		}
		for d := range m.sums {
			for at, v := range o.sums[d] {
				m.sums[d][at] += v
			}
		}
	}
	m.chosen += o.chosen
	m.shapes.add(&o.shapes)
	for k, t := range o.trails {
		m.trails[k] = m.trails[k].plus(t)
	}
}

// AppendBinary implements detect.Memory. Of the features that are counted the most suspicious are kept.
func (m *Memory) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, magic...)
	dst = binary.AppendUvarint(dst, m.epoch)
	dst = binary.AppendUvarint(dst, m.rows)
	dst = binary.AppendUvarint(dst, m.chosen)
	for g := range m.shapes.own {
		for b := range bins {
			dst = binary.AppendUvarint(dst, uint64(m.shapes.own[g][b]))
			dst = binary.AppendUvarint(dst, uint64(m.shapes.other[g][b]))
		}
	}
	// Numbers of zeros and what follows them.
	zeros := uint64(0)
	for _, bits := range m.seen {
		if bits == 0 {
			zeros++
			continue
		}
		dst = binary.AppendUvarint(dst, zeros)
		dst = binary.LittleEndian.AppendUint64(dst, bits)
		zeros = 0
	}
	dst = binary.AppendUvarint(dst, zeros)
	for d := range m.sums {
		zeros = 0
		for _, v := range m.sums[d] {
			if v == 0 {
				zeros++
				continue
			}
			if zeros > 0 {
				dst = binary.AppendVarint(dst, 0)
				dst = binary.AppendUvarint(dst, zeros)
				zeros = 0
			}
			dst = binary.AppendVarint(dst, int64(v))
		}
		if zeros > 0 {
			dst = binary.AppendVarint(dst, 0)
			dst = binary.AppendUvarint(dst, zeros)
		}
	}
	keys := make([]uint32, 0, len(m.trails))
	for k, t := range m.trails {
		if t.log > forgotten {
			keys = append(keys, k)
		}
	}
	if len(keys) > mostTrails {
		slices.SortFunc(keys, func(a, b uint32) int {
			return cmp.Or(cmp.Compare(m.trails[b].log, m.trails[a].log), cmp.Compare(a, b))
		})
		keys = keys[:mostTrails]
	}
	slices.Sort(keys)
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, k := range keys {
		t := m.trails[k]
		dst = binary.LittleEndian.AppendUint32(dst, k)
		dst = binary.AppendVarint(dst, t.log)
		dst = binary.AppendUvarint(dst, uint64(t.records))
		dst = binary.AppendUvarint(dst, uint64(len(t.phrase)))
		dst = append(dst, t.phrase...)
	}
	return dst, nil
}

var errMalformed = errors.New("malformed memory of drip")

// decode reads what AppendBinary wrote.
func decode(data []byte) (*Memory, error) {
	if !strings.HasPrefix(string(data[:min(len(data), len(magic))]), magic) {
		return nil, fmt.Errorf("%w: another version", errMalformed)
	}
	r := &reader{rest: data[len(magic):]}
	m := newMemory()
	m.epoch, m.rows, m.chosen = r.uvarint(), r.uvarint(), r.uvarint()
	for g := range labels.MostGroups {
		for b := range bins {
			m.shapes.own[g][b] = r.count()
			m.shapes.other[g][b] = r.count()
		}
	}
	for at := uint64(0); !r.broken; at++ {
		zeros := r.uvarint()
		if zeros > uint64(len(m.seen))-at {
			r.broken = true
			break
		}
		if at += zeros; at == uint64(len(m.seen)) {
			break
		}
		m.seen[at] = binary.LittleEndian.Uint64(r.take(8))
	}
	for d := range m.sums {
		for at := 0; at < len(m.sums[d]) && !r.broken; {
			switch v := r.varint(); {
			case v == 0:
				n := r.uvarint()
				if n == 0 || n > uint64(len(m.sums[d])-at) {
					r.broken = true
				}
				at += int(min(n, uint64(len(m.sums[d]))))
			case v < math.MinInt32 || v > math.MaxInt32:
				r.broken = true
			default:
				m.sums[d][at] = int32(v)
				at++
			}
		}
	}
	n := r.uvarint()
	if n > mostTrails {
		r.broken = true
	}
	for last := int64(-1); n > 0 && !r.broken; n-- {
		k := binary.LittleEndian.Uint32(r.take(4))
		t := trail{log: r.varint(), records: uint32(min(r.uvarint(), math.MaxUint32))}
		length := r.uvarint()
		if length > mostPhrase || int64(k) <= last || t.log < -mostLog || t.log > mostLog {
			r.broken = true
			break
		}
		last = int64(k)
		t.phrase = string(r.take(int(length))[:length])
		if !utf8.ValidString(t.phrase) || strings.ContainsAny(t.phrase, "\n\r") {
			r.broken = true
		}
		m.trails[k] = t
	}
	if r.broken || len(r.rest) > 0 {
		return nil, errMalformed
	}
	return m, nil
}

type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.broken, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads a number of records; beyond 2⁵³ a float64 could not hold it.
func (r *reader) count() float64 {
	v := r.uvarint()
	if v > 1<<53 {
		r.broken = true
		return 0
	}
	return float64(v)
}

// take returns the next n bytes, zeros where there are fewer.
func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.broken, r.rest = true, nil
		return make([]byte, max(n, 8))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// clip bounds a phrase, at the end of a character.
func clip(s string) string {
	if len(s) <= mostPhrase {
		return s
	}
	return strings.ToValidUTF8(s[:mostPhrase-len("…")], "") + "…"
}

// bitmap tells of most keys that they are not in a set.
type bitmap [1 << 10]uint64

func (b *bitmap) set(k uint32)      { b[k>>22] |= 1 << (k >> 16 & 63) }
func (b *bitmap) has(k uint32) bool { return b[k>>22]>>(k>>16&63)&1 == 1 }
