package policy

import (
	"slices"
	"testing"

	"github.com/tasterhq/taster/schema/contract"
)

// A contract must be able to switch off whatever judges its records.
func TestContractsCanNameEveryDetector(t *testing.T) {
	var have []string
	for _, d := range All() {
		have = append(have, d.Name())
	}
	named := slices.Clone(contract.Detectors)
	slices.Sort(have)
	slices.Sort(named)
	if !slices.Equal(have, named) {
		t.Errorf("there are %v, and contracts may name %v", have, named)
	}
}
