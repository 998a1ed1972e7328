// Package nearduplicate finds floods: many rows that are nearly the same, where the reference has none or few of them.
//
// What it catches: one text sent many times, exactly or with a few words, numbers or slots changed, in one segment or dripped
// over a long stream; where there are no texts, embeddings that hardly differ, and where there are neither, rows whose numeric features
// hardly do. What it needs: text, embedding or features. What it leaves alone: what is as common in the
// reference (short praise, boilerplate, whole numbers that tie), texts that share phrases but not most of their wording.
//
// Vocabulary. A row's signature is 64 bytes, and the share of equal bytes estimates how similar two rows are. A type
// is all rows with the same words. A cluster is a set of types that hang together by pairs of at least a certain
// similarity; clusters are made at four levels, 0.4, 0.55, 0.7 and 0.85, and the level at which a row stands out most counts.
// Who is less similar than that to what is common to the cluster is no part of it: by pairs alone a long stream of texts
// from one small vocabulary hangs together as a whole.
//
// Text: the signature is a one-permutation MinHash of its shingles of three words, which package wording makes.
// Embedding: the signature is 512 signs of a random rotation (Charikar, "Similarity estimation techniques from
// rounding algorithms", STOC 2002; by Hadamard transform as in Ailon and Chazelle, STOC 2006) of the vector less the reference's mean;
// the levels then stand for cosines of about 0.94, 0.975, 0.991 and 0.998. Features: each byte is a cell of a random line through the
// features, measured by their spreads (see grid); the levels stand for distances far below that of
// the reference's rows from their nearest neighbours, so that a flood may hang together by pairs and nothing else does. Rows without any value get no opinion.
//
// Candidates are found by sorting the types four times, each time by another quarter of the signature, and comparing each with
// the three that follow it: the larger the cluster, the surer its members stand side by side. Time is n log n with a small
// constant, memory about 200 bytes a type, however large a cluster is.
//
// Score. Of the c others in a row's cluster and the r reference rows that belong to it, c lie among the n of the stream and r
// among the m of the reference. Were the stream like the reference, that split would be binomial with q = n/(n+m); the score is
// Chernoff's bound on its surprise, (c+r)·KL(c/(c+r) ‖ q), less 3, at least 0, and less for texts of few words. A cluster that the
// reference is simply too small to have seen (c < 3·n/m or so) therefore scores 0. Where the reference is the very
// sample that is scored, the size of the cluster of all but the most duplicated tenth of the rows stands in for it.
//
// Calibration. Scores depend on the stream. A simulated clean stream may be a bootstrap of held-out rows, which repeats rows: with
// n rows of d types, t = n/d copies of each are what sampling explains, and copies up to t + 4√t count as one. Beyond that
// every t copies count as one more. What remains is shares of types, which a bootstrap of few rows estimates at the right scale.
//
// Memory. Of the whole stream a sketch of fixed size keeps how many rows had each of eight bands of bytes (see memory). A row whose
// fullest band holds c rows more than chance puts into one cell is scored by how rare that is: the share of the stream's
// rows in bands as full, each weighted with the chance that a reference of m rows would then have missed it,
// exp(−c·ln(1 + m/n)); where the reference has some, by the share of rows times Chernoff's bound. No more than that share of
// clean rows can score so high, whatever clean traffic repeats. Surprise starts at ln(m/3 + 1), where ranks among as many held-out rows end; floods of a share of about 1/m score least. A flood shows from about 4 + 4·√(8n/65,536) of its rows that
// share a band: 15 at 60,000 rows, 50 at a million. The memory takes 512 KiB, and less
// when encoded. Rows that are a little frequent are remembered by their bands, and recalled when they turn out to be a flood's.
//
// Evidence: the cluster's size and share, its similarity, and how many rows of the reference belong to it.
package nearduplicate

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/detect/wording"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	maxReference = 8192 // rows of the reference that are kept
	minRows      = 8    // a reference below this says nothing
	deadZone     = 3    // surprise, in nats, that chance is granted
	fullWords    = 18   // texts of fewer words score less
	selfRows     = 1000 // how large a reference the stream is for itself
)

