package policy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/calibrate"
	"github.com/tasterhq/taster/detect/labels"
	"github.com/tasterhq/taster/detect/memory"
	"github.com/tasterhq/taster/detect/sketch"
	"github.com/tasterhq/taster/detect/text"
)

// A reference may hold some of the very poison that it shall find, and then excuses it: to a label model the trigger explains
// the label, and it is as common among what is trusted as in the stream. By itself such a reference looks clean, for a
// few rows of a thousand repeat nothing. Together with a stream that has the same poison they do. So a detector that poison
// in the reference can blind examines it beside the stream, in two steps: which rows stand out most where nothing is trusted;
// and which of those look like poison to what the others alone teach. These teach it nothing from then on.
//
// They calibrate as before, with the scores that they had when they were held out. So the budget does not depend on whether they
// are poison. But a clean row that is set aside makes p-values larger, and detectors weaker: what it has in common with the
// stream's clean rows is excused no longer. So of the rows set aside few may be clean.

const (
	doubtful  = 0.04 // share of the reference that is doubted at first: without all of its poison the rest tells better
	falsely   = 0.1  // share of clean ones among what is set aside: the false discovery rate of Benjamini and Hochberg (JRSS B 1995)
	mostAside = 0.02 // share of the reference that may be set aside: twice what is promised
	// fewestAside is the share from which it matters what is set aside: fewer rows excuse little, and may well be clean ones.
	fewestAside = 0.005
	repeated    = 3.0 // rows, in any case: two say the same by chance
	unhidden    = 0.1 // share of a stream as poison from which a hundredth of the reference excuses little, and clean rows look like it

	telling      = 4    // a segment that is shorter than the reference by more than this tells little about it
	longEnough   = 4    // times as many rows as the reference have come before it is examined: that takes some tenths of a second for 10,000 rows
	enoughBeside = 8000 // rows of a segment that tell enough
	grown        = 4    // times as many rows as then until it is examined again,
	seldom       = 1000 // and as many times the length of the reference at the latest

	mostDoubts = 2 // sets of rows for which it is kept what the others teach: the last one, while not all sources know the next
)

// mayExcuse tells whether poison in the reference can hide poison like it from a detector: it compares what records share
// with how common that is. One that remembers the stream is not asked.
func (f *fitting) mayExcuse() bool {
	_, remembers := f.fitted.model.(detect.Remembering)
	return f.kind.Stream && purposeful[f.kind.Code] && !remembers
}

// examines tells whether a detector's scores can tell which rows of the reference are poison: clean streams say what they mean.
func (f *fitted) examines() bool { return f.excuses && len(f.streams) > 0 }

// aside is what a source has shown of the reference.
type aside struct {
	seen     int   // rows of the source
	examined int   // rows that all sources had shown when the reference was examined last beside this one
	rows     []int // of the reference, rising, that are set aside
}

// asideName is where a state keeps it, among what detectors remember.
const asideName = "reference"

// asideOf reads what a source has shown of this reference; states that tell nothing of it give nothing.
func (s *Scorer) asideOf(before *recollection, of *decodedState) aside {
	section := of.state.Section(asideName)
	if section == nil || section.Version != detect.Version {
		return aside{}
	}
	data, known := bytes.CutPrefix(section.Data, s.ref.Digest[:])
	if !known {
		return aside{} // of another reference
	}
	broken := false
	number := func() int {
		v, ok := sketch.Uvarint(&data)
		if !ok || v > 1<<60 {
			broken, data = true, nil
			return 0
		}
		return int(v)
	}
	a := aside{seen: number(), examined: number()}
	for last := -1; len(data) > 0; {
		gap := number()
		if broken = broken || gap >= s.ref.Sample.N-1-last; broken {
			break
		}
		last += 1 + gap
		a.rows = append(a.rows, last)
	}
	if broken {
		before.forget(asideName + "/" + section.Version)
		return aside{}
	}
	return a
}

