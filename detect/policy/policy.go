// Package policy decides: it runs the detectors that a contract allows over a segment, calibrates what they say,
// combines it into one risk per record and quarantines what the budget does not cover.
//
// # Vocabulary
//
// The budget is the share of clean records that may be quarantined. A record's p-value is the chance that a clean
// record looks at least as suspicious to all detectors together; its risk is 1 − p (calibrate.Risk), and it is
// quarantined when p ≤ budget, whatever the others are: the budget is no quota, and no record is spared because
// worse ones came with it.
//
// # How the budget is kept
//
// With a reference, every detector is fitted on all of its rows, and on four fifths of them at a time to score the
// last fifth (cross-conformal prediction, Vovk 2015). Those held-out scores calibrate the detector. They also stand,
// row by row, for what all detectors together say of clean records, so the combined score of a segment is calibrated
// once more on the same combination of the held-out rows, dependence and all. Scores that depend on the stream are
// calibrated on halves of the reference scored as streams of their own by what was learned from the other half. For
// streams longer than those the result is aligned to the body of the stream (calibrate.Align), or, where scores are
// learned from the stream itself, they are calibrated on reference rows that are scored among the stream's: a quarter of the
// reference that the model does not know, and in a stream of more than detect.Enough rows as many quarters as hold 1,000 rows, each by a
// model of its own. With 250 rows out of 1,000, what such a stream's poison did to clean rows was known so badly that up to 3 % of them
// were quarantined at a budget of 1 %.
//
// Without a reference every step uses the segment itself by a robust fit (calibrate.FitBatch), and the decision
// says "batch".
//
// # Poison in the reference
//
// Rows of the reference that look like poison together with a stream teach the detectors nothing that they would excuse by it
// (at most 2 % of the rows). They are looked for when all sources together have shown four times as many rows as the reference
// has, and whenever these are four times as many, which costs a fraction of learning from the reference; in between, the
// source's memory holds which they are. Nothing is looked for in a stream of which a tenth is poison: a hundredth
// of the reference does not excuse that, and clean rows look like it.
//
// # Memory
//
// Models that remember (detect.Remembering) judge a segment by what its source's earlier segments have shown and by what
// other sources have. A decision carries what its source has taught until then, this segment included, as bytes
// (detect/memory); whoever lands the decision saves them and gives them back with the next segment. Scores with a
// memory are not exchangeable with a reference's: they are tests that are valid as they stand (detect.Scores.LogP), or
// reference rows that the model does not know are scored among the segment's, by the same memory, and calibrate them.
//
// Evidence may come late. Accepted records against which a little speaks are kept by offset and a few keys
// (memory.MostSuspects of each source, the most suspicious), and recalled when what is known would have them flagged.
package policy

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

const (
	folds         = 5
	rounds        = 3    // of halving a reference into clean streams, at most,
	enoughRows    = 6000 // or as many as score so many rows: more costs time at every start and tells little
	fewestRows    = 30   // rows of a reference without which nothing can be said
	fewestOfClass = 100  // reference rows from which a class is calibrated on its own
	longestProof  = 500  // bytes of evidence per finding
)

// Options are a Scorer's settings. The zero value is good.
type Options struct {
	Detectors []detect.Detector // nil: all that taster has
	Seed      uint64
	Workers   int // goroutines per call of Score; 0: as many as there are processors
}

// Scorer judges segments of one contract. It is safe for concurrent use, and gives the same segment the same
// decision.
type Scorer struct {
	contract  *contract.Contract
	ref       *reference.Reference // nil: judged against the batch
	detectors []detect.Detector
	fitted    []fitted      // with a reference
	labels    *labels.Model // of the reference; nil where none is needed to examine it
	env       detect.Env
	decoded   decodedStates
	doubts    doubts
}

