package landing

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// A rotation wraps the data keys of files anew, under the present master keys of their zones, and touches no file.
// It works through a partition in batches, each in this order:
//
//  1. sidecars are read and wrapped anew, in memory;
//  2. one change is made that holds the new sidecars, all of each;
//  3. the change is entered in the audit log (Rotation.Changed), and so are earlier ones whose makers died before that;
//  4. each sidecar is replaced, atomically;
//  5. it is looked whether others made a change meanwhile, and where theirs is newer, theirs is put in place.
//
// Killed anywhere, every file has one whole sidecar, the old one or the new one, and either opens it, since the data
// keys are the same. Between 2 and 4 some sidecars are older than the newest change says. The next rotation knows them
// by their SHA-256, which a change names as replaced, and puts the newest in their place without asking for any key.
//
// Two rotations meet at the number of a change. The loser reads what the winner did, finds the files up to date and
// helps to replace what is older.

const (
	partitionsAtOnce = 8   // whose chains of changes are worked on side by side
	objectsAtOnce    = 16  // sidecars of one partition, likewise
	manifestsAtOnce  = 256 // that are looked at before a change is made
	filesInChange    = 500
	// bytesInChange leaves room within manifest.ChangeLimit for what surrounds the materials.
	bytesInChange = manifest.ChangeLimit - 64<<10
	// faultsTold bounds the list of files that could not be rotated.
	faultsTold = 1000
)

// Rotation says what Rotate is to do.
type Rotation struct {
	Topics []string // none: all
	Force  bool     // also what is under its present master key, because that key was rotated within its service
	DryRun bool     // write nothing, and ask for no key where that can be helped
	Rule   string   // why, for the changes

	// Changed is called after each change, before a sidecar is replaced, and for each partition that was changed before,
	// whoever did that: the place to enter in the audit log what is not entered yet. It may be called for nothing.
	Changed func(context.Context, record.Source) error
	// Progress, if not nil, is told of manifests that were dealt with, of how many. It is called one at a time.
	Progress func(done, total int)
}

// Rotated is what a rotation did. With Rotation.DryRun it is what one would do.
type Rotated struct {
	Files    int64 // that count, all of them
	Rotated  int64 // got new key material
	Adopted  int64 // of Rotated, those whose sidecar somebody else had replaced by one that opens the file
	Current  int64 // needed nothing
	Finished int64 // got the key material that an earlier change had announced and nobody had put in place
	Changes  int64

	// Internal is how many files could not be rotated because their key material is within them, and how large they are.
	Internal, InternalBytes int64
	// Failed is how many files could not be rotated for other reasons.
	Failed int64
	// Faults tells of Internal and Failed files, of some thousand of each at most, in order of their names.
	Faults []RotationFault
}

// RotationFault is why a file still needs other master keys than the present ones.
type RotationFault struct {
	File string
	Keys []string // ids of the master keys that it needs, as far as they are known
	Err  error    // ErrInternal, or what else failed
}

// ErrInternal says that a file has its key material within itself, so that it can be wrapped anew only by writing the
// file anew.
var ErrInternal = errors.New("the key material is within the file, which must be written anew: run taster compact --rewrite")

// Rotate wraps the data keys of all files that count under the present master keys of their zones. A file that cannot
// be rotated is told in the result and does not keep the others from it. A key service or a store that is away is
// waited for until ctx ends; what was done until then is done, and the same call goes on from there.
func (z *Zone) Rotate(ctx context.Context, how Rotation) (*Rotated, error) {
	if z.opt.Keys == nil {
		return nil, fmt.Errorf("%w: to rotate", envelope.ErrNoKey)
	}
	r := &rotator{z: z, how: how}
	streams, err := z.streams(ctx, how.Topics)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		r.total += len(s.firsts)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(partitionsAtOnce)
	for _, s := range streams {
		group.Go(func() error {
			if err := r.stream(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", manifest.SourcePath(s.source), err)
			}
			return nil
		})
	}
	err = group.Wait()
	slices.SortFunc(r.result.Faults, func(a, b RotationFault) int { return cmp.Compare(a.File, b.File) })
	return &r.result, err
}

