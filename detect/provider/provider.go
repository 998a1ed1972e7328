// Package provider finds providers whose records are quarantined far more often than those of their peers.
//
// What it catches: nothing by itself. What other detectors found of a provider speaks a little against its next records. What it
// needs: the provider, a memory, and other providers to compare with. What it does not see: a provider that is new, one that is alone, and
// records that nobody else doubts.
//
// Method. Of every provider the memory holds how many records it has sent and how many of them were quarantined, which it is told with
// each segment. The null is that its rate is at most twice that of its peers: of all others together, or of the worst but one in
// five of them, whichever is larger, for honest providers differ. Against it stands a mixture of rates that are 2, 4, 8 … times as
// high; the likelihood ratio is a test martingale (Ville 1939; Shafer and Vovk, "Game-Theoretic Foundations for Probability and Finance", 2019;
// Waudby-Smith and Ramdas, JRSS B 2023), so one may look after every segment, and p = providers/E. The peers' rate is estimated as the stream
// goes on and taken as known.
//
// One burst is no habit. Of one segment at most 3 quarantined records of a provider count, and four times what is usual among the others of that
// segment: an honest provider's one bad file cannot condemn it.
//
// Newcomers. A provider of fewer than 50 records has no history. What newcomers have done is counted together: sybils, many providers
// with few records each, are judged by what was found of all of them. That their records resemble each other is what
// near_duplicate and drip see, who do not ask for providers.
//
// How much it weighs. p is said to be no smaller than 0.05, nor than the share of the segment that it is said of. Both keep it
// from quarantining: alone it reaches no budget below 5 %, and in a combination of detectors it draws no weight, because no more rows have such a
// p than clean rows would. What is left is a lean, which tips records that others doubt, and a finding that tells a person the provider's history.
//
// Cost: nothing to speak of. Memory: 4,096 providers, 8 bytes of hash and two counts each; no names. Evidence: the counts against the peers'.
package provider

import (
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	least     = 0.05 // p is said to be no smaller
	newcomer  = 50   // records below which a provider has no history
	tolerance = 2    // how many times as high as its peers' an honest rate may be
	peerShare = 0.8
	peerRows  = 200 // records from which a provider's rate is compared with
	pseudo    = 100 // clean records that are added to those of the peers, so that a rate of nothing is not believed at once
	fewBurst  = 3   // quarantined records of one segment that always count
	muchBurst = 4   // and beyond, in what is usual in that segment
)

// Detector leans against providers with a history. It has no settings.
type Detector struct{}

// Name implements [detect.Detector].
func (Detector) Name() string { return "provider" }

// Fit implements [detect.Detector]. There is nothing to learn from a reference.
func (Detector) Fit(*detect.Sample, detect.Env) (detect.Model, error) { return model{}, nil }

type model struct{}

// hashOf names a provider; rows without one have 0.
func hashOf(name string) uint64 { return max(1, xxhash.Sum64String(name)) }

// Observe implements [detect.Remembering].
func (model) Observe(s *detect.Sample, flagged []bool, _ detect.Env) detect.Memory {
	out := newMemory()
	if s.Provider == nil {
		return out
	}
	seen := make([]tally, len(s.Providers))
	var all tally
	for i, p := range s.Provider {
		if p < 0 {
			continue
		}
		t := tally{records: 1}
		if i < len(flagged) && flagged[i] {
			t.flagged = 1
		}
		seen[p].add(t)
		all.add(t)
	}
	for p, t := range seen {
		if t.records == 0 {
			continue
		}
		usual := float64(t.records) * all.less(t).rate()
		t.flagged = min(t.flagged, uint64(fewBurst+muchBurst*usual))
		out.all.add(t)
		hash := hashOf(s.Providers[p])
		mine := out.providers[hash]
		mine.add(t)
		out.providers[hash] = mine
	}
	out.shrink()
	return out
}

// Score implements [detect.Model]: without a memory nothing is known.
func (m model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, newMemory(), env)
}

