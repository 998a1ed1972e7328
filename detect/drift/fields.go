package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
	"github.com/tasterhq/taster/detect/wording"
)

const (
	bins        = 10 // of a field's histogram; the first is for rows without a value
	mostFeature = 40 // fields made of features; there are at most 59 fields
	sliceCount  = 6  // directions in which embeddings are looked at
)

// A field is one number per row: a feature, a summary of the text, the projection of an embedding, or the label.
type field struct {
	name  string
	edges []float64 // bin i+1 holds values in (edges[i-1], edges[i]]
}

// fields tells what is read of a sample, and how.
type fields struct {
	list []field

	features   []string    // the reference's
	directions [][]float64 // where features are too many: random combinations of them, scaled
	centre     []float64   // of the features
	scale      []float64   // one over their spread
	text, loss bool
	classes    map[string]int // bin of the most common classes
	dim        int            // of embeddings; 0: none
	mean       []float32
	projection []float32           // sliceCount × dim
	offset     [sliceCount]float32 // of the mean
}

const textFields = 10

var textNames = [textFields]string{"text length", "word length", "digits", "capitals", "marks", "letters beyond ASCII",
	"wording 1", "wording 2", "wording 3", "wording 4"}

// newFields finds the fields of a reference and cuts each into bins.
func newFields(ref *detect.Sample, env detect.Env) *fields {
	f := &fields{features: ref.FeatureNames, text: ref.Text != nil, loss: ref.Loss != nil}
	rng := rand.New(rand.NewPCG(env.Seed, 0x6472696674))
	if len(f.features) > mostFeature {
		f.combine(ref, rng)
		for i := range mostFeature {
			f.list = append(f.list, field{name: "feature combination " + strconv.Itoa(i+1)})
		}
	} else {
		for _, name := range f.features {
			f.list = append(f.list, field{name: name})
		}
	}
	if f.text {
		for _, name := range textNames {
			f.list = append(f.list, field{name: name})
		}
	}
	if ref.Embedding != nil && ref.Dim > 0 {
		f.project(ref, rng)
		for i := range sliceCount {
			f.list = append(f.list, field{name: "embedding direction " + strconv.Itoa(i+1)})
		}
		f.list = append(f.list, field{name: "embedding distance"})
	}
	if f.loss {
		f.list = append(f.list, field{name: "loss"})
	}
	values := f.values(ref, env)
	column := make([]float64, 0, ref.N)
	for j := range f.list {
		column = column[:0]
		for i := range ref.N {
			if v := values[i*len(f.list)+j]; !math.IsNaN(v) {
				column = append(column, v)
			}
		}
		f.list[j].edges = cut(column)
	}
	if ref.Label != nil {
		f.list = append(f.list, field{name: "label"})
		f.classes = commonClasses(ref)
	}
	return f
}

// quantiles are where bins are cut: finely in the tails, into which a drift goes first.
var quantiles = [bins - 2]float64{0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99}

// cut returns the different quantiles of a column.
func cut(column []float64) (edges []float64) {
	slices.Sort(column)
	for _, q := range quantiles {
		if len(column) == 0 {
			break
		}
		v := column[int(q*float64(len(column)-1))]
		if len(edges) == 0 || v > edges[len(edges)-1] {
			edges = append(edges, v)
		}
	}
	return edges
}

// commonClasses numbers the most common classes from 1; bin 0 is for all others.
func commonClasses(ref *detect.Sample) map[string]int {
	count := make([]int, len(ref.Classes))
	order := make([]int, len(ref.Classes))
	for i := range order {
		order[i] = i
	}
	for _, l := range ref.Label {
		if l >= 0 {
			count[l]++
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		if ref.Classes[a] < ref.Classes[b] {
			return -1
		}
		return 1
	})
	out := map[string]int{}
	for at, class := range order {
		if at == bins-1 || count[class] == 0 {
			break
		}
		out[ref.Classes[class]] = at + 1
	}
	return out
}

