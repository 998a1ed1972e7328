package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// processSeen is an entry of a process as it was read.
type processSeen struct {
	*step
	findings
	entry entrySeen
	// of the step of the chain as a whole
	anchorAt string
}

// processes walks the chain of every process.
func (v *verifier) processes() error {
	var l link
	var process, anchorAt string
	var next int64
	for seen, err := range ordered(v.ctx, v.options.Workers, v.anchored(inProcesses), v.readProcess) {
		if err != nil {
			return err
		}
		if seen.chain != process {
			v.ends(&l)
			process, anchorAt, next = seen.chain, "", 0
		}
		v.add(&seen.findings)
		if seen.at == "" {
			anchorAt = seen.anchorAt
			continue
		}
		sequence, _ := strconv.ParseInt(seen.at, 10, 64)
		if seen.at == anchorAt {
			l.unknown = true
		} else if sequence != next {
			v.found("audit_missing", entryName(inProcesses, process, fmt.Sprintf("%020d", next)), "the entry before %s is not there", seen.entry.name)
			l.unknown = true
		}
		next = sequence + 1
		if !seen.entry.there && !seen.has(isClaimed) {
			v.found("audit_missing", seen.entry.name, "it was listed and is gone")
		}
		v.follow(&l, seen.step, seen.entry)
		e := seen.entry.entry
		if e == nil {
			continue
		}
		if e.Actor != process || slices.Contains([]string{"commit", "compact", "retain", "rotate"}, e.Event) && e.Subject != "" && isPartition(e.Subject) {
			v.found("audit_mismatch", seen.entry.name, "it does not belong into the chain of this process")
		}
		object, sha := e.Object, e.ObjectSHA256
		if e.Event == "reseal" {
			object, sha = e.Details["copy"], e.Details["copy_sha256"]
		}
		if (e.Event == "fit" || e.Event == "reseal") && e.Result == "ok" {
			if err := v.sorters[inReferences].add(item{object, "", isVouched, sha + " " + seen.entry.name}); err != nil {
				return err
			}
		}
	}
	v.ends(&l)
	return nil
}

// anchored yields the steps of a phase, less those that lie before an anchor. The step of a chain as a whole comes
// first, if there is one.
func (v *verifier) anchored(phase int) func(func(*step, error) bool) {
	return func(yield func(*step, error) bool) {
		var chain, anchorAt string
		for s, err := range v.steps(phase) {
			if err == nil {
				if s.chain != chain {
					chain, anchorAt = s.chain, ""
				}
				if s.at == "" {
					if anchors := s.bodies(isAnchor); len(anchors) > 0 {
						anchorAt = slices.Max(anchors)
					}
				} else if s.at < anchorAt {
					v.passStep(s)
					continue
				} else if s.at == anchorAt {
					s.mode = anchor
				}
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// passStep counts the objects of a step as looked at.
func (v *verifier) passStep(s *step) {
	var n int64
	for _, i := range s.items {
		switch i.kind {
		case isObject, isEntry, isFile, isSidecar, isRecalls:
			n += decode[listed](i.body).Size
		}
	}
	v.pass(n)
}

func (v *verifier) readProcess(ctx context.Context, s *step) (*processSeen, error) {
	seen := &processSeen{step: s}
	if s.at != "" {
		var err error
		seen.entry, err = v.readEntry(ctx, inProcesses, s, &seen.findings)
		return seen, err
	}
	if anchors := s.bodies(isAnchor); len(anchors) > 0 {
		seen.anchorAt = slices.Max(anchors)
	}
	if wanted := s.bodies(isWanted); len(wanted) > 0 {
		name := entryName(inProcesses, s.chain, strings.Repeat("0", 20))
		r, err := v.store.Open(ctx, name)
		if err == nil {
			return seen, r.Close()
		}
		seen.found("audit_missing", auditProcess+s.chain+"/", "the process that wrote %s has no chain, or it does not begin with number 0", wanted[0])
	}
	return seen, nil
}

// references checks what was fitted, and the copies of states and recalls that were made under other master keys.
func (v *verifier) references() error {
	for s, err := range v.steps(inReferences) {
		if err != nil {
			return err
		}
		what := "reference"
		switch {
		case strings.HasPrefix(s.chain, states):
			what = "state"
		case strings.HasPrefix(s.chain, recalled):
			what = "recalls"
		}
		vouched := s.bodies(isVouched)
		objects := s.bodies(isObject)
		if len(vouched) == 0 {
			o := decode[listed](objects[0])
			switch {
			case v.report.Since != nil:
			case v.young(time.Unix(o.Changed, 0)) && what == "reference":
				v.remark(Problem{"commit_under_way", s.chain, "no audit entry speaks of it yet: taster fit is at work, or was stopped"})
			default:
				v.found(what+"_unlisted", s.chain, "no audit entry speaks of it")
			}
			v.pass(o.Size)
			continue
		}
		_, sha, found, err := v.digest(v.ctx, s.chain)
		if err != nil {
			return err
		}
		if what != "reference" {
			// The entry is written before the copy, which may never have come to be; another rotation may have tried the same
			// name; and of a state the copy goes when it does.
			if found && !slices.ContainsFunc(vouched, func(body string) bool { return strings.HasPrefix(body, sha+" ") }) {
				v.found(what+"_changed", s.chain, "its SHA-256 is not one in the audit log")
			}
			continue
		}
		for _, body := range vouched {
			want, entry, _ := strings.Cut(body, " ")
			if !found {
				v.found("reference_missing", s.chain, "the audit entry %s speaks of it", entry)
			} else if sha != want {
				v.found("reference_changed", s.chain, "its SHA-256 is not the one in the audit log")
			}
		}
	}
	return nil
}