// New prepares to judge records of c. With a reference it fits and calibrates every detector, which takes seconds
// for a large one. A contract that names an unknown detector or setting is an error.
func New(c *contract.Contract, ref *reference.Reference, opt Options) (*Scorer, error) {
	s := &Scorer{contract: c, ref: ref, env: detect.Env{Seed: opt.Seed, Workers: opt.Workers}}
	if s.env.Workers <= 0 {
		s.env.Workers = runtime.GOMAXPROCS(0)
	}
	known := opt.Detectors
	if known == nil {
		known = All()
	}
	var err error
	if s.detectors, err = choose(known, c.Detect.Detectors); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	if ref == nil {
		return s, nil
	}
	if ref.Sample.N < fewestRows {
		return nil, fmt.Errorf("reference %s holds %d rows: at least %d are needed, and 1,000 or more are better",
			ref.Name, ref.Sample.N, fewestRows)
	}
	if s.fitted, s.labels, err = fit(s.detectors, ref.Sample, s.env); err != nil {
		return nil, fmt.Errorf("what reference %s teaches: %w", ref.Name, err)
	}
	return s, nil
}

// choose returns the detectors that a contract wants: those that it names, or all; less those that it switches off.
func choose(known []detect.Detector, named map[string]map[string]any) ([]detect.Detector, error) {
	wanted := map[string]bool{}
	restricts := false
	for name, settings := range named {
		on := true
		for key, value := range settings {
			var ok bool
			if on, ok = value.(bool); key != "enabled" || !ok {
				return nil, fmt.Errorf("detect.detectors.%s: the only setting is enabled: true or false", name)
			}
		}
		if !slices.ContainsFunc(known, func(d detect.Detector) bool { return d.Name() == name }) {
			var names []string
			for _, d := range known {
				names = append(names, d.Name())
			}
			slices.Sort(names)
			return nil, fmt.Errorf("detect.detectors: there is no detector %q: want one of %s", name, strings.Join(names, ", "))
		}
		wanted[name] = on
		restricts = restricts || on
	}
	var out []detect.Detector
	for _, d := range known {
		if on, isNamed := wanted[d.Name()]; isNamed && on || !isNamed && !restricts {
			out = append(out, d)
		}
	}
	return out, nil
}

// Detail is what one detector said of every row of a segment.
type Detail struct {
	Detector string
	Score    []float64 // on the detector's own scale; NaN where it has no opinion
	LogP     []float64 // ln of the calibrated p-value; 0 where it has no opinion
	scores   detect.Scores
	rows     int                // that it is calibrated on
	null     *calibrate.Null    // of all classes, without a reference
	model    detect.Remembering // nil where it remembers nothing
}

// Score decides on the valid rows of a segment by what is in it and what was known before. Until it returns it has the segment for itself: what is in
// the columns stays as it is, but vectors of all batches move together (detect.MoveSample).
func (s *Scorer) Score(ctx context.Context, segment *record.Segment, known record.Memory) (*record.Decision, error) {
	decision, _, err := s.Judge(ctx, segment, known)
	return decision, err
}

// Judge is Score with what every detector said.
func (s *Scorer) Judge(ctx context.Context, segment *record.Segment, known record.Memory) (*record.Decision, []Detail, error) {
	var like *detect.Sample
	if s.ref != nil {
		like = s.ref.Sample
	}
	sample, misfits, err := detect.MoveSample(s.contract, segment.Batches, like, s.inserted(segment.Rows()), s.env.Workers)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.contract.Path, err)
	}
	return s.follow(ctx, segment.Source, sample, offsets(segment), known, func(d *record.Decision) {
		for _, m := range misfits {
			mark(d, m.Row, finding.VectorLength, nil, finding.Quarantined)
		}
		first := 0
		for _, batch := range segment.Batches {
			for _, m := range batch.Marks {
				v := verdicts[m.Code]
				if m.Finding != nil {
					v = finding.Quarantined // the contract says so for what is otherwise only noted
				}
				mark(d, first+m.Row, m.Code, m.Finding, v)
			}
			first += len(batch.Origins)
		}
	})
}

// follow judges the next rows of a source, at the given offsets, and remembers them. Marks adds to the decision what was
// noticed outside of detection.
func (s *Scorer) follow(ctx context.Context, source record.Source, sample *detect.Sample, offsets []int64, known record.Memory,
	marks func(*record.Decision),
) (*record.Decision, []Detail, error) {
	before, err := s.recollect(source, known)
	if err != nil {
		return nil, nil, fmt.Errorf("what is known of %s partition %d: %w", source.Topic, source.Partition, err)
	}
	d, details, err := s.judge(ctx, sample, before)
	if err != nil {
		return nil, nil, err
	}
	marks(d)
	s.remember(d, before, sample, details, offsets)
	before.env.Shared.End()
	return d, details, nil
}

