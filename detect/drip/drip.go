// Package drip finds triggers that are dripped into a stream slowly: a few hundred poisoned records among a million, one
// in each of many segments, none of which looks like an attack by itself.
//
// # What it asks
//
// A record that a backdoor poisons carries a trigger, the attacker's label, and the text of another class. So of every
// feature of texts (words, pairs of neighbours, sentence shapes: trigger.Vocabulary) together with every label it asks:
// of the records that have both, how many have a text that belongs to another class? A label model of the reference
// (labels.Model) gives each record s = p(own label | text). With h₀ the distribution of s among all records with that
// label and h₁ that of p(label | text) among records with other labels,
//
//	E = Π ((1 − f₁) h₀(s) + f₁ h₁(s)) / ((1 − f₀) h₀(s) + f₀ h₁(s)),  f₀ = 0.2, f₁ = 0.9,
//
// over the distinct records that have the feature and the label, is a likelihood ratio: where no more than a fifth of
// them are of another class its expectation is at most 1, and the chance that it ever exceeds x is at most 1/x, however long
// the stream and however often one looks (Ville 1939; Grünwald, de Heide, Koolen, "Safe Testing", JRSS B 2024). Honest
// words that pull a label, known to the model or not, do not raise it: their records have texts of their own class.
// Nor does a small effect grow with the stream, as a z-score would: f₀ is the size from which an effect counts.
// Features are chosen by what came before and tested on what comes after, so p = K / E is valid as it stands for the
// worst of K features that were ever chosen. A record's p-value is that of its best feature.
//
// # How it is remembered
//
// There are millions of features and only some kilobytes. A count sketch (Charikar, Chen, Farach-Colton, ICALP 2002)
// of three rows sums, per hashed feature and label, the centred log-likelihood ratio; features whose sum stands out are
// counted one by one from then on (Memory). Records that came before count once (a hashed set of texts). Features that more
// than one in 2,000 of the reference's records have are left out: no slow drip could make half of their records, and
// what the label model learned of them from few records is not to be relied on.
// The oddest records are suspects (detect.Suspicion), by the hashes of their rarest words and most conspicuous features:
// when a feature is convicted later, they are recalled.
//
// # What it needs, and does not see
//
// Text and labels of at least two classes; a record without either has no score. What it needs of an attack: about
// 20 records that share a feature where the model tells classes well, 40 where it is right on 85 %, and more than 100
// where it is right on two thirds. It does not see triggers whose records keep an honest label, nor triggers made of words
// that are common in the reference only. Without a reference the label model is cross-fitted on each segment.
//
// # Cost
//
// Beside what it takes to cut a record into words and to predict its label, some 0.5 µs for one of 40 words (0.7 where the processor has
// no AVX-512), and 3 MB for a stream's memory; encoded it has at most MostBytes. Nothing is learned from a portion: every record of a
// segment is counted.
package drip

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/text"
	"github.com/tasterhq/taster/detect/trigger"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	honest   = 0.2 // f₀: the share of a feature's records that may be of another class
	poisoned = 0.9 // f₁: the share of a trigger's

	bins     = 16
	binWidth = 0.5 // of log-odds, the bins' middle at 0

	commonShare = 0.0005 // share of the reference's records from which a feature is common: one in 2,000

	priorRows = 300.0 // that a reference's held-out records weigh at most beside the stream's own

	unit     = 4.0 // of the sketch: quarters of a nat
	standOut = 3.0 // standard deviations of the sketch's noise from which a feature is counted
	fewest   = 2.5 // and so many times what one poisoned record adds
)

// Detector finds slow drips. Its zero value is ready.
type Detector struct{}

// Name implements detect.Detector.
func (Detector) Name() string { return "drip" }

type model struct {
	vocabulary *trigger.Vocabulary
	labels     *labels.Model
	common     *trigger.Set
	prior      shapes // of the reference's held-out records
}

// Fit implements detect.Detector.
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if reference.Text == nil || reference.Label == nil {
		return nil, nil
	}
	tokens := text.Of(reference, env)
	m := &model{labels: labels.Fit(reference, env)}
	if m.labels == nil {
		return nil, nil
	}
	m.vocabulary = trigger.NewVocabulary(reference, env)
	m.findCommon(tokens, reference.N)
	r := m.analyse(reference, m.labels.HeldOut(reference, env), env)
	m.prior = r.shapes(r.distinct(nil, env.Workers))
	m.prior.scale(priorRows)
	return m, nil
}

