// Package landing is the exactly-once store of decided rows, and thereby of offsets.
//
// A segment is the offsets [first, next) of one partition, decided together. Its rows go to at most one Parquet file
// for each verdict, and then one manifest is written, only if its name is free. That write is the commit. The
// manifest's name is made of the partition and of first, which is the previous manifest's next, so two writers that
// both believe that they own a partition always meet at the same name: one wins, the other throws its files away,
// asks for the new Head and goes on from there.
//
// What holds:
//
//   - A manifest MUST NOT exist unless every byte that it lists is durable.
//   - The files of a commit MUST NOT be deleted once its manifest was tried, unless another writer's manifest was read
//     under that name: an error from a write proves nothing.
//   - A reader MUST NOT trust a file because it is there, only because a manifest lists it.
//   - A file that no manifest lists MUST NOT be deleted before the manifest at its own first exists: its writer may be
//     alive, paused, and about to write that manifest.
//
// The package does not write audit entries or events. Whoever commits repeats both from the manifests after a crash:
// see Since and Flagged.
package landing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

var (
	// ErrLost says that another writer has committed the offset. The own files are gone. Ask for the Head and go on
	// from there.
	ErrLost = errors.New("another writer has committed this offset")
	// ErrUnknown says that the context ended before it was known whether a commit succeeded. Nothing was deleted. Ask for
	// the Head to learn it.
	ErrUnknown = errors.New("it is not known whether the commit succeeded")
	// ErrCorrupt says that the manifests of a partition are not a chain: one is missing, changed, or there are two lines.
	// No instance can go on with that partition before a person has looked.
	ErrCorrupt = errors.New("the manifests are not a chain")
)

const manifestLimit = 1 << 20

// Options say what a zone is made of.
type Options struct {
	Store   storage.Store
	Keys    *envelope.Keyring // nil: manifests can be read, rows cannot
	Process string            // the process, as its audit chain is named; needed to commit
	Now     func() time.Time  // default time.Now

	// External writes files with their key material beside them, in a sidecar, so that Rotate can change the master key
	// without writing them anew. Files of either kind are read.
	External bool

	// GroupRows and GroupBytes bound the row groups of Parquet files; 0 is the default of the parquet package.
	GroupRows  int
	GroupBytes int64

	// Backoff is the first and the longest wait between attempts to write a manifest; default 50 ms and 5 s.
	Backoff [2]time.Duration
	// Retrying, if not nil, is told of every attempt to write a manifest whose outcome is open, before the next.
	Retrying func(manifest string, attempt int, err error)
}

// Zone is a landing zone. It is safe for concurrent use.
type Zone struct{ opt Options }

