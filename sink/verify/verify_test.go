package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// objects is a landing zone in memory.
type objects map[string][]byte

func (o objects) List(context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(o)) {
			if !yield(verify.Object{Name: name, Size: int64(len(o[name]))}, nil) {
				return
			}
		}
	}
}

func (o objects) Open(_ context.Context, name string) (io.ReadCloser, error) {
	data, ok := o[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// with returns the zone with one object changed; nil takes it away.
func (o objects) with(name string, data []byte) objects {
	changed := maps.Clone(o)
	if data == nil {
		delete(changed, name)
	} else {
		changed[name] = data
	}
	return changed
}

// names lists the objects below a folder.
func (o objects) names(folder string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if strings.HasPrefix(name, folder) {
			names = append(names, name)
		}
	}
	return names
}

var (
	first  = record.Source{Topic: "_odd topic", ID: "_AAAAAAAQACAAAAAAAAAAQ", Partition: 4}
	second = record.Source{Topic: "reviews", ID: "BBBBBBBBBBBBBBBBBBBBBQ", Partition: 0}
)

func keyring(t testing.TB) *envelope.Keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, "default"); err != nil {
		t.Fatal(err)
	}
	keys, err := envelope.Settings{Zones: map[string]string{"default": "keyfile://" + path + "#default"}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

type writer struct {
	t       testing.TB
	store   storage.Store
	keys    *envelope.Keyring
	process *audit.Process
	commits *audit.Commits
	zone    *landing.Zone
	memory  map[record.Source][]byte // what was taught so far; nil: nothing is remembered
}

func begin(t testing.TB, store storage.Store, keys *envelope.Keyring, at time.Time) *writer {
	t.Helper()
	w := &writer{t: t, store: store, keys: keys, process: audit.OpenProcess(store, audit.NewProcess(at), func() time.Time { return at }), commits: audit.OpenCommits(store)}
	var err error
	if w.zone, err = landing.Open(t.Context(), landing.Options{Store: store, Keys: keys, Process: w.process.Name(), Now: func() time.Time { return at }}); err != nil {
		t.Fatal(err)
	}
	w.enter(audit.Entry{Event: audit.Start, Subject: "run", Action: "run", Result: "ok"})
	return w
}

func (w *writer) enter(e audit.Entry) {
	w.t.Helper()
	if err := w.process.Append(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
}

// commit lands the offsets [head, next): the first is refused, the second quarantined, the others accepted, and the
// last is a gap.
func (w *writer) commit(src record.Source, next int64) {
	w.t.Helper()
	head, err := w.zone.Head(w.t.Context(), src, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	at := head.Next()
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	batch := &record.Batch{Refused: []record.Refused{{Message: record.Message{Offset: at, Timestamp: at, Value: []byte("{")}, Code: finding.JSONTruncated, At: 1}}}
	decision := &record.Decision{
		Reasons: map[int][]finding.Code{0: {finding.PoisonOutlier}}, Risk: 0.5, Threshold: 0.9, Calibrated: "batch", Detectors: []string{"outlier/1"},
		Findings: map[int][]finding.Finding{0: {{Detector: "outlier", Score: 9, PValue: 0.001, Threshold: 0.01, Evidence: "far"}}},
	}
	for offset := at + 1; offset < next-1; offset++ {
		b.Field(0).(*array.Int64Builder).Append(offset)
		batch.Origins = append(batch.Origins, record.Origin{Offset: offset, Timestamp: offset})
		batch.Providers = append(batch.Providers, "acme")
		batch.Classifications = append(batch.Classifications, record.Internal)
		verdict := finding.Accepted
		if offset == at+1 {
			verdict = finding.Quarantined
		}
		decision.Verdicts, decision.Risks = append(decision.Verdicts, verdict), append(decision.Risks, 0.1)
	}
	if w.memory != nil {
		if own := w.memory[src]; own != nil {
			decision.Judged = []string{manifest.Digest(own)}
			decision.Recalls = []record.Recall{{Source: src, Offset: at - 2, Code: finding.PoisonTrigger, Finding: finding.Finding{Detector: "trigger", Evidence: "a word"}}}
		}
		decision.State = fmt.Appendf(nil, "what was taught until %d", next)
		w.memory[src] = decision.State
	}
	batch.Records = b.NewRecordBatch()
	segment := &record.Segment{Source: src, First: at, Next: next, Opened: 1767225599999, Batches: []*record.Batch{batch}}
	defer segment.Release()
	c := &contract.Contract{Topic: src.Topic, Classification: record.Internal}
	if head, err = w.zone.Commit(w.t.Context(), segment, decision, c, head); err != nil {
		w.t.Fatal(err)
	}
	if err := w.commits.Append(w.t.Context(), head.Last.Manifest); err != nil {
		w.t.Fatal(err)
	}
}

// fit keeps a reference as taster fit does.
func (w *writer) fit(version int) {
	w.t.Helper()
	name := fmt.Sprintf("%sreviews/%d/reference.sealed", manifest.ReferenceFolder, version)
	sealed, err := w.keys.Seal(w.t.Context(), envelope.State, name, []byte("a trusted reference"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Put(w.t.Context(), name, sealed); err != nil {
		w.t.Fatal(err)
	}
	w.enter(audit.Entry{Event: audit.Fit, Subject: fmt.Sprintf("reviews@%d", version), Object: name, ObjectSHA256: manifest.Digest(sealed), Action: "put", Result: "ok"})
}

// build makes a landing zone with the real writers: two processes, two partitions, five segments with all three
// verdicts, two references.
func build(t testing.TB) (objects, *envelope.Keyring) {
	t.Helper()
	return buildZone(t, func(store storage.Store, keys *envelope.Keyring) {
		one := begin(t, store, keys, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		one.fit(1)
		one.commit(first, 5)
		one.commit(first, 9)
		one.commit(second, 6)
		one.enter(audit.Entry{Event: audit.Stop, Subject: "run", Action: "run", Result: "ok"})
		two := begin(t, store, keys, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
		two.commit(second, 10)
		two.commit(first, 13)
		two.enter(audit.Entry{Event: audit.Verify, Subject: "landing", Action: "read", Result: "ok"})
		two.fit(2)
	})
}

// buildSmall makes one with as little as has everything.
func buildSmall(t testing.TB) objects {
	t.Helper()
	zone, _ := buildZone(t, func(store storage.Store, keys *envelope.Keyring) {
		w := begin(t, store, keys, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		w.fit(1)
		w.commit(first, 5)
		w.commit(first, 9)
		w.commit(second, 6)
	})
	return zone
}

func buildZone(t testing.TB, fill func(storage.Store, *envelope.Keyring)) (objects, *envelope.Keyring) {
	t.Helper()
	dir := t.TempDir()
	store, err := storage.OpenPosix(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring(t)
	fill(store, keys)
	zone := objects{}
	for info, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if zone[info.Name], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(info.Name))); err != nil {
			t.Fatal(err)
		}
	}
	return zone, keys
}

func run(t testing.TB, zone objects, read verify.Reader) *verify.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), zone, verify.Options{Read: read})
	if err != nil {
		t.Fatal(err)
	}
	if report.OK != (len(report.Problems) == 0) {
		t.Fatalf("ok is %v with %d problems", report.OK, len(report.Problems))
	}
	return report
}

// bad checks that a zone is not good and that the object is named; codes, if any are given, are those it may have.
func bad(t testing.TB, zone objects, object string, codes ...string) {
	t.Helper()
	report := run(t, zone, nil)
	for _, p := range report.Problems {
		if p.Object == object && (len(codes) == 0 || slices.Contains(codes, p.Code)) {
			return
		}
	}
	t.Errorf("%s %v is not named: %+v", object, codes, report.Problems)
}

func reader(zone objects, keys *envelope.Keyring) verify.Reader {
	return func(ctx context.Context, name string) (int64, string, error) {
		data := zone[name]
		r, err := parquet.Open(ctx, bytes.NewReader(data), int64(len(data)), name, keys)
		if err != nil {
			return 0, "", err
		}
		content, rows, err := r.Content(ctx)
		return rows, content, err
	}
}

func TestGoodZone(t *testing.T) {
	zone, keys := build(t)
	var done, total int64
	report, err := verify.Run(t.Context(), zone, verify.Options{Read: reader(zone, keys), Progress: func(d, t int64) { done, total = d, t }})
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, data := range zone {
		size += int64(len(data))
	}
	want := verify.Report{OK: true, Manifests: 5, Files: 15, Rows: 18, Entries: 5 + 3 + 3, Bytes: size, Decrypted: true,
		Signed: verify.Signed{Unsigned: 4}, Problems: []verify.Problem{}, Notes: []verify.Problem{}}
	if fmt.Sprint(*report) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", *report, want)
	}
	if done != size || total != size {
		t.Errorf("looked at %d of %d bytes, there are %d", done, total, size)
	}
	if report = run(t, zone, nil); !report.OK || report.Decrypted {
		t.Errorf("without keys: %+v", report)
	}
}

// TestEveryBitCounts changes one bit at a time, and the object that it stands in must be named. Of the data files,
// whose bytes are all under one digest, it takes a sample.
func TestEveryBitCounts(t *testing.T) {
	zone := buildSmall(t)
	random := rand.New(rand.NewPCG(20260101, 1))
	type flip struct {
		name string
		at   int
		bit  byte
	}
	var flips []flip
	for _, name := range slices.Sorted(maps.Keys(zone)) {
		from, step := 0, 1
		switch {
		case strings.HasSuffix(name, ".parquet"):
			step = 1 + len(zone[name])/40
			from = random.IntN(step)
		case testing.Short():
			step = 7
			from = random.IntN(step)
		}
		for at := from; at < len(zone[name]); at += step {
			flips = append(flips, flip{name, at, 1 << random.IntN(8)})
		}
	}
	if len(flips) < 1000 {
		t.Fatalf("only %d flips: the test shows nothing", len(flips))
	}
	const workers = 4
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := worker; i < len(flips); i += workers {
				f := flips[i]
				data := bytes.Clone(zone[f.name])
				data[f.at] ^= f.bit
				bad(t, zone.with(f.name, data), f.name)
				if t.Failed() {
					t.Errorf("byte %d of %s, bit %#x", f.at, f.name, f.bit)
					return
				}
			}
		}()
	}
	wait.Wait()
	t.Logf("%d flips in %d objects", len(flips), len(zone))
}

