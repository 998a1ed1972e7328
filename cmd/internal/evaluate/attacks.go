package evaluate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/tasterhq/taster/cmd/internal/attack"
	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// Segments of an attack that shows over time only: a tenth of the records each, but never more than a landing zone's
// segments have by default, nor so few that a segment says nothing.
const (
	segmentsOfStream = 10
	fewestOfSegment  = 200
	mostOfSegment    = 100_000
)

// AttackOptions say what is planted and judged.
type AttackOptions struct {
	Contract  *contract.Contract
	Records   iter.Seq2[[]byte, error] // clean; one JSON object each; the bytes are good until the next is asked for
	Reference iter.Seq2[[]byte, error] // trusted, clean records; nil: records are judged against each other
	Decode    func(*contract.Contract) (Decoder, error)

	Attacks   []attack.Attack
	Rates     []float64 // in per cent of all records
	Detectors []detect.Detector
	Seed      uint64
	Workers   int
	Progress  func(done, total int) // attacks judged; nil: nobody is told
}

// AttackResult is what taster eval --attack prints.
type AttackResult struct {
	Rows          int             `json:"rows"`
	Refused       int             `json:"refused"` // records of the input that broke the contract; nothing was planted in them
	Seed          uint64          `json:"seed"`
	Budget        float64         `json:"budget"`
	Calibrated    string          `json:"calibrated"` // against what: "reference" or "batch"
	ReferenceRows int             `json:"reference_rows"`
	Clean         CleanFigures    `json:"clean"` // the same records with nothing planted
	Attacks       []AttackFigures `json:"attacks"`
	NotRun        []NotRun        `json:"not_run"`
}

// CleanFigures tell what happens to records in which nothing is planted.
type CleanFigures struct {
	Rejected        int      `json:"rejected"`
	QuarantinedRate *float64 `json:"quarantined_rate"`
	// The same in the many segments in which attacks are judged that show over time; null where none is.
	InSegments *float64 `json:"quarantined_rate_in_segments"`
}

// AttackFigures tell how much of one attack was found. Figures that the data does not define are null.
type AttackFigures struct {
	Name    string  `json:"name"`
	Variant string  `json:"variant"`
	Rate    float64 `json:"rate"` // planted, in per cent of all records
	Planted int     `json:"planted"`
	Caught  int     `json:"caught"` // quarantined, rejected or recalled

	Quarantined int  `json:"quarantined"`
	Rejected    int  `json:"rejected"`
	Recalled    int  `json:"recalled"`              // accepted at first
	Neutralised *int `json:"neutralised,omitempty"` // what was hidden in them was taken out before anything was landed

	Recall *float64 `json:"recall"` // caught, of those planted
	Ranking
	CleanQuarantinedRate *float64 `json:"clean_quarantined_rate"` // of the clean records, those recalled included

	// Numbers of records, from the beginning of the stream.
	FirstPlantedAfter *int `json:"first_planted_after"`
	FirstCaughtAfter  *int `json:"first_caught_after"` // the first planted record that was caught; null: none was
	MostCaughtAfter   *int `json:"most_caught_after"`  // from this caught one on nine of ten are; null: they never are
	Segments          int  `json:"segments"`           // in which the stream was judged, with memory between them

	Detectors []DetectorFigures `json:"detectors"`
}

// DetectorFigures rank by what one detector says.
type DetectorFigures struct {
	Name string `json:"name"`
	Ranking
}

// NotRun says why an attack was not planted.
type NotRun struct {
	Name    string  `json:"name"`
	Variant string  `json:"variant"`
	Rate    float64 `json:"rate,omitempty"` // in per cent; 0: at any
	Why     string  `json:"why"`
}

