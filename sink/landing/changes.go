package landing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/storage"
)

// Changed is a change as it was read.
type Changed struct {
	*manifest.Change
	Digest string // hex SHA-256 of its bytes
}

// Changes yields the changes of a partition in their order and checks that each follows the one before.
func (z *Zone) Changes(ctx context.Context, source record.Source) iter.Seq2[*Changed, error] {
	return func(yield func(*Changed, error) bool) {
		previous := ""
		for sequence := int64(0); ; sequence++ {
			c, err := z.readChange(ctx, source, sequence)
			if errors.Is(err, storage.ErrNotExist) {
				return
			}
			if err == nil && c.Previous != previous {
				err = fmt.Errorf("%w: %s names another change as the one before it", ErrCorrupt, c.Name())
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(c, nil) {
				return
			}
			previous = c.Digest
		}
	}
}

func (z *Zone) readChange(ctx context.Context, source record.Source, sequence int64) (*Changed, error) {
	name := manifest.ChangeName(source, sequence)
	data, err := storage.ReadAll(ctx, z.opt.Store, name, manifest.ChangeLimit)
	if err != nil {
		return nil, err
	}
	c, err := manifest.DecodeChange(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
	}
	if c.Source() != source || c.Sequence != sequence {
		return nil, fmt.Errorf("%w: %s holds another change", ErrCorrupt, name)
	}
	return &Changed{c, manifest.Digest(data)}, nil
}

// View is what counts of a partition's files, as the newest change leaves it. A file that counts in a view is not
// deleted before the grace period of compaction is over, so a view stays good for that long.
type View struct {
	Source    record.Source
	Last      *Changed // nil: nothing was ever changed
	removed   map[string]bool
	added     map[int64][]manifest.File    // by the first offset
	materials map[string]manifest.Material // the newest, by file
	gone      [len(finding.Verdicts)][]span
}

// span is the offsets [first, next), of which a retention removed the rows of one verdict.
type span struct{ first, next int64 }

// View reads the changes of a partition.
func (z *Zone) View(ctx context.Context, source record.Source) (*View, error) {
	v := &View{Source: source, removed: map[string]bool{}, added: map[int64][]manifest.File{}, materials: map[string]manifest.Material{}}
	for c, err := range z.Changes(ctx, source) {
		if err != nil {
			return nil, err
		}
		if err := v.apply(c); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *View) apply(c *Changed) error {
	for _, r := range c.Removed {
		if v.removed[r.Name] {
			return fmt.Errorf("%w: %s removes %s, which had been removed before", ErrCorrupt, c.Name(), r.Name)
		}
		name, err := manifest.ParseFileName(r.Name)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, c.Name(), err)
		}
		v.removed[r.Name] = true
		delete(v.materials, r.Name)
		if name.Change != manifest.Original {
			v.added[name.First] = slices.DeleteFunc(v.added[name.First], func(f manifest.File) bool { return f.Name == r.Name })
		}
		if c.Kind == manifest.Retain {
			v.lose(name)
		}
	}
	for _, f := range c.Added {
		name, err := manifest.ParseFileName(f.Name)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, c.Name(), err)
		}
		v.added[name.First] = append(v.added[name.First], f)
	}
	for _, m := range c.Materials {
		v.materials[m.File] = m
	}
	v.Last = c
	return nil
}

// Files returns the files in which rows of m are to be read: its own that still count, and those that a compaction
// made of it and of manifests behind it. Read for every manifest of the partition, in order, each row is seen once.
// The files are in order of their verdicts, with the keys and the material that they have now.
func (v *View) Files(m *manifest.Manifest) []manifest.File {
	files := slices.Concat(m.Files, v.added[m.First])
	files = slices.DeleteFunc(files, func(f manifest.File) bool { return v.removed[f.Name] })
	for i, f := range files {
		if now, ok := v.materials[f.Name]; ok {
			files[i].Keys, files[i].Material = now.Keys, now.SHA256
		}
	}
	slices.SortStableFunc(files, func(a, b manifest.File) int { return cmp.Compare(a.Verdict, b.Verdict) })
	return files
}

