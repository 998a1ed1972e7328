package verify

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// saveEvery is how often the progress within one partition is kept.
const saveEvery = 2 * time.Second

// A state file holds how far partitions were found good, one JSON line each time; the last of a partition counts. Its
// segments are passed over by the next run if the store still lists the very same objects for them, each with the
// same size and version, and if changes say the same of them. Resuming therefore trusts the state file, and the store
// to tell another version of an object whenever it was replaced. Where a store tells no versions, nothing is passed
// over.
type state struct {
	file  *os.File
	saved time.Time
	lines int
	valid []bool // of the partitions that the last run has saved, in order
	at    int
}

// saved is how far a partition was found good, and what the next segment must follow from.
type saved struct {
	Chain   string `json:"chain"`
	At      string `json:"at"`      // the last segment
	Listing string `json:"listing"` // hex SHA-256 over all that was known of the segments

	Manifest string `json:"manifest"` // hex SHA-256
	Next     int64  `json:"next"`
	Entry    string `json:"entry"`  // digest
	Tip      Tip    `json:"tip"`    // the last entry
	Named    bool   `json:"signed"` // a checkpoint names it

	Segments   int64 `json:"segments"`
	Manifests  int64 `json:"manifests"`
	Entries    int64 `json:"entries"`
	Files      int64 `json:"files"`
	Rows       int64 `json:"rows"`
	Superseded int64 `json:"superseded"`
	Unreadable int64 `json:"unreadable"`
	Recalls    int64 `json:"recalls,omitempty"`
}

// Tip is the last entry of a chain.
type Tip struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// header is the first line of a state file: another verification begins anew.
func (v *verifier) header() []byte {
	o := v.options
	kept := ""
	if o.Checkpoint != nil {
		kept = hexSHA(o.Checkpoint)
	}
	text, err := json.Marshal(struct {
		Version  int       `json:"version"`
		Zone     string    `json:"zone"`
		Decrypt  bool      `json:"decrypt"`
		Kept     string    `json:"kept"`
		Since    time.Time `json:"since"`
		Sequence *int64    `json:"since_checkpoint"`
	}{1, o.Zone, o.Read != nil, kept, o.SinceTime, o.SinceSequence})
	if err != nil {
		panic("verify: " + err.Error()) // strings, numbers and a time: cannot be
	}
	return append(text, '\n')
}

// loadState reads what an earlier run left. What cannot be read is of no use, and no error.
func (v *verifier) loadState() error {
	if v.options.State == "" {
		return nil
	}
	v.state = &state{}
	file, err := os.Open(v.options.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReader(file)
	if head, err := r.ReadBytes('\n'); err != nil || !bytes.Equal(head, v.header()) {
		return nil
	}
	for {
		line, err := r.ReadBytes('\n')
		if err != nil { // the last line may be half written
			if err == io.EOF {
				err = nil
			}
			return err
		}
		var s saved
		if json.Unmarshal(line, &s) != nil || !isPartition(s.Chain) {
			return nil
		}
		v.state.lines++
		if err := v.sorters[inSegments].add(item{s.Chain, "", isSaved, fmt.Sprintf("%012d%s", v.state.lines, encode(s))}); err != nil {
			return err
		}
	}
}

// openState finds out which partitions may be resumed, and begins the state file of this run with them.
func (v *verifier) openState() error {
	if v.state == nil {
		return nil
	}
	fresh := v.options.State + ".new"
	file, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	v.state.file, v.state.saved = file, v.options.Now()
	if _, err := file.Write(v.header()); err != nil {
		return err
	}
	if v.state.lines > 0 {
		var known *saved
		var listing, chain string
		for s, err := range v.steps(inSegments) {
			if err != nil {
				return err
			}
			if s.chain != chain {
				chain, known, listing = s.chain, nil, ""
			}
			if s.at == "" {
				if known = lastSaved(s); known != nil {
					v.state.valid = append(v.state.valid, false)
				}
				continue
			}
			if known == nil || s.at > known.At {
				continue
			}
			if listing, _ = s.fingerprint(listing); s.at == known.At && listing == known.Listing {
				v.state.valid[len(v.state.valid)-1] = true
				if err := v.write(known); err != nil {
					return err
				}
			}
		}
	}
	return os.Rename(fresh, v.options.State)
}

func lastSaved(s *step) *saved {
	lines := s.bodies(isSaved)
	if len(lines) == 0 {
		return nil
	}
	known := decode[saved](slices.Max(lines)[12:])
	return &known
}

// stillGood returns how far a partition was found good by an earlier run, if that still holds.
func (v *verifier) stillGood(head *step) *saved {
	known := lastSaved(head)
	if known == nil {
		return nil
	}
	v.state.at++
	if !v.state.valid[v.state.at-1] {
		return nil
	}
	return known
}

// fingerprint goes on from the one before with all that is known of a step, but for what checkpoints say, which is
// looked at in any case. ok is false where an object may be replaced without being seen.
func (s *step) fingerprint(before string) (sum string, ok bool) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", before, s.at)
	ok = true
	for _, i := range s.items {
		switch i.kind {
		case isClaimed:
			continue
		case isObject, isEntry, isFile, isSidecar, isRecalls:
			ok = ok && decode[listed](i.body).Version != ""
		}
		fmt.Fprintf(h, "%c %s\n", i.kind, i.body)
	}
	return hex.EncodeToString(h.Sum(nil)), ok
}

