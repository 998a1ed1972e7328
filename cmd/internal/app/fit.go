package app

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// Fitted is the outcome of Fit; its JSON form is public.
type Fitted struct {
	Reference string `json:"reference"` // as contracts name it
	Rows      int    `json:"rows"`      // that were kept
	Read      int64  `json:"read"`
	Rejected  int64  `json:"rejected"` // records that broke the contract; they are in no reference
	Digest    string `json:"digest"`

	Against *Comparison `json:"against,omitempty"`
}

// Comparison tells what an earlier reference says of a new one; its JSON form is public.
type Comparison struct {
	Reference   string                 `json:"reference"` // the earlier one
	Rows        int                    `json:"rows"`      // of the earlier one
	Budget      float64                `json:"budget"`    // the share of rows that it would quarantine if nothing had changed
	Flagged     int                    `json:"flagged"`   // rows of the new one that it would quarantine
	Share       float64                `json:"share"`     // the same as a share
	Expected    bool                   `json:"expected"`  // the share is within three standard errors of the budget, or below
	Reasons     map[finding.Code]int   `json:"reasons"`
	Differences []reference.Difference `json:"differences"`
}

// FitOptions are what may be wanted of Fit beside a reference.
type FitOptions struct {
	Against string // an earlier reference, NAME@VERSION or NAME@latest, to compare with; "" for none
	DryRun  bool   // keep nothing
}

// ErrReference says that a reference in the landing zone is not whole, or not signed by the zone.
var ErrReference = errors.New("not to be believed")

// fitSeed makes the sample that a reference keeps the same for the same input.
const fitSeed = 1

// Fit makes a reference from trusted files and keeps it, sealed, in the landing zone under the next version.
func (a *App) Fit(ctx context.Context, c *contract.Contract, inputs []string, opt FitOptions, progress func(n int64)) (*Fitted, error) {
	c = ofFiles(c)
	if opt.Against != "" || a.config.Accelerator.Use != config.Auto { // otherwise nothing is scored, and nobody demands a device
		if err := a.accelerate(); err != nil {
			return nil, err
		}
	}
	var earlier *reference.Reference
	if opt.Against != "" {
		var err error
		if earlier, err = a.openReference(ctx, "--against", opt.Against); err != nil {
			return nil, err
		}
	}
	inputs, err := files.Expand(ctx, inputs, Buckets{})
	if err != nil {
		return nil, err
	}
	result := &Fitted{}
	reservoir := reference.NewReservoir(c, fitSeed)
	var sources []reference.Input
	for _, input := range inputs {
		source, err := a.fitFile(ctx, c, reservoir, input, result, progress)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	ref, err := reservoir.Reference(time.Now().UTC().Format(time.RFC3339), sources)
	if err != nil {
		return nil, err
	}
	result.Rows, result.Digest = ref.Rows, hex.EncodeToString(ref.Digest[:])
	if earlier != nil {
		if result.Against, err = compare(ctx, c, earlier, ref, a.accelerator); err != nil {
			return nil, err
		}
	}
	if opt.DryRun {
		return result, nil
	}
	version, err := a.keepReference(ctx, c.Topic, ref)
	if err != nil {
		return nil, err
	}
	result.Reference = c.Topic + "@" + strconv.Itoa(version)
	return result, nil
}

// compare tells how a new reference differs from an earlier one, and has the earlier one judge its rows.
func compare(ctx context.Context, c *contract.Contract, earlier, later *reference.Reference, on *Accelerator) (*Comparison, error) {
	scorer, err := policy.New(c, earlier.Restrict(c.Roles), policy.Options{Detectors: on.Detectors()})
	if err != nil {
		return nil, err
	}
	decision, err := scorer.JudgeSample(ctx, later.Sample)
	if err != nil {
		return nil, err
	}
	budget, n, m := c.Detect.Budget, float64(max(later.Rows, 1)), float64(earlier.Rows)
	out := &Comparison{
		Reference: earlier.Name, Rows: earlier.Rows, Budget: budget, Reasons: map[finding.Code]int{},
		Differences: reference.Compare(earlier.Sample, later.Sample, fitSeed),
	}
	for i, v := range decision.Verdicts {
		if v != finding.Accepted {
			out.Flagged++
			for _, code := range decision.Reasons[i] {
				out.Reasons[code]++
			}
		}
	}
	out.Share = float64(out.Flagged) / n
	out.Expected = out.Share <= budget+3*math.Sqrt(budget*(1-budget)*(1/n+1/m))
	return out, nil
}

func (a *App) fitFile(ctx context.Context, c *contract.Contract, reservoir *reference.Reservoir, input string, result *Fitted, progress func(int64)) (reference.Input, error) {
	f, err := files.Open(ctx, input, c, files.Access{Decrypt: a.decrypt, Remote: Buckets{}})
	if err != nil {
		return reference.Input{}, err
	}
	defer f.Close()
	source := reference.Input{SHA256: f.Source().ID}
	builder := batch.NewBuilder(c)
	flush := func() error {
		b := builder.Take()
		if b == nil {
			return nil
		}
		result.Rejected += int64(len(b.Refused))
		defer b.Records.Release()
		return reservoir.Add(b)
	}
	for {
		if err := ctx.Err(); err != nil {
			return source, err
		}
		item, err := f.Next()
		if errors.Is(err, files.ErrEnd) {
			return source, flush()
		}
		if err != nil {
			return source, err
		}
		result.Read++
		source.Rows++
		progress(1)
		if item.Code != "" {
			result.Rejected++
			continue
		}
		m := item.Message
		m.Value = append([]byte(nil), m.Value...)
		builder.Add(m)
		if builder.Rows() >= 4096 || builder.Bytes() >= 4<<20 {
			if err := flush(); err != nil {
				return source, err
			}
		}
	}
}

func referenceFolder(topic string) string { return "_reference/" + manifest.Escape(topic) + "/" }

func referenceName(topic string, version int) string {
	return fmt.Sprintf("%s%d/reference.sealed", referenceFolder(topic), version)
}

// keepReference seals a reference under the first version that is free.
func (a *App) keepReference(ctx context.Context, topic string, ref *reference.Reference) (int, error) {
	latest, err := a.latestReference(ctx, topic)
	if err != nil {
		return 0, err
	}
	for version := latest + 1; ; version++ {
		name := referenceName(topic, version)
		vouched, err := a.checkpoints.Vouch(ctx, vouchFor(topic, version, ref.Digest))
		if err != nil {
			return 0, err
		}
		sealed, err := a.keys.Seal(ctx, envelope.State, name, signedReference(vouched, ref.Encode()))
		if err != nil {
			return 0, err
		}
		err = a.store.Put(ctx, name, sealed)
		if errors.Is(err, storage.ErrExists) {
			continue // another process fits the same topic
		}
		if err != nil {
			return 0, err
		}
		return version, a.chain.Append(ctx, audit.Entry{
			Event: audit.Fit, Subject: topic + "@" + strconv.Itoa(version), Object: name, ObjectSHA256: manifest.Digest(sealed),
			Action: "put", Result: "ok", Details: map[string]string{"rows": strconv.Itoa(ref.Rows), "digest": hex.EncodeToString(ref.Digest[:])},
		})
	}
}

// vouchFor is what the landing zone's key signs of a reference: who holds the key of state alone cannot make one that
// is believed, nor put one version in another's place.
func vouchFor(topic string, version int, digest [sha256.Size]byte) string {
	return fmt.Sprintf("taster reference\n%s@%d\n%x\n", topic, version, digest)
}

// signedReference puts the signed note before the reference's bytes, with the note's length in 4 bytes, big endian.
func signedReference(vouched, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(vouched)+len(body)), uint32(len(vouched)))
	return append(append(out, vouched...), body...)
}