// section returns it as a state keeps it.
func (a aside) section(digest [32]byte) memory.Section {
	data := binary.AppendUvarint(digest[:], uint64(a.seen))
	data = binary.AppendUvarint(data, uint64(a.examined))
	last := -1
	for _, row := range a.rows {
		data = binary.AppendUvarint(data, uint64(row-last-1))
		last = row
	}
	return memory.Section{Name: asideName, Version: detect.Version, Data: data}
}

// examine returns what the source of a sample has shown of the reference with it. The reference is examined with the first
// segment that is long enough when all sources together are several times as long as it, whenever they have become several
// times as long as then, and now and then: of many small files not every one is a beginning.
func (s *Scorer) examine(sample *detect.Sample, others []aside, a aside, env detect.Env) (aside, error) {
	a.seen += sample.N
	seen, examined := a.seen, a.examined
	for _, other := range others {
		seen += other.seen
		examined = max(examined, other.examined)
	}
	n := s.ref.Sample.N
	if sample.N < max(1, n/telling) || seen < longEnough*n || examined > 0 && seen < min(grown*examined, examined+seldom*n) {
		return a, nil
	}
	a.examined = seen
	sample, tokens := some(sample, s.read(sample), enoughBeside, env)
	env.Shared = &detect.Shared{} // what is made here is not kept with the segment
	found, err := s.doubted(sample, tokens, env)
	if err != nil {
		return a, err
	}
	a.rows = s.united(found, a.rows)
	return a, nil
}

// united returns rows with others, unless that are too many.
func (s *Scorer) united(rows, others []int) []int {
	all := append(slices.Clone(rows), others...)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > int(mostAside*float64(s.ref.Sample.N)) {
		return rows
	}
	return all
}

// agreed returns the rows that all sources have shown, as many as may be set aside: first those of the source that has shown most, for
// what is there by chance alone is little. It is the same for every source that knows the same of the others: each set of rows has detectors
// of its own, which take long to fit and much memory.
func (s *Scorer) agreed(all []aside) []int {
	slices.SortFunc(all, func(a, b aside) int {
		return cmp.Or(cmp.Compare(len(b.rows), len(a.rows)), slices.Compare(a.rows, b.rows))
	})
	rows := all[0].rows
	for _, other := range all[1:] {
		rows = s.united(rows, other.rows)
	}
	return rows
}

// doubts are the detectors that were fitted without some rows of the reference, by those rows.
type doubts struct {
	mu    sync.Mutex
	known []*doubt
}

type doubt struct {
	rows   []int
	fit    sync.Once
	fitted []*fitted // by their place in Scorer.fitted; nil where nothing changes
	err    error
}

// withoutDoubts returns the detectors by which to judge a sample, nil where nothing is changed, the rows of the reference that
// they do not know, and what the sample's source has shown of the reference with it.
func (s *Scorer) withoutDoubts(sample *detect.Sample, before *recollection, env detect.Env) ([]*fitted, []int, aside, error) {
	if mostAside*float64(s.ref.Sample.N) < repeated || !slices.ContainsFunc(s.fitted, func(f fitted) bool { return f.examines() }) {
		return nil, nil, aside{}, nil
	}
	var own aside
	var others []aside
	if before != nil {
		if before.own != nil {
			own = s.asideOf(before, before.own)
		}
		for _, other := range before.others {
			others = append(others, s.asideOf(before, other))
		}
	}
	a, err := s.examine(sample, others, own, env)
	if err != nil {
		return nil, nil, a, err
	}
	rows := s.agreed(append(others, a))
	if float64(len(rows)) < max(repeated, fewestAside*float64(s.ref.Sample.N)) {
		return nil, nil, a, nil
	}
	models, err := s.doubts.without(s, rows)
	return models, rows, a, err
}