// RunAttacks plants attacks in clean records, one after the other, and tells how much of each was found. Errors never
// quote records.
func RunAttacks(ctx context.Context, opt AttackOptions) (*AttackResult, error) {
	if opt.Decode == nil {
		opt.Decode = plain
	}
	var records [][]byte
	for value, err := range opt.Records {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		records = append(records, append([]byte(nil), value...))
	}
	corpus := attack.NewCorpus(opt.Contract, records)
	if corpus.Rows() == 0 {
		return nil, fmt.Errorf("%w: none of %d records is good by the contract", ErrNoRecords, len(records))
	}
	ref, err := referenceOf(ctx, Options{Contract: opt.Contract, Reference: opt.Reference, Decode: opt.Decode, Seed: opt.Seed}, nil)
	if err != nil {
		return nil, err
	}
	scorer, err := policy.New(opt.Contract, ref, policy.Options{Detectors: opt.Detectors, Seed: opt.Seed, Workers: opt.Workers})
	if err != nil {
		return nil, err
	}
	run := &attackRun{opt: opt, scorer: scorer}
	out := &AttackResult{
		Rows: corpus.Rows(), Refused: corpus.Refused(), Seed: opt.Seed, Budget: opt.Contract.Detect.Budget,
		Attacks: []AttackFigures{}, NotRun: []NotRun{},
	}
	if ref != nil {
		out.ReferenceRows = ref.Rows
	}

	type task struct {
		name    string
		variant attack.Variant
		rate    float64
	}
	var tasks []task
	baselines := 1
	for _, a := range opt.Attacks {
		may, missing := a.Allowed(opt.Contract)
		for _, v := range a.Variants {
			if why := missing[v.Name]; why != "" {
				out.NotRun = append(out.NotRun, NotRun{Name: a.Name, Variant: v.Name, Why: why})
			}
		}
		for _, v := range may {
			if v.Stream {
				baselines = 2
			}
			rates := opt.Rates
			if v.Rates != nil {
				rates = nil
				for _, share := range v.Rates {
					rates = append(rates, 100*share)
				}
			}
			for _, rate := range rates {
				tasks = append(tasks, task{a.Name, v, rate})
			}
		}
	}
	progress := opt.Progress
	if progress == nil {
		progress = func(int, int) {}
	}

	clean := &attack.Planted{Records: corpus.Records(), Poison: make([]bool, corpus.Rows())}
	j, err := run.judge(ctx, clean, segmentSize(clean, false))
	if err != nil {
		return nil, err
	}
	out.Calibrated = j.calibrated
	f := j.figures(clean)
	out.Clean = CleanFigures{Rejected: j.rejected(), QuarantinedRate: f.CleanQuarantinedRate}
	progress(1, baselines+len(tasks))
	if baselines == 2 {
		if j, err = run.judge(ctx, clean, segmentSize(clean, true)); err != nil {
			return nil, err
		}
		out.Clean.InSegments = j.figures(clean).CleanQuarantinedRate
		progress(2, baselines+len(tasks))
	}

	for at, t := range tasks {
		planted, err := corpus.Plant(t.variant, t.rate/100, opt.Seed)
		switch {
		case errors.Is(err, attack.ErrImpossible):
			out.NotRun = append(out.NotRun, NotRun{Name: t.name, Variant: t.variant.Name, Rate: t.rate, Why: err.Error()})
		case err != nil:
			return nil, err
		default:
			j, err := run.judge(ctx, planted, segmentSize(planted, t.variant.Stream))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			f := j.figures(planted)
			f.Name, f.Variant, f.Rate = t.name, t.variant.Name, t.rate
			if planted.Count != int(math.Round(t.rate/100*float64(corpus.Rows()))) {
				f.Rate = 100 * float64(planted.Count) / float64(corpus.Rows())
			}
			out.Attacks = append(out.Attacks, f)
		}
		progress(baselines+at+1, baselines+len(tasks))
	}
	return out, nil
}

// ErrNoRecords says that there is nothing to plant in.
var ErrNoRecords = errors.New("no records")

func segmentSize(p *attack.Planted, stream bool) int {
	if !stream {
		return mostOfSegment
	}
	return min(mostOfSegment, max(fewestOfSegment, (len(p.Records)+segmentsOfStream-1)/segmentsOfStream))
}

type attackRun struct {
	opt    AttackOptions
	scorer *policy.Scorer
}

// judged is what became of one record.
type judged struct {
	rejected, quarantined, recalled, cleaned bool

	risk float64 // or what stands for it where a rule decided, whatever the risk
}

// Where rules decide, a record comes before all that are ranked by their risk, which is at most 1.
const (
	byRule   = 1.5 // quarantined, for hidden characters say
	rejected = 2
)

// judgement is what became of a stream.
type judgement struct {
	records    []judged
	calibrated string
	segments   int
	names      []string             // of the detectors, in order of first appearance
	suspicion  map[string][]float64 // of every record, by detector: −ln p; 0 where it has no opinion
}

