package trigger

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"
	"unsafe"
	"weak"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/lanes"
	"github.com/tasterhq/taster/detect/text"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	functionShare = 0.02 // share of records from which a word counts as a function word
	functionRows  = 3    // and the fewest records

	// Honest words pull labels too, further than a label model of a thousand rows knows: their logits are off by a
	// standard deviation of about √0.3. A feature's association counts as far as it exceeds that.
	labelSpread = 0.3

	// Some honest words do stand between words that belong together, adverbs above all: their mean insertion varies by
	// about √0.01 beyond chance.
	insertSpread = 0.01

	fewestInserted = 3    // records with a word without which its places say nothing
	rarest         = 0.7  // pseudo-count of pairs
	knownShare     = 0.01 // share of the reference's records from which a word is known to belong
	usualShare     = 0.1  // and of all records

	together   = 6.0 // by which the evidence of all features together is divided: they repeat each other
	surprising = 0.5 // weight of the label's own surprise, which is another detector's affair
	agreeing   = 0.1 // surprise that even a text has that agrees with its label

	mostRead   = 10_000 // records that function words are counted on, about
	mostTables = 4      // goroutines that have tables of their own
)

// Detector flags trigger phrases. Its zero value is ready.
type Detector struct{}

// Name implements detect.Detector.
func (Detector) Name() string { return "trigger" }

// ReadsTextOnly says that samples may lack vectors: texts and classes are all that is looked at.
func (Detector) ReadsTextOnly() {}

// model is what a reference taught, to both detectors of this package.
type model struct {
	sample    weak.Pointer[detect.Sample] // to recognise it: its vectors are nothing to keep
	labels    *labels.Model               // nil without labels
	functions *functions
	count     func() []known // counted when first asked
	rows      int            // distinct records counted
	tokens    int            // of those records
}

// Fit implements detect.Detector.
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if m := modelOf(reference, env); m != nil {
		return m, nil
	}
	return nil, nil
}

type modelKey struct{ reference *detect.Sample }

// modelOf returns what a reference teaches, nil where it has no texts.
func modelOf(reference *detect.Sample, env detect.Env) *model {
	if reference.Text == nil || reference.N == 0 {
		return nil
	}
	return detect.Once(env, modelKey{reference}, func() *model {
		tokens := text.Of(reference, env)
		m := &model{sample: weak.Make(reference), labels: labels.Fit(reference, env)}
		m.functions = functionsOf(reference, env)
		rows := distinctRows(reference.N, tokens, nil)
		m.rows, m.tokens = len(rows.rows), rows.tokens
		workers := min(env.Workers, mostTables) // and not env: what was shared while it was fitted is not kept for who may never ask
		m.count = sync.OnceValue(func() []known { return countFeatures(tokens, rows, largest, m.functions, workers) })
		return m
	})
}

type functionsKey struct{ reference *detect.Sample }

func functionsOf(reference *detect.Sample, env detect.Env) *functions {
	return detect.Once(env, functionsKey{reference}, func() *functions {
		return functionWords(text.Of(reference, env), reference.N)
	})
}

// functionWords returns the words that at least functionShare of the rows have, mostFunctions at most.
func functionWords(tokens *text.Tokens, n int) *functions {
	type tally struct{ id, rows, last uint32 } // last counted row, from 1
	// Whichever word comes first to a place is counted there, which nearly all tokens are; the others in a map, so that no choice of words is slow.
	const bits = 15
	first, rest := make([]tally, 1<<bits), map[uint32]tally{}
	every, read := uint64(n/mostRead+1), 0
	for i := range n {
		if tokens.Key(i)%every != 0 {
			continue // by content, so that the order of rows does not matter
		}
		read++
		row := uint32(i + 1)
		for _, t := range tokens.Row(i) {
			id := t.ID()
			w := &first[id*slotMul>>(32-bits)]
			switch {
			case w.rows == 0:
				*w = tally{id, 1, row}
			case w.id == id:
				if w.last != row {
					w.rows, w.last = w.rows+1, row
				}
			default:
				if e := rest[id]; e.last != row {
					rest[id] = tally{id, e.rows + 1, row}
				}
			}
		}
	}
	least := uint32(max(functionRows, int(functionShare*float64(read))))
	words := slices.DeleteFunc(slices.AppendSeq(first, maps.Values(rest)), func(w tally) bool { return w.rows < least })
	slices.SortFunc(words, func(a, b tally) int { return cmp.Or(cmp.Compare(b.rows, a.rows), cmp.Compare(a.id, b.id)) })
	f := &functions{}
	for _, w := range words[:min(len(words), mostFunctions)] {
		f.add(w.id)
	}
	return f
}

