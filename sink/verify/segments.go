package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// segmentSeen is one place of a partition as it was read: a manifest, its audit entry, and the files that begin there.
type segmentSeen struct {
	*step
	findings
	name     string // of the manifest
	there    bool
	sha      string
	manifest *manifest // nil: it says nothing
	entry    entrySeen

	files, rows, superseded, unreadable, recalls int64
}

// segments walks the manifests of every partition with their audit entries, and looks at every file.
func (v *verifier) segments() error {
	if err := v.openState(); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	w := &walk{v: v}
	for seen, err := range ordered(v.ctx, v.options.Workers, v.due(), v.readSegment) {
		if err == nil {
			err = w.take(seen)
		}
		if err != nil {
			return err
		}
	}
	return w.end()
}

// walk goes from one manifest of a partition to the next.
type walk struct {
	v     *verifier
	chain string

	link        link
	before      *manifest // nil: there is none, or it says nothing
	beforeSHA   string    // "" : there is none
	lastMissing *recheck  // the last manifest has no entry, which is explained if no other follows
	progress    saved     // how far the partition is good
	dirty       bool      // it is not, from here on
	last        string    // where the last manifest begins; "" : there is none
	process     string    // that was wanted last
}

func (w *walk) end() error {
	if err := w.v.lastOf(w); err != nil {
		return err
	}
	if w.lastMissing != nil {
		w.v.recheckLater(*w.lastMissing)
		w.dirty = true
	}
	w.v.ends(&w.link)
	return w.v.save(&w.progress, true)
}

// take links a segment to the one before.
func (w *walk) take(seen *segmentSeen) error {
	v := w.v
	if seen.chain != w.chain {
		if err := w.end(); err != nil {
			return err
		}
		*w = walk{v: v, chain: seen.chain, process: w.process}
	}
	if seen.mode == resumed {
		w.resume(seen.saved)
		return nil
	}
	v.add(&seen.findings)
	if seen.mode == claimOnly && seen.entry.name == w.link.tip.name {
		w.link.named = true
	}
	if seen.mode == claimOnly || seen.mode == addedOnly {
		w.count(seen)
		return nil
	}
	listed := len(v.report.Problems) + int(v.report.More)
	if w.lastMissing != nil && seen.there {
		v.problem(w.lastMissing.problem)
		w.lastMissing, w.dirty = nil, true
	}
	if seen.there {
		if seen.mode == full {
			w.follows(seen)
			v.report.Manifests++
		} else if seen.manifest == nil || seen.entry.entry == nil {
			v.found("manifest_missing", seen.name, "the checkpoint to begin from names it, and it cannot be read")
		}
		if seen.mode == anchor {
			w.link.unknown = true
		}
		w.before, w.beforeSHA, w.last = seen.manifest, seen.sha, seen.at
	}
	if seen.there || seen.entry.there || seen.has(isClaimed) {
		v.follow(&w.link, seen.step, seen.entry)
		if seen.mode == anchor {
			v.report.Entries--
		}
	}
	if seen.there && !seen.entry.there && !seen.has(isClaimed) {
		committed := ""
		if seen.manifest != nil {
			committed = seen.manifest.Committed
		}
		r := v.entryLater(inSegments, seen.step, seen.name, committed)
		w.lastMissing = &r
	}
	if m := seen.manifest; m != nil && m.Process != w.process {
		w.process = m.Process
		if err := v.want(m.Process, seen.name); err != nil {
			return err
		}
	}
	w.count(seen)
	w.dirty = w.dirty || !seen.good() || w.lastMissing != nil || len(v.report.Problems)+int(v.report.More) != listed
	return w.advance(seen)
}

func (w *walk) count(seen *segmentSeen) {
	r := w.v.report
	r.Files += seen.files
	r.Rows += seen.rows
	r.Superseded += seen.superseded
	r.Unreadable += seen.unreadable
	r.Recalls += seen.recalls
}