// findCommon marks the features that many of the reference's records have.
func (m *model) findCommon(tokens *text.Tokens, n int) {
	limit := uint16(min(commonShare*float64(n), math.MaxUint16-1))
	count := make([]uint16, 1<<trigger.SetBits)
	m.common = &trigger.Set{}
	var features []uint64
	for i := range n {
		features = slices.DeleteFunc(m.vocabulary.Append(features[:0], tokens.Row(i)), m.common.Has) // what is common stays so
		slices.Sort(features)
		for _, f := range slices.Compact(features) {
			at := f >> (64 - trigger.SetBits)
			if count[at]++; count[at] > limit {
				m.common.Add(f)
				count[at] = limit
			}
		}
	}
}

// key names a feature together with a label's group.
func key(feature uint64, group int8) uint32 {
	h := (feature ^ uint64(group+1)*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return uint32(h >> 32)
}

// rows is what a sample's records are to this detector.
type rows struct {
	sample *detect.Sample
	groups int
	group  []int8   // of the own label, −1 where there is no label that is known or no text
	bin    []uint8  // per row and group: into which bin p(group | text) falls
	id     []uint64 // of text and label
	runs   []run
}

// run holds the keys of runRows rows.
type run struct {
	keys []uint32
	ends []int
}

const runRows = 1 << 10

// keys returns the keys of a row: features that are not common, with its label.
func (r *rows) keys(row int) []uint32 {
	b := &r.runs[row/runRows]
	row %= runRows
	from := 0
	if row > 0 {
		from = b.ends[row-1]
	}
	return b.keys[from:b.ends[row]]
}

// own returns the bin of a row's own label.
func (r *rows) own(row int) uint8 { return r.bin[row*r.groups+int(r.group[row])] }

// binOf gives the bin of a probability, in steps of 1/1024.
var binOf = func() (table [1025]uint8) {
	for i := range table {
		p := max(0.5, min(float64(i), 1023.5)) / 1024
		table[i] = uint8(max(0, min(bins/2+int(math.Floor((math.Log(p)-math.Log1p(-p))/binWidth)), bins-1)))
	}
	return table
}()

// analyse lays out a sample, given p(group | text) of its rows.
func (m *model) analyse(s *detect.Sample, p []float32, env detect.Env) *rows {
	r := &rows{sample: s, groups: m.labels.Count(), group: make([]int8, s.N), id: make([]uint64, s.N)}
	for i := range r.group {
		r.group[i] = -1
	}
	if s.Text == nil || s.Label == nil {
		return r
	}
	tokens := text.Of(s, env)
	own := m.labels.Groups(s)
	r.bin = make([]uint8, len(p))
	r.runs = make([]run, (s.N+runRows-1)/runRows)
	detect.Chunks(s.N, runRows, env.Workers, func() func(from, to int) {
		rare := m.vocabulary.Rare(m.common)
		var features []uint64
		room := 0
		return func(from, to int) {
			out := run{keys: make([]uint32, 0, room), ends: make([]int, to-from)}
			for i, p := range p[from*r.groups : to*r.groups] {
				r.bin[from*r.groups+i] = binOf[int(1024*max(0, min(p, 1)))]
			}
			for i := from; i < to; i++ {
				row := tokens.Row(i)
				if own[i] >= 0 && len(row) > 0 {
					r.group[i] = own[i]
					r.id[i] = tokens.Key(i) ^ uint64(own[i]+1)*0x9e3779b97f4a7c15
					features = rare.Append(features[:0], row)
					for _, f := range features {
						out.keys = append(out.keys, key(f, own[i]))
					}
				}
				out.ends[i-from] = len(out.keys)
			}
			r.runs[from/runRows] = out
			room = len(out.keys) + len(out.keys)/16 // as the next will have
		}
	})
	return r
}

// distinct tells which rows count: with a label and a text that did not come before, in the sample or in seen. Each goroutine
// looks after the texts of one part of all hashes.
func (r *rows) distinct(seen *Memory, workers int) []bool {
	const least = 4 * runRows // rows that are worth a goroutine
	split := bits.Len(uint(max(1, min(workers, len(r.group)/least)))) - 1
	factor := rand.Uint64() | 1 // where a key is looked up nobody can foresee who writes texts
	first := make([][]int32, 1<<split)
	detect.Rows(len(first), 1, workers, func(part, _ int) {
		var rows []int32
		for i, g := range r.group {
			if g >= 0 && int(r.id[i]*factor>>(64-split)) == part && (seen == nil || !seen.has(r.id[i])) {
				rows = append(rows, int32(i))
			}
		}
		// Open addressing, 0 is free.
		width := bits.Len(uint(2 * len(rows)))
		known, zero, kept := make([]uint64, 1<<width), false, rows[:0]
		for _, i := range rows {
			id := r.id[i]
			if id == 0 {
				if !zero {
					kept, zero = append(kept, i), true
				}
				continue
			}
			at := id * factor << split >> (64 - width)
			for known[at] != 0 && known[at] != id {
				at = (at + 1) % uint64(len(known))
			}
			if known[at] == 0 {
				known[at], kept = id, append(kept, i)
			}
		}
		first[part] = kept
	})
	out := make([]bool, len(r.group))
	for _, rows := range first {
		for _, i := range rows {
			out[i] = true
		}
	}
	return out
}

// shapes are the distributions of p(group | text), per group: among records with that label, and among the others.
type shapes struct {
	own, other [labels.MostGroups][bins]float64
}

func (r *rows) shapes(counts []bool) shapes {
	var s shapes
	for i, own := range r.group {
		if !counts[i] {
			continue
		}
		for g := range r.groups {
			if b := r.bin[i*r.groups+g]; g == int(own) {
				s.own[g][b]++
			} else {
				s.other[g][b]++
			}
		}
	}
	return s
}

// scale lets no distribution weigh more than so many rows.
func (s *shapes) scale(most float64) {
	for g := range s.own {
		for _, h := range []*[bins]float64{&s.own[g], &s.other[g]} {
			sum := 0.0
			for _, n := range h {
				sum += n
			}
			if sum > most {
				for b := range h {
					h[b] *= most / sum
				}
			}
		}
	}
}

func (s *shapes) add(t *shapes) {
	for g := range s.own {
		for b := range s.own[g] {
			s.own[g][b] += t.own[g][b]
			s.other[g][b] += t.other[g][b]
		}
	}
}

// evidence says per group and bin what a record adds.
type evidence struct {
	log     [labels.MostGroups][bins]int32 // to ln E, in 1/evidenceUnit nats
	centred [labels.MostGroups][bins]int32 // to the sketch, in 1/unit nats: 0 on average over honest records
	odd     [labels.MostGroups][bins]bool  // likelier of another class than not, other things being equal
	one     float64                        // what a poisoned record adds to the sketch on average, in 1/unit nats
}

const evidenceUnit = 1024

func (m *model) evidence(before *Memory) evidence {
	s := m.prior
	s.add(&before.shapes)
	var e evidence
	total, poison := 0.0, 0.0
	for g := range m.labels.Count() {
		var own, other [bins]float64
		n, k := 0.0, 0.0
		for b := range own {
			own[b], other[b] = s.own[g][b]+0.5, s.other[g][b]+0.5
			n, k = n+own[b], k+other[b]
		}
		mean := 0.0
		var ln [bins]float64
		for b := range own {
			h0, h1 := own[b]/n, other[b]/k
			ln[b] = math.Log(((1-poisoned)*h0 + poisoned*h1) / ((1-honest)*h0 + honest*h1))
			mean += h0 * ln[b]
			e.odd[g][b] = h1 > h0
			e.log[g][b] = int32(math.Round(evidenceUnit * ln[b]))
		}
		for b := range own {
			e.centred[g][b] = int32(math.Round(unit * (ln[b] - mean)))
			poison += n * other[b] / k * unit * (ln[b] - mean)
		}
		total += n
	}
	e.one = max(1, poison/total)
	return e
}

// step is what a sample adds to a memory, and what is known with it.
type step struct {
	rows     *rows
	before   *Memory
	added    *Memory
	evidence evidence
}

// follow adds the sample to what was seen before.
func (m *model) follow(r *rows, before *Memory, env detect.Env) *step {
	e := m.evidence(before)
	st := &step{rows: r, before: before, added: newMemory(), evidence: e}
	add := st.added
	add.epoch = before.nextEpoch()
	if add.epoch != before.epoch {
		faded := newMemory()
		faded.chosen, faded.trails = before.chosen, before.trails
		before = faded
	}
	counts := r.distinct(before, env.Workers)
	// Each of these fills a part of what is added, so they can do so side by side.
	jobs := []func(){
		func() { m.addTrails(st, before, counts) },
		func() { add.shapes = r.shapes(counts) },
		func() {
			for i, c := range counts {
				if c {
					add.mark(r.id[i])
					add.rows++
				}
			}
		},
	}
	for d := range add.sums { // one row of the sketch at a time, for a processor's second cache holds one
		jobs = append(jobs, func() { r.addSums(add.sums[d], d, counts, &e) })
	}
	detect.Rows(len(jobs), 1, env.Workers, func(job, _ int) { jobs[len(jobs)-1-job]() }) // the longest first
	m.nominate(st, before.sums, counts, env)
	return st
}

// addSums adds the rows that count to a row of the sketch.
func (r *rows) addSums(sums []int32, d int, counts []bool, e *evidence) {
	for i, c := range counts {
		if !c {
			continue
		}
		v := e.centred[r.group[i]][r.own(i)]
		for _, k := range r.keys(i) {
			at, sign := cell(k, d)
			sums[at] += sign * v
		}
	}
}

// addTrails adds the rows that count to the features that are counted one by one.
func (m *model) addTrails(st *step, before *Memory, counts []bool) {
	if len(before.trails) == 0 {
		return
	}
	r, e, add := st.rows, &st.evidence, st.added
	var counted bitmap
	for k := range before.trails {
		counted.set(k)
	}
	var done []uint32
	for i, c := range counts {
		if !c {
			continue
		}
		done = done[:0]
		for _, k := range r.keys(i) {
			if !counted.has(k) || slices.Contains(done, k) {
				continue
			}
			if _, ok := before.trails[k]; !ok {
				continue
			}
			done = append(done, k)
			t := add.trails[k]
			t.log += int64(e.log[r.group[i]][r.own(i)])
			t.records++
			if t.phrase == "" && before.trails[k].phrase == "" && before.trails[k].log+t.log >= worthNaming {
				t.phrase = m.phrase(r.sample.Text[i], r.group[i], k)
			}
			add.trails[k] = t
		}
	}
}

// worthNaming is the evidence from which a feature's words are remembered: it looks like a trigger by itself.
const worthNaming = 5 * evidenceUnit

// nominate begins to count the features of odd records that stand out.
func (m *model) nominate(st *step, before *sketch, counts []bool, env detect.Env) {
	r, e := st.rows, &st.evidence
	noise := noiseOf(before, st.added.sums)
	least := max(standOut*noise, fewest*e.one)
	type candidate struct {
		key uint32
		sum int32
	}
	var mu sync.Mutex
	found := map[uint32]int32{}
	detect.Rows(len(counts), runRows, env.Workers, func(from, to int) {
		var some []candidate
		for i, c := range counts[from:to] {
			i += from
			if !c || !e.odd[r.group[i]][r.own(i)] {
				continue
			}
			for _, k := range r.keys(i) {
				if sum := estimate(k, before, st.added.sums); float64(sum) >= least {
					if _, counted := st.before.trails[k]; !counted {
						some = append(some, candidate{k, sum})
					}
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range some {
			found[c.key] = c.sum // the same of all rows that have it
		}
	})
	candidates := make([]candidate, 0, len(found))
	for k, sum := range found {
		candidates = append(candidates, candidate{k, sum})
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(a.key, b.key))
	})
	candidates = candidates[:min(len(candidates), mostTrails)]
	for _, c := range candidates {
		st.added.trails[c.key] = trail{}
	}
	st.added.chosen = uint64(len(candidates))
}

// phrase quotes the feature of a text behind a key.
func (m *model) phrase(whole []byte, group int8, k uint32) string {
	for _, f := range m.vocabulary.Append(nil, text.Append(nil, whole)) {
		if !m.common.Has(f) && key(f, group) == k {
			return clip(m.vocabulary.Phrase(whole, f))
		}
	}
	return ""
}

// Score implements detect.Model.
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, newMemory(), env)
}

