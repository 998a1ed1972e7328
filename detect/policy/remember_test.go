package policy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/memory"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// tally is a plain detector that remembers: how often the stream has shown a row's text. From ten times on it is sure.
type tally struct{}

type tallied map[uint32]uint32

const sure = 10

func textKey(text []byte) uint32 {
	h := fnv.New32a()
	h.Write(text)
	return h.Sum32()
}

func (tally) Name() string                                         { return "tally" }
func (tally) Fit(*detect.Sample, detect.Env) (detect.Model, error) { return tally{}, nil }

func (m tally) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, tallied{}, env)
}

func (tally) ScoreWith(s *detect.Sample, before detect.Memory, _ detect.Env) detect.Scores {
	count := tallied{}
	for _, text := range s.Text {
		count[textKey(text)]++
	}
	value, logP := make([]float64, s.N), make([]float64, s.N)
	for i, text := range s.Text {
		k := textKey(text)
		if value[i] = float64(count[k] + before.(tallied)[k]); value[i] >= sure {
			logP[i] = -value[i]
		}
	}
	return detect.Scores{Value: value, LogP: logP, Code: finding.PoisonNearDuplicate, Stream: true, Explain: func(i int) string {
		return fmt.Sprintf("seen %v times", value[i])
	}}
}

func (tally) Memory(data []byte) (detect.Memory, error) {
	if len(data)%8 != 0 {
		return nil, errors.New("broken")
	}
	m := tallied{}
	for ; len(data) > 0; data = data[8:] {
		m[binary.LittleEndian.Uint32(data)] = binary.LittleEndian.Uint32(data[4:])
	}
	return m, nil
}

func (tally) Observe(s *detect.Sample, _ []bool, _ detect.Env) detect.Memory {
	m := tallied{}
	for _, text := range s.Text {
		m[textKey(text)]++
	}
	return m
}

func (m tallied) Merge(other detect.Memory) {
	for k, n := range other.(tallied) {
		m[k] += n
	}
}

func (m tallied) AppendBinary(dst []byte) ([]byte, error) {
	var keys []uint32
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		dst = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(dst, k), m[k])
	}
	return dst, nil
}

func (tally) Suspects(s *detect.Sample, _ detect.Memory, _ detect.Env) []detect.Suspicion {
	var out []detect.Suspicion
	for i, text := range s.Text {
		out = append(out, detect.Suspicion{Row: i, Keys: []uint32{textKey(text)}})
	}
	return out
}

func (tally) Weigh(keys []uint32, known detect.Memory) float32 {
	return float32(known.(tallied)[keys[0]])
}

func (tally) Convict(known detect.Memory) func([]uint32) (finding.Finding, bool) {
	return func(keys []uint32) (finding.Finding, bool) {
		n := known.(tallied)[keys[0]]
		return finding.Finding{Score: float64(n), PValue: 0.001, Threshold: 0.01, Evidence: "seen often", Code: finding.PoisonNearDuplicate}, n >= sure
	}
}

// source is one partition that is judged segment by segment.
type source struct {
	record.Source
	state []byte
	next  int64
}

// judge decides on the next segment of a source.
func (p *source) judge(t testing.TB, s *Scorer, sample *detect.Sample, others ...[]byte) *record.Decision {
	t.Helper()
	offsets := make([]int64, sample.N)
	for i := range offsets {
		offsets[i] = p.next
		p.next += 2 // gaps are usual
	}
	d, _, err := s.follow(context.Background(), p.Source, sample, offsets, record.Memory{Own: p.state, Others: others}, func(*record.Decision) {})
	if err != nil {
		t.Fatal(err)
	}
	p.state = d.State
	return d
}

func partition(n int32) *source {
	return &source{Source: record.Source{Topic: "t", ID: "x", Partition: n}}
}