// judge feeds a stream to the scorer as the pipeline does, segment by segment, each with what the ones before it
// taught.
func (a *attackRun) judge(ctx context.Context, planted *attack.Planted, size int) (*judgement, error) {
	n := len(planted.Records)
	j := &judgement{records: make([]judged, n), suspicion: map[string][]float64{}}
	var state []byte
	for first := 0; first < n; first += size {
		next := min(first+size, n)
		decoder, err := a.opt.Decode(a.opt.Contract)
		if err != nil {
			return nil, err
		}
		for _, r := range planted.Records[first:next] {
			if err := decoder.Append(r); err != nil {
				return nil, err
			}
		}
		batches, err := decoder.Finish()
		if err != nil {
			return nil, err
		}
		segment := &record.Segment{
			Source: record.Source{Topic: a.opt.Contract.Topic, ID: "eval"}, First: int64(first), Next: int64(next), Batches: batches,
		}
		if state, err = a.segment(ctx, j, segment, state); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// segment judges one segment and returns the state that it leaves.
func (a *attackRun) segment(ctx context.Context, j *judgement, segment *record.Segment, state []byte) ([]byte, error) {
	defer segment.Release()
	for i := segment.First; i < segment.Next; i++ {
		j.records[i] = judged{rejected: true, risk: rejected} // until a row of it is found
	}
	var rows []int64 // the record of each row
	for _, b := range segment.Batches {
		for i := range b.Origins {
			b.Origins[i].Offset += segment.First
			rows = append(rows, b.Origins[i].Offset)
		}
		for i := range b.Refused {
			b.Refused[i].Offset += segment.First
		}
	}
	d, details, err := a.scorer.Judge(ctx, segment, record.Memory{Own: state})
	if err != nil {
		return nil, err
	}
	if j.calibrated == "" {
		j.calibrated = d.Calibrated
	}
	j.segments++
	for row, at := range rows {
		j.records[at] = judged{quarantined: d.Verdicts[row] == finding.Quarantined, risk: d.Risks[row]}
		if j.records[at].quarantined && d.Risks[row] < d.Threshold {
			j.records[at].risk = byRule
		}
		for _, code := range d.Reasons[row] {
			if code == finding.HiddenUnicode && a.opt.Contract.Sanitize.Unicode == contract.Clean {
				j.records[at].cleaned = true
			}
		}
	}
	for _, r := range d.Recalls {
		if r.Source == segment.Source && r.Offset >= 0 && r.Offset < segment.Next {
			record := &j.records[r.Offset]
			record.recalled = record.recalled || !record.rejected && !record.quarantined
			record.risk = max(record.risk, calibrate.Risk(math.Log(r.Finding.PValue)))
		}
	}
	for _, detail := range details {
		all := j.suspicion[detail.Detector]
		if all == nil {
			all = make([]float64, len(j.records))
			j.suspicion[detail.Detector] = all
			j.names = append(j.names, detail.Detector)
		}
		for row, lp := range detail.LogP {
			all[rows[row]] = -lp
		}
	}
	return d.State, nil
}

func (j *judgement) rejected() int {
	n := 0
	for _, r := range j.records {
		if r.rejected {
			n++
		}
	}
	return n
}

// figures compares what became of a stream with what was planted in it. Clean records that broke the contract are in
// no figure, as in Result.
func (j *judgement) figures(p *attack.Planted) AttackFigures {
	f := AttackFigures{Segments: j.segments}
	var truth []bool
	var risk []float64
	var kept, caughtBefore []int // planted records in order, and how many of them up to each, itself included, were caught
	clean, flagged, neutralised := 0, 0, 0
	for i, r := range j.records {
		if !p.Poison[i] {
			if r.rejected {
				continue
			}
			clean++
			if r.quarantined || r.recalled {
				flagged++
			}
		} else {
			f.Planted++
			switch {
			case r.rejected:
				f.Rejected++
			case r.quarantined:
				f.Quarantined++
			case r.recalled:
				f.Recalled++
			}
			if r.cleaned {
				neutralised++
			}
			if r.rejected || r.quarantined || r.recalled {
				f.Caught++
				if f.FirstCaughtAfter == nil {
					f.FirstCaughtAfter = number(i + 1)
				}
			}
			if f.FirstPlantedAfter == nil {
				f.FirstPlantedAfter = number(i + 1)
			}
			kept, caughtBefore = append(kept, i), append(caughtBefore, f.Caught)
		}
		truth, risk = append(truth, p.Poison[i]), append(risk, r.risk)
	}
	for at, i := range kept {
		before := 0
		if at > 0 {
			before = caughtBefore[at-1]
		}
		if rest := len(kept) - at; rest >= fewestToTell && caughtBefore[at] > before && 10*(f.Caught-before) >= 9*rest {
			f.MostCaughtAfter = number(i + 1)
			break
		}
	}
	if neutralised > 0 {
		f.Neutralised = &neutralised
	}
	f.Recall, f.CleanQuarantinedRate = share(f.Caught, f.Planted), share(flagged, clean)
	f.Ranking = newCurve(risk, truth).ranking()
	for _, name := range j.names {
		score := make([]float64, 0, len(truth))
		for i, r := range j.records {
			if !r.rejected {
				score = append(score, j.suspicion[name][i])
			} else if p.Poison[i] {
				score = append(score, 0) // the detector never saw it
			}
		}
		f.Detectors = append(f.Detectors, DetectorFigures{name, newCurve(score, truth).ranking()})
	}
	return f
}

// fewestToTell is how many planted records must follow a point for it to be told what share of them is caught.
const fewestToTell = 5

func number(n int) *int { return &n }

// referenceOf learns from the reference records; nil where there are none. The truth's member, if any, is cut out.
func referenceOf(ctx context.Context, opt Options, truth []string) (*reference.Reference, error) {
	if opt.Reference == nil {
		return nil, nil
	}
	batches, _, err := read(ctx, opt, opt.Reference, truth, false)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	defer release(batches)
	reservoir := reference.NewReservoir(opt.Contract, opt.Seed)
	for _, b := range batches {
		if err := reservoir.Add(b); err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
	}
	ref, err := reservoir.Reference("", nil)
	if err != nil {
		return nil, err
	}
	ref.Name = "the reference file"
	return ref, nil
}
