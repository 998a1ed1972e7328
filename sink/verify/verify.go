// Package verify re-derives everything that a landing zone claims, from its bytes and docs/landing-zone.md alone: it
// shares no code with what wrote them, so that a fault there cannot hide itself here.
//
// It finds any changed, missing or added object, and any break in a chain. Without keys it proves that the stored
// bytes are those that were committed, and that the checkpoints are signed by the zone's key; with keys it also
// decrypts every page and counts the rows again. Only a checkpoint that was kept elsewhere shows that the whole zone was
// rolled back to an earlier state, and only a public key that was kept elsewhere shows that all of it was made anew.
//
// Everything that is known of a place in the zone (the objects that a listing shows there, and what other objects say
// of it) is brought together by sorting, which spills to a temporary file: memory does not grow with the number of
// objects. Places are looked at by several goroutines, and then linked one after the other, in order.
//
// A zone may be written to meanwhile. What looked wrong, and what a writer at work would explain, is looked at once more
// in the end.
package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Store is the landing zone as verify sees it.
type Store interface {
	// List yields every object, in any order.
	List(ctx context.Context) iter.Seq2[Object, error]
	// Open reads an object. The error wraps fs.ErrNotExist where there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Object is what a listing tells of an object.
type Object struct {
	Name string
	Size int64
	// Version is another one whenever the object was replaced, as far as the store can tell; "" when it cannot.
	Version string
	// Changed is when the object was written by the store's clock; zero when it is not known.
	Changed time.Time
}

// Reader decrypts a file of rows, every page of it. content is the digest of its plaintext as docs/landing-zone.md
// defines it, in lower-case hex. The error wraps ErrKey or ErrAway where it is one of these.
type Reader func(ctx context.Context, name string) (rows int64, content string, err error)

// Unsealer decrypts a sealed object. The error is as a Reader's.
type Unsealer func(ctx context.Context, name string) (plain []byte, err error)

var (
	// ErrKey says that the key of a file is not to be had: it was destroyed, or whoever verifies may not use it.
	ErrKey = errors.New("the key is not available")
	// ErrAway says that a service that is needed does not answer, which says nothing about the zone.
	ErrAway = errors.New("cannot be reached")
	// ErrKept says that the checkpoint that was kept is none, or that the public key did not sign it.
	ErrKept = errors.New("the kept checkpoint cannot be used")
)

// Problem is one thing that is not as it should be, or, as a note, one that is worth knowing and no fault.
type Problem struct {
	Code   string `json:"code"`
	Object string `json:"object"`
	Detail string `json:"detail"`
}

// Report is what was found.
type Report struct {
	OK         bool      `json:"ok"`
	Manifests  int64     `json:"manifests"`
	Files      int64     `json:"files"` // that count
	Rows       int64     `json:"rows"`  // in these
	Entries    int64     `json:"audit_entries"`
	Changes    int64     `json:"changes"`
	Superseded int64     `json:"superseded"` // files that a change removed
	Bytes      int64     `json:"bytes"`      // that were read
	Decrypted  bool      `json:"decrypted"`
	Unreadable int64     `json:"unreadable"` // files whose key is not available
	States     int64     `json:"states"`     // that the last manifests of partitions list
	Recalls    int64     `json:"recalls"`    // of single records
	Signed     Signed    `json:"checkpoints"`
	Resumed    int64     `json:"resumed"` // segments that an earlier run of this verification had found good
	Since      *Since    `json:"since,omitempty"`
	Problems   []Problem `json:"problems"`
	More       int64     `json:"more_problems"` // that are not listed
	Notes      []Problem `json:"notes"`
}

// Signed is what was found of checkpoints.
type Signed struct {
	Count    int64  `json:"count"`
	Last     string `json:"last"`     // name of the newest one
	Time     string `json:"time"`     // when it was signed
	Verifier string `json:"verifier"` // the public key that signed it
	Trusted  bool   `json:"trusted"`  // that key was given, or follows from the one that was
	Kept     bool   `json:"kept"`     // all that a kept checkpoint names was looked for
	Unsigned int64  `json:"unsigned"` // chains whose last entry no checkpoint names yet
}

// Since is the checkpoint behind which verification began.
type Since struct {
	Sequence int64  `json:"checkpoint"`
	Time     string `json:"time"`
}

// Options say how thorough to be.
type Options struct {
	Read     Reader                  // nil: nothing is decrypted
	Unseal   Unsealer                // nil: neither are states and recalls
	Progress func(done, total int64) // bytes; nil: nobody is told

	Verifier   *Verifier // the key that must have signed the newest checkpoint, or vouched for the one that did; nil: the zone's first
	Checkpoint []byte    // a checkpoint that was kept elsewhere: the zone must still hold it and all that it names

	SinceTime     time.Time // verify only what came after the newest checkpoint that is not after this; zero: all
	SinceSequence *int64    // or after this checkpoint

	// State is a file by which a verification that was stopped goes on where it was; "" for none. It is removed when
	// the verification is complete. Zone tells what it belongs to.
	State, Zone string

	// Unsigned, if not nil, is told of the last entry of every chain of which no checkpoint names the last entry.
	Unsigned func(name, sha256 string)

	Workers int              // goroutines; default runtime.GOMAXPROCS
	Now     func() time.Time // default time.Now
}

const (
	// listedProblems and listedNotes bound what is told one by one.
	listedProblems = 10_000
	listedNotes    = 1_000
	// smallLimit is the size that a manifest, change, entry or checkpoint may have at most.
	smallLimit = 8 << 20
	// grace is for how long a writer at work explains what it has not finished.
	grace = time.Hour
)

// Run verifies a whole landing zone. The error is for what keeps it from looking (the store cannot be listed, ctx
// ends); what it finds is in the Report.
func Run(ctx context.Context, store Store, options Options) (*Report, error) {
	v := &verifier{
		ctx: ctx, store: store, options: options, keys: map[string]*keyObject{},
		report: &Report{Problems: []Problem{}, Notes: []Problem{}, Decrypted: options.Read != nil},
	}
	if v.options.Workers <= 0 {
		v.options.Workers = runtime.GOMAXPROCS(0)
	}
	if v.options.Now == nil {
		v.options.Now = time.Now
	}
	for i := range v.sorters {
		defer v.sorters[i].close()
	}
	for _, phase := range []func() error{v.kept, v.list, v.loadState, v.checkpoints, v.changes, v.segments, v.learned, v.processes, v.references, v.again} {
		if err := phase(); err != nil {
			return nil, errors.Join(err, v.closeState(false))
		}
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, v.closeState(false))
		}
	}
	order := func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Code, b.Code))
	}
	slices.SortFunc(v.report.Problems, order)
	slices.SortFunc(v.report.Notes, order)
	v.report.OK = len(v.report.Problems) == 0
	v.report.Bytes = v.done - v.skipped
	return v.report, v.closeState(true)
}

