package policy

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/text"
)

// fitted is a detector with what its scores mean.
type fitted struct {
	detector detect.Detector
	model    detect.Model
	nulls    nulls     // of scores that do not depend on the stream
	streams  []stream  // of those that do, by rising length
	held     []float64 // ln p of every reference row, held out

	// Of scores that depend on the stream, or on what it showed before: a model of three quarters of the reference with the
	// quarter that it does not know; of scores that are learned from the stream, of each three quarters.
	parts   []part
	learned bool

	// again fits model, once, for learned scores: parts judge nearly all streams, so it is not kept from the start. Nil: it is there.
	again func() detect.Model

	excuses bool // poison in the reference can hide poison like it
}

// part is a model of some of the reference's rows, and others of them.
type part struct {
	model  detect.Model
	insert *detect.Sample
}

// quarters is in how many parts the reference is cut for that.
const quarters = 4

// stream is the null of clean streams of one length, nil where they tell nothing. It is simulated when it is first asked but for the
// longest: hardly any segment is that short and begins a source.
type stream struct {
	length int
	null   func() *calibrate.Null
}

// fitting is a detector that is being fitted. All are fitted side by side on one part of the reference after the other, so
// that what several make of a part is made once and not kept longer than that.
type fitting struct {
	fitted *fitted
	out    bool // the reference has not what the detector needs
	err    error

	kind      detect.Scores // what its scores are like
	value     []float64     // held-out scores of the reference's rows
	enough    bool          // parts
	simulated []float64     // scores of clean streams, as long as there can be
}

// fit learns from a reference and calibrates on its held-out rows. Detectors for which the reference has not what they
// need are left out. The label model is that of the reference, where poison in it can blind a detector.
func fit(detectors []detect.Detector, ref *detect.Sample, env detect.Env) ([]fitted, *labels.Model, error) {
	all := make([]*fitting, len(detectors))
	for i, d := range detectors {
		all[i] = &fitting{fitted: &fitted{detector: d}, value: make([]float64, ref.N)}
	}
	fresh := func() detect.Env {
		env := env
		env.Shared = &detect.Shared{}
		return env
	}
	with := func(env detect.Env, wanted func(*fitting) bool, do func(*fitting, detect.Env) error) {
		var some []*fitting
		for _, f := range all {
			if !f.out && f.err == nil && wanted(f) {
				some = append(some, f)
			}
		}
		detect.Each(len(some), env.Workers, func(i int) { some[i].err = do(some[i], env) })
	}
	each := func(wanted func(*fitting) bool, do func(*fitting, detect.Env) error) { with(fresh(), wanted, do) }

	whole := fresh()
	with(whole, func(*fitting) bool { return true }, func(f *fitting, env detect.Env) (err error) {
		f.fitted.model, err = f.fitted.detector.Fit(ref, env)
		f.out = f.fitted.model == nil
		return err
	})
	for k, c := range cuts(ref.N, folds, env.Seed) {
		others, held := ref.Select(c.others), ref.Select(c.held)
		each(func(f *fitting) bool { return k == 0 || !f.streams() }, func(f *fitting, env detect.Env) error {
			return f.holdOut(others, held, c.held, env)
		})
	}
	for _, c := range cuts(ref.N, quarters, env.Seed) {
		others, held := ref.Select(c.others), ref.Select(c.held)
		each((*fitting).wantsParts, func(f *fitting, env detect.Env) error { return f.part(others, held, c.held, env) })
	}
	each((*fitting).learns, func(f *fitting, env detect.Env) error {
		f.fitted.learned = true
		f.holdParts()
		return nil
	})
	for round, c := range halves(ref.N, env.Seed) {
		others, held := ref.Select(c.others), ref.Select(c.held)
		each((*fitting).wantsStreams, func(f *fitting, env detect.Env) error {
			return f.simulate(others, held, c.held, round == 0, env)
		})
	}

	var out []fitted
	var model *labels.Model
	for _, f := range all {
		if f.err != nil {
			return nil, nil, fmt.Errorf("detector %s: %w", f.fitted.detector.Name(), f.err)
		}
		if !f.out && f.calibrate(ref, env) {
			if f.fitted.excuses = f.mayExcuse(); f.fitted.excuses {
				model = labels.Fit(ref, whole)
			}
			f.fitted.letGo(ref, env)
			out = append(out, *f.fitted)
		}
	}
	return out, model, nil
}