// Detector finds near-duplicate floods. It has no settings.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "near_duplicate" }

// Fit implements [detect.Detector].
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	m := &model{}
	switch {
	case reference.Text != nil:
	case reference.Dim > 0 && reference.Embedding != nil:
		m.rotation = newRotation(reference, env.Seed)
	default:
		if m.grid = newGrid(reference, env.Seed); m.grid == nil {
			return nil, nil
		}
	}
	m.whole, m.wholeRows = fingerprint(m.contents(reference, env)), reference.N
	rows := rand.New(rand.NewPCG(env.Seed, 0x6e656172)).Perm(reference.N)
	kept := reference.Select(rows[:min(maxReference, len(rows))])
	if m.learn(kept, env); m.rows < minRows {
		return nil, nil
	}
	if m.grid != nil {
		m.kept = kept
	}
	return m, nil
}

// learn signs the reference's rows.
func (m *model) learn(kept *detect.Sample, env detect.Env) {
	m.reference = m.group(kept, env).compact() // what is shared may serve another sample later
	var keys [bands]uint32
	for i := range m.reference.types {
		t := &m.reference.types[i]
		m.rows += int(t.rows)
		m.bandKeys(&m.reference.signatures[i], &keys)
		for _, key := range keys {
			m.bands = append(m.bands, knownBand{key, t.rows})
		}
	}
	slices.SortFunc(m.bands, func(a, b knownBand) int { return cmp.Compare(a.key, b.key) })
	m.narrow = min(32, 33-bits.Len(uint(len(m.bands))))
	m.starts = make([]int32, 1<<(32-m.narrow)+1)
	for _, b := range m.bands {
		m.starts[b.key>>m.narrow+1]++
	}
	for i := range m.starts[1:] {
		m.starts[i+1] += m.starts[i]
	}
}

// under returns the model that signs as a memory's rows were signed, which matters where they were signed by a grid.
func (m *model) under(before *memory, env detect.Env) *model {
	if m.grid == nil || before.grid == nil || before.basis == m.basis() || len(before.grid.unit) != len(m.grid.unit) {
		return m
	}
	if other := m.other.Load(); other != nil && other.basis() == before.basis {
		return other
	}
	other := &model{grid: before.grid, whole: m.whole, wholeRows: m.wholeRows, kept: m.kept}
	other.learn(m.kept, env)
	m.other.Store(other)
	return other
}

type model struct {
	rotation  *rotation // nil: text, or
	grid      *grid     // features
	reference grouping
	bands     []knownBand // of the reference, by rising key
	starts    []int32     // where those stand whose keys begin with so many bits
	narrow    int         // the bits behind them
	rows      int         // of the reference that have something to compare
	whole     uint64      // fingerprint of all of the reference, to recognise it
	wholeRows int         // of all of the reference

	kept  *detect.Sample        // the reference's rows, where another grid may sign them
	other atomic.Pointer[model] // signed by the grid of the memory that was met last
}

// knownBand counts the reference rows of one type that have a band.
type knownBand struct {
	key  uint32
	rows int32
}

// contentsOf and groupingOf name what a sample is to a model: it is scored, remembered and looked through for suspects, one
// after the other, and signing is what costs.
type (
	contentsOf struct {
		model  *model
		sample *detect.Sample
	}
	groupingOf contentsOf
	bandsOf    contentsOf

	orderOf struct{ texts *wording.Texts }
	keysOf  struct{ texts *wording.Texts }
)

// group finds the types of a sample.
func (m *model) group(s *detect.Sample, env detect.Env) grouping {
	return detect.Once(env, groupingOf{m, s}, func() grouping {
		if m.ofTexts() {
			return typesOf(wording.Of(s, env), env)
		}
		return groupTypes(m.contents(s, env), func(row int) (signature, uint64, int) { return m.sign(s, row) }, env)
	})
}