// dripping returns segments of clean rows, one of which in each says the same.
func dripping(segments, rows int, seed uint64) []*detect.Sample {
	out := make([]*detect.Sample, segments)
	for i := range out {
		out[i] = detecttest.Clean(rows, seed+uint64(i))
		out[i].Text[i%rows] = []byte("buy this")
	}
	return out
}

var remembering = []detect.Detector{detecttest.Spread{}, tally{}}

// The same segments and memories give the same decisions: for any number of workers, and when every segment is judged by
// a process that has just started.
func TestSameDecisionWithMemory(t *testing.T) {
	for _, ref := range []*detect.Sample{nil, detecttest.Clean(400, 99)} {
		var want []*record.Decision
		for _, workers := range []int{1, 2, 8} {
			for _, restarts := range []bool{false, true} {
				s := scorer(t, 0.01, ref, remembering, workers)
				a, b := partition(0), partition(1)
				var got []*record.Decision
				for _, sample := range dripping(14, 120, 7) {
					if restarts {
						s = scorer(t, 0.01, ref, remembering, workers)
						a.state, b.state = slices.Clone(a.state), slices.Clone(b.state)
					}
					var others [][]byte
					if b.state != nil {
						others = append(others, b.state)
					}
					got = append(got, a.judge(t, s, sample, others...))
					a, b = b, a
				}
				if want == nil {
					want = got
				} else if !reflect.DeepEqual(got, want) {
					t.Fatalf("%d workers, restarts %v: other decisions", workers, restarts)
				}
			}
		}
	}
}

// What two sources show counts together, each record is told once by each source, and nothing is told of what was
// quarantined.
func TestRecalls(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(400, 99), remembering, 2)
	a, b := partition(0), partition(1)
	told := map[string]int{}
	caught, planted := 0, 0
	for i, sample := range dripping(24, 100, 7) {
		p, other := a, b
		if i%2 == 1 {
			p, other = b, a
		}
		var others [][]byte
		if other.state != nil {
			others = append(others, other.state)
		}
		planted++
		d := p.judge(t, s, sample, others...)
		if d.Verdicts[i%100] == finding.Quarantined {
			caught++
		}
		for _, r := range d.Recalls {
			if r.Code != finding.PoisonNearDuplicate || r.Finding.Evidence == "" || r.Finding.Detector != "tally" {
				t.Fatalf("recall %+v", r)
			}
			told[fmt.Sprint("by ", p.Partition, " of ", r.Partition, "@", r.Offset)]++
		}
	}
	records := map[string]bool{}
	for what, n := range told {
		if n > 1 {
			t.Errorf("%s: told %d times", what, n)
		}
		records[what[len("by 0 "):]] = true
	}
	if caught+len(records) != planted || caught < planted-(sure-1) {
		t.Errorf("of %d records %d were quarantined and %d recalled: want the first %d recalled and all others quarantined", planted, caught, len(records), sure-1)
	}
}

func TestMemoryThatCannotBeRead(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(400, 99), remembering, 2)
	p := partition(0)
	p.judge(t, s, dripping(1, 100, 7)[0])
	state, err := memory.Decode(p.state)
	if err != nil {
		t.Fatal(err)
	}
	sample := detecttest.Clean(100, 3)
	offsets := make([]int64, sample.N)
	judge := func(known record.Memory) (*record.Decision, error) {
		d, _, err := s.follow(context.Background(), p.Source, sample, offsets, known, func(*record.Decision) {})
		return d, err
	}
	edit := func(f func(*memory.Section)) []byte {
		other := *state
		other.Sections = slices.Clone(state.Sections)
		f(&other.Sections[0])
		return other.Encode()
	}
	for _, c := range []struct {
		name  string
		known record.Memory
		want  []string
		fails error
	}{
		{"as it was", record.Memory{Own: p.state}, nil, nil},
		{"older section", record.Memory{Own: edit(func(s *memory.Section) { s.Version = "0" })}, []string{"tally/0"}, nil},
		{"broken section", record.Memory{Own: edit(func(s *memory.Section) { s.Data = []byte{1} })}, []string{"tally/" + detect.Version}, nil},
		{"newer state", record.Memory{Own: []byte("taster-memory 9\n...")}, []string{"state"}, nil},
		{"broken state", record.Memory{Own: p.state[:len(p.state)-3]}, nil, memory.ErrMalformed},
		{"broken state of another source", record.Memory{Own: p.state, Others: [][]byte{p.state[:20], nil}}, []string{"state"}, nil},
		{"its own among others", record.Memory{Own: p.state, Others: [][]byte{p.state}}, nil, nil},
	} {
		d, err := judge(c.known)
		if !errors.Is(err, c.fails) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.fails)
			continue
		}
		if err == nil && !slices.Equal(d.Forgotten, c.want) {
			t.Errorf("%s: forgotten %q, want %q", c.name, d.Forgotten, c.want)
		}
		if err == nil && d.State == nil {
			t.Errorf("%s: nothing is remembered", c.name)
		}
	}
}