// distinct are the rows that count: of rows that are equal in tokens and label, the first, so that copies of one record are
// no evidence.
type distinct struct {
	rows   []int   // by rising number
	tokens int     // that they have
	first  []int32 // per row of the sample, which of rows it is equal to; −1 for one without tokens
}

func distinctRows(n int, tokens *text.Tokens, own []int8) distinct {
	d := distinct{rows: make([]int, 0, n), first: make([]int32, n)}
	seen := make(map[uint64]int32, n)
	for i := range n {
		length := len(tokens.Row(i))
		if length == 0 {
			d.first[i] = -1
			continue
		}
		key := rowKey(tokens, own, i)
		first, again := seen[key]
		if !again {
			first = int32(i)
			seen[key] = first
			d.rows = append(d.rows, i)
			d.tokens += length
		}
		d.first[i] = first
	}
	return d
}

// rowKey is equal for rows that are equal in tokens and label.
func rowKey(tokens *text.Tokens, own []int8, row int) uint64 {
	key := tokens.Key(row)
	if own != nil {
		key ^= spread(uint32(own[row] + 1))
	}
	return key
}

// known tells how many distinct records of the reference have a feature: n, more than none, have that of the bucket at in a table of the
// largest size.
type known struct{ at, n uint32 }

func countFeatures(tokens *text.Tokens, rows distinct, size tableSize, f *functions, workers int) []known {
	x := extractor{size: size, functions: f}
	sets := eachWorker(len(rows.rows), workers, func(from, to int) []uint32 {
		return inUse(tokens, rows.rows[from:to], x, (*extractor).extract)
	})
	x.numbers = make(numbering, size.buckets()/32)
	for _, set := range sets {
		x.numbers.add(set)
	}
	type bucket struct{ row, n uint32 }
	most := x.numbers.begin(1)
	tables := eachWorker(len(rows.rows), workers, func(from, to int) []bucket {
		table, x := make([]bucket, most), x
		for _, i := range rows.rows[from:to] {
			for _, at := range x.extract(tokens.Row(i)) {
				if b := &table[at]; b.row != uint32(i+1) {
					b.row = uint32(i + 1)
					b.n++
				}
			}
		}
		return table
	})
	out := make([]known, 0, most-1)
	x.numbers.each(func(at, number int) {
		n := uint32(0)
		for _, table := range tables {
			n += table[number].n
		}
		out = append(out, known{uint32(at), n})
	})
	return out
}

// inUse returns the set of the buckets that rows have, as features returns them, 32 to a number.
func inUse(tokens *text.Tokens, rows []int, x extractor, features func(x *extractor, row []text.Token) []uint32) []uint32 {
	set := make([]uint32, x.size.buckets()/32)
	for _, i := range rows {
		for _, at := range features(&x, tokens.Row(i)) {
			set[at>>5] |= 1 << (at & 31)
		}
	}
	return set
}

// fold returns which bucket of a smaller table has what is in one of the largest.
func (s tableSize) fold(at uint32) uint32 {
	if words := uint32(1) << largest.words; at >= words {
		return 1<<s.words + (at-words)>>(largest.others-s.others)
	}
	return at >> (largest.words - s.words)
}

// eachWorker cuts n rows into one run per worker and returns what each made.
func eachWorker[T any](n, workers int, f func(from, to int) T) []T {
	const least = 2048 // rows that are worth a goroutine
	workers = max(1, min(workers, n/least))
	out := make([]T, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { out[w] = f(w*n/workers, (w+1)*n/workers) })
	}
	wg.Wait()
	return out
}

