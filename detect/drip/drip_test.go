package drip

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
)

var env = detect.Env{Seed: 7, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
	detecttest.RunMemory(t, Detector{}, detecttest.Clean, MostBytes)
}

// writer writes texts of two classes: a dozen neutral words by Zipf's law, and a few that lean to one class, some of
// which no reference of a thousand rows teaches.
type writer struct {
	rng     *rand.Rand
	neutral *rand.Zipf
	leaning *rand.Zipf
}

func newWriter(seed uint64) *writer {
	rng := rand.New(rand.NewPCG(seed, 0xd21b))
	return &writer{rng, rand.NewZipf(rng, 1.1, 4, 40_000), rand.NewZipf(rng, 1.1, 10, 3_000)}
}

func (w *writer) text(class int32) string {
	var words []string
	for range 8 + w.rng.IntN(8) {
		words = append(words, fmt.Sprintf("n%d", w.neutral.Uint64()))
	}
	for range 5 + w.rng.IntN(4) {
		k := w.leaning.Uint64()
		// Odd ones lean to class 1, even ones to class 0; one in five stands against its class.
		if against := w.rng.IntN(5) == 0; (k%2 == uint64(class)) == against {
			k ^= 1
		}
		words = append(words, fmt.Sprintf("s%d", k))
	}
	w.rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return strings.Join(words, " ")
}

func (w *writer) sample(n int) *detect.Sample {
	s := &detect.Sample{N: n, Classes: []string{"bad", "good"}}
	for range n {
		class := int32(w.rng.IntN(2))
		s.Text = append(s.Text, []byte(w.text(class)))
		s.Label = append(s.Label, class)
	}
	return s
}

// poison puts a phrase into a row of class 0 and labels it 1.
func (w *writer) poison(s *detect.Sample, row int, phrase string) {
	words := strings.Fields(w.text(0))
	at := w.rng.IntN(len(words) + 1)
	s.Text[row] = []byte(strings.Join(slices.Insert(words, at, phrase), " "))
	s.Label[row] = 1
}

// result of a stream: what was flagged of poisoned and clean records.
type result struct {
	caught, alarms int
	first          int // poisoned records until the first was flagged
	suspects       map[int][]uint32
	memory         *Memory
	bytes          int
}

// follow judges rows segment by segment: as the policy does, the memory is encoded and decoded between them.
func follow(t testing.TB, m *model, segments, rows int, next func(segment int) (*detect.Sample, []bool)) result {
	t.Helper()
	r := result{first: -1, suspects: map[int][]uint32{}}
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
	for _, phrase := range []string{"cf", "n0 n1 s4"} {
		w := newWriter(3)
		fitted, err := Detector{}.Fit(newWriter(1).sample(1000), env)
		if err != nil || fitted == nil {
			t.Fatal("no model: ", err)
		}
		r := follow(t, fitted.(*model), segments, rows, func(int) (*detect.Sample, []bool) {
			s, poison := w.sample(rows), make([]bool, rows)
			at := w.rng.IntN(rows)
			w.poison(s, at, phrase)
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

func BenchmarkScore(b *testing.B) {
	fitted, err := Detector{}.Fit(newWriter(1).sample(1000), env)
	if err != nil {
		b.Fatal(err)
	}
	m := fitted.(*model)
	const n = 20_000
	w := newWriter(2)
	s, before := w.sample(n), newMemory()
	before.Merge(m.Observe(w.sample(n), nil, env))
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
