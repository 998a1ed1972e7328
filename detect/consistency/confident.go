package consistency

import (
	"math"
	"sort"
)

// ConfidentLearning returns the rows whose given labels confident learning takes for errors, the surest first
// (Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021, arXiv 1911.00068;
// the variant that found the errors of "Pervasive Label Errors in Test Sets", arXiv 2103.14749).
//
// Probabilities are n × outcomes, row after row, of a model that has not learned from the row; labels are n outcomes,
// -1 where a row has none. With the threshold t_k, the mean of P_ik over the rows that are labelled k, a row counts in
// C[label][argmax of P_ik over the k with P_ik ≥ t_k − 10⁻⁶]; the diagonal of C is at least 1. The share of C off its
// diagonal, of all rows, is how many are taken: those with the smallest margin P[i][label] − max over other k of P_ik.
//
// A row without a label or whose probabilities are all zero or not numbers takes no part.
func ConfidentLearning[F float32 | float64](probabilities []F, outcomes int, labels []int32) []int {
	type judged struct {
		row    int
		margin F
	}
	row := func(i int) []F { return probabilities[i*outcomes : (i+1)*outcomes] }
	var rows []judged
	threshold, members := make([]float64, outcomes), make([]float64, outcomes)
	for i, label := range labels {
		if label < 0 || int(label) >= outcomes || !usable(row(i)) {
			continue
		}
		p := row(i)
		rows = append(rows, judged{i, p[label] - highest(p, int(label))})
		threshold[label] += float64(p[label])
		members[label]++
	}
	for k := range threshold {
		threshold[k] = threshold[k]/members[k] - 1e-6 // NaN for a class without rows: nothing is confident of it
	}
	sum, trace := 0.0, 0.0
	agreed := make([]float64, outcomes)
	for _, j := range rows {
		p, best := row(j.row), -1
		for k, v := range p {
			if float64(v) >= threshold[k] && (best < 0 || v > p[best]) {
				best = k
			}
		}
		switch {
		case best < 0:
		case best == int(labels[j.row]):
			agreed[best]++
		default:
			sum++
		}
	}
	for _, n := range agreed {
		trace += max(n, 1)
	}
	n := 0
	if sum += trace; sum > 0 {
		n = int((1 - trace/sum) * float64(len(rows)))
	}
	sort.SliceStable(rows, func(a, b int) bool { return rows[a].margin < rows[b].margin })
	issues := make([]int, n)
	for i := range issues {
		issues[i] = rows[i].row
	}
	return issues
}

// usable tells whether p may be probabilities: finite, not negative, and not all zero.
func usable[F float32 | float64](p []F) bool {
	var sum F
	for _, v := range p {
		if !(v >= 0) {
			return false
		}
		sum += v
	}
	return sum > 0 && !math.IsInf(float64(sum), 0)
}

// highest returns the largest of p but for p[own]; 0 where there is no other.
func highest[F float32 | float64](p []F, own int) F {
	var most F
	for k, v := range p {
		if k != own {
			most = max(most, v)
		}
	}
	return most
}
