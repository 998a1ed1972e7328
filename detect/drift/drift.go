// Package drift finds providers whose records move away from what they used to be, a little every hour.
//
// What it catches: a provider whose values, labels, texts or embeddings have another distribution than it had in the
// reference, however slowly it came about, and strangers (providers that the reference does not know) that change suddenly.
// What it needs: any role but the provider alone; with providers it compares each with itself and with its peers. What it does not
// see: a drift smaller than a tenth of a standard deviation or than what the reference's rows of that provider can tell; a drift
// by which no kind of row becomes twice as common, such as to a label that half of the rows have; a slow drift of a stranger; drift without a reference.
//
// Vocabulary. A field is one number per row: each feature (of more than 40, random combinations), the loss, the label, ten summaries of the
// text, six random directions of the embedding (as in the sliced distance of Rabin, Peyré, Delon, Bernot, SSVM 2011) and its distance
// from the mean. A field has ten bins, cut at the reference's quantiles, finely in the tails; a missing value has one of its own. A provider's baseline
// is its histogram in the reference, from 30 rows on, smoothed towards that of all rows. For a stranger it is what the stream has
// shown of it until now, from 200 rows on, and the segment is compared with that. Rows without a provider are one provider. Each
// field is tested in all its bins, and in the shares of missing values, of either tail and of the lower and the upper part by themselves.
//
// Memory is the histogram of every provider in the last window of the stream and the one before it, and how much segments differ: sums, so
// that the parts of partitions and instances add up in any order. A window has eight times as many rows as the reference: enough to be
// sure, and little enough for a provider with a long honest past. Of strangers all of the past is kept too. Histograms are enough for a sequential test: the Dirichlet mixture of likelihoods over
// the largest likelihood of the null (see evidence) is an e-process, so p = 1/E holds at whatever time one looks, evidence adds up over
// thousands of segments, and Bonferroni's factor for providers, fields, views and windows is all that has to be paid.
//
// The null is wide. Rows may come from every distribution within a Kullback-Leibler ball around the baseline: as wide as the baseline's
// own sampling error, and beyond that a shift by a tenth of a standard deviation or twice what four fifths of the peers have strayed,
// whichever is larger. Counts are deflated by how much more they vary between segments than independent rows would (the median of the peers).
// A fifth of the providers may collude before they count as normal.
//
// All move, or one? Before a provider is judged its baseline is moved along with the median of its peers, bin by bin. A season, a
// price rise or a new version of everybody's app moves all of them and quarantines nobody: the answer to it is a refit, and
// the outlier and embedding detectors raise the stream's risk meanwhile. With fewer than four known providers nothing can tell a season from an
// attack; then a population stability index of 0.25, by custom a major change, is asked for.
//
// Which rows. p is the provider's, and a row gets it only if it lies in a bin of that field that the provider lately fills at least twice
// as much as its baseline: more than half of such rows are new. All others get no opinion, so the honest part of a drifting provider passes.
//
// Cost: one pass over a row's values, text and embedding (7 × dim multiplications), and per segment some microseconds for each provider and
// field. Memory: at most 524,288 counts; with 20 fields that is 873 providers, those that the reference knows first.
//
// Evidence: the field, how many times as many such rows the provider sends, over how many rows, and how far its peers moved.
package drift

import (
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	minRows    = 50  // a reference below this says nothing
	spreadUnit = 256 // of history.spread
	twice      = 2   // a row counts as drifted where the provider sends twice as many as its baseline: more than half of them are new
	windowRows = 8   // a window has so many times the rows of the reference, so that its own sampling error matters little
	recent     = 64  // rows of the past that the segment's own count against
)

// Detector finds providers that drift. It has no settings.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "drift" }

