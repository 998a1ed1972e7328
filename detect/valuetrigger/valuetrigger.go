// Package valuetrigger finds values of numeric features, and pairs of values, that recur in a stream far more often than the
// reference explains: what a backdoor in a table does, whose trigger sets a few features to fixed values (Gu, Dolan-Gavitt, Garg,
// "BadNets", 2017), whether it gives its records another label or leaves them theirs.
//
// # What it asks
//
// Of a record's every value that fewer than one in ten of the reference's have, and of every pair of its six rarest values that
// recur in the reference, it asks how many records of the stream share it. That number is held against an
// empirical Bayes prediction, as in the screening of large tables for what is reported together too often (DuMouchel, "Bayesian data
// mining in large frequency tables", The American Statistician 1999): the rate λ of a value has a gamma distribution of mean e and shape
// κ before and, r of the reference's m rows having it, of shape κ + r after. e is what the
// values beside it lead to expect: the reference's rows near it, spread over the values that there are or, where those lie on a lattice, that there could be. For a
// pair it is what its two values have if they are independent. κ is learned from halves of the reference, for each feature and for all
// pairs: delays in minutes follow their neighbours closely, and a large κ comes of that; distances
// between airports do not, and few rows of the reference say little about those that it lacks. That a record
// has the value raises its rate (κ + r + 1), so of n records the number of others that have it is negative binomial of mean
//
//	μ = n/m · (κ + r + 1) / (κ/e + 1),
//
// and c of them have a surprise of c ln(c/μ) − (c+κ+r+1) ln((c+κ+r+1)/(μ+κ+r+1)), Chernoff's bound on −ln of the
// chance of so many. Some values nothing near them leads to expect, such as the code for "unknown": a share of values, learned with κ, has
// rates of mean 1 and shape ½ instead (a mixture of two gammas, as there). What a value says of one record is bounded by
// 4 ln((c + 1)/(μ + 1)): where half of those that have it are honest it says little of any. A record's score is that of its most
// surprising value or pair, beyond 8 ln 2: up to a quarter of those that have it may be honest.
//
// # What it leaves alone
//
// A feature of which a fifth of a segment's records have surprising values has itself changed, which is for drift to tell; it is left
// out of that segment. Fewer than five records say nothing. Without a reference honest values that recur cannot be told from others: no
// record gets an opinion then. Values that are common, in pairs that are common, are not seen however they got there.
//
// # Memory
//
// The numbers of records are kept for the whole stream in a count-min sketch of fixed size (Cormode and Muthukrishnan 2005; the mean that
// strangers add to a cell is taken off). Records with a value that begins to recur are suspects, by their values, and are recalled when
// its surprise is beyond any that halves of the reference have shown each other.
//
// # Cost
//
// Some 2 µs for a record of 8 features, scored, remembered and looked at for suspects; 512 KiB for a stream's memory. Evidence: the value or pair, how many records have it, and
// what the reference leads to expect.
package valuetrigger

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	fewestRows = 20   // of a reference
	mostWidth  = 1024 // features that are looked at

	common  = 0.1          // share of the reference from which a value by itself says nothing
	paired  = 6            // values of a record that are paired
	fewest  = 4            // others that have a value without which it says nothing
	granted = 8 * math.Ln2 // of a score: as much as a value has at most that a quarter of its records have honestly
	changed = 0.2          // share of a segment's records from which a feature itself has changed

	workRows = 1024
)

// Detector finds values that recur. It has no settings.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "value_trigger" }

// model is what a reference says of values.
type model struct {
	names   []string
	salts   []uint64 // by feature: what its values are hashed with
	columns []column
	rows    int
	pairs   map[uint32]int32 // reference rows that have both values, by key; a pair of one row is not in it
	prior   prior            // of pairs
	usual   float64          // the largest score of a half of the reference by the other
	whole   uint64           // fingerprint of the reference, to recognise it
}

// Fit implements [detect.Detector].
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if len(reference.FeatureNames) == 0 || reference.Features == nil || reference.N < fewestRows {
		return nil, nil
	}
	order := rand.New(rand.NewPCG(env.Seed, 0x76616c7565)).Perm(reference.N)
	half := learn(reference.Select(order[:reference.N/2]), env)
	if half == nil {
		return nil, nil
	}
	other := reference.Select(order[reference.N/2:])
	half.learnShapes(other, env)
	m := learn(reference, env)
	if m == nil {
		return nil, nil
	}
	for j := range m.columns {
		m.columns[j].prior = half.columns[j].prior
	}
	m.prior = half.prior
	for _, v := range half.Score(other, env).Value {
		if v > m.usual { // and not NaN
			m.usual = v
		}
	}
	return m, nil
}

