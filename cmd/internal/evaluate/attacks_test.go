package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/cmd/internal/attack"
	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

// What became of a stream is compared with what was planted, by hand.
func TestFigures(t *testing.T) {
	poison := make([]bool, 200)
	j := &judgement{segments: 2, records: make([]judged, 200), names: []string{"d"}, suspicion: map[string][]float64{"d": make([]float64, 200)}}
	for i := range j.records {
		j.records[i].risk = float64(i%7) / 10
	}
	for i := 20; i < 200; i += 20 { // nine: 20, 40, … 180
		poison[i] = true
	}
	j.records[20].risk, j.records[60].cleaned = 0, true
	j.records[40] = judged{recalled: true, risk: 0.99}
	for _, i := range []int{80, 100, 120, 140} {
		j.records[i] = judged{quarantined: true, risk: 0.995, cleaned: i == 80}
		j.suspicion["d"][i] = 5
	}
	j.records[160] = judged{rejected: true, risk: 2}
	j.records[180] = judged{quarantined: true, risk: 0.995}
	j.records[1] = judged{quarantined: true, risk: 0.7}
	j.records[2] = judged{recalled: true, risk: 0.1}
	j.records[3] = judged{rejected: true, risk: 2} // clean: in no figure
	f := j.figures(&attack.Planted{Poison: poison, Count: 9})
	if f.Planted != 9 || f.Caught != 7 || f.Quarantined != 5 || f.Rejected != 1 || f.Recalled != 1 || *f.Neutralised != 2 {
		t.Errorf("%+v", f)
	}
	if *f.Recall != 7.0/9 || *f.CleanQuarantinedRate != 2.0/190 {
		t.Errorf("recall %v, clean quarantined %v", *f.Recall, *f.CleanQuarantinedRate)
	}
	// The first planted is record 21, the first caught 41 (by a recall); from 81 on all six are caught.
	if *f.FirstPlantedAfter != 21 || *f.FirstCaughtAfter != 41 || *f.MostCaughtAfter != 81 {
		t.Errorf("%d, %d, %d", *f.FirstPlantedAfter, *f.FirstCaughtAfter, *f.MostCaughtAfter)
	}
	if *f.RecallAtFPR1Pct != 7.0/9 { // the missed two have risks of 0 and 60 % 7
		t.Errorf("recall at 1 %%: %v", *f.RecallAtFPR1Pct)
	}
	if d := f.Detectors[0]; d.Name != "d" || *d.RecallAtFPR1Pct != 4.0/9 {
		t.Errorf("detector %+v", d)
	}

	none := &judgement{records: make([]judged, 10)}
	f = none.figures(&attack.Planted{Poison: make([]bool, 10)})
	if f.Recall != nil || f.AUROC != nil || f.FirstCaughtAfter != nil || *f.CleanQuarantinedRate != 0 {
		t.Errorf("nothing planted: %+v", f)
	}
}

func cleanPoints(n int, seed uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		rng := rand.New(rand.NewPCG(seed, 2))
		for i := range n {
			if !yield(fmt.Appendf(nil, `{"id":"%d","x":%.3f,"y":%.3f}`, i, rng.NormFloat64(), rng.NormFloat64()), nil) {
				return
			}
		}
	}
}

// counting is a decoder that refuses records with a y above 2 and counts what it is given.
type counting struct {
	Decoder
	appended *[]int
}

func (c counting) Append(value []byte) error {
	(*c.appended)[len(*c.appended)-1]++
	var r struct{ Y float64 }
	if err := json.Unmarshal(value, &r); err == nil && r.Y > 2 {
		return c.Decoder.Append([]byte("refused"))
	}
	return c.Decoder.Append(value)
}

