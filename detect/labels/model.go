package labels

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
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
	parts  *detect.Passing[parts]
	wary   *detect.Passing[parts]      // the same, leaving out what poison among the examples teaches first
	rows   int                         // learned from
	sample weak.Pointer[detect.Sample] // that it was fitted on, to recognise it: its vectors are nothing to keep
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
	m := &Model{sample: weak.Make(s)}
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
	learned := make([]example, len(rows))
	for i, r := range rows {
		learned[i] = example{tokens.Row(r.at), own[r.at], uint8(r.key % folds)}
	}
	like := detect.Once(env, likeOf{s}, func() *Model { return nil })
	env.Shared = nil                   // the model may be kept for long, and what is shared while it is fitted must not be
	var temper atomic.Pointer[float32] // of parts, which need not be there any more when whole is asked for
	m.parts = detect.NewPassing(func() *parts {
		p := crossFit(learned, m.groups, false, env)
		known := p[0].temper // and not its address, which would keep it
		temper.Store(&known)
		return p
	})
	m.wary = detect.NewPassing(func() *parts { return crossFit(learned, m.groups, true, env) })
	m.whole = sync.OnceValue(func() *linear {
		l := numbered(learned, m.groups, bitsWithout(learned, none)).start(none, false, env.Seed).run()
		switch known := temper.Load(); {
		case like != nil && like.groups == m.groups:
			l.temper = like.whole().temper
		case known != nil:
			l.temper = *known
		default:
			l.temper = m.parts.Get(detect.Env{Shared: new(detect.Shared)})[0].temper
		}
		return l
	})
	return m
}

type likeOf struct{ sample *detect.Sample }

// Like says, before anybody asks for a model of s, that s has nearly the rows that the given one was fitted on: by what tempers that, the other is
// tempered too, which saves three fits of four. Env.Shared must not be nil.
func Like(s *detect.Sample, model *Model, env detect.Env) {
	detect.Once(env, likeOf{s}, func() *Model { return model })
}

// crossFit trains one model per fold, tempered on the rows that it has not seen.
func crossFit(rows []example, groups int, wary bool, env detect.Env) *parts {
	p := new(parts)
	var of [folds]*examples
	known := map[int]*examples{} // by bits, which are mostly the same
	for k := range of {
		bits := bitsWithout(rows, k)
		if known[bits] == nil {
			known[bits] = numbered(rows, groups, bits)
		}
		of[k] = known[bits]
	}
	detect.Each(folds, env.Workers, func(k int) { p[k] = of[k].start(k, wary, env.Seed).run() })
	temper := temperature(rows, *p, groups, env.Workers)
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

// HeldOut is Predict for the rows of s, the sample that the model was fitted on, where that is trusted: they are predicted as
// rows of any other sample are, but for what they taught themselves.
func (m *Model) HeldOut(s *detect.Sample, env detect.Env) []float32 { return m.predict(s, false, env) }

type predictions struct {
	model  *Model
	sample *detect.Sample
	wary   bool
}

// predict is Predict; wary says whether rows of the very sample are predicted by the wary models.
func (m *Model) predict(s *detect.Sample, wary bool, env detect.Env) []float32 {
	same := m.sample == weak.Make(s)
	wary = wary && same
	return detect.Once(env, predictions{m, s, wary}, func() []float32 {
		tokens := text.Of(s, env)
		out := make([]float32, s.N*m.groups)
		var of func(i int) *linear
		switch {
		case !same:
			whole := m.whole()
			of = func(int) *linear { return whole }
		case wary:
			held := m.wary.Get(env)
			of = func(i int) *linear { return held[tokens.Key(i)%folds] }
		default:
			held := m.parts.Get(env)
			of = func(i int) *linear { return held[tokens.Key(i)%folds] }
		}
		detect.Chunks(s.N, predictedRows, env.Workers, func() func(first, end int) {
			powers, weights := make([]float64, predictedRows*m.groups), make([]float64, predictedRows*m.groups)
			return func(first, end int) {
				logits := out[first*m.groups : end*m.groups]
				for i := first; i < end; i++ {
					at := (i - first) * m.groups
					of(i).powers(powers[at:at+m.groups], logits[at:at+m.groups], tokens.Row(i))
				}
				lanes.Exps(weights[:len(logits)], powers[:len(logits)])
				for at := 0; at < len(logits); at += m.groups {
					probabilities(logits[at:at+m.groups], weights[at:])
				}
			}
		})
		return out
	})
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

// wordBucket and stemBucket return the buckets of a token's word and stem in a table in which so many bits number words.
func wordBucket(t text.Token, bits int) uint32 { return t.ID() * 0x9e3779b1 >> (32 - bits) }
func stemBucket(t text.Token, bits int) uint32 { return 1<<bits + t.Stem() }

func (l *linear) word(t text.Token) int { return int(wordBucket(t, l.bits)) * (1 + l.groups) }
func (l *linear) stem(t text.Token) int { return int(stemBucket(t, l.bits)) * (1 + l.groups) }

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
			norm += float32(word[0] * word[0])
			a += float32(word[0] * word[1])
			b += float32(word[0] * word[2])
			stem := (*[stride]float32)(stems[stride*int(t.Stem()):])
			norm += float32(stem[0] * stem[0])
			a += float32(stem[0] * stem[1])
			b += float32(stem[0] * stem[2])
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
				norm += float32(idf * idf)
				for g, w := range bucket[1:] {
					sum[g] += float32(idf * w)
				}
			}
		}
	}
	scale := float32(0)
	if norm > 0 {
		scale = 1 / float32(math.Sqrt(float64(norm)))
	}
	for g := range out {
		out[g] = l.bias[g] + float32(scale*sum[g])
	}
}

// predictedRows are predicted at a time.
const predictedRows = 256

// powers writes for each group of what power of e its probability is a multiple; logits are scratch.
func (l *linear) powers(out []float64, logits []float32, row []text.Token) {
	l.logits(logits, row)
	top := slices.Max(logits)
	for g, v := range logits {
		out[g] = 0
		if v != top {
			out[g] = float64(l.temper * (v - top))
		}
	}
}

// probabilities writes one for each group, given the powers.
func probabilities(out []float32, powers []float64) {
	sum := float32(0)
	for g := range out {
		out[g] = float32(powers[g])
		sum += out[g]
	}
	for g := range out {
		out[g] = (1-doubt)*out[g]/sum + doubt/float32(len(out))
	}
}
