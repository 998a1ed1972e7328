package policy

import (
	"math/rand/v2"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
)

// fitted is a detector with what its scores mean.
type fitted struct {
	name    string
	model   detect.Model
	nulls   nulls     // of scores that do not depend on the stream
	streams []stream  // of those that do, by rising length
	held    []float64 // ln p of every reference row, held out

	// Of scores that depend on the stream, or on what it showed before: a model of three quarters of the reference with the
	// quarter that it does not know; of scores that are learned from the stream, of each three quarters.
	parts   []part
	learned bool
}

// part is a model of some of the reference's rows, and others of them.
type part struct {
	model  detect.Model
	insert *detect.Sample
}

// quarters is in how many parts the reference is cut for that.
const quarters = 4

// stream is the null of clean streams of one length.
type stream struct {
	length int
	null   *calibrate.Null
}

// fit learns from a reference and calibrates on its held-out rows. It returns nil where the reference has not what
// the detector needs.
func fit(d detect.Detector, ref *detect.Sample, env detect.Env) (*fitted, error) {
	model, err := d.Fit(ref, env)
	if model == nil || err != nil {
		return nil, err
	}
	f := &fitted{name: d.Name(), model: model}

	value := make([]float64, ref.N)
	var kind detect.Scores
	for _, c := range cuts(ref.N, folds, env.Seed) {
		part, err := d.Fit(ref.Select(c.others), env)
		if part == nil || err != nil {
			return nil, err
		}
		kind = part.Score(ref.Select(c.held), env)
		if kind.LogP != nil {
			if f.held == nil {
				f.held = make([]float64, ref.N)
			}
			for i, row := range c.held {
				f.held[row] = kind.LogP[i]
			}
			continue
		}
		if _, remembers := model.(detect.Remembering); (kind.Stream || remembers) && f.parts == nil {
			if err := f.cut(d, ref, kind, env); err != nil {
				return nil, err
			}
			if kind.Learned && f.held != nil {
				return f, nil
			}
		}
		if kind.Stream {
			return f.simulate(d, ref, env)
		}
		for i, row := range c.held {
			value[row] = kind.Value[i]
		}
	}
	if kind.LogP != nil {
		return f, nil
	}
	f.nulls = nullsOf(value, ref, kind.PerClass, calibrate.Fit)
	if f.nulls.all == nil {
		return nil, nil
	}
	f.held = make([]float64, ref.N)
	f.nulls.logP(f.held, ref, value, env.Workers)
	return f, nil
}

// cut fits models to parts of the reference. Scores that are learned from the stream are held out by them too.
func (f *fitted) cut(d detect.Detector, ref *detect.Sample, kind detect.Scores, env detect.Env) error {
	f.learned = kind.Learned
	value := make([]float64, ref.N)
	for _, c := range cuts(ref.N, quarters, env.Seed) {
		p := part{insert: ref.Select(c.held)}
		var err error
		if p.model, err = d.Fit(ref.Select(c.others), env); err != nil {
			return err
		}
		if p.model == nil {
			f.parts = nil
			return nil
		}
		if f.parts = append(f.parts, p); !kind.Learned {
			if p.insert.N >= enoughKnown {
				return nil
			}
			continue
		}
		scores := p.model.Score(p.insert, env).Value
		for i, row := range c.held {
			value[row] = scores[i]
		}
	}
	if !kind.Learned {
		return nil
	}
	if null := calibrate.Fit(value); null != nil {
		f.held = make([]float64, ref.N)
		for i, v := range value {
			f.held[i] = null.LogP(v)
		}
	}
	return nil
}

