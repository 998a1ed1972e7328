package pages

import "encoding/binary"

// runs encodes small numbers (levels, indexes into a dictionary) as the RLE and bit-packing hybrid: runs of one value
// that is repeated eight times at least, and groups of eight values packed into as few bits as they need.
type runs struct {
	out   []byte
	width uint
	value uint32   // of the run that has not ended
	count int      // how long it is
	loose []uint32 // values before it that are in no run
}

func (r *runs) reset(width uint) {
	*r = runs{out: r.out[:0], width: width, loose: r.loose[:0]}
}

// put adds a value n times.
func (r *runs) put(value uint32, n int) {
	if value == r.value {
		r.count += n
		return
	}
	if n > 0 {
		r.turn()
		r.value, r.count = value, n
	}
}

// turn ends the run: what fills up a group of eight goes there, and so does all of a run that is short then.
func (r *runs) turn() {
	fill := min(-len(r.loose)&7, r.count)
	if r.count-fill < 8 {
		fill = r.count
	}
	for range fill {
		r.loose = append(r.loose, r.value)
	}
	if r.count -= fill; r.count > 0 {
		r.pack()
		r.out = binary.AppendUvarint(r.out, uint64(r.count)<<1)
		for at := uint(0); at < r.width; at += 8 {
			r.out = append(r.out, byte(r.value>>at))
		}
		r.count = 0
	}
}

// pack writes the groups of eight. The last one may be short, if nothing follows it.
func (r *runs) pack() {
	if len(r.loose) == 0 {
		return
	}
	for len(r.loose)&7 != 0 {
		r.loose = append(r.loose, 0)
	}
	r.out = binary.AppendUvarint(r.out, uint64(len(r.loose)/8)<<1|1)
	r.out = packBits(r.out, r.loose, r.width)
	r.loose = r.loose[:0]
}

// end returns all that was added.
func (r *runs) end() []byte {
	r.turn()
	r.pack()
	return r.out
}

// packBits appends values of so many bits (32 at most) each, the lowest first. What is packed must fill whole bytes.
func packBits[T uint32 | uint64](out []byte, values []T, width uint) []byte {
	acc, have := uint64(0), uint(0)
	for _, v := range values {
		acc |= uint64(v) << have
		if have += width; have >= 32 {
			out = binary.LittleEndian.AppendUint32(out, uint32(acc))
			acc >>= 32
			have -= 32
		}
	}
	for ; have > 0; have -= 8 {
		out = append(out, byte(acc))
		acc >>= 8
	}
	return out
}
