package nearduplicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/schema/finding"
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

	memoryVersion = 2
	mostCount     = math.MaxUint32 / 2 // no sum of two overflows

	// MaxMemory bounds the encoding of a memory, in bytes.
	MaxMemory = 1 + 3*binary.MaxVarintLen64 + cells*binary.MaxVarintLen32 + 8
)

// memory implements [detect.Memory]. Its parts are sums, so memories can be added up in any order.
type memory struct {
	basis uint64   // what signatures were made with; 0 as long as nothing was seen
	rows  uint64   // that had something to compare
	cells []uint32 // nil as long as nothing was seen
	grid  *grid    // that signed, nil where none did
}

// textBandKeys writes the numbers that stand for a signature's bands in a sketch. An empty byte borrows from the next that is not
// (Shrivastava and Li, "Densifying one permutation hashing via rotation for fast near neighbor search", ICML 2014), so that short
// texts have bands too.
func textBandKeys(a *signature, keys *[bands]uint32) {
	var dense [64]uint64
	last, from := uint64(0), -1
	for i := range 64 { // twice around: the first empty bytes borrow beyond the end
		if b := a[i/8] >> (i % 8 * 8) & 0xff; b != 0 {
			last, from = b, 64+i
			break
		}
	}
	for i := 63; i >= 0; i-- {
		// Which bytes are empty cannot be foretold.
		b := a[i/8] >> (i % 8 * 8) & 0xff
		if b != 0 {
			last = b
		}
		if b != 0 {
			from = i
		}
		dense[i] = last<<8 | uint64(from-i)
	}
	for b := range keys {
		h := uint64(b + 1)
		for i := b * 64 / bands / bandBytes; i < 64; i += 64 / bandBytes { // far apart, or they would borrow from one byte
			h = sketch.Mix(h ^ dense[i])
		}
		keys[b] = uint32(h)
	}
}

// banded is by what bands each row of a sample is known.
type banded struct {
	keys  [][bands]uint32
	words []int32 // 0: nothing to compare
	at    []int32 // by row: which of these it has, -1 for none; nil: each row its own
}

// of returns which keys and words a row has, or -1.
func (b *banded) of(row int) int32 {
	at := int32(row)
	if b.at != nil {
		at = b.at[row]
	}
	if at >= 0 && b.words[at] == 0 {
		return -1
	}
	return at
}

// rows returns how many rows there are.
func (b *banded) rows() int {
	if b.at != nil {
		return len(b.at)
	}
	return len(b.words)
}

// bandKeys writes the numbers of a signature's bands.
func (m *model) bandKeys(s *signature, keys *[bands]uint32) {
	if m.grid != nil {
		wideBandKeys(s, keys, m.grid.bandBytes)
		return
	}
	textBandKeys(s, keys)
}

// table returns one of the tables, in which half of a key says where it is counted.
func (m *memory) table(i int) *[tableSize]uint32 { return (*[tableSize]uint32)(m.cells[i*tableSize:]) }

func addCount(a, b uint64) uint64 { return min(a+b, mostCount) }

// Merge implements [detect.Memory]. Of memories that were made with different signatures, which only models of
// different references make, one is kept, the same whatever the order.
func (m *memory) Merge(other detect.Memory) {
	o, ok := other.(*memory)
	if !ok || o.cells == nil {
		return
	}
	if m.cells == nil || m.basis < o.basis {
		m.basis, m.rows, m.cells, m.grid = o.basis, o.rows, slices.Clone(o.cells), o.grid
		return
	}
	if m.basis > o.basis {
		return
	}
	m.add(o)
}

// add adds what was made with the same signatures.
func (m *memory) add(o *memory) {
	m.rows = addCount(m.rows, o.rows)
	for i, c := range o.cells {
		m.cells[i] = uint32(addCount(uint64(m.cells[i]), uint64(c)))
	}
}

// AppendBinary implements [encoding.BinaryAppender]: a version, what signatures were made with, the number of rows, the
// cells, and a checksum.
func (m *memory) AppendBinary(data []byte) ([]byte, error) {
	start := len(data)
	data = append(data, memoryVersion)
	data = binary.AppendUvarint(data, m.basis)
	data = binary.AppendUvarint(data, m.rows)
	data = sketch.AppendCounts(data, m.cells)
	return sketch.Seal(data, start), nil
}

