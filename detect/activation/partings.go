package activation

import (
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/whitening"
)

const (
	learned    = whitening.Learned // rows of a class that are parted
	dimensions = 10                // as Chen et al. have it
	far        = 2.5               // deviations beyond which rows begin as the small part
	rounds     = 12                // of 2-means
	largest    = 0.35              // share of a class that the small part may have
	fewest     = 5                 // rows of the small part
	searched   = 1                 // nats of surprise that count as none
	faint      = 0.01              // what a row's place counts in a parting without surprise, so that scores do not tie
)

// place is a row in the principal directions.
type place = [dimensions]float32

// parting is a class in two parts: a row belongs to the small one if it is nearer to its centre by more than bias says.
type parting struct {
	large, small place
	along        [dimensions]float64 // a place times this, plus offset, is by how much nearer the small centre is, in squared distance
	offset       float64
	between      float64 // squared distance of the centres
	bias         float64 // of squared distances
	share        float64 // of the small part
	silhouette   float64
	trusted      int // reference rows in the small part
	others       int // rows of other classes in it
	weight       float64
}

// score scores the rows of the class.
func (c *class) score(s *detect.Sample, env detect.Env, workers int, value []float64, why []reason) {
	if portion := c.Portion(s); len(portion) > 0 && !c.self {
		c.first(portion)
		c.shared = true
	}
	if len(c.Rows) >= whitening.MinRows && c.part(s, env, workers, value, why) {
		return
	}
	for first := 0; first < len(c.Rows); first += learned {
		rows := c.Rows[first:min(first+learned, len(c.Rows))]
		for i, apart := range whitening.Apart(whitening.Vectors(c.model.Vectors, s, rows)) {
			value[rows[i]] = faint * apart
		}
	}
}

// first has a portion of the rows, in their order, come first.
func (c *class) first(portion []int) {
	rows, next := append(make([]int, 0, len(c.Rows)), portion...), portion
	for _, row := range c.Rows {
		if len(next) > 0 && row == next[0] {
			next = next[1:]
			continue
		}
		rows = append(rows, row)
	}
	c.Rows, c.Hash = rows, nil
}

// principal returns the principal directions of the class, in the space of vectors as they are, and how many of its rows, the first, they were learned from.
func (c *class) principal(s *detect.Sample, env detect.Env) (u linalg.Matrix, first int, err error) {
	engine, m := c.model.engine, c.model
	first = min(len(c.Rows), learned)
	var x, across linalg.Operand
	switch {
	case c.shared:
		u, err = m.Principal(engine, s, c.Class, c.Rows[:first], env, nil, nil)
	case c.self:
		rows := whitening.Vectors(m.Vectors, s, c.Rows[:first])
		whitening.Centre(rows)
		if x, across, err = whitening.Operands(engine, rows); err == nil {
			u, err = whitening.Principal(x, across, first, rows.Cols, dimensions, c.rng)
		}
		return u, first, err
	default:
		if x, across, err = m.Round(engine, whitening.Vectors(m.Vectors, s, c.Rows[:first])); err == nil {
			u, err = whitening.Principal(x, across, first, m.Vectors.Dim(), dimensions, c.rng)
		}
	}
	if err == nil {
		u, err = m.Space.Back(u)
	}
	return u, first, err
}

