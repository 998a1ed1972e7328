package calibrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// shapes are scores of clean records as detectors give them: light, heavy, bounded and skewed the other way.
var shapes = []struct {
	name string
	draw func(*rand.Rand) float64
}{
	{"normal", func(r *rand.Rand) float64 { return r.NormFloat64() }},
	{"largest of 8 normals", func(r *rand.Rand) float64 {
		v := r.NormFloat64()
		for range 7 {
			v = max(v, r.NormFloat64())
		}
		return v
	}},
	{"exponential", func(r *rand.Rand) float64 { return r.ExpFloat64() }},
	{"lognormal", func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) }},
	{"Pareto 2.5", func(r *rand.Rand) float64 { return math.Pow(r.Float64(), -1/2.5) }},
	{"Cauchy", func(r *rand.Rand) float64 { return r.NormFloat64() / r.NormFloat64() }},
	{"uniform", func(r *rand.Rand) float64 { return r.Float64() }},
	{"1 - lognormal", func(r *rand.Rand) float64 { return 1 - math.Exp(r.NormFloat64()) }},
	{"two clusters", func(r *rand.Rand) float64 {
		if r.IntN(2) == 0 {
			return r.NormFloat64()
		}
		return 2 + r.NormFloat64()
	}},
	{"counts", func(r *rand.Rand) float64 { return math.Floor(r.ExpFloat64() * 2) }},
}

var budgets = []float64{0.001, 0.01, 0.05}

// The mean over many draws must not exceed the budget by more than two standard errors of a single one: what m rows
// cannot tell about the tail.
func TestBudgetHolds(t *testing.T) {
	const draws, n = 60, 5000
	for _, m := range []int{200, 1000, 10000} {
		for _, shape := range shapes {
			flagged := make([]float64, len(budgets))
			for draw := range draws {
				rng := rand.New(rand.NewPCG(uint64(draw), uint64(m)))
				held := make([]float64, m)
				for i := range held {
					held[i] = shape.draw(rng)
				}
				null := Fit(held)
				for range n / 10 {
					lp := null.LogP(shape.draw(rng))
					for b, budget := range budgets {
						if lp <= math.Log(budget) {
							flagged[b] += 10.0 / (draws * n)
						}
					}
				}
			}
			check(t, fmt.Sprintf("reference of %d, %s", m, shape.name), flagged, n, m)
		}
	}
}

func TestBudgetHoldsWithoutReference(t *testing.T) {
	const draws = 40
	for _, n := range []int{200, 1000, 10000} {
		for _, shape := range shapes {
			flagged := make([]float64, len(budgets))
			for draw := range draws {
				rng := rand.New(rand.NewPCG(uint64(draw), uint64(n)))
				batch := make([]float64, n)
				for i := range batch {
					batch[i] = shape.draw(rng)
				}
				null := FitBatch(batch)
				for _, s := range batch {
					for b, budget := range budgets {
						if null.LogP(s) <= math.Log(budget) {
							flagged[b] += 1 / float64(draws*n)
						}
					}
				}
			}
			check(t, fmt.Sprintf("batch of %d, %s", n, shape.name), flagged, n, n)
		}
	}
}

func check(t *testing.T, what string, flagged []float64, n, m int) {
	t.Helper()
	line := what + ":"
	for b, budget := range budgets {
		line += fmt.Sprintf("  %.2f %% of %.1f %%", 100*flagged[b], 100*budget)
		error := math.Sqrt(budget * (1 - budget) * (1/float64(n) + 1/float64(m)))
		if flagged[b] > budget+2*error {
			t.Errorf("%s flags %.3f %%: over the budget of %.1f %%", what, 100*flagged[b], 100*budget)
		}
	}
	t.Log(line)
}

// Poison among the trusted rows must not hide its kind: ten rows of a thousand are all that is promised.
func TestPoisonInReference(t *testing.T) {
	for _, shape := range shapes[:8] {
		if shape.name == "Cauchy" {
			continue // reaches as far as the poison does
		}
		rng := rand.New(rand.NewPCG(3, 4))
		held := make([]float64, 1000)
		for i := range held {
			held[i] = shape.draw(rng)
		}
		clean := Fit(held).Score(math.Log(0.0005))
		for i := range 10 {
			held[i] = 3*math.Abs(clean) + clean + rng.Float64()
		}
		null := Fit(held)
		if p := math.Exp(null.LogP(held[0])); p > 0.005 {
			t.Errorf("%s: poison that is also in the reference gets p = %.4f", shape.name, p)
		}
	}
}