// A segment without rows, or one that nothing was fitted to, changes nothing that is known.
func TestEmptySegmentsKeepMemory(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(400, 99), remembering, 2)
	p := partition(0)
	if d := p.judge(t, s, detecttest.Clean(0, 1)); d.State != nil {
		t.Error("nothing was seen, and something is remembered")
	}
	p.judge(t, s, dripping(1, 100, 7)[0])
	before := p.state
	if d := p.judge(t, s, detecttest.Clean(0, 1)); !slices.Equal(d.State, before) {
		t.Error("an empty segment changes what is known")
	}
}

// Scores with memory that are no p-values are calibrated on reference rows under the same memory.
func TestBudgetHoldsWithMemory(t *testing.T) {
	const rows, segments, m = 500, 16, 1000
	s := scorer(t, 0.05, detecttest.Clean(m, 99), []detect.Detector{detecttest.Spread{}, worn{}}, 2)
	p := partition(0)
	mean := 0.0
	for i := range segments {
		d := p.judge(t, s, detecttest.Clean(rows, 300+uint64(i)))
		mean += quarantined(d, every) / segments
	}
	limit := 0.05 + 3*math.Sqrt(0.05*0.95*(1.0/(rows*segments)+4.0/m))
	if mean > limit {
		t.Errorf("%.3f of clean rows quarantined at a budget of 0.05", mean)
	}
}

// worn is a detector whose scores rise for all rows as its memory grows.
type worn struct{ tally }

func (worn) Name() string                                         { return "worn" }
func (worn) Fit(*detect.Sample, detect.Env) (detect.Model, error) { return worn{}, nil }
func (m worn) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return m.ScoreWith(s, tallied{}, env)
}

func (worn) ScoreWith(s *detect.Sample, before detect.Memory, _ detect.Env) detect.Scores {
	value := make([]float64, s.N)
	for i, text := range s.Text {
		value[i] = float64(textKey(text)%1000) + 50*float64(len(before.(tallied)))
	}
	return detect.Scores{Value: value, Code: finding.PoisonDrift, Stream: true, Explain: func(int) string { return "late" }}
}

func TestOnlyTheNewestStateOfASourceIsKept(t *testing.T) {
	var c decodedStates
	for segment := range int64(5) {
		for partition := range int32(3) {
			state := memory.State{Source: record.Source{Topic: "t", ID: "id", Partition: partition}}
			state.Suspects = []memory.Suspect{{Offset: segment, Detector: "d"}}
			state.Sections = []memory.Section{{Name: "d", Version: "1"}}
			data := state.Encode()
			first := c.get(data)
			if first.err != nil || c.get(data) != first {
				t.Fatalf("a state that is asked for again is decoded again: %v", first.err)
			}
		}
	}
	if len(c.known) != 3 {
		t.Errorf("%d states of three sources are kept", len(c.known))
	}
}