// stream is what was counted over one sample.
type stream struct {
	model   *model
	sample  *detect.Sample
	tokens  *text.Tokens
	size    tableSize
	numbers numbering // of the buckets that are not empty, by which all else is kept
	groups  int       // of labels; 0 without
	own     []int8    // per row, its group or −1
	p       []float32 // per row and group
	logs    []float64 // per row, ln p of its own group
	unit    float64   // of observed and expected, a power of two

	reference     []uint32 // per bucket, records of the reference that have the feature
	referenceRows int

	unique  distinct  // rows that are counted
	counts            // of these
	words   counts    // of all rows, and words only, where others is not nil
	slots   int       // one per group, and the last for rows without a label
	counted view      // by which rows are judged that are counted themselves
	others  *view     // by which all others are (portion.go); nil: there are none
	in      []bool    // per row that is the first of its like, whether it is counted; nil where others is
	likely  []float64 // per group, how likely the label model has the label of a row that is counted and has it, on the average

	plain []float64 // per row, its trigger score before anything is explained away; NaN without a text

	// Where features are beyond chance (mixture.go). Only the trigger detector asks for it.
	suspects   []float32 // per row, how probably it is of the group that has them by the purest alone; nil where there are none
	apart      sync.Once
	suspicions []float32 // the same by all of its features
	usual      float64   // score down to which anything is explained away
	trigger    []float64 // per row, its score
}

// view is what features say of rows, less what these themselves have taught.
type view struct {
	more     float64   // 0 for rows that are counted; 1 for others, as if one more like those were counted
	inserted []float32 // per word's bucket
	weights  []weight  // per bucket and slot
	rest     []weight  // the same without the group of mixture.go
	ratios   []float64 // per bucket and slot, what a feature says for that group, of a record that is no part of it
}

// bucket counts the distinct records that have a feature.
type bucket struct {
	records uint64 // their number; in the upper half the last one counted, from 1: a record counts once
	labelled
}

func (b *bucket) n() uint32 { return uint32(b.records) }

// labelled compares the records that have a feature and a label of one group with what the label model expected, both
// in stream.unit, 32 bits each, what was observed below. Whole numbers add up to the same sum in any order.
type labelled uint64

func newLabelled(observed, expected uint32) labelled {
	return labelled(expected)<<32 | labelled(observed)
}

func (l labelled) observed() uint32 { return uint32(l) }
func (l labelled) expected() uint32 { return uint32(l >> 32) }

// weight is what a feature says of a record that has it.
type weight struct {
	peak uint16 // evidence of this feature alone, in peakUnit
	drag uint16 // its association and insertion, in peakUnit
	mean int16  // its part in the evidence of all, in meanUnit
}

const (
	peakUnit = 1.0 / 512
	meanUnit = 1.0 / 32
)

func newWeight(association, share, inserted float64) weight {
	z := association + share
	drag := max(association, 0) + inserted
	return weight{
		peak: uint16(min((drag+max(share, 0))/peakUnit+0.5, math.MaxUint16)),
		drag: uint16(min(drag/peakUnit+0.5, math.MaxUint16)),
		mean: int16(max(-math.MaxInt16, min(math.Round(z*math.Abs(z)/meanUnit), math.MaxInt16))),
	}
}

// first is the group that a bucket counts; of two, one tells both, and of more the others are in stream.more.
func (st *stream) first() int {
	if st.groups == 2 {
		return 1
	}
	return 0
}

// further is the number of groups in stream.more.
func (st *stream) further() int { return max(0, st.groups-1-st.first()) }

// Score implements detect.Model. Scores are learned from the stream: honest words that the reference does not know come up
// more often the longer it is. Laid on simulated streams, which are shorter, 3 % of 100,000 clean generated reviews were
// quarantined at a budget of 1 %, and by association as much of a news corpus.
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	j, counted := m.judge(s, env)
	value := j.plain
	if j.mixed {
		value = counted().explainAway(env.Workers)
	}
	return detect.Scores{Value: value, Code: finding.PoisonTrigger, Stream: true, Learned: true, Explain: func(row int) string {
		if st := counted(); st != nil {
			st.explainAway(env.Workers)
			return st.explain(row)
		}
		return "no text"
	}}
}