// tests tells that scores are valid tests as they stand, streams that they depend on the stream, learns that their shape
// does.
func (f *fitting) tests() bool   { return f.kind.LogP != nil }
func (f *fitting) streams() bool { return f.kind.Stream && !f.tests() }
func (f *fitting) learns() bool  { return f.kind.Learned && f.fitted.parts != nil }

// wantsParts tells that reference rows will have to stand among the stream's.
func (f *fitting) wantsParts() bool {
	_, remembers := f.fitted.model.(detect.Remembering)
	return !f.enough && !f.tests() && (f.kind.Stream || remembers)
}

// wantsStreams tells that clean streams say what the scores mean: of all rows, or of those of the reference itself.
func (f *fitting) wantsStreams() bool {
	return f.streams() && (f.fitted.held == nil || f.mayExcuse())
}

// silent says that there is no opinion on rows: without them, those that are left have not what the detector needs.
func (f *fitting) silent(rows []int) {
	for _, row := range rows {
		f.value[row] = math.NaN()
	}
}

// holdOut scores rows of the reference, of the given numbers, by what the others teach.
func (f *fitting) holdOut(others, held *detect.Sample, rows []int, env detect.Env) error {
	model, err := f.fitted.detector.Fit(others, env)
	if err != nil {
		return err
	}
	if model == nil {
		f.silent(rows)
		return nil
	}
	f.kind = model.Score(held, env)
	to, scores := f.value, f.kind.Value
	if f.tests() {
		if f.fitted.held == nil {
			f.fitted.held = make([]float64, len(f.value))
		}
		to, scores = f.fitted.held, f.kind.LogP
	}
	for i, row := range rows {
		to[row] = scores[i]
	}
	f.kind.Explain = nil // holds the model, and what that was fitted to
	return nil
}

// part fits a model to three quarters of the reference. Scores that are learned from the stream are held out by all four
// of them, of others one will do.
func (f *fitting) part(others, held *detect.Sample, rows []int, env detect.Env) error {
	model, err := f.fitted.detector.Fit(others, env)
	if err != nil {
		return err
	}
	if model == nil {
		f.fitted.parts, f.enough = nil, true
		return nil
	}
	if parts := f.fitted.parts; len(parts) == 0 || parts[0].insert.N < enoughKnown {
		f.fitted.parts = append(parts, part{model, held})
	} // else the first one is all that will be asked, and a model of vectors holds them more than once
	if !f.kind.Learned {
		f.enough = held.N >= enoughKnown
		return nil
	}
	scores := model.Score(held, env).Value
	for i, row := range rows {
		f.value[row] = scores[i]
	}
	return nil
}

// holdParts calibrates on the rows that the parts held out, and keeps as many of the parts as will be asked.
func (f *fitting) holdParts() {
	f.fitted.parts = slices.Clone(enough(f.fitted.parts))
	if null := calibrate.Fit(f.value); null != nil {
		f.fitted.held = make([]float64, len(f.value))
		for i, v := range f.value {
			f.fitted.held[i] = null.LogP(v)
		}
	}
}

// halves yields halves of a reference with the other ones, and in which round it was cut.
func halves(n int, seed uint64) iter.Seq2[int, cut] {
	return func(yield func(int, cut) bool) {
		for round := range max(1, min(rounds, enoughRows/n)) {
			for _, c := range cuts(n, 2, seed+uint64(round)) {
				if !yield(round, c) {
					return
				}
			}
		}
	}
}

// simulate calibrates scores that depend on the stream: time and again the reference is cut in half, and each half is
// scored as a clean stream by what was learned from the other. A half is as long a stream as a reference can be
// made into without showing the model what it judges; the shape of such scores settles with length.
func (f *fitting) simulate(others, held *detect.Sample, rows []int, keep bool, env detect.Env) error {
	model, err := f.fitted.detector.Fit(others, env)
	if err != nil {
		return err
	}
	if model == nil {
		if keep {
			f.silent(rows)
		}
		return nil
	}
	scores := model.Score(held, env).Value
	f.simulated = append(f.simulated, scores...)
	if keep {
		for i, row := range rows {
			f.value[row] = scores[i]
		}
	}
	return nil
}