type rotator struct {
	z   *Zone
	how Rotation

	mu          sync.Mutex
	result      Rotated
	done, total int
}

// place is a partition as its changes leave it.
type place struct {
	*View
	older map[string]bool // digests of sidecars that a change replaced
}

// advance takes in the changes that were made since, and returns them.
func (z *Zone) advance(ctx context.Context, at *place) ([]*Changed, error) {
	var newer []*Changed
	for {
		sequence, previous := int64(0), ""
		if at.Last != nil {
			sequence, previous = at.Last.Sequence+1, at.Last.Digest
		}
		var c *Changed
		err := z.patiently(ctx, manifest.ChangeName(at.Source, sequence), func() (err error) {
			c, err = z.readChange(ctx, at.Source, sequence)
			return err
		})
		switch {
		case errors.Is(err, storage.ErrNotExist):
			return newer, nil
		case err != nil:
			return newer, err
		case c.Previous != previous:
			return newer, fmt.Errorf("%w: %s names another change as the one before it", ErrCorrupt, c.Name())
		}
		if err := at.apply(c); err != nil {
			return newer, err
		}
		newer = append(newer, c)
	}
}

func (p *place) apply(c *Changed) error {
	for _, m := range c.Materials {
		p.older[m.Before] = true
	}
	return p.View.apply(c)
}

// stream rotates what one partition has.
func (r *rotator) stream(ctx context.Context, s stream) error {
	at := &place{View: &View{Source: s.source, removed: map[string]bool{}, added: map[int64][]manifest.File{}, materials: map[string]manifest.Material{}}, older: map[string]bool{}}
	if _, err := r.z.advance(ctx, at); err != nil {
		return err
	}
	// Whoever made the last change may have died before it was entered in the audit log.
	if at.Last != nil {
		if err := r.enter(ctx, at); err != nil {
			return err
		}
	}
	return r.z.inOrder(ctx, s, func(manifests []*manifest.Manifest) error {
		if err := r.manifests(ctx, at, manifests); err != nil {
			return err
		}
		r.tell(func(*Rotated) {}, len(manifests))
		return nil
	})
}