// TestEveryObjectCounts takes away one object at a time. What cannot be seen is the last entry of a process's chain,
// unless it speaks of an object that is still there: nothing follows it.
func TestEveryObjectCounts(t *testing.T) {
	zone, _ := build(t)
	unseen := 0
	for _, name := range slices.Sorted(maps.Keys(zone)) {
		removed := zone.with(name, nil)
		if folder := name[:strings.LastIndexByte(name, '/')+1]; strings.HasPrefix(name, "_audit/process/") {
			chain := zone.names(folder)
			if name == chain[len(chain)-1] {
				if bytes.Contains(zone[name], []byte(`"event":"fit"`)) {
					bad(t, removed, "_reference/reviews/2/reference.sealed", "reference_unlisted")
				} else if report := run(t, removed, nil); !report.OK {
					t.Errorf("documented as unseen, and yet: %+v", report.Problems)
				} else {
					unseen++
				}
				continue
			}
		}
		bad(t, removed, name, "file_missing", "manifest_missing", "audit_missing", "reference_missing")
	}
	if unseen != 1 {
		t.Errorf("%d removals could not be seen, want 1", unseen)
	}
}

// A process that wrote manifests has a chain, and all of it cannot vanish.
func TestWholeProcessChainRemoved(t *testing.T) {
	zone, _ := build(t)
	entries := zone.names("_audit/process/")
	process := entries[0][:strings.LastIndexByte(entries[0], '/')+1]
	for _, name := range zone.names(process) {
		zone = zone.with(name, nil)
	}
	bad(t, zone, process, "audit_missing")
}

