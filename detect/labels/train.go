package labels

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tasterhq/taster/detect/text"
)

// example is one labelled row to learn from.
type example struct {
	tokens []text.Token
	group  int8
	fold   uint8
}

// examples are rows to learn from, their words and stems numbered as they come, so that a model's weights lie close
// together while it is trained: gradient descent reads and writes them again and again.
type examples struct {
	rows   []example
	groups int

	bits   int        // of a word's bucket in the table of a model
	bucket []uint32   // by number: which bucket of the table that is
	ids    [][]uint32 // by row: the number of each token's word, and of its stem
}

// numbered numbers the words and stems of rows, which belong to so many groups.
func numbered(rows []example, groups, bits int) *examples {
	s := &examples{rows: rows, groups: groups, bits: bits, ids: make([][]uint32, len(rows))}
	tokens := 0
	for _, e := range rows {
		tokens += len(e.tokens)
	}
	number := make([]uint32, 1<<bits+text.Stems) // from 1
	all := make([]uint32, 0, 2*tokens)
	for i, e := range rows {
		from := len(all)
		for _, t := range e.tokens {
			for _, at := range [2]uint32{wordBucket(t, bits), stemBucket(t, bits)} {
				if number[at] == 0 {
					s.bucket = append(s.bucket, at)
					number[at] = uint32(len(s.bucket))
				}
				all = append(all, number[at]-1)
			}
		}
		s.ids[i] = all[from:len(all):len(all)]
	}
	return s
}

// tableBits returns how many bits number the words of a model that learns from so many tokens.
func tableBits(tokens int) int {
	bits := 12
	for bits < 17 && 1<<bits < tokens {
		bits++
	}
	return bits
}

// none is a fold that no example is in.
const none = -1

// bitsWithout returns the bits of a model that learns from the rows that are not in a fold.
func bitsWithout(rows []example, fold int) int {
	tokens := 0
	for _, e := range rows {
		if int(e.fold) != fold {
			tokens += len(e.tokens)
		}
	}
	return tableBits(tokens)
}

// lesson is a row as it is learned from.
type lesson struct {
	ids     []uint32
	inverse float32 // of the row's length; 0 where it has none
	length  float32
	group   int8
}

// train fits a model to the rows that are not in fold leave, by stochastic gradient descent with the step of Bottou
// (2010), on rows of unit length.
func (s *examples) train(leave int, wary bool, seed uint64) *linear {
	l := &linear{groups: s.groups, bits: s.bits, temper: 1}
	stride := 1 + s.groups
	l.table = make([]float32, (1<<s.bits+text.Stems)*stride)
	var lessons []lesson
	for i, e := range s.rows {
		if int(e.fold) != leave {
			lessons = append(lessons, lesson{ids: s.ids[i], group: e.group})
		}
	}
	if len(lessons) == 0 {
		return l
	}
	idf := s.frequencies(lessons, wary)
	weighted(lessons, idf, wary)

	weights := make([]float32, len(idf)*stride)
	for i, v := range idf {
		weights[i*stride] = v
	}
	c := &course{
		lessons: lessons, epochs: max(3, min(20, 100_000/len(lessons))), shrink: 1 / (inverseL2 * float64(len(lessons))),
		order: rand.New(rand.NewPCG(seed, 0x1abe1)).Perm(len(lessons)),
	}
	if s.groups == 2 {
		c.descendTwo(weights, &l.bias)
	} else {
		c.descend(weights, s.groups, &l.bias)
	}
	for i, at := range s.bucket {
		copy(l.table[int(at)*stride:][:stride], weights[i*stride:])
	}
	return l
}

// frequencies returns the inverse document frequency of every word and stem among the lessons, by number, 0 for what none has.
func (s *examples) frequencies(lessons []lesson, wary bool) []float32 {
	idf := make([]float32, len(s.bucket))
	seen := make([]int32, len(s.bucket)) // the last lesson that had it, from 1
	for i := range lessons {
		for _, id := range lessons[i].ids {
			if seen[id] != int32(i+1) {
				seen[id] = int32(i + 1)
				idf[id]++
			}
		}
	}
	n := float64(len(lessons))
	common := math.Inf(1)
	if wary {
		common = max(commonRows, commonShare*n)
	}
	for i := range idf {
		switch df := float64(idf[i]); {
		case df >= common:
			idf[i] = 0
		case df > 0:
			idf[i] = float32(math.Log((1+n)/(1+df)) + 1)
		}
	}
	return idf
}

// weighted gives lessons their length. Words that count nothing are left out of those of a wary model.
func weighted(lessons []lesson, idf []float32, wary bool) {
	for i := range lessons {
		one := &lessons[i]
		if wary {
			one.ids = slices.DeleteFunc(slices.Clone(one.ids), func(id uint32) bool { return idf[id] == 0 })
		}
		norm := float32(0)
		for _, id := range one.ids {
			norm += float32(idf[id] * idf[id])
		}
		if norm > 0 {
			one.length = float32(math.Sqrt(float64(norm)))
			one.inverse = 1 / one.length
		}
	}
}

// course is a gradient descent: lessons, and how they are gone through. Weights stand behind the inverse document frequency of their word
// or stem, one for each group. Products are rounded before they are added, which the language leaves open otherwise, so that all
// processors learn the same.
type course struct {
	lessons []lesson
	order   []int
	epochs  int
	shrink  float64
}

