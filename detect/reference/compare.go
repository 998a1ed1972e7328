package reference

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/text"
)

// Difference says how far one role or field of a new sample is from that of an old one. It holds no record content.
type Difference struct {
	Role      string  `json:"role"`            // as contracts name it
	Field     string  `json:"field,omitempty"` // the schema's name of a feature
	Measure   string  `json:"measure"`         // what Statistic is: "ks", "total_variation" or "unseen_share"
	Statistic float64 `json:"statistic"`       // in [0, 1]; 0: no difference
	PValue    float64 `json:"p_value"`         // chance of so large a difference between samples of one origin
}

// projections of a vector are compared one by one: two distributions that agree on every projection are equal
// (Cramér and Wold 1936), and some random ones show most differences.
const projections = 16

// Compare tells how the rows of later differ from those of earlier, role by role, for the roles that both have.
//
// Numbers (features, losses, lengths of texts, random projections of vectors) are compared by the two-sample
// Kolmogorov-Smirnov statistic; labels and providers by the total variation distance of their shares, with the
// p-value of a χ² test; words by the share of later's that earlier does not have, against what one half of earlier
// has new to the other.
func Compare(earlier, later *detect.Sample, seed uint64) []Difference {
	var out []Difference
	add := func(role, field, measure string, statistic, p float64) {
		if !math.IsNaN(statistic) {
			out = append(out, Difference{role, field, measure, statistic, p})
		}
	}
	if earlier.Text != nil && later.Text != nil {
		d, p := ks(lengths(earlier.Text), lengths(later.Text))
		add("text", "length", "ks", d, p)
		d, p = unseen(earlier, later, seed)
		add("text", "words", "unseen_share", d, p)
	}
	if earlier.Label != nil && later.Label != nil {
		d, p := shares(earlier.Label, earlier.Classes, later.Label, later.Classes)
		add("label", "", "total_variation", d, p)
	}
	if earlier.Provider != nil && later.Provider != nil {
		d, p := shares(earlier.Provider, earlier.Providers, later.Provider, later.Providers)
		add("provider", "", "total_variation", d, p)
	}
	if slices.Equal(earlier.FeatureNames, later.FeatureNames) {
		for j, name := range earlier.FeatureNames {
			width := len(earlier.FeatureNames)
			d, p := ks(column(earlier.Features, j, width), column(later.Features, j, width))
			add("features", name, "ks", d, p)
		}
	}
	if earlier.Loss != nil && later.Loss != nil {
		d, p := ks(earlier.Loss, later.Loss)
		add("loss", "", "ks", d, p)
	}
	vectors := func(role string, a, b []float32, dim, other int) {
		if dim > 0 && dim == other {
			d, p := projected(a, b, dim, seed)
			add(role, "", "ks", d, p)
		}
	}
	vectors("embedding", earlier.Embedding, later.Embedding, earlier.Dim, later.Dim)
	vectors("probabilities", earlier.Probabilities, later.Probabilities, earlier.Outcomes, later.Outcomes)
	vectors("gradient", earlier.Gradient, later.Gradient, earlier.GradientDim, later.GradientDim)
	return out
}

func lengths(texts [][]byte) []float64 {
	out := make([]float64, 0, len(texts))
	for _, t := range texts {
		if t != nil {
			out = append(out, float64(len(t)))
		}
	}
	return out
}

func column(values []float64, j, width int) []float64 {
	out := make([]float64, 0, len(values)/width)
	for at := j; at < len(values); at += width {
		out = append(out, values[at])
	}
	return out
}