// learn counts the values and pairs of a sample; nil where no row has any value.
func learn(s *detect.Sample, env detect.Env) *model {
	width := len(s.FeatureNames)
	m := &model{names: s.FeatureNames, columns: make([]column, min(width, mostWidth)), rows: s.N, prior: vague, whole: fingerprint(s)}
	for _, name := range m.names[:len(m.columns)] {
		m.salts = append(m.salts, xxhash.Sum64String(name)|1)
	}
	detect.Each(len(m.columns), env.Workers, func(j int) {
		values := make([]float64, 0, s.N)
		for i := range s.N {
			if v := s.Features[i*width+j]; v-v == 0 {
				values = append(values, v)
			}
		}
		m.columns[j] = newColumn(values)
	})
	if !slices.ContainsFunc(m.columns, func(c column) bool { return len(c.values) > 1 }) {
		return nil
	}
	t := m.tokens(s, env)
	count := make(map[uint32]int32)
	for row := range s.N {
		for _, key := range t.pairsOf(row) {
			count[key]++
		}
	}
	for key, n := range count {
		if n == 1 {
			delete(count, key)
		}
	}
	m.pairs = count
	return m
}

// fingerprint is the same for the same rows in any order.
func fingerprint(s *detect.Sample) uint64 {
	width := len(s.FeatureNames)
	sum := uint64(s.N)
	for i := range s.N {
		h := uint64(0x9e3779b97f4a7c15)
		for _, v := range s.Features[i*width : (i+1)*width] {
			h = sketch.Mix(h ^ math.Float64bits(v))
		}
		sum += h
	}
	return sum
}

// tokens are the values and pairs of a sample's records.
type tokens struct {
	n, width int
	place    []int32  // n × width: where the value lies in its column; missing where there is none
	single   []uint32 // n × width: the value's key, 0 where it is not counted
	paired   int      // features of a row whose values are paired, at most
	chosen   []uint16 // n × paired: those, none at the end
	pairs    int      // of so many
	pair     []uint32 // n × pairs, in the order of chosen
	pairsAt  []uint8  // n: how many
}

const (
	missing = -1
	none    = math.MaxUint16
)

func (t *tokens) pairsOf(row int) []uint32 {
	return t.pair[row*t.pairs : row*t.pairs+int(t.pairsAt[row])]
}

func (t *tokens) chosenOf(row int) []uint16 { return t.chosen[row*t.paired : (row+1)*t.paired] }

func (t *tokens) singlesOf(row int) []uint32 { return t.single[row*t.width : (row+1)*t.width] }

// tokensKey names the tokens that a model finds in a sample: they are scored, remembered and looked through for suspects.
type tokensKey struct {
	model  *model
	sample *detect.Sample
}

// tokens finds the values and pairs of a sample, which has the model's features.
func (m *model) tokens(s *detect.Sample, env detect.Env) *tokens {
	return detect.Once(env, tokensKey{m, s}, func() *tokens { return m.find(s, env) })
}

func (m *model) find(s *detect.Sample, env detect.Env) *tokens {
	width, all := len(m.columns), len(s.FeatureNames)
	t := &tokens{n: s.N, width: width, paired: min(paired, width)}
	t.pairs = t.paired * (t.paired - 1) / 2
	t.place, t.single = make([]int32, s.N*width), make([]uint32, s.N*width)
	t.chosen, t.pair, t.pairsAt = make([]uint16, s.N*t.paired), make([]uint32, s.N*t.pairs), make([]uint8, s.N)
	limit := int32(common * float64(m.rows))
	detect.Chunks(s.N, workRows, env.Workers, func() func(first, end int) {
		hashes := make([]uint64, width)
		return func(first, end int) {
			for row := first; row < end; row++ {
				features := s.Features[row*all : row*all+width]
				place, single, chosen := t.place[row*width:(row+1)*width], t.singlesOf(row), t.chosenOf(row)
				for i := range chosen {
					chosen[i] = none
				}
				for j, v := range features {
					place[j] = missing
					if v-v != 0 {
						continue
					}
					if v == 0 {
						v = 0 // −0 is 0
					}
					c := &m.columns[j]
					place[j] = c.find(v)
					h := sketch.Mix(m.salts[j] ^ math.Float64bits(v))
					hashes[j] = h
					if c.count(place[j]) <= limit {
						single[j] = uint32(h) | 1
					}
					if how := c.usual[place[j]]; how >= pairable {
						m.choose(chosen, place, j, how)
					}
				}
				at := row * t.pairs
				for a, x := range chosen {
					for _, y := range chosen[a+1:] {
						if y == none {
							break
						}
						// The order of the two says nothing.
						t.pair[at] = uint32(sketch.Mix(hashes[x]+hashes[y])) | 1
						at++
					}
				}
				t.pairsAt[row] = uint8(at - row*t.pairs)
			}
		}
	})
	return t
}