// A sample is scored, observed and searched for suspects, one after the other, by what these name.
type (
	rowsOf struct {
		model  *model
		sample *detect.Sample
	}
	stepOf struct {
		rowsOf
		before *Memory // nil: nothing was seen
	}
)

// take returns what a sample adds to what was seen before.
func (m *model) take(s *detect.Sample, before *Memory, env detect.Env) *step {
	key := stepOf{rowsOf{m, s}, before}
	if before.empty() {
		key.before = nil
	}
	return detect.Once(env, key, func() *step { return m.follow(m.rows(s, env), before, env) })
}

// rows lays out a sample.
func (m *model) rows(s *detect.Sample, env detect.Env) *rows {
	return detect.Once(env, rowsOf{m, s}, func() *rows {
		if s.Text == nil || s.Label == nil {
			return m.analyse(s, nil, env)
		}
		return m.analyse(s, m.labels.Predict(s, env), env)
	})
}

// ScoreWith implements detect.Remembering.
func (m *model) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	scores := detect.Scores{
		Value: make([]float64, s.N), LogP: make([]float64, s.N), Code: finding.PoisonTrigger, Stream: true,
	}
	st := m.take(s, before.(*Memory), env)
	r := st.rows
	best := make([]uint32, s.N)
	suspicious := st.suspicious()
	scores.Explain = func(row int) string {
		if scores.Value[row] <= 0 || math.IsNaN(scores.Value[row]) {
			return "no phrase that comes with texts of another class"
		}
		return m.explain(st, row, best[row])
	}
	tested := st.tested()
	detect.Rows(s.N, runRows, env.Workers, func(from, to int) {
		for i := from; i < to; i++ {
			if scores.Value[i] = math.NaN(); r.group[i] < 0 {
				continue
			}
			scores.Value[i] = 0
			for _, k := range r.keys(i) {
				if !suspicious.has(k) {
					continue
				}
				if t := st.trail(k); float64(t.log)/evidenceUnit > scores.Value[i] {
					scores.Value[i], best[i] = float64(t.log)/evidenceUnit, k
				}
			}
			scores.LogP[i] = min(0, tested-scores.Value[i])
		}
	})
	return scores
}

