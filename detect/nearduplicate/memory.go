package nearduplicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
)

// What a stream has shown is kept as a count-min sketch (Cormode and Muthukrishnan, "An improved data stream summary", 2005)
// of the bands of its rows' signatures (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4): three of their
// bytes. Two rows of similarity J share a band with chance J³, so a member of a flood that keeps 80 % of the
// bytes keeps one of eight bands in 99 of 100 cases, and two rows that share a phrase hardly ever do.
const (
	bands     = 8
	bandBytes = 3
	depth     = 2       // tables of the sketch, each with a hash of its own
	tableSize = 1 << 16 // cells of one: with n rows each cell holds 8n/65,536 strangers, whose mean is taken off
	cells     = depth * tableSize

	memoryVersion = 1
	mostCount     = math.MaxUint32 / 2 // no sum of two overflows

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 3*binary.MaxVarintLen64 + cells*binary.MaxVarintLen32 + 8
)

// memory implements [detect.Memory]. Its parts are sums, so memories can be added up in any order.
type memory struct {
	basis uint64   // what signatures were made with; 0 as long as nothing was seen
	rows  uint64   // that had something to compare
	cells []uint32 // nil as long as nothing was seen
}

// bandKeys writes what stands for a signature's bands in a sketch. An empty byte borrows from the next that is not
// (Shrivastava and Li, "Densifying one permutation hashing via rotation for fast near neighbor search", ICML 2014), so that short
// texts have bands too.
func (s *signature) bandKeys(keys *[bands]uint64) {
	var dense [64]uint64
	last, from := uint64(0), -1
	for i := 2*64 - 1; i >= 0; i-- { // twice around: the first empty bytes borrow beyond the end
		at := i % 64
		if b := s[at/8] >> (at % 8 * 8) & 0xff; b != 0 {
			last, from = b, i
		}
		if i < 64 {
			dense[i] = last<<8 | uint64(from-i)
		}
	}
	for b := range keys {
		h := uint64(b + 1)
		for i := b * 64 / bands / bandBytes; i < 64; i += 64 / bandBytes { // far apart, or they would borrow from one byte
			h = mix(h ^ dense[i])
		}
		keys[b] = h
	}
}

// places returns the cells that count a key.
func places(key uint64) [depth]int {
	return [depth]int{int(key % tableSize), tableSize + int(key>>32%tableSize)}
}

func (m *memory) add(basis uint64, s *signature, rows int) {
	if m.cells == nil {
		m.basis, m.cells = basis, make([]uint32, cells)
	}
	m.rows = addCount(m.rows, uint64(rows))
	var keys [bands]uint64
	s.bandKeys(&keys)
	for _, key := range keys {
		for _, at := range places(key) {
			m.cells[at] = uint32(addCount(uint64(m.cells[at]), uint64(rows)))
		}
	}
}

func addCount(a, b uint64) uint64 { return min(a+b, mostCount) }

// Merge implements [detect.Memory]. Of memories that were made with different signatures, which only models of
// different references make, one is kept, the same whatever the order.
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.cells == nil {
		return
	}
	if m.cells == nil || m.basis < o.basis {
		m.basis, m.rows, m.cells = o.basis, o.rows, slices.Clone(o.cells)
		return
	}
	if m.basis > o.basis {
		return
	}
	m.rows = addCount(m.rows, o.rows)
	for i, c := range o.cells {
		m.cells[i] = uint32(addCount(uint64(m.cells[i]), uint64(c)))
	}
}

// AppendBinary implements [encoding.BinaryAppender]: a version, what signatures were made with, the number of rows, the
// cells, of which a run of zeros is a 0 and its length, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	data = binary.AppendUvarint(data, m.basis)
	data = binary.AppendUvarint(data, m.rows)
	for i := 0; i < len(m.cells); {
		if m.cells[i] != 0 {
			data = binary.AppendUvarint(data, uint64(m.cells[i]))
			i++
			continue
		}
		run := 1
		for i+run < len(m.cells) && m.cells[i+run] == 0 {
			run++
		}
		if data = append(data, 0); run == 1 {
			data = append(data, 0) // so that no cell takes more bytes than MaxMemory says
		} else {
			data = binary.AppendUvarint(data, uint64(run))
		}
		i += run
	}
	return binary.LittleEndian.AppendUint64(data, xxhash.Sum64(data[start:])), nil
}

var errMemory = errors.New("near_duplicate: memory is broken or of another version")

// Memory implements [detect.Remembering].
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return &memory{}, nil
	}
	body := len(data) - 8
	if body < 1 || data[0] != memoryVersion || xxhash.Sum64(data[:body]) != binary.LittleEndian.Uint64(data[body:]) {
		return nil, errMemory
	}
	data = data[1:body]
	next := func() (v uint64, ok bool) {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return 0, false
		}
		data = data[n:]
		return v, true
	}
	out := &memory{}
	var ok bool
	if out.basis, ok = next(); !ok {
		return nil, errMemory
	}
	if out.rows, ok = next(); !ok || out.rows > mostCount {
		return nil, errMemory
	}
	if len(data) == 0 && out.rows == 0 && out.basis == 0 {
		return out, nil
	}
	if out.basis != m.basis() {
		return nil, fmt.Errorf("%w: it was made with another reference", errMemory)
	}
	out.cells = make([]uint32, cells)
	for i := 0; i < cells; {
		v, ok := next()
		if !ok || v > mostCount {
			return nil, errMemory
		}
		if v != 0 {
			out.cells[i] = uint32(v)
			i++
			continue
		}
		run, ok := next()
		if !ok || run > uint64(cells-i) {
			return nil, errMemory
		}
		i += max(1, int(run))
	}
	if len(data) > 0 {
		return nil, errMemory
	}
	return out, nil
}