// judged is what the detectors of this package say of the rows of one sample.
type judged struct {
	plain       []float64            // stream.plain
	mixed       bool                 // some of it can be explained away
	association []float64            // NaN for rows without a text or a label that the model knows, and without a reference
	counted     weak.Pointer[stream] // by which it is explained
}

type judgedKey struct {
	model  *model
	sample *detect.Sample
}

// judge judges a sample once for both detectors. What was counted is large, and most scores are never explained: it is
// kept by who holds the counted function of its first caller, and by nobody else; where it is gone it is counted again.
func (m *model) judge(s *detect.Sample, env detect.Env) (*judged, func() *stream) {
	var st *stream
	j := detect.Once(env, judgedKey{m, s}, func() (j *judged) {
		j, st = m.score(s, env)
		return j
	})
	if st == nil {
		st = j.counted.Value()
	}
	if st != nil || s.Text == nil || s.N == 0 {
		return j, func() *stream { return st }
	}
	return j, sync.OnceValue(func() *stream {
		_, again := m.score(s, env)
		return again
	})
}

// score judges a sample; the stream is nil where there is no text in it.
func (m *model) score(s *detect.Sample, env detect.Env) (*judged, *stream) {
	j := &judged{plain: make([]float64, s.N), association: make([]float64, s.N)}
	for i := range s.N {
		j.plain[i], j.association[i] = math.NaN(), math.NaN()
	}
	if s.Text == nil || s.N == 0 {
		return j, nil
	}
	st := m.observe(s, env)
	st.plain = j.plain
	j.counted = weak.Make(st)
	if st.others != nil {
		st.judge(j, env.Workers)
		return j, st
	}
	st.suspects = make([]float32, s.N)
	found := eachWorker(s.N, env.Workers, func(from, to int) bool {
		x := st.extractor()
		found := false
		for i := from; i < to; i++ {
			if s.Text[i] == nil {
				continue
			}
			x.extract(st.tokens.Row(i))
			found = st.note(j, i, st.evidence(i, st.counted.weights, &x), &x, &st.counted) || found
		}
		return found
	})
	if j.mixed = slices.Contains(found, true); !j.mixed {
		st.suspects = nil
	}
	return j, st
}

// observe counts what is in s.
func (m *model) observe(s *detect.Sample, env detect.Env) *stream {
	st := &stream{model: m, sample: s, tokens: text.Of(s, env)}
	var counting sync.WaitGroup
	same := m.sample == weak.Make(s)
	if !same && env.Workers > 1 {
		counting.Go(func() { m.count() }) // while the label model is trained, which one core does, if nobody has asked for it yet
	}
	defer counting.Wait()
	most := largest
	if m.labels != nil && s.Label != nil {
		st.groups = m.labels.Count()
		st.own = m.labels.Groups(s)
		st.p = m.labels.Predict(s, env)
		st.logs = make([]float64, s.N)
		for i, g := range st.own {
			st.logs[i] = 1
			if g >= 0 {
				st.logs[i] = float64(st.p[i*st.groups+int(g)])
			}
		}
		lanes.Logs(st.logs, st.logs)
		if st.groups > 2 {
			most.others -= 2
		}
	}
	st.unit = 1 / float64(uint(1)<<min(14, 31-bits.Len(uint(s.N))))
	all := distinctRows(s.N, st.tokens, st.own)
	st.unique = all
	if len(all.rows) > detect.Enough {
		st.unique = st.portion(all, env.Seed)
		st.others = &view{more: 1}
		most.others--
	}
	st.size = tableFor(max(st.unique.tokens, m.tokens), most)
	var reference []known
	if !same {
		reference, st.referenceRows = m.count(), m.rows
	}
	st.number(all.rows, reference, min(env.Workers, mostTables))
	st.findInserted(env.Workers)
	st.slots = max(1, st.groups)
	if slices.ContainsFunc(st.own, func(g int8) bool { return g < 0 }) {
		st.slots = st.groups + 1
	}
	st.counted.weights = st.weigh(nil, &st.counted, env.Workers)
	if st.others != nil {
		st.others.weights = st.weigh(nil, st.others, env.Workers)
	}
	return st
}