// suspicious holds the features with evidence against them.
func (st *step) suspicious() *bitmap {
	var b bitmap
	for _, trails := range []map[uint32]trail{st.before.trails, st.added.trails} {
		for k := range trails {
			if st.trail(k).log > 0 {
				b.set(k)
			}
		}
	}
	return &b
}

// trail returns what is known of a feature that is counted.
func (st *step) trail(k uint32) trail {
	a, b := st.before.trails[k], st.added.trails[k]
	return a.plus(b)
}

// tested is ln K.
func (st *step) tested() float64 {
	return math.Log1p(float64(st.before.chosen) + float64(st.added.chosen))
}

func (m *model) explain(st *step, row int, k uint32) string {
	s := st.rows.sample
	phrase := m.phrase(s.Text[row], st.rows.group[row], k)
	if phrase == "" {
		phrase = "a phrase"
	}
	t := st.trail(k)
	return fmt.Sprintf("%s drags label %q along: %d texts of another class share it, over the whole stream", phrase, s.Classes[s.Label[row]], t.records)
}

// Memory implements detect.Remembering.
func (m *model) Memory(data []byte) (detect.Memory, error) {
	if data == nil {
		return newMemory(), nil
	}
	return decode(data)
}

// Observe implements detect.Remembering.
func (m *model) Observe(s *detect.Sample, flagged []bool, env detect.Env) detect.Memory {
	return m.ObserveAfter(s, newMemory(), flagged, env)
}