// typesOf finds which rows of texts are of one type.
func typesOf(texts *wording.Texts, env detect.Env) grouping {
	whole := texts.Whole()
	order := detect.Once(env, orderOf{whole}, func() []place { return orderOfTexts(whole) })
	g := grouping{types: make([]rowType, 0, min(len(order), len(texts.Words))), signatures: texts.Signatures, typeOf: make([]int32, len(texts.Words))}
	if len(order) < len(whole.Words) {
		for row := range g.typeOf {
			g.typeOf[row] = -1
		}
	}
	last := uint64(0)
	for _, p := range order {
		if int(p.index) >= len(texts.Words) {
			continue
		}
		n := len(g.types)
		if n == 0 || last != p.key {
			last = p.key
			g.types = append(g.types, rowType{hash: p.key, words: texts.Words[p.index], at: p.index})
			n++
		}
		g.types[n-1].rows++
		g.typeOf[p.index] = int32(n - 1)
	}
	return g
}

// orderOfTexts returns rows with words, by hash and then by row.
func orderOfTexts(texts *wording.Texts) []place {
	scratch := borrow(len(texts.Words))
	defer scratch.giveBack()
	n := 0
	for row, hash := range texts.Hash {
		if texts.Words[row] > 0 {
			scratch.one[n] = place{key: hash, index: int32(row)}
			n++
		}
	}
	return slices.Clone(byKey(scratch.one[:n], scratch.other[:n]))
}

// keysOfTexts returns the bands of each row of texts.
func keysOfTexts(texts *wording.Texts, env detect.Env) [][bands]uint32 {
	whole := texts.Whole()
	keys := detect.Once(env, keysOf{whole}, func() [][bands]uint32 {
		n := len(whole.Words)
		keys, ok := keysRooms.Take(func(k [][bands]uint32) bool { return cap(k) >= n })
		if !ok {
			keys = make([][bands]uint32, n)
		}
		detect.AtEnd(env, func() { keysRooms.Put(keys) })
		keys = keys[:n]
		const rows = 1024 // at a time
		detect.Rows(n, rows, env.Workers, func(first, end int) { allBandKeys(whole.Signatures[first:end], keys[first:end]) })
		return keys
	})
	return keys[:len(texts.Words)]
}

// keysRooms are where bands were written in samples of which no more is asked.
var keysRooms detect.Shelf[[][bands]uint32]

// ofTexts tells that signatures are made from texts.
func (m *model) ofTexts() bool { return m.rotation == nil && m.grid == nil }

// bandsOf returns the bands of a sample's rows.
func (m *model) bandsOf(s *detect.Sample, env detect.Env) *banded {
	return detect.Once(env, bandsOf{m, s}, func() *banded {
		if m.ofTexts() {
			texts := wording.Of(s, env)
			return &banded{keys: keysOfTexts(texts, env), words: texts.Words}
		}
		g := m.group(s, env)
		out := &banded{keys: make([][bands]uint32, len(g.signatures)), words: make([]int32, len(g.signatures)), at: make([]int32, s.N)}
		detect.Each(len(g.types), env.Workers, func(t int) {
			at := g.types[t].at
			m.bandKeys(&g.signatures[at], &out.keys[at])
			out.words[at] = g.types[t].words
		})
		for row, t := range g.typeOf {
			if out.at[row] = -1; t >= 0 {
				out.at[row] = g.types[t].at
			}
		}
		return out
	})
}

// known counts the reference rows that are nearly equal to a signature, by the band that most of them share.
func (m *model) known(keys *[bands]uint32) int {
	best := 0
	for _, key := range keys {
		rows := 0
		for _, b := range m.bands[m.starts[key>>m.narrow]:m.starts[key>>m.narrow+1]] {
			if b.key == key {
				rows += int(b.rows)
			}
		}
		best = max(best, rows)
	}
	return best
}

// contents hashes what is compared, row by row; 0 stands for nothing.
func (m *model) contents(s *detect.Sample, env detect.Env) []uint64 {
	return detect.Once(env, contentsOf{m, s}, func() []uint64 {
		hash := make([]uint64, s.N)
		detect.Each(s.N, env.Workers, func(row int) {
			switch {
			case m.rotation != nil:
				hash[row] = m.rotation.content(s, row)
			case m.grid != nil:
				hash[row] = m.grid.content(s, row)
			case s.Text != nil:
				hash[row] = textContent(s.Text[row])
			}
		})
		return hash
	})
}