// counts tell of each bucket how many distinct records have it.
type counts struct {
	rows  int // distinct records
	table []bucket
	more  []labelled // per bucket, of the groups beyond the first counted one
}

// number numbers the buckets in which there is something, of stream or reference, from 1 on, words first, and counts these only: number 0 is that of all
// others. Few are in use where texts repeat each other, and what lies close together is quickly found. Rows are all distinct ones.
func (st *stream) number(rows []int, reference []known, workers int) {
	var others []int // those of which words only are counted
	if st.others != nil {
		others = make([]int, 0, len(rows)-len(st.unique.rows))
		for _, i := range rows {
			if !st.in[i] {
				others = append(others, i)
			}
		}
	}
	st.numbers = make(numbering, st.size.buckets()/32)
	for _, k := range reference {
		at := st.size.fold(k.at)
		st.numbers[at>>5] |= 1 << (at & 31)
	}
	x := extractor{size: st.size, functions: st.model.functions}
	use := func(rows []int, features func(x *extractor, row []text.Token) []uint32) {
		for _, set := range eachWorker(len(rows), workers, func(from, to int) []uint32 { return inUse(st.tokens, rows[from:to], x, features) }) {
			st.numbers.add(set)
		}
	}
	use(st.unique.rows, (*extractor).extract)
	if st.others != nil {
		use(others, (*extractor).words)
	}
	n := st.numbers.begin(1)
	st.reference = make([]uint32, n)
	for _, k := range reference {
		st.reference[st.numbers.of(st.size.fold(k.at))] += k.n
	}
	st.counts = st.count(st.unique.rows, n, (*extractor).extract, workers)
	if st.others != nil {
		words := int(st.numbers.below(1 << st.size.words))
		st.words = st.count(others, words, (*extractor).words, workers)
		st.words.add(st.counts, words, st.further())
	}
}

// count counts what rows have: the numbers, below n, that features returns for one.
func (st *stream) count(rows []int, n int, features func(x *extractor, row []text.Token) []uint32, workers int) counts {
	first, others := st.first(), st.further()
	parts := eachWorker(len(rows), workers, func(from, to int) counts {
		table, more := make([]bucket, n), make([]labelled, n*others)
		x := st.extractor()
		add := make([]labelled, max(1, st.groups))
		for _, i := range rows[from:to] {
			for g := range st.groups {
				expected := uint32(float64(st.p[i*st.groups+g])/st.unit + 0.5)
				observed := uint32(0)
				switch int(st.own[i]) {
				case -1:
					observed = expected // says nothing
				case g:
					observed = uint32(1 / st.unit)
				}
				add[g] = newLabelled(observed, expected)
			}
			one, rest := add[first], add[first+1:]
			// Whether a row has a feature twice cannot be foretold, so nothing branches on it.
			row := uint64(i+1) << 32
			for _, at := range features(&x, st.tokens.Row(i)) {
				b := &table[at]
				records := b.records
				again := (records^row)>>32 - 1 // the upper half is ones where the row was counted, or else zeros
				again = uint64(int64(again) >> 63)
				b.records = row | uint64(uint32(records)+1+uint32(again))
				b.labelled += one &^ labelled(again)
				for g := range others {
					more[int(at)*others+g] += rest[g] &^ labelled(again)
				}
			}
		}
		return counts{to - from, table, more}
	})
	sum := parts[0]
	for _, p := range parts[1:] {
		sum.add(p, n, others)
	}
	return sum
}

// add adds what others have of the first n numbers, of so many groups beyond the first counted one.
func (c *counts) add(other counts, n, groups int) {
	c.rows += other.rows
	for at := range c.table[:n] {
		to, from := &c.table[at], &other.table[at]
		to.records += uint64(from.n())
		to.labelled += from.labelled
	}
	for at := range c.more[:n*groups] {
		c.more[at] += other.more[at]
	}
}