// doubted returns the rows of the reference that look like poison to any detector beside a sample with such tokens, by rising number.
func (s *Scorer) doubted(sample *detect.Sample, tokens *text.Tokens, env detect.Env) ([]int, error) {
	ref := s.read(s.ref.Sample)
	joint, cut := sample.Join(ref), text.Tokenize(ref.Text, env.Workers)
	beside := func(joint *detect.Sample, rows []int, env detect.Env) {
		if sample.Text != nil && ref.Text != nil {
			text.Known(joint, tokens.Join(cut, rows), env)
		}
	}
	beside(joint, upTo(ref.N), env)
	var first []int
	for i := range s.fitted {
		if s.fitted[i].examines() {
			rows, err := s.fitted[i].highest(joint, sample.N, env)
			if err != nil {
				return nil, err
			}
			first = append(first, rows...)
		}
	}
	slices.Sort(first)
	if first = slices.Compact(first); len(first) == 0 {
		return nil, nil
	}

	env.Shared = &detect.Shared{}
	trusted := except(upTo(ref.N), first)
	others, again := ref.Select(trusted), sample.Join(ref.Select(first))
	labels.Like(others, s.labels, env)
	if ref.Text != nil {
		text.Known(others, cut.Select(trusted), env)
	}
	beside(again, first, env)
	guilt, asked := make([]float64, len(first)), 0.0 // smallest ln p, of so many detectors
	for i := range s.fitted {
		of := &s.fitted[i]
		if !of.examines() {
			continue
		}
		model, err := of.detector.Fit(others, env)
		if err != nil {
			return nil, fmt.Errorf("detector %s: %w", of.detector.Name(), err)
		}
		if model == nil {
			continue
		}
		f := &fitted{detector: of.detector, model: model, streams: of.streams}
		scores := f.score(again, nil, env)
		logP := f.logP(again, scores, env.Workers)
		if calibrate.Unclean(logP[:sample.N], scores.rows) > unhidden {
			return nil, nil
		}
		asked++
		for k, lp := range logP[sample.N:] {
			guilt[k] = min(guilt[k], lp)
		}
	}
	var out []int
	for _, k := range convicted(guilt, asked, ref.N) {
		out = append(out, first[k])
	}
	slices.Sort(out)
	return out, nil
}

// convicted returns which of the doubted rows are set aside, by the smallest ln p that so many detectors have for each. The n rows of the
// reference are all tested, for those that are not doubted have larger p-values.
func convicted(guilt []float64, detectors float64, n int) []int {
	order := upTo(len(guilt))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(guilt[a], guilt[b]) })
	enough := 0
	for k, at := range order {
		if guilt[at]+math.Log(detectors) <= math.Log(falsely*float64(k+1)/float64(n)) {
			enough = k + 1
		}
	}
	return order[:min(enough, int(mostAside*float64(n)))]
}

// textual is a detector that looks at texts and classes only.
type textual interface{ ReadsTextOnly() }

// read returns what the detectors that poison can blind read of a sample. A model may keep the sample that it was fitted on: without vectors, if nobody
// reads them, for they would be most of it.
func (s *Scorer) read(sample *detect.Sample) *detect.Sample {
	for i := range s.fitted {
		if _, ok := s.fitted[i].detector.(textual); s.fitted[i].excuses && !ok {
			return sample
		}
	}
	return sample.WithoutVectors()
}

// some returns about n rows of a sample, chosen by their texts, whatever their order, out of what is read of it, and the tokens of these.
func some(s, read *detect.Sample, n int, env detect.Env) (*detect.Sample, *text.Tokens) {
	if s.Text == nil {
		return read, nil
	}
	tokens := text.Of(s, env)
	if s.N <= n {
		return read, tokens
	}
	limit := uint64(float64(n) / float64(s.N) * (1 << 32))
	rows := slices.DeleteFunc(upTo(s.N), func(row int) bool { return tokens.Key(row)>>32 >= limit })
	return read.Select(rows), tokens.Select(rows)
}