// TestTruncatedHistory holds the known limit: when the newest segment of a partition is cut off with everything that
// speaks of it, what remains is a good, older zone.
func TestTruncatedHistory(t *testing.T) {
	zone, _ := build(t)
	names := zone.names(manifest.Folder(first))
	last := names[len(names)-1]
	m, err := manifest.Decode(zone[last])
	if err != nil {
		t.Fatal(err)
	}
	cut := zone.with(last, nil)
	bad(t, cut, last, "manifest_missing")
	cut = cut.with(audit.CommitName(m), nil)
	bad(t, cut, m.Files[0].Name, "file_unlisted")
	for _, f := range m.Files {
		cut = cut.with(f.Name, nil)
	}
	if report := run(t, cut, nil); !report.OK {
		t.Errorf("documented as unseen, and yet: %+v", report.Problems)
	}
	// The same in the middle shows.
	m, err = manifest.Decode(zone[names[1]])
	if err != nil {
		t.Fatal(err)
	}
	cut = zone.with(names[1], nil).with(audit.CommitName(m), nil)
	for _, f := range m.Files {
		cut = cut.with(f.Name, nil)
	}
	bad(t, cut, last, "manifest_chain")
	// And at the beginning.
	m, err = manifest.Decode(zone[names[0]])
	if err != nil {
		t.Fatal(err)
	}
	cut = zone.with(names[0], nil).with(audit.CommitName(m), nil)
	for _, f := range m.Files {
		cut = cut.with(f.Name, nil)
	}
	bad(t, cut, names[1], "manifest_chain")
}

