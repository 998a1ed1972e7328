package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// changeSeen is a change as it was read.
type changeSeen struct {
	*step
	findings
	name, sha string
	there     bool
	change    *change
	entry     entrySeen
}

// What changes say of files, for the phase that looks at these.
type (
	added struct {
		Change string `json:"c"` // its name
		Old    bool   `json:"o,omitempty"`
		File   file   `json:"f"`
	}
	gone struct {
		Change string `json:"c"`
		Name   string `json:"n"`
		Rows   int64  `json:"r"`
	}
	rewrapped struct {
		At     string `json:"a"` // the change's sequence, by which they sort
		Change string `json:"c"`
		File   string `json:"n"`
		Before string `json:"b"`
		SHA256 string `json:"s"`
	}
)

// changes walks the changes of every partition and their audit entries, and hands on what they say of files.
func (v *verifier) changes() error {
	var l link
	var chain, anchorAt, previous string
	var next int64
	var lastMissing *recheck // the last change has no entry, which is explained if no other follows
	end := func() {
		if lastMissing != nil {
			v.recheckLater(*lastMissing)
			lastMissing = nil
		}
		v.ends(&l)
	}
	for seen, err := range ordered(v.ctx, v.options.Workers, v.steps(inChanges), v.readChange) {
		if err != nil {
			return err
		}
		if seen.chain != chain {
			end()
			chain, anchorAt, previous, next = seen.chain, "", "", 0
		}
		if seen.at == "" {
			anchorAt = slices.Max(seen.bodies(isAnchor))
			continue
		}
		if lastMissing != nil {
			v.problem(lastMissing.problem)
			lastMissing = nil
		}
		v.add(&seen.findings)
		sequence, _ := strconv.ParseInt(seen.at, 10, 64)
		follows := sequence == next
		if !follows {
			v.found("change_missing", fmt.Sprintf("%s%s/%020d.json", changes, chain, next), "the change before %s is not there", seen.name)
			l.unknown = true
		}
		next = sequence + 1
		if c := seen.change; c != nil {
			v.report.Changes++
			if follows && previous != "unknown" && c.Previous != previous {
				v.found("change_chain", seen.name, "it was written after another change than the one that stands before it")
			}
			if err := v.handOn(seen, seen.at <= anchorAt); err != nil {
				return err
			}
		}
		if previous = seen.sha; previous == "" {
			previous = "unknown"
		}
		v.follow(&l, seen.step, seen.entry)
		if seen.there && !seen.entry.there && !seen.has(isClaimed) {
			r := v.entryLater(inChanges, seen.step, seen.name, seen.time())
			lastMissing = &r
		}
	}
	end()
	return nil
}

func (s *changeSeen) time() string {
	if s.change == nil {
		return ""
	}
	return s.change.Time
}

// entryLater looks again for the audit entry of a manifest or a change, which is written after it.
func (v *verifier) entryLater(phase int, s *step, object, committed string) recheck {
	name := entryName(phase, s.chain, s.at)
	return recheck{
		Problem{"audit_missing", name, fmt.Sprintf("%s has no audit entry", object)},
		func() (bool, *Problem, error) {
			_, found, err := v.small(v.ctx, name)
			if err != nil || found {
				return found, nil, err
			}
			if v.youngText(committed) {
				return true, &Problem{"commit_under_way", name, "the audit entry of " + object + " is not written yet: a commit is under way, or its writer was stopped and whoever comes next writes the entry"}, nil
			}
			return false, nil, nil
		},
	}
}

