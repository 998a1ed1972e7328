//go:build !race

package reuse

const runsWithLedger = false
