package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// last is the last manifest of a partition, for the phase that looks at states.
type last struct {
	Known bool    `json:"k"` // it was read, and State is what it lists
	State *sealed `json:"s,omitempty"`
}

// lastOf hands on the last manifest of a partition that was walked.
func (v *verifier) lastOf(w *walk) error {
	l := last{}
	switch {
	case w.last != "" && w.before == nil: // it says nothing, which was said
		return nil
	case w.last != "":
		l = last{true, w.before.State}
	case w.progress.At != "": // found good by an earlier run
		w.last = w.progress.At
	default:
		return nil
	}
	return v.sorters[inStates].add(item{w.chain, w.last, isLast, encode(l)})
}

// learned looks at the states that are there. Of each partition the one that its last manifest lists has to be; an
// earlier one may be gone, and must be what was committed if it is not. A state that no manifest lists was never
// committed. This does not go by what an earlier run found good: states come and go, and there are few of them.
func (v *verifier) learned() error {
	for s, err := range v.steps(inStates) {
		if err == nil {
			err = v.readState(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) readState(s *step) error {
	objects, lasts := s.bodies(isState), s.bodies(isLast)
	isNewest := len(lasts) > 0
	if isNewest && len(objects) == 0 {
		if l := decode[last](lasts[0]); l.Known && l.State == nil {
			return nil
		}
	}
	name := commits + s.chain + "/" + s.at + ".json"
	text, found, err := v.small(v.ctx, name)
	if err != nil {
		return err
	}
	v.progress(-int64(len(text))) // it was read before
	m, _ := parseManifest(text)
	if found && m == nil { // which was said
		v.pass(v.sizeOf(s, isState))
		return nil
	}
	there := false
	for _, body := range objects {
		o := decode[listed](body)
		if m == nil || m.State == nil || m.State.Name != o.Name {
			v.recheckLater(v.strayLearned("state_unlisted", o, s))
			v.pass(o.Size)
			continue
		}
		there = true
		f := &findings{}
		intact, err := v.sealedObject(v.ctx, f, "state", m.State)
		if err == nil && intact && isNewest && v.options.Unseal != nil {
			_, err = v.unseal(v.ctx, f, "state", m.State)
		}
		if err != nil {
			return err
		}
		v.add(f)
	}
	if isNewest && m != nil && m.State != nil {
		v.report.States++
		if !there {
			v.recheckLater(v.stateGone(name, m))
		}
	}
	return nil
}

// sealedObject compares an object with what its manifest says of it.
func (v *verifier) sealedObject(ctx context.Context, f *findings, what string, want *sealed) (intact bool, _ error) {
	size, sha, found, err := v.digest(ctx, want.Name)
	switch {
	case err != nil:
		return false, err
	case !found && what == "state": // deleted since it was listed: it is not the newest any more
	case !found:
		f.found(what+"_missing", want.Name, "its manifest lists it")
	case size != want.Bytes:
		f.found(what+"_changed", want.Name, "it has %d bytes, and %d were committed", size, want.Bytes)
	case sha != want.SHA256:
		f.found(what+"_changed", want.Name, "its SHA-256 is not the one that was committed")
	default:
		return true, nil
	}
	return false, nil
}

// unseal decrypts an object whose bytes are as they were committed.
func (v *verifier) unseal(ctx context.Context, f *findings, what string, want *sealed) ([]byte, error) {
	plain, err := v.options.Unseal(ctx, want.Name)
	switch {
	case errors.Is(err, ErrKey):
		f.remark("key_unavailable", want.Name, "its bytes are as they were committed; it cannot be read: %v", err)
	case errors.Is(err, ErrAway) || err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		f.found(what+"_unreadable", want.Name, "%v", err)
	case hexSHA(plain) != want.Content:
		f.found(what+"_content", want.Name, "it does not hold what was committed")
	default:
		return plain, nil
	}
	return nil, nil
}

// readRecalls looks at the recalls of a segment.
func (v *verifier) readRecalls(ctx context.Context, seen *segmentSeen) error {
	var want *recalls
	if seen.manifest != nil {
		want = seen.manifest.Recalls
	}
	for _, body := range seen.bodies(isRecalls) {
		if o := decode[listed](body); want == nil || want.Name != o.Name {
			seen.later = append(seen.later, v.strayLearned("recalls_unlisted", o, seen.step))
			seen.unread += o.Size
		}
	}
	if want == nil {
		return nil
	}
	seen.recalls += want.Count
	object := &sealed{want.Name, want.Bytes, want.SHA256, want.Content, want.Key}
	intact, err := v.sealedObject(ctx, &seen.findings, "recalls", object)
	if err != nil || !intact || v.options.Unseal == nil {
		return err
	}
	plain, err := v.unseal(ctx, &seen.findings, "recalls", object)
	if n := int64(bytes.Count(plain, []byte{'\n'})); err == nil && plain != nil && n != want.Count {
		seen.found("recalls_content", want.Name, "it holds %d recalls, and %d were committed", n, want.Count)
	}
	return err
}

// strayLearned looks again at a state, or at recalls, that nothing lists: the object may be gone by now, or listed, or its
// writer be at work.
func (v *verifier) strayLearned(code string, o listed, s *step) recheck {
	decider := commits + s.chain + "/" + s.at + ".json"
	return recheck{
		Problem{code, o.Name, "no manifest lists it: a writer that was stopped left it, or it was added; it must not be read"},
		func() (bool, *Problem, error) {
			r, err := v.store.Open(v.ctx, o.Name)
			if err != nil {
				return true, nil, v.ctx.Err() // its writer lost, and has removed it
			}
			if err := r.Close(); err != nil {
				return false, nil, err
			}
			text, found, err := v.small(v.ctx, decider)
			if err != nil {
				return false, nil, err
			}
			if m, _ := parseManifest(text); found && m != nil {
				return m.State != nil && m.State.Name == o.Name || m.Recalls != nil && m.Recalls.Name == o.Name, nil, nil
			}
			if !found && o.Changed != 0 && v.young(time.Unix(o.Changed, 0)) {
				return true, &Problem{"commit_under_way", o.Name, "no manifest lists it yet: a commit is under way, or its writer was stopped"}, nil
			}
			return false, nil, nil
		},
	}
}

// stateGone looks again for the state of what was the last manifest: it may be superseded by now, and then deleted.
func (v *verifier) stateGone(name string, m *manifest) recheck {
	return recheck{
		Problem{"state_missing", m.State.Name, "the last manifest of its partition, " + name + ", lists it: what was learned is lost"},
		func() (bool, *Problem, error) {
			chain, _ := strings.CutPrefix(name[:strings.LastIndexByte(name, '/')], commits)
			_, found, err := v.small(v.ctx, fmt.Sprintf("%s%s/%020d.json", commits, chain, m.Next))
			if err != nil || found {
				return found, nil, err
			}
			_, found, err = v.small(v.ctx, m.State.Name)
			return found, nil, err
		},
	}
}