// combine prepares random combinations of features that are each scaled by their middle half.
func (f *fields) combine(ref *detect.Sample, rng *rand.Rand) {
	width := len(f.features)
	f.centre, f.scale = make([]float64, width), make([]float64, width)
	column := make([]float64, 0, ref.N)
	for j := range width {
		column = column[:0]
		for i := range ref.N {
			if v := ref.Features[i*width+j]; !math.IsNaN(v) {
				column = append(column, clamp(v))
			}
		}
		slices.Sort(column)
		if n := len(column); n > 0 {
			f.centre[j] = column[n/2]
			spread := column[n*3/4]/2 - column[n/4]/2
			if spread <= 0 {
				spread = column[n-1]/2 - column[0]/2
			}
			if spread > 0 {
				f.scale[j] = 1 / spread
			}
		}
	}
	for range mostFeature {
		d := make([]float64, width)
		for j := range d {
			d[j] = rng.NormFloat64()
		}
		f.directions = append(f.directions, d)
	}
}

func clamp(v float64) float64 { return max(-math.MaxFloat32, min(v, math.MaxFloat32)) }

// project prepares random directions for embeddings less their mean.
func (f *fields) project(ref *detect.Sample, rng *rand.Rand) {
	f.dim = ref.Dim
	sum, n := make([]float64, f.dim), 0.0
	for i := range ref.N {
		if ref.HasEmbedding != nil && !ref.HasEmbedding[i] {
			continue
		}
		n++
		for k, x := range ref.Embedding[i*f.dim : (i+1)*f.dim] {
			sum[k] += float64(x)
		}
	}
	f.mean = make([]float32, f.dim)
	for k := range f.mean {
		f.mean[k] = float32(clamp(sum[k] / max(1, n)))
	}
	f.projection = make([]float32, sliceCount*f.dim)
	for i := range f.projection {
		f.projection[i] = float32(rng.NormFloat64())
	}
	for d := range f.offset {
		f.offset[d] = dot(f.mean, f.projection[d*f.dim:(d+1)*f.dim])
	}
}

// dot is a scalar product with four sums, which the processor adds up side by side.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	for len(a) >= 4 && len(b) >= 4 {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i, x := range a {
		s0 += x * b[i]
	}
	return s0 + s1 + s2 + s3
}

// numeric is the number of fields that are numbers: all but the label.
func (f *fields) numeric() int {
	if f.classes != nil {
		return len(f.list) - 1
	}
	return len(f.list)
}

// values returns n × numeric fields; NaN where a row has none.
func (f *fields) values(s *detect.Sample, env detect.Env) []float64 {
	width := len(f.list) // while the label's field is not there yet, or all of them
	if f.classes != nil {
		width--
	}
	out, texts := make([]float64, s.N*width), f.read(s, env)
	detect.Chunks(s.N, rowsPerJob, env.Workers, func() func(first, end int) {
		return func(first, end int) {
			for i := first; i < end; i++ {
				if len(f.row(out[i*width:i*width:(i+1)*width], s, i, texts)) != width {
					panic("drift: a row has not all fields")
				}
			}
		}
	})
	return out
}

// read returns what the summaries of a sample's texts are, nil where nobody asks.
func (f *fields) read(s *detect.Sample, env detect.Env) []wording.Summary {
	if !f.text || s.Text == nil {
		return nil
	}
	return wording.Of(s, env).Summaries
}

// row appends the numeric fields of one row of a sample, whose texts have these summaries.
func (f *fields) row(row []float64, s *detect.Sample, i int, texts []wording.Summary) []float64 {
	if len(f.features) > 0 {
		var features []float64
		if len(s.FeatureNames) == len(f.features) {
			features = s.Features[i*len(f.features) : (i+1)*len(f.features)]
		}
		row = f.featureValues(row, features)
	}
	if f.text {
		if s.Text != nil {
			row = textValues(row, len(s.Text[i]), &texts[i])
		} else {
			row = textValues(row, 0, nil)
		}
	}
	if f.dim > 0 {
		var v []float32
		if s.Embedding != nil && s.Dim == f.dim && (s.HasEmbedding == nil || s.HasEmbedding[i]) {
			v = s.Embedding[i*f.dim : (i+1)*f.dim]
		}
		row = f.embeddingValues(row, v)
	}
	if f.loss {
		v := math.NaN()
		if s.Loss != nil {
			v = s.Loss[i]
		}
		row = append(row, v)
	}
	return row
}