func TestAddedObjects(t *testing.T) {
	zone, _ := build(t)
	manifests := zone.names(manifest.Folder(second))
	lastManifest := manifests[len(manifests)-1]
	listed := zone.names("accepted/")[0]
	entries := zone.names("_audit/process/")
	chain := entries[0][:strings.LastIndexByte(entries[0], '/')+1]
	for name, code := range map[string]string{
		listed[:len(listed)-len(".parquet")] + "0.parquet": "file_unlisted",
		"accepted/x": "file_unlisted",
		"quarantined/reviews/2026-01-01/added.parquet":                        "file_unlisted",
		"_reference/reviews/3/reference.sealed":                               "reference_unlisted",
		"README":                                                              "unknown_object",
		"Accepted/reviews/x.parquet":                                          "unknown_object",
		"_commits/reviews/x/0/1.json":                                         "unknown_object",
		"_commits/reviews/x/zero/00000000000000000000.json":                   "unknown_object",
		"_audit/other/00000000000000000000.json":                              "unknown_object",
		"_state/x":                                                            "unknown_object",
		manifest.Folder(second) + "00000000000000000010.json":                 "manifest_unreadable",
		manifest.Folder(second) + "00000000000000000001.json":                 "manifest_unreadable",
		"_audit/commits/reviews/x/0/00000000000000000000.json":                "",
		chain + "00000000000000000003.json":                                   "audit_changed",
		chain + "00000000000000000099.json":                                   "",
		"_audit/process/20260101T000000Z-0000000000000000/" + "1.json":        "unknown_object",
		"_audit/process/20260101T000000Z-0000000000000000/" + zeros + ".json": "audit_changed",
	} {
		t.Run(name, func(t *testing.T) {
			added := zone.with(name, []byte("{}"))
			if code == "" {
				if report := run(t, added, nil); report.OK {
					t.Error("not seen")
				}
				return
			}
			bad(t, added, name, code)
		})
	}
	// A manifest that is good in itself, put behind the last one without an entry.
	m, err := manifest.Decode(zone[lastManifest])
	if err != nil {
		t.Fatal(err)
	}
	forged := *m
	forged.First, forged.Next, forged.Previous = m.Next, m.Next+1, manifest.Digest(zone[lastManifest])
	forged.Counts, forged.Gaps, forged.Files, forged.Reasons = manifest.Counts{}, 1, []manifest.File{}, map[finding.Code]int64{}
	data, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	bad(t, zone.with(forged.Name(), data), audit.CommitName(&forged), "audit_missing")
	// One that lists files of another: the writer's own package would refuse to make it.
	data = bytes.ReplaceAll(zone[lastManifest], fmt.Appendf(nil, `"first":%d,"next":%d`, m.First, m.Next), fmt.Appendf(nil, `"first":%d,"next":%d`, m.Next, m.Next+m.Next-m.First))
	bad(t, zone.with(forged.Name(), data), forged.Name(), "manifest_counts")
	// What is being written is nobody's claim.
	if report := run(t, zone.with("_tmp/x", []byte("half")), nil); !report.OK {
		t.Errorf("writes under way: %+v", report.Problems)
	}
}

const zeros = "00000000000000000000"

// TestSwapped puts every object in the place of every other of its kind.
func TestSwapped(t *testing.T) {
	zone, _ := build(t)
	for _, folder := range []string{"_commits/", "_audit/", "accepted/", "rejected/", "_reference/"} {
		names := zone.names(folder)
		if len(names) < 2 {
			t.Fatalf("too few objects in %s", folder)
		}
		for i, a := range names {
			for _, b := range names[:i] {
				swapped := zone.with(a, zone[b]).with(b, zone[a])
				bad(t, swapped, a)
				bad(t, swapped, b)
				bad(t, zone.with(a, zone[b]), a)
			}
		}
	}
}

func TestTruncatedAndGrown(t *testing.T) {
	zone, _ := build(t)
	for _, name := range slices.Sorted(maps.Keys(zone)) {
		data := zone[name]
		for _, n := range []int{0, 1, len(data) / 2, len(data) - 1} {
			bad(t, zone.with(name, bytes.Clone(data[:n])), name)
		}
		for _, tail := range []string{"\n", " ", "}", "\x00", string(data)} {
			bad(t, zone.with(name, append(bytes.Clone(data), tail...)), name)
		}
	}
}