// extractor returns one that gives numbers of buckets.
func (st *stream) extractor() extractor {
	return extractor{size: st.size, functions: st.model.functions, numbers: st.numbers}
}

// pairTables are tables of numbers, the largest of 4 MB, that lie about until they serve the next sample.
var pairTables sync.Pool

func emptyPairs(n int) []uint32 {
	if table, _ := pairTables.Get().(*[]uint32); table != nil && cap(*table) >= n {
		clear((*table)[:n])
		return (*table)[:n]
	}
	return make([]uint32, n)
}

// seen returns how many distinct records of stream and reference have a feature.
func (st *stream) seen(at uint32) float64 { return float64(st.table[at].n() + st.reference[at]) }

// findInserted measures for each word how much its neighbours look as if it had been put between them.
//
// Pairs with a word in question are counted once more in a table of their own, where they meet no others; how
// often its neighbours stand side by side is known from st.table, and is at most as often as either stands at all.
func (st *stream) findInserted(workers int) {
	all := float64(st.rows + st.referenceRows)
	total := float64(st.unique.tokens) + all // pairs
	if st.referenceRows > 0 {
		total += float64(st.model.tokens)
	}
	words := int(st.numbers.below(1 << st.size.words))
	seen, asked := make([]float64, words), make([]bool, words)
	for b := 1; b < words; b++ {
		n := st.seen(uint32(b))
		seen[b] = n
		asked[b] = n >= fewestInserted && n <= usualShare*all &&
			float64(st.reference[b]) <= knownShare*float64(st.referenceRows)
	}
	load, pairs := 0.0, 1<<(st.size.others-1)
	for b := uint32(words); b < st.numbers.below(1<<st.size.words+pairs); b++ {
		load += st.seen(b)
	}
	load /= float64(pairs)

	// A pair of which both words are in question stands there twice, once for each of them.
	before := func(before, w uint64) uint32 { return uint32(scramble(two(before, w)) >> (64 - st.size.others)) }
	after := func(w, after uint64) uint32 { return uint32(scramble(^two(w, after)) >> (64 - st.size.others)) }
	// neighbours returns what stands before and after the k-th word, and how many records have that.
	edges := spread(edge)
	neighbours := func(row []text.Token, numbers []uint32, k int) (a, b uint64, na, nb float64) {
		a, b, na, nb = edges, edges, all, all
		if k > 0 {
			a, na = spread(row[k-1].ID()), seen[numbers[k-1]]
		}
		if k+1 < len(row) {
			b, nb = spread(row[k+1].ID()), seen[numbers[k+1]]
		}
		return a, b, na, nb
	}
	tables := eachWorker(len(st.unique.rows), min(workers, mostTables), func(from, to int) []uint32 {
		table, x := emptyPairs(1<<st.size.others), st.extractor()
		for _, i := range st.unique.rows[from:to] {
			row := st.tokens.Row(i)
			numbers := x.words(row)
			for k, number := range numbers {
				if asked[number] {
					a, b, _, _ := neighbours(row, numbers, k)
					w := spread(row[k].ID())
					table[before(a, w)]++
					table[after(w, b)]++
				}
			}
		}
		return table
	})
	own := tables[0]
	for _, table := range tables[1:] {
		for b, n := range table {
			own[b] += n
		}
		pairTables.Put(&table)
	}

	const unit = 1 << 8
	made := eachWorker(len(st.unique.rows), workers, func(from, to int) []int64 {
		sums, x := make([]int64, 2*words), st.extractor()
		var of []uint32
		var odds []float64 // three for each of those
		for _, i := range st.unique.rows[from:to] {
			row := st.tokens.Row(i)
			numbers := x.words(row)
			of, odds = of[:0], odds[:0]
			for k, number := range numbers {
				if !asked[number] {
					continue
				}
				a, b, na, nb := neighbours(row, numbers, k)
				w := spread(row[k].ID())
				n := float64(st.table[number].n() - 1)
				chance := n / total // that a place is one of the word's, but for this one
				split := min(max(0, st.seen(st.numbers.of(st.size.pair(a, b)))-load), na, nb)
				of = append(of, number)
				odds = append(odds, (split+rarest+load)/(na*nb/total+rarest+load),
					(min(float64(own[before(a, w)]-1), n)+rarest)/(na*chance+rarest),
					(min(float64(own[after(w, b)]-1), n)+rarest)/(nb*chance+rarest))
			}
			lanes.Logs(odds, odds)
			for k, number := range of {
				odd := odds[3*k] - odds[3*k+1] - odds[3*k+2]
				sums[2*number] += int64(math.Round(odd * unit))
				sums[2*number+1]++
			}
		}
		return sums
	})
	pairTables.Put(&own)
	insertion := func(sum, n float64) float32 {
		if n < fewestInserted || sum <= 0 {
			return 0
		}
		return float32(sum / math.Sqrt(n+insertSpread*n*n))
	}
	st.counted.inserted = make([]float32, words)
	if st.others != nil {
		st.others.inserted = make([]float32, words)
	}
	for b := range words {
		sum, n := 0.0, 0.0
		for _, sums := range made {
			sum += float64(sums[2*b]) / unit
			n += float64(sums[2*b+1])
		}
		st.counted.inserted[b] = insertion(sum, n)
		if st.others != nil && n > 0 {
			st.others.inserted[b] = insertion(sum*(n+1)/n, n+1) // with a place of their own, like the rest
		}
	}
}