// run takes all steps: step is given a lesson, the number by which all weights are to be multiplied before it, and after, and the rate.
// rescale multiplies them all, now and then, and at last.
func (c *course) run(step func(of *lesson, before, after, rate float64), rescale func(by float32)) {
	scale := 1.0 // the weights are the table's times this
	steps := 0
	for range c.epochs {
		for _, at := range c.order {
			rate := firstStep / (1 + firstStep*c.shrink*float64(steps))
			steps++
			after := scale * (1 - rate*c.shrink)
			step(&c.lessons[at], scale, after, rate)
			scale = after
		}
		if scale < 1e-3 {
			rescale(float32(scale))
			scale = 1
		}
	}
	rescale(float32(scale))
}

// biasPace is how much slower than the weights the biases learn.
const biasPace = 0.01

// descend learns the weights of so many groups.
func (c *course) descend(weights []float32, groups int, bias *[MostGroups]float32) {
	stride := 1 + groups
	var sum, gradient [MostGroups]float32
	c.run(func(of *lesson, before, after, rate float64) {
		clear(sum[:groups])
		for _, id := range of.ids {
			bucket := weights[int(id)*stride:][:stride]
			idf := bucket[0]
			for g, w := range bucket[1:] {
				sum[g] += float32(idf * w)
			}
		}
		top := float32(math.Inf(-1))
		p := gradient[:groups]
		for g := range p {
			p[g] = bias[g] + float32(of.inverse*sum[g])
			p[g] = bias[g] + float32(float32(before)*(p[g]-bias[g]))
			top = max(top, p[g])
		}
		total := float32(0)
		for g, v := range p {
			p[g] = float32(math.Exp(float64(v - top)))
			total += p[g]
		}
		for g := range p {
			p[g] /= total
		}
		p[of.group]--
		if of.length == 0 {
			return
		}
		pace := float32(rate/after) / of.length
		for _, id := range of.ids {
			bucket := weights[int(id)*stride:][:stride]
			by := pace * bucket[0]
			for g, d := range p {
				bucket[1+g] -= float32(by * d)
			}
		}
		for g, d := range p {
			bias[g] -= float32(biasPace * float32(rate) * d)
		}
	}, func(by float32) {
		for at := 0; at < len(weights); at += stride {
			for g := range groups {
				weights[at+1+g] *= by
			}
		}
	})
}

// descendTwo is descend for two groups, to the bit.
func (c *course) descendTwo(weights []float32, bias *[MostGroups]float32) {
	const stride = 4 // a power of two, and half as many cache lines
	table := make([][stride]float32, len(weights)/3)
	for i := range table {
		copy(table[i][:3], weights[3*i:])
	}
	first, second := float32(0), float32(0)
	c.run(func(of *lesson, before, after, rate float64) {
		a, b := float32(0), float32(0)
		for _, id := range of.ids {
			bucket := &table[id]
			a += float32(bucket[0] * bucket[1])
			b += float32(bucket[0] * bucket[2])
		}
		a, b = first+float32(of.inverse*a), second+float32(of.inverse*b)
		a, b = first+float32(float32(before)*(a-first)), second+float32(float32(before)*(b-second))
		// The larger one's exponential is 1.
		if a >= b {
			a, b = 1, float32(math.Exp(float64(b-a)))
		} else {
			a, b = float32(math.Exp(float64(a-b))), 1
		}
		total := a + b
		a, b = a/total, b/total
		if of.group == 0 {
			a--
		} else {
			b--
		}
		if of.length == 0 {
			return
		}
		pace := float32(rate/after) / of.length
		for _, id := range of.ids {
			bucket := &table[id]
			by := pace * bucket[0]
			bucket[1] -= float32(by * a)
			bucket[2] -= float32(by * b)
		}
		first -= float32(biasPace * float32(rate) * a)
		second -= float32(biasPace * float32(rate) * b)
	}, func(by float32) {
		for i := range table {
			table[i][1] *= by
			table[i][2] *= by
		}
	})
	bias[0], bias[1] = first, second
	for i := range table {
		copy(weights[3*i:][:3], table[i][:])
	}
}

// temperature returns the factor on logits under which held-out labels are likeliest (Guo et al., ICML 2017,
// arXiv 1706.04599), found by Newton's method.
func temperature(set []example, held parts, groups int) float32 {
	all := make([]float32, len(set)*groups)
	for i, e := range set {
		held[e.fold].logits(all[i*groups:(i+1)*groups], e.tokens)
	}
	factor := 1.0
	for range 8 {
		slope, curve := 0.0, 1e-9
		for i, e := range set {
			logits := all[i*groups : (i+1)*groups]
			top := slices.Max(logits)
			sum, mean, square := 0.0, 0.0, 0.0
			for _, l := range logits {
				w := 1.0
				if l != top {
					w = math.Exp(factor * float64(l-top))
				}
				sum += w
				mean += w * float64(l)
				square += w * float64(l) * float64(l)
			}
			mean /= sum
			slope += float64(logits[e.group]) - mean
			curve += square/sum - mean*mean
		}
		factor += max(-0.5, min(slope/curve, 0.5))
		factor = max(0.05, min(factor, 5))
	}
	return float32(factor)
}