func (f *fields) featureValues(row, features []float64) []float64 {
	if f.directions == nil {
		for j := range f.features {
			v := math.NaN()
			if features != nil {
				v = features[j]
			}
			row = append(row, v)
		}
		return row
	}
	for _, d := range f.directions {
		sum, seen := 0.0, false
		for j, v := range features {
			if !math.IsNaN(v) {
				sum += d[j] * (clamp(v) - f.centre[j]) * f.scale[j]
				seen = true
			}
		}
		if !seen {
			sum = math.NaN()
		}
		row = append(row, sum)
	}
	return row
}

func (f *fields) embeddingValues(row []float64, v []float32) []float64 {
	var sums [sliceCount + 1]float32
	var norm float32
	if v != nil {
		for d := range sliceCount {
			sums[d] = dot(v, f.projection[d*f.dim:(d+1)*f.dim]) - f.offset[d]
		}
		for k, x := range v {
			x -= f.mean[k]
			norm += x * x
		}
	}
	absent := v == nil || !(norm <= math.MaxFloat32)
	sums[sliceCount] = norm
	for _, x := range sums {
		if absent || math.IsNaN(float64(x)) {
			row = append(row, math.NaN())
			continue
		}
		row = append(row, float64(x))
	}
	return row
}

// textValues appends what the summary of one text says, nil where there is none: its length, how long its words are, shares of kinds of characters, and
// four random signs summed over its words, as a hashed bag of words (Weinberger et al., ICML 2009) of four dimensions.
func textValues(row []float64, length int, c *wording.Summary) []float64 {
	if length == 0 {
		for range textFields {
			row = append(row, math.NaN())
		}
		return row
	}
	n, w := float64(length), float64(max(1, c.Words))
	row = append(row, n, float64(c.Letters)/w, float64(c.Digits)/n, float64(c.Capitals)/n, float64(c.Marks)/n, float64(c.Beyond)/n)
	root := math.Sqrt(w)
	for _, votes := range c.Votes {
		row = append(row, float64(2*votes-c.Words)/root)
	}
	return row
}

const hashSeed = 0xcbf29ce484222325 // of digests

// bin returns n × fields: which bin each value of a sample falls into.
func (f *fields) bin(s *detect.Sample, env detect.Env) []uint8 {
	numeric, width := f.numeric(), len(f.list)
	var classes []uint8
	if f.classes != nil {
		classes = make([]uint8, len(s.Classes))
		for i, name := range s.Classes {
			classes[i] = uint8(f.classes[name])
		}
	}
	edges := make([][len(quantiles)]float64, numeric)
	for j := range edges {
		for at := copy(edges[j][:], f.list[j].edges); at < len(quantiles); at++ {
			edges[j][at] = math.Inf(1)
		}
	}
	out, texts := make([]uint8, s.N*width), f.read(s, env)
	detect.Chunks(s.N, rowsPerJob, env.Workers, func() func(first, end int) {
		values := make([]float64, 0, numeric)
		return func(first, end int) {
			for i := first; i < end; i++ {
				row := out[i*width : (i+1)*width]
				if values = f.row(values[:0], s, i, texts); len(values) != numeric {
					panic("drift: a row has not all fields")
				}
				lanes.Bins(row, values, edges)
				if classes != nil && s.Label != nil && s.Label[i] >= 0 {
					row[numeric] = classes[s.Label[i]]
				}
			}
		}
	})
	return out
}

// rowsPerJob is how many rows a goroutine takes at once.
const rowsPerJob = 1024
