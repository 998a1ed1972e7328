package labels

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/text"
)

// MostGroups is the number of groups that classes are folded into where there are more.
const MostGroups = 8

const (
	folds      = 3
	mostRows   = 20_000 // rows of a reference that are learned from; more teach little
	mostCross  = 6_000  // and of a stream, where it is done for every segment
	fewestRows = 20     // rows without which nothing is learned
	inverseL2  = 10     // C of the customary notation: the weight of the data against the squared norm of the weights
	firstStep  = 4      // of the gradient descent; a row has unit length, so the curvature is at most 1/2
	doubt      = 0.04   // share of labels that follow no text: wrong ones, unknown words

	// A model that has poison among its examples leaves out the words that are in this share of them, and in so many.
	// They tell little of the label and much of a text's shape: what a trigger of syntax or style is made of.
	commonShare = 0.02
	commonRows  = 10
)

// Model is a label model p(group | text), multinomial logistic regression on words and stems. Whoever asks whether
// something drags a label along fits it on a reference (Fit), asks it for the rows of a stream (Predict) and compares
// with the labels that they have (Groups). It is not changed after it was fitted and is safe for concurrent use.
type Model struct {
	groups int
	group  map[string]int8
	whole  func() *linear // of all rows; made, as the others, when first asked
	parts  func() parts
	wary   func() parts   // the same, leaving out what poison among the examples teaches first
	rows   int            // learned from
	sample *detect.Sample // that it was fitted on
}

// parts are cross-fitted models: parts[k] has not seen the rows whose key is k modulo folds.
type parts [folds]*linear

type modelOf struct{ sample *detect.Sample }

// Fit learns from the labelled texts of s. It returns nil where there is too little to learn: no texts, fewer than two
// classes or fewer than 20 labelled rows.
func Fit(s *detect.Sample, env detect.Env) *Model {
	return detect.Once(env, modelOf{s}, func() *Model { return fit(s, mostRows, env) })
}

// fit learns from so many rows at most.
func fit(s *detect.Sample, most int, env detect.Env) *Model {
	if s.Text == nil || s.Label == nil {
		return nil
	}
	tokens := text.Of(s, env)
	m := &Model{sample: s}
	m.fold(s)
	if m.groups < 2 {
		return nil
	}
	type row struct {
		at  int
		key uint64
	}
	own := m.Groups(s)
	rows := make([]row, 0, s.N)
	for i, g := range own {
		if t := tokens.Row(i); g >= 0 && len(t) > 0 {
			rows = append(rows, row{i, tokens.Key(i)})
		}
	}
	// Keys are as good as random and the same wherever a row stands: they shuffle, choose and split.
	slices.SortFunc(rows, func(a, b row) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return int(own[a.at]) - int(own[b.at])
	})
	if len(rows) < fewestRows {
		return nil
	}
	rows = rows[:min(len(rows), most)]
	m.rows = len(rows)
	examples := make([]example, len(rows))
	for i, r := range rows {
		examples[i] = example{tokens.Row(r.at), own[r.at], uint8(r.key % folds)}
	}
	env.Shared = nil // the model may be kept for long, and what is shared while it is fitted must not be
	m.parts = sync.OnceValue(func() parts { return m.crossFit(examples, false, env) })
	m.wary = sync.OnceValue(func() parts { return m.crossFit(examples, true, env) })
	m.whole = sync.OnceValue(func() *linear {
		l := train(examples, -1, m.groups, false, env.Seed)
		l.temper = m.parts()[0].temper
		return l
	})
	return m
}

// crossFit trains one model per fold, tempered on the rows that it has not seen.
func (m *Model) crossFit(examples []example, wary bool, env detect.Env) parts {
	var p parts
	detect.Each(folds, env.Workers, func(k int) { p[k] = train(examples, k, m.groups, wary, env.Seed) })
	temper := temperature(examples, p, m.groups)
	for _, part := range p {
		part.temper = temper
	}
	return p
}

// fold puts classes into at most MostGroups groups of about equal size: the largest classes first, each into the
// group that is smallest so far.
func (m *Model) fold(s *detect.Sample) {
	count := make([]int, len(s.Classes))
	for _, l := range s.Label {
		if l >= 0 {
			count[l]++
		}
	}
	var order []int
	for c, n := range count {
		if n > 0 {
			order = append(order, c)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case count[a] != count[b]:
			return count[b] - count[a]
		case s.Classes[a] < s.Classes[b]:
			return -1
		case s.Classes[a] > s.Classes[b]:
			return 1
		}
		return 0
	})
	m.groups = min(len(order), MostGroups)
	m.group = make(map[string]int8, len(order))
	var size [MostGroups]int
	for _, c := range order {
		smallest := 0
		for g := range m.groups {
			if size[g] < size[smallest] {
				smallest = g
			}
		}
		size[smallest] += count[c]
		m.group[s.Classes[c]] = int8(smallest)
	}
}