// simulate calibrates scores that depend on the stream: time and again the reference is cut in half, and each half is
// scored as a clean stream by what was learned from the other. A half is as long a stream as a reference can be
// made into without showing the model what it judges; the shape of such scores settles with length.
func (f *fitted) simulate(d detect.Detector, ref *detect.Sample, env detect.Env) (*fitted, error) {
	lengths := calibrate.Lengths(ref.N / 2)
	longest := len(lengths) - 1
	simulated := make([][]float64, len(lengths))
	value := make([]float64, ref.N)
	for round := range max(1, min(rounds, enoughRows/ref.N)) {
		for _, c := range cuts(ref.N, 2, env.Seed+uint64(round)) {
			part, err := d.Fit(ref.Select(c.others), env)
			if part == nil || err != nil {
				return nil, err
			}
			for at, length := range lengths {
				for from := 0; from+length <= len(c.held); from += length {
					rows := c.held[from : from+length]
					if at == longest {
						rows = c.held // which may be one longer
					}
					scores := part.Score(ref.Select(rows), env).Value
					simulated[at] = append(simulated[at], scores...)
					if at == longest && round == 0 {
						for i, row := range rows {
							value[row] = scores[i]
						}
					}
				}
			}
		}
	}
	for at, length := range lengths {
		if null := calibrate.Fit(simulated[at]); null != nil {
			f.streams = append(f.streams, stream{length, null})
		}
	}
	if len(f.streams) == 0 {
		return nil, nil
	}
	f.held = make([]float64, ref.N)
	for i, v := range value {
		f.held[i] = f.streams[len(f.streams)-1].null.LogP(v)
	}
	return f, nil
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

// score scores a sample by what the stream showed before, nil where it showed nothing or that does not matter. It
// returns with it what ln p of a score is, nil where it depends on the row's class or is in the scores.
//
// Scores that are learned from a long stream are calibrated in it: reference rows that the model does not know are put
// among the stream's, and whatever the stream teaches, and whatever its poison does to clean rows, it does to them. So
// are all scores that depend on what the stream showed before: reference rows are judged by the same memory.
func (f *fitted) score(s *detect.Sample, before detect.Memory, env detect.Env) (detect.Scores, func(float64) float64) {
	score := func(m detect.Model, s *detect.Sample) detect.Scores {
		if before == nil {
			return m.Score(s, env)
		}
		return m.(detect.Remembering).ScoreWith(s, before, env)
	}
	if f.parts != nil && (before != nil || f.learned) {
		if scores, logP := f.among(s, score); logP != nil {
			scores.LogP = logP
			return scores, nil
		}
	}
	scores := score(f.model, s)
	if scores.LogP != nil {
		return scores, nil
	}
	switch {
	case len(f.streams) == 0:
		return scores, nil
	case f.beyond(s.N):
		null := f.streams[len(f.streams)-1].null
		aligned := calibrate.Align(null, scores.Value)
		if aligned.Unclean() < muchPoison || f.parts == nil {
			return scores, aligned.LogP
		}
		// Much poison hides how much there is, and does something to clean rows too, most to those that look like it:
		// reference rows among the stream's tell.
		if among, logP := f.among(s, score); logP != nil {
			among.LogP = logP
			return among, nil
		}
		return scores, aligned.LogP
	}
	// The longest simulation that is not longer than the stream, or else the shortest there is.
	at := 0
	for at+1 < len(f.streams) && f.streams[at+1].length <= s.N {
		at++
	}
	return scores, f.streams[at].null.LogP
}

// among scores a sample with reference rows among its own, which tell what its scores mean: ln p, nil where they have no
// score. A quarter of the reference tells little of the tail; in a short stream, where more of it would change the stream
// itself, each quarter is put among its rows in turn, and a row's scores under all of them are held against theirs.
func (f *fitted) among(s *detect.Sample, score func(detect.Model, *detect.Sample) detect.Scores) (detect.Scores, []float64) {
	parts := f.parts
	if parts[0].insert.N >= enoughKnown || s.N > longStream*parts[0].insert.N {
		parts = parts[:1]
	}
	all := make([]detect.Scores, len(parts))
	var known []float64
	for i, p := range parts {
		insert := p.insert
		if most := max(enoughKnown, s.N); insert.N > most {
			insert = insert.Select(upTo(most)) // their order is random
		}
		all[i] = score(p.model, s.Join(insert))
		known = append(known, all[i].Value[s.N:]...)
		all[i].Value = all[i].Value[:s.N]
	}
	null := calibrate.Fit(known)
	if null == nil {
		return all[0], nil
	}
	logP := make([]float64, s.N)
	for row := range logP {
		for i := range all {
			logP[row] += null.LogP(all[i].Value[row]) / float64(len(all))
		}
	}
	return all[0], logP
}

const (
	// longStream is how many times longer than a quarter of the reference a stream is from which it is scored only once.
	longStream = 32
	// enoughKnown is how many reference rows tell enough, and as many as the stream has do in any case: the error is then
	// no larger than that of the stream itself.
	enoughKnown = 1000
)

// upTo returns 0 … n−1.
func upTo(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// logP writes ln p of the scores of a sample; null is what score returned with them.
func (f *fitted) logP(out []float64, s *detect.Sample, scores detect.Scores, null func(float64) float64, workers int) {
	switch {
	case scores.LogP != nil:
		copy(out, scores.LogP)
		return
	case null == nil:
		f.nulls.logP(out, s, scores.Value, workers)
		return
	}
	parallel(s.N, workers, func(from, to int) {
		for i := from; i < to; i++ {
			out[i] = null(scores.Value[i])
		}
	})
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
	byClass := make([]*calibrate.Null, len(s.Classes))
	for i, class := range s.Classes {
		if byClass[i] = n.class[class]; byClass[i] == nil {
			byClass[i] = n.all
		}
	}
	parallel(len(out), workers, func(from, to int) {
		for i := from; i < to; i++ {
			null := n.all
			if s.Label != nil && s.Label[i] >= 0 {
				null = byClass[s.Label[i]]
			}
			out[i] = null.LogP(value[i])
		}
	})
}