// shorter simulates streams of a length that halves of the reference are cut into. It returns nil where they tell nothing.
func shorter(d detect.Detector, ref *detect.Sample, length int, env detect.Env) *calibrate.Null {
	var scores []float64
	for _, c := range halves(ref.N, env.Seed) {
		env.Shared = &detect.Shared{}
		model, err := d.Fit(ref.Select(c.others), env)
		if model == nil || err != nil { // the same fit has given no error for the longest streams
			continue
		}
		for from := 0; from+length <= len(c.held); from += length {
			scores = append(scores, model.Score(ref.Select(c.held[from:from+length]), env).Value...)
		}
	}
	return calibrate.Fit(scores)
}

// streamsOf returns the nulls of streams by rising length, the longest of which has been simulated. What calibrates rows of the
// reference itself is asked beside long streams only.
func (f *fitting) streamsOf(ref *detect.Sample, env detect.Env) []stream {
	if f.simulated == nil { // nobody asks
		return nil
	}
	d, lengths := f.fitted.detector, calibrate.Lengths(ref.N/2)
	last := len(lengths) - 1
	null := calibrate.Fit(f.simulated)
	var out []stream
	if !f.fitted.learned {
		for _, length := range lengths[:last] {
			one := stream{length, sync.OnceValue(func() *calibrate.Null { return shorter(d, ref, length, env) })}
			if null != nil || one.null() != nil {
				out = append(out, one)
			}
		}
	}
	if null != nil {
		out = append(out, stream{lengths[last], func() *calibrate.Null { return null }})
	}
	return out
}

// calibrate says what the scores mean, by what was held out and simulated; false: nothing can be said.
func (f *fitting) calibrate(ref *detect.Sample, env detect.Env) bool {
	to := f.fitted
	switch {
	case f.tests():
		return true
	case !f.streams():
		to.nulls = nullsOf(f.value, ref, f.kind.PerClass, calibrate.Fit)
		if to.nulls.all == nil {
			return false
		}
		to.held = make([]float64, ref.N)
		to.nulls.logP(to.held, ref, f.value, env.Workers)
		return true
	}
	to.streams = f.streamsOf(ref, env)
	if to.held != nil {
		return true
	}
	if len(to.streams) == 0 {
		return false
	}
	to.held = make([]float64, ref.N)
	null := to.streams[len(to.streams)-1].null()
	for i, v := range f.value {
		to.held[i] = null.LogP(v)
	}
	return true
}

// cut is a reference in two parts, by row number.
type cut struct{ others, held []int }

// cuts cuts n rows into parts at random and returns each part with all the others.
func cuts(n, parts int, seed uint64) []cut {
	order := rand.New(rand.NewPCG(seed, 0xf01d)).Perm(n)
	out := make([]cut, parts)
	for i := range out {
		from, to := i*n/parts, (i+1)*n/parts
		out[i].held = order[from:to]
		out[i].others = append(append(out[i].others, order[:from]...), order[to:]...)
	}
	return out
}

// muchPoison is the share of a stream from which poison may move the quantiles that a stream is aligned by.
const muchPoison = 0.02

// longest is the length of the longest stream that the reference could be made into; 0 where none was needed.
func (f *fitted) longest() int {
	if len(f.streams) == 0 {
		return 0
	}
	return f.streams[len(f.streams)-1].length
}

// beyond tells whether a stream is too long for the simulations to say what its scores mean.
func (f *fitted) beyond(n int) bool { return n > f.longest()+f.longest()/2 }

// calibrated are scores with what they mean.
type calibrated struct {
	detect.Scores
	null func(float64) float64 // ln p of a score; nil where it depends on the row's class or is in the scores
	rows int                   // trusted ones that tell it
}

// score scores a sample by what the stream showed before, nil where it showed nothing or that does not matter.
//
// Scores that are learned from a long stream are calibrated in it: reference rows that the model does not know are put
// among the stream's, and whatever the stream teaches, and whatever its poison does to clean rows, it does to them. So
// are all scores that depend on what the stream showed before: reference rows are judged by the same memory.
func (f *fitted) score(s *detect.Sample, before detect.Memory, env detect.Env) calibrated {
	score := func(m detect.Model, s *detect.Sample) detect.Scores {
		if before == nil {
			return m.Score(s, env)
		}
		return m.(detect.Remembering).ScoreWith(s, before, env)
	}
	if f.parts != nil && (before != nil || f.learned) {
		if among, ok := f.among(s, score, env); ok {
			return among
		}
	}
	out := calibrated{Scores: score(f.whole(), s), rows: len(f.held)}
	switch {
	case out.LogP != nil, len(f.streams) == 0:
		return out
	case f.beyond(s.N):
		null := f.streams[len(f.streams)-1].null()
		aligned := calibrate.Align(null, out.Value)
		if aligned.Unclean() >= muchPoison && f.parts != nil {
			// Much poison hides how much there is, and does something to clean rows too, most to those that look like it:
			// reference rows among the stream's tell.
			if among, ok := f.among(s, score, env); ok {
				return among
			}
		}
		out.null = aligned.LogP
		return out
	}
	out.null = f.null(s.N).LogP
	return out
}