// ObserveAfter is Observe where before is what the stream has shown until s: what came already does not count again, and
// what stood out is counted. Which rows are quarantined does not matter: evidence is evidence.
func (m *model) ObserveAfter(s *detect.Sample, before detect.Memory, _ []bool, env detect.Env) detect.Memory {
	own := newMemory() // the caller's to change
	own.Merge(m.take(s, before.(*Memory), env).added)
	return own
}

// Suspects returns the records whose text looks more like another class's than like their own, with the keys of words and
// features by which a trigger would be known.
func (m *model) Suspects(s *detect.Sample, known detect.Memory, env detect.Env) []detect.Suspicion {
	mem := known.(*Memory)
	r := m.rows(s, env)
	if s.Text == nil {
		return nil
	}
	tokens := text.Of(s, env)
	e := m.evidence(mem)
	out := make([][]detect.Suspicion, len(r.runs))
	detect.Chunks(s.N, runRows, env.Workers, func() func(from, to int) {
		rare := m.vocabulary.Rare(m.common)
		var features, sorted, words []uint64
		return func(from, to int) {
			for i := from; i < to; i++ {
				if g := r.group[i]; g < 0 || !e.odd[g][r.own(i)] || len(r.keys(i)) == 0 {
					continue
				}
				row := tokens.Row(i)
				features = rare.Append(features[:0], row)
				sorted = append(sorted[:0], features...)
				slices.Sort(sorted)
				words = m.wordsOf(words[:0], row, sorted)
				if c := m.suspicion(i, r.group[i], features, words, mem); len(c.Keys) > 0 {
					out[from/runRows] = append(out[from/runRows], c)
				}
			}
		}
	})
	return slices.Concat(out...)
}

