// Package collusion finds new providers that work together: many that the reference does not know, with few records each, whose records
// crowd together where few of the reference's lie (sybils: Douceur, "The Sybil Attack", IPTPS 2002; Fung, Yoon, Beschastnikh, "The
// Limitations of Federated Learning in Sybil Settings", RAID 2020).
//
// # What it asks
//
// Records are points: their features, each measured by its spread in the reference; their embeddings; the directions of their gradients;
// vectors of more than 32 numbers by a random projection (Johnson and Lindenstrauss 1984). Of a record of a new provider it asks how many
// other new providers have more than half of their records within a distance of it. Were they like the reference, of which r of m
// records lie within that distance, of N others at most μ = N·q would, q = (r + 1 + √(r + 1))/m: a provider whose records are
// all alike lies there as a whole with the chance of one record, and one whose records differ with less. Records of one provider are alike, so
// the reference tells no more of providers than it has of them: q is at least what the same formula, with twice the error,
// gives for its providers, by how many of them more than half lies there. That c do has a chance of at most
// exp(−(c ln(c/μ) − c + μ)) (Chernoff). The distances asked for are those to 3, 6, 12, … of the others; the best of k such answers is k times as
// likely. A provider counts once however many records it sends: one that honestly differs from the reference makes no crowd. Of texts it asks
// the same of each three words in a row, q being the share of the reference's records and providers that have them.
//
// # What it does not see
//
// Providers that the reference knows; a single new provider; new providers whose texts share words that do not stand together. New providers that honestly
// share what the reference lacks, all those of a country that was not served before, look the same: somebody should look.
//
// # Memory
//
// Of the whole stream at most 4 records of at most 256 new providers are kept, those with the least hashes, as points of 16-bit
// numbers and as hashes of up to 48 phrases. Records that were accepted early are recalled by their providers.
//
// # Cost
//
// Nothing for records of providers that are known. For others some 20 µs for each space that there is; in segments with more than 2,048 such records only those
// of the providers with the least hashes are judged. Evidence: how many new providers crowd there, and how many of the reference's records.
package collusion

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
	fewestRows      = 100  // of a reference
	fewestProviders = 3    // of it, without which a new provider means nothing
	mostReference   = 1024 // rows of it that are kept
	mostJudged      = 2048 // records of a segment
)

// crowds are the numbers of other new providers whose distances are asked for.
var crowds = [...]int{3, 6, 12, 24, 48, 96}

// Detector finds new providers that work together. It has no settings.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "collusion" }

type model struct {
	known     map[uint64]struct{} // providers of the reference, by hash
	spaces    []space
	dim       int       // of a point: of all spaces together
	reference [][]int16 // points
	sent      [][]int   // by provider of the reference: which of the points are its own
	phrases   phrases
	basis     uint64 // tells models apart whose points do not compare
}

// Fit implements [detect.Detector].
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	if reference.Provider == nil || reference.N < fewestRows {
		return nil, nil
	}
	m := &model{known: map[uint64]struct{}{}}
	for _, p := range reference.Provider {
		if p >= 0 {
			m.known[hash(reference.Providers[p])] = struct{}{}
		}
	}
	if len(m.known) < fewestProviders {
		return nil, nil
	}
	m.spaces = newSpaces(reference, env.Seed)
	if len(m.spaces) == 0 && reference.Text == nil {
		return nil, nil
	}
	m.basis = sketch.Mix(env.Seed ^ 0x636f6c6c)
	for i := range m.spaces {
		m.dim += m.spaces[i].dim
		m.basis = m.spaces[i].digest(m.basis)
	}
	order := rand.New(rand.NewPCG(env.Seed, 0x636f6c6c)).Perm(reference.N)
	order = order[:min(mostReference, len(order))]
	if reference.Text != nil {
		m.learnPhrases(reference, order)
	}
	sent := make([][]int, len(reference.Providers))
	for _, row := range order {
		point := m.point(reference, row)
		if point == nil {
			continue
		}
		if p := reference.Provider[row]; p >= 0 {
			sent[p] = append(sent[p], len(m.reference))
		}
		m.reference = append(m.reference, point)
	}
	for _, own := range sent {
		if len(own) > 0 {
			m.sent = append(m.sent, own)
		}
	}
	if len(m.reference) < fewestRows || len(m.sent) < fewestProviders {
		return nil, nil
	}
	return m, nil
}

func hash(provider string) uint64 { return sketch.Mix(xxhash.Sum64String(provider)) }

// stranger is a record of a provider that the reference does not know.
type stranger struct {
	row      int
	provider uint64
	kept     kept
}

