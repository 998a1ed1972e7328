package policy

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/memory"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// following is a Remembering model whose contribution depends on what was seen before: it leaves out what came
// already, and looks closer at what was conspicuous.
type following interface {
	ObserveAfter(s *detect.Sample, before detect.Memory, flagged []bool, env detect.Env) detect.Memory
}

// suspecting is a Remembering model that can tell later what was wrong with a record, by a few keys that it gave when
// it saw it.
type suspecting interface {
	// Suspects returns rows of s that look slightly odd, by rising row.
	Suspects(s *detect.Sample, known detect.Memory, env detect.Env) []detect.Suspicion
	// Weigh returns how much speaks against a record with such keys by what is known.
	Weigh(keys []uint32, known detect.Memory) float32
	// Convict returns what tells whether a record with such keys would be flagged by what is known, and for what, to several goroutines at once; nil
	// where nothing would be.
	Convict(known detect.Memory) func(keys []uint32) (finding.Finding, bool)
}

// recollection is what a segment is judged by beside itself.
type recollection struct {
	scorer    *Scorer
	env       detect.Env
	source    record.Source
	own       *decodedState // nil at the beginning of a source
	others    []*decodedState
	forgotten []string
	mu        sync.Mutex               // of seen and forgotten, while detectors are asked side by side
	seen      map[string]detect.Memory // by detector: own and others' together
	aside     aside                    // what the source has shown of the reference, this segment included
}

// recollect reads the states that a segment of source is judged by. That the source's own is broken is an error; what is
// of another version, and other sources' states that are broken, are left out and named.
func (s *Scorer) recollect(source record.Source, known record.Memory) (*recollection, error) {
	r := &recollection{scorer: s, env: s.shared(nil), source: source, seen: map[string]detect.Memory{}}
	if known.Own != nil {
		own := decoded(known.Own) // once: the next segment goes on from what this one leaves
		switch {
		case errors.Is(own.err, memory.ErrVersion):
			r.forget("state")
		case own.err != nil:
			return nil, own.err
		default:
			r.own = own
		}
	}
	for _, data := range known.Others {
		other := s.decoded.get(data)
		switch {
		case other.err != nil:
			r.forget("state")
		case other.state.Source != source:
			r.others = append(r.others, other)
		}
	}
	// Sums do not depend on the order but for rounding, and decisions must not even for that.
	slices.SortFunc(r.others, func(a, b *decodedState) int {
		x, y := a.state.Source, b.state.Source
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Partition, y.Partition))
	})
	return r, nil
}

func (r *recollection) forget(what string) {
	if !slices.Contains(r.forgotten, what) {
		r.forgotten = append(r.forgotten, what)
	}
}

// of returns what the stream has shown a detector before, nil where that is nothing. It must not be changed.
func (r *recollection) of(name string, model detect.Remembering) detect.Memory {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.seen[name]; ok {
		return m
	}
	own, others := r.section(r.own, name, model), r.sum(name, model)
	m := own
	switch {
	case others != nil && own != nil:
		m = blank(model)
		m.Merge(others)
		m.Merge(own)
	case others != nil:
		m = others
	}
	r.seen[name] = m
	return m
}