// Count returns the number of groups, 2 to MostGroups.
func (m *Model) Count() int { return m.groups }

// Groups returns for each row of s the group of its class, −1 where it has none that the model knows.
func (m *Model) Groups(s *detect.Sample) []int8 {
	of := make([]int8, len(s.Classes))
	for c, name := range s.Classes {
		of[c] = -1
		if g, ok := m.group[name]; ok {
			of[c] = g
		}
	}
	out := make([]int8, s.N)
	for i := range out {
		out[i] = -1
		if s.Label != nil && s.Label[i] >= 0 {
			out[i] = of[s.Label[i]]
		}
	}
	return out
}

// Predict returns p(group | text) for each row of s, N × Count(), row after row, which must not be changed: what the
// texts say, whatever the labels. Rows without a text get the model's prior. A row of the very sample that the model was
// fitted on is predicted by a model that has not seen it, nor any row with equal text, nor what poison in that sample
// would teach first.
func (m *Model) Predict(s *detect.Sample, env detect.Env) []float32 { return m.predict(s, true, env) }

// HeldOut is Predict for the rows of the sample that the model was fitted on, where that is trusted: they are predicted as
// rows of any other sample are, but for what they taught themselves.
func (m *Model) HeldOut(env detect.Env) []float32 { return m.predict(m.sample, false, env) }

type predictions struct {
	model  *Model
	sample *detect.Sample
	wary   bool
}

// predict is Predict; wary says whether rows of the very sample are predicted by the wary models.
func (m *Model) predict(s *detect.Sample, wary bool, env detect.Env) []float32 {
	wary = wary && s == m.sample
	return detect.Once(env, predictions{m, s, wary}, func() []float32 {
		tokens := text.Of(s, env)
		out := make([]float32, s.N*m.groups)
		var of func(i int) *linear
		switch {
		case s != m.sample:
			whole := m.whole()
			of = func(int) *linear { return whole }
		case wary:
			held := m.wary()
			of = func(i int) *linear { return held[tokens.Key(i)%folds] }
		default:
			held := m.parts()
			of = func(i int) *linear { return held[tokens.Key(i)%folds] }
		}
		detect.Each(s.N, env.Workers, func(i int) {
			row := tokens.Row(i)
			of(i).predict(out[i*m.groups:(i+1)*m.groups], row)
		})
		return out
	})
}