// ks is the two-sample Kolmogorov-Smirnov statistic of the values that are numbers, with its asymptotic p-value
// (Smirnov 1948; the small-sample term is Stephens', JRSS B 1970). Ties only make the p-value larger.
func ks(a, b []float64) (statistic, p float64) {
	number := func(v float64) bool { return math.IsNaN(v) }
	a, b = slices.DeleteFunc(slices.Clone(a), number), slices.DeleteFunc(slices.Clone(b), number)
	if len(a) == 0 || len(b) == 0 {
		return math.NaN(), 1
	}
	slices.Sort(a)
	slices.Sort(b)
	n, m := float64(len(a)), float64(len(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		v := min(a[i], b[j])
		for i < len(a) && a[i] == v {
			i++
		}
		for j < len(b) && b[j] == v {
			j++
		}
		statistic = max(statistic, math.Abs(float64(i)/n-float64(j)/m))
	}
	root := math.Sqrt(n * m / (n + m))
	return statistic, kolmogorov((root + 0.12 + 0.11/root) * statistic)
}

// kolmogorov is the chance that Kolmogorov's distribution exceeds x.
func kolmogorov(x float64) float64 {
	if x < 0.2 {
		return 1 // the series below does not converge there, and the value is 1 to 12 digits
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 100; k++ {
		term := math.Exp(-2 * k * k * x * x)
		sum += sign * term
		if term < 1e-17 {
			break
		}
		sign = -sign
	}
	return min(1, max(0, 2*sum))
}

// shares is the total variation distance of two samples of names, with the p-value of a χ² test of homogeneity.
// Names of fewer than ten rows in both together are pooled.
func shares(a []int32, namesA []string, b []int32, namesB []string) (statistic, p float64) {
	counts := map[string]*[2]float64{}
	var total [2]float64
	count := func(which int, numbers []int32, names []string) {
		for _, i := range numbers {
			if i < 0 {
				continue
			}
			if counts[names[i]] == nil {
				counts[names[i]] = &[2]float64{}
			}
			counts[names[i]][which]++
			total[which]++
		}
	}
	count(0, a, namesA)
	count(1, b, namesB)
	if total[0] == 0 || total[1] == 0 {
		return math.NaN(), 1
	}
	cells, few := [][2]float64{}, [2]float64{}
	for _, c := range counts {
		statistic += math.Abs(c[0]/total[0]-c[1]/total[1]) / 2
		if c[0]+c[1] < 10 {
			few[0], few[1] = few[0]+c[0], few[1]+c[1]
		} else {
			cells = append(cells, *c)
		}
	}
	if few[0]+few[1] > 0 {
		cells = append(cells, few)
	}
	// The map's order is not: sums of floats must not depend on it.
	sort.Slice(cells, func(i, j int) bool {
		return cells[i][0] < cells[j][0] || cells[i][0] == cells[j][0] && cells[i][1] < cells[j][1]
	})
	chi := 0.0
	for _, c := range cells {
		for k := range c {
			want := (c[0] + c[1]) * total[k] / (total[0] + total[1])
			chi += (c[k] - want) * (c[k] - want) / want
		}
	}
	return math.Round(statistic*1e12) / 1e12, chiSquared(chi, len(cells)-1)
}

// chiSquared is the upper tail of χ², by Wilson and Hilferty's cube root (PNAS 1931): good to two digits, which is all
// that a comparison needs.
func chiSquared(x float64, degrees int) float64 {
	if degrees < 1 || x <= 0 {
		return 1
	}
	k := 2 / (9 * float64(degrees))
	return math.Erfc((math.Cbrt(x/float64(degrees))-(1-k))/math.Sqrt(2*k)) / 2
}

// unseen is the share of later's words that stand nowhere in earlier. Since every sample has words that another of the
// same origin has not, the p-value compares it with what the halves of earlier have new to each other.
func unseen(earlier, later *detect.Sample, seed uint64) (share, p float64) {
	words := func(s *detect.Sample, rows []int) [][]text.Token {
		out := make([][]text.Token, 0, len(rows))
		for _, i := range rows {
			out = append(out, text.Append(nil, s.Text[i]))
		}
		return out
	}
	fresh := func(known, news [][]text.Token) (share, count float64) {
		seen := map[text.Token]bool{}
		for _, row := range known {
			for _, w := range row {
				seen[w] = true
			}
		}
		unknown := 0.0
		for _, row := range news {
			for _, w := range row {
				count++
				if !seen[w] {
					unknown++
				}
			}
		}
		return unknown / count, count
	}
	order := func(n int, salt uint64) []int { return rand.New(rand.NewPCG(seed, salt)).Perm(n) }
	known := words(earlier, order(earlier.N, 1))
	half := len(known) / 2
	base, _ := fresh(known[:half], known[half:])
	// As many rows of each as the halves have, so that the two shares compare.
	news := words(later, order(later.N, 2))
	here, count := fresh(known[:half], news[:min(half, len(news))])
	share, _ = fresh(known, news)
	if math.IsNaN(base) || math.IsNaN(here) {
		return math.NaN(), 1
	}
	// Words come in texts, not one by one: a text of ten words counts as one observation.
	spread := math.Sqrt(10 * max(base, 1/count) * (1 - base) * 2 / count)
	return share, math.Erfc((here-base)/spread/math.Sqrt2) / 2
}

// projected compares two sets of vectors along random directions: the largest statistic, and its p-value times the number
// of directions.
func projected(a, b []float32, dim int, seed uint64) (statistic, p float64) {
	rng := rand.New(rand.NewPCG(seed, 0x9d0_7ec7))
	direction := make([]float64, dim)
	along := func(values []float32) []float64 {
		out := make([]float64, 0, len(values)/dim)
		for at := 0; at < len(values); at += dim {
			sum, any := 0.0, false
			for j, v := range values[at : at+dim] {
				sum += float64(v) * direction[j]
				any = any || v != 0
			}
			if any { // a row of zeros has no vector
				out = append(out, sum)
			}
		}
		return out
	}
	p = 1
	for range projections {
		for j := range direction {
			direction[j] = rng.NormFloat64()
		}
		d, q := ks(along(a), along(b))
		if math.IsNaN(d) {
			return d, 1
		}
		statistic, p = max(statistic, d), min(p, q)
	}
	return statistic, min(1, p*projections)
}
