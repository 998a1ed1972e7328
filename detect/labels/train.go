package labels

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
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

	count   sync.Once
	have    []int32        // by number: how many rows have it
	without [folds][]int32 // and how many of each fold
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
	own     [2]float32 // of two groups: 1 for its own
}

// start prepares to fit a model to the rows that are not in fold leave.
func (s *examples) start(leave int, wary bool, seed uint64) *course {
	l := &linear{groups: s.groups, bits: s.bits, temper: 1}
	stride := 1 + s.groups
	l.table = make([]float32, (1<<s.bits+text.Stems)*stride)
	c := &course{linear: l, bucket: s.bucket, scale: 1}
	var rows []int
	for i, e := range s.rows {
		if int(e.fold) != leave {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return c
	}
	idf := s.frequencies(len(rows), leave, wary)
	c.lessons = s.lessons(rows, idf, wary, seed)
	if s.groups == 2 {
		c.two = make([]pair, len(idf))
		for i, v := range idf {
			c.two[i][0] = v
		}
	} else {
		c.more = make([]float32, len(idf)*stride)
		for i, v := range idf {
			c.more[i*stride] = v
		}
	}
	c.epochs = max(3, min(20, 100_000/len(c.lessons)))
	c.shrink = 1 / (inverseL2 * float64(len(c.lessons)))
	return c
}

// run takes all steps and returns the model.
func (c *course) run() *linear {
	step := c.learn
	if c.linear.groups == 2 {
		step = c.learnTwo
	}
	for c.next() {
		step()
	}
	c.finish()
	return c.linear
}

// documents counts how many rows have each word and stem, once for the models of all folds.
func (s *examples) documents() {
	s.have = make([]int32, len(s.bucket))
	for k := range s.without {
		s.without[k] = make([]int32, len(s.bucket))
	}
	seen := make([]int32, len(s.bucket)) // the last row that had it, from 1
	for i, e := range s.rows {
		of := s.without[e.fold]
		for _, id := range s.ids[i] {
			if seen[id] != int32(i+1) {
				seen[id] = int32(i + 1)
				s.have[id]++
				of[id]++
			}
		}
	}
}

// frequencies returns the inverse document frequency of every word and stem among the n rows that are not in fold leave, by number, 0 for
// what none has.
func (s *examples) frequencies(n, leave int, wary bool) []float32 {
	s.count.Do(s.documents)
	rows := float64(n)
	common := math.Inf(1)
	if wary {
		common = max(commonRows, commonShare*rows)
	}
	idf := make([]float32, len(s.bucket))
	for i, have := range s.have {
		if leave != none {
			have -= s.without[leave][i]
		}
		if df := float64(have); df > 0 && df < common {
			idf[i] = float32(math.Log((1+rows)/(1+df)) + 1)
		}
	}
	return idf
}

// lessons returns rows in the order in which they are taken, time and again, in memory too. Words that count nothing are left out of those of a
// wary model.
func (s *examples) lessons(rows []int, idf []float32, wary bool, seed uint64) []lesson {
	all := 0
	for _, row := range rows {
		all += len(s.ids[row])
	}
	ids, lessons := make([]uint32, all), make([]lesson, len(rows))
	for i, at := range rand.New(rand.NewPCG(seed, 0x1abe1)).Perm(len(rows)) {
		row := rows[at]
		group := s.rows[row].group
		one := &lessons[i]
		one.group, one.own = group, [2]float32{float32(1 - group&1), float32(group & 1)}
		norm, kept := float32(0), 0
		for _, id := range s.ids[row] { // whether a word counts cannot be foretold
			v := idf[id]
			norm += float32(v * v)
			ids[kept] = id
			more := 1
			if wary && v == 0 {
				more = 0
			}
			kept += more
		}
		one.ids, ids = ids[:kept:kept], ids[kept:]
		if norm > 0 {
			one.length = float32(math.Sqrt(float64(norm)))
			one.inverse = 1 / one.length
		}
	}
	return lessons
}

// course is a gradient descent, by stochastic steps as long as those of Bottou (2010), on rows of unit length. Products are rounded before
// they are added, which the language leaves open otherwise, so that all processors learn the same.
type course struct {
	linear  *linear // that is trained
	bucket  []uint32
	lessons []lesson // in the order in which they are taken
	epochs  int
	shrink  float64

	// By number of a word or stem: its inverse document frequency, and a weight for each group.
	two  []pair    // of two groups
	more []float32 // of more, one bucket after the other

	taken int     // steps
	scale float64 // what the weights are to be multiplied by
	of    *lesson // of this step,
	after float64 // scale after it
	rate  float64
}

// pair is a bucket of two groups; the fourth number is 0.
type pair [4]float32

// next goes on to the next lesson, if there is one.
func (c *course) next() bool {
	n := len(c.lessons)
	if c.taken > 0 {
		c.scale = c.after
		if at := c.taken % n; at == 0 && c.scale < 1e-3 {
			c.rescale()
		}
	}
	if c.taken == c.epochs*n {
		return false
	}
	c.of = &c.lessons[c.taken%n]
	c.rate = firstStep / (1 + firstStep*c.shrink*float64(c.taken))
	c.after = c.scale * (1 - c.rate*c.shrink)
	c.taken++
	return true
}

func (c *course) rescale() {
	by := float32(c.scale)
	c.scale = 1
	for i := range c.two {
		c.two[i][1] *= by
		c.two[i][2] *= by
	}
	for at := range c.more {
		if at%(1+c.linear.groups) > 0 {
			c.more[at] *= by
		}
	}
}

// finish puts what was learned where it is looked up.
func (c *course) finish() {
	if c.scale != 1 {
		c.rescale()
	}
	stride := 1 + c.linear.groups
	for i := range c.two {
		copy(c.linear.table[int(c.bucket[i])*stride:][:stride], c.two[i][:])
	}
	for i := range len(c.more) / stride {
		copy(c.linear.table[int(c.bucket[i])*stride:][:stride], c.more[i*stride:])
	}
}

// biasPace is how much slower than the weights the biases learn.
const biasPace = 0.01

// learn takes a step.
func (c *course) learn() {
	l, of := c.linear, c.of
	stride := 1 + l.groups
	var sum, gradient [MostGroups]float32
	for _, id := range of.ids {
		bucket := c.more[int(id)*stride:][:stride]
		idf := bucket[0]
		for g, w := range bucket[1:] {
			sum[g] += float32(idf * w)
		}
	}
	p := gradient[:l.groups]
	for g := range p {
		p[g] = l.bias[g] + float32(of.inverse*sum[g])
		p[g] = l.bias[g] + float32(float32(c.scale)*(p[g]-l.bias[g]))
	}
	top, total := slices.Max(p), float32(0)
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
	pace := float32(c.rate/c.after) / of.length
	for _, id := range of.ids {
		bucket := c.more[int(id)*stride:][:stride]
		by := pace * bucket[0]
		for g, d := range p {
			bucket[1+g] -= float32(by * d)
		}
	}
	for g, d := range p {
		l.bias[g] -= float32(biasPace * float32(c.rate) * d)
	}
}

// learnTwo is learn for two groups, to the bit.
func (c *course) learnTwo() {
	of, bias := c.of, &c.linear.bias
	a, b := float32(0), float32(0)
	for _, id := range of.ids {
		bucket := &c.two[id]
		a += float32(bucket[0] * bucket[1])
		b += float32(bucket[0] * bucket[2])
	}
	a, b = bias[0]+float32(of.inverse*a), bias[1]+float32(of.inverse*b)
	a, b = bias[0]+float32(float32(c.scale)*(a-bias[0])), bias[1]+float32(float32(c.scale)*(b-bias[1]))
	// The larger one's exponential is 1. Which one that is cannot be foretold: no branches.
	e := float32(math.Exp(-math.Abs(float64(a - b))))
	total := 1 + e
	x, y := math.Float32bits(1/total), math.Float32bits(e/total)
	if a < b {
		x, y = y, x
	}
	a, b = math.Float32frombits(x)-of.own[0], math.Float32frombits(y)-of.own[1]
	if of.length == 0 {
		return
	}
	pace := float32(c.rate/c.after) / of.length
	for _, id := range of.ids {
		bucket := &c.two[id]
		by := pace * bucket[0]
		bucket[1] -= float32(by * a)
		bucket[2] -= float32(by * b)
	}
	bias[0] -= float32(biasPace * float32(c.rate) * a)
	bias[1] -= float32(biasPace * float32(c.rate) * b)
}

// temperature returns the factor on logits under which held-out labels are likeliest (Guo et al., ICML 2017,
// arXiv 1706.04599), found by Newton's method.
func temperature(set []example, held parts, groups, workers int) float32 {
	all, below := make([]float32, len(set)*groups), make([]float64, len(set)*groups) // logits, and how far they are below the row's largest
	detect.Rows(len(set), worthwhile, workers, func(first, end int) {
		for i := first; i < end; i++ {
			logits := all[i*groups : (i+1)*groups]
			held[set[i].fold].logits(logits, set[i].tokens)
			top := slices.Max(logits)
			for g, l := range logits {
				below[i*groups+g] = float64(l - top)
			}
		}
	})
	const block = 256 // rows
	var powers, weights [block * MostGroups]float64
	factor := 1.0
	for range 8 {
		slope, curve := 0.0, 1e-9
		for i, e := range set {
			if i%block == 0 {
				part := below[i*groups : min(i+block, len(set))*groups]
				for k, b := range part {
					powers[k] = factor * b
				}
				lanes.Exps(weights[:len(part)], powers[:len(part)])
			}
			logits := all[i*groups : (i+1)*groups]
			sum, mean, square := 0.0, 0.0, 0.0
			for g, l := range logits {
				w := 1.0
				if below[i*groups+g] != 0 {
					w = weights[i%block*groups+g]
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
