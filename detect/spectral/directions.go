package spectral

import (
	"cmp"
	"math"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/whitening"
)

const (
	learned   = whitening.Learned // rows of a half in which directions are looked for
	principal = 8                 // directions of the largest variance to begin with, both ways
	starts    = 24                // rows to begin with
	apart     = 0.5               // cosine of rows below which both may be
	steps     = 6                 // steps of every direction towards what lies far out on it
	from      = 2                 // deviations from where on a row draws a direction to itself
	upTo      = 4                 // and by how much it does so at most, in deviations
	alike     = 0.9               // cosine of two directions that are one
	searched  = 1                 // nats of surprise that count as none
	faint     = 0.01              // what a deviation counts on a direction without surprise, so that scores do not tie
	measured  = 1024              // values from which a median and a scale are taken
	long      = 8192              // rows of a sample, beyond which rows to begin with are told apart by whole numbers, twice as fast
)

// bars are the deviations beyond which rows are counted.
var bars = [...]float64{1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8}

// score looks for directions in the rows to learn from and scores the others.
func (h *half) score(s *detect.Sample, env detect.Env, workers int, value []float64, why []reason) {
	if len(h.learn) < whitening.MinRows/4 || len(h.judge) < whitening.MinRows/4 {
		return
	}
	learn := h.learn[:min(learned, len(h.learn))]
	room := vectors.Take(len(learn) * h.model.Vectors.Dim())
	u, err := h.find(whitening.Gather(*room, h.model.Vectors, s, learn), s, env)
	vectors.Give(room)
	if err != nil || u.Rows == 0 {
		return
	}
	n := len(h.judge)
	kept := vectors.Take(n * u.Rows)
	defer vectors.Give(kept)
	t := *kept // direction by direction
	all, places := h.withPlaces(u, s, env)
	detect.Chunks(n, whitening.Chunk, workers, func() func(first, end int) {
		scratch := make([]float32, min(n, whitening.Chunk)*u.Cols)
		return func(first, end int) {
			rows := h.judge[first:end]
			out := h.project(all, whitening.Gather(scratch, h.model.Vectors, s, rows))
			for k := range u.Rows {
				copy(t[k*n+first:], out.Row(k))
			}
			for d := range all.Rows - u.Rows {
				for i, v := range out.Row(u.Rows + d) {
					places.Of(rows[i])[d] = v
				}
			}
		}
	})
	if places != nil {
		places.Done(h.class, n)
	}
	trusted, others := h.project(u, h.trusted), h.project(u, h.others)
	h.directions = make([]direction, u.Rows)
	best := make([]float64, n)
	for k := range h.directions {
		row := t[k*n : (k+1)*n]
		d := judge(row, trusted.Row(k), others.Row(k))
		h.directions[k] = d
		weight := math.Sqrt(d.surprise)
		for i, v := range row {
			z := (float64(v) - d.median) / d.scale
			if score := faint*max(0, z) + weight*max(0, z-1); score > best[i] || k == 0 {
				best[i] = score
				why[h.judge[i]] = reason{h, k, z}
			}
		}
	}
	for i, row := range h.judge {
		value[row] = min(best[i], math.MaxFloat32)
	}
}

// withPlaces returns the directions, and behind them the class's principal ones if somebody wants to know where rows stand in these: to read rows once more would cost more.
func (h *half) withPlaces(u linalg.Matrix, s *detect.Sample, env detect.Env) (linalg.Matrix, *whitening.Places) {
	if len(h.portion) == 0 {
		return u, nil
	}
	places := h.model.Places(s, env)
	if places == nil {
		return u, nil
	}
	v, err := h.model.Principal(h.model.engine, s, h.class, h.portion, env, nil, nil)
	if err == nil {
		v, err = h.model.Space.Back(v)
	}
	if err != nil {
		return u, nil
	}
	u.Data = append(u.Data[:len(u.Data):len(u.Data)], v.Data...)
	u.Rows += v.Rows
	return u, places
}

// project returns the products of directions with rows, direction by direction.
func (h *half) project(u, rows linalg.Matrix) linalg.Matrix {
	out := linalg.Matrix{Rows: u.Rows, Cols: rows.Rows, Data: make([]float32, u.Rows*rows.Rows)}
	if rows.Rows > 0 && h.model.engine.Product(out, u, rows) != nil {
		clear(out.Data) // which cannot be: the shapes fit, and a lost device is replaced
	}
	return out
}

