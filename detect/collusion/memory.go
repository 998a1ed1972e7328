package collusion

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

const (
	mostProviders  = 256
	mostOfProvider = 4

	memoryVersion = 1

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 8 + 2*binary.MaxVarintLen64 + mostProviders*(8+1+mostOfProvider*(2*3*mostDim+1+4*mostPhrases)) + 8
)

// memory implements [detect.Memory]: records of new providers. Of providers and of the records of one those with the least hashes are
// kept, so that memories can be added up in any order and any number of times.
type memory struct {
	basis     uint64 // what points were made with; 0 as long as nothing was seen
	providers map[uint64][]kept
}

// kept is a record of a provider.
type kept struct {
	hash    uint64
	point   []int16
	phrases []uint32 // rising
}

func newKept(point []int16, phrases []uint32) kept {
	h := uint64(len(point))
	for _, x := range point {
		h = sketch.Mix(h ^ uint64(uint16(x)))
	}
	for _, x := range phrases {
		h = sketch.Mix(h ^ uint64(x))
	}
	return kept{h, point, phrases}
}

func (k *kept) compare(other *kept) int {
	return cmp.Or(cmp.Compare(k.hash, other.hash), slices.Compare(k.point, other.point), slices.Compare(k.phrases, other.phrases))
}

// names returns the providers by rising hash.
func (m *memory) names() []uint64 {
	out := make([]uint64, 0, len(m.providers))
	for p := range m.providers {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// gather returns a memory of records.
func (m *model) gather(strangers []stranger) *memory {
	out := &memory{basis: m.basis, providers: map[uint64][]kept{}}
	for _, x := range strangers {
		out.providers[x.provider] = append(out.providers[x.provider], x.kept)
	}
	out.trim()
	return out
}

// trim keeps no more than a memory may hold.
func (m *memory) trim() {
	if names := m.names(); len(names) > mostProviders {
		for _, p := range names[mostProviders:] {
			delete(m.providers, p)
		}
	}
	for p, points := range m.providers {
		slices.SortFunc(points, func(a, b kept) int { return a.compare(&b) })
		points = slices.CompactFunc(points, func(a, b kept) bool { return a.compare(&b) == 0 })
		m.providers[p] = slices.Clip(points[:min(len(points), mostOfProvider)])
	}
}

// Merge implements [detect.Memory]. Of memories whose points do not compare, which only models of different references make, one is kept,
// the same whatever the order.
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.basis == 0 || m.basis > o.basis {
		return
	}
	if m.basis != o.basis || m.providers == nil {
		m.basis, m.providers = o.basis, map[uint64][]kept{}
	}
	for p, points := range o.providers {
		m.providers[p] = append(slices.Clone(m.providers[p]), points...)
	}
	m.trim()
}

// AppendBinary implements [encoding.BinaryAppender]: a version, what points were made with, how long they are, the providers by rising
// hash with their points, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	data = binary.LittleEndian.AppendUint64(data, m.basis)
	dim := 0
	for _, points := range m.providers {
		dim = len(points[0].point)
	}
	data = binary.AppendUvarint(data, uint64(dim))
	data = binary.AppendUvarint(data, uint64(len(m.providers)))
	for _, p := range m.names() {
		data = binary.LittleEndian.AppendUint64(data, p)
		data = append(data, byte(len(m.providers[p])))
		for _, k := range m.providers[p] {
			for _, x := range k.point {
				data = binary.LittleEndian.AppendUint16(data, uint16(x))
			}
			data = append(data, byte(len(k.phrases)))
			for _, h := range k.phrases {
				data = binary.LittleEndian.AppendUint32(data, h)
			}
		}
	}
	return sketch.Seal(data, start), nil
}

var errMemory = errors.New("collusion: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return &memory{}, nil
	}
	data, ok := sketch.Open(data, memoryVersion)
	if !ok || len(data) < 8 {
		return nil, errMemory
	}
	out := &memory{basis: binary.LittleEndian.Uint64(data)}
	data = data[8:]
	dim, ok := sketch.Uvarint(&data)
	count, more := sketch.Uvarint(&data)
	if !ok || !more || count > mostProviders || count == 0 && dim != 0 || count > 0 && dim != uint64(m.dim) ||
		out.basis != m.basis && (out.basis != 0 || count > 0) {
		return nil, errMemory
	}
	out.providers = map[uint64][]kept{}
	last := uint64(0)
	for i := range count {
		if len(data) < 9 || data[8] == 0 || data[8] > mostOfProvider {
			return nil, errMemory
		}
		p, n := binary.LittleEndian.Uint64(data), int(data[8])
		if i > 0 && p <= last {
			return nil, errMemory
		}
		last, data = p, data[9:]
		for range n {
			if uint64(len(data)) < 2*dim+1 || data[2*dim] > mostPhrases || uint64(len(data)) < 2*dim+1+4*uint64(data[2*dim]) {
				return nil, errMemory
			}
			point := make([]int16, dim)
			for j := range point {
				point[j] = int16(binary.LittleEndian.Uint16(data[2*j:]))
			}
			phrases := make([]uint32, data[2*dim])
			data = data[2*dim+1:]
			for j := range phrases {
				phrases[j] = binary.LittleEndian.Uint32(data[4*j:])
			}
			data = data[4*len(phrases):]
			out.providers[p] = append(out.providers[p], newKept(point, phrases))
		}
	}
	if len(data) > 0 {
		return nil, errMemory
	}
	return out, nil
}

// Observe implements [detect.Remembering]. Quarantined records count like others: they are what a crowd is made of.
func (m *model) Observe(s *detect.Sample, _ []bool, _ detect.Env) detect.Memory {
	return m.gather(m.strangers(s))
}
