package drift

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
)

const (
	memoryVersion = 1
	mostCells     = 1 << 18 // counts over all providers
	mostProviders = 2048
	mostCount     = math.MaxUint32 / 2 // no sum of two overflows

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 4*binary.MaxVarintLen64 + 8 + mostProviders*(9+2*binary.MaxVarintLen64) +
		mostCells*binary.MaxVarintLen32 + mostCells/bins*binary.MaxVarintLen64
)

// A history is what one provider has sent: how its rows fall into each field's bins.
type history struct {
	rows     uint64
	segments uint64   // that had rows of it
	counts   []uint32 // fields × bins
	// spread holds for every field Σ over segments and bins of n²/(N·p), in 1/256, for n rows of N in a bin that has the
	// share p in the reference. What it exceeds the same of the sum tells how much segments differ among themselves.
	spread []uint64
}

func (h *history) add(o *history) {
	h.rows = addCount(h.rows, o.rows)
	h.segments = addCount(h.segments, o.segments)
	for i, c := range o.counts {
		h.counts[i] = uint32(addCount(uint64(h.counts[i]), uint64(c)))
	}
	for i, v := range o.spread {
		h.spread[i] = min(h.spread[i]+v, math.MaxInt64)
	}
}

func (h *history) clone() *history {
	return &history{h.rows, h.segments, slices.Clone(h.counts), slices.Clone(h.spread)}
}

func addCount(a, b uint64) uint64 { return min(a+b, mostCount) }

// key names a provider. Which providers are kept when there are too many does not depend on the order in which they came: those of
// the reference first, and then those whose hash is least.
type key struct {
	stranger bool
	hash     uint64
}

func compareKeys(a, b key) int {
	if a.stranger != b.stranger {
		if b.stranger {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.hash, b.hash)
}

// memory implements [detect.Memory]: sums by provider, so memories can be added up in any order.
type memory struct {
	basis     uint64 // the fields that it counts; 0 as long as nothing was seen
	fields    int
	providers map[key]*history
}

// room is how many providers a memory of so many fields keeps.
func room(fields int) int { return min(mostProviders, mostCells/(bins*max(1, fields))) }

// Merge implements [detect.Memory]. Of memories of different references one is kept, the same whatever the order.
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.basis == 0 || m.basis > o.basis {
		return
	}
	if m.basis < o.basis {
		m.basis, m.fields, m.providers = o.basis, o.fields, map[key]*history{}
	}
	for k, h := range o.providers {
		if mine := m.providers[k]; mine != nil {
			mine.add(h)
		} else {
			m.providers[k] = h.clone()
		}
	}
	m.shrink()
}

func (m *memory) keys() []key { return slices.SortedFunc(maps.Keys(m.providers), compareKeys) }

func (m *memory) shrink() {
	if len(m.providers) <= room(m.fields) {
		return
	}
	for _, k := range m.keys()[room(m.fields):] {
		delete(m.providers, k)
	}
}

// AppendBinary implements [encoding.BinaryAppender]: a version, the fields' digest and number, the providers, and a
// checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	data = binary.AppendUvarint(data, m.basis)
	data = binary.AppendUvarint(data, uint64(m.fields))
	data = binary.AppendUvarint(data, uint64(len(m.providers)))
	for _, k := range m.keys() {
		h := m.providers[k]
		stranger := byte(0)
		if k.stranger {
			stranger = 1
		}
		data = append(data, stranger)
		data = binary.LittleEndian.AppendUint64(data, k.hash)
		data = binary.AppendUvarint(data, h.rows)
		data = binary.AppendUvarint(data, h.segments)
		for _, c := range h.counts {
			data = binary.AppendUvarint(data, uint64(c))
		}
		for _, v := range h.spread {
			data = binary.AppendUvarint(data, v)
		}
	}
	return binary.LittleEndian.AppendUint64(data, xxhash.Sum64(data[start:])), nil
}

var errMemory = errors.New("drift: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return &memory{}, nil
	}
	body := len(data) - 8
	if body < 1 || data[0] != memoryVersion || xxhash.Sum64(data[:body]) != binary.LittleEndian.Uint64(data[body:]) {
		return nil, errMemory
	}
	r := reader{data: data[1:body]}
	out := &memory{basis: r.number(math.MaxUint64), fields: int(r.number(math.MaxInt32)), providers: map[key]*history{}}
	n := int(r.number(mostProviders))
	if r.failed || out.basis == 0 && (out.fields != 0 || n != 0) {
		return nil, errMemory
	}
	if out.basis != 0 && (out.basis != m.basis || out.fields != len(m.fields.list)) {
		return nil, fmt.Errorf("%w: it was made with another reference", errMemory)
	}
	if n > room(out.fields) {
		return nil, errMemory
	}
	for range n {
		stranger := r.number(1) == 1
		h := &history{counts: make([]uint32, out.fields*bins), spread: make([]uint64, out.fields)}
		k := key{stranger, r.hash()}
		h.rows, h.segments = r.number(mostCount), r.number(mostCount)
		for i := range h.counts {
			h.counts[i] = uint32(r.number(mostCount))
		}
		for i := range h.spread {
			h.spread[i] = r.number(math.MaxInt64)
		}
		if r.failed || out.providers[k] != nil {
			return nil, errMemory
		}
		out.providers[k] = h
	}
	if r.failed || len(r.data) > 0 {
		return nil, errMemory
	}
	return out, nil
}

// reader takes numbers from an encoding; after the first that is missing or too large it has failed.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) number(most uint64) uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > most {
		r.failed, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) hash() uint64 {
	if len(r.data) < 8 {
		r.failed, r.data = true, nil
		return 0
	}
	v := binary.LittleEndian.Uint64(r.data)
	r.data = r.data[8:]
	return v
}
