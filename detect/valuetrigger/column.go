package valuetrigger

import (
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/rising"
)

const (
	window = 16   // reference rows on either side of a value that tell what is expected of it
	least  = 0.01 // fewest reference rows that are ever expected

	// A value of which so many rows are expected can be one of a pair. It must not be by how many have it, as long as those are
	// few: a reference's own rows have values that it has, and other values of theirs would be paired than of the stream's rows.
	pairable = 0.3
	frequent = 0.01

	// Values that nothing near them leads to expect, such as an unknown's code or a route, have rates of mean 1 row and this shape.
	oddShape = 0.5

	judgedRows = 1 << 13 // values, of all features together, from which shapes are learned
)

// prior is what is believed of the rates of a feature's values, in rows of the reference, before their own rows are counted: a mixture
// of two gamma distributions, one about what the values near them lead to expect, and one of odd values.
type prior struct {
	shape float64 // κ of the first
	odd   float64 // of a record's values, the share that is of the second
}

// vague is what is believed where nothing is known.
var vague = prior{shape: 1, odd: 0.1}

// odds returns the odds that a record's value is odd, where r rows of the reference have it and e were expected. That a record has it
// makes the shapes of rates larger by 1.
func (p prior) odds(r, e float64) float64 {
	return oddsOf(p.odd, math.Exp(logCount(r, oddShape+1, oddShape)-logCount(r, p.shape+1, p.shape/e)))
}

// oddsOf returns the odds by the share that is odd, and how many times as likely a count is then.
func oddsOf(share, times float64) float64 { return share / (1 - share) * times }

// logCount is ln of the chance of n rows, up to what depends on n alone, where their rate has a gamma distribution.
func logCount(n, shape, rate float64) float64 {
	a, _ := math.Lgamma(n + shape)
	b, _ := math.Lgamma(shape)
	return a - b + shape*math.Log(rate/(rate+1)) - n*math.Log(rate+1)
}

// column is what a reference says of one feature's values. A place is 2i+1 for the value values[i] itself, and 2i for one that lies
// before it and after the one before.
type column struct {
	values   []float64 // that the reference has, rising
	rows     []int32   // that have each
	expected []float64 // by place: how many rows would have such a value by what those near it do
	usual    []float64 // by place: the same, or how many have the value where that is one in a hundred or more
	prior    prior
	places   rising.Places // of values
}

// newColumn learns from a reference's values. It sorts them.
func newColumn(values []float64) column {
	c := column{prior: vague}
	slices.Sort(values)
	for _, v := range values {
		if v == 0 {
			v = 0 // −0 is 0
		}
		if last := len(c.values) - 1; last < 0 || c.values[last] != v {
			c.values, c.rows = append(c.values, v), append(c.rows, 0)
		}
		c.rows[len(c.rows)-1]++
	}
	c.places = rising.Of(c.values)
	n := len(c.values)
	step := math.Inf(1) // of the lattice, if values lie on one
	for i := 1; i < n; i++ {
		step = min(step, c.values[i]-c.values[i-1])
	}
	c.expected = make([]float64, 2*n+1)
	for place := range c.expected {
		// Values from lo to before hi lie beside the place.
		lo, hi := place/2, place/2
		left, right := 0, 0
		for lo > 0 && left < window {
			lo--
			left += int(c.rows[lo])
		}
		first := hi + place%2
		for hi = first; hi < n && right < window; hi++ {
			right += int(c.rows[hi])
		}
		distinct := float64(place/2 - lo + hi - first)
		if distinct == 0 {
			c.expected[place] = least
			continue
		}
		possible := math.Round((c.values[hi-1]-c.values[lo])/step) + 1
		if place%2 == 1 && lo < place/2 && hi > first {
			possible-- // the value itself
		}
		c.expected[place] = max(least, float64(left+right)/max(distinct, possible))
	}
	c.usual = slices.Clone(c.expected)
	for i, r := range c.rows {
		if float64(r) >= frequent*float64(len(values)) {
			c.usual[2*i+1] = float64(r)
		}
	}
	return c
}

// find returns the place of a value.
func (c *column) find(v float64) int32 {
	at := c.places.Search(c.values, v)
	if at < len(c.values) && c.values[at] == v {
		return int32(2*at + 1)
	}
	return int32(2 * at)
}

// count returns how many rows of the reference have the value at a place.
func (c *column) count(place int32) int32 {
	if place >= 0 && place%2 == 1 {
		return c.rows[place/2]
	}
	return 0
}

// expect returns how many rows of the reference have the value at a place, and how many would by those near it.
func (c *column) expect(place int32) (r int32, e float64) {
	return c.count(place), c.expected[place]
}

// learnShapes finds κ for each feature and for pairs: that by which the model predicts best how many others of another sample have the
// values of each of its rows.
func (m *model) learnShapes(other *detect.Sample, env detect.Env) {
	t := m.tokens(other, env)
	rows := min(other.N, max(50, judgedRows/t.width))
	count := make(map[uint32]float64)
	for row := range other.N {
		for _, key := range t.singlesOf(row) {
			count[key]++
		}
		for _, key := range t.pairsOf(row) {
			count[key]++
		}
	}
	ratio := float64(other.N) / float64(m.rows)
	detect.Each(t.width, env.Workers, func(j int) {
		var cases []outcome
		for row := range rows {
			if key := t.singlesOf(row)[j]; key != 0 {
				r, e := m.columns[j].expect(t.place[row*t.width+j])
				cases = append(cases, outcome{count[key] - 1, float64(r), e})
			}
		}
		m.columns[j].prior = priorOf(cases, ratio)
	})
	var cases []outcome
	for row := range rows {
		t.eachPair(row, func(x, y int, key uint32) {
			if len(cases) < judgedRows {
				cases = append(cases, outcome{count[key] - 1, float64(m.pairs[key]), m.together(x, y, t.place[row*t.width:])})
			}
		})
	}
	m.prior = priorOf(cases, ratio)
}

// outcome is how many others had a value, of which the reference has r rows and leads to expect e.
type outcome struct{ others, r, e float64 }

// priorOf returns the prior under which outcomes are the likeliest.
func priorOf(cases []outcome, ratio float64) prior {
	best, at := math.Inf(-1), vague
	if len(cases) == 0 {
		return at
	}
	// The rate after r rows were counted, in rows of the other sample: what it is under an odd shape, and under each one tried.
	odd, oddly := make([]float64, len(cases)), make([]float64, len(cases))
	for i, c := range cases {
		odd[i] = math.Exp(logCount(c.others, oddShape+c.r+1, (oddShape+1)/ratio))
		oddly[i] = logCount(c.r, oddShape+1, oddShape)
	}
	smooth, odder := make([]float64, len(cases)), make([]float64, len(cases))
	for shape := 1.0 / 64; shape <= 64; shape *= 4 {
		for i, c := range cases {
			smooth[i] = math.Exp(logCount(c.others, shape+c.r+1, (shape/c.e+1)/ratio))
			odder[i] = math.Exp(oddly[i] - logCount(c.r, shape+1, shape/c.e))
		}
		for share := 1.0 / 2; share >= 1.0/1024; share /= 8 {
			sum := 0.0
			for i := range cases {
				w := oddsOf(share, odder[i])
				sum += math.Log(max((smooth[i]+w*odd[i])/(1+w), math.SmallestNonzeroFloat64))
			}
			if sum > best {
				best, at = sum, prior{shape, share}
			}
		}
	}
	return at
}
