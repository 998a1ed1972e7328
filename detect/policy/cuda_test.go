//go:build cuda && cgo && linux && amd64

package policy

import (
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/schema/finding"
)

// TestCUDAVerdicts has every detector judge the public sets on the CPU and on a device, with a reference and without: risks may differ by
// rounding, and a verdict only where the risk lies that near to the threshold; each such row is named. On an emulated device, which is
// slow, some hundred rows of each set are judged, on a real one thousands.
func TestCUDAVerdicts(t *testing.T) {
	device, err := linalg.OpenCUDA(linalg.CUDAOptions{})
	if err != nil {
		t.Fatalf("%v; make test-cuda brings an emulated device, make test-gpu wants a real one", err)
	}
	t.Cleanup(device.Close)
	known, judged := 1000, 5000
	if strings.HasPrefix(device.Device().Name, "emulated") {
		known, judged = 150, 150
	}
	var lost atomic.Int64
	engine := linalg.Watched{Engine: device, Lost: func(error) { lost.Add(1) }}

	for _, c := range []struct {
		name    string
		numbers []string
		minilm  bool
		short   bool // among the few of a short run
	}{
		{name: "badnets-sst2", minilm: true, short: true},
		{name: "syntactic-sst2", minilm: true},
		{name: "style-sst2-5pct", minilm: true},
		{name: "text-backdoor/badnets-sst2.jsonl"},
		{name: "embedding-anomaly/cifar10_0-resnet18.jsonl.gz", short: true},
		{name: "embedding-anomaly/20news_3-bert.jsonl.gz"},
		{name: "events/flights.jsonl", numbers: []string{"delay", "distance"}},
		{name: "tabular-anomaly/cardio.jsonl.gz"},
		{name: "tabular-anomaly/glass.jsonl.gz", short: true},
		{name: "tabular-anomaly/letter.jsonl.gz"},
		{name: "tabular-anomaly/lympho.jsonl.gz"},
		{name: "tabular-anomaly/mnist.jsonl.gz"},
		{name: "tabular-anomaly/musk.jsonl.gz"},
		{name: "tabular-anomaly/optdigits.jsonl.gz"},
		{name: "tabular-anomaly/pendigits.jsonl.gz"},
		{name: "tabular-anomaly/pima.jsonl.gz"},
		{name: "tabular-anomaly/satellite.jsonl.gz"},
	} {
		if testing.Short() && !c.short {
			continue
		}
		t.Run(filepath.Base(c.name), func(t *testing.T) {
			var all planted.Set
			if c.minilm {
				all = planted.MiniLM(t, c.name)
			} else {
				all = planted.Read(t, c.name, c.numbers...)
			}
			ref, stream := all.Split(min(known, len(all.Clean().Poison)/2), 1)
			if stream.N > judged {
				stream = stream.Rows(upTo(judged))
			}
			for _, with := range []bool{true, false} {
				var trusted *detect.Sample
				if with {
					trusted = ref.Sample
				}
				cpu := judge(t, scorer(t, 0.01, trusted, On(nil), 2), stream.Sample)
				gpu := judge(t, scorer(t, 0.01, trusted, On(engine), 2), stream.Sample)
				most, flagged := 0.0, 0
				for row := range stream.N {
					most = max(most, math.Abs(cpu.Risks[row]-gpu.Risks[row]))
					if cpu.Verdicts[row] == finding.Quarantined {
						flagged++
					}
					if cpu.Verdicts[row] != gpu.Verdicts[row] {
						near := math.Abs(cpu.Risks[row] - cpu.Threshold)
						t.Logf("row %d: %s on the CPU, %s on the device; its risk is %.3g from the threshold", row, cpu.Verdicts[row], gpu.Verdicts[row], near)
						if near > allowed {
							t.Errorf("row %d: a verdict differs although the risk is not near to the threshold", row)
						}
					}
				}
				t.Logf("reference %v: %d rows, %d flagged, risks differ by %.3g at most", with, stream.N, flagged, most)
				if most > allowed {
					t.Errorf("risks differ by %.3g: want %g at most", most, allowed)
				}
			}
		})
	}
	if lost.Load() > 0 {
		t.Errorf("%d questions were answered by the CPU in the device's place", lost.Load())
	}
	device.Close() // it was asked, then, if it is missed now
	reference, stream := planted.Gaussian(8, []int{150, 150}, 0, 0, 1), planted.Gaussian(8, []int{150, 150}, 0, 0, 2)
	judge(t, scorer(t, 0.01, reference.Sample, On(engine), 2), stream.Sample)
	if lost.Load() == 0 {
		t.Error("detectors do not ask the device")
	}
}

// allowed is how far risks may lie apart. It is not derived: between scores and risks stand ranks, where the least difference
// may exchange two rows, which moves a risk by about one over the number of calibrating rows.
const allowed = 0.01