var errMemory = errors.New("near_duplicate: memory is broken or of another version")

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
	if out.basis, ok = sketch.Uvarint(&data); !ok {
		return nil, errMemory
	}
	if out.rows, ok = sketch.Uvarint(&data); !ok || out.rows > mostCount {
		return nil, errMemory
	}
	if len(data) == 0 && out.rows == 0 && out.basis == 0 {
		return out, nil
	}
	if out.basis != m.basis() {
		return nil, fmt.Errorf("%w: it was made with another reference", errMemory)
	}
	out.grid = m.grid // for the basis is the same
	if out.cells, ok = sketch.Counts(&data, cells, mostCount); !ok || len(data) > 0 {
		return nil, errMemory
	}
	return out, nil
}

// basis tells signatures apart that do not compare: a text's depend on nothing, features' on the grid, a vector's on the rotation. The mean that is
// taken off first does not count: those of different parts of a reference are so near that signatures hardly differ.
func (m *model) basis() uint64 {
	switch {
	case m.grid != nil:
		return m.grid.basis()
	case m.rotation == nil:
		return 1
	}
	h := uint64(hashSeed)
	for _, x := range m.rotation.flips {
		h = sketch.Mix(h ^ uint64(math.Float32bits(x)))
	}
	return h | 2
}

// Observe implements [detect.Remembering]. Quarantined rows count like others: they are what a flood is made of.
func (m *model) Observe(s *detect.Sample, _ []bool, env detect.Env) detect.Memory {
	return m.remember(m.bandsOf(s, env), make([]uint32, cells), env)
}

// cellRooms are the cells of what was asked while a sample was scored.
var cellRooms detect.Shelf[[]uint32]

// borrowCells returns cells with anything in them, to be put back.
func borrowCells() []uint32 {
	if room, ok := cellRooms.Take(func([]uint32) bool { return true }); ok {
		return room
	}
	return make([]uint32, cells)
}

// remember counts the bands of a sample's rows in room, which is all zeros, a goroutine in each table.
func (m *model) remember(keys *banded, room []uint32, env detect.Env) *memory {
	out := &memory{grid: m.grid}
	n := keys.rows()
	for row := range n {
		if keys.of(row) >= 0 {
			out.rows++
		}
	}
	if out.rows == 0 {
		return out
	}
	out.basis, out.cells = m.basis(), room
	detect.Each(depth, env.Workers, func(table int) {
		cells := out.table(table)
		for row := range n {
			at := keys.of(row)
			if at < 0 {
				continue
			}
			for _, key := range &keys.keys[at] {
				cells[uint16(key>>(16*table))]++ // a sample has fewer rows than would fill one
			}
		}
	})
	return out
}

// recollection says of signatures how often the stream so far has shown the like.
type recollection struct {
	memory
	sizes  []float64 // of the cells that hold more than strangers, falling
	mass   []float64 // rows in the cells up to there, bands averaged
	missed []float64 // the same, less what a reference of so many rows would have shown

	shares [1 << 10]shareOf // by whole rows that are nearly equal
}

// shareOf keeps what share says, for whoever asks next. It is asked from many sides.
type shareOf struct {
	known               atomic.Bool
	logShare, logMissed atomic.Uint64 // as bits
}

// logs returns the logarithms of share, of what a signature's fullest band holds.
func (r *recollection) logs(fullest uint32) (share, missed float64) {
	count := float64(fullest) - r.strangers()
	at := fullest - uint32(r.strangers())
	if at >= uint32(len(r.shares)) {
		share, missed = r.share(count)
		return math.Log(share), math.Log(missed)
	}
	kept := &r.shares[at]
	if !kept.known.Load() {
		share, missed = r.share(count)
		kept.logShare.Store(math.Float64bits(math.Log(share)))
		kept.logMissed.Store(math.Float64bits(math.Log(missed)))
		kept.known.Store(true)
	}
	return math.Float64frombits(kept.logShare.Load()), math.Float64frombits(kept.logMissed.Load())
}

