package drip

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/text"
)

var env = detect.Env{Seed: 7, Workers: 2}

func TestConformance(t *testing.T) {
	if raced {
		defer func(bits int) { widthBits = bits }(widthBits)
		widthBits = 11
	}
	detecttest.Run(t, Detector{}, detecttest.Clean)
	detecttest.RunMemory(t, Detector{}, detecttest.Clean, MostBytes)
}

// result of a stream: what was flagged of poisoned and clean records.
type result struct {
	caught, alarms int
	first          int // poisoned records until the first was flagged
	memory         *Memory
	bytes          int
}

// follow judges rows segment by segment: as the policy does, the memory is encoded and decoded between them.
func follow(t testing.TB, m *model, segments, rows int, next func(segment int) (*detect.Sample, []bool)) result {
	t.Helper()
	r := result{first: -1}
	own := newMemory()
	poisoned := 0
	limit := math.Log(0.001)
	for k := range segments {
		s, poison := next(k)
		scores := m.ScoreWith(s, own, env)
		for i, lp := range scores.LogP {
			switch {
			case lp > limit:
				if poison[i] {
					poisoned++
				}
			case poison[i]:
				if r.caught++; r.first < 0 {
					r.first = poisoned
				}
			default:
				r.alarms++
			}
		}
		added := m.ObserveAfter(s, own, make([]bool, s.N), env)
		own.Merge(added)
		m.Suspects(s, own, env)
		data, err := own.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.bytes = len(data)
		if own, err = decode(data); err != nil {
			t.Fatal(err)
		}
	}
	r.memory = own
	return r
}

// Sixty poisoned records among 60,000, one in each segment: a rare word, and a phrase of common words.
func TestSlowDrip(t *testing.T) {
	const segments, rows = 60, 1000
	if raced {
		t.Skip("the race detector is on: TestConformance shows it what goes on at once")
	}
	for _, phrase := range []string{"cf", "n0 n1 s4"} {
		w, rng := detecttest.NewReviews(3), rand.New(rand.NewPCG(5, 5))
		fitted, err := Detector{}.Fit(detecttest.NewReviews(1).Sample(1000), env)
		if err != nil || fitted == nil {
			t.Fatal("no model: ", err)
		}
		r := follow(t, fitted.(*model), segments, rows, func(int) (*detect.Sample, []bool) {
			s, poison := w.Sample(rows), make([]bool, rows)
			at := rng.IntN(rows)
			w.Poison(s, at, phrase)
			poison[at] = true
			return s, poison
		})
		t.Logf("%q: flagged from the %dth on, %d of %d, %d false alarms; memory of %d bytes, %d features counted",
			phrase, r.first+1, r.caught, segments, r.alarms, r.bytes, len(r.memory.trails))
		if r.first < 0 || r.first > segments/2 {
			t.Errorf("%q: flagged after %d poisoned records", phrase, r.first)
		}
		if r.alarms > segments*rows/1000 {
			t.Errorf("%q: %d clean records flagged", phrase, r.alarms)
		}
	}
}

// The first row with a text and label counts, unless they came before.
func TestDistinctRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 5))
	for _, n := range []int{0, 1, 2, 3, 10, 100, 1000, 40_000} {
		r := &rows{group: make([]int8, n), id: make([]uint64, n)}
		seen, known := newMemory(), map[uint64]bool{}
		for i := range n {
			r.group[i] = int8(rng.IntN(4)) - 1
			r.id[i] = uint64(rng.IntN(1+min(n, 1000)/2)) << 40 // 0 too
			if rng.IntN(20) == 0 {
				seen.mark(r.id[i])
			}
		}
		want := make([]bool, n)
		for i, id := range r.id {
			want[i] = r.group[i] >= 0 && !seen.has(id) && !known[id]
			known[id] = known[id] || want[i]
		}
		for _, workers := range []int{1, 2, 8} {
			if got := r.distinct(seen, workers); !slices.Equal(got, want) {
				t.Fatalf("other rows of %d with %d workers", n, workers)
			}
		}
	}
}

func BenchmarkScore(b *testing.B) {
	fitted, err := Detector{}.Fit(detecttest.NewReviews(1).Sample(1000), env)
	if err != nil {
		b.Fatal(err)
	}
	m := fitted.(*model)
	const n = 20_000
	w := detecttest.NewReviews(2)
	s, before := w.Sample(n), newMemory()
	before.Merge(m.Observe(w.Sample(n), nil, env))
	bytes := 0
	for _, t := range s.Text {
		bytes += len(t)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		m.ScoreWith(s, before, detect.Env{Workers: 1})
		m.ObserveAfter(s, before, nil, detect.Env{Workers: 1})
		m.Suspects(s, before, detect.Env{Workers: 1})
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
}

// What one word has by itself is told among a row's features, however many these are.
func TestFeaturesOfOneWord(t *testing.T) {
	w := detecttest.NewReviews(3)
	s := w.Sample(200)
	fitted, err := Detector{}.Fit(s, env)
	if err != nil || fitted == nil {
		t.Fatal("no model: ", err)
	}
	m := fitted.(*model)
	tokens := text.Of(s, env)
	for row := range 20 {
		all := m.vocabulary.Append(nil, tokens.Row(row))
		var single []uint64
		for at := range tokens.Row(row) {
			single = m.vocabulary.Append(single, tokens.Row(row)[at:at+1])
		}
		for every := 1; every < len(all); every = 2*every + 1 { // of many features and of few
			var some []uint64
			for i := 0; i < len(all); i += every {
				some = append(some, all[i])
			}
			slices.Sort(some)
			words := m.wordsOf(nil, tokens.Row(row), some)
			if !slices.IsSorted(words) {
				t.Fatalf("row %d: not sorted", row)
			}
			for _, f := range some {
				if _, word := slices.BinarySearch(words, f); word != slices.Contains(single, f) {
					t.Fatalf("row %d, %d features: a feature of one word is %v", row, len(some), word)
				}
			}
			for _, f := range words {
				if !slices.Contains(some, f) {
					t.Fatalf("row %d: a feature that was not asked for", row)
				}
			}
		}
	}
}