// Open opens a landing zone. storage.Open has proved before that the store can do what this needs.
func Open(_ context.Context, opt Options) (*Zone, error) {
	if opt.Store == nil {
		return nil, errors.New("a landing zone needs a store")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Backoff[0] <= 0 {
		opt.Backoff[0] = 50 * time.Millisecond
	}
	if opt.Backoff[1] < opt.Backoff[0] {
		opt.Backoff[1] = max(opt.Backoff[0], 5*time.Second)
	}
	return &Zone{opt}, nil
}

// Committed is a manifest as it was read.
type Committed struct {
	*manifest.Manifest
	Digest string // hex SHA-256 of its bytes
}

// Head is where a partition ends.
type Head struct {
	Source record.Source
	Last   *Committed // nil: nothing was ever committed
}

// First returns the first offset of the last manifest, -1 without one.
func (h Head) First() int64 {
	if h.Last == nil {
		return -1
	}
	return h.Last.First
}

// Next returns the offset at which the next segment begins.
func (h Head) Next() int64 {
	if h.Last == nil {
		return 0
	}
	return h.Last.Next
}

// Hint is what the Kafka offset's metadata says of the last manifest. It need not be true.
type Hint struct {
	TopicID     string
	First, Next int64
}

// Head finds the last manifest of a partition. A hint counts only if it names this topic id and a manifest that
// exists and ends at the hint's Next; then the manifests are walked forward from there. Otherwise, or without a hint
// (nil), they are listed. The error is ErrCorrupt if what was seen is not a chain.
func (z *Zone) Head(ctx context.Context, source record.Source, hint *Hint) (Head, error) {
	last, err := z.fromHint(ctx, source, hint)
	if err != nil {
		return Head{}, err
	}
	if last == nil {
		if last, err = z.fromList(ctx, source); err != nil {
			return Head{}, err
		}
	}
	if last == nil { // nothing is listed, but a listing may be stale, and manifests are not
		if last, err = z.read(ctx, source, 0); err != nil {
			if errors.Is(err, storage.ErrNotExist) {
				return Head{Source: source}, nil
			}
			return Head{}, err
		}
	}
	for {
		next, err := z.read(ctx, source, last.Next)
		if errors.Is(err, storage.ErrNotExist) {
			return Head{Source: source, Last: last}, nil
		}
		if err != nil {
			return Head{}, err
		}
		if err := follows(last, next); err != nil {
			return Head{}, err
		}
		last = next
	}
}

func (z *Zone) fromHint(ctx context.Context, source record.Source, hint *Hint) (*Committed, error) {
	if hint == nil || hint.TopicID != source.ID || hint.First < 0 {
		return nil, nil
	}
	c, err := z.read(ctx, source, hint.First)
	if errors.Is(err, storage.ErrNotExist) || err == nil && c.Next != hint.Next {
		return nil, nil
	}
	return c, err
}

// fromList returns the last manifest that a listing shows, having checked it against the one before. All of the chain
// is for verify to check.
func (z *Zone) fromList(ctx context.Context, source record.Source) (*Committed, error) {
	var names [2]string // the last two
	first := ""
	for info, err := range z.opt.Store.List(ctx, manifest.Folder(source)) {
		if err != nil {
			return nil, err
		}
		if first == "" {
			first = info.Name
		}
		names[0], names[1] = names[1], info.Name
	}
	if first == "" {
		return nil, nil
	}
	if first != manifest.Name(source, 0) {
		return nil, fmt.Errorf("%w: the first manifest of %s should be %s and is %s", ErrCorrupt, manifest.SourcePath(source), manifest.Name(source, 0), first)
	}
	last, err := z.readName(ctx, source, names[1])
	if err != nil || names[0] == "" {
		return last, err
	}
	before, err := z.readName(ctx, source, names[0])
	if err != nil {
		return nil, err
	}
	return last, follows(before, last)
}

func follows(before, after *Committed) error {
	if after.First != before.Next {
		return fmt.Errorf("%w: %s ends at %d and is followed by %s", ErrCorrupt, before.Name(), before.Next, after.Name())
	}
	if after.Previous != before.Digest {
		return fmt.Errorf("%w: %s names another manifest than %s as the one before it", ErrCorrupt, after.Name(), before.Name())
	}
	return nil
}

func (z *Zone) readName(ctx context.Context, source record.Source, name string) (*Committed, error) {
	got, first, err := manifest.ParseName(name)
	if err != nil || got != source {
		return nil, fmt.Errorf("%w: %s is not the name of a manifest of this partition", ErrCorrupt, name)
	}
	return z.read(ctx, source, first)
}

// read reads the manifest that begins at first. The error is storage.ErrNotExist if there is none.
func (z *Zone) read(ctx context.Context, source record.Source, first int64) (*Committed, error) {
	name := manifest.Name(source, first)
	data, err := storage.ReadAll(ctx, z.opt.Store, name, manifestLimit)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
	}
	if m.Source() != source || m.First != first {
		return nil, fmt.Errorf("%w: %s holds the manifest of another segment", ErrCorrupt, name)
	}
	return &Committed{Manifest: m, Digest: manifest.Digest(data)}, nil
}

// Has tells whether anything of a source was ever committed. For a file that means that it, or its beginning, has
// landed; Head tells how far.
func (z *Zone) Has(ctx context.Context, source record.Source) (bool, error) {
	_, err := z.read(ctx, source, 0)
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Since walks the manifests of a partition forward from the one that begins at first, and ends behind the last. It
// checks that each follows the one before. Whoever takes over a partition repeats audit entries and events with it,
// from the hint's Next on.
func (z *Zone) Since(ctx context.Context, source record.Source, first int64) iter.Seq2[*Committed, error] {
	return func(yield func(*Committed, error) bool) {
		var before *Committed
		for {
			c, err := z.read(ctx, source, first)
			if errors.Is(err, storage.ErrNotExist) {
				return
			}
			if err == nil && before != nil {
				err = follows(before, c)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(c, nil) {
				return
			}
			before, first = c, c.Next
		}
	}
}

// Manifests yields all manifests of the given topics, or of all topics, whatever their ids, in the order of their
// names: by topic, id, partition, offset. It ends at the first error. Some are read ahead, side by side.
func (z *Zone) Manifests(ctx context.Context, topics ...string) iter.Seq2[*Committed, error] {
	if len(topics) == 0 {
		topics = []string{""}
	}
	return func(yield func(*Committed, error) bool) {
		for _, topic := range topics {
			for c, err := range z.listed(ctx, manifest.TopicFolder(topic), 0) {
				if !yield(c, err) || err != nil {
					return
				}
			}
		}
	}
}

// aheadMost is how many manifests are read side by side at most. The first is read alone, then twice as many each time:
// who wants few waits for few.
const aheadMost = 64

// listed yields the manifests below a prefix that begin at an offset or behind it, in the order of their names, up to the
// first error.
func (z *Zone) listed(ctx context.Context, prefix string, from int64) iter.Seq2[*Committed, error] {
	return func(yield func(*Committed, error) bool) {
		var names []string
		ahead := 1
		read := func() bool {
			out := make([]*Committed, len(names))
			err := each(ctx, len(names), func(ctx context.Context, i int) (err error) {
				source, first, err := manifest.ParseName(names[i])
				if err != nil {
					return fmt.Errorf("%w: %w", ErrCorrupt, err)
				}
				out[i], err = z.read(ctx, source, first)
				return err
			})
			names, ahead = names[:0], min(2*ahead, aheadMost)
			for _, c := range out {
				if c == nil { // this one, or one beside it, could not be read
					yield(nil, err)
					return false
				}
				if !yield(c, nil) {
					return false
				}
			}
			return true
		}
		for info, err := range z.opt.Store.List(ctx, prefix) {
			if err != nil {
				yield(nil, err)
				return
			}
			if _, first, err := manifest.ParseName(info.Name); err == nil && first < from {
				continue
			}
			if names = append(names, info.Name); len(names) >= ahead && !read() {
				return
			}
		}
		if len(names) > 0 {
			read()
		}
	}
}

// Rows yields the rows of a file in batches, with the named columns (nil: all). Columns that the file does not have
// are passed over. A batch is valid until the next one is asked for; who keeps it calls Retain. Errors name the file and
// wrap envelope.ErrNoKey, envelope.ErrWrongKey, parquet.ErrBroken, storage.ErrNotExist and the like.
func (z *Zone) Rows(ctx context.Context, file manifest.File, columns []string) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		r, closer, err := z.OpenFile(ctx, file)
		if err != nil {
			yield(nil, err)
			return
		}
		defer closer.Close()
		for batch, err := range r.Rows(ctx, columns) {
			if !yield(batch, named(file.Name, err)) || err != nil {
				return
			}
		}
	}
}