// opinion is what is known of one provider, or of all newcomers.
type opinion struct {
	own, peers tally
	usual      float64 // the rate that an honest provider may have
	log        float64 // ln of the evidence, less that of having looked at so many providers
	newcomers  int     // how many are judged together; 0: one provider
}

// ScoreWith implements [detect.Remembering].
func (model) ScoreWith(s *detect.Sample, before detect.Memory, _ detect.Env) detect.Scores {
	value, logP := make([]float64, s.N), make([]float64, s.N)
	opinions := make([]*opinion, len(s.Providers))
	known, _ := before.(*memory)
	if known == nil {
		known = newMemory()
	}
	c := newCourt(known)
	leaned := 0
	of := func(row int) *opinion {
		if s.Provider == nil || s.Provider[row] < 0 {
			return nil
		}
		p := s.Provider[row]
		if opinions[p] == nil {
			opinions[p] = c.judge(hashOf(s.Providers[p]))
		}
		return opinions[p]
	}
	for i := range s.N {
		if o := of(i); o == nil {
			value[i] = math.NaN()
		} else if value[i] = max(0, o.log); o.log > 0 {
			leaned++
		}
	}
	share := float64(leaned) / float64(max(1, s.N))
	for i, v := range value {
		if v > 0 {
			logP[i] = -min(v, -math.Log(max(least, share)))
		}
	}
	return detect.Scores{Value: value, LogP: logP, Code: finding.PoisonProvider, Stream: true, Explain: func(row int) string {
		o := of(row)
		switch {
		case o == nil:
			return "no provider"
		case o.own.records == 0:
			return "a provider without a history"
		}
		who := fmt.Sprintf("of the provider's %d records", o.own.records)
		if o.newcomers > 0 {
			who = fmt.Sprintf("of %d records of %d new providers", o.own.records, o.newcomers)
		}
		return fmt.Sprintf("%s %d were quarantined (%.2g %%), of the others' %.2g %%; up to %.2g %% is usual", who, o.own.flagged,
			100*o.own.rate(), 100*o.peers.rate(), 100*o.usual)
	}}
}

// court judges providers by one memory.
type court struct {
	known     *memory
	rates     []float64 // of providers with a history, rising
	newcomers tally
	strangers int // newcomers that the memory holds
}

func newCourt(known *memory) *court {
	c := &court{known: known}
	for _, t := range known.providers {
		if t.records >= peerRows {
			c.rates = append(c.rates, t.rate())
		}
		if t.records < newcomer {
			c.newcomers.add(t)
			c.strangers++
		}
	}
	slices.Sort(c.rates)
	return c
}

func (c *court) judge(hash uint64) *opinion {
	o := &opinion{own: c.known.providers[hash]}
	if o.own.records < newcomer {
		o.own, o.newcomers = c.newcomers, c.strangers
	}
	o.peers = c.known.all.less(o.own)
	if o.own.records < newcomer || o.peers.records < peerRows {
		return o
	}
	o.usual = float64(o.peers.flagged+1) / float64(o.peers.records+pseudo)
	if len(c.rates) > 0 {
		o.usual = max(o.usual, c.rates[int(peerShare*float64(len(c.rates)-1))])
	}
	o.usual = min(0.5, tolerance*o.usual)
	o.log = evidence(o.own, o.usual) - math.Log(float64(len(c.known.providers)))
	return o
}

// evidence is ln of a test martingale against a rate of at most usual: the mean of the likelihood ratios of rates that are 2,
// 4, 8 … times as high, the last halfway to 1.
func evidence(t tally, usual float64) float64 {
	var logs []float64
	k, n := float64(t.flagged), float64(t.records)
	for rate := 2 * usual; ; rate *= 2 {
		last := rate >= (1+usual)/2
		rate = min(rate, (1+usual)/2)
		logs = append(logs, k*math.Log(rate/usual)+(n-k)*math.Log((1-rate)/(1-usual)))
		if last {
			break
		}
	}
	top := slices.Max(logs)
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(logs)))
}