// manifests rotates the files of some manifests, and begins anew with them whenever somebody else made a change.
func (r *rotator) manifests(ctx context.Context, at *place, manifests []*manifest.Manifest) error {
	done := map[string]bool{} // by this call
	for {
		var files []manifest.File
		for _, m := range manifests {
			for _, f := range at.Files(m) {
				if !done[f.Name] {
					files = append(files, f)
				}
			}
		}
		outcomes := make([]outcome, len(files))
		err := each(ctx, len(files), func(ctx context.Context, i int) (err error) {
			outcomes[i], err = r.look(ctx, at, files[i])
			return err
		})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(outcomes, func(o outcome) bool { return o.strange }) {
			// Perhaps a change was made since, and the sidecar is of that.
			newer, err := r.z.advance(ctx, at)
			if err != nil {
				return err
			}
			if len(newer) > 0 {
				continue
			}
			for i, o := range outcomes {
				if o.strange {
					if outcomes[i], err = r.judge(ctx, at, files[i], o.sidecar); err != nil {
						return err
					}
				}
			}
		}
		err = r.change(ctx, at, outcomes, done)
		if errors.Is(err, ErrLost) {
			if _, err = r.z.advance(ctx, at); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		r.count(outcomes, done)
		return nil
	}
}

// outcome is what a look at one file gave.
type outcome struct {
	file     manifest.File
	material *manifest.Material // the new key material, not in any change yet
	finish   []byte             // the newest sidecar, which is to be put in the place of an older one
	adopted  bool
	fault    error
	strange  bool // sidecar is none that a change or a manifest tells of
	sidecar  []byte
}

// look reads the sidecar of a file and wraps it anew where it needs that. The error is for what ends the rotation.
func (r *rotator) look(ctx context.Context, at *place, f manifest.File) (outcome, error) {
	o := outcome{file: f}
	if f.Material == "" {
		if r.how.Force || slices.ContainsFunc(f.Keys, func(id string) bool { return !r.z.present(f, id) }) {
			o.fault = ErrInternal
		}
		return o, nil
	}
	var data []byte
	name := envelope.SidecarName(f.Name)
	err := r.z.patiently(ctx, name, func() (err error) {
		data, err = storage.ReadAll(ctx, r.z.opt.Store, name, envelope.SidecarLimit)
		return err
	})
	announced, has := at.Material(f.Name)
	digest := manifest.Digest(data)
	switch {
	case err == nil && digest == f.Material:
	case has && (errors.Is(err, storage.ErrNotExist) || err == nil && at.older[digest]):
		data = []byte(announced.Sidecar)
		o.finish = data
	case errors.Is(err, storage.ErrNotExist):
		o.fault = errSidecarLost
		return o, nil
	case err != nil:
		return o, err
	default:
		o.strange, o.sidecar = true, data
		return o, nil
	}
	return r.wrap(ctx, o, data, r.how.Force)
}

// judge decides about a sidecar that nobody announced. One that opens the file was wrapped by another program, and is
// taken over. Any other was broken or is of another file: if a change holds one that opens the file, that is put back.
func (r *rotator) judge(ctx context.Context, at *place, f manifest.File, data []byte) (outcome, error) {
	o := outcome{file: f}
	opens := func(sidecar []byte) error {
		return r.z.patiently(ctx, f.Name, func() error { return r.z.opens(ctx, f.Name, sidecar) })
	}
	err := opens(data)
	if err == nil {
		o.adopted = true
		return r.wrap(ctx, o, data, true)
	}
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	if announced, has := at.Material(f.Name); has && opens([]byte(announced.Sidecar)) == nil {
		o.finish = []byte(announced.Sidecar)
		return r.wrap(ctx, o, o.finish, r.how.Force)
	}
	o.fault = fmt.Errorf("%s is not the key material that was written for this file and does not open it; put it back from a backup: %w", envelope.SidecarName(f.Name), err)
	return o, nil
}

// wrap wraps the keys of a sidecar anew where they need it.
func (r *rotator) wrap(ctx context.Context, o outcome, data []byte, force bool) (outcome, error) {
	zone := envelope.Zone(o.file.Verdict.String())
	old, err := envelope.ParseSidecar(data)
	if err != nil {
		o.fault = err
		return o, nil
	}
	if r.how.DryRun {
		if force || stale(r.z.opt.Keys, old, zone) {
			o.material = &manifest.Material{File: o.file.Name}
		}
		return o, nil
	}
	fresh, changed, err := r.z.opt.Keys.Rewrap(ctx, old, zone, force)
	if err == nil && changed {
		err = same(ctx, r.z.opt.Keys, old, fresh)
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, envelope.ErrUnavailable) {
			return o, err
		}
		o.fault = err
		return o, nil
	}
	if !changed {
		return o, nil
	}
	text, err := fresh.Encode()
	if err != nil {
		o.fault = err
		return o, nil
	}
	o.material = &manifest.Material{
		File: o.file.Name, Keys: fresh.MasterKeyIDs(), Before: o.file.Material, SHA256: manifest.Digest(text), Sidecar: string(text),
	}
	if weight(o.material) > bytesInChange {
		o.material, o.fault = nil, fmt.Errorf("%d keys are more than one change can hold: only taster compact --rewrite changes their master key", len(fresh.References()))
	}
	return o, nil
}

// weight is how many bytes a material takes up in a change.
func weight(m *manifest.Material) int {
	text, err := manifest.Canonical(m)
	if err != nil {
		return bytesInChange + 1
	}
	return len(text) + 1
}