// basis tells signatures apart that do not compare: a text's depend on nothing, a vector's on the rotation.
func (m *model) basis() uint64 {
	if m.rotation == nil {
		return 1
	}
	h := uint64(hashSeed)
	for _, x := range m.rotation.mean {
		h = mix(h ^ uint64(math.Float32bits(x)))
	}
	for _, x := range m.rotation.flips {
		h = mix(h ^ uint64(math.Float32bits(x)))
	}
	return h | 2
}

// Observe implements [detect.Remembering]. Quarantined rows count like others: they are what a flood is made of.
func (m *model) Observe(s *detect.Sample, _ []bool, env detect.Env) detect.Memory {
	return m.remember(m.group(s, env))
}

func (m *model) remember(g grouping) *memory {
	out := &memory{}
	basis := m.basis()
	for i := range g.types {
		if t := &g.types[i]; t.rows > 0 {
			out.add(basis, &t.signature, t.rows)
		}
	}
	return out
}

// recollection says of signatures how often the stream so far has shown the like.
type recollection struct {
	memory  memory
	strange float64   // rows in a cell that have nothing to do with what is asked for, on average
	sizes   []float64 // of the cells that hold more than strangers, falling
	mass    []float64 // rows in the cells up to there, bands averaged
	missed  []float64 // the same, less what a reference of so many rows would have shown
}

func recollect(before, now *memory, reference float64) *recollection {
	r := &recollection{}
	r.memory.Merge(before)
	r.memory.Merge(now)
	r.strange = float64(r.memory.rows) * bands / tableSize
	for _, c := range r.memory.cells[:tableSize] {
		if more := float64(c) - r.strange; more >= r.least() {
			r.sizes = append(r.sizes, more)
		}
	}
	slices.SortFunc(r.sizes, func(a, b float64) int {
		if a > b {
			return -1
		} else if a < b {
			return 1
		}
		return 0
	})
	rows := float64(r.memory.rows)
	mass, missed := 0.0, 0.0
	for _, size := range r.sizes {
		mass += size / bands
		missed += size / bands * math.Exp(-chernoff(size, rows, 0, reference))
		r.mass, r.missed = append(r.mass, mass), append(r.missed, missed)
	}
	return r
}

// least is how many rows beyond the average of strangers a cell must hold to mean anything: four standard deviations of a
// Poisson count, and four rows.
func (r *recollection) least() float64 { return 4*math.Sqrt(r.strange) + 4 }

// like estimates how many rows the stream has shown that are nearly equal to a signature, itself included, by the band
// that most of them share; 0 where there are too few to tell.
func (r *recollection) like(keys *[bands]uint64) float64 {
	best := 0.0
	for _, key := range keys {
		count := math.Inf(1)
		for _, at := range places(key) {
			count = min(count, float64(r.memory.cells[at]))
		}
		best = max(best, count-r.strange)
	}
	if best < r.least() {
		return 0
	}
	return best
}

// share is the share of the stream's rows that have at least half as many like them; missed is the share of those and which
// the reference is expected to miss. Half, because the bands of one flood are not equally full, and twice what the cells hold,
// because its rows keep about half of its bands.
func (r *recollection) share(count float64) (share, missed float64) {
	at, _ := slices.BinarySearchFunc(r.sizes, count/2, func(size, half float64) int {
		if size >= half {
			return -1
		}
		return 1
	})
	rows := float64(max(1, r.memory.rows))
	if at == 0 {
		return min(1, count/rows), 1
	}
	return min(1, max(count, 2*r.mass[at-1])/rows), min(1, 2*r.missed[at-1]/rows)
}

// longFloods says of the types of a segment how they stand out in the stream so far.
type longFloods struct {
	surprise []float64
	count    []float64 // rows of the stream that are nearly equal
	known    []int     // rows of the reference that are
	rows     uint64    // of the stream
}

// longFloods scores the types of a segment by the memory with the segment added. The chance that a clean row has as many like
// it, and none in the reference, is the share of rows that have, each times the chance that the reference then misses
// them; where the reference has some, it is the share of rows times the chance that it has so few. What is rarer than one
// in the reference's rows counts as surprise, for that is where the scores of single segments begin.
func (m *model) longFloods(types []rowType, before, now *memory, alone bool, env detect.Env) *longFloods {
	reference, granted := float64(m.rows), math.Log(float64(m.rows)+1)
	if alone {
		granted = math.Log(selfRows + 1)
	}
	r := recollect(before, now, reference)
	out := &longFloods{
		surprise: make([]float64, len(types)), count: make([]float64, len(types)), known: make([]int, len(types)), rows: r.memory.rows,
	}
	each(len(types), env.Workers, func(i int) {
		t := &types[i]
		if t.rows == 0 {
			return
		}
		var keys [bands]uint64
		t.signature.bandKeys(&keys)
		if out.count[i] = r.like(&keys); out.count[i] == 0 {
			return
		}
		share, missed := r.share(out.count[i])
		chance := math.Log(share)
		if !alone {
			out.known[i] = m.known(&keys)
			chance -= chernoff(out.count[i]-1, float64(r.memory.rows), float64(out.known[i]), reference)
			if out.known[i] == 0 {
				chance = min(chance, math.Log(missed))
			}
		}
		out.surprise[i] = max(0, -chance-granted) * min(1, float64(t.words)/fullWords)
	})
	return out
}

func (f *longFloods) explain(t int32, reference int) string {
	return fmt.Sprintf("one of about %.0f nearly equal rows, %.2g %% of the %d that the stream has shown; %d of %d in the reference",
		f.count[t], 100*f.count[t]/float64(f.rows), f.rows, f.known[t], reference)
}
