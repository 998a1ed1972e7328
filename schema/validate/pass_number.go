package validate

import (
	"math"
	"math/big"
	"math/bits"
	"unsafe"
)

// integer reads an integer into its column.
func (p *pass) integer(t *task, i int) int {
	negative := 0
	if p.byte(i) == '-' {
		negative = 1
	}
	w := p.word(i + negative)
	magnitude, size := eight(w)
	end := i + negative + size
	if c := p.byte(end); size < 8 && size > 0 && c != '.' && c|0x20 != 'e' && (byte(w) != '0' || size == 1 && negative == 0) {
		v := int64(magnitude)
		if negative > 0 {
			v = -v
		}
		if r := t.number; r == nil || r.wholly && v >= r.min && v <= r.max {
			if t.slot >= 0 {
				p.columns[t.slot].addInt(v)
			}
			return end
		}
	}
	return p.oddInteger(t, i)
}

func (p *pass) oddInteger(t *task, i int) int {
	end, n := p.number(i)
	if end < 0 {
		return left
	}
	v := int64(n.bits)
	if n.kind != kindInt { // 1.0 is one, too
		exact := parseDecimal(p.raw(i, end))
		var ok bool
		if v, ok = exact.int64(); !ok {
			return left
		}
	}
	if t.number != nil && !t.number.good(&p.aside, &n) {
		return left
	}
	if t.slot >= 0 {
		p.columns[t.slot].addInt(v)
	}
	return end
}

// float reads a number into its column.
func (p *pass) float(t *task, i int) int {
	// Most have few digits, a point and a few more.
	if w := p.word(i); byte(w)-'1' < 9 || byte(w>>8) == '.' {
		whole, n := eight(w)
		at := i + n
		if n < 8 && n > 0 && p.byte(at) == '.' {
			part, more := eight(p.word(at + 1))
			at += 1 + more
			if more < 8 && more > 0 && p.byte(at)|0x20 != 'e' {
				f := float64(int64(whole*tens[more]+part)) / pow10[more]
				if r := t.number; r == nil || f > r.above && f < r.below {
					if t.slot >= 0 {
						p.columns[t.slot].addFloat(f)
					}
					return at
				}
			}
		}
	}
	end, n := p.number(i)
	if end < 0 || t.number != nil && !t.number.good(&p.aside, &n) {
		return left
	}
	if t.slot >= 0 {
		p.columns[t.slot].addFloat(n.float())
	}
	return end
}

// vector reads the array of numbers whose first byte behind the bracket is at i.
func (p *pass) vector(t *task, i int) int {
	if p.depth == 0 {
		return left
	}
	l := t.list
	items := l.items
	room := p.numbersAhead(i)
	if l.maxItems >= 0 {
		room = min(room, l.maxItems)
	}
	c := &p.sink
	if t.slot >= 0 {
		c = &p.columns[t.slot]
	}
	values := c.vectorRoom(room)
	count := 0
	i = p.space(i)
	for b := p.byte(i); b != ']'; {
		if l.plain {
			n, next := fractions(p, values[count:], &p.with.float32s, i)
			count, i = count+n, next
		}
		if count >= room {
			return left
		}
		end, n := p.number(i)
		if end < 0 || items.kinds&(1<<n.kind) == 0 || items.number != nil && !items.number.good(&p.aside, &n) {
			return left
		}
		f := float32(n.float())
		if math.IsInf(float64(f), 0) {
			return left
		}
		values[count] = f
		count++
		if p.byte(end) == ',' && p.byte(end+1) > ' ' && p.byte(end+1) != ']' {
			i = end + 1
		} else if i, b = p.separator(end, ']'); i < 0 {
			return left
		}
	}
	if count < l.minItems {
		return left
	}
	if t.slot >= 0 {
		c.size += count
		c.end(c.size)
		c.rows++
	}
	return i + 1
}

// numbersAhead is more than the numbers that an array can have whose items begin at i: a number and what separates it
// from the next one are two bytes at least.
func (p *pass) numbersAhead(i int) int { return (p.size-i)/2 + 1 }

