package drift

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

const (
	memoryVersion = 1
	mostCells     = 1 << 19 // counts over all providers
	mostProviders = 2048
	windows       = 3                  // histories of one provider: of two windows, and of all before where that is a baseline
	mostCount     = math.MaxUint32 / 2 // no sum of two overflows

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 5*binary.MaxVarintLen64 + 8 + windows*mostProviders*(9+3*binary.MaxVarintLen64) +
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

// place is a provider's history in one window of the stream, numbered from 1; 0 is for all windows that are over.
type place struct {
	key
	window uint64
}

func comparePlaces(a, b place) int {
	return cmp.Or(compareKeys(a.key, b.key), cmp.Compare(a.window, b.window))
}

// memory implements [detect.Memory]: sums by provider and window, so memories can be added up in any order. Only the last window and the
// one before it are kept apart. What is older is dropped, of a stranger added up: it is its baseline. Whether a
// history is older depends on the last window of all that is added, and on nothing in between.
type memory struct {
	basis     uint64 // the fields that it counts; 0 as long as nothing was seen
	fields    int
	rows      uint64 // of the whole stream
	last      uint64 // window
	histories map[place]*history
}

// room is how many providers a memory of so many fields keeps.
func room(fields int) int { return min(mostProviders, mostCells/(windows*bins*max(1, fields))) }

// Merge implements [detect.Memory]. Of memories of different references one is kept, the same whatever the order.
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.basis == 0 || m.basis > o.basis {
		return
	}
	if m.basis < o.basis {
		*m = memory{basis: o.basis, fields: o.fields, histories: map[place]*history{}}
	}
	m.rows = addCount(m.rows, o.rows)
	m.last = max(m.last, o.last)
	for p, h := range o.histories {
		m.add(p, h.clone())
	}
	m.tidy()
}

func (m *memory) add(p place, h *history) {
	if mine := m.histories[p]; mine != nil {
		mine.add(h)
	} else {
		m.histories[p] = h
	}
}

// tidy drops what is too old, and providers that are too many.
func (m *memory) tidy() {
	providers := map[key]bool{}
	for _, p := range m.places() {
		if p.window > 0 && p.window+1 < m.last {
			h := m.histories[p]
			delete(m.histories, p)
			if !p.stranger {
				continue
			}
			m.add(place{p.key, 0}, h)
		}
		if len(providers) == room(m.fields) && !providers[p.key] {
			delete(m.histories, p)
			delete(m.histories, place{p.key, 0})
			continue
		}
		providers[p.key] = true
	}
}

func (m *memory) places() []place { return slices.SortedFunc(maps.Keys(m.histories), comparePlaces) }

// AppendBinary implements [encoding.BinaryAppender]: a version, the fields' digest and number, rows, the last window, the
// histories, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	for _, v := range []uint64{m.basis, uint64(m.fields), m.rows, m.last, uint64(len(m.histories))} {
		data = binary.AppendUvarint(data, v)
	}
	for _, p := range m.places() {
		h := m.histories[p]
		stranger := byte(0)
		if p.stranger {
			stranger = 1
		}
		data = append(data, stranger)
		data = binary.LittleEndian.AppendUint64(data, p.hash)
		data = binary.AppendUvarint(data, p.window)
		data = binary.AppendUvarint(data, h.rows)
		data = binary.AppendUvarint(data, h.segments)
		for _, c := range h.counts {
			data = binary.AppendUvarint(data, uint64(c))
		}
		for _, v := range h.spread {
			data = binary.AppendUvarint(data, v)
		}
	}
	return sketch.Seal(data, start), nil
}

var errMemory = errors.New("drift: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return &memory{}, nil
	}
	data, ok := sketch.Open(data, memoryVersion)
	if !ok {
		return nil, errMemory
	}
	r := reader{data: data}
	out := &memory{basis: r.number(math.MaxUint64), fields: int(r.number(math.MaxInt32)), rows: r.number(mostCount),
		last: r.number(mostCount), histories: map[place]*history{}}
	n := int(r.number(windows * mostProviders))
	if r.failed || out.basis == 0 && (out.fields != 0 || out.rows != 0 || n != 0) {
		return nil, errMemory
	}
	if out.basis != 0 && (out.basis != m.basis || out.fields != len(m.fields.list)) {
		return nil, fmt.Errorf("%w: it was made with another reference", errMemory)
	}
	if n > windows*room(out.fields) {
		return nil, errMemory
	}
	for range n {
		stranger := r.number(1) == 1
		h := &history{counts: make([]uint32, out.fields*bins), spread: make([]uint64, out.fields)}
		p := place{key{stranger, r.hash()}, r.number(mostCount)}
		h.rows, h.segments = r.number(mostCount), r.number(mostCount)
		for i := range h.counts {
			h.counts[i] = uint32(r.number(mostCount))
		}
		for i := range h.spread {
			h.spread[i] = r.number(math.MaxInt64)
		}
		if r.failed || out.histories[p] != nil || p.window > out.last {
			return nil, errMemory
		}
		out.histories[p] = h
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
	v, ok := sketch.Uvarint(&r.data)
	if !ok || v > most {
		r.failed, r.data = true, nil
		return 0
	}
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