// find returns directions along which rows far out have company, in the space of the vectors.
func (h *half) find(rows linalg.Matrix, s *detect.Sample, env detect.Env) (linalg.Matrix, error) {
	engine := h.model.engine
	all := linalg.Matrix{Cols: rows.Cols}
	room := vectors.Take(len(rows.Data))
	defer vectors.Give(room)
	for i, space := range h.spaces {
		x, err := space.Round(*room, rows)
		if err != nil {
			return all, err
		}
		whitening.Centre(x)
		one := looking{engine: engine, whole: s.N > long, large: s.N > detect.Enough}
		one.principal = func(kept, across linalg.Operand) (linalg.Matrix, error) {
			if i > 0 || !h.learnsPortion {
				return whitening.Principal(kept, across, x.Rows, x.Cols, principal, h.rng)
			}
			v, err := h.model.Principal(engine, s, h.class, h.portion, env, kept, across)
			v.Rows = min(v.Rows, principal)
			return v, err
		}
		u, err := one.search(x)
		if err != nil {
			return all, err
		}
		back, err := space.Back(u)
		if err != nil {
			return all, err
		}
		all.Data = append(all.Data, back.Data...)
		all.Rows += back.Rows
	}
	return all, nil
}

// looking is how directions are looked for.
type looking struct {
	engine       linalg.Engine
	whole, large bool // rows to begin with are told by whole numbers, and by some of the rows
	principal    func(kept, across linalg.Operand) (linalg.Matrix, error)
}

// search returns directions of unit length for centred rows.
func (l looking) search(x linalg.Matrix) (linalg.Matrix, error) {
	engine := l.engine
	// Every step multiplies with the same rows, and with their transpose.
	kept, err := linalg.Keep(engine, x)
	if err != nil {
		return linalg.Matrix{}, err
	}
	across, err := linalg.KeepAcross(engine, x)
	if err != nil {
		return linalg.Matrix{}, err
	}
	u, err := companions(x, l.large, func(each func(int, linalg.Matrix)) error {
		if l.whole {
			return linalg.GramOfWhole(engine, x, each)
		}
		return linalg.Gram(x, kept, each)
	})
	if err != nil {
		return u, err
	}
	v, err := l.principal(kept, across)
	if err != nil {
		return u, err
	}
	for i := range v.Rows {
		u.Data = append(u.Data, v.Row(i)...)
		for _, value := range v.Row(i) {
			u.Data = append(u.Data, -value)
		}
	}
	u.Rows += 2 * v.Rows

	t := linalg.Matrix{Rows: u.Rows, Cols: x.Rows, Data: make([]float32, u.Rows*x.Rows)}
	var drawn puller
	for range steps {
		if err := kept.Product(t, u); err != nil {
			return u, err
		}
		for k := range t.Rows {
			drawn.pull(t.Row(k))
			drawn.sum.Sum(u.Row(k), drawn.far, drawn.weight, x)
			whitening.Normalise(u.Row(k))
		}
	}
	several := linalg.Matrix{Cols: u.Cols}
next:
	for k := range u.Rows {
		row := u.Row(k)
		if whitening.Dot(row, row) < 0.5 { // nothing lies far out
			continue
		}
		for i := range several.Rows {
			if whitening.Dot(row, several.Row(i)) > alike {
				continue next
			}
		}
		several.Data = append(several.Data, row...)
		several.Rows++
	}
	return several, nil
}

// puller is scratch for weights.
type puller struct {
	find   linalg.Finder
	sum    linalg.Rows
	far    []int32   // rows that draw
	weight []float32 // with these weights
}

// pull makes the weights with which rows draw the direction of their projections: most have none.
func (p *puller) pull(t []float32) {
	median, scale := spread(t)
	// What lies below, by more than is lost in rounding, draws nothing.
	bar := math.Nextafter32(float32(median+(from-1e-6)*scale), float32(math.Inf(-1)))
	p.far, p.weight = p.find.AtLeast(p.far[:0], t, bar), p.weight[:0]
	for _, i := range p.far {
		p.weight = append(p.weight, weight(t[i], median, scale))
	}
}

// weight is how much a row that is projected on v draws the direction.
func weight(v float32, median, scale float64) float32 {
	return float32(max(0, min((float64(v)-median)/scale-from, upTo)))
}