// cutSignature undoes signedReference.
func cutSignature(data []byte) (vouched, body []byte, ok bool) {
	if len(data) < 4 || uint64(len(data)-4) < uint64(binary.BigEndian.Uint32(data)) {
		return nil, nil, false
	}
	n := 4 + int(binary.BigEndian.Uint32(data))
	return data[4:n], data[n:], true
}

// latestReference returns the highest version that is there, 0 for none.
func (a *App) latestReference(ctx context.Context, topic string) (int, error) {
	latest := 0
	for info, err := range a.store.List(ctx, referenceFolder(topic)) {
		if err != nil {
			return 0, err
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(info.Name, referenceFolder(topic)), "/")
		if version, err := strconv.Atoi(text); err == nil && version > latest {
			latest = version
		}
	}
	return latest, nil
}

// reference loads the reference that a contract names; nil where it names none.
func (a *App) reference(ctx context.Context, c *contract.Contract) (*reference.Reference, error) {
	if c.Detect.Reference == "" {
		return nil, nil
	}
	ref, err := a.openReference(ctx, c.Path+": detect.reference", c.Detect.Reference)
	if err != nil {
		return nil, err
	}
	return ref.Restrict(c.Roles), nil
}

// openReference loads a reference by its name, TOPIC@VERSION or TOPIC@latest. where says in errors who named it.
func (a *App) openReference(ctx context.Context, where, named string) (*reference.Reference, error) {
	topic, which, _ := strings.Cut(named, "@")
	version, err := strconv.Atoi(which)
	switch {
	case which == "latest":
		if version, err = a.latestReference(ctx, topic); err == nil && version == 0 {
			return nil, fmt.Errorf("%s: %s: %w: no reference was made yet; make one with taster fit", where, named, ErrNotFound)
		}
	case err != nil || version < 1 || topic == "":
		return nil, fmt.Errorf("%s: %q: %w: want TOPIC@VERSION or TOPIC@latest", where, named, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	name, err := a.newestReference(ctx, topic, version)
	if err != nil {
		return nil, err
	}
	sealed, err := storage.ReadAll(ctx, a.store, name, referenceLimit)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: %s@%d: %w in this landing zone", where, topic, version, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	plain, err := a.keys.Unseal(ctx, name, sealed)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", name, err)
	}
	vouched, body, ok := cutSignature(plain)
	if !ok {
		return nil, fmt.Errorf("reference %s: %w: it carries no signature", name, ErrReference)
	}
	ref, err := reference.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w: %w", name, ErrReference, err)
	}
	text, err := a.checkpoints.Vouched(ctx, vouched)
	if errors.Is(err, audit.ErrForged) {
		return nil, fmt.Errorf("reference %s: %w: %w", name, ErrReference, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", name, err)
	}
	if text != vouchFor(topic, version, ref.Digest) {
		return nil, fmt.Errorf("reference %s: %w: it is signed for another reference", name, ErrReference)
	}
	ref.Name = topic + "@" + strconv.Itoa(version)
	return ref, nil
}