// Poison that comes in a clump is found without a reference, however much of it there is.
func TestHeavyPoisonIsNotMasked(t *testing.T) {
	const n = 2000
	for _, shape := range shapes[:5] {
		for _, share := range []float64{0.01, 0.05, 0.2} {
			rng := rand.New(rand.NewPCG(5, 6))
			batch := make([]float64, n)
			for i := range batch {
				batch[i] = shape.draw(rng)
			}
			clean := Fit(batch)
			far, wide := clean.Score(math.Log(0.0002)), clean.spread
			poison := int(share * n)
			for i := range poison {
				batch[i] = 1.5*far + 12*wide + wide*rng.NormFloat64()
			}
			null := FitBatch(batch)
			caught, spared := 0, 0
			for i, s := range batch {
				if flagged := null.LogP(s) <= math.Log(0.01); flagged && i < poison {
					caught++
				} else if flagged {
					spared++
				}
			}
			t.Logf("%s, %.0f %%: recall %.2f, clean flagged %.4f", shape.name, 100*share,
				float64(caught)/float64(poison), float64(spared)/float64(n-poison))
			if float64(caught) < 0.9*float64(poison) {
				t.Errorf("%s: only %d of %d poisoned rows were flagged", shape.name, caught, poison)
			}
			if rate := float64(spared) / float64(n-poison); rate > 0.02 {
				t.Errorf("%s: %.1f %% of the clean rows were flagged at a budget of 1 %%", shape.name, 100*rate)
			}
		}
	}
}

// LogP falls strictly with the score in the tail, is finite everywhere, and Score is its inverse.
func TestLogP(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, m := range []int{1, 2, 49, 50, 51, 300, 5000} {
		for _, shape := range shapes {
			held := make([]float64, m)
			for i := range held {
				held[i] = shape.draw(rng)
			}
			null := Fit(held)
			lo, hi := null.sorted[0], null.sorted[m-1]
			last := math.Inf(1)
			for i := range 2000 {
				s := lo + (hi-lo+1)*float64(i)/500
				lp := null.LogP(s)
				if math.IsNaN(lp) || math.IsInf(lp, 0) || lp > 0 || lp > last {
					t.Fatalf("%s of %d: ln p(%v) = %v after %v", shape.name, m, s, lp, last)
				}
				if s > hi && lp >= last {
					t.Fatalf("%s of %d: scores beyond all that is known tie", shape.name, m)
				}
				last = lp
			}
			for _, logP := range []float64{-1, -5, -12} {
				s := null.Score(logP)
				if got := null.LogP(s); got > logP+1e-9 && m >= 50 {
					t.Errorf("%s of %d: ln p of Score(%v) is %v", shape.name, m, logP, got)
				}
			}
		}
	}
	if (Fit(nil)) != nil || Fit([]float64{math.NaN()}) != nil {
		t.Error("a null of nothing")
	}
	constant := Fit(make([]float64, 500))
	if p := constant.LogP(0); p != 0 {
		t.Errorf("the only score there is has ln p %v", p)
	}
	if a, b := constant.LogP(1), constant.LogP(2); !(b < a && a < math.Log(0.002)) {
		t.Errorf("scores never seen have ln p %v and %v", a, b)
	}
}

func TestWeights(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const n = 5000
	columns := make([][]float64, 4)
	for d := range columns {
		columns[d] = make([]float64, n)
		for i := range columns[d] {
			columns[d][i] = math.Log(rng.Float64())
		}
	}
	for d, w := range Weights(columns, slices.Repeat([]int{1000}, len(columns)), slices.Repeat([]float64{1 / float64(len(columns))}, len(columns))) {
		if math.Abs(w-0.25) > 0.02 {
			t.Errorf("on a clean stream detector %d has weight %.3f", d, w)
		}
	}
	for i := range n / 50 {
		columns[2][i] = -12
	}
	weights := Weights(columns, slices.Repeat([]int{1000}, len(columns)), slices.Repeat([]float64{1 / float64(len(columns))}, len(columns)))
	var sum float64
	for _, w := range weights {
		sum += w
	}
	if weights[2] < 0.7 || weights[0] < evenShare/4-1e-9 || math.Abs(sum-1) > 1e-9 {
		t.Errorf("one detector sees 2 %% poison: weights %.3f", weights)
	}
}

// A long stream differs from few trusted rows by their chance, in every row of it: that moves no weight, and poison does.
func TestWeightsOfLongStreams(t *testing.T) {
	const n, m = 100_000, 1000
	err := math.Sqrt(0.25 * 0.75 / m)
	uniform := make([]float64, n)
	off := make([]float64, n) // more p-values up to 1/4 than there should be, by four standard errors, and as many less above
	for i := range n {
		p := (float64(i) + 0.5) / n
		uniform[i] = math.Log(p)
		if share := 0.25 + 4*err; p <= share {
			off[i] = math.Log(0.25 * p / share)
		} else {
			off[i] = math.Log(0.25 + 0.75*(p-share)/(1-share))
		}
	}
	columns := [][]float64{off, slices.Clone(uniform), uniform, uniform}
	even := slices.Repeat([]float64{1 / float64(len(columns))}, len(columns))
	for d, w := range Weights(columns, slices.Repeat([]int{m}, len(columns)), even) {
		if math.Abs(w-even[d]) > 0.15 {
			t.Errorf("on a clean stream detector %d has weight %.3f", d, w)
		}
	}
	for i := range n / 100 {
		columns[1][i*100] = -12
	}
	if w := Weights(columns, slices.Repeat([]int{m}, len(columns)), even); w[1] < 0.6 {
		t.Errorf("one detector sees 1 %% poison: weights %.3f", w)
	}
	if b := believed(detect.Enough, 30); b != 1 {
		t.Errorf("of so many rows %.3f are believed", b)
	}
	last := 1.0
	for rows := detect.Enough; rows < 10*detect.Enough; rows += 100 {
		if b := believed(rows, m); b > last || last-b > 0.1 {
			t.Fatalf("what is believed jumps from %.3f to %.3f at %d rows", last, b, rows)
		} else {
			last = b
		}
	}
}