// Fit implements [detect.Detector].
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if reference.N < minRows {
		return nil, nil
	}
	m := &model{fields: newFields(reference, env), trusted: map[uint64]*baseline{}, length: windowRows * uint64(reference.N)}
	if len(m.fields.list) == 0 {
		return nil, nil
	}
	m.basis = m.digest()
	seen := m.count(reference, m.fields.bin(reference, env), env)
	whole := &history{counts: make([]uint32, len(m.fields.list)*bins), spread: make([]uint64, len(m.fields.list))}
	for _, h := range seen {
		whole.add(h)
	}
	even := histogram{}
	for b := range even {
		even[b] = 1.0 / bins
	}
	for j := range m.fields.list {
		n := counts(whole, j)
		m.pooled = append(m.pooled, n.shares(&even, 1))
	}
	for k, h := range seen {
		if h.rows < ownRows {
			continue
		}
		own := &baseline{rows: float64(h.rows)}
		for j := range m.fields.list {
			n := counts(h, j)
			own.base = append(own.base, n.shares(&m.pooled[j], bins))
		}
		m.trusted[k.hash] = own
	}
	return m, nil
}

// baseline is what a provider sent when all was well.
type baseline struct {
	rows float64
	base []histogram // by field
}

type model struct {
	fields  *fields
	basis   uint64
	pooled  []histogram          // by field, of all of the reference
	length  uint64               // of a window, in rows of the stream
	trusted map[uint64]*baseline // by provider, of those that the reference has enough of
}

// digest tells models apart whose histograms do not compare.
func (m *model) digest() uint64 {
	h := uint64(hashSeed)
	add := func(v uint64) { h = sketch.Mix(h ^ v) }
	for _, f := range m.fields.list {
		add(xxhash.Sum64String(f.name))
		for _, e := range f.edges {
			add(math.Float64bits(e))
		}
	}
	classes := uint64(0)
	for name, at := range m.fields.classes {
		classes += sketch.Mix(xxhash.Sum64String(name) ^ uint64(at))
	}
	add(classes)
	for _, x := range m.fields.projection {
		add(uint64(math.Float32bits(x)))
	}
	for _, x := range m.fields.mean {
		add(uint64(math.Float32bits(x)))
	}
	for _, d := range m.fields.directions {
		add(math.Float64bits(d[0]))
	}
	return h | 1
}

// providerHashes returns what the providers of a sample are known by; the last is for rows without one.
func providerHashes(s *detect.Sample) []uint64 {
	out := make([]uint64, len(s.Providers)+1)
	for i, name := range s.Providers {
		out[i] = xxhash.Sum64String(name)
	}
	return out
}

// providerAt returns which of so many hashes is that of a row's provider.
func providerAt(s *detect.Sample, row, hashes int) int {
	if s.Provider == nil || s.Provider[row] < 0 {
		return hashes - 1
	}
	return int(s.Provider[row])
}

func (m *model) key(hash uint64) key { return key{m.trusted[hash] == nil, hash} }

// shown is what a sample shows: the bins of its rows, and by provider how many rows fall into each.
type shown struct {
	binned []uint8 // n × fields
	counts map[key]*history
}

// shownOf names it: a sample is scored, and then remembered.
type shownOf struct {
	model  *model
	sample *detect.Sample
}

func (m *model) shown(s *detect.Sample, env detect.Env) shown {
	return detect.Once(env, shownOf{m, s}, func() shown {
		binned := m.fields.bin(s, env)
		return shown{binned, m.count(s, binned, env)}
	})
}

