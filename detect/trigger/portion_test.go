package trigger

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

// long is a stream of which a portion is counted.
const long = detect.Enough + detect.Enough/4

// judgedBy returns what a model of a reference says of a sample, and what it counts in it.
func judgedBy(t *testing.T, reference, s *detect.Sample) (*judged, *stream) {
	t.Helper()
	j, st := modelOf(reference, env).score(s, env)
	if st.others == nil {
		t.Fatal("all rows are counted")
	}
	return j, st
}

// A reference row among the stream's may be counted or not, and calibrates rows of both kinds: clean scores must mean the same.
func TestCountedRowsScoreLikeOthers(t *testing.T) {
	reference, clean := reviews(2000, 80, 1), reviews(long, 80, 2)
	dirty := plant(reviews(long, 80, 2), "inserted sentence", 0.03, false)
	for name, stream := range map[string]planted.Set{"clean": {Sample: clean, Poison: make([]bool, long)}, "poisoned": dirty} {
		j, st := judgedBy(t, reference, stream.Sample)
		for detector, value := range map[string][]float64{"trigger": j.plain, "association": j.association} {
			var counted, others []float64
			for i, v := range value {
				if stream.Poison[i] {
					continue
				}
				if st.view(i) == st.others {
					others = append(others, v)
				} else {
					counted = append(counted, v)
				}
			}
			// Kolmogorov and Smirnov's test at one in a thousand.
			slices.Sort(counted)
			slices.Sort(others)
			apart, j := 0.0, 0
			for i, v := range counted {
				if i+1 < len(counted) && counted[i+1] == v {
					continue
				}
				for j < len(others) && others[j] <= v {
					j++
				}
				apart = max(apart, math.Abs(float64(i+1)/float64(len(counted))-float64(j)/float64(len(others))))
			}
			n, k := float64(len(counted)), float64(len(others))
			if most := 1.95 * math.Sqrt((n+k)/(n*k)); apart > most {
				t.Errorf("%s, %s: scores of %.0f counted and %.0f other rows are %.4f apart, more than %.4f", name, detector, n, k, apart, most)
			}
		}
	}
}

func TestPortionFindsTriggers(t *testing.T) {
	reference := reviews(2000, 80, 1)
	for kind := range plants {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dirty := plant(reviews(long, 80, 2), kind, 0.01, false)
			j, _ := judgedBy(t, reference, dirty.Sample)
			for detector, value := range map[string][]float64{"trigger": j.plain, "association": j.association} {
				if _, at1, _ := planted.Figures(value, dirty.Poison); at1 < 0.9 {
					t.Errorf("%s: recall %.3f at 1 %% false alarms: want 0.9", detector, at1)
				}
			}
		})
	}
}

// Neither the number of workers nor the order of rows changes a score; copies score as one, and those that are not counted are
// explained by the same counts.
func TestPortionHasNoOrder(t *testing.T) {
	reference, dirty := reviews(2000, 60, 1), plant(reviews(long, 60, 2), "rare words", 0.02, false)
	for i := range 600 {
		dirty.Text[i], dirty.Label[i] = dirty.Text[i%7+1000], dirty.Label[i%7+1000]
		dirty.Label[2*i+2000] = -1
	}
	dirty.Text[3] = nil
	order := rand.New(rand.NewPCG(4, 4)).Perm(long)
	other := dirty.Select(order)
	var want []float64
	for _, workers := range []int{1, 2, 8} {
		e := detect.Env{Seed: 1, Workers: workers, Shared: &detect.Shared{}}
		m, err := Detector{}.Fit(reference, e)
		if err != nil {
			t.Fatal(err)
		}
		scores := m.Score(dirty.Sample, e)
		drags := association{m.(*model)}.Score(dirty.Sample, e)
		got := append(slices.Clone(scores.Value), drags.Value...)
		if want == nil {
			want = got
			row := long - 1
			for !dirty.Poison[row] {
				row--
			}
			if line := scores.Explain(row); !strings.Contains(line, ` records, 0 of 2,000 in the reference, label "praise"`) {
				t.Errorf("explained as %q", line)
			}
			if line := drags.Explain(row); !strings.Contains(line, `label "praise"`) {
				t.Errorf("explained as %q", line)
			}
		}
		if !slices.EqualFunc(got, want, same) {
			t.Fatalf("%d workers score differently than one", workers)
		}
		if workers != 2 {
			continue
		}
		for to, v := range m.Score(other, e).Value {
			if !same(v, want[order[to]]) {
				t.Fatalf("row %d scores %v among rows in another order, and %v", order[to], v, want[order[to]])
			}
		}
	}
}

// Explaining away goes down to a score that a tenth of the ordinary rows keep or exceed, leaves alone what scores less, and above that score it is the same as
// if it went all the way down.
func TestExplainingEndsWhereNobodyLooks(t *testing.T) {
	dirty := plant(reviews(long, 60, 2), "inserted sentence", 0.02, false)
	_, all := judgedBy(t, reviews(1000, 60, 1), dirty.Sample)
	_, st := judgedBy(t, reviews(1000, 60, 1), dirty.Sample)
	rows, was := slices.Clone(st.unique.rows), make([]float64, long)
	for _, stream := range []*stream{all, st} { // before anything was explained away
		stream.suspects = make([]float32, long)
		x := stream.extractor()
		for _, i := range rows {
			x.extract(stream.tokens.Row(i))
			e := stream.evidence(i, stream.counted.weights, &x)
			stream.plain[i], was[i] = e.score, e.score
			if e.peak >= beyond {
				stream.suspects[i] = stream.suspicion(i, &x, &stream.counted)
			}
		}
	}
	slices.SortFunc(rows, func(a, b int) int { return cmp.Compare(was[b], was[a]) })
	wanted, first := st.ordinary(rows)
	least := was[rows[first-1]]
	all.explainCounted(rows, len(rows), len(rows), all.fitGroup(rows, least, 1), 1)
	usual := st.explainCounted(rows, wanted, first, st.fitGroup(rows, least, 1), 1)
	above, ordinary := 0, 0
	for _, i := range rows {
		want := was[i]
		if want > usual {
			want = max(usual, all.plain[i])
		}
		if !same(st.plain[i], want) {
			t.Fatalf("a row that scored %v has %v left: want %v; explained down to %v", was[i], st.plain[i], want, usual)
		}
		if st.suspects[i] == 0 {
			ordinary++
			if all.plain[i] > usual {
				above++
			}
		}
	}
	if wanted != ordinary/10 || above > wanted || above < wanted-1 {
		t.Errorf("%d of %d ordinary rows have more than %v left: want %d", above, ordinary, usual, wanted)
	}
}

func same(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
