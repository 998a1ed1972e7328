package drift

import (
	"math"
	"slices"
)

const (
	// negligible is the divergence of a shift by a tenth of a standard deviation, half of what is customarily called a
	// small effect (Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988): nobody is quarantined for less.
	negligible = 0.005
	// major is the divergence at which the population stability index, about twice as large, is 0.25: by custom "a major
	// change" (Siddiqi, "Credit Risk Scorecards", 2006). It is asked for where there are no peers to compare with.
	major = 0.125
	// A provider may stray from the reference twice as far as four fifths of its peers do; divergence grows with the square.
	peerShare, peerFactor = 0.8, 4

	fewestPeers    = 4   // providers without which nothing is said of what all have in common
	mostPeers      = 64  // those with most rows
	peerRows       = 200 // rows from which a provider is a peer
	fewestInBin    = 5   // reference rows in a bin without which a peer does not tell how it has moved
	ownRows        = 30  // reference rows from which a provider has a baseline of its own
	steadySegments = 8   // segments from which a provider tells how much segments differ
	prior          = 4   // rows' worth of the alternative's prior
	floor          = -100
)

type histogram [bins]float64

// A view is what is looked at of a histogram: all bins, or the share of those in a set. A drift in one direction shows
// sooner in the share of a tail or of a half than in ten bins.
type view struct {
	set uint // of bins; 0: all of them by themselves
	// sampled is χ²/2 of 4.5 standard deviations (Wilson and Hilferty, PNAS 1931): m times the divergence between a
	// histogram of m rows and what they were drawn from stays below it in all but 3 of a million cases (Wilks, Annals of
	// Mathematical Statistics 1938), which leaves room for a thousand providers × fields.
	sampled float64
	usual   float64 // χ²/2 that four fifths stay below
}

// views have 9 degrees of freedom and 1.
var views = [...]view{
	{0, 21.4, 6.1},
	{1 << 0, 10.1, 0.82},                    // missing
	{1<<1 | 1<<2, 10.1, 0.82},               // the lowest twentieth
	{1<<1 | 1<<2 | 1<<3 | 1<<4, 10.1, 0.82}, // the lower part
	{1<<8 | 1<<9, 10.1, 0.82},               // the highest twentieth
	{1<<6 | 1<<7 | 1<<8 | 1<<9, 10.1, 0.82}, // the upper part
}

func (v view) of(h *histogram) (out histogram) {
	if v.set == 0 {
		return *h
	}
	for b, n := range h {
		out[1-v.set>>b&1] += n
	}
	return out
}

func (h *histogram) sum() (sum float64) {
	for _, v := range h {
		sum += v
	}
	return sum
}

// shares returns h with so many pseudo-rows of p added, divided by their sum.
func (h *histogram) shares(p *histogram, pseudo float64) (out histogram) {
	all := h.sum() + pseudo
	for b, v := range h {
		out[b] = (v + pseudo*p[b]) / all
	}
	return out
}

// divergence is Kullback and Leibler's, Σ q ln(q/p), in nats.
func divergence(q, p *histogram) float64 {
	sum := 0.0
	for b, v := range q {
		if v > 0 {
			sum += v * math.Log(v/p[b])
		}
	}
	return max(0, sum)
}

// evidence is the logarithm of an e-process against the hypothesis that rows with the counts n, deflated by what they depend on
// each other, come from some distribution within radius nats of base: ∫ Π q dD(q) / max Π p, where D is a Dirichlet distribution
// around base and the maximum is over all p with KL(base ‖ p) ≤ radius. For every such p the ratio is at most a non-negative
// martingale that starts at 1, in whatever order the rows came and however often one looks (Ville 1939; the method of mixtures,
// Robbins, Annals of Mathematical Statistics 1970; Wasserman, Ramdas, Balakrishnan, "Universal inference", PNAS 2020). So it needs no more
// than the counts, which add up.
func evidence(n, base *histogram, radius float64) float64 {
	all := n.sum()
	if all < 1 {
		return 0
	}
	q := *n
	for b := range q {
		q[b] /= all
	}
	// The maximum lies on the line between base and q: with a multiplier λ it is ∝ n + λ·base.
	near := func(w float64) (p histogram) {
		for b := range p {
			p[b] = (1-w)*base[b] + w*q[b]
		}
		return p
	}
	low, high := 0.0, 1.0
	for range 30 {
		middle := (low + high) / 2
		p := near(middle)
		if divergence(base, &p) > radius {
			high = middle
		} else {
			low = middle
		}
	}
	p := near(high)
	if high == 1 {
		p = q // it lies within
	}
	log := lnGamma(prior) - lnGamma(prior+all)
	for b, c := range n {
		if c > 0 {
			alpha := max(prior*base[b], 1e-3)
			log += lnGamma(alpha+c) - lnGamma(alpha) - c*math.Log(p[b])
		}
	}
	return log
}

func lnGamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// surroundings is what the providers that the reference knows have in common.
type surroundings struct {
	peers     int
	inflation []float64             // by field: variance of counts over that of independent rows, at least 1
	moved     []histogram           // by field: ln of how much all have moved away from their baselines, bin by bin
	strayed   [][len(views)]float64 // by field: how far four fifths of them have strayed beyond that, in nats
}

// peer is a provider with a baseline of its own.
type peer struct {
	key  key
	seen *history
	base []histogram // by field
	rows float64     // of the baseline
}

func (m *model) surroundings(seen map[key]*history) *surroundings {
	fields := len(m.fields.list)
	out := &surroundings{inflation: make([]float64, fields), moved: make([]histogram, fields), strayed: make([][len(views)]float64, fields)}
	var peers []peer
	for k, h := range seen {
		if own := m.trusted[k.hash]; own != nil && h.rows >= peerRows {
			peers = append(peers, peer{k, h, own.base, own.rows})
		}
	}
	slices.SortFunc(peers, func(a, b peer) int {
		if a.seen.rows != b.seen.rows {
			if a.seen.rows > b.seen.rows {
				return -1
			}
			return 1
		}
		return compareKeys(a.key, b.key)
	})
	peers = peers[:min(len(peers), mostPeers)]
	out.peers = len(peers)

	column := make([]float64, 0, len(peers))
	for j := range fields {
		column = column[:0]
		for _, p := range peers {
			if p.seen.segments >= steadySegments {
				column = append(column, m.inflation(p.seen, j))
			}
		}
		out.inflation[j] = max(1, median(column))
	}
	if out.peers < fewestPeers {
		return out
	}
	for j := range fields {
		shares := make([]histogram, len(peers))
		for i, p := range peers {
			n := counts(p.seen, j)
			shares[i] = n.shares(&p.base[j], bins)
		}
		for b := range bins {
			column = column[:0]
			for i, p := range peers {
				if p.base[j][b]*p.rows >= fewestInBin {
					column = append(column, math.Log(shares[i][b]/p.base[j][b]))
				}
			}
			if len(column) >= fewestPeers {
				out.moved[j][b] = median(column)
			}
		}
		bases := make([]histogram, len(peers))
		for i, p := range peers {
			bases[i] = move(&p.base[j], &out.moved[j])
		}
		for at, v := range views {
			column = column[:0]
			for i, p := range peers {
				q, base := v.of(&shares[i]), v.of(&bases[i])
				chance := v.usual * (out.inflation[j]/float64(p.seen.rows) + 1/p.rows)
				column = append(column, max(0, divergence(&base, &q)-chance))
			}
			slices.Sort(column)
			out.strayed[j][at] = column[int(peerShare*float64(len(column)-1))]
		}
	}
	return out
}

// inflation is by how much the counts of one field vary more between segments than those of independent rows would: the
// variance factor of quasi-likelihood (McCullagh and Nelder, "Generalized Linear Models", 1989, 4.5).
func (m *model) inflation(h *history, field int) float64 {
	n := counts(h, field)
	rows := n.sum()
	if h.segments < 2 || rows < 1 {
		return 1
	}
	within, expected := float64(h.spread[field])/spreadUnit, 0.0
	for b, c := range n {
		within -= c * c / rows / m.pooled[field][b]
		expected += c / rows * (1 - c/rows) / m.pooled[field][b]
	}
	if expected <= 0 {
		return 1
	}
	return max(1, within/expected/float64(h.segments-1))
}

func counts(h *history, field int) (out histogram) {
	for b := range out {
		out[b] = float64(h.counts[field*bins+b])
	}
	return out
}

// move returns base as it is after what all have in common: ∝ base·exp(moved).
func move(base, moved *histogram) (out histogram) {
	for b := range out {
		out[b] = base[b] * math.Exp(moved[b])
	}
	sum := out.sum()
	for b := range out {
		out[b] /= sum
	}
	return out
}

func median(column []float64) float64 {
	if len(column) == 0 {
		return 0
	}
	slices.Sort(column)
	return (column[(len(column)-1)/2] + column[len(column)/2]) / 2
}
