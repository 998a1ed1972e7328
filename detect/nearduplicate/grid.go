package nearduplicate

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
)

// grid signs rows of numeric features, each of which is measured by its own spread. A byte of a signature is the cell of a
// random line, cut into equal pieces, into which a row falls (locality-sensitive hashing for Euclidean distance: Datar, Immorlica,
// Indyk, Mirrokni, SCG 2004): rows at a distance of δ pieces share it with chance 1 − 0.8δ as long as δ is small. A piece is half of the
// distance within which a tenth of the reference's rows have their nearest neighbour among 512; the levels then stand for 0.1, 0.2, 0.3 and
// 0.45 of that. Honest kinds of rows differ in how densely they lie: those of the densest, or a burst of one kind with many times its
// usual density, must not hang together.
//
// Models of parts of a reference, whose spreads differ a little, sign by the grid that signed a memory (model.under).
type grid struct {
	seed         uint64
	middle, unit []float32 // of every feature; a unit is its spread times the length of a piece
	axes         []float32 // width × lines, feature after feature: where each line points
	offset       [lines]float32
	bandBytes    int // of a band, of which a memory counts the rows
}

const (
	lines = 64

	// mostWidth is how many features are looked at: what a grid takes is bounded.
	mostWidth = 4096
	// neighboursOf is among how many of the reference's rows nearest neighbours are looked for.
	neighboursOf = 512
)

// newGrid learns from a reference; nil where its rows have no features, or none that varies.
func newGrid(s *detect.Sample, seed uint64) *grid {
	width := len(s.FeatureNames)
	if width == 0 || s.Features == nil {
		return nil
	}
	used := min(width, mostWidth)
	g := &grid{seed: seed, middle: make([]float32, used), unit: make([]float32, used)}
	values := make([]float64, 0, s.N)
	varies := false
	for j := range used {
		values = values[:0]
		for i := range s.N {
			if v := s.Features[i*width+j]; v-v == 0 {
				values = append(values, v)
			}
		}
		middle, spread := spreadOf(values)
		varies = varies || spread > 0
		if spread == 0 {
			spread = max(1, math.Abs(middle))
		}
		g.middle[j], g.unit[j] = toFloat32(middle), max(toFloat32(spread), math.SmallestNonzeroFloat32*1e6)
	}
	if !varies {
		return nil
	}
	piece := g.nearNeighbour(s) / 2
	for j := range g.unit {
		g.unit[j] = max(toFloat32(float64(g.unit[j])*piece), math.SmallestNonzeroFloat32*1e6)
	}
	g.draw()
	g.chooseBands(s)
	return g
}

func toFloat32(v float64) float32 { return float32(max(-1e37, min(v, 1e37))) }

// spreadOf returns the median and a robust standard deviation: from the quartiles or, where half of all values are equal,
// from all of them. It sorts values.
func spreadOf(values []float64) (middle, spread float64) {
	n := len(values)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(values)
	middle = values[n/2]
	if spread = values[n*3/4]/1.349 - values[n/4]/1.349; spread > 0 {
		return middle, min(spread, math.MaxFloat64)
	}
	var square float64
	for _, v := range values {
		d := v/math.Sqrt(float64(n)) - middle/math.Sqrt(float64(n))
		square += d * d
	}
	return middle, min(math.Sqrt(square), math.MaxFloat64)
}

// draw draws the lines.
func (g *grid) draw() {
	rng := rand.New(rand.NewPCG(g.seed, 0x67726964))
	g.axes = make([]float32, len(g.unit)*lines)
	for i := range g.axes {
		g.axes[i] = float32(rng.NormFloat64())
	}
	for i := range g.offset {
		g.offset[i] = float32(rng.Float64())
	}
}

// wideBandKeys writes the numbers that stand for bands of so many bytes each, at most 64/bands, of a signature without empty bytes.
func wideBandKeys(a *signature, keys *[bands]uint32, bytes int) {
	for b := range keys {
		h := uint64(b + 1)
		for i := range bytes {
			h = sketch.Mix(h ^ a[i]>>(b*8)&0xff)
		}
		keys[b] = uint32(h)
	}
}

