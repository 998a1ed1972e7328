// Package sketch has what the memories of detectors are made with: a hash that spreads numbers, the encoding of counts of which
// most are zero, and the frame around an encoded memory that tells whether it is whole.
package sketch

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Mix spreads a number over all 64 bits (the finaliser of splitmix64; Steele, Lea, Flood, OOPSLA 2014).
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const sumSize = 8

// Seal appends the checksum of data[start:], little-endian xxHash64, which begins with its version.
func Seal(data []byte, start int) []byte {
	return binary.LittleEndian.AppendUint64(data, xxhash.Sum64(data[start:]))
}

// Open returns what stands between version and checksum of what Seal ended; false where the bytes are of another version, or broken.
func Open(data []byte, version byte) ([]byte, bool) {
	end := len(data) - sumSize
	if end < 1 || data[0] != version || xxhash.Sum64(data[:end]) != binary.LittleEndian.Uint64(data[end:]) {
		return nil, false
	}
	return data[1:end], true
}

// Uvarint takes a number from the front of data.
func Uvarint(data *[]byte) (uint64, bool) {
	v, n := binary.Uvarint(*data)
	if n <= 0 {
		return 0, false
	}
	*data = (*data)[n:]
	return v, true
}

// AppendCounts appends counts as varints; a run of zeros is a 0 and its length. A count takes MaxVarintLen32 bytes at most.
func AppendCounts(data []byte, counts []uint32) []byte {
	for i := 0; i < len(counts); {
		if c := counts[i]; c != 0 {
			data = binary.AppendUvarint(data, uint64(c))
			i++
			continue
		}
		run := 1
		for i+run < len(counts) && counts[i+run] == 0 {
			run++
		}
		data = append(data, 0)
		data = binary.AppendUvarint(data, uint64(run))
		i += run
	}
	return data
}

// Counts takes n counts, none above most, from the front of data.
func Counts(data *[]byte, n int, most uint32) ([]uint32, bool) {
	counts := make([]uint32, n)
	for i := 0; i < n; {
		v, ok := Uvarint(data)
		if !ok || v > uint64(most) {
			return nil, false
		}
		if v != 0 {
			counts[i] = uint32(v)
			i++
			continue
		}
		run, ok := Uvarint(data)
		if !ok || run == 0 || run > uint64(n-i) {
			return nil, false
		}
		i += int(run)
	}
	return counts, true
}
