package landing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

// cleanupTime is how long the deletion of own files may take after the context of a commit has ended.
const cleanupTime = 10 * time.Second

// Commit lands a segment behind prev, which Head or the last Commit returned, and returns the new head. A segment
// without records, which only moves next, commits like any other. The segment is not changed and not released.
//
// The error is ErrLost if another writer was first and ErrUnknown if the context ended before the outcome was known.
// After any other error nothing was committed, the files are gone, and the same segment may be tried again. A failing
// store is waited for, for as long as the context lets it, once the files are written.
func (z *Zone) Commit(ctx context.Context, seg *record.Segment, dec *record.Decision, c *contract.Contract, prev Head) (Head, error) {
	if err := z.checkCommit(seg, dec, prev); err != nil {
		return Head{}, err
	}
	m := z.draft(seg, dec, c, prev)
	killpoint.Reach("files_begun")
	made, err := z.writeObjects(ctx, m, seg, dec, c)
	if err != nil {
		// The manifest was not tried, and nobody but this call would ever write it.
		return Head{}, errors.Join(err, z.drop(ctx, made))
	}
	killpoint.Reach("files_landed")
	m.Committed = manifest.Time(z.opt.Now().Add(killpoint.Skew()).UnixMilli())
	data, err := m.Encode()
	if err != nil {
		return Head{}, errors.Join(err, z.drop(ctx, made))
	}
	switch err := z.putManifest(ctx, m, data); {
	case errors.Is(err, ErrLost):
		killpoint.Reach("commit_lost")
		return Head{}, errors.Join(err, z.drop(ctx, made))
	case err != nil:
		return Head{}, err
	}
	return Head{Source: seg.Source, Last: &Committed{Manifest: m, Digest: manifest.Digest(data)}}, nil
}

// checkCommit refuses what could not be found again, or would be found twice.
func (z *Zone) checkCommit(seg *record.Segment, dec *record.Decision, prev Head) error {
	switch {
	case z.opt.Keys == nil:
		return fmt.Errorf("%w: to commit", envelope.ErrNoKey)
	case seg.Source != prev.Source:
		return fmt.Errorf("a segment of %s cannot follow the head of %s", manifest.SourcePath(seg.Source), manifest.SourcePath(prev.Source))
	case seg.First != prev.Next():
		return fmt.Errorf("the segment begins at %d and must begin at %d, where the last manifest ends", seg.First, prev.Next())
	case seg.Next <= seg.First:
		return fmt.Errorf("the segment [%d, %d) has no offsets", seg.First, seg.Next)
	case len(dec.Verdicts) != seg.Rows():
		return fmt.Errorf("the decision has %d verdicts for %d rows", len(dec.Verdicts), seg.Rows())
	}
	for _, v := range dec.Verdicts {
		if v != finding.Accepted && v != finding.Quarantined {
			return fmt.Errorf("a valid row has the verdict %s", v)
		}
	}
	valid, refused := seg.First-1, seg.First-1 // the last offset seen
	rising := func(last *int64, offset int64) error {
		if offset <= *last || offset >= seg.Next {
			return fmt.Errorf("offset %d does not follow %d within [%d, %d)", offset, *last, seg.First, seg.Next)
		}
		*last = offset
		return nil
	}
	for _, b := range seg.Batches {
		for i := range b.Origins {
			if err := rising(&valid, b.Origins[i].Offset); err != nil {
				return err
			}
		}
		for i := range b.Refused {
			if err := rising(&refused, b.Refused[i].Offset); err != nil {
				return err
			}
		}
	}
	return nil
}

// draft makes the manifest, all but its files, what it taught and the time of commit.
func (z *Zone) draft(seg *record.Segment, dec *record.Decision, c *contract.Contract, prev Head) *manifest.Manifest {
	m := &manifest.Manifest{
		Version: manifest.Version, Topic: seg.Topic, TopicID: seg.ID, Partition: seg.Partition, First: seg.First, Next: seg.Next,
		Opened: manifest.Time(seg.Opened), Process: z.opt.Process, Writer: randomHex(16), Contract: hex.EncodeToString(c.Digest[:]),
		Detectors: append([]string{}, dec.Detectors...), Reference: dec.Reference, ReferenceDigest: dec.RefDigest, Calibrated: dec.Calibrated,
		Judged: dec.Judged, Risk: dec.Risk, Reasons: map[finding.Code]int64{}, Files: []manifest.File{},
	}
	slices.Sort(m.Detectors)
	if prev.Last != nil {
		m.Previous = prev.Last.Digest
	}
	if !math.IsNaN(dec.Threshold) && !math.IsInf(dec.Threshold, 0) {
		threshold := dec.Threshold
		m.Threshold = &threshold
	}
	m.Counts = manifest.Counts{
		Accepted:    parquet.Count(seg, dec, finding.Accepted),
		Quarantined: parquet.Count(seg, dec, finding.Quarantined),
		Rejected:    parquet.Count(seg, dec, finding.Rejected),
	}
	m.Gaps = seg.Next - seg.First - m.Counts.Sum()
	for _, codes := range dec.Reasons {
		for i, code := range codes {
			if !slices.Contains(codes[:i], code) {
				m.Reasons[code]++
			}
		}
	}
	for _, b := range seg.Batches {
		for i := range b.Refused {
			m.Reasons[b.Refused[i].Code]++
		}
	}
	return m
}