// wordsOf returns, sorted, those of a row's features, which are sorted, that one of its words has by itself. Few features are rare, and few of a
// row's words have one of them: of most, 64 bits tell that.
func (m *model) wordsOf(dst []uint64, row []text.Token, features []uint64) []uint64 {
	var some uint64
	for _, f := range features {
		some |= 1 << (f >> 58)
	}
	for t := range row {
		kept := len(dst)
		dst = m.vocabulary.Append(dst, row[t:t+1])
		for _, f := range dst[kept:] {
			if some>>(f>>58)&1 == 0 {
				continue
			}
			if _, rare := slices.BinarySearch(features, f); rare {
				dst[kept] = f
				kept++
			}
		}
		dst = dst[:kept]
	}
	slices.Sort(dst)
	return dst
}

// suspicion chooses the keys of a suspect: the most conspicuous of its words, which any trigger of words has, and a few
// of its other features.
func (m *model) suspicion(row int, group int8, features, words []uint64, known *Memory) detect.Suspicion {
	type choice struct {
		key  uint32
		sum  int32
		word bool
	}
	var all []choice
	for _, f := range features {
		k := key(f, group)
		_, word := slices.BinarySearch(words, f)
		all = append(all, choice{k, estimate(k, known.sums, nil), word})
	}
	slices.SortFunc(all, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(a.key, b.key))
	})
	all = slices.CompactFunc(all, func(a, b choice) bool { return a.key == b.key })
	c := detect.Suspicion{Row: row}
	const mostWords = mostKeys * 3 / 4
	take := func(word bool, most int) {
		for _, a := range all {
			if a.word == word && len(c.Keys) < most {
				c.Keys = append(c.Keys, a.key)
			}
		}
	}
	take(true, mostWords)
	take(false, mostKeys)
	c.Weight = m.Weigh(c.Keys, known)
	return c
}

// mostKeys is how many keys a suspect has at most.
const mostKeys = 16

// Weigh returns the largest sum of the features behind the keys.
func (m *model) Weigh(keys []uint32, known detect.Memory) float32 {
	mem, best := known.(*Memory), int32(math.MinInt32)
	for _, k := range keys {
		best = max(best, estimate(k, mem.sums, nil))
	}
	return float32(best)
}

// Convict returns what tells whether one of a record's features has enough evidence against it, nil where none has.
func (m *model) Convict(known detect.Memory) func(keys []uint32) (finding.Finding, bool) {
	mem := known.(*Memory)
	tested := math.Log1p(float64(mem.chosen))
	var guilty bitmap
	any := false
	for k, t := range mem.trails {
		if tested-float64(t.log)/evidenceUnit <= convicting {
			guilty.set(k)
			any = true
		}
	}
	if !any {
		return nil
	}
	return func(keys []uint32) (finding.Finding, bool) {
		var best trail
		for _, k := range keys {
			if guilty.has(k) {
				if t := mem.trails[k]; t.log > best.log {
					best = t
				}
			}
		}
		ln := float64(best.log) / evidenceUnit
		if tested-ln > convicting {
			return finding.Finding{}, false
		}
		phrase := best.phrase
		if phrase == "" {
			phrase = "a phrase"
		}
		return finding.Finding{
			Score: ln, PValue: math.Exp(max(tested-ln, math.Log(math.SmallestNonzeroFloat64)+40)), Threshold: math.Exp(convicting),
			Evidence: fmt.Sprintf("%s drags the label along: %d texts of another class share it, over the whole stream", phrase, best.records),
			Code:     finding.PoisonTrigger,
		}, true
	}
}

// convicting is ln p from which a feature's earlier records are recalled: one stream of clean records in a thousand
// brings a recall that it should not.
var convicting = math.Log(0.001)