// recollect asks a memory, which must not change meanwhile.
func (m *model) recollect(seen *memory) *recollection {
	r := &recollection{memory: *seen}
	for _, c := range r.cells[:min(tableSize, len(r.cells))] {
		if more := float64(c) - r.strangers(); more >= r.least() {
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
	rows := float64(r.rows)
	mass, missed := 0.0, 0.0
	for _, size := range r.sizes {
		mass += size / bands
		missed += size / bands * math.Exp(-chernoff(size, rows, 0, float64(m.rows)))
		r.mass, r.missed = append(r.mass, mass), append(r.missed, missed)
	}
	return r
}

// strangers is how many rows in a cell have nothing to do with what is asked for, on average.
func (m *memory) strangers() float64 { return float64(m.rows) * bands / tableSize }

// least is how many rows beyond the average of strangers a cell must hold to mean anything: four standard deviations of a
// Poisson count, and four rows.
func (m *memory) least() float64 { return 4*math.Sqrt(m.strangers()) + 4 }

// like estimates how many rows the stream has shown that are nearly equal to a signature, itself included, by the band
// that most of them share.
func (m *memory) like(keys *[bands]uint32) float64 { return float64(m.fullest(keys)) - m.strangers() }

// fullest returns how many rows the fullest band has, strangers among them.
func (m *memory) fullest(keys *[bands]uint32) uint32 {
	low, high, best := m.table(0), m.table(1), uint32(0)
	for _, key := range keys {
		best = max(best, min(low[uint16(key)], high[key>>16]))
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
	rows := float64(max(1, r.rows))
	if at == 0 {
		return min(1, count/rows), 1
	}
	return min(1, max(count, 2*r.mass[at-1])/rows), min(1, 2*r.missed[at-1]/rows)
}

// longFloods says of the types of a segment how they stand out in the stream so far.
type longFloods struct {
	surprise []float64
	count    []float64 // rows of the stream that are nearly equal
	known    []int32   // rows of the reference that are, where that matters
	rows     uint64    // of the stream
}

// longFloods scores the types of a segment, whose bands keys has, by the memory with the segment added. The chance that a clean row has as many like
// it, and none in the reference, is the share of rows that have, each times the chance that the reference then misses
// them; where the reference has some, it is the share of rows times the chance that it has so few. What is rarer than one
// in the reference's rows counts as surprise, for that is where the scores of single segments begin.
func (m *model) longFloods(types []rowType, bandsOf *banded, before *memory, alone bool, env detect.Env) *longFloods {
	room := borrowCells()
	defer cellRooms.Put(room)
	clear(room)
	all := m.remember(bandsOf, room, env)
	if all.rows == 0 {
		all = before
	} else {
		all.add(before)
	}
	r := m.recollect(all)
	granted, strangers, least := m.granted(alone), r.strangers(), r.least()
	out := &longFloods{
		surprise: make([]float64, len(types)), count: make([]float64, len(types)), known: make([]int32, len(types)), rows: r.rows,
	}
	const some = 1024 // at a time
	detect.Chunks(len(types), some, env.Workers, func() func(first, end int) {
		var harmless [1 << 10]int8 // by the fullest band less strangers: 1 where nothing is scored even were none in the reference
		return func(first, end int) {
			for i := first; i < end; i++ {
				t := &types[i]
				if t.rows == 0 {
					continue
				}
				keys := &bandsOf.keys[t.at]
				fullest := r.fullest(keys)
				count := float64(fullest) - strangers
				if count < least {
					continue
				}
				out.count[i] = count
				if more := fullest - uint32(strangers); more < uint32(len(harmless)) {
					h := &harmless[more]
					if *h == 0 {
						// Chance rises with those in the reference, which take longest to count; a millionth is for rounding.
						if *h = -1; -m.chanceOf(r, fullest, 0, alone)-granted < -1e-6 {
							*h = 1
						}
					}
					if *h > 0 {
						continue
					}
				}
				logP, known := m.chance(r, keys, fullest, alone)
				out.known[i] = int32(known)
				out.surprise[i] = max(0, -logP-granted) * min(1, float64(t.words)/fullWords)
			}
		}
	})
	return out
}

// granted is the surprise, in nats, that chance is granted: as much as a rank among held-out rows can show, who calibrates
// keeping one row for every three that the model knows.
func (m *model) granted(alone bool) float64 {
	if alone {
		return math.Log(selfRows/3 + 1)
	}
	return math.Log(float64(m.rows)/3 + 1)
}

// chance returns ln of the chance that a clean row has so many like it in the stream and so few in the reference, and
// those.
func (m *model) chance(r *recollection, keys *[bands]uint32, fullest uint32, alone bool) (logP float64, known int) {
	if !alone {
		known = m.known(keys)
	}
	return m.chanceOf(r, fullest, known, alone), known
}

// chanceOf is chance where the reference has so many; it rises with them.
func (m *model) chanceOf(r *recollection, fullest uint32, known int, alone bool) float64 {
	logP, missed := r.logs(fullest)
	if alone {
		return logP
	}
	logP -= chernoff(float64(fullest)-r.strangers()-1, float64(r.rows), float64(known), float64(m.rows))
	if known == 0 {
		logP = min(logP, missed)
	}
	return logP
}

func (f *longFloods) explain(t int32, reference int) string {
	return longEvidence(f.count[t], f.rows, int(f.known[t]), reference)
}

func longEvidence(count float64, rows uint64, known, reference int) string {
	return fmt.Sprintf("one of about %.0f nearly equal rows, %.2g %% of the %d that the stream has shown; %d of %d in the reference",
		count, 100*count/float64(rows), rows, known, reference)
}

// convicting is the chance from which earlier rows of a flood are recalled: of ten thousand clean rows that were accepted
// one may be recalled that should not, a hundredth of the usual budget: a recall reaches into what was trained on.
const convicting = 1e-4

// Suspects returns the rows that are a little more frequent than chance makes them: the beginning of a flood looks so.
func (m *model) Suspects(s *detect.Sample, known detect.Memory, env detect.Env) []detect.Suspicion {
	seen, ok := known.(*memory)
	if !ok || seen.rows == 0 || seen.basis != m.basis() {
		return nil
	}
	keys := m.bandsOf(s, env)
	const rows = 1024 // at a time
	least := seen.least() / 2
	out := make([][]detect.Suspicion, (s.N+rows-1)/rows)
	detect.Chunks(s.N, rows, env.Workers, func() func(first, end int) {
		counts := make([]float32, rows) // of those that are suspected
		return func(first, end int) {
			n := 0
			for row := first; row < end; row++ {
				counts[row-first] = 0
				at := keys.of(row)
				if at < 0 || keys.words[at] < fullWords {
					continue // short texts repeat without anybody's doing
				}
				if count := seen.like(&keys.keys[at]); count >= least {
					counts[row-first] = float32(count)
					n++
				}
			}
			found, room := make([]detect.Suspicion, 0, n), make([]uint32, 0, n*bands)
			for row := first; row < end; row++ {
				if count := counts[row-first]; count > 0 {
					room = append(room, keys.keys[keys.of(row)][:]...)
					found = append(found, detect.Suspicion{Row: row, Weight: count, Keys: room[len(room)-bands : len(room) : len(room)]})
				}
			}
			out[first/rows] = found
		}
	})
	return slices.Concat(out...)
}

// Weigh returns how many rows are nearly equal to one that Suspects named, by what is known now.
func (m *model) Weigh(keys []uint32, known detect.Memory) float32 {
	seen, ok := known.(*memory)
	if !ok || len(keys) != bands || seen.rows == 0 || seen.basis != m.basis() {
		return 0
	}
	return float32(max(0, seen.like((*[bands]uint32)(keys))))
}

// Convict returns what tells whether a row that Suspects named is one of a flood by what is known now.
func (m *model) Convict(known detect.Memory) func(keys []uint32) (finding.Finding, bool) {
	seen, ok := known.(*memory)
	if !ok || seen.rows == 0 || seen.basis != m.basis() {
		return nil
	}
	r := m.recollect(seen)
	if len(r.sizes) == 0 {
		return nil
	}
	strangers, least := r.strangers(), r.least()
	innocent := new([1 << 10]atomic.Int32) // by the fullest band less strangers: 1 for those that are, whatever the reference has
	return func(keys []uint32) (finding.Finding, bool) {
		if len(keys) != bands {
			return finding.Finding{}, false
		}
		bandsOf := (*[bands]uint32)(keys)
		fullest := r.fullest(bandsOf)
		count := float64(fullest) - strangers
		if count < least {
			return finding.Finding{}, false
		}
		// Nearly all are innocent whatever the reference has, where to look takes longest; a millionth is for rounding.
		if more := fullest - uint32(strangers); more < uint32(len(innocent)) {
			if innocent[more].Load() == 0 {
				verdict := int32(-1)
				if m.chanceOf(r, fullest, 0, false) > math.Log(convicting)+1e-6 {
					verdict = 1
				}
				innocent[more].Store(verdict)
			}
			if innocent[more].Load() > 0 {
				return finding.Finding{}, false
			}
		}
		logP, inReference := m.chance(r, bandsOf, fullest, false)
		if logP > math.Log(convicting) {
			return finding.Finding{}, false
		}
		return finding.Finding{
			Score: max(0, -logP-m.granted(false)), PValue: math.Exp(logP), Threshold: convicting, Code: finding.PoisonNearDuplicate,
			Evidence: longEvidence(count, r.rows, inReference, m.rows),
		}, true
	}
}