// part parts the class, if it can be, and scores its rows by that. It reports whether they have scores.
func (c *class) part(s *detect.Sample, env detect.Env, workers int, value []float64, why []reason) bool {
	u, first, err := c.principal(s, env)
	if err != nil || u.Rows == 0 {
		return false
	}
	// What is parted is projected first: where there is no parting, nobody asks where the others are.
	places, looked := make([]place, len(c.Rows)), first
	if others := c.model.Places(s, env); c.shared && others.Known(c.Class, len(c.Rows)) {
		for i, row := range c.Rows {
			copy(places[i][:], others.Of(row))
		}
		looked = len(c.Rows)
	} else {
		c.project(u, s, places, 0, first, workers)
	}
	origin := mean(places[:first], nil)
	centre := func(places []place) {
		for i := range places {
			for d := range places[i] {
				places[i][d] -= origin[d]
			}
		}
	}
	centre(places[:first])
	for d := range u.Rows {
		for _, sign := range []float32{1, -1} {
			if p, ok := part(places[:first], d, sign); ok {
				c.partings = append(c.partings, p)
			}
		}
	}
	long := s.N > detect.Enough
	if len(c.partings) == 0 && !long {
		return false
	}
	c.project(u, s, places, looked, len(c.Rows), workers)
	centre(places[first:])
	if len(c.partings) == 0 {
		c.apart(places, first, value)
		return true
	}
	trusted, others := c.trustedPlaces(u), c.places(u, c.others)
	for k := range c.partings {
		c.partings[k].judge(places, trusted, others)
	}
	for i, row := range c.Rows {
		best := math.Inf(-1)
		for k := range c.partings {
			p := &c.partings[k]
			at := p.at(&places[i])
			if score := faint*at + p.weight*max(0, at); score > best {
				best = score
				why[row] = reason{c, k, at}
			}
		}
		value[row] = max(-math.MaxFloat32, min(best, math.MaxFloat32))
	}
	return true
}

// apart scores rows of a class that is not parted by how far they stand from its centre, as the first of them show what is usual.
func (c *class) apart(places []place, first int, value []float64) {
	far := make([]float32, len(places))
	for i := range places {
		far[i] = float32(math.Sqrt(distance(places[i], place{})))
	}
	usual := max(float64(linalg.Median(far[:first])), 1e-30)
	for i, row := range c.Rows {
		value[row] = faint * min(float64(far[i])/usual, 100)
	}
}

// project sets places of rows first to end of the class.
func (c *class) project(u linalg.Matrix, s *detect.Sample, places []place, first, end, workers int) {
	detect.Chunks(end-first, whitening.Chunk, workers, func() func(from, to int) {
		scratch := make([]float32, min(end-first, whitening.Chunk)*u.Cols)
		return func(from, to int) {
			rows := c.Rows[first+from : first+to]
			copy(places[first+from:], c.places(u, whitening.Gather(scratch, c.model.Vectors, s, rows)))
		}
	})
}

// places returns where rows stand.
func (c *class) places(u, rows linalg.Matrix) []place {
	out := make([]place, rows.Rows)
	t := linalg.Matrix{Rows: rows.Rows, Cols: u.Rows, Data: make([]float32, rows.Rows*u.Rows)}
	if rows.Rows == 0 || c.model.engine.Product(t, rows, u) != nil {
		return out
	}
	for i := range out {
		copy(out[i][:], t.Row(i))
	}
	return out
}

// trustedPlaces returns where trusted rows stand about their centre. They are hardly ever asked for and many: a copy about the centre would be
// as large as the reference.
func (c *class) trustedPlaces(u linalg.Matrix) []place {
	t := c.trusted
	out := make([]place, 0, t.Rows)
	scratch := make([]float32, min(t.Rows, whitening.Chunk)*t.Cols)
	for first := 0; first < t.Rows; first += whitening.Chunk {
		n := min(whitening.Chunk, t.Rows-first)
		rows := linalg.Matrix{Rows: n, Cols: t.Cols, Data: scratch[:n*t.Cols]}
		copy(rows.Data, t.Data[first*t.Cols:])
		whitening.Less(rows, t.middle)
		out = append(out, c.places(u, rows)...)
	}
	return out
}

// mean returns the centre of the places that are in, or of all.
func mean(places []place, in func(i int) bool) place {
	var sum [dimensions]float64
	n := 0.0
	for i, p := range places {
		if in == nil || in(i) {
			n++
			for d, v := range p {
				sum[d] += float64(v)
			}
		}
	}
	var out place
	for d := range out {
		out[d] = float32(sum[d] / max(n, 1))
	}
	return out
}

