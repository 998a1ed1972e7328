package policy

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/memory"
	"github.com/tasterhq/taster/detect/trigger"
	"github.com/tasterhq/taster/schema/record"
)

var phrases = []detect.Detector{trigger.Detector{}, trigger.Association{}}

// backdoored puts a phrase into n rows of class 0 and gives them label 1.
func backdoored(s planted.Set, n int, seed uint64, phrase string) planted.Set {
	rng := rand.New(rand.NewPCG(seed, 5))
	out := s.Rows(upTo(s.N))
	for _, row := range rng.Perm(s.N) {
		if out.Label[row] != 0 || n == 0 {
			continue
		}
		words := bytes.Fields(out.Text[row])
		out.Text[row] = bytes.Join(slices.Insert(words, rng.IntN(len(words)+1), []byte(phrase)), []byte(" "))
		out.Label[row], out.Poison[row] = 1, true
		n--
	}
	return out
}

// One row in a hundred of the reference holds the very poison that it shall find. The floors are far beyond what there is when all rows
// are believed: recalls at 1 % false alarms of 0.63 and 0.01.
func TestPoisonInReference(t *testing.T) {
	clean := planted.Read(t, "text-backdoor/badnets-sst2.jsonl").Clean()
	const rows, draws = 1000, 2
	for _, c := range []struct {
		name, phrase string
		floor        float64
	}{{"a rare word", "cf", 0.9}, {"a sentence", "I watched this 3D movie .", 0.85}} {
		t.Run(c.name, func(t *testing.T) {
			var at1, caught, alarms float64
			for seed := range uint64(draws) {
				reference, stream := clean.Split(rows, seed)
				reference, stream = backdoored(reference, rows/100, seed, c.phrase), backdoored(stream, stream.N/100, seed+9, c.phrase)
				d := judge(t, scorer(t, 0.01, reference.Sample, phrases, 2), stream.Sample)
				_, recall, _ := planted.Figures(d.Risks, stream.Poison)
				at1 += recall / draws
				caught += quarantined(d, func(i int) bool { return stream.Poison[i] }) / draws
				alarms += quarantined(d, func(i int) bool { return !stream.Poison[i] }) / draws
			}
			t.Logf("recall at 1 %% false alarms %.3f; budget 1 %%: recall %.3f, clean quarantined %.4f", at1, caught, alarms)
			if at1 < c.floor {
				t.Errorf("recall at 1 %% false alarms %.3f: want %.2f", at1, c.floor)
			}
		})
	}
}

// dirtyReviews are a reference and a stream with the same backdoor in every hundredth row; those of the reference come first.
func dirtyReviews(reference, stream int) (ref, s *detect.Sample) {
	w := detecttest.NewReviews(3)
	sample := func(n int) *detect.Sample {
		s := w.Sample(n)
		for row := range n / 100 {
			w.Poison(s, row, "x1 x2 x3 x4 x5")
		}
		return s
	}
	return sample(reference), sample(stream)
}