type verifier struct {
	ctx     context.Context
	store   Store
	options Options
	report  *Report

	sorters [phases]sorter
	keys    map[string]*keyObject // by object name
	note    *checkpoint           // that was kept
	noteSHA string
	later   []recheck
	state   *state

	mu      sync.Mutex
	done    int64 // bytes looked at
	total   int64
	skipped int64 // of done, those that were not read
}

// recheck is something that looks wrong, and may be explained by a writer at work: explained tells, with what the zone
// holds now, or a note to leave in its place.
type recheck struct {
	problem   Problem
	explained func() (ok bool, note *Problem, err error)
}

// again looks once more at what a writer may have finished meanwhile.
func (v *verifier) again() error {
	for _, r := range v.later {
		ok, note, err := r.explained()
		if err != nil {
			return err
		}
		switch {
		case note != nil:
			v.remark(*note)
		case !ok:
			v.problem(r.problem)
		}
	}
	return nil
}

func (v *verifier) problem(p Problem) {
	if len(v.report.Problems) >= listedProblems {
		v.report.More++
		return
	}
	v.report.Problems = append(v.report.Problems, p)
}

func (v *verifier) found(code, object, format string, args ...any) {
	v.problem(Problem{code, object, fmt.Sprintf(format, args...)})
}

func (v *verifier) remark(p Problem) {
	if len(v.report.Notes) < listedNotes {
		v.report.Notes = append(v.report.Notes, p)
	}
}

// recheckLater keeps something to be looked at again.
func (v *verifier) recheckLater(r recheck) {
	if len(v.later) < listedProblems {
		v.later = append(v.later, r)
	} else {
		v.problem(r.problem)
	}
}