// judge decides by what the detectors say of a sample.
func (s *Scorer) judge(ctx context.Context, sample *detect.Sample, before *recollection) (*record.Decision, []Detail, error) {
	d := newDecision(sample.N)
	d.Threshold, d.Calibrated = 1-s.contract.Detect.Budget, "batch"
	if s.ref != nil {
		d.Calibrated, d.Reference, d.RefDigest = "reference", s.ref.Name, fmt.Sprintf("%x", s.ref.Digest)
	}
	details, err := s.details(ctx, sample, before)
	if err != nil {
		return nil, nil, err
	}
	for _, detail := range details {
		d.Detectors = append(d.Detectors, detail.Detector+"/"+detect.Version)
	}
	slices.Sort(d.Detectors)
	if len(details) > 0 && sample.N > 0 {
		s.decide(d, details)
	}
	return d, details, nil
}

// shared returns an env in which detectors share what they make of one segment.
func (s *Scorer) shared(before *recollection) detect.Env {
	if before != nil {
		return before.env
	}
	env := s.env
	env.Shared = &detect.Shared{}
	return env
}

// newDecision returns a decision that accepts n rows.
func newDecision(n int) *record.Decision {
	return &record.Decision{
		Verdicts: make([]finding.Verdict, n),
		Risks:    make([]float64, n),
		Reasons:  map[int][]finding.Code{},
		Findings: map[int][]finding.Finding{},
	}
}

// verdicts tells which verdict a code brings.
var verdicts = func() map[finding.Code]finding.Verdict {
	m := map[finding.Code]finding.Verdict{}
	for _, meaning := range finding.Meanings {
		m[meaning.Code] = meaning.Verdict
	}
	return m
}()

// mark adds what was noticed about a row outside of detection.
func mark(d *record.Decision, row int, code finding.Code, f *finding.Finding, v finding.Verdict) {
	if !slices.Contains(d.Reasons[row], code) {
		d.Reasons[row] = append(d.Reasons[row], code)
	}
	if f != nil {
		d.Findings[row] = append(d.Findings[row], *f)
	}
	if v != finding.Accepted {
		d.Verdicts[row] = finding.Quarantined
	}
}

// details runs every detector over the sample.
func (s *Scorer) details(ctx context.Context, sample *detect.Sample, before *recollection) ([]Detail, error) {
	env := s.shared(before)
	n, one := len(s.detectors), func(i int) (*Detail, error) { return s.unreferenced(s.detectors[i], sample, before, env) }
	if s.ref != nil {
		others, without, aside, err := s.withoutDoubts(sample, before, env)
		if err != nil {
			return nil, err
		}
		if before != nil {
			before.aside = aside
		}
		n, one = len(s.fitted), func(i int) (*Detail, error) {
			if others != nil && others[i] != nil {
				return others[i].detail(sample, before, len(without), env), nil
			}
			return s.fitted[i].detail(sample, before, 0, env), nil
		}
	}
	all, errs := make([]*Detail, n), make([]error, n)
	order := alternating(n)
	detect.Each(n, min(atATime, env.Workers), func(k int) {
		i := order[k]
		if errs[i] = ctx.Err(); errs[i] == nil {
			all[i], errs[i] = one(i)
		}
	})
	var out []Detail
	for i, detail := range all {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if detail != nil {
			out = append(out, *detail)
		}
	}
	return out, nil
}

// atATime is how many detectors work on a segment at a time: what each does on several cores has parts for one core between,
// which fill up with the other's. More would take up more memory.
const atATime = 2

// alternating returns 0 … n−1, every other one first: neighbours in [On] share what they make of a sample, and who begins
// beside the one that makes it would wait for it.
func alternating(n int) []int {
	out := make([]int, 0, n)
	for first := range 2 {
		for i := first; i < n; i += 2 {
			out = append(out, i)
		}
	}
	return out
}