// lose notes that the rows of a file are gone. What adjoins becomes one span, so that years of retention take no room.
func (v *View) lose(name manifest.FileName) {
	spans := v.gone[name.Verdict]
	at, _ := slices.BinarySearchFunc(spans, name.First, func(s span, first int64) int { return cmp.Compare(s.first, first) })
	now := span{name.First, name.Next}
	from, to := at, at
	if from > 0 && spans[from-1].next >= now.first {
		from--
		now.first, now.next = spans[from].first, max(now.next, spans[from].next)
	}
	for ; to < len(spans) && spans[to].first <= now.next; to++ {
		now.next = max(now.next, spans[to].next)
	}
	v.gone[name.Verdict] = slices.Replace(spans, from, to, now)
}

// Gone returns how many rows of a manifest are no more because the time for which they may be kept is over.
func (v *View) Gone(m *manifest.Manifest) (gone manifest.Counts) {
	lost := func(verdict finding.Verdict) int64 {
		spans := v.gone[verdict]
		at, found := slices.BinarySearchFunc(spans, m.First, func(s span, first int64) int { return cmp.Compare(s.first, first) })
		if !found {
			at--
		}
		if at < 0 || m.Next > spans[at].next {
			return 0
		}
		return m.Counts.Of(verdict)
	}
	return manifest.Counts{Accepted: lost(finding.Accepted), Quarantined: lost(finding.Quarantined), Rejected: lost(finding.Rejected)}
}

// holding returns the files in which the rows of m with one verdict are, whether Files yields them for m or for a
// manifest before it.
func (v *View) holding(m *manifest.Manifest, verdict finding.Verdict) ([]manifest.File, error) {
	var out []manifest.File
	for _, f := range v.Files(m) {
		if f.Verdict == verdict {
			out = append(out, f)
		}
	}
	for first, files := range v.added {
		for _, f := range files {
			if f.Verdict != verdict || first >= m.First {
				continue
			}
			name, err := manifest.ParseFileName(f.Name)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			if name.Next >= m.Next {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// looked returns the offset behind which a compaction has not looked yet, or may find more to merge with the newest
// files that one made: the first of those of the newest day.
func (v *View) looked() int64 {
	day, first := "", int64(0)
	for at, files := range v.added {
		for _, f := range files {
			switch name, err := manifest.ParseFileName(f.Name); {
			case err != nil || name.Opened < day:
			case name.Opened > day:
				day, first = name.Opened, at
			default:
				first = min(first, at)
			}
		}
	}
	return first
}

// Removed tells whether a file counted once and does no longer.
func (v *View) Removed(name string) bool { return v.removed[name] }

// Material returns the newest key material of a file whose keys were rotated.
func (v *View) Material(file string) (manifest.Material, bool) {
	m, ok := v.materials[file]
	return m, ok
}

// Next returns the draft of the change that would follow: a kind, its number and what it follows.
func (z *Zone) Next(v *View, kind manifest.Kind, rule string) *manifest.Change {
	c := &manifest.Change{
		Version: manifest.Version, Topic: v.Source.Topic, TopicID: v.Source.ID, Partition: v.Source.Partition,
		Kind: kind, Process: z.opt.Process, Writer: randomHex(16), Rule: rule,
		Removed: []manifest.Removed{}, Added: []manifest.File{}, Materials: []manifest.Material{},
	}
	if v.Last != nil {
		c.Sequence, c.Previous = v.Last.Sequence+1, v.Last.Digest
	}
	return c
}

// Apply commits a change that Next drafted, when everything that it adds is durable, and brings the view up to date.
// The error is ErrLost if another writer has made the change of that number, which leaves the view as it was, and
// ErrUnknown if the context ended before the outcome was known. The files that a lost change was to add belong to
// nobody then, and the caller deletes them.
func (z *Zone) Apply(ctx context.Context, v *View, c *manifest.Change) error {
	c.Time = manifest.Time(z.opt.Now().UnixMilli())
	data, err := c.Encode()
	if err != nil {
		return err
	}
	err = z.claim(ctx, c.Name(), c.Writer, data, func() (string, error) {
		there, err := z.readChange(ctx, c.Source(), c.Sequence)
		if err != nil {
			return "", err
		}
		return there.Writer, nil
	})
	if err != nil {
		return err
	}
	return v.apply(&Changed{c, manifest.Digest(data)})
}

// Segment is a committed manifest with the files that are to be read for it.
type Segment struct {
	*Committed
	Current []manifest.File // see View.Files
	Gone    manifest.Counts // see View.Gone
}

// Segments yields what Manifests does, and with each manifest the files to read for it.
func (z *Zone) Segments(ctx context.Context, topics ...string) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		var view *View
		for m, err := range z.Manifests(ctx, topics...) {
			if err == nil && (view == nil || view.Source != m.Source()) {
				view, err = z.View(ctx, m.Source())
			}
			if err != nil {
				yield(Segment{}, err)
				return
			}
			if !yield(Segment{m, view.Files(m.Manifest), view.Gone(m.Manifest)}, nil) {
				return
			}
		}
	}
}

// segmentsOf yields the segments of the partition of a view that begin at an offset or behind it, and checks that each
// follows on the one before.
func (z *Zone) segmentsOf(ctx context.Context, view *View, from int64) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		var before *Committed
		for m, err := range z.listed(ctx, manifest.Folder(view.Source), from) {
			switch {
			case err != nil:
			case before != nil:
				err = follows(before, m)
			case from == 0 && m.First != 0:
				err = fmt.Errorf("%w: the first manifest of %s is missing", ErrCorrupt, manifest.SourcePath(view.Source))
			}
			if err != nil {
				yield(Segment{}, err)
				return
			}
			if !yield(Segment{m, view.Files(m.Manifest), view.Gone(m.Manifest)}, nil) {
				return
			}
			before = m
		}
	}
}