// sign returns the signature of a row of numbers, the hash that tells its type, and as many words as count in full.
func (m *model) sign(s *detect.Sample, row int) (signature, uint64, int) {
	if m.rotation != nil {
		return m.rotation.sign(s, row), m.rotation.content(s, row), fullWords
	}
	return m.grid.sign(s, row), m.grid.content(s, row), fullWords
}

// fingerprint is the same for the same rows in any order.
func fingerprint(contents []uint64) uint64 {
	sum := uint64(len(contents))
	for _, h := range contents {
		sum += sketch.Mix(h)
	}
	return sum
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores { return m.score(s, nil, env) }

// ScoreWith implements [detect.Remembering].
func (m *model) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	b, ok := before.(*memory)
	if !ok || b.rows == 0 {
		return m.score(s, nil, env)
	}
	m = m.under(b, env)
	if b.basis != m.basis() {
		b = nil
	}
	return m.score(s, b, env)
}

// score scores s by itself and, where before is not nil, by what the stream has shown until then.
func (m *model) score(s *detect.Sample, before *memory, env detect.Env) detect.Scores {
	stream := m.group(s, env)
	merged := merge(stream, m.reference)
	signatures := signaturesOf(merged, stream, m.reference, env.Workers)
	found := clusters(signatures, m.grid != nil, env.Workers)
	mergedRooms.Put(signatures)
	stats := newStatistics(merged.types, found, m.rows, env.Workers)
	alone := s.N == m.wholeRows && fingerprint(m.contents(s, env)) == m.whole // there is no reference
	if alone {
		stats.standIn()
	}

	surprise := make([]float64, len(merged.types)) // of each type, at its best level
	best := make([]int8, len(merged.types))
	detect.Each(len(merged.types), env.Workers, func(t int) {
		surprise[t], best[t] = stats.most(int32(t))
		surprise[t] = max(0, surprise[t]-deadZone) * min(1, float64(merged.types[t].words)/fullWords)
	})
	var long *longFloods
	if before != nil {
		long = m.longFloods(merged.types, m.bandsOf(s, env), before, alone, env)
	}
	value := make([]float64, s.N)
	for row, t := range merged.typeOf {
		value[row] = math.NaN()
		if t >= 0 {
			value[row] = surprise[t]
			if long != nil {
				value[row] = max(value[row], long.surprise[t])
			}
		}
	}
	return detect.Scores{Value: value, Code: finding.PoisonNearDuplicate, Stream: true, Explain: func(row int) string {
		t := merged.typeOf[row]
		if t < 0 {
			return "nothing to compare"
		}
		if long != nil && long.surprise[t] > surprise[t] {
			return long.explain(t, m.rows)
		}
		return stats.explain(int(best[t]), t, m.rows, s.N)
	}}
}

// statistics says of every cluster how much of the stream and of the reference lies in it.
type statistics struct {
	types     []rowType
	found     *clustering
	clusters  [len(thresholds)][]cluster // by the cluster's slot
	copies    float64                    // of a type that sampling explains
	effective float64                    // rows of the stream, copies that sampling explains counted once
	reference float64                    // rows of the reference
	standin   float64                    // reference rows that every cluster is granted
	alone     bool                       // the reference is the stream
}

type cluster struct {
	weight    float64 // of the stream, copies that sampling explains counted once
	rows      int32   // of the stream
	types     int32   // of the stream
	reference int32   // rows of the reference
}