// strangers returns the records of new providers; of very many, those of the providers with the least hashes.
func (m *model) strangers(s *detect.Sample) []stranger {
	if s.Provider == nil || !m.fits(s) {
		return nil
	}
	hashes, fresh := make([]uint64, len(s.Providers)), make([]bool, len(s.Providers))
	for p, name := range s.Providers {
		hashes[p] = hash(name)
		_, known := m.known[hashes[p]]
		fresh[p] = !known
	}
	var out []stranger
	for row, p := range s.Provider {
		if p >= 0 && fresh[p] {
			out = append(out, stranger{row: row, provider: hashes[p]})
		}
	}
	if len(out) > mostJudged {
		slices.SortStableFunc(out, func(a, b stranger) int { return cmp.Compare(a.provider, b.provider) })
		end := mostJudged
		for end > 0 && out[end-1].provider == out[end].provider {
			end--
		}
		out = out[:end]
	}
	kept := out[:0]
	for _, x := range out {
		if point := m.point(s, x.row); point != nil {
			var own []uint32
			if m.phrases.of > 0 && s.Text != nil {
				own = phrasesOf(s.Text[x.row])
			}
			x.kept = newKept(point, own[:min(len(own), mostPhrases)])
			kept = append(kept, x)
		}
	}
	return kept
}

// Score implements [detect.Model].
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, &memory{}, env)
}

// ScoreWith implements [detect.Remembering].
func (m *model) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	scores := detect.Scores{Value: make([]float64, s.N), LogP: make([]float64, s.N), Code: finding.PoisonProvider, Stream: true}
	for i := range scores.Value {
		scores.Value[i] = math.NaN()
	}
	strangers := m.strangers(s)
	crowd := m.gather(strangers)
	if seen, ok := before.(*memory); ok && seen.basis == m.basis {
		crowd.Merge(seen)
	}
	found := make(map[int]opinion, len(strangers))
	opinions := make([]opinion, len(strangers))
	near := m.neighbourhood(crowd)
	detect.Chunks(len(strangers), 16, env.Workers, func() func(first, end int) {
		ask := near.asker()
		return func(first, end int) {
			for i := first; i < end; i++ {
				opinions[i] = ask(strangers[i].provider, &strangers[i].kept)
			}
		}
	})
	for i, x := range strangers {
		scores.LogP[x.row], scores.Value[x.row] = opinions[i].logP, -opinions[i].logP
		found[x.row] = opinions[i]
	}
	scores.Explain = func(row int) string {
		o, ok := found[row]
		if !ok {
			return "the provider is known"
		}
		return o.String()
	}
	return scores
}

// opinion is what is most surprising about who lies near a record.
type opinion struct {
	logP      float64
	providers int // new ones that lie within the distance
	of        int // all other new ones
	reference int // records of it within the distance
	m         int // of so many
	space     string
}

func (o opinion) String() string {
	if o.logP >= 0 {
		return "a new provider, alone"
	}
	if o.space == "phrases" {
		return fmt.Sprintf("%d of %d other new providers use the same %d words in a row, which %d of the reference's %d records have", o.providers, o.of, phraseWords, o.reference, o.m)
	}
	return fmt.Sprintf("the %s of %d of %d other new providers lie as near as %d of the reference's %d records", o.space, o.providers, o.of, o.reference, o.m)
}

// neighbourhood is what records are compared with.
type neighbourhood struct {
	m         *model
	providers []uint64
	points    [][][]int16 // by provider
	records   int
	senders   map[uint32][]uint64 // providers that have a phrase, rising
}

func (m *model) neighbourhood(crowd *memory) *neighbourhood {
	n := &neighbourhood{m: m, providers: crowd.names(), senders: map[uint32][]uint64{}}
	for _, p := range n.providers {
		var points [][]int16
		for _, k := range crowd.providers[p] {
			points = append(points, k.point)
			n.records++
			for _, h := range k.phrases {
				if senders := n.senders[h]; len(senders) == 0 || senders[len(senders)-1] != p {
					n.senders[h] = append(senders, p)
				}
			}
		}
		n.points = append(n.points, points)
	}
	return n
}

// asker returns what tells of a record who lies near it.
func (n *neighbourhood) asker() func(provider uint64, of *kept) opinion {
	within := make([]float64, len(n.providers))
	own := make([]float64, 0, mostOfProvider)
	reference := make([]float64, len(n.m.reference))
	return func(provider uint64, of *kept) opinion {
		var best opinion
		tests := 0
		point := of.point
		from := 0
		for i := range n.m.spaces {
			sp := &n.m.spaces[i]
			a := point[from : from+sp.dim]
			within = within[:0]
			for p, points := range n.points {
				if n.providers[p] == provider {
					continue
				}
				own = own[:0]
				for _, b := range points {
					own = append(own, distance(a, b[from:from+sp.dim]))
				}
				slices.Sort(own)
				within = append(within, own[len(own)/2]) // more than half of them
			}
			if len(within) >= crowds[0] {
				slices.Sort(within)
				for k, b := range n.m.reference {
					reference[k] = distance(a, b[from:from+sp.dim])
				}
				for _, c := range crowds {
					if c > len(within) {
						break
					}
					tests++
					rows, providers := n.m.within(reference, within[c-1])
					q, ofProviders := atMost(rows, len(reference), 1), atMost(providers, len(n.m.sent), 2)
					mu := float64(len(within)) * max(q, ofProviders)
					if x := float64(c); x > mu {
						if logP := -(x*math.Log(x/mu) - x + mu); logP < best.logP {
							best = opinion{logP, c, len(within), rows, len(reference), sp.name}
						}
					}
				}
			}
			from += sp.dim
		}
		best.logP = min(0, best.logP+math.Log(float64(max(1, tests))))
		if len(n.m.spaces) == 0 {
			return n.share(provider, of.phrases)
		}
		if n.m.phrases.of > 0 {
			if shared := n.share(provider, of.phrases); shared.logP < best.logP {
				best = shared
			}
			best.logP = min(0, best.logP+math.Ln2)
		}
		return best
	}
}