// choose keeps the features whose values are the rarest; of equals, those that come first.
func (m *model) choose(chosen []uint16, place []int32, j int, how float64) {
	at := len(chosen)
	for at > 0 && (chosen[at-1] == none || m.columns[chosen[at-1]].usual[place[chosen[at-1]]] > how) {
		at--
	}
	if at < len(chosen) {
		copy(chosen[at+1:], chosen[at:])
		chosen[at] = uint16(j)
	}
}

// opinion is what a value or pair says.
type opinion struct {
	nats, others, mean float64
	known              int32 // rows of the reference that have it
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, &memory{}, env)
}

// ScoreWith implements [detect.Remembering].
func (m *model) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	value := make([]float64, s.N)
	scores := detect.Scores{Value: value, Code: finding.PoisonTrigger, Stream: true, Learned: true}
	seen, ok := before.(*memory)
	if !m.fits(s) || !ok || s.N == m.rows && fingerprint(s) == m.whole {
		for i := range value {
			value[i] = math.NaN()
		}
		scores.Explain = func(int) string { return "no values to compare" }
		return scores
	}
	t := m.tokens(s, env)
	now := &memory{}
	now.Merge(seen)
	now.Merge(m.own(s, env))
	now.rest()
	// What each value says, for a feature that changed is known after all rows only.
	nats := make([]float32, s.N*t.width)
	detect.Chunks(s.N, workRows, env.Workers, func() func(first, end int) {
		return func(first, end int) {
			for row := first; row < end; row++ {
				for j, key := range t.singlesOf(row) {
					if key != 0 {
						nats[row*t.width+j] = float32(m.single(t, row, j, now).nats)
					}
				}
			}
		}
	})
	silent := t.changed(nats)
	best := make([][2]int16, s.N)
	detect.Chunks(s.N, workRows, env.Workers, func() func(first, end int) {
		return func(first, end int) {
			for row := first; row < end; row++ {
				if value[row] = math.NaN(); t.some(row) {
					value[row], best[row] = m.judge(t, row, now, nats[row*t.width:(row+1)*t.width], silent)
				}
			}
		}
	})
	scores.Explain = func(row int) string {
		if !(value[row] > 0) {
			return "no value that recurs"
		}
		return m.explain(s, t, row, best[row], now)
	}
	return scores
}

func (m *model) fits(s *detect.Sample) bool {
	return s.Features != nil && slices.Equal(s.FeatureNames, m.names)
}

// some tells whether a row has any value.
func (t *tokens) some(row int) bool {
	return slices.ContainsFunc(t.place[row*t.width:(row+1)*t.width], func(p int32) bool { return p != missing })
}

// tail is Chernoff's bound on −ln of the chance of so many, where a number is negative binomial of a mean and a shape above 0.
func tail(n, mean, shape float64) float64 {
	if n <= mean {
		return 0
	}
	return n*math.Log(n/mean) - (n+shape)*math.Log((n+shape)/(mean+shape))
}

// surprise bounds −ln of the chance that so many others have a value that r rows of the reference have and e are expected to, before r
// was known, where the stream is t times as long. What that says of one record is bounded by 4 ln((others + 1)/(mean + 1)): where half of
// those that have a value are honest it says little of any, however surprising their number is. It is 0 up to there.
func (p prior) surprise(others, r, e, t float64) (nats, mean float64) {
	smooth, odd := p.shape+r+1, oddShape+r+1
	a, b := smooth*t/(p.shape/e+1), odd*t/(oddShape+1)
	if others+1 <= 2*(min(a, b)+1) {
		return 0, 0
	}
	w := p.odds(r, e)
	mean = (a + w*b) / (1 + w)
	bound := 4 * math.Log((others+1)/(mean+1))
	if bound <= granted {
		return 0, mean
	}
	return max(0, min(bound, math.Log1p(w)-math.Log(math.Exp(-tail(others, a, smooth))+w*math.Exp(-tail(others, b, odd))))), mean
}