func newStatistics(types []rowType, found *clustering, reference, workers int) *statistics {
	st := &statistics{types: types, found: found, reference: float64(reference)}
	rows, distinct := 0, 0
	for i := range types {
		if n := types[i].rows; n > 0 {
			rows += int(n)
			distinct++
		}
	}
	st.copies = float64(rows) / float64(max(1, distinct))
	explained := 4 * math.Sqrt(st.copies)
	for i := range types {
		st.effective += st.weight(types[i].rows, explained)
	}
	detect.Each(len(found.levels), workers, func(level int) {
		clusters := make([]cluster, len(found.members))
		for slot, i := range found.members {
			t, c := &types[i], &clusters[found.levels[level][slot]]
			c.weight += st.weight(t.rows, explained)
			c.rows += t.rows
			c.reference += t.reference
			if t.rows > 0 {
				c.types++
			}
		}
		st.clusters[level] = clusters
	})
	return st
}

// weight is how many rows count that are alike; explained is how many more than usual chance makes them.
func (st *statistics) weight(rows int32, explained float64) float64 {
	if rows == 0 {
		return 0
	}
	return 1 + max(0, float64(rows)-st.copies-explained)/st.copies
}

// of returns the cluster of a type at a level.
func (st *statistics) of(level int, t int32) cluster {
	var c cluster
	if slot := st.found.of(level, t); slot >= 0 {
		c = st.clusters[level][slot]
	} else {
		one := &st.types[t]
		c = cluster{weight: st.weight(one.rows, 4*math.Sqrt(st.copies)), rows: one.rows, reference: one.reference}
		if one.rows > 0 {
			c.types = 1
		}
	}
	if st.alone {
		c.reference = 0
	}
	return c
}

// standIn replaces the reference, which is the stream, by what all but the most duplicated tenth of the rows show.
func (st *statistics) standIn() {
	sizes := make([]float64, 0, len(st.types))
	for i := range st.types {
		weight := st.of(len(thresholds)-1, int32(i)).weight
		for range st.types[i].rows {
			sizes = append(sizes, weight)
		}
	}
	st.reference = min(selfRows, st.effective)
	st.standin = max(0, quantile(sizes, 0.9)-1) * st.reference / max(1, st.effective)
	st.alone = true
}

// most returns the surprise of a type's clusters at the level where it is largest, and that level.
func (st *statistics) most(t int32) (surprise float64, best int8) {
	first := 0
	if st.found.slot[t] < 0 {
		first = len(thresholds) - 1 // it is alone at all of them
	}
	for level := first; level < len(thresholds); level++ {
		if v := st.surprise(st.of(level, t)); v > 0 && v >= surprise { // of equals, the most similar
			surprise, best = v, int8(level)
		}
	}
	return surprise, best
}

// surprise is Chernoff's bound on −log of the chance that a cluster's rows fall so unevenly.
func (st *statistics) surprise(c cluster) float64 {
	return chernoff(c.weight-1, st.effective, float64(c.reference)+st.standin, st.reference)
}

// chernoff bounds −ln of the chance that of c + r alike rows c or more are among the n of the stream and r among the m of the
// reference, were they drawn alike.
func chernoff(c, n, r, m float64) float64 {
	all := c + r
	if c <= 0 || n <= 0 {
		return 0
	}
	share, expected := c/all, n/(n+m)
	if share <= expected {
		return 0
	}
	kl := share * math.Log(share/expected)
	if share < 1 {
		kl += (1 - share) * math.Log((1-share)/(1-expected))
	}
	return all * kl
}

func (st *statistics) explain(level int, t int32, reference, rows int) string {
	c := st.of(level, t)
	if c.rows == 1 {
		return fmt.Sprintf("no other of %d rows is nearly equal; %d of %d in the reference", rows, c.reference, reference)
	}
	similarity := fmt.Sprintf("similarity %.2g or more, %d different wordings", thresholds[level], c.types)
	if c.types == 1 {
		similarity = "word for word"
	}
	line := fmt.Sprintf("one of %d nearly equal rows, %.2g %% of %d (%s)", c.rows, 100*float64(c.rows)/float64(rows), rows, similarity)
	if c.reference == 0 && st.standin > 0 {
		return line + fmt.Sprintf("; most rows here have at most %.0f", st.standin*st.effective/max(1, st.reference))
	}
	return line + fmt.Sprintf("; %d of %d in the reference", c.reference, reference)
}
