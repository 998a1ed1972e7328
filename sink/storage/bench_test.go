//go:build services

package storage_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest"
)

// What a commit costs: a manifest of 2 KB, put if absent, and a file of 32 MB before it, by each kind of store. The
// servers run on the same machine, so these are the costs of the client, the protocol and a local server, without a
// network between.
func BenchmarkStore(b *testing.B) {
	run := func(name string, open func(*testing.B) string) {
		b.Run(name, func(b *testing.B) {
			s, err := storage.Open(b.Context(), open(b))
			if err != nil {
				b.Fatal(err)
			}
			manifest, file := storagetest.Pattern(2000, 1), storagetest.Pattern(32<<20, 2)
			b.Run("PutManifest", func(b *testing.B) {
				i := 0
				for b.Loop() {
					if err := s.Put(b.Context(), fmt.Sprintf("_commits/%d/%d.json", b.N, i), manifest); err != nil {
						b.Fatal(err)
					}
					i++
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
			})
			b.Run("Write32MB", func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				peak := peakHeap()
				i := 0
				for b.Loop() {
					name := fmt.Sprintf("accepted/%d/%d", b.N, i)
					if err := upload(s, b.Context(), name, file); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := s.Delete(b.Context(), name); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					i++
				}
				b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
			})
			b.Run("Read32MB", func(b *testing.B) {
				if err := s.Replace(b.Context(), "read", file); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(file)))
				peak := peakHeap()
				piece := make([]byte, 64<<10)
				for b.Loop() {
					r, err := s.Open(b.Context(), "read")
					if err != nil {
						b.Fatal(err)
					}
					for at := 0; at < len(file); at += len(piece) {
						if _, err := r.ReadAt(piece, int64(at)); err != nil {
							b.Fatal(err)
						}
					}
					r.Close()
				}
				b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
			})
			b.Run("ReadManifest", func(b *testing.B) {
				if err := s.Replace(b.Context(), "manifest", manifest); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := storage.ReadAll(b.Context(), s, "manifest", 1<<20); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
			})
		})
	}
	run("file", func(b *testing.B) string { return "file://" + b.TempDir() })
	for _, one := range stores {
		run(one.name, func(b *testing.B) string { return one.start(b).URL() })
	}
}

// peakHeap watches the heap until the function that it returns is called, which gives the most that it grew by.
func peakHeap() func() uint64 {
	runtime.GC()
	read := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before, most := read(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				most = max(most, read())
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		if most < before {
			return 0
		}
		return most - before
	}
}