// within counts the reference's rows that are within a distance, and its providers of which more than half are.
func (m *model) within(distances []float64, limit float64) (rows, providers int) {
	for _, d := range distances {
		if d <= limit {
			rows++
		}
	}
	for _, own := range m.sent {
		near := 0
		for _, k := range own {
			if distances[k] <= limit {
				near++
			}
		}
		if 2*near > len(own) {
			providers++
		}
	}
	return rows, providers
}

// atMost returns an upper bound on the share that n of so many stand for, so many standard errors above it.
func atMost(n, of int, errors float64) float64 {
	r := float64(n + 1)
	return min(1, (r+errors*math.Sqrt(r))/float64(of))
}

// distance returns the squared distance of two points.
func distance(a, b []int16) float64 {
	var sum int64
	for i, x := range a {
		d := int64(x) - int64(b[i])
		sum += d * d
	}
	return float64(sum)
}

// Suspects returns the records of new providers that begin to crowd.
func (m *model) Suspects(s *detect.Sample, known detect.Memory, _ detect.Env) []detect.Suspicion {
	seen, ok := known.(*memory)
	if !ok || seen.basis != m.basis {
		return nil
	}
	ask := m.neighbourhood(seen).asker()
	var out []detect.Suspicion
	for _, x := range m.strangers(s) {
		if o := ask(x.provider, &x.kept); o.logP < suspicious {
			out = append(out, detect.Suspicion{Row: x.row, Weight: float32(-o.logP), Keys: []uint32{uint32(x.provider), uint32(x.provider >> 32)}})
		}
	}
	slices.SortFunc(out, func(a, b detect.Suspicion) int { return cmp.Compare(a.Row, b.Row) })
	return out
}

var (
	// suspicious is ln p from which a record is a suspect.
	suspicious = math.Log(0.2)
	// convicting is ln p of most of a provider's records from which all of them are recalled: one new provider in ten thousand may be whose
	// records should not.
	convicting = math.Log(1e-4)
)

// judged returns what speaks against each provider that a memory keeps: of the less surprising half of its records the most
// surprising.
func (m *model) judged(seen *memory) map[uint64]opinion {
	ask := m.neighbourhood(seen).asker()
	out := make(map[uint64]opinion, len(seen.providers))
	for p, points := range seen.providers {
		var all []opinion
		for _, k := range points {
			all = append(all, ask(p, &k))
		}
		slices.SortFunc(all, func(a, b opinion) int { return cmp.Compare(a.logP, b.logP) })
		out[p] = all[len(all)/2]
	}
	return out
}

// Weigh returns what speaks against the provider behind the keys; nothing where it is not kept any more.
func (m *model) Weigh(keys []uint32, known detect.Memory) float32 {
	seen, ok := known.(*memory)
	if !ok || seen.basis != m.basis || len(keys) != 2 {
		return 0
	}
	p := uint64(keys[1])<<32 | uint64(keys[0])
	ask := m.neighbourhood(seen).asker()
	best := 0.0
	for _, k := range seen.providers[p] {
		best = min(best, ask(p, &k).logP)
	}
	return float32(-best)
}

// Convict returns what tells whether a record's provider crowds with others.
func (m *model) Convict(known detect.Memory) func(keys []uint32) (finding.Finding, bool) {
	seen, ok := known.(*memory)
	if !ok || seen.basis != m.basis || len(seen.providers) <= crowds[0] {
		return nil
	}
	judged := m.judged(seen)
	return func(keys []uint32) (finding.Finding, bool) {
		if len(keys) != 2 {
			return finding.Finding{}, false
		}
		o, ok := judged[uint64(keys[1])<<32|uint64(keys[0])]
		if !ok || o.logP > convicting {
			return finding.Finding{}, false
		}
		return finding.Finding{
			Score: -o.logP, PValue: math.Exp(max(o.logP, -700)), Threshold: math.Exp(convicting), Evidence: o.String(), Code: finding.PoisonProvider,
		}, true
	}
}
