package evaluate

import "sort"

// curve is a receiver operating characteristic: for every distinct score, from the highest, how many poisoned and
// how many clean records score at least that. Records that tie are flagged together or not at all.
type curve struct {
	truePositives, falsePositives []int
	poisoned, clean               int
}

func newCurve(score []float64, poison []bool) curve {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return score[order[a]] > score[order[b]] })
	var c curve
	for at, i := range order {
		if poison[i] {
			c.poisoned++
		} else {
			c.clean++
		}
		if at+1 == len(order) || score[order[at+1]] != score[i] {
			c.truePositives = append(c.truePositives, c.poisoned)
			c.falsePositives = append(c.falsePositives, c.clean)
		}
	}
	return c
}

func (c curve) ranking() Ranking {
	return Ranking{AUROC: c.area(), AveragePrecision: c.averagePrecision(), RecallAtFPR1Pct: c.recallAt(0.01)}
}

// area returns the chance that a poisoned record scores higher than a clean one, ties counting half: the area under
// the curve (Hanley and McNeil, Radiology 1982).
func (c curve) area() *float64 {
	if c.poisoned == 0 || c.clean == 0 {
		return nil
	}
	var sum, tp, fp float64
	for i := range c.truePositives {
		nextTP, nextFP := float64(c.truePositives[i]), float64(c.falsePositives[i])
		sum += (nextFP - fp) * (tp + nextTP) / 2
		tp, fp = nextTP, nextFP
	}
	sum /= float64(c.poisoned) * float64(c.clean)
	return &sum
}

// averagePrecision returns Σ (Rᵢ − Rᵢ₋₁) Pᵢ over thresholds, without interpolation.
func (c curve) averagePrecision() *float64 {
	if c.poisoned == 0 {
		return nil
	}
	var sum float64
	before := 0
	for i, tp := range c.truePositives {
		sum += float64(tp-before) / float64(c.poisoned) * float64(tp) / float64(tp+c.falsePositives[i])
		before = tp
	}
	sum = min(sum, 1) // rounding
	return &sum
}

// recallAt returns the largest recall of any threshold at which at most the given share of clean records is flagged.
func (c curve) recallAt(rate float64) *float64 {
	if c.poisoned == 0 || c.clean == 0 {
		return nil
	}
	best := 0
	for i, tp := range c.truePositives {
		if float64(c.falsePositives[i]) <= rate*float64(c.clean) {
			best = tp
		}
	}
	return share(best, c.poisoned)
}