// An entry that was rewritten with a digest of its own is caught by the entry behind it; the last by nobody, if it
// agrees with all that it speaks of.
func TestRewrittenEntries(t *testing.T) {
	zone, _ := build(t)
	rewrite := func(name, old, new string) objects {
		body, _, found := strings.Cut(string(zone[name]), `,"digest":`)
		if !found || !strings.Contains(body, old) {
			t.Fatalf("%s holds no %s", name, old)
		}
		body = strings.ReplaceAll(body, old, new)
		return zone.with(name, fmt.Appendf(nil, `%s,"digest":"%s"}`, body, manifest.Digest([]byte(body+"}"))))
	}
	entries := zone.names("_audit/process/")
	bad(t, rewrite(entries[0], `"start"`, `"stop"`), entries[1], "audit_chain")
	bad(t, rewrite(entries[1], `reference.sealed`, `reference.other`), "_reference/reviews/1/reference.sealed", "reference_unlisted")
	bad(t, rewrite(entries[1], `"result":"ok"`, `"result":"no"`), "_reference/reviews/1/reference.sealed", "reference_unlisted")
	actor := strings.Split(entries[0], "/")[2]
	bad(t, rewrite(entries[0], actor, "somebody"), entries[0], "audit_mismatch")
	commits := zone.names("_audit/commits/")
	last := commits[len(commits)-1]
	for old, new := range map[string]string{
		actor: "somebody", `"event":"commit"`: `"event":"verify"`, `allow contract `: `allow contract 0`, `2026-01-02T`: `2026-01-03T`,
		`"object":"`: `"object":"x`,
	} {
		if strings.Contains(string(zone[last]), old) {
			bad(t, rewrite(last, old, new), last, "audit_mismatch")
		} else if old != actor {
			t.Errorf("the entry holds no %s", old)
		}
	}
	bad(t, rewrite(last, `"version":1`, `"version":2`), last, "audit_changed")
	bad(t, rewrite(last, `"version":1`, `"version":1,"more":1`), last, "audit_changed")
}

// TestKeys reads the pages as well: keys that are not the right ones are a problem of each file, not a crash.
func TestKeys(t *testing.T) {
	zone, keys := build(t)
	codes := func(report *verify.Report) map[string]int {
		n := map[string]int{}
		for _, p := range report.Problems {
			n[p.Code]++
		}
		return n
	}
	if got := codes(run(t, zone, reader(zone, keyring(t)))); !maps.Equal(got, map[string]int{"file_unreadable": 15}) {
		t.Errorf("with wrong keys: %v", got)
	}
	good := reader(zone, keys)
	if got := codes(run(t, zone, func(ctx context.Context, name string) (int64, string, error) {
		rows, content, err := good(ctx, name)
		return rows + 1, content, err
	})); !maps.Equal(got, map[string]int{"file_rows": 15}) {
		t.Errorf("with other rows: %v", got)
	}
	if got := codes(run(t, zone, func(ctx context.Context, name string) (int64, string, error) {
		rows, content, err := good(ctx, name)
		return rows, strings.ToUpper(content), err
	})); !maps.Equal(got, map[string]int{"file_content": 15}) {
		t.Errorf("with other content: %v", got)
	}
	// A changed file is not decrypted: that it was changed is all there is to say.
	name := zone.names("accepted/")[0]
	changed := zone.with(name, append(bytes.Clone(zone[name]), 0))
	if got := codes(run(t, changed, reader(changed, keys))); !maps.Equal(got, map[string]int{"file_changed": 1}) {
		t.Errorf("a changed file: %v", got)
	}
}

// broken is a store that fails.
type broken struct {
	objects
	list, open error
}

func (b broken) List(ctx context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		for o := range b.objects.List(ctx) {
			if !yield(o, nil) {
				return
			}
		}
		yield(verify.Object{}, b.list)
	}
}

func (b broken) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if b.open != nil {
		return nil, b.open
	}
	return b.objects.Open(ctx, name)
}

// What keeps verify from looking is an error, and never a report that says good or not good.
func TestUnreadableStore(t *testing.T) {
	zone, _ := build(t)
	failure := errors.New("the disk does not answer")
	for _, store := range []verify.Store{broken{zone, failure, nil}, broken{zone, nil, failure}} {
		if report, err := verify.Run(t.Context(), store, verify.Options{}); !errors.Is(err, failure) || report != nil {
			t.Errorf("got %v, %v", report, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verify.Run(ctx, zone, verify.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context ended: %v", err)
	}
}

func TestEmptyZone(t *testing.T) {
	if report := run(t, objects{}, nil); !report.OK || report.Manifests != 0 {
		t.Errorf("%+v", report)
	}
}