// weigh turns counts into the weights of a view, less what the records of a group have that are explained otherwise.
func (st *stream) weigh(explained *group, v *view, workers int) []weight {
	weights := make([]weight, len(st.table)*st.slots, len(st.table)*st.slots+1) // the last one is read with what follows
	eachWorker(len(st.table), workers, func(from, to int) any {
		// Logarithms of some features are taken together.
		var some []int                       // features
		var inserted, associations []float64 // per feature, and group
		shares := shares{known: st.referenceRows}
		settle := func() {
			shares.settle()
			for k, at := range some {
				common := shares.of(k * (1 + st.groups))
				for g := range st.slots {
					association, share := 0.0, common
					if g < st.groups {
						association = associations[k*st.groups+g]
						// What was planted has the label that it shall teach: records with other labels are no part of it.
						share = min(share, shares.of(k*(1+st.groups)+1+g))
					}
					weights[at*st.slots+g] = newWeight(association, share, inserted[k])
				}
			}
			some, inserted, associations = some[:0], inserted[:0], associations[:0]
			shares.clear()
		}
		for at := from; at < to; at++ {
			c, more, times := st.evident(at, v)
			b := &c.table[at]
			if b.n() == 0 && (more == 0 || st.reference[at] == 0) {
				continue
			}
			if explained != nil && !explained.has(at, st.slots, st.groups) {
				copy(weights[at*st.slots:(at+1)*st.slots], v.weights[at*st.slots:])
				continue
			}
			all := float64(b.n()) + more
			records := all
			if explained != nil {
				for slot := range st.slots {
					records -= float64(explained.records[at*st.slots+slot]) * st.unit * times
				}
				records = max(1, records)
			}
			n, known := records-1, float64(st.reference[at])
			shares.add(n, known, c.rows)
			insertion := 0.0
			if at < len(v.inserted) {
				insertion = float64(v.inserted[at]) * records / all
			}
			for g := range st.groups {
				observed, expected := st.labels(c, at, g)
				if more > 0 {
					observed, expected = observed+more, expected+more*st.likely[g]
				}
				if explained != nil {
					observed = max(0, observed-float64(explained.records[at*st.slots+g])*st.unit*times)
					expected = max(0, expected-float64(explained.expected[at*st.groups+g])*st.unit*times)
				}
				associations = append(associations, associate(n, observed, expected))
				shares.add(max(observed-1, 0), known*expected/records, c.rows)
			}
			some, inserted = append(some, at), append(inserted, insertion)
			if len(some) == 64 {
				settle()
			}
		}
		settle()
		return nil
	})
	return weights
}