// follows checks the manifest's place in the chain.
func (w *walk) follows(seen *segmentSeen) {
	v, m := w.v, seen.manifest
	if m == nil {
		return
	}
	switch {
	case w.before == nil && w.beforeSHA != "":
		// The manifest before this one is unreadable, which was said; only its bytes can be compared.
		if m.Previous != w.beforeSHA {
			v.found("manifest_chain", seen.name, "it does not follow from the manifest before it")
		}
	case w.before == nil:
		if m.First != 0 || m.Previous != "" {
			v.found("manifest_chain", seen.name, "the first manifest of a partition begins at offset 0; this begins at %d: manifests are missing before it", m.First)
		}
	case m.First != w.before.Next:
		v.found("manifest_chain", seen.name, "it begins at offset %d, and the manifest before it ends at %d: a manifest is missing or was added", m.First, w.before.Next)
	case m.Previous != w.beforeSHA:
		v.found("manifest_chain", seen.name, "it was written after a manifest with other bytes than the one that stands before it")
	case w.before.State != nil && m.State != nil && !slices.Contains(m.Judged, w.before.State.Content):
		v.remark(Problem{"state_restarted", seen.name, "its segment was judged without the state that the one before it left, which could not be read: what had been learned of the partition was forgotten"})
	}
}