// spread returns the median of values and the standard deviation that their median absolute deviation stands for, from the
// first of them: rows are ordered by a hash.
func spread(values []float32) (median, scale float64) {
	if len(values) == 0 {
		return 0, 1
	}
	var some [measured]float32
	middle, deviation := whitening.Spread(some[:copy(some[:], values)])
	return float64(middle), max(1.4826*float64(deviation), 1e-9, 1e-6*math.Abs(float64(middle)))
}

// Room for the vectors of a half.
var vectors whitening.Scratch

// companions returns the directions of rows that have the most company far out on them; gram tells the products of rows with each other, in any units, as [linalg.Gram] does. With some, how far these
// scatter is told by the first rows only, about zero, since rows are centred.
func companions(x linalg.Matrix, some bool, gram func(each func(first int, rows linalg.Matrix)) error) (linalg.Matrix, error) {
	company := make([]float64, x.Rows)
	n := float64(x.Rows - 1)
	var far []int32
	var find linalg.Finder
	var sum, square []float64
	if err := gram(func(first int, rows linalg.Matrix) {
		for i := range rows.Rows {
			rows.Row(i)[first+i] = 0 // its own company
		}
		if !some {
			sum, square = slices.Grow(sum[:0], rows.Rows)[:rows.Rows], slices.Grow(square[:0], rows.Rows)[:rows.Rows]
			linalg.Moments(sum, square, rows)
		}
		for i := range rows.Rows {
			row := rows.Row(i)
			mean, deviation := 0.0, 0.0
			if first := row[:min(measured, len(row))]; some {
				deviation = math.Sqrt(float64(linalg.SquaredNorm(first)) / float64(len(first)))
			} else {
				mean = sum[i] / n
				deviation = math.Sqrt(max(0, square[i]/n-mean*mean))
			}
			if !(deviation > 0) {
				continue
			}
			bar := float32(mean + from*deviation)
			far = find.AtLeast(far[:0], row, bar)
			for _, k := range far {
				z := min(float64(row[k]-bar)/deviation, upTo)
				company[first+i] += z * z * z
			}
		}
	}); err != nil {
		return linalg.Matrix{}, err
	}
	order := make([]int, len(company))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(company[b], company[a]), a-b) })
	u := linalg.Matrix{Cols: x.Cols}
rows:
	for _, i := range order {
		if u.Rows == starts || company[i] == 0 {
			break
		}
		row := slices.Clone(x.Row(i))
		whitening.Normalise(row)
		for k := range u.Rows {
			if whitening.Dot(row, u.Row(k)) > apart {
				continue rows
			}
		}
		u.Data = append(u.Data, row...)
		u.Rows++
	}
	return u, nil
}

// judge compares how many rows lie far out on a direction with how many of the reference do, and of other classes.
func judge(row, trusted, others []float32) direction {
	d := direction{bar: bars[0]}
	d.median, d.scale = spread(row)
	trustedMedian, trustedScale := spread(trusted)
	othersMedian, othersScale := spread(others)
	n := float64(len(row))
	for _, bar := range bars {
		beyond := linalg.CountAbove(row, float32(d.median+bar*d.scale))
		asTrusted := linalg.CountAbove(trusted, float32(trustedMedian+bar*trustedScale))
		var asOthers int
		var unlikeOthers float64
		if len(others) > 0 {
			asOthers = linalg.CountAbove(others, float32(othersMedian+bar*othersScale))
			unlikeOthers = whitening.Surprise(beyond, asOthers, n, float64(len(others)))
		} else {
			low := float32(d.median - bar*d.scale)
			for _, v := range row {
				if v < low {
					asOthers++
				}
			}
			unlikeOthers = whitening.Surprise(beyond, asOthers, n, n)
		}
		unlikeTrusted := whitening.Surprise(beyond, asTrusted, n, float64(len(trusted)))
		both := math.Sqrt(unlikeTrusted * unlikeOthers)
		switch {
		case len(trusted) == 0:
			both = unlikeOthers
		case len(others) == 0:
			both = unlikeTrusted
		}
		if both -= searched; both > d.surprise {
			d.surprise, d.bar, d.beyond, d.trusted, d.others = both, bar, beyond, asTrusted, asOthers
		}
	}
	return d
}
