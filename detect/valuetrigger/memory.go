package valuetrigger

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

const (
	// Four tables, each with a hash of its own: some values are very frequent, and a rare one must not share its cell with a frequent
	// one in every table.
	depth     = 4
	tableBits = 15
	tableSize = 1 << tableBits // cells of one
	cells     = depth * tableSize

	memoryVersion = 1
	mostCount     = math.MaxUint32 / 2 // no sum of two overflows

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 2*binary.MaxVarintLen64 + cells*binary.MaxVarintLen32 + 8
)

// memory implements [detect.Memory]: a count-min sketch of values and pairs. Its parts are sums, so memories can be added up in
// any order.
type memory struct {
	rows   uint64
	tokens uint64   // that were counted, of all rows
	cells  []uint32 // nil as long as nothing was seen

	least float64 // what a cell must hold for others to say anything; set by rest
}

func addCount(a, b uint64) uint64 { return min(a+b, mostCount) }

// ownKey names the memory of a sample alone.
type ownKey tokensKey

// own returns what a sample alone leaves. It must not be changed.
func (m *model) own(s *detect.Sample, env detect.Env) *memory {
	return detect.Once(env, ownKey{m, s}, func() *memory {
		t := m.tokens(s, env)
		const least = 8 * workRows // rows that are worth a goroutine with a table of its own
		parts := make([]memory, max(1, min(env.Workers, t.n/least)))
		detect.Rows(len(parts), 1, env.Workers, func(p, _ int) {
			from, to := p*t.n/len(parts), (p+1)*t.n/len(parts)
			part := &parts[p]
			part.rows, part.cells = uint64(to-from), make([]uint32, cells)
			for _, key := range t.single[from*t.width : to*t.width] {
				if key != 0 {
					part.add(key)
				}
			}
			for row := from; row < to; row++ {
				for _, key := range t.pairsOf(row) {
					part.add(key)
				}
			}
		})
		out := &parts[0]
		for p := range parts[1:] {
			out.Merge(&parts[1+p])
		}
		return out
	})
}

func (m *memory) add(key uint32) {
	m.tokens = addCount(m.tokens, 1)
	for _, at := range places(key) {
		if m.cells[at] < mostCount {
			m.cells[at]++
		}
	}
}

// places returns the cells that count a key.
func places(key uint32) (at [depth]uint32) {
	h := sketch.Mix(uint64(key))
	for d := range at {
		at[d] = uint32(d)<<tableBits | uint32(h>>(d*16))&(tableSize-1)
	}
	return at
}

// strangers is how many tokens of other values a cell holds on average.
func (m *memory) strangers() float64 { return float64(m.tokens) / tableSize }

// rest prepares a memory to be asked: it will not change any more. So many others must have a value for it to say anything: a few, beyond
// four standard deviations of what chance puts into a cell.
func (m *memory) rest() { m.least = m.strangers() + 1 + fewest + 4*math.Sqrt(m.strangers()) }

// resting returns a memory that can be asked, without changing this one.
func (m *memory) resting() *memory {
	out := *m
	out.rest()
	return &out
}

// others estimates how many records beside one have its value or pair, and tells whether those are enough to say anything.
func (m *memory) others(key uint32) (n float64, enough bool) {
	if key == 0 || m.cells == nil {
		return 0, false
	}
	h := sketch.Mix(uint64(key))
	fewest := uint32(math.MaxUint32)
	for d := range uint32(depth) {
		fewest = min(fewest, m.cells[d<<tableBits|uint32(h>>(d*16))&(tableSize-1)])
		if float64(fewest) < m.least {
			return 0, false
		}
	}
	return float64(fewest) - m.strangers() - 1, true
}

// Merge implements [detect.Memory].
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.cells == nil {
		return
	}
	m.rows, m.tokens = addCount(m.rows, o.rows), addCount(m.tokens, o.tokens)
	if m.cells == nil {
		m.cells = slices.Clone(o.cells)
		return
	}
	for i, c := range o.cells {
		m.cells[i] = uint32(addCount(uint64(m.cells[i]), uint64(c)))
	}
}

// AppendBinary implements [encoding.BinaryAppender]: a version, the numbers of rows and tokens, the cells, of which a run of zeros is
// a 0 and its length, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	data = binary.AppendUvarint(data, m.rows)
	data = binary.AppendUvarint(data, m.tokens)
	data = sketch.AppendCounts(data, m.cells)
	return sketch.Seal(data, start), nil
}

var errMemory = errors.New("value_trigger: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return &memory{}, nil
	}
	data, ok := sketch.Open(data, memoryVersion)
	if !ok {
		return nil, errMemory
	}
	out := &memory{}
	var more bool
	out.rows, ok = sketch.Uvarint(&data)
	out.tokens, more = sketch.Uvarint(&data)
	if !ok || !more || out.rows > mostCount || out.tokens > mostCount {
		return nil, errMemory
	}
	if len(data) == 0 && out.rows == 0 && out.tokens == 0 {
		return out, nil
	}
	if out.cells, ok = sketch.Counts(&data, cells, mostCount); !ok || len(data) > 0 {
		return nil, errMemory
	}
	return out, nil
}

// Observe implements [detect.Remembering]. Quarantined records count like others: they are what a trigger is made of.
func (m *model) Observe(s *detect.Sample, _ []bool, env detect.Env) detect.Memory {
	if !m.fits(s) || s.N == 0 {
		return &memory{}
	}
	out := &memory{} // the caller's to change
	out.Merge(m.own(s, env))
	return out
}