// writeObjects writes all that the manifest will list, each on its own: waiting for a disk or a store takes as long as
// for the slowest of them. It returns the names of all objects that may be there, also with an error, and all have
// been written or given up by then: none turns up after its name was dropped.
func (z *Zone) writeObjects(ctx context.Context, m *manifest.Manifest, seg *record.Segment, dec *record.Decision, c *contract.Contract) (made []string, err error) {
	var learned []string
	var learning error
	var all sync.WaitGroup
	all.Go(func() { learned, learning = z.writeLearned(ctx, m, dec, c) })
	made, err = z.writeFiles(ctx, m, seg, dec, c)
	all.Wait()
	return append(made, learned...), errors.Join(err, learning)
}

// writeFiles writes a file for each verdict that has rows and adds it to the manifest. It returns the names of all
// files that may be there, also with an error.
func (z *Zone) writeFiles(ctx context.Context, m *manifest.Manifest, seg *record.Segment, dec *record.Decision, c *contract.Contract) (made []string, err error) {
	opt := parquet.Options{
		Keys: z.opt.Keys, External: z.opt.External, Restricted: c.Restricted, Classification: c.Classification,
		GroupRows: z.opt.GroupRows, GroupBytes: z.opt.GroupBytes,
	}
	var files [len(finding.Verdicts)]manifest.File
	var faults [len(finding.Verdicts)]error
	var all sync.WaitGroup
	for i, v := range finding.Verdicts {
		if m.Counts.Of(v) == 0 {
			continue
		}
		name := manifest.NewFileName(v, seg.Source, m.Opened, m.First, m.Next, randomHex(8)).String()
		made = append(made, name)
		all.Go(func() {
			if files[i], faults[i] = z.writeFile(ctx, name, seg, dec, v, opt); faults[i] != nil {
				faults[i] = fmt.Errorf("write %s: %w", name, faults[i])
			}
		})
	}
	all.Wait()
	for _, file := range files {
		if file.Name != "" {
			m.Files = append(m.Files, file)
		}
	}
	return made, errors.Join(faults[:]...)
}

// writeFile writes a file, and then its sidecar where key material is external. Both are durable when it returns.
func (z *Zone) writeFile(ctx context.Context, name string, seg *record.Segment, dec *record.Decision, v finding.Verdict, opt parquet.Options) (manifest.File, error) {
	w, err := z.opt.Store.Create(ctx, name)
	if err != nil {
		return manifest.File{}, err
	}
	defer w.Abort()
	out := &measured{to: w, hash: sha256.New()}
	written, err := parquet.Write(ctx, out, name, seg, dec, v, opt)
	if err != nil {
		return manifest.File{}, err
	}
	killpoint.ReachFor("file_encoded", name)
	if err := w.Commit(ctx); err != nil {
		return manifest.File{}, err
	}
	killpoint.ReachFor("file_landed", name)
	material, err := z.PutSidecar(ctx, name, written.Sidecar)
	if err != nil {
		return manifest.File{}, err
	}
	return manifest.File{
		Name: name, Verdict: v, Rows: written.Rows, Bytes: out.n, SHA256: hex.EncodeToString(out.hash.Sum(nil)),
		Content: written.Content, Keys: written.Keys, Material: material,
	}, nil
}

// putManifest writes the manifest until it is known who has the name.
func (z *Zone) putManifest(ctx context.Context, m *manifest.Manifest, data []byte) error {
	return z.claim(ctx, m.Name(), m.Writer, data, func() (string, error) {
		there, err := z.read(ctx, m.Source(), m.First)
		if err != nil {
			return "", err
		}
		return there.Writer, nil
	})
}

// claim writes an object that decides something until it is known who has its name. writer is the random id in data,
// and holder reads whose id the object has.
//
// Why nothing is concluded from an error: the write reaches the store, the answer is lost, a client that repeats it
// by itself meets its own object, and reports that the name is taken. So the object is read back, and the random
// writer id in it tells. If there is none the write may still be under way, so the very same write is repeated.
func (z *Zone) claim(ctx context.Context, name, writer string, data []byte, holder func() (string, error)) error {
	wait := z.opt.Backoff[0]
	for attempt := 1; ; attempt++ {
		killpoint.ReachFor("manifest_begun", name)
		err := z.opt.Store.Put(ctx, name, data)
		if err == nil {
			killpoint.ReachFor("manifest_landed", name)
			return nil
		}
		killpoint.ReachFor("manifest_doubted", name)
		there, readErr := holder()
		switch {
		case readErr == nil && there != writer:
			return fmt.Errorf("%w: %s", ErrLost, name)
		case readErr == nil && errors.Is(err, storage.ErrExists):
			return nil // our own, and durable
		case errors.Is(readErr, ErrCorrupt):
			return readErr
		}
		// There is none, or ours of which it is not known that it is durable, or it could not be read.
		if ctx.Err() == nil && z.opt.Retrying != nil {
			z.opt.Retrying(name, attempt, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w (last attempt: %w)", ErrUnknown, name, ctx.Err(), err)
		case <-time.After(wait):
		}
		wait = min(2*wait, z.opt.Backoff[1])
	}
}

// drop deletes own files that no manifest will ever list. What cannot be deleted stays an orphan, which does no harm.
func (z *Zone) drop(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	var faults []error
	for _, name := range names {
		killpoint.ReachFor("drop_begun", name)
		if err := z.Delete(ctx, name); err != nil {
			faults = append(faults, fmt.Errorf("delete %s: %w", name, err))
		}
	}
	killpoint.Reach("dropped")
	return errors.Join(faults...)
}

// measured counts and hashes what is written.
type measured struct {
	to   io.Writer
	hash hash.Hash
	n    int64
}

func (w *measured) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.hash.Write(b[:n])
	w.n += int64(n)
	return n, err
}

func randomHex(size int) string {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
