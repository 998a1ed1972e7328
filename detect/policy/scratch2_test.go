package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

func TestScratchFlights(t *testing.T) {
	if os.Getenv("FL") == "" {
		t.Skip()
	}
	clean := planted.Read(t, "events/flights.jsonl", "delay", "distance").Clean()
	for _, without := range strings.Split(os.Getenv("FL"), ",") {
		var ds []detect.Detector
		for _, d := range All() {
			if !strings.Contains(without, d.Name()) {
				ds = append(ds, d)
			}
		}
		for seed := range uint64(4) {
			ref, stream := clean.Split(1000, seed)
			stream = stream.Rows(rand.New(rand.NewPCG(seed, 3)).Perm(stream.N)[:6000])
			s := scorer(t, 0.5, ref.Sample, ds, 2)
			details, _ := s.details(context.Background(), stream.Sample, nil)
			d := newDecision(stream.N)
			s.decide(d, details)
			var n [3]int
			for _, r := range d.Risks {
				for b, x := range []float64{0.001, 0.01, 0.05} {
					if r >= 1-x {
						n[b]++
					}
				}
			}
			fmt.Printf("without %s: %.2f %.2f %.2f %%", without, float64(n[0])/60, float64(n[1])/60, float64(n[2])/60)
			for i, x := range details {
				pos, heldpos := 0, 0
				for _, lp := range x.LogP {
					if lp < -1e-9 {
						pos++
					}
				}
				for _, lp := range s.fitted[i].held {
					if lp < -1e-9 {
						heldpos++
					}
				}
				fmt.Printf(" | %s <1: %.3f held %.3f", x.Detector, float64(pos)/6000, float64(heldpos)/1000)
			}
			fmt.Println()
		}
	}
}