// single judges one value of a record.
func (m *model) single(t *tokens, row, j int, now *memory) opinion {
	others, enough := now.others(t.single[row*t.width+j])
	if !enough {
		return opinion{}
	}
	c := &m.columns[j]
	r, e := c.expect(t.place[row*t.width+j])
	nats, mean := c.prior.surprise(others, float64(r), e, float64(now.rows)/float64(m.rows))
	return opinion{nats, others, mean, r}
}

// both judges a pair of a record's values.
func (m *model) both(t *tokens, row, x, y int, key uint32, now *memory) opinion {
	others, enough := now.others(key)
	if !enough {
		return opinion{}
	}
	r, e := m.pairs[key], m.together(x, y, t.place[row*t.width:])
	nats, mean := m.prior.surprise(others, float64(r), e, float64(now.rows)/float64(m.rows))
	return opinion{nats, others, mean, r}
}

// together is how many rows of the reference have two values if they are independent.
func (m *model) together(x, y int, place []int32) float64 {
	r, e := m.columns[x].expect(place[x])
	a := max(float64(r), e)
	r, e = m.columns[y].expect(place[y])
	return max(least, a*max(float64(r), e)/float64(m.rows))
}

// judge returns the score of a record and the features of what is most surprising of it, the second −1 for a single value.
func (m *model) judge(t *tokens, row int, now *memory, nats []float32, silent []bool) (score float64, best [2]int16) {
	for j, v := range nats {
		if !silent[j] && float64(v) > score {
			score, best = float64(v), [2]int16{int16(j), -1}
		}
	}
	t.eachPair(row, func(x, y int, key uint32) {
		if !silent[x] && !silent[y] {
			if o := m.both(t, row, x, y, key, now); o.nats > score {
				score, best = o.nats, [2]int16{int16(x), int16(y)}
			}
		}
	})
	return max(0, score-granted), best
}

func (t *tokens) eachPair(row int, f func(x, y int, key uint32)) {
	chosen, keys := t.chosenOf(row), t.pairsOf(row)
	for a, x := range chosen {
		for _, y := range chosen[a+1:] {
			if y == none {
				break
			}
			f(int(x), int(y), keys[0])
			keys = keys[1:]
		}
	}
}

// changed tells of which features so many records have surprising values that the feature itself is another.
func (t *tokens) changed(nats []float32) []bool {
	odd := make([]int, t.width)
	for row := range t.n {
		for j, v := range nats[row*t.width : (row+1)*t.width] {
			if v > granted {
				odd[j]++
			}
		}
	}
	silent := make([]bool, t.width)
	for j := range silent {
		silent[j] = float64(odd[j]) > changed*float64(t.n)
	}
	return silent
}

func (m *model) explain(s *detect.Sample, t *tokens, row int, of [2]int16, now *memory) string {
	a, b := int(of[0]), int(of[1])
	width := len(s.FeatureNames)
	what := fmt.Sprintf("%s = %.6g", m.names[a], s.Features[row*width+a])
	if b < 0 {
		o := m.single(t, row, a, now)
		return evidence(what, o.others, o.mean, now.rows, o.known, m.rows)
	}
	var o opinion
	t.eachPair(row, func(x, y int, key uint32) {
		if x == a && y == b {
			o = m.both(t, row, x, y, key, now)
		}
	})
	what += fmt.Sprintf(" with %s = %.6g", m.names[b], s.Features[row*width+b])
	return evidence(what, o.others, o.mean, now.rows, o.known, m.rows)
}

func evidence(what string, others, mean float64, rows uint64, known int32, reference int) string {
	return fmt.Sprintf("%s in about %.0f of the %d records that the stream has shown, where %.2g are expected; %d of %d in the reference",
		what, others+1, rows, mean+1, known, reference)
}

