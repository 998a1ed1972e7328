package provider

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

const (
	memoryVersion = 1
	mostProviders = 4096
	mostCount     = math.MaxInt64 / 2

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 3*binary.MaxVarintLen64 + 8 + mostProviders*(8+2*binary.MaxVarintLen64)
)

// tally is what became of a provider's records.
type tally struct {
	records uint64
	flagged uint64 // of one segment at most what burst allows
}

func (t *tally) add(o tally) {
	t.records = min(t.records+o.records, mostCount)
	t.flagged = min(t.flagged+o.flagged, mostCount)
}

func (t tally) less(o tally) tally { return tally{t.records - o.records, t.flagged - o.flagged} }

func (t tally) rate() float64 { return float64(t.flagged) / float64(max(1, t.records)) }

// memory implements [detect.Memory]: sums by provider, so memories can be added up in any order. Of more than mostProviders those
// are kept whose hash is least, whatever the order in which they came; the others count in all only.
type memory struct {
	all       tally
	providers map[uint64]tally
}

func newMemory() *memory { return &memory{providers: map[uint64]tally{}} }

// Merge implements [detect.Memory].
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok {
		return
	}
	m.all.add(o.all)
	for hash, t := range o.providers {
		mine := m.providers[hash]
		mine.add(t)
		m.providers[hash] = mine
	}
	m.shrink()
}

func (m *memory) shrink() {
	if len(m.providers) <= mostProviders {
		return
	}
	for _, hash := range m.hashes()[mostProviders:] {
		delete(m.providers, hash)
	}
}

func (m *memory) hashes() []uint64 {
	return slices.SortedFunc(maps.Keys(m.providers), cmp.Compare[uint64])
}

// AppendBinary implements [encoding.BinaryAppender]: a version, the sum, the providers, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	number := func(t tally) {
		data = binary.AppendUvarint(data, t.records)
		data = binary.AppendUvarint(data, t.flagged)
	}
	number(m.all)
	data = binary.AppendUvarint(data, uint64(len(m.providers)))
	for _, hash := range m.hashes() {
		data = binary.LittleEndian.AppendUint64(data, hash)
		number(m.providers[hash])
	}
	return sketch.Seal(data, start), nil
}

var errMemory = errors.New("provider: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return newMemory(), nil
	}
	data, ok := sketch.Open(data, memoryVersion)
	if !ok {
		return nil, errMemory
	}
	failed := false
	number := func(most uint64) uint64 {
		v, ok := sketch.Uvarint(&data)
		if !ok || v > most {
			failed = true
			return 0
		}
		return v
	}
	read := func() tally {
		t := tally{records: number(mostCount)}
		t.flagged = number(t.records)
		return t
	}
	m := newMemory()
	m.all = read()
	n := number(mostProviders)
	var sum tally
	for range n {
		if failed || len(data) < 8 {
			return nil, errMemory
		}
		hash := binary.LittleEndian.Uint64(data)
		data = data[8:]
		t := read()
		sum.add(t)
		m.providers[hash] = t
	}
	if failed || len(data) > 0 || len(m.providers) != int(n) || sum.records > m.all.records || sum.flagged > m.all.flagged {
		return nil, errMemory
	}
	return m, nil
}
