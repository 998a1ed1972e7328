package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// folder is a landing zone on disk, as cmd/internal/app shows it.
type folder string

func (f folder) List(context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		_ = filepath.WalkDir(string(f), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(string(f), path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !yield(verify.Object{Name: filepath.ToSlash(name), Size: info.Size()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
	}
}

func (f folder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(f), name))
}

// BenchmarkVerify reads a zone of 512 MB in 64 files from a local disk (or rather, from the cache of its pages), on
// one core and on all.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	store, err := storage.OpenPosix(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	process := audit.OpenProcess(store, audit.NewProcess(at), clockAt)
	if err := process.Append(b.Context(), audit.Entry{Event: audit.Start}); err != nil {
		b.Fatal(err)
	}
	commits := audit.OpenCommits(store)
	previous, total := "", int64(0)
	for i := range int64(64) {
		copy(data, strconv.FormatInt(i, 10))
		m := segment(second, i, previous, process.Name())
		m.Counts.Accepted, m.Gaps = 1, 9
		sum := sha256.Sum256(data)
		m.Files = []manifest.File{{
			Name: manifest.NewFileName(finding.Accepted, second, m.Opened, m.First, m.Next, fmt.Sprintf("%016x", i)).String(), Verdict: finding.Accepted, Rows: 1,
			Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Content: strings.Repeat("0a", 32), Keys: []string{"default"},
		}}
		text, err := m.Encode()
		if err != nil {
			b.Fatal(err)
		}
		for name, content := range map[string][]byte{m.Files[0].Name: data, m.Name(): text} {
			if err := store.Put(b.Context(), name, content); err != nil {
				b.Fatal(err)
			}
			total += int64(len(content))
		}
		if err := commits.Append(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		previous = manifest.Digest(text)
	}
	for _, workers := range []int{1, runtime.GOMAXPROCS(0)} {
		b.Run(fmt.Sprintf("goroutines=%d", workers), func(b *testing.B) {
			b.SetBytes(total)
			before := processorTime()
			for b.Loop() {
				report, err := verify.Run(b.Context(), folder(dir), verify.Options{Workers: workers})
				if err != nil || !report.OK {
					b.Fatal(err, report)
				}
			}
			if used := processorTime() - before; used > 0 { // on a machine that does other things as well this is what counts
				b.ReportMetric(float64(total)*float64(b.N)/1e6/used.Seconds(), "MB/s-of-a-core")
			}
		})
	}
}

// segment is a manifest of ten offsets that were all gaps.
func segment(src record.Source, i int64, previous, process string) *manifest.Manifest {
	return &manifest.Manifest{
		Version: manifest.Version, Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, First: 10 * i, Next: 10*i + 10, Gaps: 10,
		Opened: manifest.Time(at.UnixMilli()), Committed: manifest.Time(at.UnixMilli() + i), Process: process,
		Writer: strings.Repeat("0a", 16), Previous: previous, Contract: strings.Repeat("0b", 32),
		Detectors: []string{}, Reasons: map[finding.Code]int64{}, Files: []manifest.File{},
	}
}

// made is a landing zone of any size that is made while it is read: partitions of a thousand segments without rows.
type made struct {
	partitions int
	process    string
	start      []byte // the process's only entry

	mu   sync.Mutex
	last map[int]objects // what was made last
}

const segmentsEach = 1000

func (m *made) List(context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		yield(verify.Object{Name: audit.ProcessName(m.process, 0), Size: int64(len(m.start))}, nil)
		for _, kind := range []string{manifest.CommitsFolder, audit.CommitsFolder} {
			for p := range m.partitions {
				folder := kind + manifest.SourcePath(record.Source{Topic: "made", ID: "AAAA", Partition: int32(p)})
				for i := range segmentsEach {
					if !yield(verify.Object{Name: fmt.Sprintf("%s/%020d.json", folder, 10*i), Size: 700}, nil) {
						return
					}
				}
			}
		}
	}
}

func (m *made) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == audit.ProcessName(m.process, 0) {
		return io.NopCloser(bytes.NewReader(m.start)), nil
	}
	parts := strings.Split(name, "/")
	p, err := strconv.Atoi(parts[len(parts)-2])
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	zone := m.last[p]
	if zone == nil {
		if zone, err = m.make(ctx, p); err != nil {
			return nil, err
		}
		delete(m.last, p-2)
		m.last[p] = zone
	}
	return zone.Open(ctx, name)
}

func (m *made) make(ctx context.Context, p int) (objects, error) {
	zone := objects{}
	store := putter{zone}
	commits := audit.OpenCommits(store)
	previous := ""
	for i := range int64(segmentsEach) {
		one := segment(record.Source{Topic: "made", ID: "AAAA", Partition: int32(p)}, i, previous, m.process)
		text, err := one.Encode()
		if err != nil {
			return nil, err
		}
		zone[one.Name()] = text
		previous = manifest.Digest(text)
		if err := commits.Append(ctx, one); err != nil {
			return nil, err
		}
	}
	return zone, nil
}

// putter is a store in memory to write audit entries to.
type putter struct{ objects }

func (p putter) Put(_ context.Context, name string, data []byte) error {
	p.objects[name] = data
	return nil
}

func (p putter) Open(_ context.Context, name string) (storage.Reader, error) {
	data, ok := p.objects[name]
	if !ok {
		return nil, storage.ErrNotExist
	}
	return inMemory{bytes.NewReader(data)}, nil
}

func (p putter) List(context.Context, string) iter.Seq2[storage.Info, error] {
	return func(func(storage.Info, error) bool) {} // the chain begins here
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// BenchmarkVerifyObjects tells how much memory the number of objects costs: the most that the process had resident.
func BenchmarkVerifyObjects(b *testing.B) {
	for _, objects := range []int{20_000, 200_000, 1_000_000} {
		b.Run(strconv.Itoa(objects), func(b *testing.B) {
			zone := newMade(b, objects/2/segmentsEach)
			runtime.GC()
			_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // begin to measure anew, where this is possible
			for b.Loop() {
				report, err := verify.Run(b.Context(), zone, verify.Options{})
				if err != nil || !report.OK || report.Manifests+report.Entries != int64(objects)+1 {
					b.Fatal(err, report)
				}
			}
			b.ReportMetric(float64(objects)*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			b.ReportMetric(peak(), "MB-resident")
		})
	}
}

func newMade(b testing.TB, partitions int) *made {
	zone := &made{partitions: partitions, process: audit.NewProcess(at), last: map[int]objects{}}
	start := objects{}
	if err := audit.OpenProcess(putter{start}, zone.process, clockAt).Append(b.Context(), audit.Entry{Event: audit.Start}); err != nil {
		b.Fatal(err)
	}
	zone.start = start[audit.ProcessName(zone.process, 0)]
	return zone
}

// peak returns the most memory that was resident, in MB; 0 where the system does not tell.
func peak() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes float64
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes / 1000
}