// null returns what the longest simulation tells that is not longer than a stream, or else the shortest there is.
func (f *fitted) null(n int) *calibrate.Null {
	at := 0
	for at+1 < len(f.streams) && f.streams[at+1].length <= n {
		at++
	}
	for i := at; i >= 0; i-- {
		if null := f.streams[i].null(); null != nil {
			return null
		}
	}
	for at++; ; at++ { // the last one is there
		if null := f.streams[at].null(); null != nil {
			return null
		}
	}
}

// joined names a sample with reference rows behind its own: those of some parts, that begin with one.
type joined struct {
	stream, first *detect.Sample
	parts         int
}

// with returns a sample with the reference rows of parts behind its own.
func with(s *detect.Sample, parts []part, env detect.Env) *detect.Sample {
	return detect.Once(env, joined{s, parts[0].insert, len(parts)}, func() *detect.Sample {
		insert := parts[0].insert
		if most := mostInserted(s.N); insert.N > most {
			insert = insert.Select(upTo(most)) // their order is random
		}
		for _, p := range parts[1:] {
			insert = insert.Join(p.insert)
		}
		joint := s.Join(insert)
		text.Continues(joint, s, env)
		return joint
	})
}

// asked returns the parts whose models score a sample of n rows with reference rows among its own, and whether the rows of all of
// them stand there together.
func asked(parts []part, n int) (some []part, together bool) {
	parts = enough(parts)
	rows := parts[0].insert.N
	switch {
	case n <= longStream*rows:
		return parts, false
	case n <= detect.Enough:
		return parts[:1], false
	}
	parts = parts[:min(len(parts), (enoughKnown+rows-1)/rows)]
	return parts, len(parts) > 1
}

// among scores a sample with reference rows among its own, which tell what its scores mean; false where they have no
// score. A quarter of the reference tells little of the tail, and less of what the stream's poison does to clean rows like it. In a
// short stream, where more of it would change the stream itself, each quarter is put among its rows in turn; in one of more than
// detect.Enough rows as many of them at once as hold enoughKnown rows, and of each model's scores those of the quarter that it does
// not know are taken. A row's scores under all models are held against theirs.
func (f *fitted) among(s *detect.Sample, score func(detect.Model, *detect.Sample) detect.Scores, env detect.Env) (calibrated, bool) {
	parts, together := asked(f.parts, s.N)
	all := make([]detect.Scores, len(parts))
	var known []float64
	first := s.N // of the rows that a model does not know
	for i, p := range parts {
		if together {
			all[i] = score(p.model, with(s, parts, env))
			known = append(known, all[i].Value[first:first+p.insert.N]...)
			first += p.insert.N
		} else {
			all[i] = score(p.model, with(s, parts[i:i+1], env))
			known = append(known, all[i].Value[first:]...)
		}
		all[i].Value = all[i].Value[:s.N]
	}
	null := calibrate.Fit(known)
	if null == nil {
		return calibrated{}, false
	}
	out := calibrated{Scores: all[0], rows: null.Rows()}
	out.LogP = make([]float64, s.N)
	detect.Chunks(s.N, worthwhile, env.Workers, func() func(from, to int) {
		one := make([]float64, worthwhile)
		return func(from, to int) {
			for i := range all {
				null.LogPs(one, all[i].Value[from:to])
				for k, lp := range one[:to-from] {
					out.LogP[from+k] += lp / float64(len(all))
				}
			}
		}
	})
	return out, true
}