// due yields the steps of all partitions, each in the mode in which it is to be looked at.
func (v *verifier) due() iter.Seq2[*step, error] {
	return func(yield func(*step, error) bool) {
		var chain, anchorAt string
		var from *saved
		for s, err := range v.steps(inSegments) {
			if err != nil {
				yield(nil, err)
				return
			}
			if s.chain != chain {
				chain, anchorAt, from = s.chain, "", nil
			}
			switch {
			case s.at == "":
				if anchors := s.bodies(isAnchor); len(anchors) > 0 {
					anchorAt = slices.Max(anchors)
				}
				if from = v.stillGood(s); from == nil {
					continue
				}
				s = &step{chain: chain, mode: resumed, saved: from}
			case from != nil && s.at <= from.At:
				v.passStep(s)
				if !s.has(isClaimed) {
					continue
				}
				s.mode = claimOnly
			case s.at < anchorAt:
				added := s.items[:0:0]
				for _, i := range s.items {
					switch i.kind {
					case isAdded:
						if !decode[struct {
							Old bool `json:"o"`
						}](i.body).Old {
							added = append(added, i)
						}
					case isRemoved, isMaterial:
						added = append(added, i)
					}
				}
				if !slices.ContainsFunc(added, func(i item) bool { return i.kind == isAdded }) {
					v.passStep(s)
					continue
				}
				s = &step{chain: s.chain, at: s.at, items: added, mode: addedOnly}
			case s.at == anchorAt:
				s.mode = anchor
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// readSegment looks at everything that begins at one offset.
func (v *verifier) readSegment(ctx context.Context, s *step) (*segmentSeen, error) {
	seen := &segmentSeen{step: s, name: commits + s.chain + "/" + s.at + ".json"}
	switch s.mode {
	case resumed:
		return seen, nil
	case claimOnly:
		v.progress(-v.sizeOf(s, isEntry)) // it was passed over, and is read after all
		var err error
		seen.entry, err = v.readEntry(ctx, inSegments, s, &seen.findings)
		return seen, err
	case addedOnly:
		return seen, v.readFiles(ctx, seen, nil)
	}
	told := slices.IndexFunc(s.items, func(i item) bool { return i.kind != isFile && i.kind != isSidecar && i.kind != isRecalls }) >= 0
	if told { // else these are files of which nothing speaks
		text, found, err := v.small(ctx, seen.name)
		if err != nil {
			return nil, err
		}
		seen.there = found
		if seen.entry, err = v.readEntry(ctx, inSegments, s, &seen.findings); err != nil {
			return nil, err
		}
		if found {
			seen.sha = hexSHA(text)
			v.readManifest(seen, text)
		} else {
			seen.found("manifest_missing", seen.name, "%s", whoSpeaks(s))
		}
	}
	if s.mode == anchor {
		seen.unread += v.sizeOf(s, isFile) + v.sizeOf(s, isSidecar) + v.sizeOf(s, isRecalls)
		return seen, nil
	}
	if err := v.readRecalls(ctx, seen); err != nil {
		return nil, err
	}
	var files []file
	if seen.manifest != nil {
		files = seen.manifest.Files
	}
	return seen, v.readFiles(ctx, seen, files)
}

func (v *verifier) sizeOf(s *step, kind byte) (size int64) {
	for _, body := range s.bodies(kind) {
		size += decode[listed](body).Size
	}
	return size
}

func whoSpeaks(s *step) string {
	switch {
	case s.has(isEntry):
		return "the audit log speaks of a manifest that is not there"
	case s.has(isClaimed):
		return "a checkpoint speaks of its audit entry, and neither is there"
	case s.has(isObject):
		return "it was listed and is gone"
	}
	return "a change speaks of files of a manifest that is not there"
}

// readManifest checks what a manifest says of itself, and its audit entry.
func (v *verifier) readManifest(seen *segmentSeen, text []byte) {
	m, why := parseManifest(text)
	if why != "" {
		seen.found("manifest_unreadable", seen.name, "%s", why)
	} else {
		seen.manifest = m
		seen.checkManifest(m)
	}
	e := seen.entry.entry
	if e == nil {
		return
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	details := map[string]string{}
	if m != nil {
		details = map[string]string{
			"first": number(m.First), "next": number(m.Next),
			"accepted": number(m.Counts.Accepted), "quarantined": number(m.Counts.Quarantined), "rejected": number(m.Counts.Rejected),
		}
		if m.Recalls != nil {
			details["recalls"] = number(m.Recalls.Count)
		}
	}
	switch {
	case e.ObjectSHA256 != seen.sha:
		seen.found("manifest_changed", seen.name, "its SHA-256 is not the one in the audit log")
		if e.Object != seen.name || e.Event != "commit" {
			seen.found("audit_mismatch", seen.entry.name, "it is not about the commit of %s", seen.name)
		}
	case m == nil:
	case !sameEntry(e, &entry{
		Time: m.Committed, Event: "commit", Actor: m.Process, Subject: seen.chain, Object: seen.name, Action: "put", Result: "ok",
		Policy: "allow contract " + m.Contract, Details: details,
	}):
		seen.found("audit_mismatch", seen.entry.name, "it does not say what follows from %s", seen.name)
	}
}

func (s *segmentSeen) checkManifest(m *manifest) {
	if want := escape(m.Topic, false) + "/" + escape(m.TopicID, true) + "/" + strconv.Itoa(int(m.Partition)); want != s.chain {
		s.found("manifest_name", s.name, "it says that it belongs under %s", want)
	}
	if want := fmt.Sprintf("%020d", m.First); want != s.at {
		s.found("manifest_name", s.name, "it says that it begins at offset %d", m.First)
	}
	switch {
	case m.Next <= m.First:
		s.found("manifest_counts", s.name, "next %d is not after first %d", m.Next, m.First)
	case m.Counts.Accepted+m.Counts.Quarantined+m.Counts.Rejected+m.Gaps != m.Next-m.First:
		s.found("manifest_counts", s.name, "records and gaps do not add up to its %d offsets", m.Next-m.First)
	}
	rows := map[string]int64{}
	for _, f := range m.Files {
		rows[f.Verdict] += f.Rows
		if p, ok := locate(f.Name); !ok || p.kind != isFile || p.chain != s.chain || p.at != s.at || changeOf(f.Name) != "" {
			s.found("manifest_counts", s.name, "it lists %s, which cannot be a file of its segment", strconv.Quote(f.Name))
		}
	}
	if st := m.State; st != nil {
		if p, ok := locate(st.Name); !ok || p.kind != isState || p.chain != s.chain || p.at != s.at {
			s.found("manifest_counts", s.name, "it lists %s, which cannot be the state of its segment", strconv.Quote(st.Name))
		}
	}
	if r := m.Recalls; r != nil {
		if p, ok := locate(r.Name); !ok || p.kind != isRecalls || p.chain != s.chain || p.at != s.at || r.Count <= 0 {
			s.found("manifest_counts", s.name, "it lists %d recalls in %s, which cannot be those of its segment", r.Count, strconv.Quote(r.Name))
		}
	}
	if rows["accepted"] != m.Counts.Accepted || rows["quarantined"] != m.Counts.Quarantined || rows["rejected"] != m.Counts.Rejected {
		s.found("manifest_counts", s.name, "the rows of its files do not add up to its counts")
	}
}

// expected is a file that a manifest or a change lists.
type expected struct {
	file
	by      string // the manifest or change
	removed *gone
	wrapped []rewrapped // key material, in the order of the changes that wrote it
}

// readFiles looks at the files that begin at one offset: those of the manifest, and those that changes added.
func (v *verifier) readFiles(ctx context.Context, seen *segmentSeen, files []file) error {
	want := map[string]*expected{}
	expect := func(f file, by string) {
		switch folder, _, _ := strings.Cut(f.Name, "/"); {
		case want[f.Name] != nil:
			seen.found("manifest_counts", by, "it lists %s, which is listed already", strconv.Quote(f.Name))
			return
		case folder != f.Verdict:
			seen.found("manifest_counts", by, "it lists %s as %s", strconv.Quote(f.Name), strconv.Quote(f.Verdict))
		}
		want[f.Name] = &expected{file: f, by: by}
	}
	for _, f := range files {
		if p, ok := locate(f.Name); ok && p.chain == seen.chain && p.at == seen.at {
			expect(f, seen.name)
		}
	}
	for _, body := range seen.bodies(isAdded) {
		if a := decode[added](body); seen.mode == full || !a.Old {
			expect(a.File, a.Change)
		}
	}
	for _, body := range seen.bodies(isRemoved) {
		g := decode[gone](body)
		switch e := want[g.Name]; {
		case e == nil && seen.mode != full:
		case e == nil && (seen.manifest != nil || changeOf(g.Name) != ""):
			seen.found("change_mismatch", g.Change, "it removes %s, which nothing lists", g.Name)
		case e == nil: // there is no manifest to say so, which was said
		case e.removed != nil:
			seen.found("change_mismatch", g.Change, "it removes %s, which %s had removed", g.Name, e.removed.Change)
		case e.Rows != g.Rows:
			seen.found("change_mismatch", g.Change, "it removes %s with %d rows, and it has %d", g.Name, g.Rows, e.Rows)
		default:
			e.removed = &g
		}
	}
	for _, body := range seen.bodies(isMaterial) {
		m := decode[rewrapped](body)
		e := want[m.File]
		switch {
		case e == nil && (seen.mode != full || seen.manifest == nil):
		case e == nil || e.Material == "":
			seen.found("change_mismatch", m.Change, "it speaks of key material of %s, which has none", m.File)
		default:
			e.wrapped = append(e.wrapped, m)
		}
	}
	for _, kind := range []byte{isFile, isSidecar} {
		for _, body := range seen.bodies(kind) {
			o := decode[listed](body)
			e := want[fileOf(o.Name)]
			if e == nil && seen.mode == full || e != nil && kind == isSidecar && e.Material == "" {
				seen.later = append(seen.later, v.stray(o))
				seen.unread += o.Size
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := v.readFile(ctx, seen, want[name]); err != nil {
			return err
		}
	}
	return nil
}

// fileOf undoes sidecarOf, and leaves other names as they are.
func fileOf(name string) string {
	cut := strings.LastIndexByte(name, '/') + 1
	base, ok := strings.CutPrefix(name[cut:], sidecarPrefix)
	if !ok {
		return name
	}
	return name[:cut] + strings.TrimSuffix(base, sidecarSuffix)
}

func (v *verifier) readFile(ctx context.Context, seen *segmentSeen, e *expected) error {
	size, sha, found, err := v.digest(ctx, e.Name)
	if err != nil {
		return err
	}
	intact := false
	switch {
	case !found && e.removed == nil:
		seen.later = append(seen.later, v.missing(seen.chain, "file_missing", e.Name, e.Name, e.by))
	case !found:
	case size != e.Bytes:
		seen.found("file_changed", e.Name, "it has %d bytes, and %d were committed", size, e.Bytes)
	case sha != e.SHA256:
		seen.found("file_changed", e.Name, "its SHA-256 is not the one that was committed")
	default:
		intact = true
	}
	if e.Material != "" {
		if err := v.readSidecar(ctx, seen, e); err != nil {
			return err
		}
	}
	if e.removed != nil {
		seen.superseded++
		return nil
	}
	if found {
		seen.files++
		seen.rows += e.Rows
	}
	if intact && v.options.Read != nil {
		return v.decrypt(ctx, seen, e)
	}
	return nil
}

// readSidecar checks the key material beside a file against the newest change that wrote it.
func (v *verifier) readSidecar(ctx context.Context, seen *segmentSeen, e *expected) error {
	name := sidecarOf(e.Name)
	known := []string{e.Material}
	for _, m := range e.wrapped {
		if m.Before != known[len(known)-1] {
			seen.found("change_mismatch", m.Change, "it replaces other key material of %s than there was", m.File)
		}
		known = append(known, m.SHA256)
	}
	_, sha, found, err := v.digest(ctx, name)
	switch at := slices.Index(known, sha); {
	case err != nil:
		return err
	case !found && e.removed != nil, found && at == len(known)-1:
	case !found:
		seen.later = append(seen.later, v.missing(seen.chain, "sidecar_missing", name, e.Name, e.by))
	case at >= 0:
		seen.remark("rotation_unfinished", name, "it is the key material from before the last rotation, which %s announces: a rotation is under way, or was stopped and is to be run again", e.wrapped[len(e.wrapped)-1].Change)
	default:
		seen.later = append(seen.later, recheck{
			Problem{"sidecar_changed", name, "its SHA-256 is not one that was committed or that a rotation announced"},
			func() (bool, *Problem, error) {
				_, now, _, err := v.digest(v.ctx, name)
				if err != nil {
					return false, nil, err
				}
				announced := false
				err = v.changesNow(seen.chain, func(c *change) {
					announced = announced || slices.ContainsFunc(c.Materials, func(m material) bool { return m.File == e.Name && m.SHA256 == now })
				})
				return announced, nil, err
			},
		})
	}
	return nil
}

func (v *verifier) decrypt(ctx context.Context, seen *segmentSeen, e *expected) error {
	rows, content, err := v.options.Read(ctx, e.Name)
	switch {
	case errors.Is(err, ErrKey):
		seen.unreadable++
		seen.remark("key_unavailable", e.Name, "its bytes are as they were committed; it cannot be read: %v", err)
	case errors.Is(err, ErrAway) || err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		seen.found("file_unreadable", e.Name, "%v", err)
	case rows != e.Rows:
		seen.found("file_rows", e.Name, "it holds %d rows, and %d were committed", rows, e.Rows)
	case content != e.Content:
		seen.found("file_content", e.Name, "its rows are not those that were committed")
	}
	return nil
}

// missing looks again for a file, or its key material, that a change may have removed meanwhile.
func (v *verifier) missing(chain, code, object, file, by string) recheck {
	return recheck{
		Problem{code, object, "listed by " + by},
		func() (bool, *Problem, error) {
			gone := false
			err := v.changesNow(chain, func(c *change) {
				gone = gone || slices.ContainsFunc(c.Removed, func(r removed) bool { return r.Name == file })
			})
			return gone, nil, err
		},
	}
}

// changesNow reads the changes of a partition as they are by now.
func (v *verifier) changesNow(chain string, show func(*change)) error {
	for sequence := 0; ; sequence++ {
		text, found, err := v.small(v.ctx, fmt.Sprintf("%s%s/%020d.json", changes, chain, sequence))
		if err != nil || !found {
			return err
		}
		if c, _ := parseChange(text); c != nil {
			show(c)
		}
	}
}

// stray looks again at a file that nothing lists: it may be gone by now, or listed, or its writer be at work.
func (v *verifier) stray(o listed) recheck {
	code, thing := "file_unlisted", "no manifest lists it"
	if fileOf(o.Name) != o.Name {
		code, thing = "sidecar_unlisted", "no manifest lists a file whose key material it holds"
	}
	return recheck{
		Problem{code, o.Name, thing + ": a writer that was stopped left it, or it was added; it must not be read"},
		func() (bool, *Problem, error) {
			r, err := v.store.Open(v.ctx, o.Name)
			if err != nil {
				return true, nil, v.ctx.Err() // its writer lost, and has removed it
			}
			if err := r.Close(); err != nil {
				return false, nil, err
			}
			file := fileOf(o.Name)
			p, _ := locate(file)
			decider := commits + p.chain + "/" + p.at + ".json"
			if c := changeOf(file); c != "" {
				decider = changes + p.chain + "/" + c + ".json"
			}
			text, found, err := v.small(v.ctx, decider)
			switch {
			case err != nil:
				return false, nil, err
			case found:
				return lists(text, file, code == "sidecar_unlisted"), nil, nil
			case o.Changed != 0 && v.young(time.Unix(o.Changed, 0)):
				return true, &Problem{"commit_under_way", o.Name, thing + " yet: a commit is under way, or its writer was stopped"}, nil
			}
			return false, nil, nil
		},
	}
}

// lists tells whether a manifest or a change lists a file, or one with external key material.
func lists(decider []byte, name string, withMaterial bool) bool {
	var files []file
	if m, _ := parseManifest(decider); m != nil {
		files = m.Files
	} else if c, _ := parseChange(decider); c != nil {
		files = c.Added
	}
	return slices.ContainsFunc(files, func(f file) bool { return f.Name == name && (f.Material != "" || !withMaterial) })
}