// chooseBands makes bands as long as it takes for two rows of the reference to share one in no more than one of 10,000 cases: of few
// features three lines tell too little.
func (g *grid) chooseBands(s *detect.Sample) {
	var signatures []signature
	order := rand.New(rand.NewPCG(g.seed, 0x6e6e)).Perm(s.N)
	for _, row := range order[:min(neighboursOf, len(order))] {
		if g.content(s, row) != 0 {
			signatures = append(signatures, g.sign(s, row))
		}
	}
	var shared [64/bands + 1]int // by number of bytes, the rest of a band's being different
	pairs := 0
	for i := range signatures {
		for j := range i {
			pairs++
			for b := range bands {
				k := 0
				for k < 64/bands && (signatures[i][k]^signatures[j][k])>>(b*8)&0xff == 0 {
					k++
				}
				shared[k]++
			}
		}
	}
	g.bandBytes = 64 / bands
	for sum := shared[g.bandBytes]; g.bandBytes > bandBytes; g.bandBytes-- {
		if sum += shared[g.bandBytes-1]; sum*10_000 > pairs*bands {
			break
		}
	}
}

// nearNeighbour returns the distance within which a tenth of the rows have the nearest that is not equal, in spreads; 1 where all
// are equal.
func (g *grid) nearNeighbour(s *detect.Sample) float64 {
	width, used := len(s.FeatureNames), len(g.unit)
	var points []float32
	order := rand.New(rand.NewPCG(g.seed, 0x6e6e)).Perm(s.N)
	for _, row := range order[:min(neighboursOf, len(order))] {
		if features := s.Features[row*width : (row+1)*width]; someValue(features[:used]) {
			for j := range used {
				points = append(points, g.scaled(features, j))
			}
		}
	}
	n := len(points) / used
	var nearest []float64
	for a := range n {
		best := float32(math.Inf(1))
		p := points[a*used : (a+1)*used]
		for b := range n {
			q := points[b*used : (b+1)*used]
			var d float32
			for j, x := range p {
				d += (x - q[j]) * (x - q[j])
			}
			if d > 0 && d < best {
				best = d
			}
		}
		if v := math.Sqrt(float64(best)); v-v == 0 && v > 0 {
			nearest = append(nearest, v)
		}
	}
	if len(nearest) == 0 {
		return 1
	}
	return quantile(nearest, 0.1)
}

// scaled returns a feature's distance from the median in its units; a value that is missing says nothing.
func (g *grid) scaled(features []float64, j int) float32 {
	v := features[j]
	if v != v {
		return 0
	}
	return float32(max(-farAway, min((v-float64(g.middle[j]))/float64(g.unit[j]), farAway)))
}

// farAway is where a value's distance ends to matter.
const farAway = 1e6

func someValue(features []float64) bool {
	return slices.ContainsFunc(features, func(v float64) bool { return !math.IsNaN(v) })
}

// content hashes a row's features; 0 for none.
func (g *grid) content(s *detect.Sample, row int) uint64 {
	width := len(s.FeatureNames)
	if s.Features == nil || min(width, mostWidth) != len(g.unit) {
		return 0
	}
	features := s.Features[row*width : row*width+len(g.unit)]
	if !someValue(features) {
		return 0
	}
	h := uint64(hashSeed)
	for _, v := range features {
		if v == 0 {
			v = 0 // −0 is 0
		}
		h = sketch.Mix(h ^ math.Float64bits(v))
	}
	return h | 1
}

func (g *grid) sign(s *detect.Sample, row int) (out signature) {
	width := len(s.FeatureNames)
	features := s.Features[row*width : (row+1)*width]
	at := g.offset
	for j := range g.unit {
		x := g.scaled(features, j)
		if x == 0 {
			continue
		}
		axis := (*[lines]float32)(g.axes[j*lines:])
		for i, a := range axis {
			at[i] += x * a
		}
	}
	for i, v := range at {
		cell := uint64(int64(math.Floor(float64(v))))
		// Of a byte's 255 values, for 0 is an empty bin.
		out[i/8] |= (1 + cell*0x9e3779b97f4a7c15>>32%255) << (i % 8 * 8)
	}
	return out
}

// basis tells grids apart.
func (g *grid) basis() uint64 {
	h := sketch.Mix(hashSeed ^ g.seed ^ uint64(g.bandBytes)<<32)
	for j := range g.unit {
		h = sketch.Mix(h ^ uint64(math.Float32bits(g.middle[j])))
		h = sketch.Mix(h ^ uint64(math.Float32bits(g.unit[j])))
	}
	return h | 2
}