// highest returns which rows of the reference, that stand in joint from the given row on, the detector finds most
// suspicious where nothing is trusted.
func (f *fitted) highest(joint *detect.Sample, from int, env detect.Env) ([]int, error) {
	model, err := f.detector.Fit(joint, env)
	if err != nil {
		return nil, fmt.Errorf("detector %s: %w", f.detector.Name(), err)
	}
	if model == nil {
		return nil, nil
	}
	value := model.Score(joint, env).Value[from:]
	rows := slices.DeleteFunc(upTo(len(value)), func(row int) bool { return math.IsNaN(value[row]) })
	slices.SortStableFunc(rows, func(a, b int) int { return cmp.Compare(value[b], value[a]) })
	return rows[:min(len(rows), int(doubtful*float64(len(value))))], nil
}

// except returns rows without others, which rise, in their place.
func except(rows, others []int) []int {
	return slices.DeleteFunc(rows, func(row int) bool { _, found := slices.BinarySearch(others, row); return found })
}

// without returns detectors as the reference teaches them without some rows.
func (d *doubts) without(s *Scorer, rows []int) ([]*fitted, error) {
	d.mu.Lock()
	at := slices.IndexFunc(d.known, func(k *doubt) bool { return slices.Equal(k.rows, rows) })
	entry := &doubt{rows: rows}
	if at >= 0 {
		entry = d.known[at]
		d.known = slices.Delete(d.known, at, at+1)
	} else if len(d.known) == mostDoubts {
		d.known = slices.Delete(d.known, 0, 1)
	}
	d.known = append(d.known, entry)
	d.mu.Unlock()
	entry.fit.Do(func() { entry.fitted, entry.err = s.refit(rows) })
	return entry.fitted, entry.err
}

// refit fits the detectors that poison can blind without some rows of the reference. What their scores mean stays, and so do the
// rows that stand among a stream's to tell what it does to clean ones.
func (s *Scorer) refit(without []int) ([]*fitted, error) {
	ref := s.read(s.ref.Sample)
	out := make([]*fitted, len(s.fitted))
	for i, f := range s.fitted {
		if f.excuses {
			out[i] = &f
			out[i].parts = slices.Clone(f.parts)
		}
	}
	knows := func(rows []int) (*detect.Sample, detect.Env) {
		env := s.env
		env.Shared = &detect.Shared{}
		known := ref.Select(except(rows, without))
		labels.Like(known, s.labels, env)
		return known, env
	}
	each := func(rows []int, wanted func(f *fitted) bool, do func(f *fitted, model detect.Model)) error {
		known, env := knows(rows)
		for i := range out {
			if out[i] == nil || !wanted(out[i]) {
				continue
			}
			model, err := out[i].detector.Fit(known, env)
			if err != nil {
				return fmt.Errorf("detector %s: %w", out[i].detector.Name(), err)
			}
			if model == nil {
				out[i] = nil
				continue
			}
			do(out[i], model)
		}
		return nil
	}
	kept := func(f *fitted) bool { return f.again == nil }
	for _, f := range out {
		if f != nil && !kept(f) {
			f.fitAgain(func() (*detect.Sample, detect.Env) { return knows(upTo(ref.N)) })
		}
	}
	if slices.ContainsFunc(out, func(f *fitted) bool { return f != nil && kept(f) }) {
		if err := each(upTo(ref.N), kept, func(f *fitted, model detect.Model) { f.model = model }); err != nil {
			return nil, err
		}
	}
	for k, c := range cuts(ref.N, quarters, s.env.Seed) {
		if !slices.ContainsFunc(out, func(f *fitted) bool { return f != nil && k < len(f.parts) }) {
			break
		}
		if err := each(c.others, func(f *fitted) bool { return k < len(f.parts) }, func(f *fitted, model detect.Model) {
			f.parts[k].model = model
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}