const (
	// longStream is how many times longer than a quarter of the reference a stream is from which it is not scored with each of them in
	// turn: up to detect.Enough rows, of which enoughKnown would be a sixteenth and more, it is scored once.
	longStream = 32
	// enoughKnown is how many reference rows tell enough, and as many as the stream has do in any case: the error is then
	// no larger than that of the stream itself.
	enoughKnown = 1000
)

// letGo lets go of the model of the whole reference where the parts judge nearly all streams: a model of vectors holds them more than once.
func (f *fitted) letGo(ref *detect.Sample, env detect.Env) {
	if _, remembers := f.model.(detect.Remembering); f.parts == nil || !f.learned || remembers {
		return
	}
	f.model = nil
	f.fitAgain(func() (*detect.Sample, detect.Env) {
		env.Shared = &detect.Shared{}
		return ref, env
	})
}

// fitAgain has the model fitted to what teaches it when it is first asked.
func (f *fitted) fitAgain(teaches func() (*detect.Sample, detect.Env)) {
	d := f.detector
	f.again = sync.OnceValue(func() detect.Model {
		if model, err := d.Fit(teaches()); err == nil {
			return model
		}
		return nil
	})
}

// whole returns the model of the whole reference.
func (f *fitted) whole() detect.Model {
	if f.model != nil {
		return f.model
	}
	if model := f.again(); model != nil {
		return model
	}
	return f.parts[0].model // of three quarters of the same rows
}

// mostInserted is how many reference rows stand among n rows of a stream at most.
func mostInserted(n int) int { return max(enoughKnown, n) }

// inserted returns how many reference rows any detector may put among n rows of a stream.
func (s *Scorer) inserted(n int) int {
	rows := 0
	for i := range s.fitted {
		if len(s.fitted[i].parts) == 0 {
			continue
		}
		parts, together := asked(s.fitted[i].parts, n)
		sum := 0
		for _, p := range parts {
			most := min(p.insert.N, mostInserted(n))
			if sum += most; !together {
				rows = max(rows, most)
			}
		}
		if together {
			rows = max(rows, sum)
		}
	}
	return rows
}

// enough returns the first part where it has enough rows, and else all.
func enough(parts []part) []part {
	if parts[0].insert.N >= enoughKnown {
		return parts[:1]
	}
	return parts
}

// upTo returns 0 … n−1.
func upTo(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// logP returns ln p of the scores of a sample.
func (f *fitted) logP(s *detect.Sample, scores calibrated, workers int) []float64 {
	if scores.LogP != nil {
		return scores.LogP
	}
	out := make([]float64, s.N)
	if scores.null == nil {
		f.nulls.logP(out, s, scores.Value, workers)
		return out
	}
	detect.Rows(s.N, worthwhile, workers, func(from, to int) {
		for i := from; i < to; i++ {
			out[i] = scores.null(scores.Value[i])
		}
	})
	return out
}

// nulls are the null distributions of one score, by class where it compares only within one.
type nulls struct {
	all   *calibrate.Null
	class map[string]*calibrate.Null
}

func nullsOf(value []float64, s *detect.Sample, perClass bool, fit func([]float64) *calibrate.Null) nulls {
	n := nulls{all: fit(value)}
	if !perClass || s.Label == nil {
		return n
	}
	own := make([][]float64, len(s.Classes))
	for i, class := range s.Label {
		if class >= 0 {
			own[class] = append(own[class], value[i])
		}
	}
	n.class = map[string]*calibrate.Null{}
	for class, scores := range own {
		if len(scores) < fewestOfClass {
			continue
		}
		if null := fit(scores); null != nil && null.Rows() >= fewestOfClass {
			n.class[s.Classes[class]] = null
		}
	}
	return n
}

func (n nulls) logP(out []float64, s *detect.Sample, value []float64, workers int) {
	if len(n.class) == 0 || s.Label == nil {
		detect.Rows(len(out), worthwhile, workers, func(from, to int) { n.all.LogPs(out[from:to], value[from:to]) })
		return
	}
	byClass := make([]*calibrate.Null, len(s.Classes))
	for i, class := range s.Classes {
		if byClass[i] = n.class[class]; byClass[i] == nil {
			byClass[i] = n.all
		}
	}
	detect.Rows(len(out), worthwhile, workers, func(from, to int) {
		for i := from; i < to; i++ {
			null := n.all
			if s.Label[i] >= 0 {
				null = byClass[s.Label[i]]
			}
			out[i] = null.LogP(value[i])
		}
	})
}