// findings is what a look at one place gave. Goroutines make them, and one adds them up in order.
type findings struct {
	problems []Problem
	notes    []Problem
	later    []recheck
	unread   int64 // bytes that were listed and not read
}

func (f *findings) found(code, object, format string, args ...any) {
	f.problems = append(f.problems, Problem{code, object, fmt.Sprintf(format, args...)})
}

func (f *findings) remark(code, object, format string, args ...any) {
	f.notes = append(f.notes, Problem{code, object, fmt.Sprintf(format, args...)})
}

func (f *findings) good() bool { return len(f.problems) == 0 && len(f.later) == 0 }

func (v *verifier) add(f *findings) {
	for _, p := range f.problems {
		v.problem(p)
	}
	for _, n := range f.notes {
		v.remark(n)
	}
	for _, r := range f.later {
		v.recheckLater(r)
	}
	v.pass(f.unread)
}

// keyName is the name of an object of a signing key.
var keyName = regexp.MustCompile(`^_audit/keys/([1-9][0-9]{0,3})\.(sealed|vkey)$`)

// list sorts what the store holds.
func (v *verifier) list() error {
	for o, err := range v.store.List(v.ctx) {
		if err != nil {
			return err
		}
		if strings.HasPrefix(o.Name, "_tmp/") {
			continue // writes under way; nothing speaks of them
		}
		v.total += o.Size
		if m := keyName.FindStringSubmatch(o.Name); m != nil {
			v.keys[o.Name] = &keyObject{Object: o, generation: m[1]}
			continue
		}
		p, ok := locate(o.Name)
		if !ok {
			if folder, _, _ := strings.Cut(o.Name, "/"); folder == "accepted" || folder == "quarantined" || folder == "rejected" {
				v.found("file_unlisted", o.Name, "no file that a manifest lists can have such a name")
			} else {
				v.found("unknown_object", o.Name, "nothing in a landing zone has such a name")
			}
			v.pass(o.Size)
			continue
		}
		l := listed{Name: o.Name, Size: o.Size, Version: o.Version}
		if !o.Changed.IsZero() {
			l.Changed = o.Changed.Unix()
		}
		if err := v.sorters[p.phase].add(item{p.chain, p.at, p.kind, encode(l)}); err != nil {
			return err
		}
	}
	return nil
}

// steps yields what is known of each place of a phase.
func (v *verifier) steps(phase int) iter.Seq2[*step, error] { return steps(v.sorters[phase].sorted()) }

// encode and decode are for items, which nobody else reads.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("verify: " + err.Error()) // structs of strings and numbers: cannot be
	}
	return string(text)
}

func decode[T any](body string) (t T) {
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		panic("verify: " + err.Error()) // what encode has written
	}
	return t
}

// pass counts bytes that are not read.
func (v *verifier) pass(n int64) {
	v.mu.Lock()
	v.skipped += n
	v.mu.Unlock()
	v.progress(n)
}

func (v *verifier) progress(n int64) {
	if n == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += n
	if v.options.Progress != nil {
		v.options.Progress(v.done, v.total)
	}
}

// small reads an object that fits in memory. found is false where there is none.
func (v *verifier) small(ctx context.Context, name string) (text []byte, found bool, err error) {
	r, err := v.store.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	text, err = io.ReadAll(io.LimitReader(r, smallLimit))
	v.progress(int64(len(text)))
	return text, true, err
}

// buffers are what files are read through.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// digest reads an object of any size. found is false where there is none.
func (v *verifier) digest(ctx context.Context, name string) (size int64, sha string, found bool, err error) {
	r, err := v.store.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", false, nil
	}
	if err != nil {
		return 0, "", false, err
	}
	defer r.Close()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return 0, "", false, err
		}
		n, err := r.Read(*buffer)
		h.Write((*buffer)[:n])
		size += int64(n)
		v.progress(int64(n))
		if err == io.EOF {
			return size, hex.EncodeToString(h.Sum(nil)), true, nil
		}
		if err != nil {
			return 0, "", false, err
		}
	}
}

// young tells whether a writer that is at work since then would explain what is not finished.
func (v *verifier) young(since time.Time) bool {
	return !since.IsZero() && v.options.Now().Sub(since) < grace
}

// youngText is young for a time as manifests write it.
func (v *verifier) youngText(text string) bool {
	at, err := time.Parse(time.RFC3339, text)
	return err == nil && v.young(at)
}

func hexSHA(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