// count counts the rows of a sample by provider; binned is what its fields' bin returned.
func (m *model) count(s *detect.Sample, binned []uint8, env detect.Env) map[key]*history {
	fields := len(m.fields.list)
	hashes := providerHashes(s)
	out := map[key]*history{}
	of := make([]*history, len(hashes))
	rowsOf := make([]uint64, len(hashes))
	for i := range s.N {
		rowsOf[providerAt(s, i, len(hashes))]++
	}
	for p, rows := range rowsOf {
		if rows == 0 {
			continue
		}
		k := m.key(hashes[p])
		if out[k] == nil {
			out[k] = &history{segments: 1, counts: make([]uint32, fields*bins), spread: make([]uint64, fields)}
		}
		of[p] = out[k]
		of[p].rows += rows
	}
	// Each goroutine counts some of the fields.
	detect.Rows(fields, (fields+env.Workers-1)/max(1, env.Workers), env.Workers, func(first, end int) {
		for i := range s.N {
			counts := of[providerAt(s, i, len(hashes))].counts[first*bins : end*bins]
			for _, b := range binned[i*fields+first : i*fields+end] {
				counts[b]++
				counts = counts[bins:]
			}
		}
	})
	if m.pooled == nil {
		return out // of the reference: it comes in no segments
	}
	for _, h := range out {
		for j := range fields {
			sum := 0.0
			for b, p := range m.pooled[j] {
				n := float64(h.counts[j*bins+b])
				sum += n * n / p
			}
			h.spread[j] = uint64(sum / float64(h.rows) * spreadUnit)
		}
	}
	return out
}

// Observe implements [detect.Remembering]: ObserveAfter where the stream begins.
func (m *model) Observe(s *detect.Sample, flagged []bool, env detect.Env) detect.Memory {
	return m.ObserveAfter(s, &memory{}, flagged, env)
}

// ObserveAfter returns what s adds to a stream that has shown before, in the window that the stream has reached. Quarantined rows count
// like others: they are what a drift is made of.
func (m *model) ObserveAfter(s *detect.Sample, before detect.Memory, _ []bool, env detect.Env) detect.Memory {
	out := &memory{basis: m.basis, fields: len(m.fields.list), histories: map[place]*history{}}
	if s.N == 0 {
		return out
	}
	out.rows = uint64(s.N)
	out.last = m.window(m.own(before))
	for k, h := range m.shown(s, env).counts {
		out.histories[place{k, out.last}] = h
	}
	out.tidy()
	return out
}

// own returns a memory that this model can use, an empty one for another's.
func (m *model) own(before detect.Memory) *memory {
	if b, ok := before.(*memory); ok && b.basis == m.basis && b.fields == len(m.fields.list) {
		return b
	}
	return &memory{}
}

// window numbers the window that a stream has reached, from 1.
func (m *model) window(before *memory) uint64 { return max(before.last, 1+before.rows/m.length) }

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.score(s, &memory{}, env)
}

// ScoreWith implements [detect.Remembering].
func (m *model) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	return m.score(s, m.own(before), env)
}

// verdict is what is known of one provider in a segment.
type verdict struct {
	logP   []float64   // by field
	ratio  []histogram // by field: how many times as many rows it sends as its baseline; 0 where it never sent more
	drifts []int32     // fields of which logP is below 0
	rows   uint64
	base   *baseline
	alone  bool
}