// same proves, before an old wrapping is given up, that the new one can be undone and holds the same keys.
func same(ctx context.Context, keys *envelope.Keyring, old, fresh *envelope.Sidecar) error {
	for _, ref := range old.References() {
		before, err := keys.DataKey(ctx, old.Material(ref))
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		after, err := keys.DataKey(ctx, fresh.Material(ref))
		if err != nil {
			return fmt.Errorf("%s, wrapped anew, could not be unwrapped again: %w", ref, err)
		}
		if !bytes.Equal(before, after) {
			return fmt.Errorf("%s, wrapped anew: %w", ref, envelope.ErrWrongKey)
		}
	}
	return nil
}

// change makes the changes that the outcomes ask for and replaces sidecars. The error is ErrLost if another change
// came first; done holds what was dealt with before that.
func (r *rotator) change(ctx context.Context, at *place, outcomes []outcome, done map[string]bool) error {
	if r.how.DryRun {
		return nil
	}
	for batch := range batches(outcomes) {
		c := r.z.Next(at.View, manifest.Rotate, r.how.Rule)
		for _, o := range batch {
			c.Materials = append(c.Materials, *o.material)
		}
		if err := r.z.Apply(ctx, at.View, c); err != nil {
			return err
		}
		for _, m := range c.Materials {
			at.older[m.Before] = true
		}
		if err := r.enter(ctx, at); err != nil {
			return err
		}
		if err := r.replace(ctx, at, c.Materials); err != nil {
			return err
		}
		r.tell(func(t *Rotated) { t.Changes++ }, 0)
		r.count(batch, done)
	}
	var finish []manifest.Material
	for _, o := range outcomes {
		if o.finish != nil && o.material == nil && o.fault == nil {
			newest, _ := at.Material(o.file.Name)
			finish = append(finish, newest)
		}
	}
	return r.replace(ctx, at, finish)
}

// enter has the changes of a partition entered in the audit log.
func (r *rotator) enter(ctx context.Context, at *place) error {
	if r.how.Changed == nil || r.how.DryRun {
		return nil
	}
	return r.z.patiently(ctx, at.Last.Name(), func() error {
		if err := r.how.Changed(ctx, at.Source); err != nil {
			return fmt.Errorf("enter %s in the audit log: %w", at.Last.Name(), err)
		}
		return nil
	})
}