func TestRunAttacks(t *testing.T) {
	c := testContract(t)
	attacks, err := attack.Find([]string{"badnets", "syntactic", "neardup", "drift", "sybil"})
	if err != nil {
		t.Fatal(err)
	}
	var appended []int
	opt := AttackOptions{
		Contract: c, Records: cleanPoints(1000, 3), Reference: cleanPoints(400, 9), Attacks: attacks, Rates: []float64{1, 5}, Seed: 4,
		Decode: func(c *contract.Contract) (Decoder, error) {
			d, err := plain(c)
			appended = append(appended, 0)
			return counting{d, &appended}, err
		},
	}
	var told []int
	opt.Progress = func(done, total int) {
		if told = append(told, done); total != 8 {
			t.Errorf("%d streams in all", total)
		}
	}
	r, err := RunAttacks(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []int{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("progress %v", told)
	}
	// The reference, the clean stream, in one segment and in many (of 200 records, for ten would be too small), and then
	// attack by attack.
	want := []int{400, 1000, 200, 200, 200, 200, 200, 1000, 1000, 1000, 1000, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200}
	if !slices.Equal(appended, want) {
		t.Errorf("records by decoder: %v", appended)
	}
	if r.Rows != 1000 || r.Refused != 0 || r.ReferenceRows > 400 || r.ReferenceRows < 360 || r.Calibrated != "reference" || r.Clean.Rejected == 0 || r.Clean.InSegments == nil {
		t.Errorf("%+v", r)
	}
	var names []string
	for _, a := range r.Attacks {
		names = append(names, fmt.Sprintf("%s %s %g: %d in %d", a.Name, a.Variant, a.Rate, a.Planted, a.Segments))
		if a.Caught != a.Quarantined+a.Rejected+a.Recalled || *a.Recall != float64(a.Caught)/float64(a.Planted) {
			t.Errorf("%+v", a)
		}
	}
	if got := strings.Join(names, "; "); got != "badnets features 1: 10 in 1; badnets features 5: 50 in 1; neardup features 1: 10 in 1; neardup features 5: 50 in 1; "+
		"drift features 1: 10 in 5; drift features 5: 50 in 5" {
		t.Error(got)
	}
	var missing []string
	for _, n := range r.NotRun {
		missing = append(missing, n.Name+" "+n.Variant+": "+n.Why)
	}
	for _, want := range []string{
		"badnets text: the contract has no roles.text", "syntactic text: the contract has no roles.text", "drift label: the contract has no roles.label",
		"sybil features: the contract has no roles.provider that is a field of the record",
	} {
		if !slices.Contains(missing, want) {
			t.Errorf("not told: %s, in %q", want, missing)
		}
	}
	opt.Records, opt.Reference, opt.Progress = cleanPoints(1000, 3), cleanPoints(400, 9), nil
	again, err := RunAttacks(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(again)
	if string(a) != string(b) {
		t.Errorf("the same seed gives other figures:\n%s\n%s", a, b)
	}
}

// A model that remembers is given what it said before.
type remembering struct{ detect.Detector }

func (remembering) Name() string { return "rising" }

func (remembering) Fit(s *detect.Sample, _ detect.Env) (detect.Model, error) {
	return tallyModel{}, nil
}

type tallyModel struct{}

type tally struct{ rows int }

func (t *tally) Merge(other detect.Memory) { t.rows += other.(*tally).rows }
func (t *tally) AppendBinary(b []byte) ([]byte, error) {
	return fmt.Appendf(b, "%d", t.rows), nil
}

func (tallyModel) Score(s *detect.Sample, env detect.Env) detect.Scores {
	return tallyModel{}.ScoreWith(s, &tally{}, env)
}

func (tallyModel) Memory(data []byte) (detect.Memory, error) {
	t := &tally{}
	if data != nil {
		if _, err := fmt.Sscanf(string(data), "%d", &t.rows); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (tallyModel) Observe(s *detect.Sample, _ []bool, _ detect.Env) detect.Memory { return &tally{s.N} }

// ScoreWith is sure of everything once it has seen 600 rows.
func (tallyModel) ScoreWith(s *detect.Sample, before detect.Memory, _ detect.Env) detect.Scores {
	out := detect.Scores{Value: make([]float64, s.N), LogP: make([]float64, s.N), Code: finding.PoisonOutlier, Explain: func(int) string { return "" }}
	for i := range out.Value {
		if out.LogP[i] = -0.1; before.(*tally).rows >= 600 {
			out.Value[i], out.LogP[i] = 1, -50
		}
	}
	return out
}

func TestMemoryIsHandedOn(t *testing.T) {
	attacks, err := attack.Find([]string{"drift"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := RunAttacks(context.Background(), AttackOptions{
		Contract: testContract(t), Records: cleanPoints(1000, 3), Reference: cleanPoints(400, 9), Attacks: attacks, Rates: []float64{5},
		Detectors: []detect.Detector{remembering{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Five segments of 200: the last two of them, and two fifths of what is spread evenly.
	a := r.Attacks[0]
	if a.Caught != 20 || *a.FirstCaughtAfter <= 600 || *a.MostCaughtAfter <= 600 || *a.CleanQuarantinedRate < 0.39 || *a.CleanQuarantinedRate > 0.41 {
		text, _ := json.Marshal(a)
		t.Errorf("%s", text)
	}
}

func TestRunAttacksErrors(t *testing.T) {
	c := testContract(t)
	if _, err := RunAttacks(context.Background(), AttackOptions{Contract: c, Records: lines(`{"id":"secret"}`, `[`)}); !errors.Is(err, ErrNoRecords) ||
		strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	broken := errors.New("the disk is gone")
	gone := func(yield func([]byte, error) bool) { yield(nil, broken) }
	if _, err := RunAttacks(context.Background(), AttackOptions{Contract: c, Records: gone}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := RunAttacks(context.Background(), AttackOptions{Contract: c, Records: cleanPoints(100, 1), Reference: gone}); !errors.Is(err, broken) {
		t.Error(err)
	}
}
