//go:build !race

package reuse

// ledger keeps no account of what is lent: see its other self.
type ledger struct{}

func (*ledger) lend(b []byte) []byte { return b }
func (*ledger) back([]byte) bool     { return true }