// Current is a file that counts.
type Current struct {
	manifest.File
	Source      record.Source
	First, Next int64
	Committed   manifest.Time // when the youngest of its rows were committed
}

// Current yields the files that count, in order of partition and first offset. It takes no key.
func (z *Zone) Current(ctx context.Context, topics ...string) iter.Seq2[Current, error] {
	return current(z.Segments(ctx, topics...))
}

// current waits, for each file, for the last segment of which the file holds rows.
func current(segments iter.Seq2[Segment, error]) iter.Seq2[Current, error] {
	return func(yield func(Current, error) bool) {
		var waiting, open []*Current // in order; and those of them that have segments to come
		give := func(until func(*Current) bool) bool {
			for len(waiting) > 0 && until(waiting[0]) {
				if !yield(*waiting[0], nil) {
					return false
				}
				waiting = waiting[1:]
			}
			return true
		}
		for s, err := range segments {
			if err != nil {
				yield(Current{}, err)
				return
			}
			if len(waiting) > 0 && waiting[0].Source != s.Source() {
				if !give(func(*Current) bool { return true }) {
					return
				}
				open = open[:0]
			}
			for _, f := range s.Current {
				name, err := manifest.ParseFileName(f.Name)
				if err != nil {
					yield(Current{}, fmt.Errorf("%w: %w", ErrCorrupt, err))
					return
				}
				c := &Current{File: f, Source: name.Source, First: name.First, Next: name.Next}
				waiting, open = append(waiting, c), append(open, c)
			}
			for _, c := range open {
				c.Committed = max(c.Committed, s.Committed.Committed)
			}
			open = slices.DeleteFunc(open, func(c *Current) bool { return c.Next <= s.Next })
			if !give(func(c *Current) bool { return c.Next <= s.Next }) {
				return
			}
		}
		give(func(*Current) bool { return true })
	}
}

// Sources returns the partitions of which something was ever committed, in the order of their names.
func (z *Zone) Sources(ctx context.Context, topics ...string) ([]record.Source, error) {
	if len(topics) == 0 {
		topics = []string{""}
	}
	var out []record.Source
	for _, topic := range topics {
		for info, err := range z.opt.Store.List(ctx, manifest.TopicFolder(topic)) {
			if err != nil {
				return nil, err
			}
			source, _, err := manifest.ParseName(info.Name)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			if len(out) == 0 || out[len(out)-1] != source {
				out = append(out, source)
			}
		}
	}
	return out, nil
}
