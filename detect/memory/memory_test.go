package memory

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/tasterhq/taster/schema/record"
)

func example(suspects int) *State {
	rng := rand.New(rand.NewPCG(1, 2))
	s := &State{
		Source:   record.Source{Topic: "reviews", ID: "Xy", Partition: 3},
		Sections: []Section{{"nothing", "1", nil}, {"drip", "1", []byte("abc")}},
		Recalled: []Told{{record.Source{Topic: "reviews", ID: "Xy", Partition: 4}, []int64{12, 9}}, {record.Source{Topic: "reviews", ID: "Xy", Partition: 0}, []int64{5}}},
	}
	for i := range suspects {
		c := Suspect{Offset: int64(rng.IntN(1 << 20)), Detector: "drip", Weight: float32(i % 7)}
		for range i % (MostKeys + 1) {
			c.Keys = append(c.Keys, rng.Uint32())
		}
		s.Suspects = append(s.Suspects, c)
	}
	s.Sort()
	s.Prune()
	return s
}

func TestEncodeDecode(t *testing.T) {
	for _, s := range []*State{{}, example(0), example(1), example(500), example(3 * MostSuspects)} {
		data := s.Encode()
		if !bytes.Equal(data, s.Encode()) {
			t.Fatal("one state has two encodings")
		}
		again, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Encode(), data) {
			t.Fatal("another state after decoding")
		}
		if again.Source != s.Source || len(again.Suspects) != len(s.Suspects) || len(again.Recalled) != len(s.Recalled) {
			t.Fatalf("decoded %+v", again)
		}
		for i, c := range s.Suspects {
			if !reflect.DeepEqual(c, again.Suspects[i]) {
				t.Fatalf("suspect %+v, want %+v", again.Suspects[i], c)
			}
		}
	}
	s := example(1)
	if got := s.Section("drip"); got == nil || string(got.Data) != "abc" {
		t.Errorf("section %v", got)
	}
	if s.Section("no such") != nil {
		t.Error("a section that there is not")
	}
	for _, c := range []struct {
		partition int32
		offset    int64
		want      bool
	}{{4, 9, true}, {4, 12, true}, {4, 10, false}, {0, 9, false}, {7, 9, false}} {
		if got := s.Told(record.Source{Topic: "reviews", ID: "Xy", Partition: c.partition}, c.offset); got != c.want {
			t.Errorf("told %d@%d: %v", c.partition, c.offset, got)
		}
	}
}

func TestPruneKeepsTheMostSuspicious(t *testing.T) {
	s := example(2 * MostSuspects)
	if len(s.Suspects) != MostSuspects {
		t.Fatalf("%d suspects are kept", len(s.Suspects))
	}
	least := float32(math.Inf(1))
	for _, c := range s.Suspects {
		least = min(least, c.Weight)
	}
	if least < 2 { // of seven weights the upper half stays
		t.Errorf("a suspect of weight %v is kept", least)
	}
	if !slices.IsSortedFunc(s.Suspects, func(a, b Suspect) int { return int(a.Offset - b.Offset) }) {
		t.Error("suspects out of order")
	}
}

func TestDecodeRefusesWhatIsBroken(t *testing.T) {
	good := example(200).Encode()
	if _, err := Decode([]byte("taster-memory 2\nwhatever")); !errors.Is(err, ErrVersion) {
		t.Errorf("later version: error %v", err)
	}
	if _, err := Decode(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing: error %v", err)
	}
	if _, err := Decode(append(slices.Clip(good), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: error %v", err)
	}
	for cut := 1; cut < len(good); cut += 1 + cut/60 {
		if _, err := Decode(good[:cut]); err == nil {
			t.Fatalf("cut at %d of %d: no error", cut, len(good))
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		altered := bytes.Clone(good)
		for range 1 + rng.IntN(3) {
			altered[rng.IntN(len(altered))] = byte(rng.Uint32())
		}
		if s, err := Decode(altered); err == nil {
			s.Encode()
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []*State{{}, example(0), example(20)} {
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again, err := Decode(s.Encode()); err != nil || len(again.Suspects) != len(s.Suspects) {
			t.Fatalf("what was decoded cannot be read again: %v", err)
		}
	})
}

// TestPruneKeepsTheHeaviest compares with a sort of all of them.
func TestPruneKeepsTheHeaviest(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	odd := []float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), -1, float32(math.Inf(1)), float32(math.Inf(-1)), 1e-45}
	for trial := range 8 {
		s := &State{}
		for i := range MostSuspects + rng.IntN(MostSuspects) {
			weight := float32(math.Exp(rng.NormFloat64()))
			if trial%2 == 0 {
				weight = float32(rng.IntN(5)) // most are equal
			}
			if rng.IntN(50) == 0 {
				weight = odd[rng.IntN(len(odd))]
			}
			s.Suspects = append(s.Suspects, Suspect{Offset: int64(rng.IntN(2 * MostSuspects)), Detector: string(rune('a' + i%3)), Weight: weight, Keys: []uint32{uint32(i)}})
		}
		want := slices.Clone(s.Suspects)
		slices.SortStableFunc(want, func(a, b Suspect) int {
			return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(b.Offset, a.Offset), cmp.Compare(a.Detector, b.Detector))
		})
		want = want[:min(len(want), MostSuspects)]
		order := func(a, b Suspect) int {
			return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Detector, b.Detector), cmp.Compare(a.Weight, b.Weight))
		}
		slices.SortFunc(want, order)
		s.Prune()
		got := slices.Clone(s.Suspects)
		slices.SortFunc(got, order)
		if !slices.EqualFunc(got, want, func(a, b Suspect) bool { return order(a, b) == 0 }) {
			t.Fatalf("trial %d: others are kept than a sort keeps", trial)
		}
	}
}