// resume goes on behind what was found good.
func (w *walk) resume(from *saved) {
	w.progress = *from
	w.before, w.beforeSHA = &manifest{Next: from.Next}, from.Manifest
	w.link = link{digest: from.Entry, tip: entrySeen{name: from.Tip.Name, there: true, sha: from.Tip.SHA256}, named: from.Named}
	r := w.v.report
	r.Resumed += from.Segments
	r.Manifests += from.Manifests
	r.Entries += from.Entries
	r.Files += from.Files
	r.Rows += from.Rows
	r.Superseded += from.Superseded
	r.Unreadable += from.Unreadable
	r.Recalls += from.Recalls
}

// advance notes that a partition is good up to here.
func (w *walk) advance(seen *segmentSeen) error {
	if w.v.state == nil || w.dirty {
		return nil
	}
	p := &w.progress
	sum, ok := seen.fingerprint(p.Listing)
	if !ok || seen.manifest == nil || seen.entry.entry == nil || seen.mode != full {
		w.dirty = true
		return nil
	}
	p.Chain, p.At, p.Listing = seen.chain, seen.at, sum
	p.Manifest, p.Next, p.Entry = seen.sha, seen.manifest.Next, seen.entry.entry.Digest
	p.Tip, p.Named = Tip{seen.entry.name, seen.entry.sha}, seen.has(isClaimed)
	p.Segments++
	p.Manifests++
	p.Entries++
	p.Files += seen.files
	p.Rows += seen.rows
	p.Superseded += seen.superseded
	p.Unreadable += seen.unreadable
	p.Recalls += seen.recalls
	return w.v.save(p, false)
}

// save keeps the progress of a partition, now and then or at its end.
func (v *verifier) save(p *saved, end bool) error {
	if v.state == nil || p.At == "" || !end && v.options.Now().Sub(v.state.saved) < saveEvery {
		return nil
	}
	return v.write(p)
}

func (v *verifier) write(p *saved) error {
	v.state.saved = v.options.Now()
	_, err := v.state.file.WriteString(encode(p) + "\n")
	return err
}

// closeState ends the state file: it is of no use when the verification is complete.
func (v *verifier) closeState(complete bool) error {
	if v.state == nil || v.state.file == nil {
		return nil
	}
	err := v.state.file.Close()
	if complete {
		err = errors.Join(err, os.Remove(v.options.State))
	}
	return err
}