// detail is what a fitted detector says of a sample. If it was fitted without some rows of the reference, its evidence says so.
func (f *fitted) detail(sample *detect.Sample, before *recollection, without int, env detect.Env) *Detail {
	detail := &Detail{Detector: f.detector.Name()}
	var seen detect.Memory
	if detail.model, _ = f.model.(detect.Remembering); detail.model != nil {
		seen = before.of(detail.Detector, detail.model)
	}
	scores := f.score(sample, seen, env)
	detail.scores, detail.rows = scores.Scores, scores.rows
	detail.Score = detail.scores.Value
	if without > 0 {
		explain := detail.scores.Explain
		detail.scores.Explain = func(row int) string {
			return fmt.Sprintf("%s; not counting %d rows of the reference that look like poison", explain(row), without)
		}
	}
	detail.LogP = f.logP(sample, scores, env.Workers)
	return detail
}

// unreferenced is what a detector says of a sample by what it learns of the sample itself; nil where it has nothing to say.
func (s *Scorer) unreferenced(d detect.Detector, sample *detect.Sample, before *recollection, env detect.Env) (*Detail, error) {
	model, err := d.Fit(sample, env)
	if err != nil {
		return nil, fmt.Errorf("detector %s: %w", d.Name(), err)
	}
	if model == nil {
		return nil, nil //nolint:nilnil // it has no part in this
	}
	detail := &Detail{Detector: d.Name(), LogP: make([]float64, sample.N), rows: sample.N}
	var seen detect.Memory
	if detail.model, _ = model.(detect.Remembering); detail.model != nil {
		seen = before.of(d.Name(), detail.model)
	}
	if seen != nil {
		detail.scores = detail.model.ScoreWith(sample, seen, env)
	} else {
		detail.scores = model.Score(sample, env)
	}
	detail.Score = detail.scores.Value
	if detail.scores.LogP != nil {
		copy(detail.LogP, detail.scores.LogP)
		return detail, nil
	}
	fit := calibrate.FitBatch
	if code := detail.scores.Code; code == finding.PoisonSpectral || code == finding.PoisonCluster {
		// Honest classes have kinds within them: a second mode of such scores proves nothing.
		fit = func(scores []float64) *calibrate.Null { return calibrate.FitRest(scores, nil, nil) }
	}
	nulls := nullsOf(detail.Score, sample, detail.scores.PerClass, fit)
	if nulls.all == nil && detail.model == nil {
		return nil, nil //nolint:nilnil // it has no part in this
	}
	if nulls.all != nil {
		nulls.logP(detail.LogP, sample, detail.Score, env.Workers)
		detail.null = nulls.all
	}
	return detail, nil
}

// decide combines what the detectors said into risks, verdicts and findings.
func (s *Scorer) decide(d *record.Decision, details []Detail) {
	budget := s.contract.Detect.Budget
	logP, rows := make([][]float64, len(details)), make([]int, len(details))
	for i := range details {
		logP[i], rows[i] = details[i].LogP, details[i].rows
	}
	n := len(d.Risks)
	combined := make([]float64, n)
	var weights []float64
	var null *calibrate.Null
	calibrated := n
	if s.ref != nil {
		calibrated = s.ref.Sample.N
		weights = calibrate.Weights(logP, rows, prior(details, 1))
		held := make([][]float64, len(s.fitted))
		for i := range s.fitted {
			held[i] = s.fitted[i].held
		}
		trusted := make([]float64, calibrated)
		combine(trusted, held, weights, s.env.Workers)
		null = calibrate.Fit(trusted)
		combine(combined, logP, weights, s.env.Workers)
	} else {
		weights = calibrate.Weights(logP, rows, prior(details, odd))
		combine(combined, logP, weights, s.env.Workers)
		var scores [][]float64
		var nulls []*calibrate.Null
		for i := range details {
			if details[i].null != nil {
				scores, nulls = append(scores, details[i].Score), append(nulls, details[i].null)
			}
		}
		null = calibrate.FitRest(combined, scores, nulls)
	}

	limit := math.Log(budget)
	final := make([]float64, n)
	detect.Rows(n, worthwhile, s.env.Workers, func(from, to int) {
		null.LogPs(final[from:to], combined[from:to])
		for i := from; i < to; i++ {
			if s.ref != nil {
				final[i] = calibrate.Cautious(final[i], calibrated)
			}
			d.Risks[i] = calibrate.Risk(final[i])
		}
	})
	reach := limit
	if s.ref != nil {
		reach = calibrate.Within(limit, calibrated)
	}
	alone := thresholds(null, weights, reach)
	flagged, smallest := 0, 0.0
	for i, lp := range final {
		smallest = min(smallest, lp)
		if lp <= limit {
			flagged++
			d.Verdicts[i] = finding.Quarantined
			d.Reasons[i], d.Findings[i] = explain(i, details, alone)
		}
	}
	d.Risk = calibrate.StreamRisk(flagged, n, calibrated, budget, smallest)
}

