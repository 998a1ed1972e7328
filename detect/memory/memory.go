// Package memory is what one source has taught the detectors so far, as bytes that are saved with its commits.
//
// A State holds the contributions of one source's own segments and of no other, so that the states of many sources
// can be added up without counting anything twice: one section for each detector that remembers, and the records that
// were accepted although a little spoke against them (Suspect), for the day on which more does. Sections are opaque
// here; the detector that wrote one reads it. A State also holds which records of other sources its own decisions have
// recalled, so that each is told once per source.
//
// # Format, version 1
//
//	"taster-memory 1\n"
//	a zstd frame of:
//	    the source: topic, id, partition
//	    sections, by rising name: name, version, data
//	    suspects, by rising offset: offset (difference), detector (number of the section), weight (float32), keys (uint32 each)
//	    recalled, by rising source: the source, offsets (differences)
//
// Strings, bytes and lists have their length before them; all integers are varints as encoding/binary writes them,
// unless their width is given. The same State has the same bytes. What is decoded is checked against the bounds below,
// so that broken bytes are an error, cost no more memory than good ones, and never a panic.
package memory

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tasterhq/taster/schema/record"
)

// Bounds of what a State may hold.
const (
	// MostSuspects is how many suspects of one source are kept. A source whose segments are judged by 1,000 rows keeps
	// the more suspicious half of what looks slightly odd in some 20,000 rows, and from then on the worst of all.
	MostSuspects = 8192
	// MostKeys is how many keys a suspect has at most.
	MostKeys = 16

	mostSections = 64
	mostSources  = 1 << 12
	mostDecoded  = 64 << 20 // bytes of a frame's content: some ten times what all detectors may remember
)

const magic = "taster-memory "

const version = "1\n"

var (
	// ErrMalformed says that bytes are no State, or not whole. A State is saved with a digest: fetch it again.
	ErrMalformed = errors.New("malformed memory")
	// ErrVersion says that the bytes are a State in a format that this build does not know. What it held is lost to this
	// build and nothing else: judging goes on without.
	ErrVersion = errors.New("memory of another version")
)

// State is what one source has taught. It is not changed once it was encoded or decoded.
type State struct {
	Source   record.Source
	Sections []Section // by rising name
	Suspects []Suspect // by rising offset
	Recalled []Told    // by rising source
}

// Section is what one detector remembers, in an encoding of its own.
type Section struct {
	Name    string // of the detector
	Version string // of its scores; of another version nothing is read
	Data    []byte
}

// Suspect is a record that was accepted although a little spoke against it.
type Suspect struct {
	Offset   int64
	Detector string  // whose suspicion it is; that detector has a section
	Weight   float32 // how much speaks against it, as of the last decision; larger is more suspicious
	Keys     []uint32
}

// Told lists records of another source that were recalled.
type Told struct {
	Source  record.Source
	Offsets []int64 // rising
}

// Section returns the section of a detector, nil where there is none.
func (s *State) Section(name string) *Section {
	if at, ok := slices.BinarySearchFunc(s.Sections, name, func(s Section, name string) int { return cmp.Compare(s.Name, name) }); ok {
		return &s.Sections[at]
	}
	return nil
}

// Told tells whether a record of another source was recalled already.
func (s *State) Told(source record.Source, offset int64) bool {
	at, ok := slices.BinarySearchFunc(s.Recalled, source, func(t Told, s record.Source) int { return compare(t.Source, s) })
	if ok {
		_, ok = slices.BinarySearch(s.Recalled[at].Offsets, offset)
	}
	return ok
}

// compare orders sources.
func compare(a, b record.Source) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Partition, b.Partition))
}

// Prune leaves the suspects that have the most against them, at most MostSuspects, and of equal ones the latest.
func (s *State) Prune() {
	if len(s.Suspects) > MostSuspects {
		bar := heaviest(s.Suspects, MostSuspects)
		var equal []Suspect
		more := 0
		for _, c := range s.Suspects {
			switch cmp.Compare(c.Weight, bar) {
			case 1:
				more++
			case 0:
				equal = append(equal, c)
			}
		}
		slices.SortFunc(equal, func(a, b Suspect) int {
			return cmp.Or(cmp.Compare(b.Offset, a.Offset), cmp.Compare(a.Detector, b.Detector))
		})
		kept := make([]Suspect, 0, MostSuspects)
		for _, c := range s.Suspects {
			if cmp.Compare(c.Weight, bar) > 0 {
				kept = append(kept, c)
			}
		}
		s.Suspects = append(kept, equal[:MostSuspects-more]...)
	}
	slices.SortFunc(s.Suspects, func(a, b Suspect) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Detector, b.Detector))
	})
}

// heaviest returns the k-th largest weight, in the order of cmp.Compare. Suspects are many and hardly one in ten is kept, so they are not sorted.
func heaviest(suspects []Suspect, k int) float32 {
	const digit = 11
	var lead, mask uint32 // what is known of it, and where
	for shift := 32 - digit; ; shift = max(0, shift-digit) {
		var count [1 << digit]int
		for i := range suspects {
			if n := place(suspects[i].Weight); n&mask == lead {
				count[n>>shift&(1<<digit-1)]++
			}
		}
		at := len(count) - 1
		for ; count[at] < k; at-- {
			k -= count[at]
		}
		lead |= uint32(at) << shift
		mask |= (1<<digit - 1) << shift
		if shift == 0 {
			return weightAt(lead)
		}
	}
}

// place numbers weights in their order, NaN first.
func place(w float32) uint32 {
	n := math.Float32bits(w + 0) // −0 is 0
	switch {
	case w != w:
		return 0
	case n>>31 == 0:
		return n | 1<<31
	}
	return ^n
}

