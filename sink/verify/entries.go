package verify

import (
	"context"
	"strings"
)

// entrySeen is an audit entry as it was read.
type entrySeen struct {
	name  string
	there bool
	sha   string
	entry *entry // nil: it says nothing
}

// readEntry reads the audit entry at a place, and checks it against itself and against what checkpoints say of it.
func (v *verifier) readEntry(ctx context.Context, phase int, s *step, f *findings) (seen entrySeen, err error) {
	seen.name = entryName(phase, s.chain, s.at)
	text, found, err := v.small(ctx, seen.name)
	if err != nil {
		return seen, err
	}
	seen.there = found
	if found {
		seen.sha = hexSHA(text)
		var why string
		if seen.entry, why = parseEntry(text); why != "" {
			f.found("audit_changed", seen.name, "%s", why)
		}
	}
	for _, body := range s.bodies(isClaimed) {
		sha, checkpoint, _ := strings.Cut(body, " ")
		switch {
		case !found:
			f.found("audit_missing", seen.name, "the checkpoint %s names it", checkpoint)
		case sha != seen.sha && seen.entry != nil:
			f.found("audit_changed", seen.name, "its SHA-256 is not the one that the checkpoint %s names", checkpoint)
		default:
			continue
		}
		break
	}
	return seen, nil
}

// link is what the next entry of a chain must follow from.
type link struct {
	unknown bool // the entry before could not be read, which was said
	digest  string
	tip     entrySeen
	named   bool // the last one, by a checkpoint
}

// follow checks that an entry follows from the one before.
func (v *verifier) follow(l *link, s *step, seen entrySeen) (good bool) {
	if !seen.there {
		l.unknown = true
		return false
	}
	v.report.Entries++
	l.tip, l.named = seen, s.has(isClaimed)
	if seen.entry == nil {
		l.unknown = true
		return false
	}
	good = l.unknown || seen.entry.Previous == l.digest
	if !good {
		v.found("audit_chain", seen.name, "it does not follow from the entry before it")
	}
	l.unknown, l.digest = false, seen.entry.Digest
	return good
}

// ends says of the end of a chain whether a checkpoint names it.
func (v *verifier) ends(l *link) {
	if l.tip.there && !l.named {
		v.report.Signed.Unsigned++
		if v.options.Unsigned != nil {
			v.options.Unsigned(l.tip.name, l.tip.sha)
		}
	}
	*l = link{}
}