// sum returns what other sources have shown a detector, nil where that is nothing.
func (r *recollection) sum(name string, model detect.Remembering) detect.Memory {
	var parts []detect.Memory
	for _, other := range r.others {
		if m := r.section(other, name, model); m != nil {
			parts = append(parts, m)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	add := func() detect.Memory {
		sum := blank(model)
		for _, m := range parts {
			sum.Merge(m)
		}
		return sum
	}
	if r.scorer.ref == nil {
		return add() // models are the segment's own
	}
	return r.scorer.decoded.sum(name, r.others, add)
}

// blank returns a memory of nothing.
func blank(model detect.Remembering) detect.Memory {
	m, err := model.Memory(nil)
	if err != nil {
		panic("detect: a model has no empty memory: " + err.Error()) // against the contract of detect.Remembering
	}
	return m
}

// section reads what one state holds of a detector.
func (r *recollection) section(d *decodedState, name string, model detect.Remembering) detect.Memory {
	if d == nil {
		return nil
	}
	section := d.state.Section(name)
	if section == nil {
		return nil
	}
	if section.Version != detect.Version {
		r.forget(name + "/" + section.Version)
		return nil
	}
	m, err := d.memory(name, model, section.Data, r.scorer.ref != nil)
	if err != nil {
		if r.scorer.ref != nil { // without one, what some models learn of a segment compares with no other
			r.forget(name + "/" + section.Version)
		}
		return nil
	}
	return m
}

// offsets returns the offset of every valid row.
func offsets(segment *record.Segment) []int64 {
	out := make([]int64, 0, segment.Rows())
	for _, b := range segment.Batches {
		for _, o := range b.Origins {
			out = append(out, o.Offset)
		}
	}
	return out
}

// remember adds to a decision what the source has taught with it, and what that says of earlier records.
func (s *Scorer) remember(d *record.Decision, before *recollection, sample *detect.Sample, details []Detail, offsets []int64) {
	next := &memory.State{Source: before.source}
	var carried []memory.Section // of detectors that had nothing to say this time
	if before.own != nil {
		next.Suspects = slices.Clone(before.own.state.Suspects)
		next.Recalled = before.tellAgain()
		for _, section := range before.own.state.Sections {
			if section.Version == detect.Version {
				carried = append(carried, section)
			}
		}
	}
	flagged := make([]bool, sample.N)
	for i, v := range d.Verdicts {
		flagged[i] = v != finding.Accepted
	}
	updated := map[string]bool{}
	for i := range details {
		detail := &details[i]
		if detail.model == nil || sample.N == 0 {
			continue
		}
		seen := before.of(detail.Detector, detail.model)
		var added detect.Memory
		if m, ok := detail.model.(following); ok {
			if seen == nil {
				seen = blank(detail.model)
			}
			added = m.ObserveAfter(sample, seen, flagged, before.env)
		} else {
			added = detail.model.Observe(sample, flagged, before.env)
		}
		own := blank(detail.model)
		if m := before.section(before.own, detail.Detector, detail.model); m != nil {
			own.Merge(m)
		}
		own.Merge(added)
		data, err := own.AppendBinary(nil)
		if err != nil {
			before.forget(detail.Detector + "/" + detect.Version)
			continue
		}
		next.Sections = append(next.Sections, memory.Section{Name: detail.Detector, Version: detect.Version, Data: data})
		updated[detail.Detector] = true
		if m, ok := detail.model.(suspecting); ok {
			after := blank(detail.model)
			if seen != nil {
				after.Merge(seen)
			}
			after.Merge(added)
			s.suspect(d, next, before, detail.Detector, m, after, sample, offsets)
		}
	}
	if before.aside.seen > 0 {
		next.Sections = append(next.Sections, before.aside.section(s.ref.Digest))
		updated[asideName] = true
	}
	for _, section := range carried {
		if !updated[section.Name] {
			next.Sections = append(next.Sections, section)
		}
	}
	slices.Sort(before.forgotten)
	d.Forgotten = before.forgotten
	next.Suspects = slices.DeleteFunc(next.Suspects, func(c memory.Suspect) bool {
		return !slices.ContainsFunc(next.Sections, func(section memory.Section) bool { return section.Name == c.Detector })
	})
	next.Prune()
	next.Sort()
	if len(next.Sections) > 0 || before.own != nil {
		d.State = next.Encode()
	}
}

// tellAgain returns which records of other sources were recalled, less those that their sources no longer suspect.
func (r *recollection) tellAgain() []memory.Told {
	var out []memory.Told
	for _, t := range r.own.state.Recalled {
		at := slices.IndexFunc(r.others, func(o *decodedState) bool { return o.state.Source == t.Source })
		kept := t.Offsets
		if at >= 0 {
			kept = slices.DeleteFunc(slices.Clone(kept), func(offset int64) bool {
				_, ok := slices.BinarySearchFunc(r.others[at].state.Suspects, offset, func(c memory.Suspect, offset int64) int {
					return cmp.Compare(c.Offset, offset)
				})
				return !ok
			})
		}
		if len(kept) > 0 {
			out = append(out, memory.Told{Source: t.Source, Offsets: kept})
		}
	}
	return out
}

// suspect keeps in next which rows a detector suspects, and recalls those of earlier segments, of whatever source, that
// would be flagged by what is known after this one.
func (s *Scorer) suspect(d *record.Decision, next *memory.State, before *recollection, name string, model suspecting, after detect.Memory, sample *detect.Sample, offsets []int64) {
	convicted := model.Convict(after)
	var recalls []record.Recall
	recall := func(source record.Source, c memory.Suspect) bool {
		if c.Detector != name || convicted == nil {
			return false
		}
		f, guilty := convicted(c.Keys)
		if guilty {
			f.Detector = name
			f.Evidence = clip(f.Evidence)
			recalls = append(recalls, record.Recall{Source: source, Offset: c.Offset, Code: f.Code, Finding: f})
		}
		return guilty
	}
	// The segment's own rows come first: what it shows all together speaks against its first row too.
	suspicions := model.Suspects(sample, after, before.env)
	next.Suspects = slices.Grow(next.Suspects, len(suspicions)) // several times as many as are kept in the end
	for _, suspicion := range suspicions {
		if d.Verdicts[suspicion.Row] == finding.Accepted {
			next.Suspects = append(next.Suspects, memory.Suspect{
				Offset: offsets[suspicion.Row], Detector: name, Weight: suspicion.Weight,
				Keys: suspicion.Keys[:min(len(suspicion.Keys), memory.MostKeys)],
			})
		}
	}
	// Hardly any is guilty, so who is is found first, side by side.
	guilty := make([]bool, len(next.Suspects))
	if convicted != nil {
		detect.Rows(len(guilty), manySuspects, before.env.Workers, func(from, to int) {
			for i := from; i < to; i++ {
				if c := &next.Suspects[i]; c.Detector == name {
					_, guilty[i] = convicted(c.Keys)
				}
			}
		})
	}
	kept := next.Suspects[:0]
	for i, c := range next.Suspects {
		if !guilty[i] || !recall(next.Source, c) {
			kept = append(kept, c)
		}
	}
	clear(next.Suspects[len(kept):])
	next.Suspects = kept
	if len(next.Suspects) > memory.MostSuspects {
		for i := range next.Suspects {
			if c := &next.Suspects[i]; c.Detector == name {
				c.Weight = model.Weigh(c.Keys, after)
			}
		}
	}
	for _, other := range before.others {
		if convicted == nil {
			break
		}
		source := other.state.Source
		for _, c := range other.state.Suspects {
			if next.Told(source, c.Offset) || !recall(source, c) {
				continue
			}
			at := slices.IndexFunc(next.Recalled, func(t memory.Told) bool { return t.Source == source })
			if at < 0 {
				at = len(next.Recalled)
				next.Recalled = append(next.Recalled, memory.Told{Source: source})
			}
			next.Recalled[at].Offsets = append(next.Recalled[at].Offsets, c.Offset)
			next.Sort()
		}
	}
	d.Recalls = append(d.Recalls, recalls...)
}

// manySuspects is how many are worth a goroutine.
const manySuspects = 512

// mostDecoded is how many states are kept as they were decoded: those of some dozen partitions and files. One takes some
// megabytes.
const mostDecoded = 96

// decodedStates keeps states of other sources that were decoded already: one is used for many segments, and decoding it takes longer
// than judging a short one. They are told apart by where their bytes lie, which are kept, so that no others can lie there.
type decodedStates struct {
	mu    sync.Mutex
	known []*decodedState // the last used one last
	sums  []*addedStates  // likewise
}

// mostSums is how many sums of other sources' states are kept: a partition needs one for each detector that remembers,
// and while no state is read anew the partitions of one instance need them again and again.
const mostSums = 24

type addedStates struct {
	name   string
	states []*decodedState
	add    func() detect.Memory
}

func (c *decodedStates) sum(name string, states []*decodedState, add func() detect.Memory) detect.Memory {
	c.mu.Lock()
	at := slices.IndexFunc(c.sums, func(s *addedStates) bool { return s.name == name && slices.Equal(s.states, states) })
	s := &addedStates{name: name, states: states, add: sync.OnceValue(add)}
	if at >= 0 {
		s = c.sums[at]
		c.sums = slices.Delete(c.sums, at, at+1)
	} else if len(c.sums) == mostSums {
		c.sums = slices.Delete(c.sums, 0, 1)
	}
	c.sums = append(c.sums, s)
	c.mu.Unlock()
	return s.add()
}

type decodedState struct {
	data  []byte
	read  sync.Once
	state *memory.State
	err   error

	source *record.Source // of the state, once it was read; decodedStates.mu guards it

	mu       sync.Mutex
	memories map[string]detect.Memory
}

// decoded reads a state that is not kept.
func decoded(data []byte) *decodedState {
	d := &decodedState{data: data, memories: map[string]detect.Memory{}}
	if d.err = memory.ErrMalformed; len(data) > 0 {
		d.state, d.err = memory.Decode(data)
	}
	return d
}

func (c *decodedStates) get(data []byte) *decodedState {
	if len(data) == 0 {
		return decoded(nil)
	}
	c.mu.Lock()
	at := slices.IndexFunc(c.known, func(d *decodedState) bool { return &d.data[0] == &data[0] && len(d.data) == len(data) })
	d := &decodedState{data: data, memories: map[string]detect.Memory{}}
	if at >= 0 {
		d = c.known[at]
		c.known = slices.Delete(c.known, at, at+1)
	} else if len(c.known) == mostDecoded {
		c.known = slices.Delete(c.known, 0, 1)
	}
	c.known = append(c.known, d)
	c.mu.Unlock()
	d.read.Do(func() {
		d.state, d.err = memory.Decode(data)
		c.supersede(d)
	})
	return d
}

// supersede drops what was known of a state's source before.
func (c *decodedStates) supersede(d *decodedState) {
	if d.err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d.source = &d.state.Source
	c.known = slices.DeleteFunc(c.known, func(k *decodedState) bool { return k != d && k.source != nil && *k.source == *d.source })
}

// memory returns a section as the model reads it; keep says that all models of that name read it alike.
func (d *decodedState) memory(name string, model detect.Remembering, data []byte, keep bool) (detect.Memory, error) {
	if !keep {
		return model.Memory(data)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, ok := d.memories[name]; ok {
		return m, nil
	}
	m, err := model.Memory(data)
	if err == nil {
		d.memories[name] = m
	}
	return m, err
}