// weightAt is the inverse of place.
func weightAt(place uint32) float32 {
	switch {
	case place == 0:
		return float32(math.NaN())
	case place>>31 == 1:
		return math.Float32frombits(place &^ (1 << 31))
	}
	return math.Float32frombits(^place)
}

// Sort brings sections and recalled records into the order in which they are kept.
func (s *State) Sort() {
	slices.SortFunc(s.Sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Recalled, func(a, b Told) int { return compare(a.Source, b.Source) })
	for _, t := range s.Recalled {
		slices.Sort(t.Offsets)
	}
}

// window is how far zstd looks back. What one detector remembers repeats itself, if at all, within less; the encoder keeps a window's memory for as long
// as the process lives, and took eight megabytes when it chose for itself.
const window = 1 << 20

// codec makes the one encoder and decoder that all share; EncodeAll and DecodeAll may be called by many at once.
var codec = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithZeroFrames(true),
		zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are good
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(mostDecoded))
	if err != nil {
		panic(err)
	}
	return encoder, decoder
})

// Encode returns the State as bytes, the same for the same content. Every suspect's detector must have a section.
func (s *State) Encode() []byte {
	size := 256 * (1 + len(s.Sections) + len(s.Recalled)) // of names; what it lacks is added
	for _, section := range s.Sections {
		size += len(section.Data)
	}
	for _, c := range s.Suspects {
		size += 2*binary.MaxVarintLen16 + 4 + 1 + 4*len(c.Keys)
	}
	b := make([]byte, 0, size)
	b = appendSource(b, s.Source)
	b = binary.AppendUvarint(b, uint64(len(s.Sections)))
	number := map[string]uint64{}
	for i, section := range s.Sections {
		number[section.Name] = uint64(i)
		b = appendBytes(b, section.Name)
		b = appendBytes(b, section.Version)
		b = appendBytes(b, section.Data)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Suspects)))
	before := int64(0)
	for _, c := range s.Suspects {
		b = binary.AppendVarint(b, c.Offset-before)
		before = c.Offset
		b = binary.AppendUvarint(b, number[c.Detector])
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.Weight))
		b = binary.AppendUvarint(b, uint64(len(c.Keys)))
		for _, k := range c.Keys {
			b = binary.LittleEndian.AppendUint32(b, k)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.Recalled)))
	for _, t := range s.Recalled {
		b = appendSource(b, t.Source)
		b = binary.AppendUvarint(b, uint64(len(t.Offsets)))
		before := int64(0)
		for _, offset := range t.Offsets {
			b = binary.AppendVarint(b, offset-before)
			before = offset
		}
	}
	encoder, _ := codec()
	return encoder.EncodeAll(b, []byte(magic+version))
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSource(b []byte, s record.Source) []byte {
	return binary.AppendVarint(appendBytes(appendBytes(b, s.Topic), s.ID), int64(s.Partition))
}

// Decode reads what Encode wrote. The error is ErrVersion or ErrMalformed.
func Decode(data []byte) (*State, error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return nil, fmt.Errorf("%w: it begins otherwise", ErrMalformed)
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(version)); !ok {
		return nil, ErrVersion
	}
	_, decoder := codec()
	plain, err := decoder.DecodeAll(rest, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: its compression is broken", ErrMalformed)
	}
	r := &reader{rest: plain}
	s := &State{Source: r.source()}
	for range r.count(mostSections, 3) {
		s.Sections = append(s.Sections, Section{string(r.bytes()), string(r.bytes()), r.bytes()})
	}
	ascending := slices.IsSortedFunc(s.Sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	if n := r.count(MostSuspects, 7); n > 0 {
		s.Suspects = make([]Suspect, n)
	}
	before := int64(0)
	for i := range s.Suspects {
		c := &s.Suspects[i]
		c.Offset = before + r.varint()
		ascending = ascending && c.Offset >= before
		before = c.Offset
		if at := r.uvarint(); at < uint64(len(s.Sections)) {
			c.Detector = s.Sections[at].Name
		} else {
			r.broken = true
		}
		c.Weight = math.Float32frombits(r.uint32())
		if c.Weight != c.Weight {
			r.broken = true
		}
		if n := r.count(MostKeys, 4); n > 0 {
			c.Keys = make([]uint32, n)
		}
		for k := range c.Keys {
			c.Keys[k] = r.uint32()
		}
	}
	for range r.count(mostSources, 4) {
		t := Told{Source: r.source()}
		if n := r.count(MostSuspects, 1); n > 0 {
			t.Offsets = make([]int64, n)
		}
		before := int64(0)
		for i := range t.Offsets {
			t.Offsets[i] = before + r.varint()
			ascending = ascending && t.Offsets[i] >= before
			before = t.Offsets[i]
		}
		s.Recalled = append(s.Recalled, t)
	}
	ascending = ascending && slices.IsSortedFunc(s.Recalled, func(a, b Told) int { return compare(a.Source, b.Source) })
	if r.broken || len(r.rest) > 0 || !ascending {
		return nil, fmt.Errorf("%w: its content is broken", ErrMalformed)
	}
	return s, nil
}

// reader reads until something is broken; what it returns from then on means nothing.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) fail() {
	r.broken, r.rest = true, nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uint32() uint32 {
	if len(r.rest) < 4 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return v
}

// count reads how many items follow, each of which has at least so many bytes.
func (r *reader) count(most, least int) int {
	n := r.uvarint()
	if n > uint64(most) || n*uint64(least) > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) source() record.Source {
	s := record.Source{Topic: string(r.bytes()), ID: string(r.bytes())}
	if p := r.varint(); p >= math.MinInt32 && p <= math.MaxInt32 {
		s.Partition = int32(p)
	} else {
		r.fail()
	}
	return s
}