// fractions reads numbers as they are in most vectors, a digit, a point and some digits more, for as long as a comma
// follows. It returns how many these were, and where the next one begins.
func fractions[T float32 | float64](p *pass, into []T, fast *[2]func(*T, *byte, int) (int, int), i int) (count, end int) {
	base := p.base
	for tries := 0; count < len(into); {
		n, next := someFractions(base, into[count:min(len(into), count+4)], i)
		count, i = count+n, next
		if n < 4 {
			break
		}
		// What separates these four will separate the others. Four at a time until something else comes.
		if f := fast[0]; f != nil && tries < 2 && len(into)-count >= 4 {
			if *(*byte)(unsafe.Add(base, i-1)) == ' ' {
				f = fast[1]
			}
			groups, size := f(&into[count], (*byte)(unsafe.Add(base, i)), (len(into)-count)/4)
			count, i = count+4*groups, i+size
			if groups == 0 {
				tries++
			}
		}
	}
	return count, i
}

func someFractions[T float32 | float64](base unsafe.Pointer, into []T, i int) (count, end int) {
	for count < len(into) {
		at := i
		sign := uint64(0)
		if *(*byte)(unsafe.Add(base, at)) == '-' {
			sign = 1
		}
		at += int(sign)
		w := load(base, at)
		whole := w&0xFF - '0'
		if whole > 9 || byte(w>>8) != '.' {
			break
		}
		high, n := eight(load(base, at+2))
		low, more := eight(load(base, at+10))
		if n < 8 {
			low, more = 0, 0
		}
		if n == 0 {
			break
		}
		mantissa := (whole*tens[n&15]+high)*tens[more&15] + low
		places := n + more
		if more == 8 { // all the digits of a double
			if low, more = eight(load(base, at+18)); more == 8 || mantissa > fits[more&15] {
				break
			}
			mantissa, places = mantissa*tens[more&15]+low, places+more
		}
		at += 2 + places
		if *(*byte)(unsafe.Add(base, at)) != ',' {
			break
		}
		var f float64
		if mantissa < 1<<53 && places <= 22 {
			f = float64(int64(mantissa)) / pow10[places]
		} else {
			var ok bool
			if f, ok = nearest(mantissa, -places); !ok {
				break
			}
		}
		into[count] = T(math.Float64frombits(math.Float64bits(f) | sign<<63))
		count++
		i = at + 1
		if *(*byte)(unsafe.Add(base, i)) == ' ' {
			i++
		}
	}
	return count, i
}

// eight makes a number of the first n digits of a word, and tells how many these are: three multiplications, whatever
// their number (Lemire, "Number parsing at a gigabyte per second", 2021).
func eight(w uint64) (value uint64, n int) {
	const highs, sixes, threes = 0xF0F0F0F0F0F0F0F0, 0x0606060606060606, 0x3333333333333333
	// A byte is a digit when its upper half is 3 and stays so when 6 is added. The lowest other byte ends the run.
	other := (w&highs | (w+sixes)&highs>>4) ^ threes
	n = bits.TrailingZeros64(other) >> 3
	w = w & 0x0F0F0F0F0F0F0F0F << uint(64-8*n) // zeros before the digits that count
	w = w*10 + w>>8
	return (w&0x000000FF000000FF*0x000F424000000064 + w>>16&0x000000FF000000FF*0x0000271000000001) >> 32, n
}

// fits is the largest mantissa that some digits more can be appended to within 64 bits, by their number.
var fits = func() (table [16]uint64) {
	for n := range 9 {
		table[n] = math.MaxUint64/tens[n] - 1
	}
	return table
}()

