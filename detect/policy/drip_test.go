package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/drip"
	"github.com/tasterhq/taster/schema/finding"
)

// dripped is what became of a stream with a slow drip.
type dripped struct {
	poisoned, quarantined int
	recalled              int // poisoned records that were accepted and recalled
	clean, alarms         int // clean records, and those quarantined
	wronged               int // clean records that were recalled
	first                 int // poisoned records until the first was quarantined, −1 for never
	told                  int // recalls in all
	state                 int // bytes of the longest state
}

func (d dripped) recall() float64 { return float64(d.quarantined+d.recalled) / float64(d.poisoned) }

func (d dripped) String() string {
	return fmt.Sprintf("quarantined %d and recalled %d of %d poisoned (%.3f), the first after %d; %d clean of %d quarantined (%.4f %%), %d recalled; state of %d bytes",
		d.quarantined, d.recalled, d.poisoned, d.recall(), d.first, d.alarms, d.clean, 100*float64(d.alarms)/float64(d.clean), d.wronged, d.state)
}

// pour sends so many rows of reviews through partitions in segments, in an order of turns that seed draws, each partition
// knowing the newest states of the others; every so-and-so-many-th record is poisoned with a phrase. The rows that a
// partition gets do not depend on the turns.
func pour(t testing.TB, s *Scorer, rows, segment, every, partitions int, phrase string, seed uint64) dripped {
	t.Helper()
	turns := rand.New(rand.NewPCG(seed, 0x7417))
	parts, writers, left := make([]*source, partitions), make([]*detecttest.Reviews, partitions), make([]int, partitions)
	for i := range parts {
		parts[i], writers[i], left[i] = partition(int32(i)), detecttest.NewReviews(uint64(100+i)), rows/partitions/segment
	}
	type place struct {
		partition int32
		offset    int64
	}
	poison, accepted, recalled := map[place]bool{}, map[place]bool{}, map[place]bool{}
	out := dripped{first: -1}
	for total := rows / partitions / segment * partitions; total > 0; total-- {
		at := turns.IntN(partitions)
		for left[at] == 0 {
			at = (at + 1) % partitions
		}
		left[at]--
		p, w := parts[at], writers[at]
		sample := w.Sample(segment)
		base := p.next
		for i := range segment {
			if row := int(base)/2 + i; row%every == every/2 { // offsets go by two
				w.Poison(sample, i, phrase)
				poison[place{p.Partition, base + int64(2*i)}] = true
			}
		}
		var others [][]byte
		for _, o := range parts {
			if o != p && o.state != nil {
				others = append(others, o.state)
			}
		}
		d := p.judge(t, s, sample, others...)
		out.state = max(out.state, len(d.State))
		for i, v := range d.Verdicts {
			here := place{p.Partition, base + int64(2*i)}
			switch {
			case v == finding.Accepted:
				accepted[here] = true
				out.clean++
			case poison[here]:
				if out.quarantined++; out.first < 0 {
					out.first = len(poison)
				}
			default:
				out.clean++
				out.alarms++
			}
		}
		for _, r := range d.Recalls {
			here := place{r.Partition, r.Offset}
			out.told++
			if !accepted[here] {
				t.Fatalf("recall of a record that was not accepted: %+v", here)
			}
			if recalled[here] {
				continue
			}
			recalled[here] = true
			if poison[here] {
				out.recalled++
			} else {
				out.wronged++
			}
		}
	}
	out.poisoned = len(poison)
	return out
}

func dripScorer(t testing.TB, budget float64, reference int, detectors ...detect.Detector) *Scorer {
	return scorer(t, budget, detecttest.NewReviews(1).Sample(reference), detectors, 2)
}

// Sixty records among 60,000: late evidence still gets the early ones.
func TestSlowDripIsQuarantinedOrRecalled(t *testing.T) {
	if raced {
		t.Skip("the race detector is on: TestInterleavingsFindTheSame shows it the same code")
	}
	s := dripScorer(t, 0.001, 1000, drip.Detector{})
	got := pour(t, s, 60_000, 1000, 1000, 1, "cf", 1)
	t.Log(got)
	if got.recall() < 0.9 {
		t.Errorf("%.3f of the drip quarantined or recalled", got.recall())
	}
	if got.alarms > 60+24 || got.wronged > 60 { // the budget, three standard errors, and as many recalls
		t.Errorf("%d clean records quarantined, %d recalled", got.alarms, got.wronged)
	}
}

// However two partitions take turns, the same poisoned records are found in the end, but for those few that a bounded list
// of suspects cannot hold.
func TestInterleavingsFindTheSame(t *testing.T) {
	s := dripScorer(t, 0.001, 1000, drip.Detector{})
	var least, most float64 = 1, 0
	if raced { // so few rows show nothing but what goes on at once
		pour(t, s, 2000, 500, 100, 2, "cf", 1)
		return
	}
	for seed := range uint64(3) {
		got := pour(t, s, 40_000, 1000, 500, 2, "cf", seed)
		t.Log(got)
		least, most = min(least, got.recall()), max(most, got.recall())
		if got.told > 2*(got.recalled+got.wronged) {
			t.Errorf("%d recalls of %d records: each is told once by each partition", got.told, got.recalled+got.wronged)
		}
	}
	if least < 0.9 || most-least > 0.05 {
		t.Errorf("between %.3f and %.3f of the poisoned records are quarantined or recalled", least, most)
	}
}

// BenchmarkMillion measures what becomes of 250 poisoned records among a million, by drip alone and by all detectors.
func BenchmarkMillion(b *testing.B) {
	for _, c := range []struct {
		name      string
		detectors []detect.Detector
	}{{"drip", []detect.Detector{drip.Detector{}}}, {"all", All()}} {
		for _, reference := range []int{1000, 10_000} {
			for _, segment := range []int{1000, 100_000} {
				b.Run(fmt.Sprintf("%s/reference=%d/segment=%d", c.name, reference, segment), func(b *testing.B) {
					for b.Loop() {
						s := dripScorer(b, 0.01, reference, c.detectors...)
						start := time.Now()
						got := pour(b, s, 1_000_000, segment, 4000, 1, "cf", 1)
						b.Logf("%s; %.0f records/s with their making", got, 1e6/time.Since(start).Seconds())
						b.ReportMetric(got.recall(), "recall")
						b.ReportMetric(100*float64(got.alarms)/float64(got.clean), "%clean")
					}
				})
			}
		}
	}
}