// temperature returns the factor on logits under which held-out labels are likeliest (Guo et al., ICML 2017,
// arXiv 1706.04599), found by Newton's method.
func temperature(set []example, held parts, groups int) float32 {
	logits := make([]float32, groups)
	factor := 1.0
	for range 8 {
		slope, curve := 0.0, 1e-9
		for _, e := range set {
			held[e.fold].logits(logits, e.tokens)
			top := slices.Max(logits)
			sum, mean, square := 0.0, 0.0, 0.0
			for _, l := range logits {
				w := math.Exp(factor * float64(l-top))
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

// example is one labelled row to learn from.
type example struct {
	tokens []text.Token
	group  int8
	fold   uint8
}

// linear is one logistic regression over hashed words and stems. Each bucket of its table holds the inverse document
// frequency, 0 for what was never seen, and a weight per group.
type linear struct {
	bits   int // of a word's bucket; stems stand behind the words
	groups int
	table  []float32
	bias   [MostGroups]float32
	temper float32
}

func (l *linear) word(t text.Token) int {
	return int(t.ID()*0x9e3779b1>>(32-l.bits)) * (1 + l.groups)
}

func (l *linear) stem(t text.Token) int { return (1<<l.bits + int(t.Stem())) * (1 + l.groups) }

// logits writes one logit per group. A bucket that was never seen adds nothing, as any number times its 0.
func (l *linear) logits(out []float32, row []text.Token) {
	var sum [MostGroups]float32
	norm := float32(0)
	if l.groups == 2 {
		const stride = 3
		a, b := float32(0), float32(0)
		stems := l.table[stride<<l.bits:]
		for _, t := range row {
			word := (*[stride]float32)(l.table[l.word(t):])
			norm += word[0] * word[0]
			a += word[0] * word[1]
			b += word[0] * word[2]
			stem := (*[stride]float32)(stems[stride*int(t.Stem()):])
			norm += stem[0] * stem[0]
			a += stem[0] * stem[1]
			b += stem[0] * stem[2]
		}
		sum[0], sum[1] = a, b
	} else {
		for _, t := range row {
			for _, at := range [2]int{l.word(t), l.stem(t)} {
				bucket := l.table[at : at+1+l.groups]
				idf := bucket[0]
				if idf == 0 {
					continue
				}
				norm += idf * idf
				for g, w := range bucket[1:] {
					sum[g] += idf * w
				}
			}
		}
	}
	scale := float32(0)
	if norm > 0 {
		scale = 1 / float32(math.Sqrt(float64(norm)))
	}
	for g := range out {
		out[g] = l.bias[g] + scale*sum[g]
	}
}

func (l *linear) predict(out []float32, row []text.Token) {
	l.logits(out, row)
	top := slices.Max(out)
	sum := float32(0)
	for g, v := range out {
		e := float32(1)
		if v != top {
			e = float32(math.Exp(float64(l.temper * (v - top))))
		}
		out[g] = e
		sum += e
	}
	for g := range out {
		out[g] = (1-doubt)*out[g]/sum + doubt/float32(len(out))
	}
}

// train fits a model to the examples that are not in fold leave, by stochastic gradient descent with the step of
// Bottou (2010), on rows of unit length.
func train(set []example, leave, groups int, wary bool, seed uint64) *linear {
	var used []example
	tokens := 0
	for _, e := range set {
		if int(e.fold) != leave {
			used = append(used, e)
			tokens += len(e.tokens)
		}
	}
	l := &linear{groups: groups, bits: 12, temper: 1}
	for l.bits < 17 && 1<<l.bits < tokens {
		l.bits++
	}
	stride := 1 + groups
	l.table = make([]float32, (1<<l.bits+text.Stems)*stride)
	if len(used) == 0 {
		return l
	}
	seen := make([]int32, len(l.table)/stride) // the last row that had it, from 1
	for i, e := range used {
		for _, t := range e.tokens {
			for _, at := range [2]int{l.word(t), l.stem(t)} {
				if seen[at/stride] != int32(i+1) {
					seen[at/stride] = int32(i + 1)
					l.table[at]++
				}
			}
		}
	}
	n := float64(len(used))
	common := math.Inf(1)
	if wary {
		common = max(commonRows, commonShare*n)
	}
	for at := 0; at < len(l.table); at += stride {
		switch df := float64(l.table[at]); {
		case df >= common:
			l.table[at] = 0
		case df > 0:
			l.table[at] = float32(math.Log((1+n)/(1+df)) + 1)
		}
	}
	epochs := max(3, min(20, 100_000/len(used)))
	shrink := 1 / (inverseL2 * n)
	order := rand.New(rand.NewPCG(seed, 0x1abe1)).Perm(len(used))
	var p [MostGroups]float32
	scale := 1.0 // the weights are the table's times this
	step := 0
	for range epochs {
		for _, at := range order {
			e := &used[at]
			rate := firstStep / (1 + firstStep*shrink*float64(step))
			step++
			l.gradient(p[:groups], e, scale)
			scale *= 1 - rate*shrink
			l.descend(p[:groups], e.tokens, float32(rate/scale), float32(rate))
		}
		if scale < 1e-3 {
			l.rescale(float32(scale))
			scale = 1
		}
	}
	l.rescale(float32(scale))
	return l
}

// gradient writes p(g | row) − [g is the row's].
func (l *linear) gradient(out []float32, e *example, scale float64) {
	l.logits(out, e.tokens)
	top := float32(math.Inf(-1))
	for g := range out {
		out[g] = l.bias[g] + float32(scale)*(out[g]-l.bias[g])
		top = max(top, out[g])
	}
	sum := float32(0)
	for g, v := range out {
		out[g] = float32(math.Exp(float64(v - top)))
		sum += out[g]
	}
	for g := range out {
		out[g] /= sum
	}
	out[e.group]--
}

func (l *linear) descend(gradient []float32, row []text.Token, rate, biasRate float32) {
	norm := float32(0)
	for _, t := range row {
		for _, at := range [2]int{l.word(t), l.stem(t)} {
			norm += l.table[at] * l.table[at]
		}
	}
	if norm == 0 {
		return
	}
	rate /= float32(math.Sqrt(float64(norm)))
	for _, t := range row {
		for _, at := range [2]int{l.word(t), l.stem(t)} {
			bucket := l.table[at : at+1+l.groups]
			for g, d := range gradient {
				bucket[1+g] -= rate * bucket[0] * d
			}
		}
	}
	for g, d := range gradient {
		l.bias[g] -= 0.01 * biasRate * d
	}
}

func (l *linear) rescale(by float32) {
	for at := 0; at < len(l.table); at += 1 + l.groups {
		for g := range l.groups {
			l.table[at+1+g] *= by
		}
	}
}