// batches yields the outcomes with new key material in portions that fit into one change.
func batches(outcomes []outcome) iter.Seq[[]outcome] {
	return func(yield func([]outcome) bool) {
		var batch []outcome
		size := 0
		for _, o := range outcomes {
			if o.material == nil {
				continue
			}
			w := weight(o.material)
			if len(batch) == filesInChange || len(batch) > 0 && size+w > bytesInChange {
				if !yield(batch) {
					return
				}
				batch, size = nil, 0
			}
			batch, size = append(batch, o), size+w
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// replace puts sidecars in the place of older ones. When it returns they are durable, and no older one than the newest
// change tells of has taken their place: where another rotation has made a change meanwhile, its sidecar is put there.
func (r *rotator) replace(ctx context.Context, at *place, materials []manifest.Material) error {
	for len(materials) > 0 {
		err := each(ctx, len(materials), func(ctx context.Context, i int) error {
			name, data := envelope.SidecarName(materials[i].File), []byte(materials[i].Sidecar)
			return r.z.patiently(ctx, name, func() error { return r.z.opt.Store.Replace(ctx, name, data) })
		})
		if err != nil {
			return err
		}
		newer, err := r.z.advance(ctx, at)
		if err != nil || len(newer) == 0 {
			return err
		}
		var again []manifest.Material
		for _, m := range materials {
			if newest, ok := at.Material(m.File); ok && newest.SHA256 != m.SHA256 {
				again = append(again, newest)
			}
			if at.Removed(m.File) {
				if err := r.z.dropSidecar(ctx, m.File); err != nil {
					return err
				}
			}
		}
		materials = again
	}
	return nil
}

// count enters in the result what was not dealt with before.
func (r *rotator) count(outcomes []outcome, done map[string]bool) {
	r.tell(func(t *Rotated) {
		for _, o := range outcomes {
			if done[o.file.Name] {
				continue
			}
			done[o.file.Name] = true
			t.Files++
			switch {
			case errors.Is(o.fault, ErrInternal):
				t.Internal++
				t.InternalBytes += o.file.Bytes
				t.fault(t.Internal, o)
			case o.fault != nil:
				t.Failed++
				t.fault(t.Failed, o)
			case o.material != nil:
				t.Rotated++
				if o.adopted {
					t.Adopted++
				}
			case o.finish != nil:
				t.Finished++
			default:
				t.Current++
			}
		}
	}, 0)
}

func (t *Rotated) fault(n int64, o outcome) {
	if n <= faultsTold {
		t.Faults = append(t.Faults, RotationFault{o.file.Name, o.file.Keys, o.fault})
	}
}

// tell changes the result and says how many manifests more were dealt with.
func (r *rotator) tell(change func(*Rotated), manifests int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.result)
	r.done += manifests
	if manifests > 0 && r.how.Progress != nil {
		r.how.Progress(r.done, r.total)
	}
}

// present tells whether a master key is one under which the keys of a file would stand if it was written now.
func (z *Zone) present(f manifest.File, id string) bool {
	return id == z.opt.Keys.MasterKeyID(envelope.Zone(f.Verdict.String())) || id == z.opt.Keys.MasterKeyID(envelope.Restricted)
}

// patiently repeats what fails because the store is away, until ctx ends.
func (z *Zone) patiently(ctx context.Context, object string, do func() error) error {
	wait := z.opt.Backoff[0]
	for attempt := 1; ; attempt++ {
		err := do()
		if err == nil || !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
		if ctx.Err() == nil && z.opt.Retrying != nil {
			z.opt.Retrying(object, attempt, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last attempt: %w)", ctx.Err(), err)
		case <-time.After(wait):
		}
		wait = min(2*wait, z.opt.Backoff[1])
	}
}

// stream is a partition with the first offsets of its manifests.
type stream struct {
	source record.Source
	firsts []int64
}

// streams lists the partitions of topics, or of all.
func (z *Zone) streams(ctx context.Context, topics []string) ([]stream, error) {
	if len(topics) == 0 {
		topics = []string{""}
	}
	var out []stream
	for _, topic := range topics {
		for info, err := range z.opt.Store.List(ctx, manifest.TopicFolder(topic)) {
			if err != nil {
				return nil, err
			}
			source, first, err := manifest.ParseName(info.Name)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			if len(out) == 0 || out[len(out)-1].source != source {
				out = append(out, stream{source: source})
			}
			last := &out[len(out)-1]
			last.firsts = append(last.firsts, first)
		}
	}
	return out, nil
}

// inOrder shows the manifests of a partition, some at a time. Those that are gone since they were listed, which a
// landing zone never does by itself, are an error.
func (z *Zone) inOrder(ctx context.Context, s stream, show func([]*manifest.Manifest) error) error {
	for firsts := range slices.Chunk(s.firsts, manifestsAtOnce) {
		manifests := make([]*manifest.Manifest, len(firsts))
		err := each(ctx, len(firsts), func(ctx context.Context, i int) error {
			return z.patiently(ctx, manifest.Name(s.source, firsts[i]), func() error {
				c, err := z.read(ctx, s.source, firsts[i])
				if err == nil {
					manifests[i] = c.Manifest
				}
				return err
			})
		})
		if err != nil {
			return err
		}
		if err := show(manifests); err != nil {
			return err
		}
	}
	return nil
}

// each calls do for 0 to n-1, some at a time, and ends at the first error.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(objectsAtOnce)
	for i := range n {
		if limited.Err() != nil {
			break
		}
		group.Go(func() error { return do(limited, i) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}
