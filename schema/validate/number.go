package validate

import (
	"math/big"
	"math/bits"
	"strconv"
)

// decimal is a JSON number as it stands: ± 0.d₁d₂…dₙ × 10^exp, where d₁ and dₙ are not zero. Zero has no digits.
type decimal struct {
	negative bool
	text     []byte // from d₁ to dₙ, a decimal point possibly among them
	digits   int    // n
	exp      int
}

// exponentLimit is beyond every exponent that matters. A record cannot hold so many digits that it makes up for it.
const exponentLimit = 1 << 40

// parseDecimal takes a valid JSON number apart, in time linear in its text.
func parseDecimal(text []byte) decimal {
	var d decimal
	i := 0
	if text[0] == '-' {
		d.negative = true
		i++
	}
	point, seen := -1, 0 // digits before the point, digits so far
	first, last := -1, -1
	var firstAt, lastAt int
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' {
			point = seen
			continue
		}
		if c|0x20 == 'e' {
			break
		}
		if c != '0' {
			if first < 0 {
				first, firstAt = seen, i
			}
			last, lastAt = seen, i
		}
		seen++
	}
	if first < 0 {
		return d
	}
	if point < 0 {
		point = seen
	}
	exp := 0
	if i < len(text) {
		i++
		minus := text[i] == '-'
		if minus || text[i] == '+' {
			i++
		}
		for ; i < len(text); i++ {
			if exp < exponentLimit {
				exp = exp*10 + int(text[i]-'0')
			}
		}
		if minus {
			exp = -exp
		}
	}
	d.text = text[firstAt : lastAt+1]
	d.digits = last - first + 1
	d.exp = point - first + exp
	return d
}

// integral tells whether the number has no fraction: 1.0 and 1e2 have none.
func (d *decimal) integral() bool { return d.digits == 0 || d.exp >= d.digits }

// narrow returns the number as mantissa × 10^exp when the digits fit.
func (d *decimal) narrow() (mantissa uint64, exp int, ok bool) {
	if d.digits > 19 {
		return 0, 0, false
	}
	for _, c := range d.text {
		if c != '.' {
			mantissa = mantissa*10 + uint64(c-'0')
		}
	}
	return mantissa, d.exp - d.digits, true
}

// int64 returns the number as an integer, if it is one and fits.
func (d *decimal) int64() (int64, bool) {
	m, exp, ok := d.narrow()
	if !ok || !d.integral() || d.exp > 19 {
		return 0, false
	}
	for range exp {
		hi, lo := bits.Mul64(m, 10)
		if hi != 0 {
			return 0, false
		}
		m = lo
	}
	if d.negative {
		return int64(-m), m <= 1<<63
	}
	return int64(m), m < 1<<63
}

// keptDigits is more than the 767 that can be needed to tell which double is nearest. Arithmetic of any precision on
// hostile numbers, a million digits long, would be quadratic.
const keptDigits = 1100

// String writes the number in a form on which exact arithmetic is cheap. Digits behind the first 1,100, if there are
// any, become a single 1, which keeps order and whether there is a fraction (no double has so many whole digits).
func (d *decimal) String() string {
	if d.digits == 0 {
		return "0"
	}
	out := make([]byte, 0, min(d.digits, keptDigits)+24)
	if d.negative {
		out = append(out, '-')
	}
	kept := 0
	for _, c := range d.text {
		if c == '.' {
			continue
		}
		if kept == keptDigits {
			out, kept = append(out, '1'), kept+1
			break
		}
		out, kept = append(out, c), kept+1
	}
	out = append(out, 'e')
	return string(strconv.AppendInt(out, int64(d.exp-kept), 10))
}

// rat is the number as a fraction.
func (d *decimal) rat() *big.Rat {
	r, _ := new(big.Rat).SetString(d.String())
	return r
}

// zero tells whether a valid JSON number is zero.
func zero(text []byte) bool {
	d := parseDecimal(text)
	return d.digits == 0
}

// constant is a number that stands in the schema, ready to be compared with one that stands in a record.
type constant struct {
	exact  *big.Rat
	float  float64 // nearest to it
	int    int64
	isInt  bool // it is int64
	narrow bool // it is ± mantissa × 10^exp
	neg    bool
	mant   uint64
	exp    int
}

func newConstant(r *big.Rat) constant {
	c := constant{exact: r, neg: r.Sign() < 0}
	c.float, _ = r.Float64()
	if r.IsInt() && r.Num().IsInt64() {
		c.int, c.isInt = r.Num().Int64(), true
	}
	// A decimal's denominator has no factor but 2 and 5, so scaling by 10 makes it whole, if it is a short one.
	scaled, ten := new(big.Rat).Abs(r), big.NewRat(10, 1)
	for c.exp = 0; !scaled.IsInt() && c.exp > -30; c.exp-- {
		scaled.Mul(scaled, ten)
	}
	if scaled.IsInt() && scaled.Num().IsUint64() {
		c.mant, c.narrow = scaled.Num().Uint64(), true
		for c.mant != 0 && c.mant%10 == 0 {
			c.mant, c.exp = c.mant/10, c.exp+1
		}
	}
	return c
}

// compare returns the sign of n - c. Rounding to double never changes the order of two numbers, so that only those
// that round to the same one are looked at closely.
func (c *constant) compare(t *tape, n *node) int {
	if n.kind == kindInt && c.isInt {
		switch v := int64(n.bits); {
		case v < c.int:
			return -1
		case v > c.int:
			return 1
		}
		return 0
	}
	f := n.float()
	if f < c.float {
		return -1
	}
	if f > c.float {
		return 1
	}
	d := parseDecimal(t.raw(n))
	if m, exp, ok := d.narrow(); ok && c.narrow && m == c.mant && (m == 0 || exp == c.exp && d.negative == c.neg) {
		return 0
	}
	return d.rat().Cmp(c.exact)
}

// divides tells whether n is a multiple of c, exactly.
func (c *constant) divides(t *tape, n *node) bool {
	d := parseDecimal(t.raw(n))
	m, exp, ok := d.narrow()
	if ok && m == 0 {
		return true
	}
	if ok && c.narrow {
		a, b := m, c.mant
		for ; exp > c.exp; exp-- { // (a × 10) mod b, with a < b
			hi, lo := bits.Mul64(a%b, 10)
			_, a = bits.Div64(hi, lo, b)
		}
		fits := true
		for ; exp < c.exp && fits; exp++ {
			var hi uint64
			hi, b = bits.Mul64(b, 10)
			fits = hi == 0
		}
		return fits && a%b == 0 // a divisor beyond 64 bits is larger than a, which is not zero
	}
	return new(big.Rat).Quo(d.rat(), c.exact).IsInt()
}