// associate returns how far a label is observed beyond expectation on n records that have a feature, beside one more
// that has the label and is left out.
func associate(n, observed, expected float64) float64 {
	if n < 1 {
		return 0
	}
	p := expected / (n + 1)
	observed--
	expected = n * p
	p = max(0.02, min(p, 0.98))
	v := n * p * (1 - p)
	return (observed - expected) / math.Sqrt(v+0.5+labelSpread*v*v)
}

// shares are signed roots of the deviance of n of so many stream records with a feature and r of the known ones in the reference, under
// equal shares.
type shares struct {
	known int
	n, r  []float64
	above []float64 // n less what is expected
	logs  []float64 // two for each
}

// add asks for one more, of so many rows of the stream.
func (s *shares) add(n, r float64, rows int) {
	if s.known == 0 {
		n, r = 0, 0
	}
	q := float64(rows) / float64(rows+s.known)
	a, b := (n+r)*q, (n+r)*(1-q)
	x, y := 1.0, 1.0
	if n > 0 {
		x = n / a
	}
	if r > 0 {
		y = r / b
	}
	s.n, s.r, s.above, s.logs = append(s.n, n), append(s.r, r), append(s.above, n-a), append(s.logs, x, y)
}

// settle is called before any is asked for, once all were added.
func (s *shares) settle() { lanes.Logs(s.logs, s.logs) }

func (s *shares) clear() { s.n, s.r, s.above, s.logs = s.n[:0], s.r[:0], s.above[:0], s.logs[:0] }

// of returns the k-th.
func (s *shares) of(k int) float64 {
	return math.Copysign(math.Sqrt(max(0, 2*(s.n[k]*s.logs[2*k]+s.r[k]*s.logs[2*k+1]))), s.above[k])
}

// slot returns which of a feature's weights are those of a row.
func (st *stream) slot(row int) int {
	if st.own == nil || st.own[row] < 0 {
		return st.slots - 1
	}
	return int(st.own[row])
}

// evidence is what the features of a row say.
type evidence struct {
	score float64 // of the trigger detector
	peak  float64 // of the strongest feature
	drag  float64 // of the feature that drags the row's label along the most
}

// evidenceKernel is evidenceAVX512, nil where the processor does not have what it takes.
var evidenceKernel func(index *uint32, n int, weights *int16, stride int, most *[8]uint16, sums *[4]int32)

// mostSummed is how many numbers of 16 bits can be added in 32.
const mostSummed = 1 << 16

// evidence returns what a row's features, which x holds, say under weights, which weigh made.
func (st *stream) evidence(row int, weights []weight, x *extractor) evidence {
	if len(x.index) == 0 {
		return evidence{}
	}
	weights = weights[st.slot(row):]
	peak, drag, sum := uint16(0), uint16(0), 0
	if n := len(x.index); evidenceKernel != nil && n <= mostSummed {
		evidenceKernel(&x.index[0], n, (*int16)(unsafe.Pointer(&weights[0])), st.slots*int(unsafe.Sizeof(weight{})), &x.most, &x.sums)
		peak, drag, sum = x.most[0], x.most[1], int(x.sums[0])
	} else {
		for _, at := range x.index {
			w := weights[int(at)*st.slots]
			peak = max(peak, w.peak)
			drag = max(drag, w.drag)
			sum += int(w.mean)
		}
	}
	return evidence{
		score: st.together(row, peak, sum, len(x.index)),
		peak:  float64(peak) * peakUnit,
		drag:  float64(drag) * peakUnit,
	}
}

// together returns the trigger score of a row with so many features, of which the strongest and all together say so much.
func (st *stream) together(row int, peak uint16, sum, features int) float64 {
	score := float64(peak)*peakUnit + float64(sum)*meanUnit/(together*math.Sqrt(float64(features)))
	if st.own != nil && st.own[row] >= 0 {
		score += surprising * st.surprise(row)
	}
	return score
}

// surprise returns −log p(own label | text) of a row with a label that the model knows.
func (st *stream) surprise(row int) float64 {
	return -st.logs[row]
}