// Flagged is what the provider is told of one record.
type Flagged struct {
	Offset  int64
	Verdict finding.Verdict
	Reasons []finding.Code
}

// Flagged yields the quarantined and then the rejected records of a manifest, each in order of offset: what events
// are made of, also when they are repeated after a crash. Where a file of the manifest is no more, its rows are looked
// for where a compaction has put them; a retention may have left none.
func (z *Zone) Flagged(ctx context.Context, m *manifest.Manifest) iter.Seq2[Flagged, error] {
	return func(yield func(Flagged, error) bool) {
		for _, file := range m.Files {
			if file.Verdict == finding.Accepted {
				continue
			}
			more, err := z.flagged(ctx, m, file, yield)
			if errors.Is(err, storage.ErrNotExist) { // told before the first row
				var files []manifest.File
				more = true
				if files, err = z.heirs(ctx, m, file); err == nil {
					for _, f := range files {
						if more, err = z.flagged(ctx, m, f, yield); err != nil || !more {
							break
						}
					}
				}
			}
			if err != nil {
				yield(Flagged{}, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// heirs returns the files in which the rows of a file are that is no more.
func (z *Zone) heirs(ctx context.Context, m *manifest.Manifest, file manifest.File) ([]manifest.File, error) {
	view, err := z.View(ctx, m.Source())
	if err != nil {
		return nil, err
	}
	if !view.Removed(file.Name) {
		return nil, fmt.Errorf("%s: %w", file.Name, storage.ErrNotExist)
	}
	return view.holding(m, file.Verdict)
}

// flagged yields what a file holds of a manifest, and tells whether more is wanted.
func (z *Zone) flagged(ctx context.Context, m *manifest.Manifest, file manifest.File, yield func(Flagged, error) bool) (more bool, _ error) {
	for batch, err := range z.Rows(ctx, file, []string{parquet.Offset, parquet.Reasons}) {
		if err != nil {
			return false, err
		}
		offsets, reasons, err := parquet.OffsetsAndReasons(batch)
		if err != nil {
			return false, fmt.Errorf("%s: %w", file.Name, err)
		}
		for i, offset := range offsets {
			if offset >= m.First && offset < m.Next && !yield(Flagged{offset, file.Verdict, reasons(i)}, nil) {
				return false, nil
			}
		}
	}
	return true, nil
}

// PutSealed encrypts a small object with the key of a zone and stores it if the name is free; else the error is
// storage.ErrExists.
func (z *Zone) PutSealed(ctx context.Context, zone envelope.Zone, name string, plaintext []byte) error {
	if z.opt.Keys == nil {
		return fmt.Errorf("%w: to write %s", envelope.ErrNoKey, name)
	}
	sealed, err := z.opt.Keys.Seal(ctx, zone, name, plaintext)
	if err != nil {
		return err
	}
	return z.opt.Store.Put(ctx, name, sealed)
}

// Sealed returns the plaintext of an object that PutSealed stored, of at most limit bytes.
func (z *Zone) Sealed(ctx context.Context, name string, limit int64) ([]byte, error) {
	if z.opt.Keys == nil {
		return nil, fmt.Errorf("%w: to read %s", envelope.ErrNoKey, name)
	}
	sealed, err := storage.ReadAll(ctx, z.opt.Store, name, limit)
	if err != nil {
		return nil, err
	}
	return z.opt.Keys.Unseal(ctx, name, sealed)
}

// Store returns the store beneath, for listings and for the audit log.
func (z *Zone) Store() storage.Store { return z.opt.Store }
