package lanes

import "math"

// Bins writes for each value one more than how many of its eight edges lie below it, and 0 for NaN. Missing edges are +Inf.
func Bins(out []uint8, values []float64, edges [][8]float64) {
	if len(values) == 0 {
		return
	}
	out, edges = out[:len(values)], edges[:len(values)]
	if available {
		bins(&out[0], &values[0], &edges[0], len(values))
		return
	}
	for i, v := range values {
		at := uint8(0)
		if v == v {
			at = 1
		}
		for _, edge := range edges[i] {
			if v > edge { // which NaN is not
				at++
			}
		}
		out[i] = at
	}
}

// The powers whose results are neither subnormal nor infinite.
const leastPower, mostPower = -708, 709

// Exps sets out[i] to math.Exp(x[i]), to the bit. The two must not overlap.
func Exps(out, x []float64) {
	out = out[:len(x)]
	if !available || len(x) == 0 {
		for i, v := range x {
			out[i] = math.Exp(v)
		}
		return
	}
	exps(&out[0], &x[0], len(x))
	for i, v := range x {
		if !(v >= leastPower && v <= mostPower) {
			out[i] = math.Exp(v)
		}
	}
}

// Logs sets out[i] to math.Log(x[i]), to the bit. The two may be the same.
func Logs(out, x []float64) {
	out = out[:len(x)]
	if !available || len(x) == 0 {
		for i, v := range x {
			out[i] = math.Log(v)
		}
		return
	}
	logs(&out[0], &x[0], len(x))
}