func (v *verifier) readChange(ctx context.Context, s *step) (*changeSeen, error) {
	seen := &changeSeen{step: s, name: changes + s.chain + "/" + s.at + ".json"}
	if s.at == "" {
		return seen, nil
	}
	text, found, err := v.small(ctx, seen.name)
	if err != nil {
		return nil, err
	}
	seen.there = found
	if seen.entry, err = v.readEntry(ctx, inChanges, s, &seen.findings); err != nil {
		return nil, err
	}
	if !found {
		seen.found("change_missing", seen.name, "the audit log speaks of a change that is not there")
		return seen, nil
	}
	seen.sha = hexSHA(text)
	c, why := parseChange(text)
	if why != "" {
		seen.found("change_unreadable", seen.name, "%s", why)
	} else {
		seen.change = c
		if want := escape(c.Topic, false) + "/" + escape(c.TopicID, true) + "/" + strconv.Itoa(int(c.Partition)); want != s.chain || fmt.Sprintf("%020d", c.Sequence) != s.at {
			seen.found("change_mismatch", seen.name, "it says that it is number %d of %s", c.Sequence, want)
		}
		seen.checkChange(c)
	}
	if e := seen.entry.entry; e != nil {
		switch {
		case e.ObjectSHA256 != seen.sha:
			seen.found("change_changed", seen.name, "its SHA-256 is not the one in the audit log")
			if e.Object != seen.name {
				seen.found("audit_mismatch", seen.entry.name, "it is not about %s", seen.name)
			}
		case e.Object != seen.name || c != nil && !sameEntry(e, &entry{
			Time: c.Time, Event: c.Kind, Actor: c.Process, Subject: s.chain, Object: seen.name, Action: "put", Result: "ok", Policy: c.Rule,
			Details: map[string]string{"removed": fmt.Sprint(len(c.Removed)), "added": fmt.Sprint(len(c.Added)), "materials": fmt.Sprint(len(c.Materials))},
		}):
			seen.found("audit_mismatch", seen.entry.name, "it does not say what follows from %s", seen.name)
		}
	}
	return seen, nil
}

// sameEntry tells whether an entry says what follows from the object that it is about.
func sameEntry(e, want *entry) bool {
	return e.Time == want.Time && e.Event == want.Event && e.Actor == want.Actor && e.Subject == want.Subject && e.Object == want.Object &&
		e.Action == want.Action && e.Result == want.Result && e.Policy == want.Policy && maps.Equal(e.Details, want.Details)
}

// checkChange checks what a change says by itself.
func (s *changeSeen) checkChange(c *change) {
	rows := map[string]int64{} // by verdict: removed less added
	for _, r := range c.Removed {
		verdict, _, _ := strings.Cut(r.Name, "/")
		rows[verdict] += r.Rows
	}
	for _, f := range c.Added {
		rows[f.Verdict] -= f.Rows
	}
	kept := true
	for _, n := range rows {
		kept = kept && n == 0
	}
	good := false
	switch c.Kind {
	case "compact":
		good = kept && len(c.Materials) == 0
	case "retain":
		good = len(c.Added) == 0 && len(c.Materials) == 0
	case "rotate":
		good = len(c.Removed) == 0 && len(c.Added) == 0
	}
	if !good {
		s.found("change_mismatch", s.name, "it does more than a change of its kind may, or loses rows")
	}
	for _, m := range c.Materials {
		if hexSHA([]byte(m.Sidecar)) != m.SHA256 {
			s.found("change_mismatch", s.name, "the key material that it holds for %s is not what it says", m.File)
		}
	}
}

// handOn tells the phase that looks at files what a change says of them.
func (v *verifier) handOn(seen *changeSeen, old bool) error {
	tell := func(name string, kind byte, body any) error {
		p, ok := locate(name)
		sequence := changeOf(name)
		if !ok || p.kind != isFile || p.chain != seen.chain || kind == isAdded && sequence != seen.at || kind != isAdded && sequence >= seen.at {
			v.found("change_mismatch", seen.name, "it speaks of %s, which it cannot", strconv.Quote(name))
			return nil
		}
		return v.sorters[inSegments].add(item{p.chain, p.at, kind, encode(body)})
	}
	c := seen.change
	for _, f := range c.Added {
		if err := tell(f.Name, isAdded, added{seen.name, old, f}); err != nil {
			return err
		}
	}
	for _, r := range c.Removed {
		if err := tell(r.Name, isRemoved, gone{seen.name, r.Name, r.Rows}); err != nil {
			return err
		}
	}
	for _, m := range c.Materials {
		if err := tell(m.File, isMaterial, rewrapped{seen.at, seen.name, m.File, m.Before, m.SHA256}); err != nil {
			return err
		}
	}
	return v.want(c.Process, seen.name)
}

// want says that there must be a chain of a process.
func (v *verifier) want(process, object string) error {
	if v.options.SinceSequence != nil || !v.options.SinceTime.IsZero() {
		return nil
	}
	return v.sorters[inProcesses].add(item{process, "", isWanted, object})
}