// combine is calibrate.Combine with several goroutines.
func combine(out []float64, logP [][]float64, weights []float64, workers int) {
	detect.Chunks(len(out), worthwhile, workers, func() func(from, to int) {
		part := make([][]float64, len(logP))
		return func(from, to int) {
			for d, column := range logP {
				part[d] = column[from:to]
			}
			calibrate.Combine(out[from:to], part, weights)
		}
	})
}

// odd is what a detector of oddness counts without a reference beside one of things that records share on purpose, such
// as phrases, templates and senders. Judged against its own batch, each finds as many rows odd as any other, and of those
// that are odd by themselves, or lie in a small cluster of their class, most are honest.
const odd = 0.1

// purposeful tells of the reasons that are no mere oddness.
var purposeful = map[finding.Code]bool{
	finding.PoisonTrigger: true, finding.PoisonNearDuplicate: true, finding.PoisonProvider: true, finding.PoisonDrift: true,
}

// prior returns what detectors count before any of them tells anything, those of oddness less by a factor. Who has no
// opinion on any row does not count.
func prior(details []Detail, factor float64) []float64 {
	out := make([]float64, len(details))
	sum := 0.0
	for i := range details {
		out[i] = 1
		if !purposeful[details[i].scores.Code] {
			out[i] = factor
		}
		if !slices.ContainsFunc(details[i].LogP, func(lp float64) bool { return lp < 0 }) {
			out[i] = 0
		}
		sum += out[i]
	}
	for i := range out {
		if sum > 0 {
			out[i] /= sum
		} else {
			out[i] = 1 / float64(len(out))
		}
	}
	return out
}

// thresholds returns for every detector the p-value at which it alone would have a record flagged, the others
// being undecided: 1/2 each.
func thresholds(null *calibrate.Null, weights []float64, limit float64) []float64 {
	sum := math.Exp(null.Score(limit))
	out := make([]float64, len(weights))
	for d, w := range weights {
		out[d] = min(1, w/max(sum-2*(1-w), w))
	}
	return out
}

// explain returns why a row is flagged: the detectors that would have flagged it alone, or, where none would, all
// that lean that way.
func explain(row int, details []Detail, alone []float64) ([]finding.Code, []finding.Finding) {
	order := make([]int, len(details))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := details[a].LogP[row], details[b].LogP[row]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	var codes []finding.Code
	var findings []finding.Finding
	for at, i := range order {
		detail := &details[i]
		p := math.Exp(detail.LogP[row])
		counts := p <= alone[i]
		if math.IsNaN(detail.Score[row]) || !counts && at > 0 && p > 0.1 {
			continue
		}
		f := finding.Finding{
			Detector: detail.Detector, Score: detail.Score[row], PValue: p, Threshold: alone[i],
			Evidence: clip(detail.scores.Explain(row)), Code: detail.scores.Code,
		}
		findings = append(findings, f)
		if counts && !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	if len(codes) == 0 {
		codes = append(codes, finding.PoisonCombined)
	}
	return codes, findings
}

// clip bounds evidence, at the end of a character.
func clip(s string) string {
	if len(s) <= longestProof {
		return s
	}
	return strings.ToValidUTF8(s[:longestProof], "") + "…"
}

// worthwhile is how many rows are worth a goroutine where little is done for each.
const worthwhile = 4096