// Suspects returns the records with a value or pair that begins to recur: the first ones of a trigger look so.
func (m *model) Suspects(s *detect.Sample, known detect.Memory, env detect.Env) []detect.Suspicion {
	seen, ok := known.(*memory)
	if !ok || !m.fits(s) || seen.rows == 0 {
		return nil
	}
	t := m.tokens(s, env)
	now := &memory{rows: seen.rows, tokens: seen.tokens, cells: seen.cells}
	now.least = now.strangers() + 2
	ratio := float64(now.rows) / float64(m.rows)
	found := make([][]detect.Suspicion, (s.N+workRows-1)/workRows)
	detect.Chunks(s.N, workRows, env.Workers, func() func(first, end int) {
		type lead struct {
			key, packed uint32
			nats        float64
		}
		var leads []lead
		return func(first, end int) {
			for row := first; row < end; row++ {
				leads = leads[:0]
				add := func(key uint32, family int, of func() (r int32, e float64, p prior)) {
					if others, enough := now.others(key); enough {
						r, e, p := of()
						if nats, _ := p.surprise(others, float64(r), e, ratio); nats > 0 {
							leads = append(leads, lead{key, pack(r, e, family), nats})
						}
					}
				}
				for j, key := range t.singlesOf(row) {
					add(key, j, func() (int32, float64, prior) {
						r, e := m.columns[j].expect(t.place[row*t.width+j])
						return r, e, m.columns[j].prior
					})
				}
				t.eachPair(row, func(x, y int, key uint32) {
					add(key, packedPair, func() (int32, float64, prior) {
						return m.pairs[key], m.together(x, y, t.place[row*t.width:]), m.prior
					})
				})
				if len(leads) == 0 {
					continue
				}
				slices.SortFunc(leads, func(a, b lead) int {
					return cmp.Or(cmp.Compare(b.nats, a.nats), cmp.Compare(a.key, b.key))
				})
				c := detect.Suspicion{Row: row, Weight: float32(leads[0].nats)}
				for _, l := range leads[:min(len(leads), mostLeads)] {
					c.Keys = append(c.Keys, l.key, l.packed)
				}
				found[first/workRows] = append(found[first/workRows], c)
			}
		}
	})
	return slices.Concat(found...)
}

// mostLeads is how many values and pairs of a suspect are kept.
const mostLeads = 8

// A suspect's value is kept as its key and as what the reference says of it: rows, expected rows, and which feature's it is.
const (
	packedRows = 1<<12 - 1
	packedPair = 1<<12 - 1 // the feature that stands for pairs; others are below mostWidth
)

func pack(r int32, e float64, family int) uint32 {
	level := uint32(max(0, min(math.Round(8*(math.Log2(e)+16)), 255)))
	return uint32(min(r, packedRows))<<20 | level<<12 | uint32(family)
}

// unpack returns with what is known of a suspect's value the prior of its family.
func (m *model) unpack(p uint32) (r, e float64, of prior) {
	r, e, of = float64(p>>20), math.Exp2(float64(p>>12&255)/8-16), m.prior
	if family := int(p & packedPair); family < len(m.columns) {
		of = m.columns[family].prior
	}
	return r, e, of
}

// weigh returns the largest surprise of a suspect's values.
func (m *model) weigh(keys []uint32, seen *memory) (best, others, mean, r float64) {
	for i := 0; i+1 < len(keys); i += 2 {
		known, e, of := m.unpack(keys[i+1])
		if n, enough := seen.others(keys[i]); enough {
			if nats, expected := of.surprise(n, known, e, float64(seen.rows)/float64(m.rows)); nats > best {
				best, others, mean, r = nats, n, expected, known
			}
		}
	}
	return best, others, mean, r
}

// Weigh returns how surprising a suspect's values are by what is known now.
func (m *model) Weigh(keys []uint32, known detect.Memory) float32 {
	seen, ok := known.(*memory)
	if !ok || seen.rows == 0 {
		return 0
	}
	best, _, _, _ := m.weigh(keys, seen.resting())
	return float32(best)
}

// convicting is the chance from which earlier records with a value are recalled. Surprise counts from the most that halves of the reference
// have shown each other, all of their values and pairs together, for it trusts a prediction.
const convicting = 1e-3

// Convict returns what tells whether a suspect has a value that is known for a trigger now.
func (m *model) Convict(known detect.Memory) func(keys []uint32) (finding.Finding, bool) {
	seen, ok := known.(*memory)
	if !ok || seen.rows == 0 {
		return nil
	}
	seen = seen.resting()
	return func(keys []uint32) (finding.Finding, bool) {
		nats, others, mean, r := m.weigh(keys, seen)
		logP := granted + m.usual - nats
		if logP > math.Log(convicting) {
			return finding.Finding{}, false
		}
		return finding.Finding{
			Score: nats, PValue: math.Exp(max(logP, -700)), Threshold: convicting, Code: finding.PoisonTrigger,
			Evidence: evidence("a value", others, mean, seen.rows, int32(r), m.rows),
		}, true
	}
}