// number reads the number at i, as tape.number does. What has more digits than 64 bits, and far exponents, are read by
// that itself.
func (p *pass) number(i int) (end int, n node) {
	start := i
	negative := 0
	if p.byte(i) == '-' {
		negative = 1
	}
	i += negative
	w := p.word(i)
	mantissa, count := eight(w)
	if count == 0 || count > 1 && byte(w) == '0' {
		return left, n
	}
	i += count
	over := false
	for more := count; more == 8; i += more {
		var next uint64
		next, more = eight(p.word(i))
		over = over || mantissa > fits[more&15]
		mantissa = mantissa*tens[more&15] + next
		count += more
	}
	n.start = uint32(start)
	c := p.byte(i)
	if c != '.' && c|0x20 != 'e' {
		n.kind, n.end, n.bits = kindInt, uint32(i), mantissa
		if negative > 0 {
			n.bits = -mantissa
		}
		if over || mantissa >= 1<<63 || negative > 0 && mantissa == 0 {
			return p.oddNumber(start)
		}
		return i, n
	}
	exponent := 0
	if c == '.' {
		i++
		from := i
		for more := 8; more == 8; i += more {
			var next uint64
			next, more = eight(p.word(i))
			over = over || mantissa > fits[more&15]
			mantissa = mantissa*tens[more&15] + next
		}
		if i == from {
			return left, n
		}
		exponent = from - i
		c = p.byte(i)
	}
	if c|0x20 == 'e' {
		i++
		c = p.byte(i)
		if c == '+' || c == '-' {
			i++
		}
		e, digits := eight(p.word(i))
		if digits == 0 || digits > 4 {
			return p.oddNumber(start)
		}
		i += digits
		if c == '-' {
			exponent -= int(e)
		} else {
			exponent += int(e)
		}
	}
	if over {
		return p.oddNumber(start)
	}
	var f float64
	switch {
	case mantissa < 1<<53 && uint(-exponent) <= 22:
		// Both are exact doubles, so one operation rounds correctly (Clinger, 1990).
		f = float64(int64(mantissa)) / pow10[-exponent]
	case mantissa < 1<<53 && uint(exponent) <= 22:
		f = float64(int64(mantissa)) * pow10[exponent]
	default:
		var ok bool
		if f, ok = nearest(mantissa, exponent); !ok {
			return p.oddNumber(start)
		}
	}
	n.kind, n.end = kindNumber, uint32(i)
	n.bits = math.Float64bits(f) | uint64(negative)<<63
	return i, n
}

// oddNumber reads a number with the tape.
func (p *pass) oddNumber(i int) (int, node) {
	p.aside.nodes = p.aside.nodes[:0]
	end, code := p.aside.number(i)
	if code != "" {
		return left, node{}
	}
	return end, p.aside.nodes[0]
}

// farthest is the largest power of ten that nearest knows.
const farthest = 64

// powers are 10^-farthest to 10^farthest as 128-bit mantissas, rounded down: low and high half.
var powers = func() (table [2*farthest + 1][2]uint64) {
	ten, one := big.NewInt(10), big.NewInt(1)
	half := new(big.Int).SetUint64(math.MaxUint64)
	for e := -farthest; e <= farthest; e++ {
		m := new(big.Int).Exp(ten, big.NewInt(int64(max(e, -e))), nil)
		if e < 0 {
			m.Div(new(big.Int).Lsh(one, uint(127+m.BitLen())), m)
		}
		if shift := m.BitLen() - 128; shift > 0 {
			m.Rsh(m, uint(shift))
		} else {
			m.Lsh(m, uint(-shift))
		}
		table[e+farthest] = [2]uint64{new(big.Int).And(m, half).Uint64(), new(big.Int).Rsh(m, 64).Uint64()}
	}
	return table
}()

// nearest returns the double nearest to mantissa × 10^exponent. False: it cannot be told this way, which is rare
// (Lemire, "Number parsing at a gigabyte per second", 2021; the algorithm is Eisel's).
func nearest(mantissa uint64, exponent int) (float64, bool) {
	if mantissa == 0 || exponent < -farthest || exponent > farthest {
		return 0, false
	}
	power := &powers[exponent+farthest]
	zeros := bits.LeadingZeros64(mantissa)
	mantissa <<= zeros
	const bias = 1023
	exp2 := uint64(217706*exponent>>16+64+bias) - uint64(zeros)

	hi, lo := bits.Mul64(mantissa, power[1])
	if hi&0x1FF == 0x1FF && lo+mantissa < mantissa { // the lower half of the power could change the result
		hi2, lo2 := bits.Mul64(mantissa, power[0])
		sum, carry := bits.Add64(lo, hi2, 0)
		hi += carry
		lo = sum
		if hi&0x1FF == 0x1FF && lo+1 == 0 && lo2+mantissa < mantissa {
			return 0, false
		}
	}
	top := hi >> 63
	m := hi >> (top + 9)
	exp2 -= 1 ^ top
	if lo == 0 && hi&0x1FF == 0 && m&3 == 1 { // half way between two doubles
		return 0, false
	}
	m = (m + m&1) >> 1
	if m>>53 > 0 {
		m >>= 1
		exp2++
	}
	if exp2-1 >= 0x7FF-1 {
		return 0, false
	}
	return math.Float64frombits(exp2<<52 | m&(1<<52-1)), true
}