func (m *model) score(s *detect.Sample, before *memory, env detect.Env) detect.Scores {
	shown := m.shown(s, env)
	binned, now := shown.binned, shown.counts
	window := m.window(before)
	past, lately := map[key]*history{}, map[key]*history{} // of strangers all of it, and of everybody the last windows with this segment
	sum := func(of map[key]*history, k key, h *history) {
		if of[k] == nil {
			of[k] = h.clone()
		} else {
			of[k].add(h)
		}
	}
	for p, h := range before.histories {
		if p.stranger {
			sum(past, p.key, h)
		}
		if p.window > 0 && p.window+1 >= window {
			sum(lately, p.key, h)
		}
	}
	for k, h := range now {
		sum(lately, k, h)
	}
	around := m.surroundings(lately)
	fields := len(m.fields.list)
	// Each window is a new test; Σ 1/(w(w+1)) = 1.
	tests := float64(len(lately)*fields*len(views)) * float64(window) * float64(window+1)

	hashes := providerHashes(s)
	verdicts := make([]*verdict, len(hashes)) // by provider
	for p, hash := range hashes {
		k := m.key(hash)
		if h := now[k]; h != nil {
			verdicts[p] = m.judge(k, h, past[k], lately[k], around, tests)
		}
	}
	value, logP := make([]float64, s.N), make([]float64, s.N)
	field := make([]int32, s.N)
	detect.Rows(s.N, rowsPerJob, env.Workers, func(first, end int) {
		for i := first; i < end; i++ {
			v := verdicts[providerAt(s, i, len(hashes))]
			if v == nil {
				value[i] = math.NaN()
				continue
			}
			for _, j := range v.drifts {
				if v.logP[j] < logP[i] && v.ratio[j][binned[i*fields+int(j)]] >= twice {
					logP[i], field[i] = v.logP[j], j
				}
			}
			if logP[i] < 0 {
				value[i] = -logP[i]
			}
		}
	})
	return detect.Scores{Value: value, LogP: logP, Code: finding.PoisonDrift, Stream: true, Explain: func(row int) string {
		v := verdicts[providerAt(s, row, len(hashes))]
		if v == nil {
			return "the reference does not know the provider, nor does the stream yet"
		}
		j := int(field[row])
		name, b := m.fields.list[j].name, binned[row*fields+j]
		if logP[row] == 0 {
			return fmt.Sprintf("nothing in which the provider, %d rows lately, drifts that this row has", v.rows)
		}
		line := fmt.Sprintf("the provider sends %.1f times as many rows with such %s as it used to, seen over its last %d rows (%.0f then)",
			v.ratio[j][b], name, v.rows, v.base.rows)
		if v.alone {
			return line + "; no other providers to compare with"
		}
		return line + fmt.Sprintf("; its %d peers have moved by %.2g nats at most", around.peers, around.strayed[j][0])
	}}
}

// judge tests whether a provider has drifted. It returns nil where there is nothing to compare it with.
func (m *model) judge(k key, now, past, lately *history, around *surroundings, tests float64) *verdict {
	fields := len(m.fields.list)
	v := &verdict{logP: make([]float64, fields), ratio: make([]histogram, fields), rows: lately.rows, base: m.trusted[k.hash]}
	judged, alone := lately, around.peers < fewestPeers
	switch {
	case v.base != nil:
	case past != nil && past.rows >= peerRows:
		// What the stream has shown of it until now is the baseline, and this segment is compared with it.
		v.base, judged, alone = m.baselineOf(past), now, true
	default:
		return nil
	}
	v.alone = alone
	for j := range fields {
		base := v.base.base[j]
		inflation := around.inflation[j]
		switch {
		case !alone:
			base = move(&base, &around.moved[j])
		case past != nil:
			inflation = max(inflation, m.inflation(past, j))
		default:
			inflation = max(inflation, m.inflation(lately, j))
		}
		n, segment := counts(judged, j), counts(now, j)
		shares := n.shares(&base, bins)
		newest := segment.shares(&shares, recent)
		for b := range newest {
			if shares[b] > base[b] {
				v.ratio[j][b] = newest[b] / base[b]
			}
		}
		for b := range n {
			n[b] /= inflation
		}
		for at, view := range views {
			least := float64(major)
			if !alone {
				least = max(negligible, peerFactor*around.strayed[j][at])
			}
			radius := math.Sqrt(view.sampled/v.base.rows) + math.Sqrt(least)
			radius *= radius
			seen, was, is := view.of(&n), view.of(&base), view.of(&shares)
			if divergence(&was, &is) <= radius {
				continue
			}
			v.logP[j] = max(floor, min(v.logP[j], math.Log(tests)-evidence(&seen, &was, radius)))
		}
		if v.logP[j] < 0 {
			v.drifts = append(v.drifts, int32(j))
		}
	}
	return v
}

// baselineOf makes a baseline of what the stream has shown of a provider.
func (m *model) baselineOf(h *history) *baseline {
	out := &baseline{rows: float64(h.rows)}
	for j := range m.fields.list {
		n := counts(h, j)
		out.base = append(out.base, n.shares(&m.pooled[j], bins))
	}
	return out
}