func TestRiskKeepsOrder(t *testing.T) {
	last := -1.0
	for lp := 0.0; lp >= 2*logPDeep; lp -= 0.25 {
		r := Risk(lp)
		if !(r > last && r < 1) {
			t.Fatalf("risk of ln p = %v is %v after %v", lp, r, last)
		}
		last = r
	}
	if r := Risk(math.Log(0.01)); math.Abs(r-0.99) > 1e-12 {
		t.Errorf("risk of p = 0.01 is %v", r)
	}
}

func TestAlignFollowsScale(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	held := make([]float64, 400)
	for i := range held {
		held[i] = rng.ExpFloat64()
	}
	null := Fit(held)
	for _, poison := range []float64{0, 0.05, 0.2} {
		scores := make([]float64, 6000)
		for i := range scores {
			scores[i] = 1 + 3*rng.ExpFloat64()
			if float64(i) < poison*6000 {
				scores[i] = 30 + rng.NormFloat64()
			}
		}
		aligned := Align(null, scores)
		flagged, clean := 0, 0
		for i, s := range scores {
			if float64(i) >= poison*6000 {
				clean++
				if aligned.LogP(s) <= math.Log(0.05) {
					flagged++
				}
			} else if aligned.LogP(s) > math.Log(0.01) {
				t.Fatalf("poison is masked at a share of %v", poison)
			}
		}
		rate := float64(flagged) / float64(clean)
		t.Logf("poison %v: %.3f of the clean rows at p ≤ 0.05", poison, rate)
		if rate > 0.05+3*math.Sqrt(0.05/400) || rate < 0.01 {
			t.Errorf("poison %v: %.3f of the clean rows have p ≤ 0.05", poison, rate)
		}
	}
}

func TestCautious(t *testing.T) {
	for _, m := range []int{30, 1000, 10_000} {
		last := math.Inf(-1)
		for lp := -40.0; lp <= 0; lp += 0.01 {
			got := Cautious(lp, m)
			if got < lp || got < last {
				t.Fatalf("m = %d: ln p = %.2f becomes %v after %v", m, lp, got, last)
			}
			last = got
		}
		for _, budget := range budgets {
			if got := Cautious(Within(math.Log(budget), m), m); math.Abs(got-math.Log(budget)) > 1e-6 {
				t.Errorf("m = %d: Within(ln %v) is not undone by Cautious: %v", m, budget, got)
			}
		}
	}
	if p := math.Exp(Cautious(math.Log(0.05), 1000)); p > 0.0505 {
		t.Errorf("p = 0.05 of 1,000 rows becomes %v", p)
	}
}

// TestCombineIsWhatItSays compares with the formula, row by row.
func TestCombineIsWhatItSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 255, 256, 257, 1000} {
		weights, logP := make([]float64, 5), make([][]float64, 5)
		for d := range logP {
			weights[d], logP[d] = rng.Float64(), make([]float64, n)
			for i := range logP[d] {
				switch logP[d][i] = -rng.ExpFloat64(); rng.IntN(20) {
				case 0:
					logP[d][i] = 0
				case 1:
					logP[d][i] *= 600
				}
			}
		}
		out := make([]float64, n)
		Combine(out, logP, weights)
		for i := range out {
			lead, sum := 0.0, 0.0
			for d := range logP {
				lead = min(lead, logP[d][i])
			}
			for d := range logP {
				sum += weights[d] * math.Exp(lead-logP[d][i])
			}
			if want := math.Log(sum) - lead; out[i] != want && math.Abs(out[i]-want) > 1e-13*math.Abs(want) {
				t.Fatalf("row %d of %d is %v, want %v", i, n, out[i], want)
			}
		}
	}
}

// TestManyAreAsOne: ln p of many scores at once are those of each, to the bit.
func TestManyAreAsOne(t *testing.T) {
	none := []float64{1, 1}
	Fit(nil).LogPs(none, []float64{math.NaN(), math.NaN()})
	if none[0] != 0 || none[1] != 0 {
		t.Errorf("without a score known there is an opinion on none: %v", none)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for _, m := range []int{1, 20, 60, 5000} {
		known, scores := make([]float64, m), []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 1e300}
		for i := range known {
			if known[i] = rng.NormFloat64(); i%3 == 0 {
				known[i] = math.Round(known[i])
			}
		}
		for range 1000 {
			scores = append(scores, 3*rng.NormFloat64(), known[rng.IntN(m)])
		}
		null, out := Fit(known), make([]float64, len(scores))
		null.LogPs(out, scores)
		for i, s := range scores {
			if want := null.LogP(s); math.Float64bits(out[i]) != math.Float64bits(want) {
				t.Fatalf("ln p of %v is %v among others and %v alone", s, out[i], want)
			}
		}
	}
}