func distance(a, b place) (square float64) {
	for d := range a {
		v := float64(a[d] - b[d])
		square += v * v
	}
	return square
}

// part parts places in two, beginning with those far out on one side of dimension d as the small part.
func part(places []place, d int, sign float32) (p parting, ok bool) {
	on := make([]float32, len(places))
	for i := range places {
		on[i] = sign * places[i][d]
	}
	median, deviation := whitening.Spread(slices.Clone(on))
	bar := median + far*1.4826*deviation
	in := make([]bool, len(places))
	size := 0
	for i, v := range on {
		if in[i] = v > bar; in[i] {
			size++
		}
	}
	for range rounds {
		if size < fewest || size > len(places)-fewest {
			return p, false
		}
		p.small = mean(places, func(i int) bool { return in[i] })
		p.large = mean(places, func(i int) bool { return !in[i] })
		within := 0.0
		for i, at := range places {
			if in[i] {
				within += distance(at, p.small)
			} else {
				within += distance(at, p.large)
			}
		}
		variance := within / float64(len(places)) / dimensions
		p.share = float64(size) / float64(len(places))
		p.bias = 2 * variance * math.Log((1-p.share)/p.share)
		p.aim()
		moved := false
		size = 0
		for i := range places {
			now := p.holds(&places[i])
			moved = moved || now != in[i]
			if in[i] = now; now {
				size++
			}
		}
		if !moved {
			break
		}
	}
	if size < fewest || float64(size) > largest*float64(len(places)) || !(p.between > 0) {
		return p, false
	}
	sum := 0.0
	for i, at := range places {
		if in[i] {
			a, b := math.Sqrt(distance(at, p.small)), math.Sqrt(distance(at, p.large))
			sum += (b - a) / max(a, b, 1e-30)
		}
	}
	p.silhouette = max(0, sum/float64(size))
	return p, true
}

// aim turns the centres into what nearer is called by: ‖x − large‖² − ‖x − small‖² is linear in x.
func (p *parting) aim() {
	p.between = distance(p.small, p.large)
	p.offset = 0
	for d := range p.along {
		a, b := float64(p.small[d]), float64(p.large[d])
		p.along[d] = 2 * (a - b)
		p.offset += (b - a) * (b + a)
	}
}

// nearer returns by how much nearer a place is to the small part's centre, in squared distance.
func (p *parting) nearer(at *place) float64 {
	a, b := p.offset, 0.0
	for d := 0; d < dimensions; d += 2 {
		a += p.along[d] * float64(at[d])
		b += p.along[d+1] * float64(at[d+1])
	}
	return a + b
}

// holds says whether a place belongs to the small part.
func (p *parting) holds(at *place) bool { return p.nearer(at) > p.bias }

// at returns how far a place is along the way from the large part's centre to the small one's.
func (p *parting) at(at *place) float64 { return (1 + p.nearer(at)/p.between) / 2 }

// judge weighs the parting by how many rows of the class, of the reference and of other classes belong to the small part.
func (p *parting) judge(places, trusted, others []place) {
	count := func(places []place) (n int) {
		for i := range places {
			if p.holds(&places[i]) {
				n++
			}
		}
		return n
	}
	in, n := count(places), float64(len(places))
	p.share = float64(in) / n
	p.trusted, p.others = count(trusted), count(others)
	unlikeTrusted := whitening.Surprise(in, p.trusted, n, float64(len(trusted)))
	unlikeOthers := whitening.Surprise(in, p.others, n, float64(len(others)))
	both := math.Sqrt(unlikeTrusted * unlikeOthers)
	switch {
	case len(trusted) == 0 && len(others) == 0:
		both = float64(in) // nothing to compare with: the silhouette decides
	case len(trusted) == 0:
		both = unlikeOthers
	case len(others) == 0:
		both = unlikeTrusted
	}
	p.weight = p.silhouette * math.Sqrt(max(0, both-searched))
}