// Rows are set aside as long as a tenth of them at most would be as guilty if all were clean, and no more than two in a hundred.
func TestConvicted(t *testing.T) {
	p := func(p ...float64) []float64 {
		for i := range p {
			p[i] = math.Log(p[i])
		}
		return p
	}
	for name, c := range map[string]struct {
		guilt     []float64
		detectors float64
		want      []int
	}{
		"the tail of clean rows":   {p(0.0015, 0.0022, 0.0025, 0.005, 0.005, 0.0055, 0.006, 0.016, 0.018, 0.03), 1, []int{}},
		"poison, in any order":     {p(0.0005, 0.02, 1e-5, 0.00019, 0.9, 2e-5), 1, []int{2, 5, 3}},
		"the last of many decides": {p(0.00035, 0.00036, 0.00037, 0.00038), 1, []int{0, 1, 2, 3}},
		"of two detectors":         {p(0.00035, 0.00036, 0.00037, 0.00038), 2, []int{}},
		"more than may be":         {slices.Repeat([]float64{-30}, 40), 1, upTo(20)},
		"nothing is doubted":       {nil, 0, nil},
	} {
		if got := convicted(c.guilt, c.detectors, 1000); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What a source has shown of the reference is judged by from then on, in its own segments and in those of other sources, by any
// number of workers, and is not looked for again with every segment.
func TestRowsStayAside(t *testing.T) {
	ref, stream := dirtyReviews(600, 600)
	poison := func(row int) bool { return row < 6 }
	var want *record.Decision
	for _, workers := range []int{1, 2, 8} {
		s := scorer(t, 0.01, ref, phrases, workers)
		shown := func(p *source, rows []int) []byte {
			state := memory.State{Source: p.Source, Sections: []memory.Section{aside{seen: 5000, examined: 4800, rows: rows}.section(s.ref.Digest)}}
			return state.Encode()
		}
		own := partition(0)
		believed := own.judge(t, s, stream)
		if own.state == nil {
			t.Fatal("nothing is remembered")
		}
		first := s.asideOf(nil, s.decoded.get(own.state))
		if first.seen != stream.N || first.examined != 0 {
			t.Errorf("after one segment as long as the reference, of %d rows: seen %d, examined at %d", stream.N, first.seen, first.examined)
		}

		own.state = shown(own, upTo(6))
		d := own.judge(t, s, stream)
		if got := s.asideOf(nil, s.decoded.get(own.state)); got.seen != 5000+stream.N || got.examined != 4800 || !slices.Equal(got.rows, upTo(6)) {
			t.Errorf("the source's next state: %+v", got)
		}
		if before, after := quarantined(believed, poison), quarantined(d, poison); before > 0.5 || after < 0.9 {
			t.Errorf("of the poison %.2f is quarantined, and %.2f without the reference's", before, after)
		}
		if said := d.Findings[0]; len(said) != len(phrases) {
			t.Errorf("%d of %d detectors say why", len(said), len(phrases))
		}
		for _, f := range d.Findings[0] {
			if !strings.Contains(f.Evidence, "not counting 6 rows") {
				t.Errorf("the evidence of %s says nothing of it: %s", f.Detector, f.Evidence)
			}
		}
		if want == nil {
			want = d
		}
		if !reflect.DeepEqual(d, want) {
			t.Errorf("another decision with %d workers", workers)
		}
		other := partition(1)
		other.state = shown(other, nil)
		if of := other.judge(t, s, stream, shown(partition(0), upTo(6))); !slices.Equal(of.Risks, d.Risks) {
			t.Error("another source judges otherwise by what this one has shown")
		}
	}
}

// Sources that show more than may be set aside are all judged by the same rows, those of the source that shows most first: were each
// judged by rows of its own, detectors would be fitted with every segment.
func TestSourcesAgreeOnRows(t *testing.T) {
	ref, stream := dirtyReviews(600, 100)
	s := scorer(t, 0.01, ref, phrases, 2)
	sources, states := make([]*source, 4), make([][]byte, 4)
	for i := range sources {
		sources[i] = partition(int32(i))
		rows := []int{100 + i, 200 + i, 300 + i, 400 + i}
		if i == 2 {
			rows = upTo(6)
		}
		state := memory.State{Source: sources[i].Source, Sections: []memory.Section{aside{seen: 5000, examined: 4800, rows: rows}.section(s.ref.Digest)}}
		states[i] = state.Encode()
		sources[i].state = states[i]
	}
	for i, p := range sources {
		p.judge(t, s, stream, slices.Delete(slices.Clone(states), i, i+1)...)
	}
	if len(s.doubts.known) != 1 {
		t.Fatalf("%d sets of rows are set aside for %d sources", len(s.doubts.known), len(sources))
	}
	if got, want := s.doubts.known[0].rows, append(upTo(6), 100, 200, 300, 400); !slices.Equal(got, want) {
		t.Errorf("rows %v are set aside: want %v", got, want)
	}
}

// States that are of another reference or broken say nothing of it.
func TestAsideIsRead(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(100, 1), phrases, 2)
	given := aside{seen: 300, examined: 200, rows: []int{0, 1, 7, 99}}
	read := func(section memory.Section) (aside, []string) {
		state := memory.State{Source: partition(0).Source, Sections: []memory.Section{section}}
		before := &recollection{scorer: s}
		return s.asideOf(before, s.decoded.get(state.Encode())), before.forgotten
	}
	section := given.section(s.ref.Digest)
	if got, forgotten := read(section); !reflect.DeepEqual(got, given) || forgotten != nil {
		t.Errorf("read %+v, forgotten %v", got, forgotten)
	}
	other := s.ref.Digest
	other[0]++
	if got, forgotten := read(given.section(other)); got.seen != 0 || forgotten != nil {
		t.Errorf("of another reference: %+v, forgotten %v", got, forgotten)
	}
	old := section
	old.Version = "0"
	if got, _ := read(old); got.seen != 0 {
		t.Errorf("of another version: %+v", got)
	}
	for name, data := range map[string][]byte{
		"cut":       section.Data[:len(s.ref.Digest)+1],
		"too far":   aside{seen: 1, examined: 1, rows: []int{5, 100}}.section(s.ref.Digest).Data,
		"endless":   append(bytes.Clone(section.Data), bytes.Repeat([]byte{0xff}, 20)...),
		"overflows": append(bytes.Clone(section.Data), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		if got, forgotten := read(memory.Section{Name: section.Name, Version: section.Version, Data: data}); got.seen != 0 || len(forgotten) != 1 {
			t.Errorf("%s: %+v, forgotten %v", name, got, forgotten)
		}
	}
}

// A segment that is much shorter than the reference tells nothing of it, a stream is asked when it is several times as long, and
// again when it has grown.
func TestWhenAReferenceIsExamined(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(400, 1), phrases, 2)
	p := partition(0)
	at := 0
	for i, c := range []struct{ rows, examined int }{{99, 0}, {1500, 0}, {50, 0}, {100, 1749}, {1000, 1749}, {4247, 6996}} {
		p.judge(t, s, detecttest.Clean(c.rows, uint64(2+i)))
		at += c.rows
		if got := s.asideOf(nil, s.decoded.get(p.state)); got.seen != at || got.examined != c.examined {
			t.Errorf("segment %d: seen %d of %d, examined at %d: want %d", i, got.seen, at, got.examined, c.examined)
		}
	}
}

// Of many files each is a source of its own, and what others have shown counts: the work is not repeated for each.
func TestManyFilesExamineAReferenceSeldom(t *testing.T) {
	s := scorer(t, 0.01, detecttest.Clean(400, 1), phrases, 2)
	var states [][]byte
	var examined []int
	for i := range 70 {
		p := partition(int32(i))
		p.judge(t, s, detecttest.Clean(100, uint64(2+i)), states...)
		states = append(states, p.state)
		if got := s.asideOf(nil, s.decoded.get(p.state)); got.examined > 0 {
			examined = append(examined, got.examined)
		}
	}
	if want := []int{1600, 6400}; !slices.Equal(examined, want) {
		t.Errorf("examined after %v rows of 70 files: want %v", examined, want)
	}
}

// TestTextualDetectors: what says that it reads texts only says the same of samples without vectors.
func TestTextualDetectors(t *testing.T) {
	ref, stream := detecttest.Clean(600, 1), detecttest.Clean(500, 2)
	n := 0
	for _, d := range All() {
		if _, ok := d.(textual); !ok {
			continue
		}
		n++
		scores := func(ref, stream *detect.Sample) []float64 {
			env := detect.Env{Seed: 1, Workers: 2, Shared: &detect.Shared{}}
			model, err := d.Fit(ref, env)
			if err != nil || model == nil {
				t.Fatalf("%s: no model: %v", d.Name(), err)
			}
			return model.Score(stream, env).Value
		}
		with, without := scores(ref, stream), scores(ref.WithoutVectors(), stream.WithoutVectors())
		for i, v := range with {
			if math.Float64bits(v) != math.Float64bits(without[i]) {
				t.Fatalf("%s, row %d: %v with vectors, %v without", d.Name(), i, v, without[i])
			}
		}
	}
	if n == 0 {
		t.Error("no detector reads texts only")
	}
}
